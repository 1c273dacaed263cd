//! The container of a task that runs in one: its image, its file systems, and what its commands find there.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_wire::v1::container::Directory;
use muster_wire::v1::{self, Setup, StagingFailed};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::launch::login_environment;
use super::{Event, Outcome, Supervisor};
use crate::containers::enclose::{Enclosed, Plan, User, Volume};
use crate::containers::{HeldImage, IMAGE_ERROR, Images, NODE_ERROR, ROOT, SETTINGS_ERROR};
use crate::error::{NodeError, Result};
use crate::user::Account;

/// How long the file systems of a container may take.
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// Programs of Muster's that MPI launchers start.
const PROGRAMS: [&str; 2] = ["muster-rsh", "muster-rank"];

/// A container that is there.
#[derive(Debug)]
pub(super) struct Container {
    /// Its mount namespace: processes enter it before they become the user.
    pub namespace: OwnedFd,
    /// Its root, for whoever looks from outside.
    root: OwnedFd,
    /// What was said of it.
    said: v1::Container,
    image: HeldImage,
}

fn failed(code: &str, message: impl Into<String>) -> NodeError {
    NodeError::Staged(StagingFailed { code: code.to_owned(), message: message.into() })
}

impl Supervisor {
    /// Has the image of the task's container brought, if it is not there, and makes the container. The answer is how the attempt ends,
    /// if it was stopped meanwhile.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] if there can be no such container.
    pub(super) async fn make_container(
        &mut self,
        account: &Account,
        said: &v1::Container,
        deadline: Instant,
    ) -> Result<Option<Outcome>> {
        let wanted = said.image.clone().ok_or(NodeError::Incomplete { part: "container's image" })?;
        let problem = said.volumes.iter().map(|volume| &volume.problem).find(|problem| !problem.is_empty());
        if !wanted.problem.is_empty() {
            return Err(failed(IMAGE_ERROR, wanted.problem));
        }
        if let Some(problem) = problem {
            return Err(failed(SETTINGS_ERROR, problem.clone()));
        }
        let images = Images::of(&self.assignment.agent);
        let image = match images.hold(&wanted.name)? {
            Some(image) => image,
            None => {
                let order = Setup { images: vec![wanted.clone()], ..Setup::default() };
                let late = "the image was not there in time";
                if let Some(stopped) = self.have_deployed(order, deadline, (IMAGE_ERROR, late)).await? {
                    return Ok(Some(stopped));
                }
                let message = || format!("image {} was removed before it could be used", wanted.name);
                images.hold(&wanted.name)?.ok_or_else(|| failed(IMAGE_ERROR, message()))?
            }
        };
        let plan = self.plan(account, said, &image)?;
        let enclosed = tokio::time::timeout(MADE_WITHIN, enclose(&plan));
        tokio::pin!(enclosed);
        let made = loop {
            tokio::select! {
                made = &mut enclosed => break made,
                event = self.next_event() => match event {
                    Event::Stop(stop) => return Ok(Some(Outcome::stopped(&stop))),
                    other => self.note_step(other),
                },
            }
        };
        let late =
            |_| failed(NODE_ERROR, format!("the container was not there within {} s", MADE_WITHIN.as_secs()));
        let (namespace, root) = made.map_err(late)??;
        self.container = Some(Container { namespace, root, said: said.clone(), image });
        if self.is_reached_by_ssh() {
            self.write_ssh_words(account)?;
        }
        Ok(None)
    }

    fn plan(&self, account: &Account, said: &v1::Container, image: &HeldImage) -> Result<Plan> {
        let stage = self.assignment.agent.join("images/.stage");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&stage);
        made.map_err(NodeError::file("create the folder", &stage))?;
        let programs = PROGRAMS.map(|name| self.assignment.bin_dir.join(name));
        let volume = |volume: &v1::Volume| Volume {
            source: volume.source.clone().into(),
            target: volume.target.clone().into(),
            read_only: volume.read_only,
        };
        Ok(Plan {
            image: image.folder.join(ROOT),
            stage,
            bytes_max: self.prepare.memory_bytes,
            read_only: said.read_only,
            folders: vec![self.assignment.work.clone(), self.assignment.run.clone()],
            programs: programs.into_iter().filter(|program| program.is_file()).collect(),
            sshd: self.is_reached_by_ssh().then(|| self.assignment.sshd.clone()),
            volumes: said.volumes.iter().map(volume).collect(),
            user: User {
                name: account.name.clone(),
                uid: account.uid,
                gid: account.gid,
                groups: account.groups.clone(),
                home: self.home(),
            },
        })
    }

    /// Whether other nodes start processes here.
    fn is_reached_by_ssh(&self) -> bool {
        self.prepare.members.len() > 1
    }

    /// The home folder of a task in a container, where the user's own is not there.
    fn home(&self) -> PathBuf {
        self.folder.as_ref().map_or_else(|| "/".into(), super::folder::Folder::working_directory)
    }

    /// What commands find in their environment: in a container its image says what a login says elsewhere.
    pub(super) fn own_environment(&self, account: &Account) -> BTreeMap<String, String> {
        let base = self.environment(account);
        let Some(container) = &self.container else { return base };
        let login = login_environment(account);
        // What only a login says may be said better.
        let is_free = |name: &str| base.get(name).is_none_or(|value| login.get(name) == Some(value));
        let own = [("HOME", self.home().display().to_string()), ("SHELL", "/bin/sh".to_owned())];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let of_image = container.image.config.environment.iter().flatten();
        let of_image = of_image.filter_map(|text| text.split_once('='));
        let of_image = of_image.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut all = base.clone();
        all.extend(own.chain(of_image).filter(|(name, _)| is_free(name)));
        let said = container.said.environment.iter().filter_map(|text| text.split_once('='));
        all.extend(said.map(|(name, value)| (name.to_owned(), value.to_owned())));
        all
    }
}

