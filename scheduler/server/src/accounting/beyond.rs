//! What is told of a finished task and no column of its row tells: as little as can be, since every task pays for it.

use std::borrow::Cow;

use muster_client::api::{EndView, JobDetail, ShareView, TaskState, TaskView};
use muster_core::ids::TaskIndex;
use muster_core::patterns::Names;
use muster_store::TaskRow;
use serde::{Deserialize, Serialize};

use crate::outputs::Outputs;

/// What the client API answers for a task and no column tells, nor its job.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Beyond<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    preempted: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<Share<'a>>,
    /// Left out where it is when the script started.
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_limit_s: Option<u64>,
    /// Left out where the script exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Cow<'a, EndView>>,
    /// In rows of earlier releases: it follows from the job.
    #[serde(skip_serializing)]
    stdout_path: Option<String>,
    /// Left out there where it is the other one.
    #[serde(skip_serializing)]
    stderr_path: Option<String>,
}

/// What a task held on one node.
#[derive(Serialize, Deserialize)]
struct Share<'a> {
    /// Left out where it is the only one: a column names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Cow<'a, str>>,
    cores: Cow<'a, str>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    ranks: u32,
    #[serde(default, skip_serializing_if = "is_no_memory")]
    memory_bytes: u64,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    gres: Cow<'a, [String]>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

fn is_no_memory(bytes: &u64) -> bool {
    *bytes == 0
}

impl<'a> Share<'a> {
    fn of(share: &'a ShareView, is_only: bool) -> Self {
        Self {
            node: (!is_only).then_some(Cow::Borrowed(&share.node)),
            cores: Cow::Borrowed(&share.cores),
            ranks: share.ranks,
            memory_bytes: share.memory_bytes,
            gres: Cow::Borrowed(&share.gres),
        }
    }

    fn view(self, row: &TaskRow) -> ShareView {
        ShareView {
            node: self.node.map_or_else(|| row.nodes.clone(), Cow::into_owned),
            cores: self.cores.into_owned(),
            ranks: self.ranks,
            memory_bytes: self.memory_bytes,
            gres: self.gres.into_owned(),
        }
    }
}

/// What the row of a task has beyond its columns, as JSON.
pub(super) fn the_columns(task: &TaskView) -> Option<String> {
    let exited = task.exit_code.map(|code| EndView::Exited { code });
    let is_only = task.shares.len() == 1;
    let beyond = Beyond {
        preempted: task.preempted,
        shares: task.shares.iter().map(|share| Share::of(share, is_only)).collect(),
        placed_at_us: task.placed_at_us.filter(|_| task.placed_at_us != task.started_at_us),
        time_limit_s: task.time_limit_s,
        end: task.end.as_ref().filter(|end| Some(*end) != exited.as_ref()).map(Cow::Borrowed),
        stdout_path: None,
        stderr_path: None,
    };
    serde_json::to_string(&beyond).ok()
}

