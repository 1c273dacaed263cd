//! Advance reservations, told as scenarios.

use crate::cluster::{Backfill, ClusterConfig};
use crate::event::Verdict;
use crate::ids::{JobId, JobRef, Timestamp};
use crate::input::{Input, Refusal};
use crate::plan::{Reason, expected_start, plan};
use crate::reservation::{RESERVATIONS_MAX, Repeat, ReservedNodes};
use crate::state::{FinishedHow, State};
use crate::testing::{ANN, BOB, Bench, ROOT, config, job, leaf, maintenance, reservation};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

fn reason(bench: &Bench, job: JobId) -> Reason {
    plan(bench.engine.state(), bench.now).waiting[&job].reason.clone()
}

fn code(bench: &Bench, job: JobId) -> &'static str {
    reason(bench, job).code()
}

fn starts(bench: &Bench, job: JobId) -> Option<u64> {
    expected_start(bench.engine.state(), job, bench.now).map(|at| at.micros_since(bench.now) / 1_000_000)
}

fn run(bench: &mut Bench, job: JobId) {
    let key = bench.key(job);
    bench.start(key);
    bench.exit(key, 0);
}

fn conservative(cores: &[u32]) -> ClusterConfig {
    let mut config = config(cores);
    config.pools[0].backfill = Backfill::Conservative;
    config
}

#[test]
fn nothing_starts_that_could_run_into_maintenance() {
    for config in [config(&[2, 2]), conservative(&[2, 2])] {
        let mut bench = Bench::new(config);
        let start = bench.now.plus_seconds(1000);
        bench.reserve(maintenance("disks", &["n1", "n2"], start, 500)).unwrap();
        let exact = bench.submit(ANN, job(ANN).limit_s(1000)).unwrap();
        let long = bench.submit(ANN, job(ANN).limit_s(1001)).unwrap();
        assert!(bench.is_live(exact), "it ends when the window starts");
        assert!(!bench.is_live(long));
        let expected = Reason::Reserved { name: "disks".to_owned(), from: start, limit_max_s: Some(1000) };
        assert_eq!(reason(&bench, long), expected);
        assert_eq!(starts(&bench, long), Some(1500));
        run(&mut bench, exact);
        bench.after_s(1000);
        let short = bench.submit(ANN, job(ANN).limit_s(1)).unwrap();
        assert!(!bench.is_live(short), "nobody runs in it");
        let expected = Reason::Reserved { name: "disks".to_owned(), from: start, limit_max_s: None };
        assert_eq!(reason(&bench, short), expected);
        assert_eq!(bench.engine.next_wake(), Some(start.plus_seconds(500)));
        bench.after_s(499);
        assert!(!bench.is_live(short) && !bench.is_live(long));
        bench.after_s(1);
        assert!(bench.is_live(short) && bench.is_live(long));
        assert_eq!(bench.engine.state().reservations_len(), 0, "it is over");
    }
}

#[test]
fn the_head_gets_its_place_after_the_window_and_others_fill_the_gap() {
    let mut bench = Bench::new(config(&[2, 2]));
    let start = bench.now.plus_seconds(1000);
    bench.reserve(maintenance("disks", &["n1"], start, 500)).unwrap();
    let head = bench.submit(ANN, job(ANN).gang(2, 2).limit_s(2000)).unwrap();
    let waiting = plan(bench.engine.state(), bench.now).waiting;
    assert_eq!(waiting[&head].expected_start, Some(start.plus_seconds(500)));
    let fills = bench.submit(BOB, job(BOB).ranks(2).limit_s(1500)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(fills)), ["n2"], "it has ended when the head starts");
    let late = bench.submit(BOB, job(BOB).ranks(2).limit_s(1501)).unwrap();
    assert!(!bench.is_live(late));
    let short = bench.submit(BOB, job(BOB).ranks(2).limit_s(1000)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(short)), ["n1"], "it has ended when the window starts");
    run(&mut bench, short);
    bench.start(bench.key(fills));
    bench.after_s(1500);
    bench.gone(bench.key(fills), 0, crate::input::GoneHow::Stopped);
    assert!(bench.is_live(head));
}

#[test]
fn what_was_refused_for_a_long_job_says_nothing_of_a_short_one() {
    let mut bench = Bench::new(config(&[2, 2]));
    let start = bench.now.plus_seconds(1000);
    bench.reserve(maintenance("disks", &["n1", "n2"], start, 500)).unwrap();
    let held = bench.submit(ANN, job(ANN).limit_s(5000).held()).unwrap();
    let short = bench.submit(ANN, job(ANN).limit_s(900).held()).unwrap();
    let target = JobRef { job: held, task: None };
    bench.engine.apply(&Input::ReleaseJob { caller: ANN, target }, bench.now);
    bench.release(ANN, short).unwrap();
    assert!(!bench.is_live(held) && bench.is_live(short));
}

