//! Which nodes and cores of an allocation a step gets. Plain values in, plain values out.
//!
//! The rules are Slurm's (srun(1)), where they leave something open the allocation's own layout is kept:
//!
//! - A step does not share cores with another, unless it says `--overlap`. Without `--exact` it gets all cores that are
//!   free on its nodes, and holds them; with it, or with a number of cores for each rank, only what its ranks need.
//! - A step that asks for nothing has the ranks of the allocation, where the allocation has them.
//! - Ranks of a step that has more cores on a node than they ask for share them out evenly.

mod layout;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::words::StepRequest;
use layout::{arbitrary, deal, spread};

/// A node of the allocation, as far as placing cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub host: String,
    /// How many usable cores the allocation has there; they are named by their position, from 0.
    pub cores: u32,
    /// How many ranks the allocation has there.
    pub ranks: u32,
}

/// Where a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The number of ranks.
    pub ntasks: u32,
    /// How many cores each asked for.
    pub cores_per_task: u32,
    /// Its nodes, in the order of the allocation. Each has a rank at least.
    pub nodes: Vec<NodePlacement>,
}

/// The part of a step on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlacement {
    /// The instance of the attempt there.
    pub instance: u32,
    /// The node.
    pub host: String,
    /// All cores of the step there, as positions among the instance's.
    pub cores: Vec<u32>,
    /// Its ranks there, ascending.
    pub tasks: Vec<TaskPlacement>,
}

/// The place of one rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPlacement {
    /// The rank.
    pub rank: u32,
    /// Its cores, as positions among the instance's.
    pub cores: Vec<u32>,
}

/// Why a step cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// It can when other steps have ended.
    #[error("Requested nodes are busy")]
    Busy,
    /// It never can: what is asked for is more than the allocation.
    #[error("{0}")]
    Never(String),
}

/// The allocation, and the cores in it that running steps hold.
#[derive(Debug, Clone)]
pub struct Ledger {
    nodes: Vec<Node>,
    /// Of each node, the step that holds each core.
    held: Vec<Vec<Option<u32>>>,
    /// Cores of a rank that does not say how many.
    cores_per_task: u32,
}

