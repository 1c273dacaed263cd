//! Which rows are shown.

use muster_client::api::{JobDetail, StepView, TaskLine, TaskList, TaskState};
use muster_core::notation::parse_hosts;

use super::options::Options;
use crate::slurm::job::{Facts, steps_of};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About<'a> {
    Job,
    /// The script.
    Batch,
    /// A step.
    Step(&'a StepView),
}

/// A row.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub about: About<'a>,
    pub line: &'a TaskLine,
    pub job: Option<&'a JobDetail>,
}

impl<'a> Row<'a> {
    pub(super) fn facts(&self) -> Facts<'a> {
        Facts { line: self.line, job: self.job }
    }

    /// When it began, and when it ended, in microseconds since 1970.
    pub(super) fn span_us(&self) -> (Option<u64>, Option<u64>) {
        match self.about {
            About::Step(step) => (Some(step.started_at_us), step.finished_at_us),
            About::Job | About::Batch => (self.line.started_at_us, self.line.finished_at_us),
        }
    }
}

/// The rows that the options ask for.
pub(super) fn rows<'a>(list: &'a TaskList, options: &Options) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for line in list.lines.iter().filter(|line| takes(line, options)) {
        let row = Row { about: About::Job, line, job: list.jobs.get(&line.job) };
        let wanted: Vec<Option<&str>> = options
            .jobs
            .iter()
            .filter(|wanted| wanted.job.job.0 == line.job && line.which.holds(wanted.job.task))
            .map(|wanted| wanted.step.as_deref())
            .collect();
        let is_whole = options.jobs.is_empty() || wanted.contains(&None);
        if is_whole {
            rows.push(row);
        }
        if options.allocations {
            continue;
        }
        let has_batch =
            !line.node_list.is_empty() && line.state != TaskState::Preparing && row.facts().has_script();
        if has_batch && (is_whole || wanted.contains(&Some("batch"))) {
            rows.push(Row { about: About::Batch, ..row });
        }
        let is_wanted = |step: &&StepView| is_whole || wanted.contains(&Some(step.step.to_string().as_str()));
        let steps = steps_of(list, line).filter(is_wanted);
        rows.extend(steps.map(|step| Row { about: About::Step(step), ..row }));
    }
    rows
}

fn takes(line: &TaskLine, options: &Options) -> bool {
    let in_list = |list: &Option<Vec<String>>, value: &str| {
        list.as_ref().is_none_or(|list| list.iter().any(|one| one == value))
    };
    let state = match line.state {
        TaskState::Preparing | TaskState::Ending => TaskState::Running,
        state => state,
    };
    let on_nodes = options.nodes.as_ref().is_none_or(|nodes| {
        let own = parse_hosts(&line.node_list).unwrap_or_default();
        nodes.iter().any(|node| own.contains(node))
    });
    options.states.as_ref().is_none_or(|states| states.iter().any(|name| name.ours == Some(state)))
        && in_list(&options.names, &line.name)
        && in_list(&options.accounts, line.account.as_deref().unwrap_or_default())
        && in_list(&options.pools, &line.pool)
        && in_list(&options.qos, line.qos.as_deref().unwrap_or_default())
        && on_nodes
}
