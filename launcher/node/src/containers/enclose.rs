//! The program that makes a container's file systems (`muster-node enclose`), in a mount namespace of its own.
//!
//! It is started by a supervisor with a socket for input and output: one [`Plan`] comes, one [`Enclosed`] goes, and when the supervisor
//! has taken hold of the namespace and closes the socket, the program ends. Nothing of it is seen by the rest of the node, and all of it
//! is gone with the last process of the attempt.
//!
//! Everything in an image, and every path of a request, is somebody else's. So all places where something of the node is mounted are made
//! and held while the image, under a writable layer in memory, is the only file system there is: a link in it leads nowhere else. Only
//! then is what the node gives put in these places. No file system in a container honours set-user-id bits or, but for the node's own
//! `/dev`, devices.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Group, pivot_root};
use serde::{Deserialize, Serialize};

use super::tools::{self, Tools};
use super::{NODE_ERROR, SETTINGS_ERROR};
use crate::user::Account;

/// Largest of the files that are read of an image or of the node.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What the kernel and the node themselves have in every container.
const OF_THE_NODE: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What a container is to be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The unpacked image.
    pub image: PathBuf,
    /// A folder on which the layers are mounted meanwhile.
    pub stage: PathBuf,
    /// Most bytes that may be written beside the task's folders, in memory; 0: as the kernel says.
    pub bytes_max: u64,
    /// Whether nothing of the image can be written over.
    pub read_only: bool,
    /// Folders of the node that are at the same place there.
    pub folders: Vec<PathBuf>,
    /// Programs of the node that launchers of MPI start, at the same place there.
    pub programs: Vec<PathBuf>,
    /// The node's SSH server, if other nodes start processes there.
    pub sshd: Option<PathBuf>,
    /// Folders of the node that the task wants.
    pub volumes: Vec<Volume>,
    /// Whose it is.
    pub user: User,
}

/// A folder of the node that the task wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The folder, as the user reaches it.
    pub source: PathBuf,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Whether it cannot be written there.
    pub read_only: bool,
}

/// A user, as programs in the container look for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The group of new files.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// The home folder there.
    pub home: PathBuf,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enclosed {
    /// What is wrong, with the batch service's code for it; none: the container is there.
    pub problem: Option<(String, String)>,
}

