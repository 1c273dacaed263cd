//! Making everything ready before anything of the user's runs.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use muster_wire::v1;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use super::gang::Membership;
use super::place::{self, InUse, KeptGroup};
use super::run_folder::RunFolder;
use super::spawn::{Open, c_path, c_text};
use super::ssh_endpoint::Endpoint;
use super::starter::Starter;
use super::{Supervisor, events, steps};
use crate::attempt::{group, group_name};
use crate::containment::{Group, Limits};
use crate::error::{NodeError, Result};
use crate::user::Account;

/// The name of the socket at which launchers tell what they see.
const EVENTS: &str = "events.sock";

/// Everything that a preparation makes.
pub(super) struct Prepared {
    pub account: Account,
    pub group: Group,
    /// On the primary only.
    pub script: Option<Script>,
    /// Where the other instances reach this one.
    pub endpoint: v1::Endpoint,
    /// Of a gang with several instances, until the go.
    pub ssh: Option<Endpoint>,
    /// Of a gang with several instances, until the go.
    pub membership: Option<Membership>,
    /// Until the go.
    pub events: Option<events::Socket>,
    /// Until the go.
    pub steps: Option<steps::Socket>,
    /// What is open of the containment, if it is kept for another attempt.
    pub open: Option<Open>,
    /// What another attempt may have afterwards.
    pub in_use: Option<InUse>,
    /// What the containment was limited to.
    pub limits: Limits,
    /// What was used in the containment before.
    pub used_before: v1::Usage,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// A path, or the name of a command that is looked for when it starts: what is brought to the task may have it.
    pub is_direct: bool,
    pub program: CString,
    pub arguments: Vec<CString>,
}

impl Supervisor {
    /// Prepares the instance.
    ///
    /// # Errors
    ///
    /// The first thing that fails; nothing of the preparation is left then.
    pub(super) async fn prepare(&mut self, account: Account) -> Result<Prepared> {
        let limits = Limits {
            cpus: self.assignment.cpus(),
            memory_bytes: self.prepare.memory_bytes,
            withheld: self.assignment.withheld.clone(),
        };
        let (in_use, kept, left) = match self.place.take() {
            Some(place) => (Some(place.in_use), place::limited(place.group, &limits).await, Some(place.left)),
            None => (None, None, None),
        };
        let environment = match self.is_primary() && place::is_for(&self.prepare) {
            true => self.common_environment(left, &account).map(Some),
            false => Ok(None),
        };
        let prepared = environment.and_then(|environment| {
            self.common_environment = environment;
            self.prepare_parts(account, limits, in_use, kept)
        });
        if prepared.is_err() {
            group(&self.assignment.containment, &self.assignment.run).remove().await;
            let _ = std::fs::remove_dir_all(&self.assignment.run);
        }
        prepared
    }

