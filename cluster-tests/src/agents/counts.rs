//! What agents have seen, counted, for those who wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What has happened to all agents together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Agents that have a session now.
    pub sessions: u64,
    /// Sessions that have begun.
    pub welcomed: u64,
    /// Instances that were to be prepared.
    pub prepared: u64,
    /// Instances that were told to go.
    pub told_to_go: u64,
    /// Instances that have ended by themselves.
    pub ended: u64,
    /// Instances that were stopped.
    pub stopped: u64,
    /// Instances whose end is durable.
    pub forgotten: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    counted: Mutex<Counted>,
    changed: Condvar,
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Counted {
        *self.lock()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counted)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until it is enough; the error is what there was at the end of the time.
    pub(super) fn wait(
        &self,
        limit: Duration,
        enough: impl Fn(&Counted) -> bool,
    ) -> Result<Counted, Counted> {
        let end = Instant::now() + limit;
        let mut counted = self.lock();
        while !enough(&counted) {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Err(*counted);
            };
            counted = self.changed.wait_timeout(counted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(*counted)
    }
}
