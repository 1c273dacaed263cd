//! Accounts, qualities of service and the priority sum, as users meet them.

use std::sync::Arc;

use proptest::prelude::*;

use crate::cluster::{Backfill, ClusterConfig, Order, PriorityPolicy};
use crate::engine::Engine;
use crate::event::Record;
use crate::ids::{JobId, Timestamp};
use crate::input::{Caller, Input, Refusal};
use crate::plan::plan;
use crate::priority::{Factors, Scale, Shares, factors};
use crate::spec::JobSpec;
use crate::state::State;
use crate::testing::{ANN, BOB, Bench, GIB, ROOT, account, config, job, qos};

const HOUR_S: u64 = 3_600;

/// Users of the builders are called after their ids.
fn shared(cores: &[u32]) -> ClusterConfig {
    let mut config = config(cores);
    config.accounts = vec![
        account("lab", None, 1, &[]),
        account("physics", Some("lab"), 3, &[("user1000", 1)]),
        account("biology", Some("lab"), 1, &[("user1000", 1), ("user1001", 1)]),
    ];
    config
}

fn multifactor(mut config: ClusterConfig) -> ClusterConfig {
    config.pools[0].order = Order::Multifactor;
    config
}

fn accounted(bench: &Bench, id: JobId) -> Option<&str> {
    bench.engine.state().jobs[&id].spec.account.as_deref()
}

/// What a user of an account has used by now, in core-seconds.
fn used_s(bench: &Bench, account: &str, user: &str) -> f64 {
    let state = bench.engine.state();
    let mut found = state.usage(bench.now).filter(|(a, u, _)| (*a, *u) == (account, user));
    found.next().map_or(0.0, |(_, _, core_us)| core_us as f64 / 1e6)
}

fn sentence(refused: Result<JobId, Refusal>) -> String {
    refused.unwrap_err().to_string()
}

#[test]
fn a_job_charges_the_first_account_that_lists_its_user_or_the_one_that_it_names() {
    let mut bench = Bench::new(shared(&[8]));
    let first = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!(accounted(&bench, first), Some("physics"));
    let named = bench.submit(ANN, job(ANN).account("biology")).unwrap();
    assert_eq!(accounted(&bench, named), Some("biology"));
    let other = bench.submit(BOB, job(BOB)).unwrap();
    assert_eq!(accounted(&bench, other), Some("biology"));
    assert_eq!(
        sentence(bench.submit(BOB, job(BOB).account("physics"))),
        "user user1001 is not listed in account 'physics'; the accounts of user user1001 are: biology"
    );
    assert_eq!(
        sentence(bench.submit(ANN, job(ANN).account("chemistry"))),
        "there is no account 'chemistry'; the accounts of user user1000 are: physics, biology"
    );
    let cas = Caller { uid: 1002, admin: true };
    assert_eq!(
        sentence(bench.submit(cas, job(cas))),
        "no account lists user user1002: ask an admin to add the name to 'users' of an [[account]]"
    );
}

#[test]
fn without_accounts_any_name_is_kept() {
    let mut bench = Bench::new(config(&[8]));
    let named = bench.submit(ANN, job(ANN).account("whatever")).unwrap();
    let plain = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!((accounted(&bench, named), accounted(&bench, plain)), (Some("whatever"), None));
    bench.after_s(10);
    assert!(used_s(&bench, "whatever", "user1000") > 9.9 && used_s(&bench, "", "user1000") > 9.9);
    for bad in ["", "a\nb", &"x".repeat(201)] {
        assert!(
            sentence(bench.submit(ANN, job(ANN).account(bad))).starts_with("account: must have"),
            "{bad}"
        );
    }
}

#[test]
fn a_quality_of_service_must_exist_and_allow_the_account() {
    let mut config = shared(&[8]);
    let mut only_physics = qos("urgent", 100);
    only_physics.accounts = ["physics".to_owned()].into();
    let mut whole_lab = qos("lab", 1);
    whole_lab.accounts = ["lab".to_owned()].into();
    config.qos = vec![only_physics, whole_lab];
    let mut bench = Bench::new(config);
    assert!(bench.submit(ANN, job(ANN).qos("urgent")).is_ok());
    assert!(bench.submit(BOB, job(BOB).qos("lab")).is_ok(), "an account below one that may use it");
    assert_eq!(
        sentence(bench.submit(BOB, job(BOB).qos("urgent"))),
        "account 'biology' may not use quality of service 'urgent', which is for: physics"
    );
    assert_eq!(
        sentence(bench.submit(ANN, job(ANN).qos("urgnt"))),
        "there is no quality of service 'urgnt'; there are: urgent, lab"
    );
    let normal = bench.submit(ANN, job(ANN).qos("normal")).unwrap();
    assert_eq!(bench.engine.state().jobs[&normal].spec.qos, None, "the habit of other sites");
}

