//! What nodes of pools are set up with, and the packages of accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore;
use super::moves::jobs_of_pool_changed;
use super::pool::{BatchPool, Seat};
use crate::batch::{
    Application, BatchEvent, BatchPoolKey, FoldedId, FoundPackage, NodeMove, NodeSetup, PACKAGE_ERROR,
    Package, PackageDigest, PackageReference, PoolSetup, SetupError, find_package,
};
use crate::ids::{NodeId, Timestamp};
use crate::state::State;

/// What a node of a pool was told to have, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupRun {
    /// Its number: what the node says of an older one is passed over.
    pub number: u64,
    /// What it is.
    pub what: Arc<NodeSetup>,
    /// How far it is.
    pub state: SetupState,
    /// Since when.
    pub since: Timestamp,
}

/// How far the set-up of a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SetupState {
    /// The node is at it.
    UnderWay,
    /// The node has everything.
    Done,
    /// It has not; it tries again in its next session.
    Failed {
        /// Why.
        errors: Vec<SetupError>,
    },
}

impl SetupRun {
    /// What a node is to have of a pool that wants anything.
    fn begin(
        wanted: &PoolSetup,
        applications: &BTreeMap<FoldedId, Application>,
        number: u64,
        since: Timestamp,
    ) -> Option<Self> {
        if wanted.is_empty() {
            return None;
        }
        let (mut packages, mut errors) = (Vec::new(), Vec::new());
        for reference in &wanted.packages {
            match find_package(applications, reference) {
                Some(package) => packages.push(package),
                None => errors.push(SetupError {
                    code: PACKAGE_ERROR.to_owned(),
                    message: format!("{reference} is not there any more"),
                }),
            }
        }
        let state = if errors.is_empty() { SetupState::UnderWay } else { SetupState::Failed { errors } };
        let (mounts, containers) = (wanted.mounts.clone(), wanted.containers.clone());
        let what = Arc::new(NodeSetup { packages, mounts, containers });
        Some(Self { number, what, state, since })
    }

    /// Why the node could not be set up; nothing if it could, or is at it.
    #[must_use]
    pub fn errors(&self) -> &[SetupError] {
        match &self.state {
            SetupState::Failed { errors } => errors,
            SetupState::UnderWay | SetupState::Done => &[],
        }
    }
}

impl Seat {
    /// Whether the node has all that the pool wanted when it came.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.setup.as_ref().is_none_or(|setup| setup.state == SetupState::Done)
    }
}

impl BatchPool {
    /// Whether its tasks and chores must ask whether a node is set up.
    #[must_use]
    pub fn sets_nodes_up(&self) -> bool {
        !self.spec.setup.is_empty() || self.nodes.values().any(|seat| seat.setup.is_some())
    }
}

/// The set-up of a node that comes into a pool, or changes its place there. `before` is the seat that it had.
pub(super) fn seated(
    pool: &BatchPool,
    applications: &BTreeMap<FoldedId, Application>,
    to: NodeMove,
    before: Option<&Seat>,
    number: u64,
    at: Timestamp,
) -> Option<SetupRun> {
    match to {
        NodeMove::Leaving | NodeMove::Lent => match before {
            Some(seat) if seat.at != NodeMove::Claimed => seat.setup.clone(),
            _ => SetupRun::begin(&pool.spec.setup, applications, number, at),
        },
        NodeMove::Claimed | NodeMove::Back | NodeMove::LentLow | NodeMove::Preempted => None,
    }
}

/// A node has said hello after a restart, or after it had been given up: what it had may be gone, and other versions the default ones.
pub(super) fn again(state: &mut State, key: &BatchPoolKey, node: NodeId, at: Timestamp) {
    let number = state.batch.changes + 1;
    let Some(account) = state.batch.accounts.get_mut(&key.account) else { return };
    let Some(pool) = account.pools.get_mut(&key.pool) else { return };
    let setup = SetupRun::begin(&pool.spec.setup, &account.applications, number, at);
    let Some(seat) = pool.nodes.get_mut(&node).filter(|seat| seat.at != NodeMove::Claimed) else { return };
    if setup.is_some() || seat.setup.is_some() {
        seat.setup = setup;
        state.batch.changes = number;
        changed(state, key, node);
    }
}

/// A node has been set up, or could not be.
fn ended(
    state: &mut State,
    key: &BatchPoolKey,
    node: NodeId,
    number: u64,
    errors: &[SetupError],
    at: Timestamp,
) {
    let Some(seat) = state.batch.pool_mut(key).and_then(|pool| pool.nodes.get_mut(&node)) else { return };
    let Some(setup) = seat.setup.as_mut().filter(|setup| setup.number == number) else { return };
    setup.since = at;
    setup.state = match errors {
        [] => SetupState::Done,
        errors => SetupState::Failed { errors: errors.to_vec() },
    };
    changed(state, key, node);
}

fn changed(state: &mut State, key: &BatchPoolKey, node: NodeId) {
    chore::node_changed(state, node);
    chore::refresh_ready(state, node);
    jobs_of_pool_changed(state, key);
}

/// One event about packages or the set-up of nodes.
pub(super) fn happened(state: &mut State, event: &BatchEvent, at: Timestamp) {
    match event {
        BatchEvent::PackageAdded { account, application, version, digest, bytes } => {
            let account = state.batch.accounts.entry(Arc::clone(account)).or_default();
            let new = || Application { id: application.clone(), versions: BTreeMap::new(), default: None };
            let all = account.applications.entry(FoldedId::of(application)).or_insert_with(new);
            let package =
                Package { version: version.clone(), digest: digest.clone(), bytes: *bytes, added: at };
            all.versions.insert(FoldedId::of(version), package);
        }
        BatchEvent::DefaultVersionSet { account, application, version } => {
            let account = state.batch.accounts.get_mut(account);
            if let Some(found) = account.and_then(|account| account.applications.get_mut(application)) {
                found.default = Some(version.clone());
            }
        }
        BatchEvent::PackageRemoved { account, application, version } => {
            let Some(account) = state.batch.accounts.get_mut(account) else { return };
            let Some(found) = account.applications.get_mut(application) else { return };
            found.versions.remove(version);
            if found.default.as_ref() == Some(version) {
                found.default = None;
            }
            if found.versions.is_empty() {
                account.applications.remove(application);
            }
        }
        BatchEvent::NodeSetUp { pool, node, number, errors } => {
            ended(state, pool, *node, *number, errors, at);
        }
        _ => {}
    }
}

impl State {
    /// An account's applications, by id.
    #[must_use]
    pub fn batch_applications(&self, account: &str) -> Option<&BTreeMap<FoldedId, Application>> {
        self.batch_account(account).map(|account| &account.applications)
    }

    /// The package of an account that a reference stands for, if there is one.
    #[must_use]
    pub fn batch_package(&self, account: &str, reference: &PackageReference) -> Option<FoundPackage> {
        find_package(self.batch_applications(account)?, reference)
    }

    /// All packages that any account has.
    #[must_use]
    pub fn batch_package_digests(&self) -> BTreeSet<&PackageDigest> {
        let applications = self.batch.accounts.values().flat_map(|account| account.applications.values());
        applications
            .flat_map(|application| application.versions.values().map(|package| &package.digest))
            .collect()
    }

    /// What a node is to have because of the pool that has it.
    #[must_use]
    pub fn batch_setup_of(&self, node: NodeId) -> Option<&SetupRun> {
        let holder = self.batch.holder(node)?;
        self.batch.pool(holder)?.nodes.get(&node)?.setup.as_ref()
    }
}
