//! Jobs that wait for more than room: drawn by seed, and checked when they start.

use muster_core::eligibility::{Dependency, Eligibility, Term};
use muster_core::ids::{AttemptKey, JobId, JobRef, TaskIndex, Timestamp};
use muster_core::spec::Request;
use muster_core::state::State;

use crate::rng::Rng;

/// When a job may start. What can never be fulfilled is cancelled, so that every world comes to its end.
pub(crate) fn eligibility(rng: &mut Rng, accepted: &[JobId], now: Timestamp, limit_s: u64) -> Eligibility {
    let mut when = Eligibility { cancel_unfulfillable: true, ..Eligibility::default() };
    match rng.below(10) {
        0 => when.hold = true,
        1 => when.begin = Some(now.plus_seconds(rng.below(20))),
        2 => {
            when.deadline = Some(now.plus_seconds(limit_s + rng.below(60)));
            when.time_min_s = rng.one_in(2).then_some(1);
        }
        3..6 if !accepted.is_empty() => when.dependency = Some(dependency(rng, accepted)),
        _ => {}
    }
    when
}

fn dependency(rng: &mut Rng, accepted: &[JobId]) -> Dependency {
    let count = 1 + rng.below(3);
    // Of a single term nobody says that any will do.
    let any = count > 1 && rng.one_in(3);
    let terms = (0..count).map(|_| {
        // Mostly young jobs, most of which have not ended.
        let back = rng.below(accepted.len().min(8) as u64) as usize;
        let job = accepted[accepted.len() - 1 - back];
        let on = JobRef { job, task: rng.one_in(4).then_some(TaskIndex(0)) };
        match rng.below(8) {
            0 => Term::After { on, minutes: rng.below(2) as u32 },
            1 | 2 => Term::AfterAny(on),
            3 | 4 => Term::AfterOk(on),
            5 => Term::AfterNotOk(on),
            6 => Term::Singleton,
            _ => Term::AfterCorr(JobRef { job, task: None }),
        }
    });
    Dependency { any, terms: terms.collect() }
}

/// Narrows a request to some of the nodes, or lets their number vary.
pub(crate) fn places(rng: &mut Rng, request: &mut Request, nodes: usize) {
    let node = format!("n{}", 1 + rng.below(nodes as u64));
    match rng.below(16) {
        0 => request.exclude = [node].into(),
        1 => request.nodelist = [node].into(),
        2 => request.constraint = "odd".parse().ok(),
        3 => request.constraint = "!odd".parse().ok(),
        4 => {
            request.nodes_max = request.nodes.map(|least| least + rng.below(3) as u32);
            request.ranks_grow = request.nodes_max.is_some() && rng.one_in(2);
        }
        5 | 6 => request.contiguous = true,
        7 => request.threads_per_core = Some(1 + rng.below(2) as u32),
        8 => {
            request.contiguous = true;
            request.threads_per_core = Some(2);
            request.nodes_max = request.nodes.map(|least| least + rng.below(3) as u32);
        }
        _ => {}
    }
}

/// Whether an attempt's nodes follow each other and its cores are as wide as its job wishes.
pub(crate) fn is_in_place(state: &State, key: AttemptKey) -> bool {
    let (Some(job), Some(live)) = (state.jobs.get(&key.task.job), state.live_attempt(key.task)) else {
        return true;
    };
    let request = &job.spec.request;
    // The one pool has all nodes, on no switch, so that their order is that of their ids.
    let mut nodes: Vec<u32> = live.allocation.shares.iter().map(|share| share.node.0).collect();
    nodes.sort_unstable();
    let follow = nodes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let wide = |threads: u32| {
        live.allocation.shares.iter().all(|share| {
            let hardware = state.node(share.node).hardware();
            hardware.is_none_or(|found| {
                share.cores.iter().all(|core| found.cores[core as usize].threads >= threads)
            })
        })
    };
    (!request.contiguous || follow) && request.threads_per_core.is_none_or(wide)
}

/// Whether a job that has just started was free to, as far as the records of others can tell.
pub(crate) fn was_free_to_start(state: &State, id: JobId, now: Timestamp) -> bool {
    let Some(job) = state.jobs.get(&id) else { return true };
    let when = &job.spec.eligibility;
    let began = when.begin.is_none_or(|begin| begin <= now);
    let holds = |term: &Term| {
        let Some(on) = term.on() else { return true };
        let Some(target) = state.jobs.get(&on.job) else { return true };
        let outcome =
            |index: &TaskIndex| target.finished.get(index).map(|finished| finished.how.is_success());
        let (ended, ok) = match &on.task {
            Some(index) => (outcome(index).is_some(), outcome(index) == Some(true)),
            None => {
                (target.is_finished(), target.finished.values().all(|finished| finished.how.is_success()))
            }
        };
        match term {
            Term::AfterAny(_) => ended,
            Term::AfterOk(_) => ended && ok,
            Term::AfterNotOk(_) => ended && !ok,
            // These do not ask for an end.
            Term::After { .. } | Term::AfterCorr(_) | Term::Singleton => true,
        }
    };
    let free = when.dependency.as_ref().is_none_or(|dependency| {
        if dependency.any { dependency.terms.iter().any(holds) } else { dependency.terms.iter().all(holds) }
    });
    began && free
}
