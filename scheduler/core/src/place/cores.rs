//! Which cores of a node: those that share packages, memory and caches.

use super::split::{self, Group, SEARCH_MAX};
use crate::cores::CoreSet;
use crate::event::HardwareCore;

/// Picks `count` of the free cores for one task.
///
/// The cores are in as few packages as possible, then on as few NUMA nodes, then on as few last-level caches; then
/// they leave as little broken up as possible (whole caches stay whole, and the tightest fit is taken), and of
/// equal choices it is the one with the lowest numbers. With `near`, as many cores as possible are on those NUMA nodes
/// as long as this takes no more packages.
///
/// Core `c` sits at `places[c % places.len()]`: a node may declare more cores than it has. Without places all
/// cores are equally near. If fewer than `count` are free, all free ones are the answer; never is a core that is not
/// free.
#[must_use]
pub fn pick_cores(places: &[HardwareCore], free: &CoreSet, count: u32, near: &[u32]) -> CoreSet {
    // One place, or many that are all the same, as of nodes without known hardware.
    let Some(first) = places.first() else { return free.take_first(count) };
    if are_alike(places, *first) {
        return free.take_first(count);
    }
    if count >= free.len() {
        return free.clone();
    }
    let caches = caches(places, free);
    // The most common case: one cache has room. Nothing is in fewer packages, memories or caches than that.
    let in_package = |package: u32| -> usize {
        let same = caches.iter().filter(|cache| cache.place.package == package);
        same.map(|cache| cache.cores.len()).sum()
    };
    let fits = caches.iter().filter(|cache| cache.cores.len() >= count as usize);
    let one = fits.min_by_key(|cache| {
        (is_far(cache.place.numa, near), cache.cores.len(), in_package(cache.place.package))
    });
    if let Some(one) = one.filter(|one| !is_far(one.place.numa, near)) {
        return one.cores[..count as usize].iter().copied().collect();
    }
    let tree = Tree::new(caches);
    let mut parts = vec![0; tree.groups.len()];
    if u64::from(count) * u64::from(tree.groups[0].room) <= SEARCH_MAX {
        split::best(&tree.groups, count, &|group, x| tree.worth(group, x, near), &mut parts);
    } else {
        split::guess(&tree.groups, 0, count, &mut parts);
    }
    tree.take(&parts)
}

/// What a core shares with others. Threads are its own.
fn shared_by(core: HardwareCore) -> [u32; 3] {
    [core.package, core.numa, core.l3]
}

/// Whether all places share the same as this one. Looks at many without a branch: this is asked for each task, and a node may
/// have thousands.
fn are_alike(places: &[HardwareCore], one: HardwareCore) -> bool {
    let apart =
        |place: &HardwareCore| (place.package ^ one.package) | (place.numa ^ one.numa) | (place.l3 ^ one.l3);
    places.chunks(64).all(|chunk| chunk.iter().fold(0, |found, place| found | apart(place)) == 0)
}

/// Whether a NUMA node is not one of those that are wanted.
fn is_far(numa: u32, near: &[u32]) -> bool {
    !near.is_empty() && !near.contains(&numa)
}

/// Free cores that are at the same place.
struct Cache {
    place: HardwareCore,
    /// Rising.
    cores: Vec<u32>,
}

/// The free cores by place, in the order of their first cores.
fn caches(places: &[HardwareCore], free: &CoreSet) -> Vec<Cache> {
    let mut caches: Vec<Cache> = Vec::new();
    // Neighbours are mostly on the same cache or the next, so the search starts at the last one.
    for core in free.iter() {
        let place = places[core as usize % places.len()];
        match caches.iter_mut().rev().find(|cache| shared_by(cache.place) == shared_by(place)) {
            Some(cache) => cache.cores.push(core),
            None => caches.push(Cache { place, cores: vec![core] }),
        }
    }
    caches
}

/// What cores share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    Package,
    Numa,
    L3,
}

impl Shared {
    fn of(self, place: HardwareCore) -> u32 {
        match self {
            Self::Package => place.package,
            Self::Numa => place.numa,
            Self::L3 => place.l3,
        }
    }

