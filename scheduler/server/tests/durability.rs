//! What durability costs: submits a second, the longest pause for a snapshot, the time of a restart, memory.
//!
//! `cargo test --release -p muster-server --test durability -- --ignored --nocapture --test-threads=1`

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::floor::{Floor, Syncs, only_committed, percentile_ms};
use common::{Controller, configuration, job};
use muster_client::JobFilter;
use muster_client::api::SubmitRequest;
use muster_cluster_tests::figures::{Against, Better, Figure, Told};
use muster_core::engine::Engine;
use muster_core::event::{Endpoint, Event, Hardware, HardwareCore, Record, Usage};
use muster_core::ids::{AttemptKey, Timestamp};
use muster_core::input::{Caller, GoneHow, Input, InstancePhase, InstanceReport};
use muster_core::spec::JobSpec;
use muster_core::state::State;
use muster_store::Store;

/// Cores of a node of the large cluster.
const CORES: u32 = 128;
/// How long each measurement of a rate takes.
const WHILE: Duration = Duration::from_secs(4);

/// Submits from so many clients until time is over. Gives how long each submit took, sorted.
fn submit_from(controller: &Controller, clients: usize, time: Duration) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let submitting = || {
            let mut client = controller.client();
            let mut took = Vec::new();
            let mut request = job("bench");
            request.eligibility.hold = true;
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                client.submit(&request).unwrap();
                took.push(started.elapsed());
            }
            took
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(submitting)).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    all
}

/// The processor time that the controller has used, in seconds.
fn cpu_s(controller: &Controller) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", controller.pid())).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on every Linux that there is (proc(5), times(2)).
    ticks as f64 / 100.0
}

/// Submits from so many clients of a fresh controller, after its floor. Gives how long each took, sorted, and the floor.
fn submits_and_floor(clients: usize, is_bare: bool, request: &SubmitRequest) -> (Vec<Duration>, Floor) {
    let mut controller = Controller::prepared(1, "");
    more_jobs_for_each_user(&controller);
    controller.run();
    let floor = Floor::measure(controller.folder.path(), WHILE);
    let cpu_before = cpu_s(&controller);
    let took = match is_bare {
        true => common::bare::submit(&controller.socket(), clients, WHILE, request),
        false => submit_from(&controller, clients, WHILE),
    };
    println!(
        "{clients:3} {}: {:7.0} submits/s, median {:.3} ms, 99 % {:.2} ms, {:.0} us of the controller's CPU each; \
         floor {:.3} ms = one sync {:.3} + one round trip {:.3} (TCP {:.3})",
        if is_bare { "bare connections " } else { "clients, 1 thread each" },
        took.len() as f64 / WHILE.as_secs_f64(),
        percentile_ms(&took, 50),
        percentile_ms(&took, 99),
        (cpu_s(&controller) - cpu_before) * 1e6 / took.len() as f64,
        floor.submit_ms(),
        floor.sync_ms,
        floor.unix_ms,
        floor.tcp_ms,
    );
    (took, floor)
}

/// What a thread reaches that syncs a page for all that came, or stores a record for each, and does nothing else.
fn without_work(request: &SubmitRequest) -> Vec<Figure> {
    let folder = tempfile::tempdir().unwrap();
    let floor = Floor::measure(folder.path(), WHILE).submit_ms();
    let mut syncs = Syncs::below(folder.path());
    let (mut store, _) = Store::open(&folder.path().join("muster.db")).unwrap();
    let record = submitted(request);
    let synced = [1, 64].map(|clients| only_committed(clients, WHILE, request, |_| syncs.one()));
    let stored = [1, 64].map(|clients| {
        let store = |count| store.append(&vec![record.clone(); count], &[]).unwrap();
        only_committed(clients, WHILE, request, store)
    });
    let figures = |word: &str, what: &str, [one, many]: [Vec<Duration>; 2]| {
        let [alone, rate] = [&one, &many].map(|took| took.len() as f64 / WHILE.as_secs_f64());
        let median = percentile_ms(&one, 50);
        println!("a thread that only {what}: {median:.3} ms for one connection, {rate:.0} a second for 64");
        let to = format!("to a thread that only {what}");
        [
            Figure::new(
                &format!("durable.one_only_{word}"),
                format!("one submit {to}"),
                median,
                "ms",
                Better::Lower,
            )
            .floor("one sync and one round trip", floor),
            Figure::new(
                &format!("durable.64_only_{word}"),
                format!("submits of 64 clients {to}"),
                rate,
                "1/s",
                Better::Higher,
            )
            .floor("one client", alone),
        ]
    };
    let synced = figures("synced", "syncs and answers", synced);
    let stored = figures("stored", "stores and answers", stored);
    synced.into_iter().chain(stored).collect()
}

