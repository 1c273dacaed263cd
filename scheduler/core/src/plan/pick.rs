//! Which cores of a node: those that share caches and memory controllers.

use std::collections::BTreeMap;

use crate::cores::CoreSet;
use crate::event::HardwareCore;
use crate::state::Node;

/// Picks `count` of the free cores: from the smallest domain that has enough of them (a last-level cache, a NUMA
/// node, a package, the node), and of equal domains from the one that has the fewest to spare.
///
/// `count` is at most the number of free cores.
pub(super) fn pick(node: &Node, free: &CoreSet, count: u32) -> CoreSet {
    let place = |core: u32| -> HardwareCore {
        let cores = node.hardware().map(|hardware| hardware.cores.as_slice()).unwrap_or_default();
        cores.get(core as usize % cores.len().max(1)).copied().unwrap_or_default()
    };
    let domains: [fn(HardwareCore) -> u64; 4] = [
        |c| (u64::from(c.package) << 40) | (u64::from(c.numa) << 20) | u64::from(c.l3),
        |c| (u64::from(c.package) << 20) | u64::from(c.numa),
        |c| u64::from(c.package),
        |_| 0,
    ];
    for domain in domains {
        let mut groups: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for core in free.iter() {
            groups.entry(domain(place(core))).or_default().push(core);
        }
        let tightest =
            groups.into_values().filter(|group| group.len() >= count as usize).min_by_key(Vec::len);
        if let Some(group) = tightest {
            return fill_from(&group, count, |core| domains[0](place(core)));
        }
    }
    free.iter().take(count as usize).collect()
}

/// Within a domain, empties whole caches before it breaks into the next.
fn fill_from(group: &[u32], count: u32, cache: impl Fn(u32) -> u64) -> CoreSet {
    let mut by_cache: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for &core in group {
        by_cache.entry(cache(core)).or_default().push(core);
    }
    let mut caches: Vec<Vec<u32>> = by_cache.into_values().collect();
    caches.sort_by_key(|cores| (std::cmp::Reverse(cores.len()), cores[0]));
    caches.into_iter().flatten().take(count as usize).collect()
}
