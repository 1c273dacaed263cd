//! Advance reservations as readers see them.

use std::collections::HashMap;

use muster_client::api::{KeptFor, ReservationView};
use muster_core::ids::{NodeId, Timestamp};
use muster_core::notation::format_hosts;
use muster_core::reservation::Window;
use muster_core::state::{Reserved, State};

/// The window that runs or comes next at `now`: the state's own is rolled on by the next tick.
fn window(reserved: &Reserved, now: Timestamp) -> Window {
    reserved.reservation.windows.first_open(now).unwrap_or_else(|| reserved.window())
}

/// All advance reservations, in the order of their names.
#[must_use]
pub fn reservations(state: &State, now: Timestamp) -> Vec<ReservationView> {
    let view = |reserved: &Reserved| {
        let reservation = &reserved.reservation;
        let window = window(reserved, now);
        let names: Vec<&str> = reservation.nodes.iter().map(|node| state.node(*node).name.as_str()).collect();
        ReservationView {
            name: reservation.name.clone(),
            active: window.start <= now && now < window.end,
            node_list: format_hosts(&names),
            nodes: names.len() as u32,
            start_us: window.start.0,
            end_us: window.end.0,
            repeat: reservation.windows.repeat,
            users: reservation.users.iter().cloned().collect(),
            accounts: reservation.accounts.iter().cloned().collect(),
            maintenance: reservation.maintenance,
            ignore_running: reservation.ignore_running,
            comment: reservation.comment.clone(),
            made_at_us: reserved.made_at.0,
            by_uid: reservation.by_uid,
            jobs: state.jobs_of_reservation(&reservation.name).count() as u64,
        }
    };
    state.reservations().map(view).collect()
}

/// For what each node is kept, the earliest window first.
#[must_use]
pub fn kept_for(state: &State, now: Timestamp) -> HashMap<NodeId, Vec<KeptFor>> {
    let mut all: HashMap<NodeId, Vec<KeptFor>> = HashMap::new();
    for reserved in state.reservations() {
        let window = window(reserved, now);
        for node in &reserved.reservation.nodes {
            all.entry(*node).or_default().push(KeptFor {
                reservation: reserved.reservation.name.clone(),
                maintenance: reserved.reservation.maintenance,
                start_us: window.start.0,
                end_us: window.end.0,
            });
        }
    }
    all.values_mut().for_each(|kept| kept.sort_by_key(|kept| kept.start_us));
    all
}
