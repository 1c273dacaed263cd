//! Whatever users of the batch service ask for, and whatever becomes of nodes: the invariants hold, and a replay adds up to the same.

use std::sync::Arc;

use proptest::prelude::*;

use super::stage::{batch_job, caller, elastic, id, pool, pool_key, shape, task, the_chore};
use crate::batch::{
    AutoPool, BatchCommand, BatchInput, BatchJobSpec, BatchPoolSpec, ChoreSpec, Condition, Container,
    Deallocation, DependsOn, Disable, Flows, IdRange, ImageName, Manager, Mount, MultiInstance, NewTask,
    NodeReading, NodeUse, PoolContainers, PoolLifetime, PoolReadings, PoolSetup, Retries, Scaling,
    ScheduleSpec, ScheduleTimes, SetupError, Targets, TaskShape,
};
use crate::ids::{AttemptKey, NodeId};
use crate::input::{GoneHow, Input};
use crate::staging::Command;
use crate::state::{InstanceState, LivePhase, State};
use crate::testing::{ANN, Bench, config, job};

#[derive(Debug, Clone)]
enum Step {
    Ask(BatchCommand),
    /// One of the live attempts goes on by one step.
    GoOn(prop::sample::Index, u32),
    Submit(u32),
    Pass(u64),
    Lose(u8),
    Hello(u8),
    Shrink(bool),
    /// The program for a node comes to its end.
    Power(u8, bool),
    /// A node has been set up as it was told, or could not be.
    SetUp(u8, bool),
    /// It is heard of all nodes that they use this, whether they are of the pool or not.
    Use(String, u64),
}

fn name(of: &'static str) -> impl Strategy<Value = String> + Clone {
    (0..3u8).prop_map(move |i| format!("{of}{i}"))
}

fn targets() -> impl Strategy<Value = Targets> + Clone {
    let count = || prop::option::of(0..4u32);
    (count(), count()).prop_map(|(dedicated, low_priority)| Targets { dedicated, low_priority })
}

fn deallocation() -> impl Strategy<Value = Deallocation> {
    prop::sample::select(vec![
        Deallocation::Requeue,
        Deallocation::Terminate,
        Deallocation::TaskCompletion,
        Deallocation::RetainedData,
    ])
}

fn start() -> impl Strategy<Value = Option<Arc<ChoreSpec>>> + Clone {
    let waits = prop::option::weighted(0.4, (any::<bool>(), 0..2u32));
    waits.prop_map(|chore| {
        let (waits, tries) = chore?;
        Some(Arc::new(ChoreSpec { waits, retries: Retries::AtMost(tries), ..the_chore("chore") }))
    })
}

fn setup() -> impl Strategy<Value = PoolSetup> + Clone {
    (prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(mounts, containers)| PoolSetup {
        packages: Vec::new(),
        mounts: mounts.then(|| Mount::parse("nas:/export", "data", "").unwrap()).into_iter().collect(),
        containers: containers.then(PoolContainers::default),
    })
}

fn on_pools() -> impl Strategy<Value = BatchCommand> {
    prop_oneof![
        (name("p"), 1..3u32, targets(), start(), setup()).prop_map(|(name, slots, target, start, setup)| {
            BatchCommand::CreatePool {
                spec: Box::new(BatchPoolSpec { start, setup, ..pool(&name, slots) }),
                target,
                timeout_s: 300,
                scaling: None,
            }
        }),
        (name("p"), prop::option::of(0..4u32)).prop_map(|(name, nodes)| match nodes {
            Some(nodes) => BatchCommand::EnableScaling {
                pool: id(&name),
                formula: Some(format!("$TargetDedicatedNodes = {nodes} - $RunningTasks; $TargetLowPriorityNodes = $PreemptedNodeCount + 1").into()),
                interval_s: Some(300),
            },
            None => BatchCommand::DisableScaling { pool: id(&name) },
        }),
        (name("p"), targets(), deallocation()).prop_map(|(name, target, how)| BatchCommand::ResizePool {
            pool: id(&name),
            target,
            timeout_s: 300,
            how
        }),
        (name("p"), 1..4u8, deallocation()).prop_map(|(name, node, how)| BatchCommand::RemoveNodes {
            pool: id(&name),
            nodes: vec![format!("n{node}")],
            timeout_s: 300,
            how
        }),
        (name("p"), 1..4u8, prop::option::of(deallocation())).prop_map(|(name, node, disable)| {
            BatchCommand::ScheduleNode { pool: id(&name), node: format!("n{node}"), disable }
        }),
        (name("p"), 1..3u32, start(), setup()).prop_map(|(name, slots, start, setup)| {
            BatchCommand::UpdatePool {
                pool: id(&name),
                spec: Box::new(BatchPoolSpec { start, setup, ..pool(&name, slots) }),
            }
        }),
        name("p").prop_map(|name| BatchCommand::StopResize { pool: id(&name) }),
        name("p").prop_map(|name| BatchCommand::DeletePool { pool: id(&name) }),
    ]
}

