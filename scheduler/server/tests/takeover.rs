//! Two controllers on one PostgreSQL database: the leader is killed, frozen and cut off, in turn, while clients submit
//! and nodes run what they are told. Every acknowledged job ends exactly once, and no attempt runs twice.
//!
//! `MUSTER_TAKEOVER_ROUNDS=50 cargo test --release -p muster-server --test takeover -- --nocapture`

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Node, configuration, exited, hello, job, ready, running};
use muster_client::{Client, Options};
use muster_test_postgres::{Cut, PostgresServer};
use muster_wire::v1;
use muster_wire::v1::to_node::Body as Told;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Rounds in the ordinary run: each kind of fault once.
const ROUNDS_DEFAULT: u64 = 3;
const NODES: u32 = 2;
const SUBMITTERS: u64 = 3;
/// How long a client tries before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller with its own way to the database.
struct Member {
    folder: tempfile::TempDir,
    way: Cut,
    address: SocketAddr,
    child: Option<Child>,
}

impl Member {
    fn new(postgres: &PostgresServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let way = Cut::before(postgres).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = configuration(folder.path(), NODES, "")
            .replace("127.0.0.1:0", &address.to_string())
            .replace("node_timeout_s = 2", &format!("node_timeout_s = 12\nstore = \"{}\"", way.url("muster")))
            .replace("[policy]", "[policy]\njobs_per_user_max = 1000000\nfinished_jobs_kept = 4096");
        std::fs::write(folder.path().join("muster.toml"), text).unwrap();
        Self { folder, way, address, child: None }
    }

