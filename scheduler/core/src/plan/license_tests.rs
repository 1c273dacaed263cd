//! Licences: never more are held than there are, and nobody waits for ever for them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::cluster::{Backfill, ClusterConfig};
use crate::ids::JobId;
use crate::input::Refusal;
use crate::plan::{Reason, plan};
use crate::spec::JobSpec;
use crate::testing::{ANN, BOB, Bench, config, job};

fn licensed(cores: &[u32], licenses: &[(&str, u32)]) -> ClusterConfig {
    let mut config = config(cores);
    config.licenses = licenses.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    config
}

fn asking(caller: crate::input::Caller, licenses: &[(&str, u32)]) -> JobSpec {
    let mut spec = job(caller);
    spec.licenses = licenses.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    spec
}

fn run(bench: &mut Bench, job: JobId) {
    let key = bench.key(job);
    bench.start(key);
    bench.exit(key, 0);
}

fn reason(bench: &Bench, job: JobId) -> Reason {
    plan(bench.engine.state(), bench.now).waiting[&job].reason.clone()
}

#[test]
fn a_task_waits_until_others_give_its_licences_back() {
    let mut bench = Bench::new(licensed(&[8], &[("matlab", 2)]));
    let first = bench.submit(ANN, asking(ANN, &[("matlab", 2)])).unwrap();
    let second = bench.submit(BOB, asking(BOB, &[("matlab", 1)])).unwrap();
    let other = bench.submit(BOB, job(BOB)).unwrap();
    assert!(bench.is_live(first) && !bench.is_live(second) && bench.is_live(other));
    let why = reason(&bench, second);
    assert_eq!(why, Reason::Licenses { license: "matlab".to_owned(), needed: 1, free: 0, total: 2 });
    assert_eq!(
        (why.code(), why.to_string().as_str()),
        ("licenses", "it needs 1 licence of 'matlab'; 0 of 2 are free")
    );
    run(&mut bench, first);
    assert!(bench.is_live(second));
    assert_eq!(bench.engine.state().licenses_left("matlab"), 1);
}

#[test]
fn licences_that_are_not_there_are_refused() {
    let mut bench = Bench::new(licensed(&[8], &[("matlab", 2)]));
    let mut submit = |licenses: &[(&str, u32)]| bench.submit(ANN, asking(ANN, licenses));
    assert!(matches!(submit(&[("matlab", 3)]), Err(Refusal::BadField { field: "licenses", .. })));
    assert!(matches!(submit(&[("ansys", 1)]), Err(Refusal::BadField { field: "licenses", .. })));
    assert!(submit(&[("matlab", 0)]).is_err());
}

#[test]
fn those_who_ask_for_few_do_not_put_off_one_that_asks_for_many() {
    for backfill in [Backfill::Easy, Backfill::Conservative, Backfill::None] {
        let mut cluster = licensed(&[8], &[("matlab", 3)]);
        cluster.pools[0].backfill = backfill;
        let mut bench = Bench::new(cluster);
        let small: Vec<JobId> =
            (0..2).map(|_| bench.submit(ANN, asking(ANN, &[("matlab", 1)])).unwrap()).collect();
        let large = bench.submit(ANN, asking(ANN, &[("matlab", 3)])).unwrap();
        let late = bench.submit(BOB, asking(BOB, &[("matlab", 1)])).unwrap();
        assert!(!bench.is_live(large) && !bench.is_live(late), "{backfill:?}");
        run(&mut bench, small[0]);
        assert!(!bench.is_live(large) && !bench.is_live(late), "{backfill:?}");
        run(&mut bench, small[1]);
        assert!(bench.is_live(large) && !bench.is_live(late), "{backfill:?}");
        run(&mut bench, large);
        assert!(bench.is_live(late), "{backfill:?}");
    }
}

#[test]
fn one_that_can_have_no_licence_any_more_keeps_none_from_others() {
    let mut bench = Bench::new(licensed(&[8], &[("matlab", 2)]));
    let first = bench.submit(ANN, asking(ANN, &[("matlab", 2)])).unwrap();
    let large = bench.submit(ANN, asking(ANN, &[("matlab", 2)])).unwrap();
    let small = bench.submit(ANN, asking(ANN, &[("matlab", 1)])).unwrap();
    let fewer = licensed(&[8], &[("matlab", 1)]);
    bench.input(crate::input::Input::Configure(std::sync::Arc::new(fewer)));
    assert_eq!(bench.engine.state().licenses_left("matlab"), 0, "what runs keeps what it has");
    run(&mut bench, first);
    assert!(bench.is_live(small) && !bench.is_live(large));
    assert!(reason(&bench, large).to_string().contains("has 1 of them now"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_more_are_held_than_there_are_and_all_jobs_run(
        totals in (1_u32..5, 1_u32..3),
        conservative in any::<bool>(),
        jobs in prop::collection::vec((0_u32..6, 0_u32..4, 1_u32..4, 1_u32..4), 1..20),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let total: BTreeMap<&str, u32> = [("a", totals.0), ("b", totals.1)].into();
        let mut cluster = licensed(&[4, 4], &[("a", totals.0), ("b", totals.1)]);
        if conservative {
            cluster.pools[0].backfill = Backfill::Conservative;
        }
        let mut bench = Bench::new(cluster);
        let mut accepted = 0;
        let mut finished = 0;
        let check = |bench: &Bench| {
            total.iter().all(|(name, total)| bench.engine.state().licenses_held(name) <= u64::from(*total))
        };
        let end_one = |bench: &mut Bench, which: usize| {
            let live: Vec<_> = bench.engine.state().live().map(|(key, ..)| key).collect();
            let Some(key) = live.get(which % live.len().max(1)).copied() else { return false };
            bench.start(key);
            bench.exit(key, 0);
            true
        };
        let mut ends = ends.into_iter();
        for (a, b, ranks, elements) in jobs {
            let asked: Vec<(&str, u32)> =
                [("a", a), ("b", b)].into_iter().filter(|(_, count)| *count > 0).collect();
            let spec = asking(ANN, &asked).ranks(ranks).array(elements, None);
            let fits = asked.iter().all(|(name, count)| count <= &total[name]);
            let answer = bench.submit(ANN, spec);
            prop_assert_eq!(answer.is_ok(), fits);
            accepted += if fits { elements } else { 0 };
            prop_assert!(check(&bench));
            if let Some(which) = ends.next() {
                finished += u32::from(end_one(&mut bench, which.index(1000)));
                prop_assert!(check(&bench));
            }
        }
        while end_one(&mut bench, 0) {
            finished += 1;
            prop_assert!(check(&bench));
        }
        prop_assert_eq!(finished, accepted, "every task ran");
    }
}
