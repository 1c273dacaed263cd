//! Sets of numbers in which long runs are one entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of numbers: first of each run, with its last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Numbers(BTreeMap<u32, u32>);

impl Numbers {
    /// Puts a number in, joining its neighbours.
    pub fn insert(&mut self, number: u32) {
        if self.holds(number, number) {
            return;
        }
        let before = self.0.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(number) => first,
            _ => number,
        };
        let after = number.checked_add(1).and_then(|next| self.0.remove(&next));
        self.0.insert(first, after.unwrap_or(number));
    }

    /// Whether all from `start` to `end` are in.
    pub fn holds(&self, start: u32, end: u32) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, last)| *last >= end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_hold_what_a_plain_set_holds(numbers in prop::collection::vec(0..40u32, 0..60)) {
            let (mut runs, mut plain) = (Numbers::default(), BTreeSet::new());
            for number in numbers {
                runs.insert(number);
                plain.insert(number);
            }
            for start in 0..41 {
                for end in start..41 {
                    prop_assert_eq!(runs.holds(start, end), (start..=end).all(|n| plain.contains(&n)));
                }
            }
            let starts = plain.iter().filter(|n| n.checked_sub(1).is_none_or(|before| !plain.contains(&before)));
            prop_assert_eq!(runs.0.len(), starts.count());
        }
    }
}
