//! What a job must be like to be accepted.

use super::{charge, conditions, pools, reservations, shape};
use crate::cluster::{ClusterConfig, PoolConfig};
use crate::ids::Timestamp;
use crate::input::{Caller, Refusal};
use crate::notation::format_time_s;
use crate::plan::never_fits;
use crate::priority::JOB_PRIORITY_MAX;
use crate::spec::{
    ARGUMENTS_BYTES_MAX, ARRAY_ELEMENTS_MAX, ARRAY_INDEX_MAX, ENVIRONMENT_BYTES_MAX, JobSpec,
    LICENSE_KINDS_MAX, NAME_BYTES_MAX, NOTE_BYTES_MAX, PATH_BYTES_MAX, RANKS_MAX, SCRIPT_BYTES_MAX,
    SIGNAL_BEFORE_MAX_S, SIGNAL_MAX,
};
use crate::state::State;

/// Which parts of a spec are checked against the cluster as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// The priority.
    pub priority: bool,
    /// The account and the quality of service.
    pub charge: bool,
    /// Whether the pool could ever hold it.
    pub room: bool,
    /// Begin, deadline and dependency.
    pub conditions: bool,
    /// The advance reservation.
    pub reservation: bool,
    /// The pool's longest time.
    pub time_limit: bool,
    /// Whether a pool of the batch service will do.
    pub lent: bool,
}

impl Parts {
    pub const ALL: Self = Self {
        priority: true,
        charge: true,
        room: true,
        conditions: true,
        reservation: true,
        time_limit: true,
        lent: false,
    };
}

/// Checks the spec of a new job and fills in the pool's defaults.
pub(super) fn validate(
    state: &State,
    caller: Caller,
    spec: &JobSpec,
    now: Timestamp,
) -> Result<JobSpec, Refusal> {
    let spec = check(state, caller, spec.clone(), Parts::ALL, now)?;
    check_licenses(state, &spec)?;
    pools::check_takes_jobs(state, spec.pool.as_deref().unwrap_or_default())?;
    let (policy, tasks) = (&state.config.policy, check_array(&spec)?);
    if state.waiting_count() + tasks > policy.tasks_waiting_max {
        let limit = policy.tasks_waiting_max;
        return Err(Refusal::LimitReached { what: "too many tasks wait", limit, key: "tasks_waiting_max" });
    }
    if state.jobs_of_user(spec.user.uid) >= policy.jobs_per_user_max {
        let limit = u64::from(policy.jobs_per_user_max);
        return Err(Refusal::LimitReached {
            what: "you have too many unfinished jobs",
            limit,
            key: "jobs_per_user_max",
        });
    }
    Ok(spec)
}

/// Checks a spec and fills in the pool's defaults. What a job was accepted with is not checked again when something
/// else of it changes: the cluster may have changed since.
pub(super) fn check(
    state: &State,
    caller: Caller,
    mut spec: JobSpec,
    parts: Parts,
    now: Timestamp,
) -> Result<JobSpec, Refusal> {
    if spec.user.uid == 0 && !state.config.policy.root_may_submit {
        return Err(Refusal::RootMayNotSubmit);
    }
    check_texts(&spec)?;
    check_notes(&spec)?;
    check_signal(&spec)?;
    if parts.room {
        shape::check(&mut spec.request)?;
        check_request(&spec)?;
    }
    if parts.priority {
        check_priority(caller, &spec)?;
    }
    check_array(&spec)?;
    if let Some(staging) = &spec.staging {
        staging.check().map_err(|problem| bad("staging", problem.to_string()))?;
        if !parts.lent && staging.uses_auto_storage() {
            let why = "containers of the embedded store are named by tasks of the batch service alone: write a signed address";
            return Err(bad("staging", why));
        }
    }
    if parts.charge {
        charge::check(state, &mut spec)?;
    }
    let config = if parts.lent { &state.config } else { state.declared_config() };
    let pool = find_pool(config, spec.pool.as_deref())?;
    spec.pool = Some(pool.name.clone());
    let limit = spec.time_limit_s.unwrap_or(pool.time_default_s.min(pool.time_max_s));
    if parts.time_limit && limit > pool.time_max_s {
        return Err(Refusal::TimeLimit {
            asked: format_time_s(limit),
            pool: pool.name.clone(),
            limit: format_time_s(pool.time_max_s),
        });
    }
    if limit == 0 {
        return Err(bad("time limit", "must be at least one second"));
    }
    spec.time_limit_s = Some(limit);
    if parts.room {
        never_fits(state, pool, &spec.request)?;
    }
    if parts.conditions {
        conditions::check(state, &spec, now)?;
    }
    if parts.reservation || parts.room {
        reservations::check(state, pool, &spec, now)?;
    }
    spec.share();
    Ok(spec)
}

