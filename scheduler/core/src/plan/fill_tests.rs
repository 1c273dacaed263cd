//! Jobs that say themselves whether they are packed or spread.

use super::expected_start;
use crate::cluster::{Backfill, Fill};
use crate::testing::{ANN, BOB, Bench, config, job};

/// Ranks on each node of a job's allocation, as `n1:2 n2:1`.
fn shares(bench: &Bench, id: crate::ids::JobId) -> String {
    let state = bench.engine.state();
    let live = state.live_attempt(bench.key(id).task).unwrap();
    let share = |share: &crate::event::Share| format!("{}:{}", state.node(share.node).name, share.ranks);
    live.allocation.shares.iter().map(share).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_job_overrides_its_pool() {
    let mut bench = Bench::new(config(&[4, 4]));
    bench.submit(ANN, job(ANN)).unwrap();
    let spread = bench.submit(ANN, job(ANN).fill(Fill::Spread)).unwrap();
    let as_the_pool = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!((shares(&bench, spread), shares(&bench, as_the_pool)), ("n2:1".into(), "n1:1".into()));
    let mut config = config(&[4, 4]);
    config.pools[0].fill = Fill::Spread;
    let mut bench = Bench::new(config);
    bench.submit(ANN, job(ANN)).unwrap();
    let packed = bench.submit(ANN, job(ANN).fill(Fill::Pack)).unwrap();
    assert_eq!(shares(&bench, packed), "n1:1");
    let several = bench.submit(ANN, job(ANN).ranks(3)).unwrap();
    assert_eq!(shares(&bench, several), "n2:3", "a pool that spreads leaves together what fits together");
}

#[test]
fn a_job_is_spread_over_as_many_nodes_as_possible() {
    let mut bench = Bench::new(config(&[8, 8, 8]));
    let even = bench.submit(ANN, job(ANN).ranks(8).fill(Fill::Spread)).unwrap();
    assert_eq!(shares(&bench, even), "n1:3 n2:3 n3:2");
    let few = bench.submit(ANN, job(ANN).ranks(2).fill(Fill::Spread)).unwrap();
    assert_eq!(shares(&bench, few), "n1:1 n3:1", "the emptiest, then the first");
}

#[test]
fn a_job_is_spread_as_evenly_as_nodes_allow() {
    let mut bench = Bench::new(config(&[1, 8, 2]));
    let uneven = bench.submit(ANN, job(ANN).ranks(9).fill(Fill::Spread)).unwrap();
    assert_eq!(shares(&bench, uneven), "n2:6 n3:2 n1:1");
    let mut capped = job(ANN).ranks(3).fill(Fill::Spread);
    capped.request.ranks_per_node = Some(2);
    let waits = bench.submit(ANN, capped).unwrap();
    assert!(!bench.is_live(waits), "two cores are left on one node");
    bench.exit(bench.key(uneven), 0);
    assert_eq!(shares(&bench, waits), "n2:2 n3:1", "as soon as there is room, n1 is not free yet");
}

#[test]
fn a_number_of_nodes_stays_what_it_is() {
    let mut bench = Bench::new(config(&[4, 4, 4, 4]));
    bench.submit(ANN, job(ANN).nodelist(&["n1"])).unwrap();
    let packed = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let gang = bench.submit(ANN, job(ANN).gang(2, 1).fill(Fill::Spread)).unwrap();
    assert_eq!((shares(&bench, packed), shares(&bench, gang)), ("n1:1 n2:1".into(), "n3:1 n4:1".into()));
    let mut both = job(ANN).ranks(4).fill(Fill::Spread);
    both.request.switches = Some(crate::spec::SwitchWish { switches_max: 1, wait_s: None });
    let refusal = bench.submit(ANN, both).unwrap_err().to_string();
    assert!(refusal.contains("cannot be on few switches"), "{refusal}");
}

#[test]
fn a_spread_job_waits_with_a_reservation_like_any_other() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut config = config(&[2, 2]);
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        let running = bench.submit(ANN, job(ANN).ranks(2).limit_s(100)).unwrap();
        bench.start(bench.key(running));
        let spread = bench.submit(ANN, job(ANN).ranks(3).fill(Fill::Spread)).unwrap();
        let long = bench.submit(BOB, job(BOB).ranks(2)).unwrap();
        assert!(!bench.is_live(spread) && !bench.is_live(long));
        assert_eq!(
            expected_start(bench.engine.state(), spread, bench.now),
            Some(bench.now.plus_seconds(100))
        );
        bench.after_s(99);
        bench.exit(bench.key(running), 0);
        assert_eq!(shares(&bench, spread), "n1:2 n2:1");
    }
}
