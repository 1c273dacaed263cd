//! What starts, what overtakes, and where.

use super::{Forecast, expected_start, plan};
use crate::cluster::{Backfill, Fill};
use crate::testing::{ANN, BOB, Bench, GIB, ROOT, config, job, leaf};

#[test]
fn small_tasks_are_packed_so_that_whole_nodes_stay_free() {
    let mut bench = Bench::new(config(&[4, 4]));
    let small: Vec<_> = (0..4).map(|_| bench.submit(ANN, job(ANN)).unwrap()).collect();
    for id in small {
        assert_eq!(bench.nodes_of(bench.key(id)), ["n1"]);
    }
    let mut spread = config(&[4, 4]);
    spread.pools[0].fill = Fill::Spread;
    let mut bench = Bench::new(spread);
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let second = bench.submit(ANN, job(ANN)).unwrap();
    assert_ne!(bench.nodes_of(bench.key(first)), bench.nodes_of(bench.key(second)));
}

#[test]
fn a_short_task_overtakes_and_a_long_one_may_not_delay_the_head() {
    let mut bench = Bench::new(config(&[2, 2]));
    let running = bench.submit(ANN, job(ANN).ranks(2).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let head = bench.submit(ANN, job(ANN).gang(2, 2).limit_s(100)).unwrap();
    let long = bench.submit(BOB, job(BOB).limit_s(200)).unwrap();
    let short = bench.submit(BOB, job(BOB).limit_s(50)).unwrap();
    assert!(bench.is_live(short), "it will have ended before the head can start");
    assert!(!bench.is_live(long), "it would still hold a core that the head needs");
    let plan = plan(bench.engine.state(), bench.now);
    assert_eq!(plan.waiting[&head].expected_start, Some(bench.now.plus_seconds(100)));
    assert_eq!(plan.waiting[&head].reason.code(), "resources");
    assert_eq!(plan.waiting[&long].reason.code(), "priority");
    assert_eq!(expected_start(bench.engine.state(), long, bench.now), Some(bench.now.plus_seconds(200)));
}

#[test]
fn a_long_task_overtakes_on_cores_that_the_head_does_not_need() {
    let mut bench = Bench::new(config(&[4]));
    let running = bench.submit(ANN, job(ANN).ranks(3).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let head = bench.submit(ANN, job(ANN).ranks(3)).unwrap();
    let long = bench.submit(BOB, job(BOB).limit_s(100_000)).unwrap();
    let longer = bench.submit(BOB, job(BOB).limit_s(100_000)).unwrap();
    assert!(bench.is_live(long), "one core is left beside the head's three");
    assert!(!bench.is_live(head) && !bench.is_live(longer));
}

#[test]
fn a_gang_never_starves_behind_a_stream_of_small_tasks() {
    let mut bench = Bench::new(config(&[1, 1]));
    let first = bench.submit(ANN, job(ANN).limit_s(10)).unwrap();
    bench.start(bench.key(first));
    let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    for _ in 0..20 {
        bench.submit(BOB, job(BOB).limit_s(11)).unwrap();
    }
    bench.exit(bench.key(first), 0);
    assert!(bench.is_live(gang));
}

#[test]
fn priority_goes_before_age() {
    let mut bench = Bench::new(config(&[1]));
    let running = bench.submit(ANN, job(ANN)).unwrap();
    bench.start(bench.key(running));
    let old = bench.submit(ANN, job(ANN)).unwrap();
    let mut urgent = job(ANN);
    urgent.priority = 5;
    let urgent = bench.submit(ROOT, urgent).unwrap();
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(urgent) && !bench.is_live(old));
}

#[test]
fn a_gang_stays_under_the_smallest_switch_that_holds_it() {
    let mut config = config(&[2; 6]);
    config.switches = vec![leaf("s1", &["n1", "n2"]), leaf("s2", &["n3", "n4", "n5"]), leaf("s3", &["n6"])];
    let mut bench = Bench::new(config);
    let three = bench.submit(ANN, job(ANN).gang(3, 1)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(three)), ["n3", "n4", "n5"]);
    let two = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(two)), ["n1", "n2"]);
    let one = bench.submit(ANN, job(ANN).gang(1, 2)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(one)), ["n6"]);
}

#[test]
fn cores_of_a_task_share_a_cache_where_they_can() {
    let mut bench = Bench::new(config(&[16]));
    let cores = |bench: &Bench, id| {
        let key = bench.key(id);
        bench.engine.state().live_attempt(key.task).unwrap().allocation.shares[0].cores.to_string()
    };
    let one = bench.submit(ANN, job(ANN)).unwrap();
    let four = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
    let three = bench.submit(ANN, job(ANN).ranks(3)).unwrap();
    let eight = bench.submit(ANN, job(ANN).ranks(8)).unwrap();
    assert_eq!(cores(&bench, one), "0");
    assert_eq!(cores(&bench, four), "4-7", "a whole cache rather than a broken one");
    assert_eq!(cores(&bench, three), "1-3", "the rest of the broken one");
    assert_eq!(cores(&bench, eight), "8-15", "a whole package");
}

#[test]
fn memory_is_counted_like_cores() {
    let mut bench = Bench::new(config(&[4]));
    let hungry = bench.submit(ANN, job(ANN).memory(3 * GIB)).unwrap();
    let also = bench.submit(ANN, job(ANN).memory(2 * GIB)).unwrap();
    let modest = bench.submit(ANN, job(ANN).memory(GIB)).unwrap();
    assert!(bench.is_live(hungry) && !bench.is_live(also) && bench.is_live(modest));
}

