//! A site for a test, and the questions that tests ask of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_client::api::{JobDetail, TaskState};
use muster_cluster_tests::site::{Site, SiteOptions};
use muster_cluster_tests::{ProcessInfo, require_root};
use muster_core::ids::JobId;
use muster_core::notation::parse_ranges;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The user who submits; known only inside the cluster.
pub const ANN: &str = "ann";
/// For how long a test waits for something that takes seconds on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// What the controller's log says of a user who meets the limit of requests.
pub const TOO_OFTEN: &str = "a user asks too often";
/// Within which time everything of an ended attempt must be gone from every host.
pub const CLEAN_WITHIN: Duration = Duration::from_secs(20);

/// A site with a directory of ann's that all hosts see.
pub struct Bench {
    pub site: Site,
    pub work: PathBuf,
}

impl Bench {
    /// Brings a site up; none if the tests are told to be skipped.
    pub fn up(tag: &str, nodes: usize, cores: u32) -> Option<Self> {
        Self::up_with(tag, nodes, cores, "")
    }

    /// The same, with more of the configuration; its first lines are those of `[policy]`.
    pub fn up_with(tag: &str, nodes: usize, cores: u32, policy: &str) -> Option<Self> {
        Self::up_as(tag, nodes, cores, |options| policy.clone_into(&mut options.policy))
    }