#[test]
fn users_run_on_their_nodes_within_the_window_and_nowhere_else() {
    for config in [config(&[2, 2, 2]), conservative(&[2, 2, 2])] {
        let mut bench = Bench::new(config);
        let start = bench.now.plus_seconds(1000);
        bench.reserve(reservation("course", &["n2"], start, 500, ANN)).unwrap();
        let early = bench.submit(ANN, job(ANN).limit_s(500).within("course")).unwrap();
        assert_eq!(
            reason(&bench, early),
            Reason::ReservationStart { name: "course".to_owned(), from: start }
        );
        assert_eq!(bench.engine.next_wake(), Some(start));
        assert_eq!(starts(&bench, early), Some(1000));
        bench.after_s(1000);
        assert_eq!(bench.nodes_of(bench.key(early)), ["n2"]);
        let second = bench.submit(ANN, job(ANN).limit_s(400).within("course")).unwrap();
        assert_eq!(bench.nodes_of(bench.key(second)), ["n2"]);
        let third = bench.submit(ANN, job(ANN).limit_s(400).within("course")).unwrap();
        assert_eq!(code(&bench, third), "resources", "free nodes outside are not for it");
        let outside = bench.submit(BOB, job(BOB).ranks(4)).unwrap();
        assert_eq!(bench.nodes_of(bench.key(outside)), ["n1", "n3"]);
        for job in [early, second, outside] {
            bench.start(bench.key(job));
        }
        bench.after_s(101);
        bench.exit(bench.key(second), 0);
        assert_eq!(code(&bench, third), "reservation_over", "399 s are left of the window");
        assert_eq!(starts(&bench, third), None);
        let next = bench.submit(BOB, job(BOB).limit_s(100)).unwrap();
        assert!(!bench.is_live(next), "the jobs outside are full, the reservation is not theirs");
        bench.after_s(399);
        assert!(bench.is_live(next), "n2 is open to all again");
        assert_eq!(code(&bench, third), "reservation_over");
        // A new reservation of that name lets it run.
        let start = bench.now.plus_seconds(10);
        bench.reserve(reservation("course", &["n1"], start, 400, ANN)).unwrap_err();
        bench.exit(bench.key(outside), 0);
        bench.reserve(reservation("course", &["n1"], start, 400, ANN)).unwrap();
        assert_eq!(starts(&bench, third), Some(10));
        bench.after_s(10);
        assert_eq!(bench.nodes_of(bench.key(third)), ["n1"]);
    }
}

#[test]
fn a_waiting_job_whose_reservation_was_deleted_holds_up_nobody() {
    let mut bench = Bench::new(config(&[2]));
    let start = bench.now.plus_seconds(1000);
    bench.reserve(reservation("course", &["n1"], start, 500, ANN)).unwrap();
    let user = bench.submit(ANN, job(ANN).limit_s(500).ranks(2).within("course")).unwrap();
    bench.unreserve("course").unwrap();
    assert_eq!(code(&bench, user), "reservation_over");
    let other = bench.submit(BOB, job(BOB).ranks(2).limit_s(5000)).unwrap();
    assert!(bench.is_live(other));
    assert!(matches!(bench.unreserve("course"), Err(Refusal::UnknownReservation { .. })));
    assert!(bench.cancel(ANN, user).is_ok());
}

#[test]
fn a_queue_in_a_reservation_does_not_hold_up_the_queue_outside() {
    let mut bench = Bench::new(config(&[2, 2, 2]));
    bench.reserve(reservation("course", &["n1"], bench.now, 10 * DAY_S, ANN)).unwrap();
    let first = bench.submit(ANN, job(ANN).ranks(2).limit_s(1000).within("course")).unwrap();
    let second = bench.submit(ANN, job(ANN).ranks(2).limit_s(1000).within("course")).unwrap();
    assert!(bench.is_live(first) && !bench.is_live(second));
    let outside = bench.submit(BOB, job(BOB).ranks(2).limit_s(1000)).unwrap();
    let gang = bench.submit(BOB, job(BOB).gang(2, 2).limit_s(1000)).unwrap();
    let small = bench.submit(BOB, job(BOB).ranks(2).limit_s(1001)).unwrap();
    assert!(bench.is_live(outside));
    assert!(
        !bench.is_live(small),
        "the gang outside has a reservation of its own, whoever waits in the course"
    );
    assert_eq!(starts(&bench, gang), Some(1000));
    assert_eq!(starts(&bench, second), Some(1000));
}

