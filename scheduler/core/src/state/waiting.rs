//! The waiting indices of a job, as ranges: an array of a million elements is one range until they start.

use serde::{Deserialize, Serialize};

use crate::spec::IndexRange;

/// A set of task indices, kept as rising, disjoint ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexSet {
    ranges: std::collections::VecDeque<IndexRange>,
}

impl IndexSet {
    /// The set of these ranges, which are rising and disjoint.
    #[must_use]
    pub fn from_ranges(ranges: &[IndexRange]) -> Self {
        Self { ranges: ranges.iter().copied().collect() }
    }

    /// How many indices it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(IndexRange::len).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Its ranges, rising.
    pub fn ranges(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.ranges.iter().copied()
    }

    /// Its indices, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(IndexRange::indices)
    }

    /// Whether it holds `index`.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.position(index).is_some()
    }

    /// Which range holds `index`. Ranges with steps may interleave, so neighbours are looked at as well.
    fn position(&self, index: u32) -> Option<usize> {
        let holds =
            |r: &IndexRange| r.first <= index && index <= r.last && (index - r.first).is_multiple_of(r.step);
        self.ranges.iter().position(holds)
    }

    /// Takes `index` out; says whether it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        let Some(at) = self.position(index) else { return false };
        let range = self.ranges[at];
        if range.first == range.last {
            self.ranges.remove(at);
        } else if index == range.first {
            self.ranges[at].first += range.step;
        } else if index == range.last {
            self.ranges[at].last -= range.step;
        } else {
            self.ranges[at].last = index - range.step;
            self.ranges.insert(at + 1, IndexRange { first: index + range.step, ..range });
        }
        true
    }

    /// Puts `index` in, joining it to a neighbour where that is possible.
    pub fn insert(&mut self, index: u32) {
        if self.contains(index) {
            return;
        }
        if let Some(range) = self.ranges.iter_mut().find(|r| r.first.checked_sub(r.step) == Some(index)) {
            range.first = index;
            return;
        }
        let at = self.ranges.partition_point(|r| r.first < index);
        // The range before it, unless ranges with steps lie between.
        if let Some(range) = at.checked_sub(1).and_then(|before| self.ranges.get_mut(before))
            && range.last.checked_add(range.step) == Some(index)
        {
            range.last = index;
            return;
        }
        self.ranges.insert(at, IndexRange { first: index, last: index, step: 1 });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(first in 0u32..20, count in 1u32..30, step in 1u32..4,
                              ops in prop::collection::vec((any::<bool>(), 0u32..120), 0..80)) {
            let range = IndexRange { first, last: first + (count - 1) * step, step };
            let mut set = IndexSet::from_ranges(&[range]);
            let mut model: BTreeSet<u32> = (range.first..=range.last).step_by(step as usize).collect();
            for (put, index) in ops {
                if put {
                    set.insert(index);
                    model.insert(index);
                } else {
                    prop_assert_eq!(set.remove(index), model.remove(&index));
                }
                prop_assert_eq!(set.len() as usize, model.len());
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            }
        }
    }
}
