//! What a scheduling pass costs on a large cluster with a long queue.
//!
//! A fat tree of nodes is filled with a mix of jobs as sites have it; what is measured is the engine's own
//! [`pass`](muster_core::engine::Engine::pass): on an empty cluster, on a full one, and after the end of one task.

mod cluster;
mod measure;
mod mix;

pub use self::cluster::{Topology, fat_tree, read_topology};
pub use self::measure::{
    ARRAY_ELEMENTS, FORECAST_WITHIN, Foreseen, Incremental, Memory, Passes, ScaleOptions, ScaleReport,
    measure,
};
