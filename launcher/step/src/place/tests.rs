//! Where steps go, and that none gets what another holds.

use proptest::prelude::*;

use super::*;
use crate::words::Distribution;

fn ledger(nodes: &[(u32, u32)]) -> Ledger {
    let node = |(position, (cores, ranks)): (usize, &(u32, u32))| Node {
        host: format!("n{}", position + 1),
        cores: *cores,
        ranks: *ranks,
    };
    Ledger::new(nodes.iter().enumerate().map(node).collect(), 1)
}

fn ask() -> StepRequest {
    StepRequest::default()
}

/// `n1:0,1=0-1` for each node: its ranks, and the cores of each.
fn text(placement: &Placement) -> String {
    let node = |node: &NodePlacement| {
        let tasks =
            node.tasks.iter().map(|task| format!("{}@{}", task.rank, crate::lists::format_list(&task.cores)));
        format!("{}:{}", node.host, tasks.collect::<Vec<_>>().join(" "))
    };
    placement.nodes.iter().map(node).collect::<Vec<_>>().join("; ")
}

fn placed(nodes: &[(u32, u32)], request: &StepRequest) -> String {
    match ledger(nodes).begin(0, request) {
        Ok(placement) => text(&placement),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_step_that_asks_for_nothing_has_the_allocations_ranks() {
    assert_eq!(placed(&[(4, 2), (4, 1)], &ask()), "n1:0@0-1 1@2-3; n2:2@0-3");
    // More ranks than cores, because the job said so.
    assert_eq!(placed(&[(1, 2)], &ask()), "n1:0@0 1@0");
}

#[test]
fn ranks_share_a_nodes_cores_out_and_exact_ones_do_not() {
    let two = StepRequest { ntasks: Some(2), ..ask() };
    assert_eq!(placed(&[(8, 8)], &two), "n1:0@0-3 1@4-7");
    assert_eq!(placed(&[(8, 8)], &StepRequest { exact: true, ..two.clone() }), "n1:0@0 1@1");
    let wide = StepRequest { cores_per_task: Some(3), ..two };
    assert_eq!(placed(&[(8, 8)], &wide), "n1:0@0-2 1@3-5");
}

#[test]
fn nodes_are_counted_named_excluded_and_begun_with() {
    let four = [(2, 2); 4];
    let with = |request: StepRequest| placed(&four, &request);
    assert_eq!(with(StepRequest { nodes: Some((2, 2)), ..ask() }), "n1:0@0 1@1; n2:2@0 3@1");
    assert_eq!(with(StepRequest { ntasks: Some(1), ..ask() }), "n1:0@0-1");
    let named = StepRequest { nodelist: vec!["n3".into()], ntasks: Some(2), ..ask() };
    assert_eq!(with(named.clone()), "n3:0@0 1@1");
    assert_eq!(with(StepRequest { nodes: Some((2, 2)), ..named }), "n1:0@0-1; n3:1@0-1");
    assert_eq!(with(StepRequest { exclude: vec!["n1".into()], nodes: Some((1, 1)), ..ask() }), "n2:0@0 1@1");
    assert_eq!(with(StepRequest { relative: 3, nodes: Some((1, 1)), ..ask() }), "n4:0@0 1@1");
    assert_eq!(
        with(StepRequest { tasks_per_node: Some(1), ..ask() }),
        "n1:0@0-1; n2:1@0-1; n3:2@0-1; n4:3@0-1"
    );
    // As many nodes of a range as it takes.
    let range = StepRequest { nodes: Some((1, 3)), ntasks: Some(5), ..ask() };
    assert_eq!(with(range), "n1:0@0 1@1; n2:2@0 3@1; n3:4@0-1");
}

#[test]
fn distributions_deal_as_srun_does() {
    let three = [(2, 1); 3];
    let with = |distribution| placed(&three, &StepRequest { ntasks: Some(4), distribution, ..ask() });
    // The example of srun(1).
    assert_eq!(with(Distribution::Block), "n1:0@0 1@1; n2:2@0-1; n3:3@0-1");
    assert_eq!(with(Distribution::Cyclic), "n1:0@0 3@1; n2:1@0-1; n3:2@0-1");
    let plane =
        StepRequest { ntasks: Some(6), nodes: Some((2, 2)), distribution: Distribution::Plane(2), ..ask() };
    assert_eq!(placed(&[(4, 1); 2], &plane), "n1:0@0 1@1 4@2 5@3; n2:2@0-1 3@2-3");
    let hosts = ["n3", "n1", "n3"].map(str::to_owned).to_vec();
    assert_eq!(placed(&three, &StepRequest { hosts, ..ask() }), "n1:1@0-1; n3:0@0 2@1");
}

#[test]
fn what_is_more_than_the_allocation_is_refused_with_numbers() {
    let with = |request: StepRequest| placed(&[(2, 2); 2], &request);
    assert_eq!(
        with(StepRequest { ntasks: Some(5), ..ask() }),
        "More processors requested than permitted: 5 ranks, and 4 fit on 2 nodes"
    );
    assert_eq!(
        with(StepRequest { nodes: Some((3, 3)), ..ask() }),
        "Node count specification invalid: 3 nodes of an allocation of 2"
    );
    assert_eq!(
        with(StepRequest { nodelist: vec!["n9".into()], ..ask() }),
        "Requested node configuration is not available: n9 is not in this allocation"
    );
    assert_eq!(
        with(StepRequest { ntasks: Some(1), cores_per_task: Some(3), ..ask() }),
        "More processors requested than permitted: 0 nodes of 2 have room for a rank of 3 cores"
    );
    assert_eq!(
        with(StepRequest { ntasks: Some(6), overcommit: true, ..ask() }),
        "n1:0@0 1@1 2@0 3@1 4@0; n2:5@0-1"
    );
}

#[test]
fn steps_wait_for_cores_and_overlapping_ones_do_not() {
    let mut ledger = ledger(&[(4, 4)]);
    let one = StepRequest { ntasks: Some(1), exact: true, ..ask() };
    assert_eq!(text(&ledger.begin(0, &one).unwrap()), "n1:0@0");
    assert_eq!(text(&ledger.begin(1, &one).unwrap()), "n1:0@1");
    // What is free, without --exact.
    assert_eq!(text(&ledger.begin(2, &StepRequest { ntasks: Some(1), ..ask() }).unwrap()), "n1:0@2-3");
    assert_eq!(ledger.begin(3, &one), Err(NoPlace::Busy));
    assert_eq!(text(&ledger.begin(4, &StepRequest { overlap: true, ..one.clone() }).unwrap()), "n1:0@0");
    ledger.end(4);
    assert_eq!(ledger.begin(3, &one), Err(NoPlace::Busy));
    ledger.end(1);
    assert_eq!(text(&ledger.begin(3, &one).unwrap()), "n1:0@1");
}

fn requests() -> impl Strategy<Value = StepRequest> {
    let distribution = prop_oneof![
        Just(Distribution::Block),
        Just(Distribution::Cyclic),
        (1u32..4).prop_map(Distribution::Plane)
    ];
    let counts = (
        proptest::option::of(0u32..12),
        proptest::option::of((0u32..5, 0u32..5)),
        proptest::option::of(0u32..4),
        proptest::option::of(0u32..4),
    );
    (counts, any::<(bool, bool, bool)>(), distribution, 0u32..5).prop_map(
        |(
            (ntasks, nodes, tasks_per_node, cores_per_task),
            (exact, overlap, overcommit),
            distribution,
            relative,
        )| {
            StepRequest {
                ntasks,
                nodes,
                tasks_per_node,
                cores_per_task,
                exact,
                overlap,
                overcommit,
                distribution,
                relative,
                ..StepRequest::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn every_placement_is_whole_and_no_core_is_held_twice(
        nodes in proptest::collection::vec((0u32..6, 0u32..6), 1..5),
        requests in proptest::collection::vec(requests(), 1..12),
    ) {
        let mut ledger = ledger(&nodes);
        let mut held: Vec<(u32, u32)> = Vec::new();
        for (step, request) in requests.iter().enumerate() {
            let Ok(placement) = ledger.begin(step as u32, request) else { continue };
            let mut ranks: Vec<u32> = placement.nodes.iter().flat_map(|node| node.tasks.iter().map(|task| task.rank)).collect();
            ranks.sort_unstable();
            prop_assert_eq!(&ranks, &(0..placement.ntasks).collect::<Vec<_>>());
            for node in &placement.nodes {
                prop_assert!(!node.tasks.is_empty());
                for task in &node.tasks {
                    prop_assert!(!task.cores.is_empty());
                    prop_assert!(task.cores.iter().all(|core| node.cores.contains(core)));
                }
                if !request.overlap {
                    for core in &node.cores {
                        prop_assert!(!held.contains(&(node.instance, *core)), "core {} is held twice", core);
                        held.push((node.instance, *core));
                    }
                }
            }
        }
        for step in 0..requests.len() {
            ledger.end(step as u32);
        }
        prop_assert!(ledger.held.iter().flatten().all(Option::is_none));
    }
}
