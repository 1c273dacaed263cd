//! Two controllers on one PostgreSQL database, with real agents: the leader is killed, frozen and cut off, in turn, while
//! users submit. What the tasks themselves write down proves that every acknowledged job ran exactly once.
//!
//! `MUSTER_TAKEOVER_ROUNDS=50 cargo test --release -p muster-cluster-tests --test e2e takeover -- --nocapture`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use muster_client::api::{LeaderView, TaskState};
use muster_client::{Client, ClientError, Options};
use muster_cluster_tests::HEAD;
use muster_core::ids::JobId;
use muster_test_postgres::{Cut, PostgresServer};
use nix::sys::signal::Signal;

use crate::support::{ANN, Bench, PATIENCE};

/// Rounds in the ordinary run: each kind of fault once.
const ROUNDS_DEFAULT: u64 = 3;
/// Shells that submit one job after another.
const SUBMITTERS: usize = 2;
/// Submits until it is told to stop. A submit that fails ends it, with what was said.
const SUBMIT_FOREVER: &str = "while [ ! -e stop ]; do \"$1\" submit --parsable -t5 -o /dev/null ledger.sh >>\"accepted-$2\" 2>>\"said-$2\" || exit 1; sleep 0.1; done";
/// A task says in one line, which is written as a whole, who it is.
const LEDGER: &str = "#!/bin/bash\necho \"start $MUSTER_JOB_ID $MUSTER_ATTEMPT $(hostname)\" >>ledger\nsleep 0.2\n\
     echo \"end $MUSTER_JOB_ID $MUSTER_ATTEMPT\" >>ledger\n";

/// One of the two controllers.
struct Member {
    config: PathBuf,
    socket: PathBuf,
    way: Cut,
    /// The one that the site started is ended by it.
    child: Option<Child>,
}

struct Pair {
    bench: Bench,
    members: [Member; 2],
    _postgres: PostgresServer,
}

fn store(way: &Cut) -> String {
    format!("store = \"{}\"\n", way.url("muster"))
}

impl Pair {
    fn up() -> Option<Self> {
        let postgres = PostgresServer::start().unwrap();
        postgres.database("muster").unwrap();
        let ways = [Cut::before(&postgres).unwrap(), Cut::before(&postgres).unwrap()];
        let addresses = "addresses = [\"head:6817\", \"head:6818\"]\n";
        let bench = Bench::up_as("two", 2, 4, |options| {
            options.controller = format!("{addresses}{}", store(&ways[0]));
            options.policy = "jobs_per_user_max = 1000000\n".to_owned();
        })?;
        let first = bench.site.config_path();
        let second = first.with_file_name("second.toml");
        let socket = bench.site.socket().with_file_name("second.sock");
        let state_dir = bench.site.config_path().with_file_name("second-state");
        let text = std::fs::read_to_string(&first).unwrap();
        let line = |key: &str| {
            let is = |line: &&str| line.starts_with(&format!("{key} = "));
            text.lines().find(is).unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
        };
        let text = text
            .replace(&line("listen"), &line("listen").replace("6817", "6818"))
            .replace(&line("socket"), &format!("socket = {socket:?}"))
            .replace(&line("state_dir"), &format!("state_dir = {state_dir:?}"))
            .replace(&store(&ways[0]), &store(&ways[1]));
        std::fs::write(&second, text).unwrap();
        let [way, other] = ways;
        let members = [
            Member { config: first, socket: bench.site.socket(), way, child: None },
            Member { config: second, socket, way: other, child: None },
        ];
        let mut pair = Self { bench, members, _postgres: postgres };
        pair.run(1);
        Some(pair)
    }

