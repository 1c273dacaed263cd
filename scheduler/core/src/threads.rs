//! Hardware threads of a node's cores. On hybrid machines some cores have more than others.

use serde::{Deserialize, Serialize};

use crate::cores::CoreSet;
use crate::event::HardwareCore;

/// Most kinds of cores, by their threads, that are told apart on a node beside the narrowest. A machine with more of
/// them (some threads off line) is known by its most frequent ones, and the others count as narrower ones.
pub const WIDER_KINDS_MAX: usize = 2;

/// How many cores of each wider kind.
pub type WiderCounts = [u16; WIDER_KINDS_MAX];

/// How many hardware threads the cores of a node have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreThreads {
    /// Threads that every core has at least.
    least: u32,
    /// Cores with more, by how many, rising; no core in two of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wider: Vec<Wider>,
}

/// Cores with so many threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wider {
    threads: u32,
    cores: CoreSet,
}

impl Default for CoreThreads {
    fn default() -> Self {
        Self::uniform(1)
    }
}

impl CoreThreads {
    /// All cores have the same number.
    #[must_use]
    pub fn uniform(threads: u32) -> Self {
        Self { least: threads, wider: Vec::new() }
    }

    /// What an agent found, for a node that declares so many cores: core `c` is the found core `c` modulo their number.
    #[must_use]
    pub fn of(cores: u32, found: &[HardwareCore]) -> Self {
        let Some(least) = found.iter().map(|core| core.threads).min() else { return Self::default() };
        if found.iter().all(|core| core.threads == least) {
            return Self::uniform(least);
        }
        let threads = |core: u32| found[core as usize % found.len()].threads;
        let least = (0..cores).map(threads).min().unwrap_or(least);
        let mut kinds: Vec<(usize, u32)> = Vec::new();
        for more in (0..cores).map(threads).filter(|threads| *threads > least) {
            match kinds.iter_mut().find(|(_, kind)| *kind == more) {
                Some((count, _)) => *count += 1,
                None => kinds.push((1, more)),
            }
        }
        kinds.sort_unstable_by(|a, b| b.cmp(a));
        kinds.truncate(WIDER_KINDS_MAX);
        let mut wider: Vec<Wider> =
            kinds.iter().map(|(_, threads)| Wider { threads: *threads, cores: CoreSet::new() }).collect();
        wider.sort_unstable_by_key(|kind| kind.threads);
        for core in 0..cores {
            if let Some(kind) = wider.iter_mut().rev().find(|kind| kind.threads <= threads(core)) {
                kind.cores.insert(core);
            }
        }
        Self { least, wider }
    }

    /// Whether every core has one thread, as far as is known.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all cores have the same number.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.wider.is_empty()
    }

    /// Threads of the widest cores.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.wider.last().map_or(self.least, |kind| kind.threads)
    }

    /// How many of some cores are of each wider kind.
    #[must_use]
    pub fn counts(&self, cores: &CoreSet) -> WiderCounts {
        let mut counts = WiderCounts::default();
        for (count, kind) in counts.iter_mut().zip(&self.wider) {
            *count = u16::try_from(kind.cores.common_len(cores)).unwrap_or(u16::MAX);
        }
        counts
    }

    /// The narrowest kind whose cores have at least so many threads: 0 for all cores, `i` for those from the `i`th
    /// wider kind on.
    #[must_use]
    pub fn kind_with(&self, threads: u32) -> Option<usize> {
        let kinds = std::iter::once(self.least).chain(self.wider.iter().map(|kind| kind.threads));
        kinds.enumerate().find(|(_, has)| *has >= threads).map(|(kind, _)| kind)
    }

    /// Those of some cores that may be used by what asks for at least so many threads (0: any core), of each kind at
    /// most as many as a limit says: first the narrow ones, then the wider kinds.
    #[must_use]
    pub fn usable(&self, free: &CoreSet, threads: u32, narrow_max: u32, wider_max: WiderCounts) -> CoreSet {
        let Some(first) = self.kind_with(threads) else { return CoreSet::new() };
        if self.is_uniform() {
            return free.clone();
        }
        let mut narrow = free.clone();
        let mut usable = CoreSet::new();
        for (i, (kind, most)) in self.wider.iter().zip(wider_max).enumerate() {
            narrow.remove_all(&kind.cores);
            if i + 1 >= first {
                usable.add_all(&kind.cores.common(free).take_first(u32::from(most)));
            }
        }
        if first == 0 {
            usable.add_all(&narrow.take_first(narrow_max));
        }
        usable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(threads: &[u32]) -> Vec<HardwareCore> {
        threads.iter().map(|threads| HardwareCore { threads: *threads, ..HardwareCore::default() }).collect()
    }

    fn set(text: &str) -> CoreSet {
        serde_json::from_str(&format!("{text:?}")).unwrap()
    }

    #[test]
    fn cores_are_told_apart_by_their_threads() {
        let hybrid = CoreThreads::of(6, &found(&[2, 2, 1, 1, 1, 1]));
        assert_eq!((hybrid.most(), hybrid.is_uniform()), (2, false));
        assert_eq!((hybrid.kind_with(1), hybrid.kind_with(2), hybrid.kind_with(3)), (Some(0), Some(1), None));
        assert_eq!(hybrid.counts(&set("1-4")), [1, 0]);
        assert_eq!(hybrid.usable(&set("0-5"), 2, 9, [9, 9]), set("0-1"));
        assert_eq!(hybrid.usable(&set("1-4"), 0, 2, [0, 0]), set("2-3"), "the wide ones are kept for others");
        assert_eq!(hybrid.usable(&set("1-4"), 3, 9, [9, 9]), CoreSet::new());
        let wide = CoreThreads::of(4, &found(&[4; 8]));
        assert_eq!((wide.is_uniform(), wide.kind_with(4), wide.kind_with(5)), (true, Some(0), None));
        assert_eq!(CoreThreads::of(4, &[]), CoreThreads::default());
    }

    #[test]
    fn a_node_that_declares_more_cores_than_it_has_goes_round() {
        let hybrid = CoreThreads::of(5, &found(&[2, 1]));
        assert_eq!(hybrid.usable(&set("0-4"), 2, 9, [9, 9]), set("0,2,4"));
        assert!(CoreThreads::of(1, &found(&[2, 1])).is_uniform(), "it uses only its first core");
    }

    #[test]
    fn of_many_kinds_the_most_frequent_are_known() {
        let many = CoreThreads::of(10, &found(&[1, 2, 2, 2, 3, 4, 4, 4, 4, 8]));
        assert_eq!(many.wider.len(), WIDER_KINDS_MAX);
        assert_eq!((many.kind_with(2), many.kind_with(3), many.kind_with(8)), (Some(1), Some(2), None));
        assert_eq!(many.counts(&CoreSet::first(10)), [4, 5], "the core with three counts as one with two");
    }
}
