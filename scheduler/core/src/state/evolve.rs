//! Lets events happen.
//!
//! Nothing is decided here: an event is a fact, and these functions only write it down. An event that speaks of
//! something the state does not know is passed over, so that a journal cut short can never make a panic.

use std::collections::HashMap;
use std::sync::Arc;

use super::depends::News;
use super::instants::{drop_instants, enter_instants};
use super::job::job_mut;
use super::{
    Finished, FinishedHow, Held, Instance, InstanceState, Job, JobHold, Live, LivePhase, Node, NodeStatus,
    PoolState, QueueKey, State, Taken, Tried, Unhealthy, batch, depends, holds, kept, ledger, line, power,
};
use crate::cluster::ClusterConfig;
use crate::cores::CoreSet;
use crate::event::{Allocation, Event, Ran, Verdict};
use crate::gres::NodeGres;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::spec::{IndexRange, JobSpec};
use crate::threads::CoreThreads;

pub(super) fn evolve(state: &mut State, event: &Event, at: Timestamp) {
    ledger::open(state, at);
    state.at = at;
    match event {
        Event::Configured { config } => configured(state, config, at),
        Event::JobSubmitted { job, spec, request_key } => {
            submitted(state, *job, spec, request_key.clone(), at)
        }
        Event::WaitingCancelled { job, indices, by_uid } => {
            let how =
                |attempts, preempted| FinishedHow::CancelledWaiting { by_uid: *by_uid, attempts, preempted };
            waiting_finished(state, *job, indices, how, at);
        }
        Event::WaitingEnded { job, indices, why } => {
            let how = |attempts, preempted| FinishedHow::EndedWaiting { why: *why, attempts, preempted };
            waiting_finished(state, *job, indices, how, at);
        }
        Event::JobUpdated { job, spec } => updated(state, *job, spec, at),
        Event::JobHeld { .. }
        | Event::JobReleased { .. }
        | Event::TaskHeld { .. }
        | Event::TaskReleased { .. } => holds::happened(state, event, at),
        Event::AttemptPlaced { key, allocation, time_limit_s, ends_by } => {
            placed(state, *key, allocation, (*time_limit_s, *ends_by), at);
        }
        Event::LineMade { behind, indices } => line::made(state, *behind, indices, at),
        Event::AttemptReturned { key } => line::returned(state, *key, at),
        Event::InstanceReady { key, instance, endpoint } => {
            with_instance(state, *key, *instance, |i| i.state = InstanceState::Ready(endpoint.clone()));
        }
        Event::AttemptGo { key } => go(state, *key, at),
        Event::AttemptRunning { key, started_at } => {
            if let Some(Live { phase: LivePhase::Running { started_at: started, .. }, .. }) =
                live_mut(state, *key)
            {
                *started = Some(*started_at);
            }
        }
        Event::AttemptSignalled { key } => {
            drop_instants(state, *key);
            if let Some(live) = live_mut(state, *key) {
                live.signalled = true;
            }
            enter_instants(state, *key);
        }
        Event::AttemptRanFor { key, percent } => {
            drop_instants(state, *key);
            if let Some(live) = live_mut(state, *key) {
                live.told_percent = *percent;
            }
            enter_instants(state, *key);
        }
        Event::AttemptEnding { key, verdict } => ending(state, *key, verdict, at),
        Event::InstanceGone { key, instance, usage } => {
            free_share(state, *key, *instance, at);
            with_instance(state, *key, *instance, |i| {
                *i = Instance { state: InstanceState::Gone, usage: *usage }
            });
        }
        Event::InstanceLost { key, instance } => {
            free_share(state, *key, *instance, at);
            with_instance(state, *key, *instance, |i| i.state = InstanceState::Lost);
        }
        Event::AttemptEnded { key, verdict, again_not_before } => {
            ended(state, *key, verdict, *again_not_before, at);
        }
        Event::AttemptRan { key, started_at, usage, verdict } => {
            let ran = Ran::of(*key, *started_at, *usage);
            return ran_through(state, &ran, key.task.job, verdict, at);
        }
        Event::AttemptsRan { job, verdict, ran } => {
            return ran.iter().for_each(|ran| ran_through(state, ran, *job, verdict, at));
        }
        Event::NodeUp { node, boot_id, hardware, stale } => {
            batch::node_up(state, *node, boot_id, at);
            with_node(state, *node, |n| {
                let (boot_id, hardware) = (boot_id.clone(), Arc::clone(hardware));
                n.threads = CoreThreads::of(n.cores, &hardware.cores);
                n.status = NodeStatus::Up { since: at, boot_id, hardware };
                n.stale = stale.iter().copied().collect();
                power::came(n, at);
            });
        }
        Event::StaleGone { node, key } => with_node(state, *node, |n| {
            n.stale.remove(key);
        }),
        Event::NodeLost { node, reason } => with_node(state, *node, |n| {
            n.status = NodeStatus::Down { since: at, reason: reason.clone() };
            n.stale.clear();
        }),
        Event::NodeHeld { node, reason, until, by_uid, down } => {
            state.next_release = Default::default();
            with_node(state, *node, |n| {
                let reason = reason.clone();
                n.held = Some(Held { since: at, reason, until: *until, by_uid: *by_uid, down: *down });
            });
        }
        Event::NodeReleased { node } => {
            state.next_release = Default::default();
            with_node(state, *node, |n| n.held = None);
        }
        Event::NodeHealth { node, problem } => with_node(state, *node, |n| {
            n.unhealthy = problem.clone().map(|problem| Unhealthy { since: at, problem });
        }),
        Event::NodePower { node, power } => with_node(state, *node, |n| power::changed(n, power)),
        Event::PoolChanged { pool, state: to, .. } => {
            state.pool_states.remove(pool);
            if *to != PoolState::Up {
                state.pool_states.insert(pool.clone(), *to);
            }
        }
        Event::ReservationMade { reservation } => state.reservations.made(reservation, at),
        Event::ReservationRemoved { name, .. } => state.reservations.removed(name),
        Event::ReservationEnded { name, next_start } => state.reservations.ended(name, *next_start),
        Event::CrontabSet { uid, crontab, .. } => state.crontabs.set(*uid, crontab.as_ref(), at),
        Event::CronMade { id, job, begin } => state.crontabs.made(*id, *job, *begin),
        Event::CronStopped { id, reason } => state.crontabs.stopped(*id, reason),
        Event::Batch { batch } => batch::happened(state, batch, at),
    }
    batch::node_changed(state, event);
}

