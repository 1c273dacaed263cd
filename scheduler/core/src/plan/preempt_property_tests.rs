//! What always holds of preemption, in random worlds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::plan;
use crate::cluster::{Backfill, ClusterConfig, PoolConfig, Preempt};
use crate::event::Verdict;
use crate::ids::{AttemptKey, JobId, TaskId};
use crate::input::{GoneHow, Input};
use crate::spec::JobSpec;
use crate::state::{LivePhase, State};
use crate::testing::{ANN, Bench, config, job, preempting};

/// What one step of a random world does.
#[derive(Debug, Clone)]
enum Step {
    Submit { pool: u32, qos: u32, ranks: u32, nodes: Option<u32>, limit_s: u64, requeue: bool },
    Ready(usize),
    Exit(usize),
    Gone(usize),
    Cancel(usize),
    Pass(u64),
    Silence(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3u32, 0..4u32, 1..5u32, prop::option::of(1..4u32), 1..400u64, any::<bool>()).prop_map(
            |(pool, qos, ranks, nodes, limit_s, requeue)| Step::Submit { pool, qos, ranks, nodes, limit_s, requeue }
        ),
        3 => any::<usize>().prop_map(Step::Ready),
        2 => any::<usize>().prop_map(Step::Exit),
        6 => any::<usize>().prop_map(Step::Gone),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0..40u64).prop_map(Step::Pass),
        1 => (1..4u32).prop_map(Step::Silence),
    ]
}

/// Three pools over three nodes, and qualities of service in a chain.
fn random_config(modes: [u32; 6], backfill: Backfill, exempt_s: u64, cores: &[u32]) -> ClusterConfig {
    let mode = |word: u32| [Preempt::Off, Preempt::Requeue, Preempt::Cancel][word as usize];
    let mut config = config(cores);
    let pool = |tier: u32, name: &str| PoolConfig {
        name: name.to_owned(),
        tier,
        preempt: mode(modes[tier as usize]),
        backfill,
        ..config.pools[0].clone()
    };
    config.pools = vec![pool(0, "p0"), pool(1, "p1"), pool(2, "p2")];
    config.qos = vec![
        preempting("q0", &[], mode(modes[3])),
        preempting("q1", &["q0"], mode(modes[4])),
        preempting("q2", &["q0", "q1"], mode(modes[5])),
    ];
    config.policy.preempt_exempt_s = exempt_s;
    // No node is held back, so that what was cleared stays there.
    config.policy.prepare_timeout_s = 1_000_000;
    config
}

fn pick<T: Copy>(all: &[T], which: usize) -> Option<T> {
    (!all.is_empty()).then(|| all[which % all.len()])
}

fn take(bench: &mut Bench, step: &Step) {
    let live = |bench: &Bench, want: fn(&LivePhase) -> bool| -> Vec<AttemptKey> {
        let live = bench.engine.state().live();
        live.filter(|(_, _, live)| want(&live.phase)).map(|(key, ..)| key).collect()
    };
    match *step {
        Step::Submit { pool, qos, ranks, nodes, limit_s, requeue } => {
            let mut spec = job(ANN).ranks(ranks).limit_s(limit_s).pool(&format!("p{pool}"));
            if let Some(nodes) = nodes {
                (spec.request.nodes, spec.request.ranks) = (Some(nodes), nodes * ranks.min(2));
            }
            spec.qos = (qos < 3).then(|| format!("q{qos}"));
            spec.requeue = requeue;
            let _ = bench.submit(ANN, spec);
        }
        Step::Ready(which) => {
            let preparing = live(bench, |phase| matches!(phase, LivePhase::Preparing));
            if let Some(key) = pick(&preparing, which) {
                bench.start(key);
            }
        }
        Step::Exit(which) => {
            let running = live(bench, |phase| matches!(phase, LivePhase::Running { .. }));
            if let Some(key) = pick(&running, which) {
                bench.exit(key, 0);
            }
        }
        Step::Gone(which) => {
            let ending = live(bench, |phase| matches!(phase, LivePhase::Ending { .. }));
            if let Some(key) = pick(&ending, which) {
                let live = bench.engine.state().live_attempt(key.task).unwrap();
                let held = live.instances.iter().position(|instance| instance.holds_share());
                bench.gone(key, held.unwrap() as u32, GoneHow::Stopped);
            }
        }
        Step::Cancel(which) => {
            let jobs: Vec<JobId> = bench.engine.state().jobs.keys().copied().collect();
            if let Some(id) = pick(&jobs, which) {
                let _ = bench.cancel(ANN, id);
            }
        }
        Step::Pass(seconds) => bench.after_s(seconds),
        Step::Silence(node) => {
            let name = format!("n{node}");
            let cores = bench.engine.state().nodes[node as usize - 1].cores;
            bench.input(Input::NodeSilent { node: name.clone(), reason: "cut".to_owned() });
            bench.hello(&name, cores, Vec::new());
        }
    }
}

