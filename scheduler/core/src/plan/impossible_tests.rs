//! Jobs under which the configuration changed.

use std::sync::Arc;

use super::Reason;
use crate::cluster::{Backfill, ClusterConfig, PoolConfig};
use crate::input::Input;
use crate::testing::{ANN, BOB, Bench, config, job};

/// A pool of nodes with these cores, and another one over all of them.
fn two_pools(cores: &[u32]) -> ClusterConfig {
    let mut config = config(cores);
    let other = PoolConfig { name: "other".to_owned(), default: false, ..config.pools[0].clone() };
    config.pools.push(other);
    config
}

fn configure(bench: &mut Bench, config: ClusterConfig) {
    bench.input(Input::Configure(Arc::new(config)));
}

#[test]
fn a_change_of_the_configuration_says_what_can_never_run_any_more() {
    let mut bench = Bench::new(two_pools(&[4, 4]));
    let running = bench.submit(ANN, job(ANN).ranks(8)).unwrap();
    bench.start(bench.key(running));
    let mut elsewhere = job(BOB);
    elsewhere.pool = Some("other".to_owned());
    let elsewhere = bench.submit(BOB, elsewhere).unwrap();
    let wide = bench.submit(ANN, job(ANN).ranks(8)).unwrap();
    let also_wide = bench.submit(BOB, job(BOB).ranks(8)).unwrap();
    let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let small = bench.submit(BOB, job(BOB).ranks(2)).unwrap();
    assert_eq!(bench.engine.impossible(), []);
    let mut less = config(&[4]);
    less.pools[0].backfill = Backfill::Easy;
    configure(&mut bench, less);
    let found: Vec<_> = bench.engine.impossible().into_iter().map(|i| (i.reason.code(), i.jobs)).collect();
    let expected =
        [("pool_gone", vec![elsewhere]), ("never_fits", vec![wide, also_wide]), ("never_fits", vec![gang])];
    assert_eq!(found, expected);
    let plan = super::plan(bench.engine.state(), bench.now);
    let Reason::NeverFits { why } = &plan.waiting[&wide].reason else { panic!() };
    assert!(why.contains("all the pool has, 1 node, can hold 4"), "{why}");
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(small), "they hold up nobody");
    bench.exit(bench.key(small), 0);
    // Put right, all go on by themselves, in their order.
    configure(&mut bench, two_pools(&[4, 4]));
    assert_eq!(bench.engine.impossible(), []);
    assert!(bench.is_live(elsewhere));
    for _ in 0..4 {
        let live: Vec<_> = bench.engine.state().live().map(|(key, ..)| key).collect();
        live.into_iter().for_each(|key| bench.exit(key, 0));
    }
    assert!([elsewhere, wide, also_wide, gang].into_iter().all(|id| bench.finished(id).is_some()));
}

#[test]
fn what_waits_behind_an_impossible_job_has_its_reservation() {
    for backfill in [Backfill::Easy, Backfill::EasyShortest, Backfill::Conservative] {
        let configured = |cores: &[u32]| {
            let mut config = config(cores);
            config.pools[0].backfill = backfill;
            config
        };
        let mut bench = Bench::new(configured(&[4, 4]));
        let running = bench.submit(ANN, job(ANN).ranks(3).limit_s(100)).unwrap();
        bench.start(bench.key(running));
        let never = bench.submit(ANN, job(ANN).ranks(8)).unwrap();
        let never_either = bench.submit(ANN, job(ANN).ranks(7)).unwrap();
        configure(&mut bench, configured(&[4]));
        let head = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
        let long = bench.submit(BOB, job(BOB).limit_s(200)).unwrap();
        assert!(!bench.is_live(long), "{backfill:?}: it would delay the first that can run");
        let short = bench.submit(BOB, job(BOB).limit_s(90)).unwrap();
        assert!(bench.is_live(short), "{backfill:?}");
        assert!(![never, never_either, head].into_iter().any(|id| bench.is_live(id)));
    }
}
