//! Jobs for agents that carry nothing out.

use std::collections::BTreeMap;

use muster_client::api::SubmitRequest;
use muster_core::spec::{ArraySpec, IndexRange, Request};

/// A job of one task on one core, which runs for so many milliseconds, or [`super::STAYS`].
#[must_use]
pub fn job(name: &str, runs_for: &str) -> SubmitRequest {
    SubmitRequest {
        arguments: vec![runs_for.to_owned()],
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        working_directory: "/tmp".to_owned(),
        submit_host: "head".to_owned(),
        ..SubmitRequest::of(name, "#!/bin/sh\ntrue\n")
    }
}

/// A gang of so many nodes with this many ranks each.
#[must_use]
pub fn gang(nodes: u32, ranks_per_node: u32, runs_for: &str) -> SubmitRequest {
    let request = Request {
        nodes: Some(nodes),
        ranks: nodes * ranks_per_node,
        ranks_per_node: Some(ranks_per_node),
        ..Request::default()
    };
    SubmitRequest { request, ..job("gang", runs_for) }
}

/// An array of so many tasks, each on as many cores of one node.
#[must_use]
pub fn array(tasks: u32, cores: u32, runs_for: &str) -> SubmitRequest {
    let indices = vec![IndexRange { first: 0, last: tasks.saturating_sub(1), step: 1 }];
    let request = Request { nodes: Some(1), ranks: cores, ranks_per_node: Some(cores), ..Request::default() };
    SubmitRequest { request, array: Some(ArraySpec { indices, running_max: None }), ..job("array", runs_for) }
}
