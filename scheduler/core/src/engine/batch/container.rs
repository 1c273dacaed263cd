//! Containers of tasks and chores: their pools say whether there may be any.

use super::invalid;
use crate::batch::{
    BatchJobSpec, BatchPoolKey, BatchPoolSpec, BatchRefusal, Container, IMAGES_PER_POOL_MAX, PoolSetup,
};
use crate::state::State;

/// Checks what a pool says of containers.
pub(super) fn check_setup(setup: &PoolSetup) -> Result<(), BatchRefusal> {
    match &setup.containers {
        Some(containers) if containers.images.len() > IMAGES_PER_POOL_MAX => {
            let reason = format!("must have at most {IMAGES_PER_POOL_MAX} entries");
            Err(invalid("containerImageNames", reason))
        }
        _ => Ok(()),
    }
}

/// Checks that a pool, if it is known yet, has containers for who wants one.
fn check(setup: Option<&PoolSetup>, container: Option<&Container>) -> Result<(), BatchRefusal> {
    match (setup, container) {
        (Some(setup), Some(_)) if setup.containers.is_none() => {
            let reason =
                "needs a pool with containers: say containerConfiguration in its virtualMachineConfiguration";
            Err(invalid("containerSettings", reason))
        }
        _ => Ok(()),
    }
}

/// Checks the container of a pool's start task.
pub(super) fn check_start(pool: &BatchPoolSpec) -> Result<(), BatchRefusal> {
    check(Some(&pool.setup), pool.start.as_ref().and_then(|start| start.container.as_deref()))
}

/// Checks the container of a task. A pool that is not there yet may have them when it comes.
pub(super) fn check_task(
    state: &State,
    pool: &BatchPoolKey,
    container: Option<&Container>,
) -> Result<(), BatchRefusal> {
    check(state.batch_pool(pool).map(|pool| &pool.spec.setup), container)
}

/// Checks the containers of what comes with a job.
pub(super) fn check_job(state: &State, pool: &BatchPoolKey, job: &BatchJobSpec) -> Result<(), BatchRefusal> {
    let own = job.auto_pool.as_ref().map(|auto_pool| &auto_pool.pool.setup);
    let setup = own.or_else(|| state.batch_pool(pool).map(|pool| &pool.spec.setup));
    let chores = [&job.preparation, &job.release].into_iter().flatten();
    let chores = chores.filter_map(|chore| chore.container.as_deref());
    let manager = job.manager.as_ref().and_then(|manager| manager.shape.container.as_deref());
    chores.chain(manager).try_for_each(|container| check(setup, Some(container)))
}
