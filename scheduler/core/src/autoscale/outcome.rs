//! What an evaluation has found.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::value::Value;

/// Longest text of results, in bytes.
const RESULTS_BYTES_MAX: usize = 64 << 10;

/// What becomes of the tasks on nodes that a pool gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deallocation {
    /// They end and wait again.
    #[default]
    Requeue,
    /// They end for good.
    Terminate,
    /// The node waits for them.
    TaskCompletion,
    /// The node waits for them, and until their files may go.
    RetainedData,
}

impl Deallocation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requeue, Self::Terminate, Self::TaskCompletion, Self::RetainedData];

    /// The word in formulas and on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requeue => "requeue",
            Self::Terminate => "terminate",
            Self::TaskCompletion => "taskcompletion",
            Self::RetainedData => "retaineddata",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.name() == name)
    }
}

/// What a pool is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Targets {
    /// Dedicated nodes, if the formula says how many.
    pub dedicated: Option<u32>,
    /// Low-priority nodes, if the formula says how many.
    pub low_priority: Option<u32>,
    /// What becomes of the tasks on nodes that leave.
    pub deallocation: Deallocation,
}

/// What an evaluation has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What the pool is to become, or why it stays as it is.
    pub targets: Result<Targets, RunError>,
    /// The last value of each variable: the service's, and then the user's in the order of their names.
    pub variables: Vec<(String, Value)>,
}

impl Outcome {
    /// The text of `autoScaleRun.results`: `$name=value`, with semicolons between them. Variables for which 64 KiB do not
    /// suffice are left out, and `...` says so.
    #[must_use]
    pub fn results(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.variables {
            let before = text.len();
            if before > 0 {
                text.push(';');
            }
            let _ = write!(text, "{name}={value}");
            if text.len() > RESULTS_BYTES_MAX {
                text.truncate(before);
                text.push_str(";...");
                break;
            }
        }
        text
    }
}
