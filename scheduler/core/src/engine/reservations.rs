//! Making, taking back and ending advance reservations, and what they refuse at submission.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::refused;
use super::validate::bad;
use crate::cluster::{Fill, PoolConfig};
use crate::event::Event;
use crate::ids::{NodeId, Timestamp};
use crate::input::{Caller, Decision, MadeReservation, Refusal, Reply, RunsInto, task_name};
use crate::notation::{format_hosts, format_instant, format_time_s, is_host_name};
use crate::place::{self, Candidate, Prefer, SwitchTree, Wanted};
use crate::plan::never_open;
use crate::reservation::{
    AdvanceReservation, RESERVATION_COMMENT_BYTES_MAX, RESERVATION_DURATION_MAX_S, RESERVATION_USERS_MAX,
    RESERVATIONS_MAX, ReservationSpec, ReservedNodes, Window,
};
use crate::spec::JobSpec;
use crate::state::{Job, Live, LivePhase, State};

/// Tasks told at most that may still run when a reservation starts.
const RUNNING_TOLD_MAX: usize = 20;

pub(super) fn make(state: &State, caller: Caller, spec: &ReservationSpec, now: Timestamp) -> Decision {
    match reservation(state, caller, spec, now) {
        Err(refusal) => refused(refusal),
        Ok((reservation, running)) => {
            let names: Vec<&str> =
                reservation.nodes.iter().map(|node| state.node(*node).name.as_str()).collect();
            let made = MadeReservation { node_list: format_hosts(&names), running };
            Decision {
                events: vec![Event::ReservationMade { reservation: Arc::new(reservation) }],
                effects: Vec::new(),
                reply: Ok(Reply::Reserved(made)),
            }
        }
    }
}

pub(super) fn remove(state: &State, caller: Caller, name: &str) -> Decision {
    if !caller.admin {
        return refused(Refusal::NotAdmin { what: "delete a reservation" });
    }
    match state.reservation(name) {
        None => refused(unknown(state, name)),
        Some(_) => super::done(vec![Event::ReservationRemoved { name: name.to_owned(), by_uid: caller.uid }]),
    }
}

/// Windows that have ended at `now`.
pub(crate) fn due(state: &State, now: Timestamp) -> Vec<Event> {
    let event = |reserved: &crate::state::Reserved| Event::ReservationEnded {
        name: reserved.reservation.name.clone(),
        next_start: reserved.reservation.windows.first_open(now).map(|window| window.start),
    };
    state.ended_reservations(now).map(event).collect()
}

