//! Sets of core numbers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::notation;

/// The largest number of cores that a node may have.
pub const CORES_PER_NODE_MAX: u32 = 4096;

/// A set of core numbers of one node, kept as a bitmap. Written and serialised as `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CoreSet {
    /// The last word is never zero, so that equal sets are equal values.
    words: Vec<u64>,
}

impl CoreSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The cores `0..count`.
    #[must_use]
    pub fn first(count: u32) -> Self {
        let mut words = vec![u64::MAX; count as usize / 64];
        if !count.is_multiple_of(64) {
            words.push((1 << (count % 64)) - 1);
        }
        Self { words }
    }

    /// Whether `core` is in the set.
    #[must_use]
    pub fn contains(&self, core: u32) -> bool {
        self.words.get(core as usize / 64).is_some_and(|word| word >> (core % 64) & 1 == 1)
    }

    /// Adds `core`.
    pub fn insert(&mut self, core: u32) {
        let word = core as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (core % 64);
    }

    /// Takes `core` out.
    pub fn remove(&mut self, core: u32) {
        if let Some(word) = self.words.get_mut(core as usize / 64) {
            *word &= !(1 << (core % 64));
            self.trim();
        }
    }

    /// How many cores are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no core is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether both sets share no core.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(a, b)| a & b == 0)
    }

    /// The cores that are in both sets.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut common = Self { words: self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect() };
        common.trim();
        common
    }

    /// How many cores are in both sets.
    #[must_use]
    pub fn common_len(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// Whether every core of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.words.iter().enumerate().all(|(i, a)| a & !other.words.get(i).copied().unwrap_or(0) == 0)
    }

    /// The highest core.
    #[must_use]
    pub fn max(&self) -> Option<u32> {
        let last = self.words.last()?;
        Some((self.words.len() as u32 - 1) * 64 + 63 - last.leading_zeros())
    }

    /// Adds every core of `other`.
    pub fn add_all(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
    }

    /// Takes every core of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
        self.trim();
    }

    /// The `count` cores of the set with the lowest numbers; all of them if it has no more.
    #[must_use]
    pub fn take_first(&self, count: u32) -> Self {
        let mut left = count;
        let mut words = Vec::with_capacity(self.words.len().min(count as usize));
        for &word in &self.words {
            if left == 0 {
                break;
            }
            let ones = word.count_ones();
            if ones <= left {
                words.push(word);
                left -= ones;
                continue;
            }
            // The lowest bit goes out of the rest until only those are left in it that are too many.
            let rest = (0..left).fold(word, |rest, _| rest & (rest - 1));
            words.push(word & !rest);
            left = 0;
        }
        let mut first = Self { words };
        first.trim();
        first
    }

    /// The cores in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

impl FromIterator<u32> for CoreSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cores: I) -> Self {
        let mut set = Self::new();
        for core in cores {
            set.insert(core);
        }
        set
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.iter();
        match (all.next(), all.next()) {
            // Most small tasks have one core.
            (Some(one), None) => one.fmt(f),
            _ => f.write_str(&notation::format_ranges(self.iter())),
        }
    }
}

impl Serialize for CoreSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CoreSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ranges =
            notation::parse_ranges(&text, CORES_PER_NODE_MAX - 1).map_err(serde::de::Error::custom)?;
        Ok(ranges.into_iter().flat_map(|r| r.first..=r.last).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(a in prop::collection::btree_set(0u32..300, 0..40),
                                         b in prop::collection::btree_set(0u32..300, 0..40)) {
            let set_a: CoreSet = a.iter().copied().collect();
            let set_b: CoreSet = b.iter().copied().collect();
            prop_assert_eq!(set_a.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(set_a.len() as usize, a.len());
            prop_assert_eq!(set_a.is_disjoint(&set_b), a.is_disjoint(&b));
            prop_assert_eq!(set_a.is_subset(&set_b), a.is_subset(&b));
            let common: CoreSet = a.intersection(&b).copied().collect();
            prop_assert_eq!(set_a.common_len(&set_b), common.len());
            prop_assert_eq!(set_a.common(&set_b), common);
            let mut both = set_a.clone();
            both.add_all(&set_b);
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), a.union(&b).copied().collect::<BTreeSet<_>>());
            let mut rest = set_a.clone();
            rest.remove_all(&set_b);
            let expected: CoreSet = a.difference(&b).copied().collect();
            prop_assert_eq!(&rest, &expected);
            for count in 0..200 {
                prop_assert_eq!(CoreSet::first(count), (0..count).collect::<CoreSet>());
            }
            for count in 0..a.len() as u32 + 2 {
                let expected: CoreSet = a.iter().copied().take(count as usize).collect();
                prop_assert_eq!(&set_a.take_first(count), &expected);
            }
            let text = serde_json::to_string(&set_a).unwrap();
            prop_assert_eq!(serde_json::from_str::<CoreSet>(&text).unwrap(), set_a);
        }
    }
}