    /// The same, with other options.
    pub fn up_as(tag: &str, nodes: usize, cores: u32, change: impl FnOnce(&mut SiteOptions)) -> Option<Self> {
        if let Err(error) = require_root() {
            let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
            assert!(skip, "{error}; or set MUSTER_TEST_SKIP_CLUSTER=1 to leave these tests out");
            return None;
        }
        let mut options =
            SiteOptions::new(&format!("{tag}{:x}", std::process::id() % 4096), nodes, cores).unwrap();
        change(&mut options);
        let site = Site::up(&options).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut command = site.cluster.exec("head", Some(ANN)).unwrap();
        let output =
            command.args(["/bin/sh", "-c", "cd && mkdir -p work && cd work && pwd"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let work = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Self { site, work })
    }

    /// What is mounted on a host.
    pub fn mounts(&self, host: &str) -> String {
        let mut command = self.site.cluster.exec(host, None).unwrap();
        let output = command.args(["cat", "/proc/self/mountinfo"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes a bash script into ann's directory and submits it with these options.
    pub fn submit(&self, options: &[&str], body: &str) -> JobId {
        let name = format!("job-{:x}.sh", body.len() * 31 + options.len());
        self.write(&name, &format!("#!/bin/bash\n{body}\n"));
        self.site
            .submit(ANN, &self.work, &[options, &[name.as_str()]].concat())
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Writes a file into ann's directory.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.work.join(name), text).unwrap();
    }

    /// Where ann finds Slurm's commands.
    pub fn make_faces(&self) -> PathBuf {
        let faces = self.work.join("faces");
        let made =
            self.site.run(ANN, &self.work, &["generate", "slurm-links", faces.to_str().unwrap()]).unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        faces
    }

    /// A shell's command line, run by ann in a folder of hers, with Slurm's commands on her path.
    pub fn shell(&self, faces: &Path, folder: &Path, line: &str) -> Command {
        let mut command = self.site.cluster.exec("head", Some(ANN)).unwrap();
        command
            .args(["/usr/bin/env", "-C"])
            .arg(folder)
            .args(["/bin/bash", "-c", line])
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", faces.display()))
            .env("MUSTER_SOCKET", self.site.socket())
            .env("MUSTER_MPI_TASKS", &self.site.staged.mpi_tasks)
            .env("MPICH_HOME", &self.site.staged.mpich)
            .stdin(Stdio::null());
        command
    }

    /// Waits until a job has finished and gives it back.
    pub fn wait(&self, job: JobId) -> JobDetail {
        self.site.wait(job, PATIENCE).unwrap_or_else(|error| panic!("{}", self.story(job, &error)))
    }

    /// Waits until a job has completed with success.
    pub fn complete(&self, job: JobId) -> JobDetail {
        let detail = self.wait(job);
        let good = detail.summary.tasks.keys().all(|state| *state == TaskState::Completed);
        assert!(good, "{}", self.describe(&detail));
        detail
    }

    /// Waits until a job's first task runs.
    pub fn running(&self, job: JobId) -> JobDetail {
        let runs = |detail: &JobDetail| {
            assert!(!detail.summary.state.is_finished(), "{}", self.describe(detail));
            detail
                .task_list
                .iter()
                .any(|task| task.state == TaskState::Running && task.started_at_us.is_some())
        };
        self.site
            .wait_until(job, PATIENCE, runs)
            .unwrap_or_else(|error| panic!("{}", self.story(job, &error)))
    }

    /// The standard output of a job's first task.
    pub fn output(&self, detail: &JobDetail) -> String {
        std::fs::read_to_string(&detail.task_list[0].stdout_path).unwrap_or_default()
    }

    /// Waits for a file that a job writes.
    pub fn await_file(&self, name: &str) {
        self.until(&format!("{name} is written"), PATIENCE, || self.work.join(name).exists());
    }

    /// Waits for something about which nobody sends an event to an outsider.
    pub fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        while !holds() {
            assert!(Instant::now() < end, "after {} s still not: {what}", limit.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets nobody but admins ask more than a few times a second from now on.
    pub fn limit_requests(&self) {
        let path = self.site.config_path();
        let before = std::fs::read_to_string(&path).unwrap();
        let limits = "[controller]\nrequests_per_user_s = 20\nrequests_per_user_burst = 5\n";
        std::fs::write(&path, before.replace("[controller]\n", limits)).unwrap();
        kill(Pid::from_raw(self.site.controller_pid().unwrap()), Signal::SIGHUP).unwrap();
        let said = || std::fs::read_to_string(self.site.controller_log()).unwrap_or_default();
        self.until("the limits are in force", PATIENCE, || {
            said().contains("the configuration was read again")
        });
    }

    /// Processes of ann on a host.
    pub fn processes(&self, host: &str) -> Vec<ProcessInfo> {
        let uid = self.ann_uid();
        let all = self.site.cluster.processes(host).unwrap_or_default();
        all.into_iter().filter(|process| process.uid == uid && !process.cmdline.is_empty()).collect()
    }

    fn ann_uid(&self) -> u32 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(&self.work).unwrap().uid()
    }

    /// Waits for processes on a host whose program's name is `program`.
    pub fn await_processes(&self, host: &str, program: &str, count: usize) -> Vec<ProcessInfo> {
        let find = || {
            let is = |p: &ProcessInfo| p.cmdline[0].rsplit('/').next() == Some(program);
            self.processes(host).into_iter().filter(is).collect::<Vec<_>>()
        };
        self.until(&format!("{count} {program} on {host}"), PATIENCE, || find().len() >= count);
        find()
    }

    pub fn kill(&self, process: &ProcessInfo) {
        self.site.cluster.kill(process.pid, Signal::SIGKILL).unwrap();
    }

    /// Nothing of ann's runs on any of these hosts, at the latest after [`CLEAN_WITHIN`].
    pub fn await_clean(&self, hosts: &[&str]) {
        let end = Instant::now() + CLEAN_WITHIN;
        loop {
            let left: Vec<String> = hosts
                .iter()
                .flat_map(|host| {
                    self.processes(host)
                        .into_iter()
                        .map(move |p| format!("{host}: {} {:?}", p.pid, p.cmdline))
                })
                .collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "still there: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The task's state and its reason, for a message.
    pub fn describe(&self, detail: &JobDetail) -> String {
        let tasks: Vec<String> = detail
            .task_list
            .iter()
            .filter(|task| task.state != TaskState::Completed)
            .take(5)
            .map(|task| {
                let output = std::fs::read_to_string(&task.stdout_path).unwrap_or_default();
                format!("task {} {:?}: {}\n{output}", task.index, task.state, task.reason)
            })
            .collect();
        format!("job {} is {:?}: {}", detail.summary.job, detail.summary.state, tasks.join("\n"))
    }

    fn story(&self, job: JobId, error: &dyn std::error::Error) -> String {
        let log = std::fs::read_to_string(self.site.controller_log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        let end: Vec<&str> = lines.into_iter().rev().collect();
        let job = self.site.job(job).map(|detail| self.describe(&detail)).unwrap_or_default();
        format!("{}\n{job}\nthe controller's log ends:\n{}", chain(error), end.join("\n"))
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The numbers of a list such as `0-3,8`.
pub fn numbers(list: &str) -> Vec<u32> {
    parse_ranges(list, u32::MAX - 1).unwrap().into_iter().flat_map(|range| range.first..=range.last).collect()
}

/// From when to when somebody held a core, and who.
type Held = Vec<(u64, u64, String)>;

/// Intervals in which cores were really used, as the tasks themselves wrote them down.
#[derive(Default)]
pub struct Ledger(BTreeMap<(String, u32), Held>);

impl Ledger {
    pub fn add(&mut self, node: &str, cores: &str, from: u64, to: u64, who: &str) {
        for core in numbers(cores) {
            self.0.entry((node.to_owned(), core)).or_default().push((from, to, who.to_owned()));
        }
    }

    /// No core was used by two at the same instant.
    pub fn check(mut self) {
        for ((node, core), held) in &mut self.0 {
            held.sort_unstable();
            for pair in held.windows(2) {
                let apart = pair[0].1 <= pair[1].0;
                assert!(apart, "core {core} of {node} was used by {} and {} at once", pair[0].2, pair[1].2);
            }
        }
    }
}

/// Reads a JSON report that a program wrote among other lines.
pub fn json_in(text: &str) -> serde_json::Value {
    let start = text.find('{').unwrap_or_else(|| panic!("no report in {text:?}"));
    let mut documents = serde_json::Deserializer::from_str(&text[start..]).into_iter();
    documents.next().unwrap().unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// The lines before which a script's MPICH is found.
pub fn mpich_prologue() -> &'static str {
    "PATH=\"$MPICH_HOME/bin:$PATH\"\n"
}
