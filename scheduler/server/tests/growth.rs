//! What many tasks change that wait, or that have finished, on a real controller with nodes that take no time.
//!
//! `cargo test --release --workspace --test growth -- --ignored --nocapture --test-threads=1`; `MUSTER_HISTORY_TASKS`
//! says how many tasks have finished, a million without and 20,000 at least, and `MUSTER_HISTORY_KEPT` how many of them stay in memory, a
//! quarter without, as is the default for a million.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Controller, Node, configuration, exited, job, ready, runtime, whole};
use muster_client::JobFilter;
use muster_client::api::SubmitRequest;
use muster_cluster_tests::figures::{Against, Better, Figure, Told, median};
use muster_core::spec::{ArraySpec, IndexRange};
use muster_wire::v1::to_node::Body;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const NODES: u32 = 32;
/// Tasks of each array of the history.
const IN_ARRAY: u32 = 1_000;
/// Tasks of each array that is measured.
const SWARM: u32 = 20_000;
/// How often each thing is measured on each of two controllers, in turns.
const ROUNDS: u32 = 5;
/// The same of what takes a moment: snapshots and the machine's own ups and downs are in some of them.
const SHORT_ROUNDS: u32 = 11;
/// For how long submits are counted in each round.
const WHILE: Duration = Duration::from_secs(1);
/// Who submits at once.
const CLIENTS: usize = 64;
/// How often each list is asked for in each round.
const LISTS: usize = 25;
/// Jobs that have ended in a list.
const LISTED: usize = 20;
/// Jobs that wait while lists are measured.
const WAITING: usize = 200;
/// How long a node goes without a word, and how long the tasks of one array may take, at most.
const PATIENCE: Duration = Duration::from_secs(600);
/// By how much times may differ that are called the same.
const SAME: f64 = 1.1;
/// Elements of the array that waits.
const ELEMENTS: u32 = 1_000_000;
/// Different jobs that wait.
const JOBS: usize = 100_000;

/// How many, or a tenth of it for a quick run.
fn scaled(whole: u32) -> u32 {
    if std::env::var_os("MUSTER_BENCH_QUICK").is_some() { whole / 10 } else { whole }
}

/// Answers every order at once, as if preparing and running took no time.
async fn play(mut node: Node) {
    let mut prepared = HashMap::new();
    while let Some(told) = node.next_within(PATIENCE).await {
        match told {
            Body::Prepare(prepare) if prepare.at_once => node.report(exited(&prepare, 0, 0)).await,
            Body::Prepare(prepare) => {
                node.report(ready(&prepare)).await;
                prepared.insert(prepare.key, prepare);
            }
            Body::Go(go) => {
                if let Some(prepare) = prepared.remove(&go.key) {
                    node.report(exited(&prepare, 0, 0)).await;
                }
            }
            _ => {}
        }
    }
}

/// A controller with limits that nothing here reaches, but for the finished tasks that stay in memory.
fn controller(kept: u32) -> Controller {
    let controller = Controller::prepared(NODES, "");
    let policy = format!(
        "[policy]\njobs_per_user_max = 1000000\ntasks_waiting_max = 10000000\nfinished_tasks_kept = {kept}"
    );
    let text = configuration(controller.folder.path(), NODES, "")
        .replace("node_timeout_s = 2", "node_timeout_s = 3600")
        .replace("[policy]", &policy);
    std::fs::write(controller.config(), text).unwrap();
    controller
}

/// All nodes, as long as the controller runs.
fn nodes(controller: &Controller, rt: &Runtime) -> Vec<JoinHandle<()>> {
    let name = |number| format!("n{number:02}");
    (1..=NODES).map(|number| rt.spawn(play(rt.block_on(controller.node(&name(number)))))).collect()
}

/// Stops the controller in good order and starts it. Gives the seconds from its start until it was ready.
fn restart(controller: &mut Controller) -> f64 {
    assert!(controller.stop().success());
    let started = Instant::now();
    controller.run();
    started.elapsed().as_secs_f64()
}