/// The record of a submit.
fn submitted(request: &SubmitRequest) -> Record {
    let config = muster_config::parse(Path::new("muster.toml"), &configuration(Path::new("/"), 1, ""));
    let mut seed = Seed { engine: Engine::new(State::new()), now: Timestamp(0), records: Vec::new() };
    seed.input(&Input::Configure(Arc::new(config.unwrap().cluster)));
    let spec = Box::new(spec(request, &[]));
    seed.input(&Input::Submit { caller: ANN, spec, request_key: Some("x".repeat(48)) });
    seed.records.pop().unwrap()
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn acknowledged_submits_per_second() {
    let mut request = job("bench");
    request.eligibility.hold = true;
    let mut figures = Vec::new();
    for (is_bare, many, suffix, whose) in
        [(false, &[64][..], "", "of the client library"), (true, &[8, 64][..], "_bare", "over bare sockets")]
    {
        let (took, floor) = submits_and_floor(1, is_bare, &request);
        let alone = took.len() as f64 / WHILE.as_secs_f64();
        let (name, what) = (format!("durable.one{suffix}"), format!("one durable submit {whose}"));
        figures.push(
            Figure::new(&name, what, percentile_ms(&took, 50), "ms", Better::Lower)
                .floor("one sync and one round trip", floor.submit_ms())
                .bar(Against::Floor, 1.5),
        );
        for clients in many {
            let (took, _) = submits_and_floor(*clients, is_bare, &request);
            let rate = took.len() as f64 / WHILE.as_secs_f64();
            let what = format!("durable submits of {clients} clients {whose}");
            let figure =
                Figure::new(&format!("durable.{clients}{suffix}"), what, rate, "1/s", Better::Higher)
                    .floor("one client", alone);
            figures.push(if *clients == 64 { figure.bar(Against::Floor, 20.0) } else { figure });
        }
    }
    figures.extend(without_work(&request));
    Told { figures, ..Told::default() }.print().unwrap();
}

/// How long submits take while others list a hundred thousand jobs all the time.
#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn submits_while_others_list() {
    const JOBS: usize = 100_000;
    let mut controller = Controller::prepared(1, "");
    more_jobs_for_each_user(&controller);
    controller.run();
    let mut request = job("bench");
    request.request.exclusive = true;
    let mut made = 0;
    while made < JOBS {
        made += common::bare::submit(&controller.socket(), 64, Duration::from_millis(500), &request).len();
    }
    for listing in [0, 1, 4, 16] {
        let (stop, lists) = (AtomicBool::new(false), AtomicU64::new(0));
        let took = std::thread::scope(|scope| {
            for _ in 0..listing {
                scope.spawn(|| {
                    let mut client = controller.client();
                    while !stop.load(Ordering::Relaxed) {
                        assert!(client.jobs(&JobFilter::default()).unwrap().jobs.len() >= JOBS);
                        lists.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let took = submit_from(&controller, 1, 2 * WHILE);
            stop.store(true, Ordering::Relaxed);
            took
        });
        println!(
            "{listing:2} list {made} jobs: {:5.0} submits/s, median {:.2} ms, 99 % {:.2} ms, longest {:.0} ms; {:.1} lists/s; {} MiB",
            took.len() as f64 / (2 * WHILE).as_secs_f64(),
            percentile_ms(&took, 50),
            percentile_ms(&took, 99),
            percentile_ms(&took, 100),
            lists.load(Ordering::Relaxed) as f64 / (2 * WHILE).as_secs_f64(),
            resident_bytes(&controller) >> 20,
        );
    }
}

fn more_jobs_for_each_user(controller: &Controller) {
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace("[policy]", "[policy]\njobs_per_user_max = 1000000");
    std::fs::write(controller.config(), text).unwrap();
}

/// A controller for a cluster that is large enough for so many live tasks of one core, whose nodes may be silent.
fn large(live: u32) -> Controller {
    let nodes = live.div_ceil(CORES).max(1);
    let mut controller = Controller::prepared(1, "");
    let text = configuration(controller.folder.path(), 1, "");
    let text = text.replace("n[01-01]", &format!("n[0001-{nodes:04}]"));
    let text = text.replace("cores = 4", &format!("cores = {CORES}")).replace("\"4G\"", "\"512G\"");
    let text = text.replace("node_timeout_s = 2", "node_timeout_s = 3600");
    std::fs::write(controller.config(), text).unwrap();
    more_jobs_for_each_user(&controller);
    // The certificates of the nodes are made at the first start.
    controller.run();
    assert!(controller.stop().success());
    controller
}

/// Plays an array through the engine until so many of its tasks have ended and so many run, and stores that.
struct Seed {
    engine: Engine,
    now: Timestamp,
    records: Vec<Record>,
}

impl Seed {
    fn input(&mut self, input: &Input) {
        self.now = Timestamp(self.now.0 + 1);
        let applied = self.engine.apply(input, self.now);
        applied.reply.unwrap();
        self.records.extend(applied.records);
    }

    fn report(&mut self, node: &str, key: AttemptKey, phase: InstancePhase) {
        let report = InstanceReport { key, instance: 0, phase };
        self.input(&Input::NodeReport { node: node.to_owned(), report });
    }

    fn run(&mut self, key: AttemptKey, node: &str, ends: bool) {
        let endpoint =
            Endpoint { host: node.to_owned(), address: "10.0.0.1".to_owned(), ..Endpoint::default() };
        self.report(node, key, InstancePhase::Ready(endpoint));
        self.report(node, key, InstancePhase::Running { started_at: self.now });
        if ends {
            let how = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };
            let usage = Usage { cpu_time_us: 1_000_000, memory_peak_bytes: 1 << 20, ..Usage::default() };
            self.report(node, key, InstancePhase::Gone { how, usage, started_at: None });
        }
    }
}

/// Who submits in the engine.
const ANN: Caller = Caller { uid: 1000, admin: false };

/// What the engine makes of a request of hers, with other fields in it.
fn spec(request: &SubmitRequest, fields: &[(&str, serde_json::Value)]) -> JobSpec {
    let mut spec = serde_json::to_value(request).unwrap();
    let all = spec.as_object_mut().unwrap();
    all.remove("test_only");
    all.insert("user".to_owned(), serde_json::json!({"name": "ann", "uid": 1000, "gid": 1000}));
    all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    serde_json::from_value(spec).unwrap()
}

fn seed(controller: &Controller, live: u32, finished: u32) -> (State, Vec<Record>) {
    let config = muster_config::load(&controller.config()).unwrap().cluster;
    let nodes: Vec<String> = config.nodes.iter().map(|node| node.name.clone()).collect();
    let now = Timestamp(Timestamp::default().0 + 1_700_000_000_000_000);
    let mut seed = Seed { engine: Engine::new(State::new()), now, records: Vec::new() };
    seed.input(&Input::Configure(Arc::new(config)));
    let core = |i: u32| HardwareCore { package: i / 64, numa: i / 16, l3: i / 8, threads: 1 };
    let hardware = Hardware { cores: (0..CORES).map(core).collect(), ..Hardware::default() };
    let hardware = Arc::new(hardware);
    for node in &nodes {
        let (node, boot_id, hardware) = (node.clone(), "boot".to_owned(), Arc::clone(&hardware));
        seed.input(&Input::NodeHello { node, boot_id, hardware, held: Vec::new() });
    }
    let array = serde_json::json!({
        "indices": [{"first": 0, "last": live + finished - 1, "step": 1}], "running_max": null
    });
    let spec = spec(&job("array"), &[("array", array), ("time_limit_s", 86_400.into())]);
    seed.input(&Input::Submit { caller: ANN, spec: Box::new(spec), request_key: None });
    let mut to_end = finished;
    loop {
        let placed = seed.engine.pass(seed.now).records;
        if placed.is_empty() {
            break;
        }
        for record in placed {
            let Event::AttemptPlaced { key, ref allocation, .. } = record.event else { panic!("{record:?}") };
            let node = nodes[allocation.shares[0].node.0 as usize].clone();
            seed.records.push(record);
            let ends = to_end > 0;
            to_end -= u32::from(ends);
            seed.run(key, &node, ends);
        }
    }
    assert_eq!(seed.engine.state().live_count(), live as usize);
    (seed.engine.into_state(), seed.records)
}

fn store(controller: &Controller, records: &[Record]) -> Store {
    let path = controller.folder.path().join("state/muster.db");
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    let (mut store, _) = Store::open(&path).unwrap();
    for batch in records.chunks(10_000) {
        store.append(batch, &[]).unwrap();
    }
    store
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn the_longest_pause_while_a_snapshot_is_taken() {
    for live in [10_000, 100_000] {
        let mut controller = large(live);
        let (_, records) = seed(&controller, live, 0);
        // Without a snapshot under so many records, the first commit asks for one.
        drop(store(&controller, &records));
        controller.run();
        let took = submit_from(&controller, 1, Duration::from_secs(15));
        println!(
            "{live} live tasks: median {:.2} ms, 99 % {:.2} ms, longest {:.0} ms of {} submits",
            percentile_ms(&took, 50),
            percentile_ms(&took, 99),
            percentile_ms(&took, 100),
            took.len()
        );
    }
}

fn resident_bytes(controller: &Controller) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn restarts_and_memory() {
    for (live, finished) in [(10_000, 0), (100_000, 0), (0, 10_000), (0, 100_000), (100_000, 100_000)] {
        let mut controller = large(live.max(10_000));
        controller.run();
        let empty_bytes = resident_bytes(&controller);
        controller.kill();
        let (state, records) = seed(&controller, live, finished);
        drop(store(&controller, &records));
        let replayed = start(&mut controller);
        let mut store = store(&controller, &records);
        let bytes = store.snapshot(&state, Timestamp(1)).unwrap().unwrap().bytes;
        drop(store);
        drop(state);
        let from_snapshot = start(&mut controller);
        controller.run();
        let tasks = u64::from(live + finished);
        println!(
            "{live:6} live, {finished:6} finished: ready after {replayed:5.2} s from {} records, {from_snapshot:5.2} s from a \
             snapshot of {} MiB; {} bytes of memory for each task",
            records.len(),
            bytes >> 20,
            resident_bytes(&controller).saturating_sub(empty_bytes) / tasks,
        );
    }
}

/// Starts the controller and kills it. Gives the seconds until it was ready.
fn start(controller: &mut Controller) -> f64 {
    let started = Instant::now();
    controller.run();
    let seconds = started.elapsed().as_secs_f64();
    controller.kill();
    seconds
}
