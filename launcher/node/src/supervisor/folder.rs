//! The task's own folder on this node, and the variables by which its programs find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_wire::v1;

use super::Supervisor;
use crate::error::Result;
use crate::folders::{self, Record, Records, WORKING_DIRECTORY};
use crate::process::now_us;
use crate::user::Account;

/// The port of the batch service that a multi-instance task is told; nothing of MPI's may use it, and nothing listens.
const MASTER_PORT: u16 = 6000;
/// How many bytes of the node's disk tasks leave free, as they are told.
const RESERVED_DISK_BYTES: u64 = 1_000_000_000;
/// Variables of the batch service whose values are paths below the root, which the node alone knows.
const BELOW_ROOT: [&str; 2] = ["AZ_BATCH_JOB_PREP_DIR", "AZ_BATCH_JOB_PREP_WORKING_DIR"];
/// How the variables of application packages begin, whose values are such paths too.
const PACKAGES: &str = "AZ_BATCH_APP_PACKAGE_";

/// The task's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// The folder itself.
    pub path: PathBuf,
}

impl Folder {
    pub fn working_directory(&self) -> PathBuf {
        self.path.join(WORKING_DIRECTORY)
    }
}

impl Supervisor {
    /// Makes the folder of a task that has one, and lets the task's work begin and write there.
    ///
    /// # Errors
    ///
    /// [`crate::NodeError`] if it cannot be made.
    pub(super) fn make_folder(&mut self, account: &Account) -> Result<()> {
        let Some(staging) = &self.prepare.staging else { return Ok(()) };
        let record = Record {
            key: self.order(),
            folder: staging.folder.clone().into(),
            uid: account.uid,
            retention_s: staging.retention_s,
            ended_at_s: None,
        };
        let path = folders::make(&self.assignment.work, &self.records(), &record, account, staging.open)?;
        let folder = Folder { path };
        if let Some(read) = &mut self.read {
            lead_into(&mut read.work, &folder, !staging.coordination.is_empty());
        }
        self.folder = Some(folder);
        Ok(())
    }

    /// Nothing of the task's has run, and its folder is as if it had never been.
    pub(super) fn drop_folder(&self) {
        let record = self.folder.as_ref().and_then(|_| self.records().find(self.order()));
        if let Some(Err(error)) = record.map(|record| self.records().remove(&self.assignment.work, &record)) {
            tracing::warn!(error = error.sentence(), "the task's folder cannot be removed");
        }
    }

    /// From here on the folder is kept for as long as it was wished for.
    pub(super) fn note_end_of_folder(&self) {
        if self.folder.is_some() {
            self.records().note_end(self.order(), now_us() / 1_000_000);
        }
    }

    fn records(&self) -> Records {
        Records::at(self.assignment.records.clone())
    }

    fn order(&self) -> (u64, u32, u32) {
        let key = self.prepare.key.unwrap_or_default();
        (key.job, key.task, key.attempt)
    }

    /// Adds what a task with a folder finds in its environment.
    pub(super) fn add_folder_words(&self, all: &mut BTreeMap<String, String>) {
        let Some((staging, folder)) = self.prepare.staging.as_ref().zip(self.folder.as_ref()) else { return };
        let root = self.assignment.work.as_path();
        let text = |path: &Path| path.display().to_string();
        let (task, inner) = (text(&folder.path), text(&folder.working_directory()));
        let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        set("MUSTER_TASK_DIR", task.clone());
        set("MUSTER_NODE_SHARED_DIR", text(&root.join("shared")));
        if !staging.batch {
            return;
        }
        set("AZ_BATCH_NODE_ROOT_DIR", text(root));
        set("AZ_BATCH_NODE_SHARED_DIR", text(&root.join("shared")));
        set("AZ_BATCH_NODE_STARTUP_DIR", text(&root.join("startup")));
        set("AZ_BATCH_NODE_MOUNTS_DIR", text(&root.join("fsmounts")));
        set("AZ_BATCH_TASK_DIR", task.clone());
        set("AZ_BATCH_TASK_WORKING_DIR", inner);
        set("AZ_BATCH_CERTIFICATES_DIR", text(&folder.path.join("certs")));
        set("AZ_BATCH_TASK_RESERVED_EPHEMERAL_DISK_SPACE_BYTES", RESERVED_DISK_BYTES.to_string());
        let has_instances = self.prepare.members.len() > 1 || !staging.coordination.is_empty();
        if has_instances {
            let members = &self.prepare.members;
            set("AZ_BATCH_HOST_LIST", addresses(members, ","));
            set("AZ_BATCH_NODE_LIST", addresses(members, ";"));
            set("AZ_BATCH_MASTER_NODE", format!("{}:{MASTER_PORT}", addresses(&members[..1], "")));
            set("AZ_BATCH_IS_CURRENT_NODE_MASTER", self.is_primary().to_string());
            set("AZ_BATCH_TASK_SHARED_DIR", task);
            set("CCP_NODES", ccp_nodes(members));
        }
        all.entry("AZ_BATCH_NODE_ID".to_owned()).or_insert_with(|| self.assignment.node.clone());
        all.entry("AZ_BATCH_NODE_IS_DEDICATED".to_owned()).or_insert_with(|| "true".to_owned());
        for (name, value) in all.iter_mut() {
            if BELOW_ROOT.contains(&name.as_str()) || name.starts_with(PACKAGES) {
                *value = text(&root.join(&*value));
            }
        }
    }
}

