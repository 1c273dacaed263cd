//! A stand-in for the controller, and a way to run `muster` against it.
//!
//! The real controller answers in the tests of the cluster; here each test says what is answered, so that every
//! refusal and every delay can be played.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use muster_client::api::{JobDetail, JobSummary, SCHEMA, ShareView, TaskState, TaskView};
use muster_core::spec::Request;
use tempfile::TempDir;

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One question that came in.
#[derive(Debug, Clone)]
pub struct Question {
    /// Such as `GET /v1/jobs?all=true`.
    pub line: String,
    /// The body.
    pub body: String,
}

/// Status and body.
pub type Answer = (u16, String);

/// The stand-in.
pub struct Fake {
    folder: TempDir,
    questions: Receiver<Question>,
}

impl Fake {
    /// Answers every question by `answer`; each connection has a thread, so an answer may take its time.
    pub fn start(answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let (sender, questions) = mpsc::channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                thread::spawn(move || serve(stream.unwrap(), &*answer, &sender));
            }
        });
        Self { folder, questions }
    }

    /// Answers every question by the same.
    pub fn always(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::start(move |_| (status, body.clone()))
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Where a test may leave files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `muster` with these arguments, ready to run against this controller.
    pub fn command(&self, arguments: &[&str]) -> Command {
        muster(&self.socket(), arguments)
    }

    /// Runs `muster` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(self.command(arguments).output().unwrap())
    }

    /// The next question.
    pub fn question(&self) -> Question {
        self.questions.recv_timeout(PATIENCE).unwrap()
    }
}

fn serve(stream: UnixStream, answer: &dyn Fn(&Question) -> Answer, sender: &Sender<Question>) {
    let mut stream = BufReader::new(stream);
    while let Some(question) = read_question(&mut stream) {
        let _ = sender.send(question.clone());
        let (status, body) = answer(&question);
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.get_mut().write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn read_question(stream: &mut BufReader<UnixStream>) -> Option<Question> {
    let mut line = String::new();
    if stream.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Question { line, body: String::from_utf8(body).unwrap() })
}

/// `muster` against a socket, without retries and without what the surroundings of the test would say.
pub fn muster(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(arguments).env("MUSTER_SOCKET", socket).env("MUSTER_RETRY_S", "0").env("TZ", "UTC");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SBATCH_") || text.starts_with("SLURM_") || text.starts_with("MUSTER_SUBMIT_") {
            command.env_remove(&name);
        }
    }
    command.stdin(std::process::Stdio::null());
    command
}

/// One of Slurm's commands against a socket, with the same surroundings.
pub fn face(name: &str, socket: &Path, arguments: &[&str]) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = muster(socket, arguments);
    command.arg0(name);
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A refusal's body.
pub fn refusal(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

/// A task that ran on n1.
pub fn task(index: u32, state: TaskState) -> TaskView {
    let share =
        ShareView { node: "n1".into(), cores: "0-1".into(), ranks: 2, memory_bytes: 1 << 30, gres: vec![] };
    TaskView {
        index,
        state,
        attempt: 1,
        preempted: 0,
        shares: vec![share],
        placed_at_us: Some(1_000_000),
        started_at_us: Some(2_000_000),
        finished_at_us: state.is_finished().then_some(12_000_000),
        time_limit_s: None,
        exit_code: None,
        signal: None,
        reason: String::new(),
        end: None,
        cpu_time_us: 0,
        memory_peak_bytes: 0,
        stdout_path: String::new(),
        stderr_path: String::new(),
    }
}

/// Job 12 with these tasks; an array if there are several.
pub fn job(tasks: Vec<TaskView>) -> JobDetail {
    let mut counts = std::collections::BTreeMap::new();
    for task in &tasks {
        *counts.entry(task.state).or_insert(0) += 1;
    }
    let summary = JobSummary {
        job: 12,
        name: "relax".into(),
        user: "ann".into(),
        pool: "main".into(),
        state: tasks.first().map_or(TaskState::Waiting, |task| task.state),
        tasks: counts,
        array: tasks.len() > 1,
        nodes: 1,
        ranks: 2,
        cores: 2,
        node_list: String::new(),
        submitted_at_us: 0,
        started_at_us: None,
        finished_at_us: None,
        time_limit_s: Some(60),
        priority: 0,
        reason: String::new(),
        reason_code: String::new(),
        expected_start_us: None,
    };
    JobDetail {
        schema: SCHEMA,
        summary,
        working_directory: "/w".into(),
        stdin: None,
        uid: 1000,
        gid: 1000,
        submit_host: String::new(),
        has_folders: false,
        stdout: None,
        stderr: None,
        request: Request { ranks: 2, ..Request::default() },
        array_spec: None,
        requeue: true,
        eligibility: Default::default(),
        account: None,
        qos: None,
        reservation: None,
        notes: Default::default(),
        held: None,
        tasks_held: vec![],
        task_list: tasks,
        version: 1,
    }
}

/// The API's JSON.
pub fn json<T: serde::Serialize>(answer: &T) -> String {
    serde_json::to_string(answer).unwrap()
}

/// Something that one thread sets and another looks at.
pub type Shared<T> = Arc<Mutex<T>>;
