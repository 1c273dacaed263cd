//! What Slurm and HyperQueue take for what `muster-demo` measures of Muster: small tasks of an array, a submit until its
//! script's first line and until its known end, and steps within a job.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime};

use muster_cluster_tests::figures::{Measured, PeerOf, Told, median};
use muster_cluster_tests::site::repository;
use tempfile::TempDir;

use super::slurm::{self, Slurm};

const SLOTS: u32 = 8;
/// Slurm takes 30 tasks a second; HyperQueue about a thousand.
const SLURM_TASKS: usize = 300;
const HQ_TASKS: usize = 10_000;
const STEPS: usize = 50;
const SAMPLES: usize = 10;
/// The variable that names a HyperQueue binary, or a Python that has its package.
const HQ: &str = "MUSTER_BENCH_HQ";

#[test]
#[ignore = "a measurement, for `make bench`"]
fn the_same_by_others() {
    let mut told = Told::default();
    if slurm::is_there() {
        by_slurm(&mut told);
    } else {
        told.notes.push("Slurm is not installed (Debian's slurm-wlm and munge)".to_owned());
    }
    match std::env::var_os(HQ).map(PathBuf::from) {
        Some(hq) if is_python(&hq) => by_hyperqueue_package(&hq, &mut told),
        Some(hq) => by_hyperqueue(&hq, &mut told),
        None => told.notes.push(format!("HyperQueue is not installed: {HQ} names no binary and no Python")),
    }
    told.print().unwrap();
}

/// Fewer where only the way is tried.
fn tasks(whole: usize) -> usize {
    if std::env::var_os("MUSTER_BENCH_QUICK").is_some() { whole / 10 } else { whole }
}

fn beside(told: &mut Told, figure: &str, what: &str, value: f64) {
    println!("{figure:24} {what:44} {value:>9.2}");
    let peer = Measured { what: what.to_owned(), value };
    told.peers.push(PeerOf { figure: figure.to_owned(), peer });
}

/// A folder with the script that does nothing and a folder for outputs.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nothing.sh"), "#!/bin/sh\ntrue\n").unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    folder
}

fn by_slurm(told: &mut Told) {
    let slurm = Slurm::start(&["node01".to_owned()], SLOTS);
    let folder = folder();
    let work = folder.path();
    let version = said(slurm.command("sinfo", &["--version"]));
    let version = version.trim().replace("slurm-wlm", "Slurm");
    let sbatch = |arguments: &[&str]| {
        let mut command = slurm.command("sbatch", arguments);
        command.current_dir(work);
        said(command)
    };

    let count = tasks(SLURM_TASKS);
    let (array, output) = (format!("--array=0-{}", count - 1), format!("--output={}/out/%a", work.display()));
    let begun = SystemTime::now();
    sbatch(&["-W", "-t5", &array, &output, "nothing.sh"]);
    // `sbatch -W` looks every few seconds only: when the last task began is more to the point.
    let began: Vec<SystemTime> = fs::read_dir(work.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap())
        .collect();
    assert_eq!(began.len(), count);
    let last = began.into_iter().max().unwrap();
    let rate = count as f64 / last.duration_since(begun).unwrap().as_secs_f64();
    beside(told, "swarm.rate", &format!("{version}, an array of {count}"), rate);

    fs::write(work.join("first.sh"), "#!/bin/bash\necho $EPOCHREALTIME\n").unwrap();
    let first_line = |_| {
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        sbatch(&["-W", "-t5", "-o", "first", "first.sh"]);
        let text = fs::read_to_string(work.join("first")).unwrap().replace(',', ".");
        (text.trim().parse::<f64>().unwrap() - before) * 1e3
    };
    let times: Vec<f64> = (0..tasks(SAMPLES).max(3)).map(first_line).collect();
    beside(told, "submit.first_line", &format!("{version}, sbatch"), median(&times).unwrap());

    let count = tasks(STEPS);
    let script = format!(
        "#!/bin/bash\nbegin=$EPOCHREALTIME\nfor ((i = 0; i < {count}; i++)); do srun -n1 true || exit 1; done\n\
         echo $begin $EPOCHREALTIME\n"
    );
    fs::write(work.join("steps.sh"), script).unwrap();
    sbatch(&["-W", "-t5", "-n1", "-o", "steps", "steps.sh"]);
    let text = fs::read_to_string(work.join("steps")).unwrap().replace(',', ".");
    // What `srun` says when it has to try again comes before.
    let last = text.lines().last().unwrap_or_default();
    let times: Vec<f64> =
        last.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{text}"))).collect();
    let rate = count as f64 / (times[1] - times[0]);
    beside(told, "steps.sequential", &format!("{version}, srun in a job"), rate);
}

