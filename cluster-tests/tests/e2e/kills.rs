//! Every kind of process is killed at every stage of a parallel program's life, by a seed: nothing is left over, and the
//! user reads what happened.
//!
//! `MUSTER_KILL_ROUNDS` says how many rounds there are, `MUSTER_KILL_SEED` gives those of an earlier run again, though not
//! their timing, which is the machine's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use muster_client::api::{JobDetail, TaskState};
use muster_cluster_tests::ProcessInfo;
use muster_core::ids::JobId;
use nix::sys::signal::Signal;

use crate::support::{Bench, PATIENCE, mpich_prologue};
use crate::violence::dice::Dice;

const ROUNDS: u64 = 8;
const SEED: u64 = 21;
const NODES: [&str; 3] = ["node01", "node02", "node03"];
const RANKS: usize = 6;
/// How often is looked whether a stage has come. Nobody tells an outsider.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How the program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    DirectOpenMpi,
    DirectMpich,
    Mpirun,
    Mpiexec,
}

const WAYS: [Way; 4] = [Way::DirectOpenMpi, Way::DirectMpich, Way::Mpirun, Way::Mpiexec];

/// How far the program is when something is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Submitted,
    Prepared,
    Daemons,
    FirstRank,
    AllRanks,
    Running,
    Finalizing,
    Ending,
}

const STAGES: [Stage; 8] = [
    Stage::Submitted,
    Stage::Prepared,
    Stage::Daemons,
    Stage::FirstRank,
    Stage::AllRanks,
    Stage::Running,
    Stage::Finalizing,
    Stage::Ending,
];

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Supervisor,
    Starter,
    StepDaemon,
    Rank,
    Launcher,
    RemoteShell,
    RemoteDaemon,
}

const VICTIMS: [Victim; 8] = [
    Victim::Agent,
    Victim::Supervisor,
    Victim::Starter,
    Victim::StepDaemon,
    Victim::Rank,
    Victim::Launcher,
    Victim::RemoteShell,
    Victim::RemoteDaemon,
];

impl Victim {
    /// What a process is to this test.
    fn of(process: &ProcessInfo) -> Option<Self> {
        let name = process.cmdline.first()?.rsplit('/').next()?;
        let second = process.cmdline.get(1).map(String::as_str);
        // What a process has forked to become another program still has its name for a moment.
        let parent = std::fs::read(format!("/proc/{}/cmdline", process.parent)).unwrap_or_default();
        let of_parent = parent.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        if of_parent.take(process.cmdline.len()).eq(process.cmdline.iter().map(String::as_str)) {
            return None;
        }
        Some(match (name, second) {
            ("muster-node", Some("agent")) => Self::Agent,
            // Agents keep some without an attempt in store.
            ("muster-node", Some("supervise")) => {
                let log = std::fs::read_link(format!("/proc/{}/fd/2", process.pid)).ok()?;
                log.to_string_lossy().contains("/attempts/").then_some(Self::Supervisor)?
            }
            ("muster", Some("run")) => Self::Starter,
            ("muster-step", _) => Self::StepDaemon,
            ("rank-report", _) => Self::Rank,
            ("mpirun" | "mpiexec" | "mpiexec.hydra", _) => Self::Launcher,
            ("muster-rsh", _) => Self::RemoteShell,
            ("orted" | "hydra_pmi_proxy", _) => Self::RemoteDaemon,
            _ => return None,
        })
    }

    /// What the user reads, in the reason or in the output; one of these. MPI's own launchers say it in their own words.
    fn causes(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &[],
            Self::Supervisor => &["the supervisor"],
            Self::Starter => &["exit code 137"],
            Self::StepDaemon => &[
                "its step daemon was lost",
                "its step daemon was killed by signal 9",
                "its step daemon did not",
                "cannot be reached",
            ],
            Self::Rank => &[
                "Killed",
                "ended without MPI_Finalize",
                "signal 9",
                "BAD TERMINATION OF ONE OF YOUR",
                "exit code 137",
                // Hydra's proxy ends when the rank is gone with which it was about to speak, and its launcher says no more than one
                // of these: what it was about to send, or which command or response it was about to pass on.
                "unable to send PMI message",
                "unable to handle PMI",
            ],
            Self::Launcher => &["exit code 137", "signal 9"],
            Self::RemoteShell | Self::RemoteDaemon => &[
                "the MPI daemon on",
                "still waits for it",
                "ORTE has lost communication",
                "ORTE was unable to reliably start one or more daemons",
                "ORTE daemon has unexpectedly failed",
                "control_cb",
                "signal 9",
                "exit code 255",
                "exit code 1",
            ],
        }
    }
}

fn body(way: Way, hold_s: f64) -> String {
    let program = |mpi| {
        format!(
            "\"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --expect-ranks {RANKS} --start-file \"$STARTED\" --hold-s {hold_s}"
        )
    };
    match way {
        Way::DirectOpenMpi => format!("MUSTER_TREE_WIDTH=2 muster run {}\n", program("ompi")),
        Way::DirectMpich => format!("MUSTER_TREE_WIDTH=2 muster run {}\n", program("mpich")),
        Way::Mpirun => format!("mpirun {}\n", program("ompi")),
        Way::Mpiexec => format!("{}mpiexec {}\n", mpich_prologue(), program("mpich")),
    }
}

/// All processes that the test may kill.
fn look(bench: &Bench) -> Vec<(Victim, ProcessInfo)> {
    let of_host = |host: &&str| bench.site.cluster.processes(host).unwrap_or_default();
    NODES.iter().flat_map(of_host).filter_map(|process| Some((Victim::of(&process)?, process))).collect()
}

