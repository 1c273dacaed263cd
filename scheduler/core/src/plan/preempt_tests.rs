//! Who takes whose place, told as scenarios.

use super::{expected_start, plan};
use crate::cluster::{Backfill, ClusterConfig, PoolConfig, Preempt};
use crate::event::Verdict;
use crate::ids::{AttemptKey, JobId, TaskIndex};
use crate::input::{Effect, GoneHow, Input};
use crate::spec::JobSpec;
use crate::state::{FinishedHow, LivePhase, State};
use crate::testing::{ANN, BOB, Bench, config, job, preempting};

/// A pool `main` of tier 0 whose tasks are requeued, and a pool `urgent` of tier 1 over the same nodes.
fn tiers(cores: &[u32]) -> ClusterConfig {
    let mut config = config(cores);
    config.pools[0].preempt = Preempt::Requeue;
    config.pools[0].grace_s = 30;
    let urgent = PoolConfig { name: "urgent".to_owned(), tier: 1, default: false, ..config.pools[0].clone() };
    config.pools.push(PoolConfig { preempt: Preempt::Off, grace_s: 0, ..urgent });
    config
}

/// One pool, in which `high` preempts `low`, whose tasks are requeued.
fn qualities(cores: &[u32]) -> ClusterConfig {
    let mut config = config(cores);
    config.qos = vec![preempting("high", &["low"], Preempt::Off), preempting("low", &[], Preempt::Requeue)];
    config
}

impl Bench {
    fn running(&mut self, spec: JobSpec) -> JobId {
        let id = self.submit(ANN, spec).unwrap();
        self.start(self.key(id));
        id
    }

    fn waits(&self, job: JobId) -> bool {
        !self.engine.state().jobs[&job].waiting.is_empty()
    }

    /// Who takes the place of a job's only task.
    fn taken_by(&self, job: JobId) -> Option<JobId> {
        taken_by(
            self.engine.state(),
            self.engine.state().jobs[&job].live.get(&TaskIndex(0)).map(|_| self.key(job))?,
        )
    }

    fn stopped(&mut self, job: JobId) {
        let key = self.key(job);
        for instance in 0..self.nodes_of(key).len() as u32 {
            self.gone(key, instance, GoneHow::Stopped);
        }
    }
}

fn taken_by(state: &State, key: AttemptKey) -> Option<JobId> {
    match &state.live_attempt(key.task)?.phase {
        LivePhase::Ending { verdict: Verdict::Preempted { by, .. }, .. } => Some(by.job),
        _ => None,
    }
}

#[test]
fn a_job_of_a_higher_tier_takes_the_place_of_the_youngest() {
    let mut bench = Bench::new(tiers(&[2]));
    let old = bench.running(job(ANN));
    bench.after_s(10);
    let young = bench.running(job(ANN));
    bench.after_s(10);
    bench.effects.clear();
    let urgent = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    assert_eq!((bench.taken_by(old), bench.taken_by(young)), (None, Some(urgent)));
    assert!(matches!(&bench.effects[..], [Effect::Stop { grace_ms: 30_000, .. }]), "{:?}", bench.effects);
    assert!(!bench.is_live(urgent));
    let small = bench.submit(BOB, job(BOB).limit_s(1)).unwrap();
    bench.after_s(20);
    bench.stopped(young);
    assert!(bench.is_live(urgent), "in the instant in which its victim is gone");
    assert!(bench.waits(young) && bench.waits(small));
    bench.exit(bench.key(old), 0);
    assert_eq!(bench.key(young).attempt, 2, "it kept its place before what came later, without a delay");
    assert!(!bench.is_live(small));
}

#[test]
fn nobody_is_ended_for_a_job_that_can_start_or_that_will_have_enough() {
    let mut bench = Bench::new(tiers(&[2, 2]));
    let first = bench.running(job(ANN).ranks(2));
    let second = bench.running(job(ANN).ranks(1));
    let fits = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    assert!(bench.is_live(fits));
    bench.cancel(ANN, first).unwrap();
    let soon = bench.submit(BOB, job(BOB).ranks(2).pool("urgent")).unwrap();
    assert!(!bench.is_live(soon) && bench.taken_by(second).is_none(), "what is being ended is enough");
    bench.after_s(1);
    let thief = bench.submit(BOB, job(BOB)).unwrap();
    bench.stopped(first);
    assert!(bench.is_live(soon) && !bench.is_live(thief));
}

