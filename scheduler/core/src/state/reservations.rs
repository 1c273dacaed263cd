//! Advance reservations in force, and what follows from them: the instants at which windows start and end, and the
//! jobs that name each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::State;
use crate::ids::{JobId, Timestamp};
use crate::reservation::{AdvanceReservation, Window};

/// All reservations in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Reservations {
    by_name: BTreeMap<String, Reserved>,
    /// Starts and ends of the present or next window of each.
    instants: BTreeSet<(Timestamp, String)>,
    /// The unfinished jobs that name each, whether or not it is there.
    jobs: BTreeMap<String, BTreeSet<JobId>>,
}

/// A reservation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// What was made.
    pub reservation: Arc<AdvanceReservation>,
    /// When it was made.
    pub made_at: Timestamp,
    /// Start of the window that runs or comes next.
    pub window_start: Timestamp,
}

impl Reserved {
    /// The window that runs or comes next.
    #[must_use]
    pub fn window(&self) -> Window {
        Window {
            start: self.window_start,
            end: self.window_start.plus_seconds(self.reservation.windows.duration_s),
        }
    }
}

impl Reservations {
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.jobs.is_empty()
    }

    fn index(&mut self, name: &str, window: Window) {
        self.instants.extend([window.start, window.end].map(|at| (at, name.to_owned())));
    }

    fn unindex(&mut self, name: &str, window: Window) {
        for at in [window.start, window.end] {
            self.instants.remove(&(at, name.to_owned()));
        }
    }

    pub(super) fn made(&mut self, reservation: &Arc<AdvanceReservation>, at: Timestamp) {
        let name = &reservation.name;
        let window_start = reservation.windows.first_open(at).map_or(reservation.windows.start, |w| w.start);
        let reserved = Reserved { reservation: Arc::clone(reservation), made_at: at, window_start };
        self.removed(name);
        self.index(name, reserved.window());
        self.by_name.insert(name.clone(), reserved);
    }

    pub(super) fn removed(&mut self, name: &str) {
        if let Some(old) = self.by_name.remove(name) {
            self.unindex(name, old.window());
        }
    }

    pub(super) fn ended(&mut self, name: &str, next_start: Option<Timestamp>) {
        let Some(next_start) = next_start else { return self.removed(name) };
        let Some(reserved) = self.by_name.get_mut(name) else { return };
        let before = reserved.window();
        reserved.window_start = next_start;
        let now = reserved.window();
        self.unindex(name, before);
        self.index(name, now);
    }

    pub(super) fn job_submitted(&mut self, name: Option<&String>, job: JobId) {
        if let Some(name) = name {
            self.jobs.entry(name.clone()).or_default().insert(job);
        }
    }

    pub(super) fn job_finished(&mut self, name: Option<&String>, job: JobId) {
        let Some(name) = name else { return };
        let Some(jobs) = self.jobs.get_mut(name) else { return };
        jobs.remove(&job);
        if jobs.is_empty() {
            self.jobs.remove(name);
        }
    }

    /// The indices as they follow from the reservations and from all unfinished jobs.
    fn derived<'a>(&self, jobs: impl Iterator<Item = (JobId, &'a String)>) -> Self {
        let mut derived = Self { by_name: self.by_name.clone(), ..Self::default() };
        for (name, reserved) in &self.by_name {
            derived.index(name, reserved.window());
        }
        for (job, name) in jobs {
            derived.job_submitted(Some(name), job);
        }
        derived
    }
}

impl State {
    /// All advance reservations, in the order of their names.
    pub fn reservations(&self) -> impl Iterator<Item = &Reserved> {
        self.reservations.by_name.values()
    }

    /// How many advance reservations there are.
    #[must_use]
    pub fn reservations_len(&self) -> usize {
        self.reservations.by_name.len()
    }

    /// The advance reservation of this name.
    #[must_use]
    pub fn reservation(&self, name: &str) -> Option<&Reserved> {
        self.reservations.by_name.get(name)
    }

    /// The unfinished jobs that name a reservation, whether or not it is there.
    pub fn jobs_of_reservation(&self, name: &str) -> impl Iterator<Item = JobId> + '_ {
        self.reservations.jobs.get(name).into_iter().flatten().copied()
    }

    /// The first instant after `at` at which a window that runs or comes next starts or ends.
    #[must_use]
    pub fn next_reservation_instant(&self, at: Timestamp) -> Option<Timestamp> {
        let after = (Timestamp(at.0.saturating_add(1)), String::new());
        self.reservations.instants.range(after..).next().map(|(instant, _)| *instant)
    }

    /// Reservations whose window has ended at `now`, in the order of the ends.
    pub fn ended_reservations(&self, now: Timestamp) -> impl Iterator<Item = &Reserved> {
        let due = self.reservations.instants.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(move |(at, name)| self.reservation(name).filter(|r| r.window().end == *at))
    }

    /// From when on all that windows bring has come before, at most [`crate::reservation::REPEAT_SPAN_US`] ago.
    #[must_use]
    pub fn windows_only_repeat_from(&self) -> Timestamp {
        self.reservations().map(|reserved| reserved.reservation.windows.settle_at()).max().unwrap_or_default()
    }

    /// When the first window that has started, or will, ends.
    #[must_use]
    pub fn next_reservation_end(&self) -> Option<Timestamp> {
        self.reservations
            .instants
            .iter()
            .find(|(at, name)| self.reservation(name).is_some_and(|r| r.window().end == *at))
            .map(|(at, _)| *at)
    }

    /// Whether the indices of reservations follow from the records.
    pub(super) fn reservations_are_indexed(&self) -> bool {
        let unfinished = self.jobs.iter().filter(|(_, job)| job.finished_at.is_none());
        let naming = unfinished.filter_map(|(id, job)| Some((*id, job.spec.reservation.as_ref()?)));
        self.reservations == self.reservations.derived(naming)
    }
}
