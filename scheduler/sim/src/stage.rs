//! Nodes that obey at once: what is to be prepared is ready in the same instant, and what is to end is gone.

use std::sync::Arc;

use muster_core::cluster::{ClusterConfig, NodeConfig};
use muster_core::engine::Engine;
use muster_core::event::{Allocation, Endpoint, Hardware, HardwareCore, Usage};
use muster_core::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport};
use muster_core::state::State;

use crate::SimError;

/// The engine and the nodes that it speaks to.
pub struct Stage {
    /// The engine.
    pub engine: Engine,
    /// One report of each node, changed for each use: whole logs make millions of them.
    reports: Vec<Input>,
}

impl Stage {
    /// Nodes for an engine whose configuration is in force.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let nobody = AttemptKey { task: TaskId { job: JobId(0), index: TaskIndex(0) }, attempt: 1 };
        let reports = engine.state().nodes.iter().map(|node| Input::NodeReport {
            node: node.name.clone(),
            report: InstanceReport { key: nobody, instance: 0, phase: InstancePhase::Preparing },
        });
        Self { reports: reports.collect(), engine }
    }

    /// An engine with this configuration, all of whose nodes say hello at instant 0; `place` says where a core sits.
    ///
    /// # Errors
    /// [`SimError::Cluster`] if the engine refuses the configuration or a node.
    pub fn bring_up(config: ClusterConfig, place: fn(u32) -> HardwareCore) -> Result<Self, SimError> {
        // A node that wraps its cores has a single real one here, so that all of them are at the same place.
        let real = |node: &NodeConfig| if node.wrap_cores { 1 } else { node.cores };
        let nodes: Vec<_> =
            config.nodes.iter().map(|node| (node.name.clone(), real(node), node.memory_bytes)).collect();
        let mut engine = Engine::new(State::new());
        let start = Timestamp(0);
        engine.apply(&Input::Configure(Arc::new(config)), start).reply.map_err(SimError::Cluster)?;
        let mut last = Arc::new(Hardware::default());
        for (node, cores, memory_bytes) in nodes {
            if last.cores.len() != cores as usize || last.memory_bytes != memory_bytes {
                let cores = (0..cores).map(place).collect();
                last = Arc::new(Hardware { cores, memory_bytes, ..Hardware::default() });
            }
            let hardware = Arc::clone(&last);
            let hello = Input::NodeHello { node, boot_id: "1".to_owned(), hardware, held: Vec::new() };
            engine.apply(&hello, start).reply.map_err(SimError::Cluster)?;
        }
        Ok(Self::new(engine))
    }

    /// Lets the nodes carry out effects: prepared instances are ready, and stopped ones gone. Tells `started` of each
    /// attempt that goes.
    pub fn obey(&mut self, effects: &[Effect], now: Timestamp, mut started: impl FnMut(AttemptKey)) {
        for effect in effects {
            if let Effect::Stop { node, key, .. } = effect {
                self.stop(*node, *key, now);
            }
            let Effect::Prepare { node, key, instance, .. } = effect else { continue };
            let ready = InstancePhase::Ready(Endpoint::default());
            let answer = self.report(node.0 as usize, *key, *instance, ready, now);
            if answer.iter().any(|effect| matches!(effect, Effect::Go { .. })) {
                started(*key);
            }
        }
    }

    /// A node ends its instance of an attempt.
    fn stop(&mut self, node: NodeId, key: AttemptKey, now: Timestamp) {
        let live = self.engine.state().live_attempt(key.task);
        if let Some(instance) = live.and_then(|live| live.allocation.instance_on(node)) {
            let phase =
                InstancePhase::Gone { how: GoneHow::Stopped, usage: Usage::default(), started_at: None };
            self.report(node.0 as usize, key, instance, phase, now);
        }
    }

    /// All instances of an attempt are ready.
    pub fn ready(&mut self, key: AttemptKey, now: Timestamp) {
        let live = self.engine.state().live_attempt(key.task);
        let Some(allocation) = live.map(|live| Arc::clone(&live.allocation)) else { return };
        for (instance, share) in allocation.shares.iter().enumerate() {
            let ready = InstancePhase::Ready(Endpoint::default());
            self.report(share.node.0 as usize, key, instance as u32, ready, now);
        }
    }

    /// The script of a task ends with `code`, and every node says that nothing of it is left. Does nothing if the
    /// task is not live.
    pub fn end(&mut self, task: TaskId, code: u32, now: Timestamp) {
        let Some(live) = self.engine.state().live_attempt(task) else { return };
        let key = AttemptKey { task, attempt: live.attempt };
        let allocation: Arc<Allocation> = Arc::clone(&live.allocation);
        for (instance, share) in allocation.shares.iter().enumerate() {
            let how = match instance {
                0 => GoneHow::Exited { code, signal: 0, out_of_memory: false },
                _ => GoneHow::Stopped,
            };
            let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
            self.report(share.node.0 as usize, key, instance as u32, phase, now);
        }
    }

    fn report(
        &mut self,
        node: usize,
        key: AttemptKey,
        instance: u32,
        phase: InstancePhase,
        now: Timestamp,
    ) -> Vec<Effect> {
        if let Input::NodeReport { report, .. } = &mut self.reports[node] {
            *report = InstanceReport { key, instance, phase };
        }
        self.engine.apply(&self.reports[node], now).effects
    }
}
