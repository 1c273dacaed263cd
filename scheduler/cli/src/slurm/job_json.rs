//! Jobs as JSON, in the shape of Slurm's data parser 0.0.40.

use muster_client::api::{JobDetail, TaskLine, TaskState, Which};
use serde_json::{Value, json};

use super::connect::SLURM_VERSION;
use super::job::{self, Facts};
use super::people::{People, user_name};
use super::state;
use super::time::Times;
use nix::sys::signal::Signal;

/// A document: the body, with what Slurm's programs put beside it.
pub(super) fn document(command: &str, body: Value) -> String {
    let (major, minor, micro) = SLURM_VERSION;
    let mut all = body;
    if let Value::Object(fields) = &mut all {
        let meta = json!({
            "plugin": { "type": "muster", "name": "Muster", "data_parser": "data_parser/v0.0.40" },
            "command": [command],
            "Slurm": {
                "version": { "major": major.to_string(), "minor": minor.to_string(), "micro": micro.to_string() },
                "release": format!("{major}.{minor:02}.{micro}"),
            },
        });
        fields.insert("meta".to_owned(), meta);
        fields.insert("errors".to_owned(), json!([]));
        fields.insert("warnings".to_owned(), json!([]));
    }
    // Values of serde_json have only string keys, and serialise.
    format!("{all:#}\n")
}

/// A number that may be absent.
pub(super) fn number(value: Option<u64>) -> Value {
    json!({ "set": value.is_some(), "infinite": false, "number": value.unwrap_or(0) })
}

/// A limit: without, there is none.
pub(super) fn limit(value: Option<u64>) -> Value {
    json!({ "set": value.is_some(), "infinite": value.is_none(), "number": value.unwrap_or(0) })
}

/// An exit code as Slurm's parser takes it apart.
pub(super) fn exit_code((code, signal): (u32, u32), state: TaskState) -> Value {
    let status = match (state, code, signal) {
        (TaskState::Waiting, ..) => "PENDING",
        (_, 0, 0) => "SUCCESS",
        (_, _, 0) => "ERROR",
        _ => "SIGNALED",
    };
    let name = i32::try_from(signal).ok().and_then(|number| Signal::try_from(number).ok());
    let name = name.map(|name| name.as_str().trim_start_matches("SIG").to_owned()).unwrap_or_default();
    json!({
        "status": [status],
        "return_code": number(Some(code.into())),
        "signal": { "id": number((signal > 0).then_some(signal.into())), "name": name },
    })
}

/// A text, empty where Slurm's tables show `(null)` or `N/A`.
fn or_empty(text: String) -> String {
    if matches!(text.as_str(), "(null)" | "N/A") { String::new() } else { text }
}

/// A job as squeue and scontrol show it.
pub(super) fn job(line: &TaskLine, job: Option<&JobDetail>, cluster: &str, people: &People) -> Value {
    let facts = Facts { line, job };
    let is_array = line.which != Which::Job;
    let element = match &line.which {
        Which::Element(index) => Some(u64::from(index.0)),
        _ => None,
    };
    let indices = match &line.which {
        Which::Elements(_) => job::index_text(line, None, 0).unwrap_or_default(),
        _ => String::new(),
    };
    let gid = job.map_or(0, |job| job.gid);
    let (memory, per_core) = facts.memory_asked_bytes();
    let mib = (memory > 0).then_some(memory >> 20);
    let request = facts.request();
    let held = if facts.has_run() { facts.tres_held() } else { String::new() };
    let time = |at: Option<u64>| number(Some(Times::seconds(at)));
    json!({
        "account": line.account.clone().unwrap_or_default(),
        "accrue_time": time(Some(job::eligible_us(line))),
        "array_job_id": number(Some(if is_array { line.job } else { 0 })),
        "array_task_id": number(element),
        "array_max_tasks": number(Some(line.running_max.unwrap_or(0).into())),
        "array_task_string": indices,
        "batch_flag": true,
        "batch_host": line.primary,
        "cluster": cluster,
        "command": or_empty(facts.command()),
        "comment": or_empty(facts.comment()),
        "contiguous": request.is_some_and(|request| request.contiguous),
        "cpus": number(Some(line.cores)),
        "cpus_per_task": number(request.map(|request| request.cores_per_rank.into())),
        "current_working_directory": job.map(|job| job.working_directory.clone()).unwrap_or_default(),
        "deadline": time(facts.deadline_us()),
        "dependency": or_empty(facts.dependency()),
        "derived_exit_code": exit_code(state::exit(line), line.state),
        "eligible_time": time(Some(job::eligible_us(line))),
        "end_time": time(job::end_us(line)),
        "excluded_nodes": facts.excluded(),
        "exit_code": exit_code(state::exit(line), line.state),
        "features": or_empty(facts.features()),
        "flags": [],
        "group_id": gid,
        "group_name": people.group(gid),
        "hold": line.reason_code.starts_with("held_by_"),
        "job_id": job::number(line, None),
        "job_state": [state::of(line.state).long],
        "licenses": or_empty(facts.licenses()),
        "max_nodes": number(Some(request.and_then(|request| request.nodes_max).unwrap_or(0).into())),
        "memory_per_cpu": number(mib.filter(|_| per_core)),
        "memory_per_node": number(mib.filter(|_| !per_core)),
        "minimum_cpus_per_node": number(request.map(|request| request.cores_per_rank.into())),
        "name": line.name,
        "nice": facts.nice(),
        "node_count": number(Some(line.nodes.into())),
        "nodes": line.node_list,
        "partition": line.pool,
        "priority": number(Some(job::priority(line).into())),
        "qos": line.qos.clone().unwrap_or_default(),
        "requeue": job.is_some_and(|job| job.requeue),
        "required_nodes": facts.nodes_wanted(),
        "restart_cnt": line.restarts,
        "resv_name": line.reservation.clone().unwrap_or_default(),
        "shared": if request.is_some_and(|request| request.exclusive) { vec!["none"] } else { vec![] },
        "standard_error": facts.stderr(),
        "standard_input": facts.stdin(),
        "standard_output": facts.stdout(),
        "start_time": time(job::start_us(line)),
        "state_description": "",
        "state_reason": state::reason(line),
        "submit_time": time(Some(line.submitted_at_us)),
        "tasks": number(Some(line.ranks.into())),
        "tasks_per_node": number(request.and_then(|request| request.ranks_per_node).map(u64::from)),
        "threads_per_core": number(request.and_then(|request| request.threads_per_core).map(u64::from)),
        "time_limit": limit(line.time_limit_s.map(|seconds| seconds.div_ceil(60))),
        "tres_alloc_str": held,
        "tres_per_node": or_empty(facts.tres_per_node()),
        "tres_req_str": facts.tres_asked(),
        "user_id": line.uid,
        "user_name": if line.user.is_empty() { user_name(line.uid) } else { line.user.clone() },
        "wckey": or_empty(facts.wckey()),
    })
}