    fn prepare_parts(
        &self,
        account: Account,
        limits: Limits,
        left: Option<InUse>,
        kept: Option<KeptGroup>,
    ) -> Result<Prepared> {
        let script = match self.is_primary() {
            true => Some(self.prepare_work(&account)?),
            false => None,
        };
        let (mut folder, sockets) = match left {
            Some(InUse { contents, events, steps }) => {
                (RunFolder::again(contents, &account), Some((events, steps)))
            }
            None => (RunFolder::make(&self.assignment.run, &account)?, None),
        };
        if let Some((work, _)) = self.work().zip(script.as_ref()) {
            folder.write("script", 0o700, &work.script)?;
        }
        let mut endpoint = v1::Endpoint {
            host: self
                .prepare
                .members
                .get(self.prepare.instance as usize)
                .map_or_else(|| self.assignment.node.clone(), |member| member.host.clone()),
            address: self.assignment.address.clone(),
            ..v1::Endpoint::default()
        };
        let gang = self.prepare.members.len() > 1;
        let ssh =
            if gang { Some(Endpoint::prepare(self, &mut folder, &account, &mut endpoint)?) } else { None };
        let membership = if gang { Some(Membership::prepare(self, &mut endpoint)?) } else { None };
        self.write_launch_files(&mut folder)?;
        let (events, steps) = match sockets {
            Some(sockets) => {
                for name in [EVENTS, muster_step::SOCKET_NAME] {
                    folder.keep_socket(name);
                }
                sockets
            }
            None => (
                folder.bind(EVENTS, events::Socket::bind)?,
                folder.bind(muster_step::SOCKET_NAME, steps::Socket::bind)?,
            ),
        };
        let contents = folder.hand_over()?;
        let in_use = match place::is_for(&self.prepare) {
            true => Some(InUse { contents, events: events.clone(), steps: steps.clone() }),
            false => None,
        };
        let (group, used_before, open) = match kept {
            Some(mut kept) => {
                // Whoever comes second is most often followed by many.
                if kept.open.starter.is_none() {
                    kept.open.starter = Starter::within(kept.group.thread_entrances());
                }
                (kept.group, kept.used, Some(kept.open))
            }
            None => {
                let run = &self.assignment.run;
                let mut made = self.assignment.containment.create(&group_name(run), run.clone(), &limits)?;
                let mut open = None;
                if in_use.is_some() {
                    open = Some(Open { entrances: made.open_entrances()?, starter: None });
                    made.keep_open();
                }
                (made, v1::Usage::default(), open)
            }
        };
        Ok(Prepared {
            account,
            group,
            script,
            endpoint,
            ssh,
            membership,
            events: Some(events),
            steps: Some(steps),
            open,
            in_use,
            limits,
            used_before,
        })
    }

    /// Says how the script is run, and checks what it needs before others wait for it: one that starts at once finds out by
    /// itself.
    fn prepare_work(&self, account: &Account) -> Result<Script> {
        let work = self.work().ok_or(NodeError::Incomplete { part: "work" })?;
        if !self.prepare.at_once {
            self.check_work(work, account)?;
        }
        match self.prepare.staging.as_ref().filter(|staging| !staging.command.is_empty()) {
            Some(staging) => Script::direct(&staging.command),
            None => Script::of(work, &self.assignment.run),
        }
    }

    /// Checks what the script needs, as its user.
    ///
    /// # Errors
    ///
    /// [`NodeError::UserPath`] for the first thing that is missing, or not the user's.
    pub(super) fn check_work(&self, work: &v1::Work, account: &Account) -> Result<()> {
        let refuse = |action: &'static str, path: &Path| {
            let (path, user) = (path.to_owned(), account.name.clone());
            move |source| NodeError::UserPath { action, path, user, source }
        };
        let directory = Path::new(&work.working_directory);
        account.may_enter(directory).map_err(refuse("enter the working directory", directory))?;
        if !work.stdin_path.is_empty() {
            let path = directory.join(&work.stdin_path);
            let opened = account.with_rights(|| open_at_once(OpenOptions::new().read(true), &path));
            opened.map_err(refuse("read the input file", &path))?;
        }
        for path in [&work.stdout_path, &work.stderr_path] {
            if path.is_empty() {
                continue;
            }
            let path = directory.join(path);
            account
                .with_rights(|| try_output_soon(&path, work.umask))
                .map_err(refuse("write the output file", &path))?;
        }
        let is_script = self.prepare.staging.as_ref().is_none_or(|staging| staging.command.is_empty());
        if let Some(interpreter) = interpreter(&work.script).filter(|_| is_script) {
            let path = Path::new(&interpreter.0);
            account.may_run(path).map_err(refuse("run the script's interpreter", path))?;
        }
        Ok(())
    }
}

/// Opens a file without waiting for the other end of a pipe.
fn open_at_once(options: &mut OpenOptions, path: &Path) -> std::io::Result<()> {
    match options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        // A named pipe that nobody reads yet will do when somebody does.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => Ok(()),
        opened => opened.map(drop),
    }
}

/// How long a folder for output may be missing yet. Programs that submit make a folder that has the job's number in its
/// name once they know that number, and a task that starts at once is there before them.
const FOLDER_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether the folder is there: on shared file systems nobody tells.
const FOLDER_PAUSE: Duration = Duration::from_millis(25);

