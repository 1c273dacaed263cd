//! The demo without root: one node, this host itself, behind an sshd of the user's own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use muster_client::api::JobDetail;
use muster_client::{Client, JobFilter};
use muster_cluster_tests::site::{binaries_dir, mpi_tasks_dir, mpich_home, repository};
use muster_core::ids::{JobId, JobRef};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use crate::checks;
use crate::story::{Story, progress};

const CORES: u32 = 8;
const ARRAY_TASKS: u64 = 200;
const SAMPLES_PER_TASK: u64 = 1_000_000;
/// How long sshd, the controller and the agent may each take to be up.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long all jobs together may run.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// How often is asked for what nothing announces: that sshd listens, that the node is up.
const ASK_INTERVAL: Duration = Duration::from_millis(10);
/// How soon Ctrl-C is noticed while jobs run.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Names of Unix sockets end at 107 bytes; the agent's sockets lie this deep below the demo's folder.
const FOLDER_BYTES_MAX: usize = 60;

/// Whether the user pressed Ctrl-C, or somebody asked the demo to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Lets the demo outlive Ctrl-C, so that it can remove what it made. sshd and the controller have process groups of
/// their own, which a terminal's Ctrl-C does not reach: the controller is needed to end the jobs.
fn outlive_interrupt() -> Result<()> {
    // SAFETY: the handler only stores to an atomic, which is safe wherever a signal may come.
    let set = |which| unsafe { signal(which, SigHandler::Handler(note_interrupt)) };
    for which in [Signal::SIGINT, Signal::SIGTERM] {
        set(which).with_context(|| format!("no handler for {which}"))?;
    }
    Ok(())
}

fn go_on() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

pub fn run() -> Result<()> {
    println!(
        "Muster, without root: this host is the only node, with an sshd of your own.\n\
         Only root can show several hosts, because they are network namespaces.\n\
         Only root can show several users, because the agent must become each of them.\n\
         Only root can show containment by cgroups; here the agent adopts and ends the processes of a task instead."
    );
    let tools = Tools::find()?;
    let mut story = Story::new();
    outlive_interrupt()?;
    let mut place = Place::make(&tools.bin)?;
    let outcome = play(&mut place, &tools, &mut story);
    let log = place.log_tail();
    let started = Instant::now();
    let removed = place.remove();
    if INTERRUPTED.load(Ordering::Relaxed) {
        removed.context("the demo was interrupted, and not everything could be removed")?;
        bail!("the demo was interrupted; everything is removed");
    }
    // What went wrong first is what the reader must know first.
    outcome.with_context(|| format!("the demo failed; the controller's log ends with:\n{log}\n"))?;
    removed.context("not everything could be removed")?;
    story.step("everything removed", started.elapsed());
    story.summary();
    match tools.left_out() {
        0 => println!("\nAll went as it should."),
        left => {
            println!("\nAll that could run went as it should; {left} of 3 jobs were left out, see above.")
        }
    }
    Ok(())
}

/// What is there to run with.
struct Tools {
    sshd: PathBuf,
    bin: PathBuf,
    mpi_tasks: Option<PathBuf>,
    open_mpi: bool,
    mpich: bool,
}

impl Tools {
    /// Looks for all of it and says in a sentence each what is missing.
    fn find() -> Result<Self> {
        let (sshd, keygen) = (in_path("sshd"), in_path("ssh-keygen"));
        let (bin, mpi_tasks) = (binaries_dir(), mpi_tasks_dir().ok());
        let open_mpi = in_path("mpirun.openmpi").or_else(|| in_path("mpirun")).is_some();
        let mpich = mpich_home().join("bin/mpiexec").exists();
        let said = [
            (sshd.is_some(), "sshd (openssh-server); root installs it with `.ci/deps.sh`"),
            (keygen.is_some(), "ssh-keygen (openssh-client); root installs it with `.ci/deps.sh`"),
            (bin.is_ok(), "Muster's programs; `make build` builds them"),
            (mpi_tasks.is_some(), "the MPI programs; `make mpi-tasks` builds them"),
            (open_mpi, "Open MPI (openmpi-bin); root installs it with `.ci/deps.sh`"),
            (mpich, "MPICH in target/mpich; `.ci/deps.sh` puts it there, without root too"),
        ];
        for (_, sentence) in said.iter().filter(|(there, _)| !there) {
            println!("Missing: {sentence}.");
        }
        let (Some(sshd), Some(_)) = (sshd, keygen) else {
            bail!("nothing can be shown without sshd and ssh-keygen; as root, run `.ci/deps.sh`")
        };
        Ok(Self { sshd, bin: bin?, mpi_tasks, open_mpi, mpich })
    }

