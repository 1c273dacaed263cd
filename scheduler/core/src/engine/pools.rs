//! What admins do with pools: keep new jobs out, let nothing start, and let both go on.

use super::{done, refused};
use crate::event::Event;
use crate::input::{Caller, Decision, Refusal};
use crate::state::{PoolState, State};

/// Sets what a pool does.
pub(super) fn change(state: &State, caller: Caller, pool: &str, to: PoolState) -> Decision {
    if !caller.admin {
        return refused(Refusal::NotAdmin { what: "change what a pool does" });
    }
    let pools = &state.config.pools;
    if !pools.iter().any(|known| known.name == pool) {
        let known = pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ");
        return refused(Refusal::UnknownPool { pool: pool.to_owned(), known });
    }
    if state.pool_state(pool) == to {
        return done(Vec::new());
    }
    done(vec![Event::PoolChanged { pool: pool.to_owned(), state: to, by_uid: caller.uid }])
}

/// Whether a pool takes new jobs.
pub(super) fn check_takes_jobs(state: &State, pool: &str) -> Result<(), Refusal> {
    let now = state.pool_state(pool);
    if now.takes_jobs() {
        Ok(())
    } else {
        Err(Refusal::PoolClosed { pool: pool.to_owned(), state: now.word() })
    }
}