fn check_signal(spec: &JobSpec) -> Result<(), Refusal> {
    let Some(wish) = spec.signal else { return Ok(()) };
    if wish.signal == 0 || wish.signal > SIGNAL_MAX || wish.before_s > SIGNAL_BEFORE_MAX_S {
        let problem = format!(
            "must be a signal from 1 to {SIGNAL_MAX}, at most {SIGNAL_BEFORE_MAX_S} s before the end"
        );
        return Err(bad("signal", problem));
    }
    Ok(())
}

pub(super) fn bad(field: &'static str, problem: impl Into<String>) -> Refusal {
    Refusal::BadField { field, problem: problem.into() }
}

fn find_pool<'a>(config: &'a ClusterConfig, name: Option<&str>) -> Result<&'a PoolConfig, Refusal> {
    let pools = &config.pools;
    let found = match name {
        Some(name) => pools.iter().find(|pool| pool.name == name),
        None => pools.iter().find(|pool| pool.default).or(pools.first()),
    };
    found.ok_or_else(|| Refusal::UnknownPool {
        pool: name.unwrap_or("(default)").to_owned(),
        known: pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn check_texts(spec: &JobSpec) -> Result<(), Refusal> {
    let control = |text: &str| text.chars().any(char::is_control);
    if spec.name.is_empty() || spec.name.len() > NAME_BYTES_MAX || control(&spec.name) {
        return Err(bad(
            "job name",
            format!("must have 1 to {NAME_BYTES_MAX} bytes and no control characters"),
        ));
    }
    if spec.script.len() > SCRIPT_BYTES_MAX {
        return Err(bad(
            "script",
            format!("has {} bytes; at most {SCRIPT_BYTES_MAX} are allowed", spec.script.len()),
        ));
    }
    if !spec.script.starts_with("#!") {
        return Err(bad("script", "its first line must name an interpreter, such as #!/bin/bash"));
    }
    let arguments: usize = spec.arguments.iter().map(String::len).sum();
    if arguments > ARGUMENTS_BYTES_MAX {
        return Err(bad(
            "arguments",
            format!("have {arguments} bytes; at most {ARGUMENTS_BYTES_MAX} are allowed"),
        ));
    }
    let environment: usize = spec.environment.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    if environment > ENVIRONMENT_BYTES_MAX {
        let problem =
            format!("has {environment} bytes; at most {ENVIRONMENT_BYTES_MAX} are allowed: use --export");
        return Err(bad("environment", problem));
    }
    let bad_name = |name: &&String| name.is_empty() || name.contains('=') || name.contains('\0');
    if let Some(name) = spec.environment.keys().find(bad_name) {
        return Err(bad("environment", format!("{name:?} cannot name a variable")));
    }
    let texts = spec.arguments.iter().chain(spec.environment.values()).chain([&*spec.script]);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(bad("script", "script, arguments and environment may not contain a zero byte"));
    }
    if !spec.working_directory.starts_with('/') {
        return Err(bad("working directory", "must be an absolute path"));
    }
    let paths =
        [Some(&spec.working_directory), spec.stdin.as_ref(), spec.stdout.as_ref(), spec.stderr.as_ref()];
    if paths.into_iter().flatten().any(|path| path.len() > PATH_BYTES_MAX || path.contains('\0')) {
        return Err(bad("path", format!("paths have at most {PATH_BYTES_MAX} bytes and no zero byte")));
    }
    Ok(())
}

fn check_request(spec: &JobSpec) -> Result<(), Refusal> {
    let request = &spec.request;
    if request.ranks == 0 || request.ranks > RANKS_MAX {
        return Err(bad("ranks", format!("must be 1 to {RANKS_MAX}")));
    }
    if request.cores_per_rank == 0 || request.cores_per_rank > crate::cores::CORES_PER_NODE_MAX {
        return Err(bad("cores per rank", format!("must be 1 to {}", crate::cores::CORES_PER_NODE_MAX)));
    }
    if request.ranks_per_node == Some(0) {
        return Err(bad("ranks per node", "must be at least 1"));
    }
    if let Some(nodes) = request.nodes {
        if nodes == 0 {
            return Err(bad("nodes", "must be at least 1"));
        }
        if nodes > request.ranks {
            let problem =
                format!("{nodes} nodes cannot share {} ranks: each node holds at least one", request.ranks);
            return Err(bad("nodes", problem));
        }
        let most = request.ranks_per_node.map_or(u64::MAX, |per_node| u64::from(per_node) * u64::from(nodes));
        if u64::from(request.ranks) > most {
            let problem = format!("{} ranks do not fit on {nodes} nodes: at most {most}", request.ranks);
            return Err(bad("ranks per node", problem));
        }
    }
    Ok(())
}

/// Licences must be declared, and enough of them.
fn check_licenses(state: &State, spec: &JobSpec) -> Result<(), Refusal> {
    if spec.licenses.len() > LICENSE_KINDS_MAX {
        return Err(bad("licenses", format!("names more than {LICENSE_KINDS_MAX} licences")));
    }
    for (name, count) in &spec.licenses {
        let Some(total) = state.config.licenses.get(name) else {
            let known: Vec<&str> = state.config.licenses.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(bad("licenses", format!("there is no licence '{name}'; there are: {known}")));
        };
        if count > total || *count == 0 {
            return Err(bad("licenses", format!("1 to {total} of '{name}' can be asked for, not {count}")));
        }
    }
    Ok(())
}

/// What is kept for people and for the site: short, and of one line.
fn check_notes(spec: &JobSpec) -> Result<(), Refusal> {
    let mail = spec.mail.as_ref();
    let notes = [
        ("comment", spec.comment.as_ref()),
        ("path of the script", spec.command.as_ref()),
        ("command line", spec.submit_line.as_ref()),
        ("wckey", spec.wckey.as_ref()),
        ("mail address", mail.and_then(|mail| mail.to.as_ref())),
    ];
    let wrong = |text: &String| text.len() > NOTE_BYTES_MAX || text.chars().any(char::is_control);
    if let Some((field, _)) = notes.iter().find(|(_, text)| text.is_some_and(wrong)) {
        return Err(bad(
            field,
            format!("must have at most {NOTE_BYTES_MAX} bytes and no control characters"),
        ));
    }
    // The address is a word on the command line of the site's program.
    let is_word = |to: &String| !to.is_empty() && !to.starts_with('-') && !to.contains(char::is_whitespace);
    if mail.and_then(|mail| mail.to.as_ref()).is_some_and(|to| !is_word(to)) {
        return Err(bad("mail address", "must be a word that does not begin with -"));
    }
    if mail.is_some_and(|mail| mail.events.is_empty()) {
        return Err(bad("mail", "must name what to tell of, such as end"));
    }
    Ok(())
}

fn check_priority(caller: Caller, spec: &JobSpec) -> Result<(), Refusal> {
    if !(-JOB_PRIORITY_MAX..=JOB_PRIORITY_MAX).contains(&spec.priority) {
        return Err(bad("priority", format!("must be -{JOB_PRIORITY_MAX} to {JOB_PRIORITY_MAX}")));
    }
    if spec.priority > 0 && !caller.admin {
        return Err(Refusal::NotAdmin { what: "raise a priority above 0" });
    }
    Ok(())
}

/// Checks the array and says how many tasks the job has.
fn check_array(spec: &JobSpec) -> Result<u64, Refusal> {
    let Some(array) = &spec.array else { return Ok(1) };
    if array.running_max == Some(0) {
        return Err(bad("array", "at least one element must be allowed to run: %1 or more"));
    }
    if array.indices.is_empty() {
        return Err(bad("array", "has no element"));
    }
    for range in &array.indices {
        let whole = range.step > 0
            && range.first <= range.last
            && (range.last - range.first).is_multiple_of(range.step);
        if !whole || range.last > ARRAY_INDEX_MAX {
            return Err(bad("array", format!("indices are rising and at most {ARRAY_INDEX_MAX}")));
        }
    }
    if array.indices.windows(2).any(|pair| pair[0].last >= pair[1].first) {
        return Err(bad("array", "its ranges must be rising and may not overlap"));
    }
    let count: u64 = array.indices.iter().map(|range| range.len()).sum();
    if count > ARRAY_ELEMENTS_MAX {
        return Err(bad("array", format!("has {count} elements; at most {ARRAY_ELEMENTS_MAX} are allowed")));
    }
    Ok(count)
}
