//! Application packages, and the set-up of nodes.

use std::sync::Arc;

use super::{Decided, event, invalid, not_found};
use crate::batch::{
    APPLICATIONS_PER_ACCOUNT_MAX, Application, BatchCommand, BatchEvent, BatchInput, BatchRefusal, FoldedId,
    MOUNTS_PER_POOL_MAX, NodeMove, NodeSetup, PACKAGE_REFERENCES_MAX, PackageDigest, PackageReference,
    PoolSetup, SETUP_ERRORS_MAX, SetupError, Target, VERSIONS_PER_APPLICATION_MAX, find_package, is_id,
    is_version,
};
use crate::engine::{done, refused};
use crate::event::Event;
use crate::input::{Decision, Effect, Refusal};
use crate::state::{SetupState, State};

pub(super) fn decide(state: &State, input: &BatchInput) -> Decided {
    let account = &input.caller.account;
    match &input.command {
        BatchCommand::AddPackage { application, version, digest, bytes, default } => {
            add(state, account, application, version, (digest, *bytes), *default)
        }
        BatchCommand::SetDefaultVersion { application, version } => {
            let found = find(state, account, application, version)?;
            if found.default.as_ref() == Some(version) {
                return Ok(Vec::new());
            }
            Ok(vec![default(account, application, version)])
        }
        BatchCommand::RemovePackage { application, version } => {
            let found = find(state, account, application, version)?;
            is_free(state, account, application, version, found.default.as_ref() == Some(version))?;
            let (account, application) = (Arc::clone(account), application.clone());
            let version = version.clone();
            Ok(vec![event(BatchEvent::PackageRemoved { account, application, version })])
        }
        _ => Ok(Vec::new()),
    }
}

fn add(
    state: &State,
    account: &Arc<str>,
    application: &str,
    version: &str,
    (digest, bytes): (&PackageDigest, u64),
    is_default: bool,
) -> Decided {
    if !is_id(application) {
        return Err(invalid("applicationId", "must have 1 to 64 letters, digits, hyphens or underscores"));
    }
    if !is_version(version) {
        let reason = "must have 1 to 64 letters, digits, hyphens, underscores or periods";
        return Err(invalid("version", reason));
    }
    let all = state.batch_applications(account);
    let (id, version_id) = (FoldedId::of(application), FoldedId::of(version));
    let found = all.and_then(|all| all.get(&id));
    let mut events = Vec::new();
    match found.and_then(|found| found.versions.get(&version_id)) {
        Some(package) if package.digest == *digest => {}
        Some(package) => {
            let why = format!(
                "version '{}' of application '{application}' is there with other contents: give the new ones another \
                 version, or remove it first",
                package.version
            );
            return Err(BatchRefusal::PackageInUse { why });
        }
        None => {
            let applications = all.map_or(0, std::collections::BTreeMap::len);
            if found.is_none() && applications >= APPLICATIONS_PER_ACCOUNT_MAX {
                let (what, limit) = ("applications", APPLICATIONS_PER_ACCOUNT_MAX);
                return Err(BatchRefusal::Quota { what, limit });
            }
            if found.is_some_and(|found| found.versions.len() >= VERSIONS_PER_APPLICATION_MAX) {
                let (what, limit) = ("versions of the application", VERSIONS_PER_APPLICATION_MAX);
                return Err(BatchRefusal::Quota { what, limit });
            }
            events.push(event(BatchEvent::PackageAdded {
                account: Arc::clone(account),
                application: application.to_owned(),
                version: version.to_owned(),
                digest: digest.clone(),
                bytes,
            }));
        }
    }
    let was_default = found.is_some_and(|found| found.default.as_ref() == Some(&version_id));
    if is_default && !was_default {
        events.push(default(account, &id, &version_id));
    }
    Ok(events)
}

fn default(account: &Arc<str>, application: &FoldedId, version: &FoldedId) -> Event {
    event(BatchEvent::DefaultVersionSet {
        account: Arc::clone(account),
        application: application.clone(),
        version: version.clone(),
    })
}

/// The application of a version that is there.
fn find<'a>(
    state: &'a State,
    account: &str,
    application: &FoldedId,
    version: &FoldedId,
) -> Result<&'a Application, BatchRefusal> {
    let found = state.batch_applications(account).and_then(|all| all.get(application));
    let found = found.ok_or_else(|| not_found(Target::Application, application))?;
    match found.versions.contains_key(version) {
        true => Ok(found),
        false => Err(not_found(Target::Package, version)),
    }
}