#[test]
fn the_priority_of_a_quality_of_service_goes_first_in_every_order() {
    let orders = [Order::Default, Order::Fcfs, Order::Sjf, Order::Wfp3, Order::F1];
    for (order, backfill) in
        orders.into_iter().flat_map(|order| [(order, Backfill::Easy), (order, Backfill::Conservative)])
    {
        let mut config = config(&[1]);
        config.pools[0].order = order;
        config.pools[0].backfill = backfill;
        config.qos = vec![qos("urgent", 100), qos("low", -100), qos("top", i32::MAX)];
        let mut bench = Bench::new(config.clone());
        let running = bench.submit(ANN, job(ANN)).unwrap();
        bench.start(bench.key(running));
        let low = bench.submit(ANN, job(ANN).qos("low")).unwrap();
        let plain = bench.submit(ANN, job(ANN)).unwrap();
        let urgent = bench.submit(ANN, job(ANN).qos("urgent")).unwrap();
        let mut top = job(ANN).qos("top");
        top.priority = 5;
        let top = bench.submit(ROOT, top).unwrap();
        let queue = |bench: &Bench| bench.engine.state().queue().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!(queue(&bench), [top, urgent, plain, low], "{order:?}");
        bench.cancel(ROOT, top).unwrap();
        bench.exit(bench.key(running), 0);
        assert!(bench.is_live(urgent) && !bench.is_live(plain), "{order:?} {backfill:?}");
        config.qos[1].priority = 7;
        bench.input(Input::Configure(Arc::new(config)));
        assert_eq!(queue(&bench), [low, plain], "a new configuration changes the queue");
    }
}

#[test]
fn a_user_runs_no_more_tasks_in_a_quality_of_service_than_it_allows_and_blocks_nobody() {
    for backfill in [Backfill::Easy, Backfill::EasyShortest, Backfill::Conservative] {
        let mut config = config(&[8]);
        config.pools[0].backfill = backfill;
        let mut few = qos("few", 10);
        few.running_per_user_max = Some(2);
        config.qos = vec![few];
        let mut bench = Bench::new(config);
        let first = bench.submit(ANN, job(ANN).qos("few")).unwrap();
        let array = bench.submit(ANN, job(ANN).qos("few").array(3, None)).unwrap();
        let wide = bench.submit(ANN, job(ANN).qos("few").ranks(8)).unwrap();
        let live = |bench: &Bench, id: JobId| bench.engine.state().jobs[&id].live.len();
        assert_eq!((live(&bench, first), live(&bench, array)), (1, 1));
        let other = bench.submit(BOB, job(BOB).qos("few").ranks(2)).unwrap();
        let plain = bench.submit(ANN, job(ANN).limit_s(100_000)).unwrap();
        assert!(bench.is_live(other) && bench.is_live(plain), "{backfill:?}: others are not held up");
        let waiting = plan(bench.engine.state(), bench.now).waiting;
        for id in [array, wide] {
            assert_eq!(waiting[&id].reason.code(), "qos_limit");
            assert_eq!(
                waiting[&id].reason.to_string(),
                "as many tasks of user1000 run in quality of service 'few' as it allows a user at once: 2"
            );
        }
        let key = bench.key(first);
        bench.start(key);
        bench.exit(key, 0);
        assert_eq!(live(&bench, array), 2, "{backfill:?}: the next one starts when one ends");
        assert_eq!(bench.engine.state().live_in_qos("few", ANN.uid), 2);
        for index in [0, 1, 2] {
            let key = bench.key_of(array, index);
            bench.start(key);
            bench.exit(key, 0);
        }
        assert_eq!(bench.engine.state().live_in_qos("few", ANN.uid), 0, "the wide one waits for room");
        let waiting = plan(bench.engine.state(), bench.now).waiting;
        assert_eq!(waiting[&wide].reason.code(), "resources");
    }
}

