//! Waiting for jobs of the batch service.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_batch_client::service::Listing;
use muster_batch_client::{BatchClientError, Service};
use serde_json::{Value, json};

use super::listing::at;
use super::{Common, job, progress, task};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::text::tame;

/// First and longest pause between two looks at a job.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// For how long a service that is away is asked again.
const PATIENCE: Duration = Duration::from_secs(300);
/// Most tasks of which it is found out whether they can ever run.
const BLOCKED_MAX: usize = 1000;

/// Arguments of `muster batch job wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch job wait film\n  \
    muster batch job wait film --timeout 3600   give up after an hour, with exit code 124\n\n\
    Exit code: 0 if all tasks succeeded, 10 if one failed or will never run.")]
pub(crate) struct WaitArgs {
    /// The job
    #[arg(value_name = "JOB")]
    id: String,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(super) fn wait(args: &WaitArgs, common: &Common, mut service: Service) -> Result<ExitCode, CliError> {
    service.set_patience(PATIENCE);
    let end = until_end(&service, &args.id, args.timeout.map(Duration::from_secs))?;
    end.tell(common)
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    job: String,
    reason: Option<String>,
    counts: Counts,
    /// Tasks that wait for tasks that have failed.
    blocked: u64,
    is_late: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    active: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
}

impl End {
    pub fn exit(&self) -> Exit {
        if self.is_late {
            return Exit::TimeOut;
        }
        let all = self.counts.failed + self.counts.active + self.counts.running == 0;
        if all { Exit::Ok } else { Exit::SomeFailed }
    }

    /// Says how it ended.
    pub fn tell(&self, common: &Common) -> Result<ExitCode, CliError> {
        let Counts { active, running, succeeded, failed } = self.counts;
        if common.json {
            print_json(&json!({
                "job": self.job, "reason": self.reason, "active": active, "running": running,
                "succeeded": succeeded, "failed": failed, "blocked": self.blocked, "ended": !self.is_late,
            }))?;
            return Ok(self.exit().into());
        }
        let mut sentence = format!("job {}: {succeeded} tasks succeeded, {failed} failed", self.job);
        if active + running > 0 {
            sentence.push_str(&format!(", {} did not end", active + running));
        }
        if self.blocked > 0 {
            sentence.push_str(&format!(
                "; {} wait for tasks that have failed: see muster batch task list {} --failed, then reactivate those \
                 or terminate the job",
                self.blocked, self.job
            ));
        }
        if let Some(reason) = &self.reason {
            sentence.push_str(&format!(" ({})", tame(reason)));
        }
        if self.is_late {
            tell(&format!("muster batch: {sentence}"));
        } else {
            print(&format!("{sentence}\n"))?;
        }
        Ok(self.exit().into())
    }
}

/// Waits until a job has ended, or all of its tasks have, or those that have not never will.
pub(super) fn until_end(
    service: &Service,
    id: &str,
    limit: Option<Duration>,
) -> Result<End, BatchClientError> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    let bar = progress::of_tasks();
    let mut pause = PAUSES[0];
    let mut before = Counts::default();
    loop {
        let shown = service.get(&job::path(id))?;
        let counts = counts(&service.get(&format!("{}/taskcounts", job::path(id)))?);
        show(&bar, id, counts);
        let is_completed = at(&shown, "state") == "completed";
        let has_ended = counts.active + counts.running == 0 && counts.succeeded + counts.failed > 0;
        // Nothing has changed since the last look and nothing runs: perhaps nothing ever will.
        let is_still = counts == before && counts.running == 0 && counts.failed > 0;
        let blocked =
            if is_still && shown["usesTaskDependencies"] == true { blocked(service, id)? } else { 0 };
        // A job that ends with its tasks says its reason a moment later.
        let ends_itself = at(&shown, "onAllTasksComplete") == "terminatejob" && !is_completed;
        let is_late = end.is_some_and(|end| Instant::now() >= end);
        if is_completed || (has_ended && !ends_itself) || (blocked > 0 && blocked == counts.active) || is_late
        {
            bar.finish_and_clear();
            let reason =
                Some(at(&shown, "executionInfo/terminateReason")).filter(|reason| !reason.is_empty());
            let is_late = is_late && !is_completed && !has_ended;
            return Ok(End { job: id.to_owned(), reason, counts, blocked, is_late });
        }
        if counts != before {
            pause = PAUSES[0];
        }
        before = counts;
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(PAUSES[1]);
    }
}

