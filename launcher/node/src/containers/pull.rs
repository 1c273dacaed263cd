//! Bringing images: `skopeo` fetches one into an OCI layout, `umoci` unpacks it, layer by layer.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_wire::v1;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior};

use super::image::{self, Layers};
use super::{IMAGE_ERROR, Images, ROOT, wrong};
use crate::error::{NodeError, Result};

/// How long an image may take to be brought and unpacked.
const WITHIN: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether the disk still has room.
const LOOKS_EVERY: Duration = Duration::from_millis(500);
/// How much of the disk an image leaves free: so many bytes, or this part of a small one, in percent.
const FREE_BYTES_MIN: u64 = 1_000_000_000;
const FREE_PERCENT_MIN: u64 = 3;
/// The largest image: its layers, compressed as they are.
const LAYERS_BYTES_MAX: u64 = 64 << 30;
/// The largest manifest.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// How much of what a program says is kept.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// Longest part of it that is told, in characters.
const TOLD_CHARS_MAX: usize = 300;
/// Where the programs are looked for.
const PLACES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin"];
/// The site's rules for signatures of images.
const POLICY: &str = "/etc/containers/policy.json";
/// How the name of an archive begins.
const ARCHIVE: &str = "oci-archive:";

/// The programs.
#[derive(Debug)]
pub(super) struct Tools {
    skopeo: PathBuf,
    umoci: PathBuf,
}

impl Tools {
    /// Finds them; or says why there can be no containers here.
    pub fn find() -> std::result::Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err(
                "this node's agent does not run as root, without which there are no containers".to_owned()
            );
        }
        Self::find_in(&PLACES)
    }

    fn find_in(places: &[&str]) -> std::result::Result<Self, String> {
        let find =
            |name: &str| places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
        match (find("skopeo"), find("umoci")) {
            (Some(skopeo), Some(umoci)) => Ok(Self { skopeo, umoci }),
            (skopeo, umoci) => {
                let missing = [("skopeo", skopeo), ("umoci", umoci)];
                let missing = missing.into_iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name);
                let missing = missing.collect::<Vec<_>>().join(" and ");
                Err(format!(
                    "this node has no {missing}, with which images of containers are brought; on Debian: apt-get install skopeo umoci"
                ))
            }
        }
    }
}

/// A folder for what is on its way, which is removed with this value; one that a killed process has left is found by its number.
struct Scratch(PathBuf);

