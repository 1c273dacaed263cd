//! Makes tasks into jobs of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::{BatchPoolKey, BatchTaskKey, TaskShape};
use crate::engine::validate::{self, Parts};
use crate::ids::Timestamp;
use crate::input::{Caller, Refusal};
use crate::spec::{JobSpec, Memory, NAME_BYTES_MAX, Request};
use crate::staging::{Command, RelativePath, Staging};
use crate::state::{BatchJob, BatchPool, BatchTask, State};

/// Cores and memory that every declared node of a configured pool has.
pub(super) fn node_of(state: &State, home: &str) -> Option<(u32, u64)> {
    let kinds = state.pool_nodes(home).map(|nodes| nodes.kinds.as_slice()).unwrap_or_default();
    let nodes = || kinds.iter().map(|kind| state.node(kind.node));
    Some((nodes().map(|node| node.cores).min()?, nodes().map(|node| node.memory_bytes).min()?))
}

/// What a task of so many slots asks for: its part of a node's cores and memory, with a rank for each core, so that MPI programs may
/// start as many; the whole of each node for a task of several.
fn request(state: &State, pool: &BatchPool, shape: &TaskShape) -> Request {
    let (cores, memory) = node_of(state, &pool.spec.home).unwrap_or((1, 0));
    let (slots, of) = (u64::from(shape.slots), u64::from(pool.spec.slots_per_node.max(1)));
    let part = u32::try_from(u64::from(cores) * slots / of).unwrap_or(u32::MAX).max(1);
    let memory = u64::try_from(u128::from(memory) * u128::from(slots) / u128::from(of)).unwrap_or(u64::MAX);
    let instances = shape.instances();
    Request {
        nodes: Some(instances),
        ranks: part.saturating_mul(instances),
        ranks_per_node: Some(part),
        memory: Memory::PerNodeBytes(memory),
        ..Request::default()
    }
}

/// The job of the cluster that a task is made into, checked.
pub(super) fn spec(
    state: &State,
    key: &BatchTaskKey,
    job: &BatchJob,
    task: &BatchTask,
    now: Timestamp,
) -> Result<JobSpec, Refusal> {
    let shape = job.shape(task);
    let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
    let pool = state.batch_pool(&pool_key);
    let request = pool.map(|pool| request(state, pool, shape)).unwrap_or_default();
    let command =
        Command::parse(&task.command).map_err(|error| validate::bad("commandLine", error.to_string()))?;
    let (job_id, task_id) = (&job.spec.id, task.id(&key.task));
    let mut name = format!("{}/{job_id}/{task_id}", key.account);
    name.truncate(NAME_BYTES_MAX);
    let pool_id = pool.map_or_else(|| job.spec.pool.to_string(), |pool| pool.spec.id.clone());
    let fixed = [
        ("AZ_BATCH_ACCOUNT_NAME", key.account.to_string()),
        ("AZ_BATCH_POOL_ID", pool_id),
        ("AZ_BATCH_JOB_ID", job_id.clone()),
        ("AZ_BATCH_TASK_ID", task_id.to_owned()),
        ("AZ_BATCH_NODE_IS_DEDICATED", "true".to_owned()),
    ];
    let mut environment: BTreeMap<String, String> =
        [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    environment.extend(job.spec.environment.iter().chain(&shape.environment).cloned());
    environment.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
    let spec = JobSpec {
        name,
        pool: Some(pool_key.pool_name()),
        user: shape.user.clone(),
        script: "#!/bin/false\n".to_owned(),
        arguments: Vec::new(),
        environment,
        working_directory: "/".to_owned(),
        stdin: None,
        stdout: None,
        stderr: None,
        append: false,
        umask: 0o022,
        limits: BTreeMap::new(),
        submit_host: String::new(),
        request,
        time_limit_s: shape.wall_clock_max_s.map(|limit| limit.min(crate::batch::TASK_LIFE_MAX_S)),
        array: None,
        requeue: true,
        priority: job.spec.priority,
        eligibility: Default::default(),
        account: None,
        qos: None,
        reservation: None,
        signal: None,
        comment: None,
        command: None,
        submit_line: None,
        nice: 0,
        wckey: None,
        mail: None,
        licenses: BTreeMap::new(),
        staging: Some(Arc::new(staging(key, shape, command)?)),
    };
    // Its pool may be small at this instant and larger later, and its priority counts within the pool alone.
    let parts = Parts { room: false, priority: false, conditions: false, lent: true, ..Parts::ALL };
    let caller = Caller { uid: shape.user.uid, admin: false };
    validate::check(state, caller, spec, parts, now)
}

/// The folder of a task on its node, below the node's root for work.
fn folder(key: &BatchTaskKey) -> String {
    format!("workitems/{}/job-1/{}", key.job, key.task)
}

/// The task's files, its folder and its commands. Its command runs in the place of a script, without a shell.
fn staging(key: &BatchTaskKey, shape: &TaskShape, command: Command) -> Result<Staging, Refusal> {
    let folder =
        RelativePath::try_from(folder(key)).map_err(|error| validate::bad("id", error.to_string()))?;
    let coordination = shape.multi_instance.as_ref().map(|multi| multi.coordination.clone());
    Ok(Staging { folder: Some(folder), command: Some(command), coordination, ..shape.staging.clone() })
}
