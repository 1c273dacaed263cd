//! What a job has from its user rather than from its script: limits, identity, and the environment of a login.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::{Group, Uid, User};

use super::caller::{Caller, LIMITS};
use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// How long a login may take before its environment is done without.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(20);
/// The most that a login's environment may be, in bytes: what no job can have is not read.
const LOGIN_BYTES_MAX: u64 = 4 << 20;

/// `--uid` and `--gid` may only name who submits anyway.
pub(super) fn check_user(layer: &Layer, caller: &Caller) -> Result<(), CliError> {
    let refuse = |said: &Said| {
        Err(CliError::Value {
            origin: said.origin.clone(),
            value: said.value.clone(),
            right: "work runs as the user who submits it",
        })
    };
    if let Some(said) = layer.get(Opt::Uid) {
        let named = User::from_name(&said.value).ok().flatten().map(|user| user.uid.as_raw());
        if said.value.parse().ok().or(named) != Some(caller.uid) {
            return refuse(said);
        }
    }
    if let Some(said) = layer.get(Opt::Gid) {
        let named = Group::from_name(&said.value).ok().flatten().map(|group| group.gid.as_raw());
        if said.value.parse().ok().or(named) != Some(caller.gid) {
            return refuse(said);
        }
    }
    Ok(())
}

/// The limits that go with the job: those that `--propagate` names, all without.
pub(super) fn limits(
    said: Option<&Said>,
    mut all: BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>, CliError> {
    let Some(said) = said else { return Ok(all) };
    let names: Vec<String> = said.value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [""] | ["all"] => return Ok(all),
        ["none"] => return Ok(BTreeMap::new()),
        _ => {}
    }
    if names.iter().any(|name| !LIMITS.iter().any(|(known, _)| known == name)) {
        return Err(CliError::Value {
            origin: said.origin.clone(),
            value: said.value.clone(),
            right: "write ALL, NONE, or some of AS, CORE, CPU, DATA, FSIZE, MEMLOCK, NOFILE, NPROC, RSS and STACK",
        });
    }
    all.retain(|name, _| names.contains(name));
    Ok(all)
}

/// The environment that a login of this user has on this host, for `--get-user-env`.
pub(super) fn asked_login_environment(said: &Said) -> Result<BTreeMap<String, String>, CliError> {
    check_login_options(said)?;
    login_environment()
}

/// The environment of a login of whoever runs this.
pub(crate) fn login_environment() -> Result<BTreeMap<String, String>, CliError> {
    let failed = |source| CliError::System { action: "get the environment of a login", source };
    let user = User::from_uid(Uid::current()).map_err(|errno| failed(errno.into()))?;
    let Some(user) = user else { return Ok(BTreeMap::new()) };
    let shell = user.shell.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Every shell takes itself for that of a login if its own name begins with a dash.
    let mut child = Command::new(&user.shell)
        .arg0(format!("-{shell}"))
        .args(["-c", "exec /usr/bin/env -0"])
        .env_clear()
        .env("HOME", &user.dir)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .env("SHELL", &user.shell)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir(&user.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let stdout = child.stdout.take();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map(|stdout| stdout.take(LOGIN_BYTES_MAX).read_to_end(&mut bytes));
        let _ = sender.send(read.unwrap_or(Ok(0)).map(|_| bytes));
    });
    let read = receiver.recv_timeout(LOGIN_TIME_MAX);
    // A login that goes on after its environment was read, or that takes too long, is of no more use.
    let _ = child.kill();
    let _ = child.wait();
    let bytes = read.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let pairs =
        bytes.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    let pairs = pairs.filter(|(name, _)| !name.is_empty() && !own.contains(name));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// `--get-user-env[=SECONDS][S|L]`: how long it may take, and what kind of login it is, as sbatch(1) has it. Only whether
/// that is well said counts: a login has its own time here.
fn check_login_options(said: &Said) -> Result<(), CliError> {
    let text = said.value.strip_suffix(['S', 'L', 's', 'l']).unwrap_or(&said.value);
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(CliError::Value {
        origin: said.origin.clone(),
        value: said.value.clone(),
        right: "write it without a value",
    })
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn said(value: &str) -> Said {
        Said { value: value.to_owned(), origin: Origin::CommandLine { option: "--it".to_owned() } }
    }

    #[test]
    fn limits_go_along_as_they_are_named() {
        let all: BTreeMap<String, u64> = [("core".to_owned(), 0), ("nofile".to_owned(), 1024)].into();
        let kept =
            |text: &str| limits(Some(&said(text)), all.clone()).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(limits(None, all.clone()).unwrap().len(), 2);
        assert_eq!(kept("ALL").len(), 2);
        assert_eq!(kept("").len(), 2);
        assert!(kept("NONE").is_empty());
        assert_eq!(kept("NOFILE"), ["nofile"]);
        assert!(limits(Some(&said("foo")), all).unwrap_err().to_string().contains("NOFILE"));
    }

    #[test]
    fn a_login_gives_an_environment() {
        let login = asked_login_environment(&said("")).unwrap();
        assert!(login.contains_key("PATH") && login.contains_key("HOME"), "{login:?}");
        assert!(!login.contains_key("PWD"));
        assert!(asked_login_environment(&said("10L")).is_ok());
        assert!(asked_login_environment(&said("x")).unwrap_err().to_string().contains("without a value"));
    }
}
