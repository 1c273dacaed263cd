//! Runs the site's programs that bring nodes up and take them down.
//!
//! Which nodes are to come and to go is the engine's, and in its state: a controller that was stopped runs the programs again
//! whose end it has not heard of, so that each must be able to run twice.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use muster_config::{Config, ElasticConfig};
use muster_core::engine::power::PROBLEM_BYTES_MAX;
use muster_core::ids::Timestamp;
use muster_core::input::{Input, PowerReport};
use muster_core::state::Power;
use muster_store::Lease;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::engine_loop::{EngineHandle, InputError};
use crate::shared::Shared;

/// Between two tries to store how a program ended.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// How long what a program has left running may keep its output open after its end.
const OUTPUT_WITHIN: Duration = Duration::from_millis(200);

/// The programs of a configuration, and the task that runs them.
pub struct Elastic {
    programs: Arc<RwLock<Programs>>,
    task: AbortHandle,
}

impl Elastic {
    /// Starts to run programs, in the runtime of the caller; none any more once a lease is over.
    #[must_use]
    pub fn start(config: &Config, shared: Arc<Shared>, engine: EngineHandle, lease: Option<Lease>) -> Self {
        let programs = Arc::new(RwLock::new(Programs::of(config)));
        let runner = Runner { shared, engine, lease, programs: Arc::clone(&programs) };
        let task = tokio::spawn(runner.run()).abort_handle();
        Self { programs, task }
    }

    /// Takes programs from another configuration.
    pub fn configure(&self, config: &Config) {
        *self.programs.write().unwrap_or_else(PoisonError::into_inner) = Programs::of(config);
    }
}

impl Drop for Elastic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Programs {
    cluster: String,
    groups: Vec<ElasticConfig>,
    /// The group of each node.
    group_of: BTreeMap<String, usize>,
    addresses: BTreeMap<String, String>,
}

impl Programs {
    fn of(config: &Config) -> Self {
        let groups = config.elastic.clone();
        let members = |(i, group): (usize, &ElasticConfig)| {
            group.nodes.iter().map(move |node| (node.clone(), i)).collect::<Vec<_>>()
        };
        let group_of = groups.iter().enumerate().flat_map(members).collect();
        Self { cluster: config.cluster.name.clone(), groups, group_of, addresses: config.addresses.clone() }
    }
}

