//! The priority sums of pools with the order `multifactor`.

use std::sync::Arc;

use super::index::Planner;
use crate::cluster::Order;
use crate::ids::Timestamp;
use crate::priority::Scale;
use crate::state::State;

impl Planner {
    /// Brings what waits in such pools up to date: once for each group, and once for each account and user.
    pub(super) fn weigh(&mut self, state: &State, now: Timestamp) {
        let config = Arc::clone(&self.config);
        let mut scale = None;
        for (pool, config) in self.pools.iter_mut().zip(&config.pools) {
            if config.order != Order::Multifactor || pool.classes.is_empty() {
                continue;
            }
            let scale = scale.get_or_insert_with(|| Scale::new(state, now));
            pool.classes.weigh(|claim| scale.standing(config, claim).standing());
        }
    }
}