pub(super) fn with_node(state: &mut State, id: NodeId, change: impl FnOnce(&mut Node)) {
    if let Some(node) = state.nodes.get_mut(id.0 as usize) {
        change(node);
    }
}

/// The live attempt of exactly this key.
fn live_mut(state: &mut State, key: AttemptKey) -> Option<&mut Live> {
    let live = job_mut(&mut state.jobs, key.task.job)?.live.get_mut(&key.task.index)?;
    (live.attempt == key.attempt).then_some(live)
}

fn with_instance(state: &mut State, key: AttemptKey, instance: u32, change: impl FnOnce(&mut Instance)) {
    if let Some(i) = live_mut(state, key).and_then(|live| live.instances.get_mut(instance as usize)) {
        change(i);
    }
}

fn configured(state: &mut State, config: &Arc<ClusterConfig>, at: Timestamp) {
    ledger::settle(state, at);
    let same_qos = state.config.qos == config.qos;
    state.config = Arc::clone(config);
    for node in &mut state.nodes {
        node.declared = false;
    }
    let known: HashMap<String, usize> =
        state.nodes.iter().enumerate().map(|(i, node)| (node.name.clone(), i)).collect();
    for declared in &config.nodes {
        let id = match known.get(&declared.name) {
            Some(id) => *id,
            None => {
                state.nodes.push(Node {
                    name: declared.name.clone(),
                    declared: true,
                    cores: 0,
                    memory_bytes: 0,
                    wrap_cores: declared.wrap_cores,
                    features: Default::default(),
                    gres: Vec::new(),
                    threads: CoreThreads::default(),
                    gres_numa: Default::default(),
                    gres_files: Default::default(),
                    gres_check: false,
                    free: CoreSet::new(),
                    free_memory_bytes: 0,
                    overheld: false,
                    ready_for: Default::default(),
                    low_priority: false,
                    attempts: Default::default(),
                    stale: Default::default(),
                    status: NodeStatus::Unknown,
                    held: None,
                    failures: 0,
                    unhealthy: None,
                    elastic: None,
                    power: None,
                });
                state.nodes.len() - 1
            }
        };
        let node = &mut state.nodes[id];
        node.declared = true;
        node.cores = declared.cores;
        node.memory_bytes = declared.memory_bytes;
        node.wrap_cores = declared.wrap_cores;
        node.features = declared.features.clone();
        node.gres = NodeGres::all(&declared.gres);
        node.gres_numa.clone_from(&declared.gres_numa);
        node.gres_files.clone_from(&declared.gres_files);
        node.gres_check = declared.gres_check;
        power::configured(node, declared.elastic.as_ref(), at);
        match &node.status {
            NodeStatus::Unknown => {
                node.threads = CoreThreads::uniform(declared.threads_per_core.unwrap_or(1))
            }
            NodeStatus::Up { hardware, .. } => node.threads = CoreThreads::of(node.cores, &hardware.cores),
            // What was found remains the best that is known.
            NodeStatus::Down { .. } => {}
        }
        recount(state, NodeId(id as u32));
    }
    state.derived = Default::default();
    batch::configured(state, config, at);
    state.pool_states.retain(|name, _| config.pools.iter().any(|pool| pool.name == *name));
    ledger::charge_all(state, at);
    if !same_qos {
        let keys = state.queue.iter().filter_map(|key| state.jobs.get(&key.1));
        state.queue = keys.map(|job| queue_key(state, &job.spec, job.id)).collect();
    }
}