fn array(tasks: u32) -> SubmitRequest {
    let indices = vec![IndexRange { first: 0, last: tasks - 1, step: 1 }];
    SubmitRequest { array: Some(ArraySpec { indices, running_max: None }), ..job("many") }
}

/// A job that waits until it is released.
fn held() -> SubmitRequest {
    let mut request = job("waits");
    request.eligibility.hold = true;
    request
}

/// Runs so many tasks, in arrays, and gives back how many that were in a second.
fn run_tasks(controller: &Controller, tasks: u32) -> f64 {
    let mut client = controller.client();
    let submit = |_| client.submit(&array(IN_ARRAY)).unwrap().job.unwrap();
    let jobs: Vec<u64> = (0..tasks / IN_ARRAY).map(submit).collect();
    let mut span = (u64::MAX, 0);
    for job in jobs {
        let detail = client.wait_finished(whole(job), Some(PATIENCE)).unwrap().unwrap();
        let summary = detail.summary;
        span = (span.0.min(summary.submitted_at_us), span.1.max(summary.finished_at_us.unwrap()));
    }
    f64::from(tasks) / ((span.1 - span.0) as f64 / 1e6)
}

fn milliseconds(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64() * 1e3
    };
    median(&(0..LISTS).map(once).collect::<Vec<_>>()).unwrap()
}

/// What is measured of a controller with less behind it, and of one with more.
#[derive(Debug)]
struct Pair {
    less: f64,
    more: f64,
}

impl Pair {
    /// Measures the two in turns, since the machine is faster or slower from one minute to the next, and each while the other rests.
    fn in_turns<const N: usize>(
        rounds: u32,
        less: &mut Controller,
        more: &mut Controller,
        mut measure: impl FnMut(&mut Controller) -> [f64; N],
    ) -> [Self; N] {
        let mut of = |controller: &mut Controller| {
            let values = measure(controller);
            await_rest(controller);
            values
        };
        let (less, more): (Vec<_>, Vec<_>) = (0..rounds).map(|_| (of(less), of(more))).unzip();
        let middle = |rounds: &[[f64; N]], number: usize| {
            median(&rounds.iter().map(|values| values[number]).collect::<Vec<_>>()).unwrap()
        };
        std::array::from_fn(|number| Self { less: middle(&less, number), more: middle(&more, number) })
    }

    /// As a figure that is to be as good with more as with less, which is what `floor` says.
    fn figure(&self, name: &str, what: String, floor: &str, unit: &str, better: Better) -> Figure {
        let limit = if better == Better::Lower { SAME } else { 1.0 / SAME };
        Figure::new(name, what, self.more, unit, better).floor(floor, self.less).bar(Against::Floor, limit)
    }
}

