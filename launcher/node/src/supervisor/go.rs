//! The start of the script.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::path::Path;

use muster_wire::v1;
use nix::errno::Errno;

use super::prepare::{Prepared, Script};
use super::spawn::{Child, Stdio, Step, WayIn, c_path, c_text, resource};
use super::{Supervisor, gang, local_daemons};
use crate::containers::SETTINGS_ERROR;
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
            tokio::task::spawn_local(socket.listen(self.sender.clone()));
        }
        if let Some(socket) = prepared.steps.take() {
            let way = if self.is_primary() { None } else { Some(gang::ToPrimary::of(self, go)?) };
            socket.listen(prepared.account.uid, self.allocation(), self.steps.desk(), way);
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
            self.script = Some(self.start_script(prepared, script)?);
            tokio::task::spawn_local(local_daemons::watch(
                prepared.group.clone(),
                prepared.endpoint.host.clone(),
                self.sender.clone(),
            ));
        }
        self.started_at_us = now_us();
        Ok(membership)
    }

    /// Starts the script. What was not checked before is checked if it does not start, for the better words, and because a
    /// folder for its output may only be on its way: then it is tried once more.
    fn start_script(&self, prepared: &Prepared, script: &Script) -> Result<i32> {
        let first = self.start_command(prepared, script);
        let (true, Err(NodeError::Spawn { step, .. }), Some(work)) =
            (self.prepare.at_once, &first, self.work())
        else {
            return first;
        };
        if !matches!(step, Step::Directory | Step::Stdin | Step::Stdout | Step::Stderr | Step::Exec) {
            return first;
        }
        self.check_work(work, &prepared.account)?;
        self.start_command(prepared, script)
    }

    /// Starts the script, or another command of the task, as its user and in its containment.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if it cannot be started.
    pub(super) fn start_command(&self, prepared: &Prepared, script: &Script) -> Result<i32> {
        let work = self.work().ok_or(NodeError::Incomplete { part: "work" })?;
        let directory = Path::new(&work.working_directory);
        let or_null = |path: &str| match path {
            "" => c_path(Path::new("/dev/null")),
            path => c_path(&directory.join(path)),
        };
        let same = work.stderr_path.is_empty() || work.stderr_path == work.stdout_path;
        let cpus = self.assignment.cpus();
        let environment = match self.common_environment {
            Some(_) => self.own_words(),
            None => self.own_environment(&prepared.account),
        };
        let common_environment = self.common_environment.as_ref();
        let arguments = match &self.container {
            Some(container) => container.words(&script.arguments)?,
            None => script.arguments.clone(),
        };
        let program = match (script.is_direct, arguments.first()) {
            (true, Some(program)) => self.find_program(&prepared.account, program, &environment)?,
            _ => script.program.clone(),
        };
        let begins = self.container.as_ref().map(|container| container.directory(directory));
        let child = Child {
            program,
            arguments,
            environment: texts(&environment)?,
            common_environment: common_environment.map_or(&[], |common| &common.texts),
            account: &prepared.account,
            way_in: match &prepared.open {
                Some(open) => WayIn::Open(open),
                None => WayIn::Files(prepared.entrances()?),
            },
            cpus: &cpus,
            shares_cores: self.assignment.cores_wrap,
            namespace: self.container.as_ref().map(|container| container.namespace.as_fd()),
            directory: Some(c_path(begins.as_deref().unwrap_or(directory))?),
            umask: work.umask,
            limits: limits(&work.limits),
            stdio: Stdio::Files {
                stdin: or_null(&work.stdin_path)?,
                stdout: or_null(&work.stdout_path)?,
                stderr: if same { None } else { Some(or_null(&work.stderr_path)?) },
                append: work.append,
            },
        };
        child.start().map_err(|error| match error {
            NodeError::Spawn { step: Step::Exec, source, .. } if script.is_direct => {
                not_started(script, source)
            }
            NodeError::Spawn { step: Step::Directory, source, .. } if self.container.is_some() => {
                let place = begins.as_deref().unwrap_or(directory).display();
                let message =
                    format!("its command cannot begin in {place} of the container: {}", source.desc());
                NodeError::Staging { code: SETTINGS_ERROR, message }
            }
            other => other,
        })
    }

    /// The file of a program that is named without a path, as the task's own environment finds it.
    fn find_program(
        &self,
        account: &Account,
        name: &CString,
        environment: &BTreeMap<String, String>,
    ) -> Result<CString> {
        if name.as_bytes().contains(&b'/') {
            return Ok(name.clone());
        }
        let name = name.to_string_lossy();
        let places = environment.get("PATH").map(String::as_str).unwrap_or_default();
        let found = match &self.container {
            Some(container) => container.find(account, &name, places),
            None => places
                .split(':')
                .map(|place| Path::new(place).join(&*name))
                .find(|path| path.is_absolute() && path.is_file() && account.may_run(path).is_ok()),
        };
        match found {
            Some(path) => c_path(&path),
            None => Err(NodeError::Staging {
                code: "CommandProgramNotFound",
                message: format!("the program '{name}' is in none of the folders of PATH"),
            }),
        }
    }

    pub(super) fn environment_texts(&self, account: &Account) -> Result<Vec<CString>> {
        texts(&self.environment(account))
    }
}

/// An environment for the kernel.
///
/// # Errors
///
/// [`NodeError::ZeroByte`] if a variable has one.
pub(super) fn texts(environment: &BTreeMap<String, String>) -> Result<Vec<CString>> {
    let text = |(name, value): (&String, &String)| {
        // With room for the zero byte at its end.
        let mut text = String::with_capacity(name.len() + value.len() + 2);
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        c_text(text, "environment")
    };
    environment.iter().map(text).collect()
}

/// Why a command of the task was not started.
fn not_started(command: &Script, errno: Errno) -> NodeError {
    let (program, why) = (command.program.to_string_lossy(), errno.desc());
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => NodeError::Staging {
            code: "CommandProgramNotFound",
            message: format!("the program '{program}' is not there: {why}"),
        },
        _ => NodeError::Staging {
            code: "CommandLaunchFailed",
            message: format!("the program '{program}' cannot be started: {why}"),
        },
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