/// Whether the rules give `by` a right over `victim`, by the words of the configuration.
fn has_right(state: &State, by: &JobSpec, victim: &JobSpec) -> bool {
    let pool = |spec: &JobSpec| {
        let name = spec.pool.as_ref().unwrap();
        state.config.pools.iter().find(|pool| pool.name == *name).unwrap()
    };
    let qos = |spec: &JobSpec| state.config.qos.iter().find(|qos| Some(&qos.name) == spec.qos.as_ref());
    let by_tier = pool(by).tier > pool(victim).tier && pool(victim).preempt != Preempt::Off;
    let by_qos = match (qos(by), qos(victim)) {
        (Some(by), Some(victim)) => by.preempts.contains(&victim.name) && victim.preempt != Preempt::Off,
        _ => false,
    };
    by_tier || by_qos && pool(by).tier >= pool(victim).tier
}

/// Attempts that are being ended, by the task that takes their place.
fn under_way(state: &State) -> BTreeMap<AttemptKey, TaskId> {
    let by = |(key, _, live): (AttemptKey, _, &crate::state::Live)| match &live.phase {
        LivePhase::Ending { taken: Some(taken), .. } => Some((key, taken.by)),
        _ => None,
    };
    state.live().filter_map(by).collect()
}

/// Checks every attempt whose end was decided for another since `before`.
/// `is_one_input` says that nothing else has become free since it was decided.
fn check_victims(before: &State, bench: &Bench, exempt_s: u64, is_one_input: bool) {
    let state = bench.engine.state();
    let earlier = under_way(before);
    let now_leaving = under_way(state);
    let new: Vec<(AttemptKey, TaskId)> = now_leaving
        .iter()
        .filter(|(key, _)| !earlier.contains_key(key))
        .map(|(key, by)| (*key, *by))
        .collect();
    for (key, by) in &new {
        let (victim, taker) = (&state.jobs[&key.task.job], &state.jobs[&by.job]);
        assert!(has_right(state, &taker.spec, &victim.spec), "{key} for {by}");
        // A step is several inputs: it may have found room elsewhere after that.
        assert!(taker.waiting.contains(by.index.0) || taker.live.contains_key(&by.index));
        assert!(taker.held.is_none());
        let still = |(key, task): (&AttemptKey, &TaskId)| task == by && now_leaving.contains_key(key);
        assert!(!earlier.iter().any(still), "{by} has a second wave");
        let live = before.live_attempt(key.task);
        if let Some(LivePhase::Running { go_at, .. }) = live.map(|live| &live.phase) {
            assert!(go_at.plus_seconds(exempt_s) <= bench.now, "{key} was exempt");
        } else {
            assert_eq!(exempt_s, 0, "{key} had not begun");
        }
        if let LivePhase::Ending { verdict: Verdict::Preempted { requeue, .. }, .. } =
            &state.live_attempt(key.task).unwrap().phase
        {
            assert!(!requeue || victim.spec.requeue);
        }
    }
    // With nobody else in the queue, nothing is kept for others: without any one of them the task would not fit.
    let takers: BTreeSet<TaskId> = new.iter().map(|(_, by)| *by).collect();
    if let (1, 1, true) = (state.queue_len(), takers.len(), is_one_input) {
        for (spared, by) in &new {
            let mut without = state.clone();
            for (key, ..) in state.live().filter(|(key, ..)| key != spared) {
                let live = state.live_attempt(key.task).unwrap();
                if !matches!(live.phase, LivePhase::Ending { .. }) {
                    continue;
                }
                for instance in 0..live.instances.len() as u32 {
                    let gone = crate::event::Event::InstanceGone { key, instance, usage: Default::default() };
                    without.evolve(&gone, bench.now);
                }
            }
            let placed = super::Planner::new(&without).pass(&without, bench.now).placements;
            assert!(
                placed.iter().all(|placement| placement.key.task != *by),
                "{spared} leaves {by} for nothing"
            );
        }
    }
}