impl Scratch {
    fn make(images: &Images) -> Result<Self> {
        for entry in std::fs::read_dir(&images.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.strip_prefix(".way-");
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let path = images.folder.join(format!(".way-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(NodeError::file("create the folder", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Brings an image, unless the one that has this name now is there.
///
/// # Errors
///
/// [`NodeError::Staged`] with what is wrong with it.
pub(super) async fn bring(images: &Images, tools: &Tools, wanted: &v1::Image) -> Result<()> {
    let name = &wanted.name;
    if !wanted.problem.is_empty() {
        return Err(wrong(IMAGE_ERROR, wanted.problem.clone()));
    }
    let way = Way {
        tools,
        name,
        deadline: Instant::now() + WITHIN,
        plain: wanted.plain_http,
        scratch: Scratch::make(images)?,
        logins: &images.logins,
    };
    let source = way.source()?;
    let (digest, layers) = match way.manifest(&source).await {
        Ok(found) => found,
        // Its registry may be away for a while, and the image is here.
        Err(error) if images.hold(name)?.is_some() => {
            tracing::warn!(error = error.sentence(), "an image is used as it was brought before");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if layers > LAYERS_BYTES_MAX {
        let message = format!("{name} has {layers} bytes, and an image has at most {LAYERS_BYTES_MAX}");
        return Err(wrong(IMAGE_ERROR, message));
    }
    if let Some(making) = images.shelf.begin(&digest)? {
        way.unpack(&source, &digest, making.folder()).await?;
        making.finish()?;
    }
    images.note(name, &digest)
}

/// An image on its way.
struct Way<'a> {
    tools: &'a Tools,
    name: &'a str,
    deadline: Instant,
    plain: bool,
    scratch: Scratch,
    logins: &'a Path,
}

impl Way<'_> {
    fn bad(&self, why: impl std::fmt::Display) -> NodeError {
        wrong(IMAGE_ERROR, format!("{} cannot be brought: {why}", self.name))
    }

    /// What skopeo is told to take. An archive is copied first, so that it is the file that was looked at.
    fn source(&self) -> Result<String> {
        let Some(path) = self.name.strip_prefix(ARCHIVE) else {
            return Ok(format!("docker://{}", self.name));
        };
        let found = super::open_plainly(Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let mut found = found.map_err(|error| {
            self.bad(format_args!(
                "{path} is no file of this node, or is reached through a link: {}",
                error.desc()
            ))
        })?;
        let about = found.metadata().map_err(|error| self.bad(error))?;
        if !about.is_file() {
            return Err(self.bad(format_args!("{path} is no file")));
        }
        if about.len() > LAYERS_BYTES_MAX || room(&self.scratch.0) <= about.len() {
            return Err(self.bad("the node's disk has no room for it"));
        }
        let copy = self.scratch.0.join("archive.tar");
        let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
        let copied = new.and_then(|mut new| std::io::copy(&mut found, &mut new));
        copied.map_err(|error| self.bad(error))?;
        Ok(format!("{ARCHIVE}{}", copy.display()))
    }

    /// The digest of the manifest that has the name now, and the bytes of its layers.
    async fn manifest(&self, source: &str) -> Result<(String, u64)> {
        let mut command = self.skopeo();
        command.args(["inspect", "--raw", "--no-tags", self.tls("--tls-verify")]);
        let text = self.run(command.args(["--authfile", &self.logins()?]).arg(source)).await?;
        let layers: Layers = serde_json::from_slice(&text).map_err(|error| self.bad(error))?;
        Ok((format!("{:x}", Sha256::digest(&text)), layers.bytes()))
    }

    /// Fetches the image of a digest and unpacks it in a folder.
    async fn unpack(&self, source: &str, digest: &str, folder: &Path) -> Result<()> {
        let layout = folder.join("layout");
        // The tag may be another image's by now.
        let exact = match source.strip_prefix("docker://") {
            Some(name) => {
                let end = name.rfind('/').unwrap_or(0);
                let end = name[end..].find([':', '@']).map_or(name.len(), |at| end + at);
                format!("docker://{}@sha256:{digest}", &name[..end])
            }
            None => source.to_owned(),
        };
        let image = format!("oci:{}:image", layout.display());
        let mut command = self.skopeo();
        command.args(["copy", "--quiet", self.tls("--src-tls-verify")]);
        command.args(["--src-authfile", &self.logins()?, &exact, &image]);
        self.run(&mut command).await?;
        let config = image::read(&layout, self.name)?;
        let root = folder.join(ROOT);
        let mut command = self.program(&self.tools.umoci);
        command.args(["raw", "unpack", "--image", &format!("{}:image", layout.display())]).arg(&root);
        self.run(&mut command).await?;
        if !std::fs::symlink_metadata(&root).is_ok_and(|root| root.is_dir()) {
            return Err(self.bad("it has no root"));
        }
        let path = folder.join(super::CONFIG);
        let text = serde_json::to_vec(&config).map_err(|error| self.bad(error))?;
        std::fs::write(&path, text).map_err(NodeError::file("write", &path))?;
        std::fs::remove_dir_all(&layout).map_err(NodeError::file("remove", &layout))
    }

    /// The logins that the site has given the node for this, or an empty list: none that root has elsewhere is for users to use.
    fn logins(&self) -> Result<String> {
        match std::fs::symlink_metadata(self.logins) {
            Ok(about) if about.is_file() && about.uid() == 0 && about.mode() & 0o077 == 0 => {
                return Ok(self.logins.display().to_string());
            }
            Ok(_) => {
                let path = self.logins.display();
                return Err(
                    self.bad(format_args!("{path} must be a file that root alone may read (chmod 600)"))
                );
            }
            Err(_) => {}
        }
        let path = self.scratch.0.join("auth.json");
        let made =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = made.and_then(|mut file| file.write_all(b"{}"));
        written.map_err(NodeError::file("write", &path))?;
        Ok(path.display().to_string())
    }

    fn tls(&self, option: &'static str) -> &'static str {
        match (option, self.plain) {
            ("--tls-verify", false) => "--tls-verify=true",
            ("--tls-verify", true) => "--tls-verify=false",
            (_, false) => "--src-tls-verify=true",
            (_, true) => "--src-tls-verify=false",
        }
    }

    fn skopeo(&self) -> Command {
        let mut command = self.program(&self.tools.skopeo);
        if !Path::new(POLICY).is_file() {
            command.arg("--insecure-policy");
        }
        command
    }

    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TMPDIR", &self.scratch.0);
        command.env("LC_ALL", "C").env("HOME", &self.scratch.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // SAFETY: between fork and exec one system call is made. With its parent it ends as well, whatever ends that.
        unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        command
    }

    /// Runs a program to its end, and gives back what it has written.
    async fn run(&self, command: &mut Command) -> Result<Vec<u8>> {
        let mut child = command.spawn().map_err(|error| self.bad(error))?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let whole = async {
            let (mut written, mut said) = (Vec::new(), Vec::new());
            if let Some((output, errors)) = output.zip(errors) {
                let (mut output, mut errors) = (output.take(MANIFEST_BYTES_MAX), errors.take(SAID_BYTES_MAX));
                let _ = tokio::join!(output.read_to_end(&mut written), errors.read_to_end(&mut said));
            }
            (child.wait().await, written, said)
        };
        tokio::pin!(whole);
        let mut looks = tokio::time::interval(LOOKS_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (status, written, said) = loop {
            tokio::select! {
                ended = &mut whole => break ended,
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(self.bad(format_args!("it is not here after {} minutes", WITHIN.as_secs() / 60)));
                }
                _ = looks.tick() => if room(&self.scratch.0) == 0 {
                    return Err(self.bad("the node's disk has no room for it"));
                },
            }
        };
        let status = status.map_err(|error| self.bad(error))?;
        match status.success() {
            true => Ok(written),
            false => Err(self.bad(told(&String::from_utf8_lossy(&said), &status.to_string()))),
        }
    }
}

/// How many bytes more may be written to the disk of a folder; none where it can hold no more files.
fn room(folder: &Path) -> u64 {
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return u64::MAX };
    // Some file systems do not count their files.
    if disk.files() > 0 && disk.files_available() < disk.files() / 100 * FREE_PERCENT_MIN {
        return 0;
    }
    let (all, free) = (disk.blocks(), disk.blocks_available());
    let [all, free] = [all, free].map(|blocks| blocks.saturating_mul(disk.fragment_size()));
    free.saturating_sub(FREE_BYTES_MIN.min(all / 100 * FREE_PERCENT_MIN))
}

/// What a program says last, without the marks of its log.
fn told(said: &str, otherwise: &str) -> String {
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or(otherwise);
    let line = line.split_once("msg=\"").map_or(line, |(_, message)| message.trim_end_matches('"'));
    line.replace("\\\"", "\"").chars().filter(|c| !c.is_control()).take(TOLD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_the_programs_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let why = Tools::find_in(&[place]).unwrap_err();
        assert!(why.contains("no skopeo and umoci") && why.contains("apt-get install skopeo umoci"), "{why}");
        std::fs::write(folder.path().join("skopeo"), "").unwrap();
        assert!(Tools::find_in(&[place]).unwrap_err().contains("has no umoci,"));
    }

    #[test]
    fn a_program_is_quoted_without_the_marks_of_its_log() {
        let said = "warning\ntime=\"2026\" level=fatal msg=\"reading \\\"x\\\": unauthorized\"\n\n";
        assert_eq!(told(said, "exit"), "reading \"x\": unauthorized");
        assert_eq!(told("\n", "exit status: 1"), "exit status: 1");
    }
}