#[test]
fn a_job_may_run_in_one_of_the_windows_that_come_again() {
    let mut bench = Bench::new(config(&[2]));
    let start = bench.now.plus_seconds(HOUR_S);
    let daily = reservation("nightly", &["n1"], start, 2 * HOUR_S, ANN).repeated(Repeat::Daily);
    bench.reserve(daily).unwrap();
    bench.after_s(2 * HOUR_S);
    let id = bench.submit(ANN, job(ANN).limit_s(2 * HOUR_S).within("nightly")).unwrap();
    let tomorrow = start.plus_seconds(DAY_S);
    assert_eq!(reason(&bench, id), Reason::ReservationStart { name: "nightly".to_owned(), from: tomorrow });
    bench.after_s(HOUR_S);
    let window = bench.engine.state().reservation("nightly").unwrap().window();
    assert_eq!(window.start, tomorrow);
    let outside = bench.submit(BOB, job(BOB).limit_s(22 * HOUR_S)).unwrap();
    assert!(bench.is_live(outside), "it fits between two windows");
    run(&mut bench, outside);
    bench.now = tomorrow;
    bench.input(Input::Tick);
    assert!(bench.is_live(id));
}

#[test]
fn what_never_fits_between_two_windows_is_refused() {
    let mut bench = Bench::new(config(&[2, 2]));
    let night = |name: &str, node: &str, hour: u64| {
        let start = Timestamp(bench.now.0).plus_seconds(hour * HOUR_S);
        maintenance(name, &[node], start, 4 * HOUR_S).repeated(Repeat::Daily)
    };
    let (first, second) = (night("a", "n1", 1), night("b", "n2", 13));
    bench.reserve(first).unwrap();
    let anywhere = bench.submit(ANN, job(ANN).limit_s(30 * HOUR_S)).unwrap();
    assert_eq!(bench.nodes_of(bench.key(anywhere)), ["n2"]);
    let gang = |hours: u64| job(BOB).gang(2, 1).limit_s(hours * HOUR_S);
    assert!(bench.submit(BOB, gang(20)).is_ok(), "the gap lasts 20 hours");
    bench.reserve(second).unwrap();
    let refusal = bench.submit(BOB, gang(9)).unwrap_err().to_string();
    assert!(refusal.contains("its time limit is 09:00:00"), "{refusal}");
    assert!(refusal.contains("is 08:00:00"), "both nodes are free together for 8 hours: {refusal}");
    assert!(bench.submit(BOB, gang(8)).is_ok());
    // The gang of 20 hours was accepted before: it says that it can never run, and holds up nobody.
    let waiting = plan(bench.engine.state(), bench.now).waiting;
    let never = waiting.values().find(|waiting| waiting.reason.code() == "never_fits").unwrap();
    assert!(never.reason.to_string().contains("longest gap"), "{}", never.reason);
}

#[test]
fn running_work_is_told_and_left_alone() {
    let mut bench = Bench::new(config(&[2]));
    let running = bench.submit(ANN, job(ANN).limit_s(1000)).unwrap();
    bench.start(bench.key(running));
    let at = bench.now.plus_seconds(999);
    let refusal = bench.reserve(reservation("course", &["n1"], at, 500, BOB)).unwrap_err().to_string();
    let until = crate::notation::format_instant(bench.now.plus_seconds(1000));
    assert!(refusal.contains(&format!("job {running} on n1 until {until}")), "{refusal}");
    bench.reserve(reservation("later", &["n1"], bench.now.plus_seconds(1000), 1, BOB)).unwrap();
    let mut ignoring = reservation("course", &["n1"], at, 1, BOB);
    ignoring.ignore_running = true;
    assert_eq!(bench.reserve(ignoring).unwrap().running[0].task, running.to_string());
    let made = bench.reserve(maintenance("disks", &["n1"], at, 500)).unwrap();
    assert_eq!((made.running.len(), made.node_list.as_str()), (1, "n1"));
    bench.after_s(999);
    assert!(bench.is_live(running), "it goes on in the window");
    bench.after_s(1);
    bench.gone(bench.key(running), 0, crate::input::GoneHow::Stopped);
    assert!(!bench.is_live(running));
}

