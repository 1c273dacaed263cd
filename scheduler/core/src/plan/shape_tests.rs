//! Nodes that follow each other, cores with enough hardware threads, and devices beside their cores.

use std::sync::Arc;

use super::plan;
use crate::cluster::{Backfill, ClusterConfig};
use crate::event::{Hardware, HardwareCore, HardwareDevice};
use crate::ids::JobId;
use crate::input::Input;
use crate::spec::JobSpec;
use crate::testing::{ANN, BOB, Bench, config, job, leaf};

fn contiguous(nodes: u32) -> JobSpec {
    let mut spec = job(ANN).gang(nodes, 1);
    spec.request.contiguous = true;
    spec
}

fn threads(mut spec: JobSpec, threads: u32) -> JobSpec {
    spec.request.threads_per_core = Some(threads);
    spec
}

fn nodes(bench: &Bench, id: JobId) -> Vec<String> {
    bench.nodes_of(bench.key(id))
}

fn end(bench: &mut Bench, id: JobId) {
    let key = bench.key(id);
    bench.start(key);
    bench.exit(key, 0);
}

fn reason(bench: &Bench, id: JobId) -> (&'static str, String) {
    let reason = plan(bench.engine.state(), bench.now).waiting[&id].reason.clone();
    (reason.code(), reason.to_string())
}

/// Six nodes of one core on two leaf switches, in an order of their own.
fn six() -> ClusterConfig {
    let mut config = config(&[1; 6]);
    config.switches = vec![leaf("a", &["n1", "n3", "n5"]), leaf("b", &["n2", "n4", "n6"])];
    config
}

#[test]
fn nodes_follow_each_other_in_the_order_of_the_switches() {
    let mut bench = Bench::new(six());
    let middle = bench.submit(BOB, job(BOB).nodelist(&["n3"])).unwrap();
    bench.submit(BOB, job(BOB).nodelist(&["n2"])).unwrap();
    let two = bench.submit(ANN, contiguous(2)).unwrap();
    assert_eq!(nodes(&bench, two), ["n4", "n6"], "n1 and n5 have n3 between them");
    let across = bench.submit(ANN, contiguous(2)).unwrap();
    assert!(!bench.is_live(across), "n1 and n5 are free");
    let (code, text) = reason(&bench, across);
    assert_eq!(code, "resources");
    assert!(text.contains("at most 6 usable ones do, and 1 of those with room"), "{text}");
    let loose = bench.submit(ANN, job(ANN).gang(2, 1).limit_s(60)).unwrap();
    assert!(bench.is_live(loose), "what need not be contiguous may overtake if it ends in time");
    end(&mut bench, middle);
    assert!(!bench.is_live(across));
    end(&mut bench, loose);
    assert_eq!(nodes(&bench, across), ["n1", "n3"]);
}

#[test]
fn a_reservation_waits_for_nodes_that_follow_each_other() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut config = six();
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        let mut single = |node: &str, limit_s| {
            let id = bench.submit(BOB, job(BOB).nodelist(&[node]).limit_s(limit_s)).unwrap();
            bench.start(bench.key(id));
            id
        };
        let first = single("n3", 100);
        single("n5", 1_000);
        let second = single("n2", 200);
        // n1, n4 and n6 are free; n1 and n3 follow each other from 100 on, three nodes from 200 on.
        let three = bench.submit(ANN, contiguous(3).limit_s(500)).unwrap();
        let expected = super::expected_start(bench.engine.state(), three, bench.now).unwrap();
        assert_eq!(expected, bench.now.plus_seconds(200), "{backfill:?}");
        let long = bench.submit(BOB, job(BOB).limit_s(5_000)).unwrap();
        assert_eq!(nodes(&bench, long), ["n1"], "{backfill:?}: n4 and n6 are kept");
        let key = bench.key(first);
        bench.exit(key, 0);
        assert!(!bench.is_live(three));
        bench.after_s(200);
        let key = bench.key(second);
        bench.exit(key, 0);
        bench.after_s(1);
        assert_eq!(nodes(&bench, three), ["n2", "n4", "n6"], "{backfill:?}");
    }
}

