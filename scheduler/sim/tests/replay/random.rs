//! Random workloads against the plain reference, job by job.

use muster_sim::Rng;
use muster_sim::replay::{ReplayJob, ReplayPolicy};

use super::reference::{self, Rule};
use super::{job, starts};

/// A backlogged machine: bursts of jobs, estimates that are seldom right, many equal ones.
fn workload(seed: u64, processors: u32, count: usize) -> Vec<ReplayJob> {
    let mut rng = Rng::new(seed);
    let mut submit_s = 0;
    let jobs = (0..count).map(|i| {
        submit_s += if rng.one_in(2) { 0 } else { rng.below(60) };
        let estimate_s = [30, 60, 100, 300][rng.below(4) as usize] + rng.below(3);
        let run_s = if rng.one_in(4) { estimate_s } else { 1 + rng.below(estimate_s) };
        let width = if rng.one_in(3) { processors } else { processors / 3 + 1 };
        job(i as i64 + 1, submit_s, run_s, estimate_s, 1 + rng.below(u64::from(width)) as u32)
    });
    let mut jobs: Vec<ReplayJob> = jobs.collect();
    jobs[0].submit_s = 0;
    jobs
}

fn compare(policy: ReplayPolicy, rule: Rule) {
    for seed in 1..=60 {
        let processors = [4, 10, 64][seed as usize % 3];
        let jobs = workload(seed, processors, 120);
        let expected = reference::starts(&jobs, processors, rule);
        let found = starts(processors, &jobs, policy);
        if let Some(first) = (0..jobs.len()).find(|i| expected[*i] != found[*i]) {
            panic!(
                "seed {seed}: job {:?} starts at {} instead of {}",
                jobs[first], found[first], expected[first]
            );
        }
    }
}

#[test]
fn fcfs_starts_every_job_when_the_reference_does() {
    compare(ReplayPolicy::Fcfs, Rule::Fcfs);
}

#[test]
fn easy_starts_every_job_when_the_reference_does() {
    compare(ReplayPolicy::Easy, Rule::Easy);
}

#[test]
fn easy_shortest_first_starts_every_job_when_the_reference_does() {
    compare(ReplayPolicy::EasySjbf, Rule::EasySjbf);
}

#[test]
fn shortest_first_with_easy_starts_every_job_when_the_reference_does() {
    compare(ReplayPolicy::SjfEasy, Rule::SjfEasy);
}

#[test]
fn conservative_starts_every_job_when_the_reference_does() {
    compare(ReplayPolicy::Conservative, Rule::Conservative);
}
