//! Who is let in: how many connections each user may have, and how often they may ask, requests to the batch service included.
//!
//! Those who administer the cluster are let in always: what they do may be what ends a flood.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_config::ClientLimits;
use muster_core::ids::Timestamp;
use muster_core::rate::Buckets;

use super::answer::ApiError;
use super::peer::Peer;

/// When to try again for a connection: nobody knows when another one ends.
const CONNECTION_AGAIN_MS: u64 = 500;
/// How often at most the log is told that a user asks too often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Looks at everybody who comes in.
pub struct Door(Mutex<State>);

struct State {
    limits: ClientLimits,
    buckets: Buckets,
    /// Open connections by user id; of those who have some.
    open: HashMap<u32, u32>,
    said: Option<Instant>,
}

/// The place of a connection among those of its user, until it is dropped.
pub struct Entered {
    door: Arc<Door>,
    uid: Option<u32>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(uid) = self.uid else { return };
        let mut state = self.door.lock();
        if let Some(open) = state.open.get_mut(&uid) {
            *open -= 1;
            if *open == 0 {
                state.open.remove(&uid);
            }
        }
    }
}

impl Door {
    /// Nobody has come yet.
    #[must_use]
    pub fn new(limits: ClientLimits) -> Self {
        let state = State { limits, buckets: Buckets::default(), open: HashMap::new(), said: None };
        Self(Mutex::new(state))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters that a panic left behind are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits are in force from now on. Connections that are open stay.
    pub fn configure(&self, limits: ClientLimits) {
        self.lock().limits = limits;
    }

    /// A connection comes in.
    ///
    /// # Errors
    /// `ApiError::UserConnections` if its user has too many.
    pub fn enter(self: &Arc<Self>, peer: &Peer) -> Result<Entered, ApiError> {
        let uid = (!peer.admin).then_some(peer.uid);
        if let Some(uid) = uid {
            let mut state = self.lock();
            let limit = state.limits.connections_max;
            let open = state.open.get(&uid).copied().unwrap_or(0);
            if open >= limit {
                return Err(ApiError::UserConnections { limit, again_ms: CONNECTION_AGAIN_MS });
            }
            state.open.insert(uid, open + 1);
        }
        Ok(Entered { door: Arc::clone(self), uid })
    }

    /// A request comes in.
    ///
    /// # Errors
    /// `ApiError::TooOften` if its user has asked too often.
    pub fn ask(&self, peer: &Peer, now: Timestamp) -> Result<(), ApiError> {
        if peer.admin {
            return Ok(());
        }
        let mut state = self.lock();
        let Some(rate) = state.limits.rate else { return Ok(()) };
        let Err(short_us) = state.buckets.take(rate, peer.uid, now) else { return Ok(()) };
        if state.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            state.said = Some(Instant::now());
            let (uid, name) = (peer.uid, peer.name.as_deref().unwrap_or("-"));
            tracing::warn!(
                uid,
                name,
                per_s = rate.per_s,
                burst = rate.burst,
                "a user asks too often, and is made to wait"
            );
        }
        Err(ApiError::TooOften { rate, again_ms: short_us.div_ceil(1000) })
    }
}

#[cfg(test)]
mod tests {
    use muster_core::rate::Rate;

    use super::*;

    fn peer(uid: u32, admin: bool) -> Peer {
        Peer { uid, gid: uid, name: None, admin }
    }

    #[test]
    fn connections_are_counted_by_user_and_given_back() {
        let door = Arc::new(Door::new(ClientLimits { rate: None, connections_max: 2 }));
        let (first, second) = (door.enter(&peer(1, false)).unwrap(), door.enter(&peer(1, false)).unwrap());
        let refused = door.enter(&peer(1, false)).err().unwrap().to_string();
        assert!(
            refused.contains("2 connections") && refused.contains("connections_per_user_max"),
            "{refused}"
        );
        let _other = door.enter(&peer(2, false)).unwrap();
        let _admins: Vec<Entered> = (0..5).map(|_| door.enter(&peer(1, true)).unwrap()).collect();
        drop(first);
        let third = door.enter(&peer(1, false)).unwrap();
        drop((second, third));
        assert_eq!(door.lock().open.len(), 1, "only the other user has one");
    }

    #[test]
    fn requests_are_counted_by_user_and_limits_can_change() {
        let limits = |rate| ClientLimits { rate, connections_max: 1 };
        let door = Door::new(limits(Some(Rate { per_s: 2, burst: 1 })));
        assert!(door.ask(&peer(1, false), Timestamp(0)).is_ok());
        let Err(error @ ApiError::TooOften { again_ms: 500, .. }) = door.ask(&peer(1, false), Timestamp(0))
        else {
            panic!("the bucket is empty");
        };
        let text = error.to_string();
        assert!(text.contains("2 requests a second") && text.contains("requests_per_user_s"), "{text}");
        assert!(door.ask(&peer(1, true), Timestamp(0)).is_ok(), "admins are let in");
        door.configure(limits(None));
        assert!(door.ask(&peer(1, false), Timestamp(0)).is_ok());
    }
}
