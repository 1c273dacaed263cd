use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::cores::CoreSet;
use crate::event::HardwareCore;
use crate::place::{DeviceWish, pick_cores, pick_with_devices};

/// Two packages of two NUMA nodes of four cores, each with two devices.
fn machine() -> Vec<HardwareCore> {
    (0..16).map(|i| HardwareCore { package: i / 8, numa: i / 4, l3: i / 4, threads: 1 }).collect()
}

fn wish(free: &[u32], count: u32) -> DeviceWish {
    DeviceWish { free: free.iter().map(|device| (*device, Some(device / 2))).collect(), count }
}

fn set(text: &str) -> CoreSet {
    serde_json::from_str(&format!("{text:?}")).unwrap()
}

fn picked(free: &str, count: u32, wishes: &[DeviceWish]) -> (String, Vec<String>) {
    let (cores, devices) = pick_with_devices(&machine(), &set(free), count, wishes);
    (cores.to_string(), devices.iter().map(ToString::to_string).collect())
}

fn near(free: &str, count: u32, devices: &[u32], wanted: u32) -> (String, String) {
    let (cores, devices) = picked(free, count, &[wish(devices, wanted)]);
    (cores, devices[0].clone())
}

fn pair(cores: &str, devices: &str) -> (String, String) {
    (cores.to_owned(), devices.to_owned())
}

#[test]
fn cores_follow_the_devices_and_devices_the_cores() {
    assert_eq!(near("0-15", 2, &[5, 6, 7], 1), pair("8-9", "5"), "the one that leaves no single one behind");
    assert_eq!(near("0-3,12-15", 2, &[2, 3, 6], 1), pair("12-13", "6"), "2 and 3 have no free cores");
    assert_eq!(near("0-3,12-15", 2, &[2, 3], 1), pair("0-1", "2"), "there is no better");
    assert_eq!(
        near("0-15", 6, &[0, 1, 2, 4, 5, 6], 1),
        pair("0-1,4-7", "2"),
        "two NUMA nodes of one package"
    );
}

#[test]
fn devices_of_one_task_are_close_to_each_other() {
    assert_eq!(near("0-15", 2, &[0, 2, 4, 5], 2), pair("8-9", "4-5"));
    assert_eq!(near("0-15", 4, &[0, 4, 6], 2), pair("8-9,12-13", "4,6"), "in one package, cores at each");
    assert_eq!(near("0-15", 4, &[0, 4], 2), pair("0-1,8-9", "0,4"));
    assert_eq!(near("0-15", 4, &[0, 4, 5], 3), pair("0-1,8-9", "0,4-5"), "the parts are rounded up");
}

#[test]
fn several_kinds_are_taken_together() {
    let nics = DeviceWish { free: vec![(0, Some(1)), (1, Some(3))], count: 1 };
    let (cores, devices) = picked("0-15", 1, &[wish(&[0, 1, 6], 1), nics]);
    assert_eq!((cores.as_str(), devices[0].as_str(), devices[1].as_str()), ("12", "6", "1"));
}

#[test]
fn unknown_places_change_nothing() {
    let unknown = |devices: &[u32]| devices.iter().map(|device| (*device, None)).collect::<Vec<_>>();
    let (cores, devices) = picked("1-15", 3, &[DeviceWish { free: unknown(&[3, 4]), count: 1 }]);
    assert_eq!(
        (cores, devices),
        (pick_cores(&machine(), &set("1-15"), 3, &[]).to_string(), vec!["3".to_owned()])
    );
    let mixed = DeviceWish { free: [vec![(0, None)], wish(&[6], 0).free].concat(), count: 2 };
    assert_eq!(picked("0-15", 1, &[mixed]), ("12".to_owned(), vec!["0,6".to_owned()]));
    let (cores, devices) = pick_with_devices(&[], &set("0-3"), 2, &[wish(&[1, 2], 1)]);
    assert_eq!((cores.to_string(), devices[0].to_string()), ("0-1".to_owned(), "1".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_is_wanted_is_given_and_a_single_device_is_at_hand(
        free in prop::collection::btree_set(0_u32..16, 1..16),
        devices in prop::collection::btree_set(0_u32..8, 1..8),
        count in 1_u32..9,
        wanted in 1_u32..5,
    ) {
        let places = machine();
        let free: CoreSet = free.into_iter().collect();
        let devices: Vec<u32> = devices.into_iter().collect();
        let (cores, picked) = pick_with_devices(&places, &free, count, &[wish(&devices, wanted)]);
        prop_assert!(cores.is_subset(&free));
        prop_assert_eq!(cores.len(), count.min(free.len()));
        prop_assert_eq!(picked[0].len(), wanted.min(devices.len() as u32));
        prop_assert!(picked[0].iter().all(|device| devices.contains(&device)));
        let cores_on = |numa: u32| free.iter().filter(|core| core / 4 == numa).count() as u32;
        let devices_on = |numa: u32| devices.iter().filter(|device| **device / 2 == numa).count() as u32;
        let touched: BTreeSet<u32> = cores.iter().map(|core| core / 4).collect();
        let used: BTreeSet<u32> = picked[0].iter().map(|device| device / 2).collect();
        // One NUMA node that holds all is all that is used.
        if (0..4).any(|numa| cores_on(numa) >= count && devices_on(numa) >= wanted) {
            prop_assert!(touched.len() == 1 && used == touched);
        }
    }
}
