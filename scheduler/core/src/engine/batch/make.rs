//! Makes tasks and chores into jobs of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::batch::{
    BatchPoolKey, BatchTaskKey, ChoreKey, ChoreOf, ChoreSpec, FoldedId, PRIORITY_MAX, STARTUP_FOLDER,
    TaskShape, task_folder,
};
use crate::engine::validate::{self, Parts};
use crate::ids::Timestamp;
use crate::input::{Caller, Refusal};
use crate::preempt::Rank;
use crate::spec::{JobSpec, Memory, NAME_BYTES_MAX, Request, User};
use crate::staging::{Command, RelativePath, Staging};
use crate::state::{BatchJob, BatchPool, BatchTask, State};

/// What a task of so many slots asks for: its part of a node's cores and memory, with a rank for each core, so that MPI programs may
/// start as many; the whole of each node for a task of several.
fn request(state: &State, pool: &BatchPool, slots: u32, instances: u32) -> Request {
    let (cores, memory) = state.smallest_node(&pool.spec.home).unwrap_or((1, 0));
    let (slots, of) = (u64::from(slots), u64::from(pool.spec.slots_per_node.max(1)));
    let part = u32::try_from(u64::from(cores) * slots / of).unwrap_or(u32::MAX).max(1);
    let memory = u64::try_from(u128::from(memory) * u128::from(slots) / u128::from(of)).unwrap_or(u64::MAX);
    Request {
        nodes: Some(instances),
        ranks: part.saturating_mul(instances),
        ranks_per_node: Some(part),
        memory: Memory::PerNodeBytes(memory),
        ..Request::default()
    }
}

/// The node on which a task is placed if that has room, while the cluster has it.
fn near(state: &State, shape: &TaskShape) -> Option<String> {
    let name = shape.near.as_deref().filter(|name| state.node_by_name(name).is_some());
    name.map(str::to_owned)
}

/// For what the nodes of a job's tasks must have been made ready.
fn ready_for(
    key: &BatchTaskKey,
    pool_key: &BatchPoolKey,
    pool: &BatchPool,
    job: &BatchJob,
) -> BTreeSet<String> {
    let starts = pool.spec.start.as_ref().is_some_and(|start| start.waits);
    let pool = (starts || pool.sets_nodes_up()).then(|| pool_key.pool_name());
    let job = job.spec.preparation.as_ref().map(|_| key.job_key().ready_name());
    pool.into_iter().chain(job).collect()
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
    // What makes the other tasks goes before them, also when it is tried again.
    let priority = job.spec.priority + i32::from(job.is_manager(&key.task));
    let request = match pool {
        Some(pool) => Request {
            near: near(state, shape),
            dedicated: shape.dedicated,
            rank: Some(Rank { priority, yields: job.spec.yields }),
            ready_for: ready_for(key, &pool_key, pool, job),
            ..request(
                state,
                pool,
                if shape.exclusive { pool.spec.slots_per_node } else { shape.slots },
                shape.instances(),
            )
        },
        None => Request::default(),
    };
    let (job_id, task_id) = (&job.spec.id, task.id(&key.task));
    let coordination = shape.multi_instance.as_ref().map(|multi| multi.coordination.clone());
    let made = Making {
        account: &key.account,
        pool: (&pool_key, pool),
        job: Some((&key.job, job)),
        task: Some(task_id),
        name: format!("{}/{job_id}/{task_id}", key.account),
        user: &shape.user,
        command: &task.command,
        environment: &shape.environment,
        wall_clock_max_s: shape.wall_clock_max_s,
        priority,
        requeue: true,
        request,
        folder: task_folder(&key.job, key.task.as_str()),
        staging: Staging {
            coordination,
            packages: !shape.packages.is_empty() || shape.container.is_some(),
            ..shape.staging.clone()
        },
        contained: shape.container.is_some(),
    };
    made.spec(state, now)
}

/// Chores go before all tasks.
const CHORE_PRIORITY: i32 = 2 * PRIORITY_MAX;

