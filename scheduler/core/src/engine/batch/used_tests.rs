//! What nodes use, as formulas and statistics of pools see it.

use super::stage::{id, pool, pool_key};
use crate::batch::{BatchCommand, Deallocation, Flows, NodeReading, NodeUse, PoolReadings, USED_EVERY_S};
use crate::event::Event;
use crate::ids::NodeId;
use crate::input::Input;
use crate::state::{State, Used};
use crate::testing::{Bench, GIB, config};

/// Half a minute of a node that was so busy.
fn busy(percent: u64) -> NodeUse {
    NodeUse {
        period_ms: 30_000,
        busy_ms: 300 * percent,
        memory_bytes: GIB,
        memory_peak_bytes: 2 * GIB,
        disk_bytes: 8 * GIB,
        disk_peak_bytes: 8 * GIB,
        flows: Flows { disk_read_bytes: 1_000, network_out_bytes: 7, ..Flows::default() },
    }
}

fn reading(node: u32, used: NodeUse) -> NodeReading {
    NodeReading { node: NodeId(node), recent: used, since: used }
}

impl Bench {
    /// How many events it made that so was heard of a pool's nodes.
    fn hear(&mut self, name: &str, nodes: Vec<NodeReading>) -> usize {
        self.hear_of(PoolReadings { pool: pool_key(name), nodes, left: Vec::new() })
    }

    fn hear_of(&mut self, readings: PoolReadings) -> usize {
        let applied = self.engine.apply(&Input::PoolUsed(Box::new(readings)), self.now);
        self.records.extend(applied.records.iter().cloned());
        applied.records.len()
    }

    fn enable(&mut self, formula: &str) {
        let formula = Some(formula.into());
        let command = BatchCommand::EnableScaling { pool: id("p"), formula, interval_s: Some(300) };
        self.batch(command).unwrap();
    }

    fn the_use(&self) -> &Used {
        self.the_pool("p").used.as_ref().expect("it was heard of its nodes")
    }

    /// What an expression is now, as a trial tells it.
    fn tried(&self, expression: &str) -> String {
        let trial = super::Trial::of(self.engine.state(), &pool_key("p"), self.the_pool("p"), self.now);
        let run = trial.run(&format!("$x = {expression}")).unwrap();
        assert_eq!(run.error, None, "{expression}");
        run.results.rsplit("$x=").next().unwrap().trim_end_matches(';').to_owned()
    }

    fn wants_to_hear(&self) -> bool {
        self.engine.state().batch_nodes_to_hear(self.now).any(|(_, wants, _)| wants)
    }
}

fn bench() -> Bench {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("p", 1), 2);
    bench
}

#[test]
fn formulas_see_what_nodes_use_and_pools_grow_by_it() {
    let mut bench = bench();
    bench.enable(
        "$TargetDedicatedNodes = avg($CPUPercent.GetSample(5 * TimeInterval_Minute, 50)) > 70 ? 3 : 2",
    );
    let failed = bench.the_pool("p").scale.as_ref().unwrap().last.clone().unwrap();
    assert_eq!(failed.error.unwrap().code, "InsufficientSampleData");
    assert_eq!(bench.tried("$CPUPercent"), "0", "it was heard of no node");
    for _ in 0..10 {
        bench.after_s(30);
        assert_eq!(bench.hear("p", vec![reading(0, busy(100)), reading(1, busy(50))]), 1);
        bench.settle();
    }
    for (expression, value) in [
        ("$CPUPercent", "75"),
        ("$MemoryBytes", "1024"),
        ("$DiskBytes", "8"),
        ("$WallClockSeconds", "60"),
        ("$DiskReadBytes", "2000"),
        ("$NetworkOutBytes", "14"),
        ("$DiskWriteOps", "0"),
        ("$CPUPercent.Count()", "10"),
        ("$CPUPercent.GetSamplePercent(5 * TimeInterval_Minute)", "100"),
        ("$CPUPercent.GetSamplePercent(10 * TimeInterval_Minute)", "50"),
        ("len($DiskReadOps.GetSample(3))", "3"),
    ] {
        assert_eq!(bench.tried(expression), value, "{expression}");
    }
    assert_eq!(bench.the_pool("p").target, 3);
    // Another formula sees the same samples, and nodes of which nothing is heard any more use nothing.
    bench.enable("$TargetDedicatedNodes = 3");
    assert_eq!(bench.tried("$CPUPercent.Count()"), "10");
    bench.after_s(91);
    assert_eq!(bench.tried("$CPUPercent"), "0");
}

#[test]
fn what_nodes_use_adds_up_over_the_life_of_a_pool() {
    let mut bench = bench();
    bench.hear("p", vec![reading(0, busy(100)), reading(1, busy(0))]);
    bench.after_s(600);
    let left = vec![reading(1, busy(50))];
    bench.hear_of(PoolReadings { pool: pool_key("p"), nodes: vec![reading(0, busy(50))], left });
    let used = bench.the_use();
    assert_eq!((used.totals.node_ms, used.totals.busy_ms), (120_000, 60_000));
    assert_eq!((used.totals.memory_mib_s, used.totals.memory_peak_bytes), (120 * 1024, 2 * GIB));
    assert_eq!(used.totals.flows.disk_read_bytes, 4_000);
    assert_eq!((used.since, used.at.micros_since(used.since)), (bench.the_pool("p").created, 600_000_000));
    // What a node that left had used is no sample of how the pool stands.
    assert_eq!(used.samples.back().unwrap().1.nodes, 1);
}

