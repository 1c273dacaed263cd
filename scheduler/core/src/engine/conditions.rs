//! When jobs may start: what is refused at submission, and what becomes due as time passes.

use super::validate::bad;
use crate::eligibility::{DEPENDENCY_TERMS_MAX, Term};
use crate::event::{Event, WaitingEnd};
use crate::ids::{JobId, Timestamp};
use crate::input::Refusal;
use crate::notation::format_time_s;
use crate::on::{On, Tasks, first_missing};
use crate::spec::{IndexRange, JobSpec};
use crate::state::{Job, State, Unfulfillable};

/// Checks begin, deadline and dependency of a spec whose time limit is filled in.
pub(super) fn check(state: &State, spec: &JobSpec, now: Timestamp) -> Result<(), Refusal> {
    let when = &spec.eligibility;
    let limit_s = spec.time_limit_s.unwrap_or(0);
    if when.time_min_s.is_some_and(|min| min == 0 || min > limit_s) {
        let problem =
            format!("must be at least a second and at most the time limit, {}", format_time_s(limit_s));
        return Err(bad("shortest time", problem));
    }
    let from = when.begin.map_or(now, |begin| begin.max(now));
    if when.latest_start(spec.time_limit_s).is_some_and(|last| last < from) {
        let needed = format_time_s(when.time_min_s.unwrap_or(limit_s));
        let problem = format!(
            "no task could end by then: each may take {needed}, and starts when the job is submitted or at its begin \
             time; make the deadline later or the time limit shorter"
        );
        return Err(bad("deadline", problem));
    }
    check_dependency(state, spec)
}

fn check_dependency(state: &State, spec: &JobSpec) -> Result<(), Refusal> {
    let Some(dependency) = &spec.eligibility.dependency else { return Ok(()) };
    if dependency.terms.is_empty() || dependency.size() > DEPENDENCY_TERMS_MAX {
        return Err(bad("dependency", format!("must have 1 to {DEPENDENCY_TERMS_MAX} terms and ranges")));
    }
    for term in &dependency.terms {
        let Some(on) = term.on() else { continue };
        let target = known_target(state, on)?;
        if let Term::AfterCorr(_) = term {
            if dependency.any {
                return Err(bad(
                    "dependency",
                    "aftercorr cannot be one of several choices: join the terms with ','",
                ));
            }
            check_partners(spec, target, on)?;
        }
    }
    Ok(())
}

fn known_target<'a>(state: &'a State, on: &On) -> Result<&'a Job, Refusal> {
    let refuse = |why: &str| Err(Refusal::Dependency { target: on.clone(), why: why.to_owned() });
    let Some(job) = state.jobs.get(&on.job) else {
        return if on.job.0 == 0 || on.job.0 >= state.next_job {
            refuse("there is no such job; muster queue --all lists those that there are")
        } else {
            refuse(
                "it ended so long ago that its outcome is no longer at hand; leave it out of the dependency",
            )
        };
    };
    const ONLY: [IndexRange; 1] = [IndexRange { first: 0, last: 0, step: 1 }];
    let theirs = job.spec.array.as_ref().map_or(&ONLY[..], |array| &array.indices);
    let named = match &on.tasks {
        Tasks::All => return Ok(job),
        Tasks::One(index) => &[IndexRange { first: index.0, last: index.0, step: 1 }][..],
        Tasks::Ranges(ranges) => ranges,
    };
    match first_missing(named, theirs) {
        None => Ok(job),
        Some(index) => {
            refuse(&format!("the job has no task {index}; muster show {} lists its tasks", on.job))
        }
    }
}

/// Every task of the job must have a partner.
fn check_partners(spec: &JobSpec, target: &Job, on: &On) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::Dependency { target: on.clone(), why });
    let (Some(own), Some(theirs), Tasks::All) = (&spec.array, &target.spec.array, &on.tasks) else {
        return refuse("aftercorr joins the tasks of two arrays; write afterok".to_owned());
    };
    match first_missing(&own.indices, &theirs.indices) {
        Some(alone) => {
            refuse(format!("it has no task {alone}, on which task {alone} of this job would depend"))
        }
        None => Ok(()),
    }
}

/// Waiting tasks that are ended at `now`, because they can no longer start.
pub(super) fn due(state: &State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    let expired: Vec<JobId> = state.expiring().take_while(|(at, _)| *at <= now).map(|(_, job)| job).collect();
    for id in &expired {
        let indices = state.jobs.get(id).map(|job| job.waiting.ranges().collect()).unwrap_or_default();
        events.push(Event::WaitingEnded { job: *id, indices, why: WaitingEnd::Deadline });
    }
    for id in state.unfulfillable().filter(|id| !expired.contains(id)) {
        let Some(job) = state.jobs.get(&id) else { continue };
        let indices: Vec<IndexRange> = match job.unfulfillable() {
            Unfulfillable::None => continue,
            Unfulfillable::All => job.waiting.ranges().collect(),
            Unfulfillable::Some(indices) => {
                indices.into_iter().map(|index| IndexRange { first: index, last: index, step: 1 }).collect()
            }
        };
        events.push(Event::WaitingEnded { job: id, indices, why: WaitingEnd::Dependency });
    }
    events
}
