//! Jobs that wait for more than room, whom they charge, and nodes that admins keep free: drawn by seed, and checked when
//! they start.

use muster_core::cluster::{AccountConfig, Backfill, ClusterConfig, Fill, Order, QosConfig};
use muster_core::eligibility::{Dependency, Eligibility, Term};
use muster_core::ids::{AttemptKey, JobId, JobRef, TaskIndex, Timestamp};
use muster_core::input::{Caller, Effect, Input, NodeChange};
use muster_core::on::{On, Tasks};
use muster_core::spec::{ArraySpec, IndexRange, JobSpec, Request, User};
use muster_core::state::State;

use crate::rng::Rng;

/// When a job may start. What can never be fulfilled is cancelled, so that every world comes to its end.
pub(crate) fn eligibility(
    rng: &mut Rng,
    state: &State,
    accepted: &[JobId],
    now: Timestamp,
    limit_s: u64,
) -> Eligibility {
    let mut when = Eligibility { cancel_unfulfillable: true, ..Eligibility::default() };
    match rng.below(10) {
        0 => when.hold = true,
        1 => when.begin = Some(now.plus_seconds(rng.below(20))),
        2 => {
            when.deadline = Some(now.plus_seconds(limit_s + rng.below(60)));
            when.time_min_s = rng.one_in(2).then_some(1);
        }
        3..6 if !accepted.is_empty() => when.dependency = Some(dependency(rng, state, accepted)),
        6 => when.time_min_s = Some(1 + rng.below(limit_s)),
        _ => {}
    }
    when
}

fn dependency(rng: &mut Rng, state: &State, accepted: &[JobId]) -> Dependency {
    let count = 1 + rng.below(3);
    // Of a single term nobody says that any will do.
    let any = count > 1 && rng.one_in(3);
    let terms = (0..count).map(|_| {
        // Mostly young jobs, most of which have not ended.
        let back = rng.below(accepted.len().min(8) as u64) as usize;
        let job = accepted[accepted.len() - 1 - back];
        let on = some_tasks(rng, state, job);
        match rng.below(8) {
            0 => Term::After { on, minutes: rng.below(2) as u32 },
            1 | 2 => Term::AfterAny(on),
            3 | 4 => Term::AfterOk(on),
            5 => Term::AfterNotOk(on),
            6 => Term::Singleton,
            _ => Term::AfterCorr(JobRef { job, task: None }.into()),
        }
    });
    Dependency { any, terms: terms.collect() }
}

/// A job, its first task, or several tasks of an array.
fn some_tasks(rng: &mut Rng, state: &State, job: JobId) -> On {
    let last = state.jobs.get(&job).and_then(|job| job.spec.array.as_ref()?.indices.last()).map(|r| r.last);
    match (rng.below(4), last) {
        (0, _) => JobRef { job, task: Some(TaskIndex(0)) }.into(),
        (1 | 2, Some(last @ 3..)) => {
            let first = rng.below(2) as u32;
            let near = IndexRange { first, last: first + 1, step: 1 };
            let ranges = vec![near, IndexRange { first: last, last, step: 1 }];
            On { job, tasks: Tasks::Ranges(ranges) }
        }
        _ => JobRef { job, task: None }.into(),
    }
}

/// Narrows a request to some of the nodes, or lets their number vary.
pub(crate) fn places(rng: &mut Rng, request: &mut Request, nodes: usize) {
    let node = format!("n{}", 1 + rng.below(nodes as u64));
    match rng.below(16) {
        0 => request.exclude = [node].into(),
        1 => request.nodelist = [node].into(),
        2 => request.constraint = "odd".parse().ok(),
        3 => request.constraint = "!odd".parse().ok(),
        4 => {
            request.nodes_max = request.nodes.map(|least| least + rng.below(3) as u32);
            request.ranks_grow = request.nodes_max.is_some() && rng.one_in(2);
        }
        5 => request.fill = Some(Fill::Spread),
        6 => request.fill = Some(Fill::Pack),
        7 => request.contiguous = true,
        8 => request.threads_per_core = Some(1 + rng.below(2) as u32),
        9 => {
            request.contiguous = true;
            request.threads_per_core = Some(2);
            request.nodes_max = request.nodes.map(|least| least + rng.below(3) as u32);
        }
        _ => {}
    }
}

