//! File systems that a pool of the batch service wants on its nodes.
//!
//! They are mounted below one folder, by root, always without programs that run as somebody else and without devices. Which sources there
//! may be the controller has checked, by the site's list.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_wire::v1::mount::Source;
use muster_wire::v1::{Mount, SetupError};
use nix::fcntl::{Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::config::AgentDir;
use crate::error::{NodeError, Result};

/// The folder below the root for work that has all of them.
const FOLDER: &str = "fsmounts";
/// The code of failures, as the batch service names it.
const ERROR: &str = "MountConfigurationError";
/// How long a server may take to answer.
const MOUNT_WITHIN: Duration = Duration::from_secs(90);

/// What was mounted, by the names of the folders: `mounts.json` in the agent's folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mounted(BTreeMap<String, String>);

/// The record below an agent's folder.
fn record(dir: &Path) -> PathBuf {
    dir.join("mounts.json")
}

/// Whether anything may be mounted for a pool.
pub fn are_there(dir: &Path) -> bool {
    record(dir).exists()
}

/// Mounts what is wanted, and unmounts everything else. Says what could not be done.
pub async fn reconcile(dir: &AgentDir, wanted: &[Mount]) -> Vec<SetupError> {
    match try_reconcile(dir, wanted).await {
        Ok(errors) => errors,
        Err(error) => vec![SetupError { code: ERROR.to_owned(), message: error.sentence() }],
    }
}

async fn try_reconcile(dir: &AgentDir, wanted: &[Mount]) -> Result<Vec<SetupError>> {
    let record = record(dir.path());
    if wanted.is_empty() && !record.exists() {
        return Ok(Vec::new());
    }
    if !geteuid().is_root() {
        let why = std::io::Error::other("the agent does not run as root");
        return Err(NodeError::system("mount file systems")(why));
    }
    let root = dir.work(&dir.config()?);
    crate::folders::make_root(&root)?;
    let folder = root.join(FOLDER);
    let _lock = lock(dir)?;
    let before: Mounted =
        std::fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let present = mounted_below(&folder)?;
    let mut after = Mounted::default();
    for (name, place) in &present {
        let said = wanted.iter().find(|mount| mount.name == *name && mount.problem.is_empty()).map(describe);
        match said {
            // It is what is wanted already.
            Some(said) if before.0.get(name) == Some(&said) => drop(after.0.insert(name.clone(), said)),
            _ => unmount(place)?,
        }
    }
    let mut errors = Vec::new();
    for wish in wanted {
        if after.0.contains_key(&wish.name) {
            continue;
        }
        match mount_one(&folder, wish).await {
            Ok(()) => drop(after.0.insert(wish.name.clone(), describe(wish))),
            Err(message) => {
                let message = format!("{} cannot be mounted: {message}", describe(wish));
                errors.push(SetupError { code: ERROR.to_owned(), message });
            }
        }
    }
    let is_empty = after.0.is_empty();
    let text = serde_json::to_vec(&after).unwrap_or_default();
    let new = record.with_extension("new");
    match is_empty {
        true => drop(std::fs::remove_file(&record)),
        false => std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &record))
            .map_err(NodeError::file("write", &record))?,
    }
    Ok(errors)
}

