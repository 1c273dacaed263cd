use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Backfill, ClusterConfig};
use crate::ids::{AttemptKey, JobId, Timestamp};
use crate::input::{GoneHow, Input};
use crate::plan::{expected_start, plan};
use crate::spec::JobSpec;
use crate::testing::{ANN, Bench, config, job};

fn list(text: &str) -> Vec<Gres> {
    if text.is_empty() { Vec::new() } else { parse_list(text).unwrap() }
}

fn cluster(cores: &[u32], gres: &[&str]) -> ClusterConfig {
    let mut config = config(cores);
    for (node, gres) in config.nodes.iter_mut().zip(gres) {
        node.gres = list(gres);
    }
    config
}

fn asks(per_node: &str, per_rank: &str) -> JobSpec {
    let mut spec = job(ANN);
    spec.request.gres_per_node = list(per_node);
    spec.request.gres_per_rank = list(per_rank);
    spec
}

/// What a job holds, node by node.
fn held(bench: &Bench, id: JobId) -> String {
    let key = bench.key(id);
    let live = bench.engine.state().live_attempt(key.task).unwrap();
    let share = |share: &crate::event::Share| {
        let gres: Vec<String> = share.gres.iter().map(ToString::to_string).collect();
        format!("{} {}", bench.engine.state().node(share.node).name, gres.join(" "))
    };
    live.allocation.shares.iter().map(share).collect::<Vec<_>>().join("; ")
}

fn why(bench: &Bench, id: JobId) -> String {
    plan(bench.engine.state(), bench.now).waiting[&id].reason.to_string()
}

