//! What an attempt of an array's task leaves for the next one of the same job that this supervisor gets: a folder with launchers' files and
//! sockets, and cgroups. To make and to remove them is more work than the start of a small task.
//!
//! Nothing of the task itself stays: everything that ran is dead, and a folder in which its user has made or changed something,
//! or cgroups to which memory is still charged, are removed. The agent tells which folder an attempt has; while it waits, a place is
//! the supervisor's, which removes it after a moment without work, or for the sake of another job, or at its own end.

use std::path::PathBuf;
use std::time::Duration;

use muster_wire::v1;

use super::run_folder::Contents;
use super::spawn::Open;
use super::work::Left;
use super::{events, steps};
use crate::attempt::Assignment;
use crate::containment::{Group, Limits};

/// How long a place waits for an attempt.
pub(super) const KEPT_FOR: Duration = Duration::from_millis(500);

/// Whether an attempt may leave a place, or find one.
pub(crate) fn is_for(prepare: &v1::Prepare) -> bool {
    // Whoever is not root cannot keep the user from changing things: it is the user.
    nix::unistd::geteuid().is_root()
        && prepare.at_once
        && prepare.array
        && prepare.members.len() == 1
        && prepare.staging.is_none()
}

/// What of a place an attempt that runs has in use.
pub(super) struct InUse {
    pub contents: Contents,
    pub events: events::Socket,
    pub steps: steps::Socket,
}

/// A place without an attempt.
pub(super) struct Place {
    run: PathBuf,
    pub in_use: InUse,
    pub group: Option<KeptGroup>,
    /// What the attempt before has left in memory.
    pub left: Left,
}

/// Cgroups that are left.
pub(super) struct KeptGroup {
    pub group: Group,
    /// The limits that they have.
    pub limits: Limits,
    /// What was used in them until now.
    pub used: v1::Usage,
    /// How processes get into them.
    pub open: Open,
}

impl KeptGroup {
    /// Removes them.
    pub async fn remove(self) {
        // A group in which a thread stands cannot be removed.
        drop(self.open);
        self.group.remove().await;
    }
}

impl Place {
    /// What an attempt leaves; `None` if that is not for another one.
    pub fn of(run: PathBuf, mut in_use: InUse, group: Option<KeptGroup>, left: Left) -> Option<Self> {
        // What is still in the sockets was meant for the attempt that is over.
        if in_use.events.has_news() || in_use.steps.has_news() || !in_use.contents.is_as_given().ok()? {
            return None;
        }
        Some(Self { run, in_use, group, left })
    }

    /// Whether it is the one that an attempt is to have.
    pub fn fits(&self, assignment: &Assignment, prepare: &v1::Prepare) -> bool {
        let job = |prepare: &v1::Prepare| prepare.key.unwrap_or_default().job;
        let before = &self.left.prepare;
        is_for(prepare)
            && self.run == assignment.run
            && (job(before), &before.user) == (job(prepare), &prepare.user)
    }

    /// Removes it.
    pub async fn remove(self) {
        if let Some(kept) = self.group {
            kept.remove().await;
        }
        remove_folder(&self.run);
    }
}

/// Gives cgroups that are left the limits of the next attempt, or removes them if they cannot have those.
pub(super) async fn limited(kept: Option<KeptGroup>, limits: &Limits) -> Option<KeptGroup> {
    let mut kept = kept?;
    let same = |limits: &Limits| (limits.memory_bytes, limits.withheld.clone(), limits.cpus.len());
    let fits = same(&kept.limits) == same(limits)
        && (kept.limits.cpus == limits.cpus || kept.group.move_to(&limits.cpus).is_ok());
    if !fits {
        kept.remove().await;
        return None;
    }
    kept.limits.cpus.clone_from(&limits.cpus);
    Some(kept)
}

/// Removes an attempt's folder with all that is in it.
pub(super) fn remove_folder(run: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(run) {
        tracing::warn!(%error, "the attempt's folder cannot be removed");
    }
}

/// What was used since the cgroups had been used for `before`. The peak of memory is of this time alone already.
pub(super) fn since(now: v1::Usage, before: &v1::Usage) -> v1::Usage {
    v1::Usage {
        cpu_time_us: now.cpu_time_us.saturating_sub(before.cpu_time_us),
        cpu_system_us: now.cpu_system_us.saturating_sub(before.cpu_system_us),
        read_bytes: now.read_bytes.saturating_sub(before.read_bytes),
        write_bytes: now.write_bytes.saturating_sub(before.write_bytes),
        read_operations: now.read_operations.saturating_sub(before.read_operations),
        write_operations: now.write_operations.saturating_sub(before.write_operations),
        ..now
    }
}