#[test]
fn lists_and_ranges_follow_each_other_too() {
    let mut bench = Bench::new(six());
    let mut ranged = contiguous(1);
    ranged.request.ranks_per_node = None;
    ranged.request.nodes_max = Some(4);
    ranged.request.ranks_grow = true;
    bench.submit(BOB, job(BOB).nodelist(&["n2"])).unwrap();
    let wide = bench.submit(ANN, ranged).unwrap();
    assert_eq!(nodes(&bench, wide), ["n1", "n3", "n5"], "as many as follow each other, not four");
    let mut bench = Bench::new(six());
    let listed = bench.submit(ANN, contiguous(3).nodelist(&["n5", "n2"])).unwrap();
    let found = nodes(&bench, listed);
    assert!(found == ["n3", "n5", "n2"] || found == ["n5", "n2", "n4"], "{found:?}");
    let mut anywhere = job(ANN).ranks(3);
    anywhere.request.contiguous = true;
    let mut bench = Bench::new(six());
    bench.submit(BOB, job(BOB).nodelist(&["n3"])).unwrap();
    let id = bench.submit(ANN, anywhere).unwrap();
    assert_eq!(nodes(&bench, id), ["n2", "n4", "n6"]);
}

#[test]
fn what_can_never_follow_each_other_is_refused() {
    let mut config = config(&[4, 1, 4, 4]);
    config.nodes[0].features = ["a".to_owned()].into();
    config.nodes[2].features = ["a".to_owned()].into();
    let mut bench = Bench::new(config);
    for (spec, text) in [
        (
            contiguous(2).constraint("a"),
            "2 nodes that follow each other are asked for, and of those that it may use at most 1",
        ),
        (contiguous(2).nodelist(&["n1", "n3"]), "at most 1 do"),
        (contiguous(3).exclude(&["n2"]), "at most 2 do"),
    ] {
        let refusal = bench.submit(ANN, spec).expect_err(text).to_string();
        assert!(refusal.contains(text), "{refusal}");
    }
    let mut both = job(ANN).ranks(2);
    both.request.contiguous = true;
    both.request.fill = Some(crate::cluster::Fill::Spread);
    assert!(bench.submit(ANN, both).unwrap_err().to_string().contains("say one of both"));
    let mut wide = job(ANN).gang(3, 4);
    wide.request.contiguous = true;
    let refusal = bench.submit(ANN, wide).unwrap_err().to_string();
    assert!(refusal.contains("no nodes that follow each other"), "{refusal}");
}

#[test]
fn a_node_that_is_away_breaks_the_line_and_holds_up_nobody() {
    let mut bench = Bench::new(config(&[1; 4]));
    let silent = |node: &str| Input::NodeSilent { node: node.to_owned(), reason: "gone".to_owned() };
    bench.input(silent("n2"));
    let three = bench.submit(ANN, contiguous(3)).unwrap();
    let (code, text) = reason(&bench, three);
    assert_eq!(code, "nodes_away");
    assert!(text.contains("needs 3 nodes that follow each other, but at most 2"), "{text}");
    let other = bench.submit(BOB, job(BOB).gang(3, 1).limit_s(100_000)).unwrap();
    assert_eq!(nodes(&bench, other), ["n1", "n3", "n4"]);
}

/// A node with two wide cores of two threads and four narrow ones.
fn hybrid_cores() -> Vec<HardwareCore> {
    (0..6).map(|i| HardwareCore { threads: if i < 2 { 2 } else { 1 }, ..HardwareCore::default() }).collect()
}

fn says(node: &str, cores: Vec<HardwareCore>, devices: Vec<HardwareDevice>) -> Input {
    let hardware = Hardware { cores, devices, ..Hardware::default() };
    let boot_id = "boot".to_owned();
    Input::NodeHello { node: node.to_owned(), boot_id, hardware: Arc::new(hardware), held: Vec::new() }
}