fn on_jobs() -> impl Strategy<Value = BatchCommand> {
    let how = prop::sample::select(vec![Disable::Requeue, Disable::Terminate, Disable::Wait]);
    let spec =
        (name("j"), name("p"), any::<(bool, bool, bool)>(), prop::option::of(1..3u32), 0..3u32, start())
            .prop_map(|(name, named, (ends, acts, brings), running_max, retries, preparation)| {
                BatchJobSpec {
                    auto_pool: (brings && retries == 0).then(|| {
                        let (pool, prefix) = (pool("", 1), "own".to_owned());
                        let scaling = acts.then(|| Scaling {
                            formula: "$TargetDedicatedNodes = 1".into(),
                            interval_s: 300,
                        });
                        let (lifetime, target) = (PoolLifetime::Job, u32::from(!acts));
                        Box::new(AutoPool {
                            prefix,
                            pool,
                            target,
                            target_low: target,
                            timeout_s: 300,
                            scaling,
                            lifetime,
                            keep_alive: ends,
                        })
                    }),
                    manager: (ends && acts).then(|| {
                        let shape = TaskShape { exclusive: true, dedicated: true, ..shape() };
                        Box::new(Manager { task: task("boss"), shape: Arc::new(shape), ends_job: true })
                    }),
                    release: preparation.as_ref().filter(|_| acts).map(|_| Arc::new(the_chore("after"))),
                    preparation,
                    priority: i32::from(acts),
                    yields: ends,
                    terminate_when_complete: ends,
                    acts_on_failure: acts,
                    running_max,
                    wall_clock_max_s: Some(5_000),
                    retries: Retries::AtMost(retries),
                    ..batch_job(&name, &named)
                }
            });
    prop_oneof![
        3 => spec.clone().prop_map(|spec| BatchCommand::CreateJob { spec: Box::new(spec) }),
        1 => spec.prop_map(|spec| BatchCommand::UpdateJob { job: id(&spec.id), spec: Box::new(spec) }),
        1 => (name("j"), how).prop_map(|(name, how)| BatchCommand::DisableJob { job: id(&name), how }),
        1 => name("j").prop_map(|name| BatchCommand::EnableJob { job: id(&name) }),
        1 => name("j").prop_map(|name| BatchCommand::TerminateJob { job: id(&name), reason: None }),
        1 => name("j").prop_map(|name| BatchCommand::DeleteJob { job: id(&name) }),
    ]
}