/// Derives what is free on a node from what its attempts hold.
fn recount(state: &mut State, id: NodeId) {
    let node = &state.nodes[id.0 as usize];
    let mut free = CoreSet::first(node.cores);
    let (mut memory, mut overheld) = (node.memory_bytes, false);
    let mut gres = node.gres.clone();
    crate::gres::make_free(&mut gres);
    for key in &node.attempts {
        let Some(live) = state.live_attempt(key.task).filter(|live| live.holds_allocation()) else {
            continue;
        };
        let Some(share) = live.allocation.shares.iter().find(|share| share.node == id) else { continue };
        free.remove_all(&share.cores);
        crate::gres::take(&mut gres, &share.gres);
        overheld |= share.memory_bytes > memory;
        memory = memory.saturating_sub(share.memory_bytes);
    }
    let node = &mut state.nodes[id.0 as usize];
    node.overheld = overheld;
    node.gres = gres;
    node.free = free;
    node.free_memory_bytes = memory;
}

fn submitted(
    state: &mut State,
    id: JobId,
    spec: &Arc<JobSpec>,
    request_key: Option<Arc<str>>,
    at: Timestamp,
) {
    let ranges = match &spec.array {
        Some(array) => array.indices.clone(),
        None => vec![IndexRange { first: 0, last: 0, step: 1 }],
    };
    let waiting = super::IndexSet::from_ranges(&ranges);
    state.waiting_count += waiting.len();
    state.next_job = state.next_job.max(id.0 + 1);
    *state.jobs_of_user.entry(spec.user.uid).or_default() += 1;
    state.queue.insert(queue_key(state, spec, id));
    state.reservations.job_submitted(spec.reservation.as_ref(), id);
    if let Some(key) = &request_key {
        state.request_keys.insert((spec.user.uid, Arc::clone(key)), id);
    }
    let job = Job {
        id,
        spec: Arc::clone(spec),
        submitted_at: at,
        waiting,
        live: Default::default(),
        tried: Default::default(),
        returned: Default::default(),
        finished: Default::default(),
        finished_at: None,
        request_key,
        task_holds: Default::default(),
        held: spec.eligibility.hold.then_some(JobHold { since: at, by_uid: spec.user.uid, by_admin: false }),
        depends: Vec::new(),
    };
    let is_indexed = job.is_indexed();
    state.jobs.insert(id, Arc::new(job));
    state.unfinished.submitted(id);
    if is_indexed {
        depends::enter(state, id, at);
    }
}