fn unknown(state: &State, name: &str) -> Refusal {
    const TOLD_MAX: usize = 10;
    let mut known: Vec<&str> =
        state.reservations().map(|reserved| reserved.reservation.name.as_str()).take(TOLD_MAX + 1).collect();
    if known.len() > TOLD_MAX {
        known[TOLD_MAX] = "...";
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Refusal::UnknownReservation { name: name.to_owned(), known }
}

/// Checks what an admin asks for and chooses the nodes. Says as well what runs there and may reach into it.
fn reservation(
    state: &State,
    caller: Caller,
    spec: &ReservationSpec,
    now: Timestamp,
) -> Result<(AdvanceReservation, Vec<RunsInto>), Refusal> {
    if !caller.admin {
        return Err(Refusal::NotAdmin { what: "make a reservation" });
    }
    check_texts(spec)?;
    let first = check_windows(spec, now)?;
    if state.reservation(&spec.name).is_some() {
        return Err(Refusal::ReservationExists { name: spec.name.clone() });
    }
    if state.reservations_len() >= RESERVATIONS_MAX {
        return Err(Refusal::TooManyReservations { limit: RESERVATIONS_MAX });
    }
    let taken = taken(state, spec, now);
    let nodes = match &spec.nodes {
        ReservedNodes::List(names) => listed(state, names)?,
        ReservedNodes::Pool(pool) => pool_nodes(state, find_pool(state, pool)?),
        ReservedNodes::Count { pool, count } => {
            chosen(state, find_pool(state, pool)?, *count, spec, &taken, first)?
        }
    };
    if let Some((other, _)) = nodes.iter().find_map(|node| taken.get(node).map(|other| (other, node))) {
        let shared: Vec<&str> = nodes
            .iter()
            .filter(|node| taken.get(node) == Some(other))
            .map(|node| state.node(*node).name.as_str())
            .collect();
        return Err(Refusal::ReservationOverlap { other: (*other).to_owned(), nodes: format_hosts(&shared) });
    }
    let running = running_into(state, &nodes, first);
    // Nothing is said of what runs into maintenance but in the answer: it is left alone.
    if !running.is_empty() && !spec.ignore_running && !spec.maintenance {
        return Err(Refusal::ReservationBusy { start: format_instant(first.start), running: told(&running) });
    }
    let reservation = AdvanceReservation {
        name: spec.name.clone(),
        nodes: nodes.into_iter().collect(),
        windows: spec.windows,
        users: spec.users.clone(),
        accounts: spec.accounts.clone(),
        maintenance: spec.maintenance,
        ignore_running: spec.ignore_running,
        comment: spec.comment.clone(),
        by_uid: caller.uid,
    };
    Ok((reservation, running))
}

fn check_texts(spec: &ReservationSpec) -> Result<(), Refusal> {
    if !is_host_name(&spec.name) {
        let problem = format!("{:?} is not one: letters, digits, '-', '_' and '.', at most 64", spec.name);
        return Err(bad("name", problem));
    }
    if spec.comment.len() > RESERVATION_COMMENT_BYTES_MAX || spec.comment.chars().any(char::is_control) {
        return Err(bad(
            "comment",
            format!("has at most {RESERVATION_COMMENT_BYTES_MAX} bytes and no control characters"),
        ));
    }
    for (field, names) in [("users", &spec.users), ("accounts", &spec.accounts)] {
        if names.len() > RESERVATION_USERS_MAX {
            return Err(bad(
                field,
                format!("{} are named, at most {RESERVATION_USERS_MAX} may be", names.len()),
            ));
        }
        let wrong =
            |name: &&String| name.is_empty() || name.len() > 256 || name.chars().any(char::is_control);
        if let Some(name) = names.iter().find(wrong) {
            return Err(bad(field, format!("{name:?} is no name")));
        }
    }
    match (spec.maintenance, spec.users.is_empty() && spec.accounts.is_empty()) {
        (true, false) => Err(bad("maintenance", "nobody runs in it: leave users and accounts out")),
        (false, true) => {
            Err(bad("users", "say which users or accounts may use it, or that it is maintenance"))
        }
        _ => Ok(()),
    }
}

/// The first window that is not over.
fn check_windows(spec: &ReservationSpec, now: Timestamp) -> Result<Window, Refusal> {
    let windows = &spec.windows;
    if windows.duration_s == 0 || windows.duration_s > RESERVATION_DURATION_MAX_S {
        let most = format_time_s(RESERVATION_DURATION_MAX_S);
        return Err(bad("duration", format!("must be at least a second and at most {most}")));
    }
    if let Some(repeat) = windows.repeat.filter(|repeat| windows.duration_s >= repeat.period_s()) {
        let (long, period) = (format_time_s(windows.duration_s), format_time_s(repeat.period_s()));
        return Err(bad(
            "duration",
            format!("{long} is too long for a window that comes again each {period}"),
        ));
    }
    if windows.start > now.plus_seconds(RESERVATION_DURATION_MAX_S) {
        return Err(bad("start", "lies more than ten years ahead"));
    }
    windows.first_open(now).ok_or_else(|| {
        let end = windows.start.plus_seconds(windows.duration_s);
        bad("start", format!("such a reservation would have been over at {}", format_instant(end)))
    })
}

/// Nodes that other reservations have at the same times. Maintenance may overlap with anything.
fn taken<'a>(state: &'a State, spec: &ReservationSpec, now: Timestamp) -> BTreeMap<NodeId, &'a str> {
    let mut taken = BTreeMap::new();
    for other in state.reservations().map(|reserved| &reserved.reservation) {
        if !spec.maintenance && !other.maintenance && spec.windows.overlap(&other.windows, now) {
            taken.extend(other.nodes.iter().map(|node| (*node, other.name.as_str())));
        }
    }
    taken
}

fn listed(state: &State, names: &BTreeSet<String>) -> Result<BTreeSet<NodeId>, Refusal> {
    if names.is_empty() {
        return Err(bad("nodes", "name at least one"));
    }
    let find = |name: &String| {
        let known = state.node_by_name(name).filter(|node| state.node(*node).declared);
        known.ok_or_else(|| Refusal::UnknownNode { node: name.clone() })
    };
    names.iter().map(find).collect()
}