/// One run of a program.
struct Run {
    node: String,
    group: usize,
    program: PathBuf,
    time_max: Duration,
    /// The instant in the state of the node that it is run because of.
    asked: Timestamp,
    environment: [(&'static str, String); 3],
}

struct Runner {
    shared: Arc<Shared>,
    engine: EngineHandle,
    lease: Option<Lease>,
    programs: Arc<RwLock<Programs>>,
}

impl Runner {
    async fn run(self) {
        let mut changes = self.shared.power_changes();
        let mut running: HashMap<String, usize> = HashMap::new();
        let mut runs: JoinSet<String> = JoinSet::new();
        loop {
            changes.borrow_and_update();
            if self.lease.as_ref().is_some_and(|lease| !lease.is_valid()) {
                return;
            }
            let (due, next) = self.due(&running);
            for run in due {
                running.insert(run.node.clone(), run.group);
                let engine = self.engine.clone();
                runs.spawn(async move {
                    let problem = execute(&run).await.err();
                    say(&engine, &run, problem).await;
                    run.node
                });
            }
            let later = async {
                match next {
                    Some(at) => {
                        let wait = Duration::from_micros(at.micros_since(self.shared.now()));
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Some(ended) = runs.join_next() => {
                    if let Ok(node) = ended {
                        running.remove(&node);
                    }
                }
                () = later => {}
            }
        }
    }

    /// The programs to be run now, one of a node at a time, and when another one is due. `running` has the groups of the nodes
    /// for which one runs.
    fn due(&self, running: &HashMap<String, usize>) -> (Vec<Run>, Option<Timestamp>) {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.shared.now();
        let mut free: Vec<usize> = (0..programs.groups.len())
            .map(|group| {
                let busy = running.values().filter(|of| **of == group).count();
                programs.groups[group].at_once.saturating_sub(busy)
            })
            .collect();
        let (mut due, mut next) = (Vec::new(), None);
        let reading = self.shared.read();
        for (_, node) in reading.state().elastic_nodes() {
            let Some(&group) = programs.group_of.get(&node.name) else { continue };
            let of = &programs.groups[group];
            let (program, asked, time_max) = match &node.power {
                Some(Power::PoweringUp { since, until, called: false }) => {
                    (&of.up, *since, Duration::from_micros(until.micros_since(now)))
                }
                Some(Power::PoweringDown { since, from, .. }) if *from <= now => {
                    (&of.down, *since, Duration::from_secs(of.down_timeout_s))
                }
                Some(Power::PoweringDown { from, .. }) => {
                    next = Some(next.map_or(*from, |next: Timestamp| next.min(*from)));
                    continue;
                }
                _ => continue,
            };
            if running.contains_key(&node.name) || free[group] == 0 {
                continue;
            }
            free[group] -= 1;
            let address = programs.addresses.get(&node.name).unwrap_or(&node.name);
            let environment = [
                ("MUSTER_CLUSTER", programs.cluster.clone()),
                ("MUSTER_NODE", node.name.clone()),
                ("MUSTER_NODE_ADDRESS", address.clone()),
            ];
            due.push(Run {
                node: node.name.clone(),
                group,
                program: program.clone(),
                time_max,
                asked,
                environment,
            });
        }
        (due, next)
    }
}

/// Tells the engine how a program ended. What cannot be stored is said again: the program has done what it has done.
async fn say(engine: &EngineHandle, run: &Run, problem: Option<String>) {
    let (node, program) = (&run.node, run.program.display());
    match &problem {
        Some(problem) => tracing::warn!(node, %program, problem, "a node's program failed"),
        None => tracing::info!(node, %program, "a node's program has done its part"),
    }
    let report = PowerReport { asked: run.asked, problem };
    loop {
        let input = Input::NodePower { node: run.node.clone(), report: report.clone() };
        match engine.ask(input).await {
            Err(InputError::NotStored { .. }) => tokio::time::sleep(STORE_AGAIN).await,
            _ => return,
        }
    }
}

/// Ends a program with all that it has started, unless it has ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a program to its end. What went wrong is said as people read it.
async fn execute(run: &Run) -> Result<(), String> {
    let program = run.program.display();
    check(&run.program)?;
    let mut command = Command::new(&run.program);
    command
        .arg(&run.node)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(run.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A node's agent may come of it, and the work of that one is to have huge pages, whatever the controller does without.
    // SAFETY: prctl(2) is safe between fork and exec.
    unsafe { command.pre_exec(|| nix::sys::prctl::set_thp_disable(false).map_err(Into::into)) };
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be run: {error}"))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let said = tokio::spawn(last_words(child.stdout.take(), child.stderr.take()));
    let Ok(status) = timeout(run.time_max, child.wait()).await else {
        return Err(format!("{program} did not end within {} s", run.time_max.as_secs()));
    };
    group.0 = None;
    let status = status.map_err(|error| format!("{program} cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = timeout(OUTPUT_WITHIN, said).await.ok().and_then(Result::ok).flatten();
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    Err(format!("{program} failed ({status}){said}"))
}

/// What runs as root must be for root alone to change.
fn check(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let about = std::fs::metadata(program).map_err(|error| format!("{shown} cannot be run: {error}"))?;
    if !about.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let is_ours = about.uid() == 0 || about.uid() == geteuid().as_raw();
    if !is_ours || about.mode() & 0o022 != 0 {
        return Err(format!("{shown} can be changed by others: chown it to root and chmod it to 755"));
    }
    Ok(())
}

/// The last line that a program printed on its standard error, else on its standard output.
async fn last_words(
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
) -> Option<String> {
    let (out, err) = tokio::join!(tail(stdout), tail(stderr));
    let line = |bytes: Vec<u8>| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let last = text.lines().rev().find(|line| !line.trim().is_empty())?.trim().to_owned();
        Some(last.chars().filter(|c| !c.is_control()).collect::<String>())
    };
    line(err).or_else(|| line(out))
}

/// The end of what comes, as much of it as is kept of a problem.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        kept.drain(..kept.len().saturating_sub(PROBLEM_BYTES_MAX));
    }
    kept
}
