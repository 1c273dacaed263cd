//! Advance reservations: nodes that are kept for some users, or for nobody, at certain times; after scontrol(1),
//! `RESERVATIONS - SPECIFICATIONS FOR CREATE`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, Timestamp};

/// Most advance reservations at once.
pub const RESERVATIONS_MAX: usize = 1_000;
/// Most names of users, and of accounts, in one.
pub const RESERVATION_USERS_MAX: usize = 1_000;
/// Longest comment, in bytes.
pub const RESERVATION_COMMENT_BYTES_MAX: usize = 1_000;
/// Longest window, in seconds: ten years.
pub const RESERVATION_DURATION_MAX_S: u64 = 10 * 366 * 86_400;
/// What repeats does so at least once in this time, in microseconds: after everything else has ended, each such span
/// is like the one before.
pub const REPEAT_SPAN_US: u64 = 7 * DAY_US;

const DAY_US: u64 = 86_400_000_000;

/// How often the window of a reservation comes again. Periods are fixed: the core knows neither time zones nor
/// daylight saving time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Every 86,400 seconds.
    Daily,
    /// Every 604,800 seconds.
    Weekly,
}

impl Repeat {
    fn period_us(self) -> u64 {
        match self {
            Self::Daily => DAY_US,
            Self::Weekly => 7 * DAY_US,
        }
    }

    /// From one start to the next, in seconds.
    #[must_use]
    pub fn period_s(self) -> u64 {
        self.period_us() / 1_000_000
    }
}

/// When the nodes are kept: once, or again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Windows {
    /// When the first window starts.
    pub start: Timestamp,
    /// How long each lasts, in seconds; at least 1, and shorter than the period.
    pub duration_s: u64,
    /// How often they come again; one window without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
}

/// One window, from `start` up to but not including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Windows {
    pub(crate) fn duration_us(&self) -> u64 {
        self.duration_s.saturating_mul(1_000_000)
    }

    fn window(&self, start: Timestamp) -> Window {
        Window { start, end: start.plus_seconds(self.duration_s) }
    }

    /// The first window that has not ended at `at`.
    #[must_use]
    pub fn first_open(&self, at: Timestamp) -> Option<Window> {
        let first = self.window(self.start);
        if at < first.end {
            return Some(first);
        }
        let period = self.repeat?.period_us();
        let ended = at.micros_since(first.end) / period + 1;
        Some(self.window(Timestamp(self.start.0.saturating_add(ended.saturating_mul(period)))))
    }

    /// The window after one of these.
    #[must_use]
    pub fn after(&self, window: Window) -> Option<Window> {
        let period = self.repeat?.period_us();
        Some(self.window(Timestamp(window.start.0.saturating_add(period))))
    }

    /// From when on every span of [`REPEAT_SPAN_US`] is like the one before.
    pub(crate) fn settle_at(&self) -> Timestamp {
        match self.repeat {
            Some(_) => self.start,
            None => self.start.plus_seconds(self.duration_s),
        }
    }

    /// From the end of a window to the start of the next, in microseconds; none if there is only one.
    pub(crate) fn gap_us(&self) -> Option<u64> {
        Some(self.repeat?.period_us().saturating_sub(self.duration_us()))
    }

    /// Whether a window of each have an instant in common that is not before `from`.
    #[must_use]
    pub fn overlap(&self, other: &Self, from: Timestamp) -> bool {
        let (once, other) = match (self.repeat, other.repeat) {
            (Some(mine), Some(theirs)) => {
                // The distances of their starts are all that are equal modulo the shorter period, which divides the
                // longer.
                let step = mine.period_us().min(theirs.period_us());
                let apart = (other.start.0 % step + step - self.start.0 % step) % step;
                return apart < self.duration_us() || step - apart < other.duration_us();
            }
            (None, _) => (self, other),
            (_, None) => (other, self),
        };
        let window = once.window(once.start);
        let from = window.start.max(from);
        from < window.end && other.first_open(from).is_some_and(|next| next.start < window.end)
    }
}

/// Which nodes are to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReservedNodes {
    /// Exactly these, by name.
    List(BTreeSet<String>),
    /// All nodes of this pool.
    Pool(String),
    /// So many of a pool, close together, of those that are free then.
    Count {
        /// The pool.
        pool: String,
        /// How many.
        count: u32,
    },
}