/// An admin drains a node or two, takes them down, or lets them go on; or the health check of one comes to another end.
pub(crate) fn change_of_nodes(rng: &mut Rng, names: &[&str]) -> Input {
    let first = rng.below(names.len() as u64) as usize;
    let some = names[first..].iter().take(1 + usize::from(rng.one_in(3)));
    let nodes = some.map(|name| (*name).to_owned()).collect();
    let for_s = rng.one_in(2).then(|| 1 + rng.below(30));
    let reason = "an admin says so".to_owned();
    if rng.one_in(4) {
        return health(names[first], rng.one_in(2).then_some("it is hot"));
    }
    match rng.below(5) {
        0 | 1 => change(nodes, NodeChange::Drain { reason, for_s }),
        2 => change(nodes, NodeChange::Down { reason, for_s }),
        _ => resume(nodes),
    }
}

/// The health check of a node has come to its end.
pub(crate) fn health(node: &str, problem: Option<&str>) -> Input {
    Input::NodeHealth { node: node.to_owned(), problem: problem.map(str::to_owned) }
}

/// An admin lets nodes go on.
pub(crate) fn resume(nodes: Vec<String>) -> Input {
    change(nodes, NodeChange::Resume)
}

fn change(nodes: Vec<String>, change: NodeChange) -> Input {
    Input::ChangeNodes { caller: Caller { uid: 0, admin: true }, nodes, change }
}

/// The node that was given something new although it was to get nothing.
pub(crate) fn placed_on_held(state: &State, effect: &Effect) -> Option<(String, AttemptKey)> {
    let Effect::Prepare { node, key, .. } = effect else { return None };
    let placed_at = state.live_attempt(key.task)?.placed_at;
    let node = state.node(*node);
    let held_since = node.held.as_ref().map(|held| held.since);
    let unhealthy_since = node.unhealthy.as_ref().map(|found| found.since);
    let is_wrong = held_since.into_iter().chain(unhealthy_since).any(|since| since < placed_at);
    is_wrong.then(|| (node.name.clone(), *key))
}

/// Whether an attempt's nodes follow each other and its cores are as wide as its job wishes.
pub(crate) fn is_in_place(state: &State, key: AttemptKey) -> bool {
    let (Some(job), Some(live)) = (state.jobs.get(&key.task.job), state.live_attempt(key.task)) else {
        return true;
    };
    let request = &job.spec.request;
    // The one pool has all nodes, on no switch, so that their order is that of their ids.
    let mut nodes: Vec<u32> = live.allocation.shares.iter().map(|share| share.node.0).collect();
    nodes.sort_unstable();
    let follow = nodes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let wide = |threads: u32| {
        live.allocation.shares.iter().all(|share| {
            let hardware = state.node(share.node).hardware();
            hardware.is_none_or(|found| {
                share.cores.iter().all(|core| found.cores[core as usize].threads >= threads)
            })
        })
    };
    (!request.contiguous || follow) && request.threads_per_core.is_none_or(wide)
}

/// Whether a job of which an attempt that was placed at `placed_at` has just started was free to, as far as the records of others can
/// tell.
pub(crate) fn was_free_to_start(
    state: &State,
    key: AttemptKey,
    placed_at: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let Some(job) = state.jobs.get(&key.task.job) else { return true };
    if job.hold_of(key.task.index).is_some_and(|hold| placed_at.is_some_and(|placed| hold.since < placed)) {
        return false;
    }
    let when = &job.spec.eligibility;
    let began = when.begin.is_none_or(|begin| begin <= now);
    let holds = |term: &Term| {
        let Some(on) = term.on() else { return true };
        let Some(target) = state.jobs.get(&on.job) else { return true };
        let outcome =
            |index: &TaskIndex| target.finished.get(index).map(|finished| finished.how.is_success());
        let (ended, ok) = match &on.tasks {
            Tasks::One(index) => (outcome(index).is_some(), outcome(index) == Some(true)),
            Tasks::Ranges(ranges) => {
                let indices = ranges.iter().flat_map(IndexRange::indices);
                let outcomes: Vec<Option<bool>> = indices.map(|index| outcome(&TaskIndex(index))).collect();
                (outcomes.iter().all(Option::is_some), outcomes.iter().all(|ok| *ok == Some(true)))
            }
            Tasks::All => {
                (target.is_finished(), target.finished.values().all(|finished| finished.how.is_success()))
            }
        };
        match term {
            Term::AfterAny(_) => ended,
            Term::AfterOk(_) => ended && ok,
            Term::AfterNotOk(_) => ended && !ok,
            // These do not ask for an end.
            Term::After { .. } | Term::AfterCorr(_) | Term::Singleton => true,
        }
    };
    let free = when.dependency.as_ref().is_none_or(|dependency| {
        if dependency.any { dependency.terms.iter().any(holds) } else { dependency.terms.iter().all(holds) }
    });
    began && free
}

