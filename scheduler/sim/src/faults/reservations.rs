//! Advance reservations that come and go, drawn by seed. What they promise is an invariant of the state, which is
//! checked after every input.

use muster_core::ids::{JobId, JobRef, Timestamp};
use muster_core::input::{Caller, Input};
use muster_core::reservation::{Repeat, ReservationSpec, ReservedNodes, Windows};
use muster_core::state::State;

use crate::rng::Rng;

const ADMIN: Caller = Caller { uid: 0, admin: true };

/// Makes a reservation, or takes one back, now and then.
pub(crate) fn change(rng: &mut Rng, state: &State, now: Timestamp, nodes: usize) -> Option<Input> {
    if rng.one_in(60) {
        let name = any(rng, state)?;
        return Some(Input::RemoveReservation { caller: ADMIN, name });
    }
    rng.one_in(30).then(|| Input::MakeReservation { caller: ADMIN, spec: Box::new(spec(rng, now, nodes)) })
}

fn any(rng: &mut Rng, state: &State) -> Option<String> {
    let place = rng.below(state.reservations_len().max(1) as u64) as usize;
    state.reservations().nth(place).map(|reserved| reserved.reservation.name.clone())
}

fn spec(rng: &mut Rng, now: Timestamp, nodes: usize) -> ReservationSpec {
    let maintenance = rng.one_in(2);
    let count = 1 + rng.below(nodes as u64) as u32;
    let nodes = match rng.below(4) {
        0 => ReservedNodes::Pool("main".to_owned()),
        1 => ReservedNodes::Count { pool: "main".to_owned(), count },
        _ => ReservedNodes::List((0..count).map(|_| format!("n{}", 1 + rng.below(nodes as u64))).collect()),
    };
    ReservationSpec {
        // A name may come again: whoever waits for it then runs after all.
        name: format!("r{}", rng.below(20)),
        nodes,
        windows: Windows {
            start: now.plus_seconds(rng.below(40)),
            duration_s: 5 + rng.below(60),
            repeat: rng.one_in(4).then_some(if rng.one_in(2) { Repeat::Daily } else { Repeat::Weekly }),
        },
        users: if maintenance { Default::default() } else { ["ann".to_owned()].into() },
        accounts: Default::default(),
        maintenance,
        ignore_running: rng.one_in(2),
        comment: String::new(),
    }
}

/// The reservation that a job uses, if it uses one.
pub(crate) fn wish(rng: &mut Rng, state: &State) -> Option<String> {
    if rng.one_in(6) { any(rng, state) } else { None }
}

/// What lets everything come to its end: no node is kept any more, and what waits for a reservation is taken out.
pub(crate) fn give_up(state: &State, accepted: &[JobId]) -> Vec<Input> {
    let names = state.reservations().map(|reserved| reserved.reservation.name.clone());
    let removed = names.map(|name| Input::RemoveReservation { caller: ADMIN, name });
    let uses = |job: &&JobId| state.jobs.get(job).is_some_and(|job| job.spec.reservation.is_some());
    let cancelled = accepted
        .iter()
        .filter(uses)
        .map(|job| Input::Cancel { caller: ADMIN, target: JobRef { job: *job, task: None } });
    removed.chain(cancelled).collect()
}
