//! The start of the script.

use std::ffi::CString;
use std::path::Path;

use muster_wire::v1;

use super::prepare::{Prepared, Script};
use super::spawn::{Child, Stdio, c_path, c_text, resource};
use super::{Supervisor, gang, local_daemons};
use crate::error::{NodeError, Result};
use crate::process::now_us;
use crate::user::Account;

impl Supervisor {
    /// Carries out the go: opens the ports, and on the primary starts the script.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the script cannot be started.
    pub(super) fn go(&mut self, prepared: &mut Prepared, go: &v1::Go) -> Result<gang::Handle> {
        if let Some(socket) = prepared.events.take() {
            tokio::spawn(socket.listen(self.sender.clone()));
        }
        if let Some(socket) = prepared.steps.take() {
            socket.listen(prepared.account.uid, self.allocation(), self.sender.clone())?;
        }
        if let Some(ssh) = prepared.ssh.take() {
            ssh.listen(self.sender.clone())?;
        }
        let membership = match prepared.membership.take() {
            Some(membership) => membership.begin(self, go)?,
            None => gang::Handle::alone(),
        };
        if let Some(script) = &prepared.script {
            self.write_peers(&prepared.account, &go.peers)?;
            let pid = self.start_script(prepared, script)?;
            self.script = Some(pid);
            tokio::spawn(local_daemons::watch(
                prepared.group.clone(),
                prepared.endpoint.host.clone(),
                self.sender.clone(),
            ));
        }
        self.started_at_us = now_us();
        Ok(membership)
    }

    fn start_script(&self, prepared: &Prepared, script: &Script) -> Result<i32> {
        let work = self.prepare.work.as_ref().ok_or(NodeError::Incomplete { part: "work" })?;
        let directory = Path::new(&work.working_directory);
        let or_null = |path: &str| match path {
            "" => c_path(Path::new("/dev/null")),
            path => c_path(&directory.join(path)),
        };
        let same = work.stderr_path.is_empty() || work.stderr_path == work.stdout_path;
        let cpus = self.assignment.cpus();
        let child = Child {
            program: script.program.clone(),
            arguments: script.arguments.clone(),
            environment: self.environment_texts(&prepared.account)?,
            account: &prepared.account,
            entrances: prepared.entrances()?,
            cpus: &cpus,
            shares_cores: self.assignment.cores_wrap,
            directory: Some(c_path(directory)?),
            umask: work.umask,
            limits: limits(&work.limits),
            stdio: Stdio::Files {
                stdin: or_null(&work.stdin_path)?,
                stdout: or_null(&work.stdout_path)?,
                stderr: if same { None } else { Some(or_null(&work.stderr_path)?) },
                append: work.append,
            },
        };
        child.start()
    }

    fn environment_texts(&self, account: &Account) -> Result<Vec<CString>> {
        let all = self.environment(account);
        all.iter().map(|(name, value)| c_text(&format!("{name}={value}"), "environment")).collect()
    }
}

impl Prepared {
    /// The containment's entrances, for the kernel.
    pub(super) fn entrances(&self) -> Result<Vec<CString>> {
        self.group.entrances().iter().map(|path| c_path(path)).collect()
    }
}

/// Limits that this system knows; one that it does not know limits nothing here.
pub(super) fn limits(wanted: &[v1::ResourceLimit]) -> Vec<(libc::__rlimit_resource_t, u64)> {
    wanted.iter().filter_map(|limit| Some((resource(&limit.name)?, limit.soft))).collect()
}
