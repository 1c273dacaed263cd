//! Job schedules, told as scenarios.

use std::sync::Arc;

use super::stage::{ACCOUNT, batch_job, id, pool, shape, task};
use crate::batch::{
    BatchCommand, BatchJobSpec, BatchRefusal, FoldedId, Manager, ScheduleKey, SchedulePhase, ScheduleSpec,
    ScheduleTimes, Target,
};
use crate::ids::Timestamp;
use crate::state::{BatchSchedule, JobPhase};
use crate::testing::{Bench, config};

fn schedule(name: &str, times: ScheduleTimes) -> ScheduleSpec {
    let manager = Manager { task: task("boss"), shape: Arc::new(shape()), ends_job: true };
    let job = BatchJobSpec { manager: Some(Box::new(manager)), ..batch_job("", "P") };
    ScheduleSpec { id: name.to_owned(), times, job: Arc::new(job), said: "{}".into() }
}

fn every(seconds: u64) -> ScheduleTimes {
    ScheduleTimes { interval_s: Some(seconds), ..ScheduleTimes::default() }
}

fn bench() -> Bench {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(pool("P", 4), 1);
    bench
}

fn key(name: &str) -> ScheduleKey {
    ScheduleKey { account: ACCOUNT.into(), schedule: id(name) }
}

impl Bench {
    fn create_schedule(&mut self, spec: ScheduleSpec) -> Result<(), BatchRefusal> {
        self.batch(BatchCommand::CreateSchedule { spec: Box::new(spec) }).map(drop)
    }

    fn the_schedule(&self, name: &str) -> &BatchSchedule {
        self.engine.state().batch_schedule(&key(name)).expect("the schedule is there")
    }

    fn jobs_of(&self, name: &str) -> Vec<(String, bool)> {
        let jobs = self.engine.state().batch_jobs_of_schedule(&key(name));
        jobs.map(|(_, job)| (job.spec.id.clone(), job.is_completed())).collect()
    }

    /// A job's manager runs for so long, and ends.
    fn manage(&mut self, job: &str, seconds: u64) {
        let key = self.key(self.made(job, "boss"));
        self.start(key);
        self.pass(seconds);
        self.exit(key, 0);
        self.settle();
    }

    fn pass(&mut self, seconds: u64) {
        self.after_s(seconds);
        self.settle();
    }
}

#[test]
fn a_schedule_makes_one_job_after_another() {
    let mut bench = bench();
    bench.create_schedule(schedule("Night", every(100))).unwrap();
    assert_eq!(bench.jobs_of("night"), [("Night:job-1".to_owned(), false)]);
    let spec = &bench.engine.state().jobs[&bench.made("night:job-1", "boss")].spec;
    let folder = spec.staging.as_ref().unwrap().folder.as_ref().unwrap().as_str();
    assert_eq!(
        (folder, spec.environment["AZ_BATCH_JOB_ID"].as_str()),
        ("workitems/night/job-1/boss", "Night:job-1")
    );
    // The next one waits for the end of this one, and what was missed meanwhile is one run.
    bench.manage("night:job-1", 350);
    assert_eq!(bench.jobs_of("night"), [("Night:job-1".to_owned(), true), ("Night:job-2".to_owned(), false)]);
    bench.end_task("night:job-2", "boss", 0);
    bench.pass(49);
    assert_eq!(bench.jobs_of("night").len(), 2);
    bench.pass(1);
    assert_eq!(bench.jobs_of("night").len(), 3, "the times stay where they were");
    bench.batch(BatchCommand::TerminateSchedule { schedule: id("night") }).unwrap();
    assert_eq!(bench.the_schedule("night").phase, SchedulePhase::Terminating);
    bench.task_stopped(bench.made("night:job-3", "boss"));
    let JobPhase::Completed { reason, .. } = &bench.the_job("night:job-3").unwrap().phase else { panic!() };
    assert_eq!(
        (reason.as_str(), bench.the_schedule("night").phase),
        ("TerminateJobSchedule", SchedulePhase::Completed)
    );
    assert_eq!(
        bench.batch(BatchCommand::EnableSchedule { schedule: id("night") }),
        Err(BatchRefusal::ScheduleCompleted)
    );
    bench.batch(BatchCommand::DeleteSchedule { schedule: id("night") }).unwrap();
    assert!(
        bench.engine.state().batch_schedule(&key("night")).is_none() && bench.jobs_of("night").is_empty()
    );
}

