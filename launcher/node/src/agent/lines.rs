//! Attempts that wait for the end of another one, whose cores they go on with.
//!
//! They are in memory alone: nothing of them has begun, and a controller that does not find one in a hello says it again. Where the
//! attempt at the head of a line turns out to be a long one, those behind it are returned, so that others may have them started.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_wire::v1::gone::How;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{self, AttemptKey, InstanceReport};
use tokio::time::Instant;

use super::registry::{Key, absent, order};

/// How long attempts wait for the one at the head of their line.
const WAIT_FOR: Duration = Duration::from_millis(200);

/// How many ends in lines are told together at most, and how long the first of them waits for that. A turn of the controller costs as
/// much as the work for a dozen of them, and nobody waits for one in a line, whose cores the next one has.
const TOLD_TOGETHER_MAX: usize = 256;
pub(super) const TOLD_WITHIN: Duration = Duration::from_millis(100);

/// Whether so many ends may wait to be told with others: the controller hears of them while most of the lines are full, so that none
/// runs dry before it is made longer.
pub(super) fn may_wait(ends: usize, in_lines: usize) -> bool {
    ends < TOLD_TOGETHER_MAX.min(in_lines / 2)
}

/// All that wait.
#[derive(Default)]
pub(super) struct Lines {
    waiting: BTreeMap<Key, InLine>,
    /// Who waits behind each.
    behind: HashMap<Key, Key>,
    /// Attempts that do not wait and have somebody behind them, and until when those wait.
    heads: HashMap<Key, Instant>,
}

struct InLine {
    after: Key,
    prepare: v1::Prepare,
}

impl Lines {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an attempt waits.
    pub fn has(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Whether somebody waits behind an attempt.
    pub fn is_followed(&self, key: Key) -> bool {
        self.behind.contains_key(&key)
    }

    /// What waits, as the controller is told it.
    pub fn reports(&self) -> impl Iterator<Item = InstanceReport> + '_ {
        self.waiting.values().map(|waits| preparing(&waits.prepare))
    }

    /// Lets an attempt wait behind another one, which waits itself or is there. Says whether it does: nobody else must wait there.
    pub fn add(&mut self, after: AttemptKey, prepare: v1::Prepare) -> bool {
        let (key, after) = (prepare.key.unwrap_or_default(), order(&after));
        if self.behind.contains_key(&after) || order(&key) == after {
            return false;
        }
        self.behind.insert(after, order(&key));
        if !self.waiting.contains_key(&after) {
            self.heads.insert(after, Instant::now() + WAIT_FOR);
        }
        self.waiting.insert(order(&key), InLine { after, prepare });
        true
    }

    /// The attempt that is to start now that another one has gone.
    pub fn next(&mut self, gone: Key) -> Option<v1::Prepare> {
        self.heads.remove(&gone);
        let next = self.behind.remove(&gone)?;
        let waited = self.waiting.remove(&next)?;
        if self.behind.contains_key(&next) {
            self.heads.insert(next, Instant::now() + WAIT_FOR);
        }
        Some(waited.prepare)
    }

    /// Takes an attempt out of its line, if it is in one.
    pub fn take_out(&mut self, key: Key) {
        let Some(waited) = self.waiting.remove(&key) else { return };
        self.behind.remove(&waited.after);
        match self.behind.remove(&key) {
            Some(next) => {
                self.behind.insert(waited.after, next);
                if let Some(next) = self.waiting.get_mut(&next) {
                    next.after = waited.after;
                }
            }
            None => drop(self.heads.remove(&waited.after)),
        }
    }

    /// When the first line is to be returned, if there are any.
    pub fn return_at(&self) -> Option<Instant> {
        self.heads.values().min().copied()
    }

    /// Returns all that have waited for long enough.
    pub fn give_back(&mut self, now: Instant) -> Vec<InstanceReport> {
        let late: Vec<Key> =
            self.heads.iter().filter(|(_, until)| **until <= now).map(|(head, _)| *head).collect();
        let mut reports = Vec::new();
        for head in late {
            self.heads.remove(&head);
            let mut ahead = head;
            while let Some(next) = self.behind.remove(&ahead) {
                reports.extend(
                    self.waiting.remove(&next).map(|it| returned(it.prepare.key.unwrap_or_default())),
                );
                ahead = next;
            }
        }
        reports
    }
}

/// The report about an attempt that is returned.
pub(super) fn returned(key: AttemptKey) -> InstanceReport {
    absent(key, How::Returned(v1::Returned {}))
}

/// The report about one that waits.
pub(super) fn preparing(prepare: &v1::Prepare) -> InstanceReport {
    let phase = Some(Phase::Preparing(v1::Preparing {}));
    InstanceReport { key: prepare.key, instance: prepare.instance, phase, ..InstanceReport::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(task: u32) -> AttemptKey {
        AttemptKey { job: 1, task, attempt: 1 }
    }

    fn at(task: u32) -> Key {
        order(&key(task))
    }

    fn line(tasks: std::ops::RangeInclusive<u32>) -> Lines {
        let mut lines = Lines::default();
        for task in tasks {
            let prepare = v1::Prepare { key: Some(key(task)), ..v1::Prepare::default() };
            assert!(lines.add(key(task - 1), prepare));
        }
        lines
    }

    fn next(lines: &mut Lines, gone: u32) -> Option<u32> {
        Some(lines.next(at(gone))?.key?.task)
    }

    #[test]
    fn one_follows_the_other() {
        let mut lines = line(2..=4);
        assert_eq!((lines.len(), lines.reports().count()), (3, 3));
        assert!(lines.is_followed(at(1)) && !lines.is_followed(at(4)));
        assert!(!lines.add(key(2), v1::Prepare { key: Some(key(9)), ..v1::Prepare::default() }));
        assert_eq!([1, 2, 3, 4].map(|gone| next(&mut lines, gone)), [Some(2), Some(3), Some(4), None]);
        assert_eq!((lines.len(), lines.return_at()), (0, None));
    }

    #[test]
    fn one_that_is_stopped_closes_the_gap() {
        let mut lines = line(2..=4);
        // Twice is once, and the head is in no line.
        [3, 3, 1].into_iter().for_each(|task| lines.take_out(at(task)));
        assert_eq!([1, 2, 4].map(|gone| next(&mut lines, gone)), [Some(2), Some(4), None]);
        let mut lines = line(2..=2);
        lines.take_out(at(2));
        assert_eq!((next(&mut lines, 1), lines.return_at()), (None, None));
    }

    #[test]
    fn whoever_waits_too_long_is_returned() {
        let mut lines = line(2..=4);
        let until = lines.return_at().unwrap();
        assert!(lines.give_back(until - Duration::from_millis(1)).is_empty());
        assert_eq!(next(&mut lines, 1), Some(2));
        let until = lines.return_at().unwrap();
        let tasks: Vec<u32> = lines.give_back(until).iter().map(|report| report.key.unwrap().task).collect();
        assert_eq!(tasks, [3, 4]);
        assert_eq!((lines.len(), lines.return_at()), (0, None));
        assert_eq!(next(&mut lines, 2), None);
    }

    #[test]
    fn ends_are_told_before_the_lines_run_dry() {
        // Eight slots with full lines, and one slot with the same.
        assert!(may_wait(1, 127) && may_wait(42, 86) && !may_wait(43, 85));
        assert!(may_wait(5, 12) && !may_wait(6, 11));
        // Short lines, none, and those of thousands of slots.
        assert!(!may_wait(1, 2) && !may_wait(1, 0) && !may_wait(TOLD_TOGETHER_MAX, 60_000));
    }
}