/// An advance reservation as an admin asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationSpec {
    /// Its name.
    pub name: String,
    /// Which nodes.
    pub nodes: ReservedNodes,
    /// When.
    pub windows: Windows,
    /// Login names of those who may use it.
    pub users: BTreeSet<String>,
    /// Accounts whose jobs may use it.
    pub accounts: BTreeSet<String>,
    /// Whether nobody may run there.
    pub maintenance: bool,
    /// Whether it is made although what runs now may reach into it.
    pub ignore_running: bool,
    /// For people.
    pub comment: String,
}

/// An advance reservation as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvanceReservation {
    /// Its name.
    pub name: String,
    /// Its nodes, rising.
    pub nodes: Vec<NodeId>,
    /// When they are kept.
    pub windows: Windows,
    /// Login names of those who may use it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<String>,
    /// Accounts whose jobs may use it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accounts: BTreeSet<String>,
    /// Whether nobody may run there: what ran before goes on to its end, but nothing starts that could reach into it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance: bool,
    /// Whether it was made although what ran then could reach into it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_running: bool,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Who made it.
    pub by_uid: u32,
}

impl AdvanceReservation {
    /// Whether it keeps a node.
    #[must_use]
    pub fn keeps(&self, node: NodeId) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// Whether a job of this user, charged to this account, may use it.
    #[must_use]
    pub fn lets(&self, user: &str, account: Option<&str>) -> bool {
        !self.maintenance
            && (self.users.contains(user) || account.is_some_and(|account| self.accounts.contains(account)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_S: u64 = 3600;

    fn windows(start_h: u64, hours: u64, repeat: Option<Repeat>) -> Windows {
        Windows { start: Timestamp(0).plus_seconds(start_h * HOUR_S), duration_s: hours * HOUR_S, repeat }
    }

    /// All windows of the first three weeks, in hours, one after the other.
    fn hours(windows: &Windows) -> Vec<std::ops::Range<u64>> {
        let hour = |at: Timestamp| at.seconds() / HOUR_S;
        let first = windows.first_open(Timestamp(0));
        let all = std::iter::successors(first, |window| windows.after(*window));
        all.map(|window| hour(window.start)..hour(window.end)).take(21).collect()
    }

    fn repeats() -> impl Strategy<Value = Option<Repeat>> {
        prop_oneof![Just(None), Just(Some(Repeat::Daily)), Just(Some(Repeat::Weekly))]
    }

    #[test]
    fn a_daily_window_comes_again_each_day() {
        let daily = windows(10, 2, Some(Repeat::Daily));
        assert_eq!(hours(&daily)[..3], [10..12, 34..36, 58..60]);
        assert_eq!(daily.gap_us(), Some(22 * HOUR_S * 1_000_000));
        let once = hours(&windows(10, 2, None));
        assert_eq!((once.len(), once[0].clone()), (1, 10..12));
    }

    proptest! {
        #[test]
        fn the_first_open_window_is_the_first_that_has_not_ended(
            start in 0u64..200, hours_long in 1u64..24, repeat in repeats(), at in 0u64..400,
        ) {
            let windows = windows(start, hours_long, repeat);
            let now = Timestamp(0).plus_seconds(at * HOUR_S);
            let expected = hours(&windows).into_iter().find(|window| window.end > at);
            let found = windows.first_open(now).map(|w| w.start.seconds() / HOUR_S..w.end.seconds() / HOUR_S);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn windows_overlap_if_and_only_if_two_of_them_do(
            a in (0u64..200, 1u64..24, repeats()), b in (0u64..200, 1u64..24, repeats()), from in 0u64..200,
        ) {
            let (a, b) = (windows(a.0, a.1, a.2), windows(b.0, b.1, b.2));
            let hit = hours(&a).into_iter().any(|x| {
                hours(&b).into_iter().any(|y| x.start.max(y.start).max(from) < x.end.min(y.end))
            });
            let both_repeat = a.repeat.is_some() && b.repeat.is_some();
            let from = Timestamp(0).plus_seconds(from * HOUR_S);
            prop_assert_eq!(a.overlap(&b, from), hit);
            prop_assert_eq!(b.overlap(&a, from), hit);
            // What repeats is not over at any instant.
            prop_assert!(!both_repeat || a.overlap(&b, Timestamp(0)) == hit);
        }
    }
}
