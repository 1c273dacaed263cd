//! Violence: everything that can be killed is killed, again and again, while real work flows; afterwards what the tasks
//! wrote down, what the controller wrote down, and what it answers must tell one story (`check`).
//!
//! `MUSTER_VIOLENCE_SEED` gives the violence and the work of an earlier run again, though not its timing, which is the
//! machine's; `MUSTER_VIOLENCE_ROUNDS` says how long it goes on.

mod acts;
mod check;
pub mod dice;
mod journal;
mod ledger;
mod logs;
mod work;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use muster_cluster_tests::require_root;
use muster_cluster_tests::site::{Site, SiteOptions};
use nix::sys::signal::Signal;

use self::acts::{Act, Tally, await_moment};
use self::check::Check;
use self::dice::Dice;
use self::journal::Journal;
use self::work::{NODES, USERS, Yard, client, count};
use crate::support::chain;

/// As many as take two to three minutes, with what is before and after them.
const ROUNDS: u64 = 4;
/// For how long nothing at all may end once there is peace, before work counts as stuck: a gang that hangs is ended by its
/// time limit, and another may wait for it.
const STUCK_AFTER: Duration = Duration::from_secs(90);
/// Within which time nothing may be left on any host.
const CLEAN_WITHIN: Duration = Duration::from_secs(60);
/// How often the journal is read: long before there are the 50,000 records after which a snapshot is taken.
const ROUNDS_PER_READ: u64 = 5;

#[test]
fn whatever_is_killed_every_accepted_task_ends_once_and_nothing_is_left() {
    if let Err(error) = require_root() {
        let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
        assert!(skip, "{error}; or set MUSTER_TEST_SKIP_CLUSTER=1 to leave these tests out");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("MUSTER_VIOLENCE_SEED").unwrap_or(now.as_millis() as u64 % 1_000_000);
    let rounds = number("MUSTER_VIOLENCE_ROUNDS").unwrap_or(ROUNDS);
    println!("MUSTER_VIOLENCE_SEED={seed} MUSTER_VIOLENCE_ROUNDS={rounds}");

    let yard = Yard::open(bring_up());
    let done = catch_unwind(AssertUnwindSafe(|| run(&yard, seed, rounds)));
    if let Err(panic) = done {
        let kept = logs::keep(&yard, seed);
        println!(
            "failed with MUSTER_VIOLENCE_SEED={seed}; logs, ledger and journal are in {}",
            kept.display()
        );
        resume_unwind(panic);
    }
}

fn bring_up() -> Site {
    let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let name = format!("vio{:x}", std::process::id() % 4096);
    let mut options = SiteOptions::new(&name, NODES.len(), cores).unwrap();
    options.cluster.users = USERS.map(str::to_owned).to_vec();
    options.node_timeout_s = 6;
    options.policy = "requeue_delay_s = 1".to_owned();
    Site::up(&options).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Ends the threads beside a thread that fails, or that is through.
struct Close<'a>(&'a Yard, &'a AtomicBool);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
        self.0.closed.store(true, Ordering::SeqCst);
        self.1.store(true, Ordering::SeqCst);
    }
}