/// What goes wrong, with its code.
type Problem = (&'static str, String);

/// What `muster-node enclose` does.
pub fn run() {
    let mut line = String::new();
    let mut input = std::io::stdin().lock();
    let problem = match input.read_line(&mut line).map_err(serde_json::Error::io) {
        Ok(_) => match serde_json::from_str::<Plan>(&line) {
            Ok(plan) => enclose(&plan).err(),
            Err(error) => Some((NODE_ERROR, error.to_string())),
        },
        Err(error) => Some((NODE_ERROR, error.to_string())),
    };
    let enclosed = Enclosed { problem: problem.map(|(code, message)| (code.to_owned(), message)) };
    let text = serde_json::to_string(&enclosed).unwrap_or_default();
    let mut output = std::io::stdout().lock();
    if writeln!(output, "{text}").and_then(|()| output.flush()).is_ok() {
        // The namespace is there for as long as this process, or whoever has taken hold of it.
        let _ = input.read(&mut [0]);
    }
}

fn node(action: &str) -> impl FnOnce(Errno) -> Problem {
    let action = action.to_owned();
    move |error| (NODE_ERROR, format!("this node cannot {action}: {}", error.desc()))
}

fn file(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Problem {
    let text = format!("the container cannot {action} {}", path.display());
    move |error| (SETTINGS_ERROR, format!("{text}: {error}"))
}

/// A file system of the node, on its way into the container.
struct Tree {
    mount: OwnedFd,
    target: PathBuf,
    is_folder: bool,
}

/// Makes the namespace, and everything in it.
fn enclose(plan: &Plan) -> Result<(), Problem> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let sshd: Vec<PathBuf> = plan.sshd.iter().cloned().collect();
    let tools = tools::find(&plan.programs, &sshd);
    let tools = tools.map_err(|error| (NODE_ERROR, format!("this node cannot run ldd: {error}")))?;
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(node("make a mount namespace"))?;
    // What the node unmounts goes from here as well; nothing that is mounted here is seen there.
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(none, "/", none, flags, none).map_err(node("part its mounts"))?;
    let trees = trees(plan, &tools)?;
    let of_node = [("/etc/hosts", text_of("/etc/hosts")), ("/etc/resolv.conf", text_of("/etc/resolv.conf"))];
    let groups = group_lines(&plan.user);
    lay(plan)?;
    enter(&plan.stage.join("root"))?;
    // From here on the image is all there is.
    if plan.read_only {
        make_folder(Path::new("/tmp"))?;
        tmpfs(Path::new("/tmp"), plan.bytes_max, "1777").map_err(node("mount a file system in memory"))?;
    }
    for folder in ["/tmp", "/var/tmp"] {
        make_common(Path::new(folder))?;
    }
    write_users(&plan.user, &groups)?;
    for (path, text) in &of_node {
        if let Some(text) = text {
            replace(Path::new(path), text, 0o644)?;
        }
    }
    for (path, script) in &tools.scripts {
        replace(path, script.as_bytes(), 0o755)?;
    }
    let places = trees.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    for (tree, place) in trees.iter().zip(&places) {
        attach(tree, place).map_err(node("mount a folder in a container"))?;
    }
    if plan.read_only {
        let root = open_path(Path::new("/"), OFlag::O_DIRECTORY).map_err(node("open a container"))?;
        set_flags(&root, libc::MOUNT_ATTR_RDONLY, false).map_err(node("make a container read-only"))?;
    }
    nix::unistd::chdir("/").map_err(node("enter a container"))
}

/// Takes copies of the mounts of the node that the container is to have, as long as the node's own root is there.
fn trees(plan: &Plan, tools: &Tools) -> Result<Vec<Tree>, Problem> {
    let mut trees = Vec::new();
    let mut add = |source: &Path, target: &Path, found: nix::Result<OwnedFd>, flags: u64, is_folder: bool| {
        let tree = found.and_then(|found| clone_tree(&found)).and_then(|tree| {
            set_flags(&tree, libc::MOUNT_ATTR_NOSUID | flags, true)?;
            Ok(tree)
        });
        let mount = tree.map_err(|error| {
            (SETTINGS_ERROR, format!("{} cannot be in a container: {}", source.display(), error.desc()))
        })?;
        trees.push(Tree { mount, target: target.to_owned(), is_folder });
        Ok::<(), Problem>(())
    };
    for path in OF_THE_NODE.iter().map(Path::new) {
        add(path, path, open_path(path, OFlag::O_DIRECTORY), 0, true)?;
    }
    for path in &plan.folders {
        add(path, path, open_path(path, OFlag::O_DIRECTORY), libc::MOUNT_ATTR_NODEV, true)?;
    }
    for (target, path) in &tools.files {
        let flags = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
        add(path, target, open_path(path, OFlag::empty()), flags, false)?;
    }
    let user = &plan.user;
    let account = Account {
        name: user.name.clone(),
        uid: user.uid,
        gid: user.gid,
        group: None,
        groups: user.groups.clone(),
        home: user.home.clone(),
        shell: "/bin/sh".into(),
    };
    for Volume { source, target, read_only } in &plan.volumes {
        // With the user's rights: a folder is no easier to reach in a container than it is outside.
        let opened = account.with_rights(|| {
            super::open_plainly(source, OFlag::O_PATH | OFlag::O_DIRECTORY).map_err(std::io::Error::from)
        });
        let opened = opened.map(OwnedFd::from);
        let opened = opened.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        let flags = libc::MOUNT_ATTR_NODEV | if *read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        add(source, target, opened, flags, true)?;
    }
    Ok(trees)
}

/// The image, with a layer over it in memory that takes what is written.
fn lay(plan: &Plan) -> Result<(), Problem> {
    let none: Option<&str> = None;
    let stage = &plan.stage;
    let failed = || node("lay a writable layer over an image");
    tmpfs(stage, plan.bytes_max, "0700").map_err(failed())?;
    for (name, mode) in [("lower", 0o755), ("upper", 0o755), ("work", 0o755), ("root", 0o755)] {
        let made = std::fs::DirBuilder::new().mode(mode).create(stage.join(name));
        made.map_err(file("create", &stage.join(name)))?;
    }
    mount(Some(&plan.image), &stage.join("lower"), none, MsFlags::MS_BIND, none).map_err(failed())?;
    // Relative, so that no character of a path means anything to the option.
    nix::unistd::chdir(stage).map_err(failed())?;
    let options = "lowerdir=lower,upperdir=upper,workdir=work";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), "root", Some("overlay"), flags, Some(options)).map_err(failed())
}

fn tmpfs(place: &Path, bytes_max: u64, mode: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mut options = format!("mode={mode}");
    if bytes_max > 0 {
        options.push_str(&format!(",size={bytes_max}"));
    }
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options.as_str()))
}

/// Makes a folder the root, and lets go of the one before.
fn enter(root: &Path) -> Result<(), Problem> {
    let failed = || node("make an image the root");
    nix::unistd::chdir(root).map_err(failed())?;
    pivot_root(".", ".").map_err(failed())?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed())?;
    nix::unistd::chdir("/").map_err(failed())
}

