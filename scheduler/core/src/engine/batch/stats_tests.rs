//! What tasks have used, and what pools have had of nodes.

use std::sync::Arc;

use super::stage::{ACCOUNT, batch_job, id, pool, shape, task};
use crate::batch::{
    BatchCommand, BatchJobSpec, Manager, Retries, ScheduleKey, ScheduleSpec, ScheduleTimes, Targets,
};
use crate::event::Usage;
use crate::input::{GoneHow, Input, InstancePhase, InstanceReport};
use crate::state::BatchStats;
use crate::testing::{Bench, config};

const S: u64 = 1_000_000;

fn used(cpu_s: u64) -> Usage {
    let (cpu_time_us, cpu_system_us) = (cpu_s * S, S);
    Usage {
        cpu_time_us,
        cpu_system_us,
        memory_peak_bytes: cpu_s,
        read_bytes: 10,
        write_operations: 1,
        ..Usage::default()
    }
}

impl Bench {
    /// A task runs for so long, uses so much and ends with a code.
    fn run_for(&mut self, job: &str, name: &str, seconds: u64, code: u32, usage: Usage) {
        let key = self.key(self.made(job, name));
        self.start(key);
        self.after_s(seconds);
        let how = GoneHow::Exited { code, signal: 0, out_of_memory: false };
        let phase = InstancePhase::Gone { how, usage, started_at: None };
        let (node, report) = (self.nodes_of(key)[0].clone(), InstanceReport { key, instance: 0, phase });
        self.input(Input::NodeReport { node, report });
        self.settle();
    }

    fn job_stats(&self, job: &str) -> BatchStats {
        self.engine.state().batch_job_stats(self.the_job(job).unwrap(), self.now)
    }
}

#[test]
fn a_job_adds_up_what_its_tasks_have_used() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("P", 1), 1);
    bench.create_job(BatchJobSpec { retries: Retries::AtMost(1), ..batch_job("J", "P") });
    bench.add("J", shape(), vec![task("a"), task("b")]);
    bench.run_for("j", "a", 10, 1, used(7));
    // The second one goes before the first one's other try.
    bench.run_for("j", "b", 20, 0, used(5));
    let stats = bench.job_stats("j");
    assert_eq!((stats.used.cpu_time_us, stats.used.cpu_system_us), (12 * S, 2 * S));
    assert_eq!(
        (stats.used.read_bytes, stats.used.write_operations, stats.used.memory_peak_bytes),
        (20, 2, 7)
    );
    assert_eq!((stats.wall_us, stats.retries, stats.succeeded, stats.failed), (30 * S, 1, 1, 0));
    assert_eq!(stats.wait_us, 10 * S, "of those that have completed");
    bench.after_s(5);
    assert_eq!(bench.job_stats("j").wall_us, 35 * S, "that of what runs counts as it goes");
    let b = bench.engine.state().batch_task_stats(bench.the_task("j", "b"), bench.now);
    assert_eq!((b.used.unwrap().cpu_time_us, b.wall_us, b.wait_us), (5 * S, 20 * S, 10 * S));
    let a = bench.engine.state().batch_task_stats(bench.the_task("j", "a"), bench.now);
    assert_eq!((a.used, a.wall_us, a.wait_us), (None, 5 * S, 30 * S), "until its last attempt");
    // One that failed and runs again waits anew.
    bench.run_for("j", "a", 5, 1, used(1));
    let failed = bench.job_stats("j");
    assert_eq!((failed.failed, failed.wait_us, failed.retries), (1, 40 * S, 1));
    bench.batch(BatchCommand::ReactivateTask { job: id("j"), task: id("a") }).unwrap();
    assert_eq!((bench.job_stats("j").failed, bench.job_stats("j").wait_us), (0, 10 * S));
}

#[test]
fn a_schedule_remembers_what_its_jobs_have_used_that_are_gone() {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(pool("P", 4), 1);
    let manager = Manager { task: task("boss"), shape: Arc::new(shape()), ends_job: true };
    let job = BatchJobSpec { manager: Some(Box::new(manager)), ..batch_job("", "P") };
    let times = ScheduleTimes { interval_s: Some(100), ..ScheduleTimes::default() };
    let spec = ScheduleSpec { id: "s".to_owned(), times, job: Arc::new(job), said: "{}".into() };
    bench.batch(BatchCommand::CreateSchedule { spec: Box::new(spec) }).unwrap();
    bench.run_for("s:job-1", "boss", 10, 0, used(3));
    bench.after_s(100);
    bench.settle();
    bench.run_for("s:job-2", "boss", 20, 1, used(4));
    bench.batch(BatchCommand::DeleteJob { job: id("s:job-1") }).unwrap();
    let key = ScheduleKey { account: ACCOUNT.into(), schedule: id("s") };
    let state = bench.engine.state();
    let stats = state.batch_schedule_stats(&key, state.batch_schedule(&key).unwrap(), bench.now);
    assert_eq!((stats.used.cpu_time_us, stats.wall_us), (7 * S, 30 * S));
    assert_eq!((stats.succeeded, stats.failed), (1, 1));
}

#[test]
fn pools_are_metered_by_the_hour() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let began = bench.now;
    let target = Targets { dedicated: Some(1), low_priority: Some(1) };
    let spec = Box::new(pool("Big", 1));
    bench.batch(BatchCommand::CreatePool { spec, target, timeout_s: 900, scaling: None }).unwrap();
    bench.after_s(5_400);
    bench.settle();
    let core_ms = |bench: &Bench| bench.engine.state().batch_core_ms(bench.the_pool("big"), bench.now);
    assert_eq!(core_ms(&bench), 4 * 5_400_000, "what others may take back is not dedicated");
    let hours = |bench: &Bench| {
        let hour = |at: crate::ids::Timestamp| at.0 / 3_600_000_000;
        let all = bench.engine.state().batch_metered(ACCOUNT, hour(began)..=hour(bench.now), bench.now);
        all.into_values().map(|metered| (metered.pool, metered.core_ms)).collect::<Vec<_>>()
    };
    let before: u64 = hours(&bench).iter().map(|(_, core_ms)| core_ms).sum();
    assert_eq!(before, 8 * 5_400_000);
    assert!(
        hours(&bench).len() >= 2
            && hours(&bench).iter().all(|(pool, ms)| pool == "Big" && *ms <= 8 * 3_600_000)
    );
    // It is known as well when the pool is gone, for a month.
    bench.batch(BatchCommand::DeletePool { pool: id("big") }).unwrap();
    let all = hours(&bench);
    assert_eq!(all.iter().map(|(_, core_ms)| core_ms).sum::<u64>(), before);
    bench.after_s(32 * 86_400);
    bench.create_pool(pool("q", 1), 1);
    bench.batch(BatchCommand::DeletePool { pool: id("q") }).unwrap();
    assert!(hours(&bench).iter().all(|(pool, _)| pool == "q"), "{:?}", hours(&bench));
}
