//! What is known of a job beside what it asks for: remarks of its user, and where it came from.

use std::collections::BTreeMap;

use muster_core::spec::{JobSpec, MailWish, SignalWish};
use serde::{Deserialize, Serialize};

/// What a job's user said about it, and how it was submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotesView {
    /// A signal some time before the time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalWish>,
    /// What the user says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The path of the script; none if that came from elsewhere than a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command line that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submit_line: Option<String>,
    /// By how much the user lowered the priority, in which it is already.
    #[serde(default)]
    pub nice: i32,
    /// A label of the site's own bookkeeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wckey: Option<String>,
    /// Whom to tell of what becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailWish>,
    /// Licences that each task holds while it runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<String, u32>,
}

impl From<&JobSpec> for NotesView {
    fn from(spec: &JobSpec) -> Self {
        Self {
            signal: spec.signal,
            comment: spec.comment.clone(),
            command: spec.command.clone(),
            submit_line: spec.submit_line.clone(),
            nice: spec.nice,
            wckey: spec.wckey.clone(),
            mail: spec.mail.clone(),
            licenses: spec.licenses.clone(),
        }
    }
}