/// Who was live before the first of its victims was told to leave, by the task that takes their place.
type Neighbours = BTreeMap<TaskId, BTreeSet<AttemptKey>>;

fn live_keys(state: &State) -> BTreeSet<AttemptKey> {
    state.live().map(|(key, ..)| key).collect()
}

/// Tasks whose last victim is gone without a fault of a node start in that instant: unless others leave as well, or
/// something was started since. A part of a place that is free is lent to what ends before the victims must have left,
/// and these may leave earlier; and who waits for that may then start in what the victims of another have left.
fn check_starts(before: &State, neighbours: &Neighbours, bench: &Bench) {
    let state = bench.engine.state();
    let left = under_way(state);
    // A part of a place may be one that others are leaving anyway.
    let others_leave = state.live().any(|(_, _, live)| matches!(live.phase, LivePhase::Ending { .. }));
    for by in under_way(before).into_values().filter(|by| !left.values().any(|task| task == by)) {
        let job = &state.jobs[&by.job];
        let is_lent = neighbours.get(&by).is_some_and(|then| !live_keys(state).is_subset(then));
        assert!(
            !job.waiting.contains(by.index.0) || others_leave || is_lent,
            "{by} did not start in the place that was cleared for it"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_preempted_without_a_right_or_a_need(
        steps in prop::collection::vec(step(), 1..90),
        modes in prop::array::uniform6(0..3u32),
        backfill in prop::sample::select(vec![Backfill::Easy, Backfill::EasyShortest, Backfill::None, Backfill::Conservative]),
        exempt_s in prop::sample::select(vec![0, 20]),
        cores in prop::collection::vec(1..5u32, 3),
        faults in any::<bool>(),
    ) {
        let mut bench = Bench::new(random_config(modes, backfill, exempt_s, &cores));
        let mut neighbours = Neighbours::new();
        for step in steps.iter().filter(|step| faults || !matches!(step, Step::Silence(_))) {
            let before = bench.engine.state().clone();
            take(&mut bench, step);
            // The end of a gang is an input for each of its nodes.
            let is_one_input = !faults && !matches!(step, Step::Exit(_));
            check_victims(&before, &bench, exempt_s, is_one_input);
            if !faults && matches!(step, Step::Gone(_)) {
                check_starts(&before, &neighbours, &bench);
            }
            let leaving = under_way(bench.engine.state());
            neighbours.retain(|by, _| leaving.values().any(|task| task == by));
            for by in leaving.into_values() {
                neighbours.entry(by).or_insert_with(|| live_keys(&before));
            }
        }
        // Everything comes to its end: nobody takes each other's place for ever.
        for round in 0..1_000 {
            let state = bench.engine.state();
            if state.waiting_count() == 0 && state.live_count() == 0 {
                break;
            }
            prop_assert!(round < 999, "{:?}", plan(state, bench.now).waiting);
            take(&mut bench, &Step::Ready(round));
            take(&mut bench, &Step::Gone(round));
            take(&mut bench, &if round % 3 == 0 { Step::Exit(round) } else { Step::Pass(1) });
        }
    }
}