/// As [`try_output`], and again for a moment where the folder is missing.
fn try_output_soon(path: &Path, mask: u32) -> std::io::Result<()> {
    let end = Instant::now() + FOLDER_WITHIN;
    loop {
        match try_output(path, mask) {
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < end => {
                std::thread::sleep(FOLDER_PAUSE);
            }
            tried => return tried,
        }
    }
}

/// Makes the output file, as the script's start will, but without emptying it.
fn try_output(path: &Path, mask: u32) -> std::io::Result<()> {
    let before = umask(Mode::from_bits_truncate(mask));
    let opened = open_at_once(OpenOptions::new().append(true).create(true).mode(0o666), path);
    umask(before);
    opened
}

impl Script {
    fn of(work: &v1::Work, run: &Path) -> Result<Self> {
        let path = run.join("script");
        let mut words: Vec<Vec<u8>> = Vec::new();
        match interpreter(&work.script) {
            // What the kernel makes of it (execve(2)), done here: a file system that forbids programs, as /run often does, forbids scripts
            // to the kernel, but not to their interpreter; and it is sooner done.
            Some((interpreter, argument)) => {
                words.push(interpreter.into_bytes());
                words.extend(argument.map(String::into_bytes));
            }
            None if work.script.starts_with(b"\x7fELF") => {}
            // What a shell does with a text that does not name its interpreter.
            None => words.push(b"/bin/sh".to_vec()),
        }
        let mut arguments = Vec::new();
        for word in words {
            arguments
                .push(CString::new(word).map_err(|_| NodeError::ZeroByte { what: "script's first line" })?);
        }
        arguments.push(c_path(&path)?);
        let program = arguments[0].clone();
        for argument in &work.arguments {
            arguments.push(c_text(argument.as_str(), "script's argument")?);
        }
        Ok(Self { is_direct: false, program, arguments })
    }

    /// A program with its arguments, without a script.
    ///
    /// # Errors
    ///
    /// [`NodeError::ZeroByte`] or [`NodeError::Incomplete`] if no program can be given these words.
    pub fn direct(words: &[String]) -> Result<Self> {
        let texts: Vec<CString> =
            words.iter().map(|word| c_text(word.as_str(), "command")).collect::<Result<_>>()?;
        let program = texts.first().cloned().ok_or(NodeError::Incomplete { part: "command" })?;
        Ok(Self { is_direct: true, program, arguments: texts })
    }
}

/// The program and its one argument in the first line of a script, as execve(2) reads them.
fn interpreter(script: &[u8]) -> Option<(String, Option<String>)> {
    let line = script.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t', '\r']);
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim_matches([' ', '\t']);
    (!program.is_empty()).then(|| (program.to_owned(), (!argument.is_empty()).then(|| argument.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_read_as_the_kernel_does() {
        assert_eq!(interpreter(b"#!/bin/sh\necho"), Some(("/bin/sh".into(), None)));
        assert_eq!(
            interpreter(b"#! /usr/bin/env  python3 -u \nx"),
            Some(("/usr/bin/env".into(), Some("python3 -u".into())))
        );
        assert_eq!(interpreter(b"echo"), None);
        assert_eq!(interpreter(b"#!\n"), None);
    }

    #[test]
    fn a_text_without_interpreter_is_the_shells() {
        let work =
            v1::Work { script: b"echo hi".to_vec(), arguments: vec!["a b".into()], ..v1::Work::default() };
        let script = Script::of(&work, Path::new("/tmp/run")).unwrap();
        let words: Vec<_> = script.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["/bin/sh", "/tmp/run/script", "a b"]);
        let named = v1::Work { script: b"#!/usr/bin/env  python3 -u \nx".to_vec(), ..work.clone() };
        let script = Script::of(&named, Path::new("/tmp/run")).unwrap();
        let words: Vec<_> = script.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["/usr/bin/env", "python3 -u", "/tmp/run/script", "a b"]);
        assert_eq!(script.program.to_str(), Ok("/usr/bin/env"));
        let work = v1::Work { arguments: vec!["a\0".into()], ..work };
        assert!(matches!(Script::of(&work, Path::new("/tmp")), Err(NodeError::ZeroByte { .. })));
    }
}