#[test]
fn a_limit_that_is_reached_within_a_pass_holds_up_nobody_behind() {
    // Two pools over the same node, so that one pass gives the limit away in one and meets it in the other.
    let mut config = config(&[4]);
    let mut second = config.pools[0].clone();
    second.name = "second".to_owned();
    second.default = false;
    config.pools.push(second);
    let mut one = qos("one", 0);
    one.running_per_user_max = Some(1);
    config.qos = vec![one];
    let mut bench = Bench::new(config);
    let full = bench.submit(BOB, job(BOB).ranks(4)).unwrap();
    bench.start(bench.key(full));
    let in_second = |mut spec: JobSpec| {
        spec.pool = Some("second".to_owned());
        spec
    };
    let first = bench.submit(ANN, job(ANN).qos("one")).unwrap();
    let limited = bench.submit(ANN, in_second(job(ANN).qos("one").ranks(4))).unwrap();
    let behind = bench.submit(BOB, in_second(job(BOB).limit_s(100_000))).unwrap();
    bench.exit(bench.key(full), 0);
    assert!(bench.is_live(first) && !bench.is_live(limited) && bench.is_live(behind));
}

#[test]
fn usage_is_charged_as_it_runs_and_forgotten_by_half_lives() {
    let mut config = config(&[8]);
    config.policy.priority.half_life_s = HOUR_S;
    let mut cheap = qos("cheap", 0);
    cheap.usage_percent = 50;
    config.qos = vec![cheap];
    let mut bench = Bench::new(config.clone());
    let full = bench.submit(ANN, job(ANN).ranks(4).limit_s(100_000)).unwrap();
    let half = bench.submit(BOB, job(BOB).ranks(4).limit_s(100_000).qos("cheap")).unwrap();
    bench.start(bench.key(full));
    bench.start(bench.key(half));
    bench.after_s(HOUR_S);
    // The integral of 2^(-t/h) over one half-life is h / (2 ln 2).
    let hour = HOUR_S as f64 / 2.0 / std::f64::consts::LN_2;
    let near = |found: f64, expected: f64| (found - expected).abs() < 0.01;
    assert!(near(used_s(&bench, "", "user1000"), 4.0 * hour), "it counts while it runs");
    assert!(near(used_s(&bench, "", "user1001"), 2.0 * hour), "half of it is charged");
    bench.exit(bench.key(full), 0);
    bench.after_s(2 * HOUR_S);
    assert!(near(used_s(&bench, "", "user1000"), hour), "two half-lives later");
    // A change of the percentage counts from now on, and so does one of the half-life.
    let before = used_s(&bench, "", "user1001");
    config.qos[0].usage_percent = 0;
    config.policy.priority.half_life_s = 2 * HOUR_S;
    bench.input(Input::Configure(Arc::new(config)));
    assert_eq!(used_s(&bench, "", "user1001"), before);
    bench.after_s(2 * HOUR_S);
    assert!(near(used_s(&bench, "", "user1001"), before / 2.0));
    bench.exit(bench.key(half), 0);
    assert!(near(used_s(&bench, "", "user1001"), before / 2.0), "it was charged nothing");
}

#[test]
fn a_snapshot_of_an_earlier_version_is_charged_from_its_first_event_on() {
    let mut bench = Bench::new(config(&[4]));
    let id = bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    bench.start(bench.key(id));
    bench.after_s(100);
    let mut old = serde_json::to_value(bench.engine.state()).unwrap();
    old.as_object_mut().unwrap().remove("ledger");
    let state: State = serde_json::from_value(old).unwrap();
    state.check_invariants().unwrap();
    bench.engine = Engine::new(state);
    let key = bench.key(id);
    bench.submit(BOB, job(BOB)).unwrap();
    bench.after_s(10);
    let used = used_s(&bench, "", "user1000");
    assert!(used > 19.9 && used <= 20.0, "{used}");
    bench.exit(key, 0);
}