#[test]
fn there_is_no_second_wave_and_no_small_task_steals_what_was_cleared() {
    let mut bench = Bench::new(tiers(&[2, 2, 2]));
    let victims: Vec<_> = (0..6).map(|_| bench.running(job(ANN))).collect();
    let gang = bench.submit(BOB, job(BOB).gang(2, 2).pool("urgent")).unwrap();
    let ending = |bench: &Bench| victims.iter().filter(|id| bench.taken_by(**id).is_some()).count();
    assert_eq!(ending(&bench), 4);
    let thieves: Vec<_> = (0..4).map(|_| bench.submit(BOB, job(BOB).limit_s(1)).unwrap()).collect();
    let order: Vec<_> = victims.iter().copied().filter(|id| bench.taken_by(*id).is_some()).collect();
    for (i, victim) in order.iter().enumerate() {
        bench.after_s(5);
        bench.stopped(*victim);
        assert_eq!(bench.is_live(gang), i == 3, "after {} of four", i + 1);
        assert!(thieves.iter().all(|thief| !bench.is_live(*thief)));
        assert_eq!(ending(&bench), 3 - i);
    }
}

#[test]
fn only_those_leave_that_are_needed() {
    let mut bench = Bench::new(tiers(&[4, 4]));
    let wide = bench.running(job(ANN).ranks(3));
    bench.after_s(1);
    let narrow: Vec<_> = (0..4).map(|_| bench.running(job(ANN))).collect();
    bench.after_s(1);
    let urgent = bench.submit(BOB, job(BOB).ranks(4).pool("urgent")).unwrap();
    let ended: Vec<_> = narrow.iter().filter(|id| bench.taken_by(**id) == Some(urgent)).collect();
    assert_eq!(
        (ended.len(), bench.taken_by(wide)),
        (3, None),
        "n2 has a free core beside three of the young"
    );
}

#[test]
fn a_gang_is_preempted_as_a_whole_and_counts_the_nodes_it_frees() {
    let mut bench = Bench::new(tiers(&[2, 2, 2]));
    let gang = bench.running(job(ANN).gang(3, 2));
    bench.effects.clear();
    let urgent = bench.submit(BOB, job(BOB).gang(2, 1).pool("urgent")).unwrap();
    assert_eq!(bench.effects.iter().filter(|e| matches!(e, Effect::Stop { .. })).count(), 3);
    let key = bench.key(gang);
    bench.gone(key, 2, GoneHow::Stopped);
    bench.gone(key, 0, GoneHow::Stopped);
    assert!(bench.is_live(urgent), "two of its nodes are free");
    assert!(bench.is_live(gang));
    bench.gone(key, 1, GoneHow::Stopped);
    assert!(bench.waits(gang));
}

#[test]
fn what_is_cancelled_or_may_not_be_requeued_ends_for_good() {
    let verdict = |bench: &Bench, id| match &bench.finished(id).unwrap().how {
        FinishedHow::Ran { verdict, .. } => verdict.clone(),
        other => panic!("{other:?}"),
    };
    for (mode, requeue) in [(Preempt::Cancel, true), (Preempt::Requeue, false)] {
        let mut config = tiers(&[1]);
        config.pools[0].preempt = mode;
        config.pools[0].grace_s = 0;
        let mut bench = Bench::new(config);
        let mut spec = job(ANN);
        spec.requeue = requeue;
        let victim = bench.running(spec);
        let after = bench.submit(ANN, job(ANN).after(&format!("afterok:{victim}"))).unwrap();
        bench.effects.clear();
        let urgent = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
        assert!(matches!(&bench.effects[..], [Effect::Stop { grace_ms: 5_000, .. }]));
        bench.exit(bench.key(victim), 0);
        assert!(
            matches!(verdict(&bench, victim), Verdict::Preempted { by, requeue: false, .. } if by.job == urgent)
        );
        let waiting = &plan(bench.engine.state(), bench.now).waiting;
        assert_eq!(waiting[&after].reason.code(), "dependency_never_satisfied");
    }
}

#[test]
fn how_a_preempted_script_ends_does_not_count() {
    let mut bench = Bench::new(tiers(&[1, 1]));
    let saved = bench.running(job(ANN));
    let lost = bench.running(job(ANN));
    bench.submit(BOB, job(BOB).gang(2, 1).pool("urgent")).unwrap();
    bench.exit(bench.key(saved), 0);
    assert!(bench.waits(saved), "a script that saves its work on SIGTERM ends with 0");
    bench.input(Input::NodeSilent { node: "n2".to_owned(), reason: "cut".to_owned() });
    assert!(bench.waits(lost));
    let tried = &bench.engine.state().jobs[&lost].tried[&TaskIndex(0)];
    assert_eq!((tried.preempted, tried.not_before, tried.avoid), (1, bench.now, None));
}