/// Has the work begin in the folder, and write there what has no other place.
fn lead_into(work: &mut v1::Work, folder: &Folder, follows_coordination: bool) {
    let submitted_in = std::path::PathBuf::from(std::mem::take(&mut work.working_directory));
    let own = |name: &str| folder.path.join(name).display().to_string();
    // What the job names itself begins at the folder that it was submitted in.
    let named = |path: &str| submitted_in.join(path).display().to_string();
    work.working_directory = own(WORKING_DIRECTORY);
    if !work.stdin_path.is_empty() {
        work.stdin_path = named(&work.stdin_path);
    }
    match (work.stdout_path.is_empty(), work.stderr_path.is_empty()) {
        (true, true) => (work.stdout_path, work.stderr_path) = (own("stdout.txt"), own("stderr.txt")),
        (true, false) => (work.stdout_path, work.stderr_path) = (own("stdout.txt"), named(&work.stderr_path)),
        (false, true) => work.stdout_path = named(&work.stdout_path),
        (false, false) => {
            (work.stdout_path, work.stderr_path) = (named(&work.stdout_path), named(&work.stderr_path));
        }
    }
    // The coordination command has written before.
    work.append |= follows_coordination;
}

fn address(member: &v1::Member) -> &str {
    if member.address.is_empty() { &member.host } else { &member.address }
}

fn addresses(members: &[v1::Member], between: &str) -> String {
    members.iter().map(address).collect::<Vec<_>>().join(between)
}

/// The nodes with their cores, as MS-MPI reads them: `2 10.0.0.4 1 10.0.0.5 1`.
fn ccp_nodes(members: &[v1::Member]) -> String {
    members.iter().fold(members.len().to_string(), |text, member| {
        format!("{text} {} {}", address(member), member.cores.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_the_batch_service_does() {
        let member = |address: &str, cores: usize| v1::Member {
            host: "n".into(),
            address: address.into(),
            cores: (0..cores as u32).collect(),
            ..v1::Member::default()
        };
        let members = [member("10.0.0.4", 1), member("", 2)];
        assert_eq!(addresses(&members, ";"), "10.0.0.4;n");
        assert_eq!(ccp_nodes(&members), "2 10.0.0.4 1 n 2");
    }

    #[test]
    fn output_goes_beside_the_working_directory_unless_it_has_a_place() {
        let folder = Folder { path: "/root/jobs/1".into() };
        let lead = |stdout: &str, stderr: &str| {
            let mut work = v1::Work {
                working_directory: "/home/ann".into(),
                stdout_path: stdout.into(),
                stderr_path: stderr.into(),
                ..v1::Work::default()
            };
            lead_into(&mut work, &folder, false);
            assert_eq!(work.working_directory, "/root/jobs/1/wd");
            (work.stdout_path, work.stderr_path)
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(lead("", ""), pair("/root/jobs/1/stdout.txt", "/root/jobs/1/stderr.txt"));
        assert_eq!(lead("o", ""), pair("/home/ann/o", ""));
        assert_eq!(lead("", "/tmp/e"), pair("/root/jobs/1/stdout.txt", "/tmp/e"));
        assert_eq!(lead("/o", "e"), pair("/o", "/home/ann/e"));
    }
}