impl Ledger {
    /// An allocation in which no step runs.
    pub fn new(nodes: Vec<Node>, cores_per_task: u32) -> Self {
        let held = nodes.iter().map(|node| vec![None; node.cores as usize]).collect();
        Self { nodes, held, cores_per_task: cores_per_task.max(1) }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Finds a place for a step and holds its cores, if it does not share them.
    ///
    /// # Errors
    ///
    /// [`NoPlace`] says whether waiting helps.
    pub fn begin(&mut self, step: u32, request: &StepRequest) -> Result<Placement, NoPlace> {
        let all = |node: usize| (0..self.nodes[node].cores).collect::<Vec<u32>>();
        let free = |node: usize| -> Vec<u32> {
            if request.overlap {
                return all(node);
            }
            let held = &self.held[node];
            (0..self.nodes[node].cores).filter(|core| held[*core as usize].is_none()).collect()
        };
        let placement = match self.place(request, &free) {
            Ok(placement) => placement,
            // The same question to an allocation in which nothing runs tells whether waiting helps.
            Err(_) => match self.place(request, &all) {
                Ok(_) => return Err(NoPlace::Busy),
                Err(refused) => return Err(NoPlace::Never(refused)),
            },
        };
        if !request.overlap {
            for node in &placement.nodes {
                for core in &node.cores {
                    self.held[node.instance as usize][*core as usize] = Some(step);
                }
            }
        }
        Ok(placement)
    }

    /// Frees what a step held.
    pub fn end(&mut self, step: u32) {
        for holder in self.held.iter_mut().flatten() {
            if *holder == Some(step) {
                *holder = None;
            }
        }
    }

    /// Frees what a step held on one node.
    pub fn end_on(&mut self, step: u32, instance: u32) {
        for holder in self.held.get_mut(instance as usize).into_iter().flatten() {
            if *holder == Some(step) {
                *holder = None;
            }
        }
    }

    fn place(&self, request: &StepRequest, free: &dyn Fn(usize) -> Vec<u32>) -> Result<Placement, String> {
        let width = request.cores_per_task.unwrap_or(self.cores_per_task).max(1);
        let (chosen, counts) = if request.hosts.is_empty() {
            self.choose(request, width, free)?
        } else {
            self.by_hosts(request)?
        };
        let ranks = if request.hosts.is_empty() {
            deal(&counts, request.distribution)
        } else {
            arbitrary(
                &request.hosts,
                &chosen.iter().map(|node| self.nodes[*node].host.as_str()).collect::<Vec<_>>(),
            )
        };
        let exact = request.exact || request.cores_per_task.is_some();
        let mut nodes = Vec::new();
        for (position, node) in chosen.iter().enumerate() {
            let mine: Vec<u32> = ranks
                .iter()
                .enumerate()
                .filter(|(_, at)| **at == position)
                .map(|(rank, _)| rank as u32)
                .collect();
            // Planes may leave a node without ranks.
            if mine.is_empty() {
                continue;
            }
            let mut cores = free(*node);
            let needed = mine.len().saturating_mul(width as usize);
            if cores.len() < needed.min(self.least(request, width)) || cores.is_empty() {
                return Err(format!(
                    "{}: {} has {} free cores",
                    requested(),
                    self.nodes[*node].host,
                    cores.len()
                ));
            }
            if exact {
                cores.truncate(needed);
            }
            let shares = spread(&cores, mine.len(), width as usize);
            let tasks = mine.into_iter().zip(shares).map(|(rank, cores)| TaskPlacement { rank, cores });
            nodes.push(NodePlacement {
                instance: *node as u32,
                host: self.nodes[*node].host.clone(),
                tasks: tasks.collect(),
                cores,
            });
        }
        Ok(Placement { ntasks: ranks.len() as u32, cores_per_task: width, nodes })
    }

    /// With how many cores a node's part of a step is content, however many ranks it has.
    fn least(&self, request: &StepRequest, width: u32) -> usize {
        if request.overcommit { 1 } else { width.max(1) as usize }
    }

    /// The nodes of a step, in the order of the allocation, and how many ranks each gets.
    fn choose(
        &self,
        request: &StepRequest,
        width: u32,
        free: &dyn Fn(usize) -> Vec<u32>,
    ) -> Result<(Vec<usize>, Vec<u32>), String> {
        let (wanted, others) = self.candidates(request)?;
        let available = wanted.len() + others.len();
        let (least, most) = self.node_count(request, wanted.len(), available)?;
        let per_node = request.tasks_per_node.unwrap_or(u32::MAX).max(1);
        let room = |node: usize| match request.overcommit {
            true if free(node).is_empty() => 0,
            true => per_node,
            false => per_node.min(self.fit(node, width, free, request)),
        };
        let with_room: Vec<usize> = others.into_iter().filter(|node| room(*node) > 0).collect();
        if let Some(full) = wanted.iter().find(|node| room(**node) == 0) {
            return Err(format!(
                "{}: {} has no room for a rank of {width} cores",
                requested(),
                self.nodes[*full].host
            ));
        }
        let mut last = String::new();
        for count in least..=most {
            let Some(extra) = with_room.get(..count.saturating_sub(wanted.len())) else { break };
            let mut chosen: Vec<usize> = wanted.iter().chain(extra).copied().collect();
            chosen.sort_unstable();
            let rooms: Vec<u32> = chosen.iter().map(|node| room(*node)).collect();
            let ranks: Vec<u32> = chosen.iter().map(|node| self.nodes[*node].ranks).collect();
            match layout::counts(request, &ranks, &rooms) {
                Ok(counts) => return Ok((chosen, counts)),
                Err(problem) => last = problem,
            }
        }
        if last.is_empty() {
            last = format!(
                "{}: {} nodes of {available} have room for a rank of {width} cores",
                requested(),
                with_room.len() + wanted.len()
            );
        }
        Err(last)
    }

    /// How many ranks fit. The allocation's own ranks always do: it may have more of them than cores.
    fn fit(&self, node: usize, width: u32, free: &dyn Fn(usize) -> Vec<u32>, request: &StepRequest) -> u32 {
        let cores = free(node).len() as u32;
        let own = request.cores_per_task.is_none()
            && !request.exact
            && cores == self.nodes[node].cores
            && cores > 0;
        let fit = cores / width;
        if own { fit.max(self.nodes[node].ranks) } else { fit }
    }

    /// How many nodes the step has, at least and at most.
    fn node_count(
        &self,
        request: &StepRequest,
        wanted: usize,
        available: usize,
    ) -> Result<(usize, usize), String> {
        let (least, most) = match (request.nodes, request.nodelist.is_empty()) {
            (Some((least, most)), _) => (least as usize, most as usize),
            (None, false) => (wanted, wanted),
            (None, true) => (available, available),
        };
        if least > self.nodes.len() {
            return Err(format!(
                "Node count specification invalid: {least} nodes of an allocation of {}",
                self.nodes.len()
            ));
        }
        if least > available {
            return Err(format!(
                "Requested node configuration is not available: {least} nodes, and {available} may be used"
            ));
        }
        if least > most.max(wanted) || most < wanted {
            return Err(format!(
                "Node count specification invalid: {wanted} nodes are named, and at most {most} wanted"
            ));
        }
        // More nodes than ranks would leave some without.
        let ranks = request.ntasks.map_or(usize::MAX, |ranks| ranks.max(1) as usize);
        let least = least.max(wanted).max(1);
        let least = least.min(ranks.max(wanted));
        Ok((least, most.min(available).max(least)))
    }

    /// The nodes that must be used, and those that may be, in the order in which they are taken.
    fn candidates(&self, request: &StepRequest) -> Result<(Vec<usize>, Vec<usize>), String> {
        let position = |host: &String| {
            let outside =
                || format!("Requested node configuration is not available: {host} is not in this allocation");
            self.nodes.iter().position(|node| node.host == *host).ok_or_else(outside)
        };
        let wanted = request.nodelist.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        let excluded = request.exclude.iter().filter_map(|host| position(host).ok()).collect::<Vec<_>>();
        if let Some(both) = wanted.iter().find(|node| excluded.contains(node)) {
            let host = &self.nodes[*both].host;
            return Err(format!(
                "Requested node configuration is not available: {host} is both wanted and excluded"
            ));
        }
        let count = self.nodes.len();
        let first = request.relative as usize;
        if first >= count {
            return Err(format!(
                "Node count specification invalid: --relative={first} in an allocation of {count} nodes"
            ));
        }
        let others = (0..count).map(|step| (first + step) % count);
        let others = others.filter(|node| !wanted.contains(node) && !excluded.contains(node)).collect();
        Ok((wanted, others))
    }

    /// The nodes and counts of a list of hosts.
    fn by_hosts(&self, request: &StepRequest) -> Result<(Vec<usize>, Vec<u32>), String> {
        if let Some(ranks) = request.ntasks.filter(|ranks| *ranks as usize > request.hosts.len()) {
            return Err(format!(
                "{}: {ranks} ranks, and the list of hosts has {} lines",
                requested(),
                request.hosts.len()
            ));
        }
        let listed = StepRequest { nodelist: request.hosts.clone(), ..StepRequest::default() };
        let (mut chosen, _) = self.candidates(&listed)?;
        chosen.sort_unstable();
        chosen.dedup();
        let count = |node: &usize| {
            request.hosts.iter().filter(|host| **host == self.nodes[*node].host).count() as u32
        };
        let counts = chosen.iter().map(count).collect();
        Ok((chosen, counts))
    }
}

/// Slurm's sentence for what does not fit.
fn requested() -> &'static str {
    "More processors requested than permitted"
}
