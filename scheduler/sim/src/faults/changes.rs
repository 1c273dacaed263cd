//! What users and admins do to jobs that were accepted: drawn by seed.

use muster_core::ids::{JobId, JobRef, Timestamp};
use muster_core::input::{Caller, Input, JobChange};
use muster_core::spec::{SignalTo, SignalWish};
use muster_core::state::State;

use super::wishes;
use crate::rng::Rng;

/// The signal that a job wishes for before its end.
pub(crate) fn signal(rng: &mut Rng) -> Option<SignalWish> {
    rng.one_in(5).then(|| SignalWish { signal: 10, before_s: rng.below(20) as u32, to: SignalTo::Ranks })
}

/// A signal, a requeue, or a change; some of them are refused.
pub(crate) fn change_of_job(
    rng: &mut Rng,
    state: &State,
    owner: Caller,
    job: JobId,
    accepted: &[JobId],
    now: Timestamp,
) -> Input {
    let target = JobRef { job, task: None };
    let caller = if rng.one_in(3) { Caller { uid: 0, admin: true } } else { owner };
    match rng.below(4) {
        0 if rng.one_in(2) => Input::SignalStep { caller, target, step: 0, signal: None },
        0 => Input::Signal { caller, target, signal: 10, to: SignalTo::All },
        1 => Input::Requeue { caller, target, hold: rng.one_in(4) },
        _ => Input::UpdateJob { caller, job, change: Box::new(change(rng, state, job, accepted, now)) },
    }
}

fn change(rng: &mut Rng, state: &State, job: JobId, accepted: &[JobId], now: Timestamp) -> JobChange {
    let mut change = JobChange::default();
    match rng.below(7) {
        0 => change.time_limit_s = Some(5 + rng.below(40)),
        1 => change.priority = Some(rng.below(20) as i32 - 10),
        2 => change.running_max = Some(rng.one_in(2).then(|| 1 + rng.below(4) as u32)),
        3 => {
            let when = wishes::eligibility(rng, state, accepted, now, 20);
            (change.begin, change.dependency) = (when.begin, Some(when.dependency));
        }
        4 => (_, change.account, change.qos) = wishes::charge(rng),
        5 => {
            let before = state.jobs.get(&job).map(|job| (*job.spec.request).clone());
            change.request = before.map(|mut request| {
                request.ranks = 1 + rng.below(4) as u32;
                request
            });
        }
        _ => change.requeue = Some(rng.one_in(2)),
    }
    change
}
