//! A mix of jobs as large sites have it.

use muster_core::spec::{ArraySpec, IndexRange, JobSpec, Request};

use crate::Rng;
use crate::replay::machine::blank_spec;

/// Users who submit.
const USERS: u64 = 300;
/// Time limits that people ask for, in seconds.
const LIMITS_S: [u64; 10] =
    [600, 1800, 3600, 7200, 4 * 3600, 8 * 3600, 12 * 3600, 24 * 3600, 48 * 3600, 72 * 3600];
/// Widest gang, in nodes.
const GANG_NODES_MAX: u32 = 512;

/// A job of the mix, for a cluster of `nodes` nodes of `cores` cores. Of ten jobs three are serial, two take a few
/// cores of one node, four are gangs of whole nodes (half of them of up to 8), and one is an array; some gangs are
/// given in ranks rather than nodes.
pub fn job(rng: &mut Rng, nodes: u32, cores: u32) -> JobSpec {
    let mut spec = blank_spec();
    // Few users submit most jobs.
    spec.user.uid = 1000 + rng.below(USERS).min(rng.below(USERS)) as u32;
    spec.time_limit_s = Some(LIMITS_S[rng.below(LIMITS_S.len() as u64) as usize]);
    spec.request = Default::default();
    let request = &mut spec.request;
    match rng.below(20) {
        0..6 => {}
        6..10 => {
            request.ranks = 1 + rng.below(u64::from(cores / 2).max(1)) as u32;
            if rng.one_in(3) && request.ranks > 1 {
                // One rank with threads, on one node.
                (request.cores_per_rank, request.ranks) = (request.ranks, 1);
            }
        }
        10..14 => gang(request, 1 + rng.below(u64::from(nodes.min(8))) as u32, cores),
        14..17 => gang(request, log_uniform(rng, nodes.min(GANG_NODES_MAX)), cores),
        17 => request.ranks = cores * log_uniform(rng, nodes.min(16)) / 2 + 1,
        _ => {
            let last = 9 + rng.below(990) as u32;
            let running_max = rng.one_in(3).then(|| 1 + rng.below(100) as u32);
            spec.array =
                Some(ArraySpec { indices: vec![IndexRange { first: 0, last, step: 1 }], running_max });
            spec.request.ranks = 1 + rng.below(u64::from(cores.min(4))) as u32;
        }
    }
    spec
}

fn gang(request: &mut Request, nodes: u32, cores: u32) {
    request.nodes = Some(nodes);
    request.ranks = nodes * cores;
    request.ranks_per_node = Some(cores);
}

/// 1 to `most`, each doubling as likely as the next.
fn log_uniform(rng: &mut Rng, most: u32) -> u32 {
    let doublings = u64::from(most.max(1).ilog2());
    let low: u64 = 1 << rng.below(doublings + 1);
    ((low + rng.below(low)) as u32).min(most)
}