    fn run(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_musterd"));
        command.arg("--config").arg(self.folder.path().join("muster.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A test that is killed leaves no controller behind.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        self.child = Some(command.spawn().unwrap());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/muster.sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().unwrap() as i32), signal).unwrap();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let end = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("{}:", self.address);
            end.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn client(sockets: &[PathBuf]) -> Client {
    let options = Options {
        retry: PATIENCE,
        retry_waiting: PATIENCE,
        on_away: Box::new(|_| {}),
        ..Options::of(sockets.to_vec())
    };
    Client::connect_with(options).unwrap()
}

type Key = (u64, u32, u32);

fn key(key: Option<v1::AttemptKey>) -> Key {
    let key = key.unwrap();
    (key.job, key.task, key.attempt)
}

/// What the nodes did.
#[derive(Default)]
struct Ledger {
    starts: Mutex<HashMap<Key, u32>>,
    /// When a node had a session the last time, and in which term.
    heard: Mutex<(Option<Instant>, u64)>,
}

/// An instance that a node holds.
enum Held {
    Prepared(v1::Prepare),
    Running(v1::Prepare),
    Gone(v1::InstanceReport),
}

impl Held {
    fn report(&self) -> v1::InstanceReport {
        match self {
            Self::Prepared(prepare) => ready(prepare),
            Self::Running(prepare) => running(prepare),
            Self::Gone(report) => report.clone(),
        }
    }
}

/// A node whose instances outlive its sessions, as supervisors outlive their agent.
struct Agent {
    name: String,
    tls: PathBuf,
    ledger: Arc<Ledger>,
    held: HashMap<Key, Held>,
    term: u64,
    ends: tokio::sync::mpsc::UnboundedSender<Key>,
    ended: tokio::sync::mpsc::UnboundedReceiver<Key>,
}

impl Agent {
    fn new(number: u32, tls: &Path, ledger: &Arc<Ledger>) -> Self {
        let (ends, ended) = tokio::sync::mpsc::unbounded_channel();
        let (name, tls, ledger) = (format!("n{number:02}"), tls.to_owned(), Arc::clone(ledger));
        Self { name, tls, ledger, held: HashMap::new(), term: 0, ends, ended }
    }

    async fn run(mut self, addresses: [SocketAddr; 2]) {
        for address in addresses.iter().cycle() {
            let held = self.held.values().map(Held::report).collect();
            let hello = hello(&self.name, held);
            let connecting = Node::connect(*address, &self.tls, &self.tls, &self.name, hello);
            if let Ok(Ok(node)) = tokio::time::timeout(Duration::from_secs(3), connecting).await {
                self.session(node).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A session until it ends, or until nothing has been heard of a controller that other nodes have left.
    async fn session(&mut self, mut node: Node) {
        loop {
            tokio::select! {
                told = node.next_within(Duration::from_secs(5)) => {
                    let Some(told) = told else { return };
                    if let Told::Welcome(welcome) = &told {
                        if welcome.term < self.term {
                            return;
                        }
                        self.term = welcome.term;
                        *self.ledger.heard.lock().unwrap() = (Some(Instant::now()), welcome.term);
                        continue;
                    }
                    if let Some(report) = self.told(told) && !node.try_report(report).await {
                        return;
                    }
                }
                Some(key) = self.ended.recv() => {
                    if let Some(report) = self.on_end(key) && !node.try_report(report).await {
                        return;
                    }
                }
            }
        }
    }

    fn told(&mut self, told: Told) -> Option<v1::InstanceReport> {
        match told {
            Told::Prepare(prepare) => {
                let held = self.held.entry(key(prepare.key)).or_insert(Held::Prepared(prepare));
                Some(held.report())
            }
            Told::Go(go) => {
                let key = key(go.key);
                let held = self.held.get_mut(&key)?;
                if let Held::Prepared(prepare) = held {
                    *self.ledger.starts.lock().unwrap().entry(key).or_default() += 1;
                    *held = Held::Running(prepare.clone());
                    let ends = self.ends.clone();
                    tokio::spawn(async move {
                        // It works for a while that differs from task to task.
                        tokio::time::sleep(Duration::from_millis(key.0 * 7 % 90)).await;
                        let _ = ends.send(key);
                    });
                }
                Some(held.report())
            }
            Told::Stop(stop) => {
                let how = v1::gone::How::Stopped(v1::Stopped {});
                let phase =
                    v1::instance_report::Phase::Gone(v1::Gone { how: Some(how), ..v1::Gone::default() });
                let stopped =
                    v1::InstanceReport { key: stop.key, phase: Some(phase), ..v1::InstanceReport::default() };
                let held = self.held.entry(key(stop.key)).or_insert(Held::Gone(stopped.clone()));
                if !matches!(held, Held::Gone(_)) {
                    *held = Held::Gone(stopped);
                }
                Some(held.report())
            }
            Told::Setup(_) => None,
            Told::Forget(forget) => {
                self.held.remove(&key(forget.key));
                None
            }
            Told::Welcome(_) | Told::Signal(_) | Told::File(_) => None,
        }
    }

    fn on_end(&mut self, key: Key) -> Option<v1::InstanceReport> {
        let held = self.held.get_mut(&key)?;
        if let Held::Running(prepare) = held {
            *held = Held::Gone(exited(prepare, 0, 0));
        }
        Some(held.report())
    }
}

/// The number of the leader among the members, and its term.
fn leader(client: &mut Client, members: &[Member]) -> (usize, u64) {
    let leader = client.ping().unwrap().leader.unwrap();
    let is_it = |member: &Member| {
        member.pid().is_some_and(|pid| leader.holder.starts_with(&format!("musterd {pid} ")))
    };
    (members.iter().position(is_it).unwrap(), leader.term)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64()
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (median, worst) = (percentile(times, 50), percentile(times, 100));
    println!("{what}: median {median:.2} s, worst {worst:.2} s of {}", times.len());
}

/// Takes the lead away from the leader in a way that differs from round to round. Gives how to let it come back.
fn strike(round: u64, member: &mut Member) -> (&'static str, fn(&mut Member)) {
    match round % 3 {
        0 => {
            member.end();
            ("killed", Member::run)
        }
        1 => {
            member.signal(Signal::SIGSTOP);
            ("frozen", |member| member.signal(Signal::SIGCONT))
        }
        _ => {
            member.way.close();
            ("cut off", |member| member.way.open())
        }
    }
}

#[test]
fn a_leader_that_is_killed_frozen_or_cut_off_is_replaced_and_nothing_is_lost_or_run_twice() {
    let rounds = std::env::var("MUSTER_TAKEOVER_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS_DEFAULT, |text| text.parse().unwrap());
    let postgres = PostgresServer::start().unwrap();
    postgres.database("muster").unwrap();
    let mut members = [Member::new(&postgres), Member::new(&postgres)];
    members[0].run();
    let sockets: Vec<PathBuf> = members.iter().map(Member::socket).collect();
    let mut first = client(&sockets);
    assert_eq!(leader(&mut first, &members[..1]), (0, 1));
    members[1].run();

    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ledger = Arc::new(Ledger::default());
    let addresses = [members[0].address, members[1].address];
    for number in 1..=NODES {
        let tls = members[0].folder.path().join("state/tls");
        rt.spawn(Agent::new(number, &tls, &ledger).run(addresses));
    }

    let (stop, accepted) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let submitted = AtomicU64::new(0);
    let mut to_acknowledge = HashMap::from([("killed", vec![]), ("frozen", vec![]), ("cut off", vec![])]);
    let mut to_session = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| {
                let mut client = client(&sockets);
                while !stop.load(Ordering::Relaxed) {
                    submitted.fetch_add(1, Ordering::Relaxed);
                    let id = client.submit(&job("ledger")).unwrap().job.unwrap();
                    accepted.lock().unwrap().push(id);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                let mut asking = client(&sockets);
                let (at, term) = leader(&mut asking, &members);
                // Somewhere in the middle of the work.
                std::thread::sleep(Duration::from_millis(500 + round * 137 % 1000));
                let struck = Instant::now();
                let (how, back) = strike(round, &mut members[at]);
                // The leader's own socket first, which does not answer.
                let mut order = sockets.clone();
                order.swap(0, at);
                let id = client(&order).submit(&job("after")).unwrap().job.unwrap();
                let acknowledged = struck.elapsed();
                accepted.lock().unwrap().push(id);
                to_acknowledge.get_mut(how).unwrap().push(acknowledged);
                let (next, next_term) = leader(&mut client(&order), &members);
                assert_eq!((next, next_term > term), (1 - at, true), "round {round}, {how}");
                let session = loop {
                    if let (Some(heard), heard_in) = *ledger.heard.lock().unwrap()
                        && heard_in >= next_term
                    {
                        break heard.saturating_duration_since(struck);
                    }
                    assert!(struck.elapsed() < PATIENCE, "round {round}, {how}: no node has come");
                    std::thread::sleep(Duration::from_millis(10));
                };
                to_session.push(session);
                println!(
                    "round {round}: {how}: acknowledged after {:.2} s, a node's session after {:.2} s, {} jobs",
                    acknowledged.as_secs_f64(),
                    session.as_secs_f64(),
                    accepted.lock().unwrap().len()
                );
                back(&mut members[at]);
                stands_by(&members[at]);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        rounds.unwrap();
    });

    let mut accepted = accepted.into_inner().unwrap();
    accepted.sort_unstable();
    let mut last = client(&sockets);
    for id in &accepted {
        let job = muster_core::ids::JobRef { job: muster_core::ids::JobId(*id), task: None };
        let detail = last.wait_finished(job, Some(PATIENCE)).unwrap().expect("it ends");
        assert_eq!(detail.summary.state, muster_client::api::TaskState::Completed, "{detail:?}");
    }
    check(&postgres, &accepted, &ledger, submitted.load(Ordering::Relaxed) + rounds);
    for (how, times) in &mut to_acknowledge {
        if !times.is_empty() {
            print_times(&format!("{how}, until a submit is acknowledged"), times);
        }
    }
    let mut all: Vec<Duration> = to_acknowledge.into_values().flatten().collect();
    print_times("all, until a submit is acknowledged", &mut all);
    print_times("all, until a node has a session", &mut to_session);
}

/// Waits until the member says that it does not lead.
fn stands_by(member: &Member) {
    let end = Instant::now() + PATIENCE;
    loop {
        let options = Options { retry: Duration::ZERO, ..Options::new(&member.socket()) };
        let asked = Client::connect_with(options).and_then(|mut client| client.ping());
        if let Err(muster_client::ClientError::Refused { status: 503, body }) = &asked {
            assert_eq!(body.code, "not_leading");
            if body.message.contains("leads, or led last") {
                return;
            }
        }
        assert!(Instant::now() < end, "{} must stand by: {asked:?}", member.address);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Compares what clients were told, what nodes did, and what the database says.
fn check(postgres: &PostgresServer, accepted: &[u64], ledger: &Ledger, submitted: u64) {
    let twice = accepted.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "an id was given twice");
    assert_eq!(accepted.len() as u64, submitted, "every submit was acknowledged in the end, and once");
    let starts = ledger.starts.lock().unwrap();
    let mut by_job: HashMap<u64, u32> = HashMap::new();
    for (key, count) in starts.iter() {
        assert_eq!(*count, 1, "attempt {key:?} ran more than once");
        *by_job.entry(key.0).or_default() += 1;
    }
    let known: Vec<u64> = {
        let mut known: Vec<u64> = by_job.keys().copied().collect();
        known.sort_unstable();
        known
    };
    assert_eq!(known, accepted, "what ran is what was acknowledged: a repeated submit makes no second job");
    let again: Vec<_> = by_job.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(again, [], "no task was run again: no node was lost");
    let mut client = postgres.connect("muster").unwrap();
    let sql =
        "SELECT count(*), count(DISTINCT job), count(*) FILTER (WHERE state = 'completed') FROM task_history";
    let row = client.query_one(sql, &[]).unwrap();
    let jobs = accepted.len() as i64;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (jobs, jobs, jobs));
    println!("{jobs} jobs were acknowledged; each ended exactly once, and no attempt ran twice");
}