fn run(yard: &Yard, seed: u64, rounds: u64) {
    let started = Instant::now();
    let ended = AtomicBool::new(false);
    *yard.journal.lock().unwrap() = Journal::begin(&yard.site);
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let _close = Close(yard, &ended);
        for (stream, user) in (1..).zip([USERS[0], USERS[1], USERS[0]]) {
            let ended = &ended;
            scope.spawn(move || {
                // Another client that goes on for ever would hide this one's failure.
                let guard = Close(yard, ended);
                client(yard, Dice::new(seed, stream), user);
                std::mem::forget(guard);
            });
        }
        scope.spawn(|| count(yard, &ended));
        let mut dice = Dice::new(seed, 0);
        for round in 1..=rounds {
            let snapshot = one_round(yard, &mut dice, round, started, &mut tally);
            if yard.is_closed() {
                return;
            }
            if snapshot || round % ROUNDS_PER_READ == 0 {
                yard.journal.lock().unwrap().read(&yard.site);
            }
        }
        yard.closed.store(true, Ordering::SeqCst);
        println!("{:7.1} s  peace", started.elapsed().as_secs_f64());
        drain(yard);
    });
    assert!(!yard.failed.load(Ordering::SeqCst));
    await_clean(yard);
    let mut journal = yard.journal.lock().unwrap();
    journal.read(&yard.site);
    check_store(yard);
    let lines = ledger::read(&yard.ledger()).unwrap_or_else(|torn| panic!("{torn}"));
    let book = yard.book.lock().unwrap().clone();
    let wrong = Check::new(&journal, &lines, &book).everything(yard);
    summary(&journal, &book, &tally, rounds, started.elapsed());
    assert!(
        wrong.is_empty(),
        "{} things do not hold:\n{}",
        wrong.len(),
        wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// One to three acts side by side. Says whether the controller was made to take a snapshot.
fn one_round(yard: &Yard, dice: &mut Dice, round: u64, started: Instant, tally: &mut Tally) -> bool {
    await_moment(yard, dice);
    let acts = Act::draw(dice);
    std::thread::scope(|scope| {
        for act in &acts {
            scope.spawn(move || {
                let at = started.elapsed().as_secs_f64();
                println!("{at:7.1} s  round {round}: {}: {}", act.name(), act.carry_out(yard));
            });
        }
    });
    acts.iter().for_each(|act| *tally.entry(act.name()).or_default() += 1);
    match acts.len() {
        1 => {}
        count if count > NODES.len() => *tally.entry("everything at once").or_default() += 1,
        _ => *tally.entry("several at once").or_default() += 1,
    }
    acts.iter().any(|act| matches!(act, Act::Controller { signal: Signal::SIGTERM, .. }))
}

/// Waits until everything that was accepted has ended.
fn drain(yard: &Yard) {
    // A node that failed again and again is held back for minutes; an admin who knows why resumes it.
    for node in yard.site.nodes().unwrap().iter().filter(|node| node.state.starts_with("drain")) {
        let resume = ["nodes", "resume", node.name.as_str()];
        let output = yard.site.run("root", std::path::Path::new("/"), &resume).unwrap();
        println!("{} was {} ({}): {}", node.name, node.state, node.reason, output.status);
    }
    yard.site.await_nodes_up().unwrap_or_else(|error| panic!("{}", chain(&error)));
    let all = muster_client::Client::connect(&yard.site.socket());
    let mut client = all.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut last = (u64::MAX, Instant::now());
    loop {
        let jobs = client.jobs(&muster_client::JobFilter::default()).unwrap().jobs;
        if jobs.is_empty() {
            return;
        }
        let live = |job: &muster_client::api::JobSummary| {
            job.tasks.iter().filter(|(state, _)| !state.is_finished()).map(|(_, n)| n).sum::<u64>()
        };
        let left: u64 = jobs.iter().map(live).sum();
        if left != last.0 {
            last = (left, Instant::now());
        }
        let nodes = yard.site.nodes().unwrap();
        assert!(last.1.elapsed() < STUCK_AFTER, "nothing ends any more: {jobs:#?}\n{nodes:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Nothing is left on any host: no process of a user, no folder and no cgroup of an attempt.
fn await_clean(yard: &Yard) {
    let end = Instant::now() + CLEAN_WITHIN;
    loop {
        let left: Vec<String> = NODES.iter().flat_map(|host| left_on(yard, host)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "still there: {left:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn left_on(yard: &Yard, host: &str) -> Vec<String> {
    let processes = yard.site.cluster.processes(host).unwrap();
    let of_users = processes.iter().filter(|process| process.uid >= 1000 && process.state != 'Z');
    let mut left: Vec<String> =
        of_users.map(|process| format!("{host}: {} {:?}", process.pid, process.cmdline)).collect();
    let find = "find /var/lib/muster/attempts /run/muster/attempts -mindepth 1 -maxdepth 1; \
                find /sys/fs/cgroup -type d -regex '.*/[0-9]+_[0-9]+\\.[0-9]+'";
    let output = yard.site.cluster.exec(host, None).unwrap().args(["/bin/sh", "-c", find]).output().unwrap();
    left.extend(String::from_utf8_lossy(&output.stdout).lines().map(|line| format!("{host}: {line}")));
    left
}

/// The journal is whole, and what it adds up to holds its invariants.
fn check_store(yard: &Yard) {
    let output = Command::new(yard.site.staged.bin.join("musterd"))
        .arg("--config")
        .arg(yard.site.config_path())
        .args(["store", "check"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn summary(journal: &Journal, book: &[work::Accepted], tally: &Tally, rounds: u64, took: Duration) {
    let tasks: u64 = book.iter().map(|accepted| accepted.order.tasks).sum();
    let gangs = book.iter().filter(|accepted| accepted.order.ranks.is_some()).count();
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut requeues = 0;
    for (verdict, again) in journal.attempts.values().filter_map(|attempt| attempt.ended.as_ref()) {
        requeues += u64::from(*again);
        let how = serde_json::to_value(verdict).unwrap()["how"].as_str().unwrap().to_owned();
        *ends.entry(how).or_default() += 1;
    }
    println!(
        "{rounds} rounds in {:.0} s: {} jobs, {tasks} tasks, {gangs} gangs, {} attempts, {requeues} requeues, {} records\n\
         violence: {tally:?}\nattempts ended: {ends:?}",
        took.as_secs_f64(),
        book.len(),
        journal.attempts.len(),
        journal.records,
    );
}
