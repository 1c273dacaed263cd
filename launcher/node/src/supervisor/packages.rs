//! The packages of the batch service that a task needs on its node.

use muster_wire::v1::{Package, Setup, StagingFailed};
use tokio::time::Instant;

use super::{Event, Outcome, Supervisor};
use crate::deploy;
use crate::error::{NodeError, Result};
use crate::packages::{ERROR, Shelf};

impl Supervisor {
    /// Has packages unpacked that are not there yet, and holds all of them. The answer is how the attempt ends, if it was stopped
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] if a package cannot be had or unpacked.
    pub(super) async fn bring_packages(
        &mut self,
        packages: &[Package],
        deadline: Instant,
    ) -> Result<Option<Outcome>> {
        let missing = self.hold_packages(packages);
        if missing.is_empty() {
            return Ok(None);
        }
        let order = Setup { packages: missing.clone(), ..Setup::default() };
        let late = "the packages were not there in time";
        if let Some(stopped) = self.have_deployed(order, deadline, (ERROR, late)).await? {
            return Ok(Some(stopped));
        }
        let failed =
            |message: String| Err(NodeError::Staged(StagingFailed { code: ERROR.to_owned(), message }));
        match self.hold_packages(&missing).first() {
            None => Ok(None),
            Some(package) => failed(format!("package {} was removed before it could be used", package.name)),
        }
    }

    /// Has something brought to the node that tasks share. The answer is how the attempt ends, if it was stopped meanwhile; `late` is
    /// what is wrong where it takes too long.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] if it cannot be had.
    pub(super) async fn have_deployed(
        &mut self,
        order: Setup,
        deadline: Instant,
        (code, late): (&str, &str),
    ) -> Result<Option<Outcome>> {
        // It brings nothing of the task's own, and is no process of the attempt: it ends with the socket, and what it leaves is of
        // use to others.
        let (socket, _reaped_as_an_orphan_is) = deploy::start(&self.assignment.agent, false)?;
        let events = self.sender.clone();
        let asked = tokio::task::spawn_local(async move {
            let _ = events.send(Event::Deployed(deploy::ask(socket, &order).await)).await;
        });
        loop {
            match tokio::time::timeout_at(deadline, self.next_event()).await {
                Ok(Event::Deployed(done)) => {
                    return match done?.errors.into_iter().next() {
                        None => Ok(None),
                        Some(error) => {
                            Err(NodeError::Staged(StagingFailed { code: error.code, message: error.message }))
                        }
                    };
                }
                Ok(Event::Stop(stop)) => {
                    asked.abort();
                    return Ok(Some(Outcome::stopped(&stop)));
                }
                Ok(other) => self.note_step(other),
                Err(_) => {
                    asked.abort();
                    let (code, message) = (code.to_owned(), late.to_owned());
                    return Err(NodeError::Staged(StagingFailed { code, message }));
                }
            }
        }
    }

    /// Holds those that are there; gives the others back.
    fn hold_packages(&mut self, packages: &[Package]) -> Vec<Package> {
        let shelf = Shelf::below(&self.assignment.work);
        let mut missing = Vec::new();
        for package in packages {
            match shelf.hold(&package.digest) {
                Ok(Some(held)) => self.packages.push(held),
                // Why a lock cannot be used is told by who unpacks it.
                Ok(None) | Err(_) => missing.push(package.clone()),
            }
        }
        missing
    }
}