fn on_schedules() -> impl Strategy<Value = BatchCommand> {
    let spec =
        (name("s"), prop::option::of(60..200u64), any::<bool>()).prop_map(|(name, interval_s, ends)| {
            let manager = Manager { task: task("boss"), shape: Arc::new(shape()), ends_job: ends };
            // Some bring a pool for all their jobs.
            let auto_pool = (!ends).then(|| {
                let (pool, prefix, lifetime) = (pool("", 1), "own".to_owned(), PoolLifetime::Schedule);
                let (scaling, keep_alive) = (None, interval_s.is_none());
                Box::new(AutoPool {
                    prefix,
                    pool,
                    target: 1,
                    target_low: 0,
                    timeout_s: 300,
                    scaling,
                    lifetime,
                    keep_alive,
                })
            });
            let manager = Some(Box::new(manager));
            let job = BatchJobSpec { manager, auto_pool, ..batch_job("", "p0") };
            let times = ScheduleTimes { interval_s, window_s: interval_s, ..ScheduleTimes::default() };
            Box::new(ScheduleSpec { id: name, times, job: Arc::new(job), said: "{}".into() })
        });
    let on = || name("s").prop_map(|name| id(&name));
    prop_oneof![
        3 => spec.clone().prop_map(|spec| BatchCommand::CreateSchedule { spec }),
        1 => spec.prop_map(|spec| BatchCommand::UpdateSchedule { schedule: id(&spec.id), spec }),
        1 => on().prop_map(|schedule| BatchCommand::DisableSchedule { schedule }),
        1 => on().prop_map(|schedule| BatchCommand::EnableSchedule { schedule }),
        1 => on().prop_map(|schedule| BatchCommand::TerminateSchedule { schedule }),
        1 => on().prop_map(|schedule| BatchCommand::DeleteSchedule { schedule }),
        1 => on().prop_map(|schedule| BatchCommand::DeleteJob { job: id(&format!("{schedule}:job-1")) }),
    ]
}

fn new_task() -> impl Strategy<Value = NewTask> {
    let depends = prop::option::weighted(0.4, (0..8u8, 0..4u32, 0..4u32)).prop_map(|depends| {
        let (on, start, more) = depends?;
        let (ids, ranges) = (vec![on.to_string()], vec![IdRange { start, end: start + more }]);
        Some(Box::new(match on % 3 {
            0 => DependsOn { ids, ranges: Vec::new() },
            1 => DependsOn { ids: Vec::new(), ranges },
            _ => DependsOn { ids, ranges },
        }))
    });
    (0..8u8, depends).prop_map(|(number, depends)| NewTask { depends, ..task(&number.to_string()) })
}