fn cores_of(bench: &Bench, id: JobId) -> String {
    let live = bench.engine.state().live_attempt(bench.key(id).task).unwrap();
    live.allocation.shares[0].cores.to_string()
}

#[test]
fn only_cores_with_enough_threads_are_counted_and_given() {
    let mut bench = Bench::new(config(&[6]));
    bench.input(says("n1", hybrid_cores(), Vec::new()));
    let refusal = bench.submit(ANN, threads(job(ANN), 3)).unwrap_err().to_string();
    assert!(
        refusal.contains("asks for 3 threads of each core, and no core of the pool has more than 2"),
        "{refusal}"
    );
    let refusal = bench.submit(ANN, threads(job(ANN).ranks(3), 2)).unwrap_err().to_string();
    assert!(refusal.contains("hold 2"), "{refusal}");
    let one = bench.submit(ANN, threads(job(ANN), 2)).unwrap();
    assert_eq!(cores_of(&bench, one), "0");
    let any = bench.submit(ANN, threads(job(ANN).ranks(2), 1)).unwrap();
    assert_eq!(cores_of(&bench, any), "1-2", "every core has one thread");
    let waits = bench.submit(ANN, threads(job(ANN), 2)).unwrap();
    assert!(!bench.is_live(waits), "three narrow cores are free");
    assert!(reason(&bench, waits).1.contains("0 cores are free"));
    end(&mut bench, any);
    assert_eq!(cores_of(&bench, waits), "1");
}

#[test]
fn wide_cores_are_kept_for_those_who_need_them() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut config = config(&[6]);
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        bench.input(says("n1", hybrid_cores(), Vec::new()));
        let first = bench.submit(ANN, threads(job(ANN), 2).limit_s(100)).unwrap();
        bench.start(bench.key(first));
        let both = bench.submit(ANN, threads(job(ANN).ranks(2), 2).limit_s(100)).unwrap();
        assert!(!bench.is_live(both));
        let long = bench.submit(BOB, job(BOB).ranks(4).limit_s(10_000)).unwrap();
        assert_eq!(cores_of(&bench, long), "2-5", "{backfill:?}: the wide core is kept");
        let more = bench.submit(BOB, job(BOB).limit_s(10_000)).unwrap();
        assert!(!bench.is_live(more), "{backfill:?}");
        let short = bench.submit(BOB, job(BOB).limit_s(50)).unwrap();
        assert_eq!(cores_of(&bench, short), "1", "{backfill:?}: it has left by then");
    }
}

#[test]
fn a_task_with_whole_nodes_needs_enough_wide_cores_on_them() {
    let mut bench = Bench::new(config(&[6]));
    bench.input(says("n1", hybrid_cores(), Vec::new()));
    let mut whole = threads(job(ANN).ranks(2), 2);
    whole.request.exclusive = true;
    let id = bench.submit(ANN, whole.clone()).unwrap();
    assert_eq!(cores_of(&bench, id), "0-5");
    assert!(
        bench
            .submit(ANN, {
                let mut three = whole;
                three.request.ranks = 3;
                three
            })
            .is_err()
    );
}

#[test]
fn threads_are_what_the_configuration_says_until_the_agent_speaks() {
    let mut config = config(&[4, 4]);
    config.nodes[1].threads_per_core = Some(4);
    let mut bench = Bench::new(config);
    let id = bench.submit(ANN, threads(job(ANN), 4)).unwrap();
    assert_eq!(nodes(&bench, id), ["n2"]);
    let waiting = bench.submit(ANN, threads(job(ANN).ranks(4), 3)).unwrap();
    end(&mut bench, id);
    assert!(bench.is_live(waiting));
    // The agent comes back and finds less, while the task is still there.
    let key = bench.key(waiting);
    let held = vec![crate::input::InstanceReport {
        key,
        instance: 0,
        phase: crate::input::InstancePhase::Preparing,
    }];
    let cores = (0..4).map(|i| HardwareCore { threads: 1 + i % 2, ..HardwareCore::default() }).collect();
    let hardware = Arc::new(Hardware { cores, ..Hardware::default() });
    bench.input(Input::NodeHello { node: "n2".to_owned(), boot_id: "boot".to_owned(), hardware, held });
    assert!(bench.submit(ANN, threads(job(ANN), 4)).is_err());
    let two = bench.submit(ANN, threads(job(ANN).ranks(2), 2)).unwrap();
    end(&mut bench, waiting);
    assert_eq!(cores_of(&bench, two), "1,3");
}

