//! Programs in an allocation that is made for them: what `srun` and `salloc` do outside of one.
//!
//! A job is submitted whose script connects back to this process, proves that it has the key that only the job was
//! given, and runs the program on the allocation's first node; output, input, signals and the exit status go over that
//! connection. To the starter of steps this looks like a step of one rank, whose supervisor is a thread of this process
//! that watches the job.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_client::api::{JobDetail, SubmitRequest};
use muster_client::{Client, Options, default_sockets};
use muster_core::ids::{JobId, JobRef};
use muster_step::StepError;
use muster_step::auth;
use muster_step::client::{self, Plan, Programs, Redirect};
use muster_step::daemon::ATTACH_VARIABLE;
use muster_step::frames::{CpuBind, Wireup};
use muster_step::place::{NodePlacement, Placement, TaskPlacement};
use muster_step::words::{Answer, Ask, DaemonStart, StepRequest};

use super::job_options::Said;
use super::wrong::{self, FAILED, Wrong};
use crate::error::CliError;
use crate::out::tell;
use crate::submit::{Caller, Layer, Opt, Origin, Script, build, from_environment};

/// What failed, in the words of Slurm's messages.
const FAILURE: &str = "Unable to allocate resources";

/// What runs in an allocation of its own.
pub(super) struct Outside {
    /// How messages begin.
    pub face: &'static str,
    /// The job, without its script.
    pub request: SubmitRequest,
    /// What runs on its first node.
    pub words: Vec<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Say errors only.
    pub quiet: bool,
    /// Whether the words of `salloc` are said, besides those of `srun`.
    pub says_granted: bool,
    /// Wait for an allocation no longer than this.
    pub patience: Option<Duration>,
    /// The status of failures.
    pub error_status: u8,
}

/// The job's script. The program is where this one is; nodes see the same files.
fn script() -> Result<String, Wrong> {
    let program = std::env::current_exe().map_err(|error| Wrong::error(FAILED, error))?;
    let quoted = program.display().to_string().replace('\'', r"'\''");
    Ok(format!("#!/bin/sh\nexec '{quoted}' attach\n"))
}

/// The words that run this program under another name.
pub(super) fn under_name(name: &str, words: &[String]) -> Result<Vec<String>, Wrong> {
    let program = std::env::current_exe().map_err(|error| Wrong::error(FAILED, error))?;
    let start = ["/bin/bash", "-c", "exec -a \"$0\" \"$@\"", name].map(str::to_owned);
    Ok(start.into_iter().chain([program.display().to_string()]).chain(words.iter().cloned()).collect())
}

impl Outside {
    /// Makes the allocation, runs the program in it and gives its exit status.
    ///
    /// # Errors
    ///
    /// [`Wrong`] if there was no allocation, or it was lost.
    pub fn run(mut self) -> Result<u8, Wrong> {
        self.request.script = script()?;
        (self.request.stdout, self.request.stderr) = (Some("/dev/null".to_owned()), None);
        // An interactive program is not run twice.
        self.request.requeue = false;
        let (ours, theirs) = UnixStream::pair().map_err(|error| Wrong::error(FAILED, error))?;
        let plan = self.plan();
        let (job, placed) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let watcher =
            Watcher { outside: self, job: Arc::clone(&job), placed: Arc::clone(&placed), to: theirs };
        let (face, says_granted, quiet) =
            (watcher.outside.face, watcher.outside.says_granted, watcher.outside.quiet);
        let watching = std::thread::spawn(move || watcher.watch());
        let ran = client::run_at(&plan, ours);
        if let Some(job) = job.get() {
            let has_run = placed.get().is_some();
            if says_granted && !quiet && has_run {
                tell(&format!("{face}: Relinquishing job allocation {job}"));
            }
            // The job ends with the program; one that has not begun must be ended.
            if !has_run && let Ok(mut client) = connect() {
                let _it_may_have_ended = client.cancel(JobRef { job: JobId(*job), task: None });
            }
        }
        let watched =
            watching.join().unwrap_or_else(|_| Err(Wrong::error(FAILED, "the job cannot be watched")));
        match ran {
            Ok(status) => watched.map(|()| status),
            Err(StepError::Refused { reason, .. }) => {
                watched?;
                Err(Wrong::error(FAILED, format!("Unable to allocate resources: {reason}")))
            }
            Err(error) => {
                watched?;
                Err(Wrong::error(FAILED, error))
            }
        }
    }

