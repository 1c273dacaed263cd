//! How tasks end, and what follows from it for the tasks that depend on them and for their job.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCategory {
    /// The user's.
    User,
    /// The cluster's.
    Server,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault it is.
    pub category: FailureCategory,
    /// A code of the protocol.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Which part of the attempt failed.
    #[serde(default, skip_serializing_if = "FailedIn::is_command")]
    pub failed_in: FailedIn,
}

/// The part of an attempt in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedIn {
    /// Its command, or something from outside ended it.
    #[default]
    Command,
    /// What comes before its command, such as input files.
    PreProcessing,
    /// The upload of its output files.
    FileUpload,
}

impl FailedIn {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_command(&self) -> bool {
        *self == Self::Command
    }
}

/// Whether a task that ended satisfies those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyAction {
    /// They may run.
    Satisfy,
    /// They wait on, for ever.
    Block,
}

/// What becomes of the job of a task that ended, if the job looks at that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobAction {
    /// Nothing.
    None,
    /// It is disabled, and its running tasks are queued again.
    Disable,
    /// It is terminated.
    Terminate,
}

/// What follows from the end of a task; what is not set is as it is by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExitAction {
    /// For those that depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<DependencyAction>,
    /// For its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobAction>,
}

/// What follows from which end of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExitConditions {
    /// For single exit codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<(i32, ExitAction)>,
    /// For exit codes from the first to the second number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(i32, i32, ExitAction)>,
    /// For an error before the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_processing: Option<ExitAction>,
    /// For an error of an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_upload: Option<ExitAction>,
    /// For every other end but success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ExitAction>,
}

impl ExitConditions {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is said of what becomes of the job.
    #[must_use]
    pub fn has_job_action(&self) -> bool {
        let codes = self.codes.iter().map(|(_, action)| action);
        let ranges = self.ranges.iter().map(|(_, _, action)| action);
        let others = [&self.pre_processing, &self.file_upload, &self.default];
        codes.chain(ranges).chain(others.into_iter().flatten()).any(|action| action.job.is_some())
    }

    /// What follows from an end. A rule about the exit code wins over one about the error, and `default` is not asked about
    /// success, which is overridden by its exit code alone.
    #[must_use]
    pub fn action(&self, exit_code: Option<i32>, failure: Option<&Failure>) -> (DependencyAction, JobAction) {
        let by_code = exit_code.and_then(|code| {
            let single = self.codes.iter().find(|(of, _)| *of == code).map(|(_, action)| *action);
            let range = || self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&code));
            single.or_else(|| range().map(|(_, _, action)| *action))
        });
        let by_error = || match failure?.failed_in {
            FailedIn::PreProcessing => self.pre_processing,
            FailedIn::FileUpload => self.file_upload,
            FailedIn::Command => None,
        };
        let by_default = || if failure.is_some() { self.default } else { None };
        let said = by_code.or_else(by_error).or_else(by_default).unwrap_or_default();
        let standard = match failure {
            None => (DependencyAction::Satisfy, JobAction::None),
            Some(_) => (DependencyAction::Block, JobAction::Terminate),
        };
        (said.dependency.unwrap_or(standard.0), said.job.unwrap_or(standard.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SATISFY: ExitAction = ExitAction { dependency: Some(DependencyAction::Satisfy), job: None };
    const DISABLE: ExitAction = ExitAction { dependency: None, job: Some(JobAction::Disable) };

    fn failed(failed_in: FailedIn) -> Failure {
        Failure { category: FailureCategory::User, code: String::new(), message: String::new(), failed_in }
    }

    #[test]
    fn the_first_rule_that_matches_counts_in_the_documented_order() {
        let rules = ExitConditions {
            codes: vec![(3, SATISFY)],
            ranges: vec![(1, 10, DISABLE)],
            pre_processing: Some(SATISFY),
            file_upload: Some(DISABLE),
            default: Some(ExitAction { dependency: None, job: Some(JobAction::None) }),
        };
        let command = failed(FailedIn::Command);
        use DependencyAction::{Block, Satisfy};
        assert_eq!(rules.action(Some(3), Some(&command)), (Satisfy, JobAction::Terminate));
        assert_eq!(rules.action(Some(10), Some(&command)), (Block, JobAction::Disable));
        assert_eq!(rules.action(Some(11), Some(&command)), (Block, JobAction::None));
        assert_eq!(
            rules.action(None, Some(&failed(FailedIn::PreProcessing))),
            (Satisfy, JobAction::Terminate)
        );
        // The exit code's rule wins over the upload's.
        assert_eq!(
            rules.action(Some(3), Some(&failed(FailedIn::FileUpload))),
            (Satisfy, JobAction::Terminate)
        );
        assert_eq!(rules.action(Some(0), Some(&failed(FailedIn::FileUpload))), (Block, JobAction::Disable));
        assert_eq!(rules.action(Some(0), None), (Satisfy, JobAction::None));
    }

    #[test]
    fn success_is_overridden_by_its_exit_code_alone() {
        let block = ExitAction { dependency: Some(DependencyAction::Block), job: None };
        let by_default = ExitConditions { default: Some(block), ..ExitConditions::default() };
        assert_eq!(by_default.action(Some(0), None), (DependencyAction::Satisfy, JobAction::None));
        let by_code = ExitConditions { codes: vec![(0, block)], ..ExitConditions::default() };
        assert_eq!(by_code.action(Some(0), None), (DependencyAction::Block, JobAction::None));
        let nothing = ExitConditions::default();
        let command = failed(FailedIn::Command);
        assert_eq!(nothing.action(Some(1), Some(&command)), (DependencyAction::Block, JobAction::Terminate));
        assert!(nothing.is_default() && !nothing.has_job_action() && !by_code.has_job_action());
    }
}
