//! What goes between the controller and the nodes, and what becomes of it on the way.

use muster_core::ids::NodeId;
use muster_core::input::Input;

use super::node::Happened;
use super::violation::Violation;
use super::world::World;

/// How long the controller waits for a silent node, in virtual seconds.
const NODE_TIMEOUT_S: u64 = 5;
impl World {
    pub(super) fn happened(&mut self, i: usize, happened: Happened) -> Result<(), Violation> {
        match happened {
            Happened::Report(report) => {
                if self.nodes[i].session {
                    self.from_node[i].send(report, &mut self.rng, &mut self.outcome.messages);
                }
                Ok(())
            }
            Happened::Started(key) => self.check_start(key),
        }
    }

    /// Delivers some of what is under way.
    pub(super) fn messages(&mut self, i: usize, calm: bool) -> Result<(), Violation> {
        if !self.nodes[i].linked {
            return Ok(());
        }
        if !self.nodes[i].session {
            if calm || self.rng.one_in(3) {
                self.hello(i)?;
            }
            return Ok(());
        }
        self.nodes[i].heard = self.now;
        if !calm {
            self.to_node[i].weather(self.now, &mut self.rng, &mut self.outcome.messages);
            self.from_node[i].weather(self.now, &mut self.rng, &mut self.outcome.messages);
        }
        while let Some(effect) = self.to_node[i].arrive(self.now, &mut self.rng) {
            if let Some(happened) = self.nodes[i].obey(&effect) {
                self.happened(i, happened)?;
            }
        }
        while let Some(report) = self.from_node[i].arrive(self.now, &mut self.rng) {
            let node = self.nodes[i].name.clone();
            self.input(&Input::NodeReport { node, report })?;
        }
        Ok(())
    }

    fn hello(&mut self, i: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[i];
        node.session = true;
        node.heard = self.now;
        let input = Input::NodeHello {
            node: node.name.clone(),
            boot_id: node.boots.to_string(),
            hardware: node.hardware(),
            held: node.held_reports(),
        };
        self.input(&input)?;
        Ok(())
    }

    pub(super) fn silence(&mut self, i: usize) -> Result<(), Violation> {
        let id = NodeId(i as u32);
        let up = self.controller.engine.state().nodes.get(id.0 as usize).is_some_and(|node| node.is_up());
        if up && self.now > self.nodes[i].heard.plus_seconds(NODE_TIMEOUT_S) {
            self.drop_session(i);
            let input = Input::NodeSilent { node: self.nodes[i].name.clone(), reason: "silent".to_owned() };
            self.input(&input)?;
        }
        Ok(())
    }

    /// Messages under way are lost with the session.
    pub(super) fn drop_session(&mut self, i: usize) {
        self.nodes[i].session = false;
        self.to_node[i].cut(&mut self.outcome.messages);
        self.from_node[i].cut(&mut self.outcome.messages);
    }
}
