//! Counts of what is free on a node, at an instant or over a while.

use crate::event::Share;
use crate::gres::Counts;
use crate::state::Node;
use crate::threads::WiderCounts;

/// Counts of what is free on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::plan) struct NodeRoom {
    /// Cores of all kinds together.
    pub cores: u32,
    pub memory_bytes: u64,
    pub gres: Counts,
    /// Those of the cores that have more hardware threads than the narrowest, by kind.
    pub wider: WiderCounts,
}

impl NodeRoom {
    pub fn free(node: &Node) -> Self {
        Self {
            cores: node.free.len(),
            memory_bytes: node.free_memory_bytes,
            gres: Counts::free(&node.gres),
            wider: node.threads.counts(&node.free),
        }
    }

    pub fn whole(node: &Node) -> Self {
        let wider = match node.threads.is_uniform() {
            true => WiderCounts::default(),
            false => node.threads.counts(&crate::cores::CoreSet::first(node.cores)),
        };
        Self { cores: node.cores, memory_bytes: node.memory_bytes, gres: Counts::whole(&node.gres), wider }
    }

    /// What a share on `node` holds.
    pub fn of(node: &Node, share: &Share) -> Self {
        let gres = Counts::held(&node.gres, &share.gres);
        let wider = node.threads.counts(&share.cores);
        Self { cores: share.cores.len(), memory_bytes: share.memory_bytes, gres, wider }
    }

    /// Cores of the narrowest kind.
    pub fn narrow(self) -> u32 {
        self.cores.saturating_sub(self.wider.iter().copied().map(u32::from).sum())
    }

    /// Cores from a kind on: 0 is all of them.
    pub fn cores_from(self, kind: usize) -> u32 {
        match kind {
            0 => self.cores,
            kind => self.wider.iter().skip(kind - 1).copied().map(u32::from).sum(),
        }
    }

    /// What takes so many cores from a kind on: the narrowest first, so that wide ones stay for those who need them.
    pub fn part(self, kind: usize, cores: u32, memory_bytes: u64, gres: Counts) -> Self {
        let mut wider = WiderCounts::default();
        let mut left = if kind == 0 { cores.saturating_sub(self.narrow()) } else { cores };
        for (taken, there) in wider.iter_mut().zip(self.wider).skip(kind.saturating_sub(1)) {
            *taken = u16::try_from(left).unwrap_or(u16::MAX).min(there);
            left -= u32::from(*taken);
        }
        Self { cores, memory_bytes, gres, wider }
    }

    /// Whether all cores of both are of one kind, as on most machines: then nobody has to count kinds.
    fn is_plain(self, other: Self) -> bool {
        self.wider == WiderCounts::default() && other.wider == WiderCounts::default()
    }

    fn zip(self, other: Self, narrow: u32, f: impl Fn(u16, u16) -> u16) -> (u32, WiderCounts) {
        let wider: WiderCounts = std::array::from_fn(|i| f(self.wider[i], other.wider[i]));
        (narrow + wider.iter().copied().map(u32::from).sum::<u32>(), wider)
    }

    /// What is in both, kind by kind.
    pub fn at_most(self, other: Self) -> Self {
        if self.is_plain(other) {
            return Self {
                cores: self.cores.min(other.cores),
                memory_bytes: self.memory_bytes.min(other.memory_bytes),
                gres: self.gres.at_most(other.gres),
                wider: self.wider,
            };
        }
        let (cores, wider) = self.zip(other, self.narrow().min(other.narrow()), u16::min);
        Self {
            cores,
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            gres: self.gres.at_most(other.gres),
            wider,
        }
    }

    pub fn take(&mut self, less: Self) {
        if self.is_plain(less) {
            self.cores = self.cores.saturating_sub(less.cores);
        } else {
            let narrow = self.narrow().saturating_sub(less.narrow());
            (self.cores, self.wider) = self.zip(less, narrow, u16::saturating_sub);
        }
        self.memory_bytes = self.memory_bytes.saturating_sub(less.memory_bytes);
        self.gres = self.gres.minus(less.gres);
    }

    /// Whether it is at least as much as `other`.
    pub fn holds(self, other: Self) -> bool {
        self.narrow() >= other.narrow()
            && self.wider.iter().zip(other.wider).all(|(have, need)| *have >= need)
            && self.memory_bytes >= other.memory_bytes
            && self.gres.holds(other.gres)
    }

    /// Whether anything that `other` has is in it too.
    pub fn has_some_of(self, other: Self) -> bool {
        let both = self.at_most(other);
        both.cores > 0 || both.memory_bytes > 0 || both.gres != Counts::default()
    }

    /// More room.
    pub fn put(&mut self, more: Self) {
        if self.is_plain(more) {
            self.cores += more.cores;
        } else {
            (self.cores, self.wider) = self.zip(more, self.narrow() + more.narrow(), u16::saturating_add);
        }
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.gres = self.gres.plus(more.gres);
    }

    /// More room, but never more than `whole`.
    pub fn give(&mut self, more: Self, whole: Self) {
        self.put(more);
        *self = self.at_most(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(cores: u32, wider: WiderCounts) -> NodeRoom {
        NodeRoom { cores, wider, ..NodeRoom::default() }
    }

    fn part(room: NodeRoom, kind: usize, cores: u32) -> NodeRoom {
        room.part(kind, cores, 0, Counts::default())
    }

    #[test]
    fn narrow_cores_go_first() {
        let free = room(14, [6, 2]);
        assert_eq!(
            (free.narrow(), free.cores_from(0), free.cores_from(1), free.cores_from(2)),
            (6, 14, 8, 2)
        );
        assert_eq!(part(free, 0, 5), room(5, [0, 0]));
        assert_eq!(part(free, 0, 13), room(13, [6, 1]));
        assert_eq!(part(free, 1, 7), room(7, [6, 1]));
        assert_eq!(part(free, 2, 2), room(2, [0, 2]));
    }

    #[test]
    fn kinds_are_counted_each_for_itself() {
        // Three narrow ones now, two wide ones then: only what is there at both instants can be used throughout.
        assert_eq!(room(3, [0, 0]).at_most(room(2, [2, 0])), room(0, [0, 0]));
        let mut left = room(5, [2, 1]);
        left.take(room(3, [1, 0]));
        assert_eq!(left, room(2, [1, 1]));
        assert!(!left.holds(room(2, [2, 0])) && left.holds(room(1, [1, 0])));
        left.give(room(3, [1, 0]), room(5, [2, 1]));
        assert_eq!(left, room(5, [2, 1]));
    }
}
