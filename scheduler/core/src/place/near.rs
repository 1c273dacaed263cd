//! Cores and devices of one task, chosen together so that they are near to each other.

use std::collections::BTreeMap;

use super::pick_cores;
use crate::cores::CoreSet;
use crate::event::HardwareCore;

/// So many devices of one kind, from those that are free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceWish {
    /// The free ones, each with its NUMA node where it is known; rising.
    pub free: Vec<(u32, Option<u32>)>,
    /// How many of them are wanted.
    pub count: u32,
}

/// What one NUMA node has free.
#[derive(Debug, Clone, Default)]
struct Near {
    cores: u32,
    /// Of each wish.
    devices: Vec<u32>,
}

/// Picks `count` of the free cores, and the devices of each wish.
///
/// Devices are on one NUMA node if one has enough of them and of the cores; else on few NUMA nodes of one package; else
/// on few of the whole node: always first on those with free cores, then on those with more devices. The cores are as
/// [`pick_cores`] chooses them, near to the devices; where the devices are on several NUMA nodes, each gets a part of
/// the cores like its part of the devices. Devices whose place nobody knows are taken last, and without any known place
/// those with the lowest numbers.
///
/// If fewer are free than wanted, all free ones are the answer.
#[must_use]
pub fn pick_with_devices(
    places: &[HardwareCore],
    free: &CoreSet,
    count: u32,
    wishes: &[DeviceWish],
) -> (CoreSet, Vec<CoreSet>) {
    let numas = numas(places, free, wishes);
    if numas.values().all(|near| near.devices.iter().all(|devices| *devices == 0)) {
        let devices = wishes.iter().map(|wish| first(wish, |_| true, wish.count)).collect();
        return (pick_cores(places, free, count, &[]), devices);
    }
    let home = home(places, count, wishes, &numas);
    let (devices, parts) = pick_devices(count, wishes, &numas, &home);
    (cores_near(places, free, count, &parts), devices)
}

fn place(places: &[HardwareCore], core: u32) -> HardwareCore {
    places[core as usize % places.len()]
}

/// What each NUMA node has.
fn numas(places: &[HardwareCore], free: &CoreSet, wishes: &[DeviceWish]) -> BTreeMap<u32, Near> {
    let mut numas: BTreeMap<u32, Near> = BTreeMap::new();
    if places.is_empty() {
        return numas;
    }
    let blank = Near { cores: 0, devices: vec![0; wishes.len()] };
    for core in free.iter() {
        numas.entry(place(places, core).numa).or_insert_with(|| blank.clone()).cores += 1;
    }
    for (i, wish) in wishes.iter().enumerate().filter(|(_, wish)| wish.count > 0) {
        for numa in wish.free.iter().filter_map(|(_, numa)| *numa) {
            numas.entry(numa).or_insert_with(|| blank.clone()).devices[i] += 1;
        }
    }
    numas
}

/// The NUMA nodes from which devices are taken: one, those of one package, or all.
fn home(places: &[HardwareCore], count: u32, wishes: &[DeviceWish], numas: &BTreeMap<u32, Near>) -> Vec<u32> {
    let mut packages: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for core in places {
        let numas = packages.entry(core.package).or_default();
        if !numas.contains(&core.numa) {
            numas.push(core.numa);
        }
    }
    let all: Vec<u32> = numas.keys().copied().collect();
    let single = all.iter().map(|numa| vec![*numa]);
    let homes = single.chain(packages.into_values().filter(|numas| numas.len() > 1));
    let near = |home: &[u32]| home.iter().filter_map(|numa| numas.get(numa)).cloned().collect::<Vec<_>>();
    let best = homes
        .filter_map(|home| {
            let near = near(&home);
            let mut spare = 0;
            for (i, wish) in wishes.iter().enumerate() {
                spare += near.iter().map(|near| near.devices[i]).sum::<u32>().checked_sub(wish.count)?;
            }
            let cores: u32 = near.iter().map(|near| near.cores).sum();
            // What is whole stays whole: the fewest devices stay behind, then the fewest cores.
            (cores >= count).then_some(((home.len(), spare, cores), home))
        })
        .min();
    best.map_or(all, |(_, home)| home)
}