fn make_folder(path: &Path) -> Result<(), Problem> {
    std::fs::create_dir_all(path).map_err(file("have the folder", path))
}

/// A folder where everybody may write, if there is none.
fn make_common(path: &Path) -> Result<(), Problem> {
    if path.is_dir() {
        return Ok(());
    }
    make_folder(path)?;
    let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o1777));
    set.map_err(file("set the rights of", path))
}

/// The place where something of the node is to be: held, so that it stays the one that was made.
fn place(tree: &Tree) -> Result<OwnedFd, Problem> {
    let path = &tree.target;
    if tree.is_folder {
        make_folder(path)?;
    } else {
        replace(path, b"", 0o644)?;
    }
    let kind = if tree.is_folder { OFlag::O_DIRECTORY } else { OFlag::O_NOFOLLOW };
    open_path(path, kind).map_err(|error| file("have", path)(error.into()))
}

/// Writes a file in the place of the image's, whatever that is.
fn replace(path: &Path, text: &[u8], mode: u32) -> Result<(), Problem> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file("replace", path)(error));
        }
        _ => {}
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    made.and_then(|mut made| made.write_all(text)).map_err(file("write", path))
}

/// What a file holds, if it is a file of a sensible size.
fn text_of(path: &str) -> Option<Vec<u8>> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The user's groups, as the node's databases name them.
fn group_lines(user: &User) -> Vec<(u32, String)> {
    let mut groups = user.groups.clone();
    groups.push(user.gid);
    groups.sort_unstable();
    groups.dedup();
    let name = |gid: u32| match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => format!("group{gid}"),
    };
    groups.into_iter().map(|gid| (gid, format!("{}:x:{gid}:{}", name(gid), user.name))).collect()
}

/// The image's users and groups, with the user and theirs in the place of those that have their names or numbers.
fn write_users(user: &User, groups: &[(u32, String)]) -> Result<(), Problem> {
    let home = user.home.display().to_string();
    let own = [(user.uid, format!("{}:x:{}:{}::{home}:/bin/sh", user.name, user.uid, user.gid))];
    for (path, lines) in [("/etc/passwd", &own[..]), ("/etc/group", groups)] {
        let text = merged(&text_of(path).unwrap_or_default(), lines);
        replace(Path::new(path), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Lines of a database with these first, and none of those that were there with the same name or number.
fn merged(before: &[u8], lines: &[(u32, String)]) -> String {
    let before = String::from_utf8_lossy(before);
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let is_new = |line: &&str| {
        let number = line.split(':').nth(2).and_then(|number| number.parse::<u32>().ok());
        !lines.iter().any(|(own, text)| Some(*own) == number || name(text) == name(line))
    };
    let all = lines.iter().map(|(_, line)| line.as_str()).chain(before.lines().filter(is_new));
    all.flat_map(|line| [line, "\n"]).collect()
}

fn open_path(path: &Path, kind: OFlag) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | kind, nix::sys::stat::Mode::empty())
}

/// A copy of the mount that holds this, and of all below it (open_tree(2)).
fn clone_tree(of: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let flags = flags | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: an open descriptor, an empty text that ends with a zero byte, and flags.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, of.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| Errno::EBADF)?) })
}

/// Sets flags of a mount, and of all below it (mount_setattr(2)).
fn set_flags(of: &OwnedFd, flags: u64, with_all_below: bool) -> nix::Result<()> {
    let set = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let below = if with_all_below { libc::AT_RECURSIVE } else { 0 };
    let (how, size) = (libc::AT_EMPTY_PATH | below, std::mem::size_of::<libc::mount_attr>());
    // SAFETY: an open descriptor, an empty text, and a structure of the size that is said.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, of.as_raw_fd(), c"".as_ptr(), how, &raw const set, size)
    };
    Errno::result(done).map(drop)
}

/// Puts a copy of a mount in its place (move_mount(2)).
fn attach(tree: &Tree, place: &OwnedFd) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, empty) = (tree.mount.as_raw_fd(), place.as_raw_fd(), c"".as_ptr());
    // SAFETY: open descriptors, empty texts, and flags.
    let done = unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_takes_the_place_of_whoever_had_the_name_or_the_number() {
        let before =
            b"root:x:0:0::/root:/bin/sh\nann:x:7:7::/:/x\nother:x:1000:1::/:/x\nbroken\nlast:x:9:9::/:/x";
        let lines = [(1000, "ann:x:1000:1000::/wd:/bin/sh".to_owned())];
        let text = merged(before, &lines);
        let names: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, ["ann", "root", "broken", "last"]);
        assert!(text.starts_with("ann:x:1000:1000::/wd:/bin/sh\n"));
    }
}
