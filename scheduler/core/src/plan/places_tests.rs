//! Which nodes a task may have: features, lists of nodes, and numbers that may vary.

use super::plan;
use crate::cluster::ClusterConfig;
use crate::ids::JobId;
use crate::input::Input;
use crate::spec::{JobSpec, SwitchWish};
use crate::testing::{ANN, BOB, Bench, config, job, leaf};

/// Four nodes with two cores each: n1 and n2 are `intel`, n2 and n3 have a `gpu`.
fn cluster() -> ClusterConfig {
    let mut config = config(&[2; 4]);
    for (node, features) in [(0, &["intel"][..]), (1, &["intel", "gpu"]), (2, &["gpu"])] {
        config.nodes[node].features = features.iter().map(|feature| (*feature).to_owned()).collect();
    }
    config
}

fn nodes(bench: &Bench, id: JobId) -> Vec<String> {
    bench.nodes_of(bench.key(id))
}

fn range(least: u32, most: u32, ranks: u32, grow: bool) -> JobSpec {
    let mut spec = job(ANN).ranks(ranks);
    spec.request.nodes = Some(least);
    spec.request.nodes_max = Some(most);
    spec.request.ranks_grow = grow;
    spec
}

#[test]
fn tasks_go_to_nodes_with_the_features_they_ask_for() {
    for (constraint, wanted) in [
        ("gpu", "n2"),
        ("gpu&!intel", "n3"),
        ("!intel&!gpu", "n4"),
        ("(intel|gpu)&!(intel&gpu)&!intel", "n3"),
    ] {
        let mut bench = Bench::new(cluster());
        let id = bench.submit(ANN, job(ANN).constraint(constraint)).unwrap();
        assert_eq!(nodes(&bench, id), [wanted], "{constraint}");
    }
}

#[test]
fn a_task_waits_for_nodes_of_its_kind_and_holds_up_nobody_elsewhere() {
    let mut bench = Bench::new(cluster());
    let gpus = bench.submit(ANN, job(ANN).gang(2, 2).constraint("gpu")).unwrap();
    assert_eq!(nodes(&bench, gpus), ["n2", "n3"]);
    let next = bench.submit(ANN, job(ANN).constraint("gpu")).unwrap();
    assert_eq!(plan(bench.engine.state(), bench.now).waiting[&next].reason.code(), "resources");
    let other = bench.submit(BOB, job(BOB).gang(2, 2).limit_s(100_000)).unwrap();
    assert_eq!(nodes(&bench, other), ["n1", "n4"]);
    let key = bench.key(gpus);
    bench.start(key);
    bench.exit(key, 0);
    assert!(bench.is_live(next));
}

#[test]
fn a_list_of_nodes_is_used_as_a_whole() {
    let mut bench = Bench::new(cluster());
    let mut spec = job(ANN).ranks(2).nodelist(&["n3", "n1"]);
    spec.request.nodes = None;
    let two = bench.submit(ANN, spec).unwrap();
    assert_eq!(nodes(&bench, two), ["n1", "n3"]);
    let three = bench.submit(ANN, job(ANN).gang(3, 1).nodelist(&["n4"])).unwrap();
    assert_eq!(nodes(&bench, three), ["n1", "n3", "n4"], "the others are chosen as ever");
    let mut uneven = job(ANN).ranks(3).nodelist(&["n4"]).exclude(&["n1", "n3"]);
    uneven.request.nodes = Some(2);
    let uneven = bench.submit(ANN, uneven).unwrap();
    assert_eq!(nodes(&bench, uneven), ["n2", "n4"], "n4 has one core left and gets the smaller part");
}

#[test]
fn excluded_nodes_are_left_alone() {
    let mut bench = Bench::new(cluster());
    let id = bench.submit(ANN, job(ANN).gang(2, 1).exclude(&["n1", "n3", "elsewhere"])).unwrap();
    assert_eq!(nodes(&bench, id), ["n2", "n4"]);
}

