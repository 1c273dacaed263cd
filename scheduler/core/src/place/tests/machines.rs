//! Cores and devices on pictures of real machines (`machines.txt`, which `launcher/topo/tests/machines.rs` writes).

use std::collections::{BTreeMap, BTreeSet};

use super::Numbers;
use crate::cores::CoreSet;
use crate::event::HardwareCore;
use crate::place::{DeviceWish, pick_cores, pick_with_devices};
use crate::threads::CoreThreads;

struct Machine {
    name: &'static str,
    cores: Vec<HardwareCore>,
    /// Names and NUMA nodes.
    devices: Vec<(&'static str, Option<u32>)>,
}

fn machines() -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    for line in include_str!("machines.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: usize| words[word].parse().unwrap();
        match words[0] {
            "machine" => machines.push(Machine { name: words[1], cores: Vec::new(), devices: Vec::new() }),
            "cores" => {
                let core =
                    HardwareCore { package: number(1), numa: number(2), l3: number(3), threads: number(4) };
                machines.last_mut().unwrap().cores.extend(vec![core; number(5) as usize]);
            }
            _ => machines.last_mut().unwrap().devices.push((words[1], words[2].parse().ok())),
        }
    }
    assert_eq!(machines.len(), 14);
    machines
}

/// Some of the cores, more or less of them.
fn free(machine: &Machine, numbers: &mut Numbers) -> CoreSet {
    let share = 1 + numbers.to(9);
    (0..machine.cores.len() as u32).filter(|_| numbers.to(9) < share).collect()
}

/// Packages, NUMA nodes and caches that some cores touch.
fn touched(machine: &Machine, cores: &CoreSet) -> (usize, usize, usize) {
    let count = |value: fn(&HardwareCore) -> u32| {
        cores.iter().map(|core| value(&machine.cores[core as usize])).collect::<BTreeSet<_>>().len()
    };
    (count(|c| c.package), count(|c| c.numa), count(|c| c.l3))
}

/// How many of some rooms hold `count`, if they are taken in the best order.
fn fewest_of(mut rooms: Vec<u32>, count: u32) -> usize {
    rooms.sort_unstable_by(|a, b| b.cmp(a));
    let sums = rooms.iter().scan(0, |sum, room| {
        *sum += room;
        Some(*sum)
    });
    1 + sums.take_while(|sum| *sum < count).count()
}

/// The fewest packages, of these the fewest NUMA nodes, of these the fewest caches that hold `count` free cores: by
/// trying all sets of caches.
fn fewest(machine: &Machine, free: &CoreSet, count: u32) -> (usize, usize, usize) {
    let mut groups: BTreeMap<(u32, u32, u32), u32> = BTreeMap::new();
    for core in free.iter() {
        let core = machine.cores[core as usize];
        *groups.entry((core.package, core.numa, core.l3)).or_default() += 1;
    }
    if groups.values().all(|room| *room == 1) && groups.len() == free.len() as usize && groups.len() > 16 {
        // Each core has a package and a cache to itself; only the NUMA nodes are to be chosen.
        let mut numas: BTreeMap<u32, u32> = BTreeMap::new();
        groups.keys().for_each(|(_, numa, _)| *numas.entry(*numa).or_default() += 1);
        let rooms: Vec<u32> = numas.into_values().collect();
        return (count as usize, fewest_of(rooms, count), count as usize);
    }
    let groups: Vec<((u32, u32, u32), u32)> = groups.into_iter().collect();
    let bits = |value: fn(&(u32, u32, u32)) -> u32| -> Vec<u64> {
        groups.iter().map(|(place, _)| 1 << value(place)).collect()
    };
    let (packages, numas) = (bits(|place| place.0), bits(|place| place.1));
    let (mut best, none) = ((usize::MAX, 0, 0), (0_u32, 0_u64, 0_u64));
    // Sums of each set follow from those of the set without its last cache.
    let mut sums = vec![none; 1 << groups.len()];
    for set in 1_usize..1 << groups.len() {
        let last = set.ilog2() as usize;
        let (room, package, numa) = sums[set & !(1 << last)];
        sums[set] = (room + groups[last].1, package | packages[last], numa | numas[last]);
        if sums[set].0 >= count {
            let (_, package, numa) = sums[set];
            let quality =
                (package.count_ones() as usize, numa.count_ones() as usize, set.count_ones() as usize);
            best = best.min(quality);
        }
    }
    best
}

#[test]
fn cores_of_every_machine_share_as_much_as_they_can() {
    let mut numbers = Numbers(21);
    for machine in machines() {
        let large = touched(&machine, &CoreSet::first(machine.cores.len() as u32)).2 > 8;
        for _ in 0..if large { 60 } else { 300 } {
            let free = free(&machine, &mut numbers);
            if free.is_empty() {
                continue;
            }
            let count = 1 + numbers.to(free.len() - 1);
            let picked = pick_cores(&machine.cores, &free, count, &[]);
            assert!(picked.is_subset(&free) && picked.len() == count, "{}", machine.name);
            assert_eq!(
                touched(&machine, &picked),
                fewest(&machine, &free, count),
                "{}: {count} of {free}: {picked}",
                machine.name
            );
        }
    }
}

