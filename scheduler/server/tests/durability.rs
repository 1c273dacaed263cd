//! What durability costs: submits a second, the longest pause for a snapshot, the time of a restart, memory.
//!
//! `cargo test --release -p muster-server --test durability -- --ignored --nocapture --test-threads=1`

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Controller, configuration, job};
use muster_client::JobFilter;
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

/// Small writes that are synced, on the disk below a folder.
struct Syncs {
    file: std::fs::File,
    made: u64,
}

impl Syncs {
    /// How many pages the file has.
    const PAGES: u64 = 1024;

    fn below(folder: &Path) -> Self {
        let file = std::fs::File::create(folder.join("syncs")).unwrap();
        // The log of the database is overwritten in place as well, most of the time.
        file.write_all_at(&vec![0; Self::PAGES as usize * 4096], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, made: 0 }
    }

    fn one(&mut self) {
        let page = [self.made as u8; 4096];
        self.file.write_all_at(&page, self.made % Self::PAGES * 4096).unwrap();
        self.file.sync_data().unwrap();
        self.made += 1;
    }
}

/// How long one small write takes that is synced: half of them take less.
fn sync_ms(syncs: &mut Syncs) -> f64 {
    median_ms(WHILE / 2, || syncs.one())
}

/// How long something takes that is done again and again for a time: half of the times it takes less.
fn median_ms(time: Duration, mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < time {
        let before = Instant::now();
        work();
        took.push(before.elapsed());
    }
    took.sort_unstable();
    percentile(&took, 50)
}

/// The part of the sorted values at which `percent` of them are smaller, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

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

/// How long a request and its answer take over a stream to a thread that does something in between: half of them take less.
fn echo_ms<S: Read + Write + Send + 'static>(
    time: Duration,
    mut near: S,
    mut far: S,
    mut between: impl FnMut() + Send + 'static,
) -> f64 {
    // As many bytes as a submit has, and its answer.
    const BYTES: (usize, usize) = (800, 150);
    let echo = std::thread::spawn(move || {
        let mut request = vec![0; BYTES.0];
        while far.read_exact(&mut request).is_ok() {
            between();
            if far.write_all(&request[..BYTES.1]).is_err() {
                return;
            }
        }
    });
    let (request, mut answer) = (vec![1; BYTES.0], vec![0; BYTES.1]);
    let took = median_ms(time, || {
        near.write_all(&request).unwrap();
        near.read_exact(&mut answer).unwrap();
    });
    drop(near);
    echo.join().unwrap();
    took
}

/// What nothing can be faster than: a synced write, and a round trip over a Unix socket and over TCP.
struct Floor {
    sync_ms: f64,
    unix_ms: f64,
    tcp_ms: f64,
    /// A round trip to a thread that syncs a write before it answers. It may take longer than both by themselves: what waits for the
    /// other's processor slows it down where two are threads of one core.
    synced_ms: f64,
}

impl Floor {
    fn measure(folder: &Path) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let unix_ms = echo_ms(WHILE / 8, near, far, || {});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let tcp_ms = echo_ms(WHILE / 8, near, far, || {});
        let mut syncs = Syncs::below(folder);
        let sync_ms = sync_ms(&mut syncs);
        let (near, far) = UnixStream::pair().unwrap();
        let synced_ms = echo_ms(WHILE / 2, near, far, move || syncs.one());
        Self { sync_ms, unix_ms, tcp_ms, synced_ms }
    }
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

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn acknowledged_submits_per_second() {
    let mut request = job("bench");
    request.eligibility.hold = true;
    let mut alone = None;
    for (clients, is_bare) in [(1, false), (64, false), (1, true), (8, true), (64, true)] {
        let mut controller = Controller::prepared(1, "");
        more_jobs_for_each_user(&controller);
        controller.run();
        let floor = Floor::measure(controller.folder.path());
        let cpu_before = cpu_s(&controller);
        let took = match is_bare {
            true => common::bare::submit(&controller.socket(), clients, WHILE, &request),
            false => submit_from(&controller, clients, WHILE),
        };
        let rate = took.len() as f64 / WHILE.as_secs_f64();
        let cpu_us = (cpu_s(&controller) - cpu_before) * 1e6 / took.len() as f64;
        println!(
            "{clients:3} {}: {rate:7.0} submits/s, median {:.3} ms, 99 % {:.2} ms, {cpu_us:.0} us of the controller's CPU each; \
             floor {:.3} ms = one sync {:.3} + one round trip {:.3} (TCP {:.3}); {:.3} both at once",
            if is_bare { "bare connections " } else { "clients, 1 thread each" },
            percentile(&took, 50),
            percentile(&took, 99),
            floor.sync_ms + floor.unix_ms,
            floor.sync_ms,
            floor.unix_ms,
            floor.tcp_ms,
            floor.synced_ms,
        );
        match alone.filter(|_| clients > 1) {
            None => {
                println!("      {:.2} x the floor", percentile(&took, 50) / (floor.sync_ms + floor.unix_ms));
                alone = Some(rate);
            }
            Some(alone) => println!("      {:.1} x the rate of one", rate / alone),
        }
    }
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
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
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
    let mut spec = serde_json::to_value(job("array")).unwrap();
    let fields = spec.as_object_mut().unwrap();
    fields.remove("test_only");
    fields.insert("array".to_owned(), array);
    fields.insert("time_limit_s".to_owned(), 86_400.into());
    fields.insert("user".to_owned(), serde_json::json!({"name": "ann", "uid": 1000, "gid": 1000}));
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    let caller = Caller { uid: 1000, admin: false };
    seed.input(&Input::Submit { caller, spec: Box::new(spec), request_key: None });
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
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
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
