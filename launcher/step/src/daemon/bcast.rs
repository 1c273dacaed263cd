//! A file that comes to the node before its ranks start: it is written beside its place under a name of its own, checked
//! against its digest, and then put in its place at once. Nobody ever sees a part of it there.

use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::auth;
use crate::error::errno_text;
use crate::frames::{Common, Sent};
use crate::words::DaemonStart;

/// A file on its way, or in its place.
pub(super) struct Incoming {
    sent: Sent,
    path: PathBuf,
    state: State,
}

enum State {
    Writing {
        file: File,
        /// What it is called until it is complete.
        beside: PathBuf,
        digest: Box<Sha256>,
        bytes: u64,
    },
    /// It is there. It is held open, so that its number, by which it is known again, is not given to another.
    InPlace(File),
    Failed(String),
}

impl Incoming {
    /// Makes the file, which is empty.
    pub fn begin(sent: &Sent, start: &DaemonStart, common: &Common) -> Self {
        let mut path = Path::new(&common.directory).join(&sent.path);
        if sent.path.is_empty() || sent.path.ends_with('/') {
            // srun(1), `--bcast`.
            path.push(format!("slurm_bcast_{}.{}_{}", start.job, start.step, start.host));
        }
        let mut incoming = Self { sent: sent.clone(), path, state: State::Failed(String::new()) };
        incoming.state = match incoming.create() {
            Ok(state) => state,
            Err(error) => incoming.failed("created", &error),
        };
        incoming
    }

    fn create(&self) -> std::io::Result<State> {
        let name = self.path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", auth::nonce()?));
        let beside = self.path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        Ok(State::Writing { file, beside, digest: Box::new(Sha256::new()), bytes: 0 })
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> State {
        State::Failed(format!("{} cannot be {what}: {}", self.path.display(), errno_text(error)))
    }

    /// Where it is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it will not be there.
    pub fn problem(&self) -> Option<&str> {
        match &self.state {
            State::Failed(problem) => Some(problem),
            _ => None,
        }
    }

    /// Takes the next of its bytes.
    pub fn put(&mut self, part: &[u8]) {
        let State::Writing { file, digest, bytes, .. } = &mut self.state else { return };
        *bytes += part.len() as u64;
        digest.update(part);
        if let Err(error) = file.write_all(part) {
            let failed = self.failed("written", &error);
            self.leave(failed);
        }
    }

    /// All of it has come. With another digest it is not what was sent.
    pub fn finish(&mut self, sha256: &str) {
        let State::Writing { file, beside, digest, bytes } = &self.state else { return };
        let found = auth::to_hex(&digest.as_ref().clone().finalize());
        let state = if *bytes != self.sent.bytes || found != sha256 {
            let (path, wanted) = (self.path.display(), self.sent.bytes);
            State::Failed(format!(
                "{path}: what has come is not what was sent: {bytes} bytes of {wanted} with the SHA-256 {found}, not \
                 {sha256}"
            ))
        } else {
            match self.put_in_place(file, beside) {
                Ok(state) => state,
                Err(error) => self.failed("put in its place", &error),
            }
        };
        self.leave(state);
    }

    fn put_in_place(&self, file: &File, beside: &Path) -> std::io::Result<State> {
        let held = File::open(beside)?;
        file.set_permissions(Permissions::from_mode(self.sent.mode))?;
        if let Some((accessed_us, modified_us)) = self.sent.times_us {
            let at = |us| UNIX_EPOCH + Duration::from_micros(us);
            let times = FileTimes::new().set_accessed(at(accessed_us)).set_modified(at(modified_us));
            file.set_times(times)?;
        }
        match self.sent.replace {
            true => std::fs::rename(beside, &self.path)?,
            // A second name is refused where there is one already; the first goes with this state.
            false => std::fs::hard_link(beside, &self.path)?,
        }
        Ok(State::InPlace(held))
    }

    /// Enters another state; of the one before nothing is left.
    fn leave(&mut self, next: State) {
        if let State::Writing { beside, .. } = std::mem::replace(&mut self.state, next) {
            let _it_may_be_in_its_place = std::fs::remove_file(beside);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What somebody has put there since is theirs.
        if let State::InPlace(file) = &self.state
            && !self.sent.keep
            && let Ok((own, found)) =
                file.metadata().and_then(|own| Ok((own, std::fs::symlink_metadata(&self.path)?)))
            && (own.dev(), own.ino()) == (found.dev(), found.ino())
        {
            let _it_stays = std::fs::remove_file(&self.path);
        }
        self.leave(State::Failed(String::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(folder: &Path, sent: Sent) -> Incoming {
        let start = DaemonStart { job: 7, step: 2, host: "n1".into(), ..DaemonStart::default() };
        let common = Common { directory: folder.display().to_string(), ..Common::default() };
        Incoming::begin(&sent, &start, &common)
    }

    fn digest(bytes: &[u8]) -> String {
        auth::to_hex(&Sha256::digest(bytes))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn sent(path: &str, bytes: u64) -> Sent {
        Sent { path: path.into(), bytes, mode: 0o700, replace: true, run: true, ..Sent::default() }
    }

    #[test]
    fn a_file_is_in_its_place_when_all_of_it_is_there_and_goes_with_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = incoming(folder.path(), sent("", 6));
        file.put(b"abc");
        assert!(!file.path().exists());
        file.put(b"def");
        file.finish(&digest(b"abcdef"));
        assert_eq!(file.problem(), None);
        assert_eq!(names(folder.path()), ["slurm_bcast_7.2_n1"]);
        let found = std::fs::metadata(file.path()).unwrap();
        assert_eq!((found.mode() & 0o7777, found.len()), (0o700, 6));
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_with_a_name_stays_and_replaces_another_only_if_that_is_wished() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Sent { keep: true, times_us: Some((1_000_000, 2_000_000)), ..sent("a", 1) };
        for (text, replace) in [("1", false), ("2", true)] {
            let mut file = incoming(folder.path(), Sent { replace, ..kept.clone() });
            file.put(text.as_bytes());
            file.finish(&digest(text.as_bytes()));
            assert_eq!(file.problem(), None);
        }
        let mut file = incoming(folder.path(), Sent { replace: false, ..kept });
        file.put(b"3");
        file.finish(&digest(b"3"));
        assert!(file.problem().unwrap().ends_with("a cannot be put in its place: File exists"));
        drop(file);
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"2");
        assert_eq!(std::fs::metadata(folder.path().join("a")).unwrap().mtime(), 2);
    }

    #[test]
    fn what_is_damaged_or_cut_off_or_has_no_folder_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, said) in [(&b"abd"[..], "is not what was sent"), (b"ab", "2 bytes of 3")] {
            let mut file = incoming(folder.path(), sent("a", 3));
            file.put(bytes);
            file.finish(&digest(b"abc"));
            assert!(file.problem().unwrap().contains(said), "{:?}", file.problem());
        }
        drop(incoming(folder.path(), sent("a", 3)));
        let file = incoming(folder.path(), sent("none/a", 3));
        assert!(file.problem().unwrap().ends_with("none/a cannot be created: No such file or directory"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_another_has_put_there_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = incoming(folder.path(), sent("a", 0));
        file.finish(&digest(b""));
        std::fs::remove_file(file.path()).unwrap();
        std::fs::write(file.path(), "theirs").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), ["a"]);
    }
}
