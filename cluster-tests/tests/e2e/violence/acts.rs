//! The violence itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_cluster_tests::{Badness, HEAD, ProcessInfo};
use nix::sys::signal::Signal;

use super::dice::Dice;
use super::work::{NODES, Yard};

/// For how long an act lasts, in milliseconds: most pass before anybody gives a node up, some do not.
const SHORT_MS: std::ops::Range<u64> = 50..2500;
const LONG_MS: std::ops::Range<u64> = 6_000..12_000;
/// For how long work is waited for before an act.
const FLOW_WITHIN: Duration = Duration::from_secs(3);
/// MPI launchers, their daemons and ranks, and scripts.
const OF_THE_WORK: [&str; 6] = ["mpirun", "mpiexec", "orted", "hydra_pmi_proxy", "bash", "muster-rsh"];

/// One act of violence.
#[derive(Debug, Clone)]
pub enum Act {
    /// SIGKILL, or SIGTERM, to the controller; it starts again after a while, and may be killed while it settles.
    Controller { signal: Signal, away: Duration, again: Option<Duration> },
    /// SIGKILL to a node's agent. The controller brings another one up.
    Agent { host: &'static str },
    /// SIGKILL to a supervisor, with or without an attempt.
    Supervisor { host: &'static str, which: u64 },
    /// SIGKILL to something that a user started.
    Work { host: &'static str, which: u64 },
    /// SIGKILL to everything on a host, which comes back empty.
    Power { host: &'static str, away: Duration },
    /// Every packet is lost.
    Cut { host: &'static str, away: Duration },
    /// Packets are late and lost, and the cable is loose.
    Bad { host: &'static str, lasts: Duration, loose: Vec<(Duration, Duration)> },
    /// Nothing on the host moves.
    Freeze { host: &'static str, away: Duration },
}

impl Act {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Controller { signal: Signal::SIGKILL, .. } => "controller killed",
            Self::Controller { .. } => "controller stopped",
            Self::Agent { .. } => "agent killed",
            Self::Supervisor { .. } => "supervisor killed",
            Self::Work { .. } => "process of a task killed",
            Self::Power { .. } => "host powered off",
            Self::Cut { .. } => "link cut",
            Self::Bad { .. } => "link bad",
            Self::Freeze { .. } => "host frozen",
        }
    }

    /// Draws what happens in a round: one to three acts, each at another place, or a loss of power everywhere.
    pub fn draw(dice: &mut Dice) -> Vec<Self> {
        if dice.one_in(15) {
            let away = dice.milliseconds(SHORT_MS);
            let hosts = NODES.iter().map(|host| Self::Power { host, away });
            return hosts.chain([Self::Controller { signal: Signal::SIGKILL, away, again: None }]).collect();
        }
        let mut places: Vec<Option<&'static str>> = NODES.iter().copied().map(Some).chain([None]).collect();
        let count = *dice.pick(&[1, 1, 1, 2, 2, 3]);
        let mut acts = Vec::new();
        while acts.len() < count {
            let place = *dice.pick(&places);
            places.retain(|other| *other != place);
            acts.push(match place {
                None => Self::on_controller(dice),
                Some(host) => Self::on_node(dice, host),
            });
        }
        acts
    }

    fn on_controller(dice: &mut Dice) -> Self {
        let signal = if dice.one_in(5) { Signal::SIGTERM } else { Signal::SIGKILL };
        let away = if dice.one_in(2) { Duration::ZERO } else { dice.milliseconds(SHORT_MS) };
        Self::Controller { signal, away, again: dice.one_in(4).then(|| dice.milliseconds(0..600)) }
    }

    fn on_node(dice: &mut Dice, host: &'static str) -> Self {
        let which = dice.between(0..1 << 20);
        let away = if dice.one_in(5) { dice.milliseconds(LONG_MS) } else { dice.milliseconds(SHORT_MS) };
        match dice.between(0..10) {
            0 | 1 => Self::Agent { host },
            2 | 3 => Self::Supervisor { host, which },
            4 => Self::Work { host, which },
            5 | 6 => Self::Power { host, away },
            7 => Self::Cut { host, away },
            8 => {
                let loose = (0..dice.between(0..12))
                    .map(|_| (dice.milliseconds(20..400), dice.milliseconds(10..250)))
                    .collect();
                Self::Bad { host, lasts: away, loose }
            }
            _ => Self::Freeze { host, away },
        }
    }

    /// Carries it out, from its begin to its end. Says what it met.
    pub fn carry_out(&self, yard: &Yard) -> String {
        let cluster = &yard.site.cluster;
        match self {
            Self::Controller { signal, away, again } => strike_controller(yard, *signal, *away, *again),
            Self::Agent { host } => kill_one(yard, host, 0, |process| is_muster_node(process, "agent")),
            Self::Supervisor { host, which } => {
                kill_one(yard, host, *which, |process| is_muster_node(process, "supervise"))
            }
            Self::Work { host, which } => kill_one(yard, host, *which, |process| {
                let program = process.cmdline.first().and_then(|path| path.rsplit('/').next());
                process.uid != 0 && program.is_some_and(|name| OF_THE_WORK.contains(&name))
            }),
            Self::Power { host, away } => {
                cluster.power_off(host).unwrap();
                std::thread::sleep(*away);
                cluster.power_on(host).unwrap();
                format!("{host} for {away:?}")
            }
            Self::Cut { host, away } => {
                cluster.cut(host).unwrap();
                std::thread::sleep(*away);
                cluster.heal(host).unwrap();
                format!("{host} for {away:?}")
            }
            Self::Bad { host, lasts, loose } => make_link_bad(yard, host, *lasts, loose),
            Self::Freeze { host, away } => {
                cluster.freeze(host).unwrap();
                std::thread::sleep(*away);
                cluster.thaw(host).unwrap();
                format!("{host} for {away:?}")
            }
        }
    }
}

fn strike_controller(yard: &Yard, signal: Signal, away: Duration, again: Option<Duration>) -> String {
    let start = || yard.site.start_controller().unwrap_or_else(|error| panic!("{error}"));
    match signal {
        Signal::SIGKILL => yard.site.kill_controller().unwrap(),
        // It takes a snapshot at its end, and may be taking one now: the records before that one go then.
        _ => yard.site.stop_controller_after(|| yard.journal.lock().unwrap().read(&yard.site)).unwrap(),
    }
    std::thread::sleep(away);
    start();
    if let Some(settles) = again {
        std::thread::sleep(settles);
        yard.site.kill_controller().unwrap();
        start();
    }
    format!("{signal}, away for {away:?}, again after {again:?}")
}

/// Worsens a link, and takes its cable out for moments, in which everything is lost.
fn make_link_bad(yard: &Yard, host: &str, lasts: Duration, loose: &[(Duration, Duration)]) -> String {
    let cluster = &yard.site.cluster;
    let end = Instant::now() + lasts;
    let badness = cluster.worsen(host).unwrap();
    for (whole, torn) in loose {
        if Instant::now() >= end {
            break;
        }
        std::thread::sleep(*whole);
        cluster.cut(host).unwrap();
        std::thread::sleep(*torn);
        cluster.heal(host).unwrap();
    }
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    cluster.mend(host).unwrap();
    match badness {
        Badness::LateAndLost => format!("{host} for {lasts:?}, late, lossy and loose (netem)"),
        Badness::Slow => format!("{host} for {lasts:?}, slow and loose (no netem in this kernel)"),
    }
}

/// Whether it is the program `muster-node` in this role.
fn is_muster_node(process: &ProcessInfo, role: &str) -> bool {
    process.uid == 0 && process.cmdline.get(1).is_some_and(|word| word == role)
}

/// Kills one of the processes of a host that are wanted, if there is one at this moment.
fn kill_one(yard: &Yard, host: &str, which: u64, wanted: impl Fn(&ProcessInfo) -> bool) -> String {
    assert_ne!(host, HEAD);
    let mut all = yard.site.cluster.processes(host).unwrap();
    all.retain(|process| wanted(process));
    if all.is_empty() {
        return format!("{host}: there was none");
    }
    let process = &all[usize::try_from(which).unwrap() % all.len()];
    // One that has just ended is no process of the cluster any more.
    let met = yard.site.cluster.kill(process.pid, Signal::SIGKILL).is_ok();
    format!("{host}: {} {}, {met}", process.inner_pid, process.cmdline.join(" "))
}

/// When the violence of a round begins: once so much work has flowed since the last, or after a pause.
pub fn await_moment(yard: &Yard, dice: &mut Dice) {
    let pause = dice.milliseconds(0..700);
    let (from, more) = (yard.flowed(), dice.between(0..30_000));
    std::thread::sleep(pause);
    let end = Instant::now() + FLOW_WITHIN;
    while yard.flowed() < from + more && Instant::now() < end && !yard.is_closed() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How often what was done.
pub type Tally = BTreeMap<&'static str, u64>;
