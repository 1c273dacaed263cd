//! Where the standard output and error of a job's tasks go.

use muster_client::api::JobDetail;
use muster_core::ids::{JobId, TaskIndex};
use muster_core::patterns::{self, Names};
use muster_core::spec::JobSpec;

/// What a job says of its tasks' output, none of which changes while there is the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outputs<'a> {
    working_directory: &'a str,
    /// Pattern of the standard output, if the job says one.
    stdout: Option<&'a str>,
    /// Pattern of the standard error, if it is not where the output is.
    stderr: Option<&'a str>,
    /// Whether tasks have folders of their own on their nodes.
    has_folders: bool,
    is_array: bool,
}

impl<'a> From<&'a JobSpec> for Outputs<'a> {
    fn from(spec: &'a JobSpec) -> Self {
        Self {
            working_directory: &spec.working_directory,
            stdout: spec.stdout.as_deref(),
            stderr: spec.stderr.as_deref(),
            has_folders: spec.staging.is_some(),
            is_array: spec.array.is_some(),
        }
    }
}

impl<'a> From<&'a JobDetail> for Outputs<'a> {
    fn from(job: &'a JobDetail) -> Self {
        Self {
            working_directory: &job.working_directory,
            stdout: job.stdout.as_deref(),
            stderr: job.stderr.as_deref(),
            has_folders: job.has_folders,
            is_array: job.array_spec.is_some(),
        }
    }
}

impl Outputs<'_> {
    /// The paths of a task's standard output and error, patterns replaced; the second is empty if they are one.
    pub fn paths(&self, names: Names<'_>) -> (String, String) {
        let expand = |pattern: &str| patterns::expand(pattern, names, self.working_directory);
        let stderr = self.stderr.map(expand).unwrap_or_default();
        if self.has_folders && self.stdout.is_none() {
            // The node knows where the task's own folder is.
            return (String::new(), stderr);
        }
        (expand(self.stdout.unwrap_or(patterns::default_output(self.is_array))), stderr)
    }

    /// The paths as they are shown: the second is the first where they are one.
    pub fn shown(&self, names: Names<'_>) -> (String, String) {
        let (stdout, stderr) = self.paths(names);
        let stderr = if stderr.is_empty() { stdout.clone() } else { stderr };
        (stdout, stderr)
    }
}

/// What the patterns of a task's paths are replaced with.
pub(crate) fn names<'a>(
    job: JobId,
    spec: &'a JobSpec,
    index: TaskIndex,
    attempt: u32,
    primary: &'a str,
) -> Names<'a> {
    let task = spec.array.is_some().then_some(index);
    let restarts = attempt.saturating_sub(1);
    Names { job, task, restarts, job_name: &spec.name, user: &spec.user.name, host: primary }
}
