//! The tables of recurring jobs in force, and the job that each entry has made last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::State;
use crate::cron::{CronEntry, Crontab};
use crate::ids::{JobId, Timestamp};

/// All tables in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Crontabs {
    by_uid: BTreeMap<u32, Standing>,
    /// The entry that made each job which has not finished.
    jobs: BTreeMap<JobId, CronId>,
    /// Entries that are to make their next job.
    due: BTreeSet<CronId>,
}

/// Names an entry: its user's id, and its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CronId {
    /// User id of the table's owner.
    pub uid: u32,
    /// Which of its entries, from 0.
    pub entry: u32,
}

/// A table in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What was set.
    pub crontab: Arc<Crontab>,
    /// What each entry does.
    pub runs: Vec<CronRun>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "run", rename_all = "snake_case")]
pub enum CronRun {
    /// Its next job is to be made, for an instant after this one.
    Due {
        /// The instant for which it made one last, or at which the table was set.
        after: Timestamp,
    },
    /// Its job waits or runs; there is only ever one.
    Made {
        /// The job.
        job: JobId,
        /// For which instant.
        begin: Timestamp,
    },
    /// It makes no more jobs.
    Stopped {
        /// Why, for people.
        reason: String,
    },
}

impl Crontabs {
    pub(super) fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    pub(super) fn set(&mut self, uid: u32, crontab: Option<&Arc<Crontab>>, at: Timestamp) {
        self.jobs.retain(|_, id| id.uid != uid);
        self.due.retain(|id| id.uid != uid);
        self.by_uid.remove(&uid);
        let Some(crontab) = crontab else { return };
        let runs = vec![CronRun::Due { after: at }; crontab.entries.len()];
        self.due.extend((0..runs.len() as u32).map(|entry| CronId { uid, entry }));
        self.by_uid.insert(uid, Standing { crontab: Arc::clone(crontab), runs });
    }

    fn run_mut(&mut self, id: CronId) -> Option<&mut CronRun> {
        self.by_uid.get_mut(&id.uid)?.runs.get_mut(id.entry as usize)
    }

    pub(super) fn made(&mut self, id: CronId, job: JobId, begin: Timestamp) {
        if let Some(run) = self.run_mut(id) {
            *run = CronRun::Made { job, begin };
            self.due.remove(&id);
            self.jobs.insert(job, id);
        }
    }

    pub(super) fn stopped(&mut self, id: CronId, reason: &str) {
        if let Some(run) = self.run_mut(id) {
            *run = CronRun::Stopped { reason: reason.to_owned() };
            self.due.remove(&id);
            self.jobs.retain(|_, other| *other != id);
        }
    }

    /// A job of whatever kind has finished.
    pub(super) fn job_finished(&mut self, job: JobId) {
        let Some(id) = self.jobs.remove(&job) else { return };
        if let Some(run) = self.run_mut(id)
            && let CronRun::Made { begin, .. } = *run
        {
            *run = CronRun::Due { after: begin };
            self.due.insert(id);
        }
    }

    /// The indices as they follow from what the entries do.
    fn derived(&self) -> Self {
        let mut derived = Self { by_uid: self.by_uid.clone(), ..Self::default() };
        for (uid, standing) in &self.by_uid {
            for (entry, run) in (0..).zip(&standing.runs) {
                let id = CronId { uid: *uid, entry };
                match run {
                    CronRun::Due { .. } => drop(derived.due.insert(id)),
                    CronRun::Made { job, .. } => drop(derived.jobs.insert(*job, id)),
                    CronRun::Stopped { .. } => {}
                }
            }
        }
        derived
    }
}

impl State {
    /// The table of a user.
    #[must_use]
    pub fn crontab(&self, uid: u32) -> Option<&Standing> {
        self.crontabs.by_uid.get(&uid)
    }

    /// All tables, by user id.
    pub fn crontabs(&self) -> impl Iterator<Item = (u32, &Standing)> {
        self.crontabs.by_uid.iter().map(|(uid, standing)| (*uid, standing))
    }

    /// How many tables there are.
    #[must_use]
    pub fn crontabs_len(&self) -> usize {
        self.crontabs.by_uid.len()
    }

    /// The entry that made a job which has not finished, while it is in force.
    #[must_use]
    pub fn cron_of(&self, job: JobId) -> Option<CronId> {
        self.crontabs.jobs.get(&job).copied()
    }

    /// Entries that are to make their next job, with the instant after which that begins.
    pub fn cron_due(&self) -> impl Iterator<Item = (CronId, &CronEntry, Timestamp)> {
        self.crontabs.due.iter().filter_map(|id| {
            let standing = self.crontabs.by_uid.get(&id.uid)?;
            let entry = standing.crontab.entries.get(id.entry as usize)?;
            match standing.runs.get(id.entry as usize)? {
                CronRun::Due { after } => Some((*id, entry, *after)),
                CronRun::Made { .. } | CronRun::Stopped { .. } => None,
            }
        })
    }

    /// Whether the indices follow from the tables, and each job that an entry has made is there, has not finished, and starts
    /// no earlier than its instant.
    pub(super) fn crontabs_hold(&self) -> bool {
        let is_right = |run: &CronRun| match run {
            CronRun::Made { job, begin } => self.jobs.get(job).is_some_and(|job| {
                job.finished_at.is_none()
                    && job
                        .live
                        .values()
                        .all(|live| live.placed_at >= *begin || job.spec.eligibility.begin != Some(*begin))
            }),
            CronRun::Due { .. } | CronRun::Stopped { .. } => true,
        };
        let all = self.crontabs.by_uid.values().flat_map(|standing| &standing.runs);
        self.crontabs == self.crontabs.derived() && all.into_iter().all(is_right)
    }
}
