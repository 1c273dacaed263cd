//! Which cores and devices of its nodes a task gets.

use super::fit::{self, NodeRoom};
use super::pass::Pass;
use crate::cluster::PoolConfig;
use crate::cores::CoreSet;
use crate::event::Share;
use crate::gres::{self, NodeGres, ShareGres};
use crate::ids::Timestamp;
use crate::place::{Chosen, DeviceWish, pick_cores, pick_with_devices};
use crate::spec::Request;
use crate::state::Node;

impl Pass<'_> {
    /// The exact cores and devices for the part of a request on one node, if it ends at `end`; `kept` is what a promise
    /// has kept for it.
    pub(super) fn share(
        &self,
        config: &PoolConfig,
        request: &Request,
        end: Timestamp,
        chosen: Chosen,
        kept: Option<NodeRoom>,
    ) -> Share {
        let node = self.state.node(chosen.node);
        let view = &self.planner.nodes[chosen.node.0 as usize];
        // Any core and any type of device may do for the task, but a reservation may have kept those of one kind.
        let room = || kept.unwrap_or_else(|| self.room_until(chosen.node, end));
        let has_gres = !node.gres.is_empty() && (request.exclusive || request.has_gres());
        let counts = has_gres.then(|| match kept {
            Some(kept) => kept.gres,
            None => gres::choose(&node.gres, room().gres, request, chosen.ranks),
        });
        let memory_bytes = fit::memory_bytes(node, config, request, chosen.ranks);
        let share = |cores: CoreSet, gres: Vec<ShareGres>| Share {
            node: chosen.node,
            cores,
            memory_bytes,
            ranks: chosen.ranks,
            gres,
        };
        if request.exclusive {
            let gres = counts.map(|counts| gres::pick(&node.gres, &view.free_gres, counts));
            return share(view.free.clone(), gres.unwrap_or_default());
        }
        let places = node.hardware().map(|hardware| hardware.cores.as_slice()).unwrap_or_default();
        let count = chosen.ranks * request.cores_per_rank;
        let able = (!node.threads.is_uniform()).then(|| {
            let (room, threads) = (room(), request.threads_per_core.unwrap_or(0));
            node.threads.usable(&view.free, threads, room.narrow(), room.wider)
        });
        let free = able.as_ref().unwrap_or(&view.free);
        match counts {
            None => share(pick_cores(places, free, count, &[]), Vec::new()),
            Some(counts) => {
                let kinds = node.gres.iter().zip(&view.free_gres).enumerate();
                let wishes: Vec<DeviceWish> = kinds
                    .map(|(place, (gres, free))| DeviceWish {
                        free: places_of(node, gres, free),
                        count: counts.of(place),
                    })
                    .collect();
                let (cores, devices) = pick_with_devices(places, free, count, &wishes);
                share(cores, gres::shares(&node.gres, devices))
            }
        }
    }
}

/// Free devices with the NUMA nodes that they are attached to.
fn places_of(node: &Node, gres: &NodeGres, free: &CoreSet) -> Vec<(u32, Option<u32>)> {
    free.iter().map(|device| (device, node.numa_of_device(&gres.name, device))).collect()
}