/// One of them at a time changes what is mounted.
fn lock(dir: &AgentDir) -> Result<Flock<File>> {
    let path = dir.path().join("mounts.lock");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(NodeError::file("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| NodeError::file("lock", &path)(error.into()))
}

/// A file system in one line, for messages and the record.
fn describe(mount: &Mount) -> String {
    let source = match &mount.source {
        Some(Source::Nfs(source)) => source.clone(),
        Some(Source::Local(path)) => format!("file://{path}"),
        None => String::new(),
    };
    match mount.options.is_empty() {
        true => source,
        false => format!("{source} ({})", mount.options.join(",")),
    }
}

/// What is mounted right below a folder, by name; of several at one place the last one, which is on top.
fn mounted_below(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = folder.canonicalize().map_err(NodeError::file("find", folder))?;
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(NodeError::file("read", path))?;
    let places =
        text.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| PathBuf::from(plain(place)));
    let below = places.filter_map(|place| {
        let name = place.strip_prefix(&folder).ok()?.to_str()?.to_owned();
        (!name.is_empty() && !name.contains('/')).then_some((name, place))
    });
    Ok(below.collect())
}

/// A path of `/proc/self/mountinfo`, where some characters are written in octal digits.
fn plain(text: &str) -> String {
    ["040", "011", "012", "134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (digits, c)| text.replace(&format!("\\{digits}"), c))
}

fn unmount(place: &Path) -> Result<()> {
    // What a process that is about to end still holds goes with it.
    umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|error| NodeError::file("unmount", place)(error.into()))?;
    let _ = std::fs::remove_dir(place);
    Ok(())
}

async fn mount_one(folder: &Path, wish: &Mount) -> std::result::Result<(), String> {
    if !wish.problem.is_empty() {
        return Err(wish.problem.clone());
    }
    let is_name = |c: char| c != '/' && !c.is_control();
    if wish.name.is_empty() || wish.name.starts_with('.') || !wish.name.chars().all(is_name) {
        return Err(format!("{:?} is no name of a folder", wish.name));
    }
    let place = folder.join(&wish.name);
    match std::fs::create_dir(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.to_string()),
        _ => {}
    }
    let done = match &wish.source {
        Some(Source::Nfs(source)) => mount_nfs(source, &place, &wish.options).await,
        Some(Source::Local(path)) => mount_local(path, &place, &wish.options),
        None => Err("it has no source".to_owned()),
    };
    if done.is_err() {
        let _ = std::fs::remove_dir(&place);
    }
    done
}

/// A folder of the node. No link on the way to it is followed: who may write above it cannot have another one mounted.
fn mount_local(path: &str, place: &Path, options: &[String]) -> std::result::Result<(), String> {
    let root = File::open("/").map_err(|error| error.to_string())?;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(resolve);
    let below = path.trim_start_matches('/');
    let found = openat2(&root, if below.is_empty() { "." } else { below }, how);
    let found = found.map_err(|error| {
        format!("{path} is no folder of this node, or is reached through a link: {}", error.desc())
    })?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let none: Option<&str> = None;
    mount(Some(source.as_str()), place, none, MsFlags::MS_BIND, none)
        .map_err(|error| error.desc().to_owned())?;
    let flags =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | flags(options);
    mount(none, place, none, flags, none).map_err(|error| {
        let _ = umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        error.desc().to_owned()
    })
}

fn flags(options: &[String]) -> MsFlags {
    options.iter().fold(MsFlags::empty(), |flags, option| {
        flags
            | match option.as_str() {
                "ro" => MsFlags::MS_RDONLY,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            }
    })
}

/// What a server exports, by mount(8), which finds the server's address and the program for this kind.
async fn mount_nfs(source: &str, place: &Path, options: &[String]) -> std::result::Result<(), String> {
    let mut all = vec!["nosuid".to_owned(), "nodev".to_owned()];
    all.extend(options.iter().cloned());
    let mut command = tokio::process::Command::new("mount");
    command.args(["-t", "nfs", "-o", &all.join(","), "--", source]).arg(place).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(MOUNT_WITHIN, command.output()).await;
    let output =
        output.map_err(|_| format!("the server did not answer within {} s", MOUNT_WITHIN.as_secs()))?;
    let output = output.map_err(|error| format!("mount(8) cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty());
    Err(said.map_or_else(
        || format!("mount(8) ended with {}", output.status),
        |line| line.chars().take(300).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_kernel_writes_them() {
        assert_eq!(plain("/a\\040b\\134c"), "/a b\\c");
    }

    #[test]
    fn a_folder_of_the_node_is_not_reached_through_a_link() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (real, link, place) =
            (folder.path().join("real"), folder.path().join("link"), folder.path().join("place"));
        std::fs::create_dir(&real).unwrap();
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let refused = mount_local(link.to_str().unwrap(), &place, &[]).unwrap_err();
        assert!(refused.contains("through a link"), "{refused}");
        assert!(mount_local(folder.path().join("none").to_str().unwrap(), &place, &[]).is_err());
    }
}