    fn run(&mut self, number: usize) {
        let member = &self.members[number];
        let log = std::fs::File::options().create(true).append(true).open(self.log(number)).unwrap();
        let mut command = self.bench.site.cluster.exec(HEAD, None).unwrap();
        command.arg(self.bench.site.staged.bin.join("musterd")).arg("--config").arg(&member.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.members[number].child = Some(command.spawn().unwrap());
    }

    fn log(&self, number: usize) -> PathBuf {
        self.bench.site.controller_log().with_file_name(format!("musterd-{number}.log"))
    }

    fn pid(&self, number: usize) -> i32 {
        let config = self.members[number].config.to_str().unwrap();
        let is = |words: &[String]| {
            words.first().is_some_and(|program| program.ends_with("/musterd"))
                && words.iter().any(|word| word == config)
        };
        let processes = self.bench.site.cluster.processes(HEAD).unwrap();
        processes.iter().find(|process| is(&process.cmdline)).expect("it runs").pid
    }

    fn signal(&self, number: usize, signal: Signal) {
        self.bench.site.cluster.kill(self.pid(number), signal).unwrap();
    }

    /// Takes the lead away from the leader in a way that differs from round to round.
    fn strike(&mut self, round: u64, leader: usize) -> &'static str {
        match round % 3 {
            0 => {
                self.signal(leader, Signal::SIGKILL);
                if let Some(mut child) = self.members[leader].child.take() {
                    child.wait().unwrap();
                }
                "killed"
            }
            1 => {
                self.signal(leader, Signal::SIGSTOP);
                "frozen"
            }
            _ => {
                self.members[leader].way.close();
                "cut off"
            }
        }
    }

    fn let_back(&mut self, round: u64, number: usize) {
        match round % 3 {
            0 => self.run(number),
            1 => self.signal(number, Signal::SIGCONT),
            _ => self.members[number].way.open(),
        }
        let socket = self.members[number].socket.clone();
        let stands_by = || {
            let options = Options { retry: Duration::ZERO, ..Options::new(&socket) };
            let asked = Client::connect_with(options).and_then(|mut client| client.ping());
            let leads = "leads, or led last";
            matches!(asked, Err(ClientError::Refused { status: 503, body }) if body.message.contains(leads))
        };
        self.bench.until("the one that led stands by", PATIENCE, stands_by);
    }

    fn client(&self, first: usize) -> Client {
        let sockets = [first, 1 - first].map(|number| self.members[number].socket.clone());
        let options = Options { retry: PATIENCE, on_away: Box::new(|_| {}), ..Options::of(sockets.to_vec()) };
        Client::connect_with(options).unwrap()
    }

    /// Waits for a leader of a later term than `after`; says which one it is, and its term. `last`, which may be frozen,
    /// is asked after the other one; one that is cut off may still answer for as long as its lease lasts.
    fn leader(&self, client: &mut Client, last: usize, after: u64) -> (usize, u64) {
        // Process ids differ within the host, but each has its own socket.
        let leads = |number: usize, leader: &LeaderView| {
            let options = Options {
                retry: Duration::ZERO,
                on_away: Box::new(|_| {}),
                ..Options::new(&self.members[number].socket)
            };
            let asked = Client::connect_with(options).and_then(|mut client| client.ping());
            asked.is_ok_and(|ping| ping.leader.as_ref() == Some(leader))
        };
        let mut found = None;
        self.bench.until("one of them leads in a later term", PATIENCE, || {
            // The lead may pass on between the two questions.
            let leader = client.ping().unwrap().leader.unwrap();
            let number = [1 - last, last].into_iter().find(|number| leads(*number, &leader));
            found = number.filter(|_| leader.term > after).map(|number| (number, leader.term));
            found.is_some()
        });
        found.unwrap()
    }

    /// Nodes that are up, as the leader sees them.
    fn nodes_up(client: &mut Client) -> u32 {
        client.ping().unwrap().nodes_up
    }
}

/// Ids that the submitters were shown.
fn accepted(work: &Path) -> Vec<u64> {
    let mut ids = Vec::new();
    for number in 0..SUBMITTERS {
        let text = std::fs::read_to_string(work.join(format!("accepted-{number}"))).unwrap_or_default();
        ids.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
    }
    ids.sort_unstable();
    ids
}

fn print_times(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let seconds = |place: usize| times[place].as_secs_f64();
    let (median, worst) = (seconds((times.len() - 1) / 2), seconds(times.len() - 1));
    println!("{what}: median {median:.2} s, worst {worst:.2} s of {}", times.len());
}

