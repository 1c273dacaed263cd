//! Job schedules, and the jobs that they have made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::happen;
use super::job::BatchJob;
use super::stats::Stats;
use crate::batch::{BatchEvent, BatchJobKey, FoldedId, ScheduleKey, SchedulePhase, ScheduleSpec};
use crate::ids::Timestamp;
use crate::spec::User;
use crate::state::State;

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSchedule {
    /// What is said of it.
    pub spec: Arc<ScheduleSpec>,
    /// Who made it.
    pub by: User,
    /// When it was made.
    pub created: Timestamp,
    /// When what is said of it, or its phase, changed last.
    pub modified: Timestamp,
    /// Changes with it.
    pub version: u64,
    /// Its phase.
    pub phase: SchedulePhase,
    /// Since when.
    pub since: Timestamp,
    /// The phase before, and since when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(SchedulePhase, Timestamp)>,
    /// When it makes its next job, if it makes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// What the jobs that are gone have used.
    #[serde(default, skip_serializing_if = "Stats::is_none")]
    pub(super) gone: Stats,
    /// How many jobs it has made.
    pub made: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<FoldedId>,
    /// The pool that its jobs share, if they bring one for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<FoldedId>,
    /// The time for which the last job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
}

/// What a schedule has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleWork {
    /// It makes no other job, and its last one has ended.
    Complete,
    /// It is gone with its jobs.
    Gone,
}

impl BatchSchedule {
    fn enter(&mut self, phase: SchedulePhase, version: u64, at: Timestamp) {
        self.previous = Some((self.phase, self.since));
        (self.phase, self.since) = (phase, at);
        (self.modified, self.version) = (at, version);
    }
}

/// The job of a schedule that has not completed.
pub(super) fn active_job<'a>(
    state: &'a State,
    key: &ScheduleKey,
    schedule: &BatchSchedule,
) -> Option<(BatchJobKey, &'a BatchJob)> {
    let key = BatchJobKey { account: Arc::clone(&key.account), job: schedule.last.clone()? };
    let job = state.batch.job(&key).filter(|job| !job.is_completed())?;
    Some((key, job))
}

/// All jobs of a schedule that are there.
pub(super) fn jobs<'a>(
    state: &'a State,
    key: &ScheduleKey,
) -> impl Iterator<Item = (&'a FoldedId, &'a BatchJob)> + use<'a> {
    let first = FoldedId::of(&format!("{}:", key.schedule));
    let prefix = first.clone();
    let all = state.batch.accounts.get(&key.account).map(|account| account.jobs.range(first..));
    all.into_iter().flatten().take_while(move |(id, _)| id.as_str().starts_with(prefix.as_str()))
}

/// What a schedule has to do at once.
pub(super) fn work(state: &State, key: &ScheduleKey, schedule: &BatchSchedule) -> Option<ScheduleWork> {
    let is_idle = active_job(state, key, schedule).is_none();
    match schedule.phase {
        SchedulePhase::Active if is_idle && schedule.next.is_none() => Some(ScheduleWork::Complete),
        SchedulePhase::Terminating if is_idle => Some(ScheduleWork::Complete),
        SchedulePhase::Deleting if jobs(state, key).next().is_none() => Some(ScheduleWork::Gone),
        _ => None,
    }
}

/// When a schedule makes its next job: not while another one of it has not completed.
pub(super) fn due_at(state: &State, key: &ScheduleKey, schedule: &BatchSchedule) -> Option<Timestamp> {
    let makes = schedule.phase == SchedulePhase::Active && active_job(state, key, schedule).is_none();
    schedule.next.filter(|_| makes)
}

/// Puts a schedule where it is found when it has something to do.
pub(super) fn refresh(state: &mut State, key: &ScheduleKey) {
    let schedule = state.batch.schedule(key);
    let due = schedule.is_some_and(|schedule| work(state, key, schedule).is_some());
    let at = schedule.and_then(|schedule| due_at(state, key, schedule));
    happen::set(&mut state.batch.schedules_due, key, due);
    // There are few schedules.
    state.batch.schedule_times.retain(|(_, other)| other != key);
    state.batch.schedule_times.extend(at.map(|at| (at, key.clone())));
}