/// Most tasks of a user that run in the quality of service `few`.
const FEW: u32 = 2;

/// Gives a cluster qualities of service, and some clusters accounts, the order `multifactor`, or a promise for each job.
pub(crate) fn share(rng: &mut Rng, config: &mut ClusterConfig) {
    config.qos.push(QosConfig {
        name: "few".to_owned(),
        priority: 10,
        running_per_user_max: Some(FEW),
        ..QosConfig::default()
    });
    if rng.one_in(2) {
        let users = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        let account = |name: &str, parent: Option<&str>, names: &[&str]| AccountConfig {
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            shares: 1,
            users: users(names),
        };
        config.accounts = vec![account("a", None, &["ann"]), account("b", Some("a"), &["ann", "bob"])];
    }
    share_otherwise(rng, config);
    if rng.one_in(4) {
        config.pools[0].backfill = Backfill::Conservative;
    }
}

/// Changes what an admin may change while jobs wait and run.
pub(crate) fn share_otherwise(rng: &mut Rng, config: &mut ClusterConfig) {
    config.policy.priority.half_life_s = 10 + rng.below(100);
    config.pools[0].order = if rng.one_in(2) { Order::Multifactor } else { Order::Default };
    for qos in &mut config.qos {
        qos.priority = rng.below(100) as i32 - 50;
        qos.usage_percent = 50 * rng.below(5) as u32;
    }
}

/// Who submits a job, the account that it charges, and its quality of service.
pub(crate) fn charge(rng: &mut Rng) -> (User, Option<String>, Option<String>) {
    let (name, uid) = if rng.one_in(3) { ("bob", 1001) } else { ("ann", 1000) };
    let qos = (rng.below(3) == 0).then(|| "few".to_owned());
    (User { name: name.to_owned(), uid, gid: uid }, rng.one_in(3).then(|| "b".to_owned()), qos)
}

/// Most are arrays of small tasks on single nodes that only wait for room.
pub(crate) fn for_lines(rng: &mut Rng, spec: &mut JobSpec) {
    (spec.qos, spec.reservation) = (None, None);
    if rng.one_in(4) {
        return;
    }
    let indices = vec![IndexRange { first: 0, last: 16 + rng.below(24) as u32, step: 1 }];
    spec.array = Some(ArraySpec { indices, running_max: None });
    spec.request = Request { ranks: 1 + rng.below(2) as u32, ..Request::default() }.into();
    spec.eligibility = Default::default();
    spec.requeue = true;
}

/// Whether no more tasks of a job's user are live in its quality of service than may be, and no more licences are held than
/// there are.
pub(crate) fn keeps_to_its_limit(state: &State, id: JobId) -> bool {
    let Some(spec) = state.jobs.get(&id).map(|job| &job.spec) else { return true };
    let is_alike = |uid: u32, qos: &Option<String>| uid == spec.user.uid && *qos == spec.qos;
    let alike = state.live().filter(|(_, job, _)| is_alike(job.spec.user.uid, &job.spec.qos)).count();
    let is_licensed = |(name, total): (&String, &u32)| state.licenses_held(name) <= u64::from(*total);
    let licensed = state.config.licenses.iter().all(is_licensed);
    licensed && (spec.qos.as_deref() != Some("few") || alike <= FEW as usize)
}