#[test]
fn a_slow_start_does_not_carry_an_attempt_into_a_window() {
    let mut bench = Bench::new(config(&[2]));
    let start = bench.now.plus_seconds(1000);
    bench.reserve(maintenance("disks", &["n1"], start, 500)).unwrap();
    let exact = bench.submit(ANN, job(ANN).limit_s(1000)).unwrap();
    let key = bench.key(exact);
    bench.after_s(30);
    bench.start(key);
    assert_eq!(bench.engine.next_wake(), Some(start), "not 30 seconds later");
    bench.after_s(970);
    bench.gone(key, 0, crate::input::GoneHow::Stopped);
    let FinishedHow::Ran { verdict, .. } = &bench.finished(exact).unwrap().how else { panic!("it ran") };
    assert_eq!(*verdict, Verdict::TimedOut);
}

#[test]
fn a_task_that_may_be_shorter_ends_when_the_window_starts_or_ends() {
    for config in [config(&[2, 2]), conservative(&[2, 2])] {
        let mut bench = Bench::new(config);
        let start = bench.now.plus_seconds(1000);
        bench.reserve(maintenance("disks", &["n1", "n2"], start, 500)).unwrap();
        bench.reserve(reservation("course", &["n2"], start.plus_seconds(500), 300, ANN)).unwrap();
        let shorter = |limit_s: u64, least_s: u64| {
            let mut spec = job(ANN).limit_s(limit_s);
            spec.eligibility.time_min_s = Some(least_s);
            spec
        };
        let limit = |bench: &Bench, id: JobId| {
            bench.engine.state().live_attempt(bench.key(id).task).unwrap().time_limit_s
        };
        let before = bench.submit(ANN, shorter(5000, 1000)).unwrap();
        assert_eq!(limit(&bench, before), Some(1000));
        let late = bench.submit(ANN, shorter(5000, 1001)).unwrap();
        assert!(!bench.is_live(late));
        let within = bench.submit(ANN, shorter(5000, 200).within("course")).unwrap();
        assert_eq!(starts(&bench, within), Some(1500));
        run(&mut bench, before);
        bench.after_s(1500);
        assert_eq!(
            (bench.nodes_of(bench.key(within)), limit(&bench, within)),
            (vec!["n2".to_owned()], Some(300))
        );
        assert!(bench.is_live(late));
    }
}

#[test]
fn what_fills_a_gap_or_a_window_starts_though_the_pass_is_a_moment_late() {
    for config in [config(&[1, 1]), conservative(&[1, 1])] {
        let mut bench = Bench::new(config);
        let start = bench.now.plus_seconds(10);
        let night = maintenance("night", &["n1"], start, 4 * HOUR_S).repeated(Repeat::Daily);
        bench.reserve(night).unwrap();
        bench.reserve(reservation("course", &["n2"], start.plus_seconds(4 * HOUR_S), HOUR_S, ANN)).unwrap();
        let within = bench.submit(ANN, job(ANN).limit_s(HOUR_S).within("course")).unwrap();
        let gap = bench.submit(BOB, job(BOB).nodelist(&["n1"]).limit_s(20 * HOUR_S)).unwrap();
        bench.after_s(4 * HOUR_S);
        bench.now = Timestamp(start.plus_seconds(4 * HOUR_S).0 + 5_000);
        bench.input(Input::Tick);
        for (id, end) in [(within, start.plus_seconds(5 * HOUR_S)), (gap, start.plus_seconds(DAY_S))] {
            let key = bench.key(id);
            bench.start(key);
            let live = bench.engine.state().live_attempt(key.task).unwrap();
            assert_eq!(live.ends_by, Some(end), "not 5 ms later");
        }
    }
}

#[test]
fn nobody_is_ended_for_a_task_that_a_window_keeps_out() {
    let mut config = config(&[2]);
    config.pools[0].preempt = crate::cluster::Preempt::Requeue;
    let high = crate::cluster::PoolConfig {
        name: "high".to_owned(),
        tier: 1,
        default: false,
        ..config.pools[0].clone()
    };
    config.pools.push(high);
    let mut bench = Bench::new(config);
    let victim = bench.submit(BOB, job(BOB).ranks(2).limit_s(5000)).unwrap();
    bench.start(bench.key(victim));
    bench.reserve(maintenance("disks", &["n1"], bench.now.plus_seconds(1000), 500)).unwrap();
    let urgent =
        |limit_s: u64| crate::spec::JobSpec { pool: Some("high".to_owned()), ..job(ANN).limit_s(limit_s) };
    let is_ending = |bench: &Bench| {
        let live = bench.engine.state().live_attempt(bench.key(victim).task).unwrap();
        matches!(live.phase, crate::state::LivePhase::Ending { .. })
    };
    // The victim may take five seconds to leave.
    bench.submit(ANN, urgent(996)).unwrap();
    assert!(!is_ending(&bench), "it could not start before the window any more");
    bench.submit(ANN, urgent(995)).unwrap();
    assert!(is_ending(&bench));
}