#[test]
fn a_schedule_keeps_to_its_times() {
    let mut bench = bench();
    let now = bench.now;
    let at = |seconds: u64| Some(Timestamp(now.0 + seconds * 1_000_000));
    let times =
        ScheduleTimes { not_before: at(50), not_after: at(400), window_s: Some(60), interval_s: Some(100) };
    bench.create_schedule(schedule("s", times)).unwrap();
    assert!(bench.jobs_of("s").is_empty());
    bench.pass(50);
    assert_eq!(bench.jobs_of("s").len(), 1);
    // The run at 150 s cannot start within its window, and is lost.
    bench.manage("s:job-1", 161);
    assert_eq!((bench.jobs_of("s").len(), bench.the_schedule("s").next), (1, at(250)));
    bench.batch(BatchCommand::DisableSchedule { schedule: id("s") }).unwrap();
    bench.pass(60);
    assert_eq!(bench.jobs_of("s").len(), 1);
    bench.batch(BatchCommand::EnableSchedule { schedule: id("s") }).unwrap();
    assert_eq!((bench.jobs_of("s").len(), bench.the_schedule("s").next), (2, at(350)));
    bench.end_task("s:job-2", "boss", 0);
    bench.pass(100);
    bench.end_task("s:job-3", "boss", 0);
    assert_eq!(bench.the_schedule("s").phase, SchedulePhase::Completed, "no time is left");
    // Without an interval there is one job, and the schedule ends with it.
    bench.create_schedule(schedule("once", ScheduleTimes::default())).unwrap();
    assert_eq!(bench.the_schedule("once").phase, SchedulePhase::Active);
    bench.end_task("once:job-1", "boss", 1);
    assert_eq!(bench.the_schedule("once").phase, SchedulePhase::Completed);
}

#[test]
fn a_schedule_is_changed_for_the_jobs_that_come() {
    let mut bench = bench();
    bench.create_schedule(schedule("s", every(100))).unwrap();
    let mut other = schedule("s", every(200));
    other.job = Arc::new(BatchJobSpec { priority: 7, ..(*other.job).clone() });
    bench.batch(BatchCommand::UpdateSchedule { schedule: id("s"), spec: Box::new(other) }).unwrap();
    bench.end_task("s:job-1", "boss", 0);
    bench.pass(199);
    assert_eq!(bench.jobs_of("s").len(), 1);
    bench.pass(1);
    assert_eq!(bench.the_job("s:job-2").unwrap().spec.priority, 7);
    bench.batch(BatchCommand::DeleteSchedule { schedule: id("s") }).unwrap();
    assert_eq!(bench.the_schedule("s").phase, SchedulePhase::Deleting);
    bench.task_stopped(bench.made("s:job-2", "boss"));
    assert!(bench.engine.state().batch_schedule(&key("s")).is_none());
}

#[test]
fn schedules_that_cannot_be_are_refused() {
    let mut bench = bench();
    bench.create_job(batch_job("J", "P"));
    let same = |what, name: &str| Err(BatchRefusal::SameId { what, id: name.to_owned() });
    assert_eq!(bench.create_schedule(schedule("j", every(100))), same(Target::Job, "j"));
    bench.create_schedule(schedule("S", every(100))).unwrap();
    let job = BatchCommand::CreateJob { spec: Box::new(batch_job("s", "P")) };
    assert_eq!(bench.batch(job).map(drop), same(Target::Schedule, "s"));
    let exists = BatchRefusal::Exists { what: Target::Schedule, id: "s".to_owned() };
    assert_eq!(bench.create_schedule(schedule("s", every(100))), Err(exists));
    let wrong = |times| match Bench::create_schedule(&mut bench_of(), schedule("x", times)) {
        Err(BatchRefusal::Invalid { property, .. }) => property,
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(every(59)), "recurrenceInterval");
    assert_eq!(wrong(ScheduleTimes { window_s: Some(1), ..every(60) }), "startWindow");
    assert_eq!(wrong(ScheduleTimes { not_after: Some(Timestamp(1)), ..every(60) }), "doNotRunAfter");
    let none = BatchCommand::DeleteSchedule { schedule: FoldedId::of("none") };
    assert!(matches!(bench.batch(none), Err(BatchRefusal::NotFound { what: Target::Schedule, .. })));
}

fn bench_of() -> Bench {
    bench()
}
