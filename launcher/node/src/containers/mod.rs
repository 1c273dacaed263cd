//! Containers of the batch service's tasks on this node: their images, and the file systems that are made of them.
//!
//! An image is brought by `skopeo` and unpacked by `umoci`, once, into a folder that its digest names, below a folder that only root may
//! enter: what is in it may claim any rights. A task's processes are started as all others are, with the same user, containment,
//! network and numbers; but their root is the image ([`enclose`]), where nothing gives them more rights than they have.

pub mod enclose;
mod image;
mod pull;
pub mod tools;

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use muster_wire::v1::{self, SetupError, StagingFailed};
use sha2::{Digest as _, Sha256};

pub use self::image::Config;
use crate::config::AgentDir;
use crate::error::{NodeError, Result};
use crate::packages::{Held, Shelf, is_digest};

/// The code of failures with an image, as the batch service names it.
pub const IMAGE_ERROR: &str = "ContainerInvalidImage";
/// The code where what is said of a container cannot be had.
pub const SETTINGS_ERROR: &str = "ContainerInvalidSettings";
/// The code where the node cannot make a container, whatever is said of it.
pub const NODE_ERROR: &str = "ContainerMiscError";
/// The code where a node can have no containers at all.
const SETUP_ERROR: &str = "ContainerPoolSetupFailed";
/// The folder below the agent's that has all images.
const FOLDER: &str = "images";
/// The file beside it with logins to registries.
const LOGINS: &str = "registries.json";
/// The folder in an image's that is its root, and the file beside it with what it says of programs.
pub const ROOT: &str = "rootfs";
const CONFIG: &str = "image.json";

/// All images of a node.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
    shelf: Shelf,
    /// The file with the site's logins to registries, as `skopeo login --authfile` writes it; there need not be one.
    logins: PathBuf,
}

/// An image that is used: it stays where it is meanwhile.
#[derive(Debug)]
pub struct HeldImage {
    /// Its folder.
    pub folder: PathBuf,
    /// What it says of programs.
    pub config: Config,
    _held: Held,
}

/// What is wrong with a container, with the code that the batch service has for it.
fn wrong(code: &str, message: impl Into<String>) -> NodeError {
    NodeError::Staged(StagingFailed { code: code.to_owned(), message: message.into() })
}

impl Images {
    /// The images of an agent.
    pub fn of(dir: &Path) -> Self {
        let folder = dir.join(FOLDER);
        Self { shelf: Shelf::at(folder.clone()), folder, logins: dir.join(LOGINS) }
    }

    /// Makes the folder that has them, which is root's alone.
    fn make(&self) -> Result<()> {
        let names = self.folder.join("names");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&names);
        made.map_err(NodeError::file("create the folder", &names))
    }

    /// The file that says which image has a name.
    fn name(&self, name: &str) -> PathBuf {
        self.folder.join("names").join(format!("{:x}", Sha256::digest(name)))
    }

    /// The digest of the image that had a name when it was brought last.
    fn digest_of(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.name(name)).ok().filter(|digest| is_digest(digest))
    }

    fn note(&self, name: &str, digest: &str) -> Result<()> {
        let path = self.name(name);
        let new = path.with_extension(std::process::id().to_string());
        std::fs::write(&new, digest).map_err(NodeError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(NodeError::file("replace", &path))
    }

    /// Holds the image of a name, if it is there.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if what is there cannot be used.
    pub fn hold(&self, name: &str) -> Result<Option<HeldImage>> {
        let Some(digest) = self.digest_of(name) else { return Ok(None) };
        let Some(held) = self.shelf.hold(&digest)? else { return Ok(None) };
        let folder = self.shelf.place(&digest);
        let path = folder.join(CONFIG);
        let text = std::fs::read(&path).map_err(NodeError::file("read", &path))?;
        let config = serde_json::from_slice(&text).map_err(|source| NodeError::Malformed {
            kind: "description of an image",
            path,
            source,
        })?;
        Ok(Some(HeldImage { folder, config, _held: held }))
    }

    /// Removes what nobody uses and nobody has used for long, and more while the disk is nearly full.
    pub fn tidy(&self, now: SystemTime, is_full: impl Fn(&Path) -> bool) {
        self.shelf.tidy(now, || is_full(&self.folder));
        for name in std::fs::read_dir(self.folder.join("names")).into_iter().flatten().flatten() {
            let digest = std::fs::read_to_string(name.path()).unwrap_or_default();
            if !(is_digest(&digest) && self.shelf.place(&digest).exists()) {
                let _ = std::fs::remove_file(name.path());
            }
        }
    }
}

/// Sees to it that the node can have containers, and brings images. Says what could not be done.
pub async fn bring(dir: &AgentDir, setup: &v1::Setup) -> Vec<SetupError> {
    if !setup.containers && setup.images.is_empty() {
        return Vec::new();
    }
    let told = |code: &str, message: String| SetupError { code: code.to_owned(), message };
    // A task has another code for it than a pool.
    let unable = if setup.containers { SETUP_ERROR } else { NODE_ERROR };
    let tools = match pull::Tools::find() {
        Ok(tools) => tools,
        Err(message) => return vec![told(unable, message)],
    };
    let images = Images::of(dir.path());
    if let Err(error) = images.make() {
        return vec![told(unable, error.sentence())];
    }
    let mut errors = Vec::new();
    for image in &setup.images {
        match pull::bring(&images, &tools, image).await {
            Ok(()) => {}
            Err(NodeError::Staged(failed)) => errors.push(told(&failed.code, failed.message)),
            Err(error) => errors.push(told(IMAGE_ERROR, format!("{}: {}", image.name, error.sentence()))),
        }
    }
    errors
}

/// Opens a folder of the node without following a link on the way to it: who may write above it cannot have another one taken.
fn open_plainly(path: &Path, flags: nix::fcntl::OFlag) -> nix::Result<File> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let root = File::open("/").map_err(|_| nix::errno::Errno::EIO)?;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    openat2(&root, below, how).map(File::from)
}