#[test]
fn of_nodes_of_others_and_of_what_no_node_can_use_nothing_is_taken() {
    let mut bench = bench();
    assert_eq!(bench.hear("p", vec![reading(2, busy(100)), reading(9, busy(100))]), 0);
    assert_eq!(bench.hear("q", vec![reading(0, busy(100))]), 0);
    assert_eq!(bench.hear("p", vec![reading(0, NodeUse::default())]), 0);
    assert_eq!(bench.the_pool("p").used, None);
    let lie = NodeUse { busy_ms: u64::MAX, memory_bytes: u64::MAX, memory_peak_bytes: u64::MAX, ..busy(0) };
    // Said twice, it counts once.
    bench.hear("p", vec![reading(0, lie), reading(0, lie), reading(1, busy(0))]);
    let sample = bench.the_use().samples[0].1;
    assert_eq!((sample.nodes, sample.cpu_hundredths), (2, 5_000));
    assert_eq!(sample.memory_bytes, (4 * GIB + GIB) / 2, "a node has 4 GiB");
    assert_eq!(bench.the_use().totals.memory_peak_bytes, 4 * GIB);
    bench.batch(BatchCommand::DeletePool { pool: id("p") }).unwrap();
    assert_eq!(bench.hear("p", vec![reading(0, busy(100))]), 0);
}

#[test]
fn it_is_heard_of_nodes_as_often_as_somebody_looks() {
    let mut bench = bench();
    assert!(bench.wants_to_hear(), "nothing was heard yet");
    let nodes = |bench: &Bench| {
        bench.engine.state().batch_nodes_to_hear(bench.now).flat_map(|(.., nodes)| nodes).collect::<Vec<_>>()
    };
    assert_eq!(nodes(&bench), [NodeId(0), NodeId(1)]);
    bench.hear("p", vec![reading(0, busy(1))]);
    bench.after_s(USED_EVERY_S - 3);
    assert!(!bench.wants_to_hear(), "statistics can wait");
    bench.after_s(3);
    assert!(bench.wants_to_hear());
    bench.hear("p", vec![reading(0, busy(1))]);
    bench.after_s(1);
    bench.enable("$TargetDedicatedNodes = 2");
    assert!(bench.wants_to_hear(), "it scales itself from now on");
    bench.hear("p", vec![reading(0, busy(1))]);
    bench.after_s(25);
    assert!(!bench.wants_to_hear());
    bench.after_s(5);
    assert!(bench.wants_to_hear());
    let resize = BatchCommand::RemoveNodes {
        pool: id("p"),
        nodes: vec!["n1".to_owned()],
        timeout_s: 900,
        how: Deallocation::Requeue,
    };
    bench.batch(BatchCommand::DisableScaling { pool: id("p") }).unwrap();
    bench.batch(resize).unwrap();
    assert_eq!(nodes(&bench), [NodeId(1)]);
}

#[test]
fn a_pool_makes_one_small_event_and_samples_are_kept_for_a_day() {
    let mut bench = bench();
    for round in 0..3_000_u64 {
        bench.now = bench.now.plus_seconds(30);
        assert_eq!(bench.hear("p", vec![reading(0, busy(round % 100)), reading(1, busy(100))]), 1);
    }
    let Some(Event::Batch { batch }) = bench.records.last().map(|record| &record.event) else { panic!() };
    let text = serde_json::to_string(batch).unwrap();
    assert!(text.len() < 600, "{} bytes: {text}", text.len());
    let used = bench.the_use();
    assert_eq!((used.samples.len(), used.samples[0].1.cpu_hundredths), (2_880, 6_000));
    let bytes = serde_json::to_string(used).unwrap().len();
    assert!(bytes < 600_000, "{bytes} bytes in a snapshot");
}

#[test]
fn a_replay_and_a_snapshot_say_the_same() {
    let mut bench = bench();
    bench.enable("$TargetDedicatedNodes = $CPUPercent > 50 ? 3 : 2");
    bench.hear("p", vec![reading(0, busy(90)), reading(1, busy(80))]);
    bench.after_s(299);
    bench.hear("p", vec![reading(0, busy(90)), reading(1, busy(80))]);
    bench.after_s(1);
    bench.settle();
    assert_eq!(bench.the_pool("p").target, 3);
    let mut replayed = State::new();
    for record in &bench.records {
        let text = serde_json::to_string(record).unwrap();
        let record: crate::event::Record = serde_json::from_str(&text).unwrap();
        replayed.evolve(&record.event, record.at);
    }
    assert_eq!(replayed, *bench.engine.state());
    let text = serde_json::to_string(&replayed).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), replayed);
    // What a version before this one kept of a pool has nothing of it.
    let pool = serde_json::to_value(bench.the_pool("p")).unwrap();
    let mut older = pool.clone();
    older.as_object_mut().unwrap().remove("used").unwrap();
    let older: crate::state::BatchPool = serde_json::from_value(older).unwrap();
    assert_eq!((older.used, older.scale), (None, bench.the_pool("p").scale.clone()));
}
