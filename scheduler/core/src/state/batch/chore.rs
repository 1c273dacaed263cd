//! Chores of pools and jobs on nodes, and for whose tasks they have made the nodes ready.

mod known;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::{BatchJob, JobPhase};
use super::pool::{BatchPool, Seat};
use super::task::{BatchTask, Completed, Made, Settling, TaskState, Tries};
use super::{happen, moves, setup};
use crate::batch::{
    BatchJobKey, BatchPoolKey, ChoreKey, ChoreOf, ChoreOutcome, ChoreSpec, FoldedId, NodeMove,
};
use crate::ids::{JobId, NodeId, Timestamp};
use crate::state::{Finished, Node, NodeStatus, State};

/// A chore on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoreRun {
    /// Where it stands.
    pub state: ChoreState,
    /// Since when.
    pub since: Timestamp,
    /// How often its command failed and was tried again.
    #[serde(default)]
    pub retries: Tries,
}

/// Where a chore stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChoreState {
    /// It is to run.
    Due,
    /// It was made into a job of the cluster.
    Made(Made),
    /// That job has ended, and what becomes of the chore is to be decided.
    Settling(Box<Settling>),
    /// It is over.
    Ended(Box<Completed>),
}

/// What a job has done to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNode {
    /// The pool that had the node then.
    pub pool: FoldedId,
    /// Its preparation.
    pub preparation: ChoreRun,
    /// Whether the node has restarted or left the pool since, so that it must be prepared anew.
    #[serde(default)]
    pub is_stale: bool,
    /// The task that waits for the preparation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<FoldedId>,
    /// The release, once the job comes to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ChoreRun>,
}

/// What is to be done about a chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChoreWork {
    /// It is made into a job of the cluster.
    Make,
    /// That job has ended: what becomes of the chore is to be decided.
    Settle,
    /// That job waits for a node that it cannot have, and is cancelled.
    Withdraw,
}

impl ChoreRun {
    pub(super) fn due(at: Timestamp) -> Self {
        Self { state: ChoreState::Due, since: at, retries: Tries::default() }
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<&Completed> {
        match &self.state {
            ChoreState::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// The job of the cluster that stands for it.
    #[must_use]
    pub fn made(&self) -> Option<&Made> {
        match &self.state {
            ChoreState::Made(made) => Some(made),
            ChoreState::Settling(settling) => Some(&settling.made),
            ChoreState::Due | ChoreState::Ended(_) => None,
        }
    }

    /// Whether it did what it should.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.ended().is_some_and(|ended| ended.failure.is_none())
    }

    /// Whether it is over, for better or worse.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended().is_some()
    }

    /// Whether tasks may run, as far as it goes.
    fn lets_tasks_run(&self, spec: Option<&Arc<ChoreSpec>>) -> bool {
        !spec.is_some_and(|spec| spec.waits) || self.has_succeeded()
    }
}

impl Seat {
    /// Whether the node is set up, and its start task lets tasks run there.
    #[must_use]
    pub fn is_started(&self, pool: &BatchPool) -> bool {
        self.is_set_up()
            && self.start.as_ref().is_none_or(|start| start.lets_tasks_run(pool.spec.start.as_ref()))
    }
}

impl BatchPool {
    /// Whether tasks of the pool are placed on a node of it.
    #[must_use]
    pub fn takes_work(&self, seat: &Seat) -> bool {
        seat.is_open() && seat.is_started(self)
    }
}

impl JobNode {
    /// The task that waits for the preparation, if one does.
    #[must_use]
    pub fn waiting_task(&self) -> Option<&FoldedId> {
        self.task.as_ref()
    }

    pub(super) fn is_ready(&self, job: &BatchJob) -> bool {
        !self.is_stale && self.preparation.lets_tasks_run(job.spec.preparation.as_ref())
    }

    /// Whether its preparation is on its way.
    pub(super) fn is_being_prepared(&self) -> bool {
        !self.is_stale && !self.preparation.is_over()
    }

    /// Whether its preparation is to run again before tasks do.
    pub(super) fn may_be_prepared(&self) -> bool {
        self.is_stale && self.preparation.made().is_none()
    }
}

/// A chore, if it is known.
fn run<'a>(state: &'a State, key: &ChoreKey) -> Option<&'a ChoreRun> {
    match &key.of {
        ChoreOf::Start { pool } => {
            let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
            state.batch.pool(&pool)?.nodes.get(&key.node)?.start.as_ref()
        }
        ChoreOf::Preparation { .. } => Some(&row(state, key)?.preparation),
        ChoreOf::Release { .. } => row(state, key)?.release.as_ref(),
    }
}