fn gpus(numa: &[Option<u32>]) -> Vec<HardwareDevice> {
    let device = |(i, numa): (usize, &Option<u32>)| HardwareDevice {
        name: "gpu".to_owned(),
        numa: *numa,
        package: None,
        pci_address: format!("0000:{i:02x}:00.0"),
    };
    numa.iter().enumerate().map(device).collect()
}

fn two_sockets() -> Vec<HardwareCore> {
    (0..8).map(|i| HardwareCore { package: i / 4, numa: i / 4, l3: i / 4, threads: 1 }).collect()
}

fn with_gpus(config: &mut ClusterConfig) {
    config.nodes[0].gres = vec!["gpu:4".parse().unwrap()];
}

fn gpu(ranks: u32) -> JobSpec {
    let mut spec = job(ANN).ranks(ranks);
    spec.request.gres_per_rank = vec!["gpu:1".parse().unwrap()];
    spec
}

fn share(bench: &Bench, id: JobId) -> (String, String) {
    let live = bench.engine.state().live_attempt(bench.key(id).task).unwrap();
    let share = &live.allocation.shares[0];
    (share.cores.to_string(), share.gres[0].devices.to_string())
}

#[test]
fn cores_and_devices_of_a_task_are_beside_each_other() {
    let mut config = config(&[8]);
    with_gpus(&mut config);
    let mut bench = Bench::new(config);
    bench.input(says("n1", two_sockets(), gpus(&[Some(1), Some(1), Some(0), Some(0)])));
    let first = bench.submit(ANN, gpu(1)).unwrap();
    assert_eq!(share(&bench, first), ("0".to_owned(), "2".to_owned()));
    let two = bench.submit(ANN, gpu(2)).unwrap();
    assert_eq!(share(&bench, two), ("4-5".to_owned(), "0-1".to_owned()));
    let last = bench.submit(ANN, gpu(1)).unwrap();
    assert_eq!(share(&bench, last), ("1".to_owned(), "3".to_owned()));
}

#[test]
fn the_configuration_knows_better_where_devices_are() {
    let mut config = config(&[8]);
    with_gpus(&mut config);
    config.nodes[0].gres_numa = [("gpu".to_owned(), vec![1, 0, 1, 0])].into();
    let mut bench = Bench::new(config);
    bench.input(says("n1", two_sockets(), gpus(&[Some(0); 4])));
    let all = bench.submit(ANN, gpu(2)).unwrap();
    assert_eq!(share(&bench, all), ("0-1".to_owned(), "1,3".to_owned()));
}

#[test]
fn a_node_with_fewer_devices_is_held_back_if_it_is_to_be_checked() {
    let mut config = config(&[8]);
    with_gpus(&mut config);
    let mut bench = Bench::new(config.clone());
    bench.input(says("n1", two_sockets(), gpus(&[None; 3])));
    assert!(bench.engine.state().node(crate::ids::NodeId(0)).takes_work(), "nobody asked for a check");
    config.nodes[0].gres_check = true;
    let mut bench = Bench::new(config);
    bench.input(says("n1", two_sockets(), gpus(&[None; 3])));
    let why = bench.engine.state().node(crate::ids::NodeId(0)).why_no_work().unwrap();
    assert!(why.contains("declares 4 gpu, its agent found 3"), "{why}");
    bench.resume(crate::testing::ROOT, &["n1"]).unwrap();
    bench.input(says("n1", two_sockets(), gpus(&[None; 4])));
    assert!(bench.engine.state().node(crate::ids::NodeId(0)).takes_work());
}