/// A job's spec is another from now on: every index that follows from it is left and entered again.
fn updated(state: &mut State, id: JobId, spec: &Arc<JobSpec>, at: Timestamp) {
    let Some(job) = state.jobs.get(&id) else { return };
    let before = Arc::clone(&job.spec);
    let keys: Vec<AttemptKey> = job.live.iter().map(|(index, live)| live.key(id, *index)).collect();
    keys.iter().for_each(|key| drop_instants(state, *key));
    let key = queue_key(state, &before, id);
    let waits = state.queue.remove(&key);
    depends::leave(state, id);
    state.reservations.job_finished(before.reservation.as_ref(), id);
    let Some(job) = job_mut(&mut state.jobs, id) else { return };
    job.spec = Arc::clone(spec);
    if before.time_limit_s != spec.time_limit_s {
        // What an attempt was given to start earlier is overruled as well.
        job.live.values_mut().for_each(|live| live.time_limit_s = None);
    }
    state.reservations.job_submitted(spec.reservation.as_ref(), id);
    if waits {
        state.queue.insert(queue_key(state, spec, id));
    }
    depends::enter_again(state, id, before.eligibility.dependency != spec.eligibility.dependency, at);
    keys.iter().for_each(|key| enter_instants(state, *key));
}

fn queue_key(state: &State, spec: &JobSpec, id: JobId) -> QueueKey {
    QueueKey(std::cmp::Reverse(state.priority_of(spec)), id)
}

/// Keeps the queue's index in step with whether the job has waiting tasks.
pub(super) fn requeue_index(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.get(&id) else { return };
    let key = queue_key(state, &job.spec, id);
    if job.waiting.is_empty() {
        state.queue.remove(&key);
    } else {
        state.queue.insert(key);
    }
    depends::follow_waiting(state, id);
}

/// Waiting tasks finished without another attempt; `how` is told how many there were, and how many were preempted.
fn waiting_finished(
    state: &mut State,
    id: JobId,
    ranges: &[IndexRange],
    how: impl Fn(u32, u32) -> FinishedHow,
    at: Timestamp,
) {
    let has_dependents = state.dependents.contains_key(&id);
    let mut finished = Vec::new();
    let Some(job) = job_mut(&mut state.jobs, id) else { return };
    for index in ranges.iter().flat_map(IndexRange::indices) {
        if !job.waiting.remove(index) {
            continue;
        }
        state.waiting_count -= 1;
        let index = TaskIndex(index);
        let mut attempts = (0, 0);
        if let Some(tried) = job.tried.remove(&index) {
            state.delayed.remove(&(tried.not_before, TaskId { job: id, index }));
            attempts = (job.attempts_until(index, tried.attempts), tried.preempted);
        }
        job.returned.remove(index.0);
        depends::forget_partner(job, index);
        job.task_holds.remove(&index);
        job.finished.insert(index, Finished { how: how(attempts.0, attempts.1), at });
        if has_dependents {
            finished.push(index);
        }
    }
    requeue_index(state, id);
    finish_if_done(state, id, at);
    for index in finished {
        depends::tell(state, id, News::Finished { index, success: false }, at);
    }
}

