//! Pools that jobs bring, told as scenarios.

use std::sync::Arc;

use super::stage::{ACCOUNT, batch_job, id, pool, shape, task};
use crate::batch::{
    AutoPool, BatchCommand, BatchJobSpec, BatchPoolSpec, BatchRefusal, Manager, POOLS_PER_ACCOUNT_MAX,
    PackageReference, PoolLifetime, PoolSetup, Scaling, ScheduleSpec, ScheduleTimes, SchedulingError,
};
use crate::state::JobPhase;
use crate::testing::{Bench, config};

fn own() -> AutoPool {
    AutoPool {
        prefix: "mine".to_owned(),
        pool: pool("", 2),
        target: 2,
        target_low: 0,
        timeout_s: 900,
        scaling: None,
        lifetime: PoolLifetime::Job,
        keep_alive: false,
    }
}

fn brings(name: &str, auto_pool: AutoPool) -> BatchJobSpec {
    BatchJobSpec { auto_pool: Some(Box::new(auto_pool)), ..batch_job(name, "") }
}

fn pools(bench: &Bench) -> Vec<String> {
    let account = bench.engine.state().batch_account(ACCOUNT).unwrap();
    account.pools.keys().map(ToString::to_string).collect()
}

fn error_of(bench: &Bench, job: &str) -> SchedulingError {
    match &bench.the_job(job).unwrap().phase {
        JobPhase::Completed { error: Some(error), .. } => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_may_bring_a_pool_that_is_gone_with_it() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let long = AutoPool { prefix: "x".repeat(21), ..own() };
    let refused = bench.batch(BatchCommand::CreateJob { spec: Box::new(brings("J", long)) });
    assert!(
        matches!(refused, Err(BatchRefusal::Invalid { property: "autoPoolIdPrefix", .. })),
        "{refused:?}"
    );
    bench.create_job(brings("J", own()));
    let name = bench.the_job("j").unwrap().spec.pool.to_string();
    assert!(name.starts_with("mine-") && bench.the_pool(&name).lent() == 2, "{name}");
    bench.add("J", shape(), vec![task("a")]);
    let mut ends = BatchJobSpec::clone(&bench.the_job("j").unwrap().spec);
    ends.terminate_when_complete = true;
    bench.batch(BatchCommand::UpdateJob { job: id("j"), spec: Box::new(ends) }).unwrap();
    bench.end_task("j", "a", 0);
    assert!(bench.the_job("j").unwrap().is_completed());
    assert!(pools(&bench).is_empty());
    bench.create_job(brings("kept", AutoPool { keep_alive: true, ..own() }));
    bench.batch(BatchCommand::DeleteJob { job: id("kept") }).unwrap();
    assert!(bench.the_job("kept").is_none());
    assert_eq!(pools(&bench).len(), 1);
}

#[test]
fn a_job_whose_pool_cannot_be_made_has_completed_and_says_why() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let nowhere = BatchPoolSpec { home: "huge".to_owned(), ..pool("", 2) };
    let manager = Manager { task: task("boss"), shape: Arc::new(shape()), ends_job: true };
    bench.create_job(BatchJobSpec {
        manager: Some(Box::new(manager)),
        ..brings("nowhere", AutoPool { pool: nowhere, ..own() })
    });
    let error = error_of(&bench, "nowhere");
    assert!(
        error.code == "InvalidAutoPoolSettings" && error.message.contains("there are: main"),
        "{error:?}"
    );
    assert!(bench.the_job("nowhere").unwrap().tasks.is_empty());
    let wrong = Scaling { formula: "$TargetDedicatedNodes = ".into(), interval_s: 300 };
    bench.create_job(brings("formula", AutoPool { target: 0, scaling: Some(wrong), ..own() }));
    assert_eq!(error_of(&bench, "formula").code, "InvalidAutoScaleFormulaInAutoPool");
    let packages = vec![PackageReference { application: "render".to_owned(), version: None }];
    let setup = PoolSetup { packages, mounts: Vec::new(), ..PoolSetup::default() };
    let lacking = BatchPoolSpec { setup, ..pool("", 2) };
    bench.create_job(brings("packages", AutoPool { pool: lacking, ..own() }));
    assert_eq!(error_of(&bench, "packages").code, "InvalidApplicationPackageReferencesInAutoPool");
    assert!(pools(&bench).is_empty());
    assert_eq!(
        bench.batch(BatchCommand::TerminateJob { job: id("formula"), reason: None }),
        Err(BatchRefusal::JobCompleted)
    );
    for i in 0..POOLS_PER_ACCOUNT_MAX {
        bench.create_pool(pool(&format!("p{i}"), 1), 0);
    }
    bench.create_job(brings("many", own()));
    assert_eq!(error_of(&bench, "many").code, "AutoPoolCreationFailedWithQuotaReached");
}

