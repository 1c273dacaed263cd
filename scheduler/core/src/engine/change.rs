//! Changing a job after it was accepted.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hold::own;
use super::validate::{self, Parts};
use super::{done, refused};
use crate::eligibility::Term;
use crate::event::Event;
use crate::ids::{JobId, Timestamp};
use crate::input::{Caller, Decision, JobChange, Refusal};
use crate::on::On;
use crate::spec::JobSpec;
use crate::state::{Job, State};

/// Changes a job. What says where and how its tasks start can be changed only while all of them wait.
pub(super) fn update(
    state: &State,
    caller: Caller,
    id: JobId,
    change: &JobChange,
    now: Timestamp,
) -> Decision {
    match updated(state, caller, id, change, now) {
        Err(refusal) => refused(refusal),
        Ok(None) => done(Vec::new()),
        Ok(Some(spec)) => done(vec![Event::JobUpdated { job: id, spec: Arc::new(spec) }]),
    }
}

fn updated(
    state: &State,
    caller: Caller,
    id: JobId,
    change: &JobChange,
    now: Timestamp,
) -> Result<Option<JobSpec>, Refusal> {
    let job = own(state, caller, id)?;
    let spec = applied(&job.spec, change)?;
    if spec == *job.spec {
        return Ok(None);
    }
    check_started(caller, job, &spec)?;
    if spec.eligibility.dependency != job.spec.eligibility.dependency {
        check_circle(state, id, &spec)?;
    }
    let before = &job.spec;
    let parts = Parts {
        priority: spec.priority != before.priority,
        charge: spec.account != before.account || spec.qos != before.qos,
        room: spec.request != before.request || spec.pool != before.pool,
        conditions: spec.eligibility != before.eligibility,
        reservation: spec.reservation != before.reservation,
        // Who administers may let what runs go on for longer than its pool allows.
        time_limit: spec.time_limit_s != before.time_limit_s && (!caller.admin || job.live.is_empty()),
        // One that was made of a task of the batch service stays in its pool, and nobody else gets there.
        lent: spec.pool == before.pool,
    };
    validate::check(state, caller, spec, parts, now).map(Some)
}

/// The spec with the change.
fn applied(before: &JobSpec, change: &JobChange) -> Result<JobSpec, Refusal> {
    let mut spec = before.clone();
    let JobChange { name, time_limit_s, priority, requeue, running_max, .. } = change.clone();
    let JobChange { pool, account, qos, reservation, begin, dependency, request, .. } = change.clone();
    set(&mut spec.name, name);
    spec.time_limit_s = time_limit_s.or(spec.time_limit_s);
    set(&mut spec.priority, priority);
    if let Some(nice) = change.nice {
        spec.priority = spec.priority.saturating_add(spec.nice).saturating_sub(nice);
        spec.nice = nice;
    }
    spec.comment = change.comment.clone().or(spec.comment);
    set(&mut spec.requeue, requeue);
    if let Some(running_max) = running_max {
        let Some(array) = &mut spec.array else {
            return Err(validate::bad(
                "array",
                "the job is none, so that no number of its elements can be limited",
            ));
        };
        array.running_max = running_max;
    }
    spec.pool = pool.or(spec.pool);
    spec.account = account.or(spec.account);
    spec.qos = qos.or(spec.qos);
    set(&mut spec.reservation, reservation);
    spec.eligibility.begin = begin.or(spec.eligibility.begin);
    set(&mut spec.eligibility.dependency, dependency);
    set(&mut spec.request, request.map(Into::into));
    Ok(spec)
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

/// No job may wait for itself, be it through others: it would wait for ever.
fn check_circle(state: &State, id: JobId, spec: &JobSpec) -> Result<(), Refusal> {
    let terms = spec.eligibility.dependency.iter().flat_map(|dependency| &dependency.terms);
    let targets: Vec<&On> = terms.filter_map(Term::on).collect();
    // Whoever waits for the job already, and whoever waits for them.
    let mut waiting: BTreeSet<JobId> = [id].into();
    let mut to_follow = vec![id];
    while let Some(job) = to_follow.pop() {
        to_follow.extend(state.dependents(job).filter(|dependent| waiting.insert(*dependent)));
    }
    match targets.into_iter().find(|on| waiting.contains(&on.job)) {
        None => Ok(()),
        Some(on) if on.job == id => {
            let why = "that is the job itself, which would wait for ever".to_owned();
            Err(Refusal::Dependency { target: on.clone(), why })
        }
        Some(on) => {
            let why = format!("it waits for job {id} already, so that both would wait for ever");
            Err(Refusal::Dependency { target: on.clone(), why })
        }
    }
}

/// What has started cannot be changed in every way, and only an admin gives it more time.
fn check_started(caller: Caller, job: &Job, spec: &JobSpec) -> Result<(), Refusal> {
    let has_started = !job.live.is_empty() || !job.finished.is_empty() || !job.tried.is_empty();
    if !has_started {
        return Ok(());
    }
    let before = &job.spec;
    let changed = [
        ("request", spec.request != before.request),
        ("pool", spec.pool != before.pool),
        ("account", spec.account != before.account),
        ("quality of service", spec.qos != before.qos),
        ("reservation", spec.reservation != before.reservation),
        ("begin time", spec.eligibility.begin != before.eligibility.begin),
        ("dependency", spec.eligibility.dependency != before.eligibility.dependency),
    ];
    if let Some((what, _)) = changed.into_iter().find(|(_, changed)| *changed) {
        return Err(Refusal::HasStarted { job: job.id, what });
    }
    if !caller.admin && !job.live.is_empty() && spec.time_limit_s > before.time_limit_s {
        return Err(Refusal::NotAdmin { what: "raise the time limit of a job that runs" });
    }
    Ok(())
}
