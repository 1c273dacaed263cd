use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::cores::CoreSet;
use crate::event::HardwareCore;
use crate::place::pick_cores;

fn core(package: u32, numa: u32, l3: u32) -> HardwareCore {
    HardwareCore { package, numa, l3, threads: 1 }
}

/// Packages, NUMA nodes, cores that are not near, the other two; less is better.
fn quality(places: &[HardwareCore], cores: &CoreSet, near: &[u32]) -> (usize, usize, usize, usize) {
    let at = |core: u32| places[core as usize % places.len()];
    let number = |kind: fn(HardwareCore) -> u32| {
        cores.iter().map(|core| kind(at(core))).collect::<BTreeSet<_>>().len()
    };
    let far = cores.iter().filter(|core| !near.is_empty() && !near.contains(&at(*core).numa)).count();
    (number(|c| c.package), far, number(|c| c.numa), number(|c| c.l3))
}

fn best(places: &[HardwareCore], free: &CoreSet, count: u32, near: &[u32]) -> (usize, usize, usize, usize) {
    let free: Vec<u32> = free.iter().collect();
    (0_u32..1 << free.len())
        .filter(|set| set.count_ones() == count)
        .map(|set| (0..free.len()).filter(|i| set >> i & 1 == 1).map(|i| free[i]).collect())
        .map(|set: CoreSet| quality(places, &set, near))
        .min()
        .unwrap()
}

/// Machines in which packages, NUMA nodes and caches hold each other, in any order, with any sizes.
fn nested() -> impl Strategy<Value = Vec<HardwareCore>> {
    let sizes =
        prop::collection::vec(prop::collection::vec(prop::collection::vec(1_usize..4, 1..3), 1..3), 1..4);
    (sizes, 0_usize..6).prop_map(|(machine, order)| {
        let (mut middle_number, mut inner_number) = (0, 0);
        let mut places = Vec::new();
        for (outer_number, outer) in machine.iter().enumerate() {
            for middle in outer {
                for inner in middle {
                    let kinds = [outer_number as u32, middle_number, inner_number];
                    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
                    let [package, numa, l3] = orders[order].map(|kind: usize| kinds[kind]);
                    places.extend(std::iter::repeat_n(core(package, numa, l3), *inner));
                    inner_number += 1;
                }
                middle_number += 1;
            }
        }
        places.truncate(12);
        places
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_nearer(
        places in nested(),
        taken in prop::collection::btree_set(0_u32..12, 0..6),
        count in 1_u32..9,
        near in prop::collection::vec(0_u32..4, 0..3),
    ) {
        let free: CoreSet = (0..places.len() as u32).filter(|core| !taken.contains(core)).collect();
        let picked = pick_cores(&places, &free, count, &near);
        prop_assert!(picked.is_subset(&free));
        prop_assert_eq!(picked.len(), count.min(free.len()));
        if count <= free.len() {
            prop_assert_eq!(quality(&places, &picked, &near), best(&places, &free, count, &near));
        }
    }
}

fn two_sockets() -> Vec<HardwareCore> {
    (0..16).map(|i| core(i / 8, i / 8, i / 4)).collect()
}

fn picked(places: &[HardwareCore], free: &str, count: u32, near: &[u32]) -> String {
    let free: CoreSet = serde_json::from_str(&format!("{free:?}")).unwrap();
    pick_cores(places, &free, count, near).to_string()
}

#[test]
fn whole_caches_stay_whole() {
    let places = two_sockets();
    assert_eq!(picked(&places, "0-15", 2, &[]), "0-1");
    assert_eq!(picked(&places, "0-9,12-15", 2, &[]), "8-9");
    assert_eq!(picked(&places, "0-9,12-15", 3, &[]), "12-14");
    assert_eq!(picked(&places, "0-9,12-15", 5, &[]), "8,12-15");
    assert_eq!(picked(&places, "0-15", 12, &[]), "0-11");
    assert_eq!(picked(&places, "2-5,10-15", 10, &[]), "2-5,10-15");
    assert_eq!(picked(&places, "3,9", 5, &[]), "3,9");
}

#[test]
fn a_near_numa_node_is_preferred() {
    let places = two_sockets();
    assert_eq!(picked(&places, "0-15", 2, &[1]), "8-9");
    assert_eq!(picked(&places, "0-7,8", 2, &[1]), "0-1");
    // One package with two NUMA nodes: as much as there is near, and the rest beside it.
    let one: Vec<HardwareCore> = (0..8).map(|i| core(0, i / 4, i / 2)).collect();
    assert_eq!(picked(&one, "0-3,7", 2, &[1]), "0,7");
}

#[test]
fn cores_with_more_threads_share_what_the_others_do() {
    let hybrid: Vec<HardwareCore> =
        (0..8).map(|i| HardwareCore { threads: 1 + i % 2, ..core(0, 0, i / 4) }).collect();
    assert_eq!(picked(&hybrid, "0-7", 6, &[]), "0-5");
    assert_eq!(picked(&hybrid[..4], "0-3", 3, &[]), "0-2");
}

#[test]
fn nodes_that_declare_more_cores_than_they_have_go_round() {
    let places = [core(0, 0, 0), core(1, 1, 1)];
    assert_eq!(picked(&places, "0-7", 3, &[]), "0,2,4");
}

#[test]
fn nodes_without_known_hardware_are_one_place() {
    assert_eq!(picked(&[], "5-4000", 3, &[1]), "5-7");
    assert_eq!(picked(&[core(0, 0, 0); 4], "2-3", 1, &[]), "2");
}

/// `cargo test --release -p muster-core --lib place::tests::cores::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures time"]
fn speed() {
    let zen: Vec<HardwareCore> = (0..128).map(|i| core(i / 64, i / 64, i / 8)).collect();
    let scattered: CoreSet = (0..128).filter(|i| i * i % 7 < 3).collect();
    let cases = [
        ("3,888 unknown cores", Vec::new(), CoreSet::first(3_888), [1, 64, 2_000]),
        ("128 cores, all free", zen.clone(), CoreSet::first(128), [1, 24, 96]),
        ("128 cores, scattered", zen, scattered, [1, 8, 40]),
    ];
    for (name, places, free, counts) in cases {
        for count in counts {
            let start = std::time::Instant::now();
            for _ in 0..10_000 {
                std::hint::black_box(pick_cores(&places, std::hint::black_box(&free), count, &[]));
            }
            println!("{name}, {count}: {:.2} us", start.elapsed().as_secs_f64() * 1e6 / 1e4);
        }
    }
}

#[test]
fn one_core_elsewhere_is_seen_among_many() {
    for (count, odd) in [(64, 63), (65, 64), (200, 0), (200, 130)] {
        for other in [core(1, 0, 0), core(0, 1, 0), core(0, 0, 1)] {
            let mut places = vec![core(0, 0, 0); count];
            places[odd] = other;
            let free = format!("0-{}", count - 1);
            // The tightest fit is the place with one core.
            assert_eq!(picked(&places, &free, 1, &[]), odd.to_string(), "{count} {odd}");
        }
    }
}