fn row<'a>(state: &'a State, key: &ChoreKey) -> Option<&'a JobNode> {
    state.batch.job(&key.job_key()?)?.nodes.get(&key.node)
}

fn run_mut<'a>(state: &'a mut State, key: &ChoreKey) -> Option<&'a mut ChoreRun> {
    match &key.of {
        ChoreOf::Start { pool } => {
            let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
            state.batch.pool_mut(&pool)?.nodes.get_mut(&key.node)?.start.as_mut()
        }
        ChoreOf::Preparation { .. } | ChoreOf::Release { .. } => {
            let row = state.batch.job_mut(&key.job_key()?)?.nodes.get_mut(&key.node)?;
            match key.of {
                ChoreOf::Release { .. } => row.release.as_mut(),
                _ => Some(&mut row.preparation),
            }
        }
    }
}

fn gets_work(node: &Node) -> bool {
    node.declared && node.is_up() && !node.is_drained()
}

/// Whether a chore could run on its node: the pool has it, and it is there.
pub(super) fn can_run(state: &State, key: &ChoreKey) -> bool {
    let Some(holder) = state.batch.holders.get(&key.node) else { return false };
    let seat = state.batch.pool(holder).and_then(|pool| pool.nodes.get(&key.node));
    let of_pool = match &key.of {
        ChoreOf::Start { pool } => Some(pool),
        ChoreOf::Preparation { .. } | ChoreOf::Release { .. } => row(state, key).map(|row| &row.pool),
    };
    let is_first = matches!(key.of, ChoreOf::Start { .. });
    seat.is_some_and(|seat| seat.is_open() && (seat.is_set_up() || !is_first))
        && holder.account == key.account
        && of_pool == Some(&holder.pool)
        && gets_work(state.node(key.node))
}

/// What is to be done about a chore, unless it waits for something to happen.
pub(super) fn chore_work(state: &State, key: &ChoreKey) -> Option<ChoreWork> {
    let Some(run) = run(state, key) else {
        // What runs comes to its end by itself; what waits would wait for ever.
        let waits = |job: &JobId| state.jobs.get(job).is_some_and(|job| job.live.is_empty());
        let mut jobs = state.batch.chores_made.iter().filter(|(_, made)| *made == key);
        return jobs.any(|(job, _)| waits(job)).then_some(ChoreWork::Withdraw);
    };
    match &run.state {
        ChoreState::Due => {
            let job = key.job_key().and_then(|job| state.batch.job(&job));
            let is_wanted = match key.of {
                ChoreOf::Preparation { .. } => job.is_some_and(|job| job.phase == JobPhase::Active),
                ChoreOf::Start { .. } | ChoreOf::Release { .. } => true,
            };
            (is_wanted && can_run(state, key)).then_some(ChoreWork::Make)
        }
        ChoreState::Made(made) if made.started.is_none() && !can_run(state, key) => Some(ChoreWork::Withdraw),
        ChoreState::Settling(_) => Some(ChoreWork::Settle),
        ChoreState::Made(_) | ChoreState::Ended(_) => None,
    }
}

/// Whether a chore has an end before it: those of which nothing is known any more count while their job of the cluster lives.
pub(super) fn is_open(state: &State, key: &ChoreKey) -> bool {
    match run(state, key) {
        Some(run) => !run.is_over(),
        None => state.batch.chores_made.values().any(|made| made == key),
    }
}

pub(super) fn refresh(state: &mut State, key: &ChoreKey) {
    let is_open = is_open(state, key);
    let is_due = is_open && chore_work(state, key).is_some();
    happen::set(&mut state.batch.chores_open, key, is_open);
    happen::set(&mut state.batch.chores_due, key, is_due);
}

/// All open chores on a node.
fn open_on(state: &State, node: NodeId) -> Vec<ChoreKey> {
    let first = ChoreKey { node, account: "".into(), of: ChoreOf::Start { pool: FoldedId::of("") } };
    state.batch.chores_open.range(first..).take_while(|key| key.node == node).cloned().collect()
}