#[test]
fn of_two_accounts_the_one_that_used_less_of_its_share_goes_first() {
    let mut config = multifactor(shared(&[4]));
    config.policy.priority.half_life_s = HOUR_S;
    let mut bench = Bench::new(config);
    let much = bench.submit(ANN, job(ANN).ranks(4).limit_s(HOUR_S)).unwrap();
    bench.start(bench.key(much));
    bench.after_s(1_000);
    let physics = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
    bench.after_s(1_000);
    let biology = bench.submit(BOB, job(BOB).ranks(4)).unwrap();
    bench.exit(bench.key(much), 0);
    assert!(bench.is_live(biology) && !bench.is_live(physics), "though it is younger");
    let sum = factors(bench.engine.state(), &bench.engine.state().jobs[&physics], bench.now).unwrap();
    let shares = Shares::new(bench.engine.state(), bench.now);
    assert_eq!(sum.fair_share.value, shares.factor(Some("physics"), "user1000"));
    let listed: Vec<(u32, u32)> = shares.lines().map(|line| (line.depth, line.shares)).collect();
    assert_eq!(listed, [(0, 1), (1, 1), (2, 3), (3, 1), (2, 1), (3, 1), (3, 1)]);
    let plain = Bench::new(crate::testing::config(&[1]));
    assert!(factors(plain.engine.state(), &bench.engine.state().jobs[&physics], plain.now).is_none());
}

#[test]
fn jobs_of_the_same_user_are_one_group_and_the_oldest_goes_first() {
    for backfill in [Backfill::Easy, Backfill::EasyShortest, Backfill::Conservative, Backfill::None] {
        let mut config = multifactor(shared(&[1]));
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        let mut order = vec![bench.submit(ANN, job(ANN)).unwrap()];
        for _ in 0..3 {
            bench.after_s(1);
            order.push(bench.submit(ANN, job(ANN)).unwrap());
        }
        for id in order {
            assert!(bench.is_live(id), "{backfill:?}");
            let key = bench.key(id);
            bench.start(key);
            bench.exit(key, 0);
        }
    }
}

fn policy(weights: &[u32]) -> PriorityPolicy {
    PriorityPolicy {
        age_weight: weights[0],
        size_weight: weights[1],
        fair_share_weight: weights[2],
        pool_weight: weights[3],
        job_weight: weights[4],
        qos_weight: weights[5],
        ..PriorityPolicy::default()
    }
}

/// A cluster on which one job runs and these wait, with the records of how it came to that.
fn crowd(weights: &[u32], jobs: &[(u32, bool, u32, i32, u64)]) -> (Bench, Vec<JobId>, Vec<Record>) {
    let mut config = multifactor(shared(&[4]));
    config.qos = vec![qos("urgent", 10), qos("low", -3)];
    config.policy.priority = policy(weights);
    let mut records = Vec::new();
    let mut bench = Bench::new(config.clone());
    let mut apply = |bench: &mut Bench, input: Input| {
        let applied = bench.engine.apply(&input, bench.now);
        records.extend(applied.records);
        records.extend(bench.engine.pass(bench.now).records);
        applied.reply
    };
    bench.engine = Engine::new(State::new());
    apply(&mut bench, Input::Configure(Arc::new(config))).unwrap();
    let cores = vec![crate::event::HardwareCore::default(); 4];
    let hardware = crate::event::Hardware { cores, memory_bytes: 64 * GIB, ..Default::default() };
    let hardware = Arc::new(hardware);
    let hello =
        Input::NodeHello { node: "n1".to_owned(), boot_id: "b".to_owned(), hardware, held: Vec::new() };
    apply(&mut bench, hello).unwrap();
    let mut submit = |bench: &mut Bench, caller: Caller, spec: JobSpec| {
        let input = Input::Submit { caller, spec: Box::new(spec), request_key: None };
        match apply(bench, input).unwrap() {
            crate::input::Reply::Submitted(id) => id,
            other => panic!("{other:?}"),
        }
    };
    submit(&mut bench, ANN, job(ANN).ranks(4));
    let mut ids = Vec::new();
    for (ranks, is_ann, quality, priority, wait_s) in jobs {
        bench.now = bench.now.plus_seconds(*wait_s);
        let who = if *is_ann { ANN } else { BOB };
        let mut spec = job(who).ranks(*ranks);
        spec.qos = [None, Some("urgent".to_owned()), Some("low".to_owned())][*quality as usize].clone();
        spec.priority = *priority;
        ids.push(submit(&mut bench, who, spec));
    }
    (bench, ids, records)
}

type Wish = (u32, bool, u32, i32, u64);

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    prop::collection::vec((1u32..5, any::<bool>(), 0u32..3, -10_000..=0i32, 0u64..100_000), 2..8)
}