#[test]
fn being_preempted_is_no_failed_attempt() {
    let mut config = tiers(&[1]);
    config.policy.attempts_max = 2;
    config.policy.requeue_delay_s = 0;
    let mut bench = Bench::new(config);
    let victim = bench.running(job(ANN));
    for attempt in 1..=4 {
        assert_eq!(bench.key(victim).attempt, attempt);
        let urgent = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
        bench.stopped(victim);
        bench.start(bench.key(urgent));
        bench.exit(bench.key(urgent), 0);
        bench.start(bench.key(victim));
    }
    let broken = || GoneHow::Broken { reason: "supervisor killed".to_owned() };
    bench.gone(bench.key(victim), 0, broken());
    assert_eq!(bench.key(victim).attempt, 6, "the first failure");
    bench.gone(bench.key(victim), 0, broken());
    assert!(bench.finished(victim).is_some(), "the second one");
}

#[test]
fn a_user_may_cancel_what_is_being_preempted() {
    let mut bench = Bench::new(tiers(&[1]));
    let victim = bench.running(job(ANN));
    let urgent = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    bench.cancel(ANN, victim).unwrap();
    assert!(!bench.is_live(urgent));
    bench.stopped(victim);
    assert!(bench.is_live(urgent) && bench.finished(victim).is_some());
}

#[test]
fn the_young_are_exempt_until_they_have_run_for_a_while() {
    let mut config = tiers(&[1]);
    config.policy.preempt_exempt_s = 60;
    let mut bench = Bench::new(config);
    let victim = bench.submit(ANN, job(ANN)).unwrap();
    bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    bench.after_s(50);
    bench.start(bench.key(victim));
    bench.after_s(59);
    assert_eq!(bench.taken_by(victim), None);
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(1)));
    bench.after_s(1);
    assert!(bench.taken_by(victim).is_some());
}

#[test]
fn what_cannot_start_for_another_reason_ends_nobody() {
    let mut bench = Bench::new(tiers(&[2]));
    let victims = [bench.running(job(ANN)), bench.running(job(ANN))];
    let urgent = || job(BOB).pool("urgent");
    bench.submit(BOB, urgent().held()).unwrap();
    bench.submit(BOB, urgent().begin(bench.now.plus_seconds(50))).unwrap();
    bench.submit(BOB, urgent().after(&format!("afterok:{}", victims[0]))).unwrap();
    assert!(victims.iter().all(|victim| bench.taken_by(*victim).is_none()));
    let throttled = bench.submit(BOB, urgent().array(4, Some(1))).unwrap();
    assert_eq!(victims.iter().filter(|victim| bench.taken_by(**victim).is_some()).count(), 1);
    let taken = *victims.iter().find(|victim| bench.taken_by(**victim).is_some()).unwrap();
    bench.stopped(taken);
    assert_eq!(bench.engine.state().jobs[&throttled].live.len(), 1);
    assert_eq!(victims.iter().filter(|victim| bench.taken_by(**victim).is_some()).count(), 0);
}

#[test]
fn every_task_of_an_array_and_every_equal_job_clears_its_own_place() {
    let mut bench = Bench::new(tiers(&[4]));
    let victims: Vec<_> = (0..4).map(|_| bench.running(job(ANN))).collect();
    let array = bench.submit(BOB, job(BOB).pool("urgent").array(2, None)).unwrap();
    let equal = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    let by: Vec<_> = victims.iter().filter_map(|id| bench.taken_by(*id)).collect();
    assert_eq!(by.iter().filter(|by| **by == array).count(), 2);
    assert_eq!(by.iter().filter(|by| **by == equal).count(), 1);
}

#[test]
fn a_quality_of_service_gives_a_right_also_behind_a_head_that_has_none() {
    let mut bench = Bench::new(qualities(&[2, 2]));
    let low = bench.running(job(ANN).ranks(2).qos("low").limit_s(1000));
    let other = bench.running(job(ANN).ranks(2).limit_s(300));
    let head = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    bench.submit(BOB, job(BOB).qos("high").limit_s(2000)).unwrap();
    assert_eq!(bench.taken_by(low), None, "it would delay the head, which starts in 1000 s");
    let short = bench.submit(BOB, job(BOB).qos("high").limit_s(900)).unwrap();
    assert_eq!((bench.taken_by(low), bench.taken_by(other)), (Some(short), None));
    bench.stopped(low);
    assert!(bench.is_live(short) && !bench.is_live(head));
    assert!(!bench.is_live(low), "it waits again, and cannot take its place back");
}