/// Submits from so many clients while time lasts, or until there were so many. Gives the milliseconds that each took.
fn submits(controller: &Controller, clients: usize, time: Duration, most: usize) -> Vec<f64> {
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let stop = &stop;
        let submitting = move |number: usize| {
            let mut client = controller.client();
            let (mut request, mut took) = (held(), Vec::new());
            while !stop.load(Ordering::Relaxed) && took.len() < most / clients {
                // As those of a loop of `sbatch` are, no two are the same.
                (request.name, request.arguments) =
                    (format!("waits {number} {}", took.len()), vec![took.len().to_string()]);
                let started = Instant::now();
                client.submit(&request).unwrap();
                took.push(started.elapsed().as_secs_f64() * 1e3);
                if begun.elapsed() > time {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            took
        };
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || submitting(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn status_kib(controller: &Controller, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn memory_mib(controller: &Controller) -> f64 {
    status_kib(controller, "VmRSS:") / 1024.0
}

/// CPU time so far, in seconds (proc(5): the fields `utime` and `stime`, in hundredths).
fn cpu_s(controller: &Controller) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", controller.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Waits until the controller is done with what it does beside, such as a snapshot: it takes less than a fiftieth of a core.
fn await_rest(controller: &Controller) {
    let used_in_a_second = || {
        let before = cpu_s(controller);
        std::thread::sleep(Duration::from_secs(1));
        cpu_s(controller) - before
    };
    assert!((0..120).any(|_| used_in_a_second() < 0.02), "the controller does not come to rest");
}

/// What is kept on the disk, in bytes.
fn disk_bytes(controller: &Controller) -> u64 {
    let files = std::fs::read_dir(controller.folder.path().join("state")).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap())
        .filter(|file| file.is_file())
        .map(|file| file.len())
        .sum()
}

/// How long a list of the last jobs takes, which have all ended, in milliseconds.
fn list_of_ended_ms(controller: &Controller) -> f64 {
    let mut client = controller.client();
    let latest = JobFilter { all: true, limit: Some(LISTED as u64), ..JobFilter::default() };
    milliseconds(|| assert_eq!(client.jobs(&latest).unwrap().jobs.len(), LISTED))
}

/// How long a list of the jobs that wait takes, in milliseconds.
fn list_of_waiting_ms(controller: &Controller) -> f64 {
    let mut client = controller.client();
    milliseconds(|| assert!(client.jobs(&JobFilter::default()).unwrap().jobs.len() >= WAITING))
}

/// Runs an array: its tasks in a second, and what each takes of the controller's CPU time, in microseconds.
fn swarm(controller: &Controller) -> [f64; 2] {
    let (before, mut client) = (cpu_s(controller), controller.client());
    let id = client.submit(&array(SWARM)).unwrap().job.unwrap();
    let done = client.wait_finished(whole(id), Some(PATIENCE)).unwrap().unwrap().summary;
    let seconds = (done.finished_at_us.unwrap() - done.submitted_at_us) as f64 / 1e6;
    let tasks = f64::from(SWARM);
    [tasks / seconds, (cpu_s(controller) - before) * 1e6 / tasks]
}

/// Submits from so many clients for a while: how many in a second, and the milliseconds of the middle one.
fn submits_for_a_while(controller: &Controller, clients: usize) -> (f64, f64) {
    let begun = Instant::now();
    let took = submits(controller, clients, WHILE, usize::MAX);
    (took.len() as f64 / begun.elapsed().as_secs_f64(), median(&took).unwrap())
}

/// What there is before the first task and after so many. Leaves long queues behind.
fn before_and_after(less: &mut Controller, more: &mut Controller, tasks: u32) -> Vec<Figure> {
    use Better::{Higher, Lower};
    for controller in [&*less, &*more] {
        let mut client = controller.client();
        (0..WAITING).for_each(|_| drop(client.submit(&held()).unwrap()));
        await_rest(controller);
    }
    let figure = |pair: Pair, name, what, unit, better| {
        pair.figure(name, format!("{what}, after {tasks} tasks"), "the same before the first", unit, better)
    };
    let [queue] = Pair::in_turns(SHORT_ROUNDS, less, more, |controller| [list_of_waiting_ms(controller)]);
    let [rate, cpu] = Pair::in_turns(SHORT_ROUNDS, less, more, |controller| swarm(controller));
    let [one] = Pair::in_turns(ROUNDS, less, more, |controller| [submits_for_a_while(controller, 1).1]);
    let [many] =
        Pair::in_turns(ROUNDS, less, more, |controller| [submits_for_a_while(controller, CLIENTS).0]);
    vec![
        figure(one, "history.submit", "one submit, answered once it is durable", "ms", Lower),
        figure(many, "history.submits", "submits of 64 clients", "1/s", Higher),
        figure(rate, "history.rate", "small tasks on nodes that take no time", "1/s", Higher),
        figure(cpu, "history.controller", "CPU time of the controller for a small task", "us", Lower),
        figure(queue, "history.queue", "the list of the jobs that wait", "ms", Lower),
    ]
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn finished_tasks() {
    let tasks = std::env::var("MUSTER_HISTORY_TASKS").map_or(1_000_000, |text| text.parse().unwrap());
    let tasks = scaled(tasks);
    let kept = std::env::var("MUSTER_HISTORY_KEPT").map_or(tasks / 4, |text| text.parse().unwrap());
    let rt = runtime();
    let [mut empty, mut few, mut full] = [(); 3].map(|()| controller(kept));
    let mut playing = Vec::new();
    for controller in [&mut empty, &mut few, &mut full] {
        controller.run();
        playing.push(nodes(controller, &rt));
    }

    // The first third of one history runs in turns with the last third of the other, and fills the memory with all the finished tasks
    // that it keeps.
    let third = tasks / 10 * 3;
    let between = run_tasks(&full, tasks - third);
    let [rate] =
        Pair::in_turns(ROUNDS, &mut few, &mut full, |controller| [run_tasks(controller, third / ROUNDS)]);
    let memory = Pair { less: memory_mib(&few), more: memory_mib(&full) };
    let bytes = disk_bytes(&full);
    let [ended] =
        Pair::in_turns(SHORT_ROUNDS, &mut few, &mut full, |controller| [list_of_ended_ms(controller)]);
    playing.drain(1..).flatten().for_each(|node| node.abort());
    let [ready] = Pair::in_turns(ROUNDS, &mut few, &mut full, |controller| [restart(controller)]);
    drop(few);
    playing.push(nodes(&full, &rt));
    let mut figures = before_and_after(&mut empty, &mut full, tasks);

    let early = format!("the same after {third} tasks");
    let mut late = |pair: Pair, name, what, unit| {
        figures.push(pair.figure(name, format!("{what} after {tasks} tasks"), &early, unit, Better::Lower));
    };
    late(ended, "history.ended", "a list of the last jobs, which have ended,", "ms");
    late(memory, "history.memory", "the controller's memory", "MiB");
    late(ready, "history.restart", "a controller that was stopped is ready again", "s");
    let what = format!("tasks of the last third of {tasks}");
    figures.push(rate.figure("history.late_rate", what, "those of the first third", "1/s", Better::Higher));
    let each = bytes as f64 / f64::from(tasks);
    let what = "the disk that a finished task takes";
    figures.push(Figure::new("history.disk", what, each, "bytes", Better::Lower));
    println!("{tasks} tasks have run, the first of them at {between:.0} a second; {kept} are kept");
    for figure in &figures {
        let beside = figure.floor.as_ref().map_or(0.0, |floor| floor.value);
        println!("{:20} {:>12.2} {:5} {:>12.2} before", figure.name, figure.value, figure.unit, beside);
    }
    Told { figures, ..Told::default() }.print().unwrap();
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn waiting_tasks() {
    let mut controller = controller(1_000_000);
    controller.run();
    let mut client = controller.client();
    let (elements, jobs) = (scaled(ELEMENTS), scaled(JOBS as u32) as usize);
    // What the first submit alone brings about is not the array's.
    client.submit(&held()).unwrap();
    let empty = memory_mib(&controller);
    let mut request = array(elements);
    request.eligibility.hold = true;
    client.submit(&request).unwrap();
    let with_array = memory_mib(&controller);
    let submitted = submits(&controller, CLIENTS, Duration::MAX, jobs).len();
    // What waits is looked at while it waits; a snapshot of it takes more.
    await_rest(&controller);
    let with_jobs = memory_mib(&controller);
    let most = status_kib(&controller, "VmHWM:") / 1024.0;
    let bytes = |mib: f64, of: usize| mib.max(0.0) * f64::from(1 << 20) / of as f64;
    let element = bytes(with_array - empty, elements as usize);
    let distinct = bytes(with_jobs - with_array, submitted);
    let distinct_most = bytes(most - with_array, submitted);
    println!(
        "{element:.1} bytes for each of {elements} elements, {distinct:.0} for each of {submitted} jobs, and {distinct_most:.0} at most"
    );
    let whole = "the whole controller's memory for";
    let figures = vec![
        Figure::new(
            "memory.element",
            format!("{whole} a waiting element of an array"),
            element,
            "bytes",
            Better::Lower,
        )
        .bar(Against::Value, 64.0),
        Figure::new(
            "memory.job",
            format!("{whole} a waiting job of its own"),
            distinct,
            "bytes",
            Better::Lower,
        )
        .bar(Against::Value, 2_000.0),
        Figure::new(
            "memory.job_most",
            format!("{whole} a waiting job of its own at most, while snapshots are taken"),
            distinct_most,
            "bytes",
            Better::Lower,
        ),
    ];
    Told { figures, ..Told::default() }.print().unwrap();
}