#[test]
fn what_needs_wide_cores_gets_those_and_no_others() {
    let mut numbers = Numbers(22);
    for machine in machines() {
        let threads = CoreThreads::of(machine.cores.len() as u32, &machine.cores);
        let hybrid = ["intel-hybrid-20pu.v2", "intel-raptorlake-hybrid.v3", "intel-4s2c2t-offline-cpus.v2"];
        assert_eq!(!threads.is_uniform(), hybrid.contains(&machine.name), "{}", machine.name);
        for _ in 0..100 {
            let free = free(&machine, &mut numbers);
            for wanted in 1..=5 {
                let able = threads.usable(&free, wanted, u32::MAX, [u16::MAX; 2]);
                let expected: CoreSet =
                    free.iter().filter(|core| machine.cores[*core as usize].threads >= wanted).collect();
                assert_eq!(able, expected, "{}: {wanted} threads", machine.name);
                let count = numbers.to(able.len().max(1));
                let picked = pick_cores(&machine.cores, &able, count, &[]);
                assert!(picked.is_subset(&expected) && picked.len() == count.min(able.len()));
                if count > 0 && count <= able.len() {
                    assert_eq!(
                        touched(&machine, &picked),
                        fewest(&machine, &able, count),
                        "{}",
                        machine.name
                    );
                }
            }
        }
    }
}

/// How often cores could be beside the devices of their task, and were.
#[derive(Default)]
struct Tally {
    cases: u32,
    possible: u32,
}

fn check_devices(machine: &Machine, kind: &str, numbers: &mut Numbers, tally: &mut Tally) {
    let free = free(machine, numbers);
    let named: Vec<Option<u32>> =
        machine.devices.iter().filter(|device| device.0 == kind).map(|device| device.1).collect();
    let devices: Vec<(u32, Option<u32>)> =
        (0..).zip(named.iter().copied()).filter(|_| numbers.to(2) > 0).collect();
    if free.is_empty() || devices.is_empty() {
        return;
    }
    let count = 1 + numbers.to(free.len() - 1);
    let wanted = 1 + numbers.to(devices.len() as u32 - 1);
    let wish = DeviceWish { free: devices.clone(), count: wanted };
    let (cores, picked) = pick_with_devices(&machine.cores, &free, count, &[wish]);
    let what = format!("{}: {count} of {free}, {wanted} of {devices:?}: {cores} {picked:?}", machine.name);
    assert!(cores.is_subset(&free) && cores.len() == count, "{what}");
    assert_eq!(picked[0].len(), wanted, "{what}");
    assert!(picked[0].iter().all(|device| devices.iter().any(|(other, _)| *other == device)), "{what}");
    let on = |cores: &CoreSet, numa: u32| {
        cores.iter().filter(|core| machine.cores[*core as usize].numa == numa).count() as u32
    };
    let of = |numa: u32| devices.iter().filter(|device| device.1 == Some(numa)).count() as u32;
    let used: BTreeSet<u32> = picked[0].iter().filter_map(|device| named[device as usize]).collect();
    let all: BTreeSet<u32> = named.iter().flatten().copied().collect();
    tally.cases += 1;
    // Where one NUMA node has all of it, everything is there.
    if all.iter().any(|numa| on(&free, *numa) >= count && of(*numa) >= wanted) {
        tally.possible += 1;
        assert_eq!(used.len(), 1, "{what}");
        assert_eq!(on(&cores, *used.first().unwrap()), count, "{what}");
    }
    // The devices are on as few NUMA nodes as can be among those with free cores.
    let rooms: Vec<u32> = all.iter().filter(|numa| on(&free, **numa) > 0).map(|numa| of(*numa)).collect();
    if rooms.iter().sum::<u32>() >= wanted {
        assert_eq!(used.len(), fewest_of(rooms, wanted), "{what}");
        // Each of several NUMA nodes has its part of the cores, if it has as many free.
        if used.len() > 1 {
            for numa in &used {
                let part =
                    picked[0].iter().filter(|device| named[*device as usize] == Some(*numa)).count() as u32;
                assert!(on(&cores, *numa) >= (count * part / wanted).min(on(&free, *numa)), "{what}");
            }
        }
    }
}

#[test]
fn cores_touch_the_memory_of_their_devices() {
    let mut numbers = Numbers(23);
    for machine in machines().iter().filter(|machine| !machine.devices.is_empty()) {
        let kinds: BTreeSet<&str> = machine.devices.iter().map(|device| device.0).collect();
        for kind in kinds {
            let mut tally = Tally::default();
            for _ in 0..400 {
                check_devices(machine, kind, &mut numbers, &mut tally);
            }
            println!("{} {kind}: {} of {} cases fit beside", machine.name, tally.possible, tally.cases);
            assert!(tally.possible * 10 > tally.cases, "{} {kind}", machine.name);
        }
    }
}
