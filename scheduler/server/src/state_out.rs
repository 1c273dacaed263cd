//! The state for those who want to look at it elsewhere.

use std::sync::Arc;

use muster_config::Config;
use muster_core::state::State;

use crate::error::ServerError;
use crate::server::place;

/// The durable state of the controller of this configuration, whether it runs or not. Scripts, arguments and
/// environments are left out: they are their users' own.
///
/// # Errors
/// [`ServerError::Store`] if there is none or it cannot be read.
pub fn read_state(config: &Config) -> Result<State, ServerError> {
    let place = place(&config.controller).map_err(ServerError::Store)?;
    let mut state = muster_store::read_state(&place).map_err(ServerError::Store)?;
    for job in state.jobs.values_mut() {
        let spec = Arc::make_mut(&mut Arc::make_mut(job).spec);
        spec.script = Default::default();
        spec.arguments.clear();
        spec.environment = Default::default();
        spec.staging = None;
    }
    Ok(state)
}