#[test]
fn an_exclusive_task_shares_its_node_with_nobody() {
    let mut bench = Bench::new(config(&[4, 4]));
    let small = bench.submit(ANN, job(ANN)).unwrap();
    let mut exclusive = job(ANN);
    exclusive.request.exclusive = true;
    let exclusive = bench.submit(ANN, exclusive).unwrap();
    let other = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(small)), ["n1"]);
    assert_eq!(bench.nodes_of(bench.key(exclusive)), ["n2"]);
    assert!(!bench.is_live(other));
    let key = bench.key(exclusive);
    let allocation = bench.engine.state().live_attempt(key.task).unwrap().allocation.clone();
    assert_eq!((allocation.cores(), allocation.ranks()), (4, 1));
}

#[test]
fn an_array_keeps_to_its_throttle() {
    let mut bench = Bench::new(config(&[4]));
    let id = bench.submit(ANN, job(ANN).array(10, Some(2))).unwrap();
    assert_eq!(bench.engine.state().jobs[&id].live.len(), 2);
    let plan = plan(bench.engine.state(), bench.now);
    assert_eq!(plan.waiting[&id].reason.code(), "array_throttle");
    let key = bench.key_of(id, 0);
    bench.start(key);
    bench.exit(key, 0);
    assert_eq!(bench.engine.state().jobs[&id].live.len(), 2);
}

#[test]
fn nodes_that_are_away_hold_up_nobody() {
    let mut bench = Bench::new(config(&[2, 2]));
    let away = crate::input::Input::NodeSilent { node: "n2".to_owned(), reason: "cut".to_owned() };
    bench.input(away);
    let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let small = bench.submit(BOB, job(BOB).limit_s(100_000)).unwrap();
    assert!(bench.is_live(small));
    let plan = plan(bench.engine.state(), bench.now);
    assert_eq!(plan.waiting[&gang].reason.code(), "nodes_away");
    bench.hello("n2", 2, vec![]);
    assert!(bench.is_live(gang), "one core on each node is enough");
}

#[test]
fn conservative_backfill_delays_nobody() {
    let mut config = config(&[4]);
    config.pools[0].backfill = Backfill::Conservative;
    let mut bench = Bench::new(config);
    let running = bench.submit(ANN, job(ANN).ranks(3).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let first = bench.submit(ANN, job(ANN).ranks(4).limit_s(100)).unwrap();
    let second = bench.submit(ANN, job(ANN).ranks(2).limit_s(300)).unwrap();
    let long = bench.submit(BOB, job(BOB).limit_s(250)).unwrap();
    let short = bench.submit(BOB, job(BOB).limit_s(100)).unwrap();
    assert!(bench.is_live(short), "it ends when the first one starts");
    assert!(!bench.is_live(long), "it would delay the first one");
    let starts = |bench: &Bench, id| {
        plan(bench.engine.state(), bench.now).waiting.get(&id).and_then(|waiting| waiting.expected_start)
    };
    assert_eq!(starts(&bench, first), Some(bench.now.plus_seconds(100)));
    assert_eq!(starts(&bench, second), Some(bench.now.plus_seconds(200)));
    bench.exit(bench.key(short), 0);
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(first), "what ends early lets everything move forward");
    assert_eq!(starts(&bench, second), Some(bench.now.plus_seconds(100)));
}

#[test]
fn one_forecast_answers_for_every_job_as_one_of_its_own_would() {
    let mut bench = Bench::new(config(&[4, 4]));
    for i in 0..40 {
        let ranks = 1 + i % 5;
        let spec = job(ANN).ranks(ranks as u32).limit_s(60 + 40 * (i % 7));
        let id = bench.submit(ANN, spec).unwrap();
        if bench.is_live(id) {
            bench.start(bench.key(id));
        }
    }
    let held = bench.submit(BOB, job(BOB).held()).unwrap();
    let mut forecast = Forecast::new(bench.engine.state().clone(), bench.now);
    let last = bench.engine.state().queue().map(|job| job.id).filter(|id| *id != held).last().unwrap();
    assert!(forecast.may_tell(last) && !forecast.may_tell(held));
    while forecast.start_of(last).is_none() {
        forecast.step();
    }
    assert!(!forecast.is_over(), "it goes no further than it is asked");
    while !forecast.is_over() {
        forecast.step();
    }
    for job in bench.engine.state().queue() {
        let alone = expected_start(bench.engine.state(), job.id, bench.now);
        assert_eq!(forecast.start_of(job.id), alone, "job {}", job.id);
        assert_eq!(alone.is_some(), job.id != held);
    }
}

#[test]
fn a_promise_that_a_pass_comes_late_for_is_kept_before_later_ones() {
    let mut config = config(&[4]);
    config.pools[0].backfill = Backfill::Conservative;
    let mut bench = Bench::new(config);
    let running = bench.submit(ANN, job(ANN).ranks(4).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let first = bench.submit(ANN, job(ANN).ranks(4).limit_s(100)).unwrap();
    let second = bench.submit(ANN, job(ANN).ranks(4).limit_s(50)).unwrap();
    // It ends in time, but the next pass comes a moment late: the second one's promise must not stand in the way.
    bench.now = crate::ids::Timestamp(bench.now.plus_seconds(100).0 + 500);
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(first) && !bench.is_live(second));
    // The same, with what runs still there when the promise is due.
    let third = bench.submit(ANN, job(ANN).ranks(4).limit_s(10)).unwrap();
    bench.start(bench.key(first));
    bench.now = crate::ids::Timestamp(bench.now.plus_seconds(100).0 + 500);
    bench.input(crate::input::Input::Tick);
    bench.exit(bench.key(first), 0);
    bench.after_s(1);
    assert!(bench.is_live(second) && !bench.is_live(third));
}