/// The job of the cluster that a chore is made into, checked: it gets its node and no other.
pub(super) fn chore(
    state: &State,
    key: &ChoreKey,
    spec: &ChoreSpec,
    job: Option<&BatchJob>,
    pool: &FoldedId,
    now: Timestamp,
) -> Result<JobSpec, Refusal> {
    let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
    let pool = state.batch_pool(&pool_key);
    let node = &state.node(key.node).name;
    // A node that is not started has nothing else to do.
    let is_start = matches!(key.of, ChoreOf::Start { .. });
    let slots = pool.map_or(1, |pool| if is_start { pool.spec.slots_per_node } else { 1 });
    let request = pool.map(|pool| request(state, pool, slots, 1)).unwrap_or_default();
    let job_key = key.job_key();
    let of = job_key.as_ref().map(|key| &key.job).zip(job);
    let folder = match of {
        Some((job, _)) => task_folder(job, FoldedId::of(&spec.id).as_str()),
        None => STARTUP_FOLDER.to_owned(),
    };
    let name = match of {
        Some((_, job)) => format!("{}/{}/{}", key.account, job.spec.id, spec.id),
        None => format!("{}/{STARTUP_FOLDER}", pool_key.pool_name()),
    };
    let made = Making {
        account: &key.account,
        pool: (&pool_key, pool),
        job: of,
        task: of.map(|_| spec.id.as_str()),
        name,
        user: &spec.user,
        command: &spec.command,
        environment: &spec.environment,
        wall_clock_max_s: spec.wall_clock_max_s,
        priority: CHORE_PRIORITY,
        requeue: false,
        request: Request { nodelist: [node.clone()].into(), ..request },
        folder,
        staging: Staging { open: true, packages: spec.container.is_some(), ..spec.staging.clone() },
        contained: spec.container.is_some(),
    };
    made.spec(state, now)
}

/// What a task or a chore is made of.
struct Making<'a> {
    account: &'a str,
    pool: (&'a BatchPoolKey, Option<&'a BatchPool>),
    /// The job that it is of, if it is of one.
    job: Option<(&'a FoldedId, &'a BatchJob)>,
    /// Its id, if it is of a job.
    task: Option<&'a str>,
    name: String,
    user: &'a User,
    command: &'a str,
    environment: &'a [(String, String)],
    wall_clock_max_s: Option<u64>,
    priority: i32,
    requeue: bool,
    request: Request,
    folder: String,
    staging: Staging,
    /// Whether it runs in a container.
    contained: bool,
}

impl Making<'_> {
    fn variables(&self) -> BTreeMap<String, String> {
        let (pool_key, pool) = self.pool;
        let pool_id = pool.map_or_else(|| pool_key.pool.to_string(), |pool| pool.spec.id.clone());
        let mut fixed = vec![
            ("AZ_BATCH_ACCOUNT_NAME", self.account.to_owned()),
            ("AZ_BATCH_POOL_ID", pool_id),
            ("AZ_BATCH_NODE_IS_DEDICATED", "true".to_owned()),
        ];
        fixed.extend(self.task.map(|task| ("AZ_BATCH_TASK_ID", task.to_owned())));
        let common = self.job.map(|(_, job)| job.spec.environment.as_slice()).unwrap_or_default();
        if let Some((key, job)) = self.job {
            fixed.push(("AZ_BATCH_JOB_ID", job.spec.id.clone()));
            let preparation =
                job.spec.preparation.as_ref().filter(|spec| Some(spec.id.as_str()) != self.task);
            // The node makes them paths below its root.
            if let Some(preparation) = preparation {
                let folder = task_folder(key, FoldedId::of(&preparation.id).as_str());
                fixed.push(("AZ_BATCH_JOB_PREP_WORKING_DIR", format!("{folder}/wd")));
                fixed.push(("AZ_BATCH_JOB_PREP_DIR", folder));
            }
        }
        let usual =
            [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
        let usual = usual.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // What is usual in a container its image says.
        let mut environment: BTreeMap<String, String> =
            if self.contained { BTreeMap::new() } else { usual.into() };
        environment.extend(common.iter().chain(self.environment).cloned());
        environment.extend(fixed.into_iter().map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    /// The job of the cluster, checked. Its command runs in the place of a script, without a shell.
    fn spec(self, state: &State, now: Timestamp) -> Result<JobSpec, Refusal> {
        let environment = self.variables();
        let command =
            Command::parse(self.command).map_err(|error| validate::bad("commandLine", error.to_string()))?;
        let folder =
            RelativePath::try_from(self.folder).map_err(|error| validate::bad("id", error.to_string()))?;
        let mut name = self.name;
        name.truncate(NAME_BYTES_MAX);
        let spec = JobSpec {
            name,
            pool: Some(self.pool.0.pool_name()),
            user: self.user.clone().into(),
            script: "#!/bin/false\n".to_owned().into(),
            arguments: Vec::new(),
            environment: environment.into(),
            working_directory: "/".to_owned(),
            stdin: None,
            stdout: None,
            stderr: None,
            append: false,
            umask: 0o022,
            limits: Default::default(),
            submit_host: String::new(),
            request: self.request.into(),
            time_limit_s: self.wall_clock_max_s.map(|limit| limit.min(crate::batch::TASK_LIFE_MAX_S)),
            array: None,
            requeue: self.requeue,
            priority: self.priority,
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
            staging: Some(Arc::new(Staging { folder: Some(folder), command: Some(command), ..self.staging })),
        };
        // Its pool may be small at this instant and larger later, and its priority counts within the pool alone.
        let parts = Parts { room: false, priority: false, conditions: false, lent: true, ..Parts::ALL };
        let caller = Caller { uid: self.user.uid, admin: false };
        validate::check(state, caller, spec, parts, now)
    }
}
