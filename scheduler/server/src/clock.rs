//! The engine's clock: that of the system, without its jumps.
//!
//! Time limits, delays and reservations are instants. If somebody sets the system's clock ahead by an hour, work that
//! has run for a minute must not be ended for its limit of an hour; if it is set back, limits must not stop to
//! pass. The engine's clock therefore goes on with `CLOCK_BOOTTIME`, which nobody can set, and follows the system's
//! clock at a tenth more or less than its own speed, as adjtime(3) does it for the system.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_core::ids::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// The part of the time that passes by which the clock goes faster or slower than it, until it is right.
const FOLLOWS: u64 = 10;
/// A system clock that is ahead by more than a day was never right before: it is followed at once.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);
/// A difference that is worth a line in the log, and one that is worth none any more.
const WORTH_SAYING: Duration = Duration::from_secs(10);
const OVER: Duration = Duration::from_secs(1);

/// The engine's clock. It never goes back.
#[derive(Debug)]
pub struct Clock {
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    said: Timestamp,
    booted_for: Duration,
    /// Whether the log was told that the system's clock is somewhere else.
    is_away: bool,
}

impl Clock {
    /// A clock that shows the system's time, but nothing before `since`.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        let system = system();
        if system < since {
            let behind = Duration::from_micros(since.micros_since(system));
            tracing::warn!(?behind, "the system's clock is behind the last record of the journal");
        }
        let said = system.max(since);
        let last = Last { said, booted_for: booted_for().unwrap_or_default(), is_away: false };
        Self { last: Mutex::new(last) }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let system = system();
        // Without the clock that nobody can set, the system's own has to do.
        let Some(booted_for) = booted_for() else { return last.said.max(system) };
        let passed = booted_for.saturating_sub(last.booted_for);
        let now = follow(last.said, passed, system);
        last.note(now, system);
        (last.said, last.booted_for) = (now, booted_for);
        now
    }
}

impl Last {
    fn note(&mut self, now: Timestamp, system: Timestamp) {
        let ahead = Duration::from_micros(system.micros_since(now));
        let behind = Duration::from_micros(now.micros_since(system));
        let away = ahead.max(behind);
        if !self.is_away && away > WORTH_SAYING {
            self.is_away = true;
            tracing::warn!(
                ?ahead,
                ?behind,
                "the system's clock was set; time limits and delays go on as if it was not, and the controller follows it slowly"
            );
        } else if self.is_away && away < OVER {
            self.is_away = false;
            tracing::info!("the controller's clock and the system's are the same again");
        }
    }
}

/// The instant that follows `last` when so much time has passed and the system's clock shows `system`.
fn follow(last: Timestamp, passed: Duration, system: Timestamp) -> Timestamp {
    let passed_us = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
    let straight = Timestamp(last.0.saturating_add(passed_us));
    let (ahead_us, behind_us) = (system.micros_since(straight), straight.micros_since(system));
    if Duration::from_micros(ahead_us) > AHEAD_MAX {
        tracing::warn!(ahead_s = ahead_us / 1_000_000, "the system's clock was set ahead by more than a day");
        return system;
    }
    let most_us = passed_us / FOLLOWS;
    Timestamp(straight.0.saturating_add(ahead_us.min(most_us)) - behind_us.min(most_us))
}

/// What the system's clock shows.
fn system() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX))
}

/// How long the system has run, time asleep included (clock_gettime(2)).
fn booted_for() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Reads the clock once a second while the system's clock is `off_s` seconds off, and says what it shows.
    fn run(from_s: u64, seconds: u64, off_s: i64) -> Vec<u64> {
        let mut last = Timestamp(from_s * SECOND);
        let read = |i: u64| {
            let system = (from_s + i).checked_add_signed(off_s).unwrap();
            last = follow(last, Duration::from_secs(1), Timestamp(system * SECOND));
            last.0
        };
        (1..=seconds).map(read).collect()
    }

    #[test]
    fn a_clock_that_is_right_is_followed_exactly() {
        let shown = run(1_000, 100, 0);
        assert!(shown.iter().zip(1_001..).all(|(shown, s)| *shown == s * SECOND));
    }

    #[test]
    fn a_clock_that_is_set_ahead_or_back_is_met_after_ten_times_as_long_and_time_never_stands() {
        for off_s in [3_600, -3_600] {
            let shown = run(100_000, 36_000, off_s);
            let steps = shown.windows(2).map(|two| two[1] - two[0]);
            assert!(steps.into_iter().all(|step| step == SECOND * 11 / 10 || step == SECOND * 9 / 10));
            assert_eq!(shown[35_999], 136_000u64.checked_add_signed(off_s).unwrap() * SECOND, "{off_s}");
        }
    }

    #[test]
    fn a_clock_that_was_never_right_is_followed_at_once_ahead_and_never_back() {
        let shown = run(0, 3, 1_700_000_000);
        assert_eq!(shown[0], 1_700_000_001 * SECOND);
        let back = follow(Timestamp(1_700_000_000 * SECOND), Duration::from_secs(10), Timestamp(0));
        assert_eq!(back, Timestamp(1_700_000_009 * SECOND));
    }

    #[test]
    fn it_starts_where_the_journal_ended_and_shows_the_system_s_time_otherwise() {
        let ahead = system().plus_seconds(1_000);
        assert!(Clock::new(ahead).now() >= ahead);
        let clock = Clock::new(Timestamp(0));
        let (before, shown) = (system(), clock.now());
        assert!(shown.micros_since(before).max(before.micros_since(shown)) < SECOND);
        assert!(clock.now() >= shown);
    }
}