/// Something happened to a node that its chores may wait for.
pub(super) fn node_changed(state: &mut State, node: NodeId) {
    open_on(state, node).iter().for_each(|key| refresh(state, key));
}

/// Says anew for whose tasks a node is ready.
pub(super) fn refresh_ready(state: &mut State, node: NodeId) {
    let (ready, low_priority) = (ready_for(state, node), state.is_low_priority(node));
    let Some(node) = state.nodes.get_mut(node.0 as usize) else { return };
    node.low_priority = low_priority;
    if node.ready_for != ready {
        node.ready_for = ready;
    }
}

/// For whose tasks a node is ready.
pub(super) fn ready_for(state: &State, node: NodeId) -> BTreeSet<String> {
    let mut ready = BTreeSet::new();
    let Some(key) = state.batch.holders.get(&node) else { return ready };
    let Some((pool, seat)) = state.batch.pool(key).and_then(|pool| Some((pool, pool.nodes.get(&node)?)))
    else {
        return ready;
    };
    if seat.is_started(pool) {
        ready.insert(key.pool_name());
    }
    for (job_key, job) in state.batch.preparing() {
        let row = job.nodes.get(&node);
        if job_key.account == key.account && row.is_some_and(|row| row.pool == key.pool && row.is_ready(job))
        {
            ready.insert(job_key.ready_name());
        }
    }
    ready
}

/// A node came into a pool, changed its place there, or left it. `before` is the seat that it had.
pub(super) fn seated(
    pool: &BatchPool,
    to: NodeMove,
    before: Option<&Seat>,
    at: Timestamp,
) -> Option<ChoreRun> {
    let kept = before.and_then(|seat| seat.start.clone());
    match to {
        NodeMove::Leaving => kept,
        NodeMove::Lent => match kept {
            // One that was ended because the node was to leave runs again.
            Some(run) if run.is_over() && !run.has_succeeded() => Some(ChoreRun::due(at)),
            Some(run) => Some(run),
            None => pool.spec.start.as_ref().map(|_| ChoreRun::due(at)),
        },
        NodeMove::Claimed | NodeMove::Back | NodeMove::LentLow | NodeMove::Preempted => None,
    }
}

/// What jobs have done to a node is no longer there: it has restarted, or left its pool.
pub(super) fn forget_node(state: &mut State, node: NodeId, has_left: bool) {
    let keys: Vec<BatchJobKey> = state.batch.preparing().map(|(key, _)| key).collect();
    for key in &keys {
        let Some(job) = state.batch.job_mut(key) else { continue };
        let reruns = job.spec.preparation.as_ref().is_some_and(|spec| spec.reruns);
        let Some(row) = job.nodes.get_mut(&node) else { continue };
        let is_lost = has_left || reruns || !row.preparation.has_succeeded();
        if is_lost && (has_left || row.preparation.is_over()) {
            row.is_stale = true;
        }
    }
    node_changed(state, node);
    refresh_ready(state, node);
    keys.iter().for_each(|key| happen::refresh_job(state, key));
}

/// A node has said hello. If it is another boot, or it had been given up, what was done to it is done again.
pub(in crate::state) fn node_up(state: &mut State, node: NodeId, boot_id: &str, at: Timestamp) {
    let Some(before) = state.nodes.get(node.0 as usize).map(|node| &node.status) else { return };
    if matches!(before, NodeStatus::Up { boot_id: same, .. } if same == boot_id) {
        return;
    }
    let Some(key) = state.batch.holders.get(&node).cloned() else { return };
    setup::again(state, &key, node, at);
    let again = state.batch.pool_mut(&key).and_then(|pool| {
        let has_start = pool.spec.start.is_some();
        let seat = pool.nodes.get_mut(&node)?;
        let is_settled = seat.start.as_ref().is_none_or(ChoreRun::is_over);
        (has_start && seat.at == NodeMove::Lent && is_settled).then(|| seat.start = Some(ChoreRun::due(at)))
    });
    forget_node(state, node, false);
    if again.is_some() {
        refresh(state, &ChoreKey::start(&key, node));
        moves::jobs_of_pool_changed(state, &key);
    }
}