    /// How much it counts to touch one of them. With at most 2⁹ cores wanted (the search takes no more, see
    /// `SEARCH_MAX`), no more than 2⁹ of anything are touched, and fits add up to less than 4 × 2 × 2¹⁸ = 2²¹.
    fn cost(self) -> i64 {
        match self {
            Self::L3 => 1 << 21,
            Self::Numa => 1 << 31,
            Self::Package => 1 << 51,
        }
    }
}

/// How much a core on a wanted NUMA node counts: more than the number of NUMA nodes, less than that of packages.
const NEAR: i64 = 1 << 41;

/// The node's parts that have free cores, as a tree.
///
/// Packages hold NUMA nodes on most machines, but on some it is the other way round, or caches hold NUMA nodes; the
/// kind with the fewest groups is the outermost.
struct Tree {
    groups: Vec<Group>,
    /// What it costs to touch each group.
    costs: Vec<i64>,
    /// The NUMA node that a group lies in, where it lies in one.
    numas: Vec<Option<u32>>,
    /// The cores of groups without any below.
    cores: Vec<Vec<u32>>,
}

impl Tree {
    fn new(mut caches: Vec<Cache>) -> Self {
        let mut kinds = [Shared::Package, Shared::Numa, Shared::L3];
        let number = |kind: Shared| {
            let mut numbers: Vec<u32> = caches.iter().map(|cache| kind.of(cache.place)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len()
        };
        kinds.sort_by_key(|kind| number(*kind));
        let first_core = |cache: &Cache| cache.cores[0];
        caches.sort_by_key(|cache| (kinds.map(|kind| kind.of(cache.place)), first_core(cache)));
        let mut tree = Self { groups: Vec::new(), costs: Vec::new(), numas: Vec::new(), cores: Vec::new() };
        tree.add(caches, &kinds, 0);
        tree
    }

    /// Adds a group of these caches, and those below it. A group that holds only one other is one with it.
    fn add(&mut self, mut caches: Vec<Cache>, kinds: &[Shared], mut cost: i64) {
        let mut kinds = kinds;
        while let Some((kind, finer)) = kinds.split_first() {
            let first = kind.of(caches[0].place);
            if caches.iter().any(|cache| kind.of(cache.place) != first) {
                break;
            }
            cost += kind.cost();
            kinds = finer;
        }
        let index = self.groups.len();
        let room = caches.iter().map(|cache| cache.cores.len() as u32).sum();
        self.groups.push(Group { below_end: 0, room, alike: false });
        self.costs.push(cost);
        let numa = caches[0].place.numa;
        self.numas.push(caches.iter().all(|cache| cache.place.numa == numa).then_some(numa));
        self.cores.push(Vec::new());
        match kinds.split_first() {
            None => self.cores[index] = caches.swap_remove(0).cores,
            Some((kind, finer)) => {
                let mut caches = caches.into_iter().peekable();
                while let Some(cache) = caches.next() {
                    let group = kind.of(cache.place);
                    let mut same = vec![cache];
                    while let Some(next) = caches.next_if(|next| kind.of(next.place) == group) {
                        same.push(next);
                    }
                    self.add(same, finer, kind.cost());
                }
            }
        }
        self.groups[index].below_end = self.groups.len() as u32;
        self.groups[index].alike = self.is_alike(index);
    }

    /// Whether the groups below one have none below them and all cost the same.
    fn is_alike(&self, index: usize) -> bool {
        // Which of them is near to a device makes a difference unless all lie in the same memory.
        self.numas[index].is_some()
            && split::below(&self.groups, index)
                .all(|i| self.groups[i].below_end as usize == i + 1 && self.costs[i] == self.costs[index + 1])
    }

    fn worth(&self, group: usize, x: u32, near: &[u32]) -> i64 {
        if x == 0 {
            return 0;
        }
        let is_leaf = self.groups[group].below_end as usize == group + 1;
        let is_near = is_leaf && self.numas[group].is_some_and(|numa| near.contains(&numa));
        let near = if is_near { i64::from(x) * NEAR } else { 0 };
        let fit = i64::from(x) * (i64::from(x) - 2 * i64::from(self.groups[group].room));
        near + fit - self.costs[group]
    }

    fn take(mut self, parts: &[u32]) -> CoreSet {
        let mut taken = CoreSet::new();
        for (cores, part) in self.cores.iter_mut().zip(parts) {
            for core in &cores[..*part as usize] {
                taken.insert(*core);
            }
        }
        taken
    }
}