fn placed(
    state: &mut State,
    key: AttemptKey,
    allocation: &Arc<Allocation>,
    (time_limit_s, ends_by): (Option<u64>, Option<Timestamp>),
    at: Timestamp,
) {
    let Some(job) = job_mut(&mut state.jobs, key.task.job) else { return };
    if !job.waiting.remove(key.task.index.0) {
        return;
    }
    if let Some(tried) = job.tried.get(&key.task.index) {
        state.delayed.remove(&(tried.not_before, key.task));
    }
    let live = Live { time_limit_s, ends_by, ..Live::placed(key.attempt, allocation, at) };
    job.live.insert(key.task.index, Box::new(live));
    state.waiting_count -= 1;
    state.live.insert(key);
    batch::attempt_placed(state, key.task.job, at);
    enter_instants(state, key);
    requeue_index(state, key.task.job);
    ledger::placed(state, key.task.job, allocation.cores(), at);
    for share in &allocation.shares {
        with_node(state, share.node, |node| {
            node.free.remove_all(&share.cores);
            crate::gres::take(&mut node.gres, &share.gres);
            node.free_memory_bytes = node.free_memory_bytes.saturating_sub(share.memory_bytes);
            node.attempts.insert(key);
        });
    }
}

pub(super) fn free_share(state: &mut State, key: AttemptKey, instance: u32, at: Timestamp) {
    let Some(live) = live_mut(state, key) else { return };
    let Some(true) = live.instances.get(instance as usize).map(Instance::holds_share) else { return };
    let node = live.allocation.shares[instance as usize].node;
    if line::leave(state, key, at) {
        return with_node(state, node, |node| {
            node.attempts.remove(&key);
            power::used(node, at);
        });
    }
    let Some(live) = live_mut(state, key) else { return };
    let share = &live.allocation.shares[instance as usize];
    let (cores, memory_bytes, gres) = (share.cores.clone(), share.memory_bytes, share.gres.clone());
    ledger::freed(state, key.task.job, u64::from(cores.len()), at);
    let Some(record) = state.nodes.get_mut(node.0 as usize) else { return };
    record.attempts.remove(&key);
    power::used(record, at);
    if record.overheld || cores.max().is_some_and(|core| core >= record.cores) {
        return recount(state, node);
    }
    record.free.add_all(&cores);
    crate::gres::give(&mut record.gres, &gres);
    record.free_memory_bytes += memory_bytes;
}

fn go(state: &mut State, key: AttemptKey, at: Timestamp) {
    drop_instants(state, key);
    let Some(live) = live_mut(state, key) else { return };
    live.phase =
        LivePhase::Running { go_at: if live.is_ready() { at } else { live.placed_at }, started_at: None };
    enter_instants(state, key);
    depends::tell(state, key.task.job, News::Began { index: key.task.index }, at);
}

/// An attempt that was being prepared was started and came to its end: what its parts bring about one after another, without what each
/// would undo of the one before. Where somebody follows each of them, they happen one by one.
fn ran_through(state: &mut State, ran: &Ran, job: JobId, verdict: &Verdict, at: Timestamp) {
    let key = ran.key(job);
    let is_followed = state.dependents.contains_key(&job) || batch::follows_nodes(state);
    let is_new = live_mut(state, key).is_some_and(|live| live.phase == LivePhase::Preparing);
    if is_followed || !is_new {
        return ran.parts(job, verdict).iter().for_each(|part| evolve(state, part, at));
    }
    drop_instants(state, key);
    free_share(state, key, 0, at);
    let Some(live) = live_mut(state, key) else { return };
    if let Some(instance) = live.instances.first_mut() {
        *instance = Instance { state: InstanceState::Gone, usage: ran.usage };
    }
    let started_at = Some(ran.started_at);
    live.phase = LivePhase::Ending { since: at, verdict: verdict.clone(), started_at, taken: None };
    ended(state, key, verdict, None, at);
}

fn ending(state: &mut State, key: AttemptKey, verdict: &Verdict, at: Timestamp) {
    drop_instants(state, key);
    let order = state.preempted + 1;
    let Some(live) = live_mut(state, key) else { return };
    let (since, started_at, before) = match live.phase {
        LivePhase::Ending { since, started_at, taken, .. } => (since, started_at, taken),
        _ => (at, live.started_at(), None),
    };
    let taken = match verdict {
        Verdict::Preempted { by, .. } => Some(Taken { by: *by, order }),
        _ => before,
    };
    live.phase = LivePhase::Ending { since, verdict: verdict.clone(), started_at, taken };
    if matches!(verdict, Verdict::Preempted { .. }) {
        state.preempted = order;
    }
}

