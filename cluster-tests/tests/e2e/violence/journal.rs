//! What the controller wrote down: every record of its journal, read while it runs and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use muster_cluster_tests::site::Site;
use muster_core::event::{Allocation, Event, Record, Verdict};
use muster_core::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use muster_core::spec::{IndexRange, JobSpec};
use muster_core::state::FIRST_ATTEMPT;
use serde::Deserialize;

/// An attempt, as the controller knows it.
#[derive(Debug)]
pub struct Attempt {
    pub allocation: Arc<Allocation>,
    pub go_at: Option<Timestamp>,
    /// When it was placed, if it may start from then on.
    pub at_once: Option<Timestamp>,
    /// By instance: when its share became free, and whether because its node was given up.
    pub free: Vec<Option<Freed>>,
    /// How it ended, and whether the task waits for another.
    pub ended: Option<(Verdict, bool)>,
    /// It stood in a line, and its node gave it back: it may never have run, and has no end.
    pub returned: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Freed {
    Gone(Timestamp),
    Lost(Timestamp),
}

/// A job, as the controller knows it.
#[derive(Debug)]
pub struct Submitted {
    pub spec: Arc<JobSpec>,
    /// Tasks that ended without an attempt, or without a further one.
    pub ended_waiting: BTreeSet<TaskIndex>,
}

#[derive(Debug, Default)]
pub struct Journal {
    pub jobs: BTreeMap<JobId, Submitted>,
    pub attempts: BTreeMap<AttemptKey, Attempt>,
    /// By node: when it came up, and what it still held that had ended.
    pub ups: BTreeMap<NodeId, Vec<(Timestamp, Vec<AttemptKey>)>>,
    pub stale_gone: BTreeMap<(NodeId, AttemptKey), Timestamp>,
    pub records: u64,
    /// What contradicts itself.
    pub wrong: Vec<String>,
    last: u64,
}

#[derive(Deserialize)]
struct Exported {
    seq: u64,
    record: Record,
}

impl Journal {
    /// Begins with an empty cluster. A controller that stops in good order takes a snapshot; records since the snapshot
    /// before the last stay, so from here on nothing is missed if there is a reading before each such stop, and one
    /// after it.
    pub fn begin(site: &Site) -> Self {
        site.stop_controller().unwrap();
        site.start_controller().unwrap_or_else(|error| panic!("{error}"));
        let mut journal = Self::default();
        journal.read(site);
        journal
    }

    /// Reads what is new.
    pub fn read(&mut self, site: &Site) {
        let output = Command::new(site.staged.bin.join("musterd"))
            .arg("--config")
            .arg(site.config_path())
            .args(["store", "export", "-"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines().filter(|line| line.starts_with("{\"type\":\"record\"")) {
            let Exported { seq, record } = serde_json::from_str(line).unwrap();
            if seq <= self.last {
                continue;
            }
            assert!(self.last == 0 || seq == self.last + 1, "records after {} are missing", self.last);
            self.last = seq;
            self.records += 1;
            self.take(&record);
        }
        assert!(!text.contains("{\"type\":\"damaged\""), "the journal is damaged");
    }

    fn take(&mut self, record: &Record) {
        record.event.parts().for_each(|event| self.happened(&event, record.at));
    }

    fn happened(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::JobSubmitted { job, spec, .. } => {
                let submitted = Submitted { spec: Arc::clone(spec), ended_waiting: BTreeSet::new() };
                if self.jobs.insert(*job, submitted).is_some() {
                    self.wrong.push(format!("job {job} was submitted twice"));
                }
            }
            Event::WaitingCancelled { job, indices, .. } | Event::WaitingEnded { job, indices, .. } => {
                let ended = indices.iter().flat_map(IndexRange::indices).map(TaskIndex);
                self.jobs.get_mut(job).unwrap().ended_waiting.extend(ended);
            }
            Event::AttemptPlaced { key, allocation, .. } => {
                let is_at_once = self.jobs[&key.task.job].spec.starts_at_once(allocation.shares.len());
                self.placed(*key, allocation, is_at_once.then_some(at));
            }
            Event::LineMade { behind, indices } => {
                let allocation = Arc::clone(&self.attempt(behind).allocation);
                for index in indices.iter().flat_map(IndexRange::indices).map(TaskIndex) {
                    let key = AttemptKey { task: TaskId { index, ..behind.task }, attempt: FIRST_ATTEMPT };
                    // When the one before it ends is its node's to know; two on one core are seen in the ledger.
                    self.placed(key, &allocation, Some(at));
                }
            }
            Event::AttemptReturned { key } => self.attempt(key).returned = true,
            Event::AttemptGo { key } => {
                let before = self.attempt(key).go_at.replace(at);
                if before.is_some() {
                    self.wrong.push(format!("{key} got two words to start"));
                }
            }
            Event::InstanceGone { key, instance, .. } => self.free(key, *instance, Freed::Gone(at)),
            Event::InstanceLost { key, instance } => self.free(key, *instance, Freed::Lost(at)),
            Event::AttemptEnded { key, verdict, again_not_before } => {
                let ended = (verdict.clone(), again_not_before.is_some());
                if self.attempt(key).ended.replace(ended).is_some() {
                    self.wrong.push(format!("{key} ended twice"));
                }
            }
            Event::NodeUp { node, stale, .. } => self.ups.entry(*node).or_default().push((at, stale.clone())),
            Event::StaleGone { node, key } => {
                self.stale_gone.insert((*node, *key), at);
            }
            _ => {}
        }
    }

    fn placed(&mut self, key: AttemptKey, allocation: &Arc<Allocation>, at_once: Option<Timestamp>) {
        let free = vec![None; allocation.shares.len()];
        let allocation = Arc::clone(allocation);
        let attempt = Attempt { allocation, go_at: None, at_once, free, ended: None, returned: false };
        if self.attempts.insert(key, attempt).is_some() {
            self.wrong.push(format!("{key} was placed twice"));
        }
    }

    fn attempt(&mut self, key: &AttemptKey) -> &mut Attempt {
        self.attempts.get_mut(key).unwrap_or_else(|| panic!("{key} was never placed"))
    }

    fn free(&mut self, key: &AttemptKey, instance: u32, freed: Freed) {
        let slot = &mut self.attempt(key).free[instance as usize];
        if slot.replace(freed).is_some() {
            self.wrong.push(format!("instance {instance} of {key} was freed twice"));
        }
    }

    /// From when on nothing of an instance may run, because the controller said that nothing of it is left: its
    /// node reported so, or the node was given up and came back since, without it or until that was gone too.
    pub fn gone_at(&self, key: &AttemptKey, instance: usize) -> Option<Timestamp> {
        let attempt = &self.attempts[key];
        let node = attempt.allocation.shares[instance].node;
        match attempt.free[instance]? {
            Freed::Gone(at) => Some(at),
            Freed::Lost(lost_at) => {
                let ups = self.ups.get(&node).map(Vec::as_slice).unwrap_or_default();
                let without =
                    |(at, stale): &&(Timestamp, Vec<AttemptKey>)| *at >= lost_at && !stale.contains(key);
                let up = ups.iter().find(without).map(|(at, _)| *at);
                let gone = self.stale_gone.get(&(node, *key)).copied();
                [up, gone].into_iter().flatten().min()
            }
        }
    }
}