pub(super) fn happened(state: &mut State, event: &BatchEvent, version: u64, at: Timestamp) {
    let (BatchEvent::ScheduleCreated { schedule: key, .. }
    | BatchEvent::ScheduleUpdated { schedule: key, .. }
    | BatchEvent::ScheduleRan { schedule: key, .. }
    | BatchEvent::ScheduleAdvanced { schedule: key, .. }
    | BatchEvent::ScheduleEntered { schedule: key, .. }
    | BatchEvent::ScheduleDeleted { schedule: key }) = event
    else {
        return;
    };
    let schedules = &mut state.batch.accounts.entry(Arc::clone(&key.account)).or_default().schedules;
    match event {
        BatchEvent::ScheduleCreated { spec, by, next, .. } => {
            let schedule = BatchSchedule {
                spec: Arc::clone(spec),
                by: by.clone(),
                created: at,
                modified: at,
                version,
                phase: SchedulePhase::Active,
                since: at,
                previous: None,
                next: *next,
                made: 0,
                last: None,
                pool: None,
                gone: Stats::default(),
                slot: None,
            };
            schedules.insert(key.schedule.clone(), schedule);
        }
        BatchEvent::ScheduleDeleted { .. } => drop(schedules.remove(&key.schedule)),
        event => {
            if let Some(schedule) = schedules.get_mut(&key.schedule) {
                changed(schedule, event, version, at);
            }
        }
    }
    refresh(state, key);
}

fn changed(schedule: &mut BatchSchedule, event: &BatchEvent, version: u64, at: Timestamp) {
    match event {
        BatchEvent::ScheduleUpdated { spec, next, .. } => {
            schedule.spec = Arc::clone(spec);
            schedule.next = *next;
            (schedule.modified, schedule.version) = (at, version);
        }
        BatchEvent::ScheduleRan { job, slot, next, pool, .. } => {
            schedule.made += 1;
            schedule.pool.clone_from(pool);
            schedule.last = Some(job.clone());
            schedule.slot = Some(*slot);
            schedule.next = *next;
        }
        BatchEvent::ScheduleAdvanced { next, .. } => schedule.next = *next,
        BatchEvent::ScheduleEntered { phase, .. } => schedule.enter(*phase, version, at),
        _ => {}
    }
}

impl State {
    /// A job schedule of the batch service.
    #[must_use]
    pub fn batch_schedule(&self, key: &ScheduleKey) -> Option<&BatchSchedule> {
        self.batch.schedule(key)
    }

    /// The jobs of a schedule that are there, in the order of their ids.
    pub fn batch_jobs_of_schedule<'a>(
        &'a self,
        key: &ScheduleKey,
    ) -> impl Iterator<Item = (&'a FoldedId, &'a BatchJob)> + use<'a> {
        jobs(self, key)
    }

    /// The job of a schedule that has not completed.
    #[must_use]
    pub fn batch_active_job_of(
        &self,
        key: &ScheduleKey,
        schedule: &BatchSchedule,
    ) -> Option<(BatchJobKey, &BatchJob)> {
        active_job(self, key, schedule)
    }

    /// Schedules that have something to do at once.
    pub fn batch_schedules_due(&self) -> impl Iterator<Item = (&ScheduleKey, ScheduleWork)> {
        let due = self.batch.schedules_due.iter();
        due.filter_map(|key| Some((key, work(self, key, self.batch.schedule(key)?)?)))
    }

    /// Schedules that are to make a job by `now`, and for which time.
    pub fn batch_schedules_at(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (&ScheduleKey, &BatchSchedule, Timestamp)> {
        let due = self.batch.schedule_times.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(|(at, key)| Some((key, self.batch.schedule(key)?, *at)))
    }
}