/// Whether no pool needs a version: nodes that come to it would be good for nothing.
fn is_free(
    state: &State,
    account: &str,
    application: &FoldedId,
    version: &FoldedId,
    is_default: bool,
) -> Result<(), BatchRefusal> {
    let names_it = |reference: &PackageReference| {
        FoldedId::of(&reference.application) == *application
            && match &reference.version {
                Some(named) => FoldedId::of(named) == *version,
                None => is_default,
            }
    };
    let pools = state.batch_account(account).into_iter().flat_map(|account| account.pools.values());
    let mut users = pools.filter(|pool| pool.spec.setup.packages.iter().any(names_it));
    match users.next() {
        None => Ok(()),
        Some(pool) => {
            let why = format!(
                "pool '{}' has this version on its nodes: change its applicationPackageReferences, or delete it first",
                pool.spec.id
            );
            Err(BatchRefusal::PackageInUse { why })
        }
    }
}

/// Checks that packages are there that somebody refers to, and that they are not too many.
pub(super) fn check(
    state: &State,
    account: &str,
    references: &[PackageReference],
) -> Result<(), BatchRefusal> {
    if references.len() > PACKAGE_REFERENCES_MAX {
        let reason = format!("must have at most {PACKAGE_REFERENCES_MAX} entries");
        return Err(invalid("applicationPackageReferences", reason));
    }
    let none = std::collections::BTreeMap::new();
    let all = state.batch_applications(account).unwrap_or(&none);
    match references.iter().find(|reference| find_package(all, reference).is_none()) {
        None => Ok(()),
        Some(missing) => {
            let why = match all.get(&FoldedId::of(&missing.application)) {
                None => {
                    let known: Vec<&str> = all.values().map(|known| known.id.as_str()).collect();
                    format!("there is no {missing}; applications: {}", known.join(", "))
                }
                Some(known) => {
                    let known: Vec<&str> =
                        known.versions.values().map(|package| package.version.as_str()).collect();
                    format!("there is no {missing}; versions: {}", known.join(", "))
                }
            };
            Err(BatchRefusal::Packages { why })
        }
    }
}

/// Checks what a pool wants on its nodes.
pub(super) fn check_setup(state: &State, account: &str, setup: &PoolSetup) -> Result<(), BatchRefusal> {
    check(state, account, &setup.packages)?;
    super::container::check_setup(setup)?;
    if setup.mounts.len() > MOUNTS_PER_POOL_MAX {
        let reason = format!("must have at most {MOUNTS_PER_POOL_MAX} entries");
        return Err(invalid("mountConfiguration", reason));
    }
    let mut seen = std::collections::BTreeSet::new();
    match setup.mounts.iter().find(|mount| !seen.insert(&mount.path)) {
        Some(twice) => {
            let reason = format!("'{}' is the place of two file systems", twice.path);
            Err(invalid("mountConfiguration", reason))
        }
        None => Ok(()),
    }
}

/// What a node says of its set-up. What it was told before something else is passed over.
pub(in crate::engine) fn set_up(state: &State, name: &str, number: u64, errors: &[SetupError]) -> Decision {
    let Some(node) = state.node_by_name(name) else {
        return refused(Refusal::UnknownNode { node: name.to_owned() });
    };
    let holder = state.batch_holder(node).cloned();
    let known = state.batch_setup_of(node).filter(|setup| setup.number == number);
    let (Some(pool), Some(known)) = (holder, known) else { return done(Vec::new()) };
    let errors: Vec<SetupError> = errors.iter().take(SETUP_ERRORS_MAX).cloned().collect();
    let is_known = match &known.state {
        SetupState::UnderWay => false,
        SetupState::Done => errors.is_empty(),
        SetupState::Failed { errors: before } => *before == errors,
    };
    if is_known {
        return done(Vec::new());
    }
    done(vec![event(BatchEvent::NodeSetUp { pool, node, number, errors })])
}

/// What nodes are told because of an event that has just happened.
pub(in crate::engine) fn effects(state: &State, event: &BatchEvent, out: &mut Vec<Effect>) {
    let BatchEvent::NodesMoved { moves, .. } = event else { return };
    for (node, to) in moves {
        let setup = state.batch_setup_of(*node);
        match (to, setup) {
            (NodeMove::Lent | NodeMove::LentLow, Some(setup)) => {
                out.push(Effect::SetUp { node: *node, number: setup.number, what: Arc::clone(&setup.what) });
            }
            (NodeMove::Back | NodeMove::Preempted, None) => {
                out.push(Effect::SetUp { node: *node, number: 0, what: Arc::new(NodeSetup::default()) });
            }
            _ => {}
        }
    }
}
