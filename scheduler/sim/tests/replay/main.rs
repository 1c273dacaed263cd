//! Replays against schedules that were computed by hand, by a plain reference, and by the published reference
//! simulator's rules on logs of real sites.

mod hand;
mod logs;
mod random;
mod reference;

use muster_sim::replay::{JobRun, ReplayJob, ReplayPolicy, Workload, replay};

/// A job: submit, run, estimate, processors.
fn job(number: i64, submit_s: u64, run_s: u64, estimate_s: u64, processors: u32) -> ReplayJob {
    ReplayJob { number, submit_s, run_s, estimate_s, processors, user: number as u32 % 5 }
}

fn run(workload: &Workload, policy: ReplayPolicy) -> Vec<JobRun> {
    replay(workload, policy.order(), policy.backfill()).expect("the workload is replayed to its end")
}

fn starts(processors: u32, jobs: &[ReplayJob], policy: ReplayPolicy) -> Vec<u64> {
    let workload = Workload { processors, jobs: jobs.to_vec() };
    run(&workload, policy).iter().map(|run| run.start_s).collect()
}
