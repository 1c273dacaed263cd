//! Who may start at all: holds, begin times, deadlines and dependencies.

use super::Reason;
use crate::ids::{TaskIndex, Timestamp};
use crate::state::{Job, Standing, TaskHold};

/// Whether any waiting task of a job may start at `now`. Looks at the job alone, and at none of its tasks.
///
/// # Errors
/// Why none may.
pub fn job(job: &Job, now: Timestamp) -> Result<(), Reason> {
    if let Some(held) = job.hold_of_all() {
        return Err(Reason::Held { by_admin: held.by_admin });
    }
    let eligibility = &job.spec.eligibility;
    if eligibility.is_default() {
        return Ok(());
    }
    let standing = job.dependency_standing(now);
    if standing == Standing::Never {
        return Err(Reason::DependencyNever { on: job.terms_short(now).to_string() });
    }
    if job.expires_at().is_some_and(|expires| expires <= now) {
        return Err(Reason::DeadlinePassed);
    }
    if let Some(until) = eligibility.begin.filter(|begin| *begin > now) {
        return Err(Reason::BeginTime { until });
    }
    match standing {
        Standing::From(until) => Err(Reason::BeginTime { until }),
        Standing::Open if job.tasks_let_by_partners(now).next().is_none() => Err(job
            .partners_wait_until(now)
            .map_or_else(|| partners(job, now), |until| Reason::BeginTime { until })),
        _ => Ok(()),
    }
}

/// Whether one waiting task of a job that [`job`] lets pass may start at `now`.
///
/// # Errors
/// Why it may not.
pub fn task(job: &Job, index: TaskIndex, now: Timestamp) -> Result<(), Reason> {
    self::job(job, now)?;
    if let Some(held) = job.hold_of(index) {
        return Err(Reason::Held { by_admin: held.by_admin });
    }
    if !job.depends_task_by_task() || job.tasks_let_by_partners(now).any(|let_by| let_by == index.0) {
        return Ok(());
    }
    if job.partner_failed(index) {
        return Err(Reason::DependencyNever { on: job.terms_short(now).to_string() });
    }
    Err(Reason::Dependency { on: job.terms_short(now).to_string() })
}

/// The waiting tasks of a job that may start at `now`, rising, given that [`job`] let it pass.
pub(crate) fn indices(job: &Job, now: Timestamp) -> impl Iterator<Item = TaskIndex> + '_ {
    let by_partners = job.depends_task_by_task();
    let all = (!by_partners).then(|| job.waiting.iter());
    let let_by = by_partners.then(|| job.tasks_let_by_partners(now));
    let indices = all.into_iter().flatten().chain(let_by.into_iter().flatten()).map(TaskIndex);
    let some_are_held = job.held.is_some() || !job.task_holds.is_empty();
    indices.filter(move |index| !some_are_held || job.hold_of(*index).is_none())
}

/// Why the tasks that [`indices`] left out wait; none if it left out none.
pub(crate) fn left_out(job: &Job, now: Timestamp) -> Option<Reason> {
    if job.depends_task_by_task() {
        return Some(partners(job, now));
    }
    let held = job.held.or_else(|| {
        job.task_holds.iter().find_map(|(index, said)| match said {
            TaskHold::Held(hold) if job.waiting.contains(index.0) => Some(*hold),
            _ => None,
        })
    })?;
    Some(Reason::Held { by_admin: held.by_admin })
}

/// When the passing of time alone lets a job start that is kept back for this reason.
pub(crate) fn from(reason: &Reason) -> Option<Timestamp> {
    match reason {
        Reason::BeginTime { until } | Reason::ReservationStart { from: until, .. } => Some(*until),
        _ => None,
    }
}

/// Whether the passing of time, with what runs and waits, may let the job start without anybody doing something.
pub(crate) fn can_come(job: &Job, now: Timestamp) -> bool {
    !matches!(
        self::job(job, now),
        Err(Reason::Held { .. } | Reason::DependencyNever { .. } | Reason::DeadlinePassed)
    )
}

fn partners(job: &Job, now: Timestamp) -> Reason {
    let on = job.terms_short(now).to_string();
    match job.unfulfillable() {
        crate::state::Unfulfillable::Some(never) if never.len() as u64 == job.waiting.len() => {
            Reason::DependencyNever { on }
        }
        _ => Reason::Dependency { on },
    }
}
