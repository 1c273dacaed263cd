//! Putting what runs back into the queue.

use super::hold::own_target;
use super::{hold, refused, report};
use crate::event::{Event, Verdict};
use crate::ids::{JobRef, Timestamp};
use crate::input::{Caller, Decision, Refusal, Reply};
use crate::state::{Job, LivePhase, State};

/// Holds back what is requeued: the job, or the one task of it that is named.
fn held(job: &Job, caller: Caller, target: JobRef) -> Result<Event, Refusal> {
    match hold::single_task(job, target) {
        Some(index) => hold::task_held(job, caller, index),
        None => {
            let by_admin = hold::is_by_admin(job, caller) || job.held.is_some_and(|held| held.by_admin);
            Ok(Event::JobHeld { job: job.id, by_uid: caller.uid, by_admin })
        }
    }
}

/// Ends the live attempts of a job or task, whose tasks then wait for another.
pub(super) fn requeue(state: &State, caller: Caller, target: JobRef, hold: bool, now: Timestamp) -> Decision {
    let job = match own_target(state, caller, target) {
        Ok(job) => job,
        Err(refusal) => return refused(refusal),
    };
    if !job.spec.requeue {
        return refused(Refusal::NoRequeue { target });
    }
    let verdict = Verdict::Requeued { by_uid: caller.uid };
    let (mut events, mut reached) = (Vec::new(), 0);
    if hold {
        match held(job, caller, target) {
            Ok(event) => events.push(event),
            Err(refusal) => return refused(refusal),
        }
    }
    for (index, live) in &job.live {
        let goes_on = !matches!(live.phase, LivePhase::Ending { .. });
        if !goes_on || target.task.is_some_and(|task| task != *index) {
            continue;
        }
        let key = live.key(job.id, *index);
        reached += 1;
        events.push(Event::AttemptEnding { key, verdict: verdict.clone() });
        if report::all_gone(live) {
            events.push(report::ended(state, job, key, verdict.clone(), now));
        }
    }
    if reached == 0 {
        return refused(Refusal::Waits { target });
    }
    Decision { events, effects: Vec::new(), reply: Ok(Reply::Reached(reached)) }
}