fn counts(body: &Value) -> Counts {
    let count = |name: &str| body["taskCounts"][name].as_u64().unwrap_or(0);
    Counts {
        active: count("active"),
        running: count("running"),
        succeeded: count("succeeded"),
        failed: count("failed"),
    }
}

fn show(bar: &indicatif::ProgressBar, id: &str, counts: Counts) {
    bar.set_length(counts.active + counts.running + counts.succeeded + counts.failed);
    bar.set_position(counts.succeeded + counts.failed);
    bar.set_message(format!("{}: {} run, {} failed", tame(id), counts.running, counts.failed));
}

/// How many tasks wait for a task that has failed, or for one that does so itself.
fn blocked(service: &Service, id: &str) -> Result<u64, BatchClientError> {
    let tasks = format!("{}/tasks", job::path(id));
    let list = |filter: &str, select: &str| {
        let listing = Listing {
            filter: Some(filter.to_owned()),
            select: Some(select.to_owned()),
            limit: Some(BLOCKED_MAX),
        };
        service.list(&tasks, &listing, &[])
    };
    let failed = list(task::FAILED, "id,exitConditions")?;
    // Those whose failure satisfies dependents block nobody.
    let blocks = |task: &&Value| at(task, "exitConditions/default/dependencyAction") != "satisfy";
    let mut dead: HashSet<String> = failed.iter().filter(blocks).map(folded).collect();
    let waiting = list("state eq 'active'", "id,dependsOn")?;
    loop {
        let before = dead.len();
        for task in &waiting {
            if !dead.contains(&folded(task)) && depends(task, &dead) {
                dead.insert(folded(task));
            }
        }
        if dead.len() == before {
            return Ok(waiting.iter().filter(|task| dead.contains(&folded(task))).count() as u64);
        }
    }
}

fn folded(task: &Value) -> String {
    at(task, "id").to_ascii_lowercase()
}

fn depends(task: &Value, dead: &HashSet<String>) -> bool {
    let ids = task["dependsOn"]["taskIds"].as_array().into_iter().flatten();
    let mut ids = ids.filter_map(Value::as_str);
    let ranges = task["dependsOn"]["taskIdRanges"].as_array().into_iter().flatten();
    let mut ranges = ranges.filter_map(|range| Some((range["start"].as_u64()?, range["end"].as_u64()?)));
    ids.any(|id| dead.contains(&id.to_ascii_lowercase()))
        || ranges.any(|(start, end)| {
            let number = |id: &String| id.parse::<u64>().ok();
            dead.iter().filter_map(number).any(|id| (start..=end).contains(&id))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_depends_by_id_and_by_range() {
        let dead: HashSet<String> = ["7".to_owned(), "bad".to_owned()].into();
        for (on, expected) in [
            (json!({ "taskIds": ["good", "BAD"] }), true),
            (json!({ "taskIds": ["good"] }), false),
            (json!({ "taskIdRanges": [{ "start": 1, "end": 7 }] }), true),
            (json!({ "taskIdRanges": [{ "start": 8, "end": 9 }] }), false),
            (Value::Null, false),
        ] {
            assert_eq!(depends(&json!({ "dependsOn": on }), &dead), expected, "{on}");
        }
    }

    #[test]
    fn the_exit_code_says_whether_all_succeeded() {
        let end = |active, failed, is_late| End {
            job: String::new(),
            reason: None,
            counts: Counts { active, running: 0, succeeded: 1, failed },
            blocked: 0,
            is_late,
        };
        assert_eq!(end(0, 0, false).exit(), Exit::Ok);
        assert_eq!(end(0, 1, false).exit(), Exit::SomeFailed);
        assert_eq!(end(1, 0, false).exit(), Exit::SomeFailed);
        assert_eq!(end(1, 0, true).exit(), Exit::TimeOut);
    }
}