#[test]
fn overlaps_are_refused_unless_one_is_maintenance() {
    let mut bench = Bench::new(config(&[2, 2]));
    let at = |bench: &Bench, hours: u64| bench.now.plus_seconds(hours * HOUR_S);
    let course = reservation("course", &["n1"], at(&bench, 10), 2 * HOUR_S, ANN).repeated(Repeat::Daily);
    bench.reserve(course).unwrap();
    let clash = reservation("x", &["n1", "n2"], at(&bench, 3 * 24 + 11), HOUR_S, BOB);
    assert_eq!(
        bench.reserve(clash.clone()),
        Err(Refusal::ReservationOverlap { other: "course".to_owned(), nodes: "n1".to_owned() })
    );
    let beside = reservation("x", &["n1"], at(&bench, 3 * 24 + 12), HOUR_S, BOB);
    bench.reserve(beside).unwrap();
    let weekly = reservation("y", &["n1"], at(&bench, 7), 4 * HOUR_S, BOB).repeated(Repeat::Weekly);
    assert!(matches!(bench.reserve(weekly), Err(Refusal::ReservationOverlap { .. })));
    bench.reserve(maintenance("disks", &["n1", "n2"], at(&bench, 11), 24 * HOUR_S)).unwrap();
    // The course's first hour is before the maintenance, and nothing of its next day is left.
    let id = bench.submit(ANN, job(ANN).limit_s(2 * HOUR_S).within("course")).unwrap();
    bench.after_s(10 * HOUR_S);
    let short = bench.submit(ANN, job(ANN).limit_s(HOUR_S).within("course")).unwrap();
    assert!(bench.is_live(short) && !bench.is_live(id));
    assert_eq!(starts(&bench, id), Some(2 * DAY_S));
    let expected = Reason::Reserved {
        name: "disks".to_owned(),
        from: bench.now.plus_seconds(HOUR_S),
        limit_max_s: Some(HOUR_S),
    };
    run(&mut bench, short);
    assert_eq!(reason(&bench, id), expected);
}