    /// Which of the jobs can run: Open MPI, MPICH, the array.
    fn able(&self) -> [bool; 3] {
        let built = self.mpi_tasks.is_some();
        // The array's program runs alone, but is linked with Open MPI's library.
        [built && self.open_mpi, built && self.mpich, built && self.open_mpi]
    }

    fn left_out(&self) -> usize {
        self.able().iter().filter(|able| !**able).count()
    }
}

/// A program in `PATH`, or where only root's `PATH` leads.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The demo's folder and what runs out of it.
struct Place {
    dir: PathBuf,
    bin: PathBuf,
    sshd: Option<Child>,
    controller: Option<Child>,
    removed: bool,
}

impl Place {
    /// Makes a private folder under `target/`, or where temporary files go if that is not ours to write to.
    fn make(bin: &Path) -> Result<Self> {
        let name = format!("muster-demo-{}", std::process::id());
        let target = repository().join("target");
        let bases = [target, std::env::temp_dir(), PathBuf::from("/tmp")];
        let mut failed = anyhow!("the paths are too long");
        for dir in bases.iter().map(|base| base.join(&name)) {
            if dir.as_os_str().len() > FOLDER_BYTES_MAX {
                continue;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    return Ok(Self {
                        dir,
                        bin: bin.to_owned(),
                        sshd: None,
                        controller: None,
                        removed: false,
                    });
                }
                Err(error) => failed = anyhow!("{}: {error}", dir.display()),
            }
        }
        Err(failed.context("there is no place for a folder, neither under target/ nor for temporary files"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.path("musterd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Starts an sshd that only this user can log in to, from this host only. Says its port.
    fn start_sshd(&mut self, sshd: &Path, user: &str, node: &str) -> Result<u16> {
        for key in ["host_key", "id"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(self.path(key))
                .output()
                .context("ssh-keygen could not be run")?;
            ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = free_port()?;
        self.write(
            "sshd_config",
            &format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
                 UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowUsers {user}\n\
                 PidFile none\nPrintMotd no\n",
                self.path("host_key").display(),
                self.path("id.pub").display(),
            ),
        )?;
        let host_key = std::fs::read_to_string(self.path("host_key.pub"))?;
        // The controller looks a node's key up by the node's name; people look by the address.
        self.write("known_hosts", &format!("[{node}]:{port},[127.0.0.1]:{port} {host_key}"))?;
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .process_group(0)
            .stderr(File::create(self.path("sshd.log"))?)
            .spawn()
            .context("sshd could not be run")?;
        let child = self.sshd.insert(child);
        let until = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let gone = child.try_wait()?.is_some() || Instant::now() > until;
            let log = || std::fs::read_to_string(self.dir.join("sshd.log")).unwrap_or_default();
            ensure!(!gone, "sshd does not listen; it says: {}", log());
            std::thread::sleep(ASK_INTERVAL);
        }
        Ok(port)
    }

    fn write_config(&self, user: &str, node: &str, ssh_port: u16) -> Result<()> {
        let text = format!(
            "[cluster]\nname = \"demo\"\n\n[controller]\nlisten = \"127.0.0.1:{port}\"\nsocket = {socket:?}\n\
             state_dir = {state:?}\n\n[policy]\n\n\
             [bootstrap]\nuser = \"{user}\"\nport = {ssh_port}\nidentity_file = {key:?}\nknown_hosts = {known:?}\n\
             binaries_dir = {bin:?}\nremote_dir = {remote:?}\nrun_dir = {run:?}\nprogram = {program:?}\n\n\
             [[node]]\nname = \"{node}\"\naddress = \"127.0.0.1\"\ncores = {CORES}\nwrap_cores = {wrap}\n\
             memory = \"2G\"\n\n[[pool]]\nname = \"main\"\nnodes = \"{node}\"\ndefault = true\n\
             default_time = \"10:00\"\n",
            port = free_port()?,
            socket = self.path("sock"),
            state = self.path("state"),
            key = self.path("id"),
            known = self.path("known_hosts"),
            bin = self.bin,
            remote = self.path("node"),
            run = self.path("run"),
            program = self.bin.join("muster-bootstrap"),
            wrap = std::thread::available_parallelism().map_or(1, usize::from) < CORES as usize,
        );
        self.write("muster.toml", &text)
    }

    /// Starts the controller and returns when it listens.
    fn start_controller(&mut self) -> Result<()> {
        let mut child = Command::new("/bin/sh")
            // The shell makes descriptor 3 of the output, on which the controller says that it is ready.
            .args(["-c", "exec \"$0\" --config \"$1\" --ready-fd 3 3>&1 >&2"])
            .arg(self.bin.join("musterd"))
            .arg(self.path("muster.toml"))
            .stdin(Stdio::null())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(File::create(self.path("musterd.log"))?)
            .spawn()
            .context("musterd could not be run")?;
        let mut ready = child.stdout.take().context("musterd has no output")?;
        self.controller = Some(child);
        let limit_ms = u16::try_from(START_LIMIT.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [nix::poll::PollFd::new(ready.as_fd(), nix::poll::PollFlags::POLLIN)];
        let polled = nix::poll::poll(&mut fds, limit_ms)?;
        ensure!(polled > 0 && ready.read(&mut [0])? > 0, "the controller did not start");
        Ok(())
    }

    fn await_node(&self) -> Result<()> {
        let mut client = Client::connect(&self.path("sock"))?;
        let until = Instant::now() + START_LIMIT;
        loop {
            let node = client.nodes()?.nodes.pop().context("the controller knows no node")?;
            if matches!(node.state.as_str(), "idle" | "mixed" | "full") {
                return Ok(());
            }
            ensure!(Instant::now() < until, "node {} is {}: {}", node.name, node.state, node.reason);
            go_on()?;
            std::thread::sleep(ASK_INTERVAL);
        }
    }

    /// Runs `muster` in the folder for work and gives back what it prints.
    fn muster(&self, tools: &Tools, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.bin.join("muster"));
        command.args(args).current_dir(self.path("work")).stdin(Stdio::null());
        command.env("MUSTER_SOCKET", self.path("sock")).env("MPICH_HOME", mpich_home());
        if let Some(mpi_tasks) = &tools.mpi_tasks {
            command.env("MUSTER_MPI_TASKS", mpi_tasks);
        }
        let output = command.output().context("muster could not be run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "muster {}: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends all that runs and removes the folder.
    fn remove(mut self) -> Result<()> {
        self.removed = true;
        self.end()
    }

    /// Goes on after errors, so that one thing that does not end keeps nothing else; says the first.
    fn end(&mut self) -> Result<()> {
        // Jobs first: they would outlive the agent. The agent last: the controller would bring it up again.
        let jobs = self.end_jobs();
        let controller = self.controller.take().map_or(Ok(()), |child| stop(child, "musterd"));
        let agent = self.stop_agent();
        let sshd = self.sshd.take().map_or(Ok(()), |child| stop(child, "sshd"));
        let dir = std::fs::remove_dir_all(&self.dir)
            .with_context(|| format!("{} cannot be removed", self.dir.display()));
        jobs.and(controller).and(agent).and(sshd).and(dir)
    }

    /// Cancels what has not finished and waits for its end.
    fn end_jobs(&mut self) -> Result<()> {
        let alive = self.controller.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !alive || !self.path("sock").exists() {
            return Ok(());
        }
        let mut client = Client::connect(&self.path("sock"))?;
        for job in client.jobs(&JobFilter::default())?.jobs {
            let target = JobRef { job: JobId(job.job), task: None };
            if !job.state.is_finished() {
                client.cancel(target)?;
                let ended = client.wait_finished(target, Some(START_LIMIT))?;
                ensure!(ended.is_some(), "job {} was cancelled, but does not end", job.job);
            }
        }
        Ok(())
    }

    fn stop_agent(&self) -> Result<()> {
        let Ok(sets) = std::fs::read_dir(self.path("node/bin")) else { return Ok(()) };
        for set in sets {
            let program = set?.path().join("muster-node");
            if !program.exists() {
                continue;
            }
            let stopped = Command::new(&program).args(["stop", "--dir"]).arg(self.path("node")).output()?;
            let said = String::from_utf8_lossy(&stopped.stderr);
            ensure!(stopped.status.success(), "the agent cannot be stopped: {}", said.trim());
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.removed {
            // Only after a panic: the demo's end has said what there was to say.
            let _ = self.end();
        }
    }
}

fn stop(mut child: Child, name: &str) -> Result<()> {
    let pid = i32::try_from(child.id()).with_context(|| format!("{name} has no process id"))?;
    // It has not been waited for, so the id is still its own, even if it has ended.
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("{name} cannot be stopped"))?;
    child.wait().with_context(|| format!("{name} cannot be waited for"))?;
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// This user, and this host's name without its domain.
fn who_and_where() -> Result<(String, String)> {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid)?;
    let user = user.with_context(|| format!("user {uid} has no name here, so nobody can log in as it"))?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    Ok((user.name, host.split('.').next().unwrap_or("localhost").to_owned()))
}

fn play(place: &mut Place, tools: &Tools, story: &mut Story) -> Result<()> {
    story.headline("The node comes up");
    let (user, node) = who_and_where()?;
    let started = Instant::now();
    let ssh_port = place.start_sshd(&tools.sshd, &user, &node)?;
    story.step(format!("an sshd of {user}'s own on 127.0.0.1:{ssh_port}"), started.elapsed());
    place.write_config(&user, &node, ssh_port)?;
    std::fs::create_dir(place.path("work"))?;
    let started = Instant::now();
    place.start_controller()?;
    story.step("the controller with its journal", started.elapsed());
    let started = Instant::now();
    place.await_node()?;
    story.step(format!("the agent of node {node} copied and started over SSH"), started.elapsed());

    story.headline("Jobs are submitted");
    let started = Instant::now();
    let jobs = submit(place, tools)?;
    story.step(format!("{} jobs submitted", jobs.len()), started.elapsed());
    let details = await_all(place, &jobs)?;
    story.step("all of them finished", started.elapsed());
    story.headline("The queue's history");
    print!("{}", place.muster(tools, &["queue", "--all"])?);
    story.headline("Results, checked");
    check(place, &jobs, &details, story)
}

/// A job of the demo: what it is called in the story, its number, and whether it is the array.
struct Job {
    name: &'static str,
    id: JobId,
    array: bool,
}

fn submit(place: &Place, tools: &Tools) -> Result<Vec<Job>> {
    let range = format!("--array=0-{}", ARRAY_TASKS - 1);
    let gang = ["-N1", "--ntasks-per-node=2"];
    let all: [(&'static str, &[&str], &str); 3] = [
        ("Open MPI", &gang, "stencil-openmpi.sh"),
        ("MPICH", &gang, "stencil-mpich.sh"),
        ("array", &[&range], "pi-array.sh"),
    ];
    let mut jobs = Vec::new();
    for ((name, options, script), able) in all.into_iter().zip(tools.able()) {
        if !able {
            println!("  left out: {script}, because of what is missing");
            continue;
        }
        let script = repository().join("mpi-tasks/jobs").join(script);
        let script = script.to_str().context("the repository's path is no UTF-8")?;
        let said = place.muster(tools, &[&["submit", "--parsable"], options, &[script]].concat())?;
        let id = said.trim().parse().with_context(|| format!("muster submit answered {said:?}"))?;
        jobs.push(Job { name, id: JobId(id), array: name == "array" });
    }
    Ok(jobs)
}

/// Waits for all jobs; on a terminal, shows how many tasks have finished.
fn await_all(place: &Place, jobs: &[Job]) -> Result<Vec<JobDetail>> {
    let tasks: u64 = jobs.iter().map(|job| if job.array { ARRAY_TASKS } else { 1 }).sum();
    let bar = progress(tasks);
    let mut client = Client::connect(&place.path("sock"))?;
    let until = Instant::now() + RUN_LIMIT;
    let (mut details, mut before) = (Vec::new(), 0);
    for job in jobs {
        let target = JobRef { job: job.id, task: None };
        let detail = loop {
            let detail = client.watch_finished(target, Some(LOOK_INTERVAL), |detail| {
                let finished = detail.summary.tasks.iter().filter(|(state, _)| state.is_finished());
                bar.set_position(before + finished.map(|(_, count)| count).sum::<u64>());
            })?;
            if let Some(detail) = detail {
                break detail;
            }
            go_on()?;
            ensure!(Instant::now() < until, "job {} had not ended after {} s", job.id, RUN_LIMIT.as_secs());
        };
        before += detail.summary.tasks.values().sum::<u64>();
        let complaint = || checks::complaint(&detail);
        ensure!(checks::all_completed(&detail), "job {} did not complete: {}", job.id, complaint());
        details.push(detail);
    }
    bar.finish_and_clear();
    Ok(details)
}

fn check(place: &Place, jobs: &[Job], details: &[JobDetail], story: &mut Story) -> Result<()> {
    for (job, detail) in jobs.iter().zip(details) {
        let what = if job.array {
            let pi = checks::pi(&place.path("work"), job.id, ARRAY_TASKS, SAMPLES_PER_TASK)?;
            println!("  array: {ARRAY_TASKS} tasks counted {SAMPLES_PER_TASK} samples each, pi = {pi:.6}");
            format!("array of {ARRAY_TASKS} tasks, from submit to end")
        } else {
            println!("  {}: {}", job.name, checks::stencil(detail)?);
            format!("stencil with {}, from submit to end", job.name)
        };
        story.step(what, checks::whole_time(detail)?);
    }
    let shares = checks::no_core_twice(details)?;
    println!("  cores: {shares} shares of the node were held, no core by two tasks at the same instant");
    std::io::stdout().flush()?;
    Ok(())
}