#[test]
fn a_leader_that_is_killed_frozen_or_cut_off_is_replaced_under_load() {
    let rounds = std::env::var("MUSTER_TAKEOVER_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS_DEFAULT, |text| text.parse().unwrap());
    let Some(mut pair) = Pair::up() else { return };
    let work = pair.bench.work.clone();
    pair.bench.write("ledger.sh", LEDGER);
    let sockets = std::env::join_paths(pair.members.iter().map(|member| &member.socket)).unwrap();
    let mut submitters: Vec<Child> = (0..SUBMITTERS)
        .map(|number| {
            let mut command = pair.bench.site.cluster.exec(HEAD, Some(ANN)).unwrap();
            command.args(["/usr/bin/env", "-C"]).arg(&work).args(["/bin/sh", "-c", SUBMIT_FOREVER, "sh"]);
            command.arg(pair.bench.site.staged.bin.join("muster")).arg(number.to_string());
            command.env("MUSTER_SOCKET", &sockets).env("MUSTER_RETRY_S", "60").stdin(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let (mut to_answer, mut to_nodes) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (leader, term) = pair.leader(&mut pair.client(0), 0, 0);
        std::thread::sleep(Duration::from_millis(700 + round * 137 % 1000));
        let before = accepted(&work).len();
        let struck = Instant::now();
        let how = pair.strike(round, leader);
        let mut client = pair.client(leader);
        let (next, _) = pair.leader(&mut client, leader, term);
        let answered = struck.elapsed();
        assert_eq!(next, 1 - leader, "round {round}, {how}");
        // A node stays up in what the new leader knows; that it is there shows in what it runs.
        pair.bench.until("jobs are accepted again", PATIENCE, || accepted(&work).len() > before + SUBMITTERS);
        let newest = *accepted(&work).last().unwrap();
        let line = format!("start {newest} ");
        let runs = || std::fs::read_to_string(work.join("ledger")).unwrap_or_default().contains(&line);
        pair.bench.until("jobs run again", PATIENCE, runs);
        let ran = struck.elapsed();
        println!(
            "round {round}: {how}: answered after {:.2} s, work of the new leader runs after {:.2} s, {} jobs",
            answered.as_secs_f64(),
            ran.as_secs_f64(),
            accepted(&work).len()
        );
        to_answer.push(answered);
        to_nodes.push(ran);
        pair.let_back(round, leader);
        assert_eq!(Pair::nodes_up(&mut client), 2, "round {round}, {how}: no node was given up");
    }
    pair.bench.write("stop", "");
    for (number, submitter) in submitters.iter_mut().enumerate() {
        let said = || std::fs::read_to_string(work.join(format!("said-{number}"))).unwrap_or_default();
        assert!(submitter.wait().unwrap().success(), "a submit failed: {}", said());
    }
    check(&pair, &accepted(&work));
    print_times("until a leader answers", &mut to_answer);
    print_times("until a job of the new leader runs", &mut to_nodes);
    for number in 0..2 {
        if let Some(mut child) = pair.members[number].child.take() {
            pair.signal(number, Signal::SIGTERM);
            child.wait().unwrap();
        }
    }
}

/// Compares what users were shown, what the tasks wrote, and what the leader says.
fn check(pair: &Pair, accepted: &[u64]) {
    let mut client = pair.client(0);
    for id in accepted {
        let job = muster_core::ids::JobRef { job: JobId(*id), task: None };
        let detail = client.wait_finished(job, Some(PATIENCE)).unwrap().expect("it ends");
        assert_eq!(detail.summary.state, TaskState::Completed, "{detail:?}");
    }
    let ledger = std::fs::read_to_string(pair.bench.work.join("ledger")).unwrap();
    let mut lines: BTreeMap<(&str, u64), Vec<&str>> = BTreeMap::new();
    for line in ledger.lines() {
        let mut words = line.split(' ');
        let (what, job) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        lines.entry((what, job)).or_default().push(line);
    }
    let more = lines.values().find(|lines| lines.len() > 1);
    assert_eq!(more, None, "a job ran more than once");
    for what in ["start", "end"] {
        let jobs: Vec<u64> = lines.keys().filter(|(is, _)| *is == what).map(|(_, job)| *job).collect();
        assert_eq!(jobs, accepted, "'{what}' is said by exactly the jobs that were acknowledged");
    }
    println!("{} jobs were acknowledged; each ran and ended exactly once", accepted.len());
}