    /// The step of one rank that the program is to its starter.
    fn plan(&self) -> Plan {
        Plan {
            name: self.face,
            request: StepRequest::default(),
            programs: Programs::One(self.words.clone()),
            environment: Vec::new(),
            directory: self.request.working_directory.clone(),
            wireup: Wireup::None,
            bind: CpuBind::None,
            stdin: Redirect::Own,
            stdout: Redirect::Own,
            stderr: None,
            append: false,
            label: false,
            unbuffered: true,
            pty: self.terminal,
            kill_on_bad_exit: false,
            wait: Duration::ZERO,
            time_limit: None,
            quit_on_interrupt: true,
            quiet: self.quiet,
            verbose: false,
            dry_run: false,
            job_name: String::new(),
            step_name: String::new(),
            job: None,
            tree_width: muster_step::tree::WIDTH,
            error_status: self.error_status,
            bcast: None,
            show_bindings: None,
            relayed: true,
        }
    }
}

/// The thread that submits the job and watches it.
struct Watcher {
    outside: Outside,
    job: Arc<OnceLock<u64>>,
    /// Set when the job has its allocation.
    placed: Arc<OnceLock<()>>,
    to: UnixStream,
}

impl Watcher {
    fn watch(mut self) -> Result<(), Wrong> {
        let watched = self.submit_and_watch();
        if watched.is_err() {
            // The starter hangs up when it hears this.
            let _it_may_be_gone = self.say(&Answer::Refused { reason: String::new() });
        }
        watched
    }

    fn submit_and_watch(&mut self) -> Result<(), Wrong> {
        let broken = |error: std::io::Error| Wrong::error(FAILED, error);
        self.say(&Answer::Allocation {
            job: 0,
            address: "0.0.0.0".to_owned(),
            supervisor_pid: 0,
            hosts: Vec::new(),
        })
        .map_err(broken)?;
        let mut line = String::new();
        BufReader::new(self.to.try_clone().map_err(broken)?).read_line(&mut line).map_err(broken)?;
        let Ok(Ask::Create { port, .. }) = serde_json::from_str(&line) else { return Ok(()) };
        let key = auth::nonce().map_err(broken)?;
        let start = self.start(port, &key)?;
        self.outside.request.environment.insert(ATTACH_VARIABLE.to_owned(), start);
        let (face, quiet) = (self.outside.face, self.outside.quiet);
        let mut client = connect()?;
        let answer = client.submit(&self.outside.request).map_err(refused)?;
        let Some(number) = answer.job else { return Ok(()) };
        let _set_once = self.job.set(number);
        let job = JobRef { job: JobId(number), task: None };
        let mut told = Told::Nothing;
        let patience = self.outside.patience;
        let seen = |watcher: &mut Self, detail: &JobDetail, told: &mut Told| {
            let Some(task) = detail.task_list.first() else { return };
            match (&told, task.started_at_us.is_some() || !task.shares.is_empty()) {
                (Told::Nothing | Told::Queued, true) if !detail.is_finished(job) => {
                    if matches!(told, Told::Queued) && !quiet {
                        tell(&format!("{face}: job {number} has been allocated resources"));
                    }
                    if watcher.outside.says_granted && !quiet {
                        tell(&format!("{face}: Granted job allocation {number}"));
                    }
                    let host = task.shares.first().map(|share| share.node.clone()).unwrap_or_default();
                    let _set_once = watcher.placed.set(());
                    let _it_may_be_gone = watcher.say(&placed(&host, &key));
                    *told = Told::Placed(host);
                }
                (Told::Nothing, false) => {
                    if !quiet {
                        tell(&format!("{face}: job {number} queued and waiting for resources"));
                    }
                    *told = Told::Queued;
                }
                _ => {}
            }
        };
        // What starts at once has not waited, and nothing is said of it.
        let mut detail = client.job(job).map_err(refused)?;
        if detail.task_list.first().is_some_and(|task| task.shares.is_empty()) && !detail.is_finished(job) {
            detail = client.wait_change(job, Some(detail.version), AT_ONCE).map_err(refused)?;
        }
        if patience.is_some() && detail.task_list.first().is_some_and(|task| task.shares.is_empty()) {
            let _it_may_have_ended = client.cancel(job);
            return Err(Wrong::error(FAILED, "Unable to allocate resources: Requested nodes are busy"));
        }
        loop {
            seen(self, &detail, &mut told);
            if detail.is_finished(job) {
                break;
            }
            detail = client.wait_change(job, Some(detail.version), WATCH_AGAIN_AFTER).map_err(refused)?;
        }
        let reason = detail.task_list.first().map(|task| task.reason.clone()).unwrap_or_default();
        let last = match told {
            Told::Placed(host) => Answer::DaemonLost { host, detail: reason },
            _ => {
                if !quiet {
                    tell(&format!("{face}: Job allocation {number} has been revoked"));
                }
                Answer::Refused { reason }
            }
        };
        let _it_may_be_gone = self.say(&last);
        Ok(())
    }