/// A chore of a job is to run on a node.
pub(super) fn due(state: &mut State, key: &ChoreKey, task: Option<&FoldedId>, version: u64, at: Timestamp) {
    let Some(job_key) = key.job_key() else { return };
    let holder = state.batch.holders.get(&key.node).cloned();
    let Some(job) = state.batch.job_mut(&job_key) else { return };
    match &key.of {
        ChoreOf::Release { .. } => {
            if let Some(row) = job.nodes.get_mut(&key.node) {
                row.release = Some(ChoreRun::due(at));
            }
        }
        _ => {
            let Some(holder) = holder else { return };
            let task = task.cloned();
            if let Some(task) = &task {
                job.change(task, |task| task.enter(TaskState::Preparing { node: key.node }, version, at));
            }
            let preparation = ChoreRun::due(at);
            let row = JobNode { pool: holder.pool, preparation, is_stale: false, task, release: None };
            job.nodes.insert(key.node, row);
        }
    }
    changed(state, key);
}

pub(super) fn made(state: &mut State, key: &ChoreKey, made: JobId, at: Timestamp) {
    state.batch.chores_made.insert(made, key.clone());
    if let Some(run) = run_mut(state, key) {
        run.state = ChoreState::Made(Made { job: made, started: None, wish: None });
        run.since = at;
    }
    changed(state, key);
}

pub(super) fn settled(
    state: &mut State,
    key: &ChoreKey,
    outcome: &ChoreOutcome,
    version: u64,
    at: Timestamp,
) {
    let Some(run) = run_mut(state, key) else { return changed(state, key) };
    run.since = at;
    let ended = |run: &ChoreRun, exit_code: &Option<i32>, failure| {
        let blank = Completed::without_job(*exit_code, failure, false);
        match &run.state {
            ChoreState::Settling(settling) => Completed::after(settling, blank),
            _ => blank,
        }
    };
    match outcome {
        ChoreOutcome::Ended { exit_code, failure } => {
            run.state = ChoreState::Ended(Box::new(ended(run, exit_code, failure.clone())));
        }
        ChoreOutcome::Retried => {
            run.retries.again(at);
            run.state = ChoreState::Due;
        }
        ChoreOutcome::Again => run.state = ChoreState::Due,
    }
    let is_over = run.is_over();
    if let (ChoreOf::Preparation { .. }, Some(job_key)) = (&key.of, key.job_key())
        && let Some(job) = state.batch.job_mut(&job_key)
        && (is_over || *outcome == ChoreOutcome::Again)
    {
        let waits = job.nodes.get_mut(&key.node).and_then(|row| row.task.take());
        let is_waiting =
            |task: &BatchTask| matches!(task.state, TaskState::Preparing { node } if node == key.node);
        if let Some(task) = waits.filter(|task| job.tasks.get(task).is_some_and(is_waiting)) {
            job.change(&task, |task| task.enter(TaskState::Waiting { unmet: 0 }, version, at));
        }
    }
    changed(state, key);
}

/// The job of the cluster that a chore was made into was given its node, or has lost it again.
pub(super) fn placed(state: &mut State, job: JobId, started: Option<Timestamp>, at: Timestamp) {
    let Some(key) = state.batch.chores_made.get(&job).cloned() else { return };
    state.batch.changes += 1;
    if let Some(run) = run_mut(state, &key)
        && let ChoreState::Made(made) = &mut run.state
        && made.job == job
    {
        made.started = started;
        run.since = at;
    }
    changed(state, &key);
}

/// The job of the cluster that a chore was made into has finished.
pub(super) fn finished(state: &mut State, job: JobId, finished: Finished, at: Timestamp) {
    let Some(key) = state.batch.chores_made.remove(&job) else { return };
    state.batch.changes += 1;
    if let Some(run) = run_mut(state, &key)
        && let ChoreState::Made(made) = &run.state
        && made.job == job
    {
        run.state = ChoreState::Settling(Box::new(Settling { made: made.clone(), finished }));
        run.since = at;
    }
    changed(state, &key);
}

/// What follows from a change of a chore.
fn changed(state: &mut State, key: &ChoreKey) {
    refresh(state, key);
    refresh_ready(state, key.node);
    match (&key.of, key.job_key()) {
        (ChoreOf::Start { pool }, _) => {
            let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
            moves::jobs_of_pool_changed(state, &pool);
        }
        (_, Some(job)) => happen::refresh_job(state, &job),
        (_, None) => {}
    }
}
