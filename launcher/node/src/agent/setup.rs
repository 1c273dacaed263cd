//! What the node is to have because of the pool of the batch service that has it.

use muster_wire::v1::{Setup, SetupDone, SetupError};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Node;
use crate::containers::{HeldImage, Images};
use crate::deploy;
use crate::packages::{Held, Shelf};

/// The code of failures that are nobody's but the node's.
const ERROR: &str = "NodeSetupFailed";

/// What the node was told, and what it does about it.
pub(super) struct Setups {
    /// The last thing that it was told.
    told: Setup,
    /// Brings that about, until it is done.
    working: Option<AbortHandle>,
    /// The packages of it: they stay while the pool has the node.
    held: Vec<Held>,
    /// Its images.
    images: Vec<HeldImage>,
    done_to: mpsc::Sender<SetupDone>,
}

impl Setups {
    pub fn new(done_to: mpsc::Sender<SetupDone>) -> Self {
        Self { told: Setup::default(), working: None, held: Vec::new(), images: Vec::new(), done_to }
    }

    /// The node is to have this, and nothing else of that kind. What is under way for something else ends.
    pub fn begin(&mut self, node: &Node, setup: Setup) {
        if let Some(working) = self.working.take() {
            working.abort();
        }
        self.told = setup.clone();
        let dir = node.dir.path().to_owned();
        if setup == Setup::default() && !crate::mounts::are_there(&dir) {
            self.held.clear();
            self.images.clear();
            return;
        }
        let done_to = self.done_to.clone();
        let working = tokio::spawn(async move {
            let asked = match deploy::start(&dir, true) {
                Ok((socket, mut child)) => {
                    let asked = deploy::ask(socket, &setup).await;
                    let _ = tokio::task::spawn_blocking(move || child.wait()).await;
                    asked
                }
                Err(error) => Err(error),
            };
            let done = asked.unwrap_or_else(|error| {
                let error = SetupError { code: ERROR.to_owned(), message: error.sentence() };
                SetupDone { number: setup.number, errors: vec![error] }
            });
            let _ = done_to.send(done).await;
        });
        self.working = Some(working.abort_handle());
    }

    /// It is done, or could not be. Says what the controller is to hear.
    pub fn ended(&mut self, node: &Node, mut done: SetupDone) -> Option<SetupDone> {
        if done.number != self.told.number {
            return None;
        }
        self.working = None;
        let shelf = Shelf::below(&node.dir.work(&node.config));
        let mut held = Vec::new();
        for package in &self.told.packages {
            match shelf.hold(&package.digest) {
                Ok(Some(package)) => held.push(package),
                Ok(None) if !done.errors.is_empty() => {}
                Ok(None) => {
                    let message = format!("package {} was removed before it could be used", package.name);
                    done.errors.push(SetupError { code: ERROR.to_owned(), message });
                }
                Err(error) => {
                    done.errors.push(SetupError { code: ERROR.to_owned(), message: error.sentence() });
                }
            }
        }
        // Those of the pool that had the node before may go from here on.
        self.held = held;
        let images = Images::of(node.dir.path());
        self.images = self.told.images.iter().filter_map(|image| images.hold(&image.name).ok()?).collect();
        for error in &done.errors {
            tracing::warn!(
                code = error.code,
                message = error.message,
                "the node cannot be set up for its pool"
            );
        }
        (done.number > 0).then_some(done)
    }
}