proptest! {
    #[test]
    fn the_greatest_sum_starts_first_and_replay_is_exact(
        weights in prop::collection::vec(0u32..10_000, 6), jobs in wishes(),
    ) {
        let (mut bench, ids, mut records) = crowd(&weights, &jobs);
        let running = bench.key(JobId(1));
        for phase in [
            crate::input::InstancePhase::Ready(Default::default()),
            crate::input::InstancePhase::Gone {
                how: crate::input::GoneHow::Exited { code: 0, signal: 0, out_of_memory: false },
                usage: Default::default(),
                started_at: None,
            },
        ] {
            let report = crate::input::InstanceReport { key: running, instance: 0, phase };
            let input = Input::NodeReport { node: "n1".to_owned(), report };
            records.extend(bench.engine.apply(&input, bench.now).records);
        }
        let state = bench.engine.state().clone();
        let scale = Scale::new(&state, bench.now);
        let sum = |id: &JobId| scale.factors(&state.jobs[id]).map(|factors| factors.sum()).unwrap();
        let best = ids.iter().max_by(|a, b| sum(a).total_cmp(&sum(b)).then(b.cmp(a))).unwrap();
        records.extend(bench.engine.pass(bench.now).records);
        prop_assert!(bench.is_live(*best), "the first in the order gets the empty node");
        bench.engine.state().check_invariants().unwrap();
        prop_assert!(bench.engine.is_consistent());
        let mut replayed = State::new();
        for record in &records {
            replayed.evolve(&record.event, record.at);
        }
        let text = |state: &State| serde_json::to_string(state).unwrap();
        prop_assert_eq!(text(&replayed), text(bench.engine.state()));
        let read: State = serde_json::from_str(&text(&replayed)).unwrap();
        prop_assert_eq!(text(&read), text(&replayed));
    }

    #[test]
    fn of_two_equal_jobs_the_older_never_has_the_smaller_sum(
        weights in prop::collection::vec(0u32..10_000, 6), wish in wishes(), later_s in 0u64..1_000_000,
    ) {
        let one = wish[0];
        let (bench, ids, _) = crowd(&weights, &[one, (one.0, one.1, one.2, one.3, 77)]);
        let state = bench.engine.state();
        let scale = Scale::new(state, bench.now.plus_seconds(later_s));
        let sum = |id: &JobId| scale.factors(&state.jobs[id]).unwrap().sum();
        prop_assert!(sum(&ids[0]) >= sum(&ids[1]));
    }

    #[test]
    fn a_greater_weight_never_harms_who_has_the_greater_factor(
        weights in prop::collection::vec(0u32..10_000, 6), jobs in wishes(), which in 0usize..6, more in 1u32..10_000,
    ) {
        let found = |weights: &[u32]| -> Vec<Factors> {
            let (bench, ids, _) = crowd(weights, &jobs);
            let state = bench.engine.state();
            let scale = Scale::new(state, bench.now);
            ids.iter().map(|id| scale.factors(&state.jobs[id]).unwrap()).collect()
        };
        let before = found(&weights);
        let mut heavier = weights.clone();
        heavier[which] += more;
        let after = found(&heavier);
        for (a, b) in [(0, 1), (1, 0)] {
            let factor = |factors: &Factors| factors.all()[which].1.value;
            prop_assert!(before.iter().all(|factors| factors.all().iter().all(|(_, f)| (0.0..=1.0).contains(&f.value))));
            if factor(&before[a]) >= factor(&before[b]) {
                let lead = |all: &[Factors]| all[a].sum() - all[b].sum();
                prop_assert!(lead(&after) >= lead(&before) - 1e-6);
            }
        }
    }
}

#[test]
fn size_counts_as_the_policy_says() {
    for small_first in [false, true] {
        let mut config = multifactor(config(&[4]));
        config.policy.priority =
            PriorityPolicy { size_weight: 1_000_000, small_first, ..PriorityPolicy::default() };
        let mut bench = Bench::new(config);
        let running = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
        bench.start(bench.key(running));
        let small = bench.submit(ANN, job(ANN)).unwrap();
        let large = bench.submit(ANN, job(ANN).ranks(4)).unwrap();
        let now = Timestamp(bench.now.0);
        let size =
            |id| factors(bench.engine.state(), &bench.engine.state().jobs[&id], now).unwrap().size.value;
        assert_eq!((size(small), size(large)), if small_first { (0.75, 0.0) } else { (0.25, 1.0) });
        bench.exit(bench.key(running), 0);
        assert_eq!(bench.is_live(small), small_first);
    }
}