fn ended(state: &mut State, key: AttemptKey, verdict: &Verdict, again: Option<Timestamp>, at: Timestamp) {
    drop_instants(state, key);
    let Some(job) = job_mut(&mut state.jobs, key.task.job) else { return };
    if job.live.get(&key.task.index).is_none_or(|live| live.attempt != key.attempt) {
        return;
    }
    let Some(live) = job.live.remove(&key.task.index) else { return };
    state.live.remove(&key);
    batch::attempt_used(&mut state.batch, key.task.job, &live, at);
    state.ledger.ended(&job.spec);
    count_failures(&mut state.nodes, verdict, &live.allocation);
    let before = job.tried.get(&key.task.index).map_or((0, 0), |tried| (tried.preempted, tried.requeued));
    let preempted = before.0 + u32::from(matches!(verdict, Verdict::Preempted { .. }));
    let requeued = before.1 + u32::from(matches!(verdict, Verdict::Requeued { .. }));
    if let Some(not_before) = again {
        let avoid = match verdict {
            Verdict::NodeFailed { node, .. } | Verdict::PrepareFailed { node, .. } => Some(*node),
            _ => None,
        };
        let tried =
            Tried { attempts: key.attempt, preempted, requeued, not_before, avoid, last: verdict.clone() };
        job.tried.insert(key.task.index, tried);
        job.waiting.insert(key.task.index.0);
        state.waiting_count += 1;
        state.delayed.insert((not_before, key.task));
        requeue_index(state, key.task.job);
        batch::attempt_ended(state, key.task.job, verdict, at);
        return;
    }
    job.tried.remove(&key.task.index);
    job.task_holds.remove(&key.task.index);
    let attempts = job.attempts_until(key.task.index, key.attempt);
    job.returned.remove(key.task.index.0);
    let how = FinishedHow::Ran {
        attempts,
        preempted,
        verdict: verdict.clone(),
        placed_at: live.placed_at,
        time_limit_s: live.time_limit_s,
        started_at: live.started_at(),
        usage: live.usage(),
        allocation: live.allocation,
    };
    job.finished.insert(key.task.index, Finished { how, at });
    finish_if_done(state, key.task.job, at);
    let news = News::Finished { index: key.task.index, success: verdict.is_success() };
    depends::tell(state, key.task.job, news, at);
}

/// What the end of an attempt says of its nodes.
fn count_failures(nodes: &mut [Node], verdict: &Verdict, allocation: &Allocation) {
    if let Some(node) = verdict.failing_node() {
        if let Some(node) = nodes.get_mut(node.0 as usize) {
            node.failures += 1;
        }
    } else if verdict.came_by_itself() {
        for share in &allocation.shares {
            if let Some(node) = nodes.get_mut(share.node.0 as usize) {
                node.failures = 0;
            }
        }
    }
}

fn finish_if_done(state: &mut State, id: JobId, at: Timestamp) {
    if state.jobs.get(&id).is_none_or(|job| !job.is_finished() || job.finished_at.is_some()) {
        return;
    }
    depends::leave(state, id);
    let Some(job) = job_mut(&mut state.jobs, id) else { return };
    job.finished_at = Some(at);
    state.unfinished.finished(id);
    batch::job_finished(state, id, at);
    let Some(job) = state.jobs.get(&id) else { return };
    state.crontabs.job_finished(id);
    state.reservations.job_finished(job.spec.reservation.as_ref(), id);
    let uid = job.spec.user.uid;
    if let Some(count) = state.jobs_of_user.get_mut(&uid) {
        *count -= 1;
        if *count == 0 {
            state.jobs_of_user.remove(&uid);
        }
    }
    kept::keep(state, id, at);
}
