//! Pools that scale themselves, as their users see them.

use std::sync::Arc;

use super::stage::{batch_job, id, pool, shape, task};
use crate::batch::{BatchCommand, BatchRefusal, Deallocation, SCALING_INTERVAL_S};
use crate::state::PoolAllocation;
use crate::testing::{Bench, config};

/// A node for each two tasks that wait or run, at most three, and none without any.
const BY_BACKLOG: &str =
    "$TargetDedicatedNodes = min(3, $PendingTasks / 2); $NodeDeallocationOption = taskcompletion";

fn enable(bench: &mut Bench, formula: Option<&str>, interval_s: Option<u64>) -> Result<(), BatchRefusal> {
    let formula = formula.map(Into::into);
    bench.batch(BatchCommand::EnableScaling { pool: id("p"), formula, interval_s }).map(drop)
}

#[test]
fn a_pool_grows_with_its_backlog_and_shrinks_when_there_is_none() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("p", 1), 0);
    enable(&mut bench, Some(BY_BACKLOG), Some(300)).unwrap();
    let scale = |bench: &Bench| bench.the_pool("p").scale.clone().unwrap();
    let first = scale(&bench).last.unwrap();
    assert_eq!((first.error, bench.the_pool("p").target), (None, 0));
    assert!(first.results.contains("$TargetDedicatedNodes="), "{}", first.results);

    bench.create_job(batch_job("j", "p"));
    bench.add("j", shape(), (0..4).map(|i| task(&format!("t{i}"))).collect());
    assert_eq!(bench.the_pool("p").lent(), 0, "nobody looks before it is time");
    bench.after_s(300);
    bench.settle();
    assert_eq!((bench.the_pool("p").target, bench.the_pool("p").lent()), (2, 2));
    assert_eq!(bench.the_pool("p").allocation, PoolAllocation::Steady);

    for name in ["t0", "t1", "t2", "t3"] {
        bench.end_task("j", name, 0);
    }
    bench.after_s(300);
    bench.settle();
    assert_eq!((bench.the_pool("p").target, bench.the_pool("p").lent()), (0, 0));
}

#[test]
fn samples_are_taken_every_half_minute_and_formulas_look_back_at_them() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("p", 1), 0);
    let formula =
        "$TargetDedicatedNodes = len($ActiveTasks.GetSample(5 * TimeInterval_Minute, 100)) > 9 ? 2 : 1";
    enable(&mut bench, Some(formula), None).unwrap();
    let pool_now = bench.the_pool("p").scale.clone().unwrap();
    assert_eq!((pool_now.samples.len(), pool_now.spec.interval_s), (1, SCALING_INTERVAL_S));
    assert_eq!(pool_now.last.unwrap().error.unwrap().code, "InsufficientSampleData");
    assert_eq!(bench.the_pool("p").target, 0, "it stays as it is");
    for _ in 0..30 {
        bench.after_s(30);
        bench.settle();
    }
    let pool_now = bench.the_pool("p");
    assert_eq!(pool_now.scale.as_ref().unwrap().samples.len(), 31);
    assert_eq!(
        (pool_now.target, pool_now.scale.as_ref().unwrap().last.as_ref().unwrap().error.as_ref()),
        (2, None)
    );
}

#[test]
fn what_is_wrong_with_a_formula_is_told_and_nothing_changes() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("p", 1), 1);
    assert!(matches!(enable(&mut bench, None, None), Err(BatchRefusal::Invalid { .. })));
    let wrong = enable(&mut bench, Some("$TargetDedicatedNodes = "), None).unwrap_err();
    assert!(
        matches!(&wrong, BatchRefusal::Formula { too_long: false, why } if why.contains("line 1")),
        "{wrong}"
    );
    for interval_s in [299, 168 * 3600 + 1] {
        assert!(matches!(
            enable(&mut bench, Some("$TargetDedicatedNodes = 1"), Some(interval_s)),
            Err(BatchRefusal::Invalid { property: "autoScaleEvaluationInterval", .. })
        ));
    }
    assert_eq!(bench.the_pool("p").scale, None);
    let disable = BatchCommand::DisableScaling { pool: id("p") };
    assert!(matches!(bench.batch(disable.clone()), Err(BatchRefusal::InvalidState { .. })));

    enable(&mut bench, Some("$TargetDedicatedNodes = 99"), None).unwrap();
    let most = bench.the_pool("p").target;
    assert!(most < 99, "no more than there are");
    let how = Deallocation::Requeue;
    let resize = BatchCommand::ResizePool { pool: id("p"), target: 0.into(), timeout_s: 900, how };
    assert!(matches!(
        bench.batch(resize),
        Err(BatchRefusal::InvalidState { .. } | BatchRefusal::PoolBeingResized)
    ));
    // What is not said stays.
    enable(&mut bench, None, Some(600)).unwrap();
    let spec = Arc::clone(&bench.the_pool("p").scale.as_ref().unwrap().spec);
    assert_eq!((&*spec.formula, spec.interval_s), ("$TargetDedicatedNodes = 99", 600));
    bench.batch(disable).unwrap();
    assert_eq!(bench.the_pool("p").scale, None);
}