#[test]
fn what_started_in_the_same_pass_is_a_victim_of_the_next() {
    let mut bench = Bench::new(qualities(&[1]));
    let running = bench.running(job(ANN));
    let low = bench.submit(ANN, job(ANN).qos("low")).unwrap();
    let high = bench.submit(BOB, job(BOB).qos("high")).unwrap();
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(low) && bench.taken_by(low).is_none());
    assert_eq!(bench.engine.next_wake(), Some(bench.now), "the pass goes on at once");
    bench.after_s(0);
    assert_eq!(bench.taken_by(low), Some(high));
}

#[test]
fn pools_without_backfill_and_with_reservations_for_all_keep_their_order() {
    for backfill in [Backfill::None, Backfill::Conservative] {
        let mut config = qualities(&[2]);
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        let low = [bench.running(job(ANN).qos("low")), bench.running(job(ANN).qos("low"))];
        let first = bench.submit(BOB, job(BOB).qos("high")).unwrap();
        assert_eq!(low.iter().filter(|id| bench.taken_by(**id) == Some(first)).count(), 1, "{backfill:?}");
        let head = bench.submit(BOB, job(BOB).ranks(2)).unwrap();
        let behind = bench.submit(BOB, job(BOB).qos("high")).unwrap();
        assert_eq!(low.iter().filter(|id| bench.taken_by(**id).is_some()).count(), 1, "{backfill:?}");
        let taken = *low.iter().find(|id| bench.taken_by(**id).is_some()).unwrap();
        bench.stopped(taken);
        assert!(bench.is_live(first) && !bench.is_live(head) && !bench.is_live(behind), "{backfill:?}");
    }
}

#[test]
fn the_plan_says_who_leaves_and_when_it_starts() {
    let mut bench = Bench::new(tiers(&[1, 1]));
    let victims = [bench.running(job(ANN)), bench.running(job(ANN))];
    let gang = bench.submit(BOB, job(BOB).gang(2, 1).pool("urgent").limit_s(100)).unwrap();
    bench.after_s(10);
    let waiting = plan(bench.engine.state(), bench.now).waiting;
    assert_eq!(
        waiting[&gang].reason.to_string(),
        format!("it ends tasks of jobs {}, {} and starts when they have left", victims[0], victims[1])
    );
    let start = bench.now.plus_seconds(20);
    assert_eq!(waiting[&gang].expected_start, Some(start), "when their grace is over");
    assert_eq!(expected_start(bench.engine.state(), gang, bench.now), Some(start));
    bench.stopped(victims[0]);
    let again = expected_start(bench.engine.state(), victims[0], bench.now);
    assert_eq!(again, Some(start.plus_seconds(100)), "after the gang");
    let next = bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    assert_eq!(expected_start(bench.engine.state(), next, bench.now), Some(start.plus_seconds(100)));
}

#[test]
fn a_pass_looks_for_victims_only_so_often_and_goes_on_at_once() {
    let mut bench = Bench::new(tiers(&[100]));
    let low = bench.submit(ANN, job(ANN).array(100, None)).unwrap();
    bench.submit(BOB, job(BOB).pool("urgent").array(100, None)).unwrap();
    let ending = |bench: &Bench| {
        let live = bench.engine.state().jobs[&low].live.values();
        live.filter(|live| matches!(live.phase, LivePhase::Ending { .. })).count()
    };
    assert_eq!(ending(&bench), 64);
    assert_eq!(bench.engine.next_wake(), Some(bench.now));
    bench.after_s(0);
    assert_eq!(ending(&bench), 100);
}

#[test]
fn a_preempted_attempt_is_written_and_read_again() {
    let mut bench = Bench::new(tiers(&[1]));
    let victim = bench.running(job(ANN));
    bench.submit(BOB, job(BOB).pool("urgent")).unwrap();
    let text = serde_json::to_string(bench.engine.state()).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), *bench.engine.state());
    bench.stopped(victim);
    let text = serde_json::to_string(&bench.engine.state().jobs[&victim]).unwrap();
    assert!(text.contains("\"preempted\":1"), "{text}");
    let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
    older["tried"]["0"].as_object_mut().unwrap().remove("preempted");
    let job: crate::state::Job = serde_json::from_value(older).unwrap();
    assert_eq!(job.tried[&TaskIndex(0)].preempted, 0);
}