fn said(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server and a worker of HyperQueue, with a journal, on this host. They end with the value.
struct HyperQueue<'a> {
    binary: &'a Path,
    folder: TempDir,
    children: Vec<Child>,
}

impl<'a> HyperQueue<'a> {
    fn start(binary: &'a Path) -> Self {
        let mut hq = Self { binary, folder: folder(), children: Vec::new() };
        let journal = format!("--journal={}", hq.folder.path().join("journal").display());
        hq.daemon(&["server", "start", "--host=127.0.0.1", &journal]);
        hq.until(&["job", "list"], |_| true);
        hq.daemon(&["worker", "start", &format!("--cpus={SLOTS}")]);
        hq.until(&["worker", "list"], |said| said.contains("RUNNING"));
        hq
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.arg(format!("--server-dir={}", self.folder.path().join("server").display())).args(arguments);
        command.current_dir(self.folder.path());
        command
    }

    fn daemon(&mut self, arguments: &[&str]) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A test that is killed leaves nothing behind.
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        self.children.push(command.spawn().unwrap());
    }

    /// Asks until it answers so: nobody tells an outsider that it is ready.
    fn until(&self, arguments: &[&str], holds: impl Fn(&str) -> bool) {
        let end = Instant::now() + crate::support::PATIENCE;
        loop {
            let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && holds(&text) {
                return;
            }
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < end, "{arguments:?} answers {text}{complaint}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for HyperQueue<'_> {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_python(binary: &Path) -> bool {
    binary.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"))
}

/// What its Python package has for such a Python.
#[derive(serde::Deserialize)]
struct OfPackage {
    version: String,
    with_files: f64,
}

/// By its Python package, which many can install who cannot have the binary. It has server and worker in the Python's process,
/// from which a start takes longer.
fn by_hyperqueue_package(python: &Path, told: &mut Told) {
    let folder = folder();
    let count = tasks(HQ_TASKS);
    let mut command = Command::new(python);
    command.arg(repository().join("cluster-tests/clients/hyperqueue_cluster.py")).arg(folder.path());
    command.args([SLOTS.to_string(), count.to_string()]);
    let of: OfPackage = serde_json::from_str(&said(command)).unwrap();
    let what = format!("HyperQueue's Python package {}, an array of {count}", of.version);
    beside(told, "swarm.rate", &what, of.with_files);
}

/// By its documented command line: a server with a journal, a worker, an array, and `submit --wait`.
fn by_hyperqueue(binary: &Path, told: &mut Told) {
    let hq = HyperQueue::start(binary);
    let version = said(hq.command(&["--version"])).trim().replace("hq", "HyperQueue");
    let count = tasks(HQ_TASKS);
    let array = format!("--array=1-{count}");
    let run = |what: &str, outputs: &[&str]| {
        let words =
            [&["submit", "--wait", array.as_str()], outputs, &["--", "/bin/sh", "nothing.sh"]].concat();
        let begun = Instant::now();
        said(hq.command(&words));
        (format!("{version}, an array of {count} {what}"), count as f64 / begun.elapsed().as_secs_f64())
    };
    let (what, rate) = run("with output files", &["--stdout=out/%{TASK_ID}", "--stderr=none"]);
    assert_eq!(fs::read_dir(hq.folder.path().join("out")).unwrap().count(), count);
    beside(told, "swarm.rate", &what, rate);
    let (what, rate) = run("without files", &["--stdout=none", "--stderr=none"]);
    told.notes.push(format!("{what}: {rate:.0} tasks a second"));
    let one = |_| {
        let begun = Instant::now();
        said(hq.command(&[
            "submit",
            "--wait",
            "--stdout=none",
            "--stderr=none",
            "--",
            "/bin/sh",
            "nothing.sh",
        ]));
        begun.elapsed().as_secs_f64() * 1e3
    };
    let times: Vec<f64> = (0..SAMPLES).map(one).collect();
    beside(told, "submit.known_end", &format!("{version}, submit --wait"), median(&times).unwrap());
}
