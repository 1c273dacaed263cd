//! `sacct --json`.

use muster_client::api::{EndView, Which};
use muster_core::notation::parse_hosts;
use serde_json::{Value, json};

use super::fields::View;
use super::rows::{About, Row};
use super::step;
use crate::slurm::job;
use crate::slurm::job_json::{document, exit_code, limit, number};
use crate::slurm::people::People;
use crate::slurm::state;
use crate::slurm::time::Times;

/// The document.
pub(super) fn text(view: &View<'_>, rows: &[Row<'_>]) -> String {
    let people = People::default();
    let mut jobs: Vec<Value> = Vec::new();
    for row in rows {
        match (row.about, jobs.last_mut()) {
            (About::Job, _) => jobs.push(entry(view, row, &people)),
            (About::Batch | About::Step(_), Some(Value::Object(of))) => {
                if let Some(Value::Array(steps)) = of.get_mut("steps") {
                    steps.push(step(view, row));
                }
            }
            (About::Batch | About::Step(_), _) => {}
        }
    }
    document("sacct", json!({ "jobs": jobs }))
}

fn tres(text: &str) -> Value {
    let part = |part: &str| {
        let (name, count) = part.split_once('=')?;
        let (kind, name) = name.split_once('/').unwrap_or((name, ""));
        Some(json!({ "type": kind, "name": name, "count": count }))
    };
    text.split(',').filter_map(part).collect()
}

fn entry(view: &View<'_>, row: &Row<'_>, people: &People) -> Value {
    let (line, facts) = (row.line, row.facts());
    let element = match &line.which {
        Which::Element(index) => Some(u64::from(index.0)),
        _ => None,
    };
    let by = match &line.end {
        Some(EndView::Cancelled { by_uid }) => crate::slurm::people::user_name(*by_uid),
        _ => String::new(),
    };
    let held = if facts.has_run() { facts.tres_held() } else { String::new() };
    json!({
        "account": line.account.clone().unwrap_or_default(),
        "allocation_nodes": if facts.has_run() { line.nodes } else { 0 },
        "array": {
            "job_id": if line.which == Which::Job { 0 } else { line.job },
            "task_id": number(element),
            "task": job::index_text(line, None, 0).unwrap_or_default(),
            "limits": { "max": { "running": { "tasks": line.running_max.unwrap_or(0) } } },
        },
        "association": {
            "account": line.account.clone().unwrap_or_default(),
            "cluster": view.list.cluster,
            "partition": "",
            "user": line.user,
        },
        "cluster": view.list.cluster,
        "comment": { "administrator": "", "job": facts.comment().replace("(null)", ""), "system": "" },
        "constraints": facts.features().replace("(null)", ""),
        "derived_exit_code": exit_code(step::derived_exit(job::steps_of(view.list, line)), line.state),
        "exit_code": exit_code(View::exit(row), line.state),
        "group": row.job.map(|job| people.group(job.gid)).unwrap_or_default(),
        "job_id": job::number(line, None),
        "kill_request_user": by,
        "name": line.name,
        "nodes": if facts.has_run() { line.node_list.as_str() } else { "None assigned" },
        "partition": line.pool,
        "priority": number(Some(job::priority(line).into())),
        "qos": line.qos.clone().unwrap_or_default(),
        "required": { "CPUs": line.cores },
        "restart_cnt": line.restarts,
        "state": { "current": [state::of(line.state).long], "reason": state::reason(line) },
        "stderr": facts.stderr(),
        "stdin": facts.stdin(),
        "stdout": facts.stdout(),
        "steps": [],
        "submit_line": facts.submit_line(),
        "time": {
            "elapsed": view.elapsed_s(row),
            "eligible": Times::seconds(Some(job::eligible_us(line))),
            "end": Times::seconds(line.finished_at_us),
            "limit": limit(line.time_limit_s.map(|seconds| seconds.div_ceil(60))),
            "start": Times::seconds(line.started_at_us),
            "submission": Times::seconds(Some(line.submitted_at_us)),
            "suspended": 0,
            "total": cpu_time(row),
        },
        "tres": { "allocated": tres(&held), "requested": tres(&facts.tres_asked()) },
        "user": line.user,
        "wckey": { "wckey": facts.wckey().replace("(null)", ""), "flags": [] },
        "working_directory": row.job.map(|job| job.working_directory.clone()).unwrap_or_default(),
    })
}

fn cpu_time(row: &Row<'_>) -> Value {
    let us = match row.about {
        About::Step(step) => step::cpu_us(step),
        About::Job | About::Batch => row.line.task.as_ref().map_or(0, |task| task.cpu_time_us),
    };
    json!({ "seconds": us / 1_000_000, "microseconds": us % 1_000_000 })
}

fn step(view: &View<'_>, row: &Row<'_>) -> Value {
    let line = row.line;
    let id = job::id_text(line, None, 0);
    let (start, end) = row.span_us();
    let (id, name, state, nodes, node_list, tasks) = match row.about {
        About::Step(step) => {
            let id = format!("{id}.{}", step.step);
            (id, step.name.as_str(), step.state, step.nodes, &step.node_list, step.ranks)
        }
        About::Job | About::Batch => (format!("{id}.batch"), "batch", line.state, 1, &line.primary, 1),
    };
    let list = parse_hosts(node_list).unwrap_or_default();
    json!({
        "step": { "id": id, "name": name },
        "state": [View::state(row)],
        "exit_code": exit_code(View::exit(row), state),
        "nodes": { "count": nodes, "range": node_list, "list": list },
        "tasks": { "count": tasks },
        "time": {
            "elapsed": view.elapsed_s(row),
            "start": number(Some(Times::seconds(start))),
            "end": number(Some(Times::seconds(end))),
            "total": cpu_time(row),
        },
    })
}