#[test]
fn texts_name_devices_or_say_what_would() {
    for (text, meant) in [
        ("gpu", "gpu:1"),
        ("gpu:2", "gpu:2"),
        ("gpu:a100", "gpu:a100:1"),
        ("gpu:1g.10gb:7,nic", "gpu:1g.10gb:7,nic:1"),
    ] {
        let read = parse_list(text).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), meant);
    }
    for (text, message) in [
        ("", "'' names no devices: write name:count or name:type:count"),
        ("gpu:a100:two", "'gpu:a100:two' names no devices"),
        ("gpu:a100:2:3", "names no devices"),
        ("3:gpu", "names no devices"),
        ("gpu:0", "'gpu:0' must name 1 to 255 devices"),
        ("gpu:256", "must name 1 to 255 devices"),
        ("gpu:1,nic:1,gpu:2", "'gpu' is named twice"),
        ("a,b,c,d,e,f,g,h,i", "9 kinds of devices are named; at most 8 are allowed"),
    ] {
        let error = parse_list(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn the_exact_devices_are_given_and_come_back() {
    let mut bench = Bench::new(cluster(&[8, 8], &["gpu:a100:2,gpu:v100:2,nic:1", ""]));
    let typed = bench.submit(ANN, asks("gpu:v100:1,nic:1", "")).unwrap();
    assert_eq!(held(&bench, typed), "n1 gpu:v100:1(IDX:2) nic:1(IDX:0)", "numbers go on over types");
    let any = bench.submit(ANN, asks("", "gpu:1").ranks(3)).unwrap();
    assert_eq!(held(&bench, any), "n1 gpu:a100:2(IDX:0-1) gpu:v100:1(IDX:3)");
    let waits = bench.submit(ANN, asks("gpu:1", "")).unwrap();
    assert!(why(&bench, waits).ends_with("; it needs 1 gpu, 0 of 4 are free"), "{}", why(&bench, waits));
    bench.start(bench.key(typed));
    bench.exit(bench.key(typed), 0);
    assert_eq!(held(&bench, waits), "n1 gpu:v100:1(IDX:2)");
    let none = bench.submit(ANN, job(ANN).ranks(8)).unwrap();
    assert_eq!(held(&bench, none), "n2 ");
}

#[test]
fn whole_nodes_come_with_their_devices() {
    let mut bench = Bench::new(cluster(&[4], &["gpu:2,nic:1"]));
    let mut spec = job(ANN);
    spec.request.exclusive = true;
    let id = bench.submit(ANN, spec).unwrap();
    assert_eq!(held(&bench, id), "n1 gpu:2(IDX:0-1) nic:1(IDX:0)");
}

#[test]
fn what_no_node_has_is_refused_with_numbers() {
    let mut bench = Bench::new(cluster(&[8, 8], &["gpu:a100:4", "gpu:v100:2,gpu:h100:2,nic:1"]));
    for (per_node, per_rank, message) in [
        ("gpu:a100:8", "", "no node has 8 gpu of type a100; the most is 4"),
        ("", "gpu:5", "no node has 5 gpu; the most is 4"),
        ("tpu:1", "", "no node of the pool has tpu; there are gpu:a100, gpu:h100, gpu:v100, nic"),
        ("gpu:p4:1", "", "no node of the pool has gpu of type p4; there are"),
        ("gpu:a100:1,nic:1", "", "no node has all of gpu:a100:1, nic:1 at once"),
        ("gpu:1", "gpu:1", "gpu is asked for on each node and for each rank"),
    ] {
        let error = bench.submit(ANN, asks(per_node, per_rank)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let error = bench.submit(ANN, asks("nic:1", "").gang(2, 1)).unwrap_err().to_string();
    assert!(error.contains("and their devices); 1 node can hold that"), "{error}");
}

#[test]
fn reservations_keep_devices() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut config = cluster(&[8], &["gpu:a100:2,gpu:v100:1"]);
        config.pools[0].backfill = backfill;
        let mut bench = Bench::new(config);
        let first = bench.submit(ANN, asks("gpu:a100:1", "").limit_s(100)).unwrap();
        let big = bench.submit(ANN, asks("gpu:a100:2", "").limit_s(100)).unwrap();
        let start = bench.engine.state().live_attempt(bench.key(first).task).unwrap().placed_at;
        assert_eq!(expected_start(bench.engine.state(), big, bench.now), Some(start.plus_seconds(100)));
        // It may have the GPU that is not kept, though a kept one with a lower number is free.
        let any = bench.submit(ANN, asks("gpu:1", "").limit_s(500)).unwrap();
        assert_eq!(held(&bench, any), "n1 gpu:v100:1(IDX:2)", "{backfill:?}");
        let long = bench.submit(ANN, asks("gpu:a100:1", "").limit_s(500)).unwrap();
        assert!(!bench.is_live(long), "{backfill:?}: it would delay the one before it");
        let short = bench.submit(ANN, asks("gpu:a100:1", "").limit_s(50)).unwrap();
        assert!(bench.is_live(short), "{backfill:?}");
    }
}

#[test]
fn a_node_that_lost_devices_gives_none_twice() {
    let mut bench = Bench::new(cluster(&[8], &["gpu:4"]));
    let all = bench.submit(ANN, asks("gpu:4", "")).unwrap();
    bench.input(Input::Configure(Arc::new(cluster(&[8], &["gpu:a100:1,gpu:2"]))));
    let next = bench.submit(ANN, asks("gpu:a100:1", "")).unwrap();
    assert!(!bench.is_live(next), "its device is still held under its old name");
    bench.start(bench.key(all));
    bench.exit(bench.key(all), 0);
    assert_eq!(held(&bench, next), "n1 gpu:a100:1(IDX:0)");
    let rest = bench.submit(ANN, asks("gpu:2", "")).unwrap();
    assert_eq!(held(&bench, rest), "n1 gpu:2(IDX:1-2)");
}

/// One step of a random story.
#[derive(Debug, Clone)]
enum Step {
    Submit { per_node: usize, per_rank: usize, ranks: u32, nodes: u32, limit_s: u64, exclusive: bool },
    End { which: usize, code: u32 },
    Lose { node: u32 },
    Return { node: u32 },
    Configure { which: usize },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (0..5usize, 0..4usize, 1..5u32, 0..3u32, 1..500u64, prop::bool::weighted(0.1));
    prop_oneof![
        6 => submit.prop_map(|(per_node, per_rank, ranks, nodes, limit_s, exclusive)| Step::Submit {
            per_node, per_rank, ranks, nodes, limit_s, exclusive,
        }),
        5 => (any::<prop::sample::Index>(), 0..2u32)
            .prop_map(|(which, code)| Step::End { which: which.index(1000), code }),
        1 => (1..4u32).prop_map(|node| Step::Lose { node }),
        2 => (1..4u32).prop_map(|node| Step::Return { node }),
        1 => (0..4usize).prop_map(|which| Step::Configure { which }),
        2 => (1..100u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

fn configuration(which: usize, backfill: Backfill) -> ClusterConfig {
    let gres = [
        ["gpu:a100:2,gpu:v100:2,nic:1", "gpu:4", ""],
        ["gpu:v100:1,gpu:a100:2", "gpu:2", "nic:2"],
        ["gpu:a100:4,nic:2", "gpu:a100:1,gpu:v100:5", "gpu:1"],
        ["", "", ""],
    ];
    let mut config = cluster(&[4, 6, 4], &gres[which]);
    config.pools[0].backfill = backfill;
    config
}

fn live(bench: &Bench) -> Vec<AttemptKey> {
    bench.engine.state().live().map(|(key, ..)| key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The bench checks after every input that no device is held twice, and that what is free is what the attempts
    /// leave.
    #[test]
    fn devices_are_never_given_twice_and_never_lost(
        steps in prop::collection::vec(step(), 1..60),
        conservative in any::<bool>(),
    ) {
        let backfill = if conservative { Backfill::Conservative } else { Backfill::Easy };
        let mut bench = Bench::new(configuration(0, backfill));
        for step in steps {
            match step {
                Step::Submit { per_node, per_rank, ranks, nodes, limit_s, exclusive } => {
                    let per_node = ["", "gpu:1", "gpu:a100:1", "nic:1,gpu:v100:1", "gpu:a100:1,gpu:2"][per_node];
                    let per_rank = ["", "", "gpu:1", "gpu:v100:1"][per_rank];
                    let mut spec = asks(per_node, per_rank).ranks(ranks).limit_s(limit_s);
                    spec.request.nodes = Some(nodes).filter(|nodes| (1..=ranks).contains(nodes));
                    spec.request.exclusive = exclusive;
                    if bench.submit(ANN, spec.clone()).is_ok() {
                        check_shares(&bench);
                    }
                }
                Step::End { which, code } => {
                    let live = live(&bench);
                    let Some(key) = live.get(which % live.len().max(1)) else { continue };
                    for instance in 0..bench.nodes_of(*key).len() as u32 {
                        bench.gone(*key, instance, GoneHow::Exited { code, signal: 0, out_of_memory: false });
                        if !self::live(&bench).contains(key) {
                            break;
                        }
                    }
                }
                Step::Lose { node } => {
                    let node = format!("n{node}");
                    bench.input(Input::NodeSilent { node, reason: "it is silent".to_owned() });
                }
                Step::Return { node } => bench.hello(&format!("n{node}"), 6, Vec::new()),
                Step::Configure { which } => {
                    bench.input(Input::Configure(Arc::new(configuration(which, backfill))));
                }
                Step::Pass { seconds } => {
                    bench.now = Timestamp(bench.now.plus_seconds(seconds).0);
                    bench.input(Input::Tick);
                }
            }
            check_shares(&bench);
        }
    }
}

/// Every attempt holds exactly the devices that its request asks for.
fn check_shares(bench: &Bench) {
    for (_, job, live) in bench.engine.state().live() {
        let request = &job.spec.request;
        for share in live.allocation.shares.iter().filter(|_| !request.exclusive) {
            let wishes = request.gres_per_node.iter().map(|wish| (wish, wish.count));
            let of_ranks = request.gres_per_rank.iter().map(|wish| (wish, wish.count * share.ranks));
            let mut asked = 0;
            for (wish, count) in wishes.chain(of_ranks) {
                asked += count;
                let has = share
                    .gres
                    .iter()
                    .filter(|held| held.name == wish.name && (wish.kind.is_none() || held.kind == wish.kind));
                assert!(has.map(|held| held.devices.len()).sum::<u32>() >= count, "{wish} of {share:?}");
            }
            assert_eq!(share.gres.iter().map(|held| held.devices.len()).sum::<u32>(), asked, "{share:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_nearly_names_devices_is_read_or_refused(
        text in crate::mutated::of(&["gpu:a100:2,nic:1", "gpu", "gpu:1g.10gb,nic:255", "gpu:4294967296"], 5),
    ) {
        if let Ok(list) = super::parse_list(&text) {
            let written: Vec<String> = list.iter().map(ToString::to_string).collect();
            prop_assert_eq!(super::parse_list(&written.join(",")).unwrap(), list);
        }
    }
}