/// The task of a row of `job`.
#[must_use]
pub fn view_of(job: &JobDetail, row: &TaskRow, index: TaskIndex) -> TaskView {
    let text = row.view.as_deref();
    // Rows of earlier releases hold all of it.
    if let Some(whole) = text.and_then(|text| serde_json::from_str::<TaskView>(text).ok()) {
        return whole;
    }
    let own = text.and_then(|text| serde_json::from_str::<Beyond<'_>>(text).ok());
    let has_own = own.is_some();
    let own = own.unwrap_or_default();
    let shares: Vec<ShareView> = own.shares.into_iter().map(|share| share.view(row)).collect();
    let (stdout_path, stderr_path) = match (own.stdout_path, shares.first()) {
        (Some(stdout), _) => (stdout.clone(), own.stderr_path.unwrap_or(stdout)),
        (None, Some(primary)) => paths(job, row, index, &primary.node),
        (None, None) => Default::default(),
    };
    let exited = || row.exit_code.map(|code| EndView::Exited { code }).filter(|_| has_own);
    TaskView {
        index: index.0,
        state: TaskState::ALL.into_iter().find(|s| s.word() == row.state).unwrap_or(TaskState::Cancelled),
        attempt: row.attempts,
        preempted: own.preempted,
        shares,
        placed_at_us: own.placed_at_us.or(row.started_us.filter(|_| has_own)),
        started_at_us: row.started_us,
        finished_at_us: Some(row.ended_us),
        time_limit_s: own.time_limit_s,
        exit_code: row.exit_code,
        signal: row.signal,
        reason: row.reason.clone(),
        end: own.end.map(Cow::into_owned).or_else(exited),
        cpu_time_us: row.cpu_time_us,
        memory_peak_bytes: row.memory_peak_bytes,
        stdout_path,
        stderr_path,
    }
}

/// The paths of a task's output. A job's name may be changed, and the row has that of the task's own time.
fn paths(job: &JobDetail, row: &TaskRow, index: TaskIndex, primary: &str) -> (String, String) {
    let names = Names {
        job: row.job,
        task: job.array_spec.is_some().then_some(index),
        restarts: row.attempts.saturating_sub(1),
        job_name: &row.name,
        user: &row.user,
        host: primary,
    };
    Outputs::from(job).shown(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use muster_core::ids::JobId;
    use muster_store::TaskSpan;
    use serde_json::json;

    use super::*;
    use crate::accounting::with_view;

    /// An array that was called "a" and is called "b" by now, with these patterns of its output.
    fn job(stdout: Option<&str>, stderr: Option<&str>, has_folders: bool) -> JobDetail {
        let job = json!({
            "schema": 1, "job": 1, "name": "b", "user": "ann", "pool": "main", "state": "completed", "tasks": {"completed": 9},
            "array": true, "nodes": 1, "ranks": 1, "cores": 1, "node_list": "", "submitted_at_us": 1, "started_at_us": 5,
            "finished_at_us": 9, "time_limit_s": null, "priority": 0, "reason": "",
            "working_directory": "/w", "stdout": stdout, "stderr": stderr, "has_folders": has_folders,
            "request": {"nodes": 1, "ranks": 1, "ranks_per_node": null, "cores_per_rank": 1, "memory": "pool_default", "exclusive": false},
            "array_spec": {"indices": [{"first": 0, "last": 8, "step": 1}], "running_max": null},
            "requeue": true, "task_list": [], "version": 1
        });
        serde_json::from_value(job).unwrap()
    }

    fn blank(state: TaskState) -> TaskRow {
        TaskRow {
            job: JobId(1),
            span: TaskSpan::one(TaskIndex(7)),
            attempts: 0,
            name: "a".to_owned(),
            user: "ann".to_owned(),
            uid: 1,
            pool: "main".to_owned(),
            state: state.word().to_owned(),
            exit_code: None,
            signal: None,
            reason: String::new(),
            nodes: String::new(),
            cores: 0,
            submitted_us: 1,
            started_us: None,
            ended_us: 9,
            cpu_time_us: 0,
            memory_peak_bytes: 0,
            view: None,
        }
    }

    fn share(node: &str) -> ShareView {
        let gres = vec!["gpu:1(IDX:0)".to_owned()];
        ShareView { node: node.to_owned(), cores: "0-3".to_owned(), ranks: 4, memory_bytes: 1 << 30, gres }
    }

    /// A task that did what it should.
    fn completed() -> TaskView {
        TaskView {
            index: 7,
            state: TaskState::Completed,
            attempt: 2,
            preempted: 0,
            shares: vec![share("n1")],
            placed_at_us: Some(5),
            started_at_us: Some(5),
            finished_at_us: Some(9),
            time_limit_s: None,
            exit_code: Some(0),
            signal: None,
            reason: "exit code 0".to_owned(),
            end: Some(EndView::Exited { code: 0 }),
            cpu_time_us: 3,
            memory_peak_bytes: 4096,
            stdout_path: "/w/a-1_7.1.n1".to_owned(),
            stderr_path: "/w/a-1_7.1.n1".to_owned(),
        }
    }

    #[test]
    fn what_a_row_tells_of_a_task_is_what_was_shown() {
        let shown = completed();
        let exited = |state, code| TaskView { state, exit_code: Some(code), ..shown.clone() };
        let plain = ShareView { ranks: 1, memory_bytes: 0, gres: Vec::new(), ..share("n1") };
        let tasks = [
            shown.clone(),
            TaskView { placed_at_us: Some(4), time_limit_s: Some(60), ..shown.clone() },
            TaskView { shares: vec![plain], ..shown.clone() },
            TaskView { shares: vec![share("n1"), share("n2")], ..shown.clone() },
            TaskView { end: Some(EndView::Exited { code: 3 }), ..exited(TaskState::Failed, 3) },
            TaskView { end: Some(EndView::OutOfMemory), ..exited(TaskState::OutOfMemory, 1) },
            TaskView {
                preempted: 1,
                started_at_us: None,
                exit_code: None,
                end: Some(EndView::Cancelled { by_uid: 5 }),
                ..exited(TaskState::Cancelled, 0)
            },
            TaskView {
                exit_code: None,
                signal: Some(9),
                end: Some(EndView::Signalled { signal: 9 }),
                ..exited(TaskState::Failed, 0)
            },
        ];
        let job = job(Some("%x-%A_%a.%r.%N"), None, false);
        for task in tasks {
            let row = with_view(blank(task.state), task.clone());
            assert_eq!(view_of(&job, &row, TaskIndex(7)), task, "{row:?}");
            let whole = TaskRow { view: serde_json::to_string(&task).ok(), ..row };
            assert_eq!(view_of(&job, &whole, TaskIndex(7)), task, "a row of an early release");
        }
    }

    #[test]
    fn the_paths_of_output_follow_from_the_job_and_the_row() {
        let row = with_view(blank(TaskState::Completed), completed());
        let paths = |job: &JobDetail, row: &TaskRow| {
            let task = view_of(job, row, TaskIndex(7));
            (task.stdout_path, task.stderr_path)
        };
        for (job, stdout, stderr) in [
            (job(None, None, false), "/w/muster-1_7.out", "/w/muster-1_7.out"),
            (job(Some("/o/%a"), Some("%u.err"), false), "/o/7", "/w/ann.err"),
            (job(None, None, true), "", ""),
            (job(None, Some("/e/%a"), true), "", "/e/7"),
        ] {
            assert_eq!(paths(&job, &row), (stdout.to_owned(), stderr.to_owned()));
        }
        let job = job(None, None, false);
        let never_placed = TaskView { shares: Vec::new(), attempt: 0, ..completed() };
        let never_placed = with_view(blank(TaskState::Cancelled), never_placed);
        assert_eq!(paths(&job, &never_placed), (String::new(), String::new()));
        // As rows of earlier releases have them.
        for (view, stderr) in [
            (r#"{"shares":[{"node":"n1","cores":"0","ranks":1,"memory_bytes":0}],"stdout_path":"/x"}"#, "/x"),
            (r#"{"shares":[],"stdout_path":"/x","stderr_path":"/y"}"#, "/y"),
        ] {
            let row = TaskRow { view: Some(view.to_owned()), ..row.clone() };
            assert_eq!(paths(&job, &row), ("/x".to_owned(), stderr.to_owned()));
        }
    }

    #[test]
    fn little_is_written_of_a_small_task() {
        let small =
            ShareView { cores: "3".to_owned(), ranks: 1, memory_bytes: 0, gres: Vec::new(), ..share("n1") };
        let row = with_view(blank(TaskState::Completed), TaskView { shares: vec![small], ..completed() });
        assert_eq!(row.view.as_deref(), Some(r#"{"shares":[{"cores":"3"}]}"#));
    }
}