    fn say(&mut self, answer: &Answer) -> std::io::Result<()> {
        let mut text = serde_json::to_string(answer)?;
        text.push('\n');
        self.to.write_all(text.as_bytes())
    }

    /// What the job's script is told: where this process is reached, and how both prove themselves.
    fn start(&self, port: u16, key: &str) -> Result<String, Wrong> {
        let addresses = client::own_addresses().map_err(|error| Wrong::error(FAILED, error))?;
        // The port is open for this family only.
        let addresses = addresses.into_iter().filter(IpAddr::is_ipv4).map(|address| address.to_string());
        let hosts: Vec<String> = addresses.chain([self.outside.request.submit_host.clone()]).collect();
        let start = DaemonStart {
            job: 0,
            step: 0,
            instance: 0,
            host: String::new(),
            starter: (hosts.join(","), port),
            listens: false,
            key: key.to_owned(),
            attempt_dir: String::new(),
            cores: Vec::new(),
            cpus: Vec::new(),
            cores_wrap: false,
        };
        serde_json::to_string(&start).map_err(|error| Wrong::error(FAILED, error))
    }
}

/// How long a job may take to start before it counts as one that waits.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long one question for news of the job may take.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the user has been told of the job.
enum Told {
    Nothing,
    Queued,
    /// It has an allocation, whose first node this is.
    Placed(String),
}

fn placed(host: &str, key: &str) -> Answer {
    let task = TaskPlacement { rank: 0, cores: Vec::new() };
    let node = NodePlacement { instance: 0, host: host.to_owned(), cores: Vec::new(), tasks: vec![task] };
    Answer::Placed {
        step: 0,
        key: key.to_owned(),
        placement: Placement { ntasks: 1, cores_per_task: 1, nodes: vec![node] },
    }
}

/// The job that options ask for, without its script. Variables that begin with `prefix` stand for options, as
/// `SBATCH_*` do for sbatch.
///
/// # Errors
///
/// [`Wrong`] for the first option that is.
pub(super) fn request(face: &str, prefix: &str, said: &Said, name: &str) -> Result<SubmitRequest, Wrong> {
    let failed = |error: &CliError| wrong::of_error(face, FAILURE, error, &said.layer);
    let environment = from_environment(|variable| {
        let rest = variable.strip_prefix("SBATCH_")?;
        std::env::var(format!("{prefix}{rest}")).ok().filter(|value| !value.is_empty())
    });
    let mut defaults = Layer::default();
    defaults.say(Opt::JobName, name, Origin::CommandLine { option: face.to_owned() });
    let layer = defaults.under(environment).under(said.layer.clone());
    let quiet = layer.has(Opt::Quiet);
    let warn = |sentence: &str| {
        if !quiet {
            tell(&format!("{face}: warning: {sentence}"));
        }
    };
    said.ignored.iter().for_each(|sentence| warn(sentence));
    let script =
        Script::wrap_as("exit 1", "Replaced before it is submitted.").map_err(|error| failed(&error))?;
    let caller = Caller::this().map_err(|error| failed(&error))?;
    build(&layer, script, Vec::new(), caller, warn).map_err(|error| failed(&error))
}

fn connect() -> Result<Client, Wrong> {
    Client::connect_with(Options::of(default_sockets())).map_err(refused)
}

/// A failed question to the controller.
fn refused(error: muster_client::ClientError) -> Wrong {
    wrong::of_error("srun", FAILURE, &CliError::from(error), &Layer::default())
}
