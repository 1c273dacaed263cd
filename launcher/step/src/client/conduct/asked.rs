//! Somebody who looks on asks what the ranks use: the nodes are asked, and the answer goes to all who look on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Conduct;
use super::heads::State;
use crate::frames::{FromDaemon, ToDaemon};
use crate::live::{LiveUsage, RankNow};

/// How long nodes may take to answer. Whoever asks is told how many have not.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A question that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    /// Nodes that have not answered.
    awaited: BTreeSet<u32>,
    /// What those that have answered say, with the node's position.
    ranks: Vec<(u32, RankNow)>,
    pub until: Instant,
}

impl Conduct<'_> {
    /// Asks the nodes, unless they are being asked.
    pub(super) fn ask_for_usage(&mut self) {
        if self.asked.is_none() {
            self.heads.tell(&ToDaemon::Usage);
            let awaited = self.nodes_that_run();
            self.asked = Some(Asked { awaited, ranks: Vec::new(), until: Instant::now() + ANSWER_WITHIN });
        }
    }

    /// The nodes with a rank that has not ended, as far as they were told what to start.
    fn nodes_that_run(&self) -> BTreeSet<u32> {
        let nodes = self.launch.common.node_of_rank.iter().zip(0..);
        let runs = |node: u32| {
            let head = self.heads.of_node(node).map(|place| self.heads.get(place));
            head.is_some_and(|head| matches!(head.state, State::Running(_)))
        };
        let running = nodes.filter(|(_, rank)| !self.ending.has_ended(*rank)).map(|(node, _)| *node);
        running.collect::<BTreeSet<u32>>().into_iter().filter(|node| runs(*node)).collect()
    }

    /// A node answers.
    pub(super) fn take_usage(&mut self, node: u32, ranks: Vec<RankNow>) {
        if let Some(asked) = &mut self.asked
            && asked.awaited.remove(&node)
        {
            asked.ranks.extend(ranks.into_iter().map(|rank| (node, rank)));
        }
    }

    /// Tells those who look on, if all nodes have answered that can, or the time is over.
    pub(super) fn answer_for_usage(&mut self) {
        let Some(asked) = &mut self.asked else { return };
        let mut awaited = std::mem::take(&mut asked.awaited);
        if !awaited.is_empty() {
            let running = self.nodes_that_run();
            awaited.retain(|node| running.contains(node));
        }
        let Some(asked) = &mut self.asked else { return };
        if !awaited.is_empty() && Instant::now() < asked.until {
            asked.awaited = awaited;
            return;
        }
        let mut usage = LiveUsage::of_ended(self.ending.usage());
        for (node, rank) in std::mem::take(&mut asked.ranks) {
            // One that has ended since has told more.
            if !self.ending.has_ended(rank.rank) {
                usage.add(node, rank);
            }
        }
        usage.silent_nodes = awaited.len() as u32;
        self.asked = None;
        self.viewers.tell(&FromDaemon::StepUsage { usage: Box::new(usage) });
    }
}