/// The devices of each wish, and how many each NUMA node gives.
fn pick_devices(
    count: u32,
    wishes: &[DeviceWish],
    numas: &BTreeMap<u32, Near>,
    home: &[u32],
) -> (Vec<CoreSet>, Vec<(u32, u32)>) {
    let mut left: Vec<u32> = wishes.iter().map(|wish| wish.count).collect();
    let mut rest: Vec<u32> = home.to_vec();
    let mut devices = vec![CoreSet::new(); wishes.len()];
    let mut parts = Vec::new();
    loop {
        let given = |numa: u32, left: &[u32]| -> u32 {
            numas.get(&numa).map_or(0, |near| near.devices.iter().zip(left).map(|(a, b)| *a.min(b)).sum())
        };
        // With free cores, many devices, many cores, few devices that stay behind; the first of equal ones.
        let key = |numa: u32| {
            let near = numas.get(&numa).cloned().unwrap_or_default();
            let all: u32 = near.devices.iter().sum();
            let given = given(numa, &left);
            (near.cores > 0, given, near.cores.min(count), std::cmp::Reverse(all - given))
        };
        let able = rest.iter().copied().filter(|numa| given(*numa, &left) > 0);
        let Some(best) = able.rev().max_by_key(|numa| key(*numa)) else { break };
        parts.push((best, given(best, &left)));
        for ((wish, left), devices) in wishes.iter().zip(&mut left).zip(&mut devices) {
            let more = first(wish, |numa| numa == Some(best), *left);
            *left -= more.len();
            devices.add_all(&more);
        }
        rest.retain(|numa| *numa != best);
    }
    // What is left has no known place.
    for ((wish, left), devices) in wishes.iter().zip(left).zip(&mut devices) {
        devices.add_all(&first(wish, |numa| numa.is_none(), left));
    }
    parts.sort_unstable();
    (devices, parts)
}

/// The first free devices of a wish at some place.
fn first(wish: &DeviceWish, at: impl Fn(Option<u32>) -> bool, count: u32) -> CoreSet {
    let able = wish.free.iter().filter(|(_, numa)| at(*numa));
    able.take(count as usize).map(|(device, _)| *device).collect()
}

/// Cores near to devices of which each NUMA node gives a part.
fn cores_near(places: &[HardwareCore], free: &CoreSet, count: u32, parts: &[(u32, u32)]) -> CoreSet {
    let near: Vec<u32> = parts.iter().map(|(numa, _)| *numa).collect();
    let on =
        |numa: u32| -> CoreSet { free.iter().filter(|core| place(places, *core).numa == numa).collect() };
    match near[..] {
        [] => return pick_cores(places, free, count, &near),
        [numa] => {
            // Packages may be smaller than NUMA nodes: then memory goes before packages.
            let here = on(numa);
            let able = if here.len() >= count { &here } else { free };
            return pick_cores(places, able, count, &near);
        }
        _ => {}
    }
    let total: u64 = parts.iter().map(|(_, devices)| u64::from(*devices)).sum();
    let mut taken = CoreSet::new();
    let (mut sum, mut given) = (0, 0);
    for (numa, devices) in parts {
        // Rounded sums, so that the parts add up.
        sum += u64::from(*devices);
        let upto = (u64::from(count) * sum).div_ceil(total) as u32;
        taken.add_all(&pick_cores(places, &on(*numa), upto - given, &[]));
        given = upto;
    }
    let mut rest = free.clone();
    rest.remove_all(&taken);
    let missing = count.saturating_sub(taken.len());
    if missing > 0 {
        taken.add_all(&pick_cores(places, &rest, missing, &near));
    }
    taken
}
