//! The part of the story in which short tasks are lined up.

use std::sync::Arc;

use muster_core::event::{Hardware, HardwareCore, Usage};
use muster_core::ids::{AttemptKey, JobId, JobRef};
use muster_core::input::{GoneHow, Input, InstancePhase, InstanceReport};
use serde_json::json;

use super::story::{ANN, Story};

/// A node that is in no pool but `quick`, which has no other.
pub(super) const NODE: &str = "n5";

impl Story {
    /// Tasks of an array follow one another on one core; some are given back, and the rest is cancelled.
    pub(super) fn lines(&mut self) {
        let core = HardwareCore { package: 0, numa: 0, l3: 0, threads: 1 };
        let hardware = Hardware {
            cores: vec![core; 4],
            memory_bytes: 8 << 30,
            takes_lines: true,
            ..Hardware::default()
        };
        let (node, boot_id) = (NODE.to_owned(), "boot-5".to_owned());
        self.input(Input::NodeHello { node, boot_id, hardware: Arc::new(hardware), held: Vec::new() });
        let indices = json!([{"first": 0, "last": 199, "step": 1}]);
        let job = self.submit("quick", json!({"pool": "quick", "array": {"indices": indices}}));
        for round in 0..20 {
            // Those of all cores end at once now and then.
            let heads = self.attempts(job, true);
            let ended = |key: &AttemptKey| {
                let how = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };
                let phase =
                    InstancePhase::Gone { how, usage: Usage::default(), started_at: Some(self.now()) };
                report(*key, phase)
            };
            let count = if round < 16 { 1 } else { heads.len() };
            self.inputs(heads[..count].iter().map(ended).collect());
        }
        let in_line = self.attempts(job, false);
        let returned =
            || InstancePhase::Gone { how: GoneHow::Returned, usage: Usage::default(), started_at: None };
        self.quick(in_line[in_line.len() - 1], returned());
        self.quick(in_line[in_line.len() / 2], returned());
        self.input(Input::Cancel { caller: ANN, target: JobRef { job, task: None } });
        for holds in [false, true] {
            for key in self.attempts(job, holds) {
                let how = GoneHow::Stopped;
                self.quick(key, InstancePhase::Gone { how, usage: Usage::default(), started_at: None });
            }
        }
    }

    fn quick(&mut self, key: AttemptKey, phase: InstancePhase) {
        self.input(report(key, phase));
    }

    /// Attempts of a job that hold their allocation, or wait for it in a line.
    fn attempts(&self, job: JobId, holds: bool) -> Vec<AttemptKey> {
        let of_job = self.state().live().filter(|(key, ..)| key.task.job == job);
        of_job.filter(|(.., live)| live.holds_allocation() == holds).map(|(key, ..)| key).collect()
    }
}

fn report(key: AttemptKey, phase: InstancePhase) -> Input {
    Input::NodeReport { node: NODE.to_owned(), report: InstanceReport { key, instance: 0, phase } }
}