#[test]
fn a_range_of_nodes_takes_as_many_as_there_are() {
    let mut bench = Bench::new(cluster());
    bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    let ranged = bench.submit(ANN, range(2, 8, 4, true)).unwrap();
    assert_eq!(nodes(&bench, ranged).len(), 3, "all that are free, and two ranks on each");
    let allocation = bench.engine.state().live_attempt(bench.key(ranged).task).unwrap().allocation.clone();
    assert_eq!(allocation.ranks(), 6);
    let waits = bench.submit(ANN, range(2, 3, 3, false)).unwrap();
    assert!(!bench.is_live(waits), "less than the least is not enough");
    let mut bench = Bench::new(cluster());
    let wide = bench.submit(ANN, range(2, 3, 3, false)).unwrap();
    assert_eq!(nodes(&bench, wide).len(), 3);
    let allocation = bench.engine.state().live_attempt(bench.key(wide).task).unwrap().allocation.clone();
    assert_eq!(allocation.ranks(), 3, "spread wider, not more");
}

#[test]
fn a_range_with_a_list_holds_the_list() {
    let mut bench = Bench::new(cluster());
    let id = bench.submit(ANN, range(1, 3, 1, true).nodelist(&["n3", "n4"])).unwrap();
    let found = nodes(&bench, id);
    assert!(
        found.len() == 3 && found.contains(&"n3".to_owned()) && found.contains(&"n4".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_gang_waits_for_few_switches_as_long_as_it_wishes() {
    let mut config = config(&[1; 6]);
    config.switches = vec![leaf("a", &["n1", "n2"]), leaf("b", &["n3", "n4"]), leaf("c", &["n5", "n6"])];
    let mut bench = Bench::new(config);
    let fillers: Vec<_> = (0..3).map(|_| bench.submit(BOB, job(BOB)).unwrap()).collect();
    for id in &fillers {
        bench.start(bench.key(*id));
    }
    // n4, n5 and n6 are free: two under one switch, three under two.
    let wish = |switches_max, wait_s| {
        let mut spec = job(ANN).gang(3, 1).limit_s(60);
        spec.request.switches = Some(SwitchWish { switches_max, wait_s });
        spec
    };
    let patient = bench.submit(ANN, wish(1, Some(30))).unwrap();
    assert!(!bench.is_live(patient));
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(30)));
    bench.after_s(30);
    assert_eq!(nodes(&bench, patient), ["n4", "n5", "n6"], "then any will do");
    let key = bench.key(patient);
    bench.start(key);
    bench.exit(key, 0);
    let refusal = bench.submit(ANN, wish(1, None)).unwrap_err().to_string();
    assert!(
        refusal.contains("at most 2 of the nodes") && refusal.contains("--switches=1@1:00:00"),
        "{refusal}"
    );
    let two = bench.submit(ANN, wish(2, None)).unwrap();
    assert!(bench.is_live(two));
    let mut none = job(ANN);
    none.request.switches = Some(SwitchWish { switches_max: 0, wait_s: None });
    assert!(bench.submit(ANN, none).unwrap_err().to_string().contains("at least 1"));
}

#[test]
fn what_no_node_can_satisfy_is_refused_with_what_there_is() {
    let mut bench = Bench::new(cluster());
    for (spec, text) in [
        (
            job(ANN).constraint("gpu&fpga"),
            "no node of the pool has the feature 'fpga'; the features there are gpu, intel",
        ),
        (
            job(ANN).gang(2, 1).constraint("gpu&intel"),
            "it needs 2 nodes with the features gpu&intel, and the pool has 1",
        ),
        (job(ANN).nodelist(&["n9"]), "n9 must be used, but the pool has no such node"),
        (job(ANN).nodelist(&["n1"]).exclude(&["n1"]), "n1 must be used and excluded at once"),
        (job(ANN).nodelist(&["n1"]).constraint("gpu"), "node n1 must be used, but has not the features gpu"),
        (
            job(ANN).exclude(&["n1", "n2", "n3", "n4"]),
            "it needs 1 node that are not excluded, and the pool has 0",
        ),
        (
            job(ANN).gang(1, 1).nodelist(&["n1", "n2"]),
            "names 2 nodes that must all be used, but the job asks for 1",
        ),
        (range(3, 2, 3, false), "at most 2 and at least 3"),
        (range(2, 4, 3, true), "a multiple of 2"),
        (job(ANN).exclude(&["../x"]), "cannot name a node"),
    ] {
        let refusal = bench.submit(ANN, spec).expect_err(text).to_string();
        assert!(refusal.contains(text), "{refusal}");
    }
    let mut uneven = Bench::new(config(&[4, 1, 1]));
    let refusal = uneven.submit(ANN, job(ANN).gang(2, 2).nodelist(&["n2"])).unwrap_err().to_string();
    assert!(refusal.contains("1 node can hold that"), "{refusal}");
    let mut spread = Bench::new(config(&[4, 4, 1]));
    let refusal = spread.submit(ANN, job(ANN).gang(2, 2).nodelist(&["n3"])).unwrap_err().to_string();
    assert!(refusal.contains("node n3 must be used, but even when empty"), "{refusal}");
    let wider = spread.submit(ANN, range(2, 3, 4, false).nodelist(&["n3"])).unwrap();
    assert_eq!(nodes(&spread, wider).len(), 3, "three nodes hold what two cannot");
    let mut plain = Bench::new(config(&[1]));
    let refusal = plain.submit(ANN, job(ANN).constraint("a")).unwrap_err().to_string();
    assert!(refusal.contains("no features in the configuration"), "{refusal}");
}

#[test]
fn a_waiting_job_learns_that_its_feature_is_gone() {
    let mut bench = Bench::new(cluster());
    let running = bench.submit(ANN, job(ANN).gang(4, 2)).unwrap();
    let waiting = bench.submit(ANN, job(ANN).constraint("intel")).unwrap();
    let mut without = cluster();
    for node in &mut without.nodes {
        node.features.remove("intel");
    }
    bench.input(Input::Configure(std::sync::Arc::new(without)));
    assert_eq!(plan(bench.engine.state(), bench.now).waiting[&waiting].reason.code(), "never_fits");
    bench.input(Input::Configure(std::sync::Arc::new(cluster())));
    let key = bench.key(running);
    bench.start(key);
    bench.exit(key, 0);
    assert!(bench.is_live(waiting));
}

#[test]
fn a_request_of_an_older_journal_is_read_and_written_as_before() {
    let text = serde_json::to_string(&job(ANN).request).unwrap();
    assert!(!text.contains("nodelist") && !text.contains("constraint"), "{text}");
    let spec = job(ANN).constraint("(a|b)&c").exclude(&["n1"]);
    let text = serde_json::to_string(&spec.request).unwrap();
    assert!(text.contains("\"constraint\":\"(a|b)&c\""), "as it was said: {text}");
    assert_eq!(serde_json::from_str::<crate::spec::Request>(&text).unwrap(), *spec.request);
}

#[test]
fn a_range_of_numbers_starts_where_only_the_larger_ones_fit() {
    // Two ranks on each of two nodes do not fit, but two and one on three do.
    let mut bench = Bench::new(config(&[2, 1, 1]));
    let mut wide = job(ANN).ranks(4);
    (wide.request.nodes, wide.request.nodes_max) = (Some(2), Some(3));
    let running = bench.submit(ANN, job(ANN).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let wide = bench.submit(ANN, wide).unwrap();
    assert!(!bench.is_live(wide));
    let waiting = &plan(bench.engine.state(), bench.now).waiting[&wide];
    assert!(waiting.expected_start.is_some(), "room is kept for it");
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(wide));
}