#[test]
fn nodes_are_chosen_close_together_and_where_nothing_runs() {
    let mut config = config(&[2; 6]);
    config.switches = vec![leaf("s1", &["n1", "n4"]), leaf("s2", &["n2", "n3", "n5"]), leaf("s3", &["n6"])];
    let mut bench = Bench::new(config);
    let count = |name: &str, count: u32| {
        let mut spec = reservation(name, &[], bench.now.plus_seconds(100), 100, ANN);
        spec.nodes = ReservedNodes::Count { pool: "main".to_owned(), count };
        spec
    };
    let (first, second, all) = (count("a", 2), count("b", 3), count("c", 2));
    let whole = {
        let mut spec = maintenance("all", &[], bench.now.plus_seconds(100), 100);
        spec.nodes = ReservedNodes::Pool("main".to_owned());
        spec
    };
    assert_eq!(bench.reserve(second).unwrap().node_list, "n[2-3,5]");
    let running = bench.submit(BOB, job(BOB).gang(1, 2).nodelist(&["n4"])).unwrap();
    assert!(bench.is_live(running));
    assert_eq!(bench.reserve(first).unwrap().node_list, "n[1,6]", "n4 is busy");
    let refusal = bench.reserve(all).unwrap_err().to_string();
    assert!(refusal.contains("2 are asked for; 0 of the 6 of pool 'main'"), "{refusal}");
    assert_eq!(bench.reserve(whole).unwrap().node_list, "n[1-6]");
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(config(&[2, 2]));
    let start = bench.now.plus_seconds(100);
    bench.reserve(reservation("course", &["n1"], start, HOUR_S, ANN)).unwrap();
    bench.reserve(maintenance("disks", &["n2"], start, HOUR_S)).unwrap();
    let before = bench.engine.state().clone();
    let spec = || reservation("x", &["n2"], start.plus_seconds(DAY_S), HOUR_S, ANN);
    type Change = fn(&mut crate::reservation::ReservationSpec);
    let cases: [(Change, &str); 10] = [
        (|s| s.name = "a b".to_owned(), "is not one"),
        (|s| s.name = "course".to_owned(), "there is a reservation 'course' already"),
        (|s| s.nodes = ReservedNodes::List(["n9".to_owned()].into()), "no node 'n9'"),
        (|s| s.nodes = ReservedNodes::List(Default::default()), "at least one"),
        (|s| s.nodes = ReservedNodes::Pool("x".to_owned()), "no pool 'x'; the pools are: main"),
        (|s| s.users.clear(), "which users or accounts"),
        (|s| s.maintenance = true, "leave users and accounts out"),
        (|s| s.windows.duration_s = 0, "at least a second"),
        (
            |s| (s.windows.repeat, s.windows.duration_s) = (Some(Repeat::Daily), DAY_S),
            "too long for a window",
        ),
        (|s| (s.windows.start, s.windows.duration_s) = (Timestamp(0), 1), "would have been over"),
    ];
    for (change, text) in cases {
        let mut wrong = spec();
        change(&mut wrong);
        let refusal = bench.reserve(wrong).unwrap_err().to_string();
        assert!(refusal.contains(text), "{refusal:?} should say {text:?}");
    }
    let input = Input::MakeReservation { caller: ANN, spec: Box::new(spec()) };
    assert!(matches!(bench.input(input).reply, Err(Refusal::NotAdmin { .. })));
    let input = Input::RemoveReservation { caller: ANN, name: "course".to_owned() };
    assert!(matches!(bench.input(input).reply, Err(Refusal::NotAdmin { .. })));
    for (spec, text) in [
        (job(ANN).within("curse"), "no reservation 'curse'; the reservations are: course, disks"),
        (job(ANN).within("disks"), "for maintenance"),
        (job(BOB).within("course"), "not for user user1001"),
        (job(ANN).within("course").limit_s(HOUR_S + 1), "lasts 01:00:00"),
        (job(ANN).within("course").gang(2, 1), "cannot hold it in any window"),
        (job(ANN).within("course").begin(start.plus_seconds(3001)).limit_s(600), "is over at"),
    ] {
        let refusal = bench.submit(ANN, spec).unwrap_err().to_string();
        assert!(refusal.contains(text), "{refusal:?} should say {text:?}");
    }
    assert_eq!(*bench.engine.state(), before);
}

#[test]
fn accounts_may_use_a_reservation() {
    let mut bench = Bench::new(config(&[2]));
    let mut spec = reservation("course", &["n1"], bench.now, HOUR_S, ANN);
    (spec.users, spec.accounts) = (Default::default(), ["physics".to_owned()].into());
    bench.reserve(spec).unwrap();
    let mut charged = job(BOB).within("course");
    assert!(matches!(bench.submit(BOB, charged.clone()), Err(Refusal::ReservationNotYours { .. })));
    charged.account = Some("physics".to_owned());
    let id = bench.submit(BOB, charged).unwrap();
    assert!(bench.is_live(id));
}

#[test]
fn there_may_be_so_many_reservations_and_no_more() {
    let mut bench = Bench::new(config(&[1]));
    let start = bench.now.plus_seconds(DAY_S);
    let input = |i: usize| Input::MakeReservation {
        caller: ROOT,
        spec: Box::new(maintenance(&format!("r{i}"), &["n1"], start, 10)),
    };
    for i in 0..RESERVATIONS_MAX {
        assert!(bench.engine.apply(&input(i), bench.now).reply.is_ok());
    }
    let refusal = bench.input(input(RESERVATIONS_MAX)).reply.unwrap_err();
    assert_eq!(refusal, Refusal::TooManyReservations { limit: RESERVATIONS_MAX });
    bench.now = start.plus_seconds(10);
    bench.input(Input::Tick);
    assert_eq!(bench.engine.state().reservations_len(), 0);
}

#[test]
fn a_state_with_reservations_is_read_as_it_was_written() {
    let mut bench = Bench::new(config(&[2, 2]));
    let plain = serde_json::to_string(bench.engine.state()).unwrap();
    assert!(!plain.contains("reservations"), "a state without is written as before: {plain}");
    let start = bench.now.plus_seconds(100);
    bench.reserve(reservation("course", &["n1"], start, HOUR_S, ANN).repeated(Repeat::Weekly)).unwrap();
    bench.submit(ANN, job(ANN).within("course")).unwrap();
    let text = serde_json::to_string(bench.engine.state()).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), *bench.engine.state());
}
