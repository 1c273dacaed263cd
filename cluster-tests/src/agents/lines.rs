//! Attempts that wait for the end of another one, whose cores they go on with, as with the real agent
//! (`launcher/node/src/agent/lines.rs`). None is given back: only arrays of short tasks are lined up, and here each
//! takes as long as the one before it.

use std::collections::HashMap;

use muster_wire::v1;

use super::agent::{Key, order};

/// All that wait, by the attempt that each waits for.
#[derive(Default)]
pub(super) struct Lines {
    behind: HashMap<Key, v1::Prepare>,
    /// What each waits for.
    waiting: HashMap<Key, Key>,
}

impl Lines {
    pub fn has(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Lets one wait. Says whether it does: one waits behind each at most.
    pub fn add(&mut self, after: Key, prepare: v1::Prepare) -> bool {
        if self.behind.contains_key(&after) {
            return false;
        }
        self.waiting.insert(key_of(&prepare), after);
        self.behind.insert(after, prepare);
        true
    }

    /// The one that begins now that another one is over.
    pub fn next(&mut self, over: Key) -> Option<v1::Prepare> {
        let next = self.behind.remove(&over)?;
        self.waiting.remove(&key_of(&next));
        Some(next)
    }

    /// Takes one out; who waited for it waits for the one before it.
    pub fn take_out(&mut self, key: Key) {
        let Some(after) = self.waiting.remove(&key) else { return };
        self.behind.remove(&after);
        if let Some(next) = self.behind.remove(&key) {
            self.waiting.insert(key_of(&next), after);
            self.behind.insert(after, next);
        }
    }

    /// What waits, as it is told in a hello.
    pub fn all(&self) -> impl Iterator<Item = &v1::Prepare> {
        self.behind.values()
    }
}

fn key_of(prepare: &v1::Prepare) -> Key {
    order(&prepare.key.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tasks: std::ops::RangeInclusive<u32>) -> Lines {
        let mut lines = Lines::default();
        for task in tasks {
            let key = v1::AttemptKey { job: 1, task, attempt: 1 };
            assert!(lines.add((1, task - 1, 1), v1::Prepare { key: Some(key), ..v1::Prepare::default() }));
        }
        lines
    }

    #[test]
    fn one_follows_the_other_and_one_that_is_stopped_closes_the_gap() {
        let mut lines = line(2..=5);
        assert!(!lines.add((1, 1, 1), v1::Prepare::default()));
        lines.take_out((1, 3, 1));
        lines.take_out((1, 3, 1));
        assert!(lines.has((1, 4, 1)) && !lines.has((1, 3, 1)) && lines.all().count() == 3);
        let mut next = |over| Some(key_of(&lines.next((1, over, 1))?).1);
        assert_eq!([1, 2, 4, 5].map(&mut next), [Some(2), Some(4), Some(5), None]);
        assert!(!lines.has((1, 5, 1)) && lines.all().count() == 0);
    }
}