/// Waits for a stage and gives what runs then; nothing if the program was over before.
fn await_stage(bench: &Bench, job: JobId, stage: Stage, started: &str) -> Vec<(Victim, ProcessInfo)> {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = look(bench);
        let count = |victim| all.iter().filter(|(is, _)| *is == victim).count();
        let has_started = bench.work.join(started).exists();
        let here = match stage {
            Stage::Submitted => true,
            Stage::Prepared => count(Victim::Supervisor) > 0,
            Stage::Daemons => count(Victim::StepDaemon) + count(Victim::RemoteDaemon) > 0,
            Stage::FirstRank => count(Victim::Rank) > 0,
            Stage::AllRanks => count(Victim::Rank) >= RANKS,
            Stage::Running | Stage::Finalizing => has_started,
            Stage::Ending => has_started && count(Victim::Rank) < RANKS,
        };
        if here || bench.site.job(job).unwrap().summary.state.is_finished() {
            return all;
        }
        assert!(Instant::now() < end, "after {} s still not {stage:?}", PATIENCE.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What was killed, if there was something to kill.
fn strike(bench: &Bench, dice: &mut Dice, all: &[(Victim, ProcessInfo)]) -> Option<Victim> {
    let there: Vec<Victim> =
        VICTIMS.into_iter().filter(|victim| all.iter().any(|(is, _)| is == victim)).collect();
    if there.is_empty() {
        return None;
    }
    let victim = *dice.pick(&there);
    let of_kind: Vec<&ProcessInfo> =
        all.iter().filter(|(is, _)| *is == victim).map(|(_, process)| process).collect();
    // It may have ended since it was seen.
    let killed = bench.site.cluster.kill(dice.pick(&of_kind).pid, Signal::SIGKILL);
    killed.is_ok().then_some(victim)
}

/// The end of the job is what the kill leads to, and says so.
fn check(bench: &Bench, way: Way, stage: Stage, killed: Option<Victim>, detail: &JobDetail) {
    let task = &detail.task_list[0];
    let said = format!("{}\n{}", task.reason, bench.output(detail));
    if task.state == TaskState::Completed {
        // What was killed was not needed any more; or the attempt had not begun, and was tried again.
        let may = match killed {
            // Hydra's proxies hold connections of their own, and go on without the shell that started them.
            None | Some(Victim::Agent | Victim::RemoteShell) => true,
            Some(Victim::Supervisor) => stage <= Stage::Prepared || stage >= Stage::Finalizing,
            Some(_) => stage >= Stage::Finalizing,
        };
        assert!(
            may && said.contains("passed: 6 ranks"),
            "{killed:?} was killed, and the job completed:\n{said}"
        );
        return;
    }
    let killed = killed.unwrap_or_else(|| panic!("nothing was killed, and the job failed:\n{said}"));
    // Hydra may wait for ever after it has lost something; then the time limit ends it.
    let hydra_hung = way == Way::Mpiexec
        && task.state == TaskState::TimedOut
        && said.contains("ran out of its time limit");
    let told = task.state != TaskState::TimedOut && killed.causes().iter().any(|cause| said.contains(cause));
    assert!(told || hydra_hung, "{killed:?} was killed, and the user reads ({:?}):\n{said}", task.state);
}

#[test]
fn whatever_is_killed_at_whatever_stage_nothing_is_left_and_the_cause_is_told() {
    let policy = "requeue_delay_s = 0";
    let Some(bench) = Bench::up_with("qk", NODES.len(), 2, policy) else { return };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // The few rounds of the suite are always the same; who asks for more gets others.
    let rounds = number("MUSTER_KILL_ROUNDS");
    let drawn = if rounds.is_some() { now.as_millis() as u64 % 1_000_000 } else { SEED };
    let seed = number("MUSTER_KILL_SEED").unwrap_or(drawn);
    let rounds = rounds.unwrap_or(ROUNDS);
    println!("MUSTER_KILL_SEED={seed} MUSTER_KILL_ROUNDS={rounds}");
    let mut dice = Dice::new(seed, 0);
    let mut tally: BTreeMap<(Stage, Option<Victim>), u32> = BTreeMap::new();
    let path = format!("PATH=\"{}:$PATH\"\n", bench.site.staged.bin.display());
    for round in 0..rounds {
        // All stages have their turns; the rest is drawn.
        let stage = STAGES[(round % STAGES.len() as u64) as usize];
        let way = *dice.pick(&WAYS);
        let started = format!("started.{round}");
        let hold_s = if stage >= Stage::Finalizing { 0.0 } else { 2.0 };
        let script = format!("{path}STARTED={started}\n{}", body(way, hold_s));
        let job = bench
            .submit(&["-N3", "--ntasks-per-node=2", "-t1", "--no-requeue", "--output=kill-%j.out"], &script);
        let all = await_stage(&bench, job, stage, &started);
        let killed = strike(&bench, &mut dice, &all);
        *tally.entry((stage, killed)).or_default() += 1;
        println!("round {round}: {way:?}, {stage:?}: {killed:?}");
        check(&bench, way, stage, killed, &bench.wait(job));
        bench.await_clean(&NODES);
        bench.until("no supervisor is left", PATIENCE, || {
            !look(&bench).iter().any(|(victim, _)| *victim == Victim::Supervisor)
        });
        bench.site.await_nodes_up().unwrap();
    }
    println!("{tally:#?}");
}
