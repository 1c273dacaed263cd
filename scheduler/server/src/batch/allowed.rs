//! What the site has to have or to allow before a request can be granted.

use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{
    BatchCommand, BatchJobSpec, BatchPoolSpec, ChoreSpec, Container, ImageName, PoolSetup, TaskShape,
};
use muster_core::staging::Staging;

use super::Service;
use crate::batch_site::{containers, not_listed};

/// Checks that there is a store where a request takes files from it, and that the site lets pools mount what they ask for and images come
/// from where they do.
///
/// # Errors
/// `UnsupportedProperty`, or `InvalidPropertyValue` for a source that the site does not list.
pub(super) fn check(service: &Service, command: &BatchCommand) -> Result<(), BatchError> {
    if service.store.is_none() && stagings(command).any(Staging::uses_auto_storage) {
        let (name, why) =
            ("autoStorageContainerName", "this service has no store of its own; name an address");
        let why = format!("The property {name} is not offered: {why}.");
        return Err(BatchError::new(ErrorCode::UnsupportedProperty, why).with("PropertyName", name));
    }
    let site = service.sessions.batch();
    if let Some((property, said, why)) = containers::refused(site, images(command), own_containers(command)) {
        return Err(BatchError::invalid_property(property, &said, &why));
    }
    let mut mounts = setup(command).into_iter().flat_map(|setup| &setup.mounts);
    match mounts.find(|mount| !site.is_some_and(|site| site.allows(&mount.source))) {
        None => Ok(()),
        Some(mount) => {
            let (name, said) = ("mountConfiguration.nfsMountConfiguration.source", mount.source.to_string());
            Err(BatchError::invalid_property(name, &said, &not_listed(&mount.source)))
        }
    }
}

fn pool(command: &BatchCommand) -> Option<&BatchPoolSpec> {
    match command {
        BatchCommand::CreatePool { spec, .. } | BatchCommand::UpdatePool { spec, .. } => Some(spec),
        _ => job(command)?.auto_pool.as_ref().map(|auto_pool| &auto_pool.pool),
    }
}

fn job(command: &BatchCommand) -> Option<&BatchJobSpec> {
    match command {
        BatchCommand::CreateJob { spec } | BatchCommand::UpdateJob { spec, .. } => Some(spec),
        BatchCommand::CreateSchedule { spec } | BatchCommand::UpdateSchedule { spec, .. } => Some(&spec.job),
        _ => None,
    }
}

fn setup(command: &BatchCommand) -> Option<&PoolSetup> {
    pool(command).map(|pool| &pool.setup)
}

/// Tasks of which a request says anything.
fn shapes(command: &BatchCommand) -> impl Iterator<Item = &TaskShape> {
    let tasks = match command {
        BatchCommand::AddTasks { shapes, .. } => shapes.as_slice(),
        BatchCommand::UpdateTask { shape, .. } => std::slice::from_ref(shape),
        _ => &[],
    };
    let manager = job(command).and_then(|job| job.manager.as_ref()).map(|manager| &manager.shape);
    tasks.iter().chain(manager).map(|shape| &**shape)
}

/// Chores of which a request says anything.
fn chores(command: &BatchCommand) -> impl Iterator<Item = &ChoreSpec> {
    let of_job = job(command).into_iter().flat_map(|job| job.preparation.iter().chain(&job.release));
    of_job.chain(pool(command).and_then(|pool| pool.start.as_ref())).map(|chore| &**chore)
}

/// Everything whose files a request says.
fn stagings(command: &BatchCommand) -> impl Iterator<Item = &Staging> {
    shapes(command).map(|shape| &shape.staging).chain(chores(command).map(|chore| &chore.staging))
}

/// The images that a request has brought to nodes.
fn images(command: &BatchCommand) -> impl Iterator<Item = &ImageName> {
    let containers = setup(command).and_then(|setup| setup.containers.as_ref());
    containers.into_iter().flat_map(|containers| &containers.images)
}

/// The containers of what a request says.
fn own_containers(command: &BatchCommand) -> impl Iterator<Item = &Container> {
    let shapes = shapes(command).filter_map(|shape| shape.container.as_deref());
    shapes.chain(chores(command).filter_map(|chore| chore.container.as_deref()))
}