fn on_tasks() -> impl Strategy<Value = BatchCommand> {
    let gang = MultiInstance { instances: 2, coordination: Command::parse("true").unwrap() };
    let shapes = (1..3u32, any::<bool>()).prop_map(move |(slots, is_gang)| {
        let multi_instance = is_gang.then(|| gang.clone());
        let near = (slots == 2).then(|| "n2".into());
        // Its pool may have containers, or none yet, or none.
        let container =
            (slots == 2 && is_gang).then(|| Container::of(ImageName::parse("debian").unwrap()).into());
        TaskShape { slots: if is_gang { 1 } else { slots }, multi_instance, near, container, ..shape() }
    });
    let both = || (name("j"), (0..8u8).prop_map(|number| number.to_string()));
    prop_oneof![
        4 => (name("j"), shapes.clone(), prop::collection::vec(new_task(), 1..4)).prop_map(|(job, shape, tasks)| {
            BatchCommand::AddTasks { job: id(&job), shapes: vec![Arc::new(shape)], tasks }
        }),
        1 => (both(), shapes).prop_map(|((job, task), shape)| BatchCommand::UpdateTask {
            job: id(&job), task: id(&task), shape: Arc::new(shape)
        }),
        1 => both().prop_map(|(job, task)| BatchCommand::TerminateTask { job: id(&job), task: id(&task) }),
        1 => both().prop_map(|(job, task)| BatchCommand::ReactivateTask { job: id(&job), task: id(&task) }),
        1 => both().prop_map(|(job, task)| BatchCommand::DeleteTask { job: id(&job), task: id(&task) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => on_pools().prop_map(Step::Ask),
        3 => on_jobs().prop_map(Step::Ask),
        1 => on_schedules().prop_map(Step::Ask),
        6 => on_tasks().prop_map(Step::Ask),
        8 => (any::<prop::sample::Index>(), prop::sample::select(vec![0, 0, 1])).prop_map(|(which, code)| Step::GoOn(which, code)),
        1 => (1..4u32).prop_map(Step::Submit),
        1 => prop::sample::select(vec![1, 400, 4_000]).prop_map(Step::Pass),
        1 => (1..4u8).prop_map(Step::Lose),
        2 => (1..4u8).prop_map(Step::Hello),
        1 => any::<bool>().prop_map(Step::Shrink),
        3 => (2..4u8, any::<bool>()).prop_map(|(node, fails)| Step::Power(node, fails)),
        3 => (1..4u8, prop::bool::weighted(0.2)).prop_map(|(node, fails)| Step::SetUp(node, fails)),
        1 => (name("p"), any::<u64>()).prop_map(|(pool, much)| Step::Use(pool, much)),
    ]
}

fn go_on(bench: &mut Bench, key: AttemptKey, code: u32) {
    let state = bench.engine.state();
    let live = state.live_attempt(key.task).expect("it is live");
    let there: Vec<u32> = (0..)
        .zip(&live.instances)
        .filter(|(_, instance)| matches!(instance.state, InstanceState::Preparing | InstanceState::Ready(_)))
        .map(|(number, _)| number)
        .collect();
    match live.phase {
        LivePhase::Preparing => bench.start(key),
        LivePhase::Running { .. } => bench.exit(key, code),
        LivePhase::Ending { .. } => {
            there.into_iter().for_each(|instance| bench.gone(key, instance, GoneHow::Stopped))
        }
    }
}

fn take(bench: &mut Bench, step: Step) {
    match step {
        Step::Ask(command) => {
            let input = BatchInput { caller: caller(), command, condition: Condition::default() };
            bench.input(Input::Batch(Box::new(input)));
        }
        Step::GoOn(which, code) => {
            let live: Vec<AttemptKey> = bench.engine.state().live().map(|(key, ..)| key).collect();
            if !live.is_empty() {
                go_on(bench, live[which.index(live.len())], code);
            }
        }
        Step::Submit(nodes) => drop(bench.submit(ANN, job(ANN).gang(nodes, 1))),
        Step::Pass(seconds) => bench.after_s(seconds),
        Step::Lose(node) => {
            let reason = "it was silent".to_owned();
            bench.input(Input::NodeSilent { node: format!("n{node}"), reason });
        }
        Step::Hello(node) => bench.hello(&format!("n{node}"), 4, Vec::new()),
        Step::Shrink(small) => {
            let cores: &[u32] = if small { &[4, 4] } else { &[4, 4, 4] };
            bench.input(Input::Configure(Arc::new(elastic(config(cores), 1))));
        }
        Step::Power(node, fails) => bench.power(&format!("n{node}"), fails.then_some("no room")),
        Step::SetUp(node, fails) => {
            let (name, id) = (format!("n{node}"), NodeId(u32::from(node) - 1));
            let number = bench.engine.state().batch_setup_of(id).map_or(0, |setup| setup.number);
            let error =
                || SetupError { code: "MountConfigurationError".to_owned(), message: "no".to_owned() };
            let errors = fails.then(error).into_iter().collect();
            bench.input(Input::NodeSetUp { node: name, number, errors });
        }
        Step::Use(pool, much) => {
            let flows = Flows { disk_read_bytes: much, network_out_bytes: much, ..Flows::default() };
            let used =
                NodeUse { period_ms: 30_000, busy_ms: much, memory_bytes: much, flows, ..NodeUse::default() };
            let reading = |node: u32| NodeReading { node: NodeId(node), recent: used, since: used };
            let nodes = (0..4).map(reading).collect();
            let readings = PoolReadings { pool: pool_key(&pool), nodes, left: vec![reading(0)] };
            bench.input(Input::PoolUsed(Box::new(readings)));
        }
    }
    bench.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_the_invariants_hold_and_a_replay_adds_up_to_the_same(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut bench = Bench::new(elastic(config(&[4, 4, 4]), 1));
        steps.into_iter().for_each(|step| take(&mut bench, step));
        let mut replayed = State::new();
        bench.records.iter().for_each(|record| replayed.evolve(&record.event, record.at));
        prop_assert_eq!(&replayed, bench.engine.state());
        let text = serde_json::to_string(&replayed).unwrap();
        prop_assert_eq!(&serde_json::from_str::<State>(&text).unwrap(), bench.engine.state());
    }
}