fn find_pool<'a>(state: &'a State, name: &str) -> Result<&'a PoolConfig, Refusal> {
    let pools = &state.config.pools;
    pools.iter().find(|pool| pool.name == name).ok_or_else(|| Refusal::UnknownPool {
        pool: name.to_owned(),
        known: pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn pool_nodes(state: &State, pool: &PoolConfig) -> BTreeSet<NodeId> {
    state.pool_nodes(&pool.name).into_iter().flat_map(|nodes| nodes.ids.iter().copied()).collect()
}

/// So many nodes of a pool, near to each other: best of all such that take work and on which nothing runs into the
/// first window.
fn chosen(
    state: &State,
    pool: &PoolConfig,
    count: u32,
    spec: &ReservationSpec,
    taken: &BTreeMap<NodeId, &str>,
    first: Window,
) -> Result<BTreeSet<NodeId>, Refusal> {
    if count == 0 {
        return Err(bad("nodes", "at least one must be reserved"));
    }
    let names: Vec<&str> = state.nodes.iter().map(|node| node.name.as_str()).collect();
    let tree = SwitchTree::new(&state.config.switches, &names);
    let mut untaken: Vec<NodeId> =
        pool_nodes(state, pool).into_iter().filter(|node| !taken.contains_key(node)).collect();
    untaken.sort_by_key(|node| tree.position(*node));
    let is_quiet = |node: &NodeId| running_on(state, *node, first).next().is_none();
    let quiet: Vec<NodeId> = untaken.iter().copied().filter(is_quiet).collect();
    let ready: Vec<NodeId> = quiet.iter().copied().filter(|node| state.node(*node).takes_work()).collect();
    let may_be_busy = spec.ignore_running || spec.maintenance;
    let choices = [&ready, &quiet, if may_be_busy { &untaken } else { &quiet }];
    let wanted = Wanted { nodes: Some(count), ranks: count, leaves_max: None, prefer: Prefer::default() };
    let pick = |nodes: &Vec<NodeId>| {
        let candidate = |node: &NodeId| Candidate { position: tree.position(*node), ranks: 1, cores: 1 };
        let candidates: Vec<Candidate> = nodes.iter().map(candidate).collect();
        place::choose(&tree, &wanted, &candidates, Fill::Pack)
    };
    let found = choices.into_iter().filter(|nodes| nodes.len() >= count as usize).find_map(pick);
    found.map(|chosen| chosen.into_iter().map(|chosen| chosen.node).collect()).ok_or_else(|| {
        let busy = if may_be_busy { "" } else { " and have nothing that may run into it" };
        let free = if may_be_busy { untaken.len() } else { quiet.len() };
        bad(
            "nodes",
            format!(
                "{count} are asked for; {free} of the {} of pool '{}' are not reserved then{busy}",
                pool.nodes.len(),
                pool.name
            ),
        )
    })
}

/// The latest end of an attempt whose end is not decided yet.
fn latest_end(state: &State, job: &Job, live: &Live) -> Option<Timestamp> {
    let go_at = match live.phase {
        LivePhase::Preparing => {
            live.placed_at.plus_seconds(state.config.policy.prepare_timeout_s + job.spec.prepares_for_s())
        }
        LivePhase::Running { go_at, .. } => go_at,
        LivePhase::Ending { .. } => return None,
    };
    Some(job.must_end_at(live, go_at).unwrap_or(Timestamp(u64::MAX)))
}

/// What runs on a node and may reach into the first window, and so into any.
fn running_on(state: &State, node: NodeId, first: Window) -> impl Iterator<Item = RunsInto> + '_ {
    state.node(node).attempts.iter().filter_map(move |key| {
        let job = state.jobs.get(&key.task.job)?;
        let until = latest_end(state, job, job.live.get(&key.task.index)?)?;
        let task = task_name(key.task.job, key.task.index, job.is_array());
        (until > first.start).then_some(RunsInto { task, node: state.node(node).name.clone(), until })
    })
}

fn running_into(state: &State, nodes: &BTreeSet<NodeId>, first: Window) -> Vec<RunsInto> {
    nodes.iter().flat_map(|node| running_on(state, *node, first)).take(RUNNING_TOLD_MAX).collect()
}

fn told(running: &[RunsInto]) -> String {
    let text = |runs: &RunsInto| {
        let until = match runs.until {
            Timestamp(u64::MAX) => "without a limit".to_owned(),
            until => format!("until {}", format_instant(until)),
        };
        format!("job {} on {} {until}", runs.task, runs.node)
    };
    let more = if running.len() == RUNNING_TOLD_MAX { ", ..." } else { "" };
    format!("{}{more}", running.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// Refuses what may not use its reservation or never could, and what never runs between the windows of others. The
/// time limit and the pool are filled in.
pub(super) fn check(state: &State, pool: &PoolConfig, spec: &JobSpec, now: Timestamp) -> Result<(), Refusal> {
    let never = |why: String| Err(Refusal::NeverFits { pool: pool.name.clone(), why });
    let Some(name) = &spec.reservation else {
        return match never_open(state, pool, spec, now) {
            Some(why) => never(why),
            None => Ok(()),
        };
    };
    let Some(reserved) = state.reservation(name) else { return Err(unknown(state, name)) };
    let reservation = &reserved.reservation;
    if reservation.maintenance {
        return Err(Refusal::ReservationNotYours {
            name: name.clone(),
            why: "it is for maintenance: nobody runs in it".to_owned(),
        });
    }
    if !reservation.lets(&spec.user.name, spec.account.as_deref()) {
        let why = format!("it is not for user {}, nor for the account that is charged", spec.user.name);
        return Err(Refusal::ReservationNotYours { name: name.clone(), why });
    }
    let limit_s = spec.eligibility.time_min_s.or(spec.time_limit_s).unwrap_or(u64::MAX);
    let (limit, long) = (format_time_s(limit_s), format_time_s(reservation.windows.duration_s));
    if limit_s > reservation.windows.duration_s {
        return never(format!("its time limit is {limit}, and reservation '{name}' lasts {long}"));
    }
    let from = spec.eligibility.begin.map_or(now, |begin| begin.max(now));
    let last = reservation.windows.first_open(from);
    if last.is_none_or(|window| {
        reservation.windows.repeat.is_none() && window.start.max(from).plus_seconds(limit_s) > window.end
    }) {
        let end = format_instant(reserved.window().end);
        return never(format!("its time limit is {limit}, and reservation '{name}' is over at {end}"));
    }
    match never_open(state, pool, spec, now) {
        Some(why) => never(why),
        None => Ok(()),
    }
}