#[test]
fn a_pool_that_a_job_brings_may_scale_itself() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let scaling =
        Some(Scaling { formula: "$TargetDedicatedNodes = 1 + $ActiveTasks".into(), interval_s: 300 });
    bench.create_job(brings("J", AutoPool { target: 0, scaling, ..own() }));
    let name = bench.the_job("j").unwrap().spec.pool.to_string();
    assert_eq!((bench.the_pool(&name).lent(), bench.the_pool(&name).scale.is_some()), (1, true));
    bench.batch(BatchCommand::TerminateJob { job: id("j"), reason: None }).unwrap();
    assert!(pools(&bench).is_empty());
}

#[test]
fn the_jobs_of_a_schedule_may_share_a_pool_that_is_gone_with_the_schedule() {
    let of_schedule = AutoPool { lifetime: PoolLifetime::Schedule, ..own() };
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let alone = bench.batch(BatchCommand::CreateJob { spec: Box::new(brings("J", of_schedule.clone())) });
    assert!(matches!(alone, Err(BatchRefusal::Invalid { property: "poolLifetimeOption", .. })), "{alone:?}");
    let create = |bench: &mut Bench, auto_pool: AutoPool, interval_s: Option<u64>| {
        let manager = Manager { task: task("boss"), shape: Arc::new(shape()), ends_job: true };
        let job = BatchJobSpec { manager: Some(Box::new(manager)), ..brings("", auto_pool) };
        let times = ScheduleTimes { interval_s, ..ScheduleTimes::default() };
        let spec = ScheduleSpec { id: "s".to_owned(), times, job: Arc::new(job), said: "{}".into() };
        bench.batch(BatchCommand::CreateSchedule { spec: Box::new(spec) }).unwrap();
    };
    create(&mut bench, of_schedule.clone(), Some(100));
    let first = pools(&bench);
    assert_eq!(first.len(), 1);
    bench.end_task("s:job-1", "boss", 0);
    assert_eq!(pools(&bench), first, "it waits for the next job");
    bench.after_s(100);
    bench.settle();
    assert_eq!(bench.the_job("s:job-2").unwrap().spec.pool.as_str(), first[0]);
    // One that somebody has deleted is made anew.
    bench.batch(BatchCommand::DeletePool { pool: id(&first[0]) }).unwrap();
    bench.task_stopped(bench.made("s:job-2", "boss"));
    assert!(pools(&bench).is_empty());
    bench.batch(BatchCommand::TerminateJob { job: id("s:job-2"), reason: None }).unwrap();
    bench.after_s(100);
    bench.settle();
    assert!(pools(&bench).len() == 1 && pools(&bench) != first);
    bench.batch(BatchCommand::TerminateSchedule { schedule: id("s") }).unwrap();
    bench.task_stopped(bench.made("s:job-3", "boss"));
    assert!(pools(&bench).is_empty());
    bench.batch(BatchCommand::DeleteSchedule { schedule: id("s") }).unwrap();
    create(&mut bench, AutoPool { keep_alive: true, ..of_schedule }, None);
    bench.end_task("s:job-1", "boss", 0);
    assert_eq!(pools(&bench).len(), 1);
    // By default each job has a pool of its own.
    bench.batch(BatchCommand::DeleteSchedule { schedule: id("s") }).unwrap();
    create(&mut bench, own(), Some(100));
    let before = pools(&bench);
    bench.end_task("s:job-1", "boss", 0);
    assert_eq!((before.len(), pools(&bench).len()), (2, 1));
}