impl Container {
    /// The words of a command, behind those that the image, or whoever wants the container, has it given to.
    pub fn words(&self, command: &[CString]) -> Result<Vec<CString>> {
        let own = match self.said.entrypoint.as_deref() {
            Some("") => Vec::new(),
            Some(program) => vec![program.to_owned()],
            None => self.image.config.entrypoint.clone().unwrap_or_default(),
        };
        let own = own.iter().map(|word| super::spawn::c_text(word.as_str(), "entrypoint"));
        own.chain(command.iter().cloned().map(Ok)).collect()
    }

    /// Where a command begins that would begin here without a container.
    pub fn directory(&self, without: &Path) -> PathBuf {
        match &self.said.directory {
            None => without.to_owned(),
            Some(Directory::Path(path)) => path.into(),
            Some(Directory::ImageDirectory(_)) => {
                let said = self.image.config.directory.as_deref().filter(|said| !said.is_empty());
                Path::new("/").join(said.unwrap_or("/"))
            }
        }
    }

    /// The file of a program that is named without a path, in one of these folders of the container.
    pub fn find(&self, account: &Account, name: &str, places: &str) -> Option<PathBuf> {
        places.split(':').map(|place| Path::new(place).join(name)).find(|path| {
            // Every link is followed within the container, as its processes would.
            let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
            let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
            let open = || openat2(&self.root, path, how).map(File::from).map_err(std::io::Error::from);
            let about = account.with_rights(open).and_then(|file| file.metadata());
            let runs = |about: std::fs::Metadata| about.is_file() && about.permissions().mode() & 0o111 != 0;
            path.is_absolute() && about.is_ok_and(runs)
        })
    }
}

/// Has the program for it make the file systems, and takes hold of them: of the namespace and of its root.
async fn enclose(plan: &Plan) -> Result<(OwnedFd, OwnedFd)> {
    let action = "start the program that makes containers";
    let (near, far) = StdStream::pair().map_err(NodeError::system(action))?;
    let output = far.try_clone().map_err(NodeError::system(action))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("enclose").current_dir("/").env_clear();
    command.stdin(Stdio::from(OwnedFd::from(far))).stdout(Stdio::from(OwnedFd::from(output)));
    // It ends when this end of the socket is closed, and is then reaped as an orphan is.
    let child = command.spawn().map_err(NodeError::system(action))?;
    drop(command);
    near.set_nonblocking(true).map_err(NodeError::system(action))?;
    let near = UnixStream::from_std(near).map_err(NodeError::system(action))?;
    let action = "speak with the program that makes containers";
    let mut near = BufReader::new(near);
    let mut text = serde_json::to_vec(plan).unwrap_or_default();
    text.push(b'\n');
    near.write_all(&text).await.map_err(NodeError::system(action))?;
    let mut line = String::new();
    near.read_line(&mut line).await.map_err(NodeError::system(action))?;
    let enclosed: Enclosed = serde_json::from_str(&line)
        .map_err(|_| failed(NODE_ERROR, "the program that makes containers was killed"))?;
    if let Some((code, message)) = enclosed.problem {
        return Err(failed(&code, message));
    }
    let open = |name: &str, kind: OFlag| {
        let path = format!("/proc/{}/{name}", child.id());
        let opened = nix::fcntl::open(path.as_str(), kind | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
        opened.map_err(NodeError::system("take hold of a container"))
    };
    Ok((open("ns/mnt", OFlag::O_RDONLY)?, open("root", OFlag::O_PATH | OFlag::O_DIRECTORY)?))
}
