//! Files of tasks for those who ask the controller for them: one answer to each request, and nothing kept between two.
//!
//! Paths are opened below the task's folder alone, without following any link (openat2(2)), and only what belongs to
//! the task's user is shown: whatever the user puts there, nobody reads another's files through it.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use muster_wire::v1::file_problem::Kind;
use muster_wire::v1::file_reply::Answer;
use muster_wire::v1::file_request::What;
use muster_wire::v1::{
    AttemptKey, FileData, FileDelete, FileDone, FileInfo, FileList, FilePage, FileProblem, FileRead,
    FileReply, FileRequest,
};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::folders::{Record, Records};

/// How many requests are worked on at once; more are told to come again.
pub(super) const AT_ONCE_MAX: usize = 8;
/// The largest part of a file in one answer.
const READ_BYTES_MAX: usize = 256 << 10;
/// The most names in one answer.
const NAMES_MAX: usize = 1000;
/// The most names that a listing looks at.
const LOOKED_AT_MAX: usize = 200_000;
/// How deep folders are listed.
const DEPTH_MAX: usize = 64;

type Answered<T> = Result<T, FileProblem>;

/// Where the folders of this node are.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub root: PathBuf,
    pub records: Records,
}

fn problem(kind: Kind, message: impl Into<String>) -> FileProblem {
    FileProblem { kind: kind.into(), message: message.into() }
}

/// The answer to a request for which there is no room.
pub(super) fn busy(id: u64) -> FileReply {
    let busy = problem(Kind::Busy, "this node answers as many requests for files as it may; ask again");
    FileReply { id, answer: Some(Answer::Problem(busy)) }
}

fn failed(path: &str, error: Errno) -> FileProblem {
    let kind = match error {
        Errno::ENOENT | Errno::ENOTDIR => Kind::NotFound,
        // A link, or a way out.
        Errno::ELOOP | Errno::EXDEV | Errno::EACCES | Errno::EPERM => Kind::Denied,
        Errno::ENOTEMPTY | Errno::EEXIST => Kind::NotEmpty,
        Errno::EISDIR => Kind::NotAFile,
        _ => Kind::Failed,
    };
    problem(kind, format!("{path:?}: {}", error.desc()))
}

fn failed_io(path: &str, error: &std::io::Error) -> FileProblem {
    failed(path, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Opens something below a folder, whatever links there are.
fn open_below(folder: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(folder, if path.is_empty() { "." } else { path }, how)
}

/// A folder in which requests begin.
struct Base {
    folder: OwnedFd,
    /// Whose files are shown.
    uid: u32,
    /// Whether folders of the node's own are shown on the way to those files.
    with_own: bool,
}

impl Desk {
    /// Answers a request.
    pub fn answer(&self, request: &FileRequest) -> FileReply {
        let answer = self.try_answer(request).unwrap_or_else(Answer::Problem);
        FileReply { id: request.id, answer: Some(answer) }
    }

    fn try_answer(&self, request: &FileRequest) -> Answered<Answer> {
        let path = request.path.trim_matches('/');
        if path.split('/').any(|part| part == ".." || part == ".") || path.contains('\0') {
            return Err(problem(Kind::Denied, format!("{path:?} does not stay in the folder")));
        }
        if let (Some(key), "", Some(What::Delete(FileDelete { recursive: true }))) =
            (request.key, path, &request.what)
        {
            return self.clean_up(key).map(|()| Answer::Done(FileDone {}));
        }
        let base = self.base(request)?;
        match request.what.as_ref() {
            Some(What::Stat(_)) => base.stat(path).map(Answer::Info),
            Some(What::Read(read)) => base.read(path, read).map(Answer::Data),
            Some(What::List(list)) => base.list(path, list).map(Answer::Page),
            Some(What::Delete(delete)) => base.delete(path, delete).map(|()| Answer::Done(FileDone {})),
            None => Err(problem(Kind::Failed, "the request asks for nothing that this version knows")),
        }
    }

    fn record(&self, key: AttemptKey) -> Answered<Record> {
        let gone = || problem(Kind::CleanedUp, format!("the files of {key} are no longer kept on this node"));
        self.records.find((key.job, key.task, key.attempt)).ok_or_else(gone)
    }

    /// Removes the whole folder of an attempt that has ended, before its time.
    fn clean_up(&self, key: AttemptKey) -> Answered<()> {
        let record = self.record(key)?;
        if record.ended_at_s.is_none() {
            return Err(problem(Kind::Denied, format!("{key} has not ended, and needs its folder")));
        }
        self.records.remove(&self.root, &record).map_err(|error| problem(Kind::Failed, error.sentence()))
    }

    fn base(&self, request: &FileRequest) -> Answered<Base> {
        let root = std::fs::File::open(&self.root);
        let root = root.map_err(|error| match error.kind() {
            ErrorKind::NotFound => problem(Kind::CleanedUp, "this node has no folders of tasks"),
            _ => failed_io("the root for work", &error),
        })?;
        let Some(key) = request.key else {
            return Ok(Base { folder: root.into(), uid: request.uid, with_own: true });
        };
        let record = self.record(key)?;
        let gone = || problem(Kind::CleanedUp, format!("the files of {key} are no longer kept on this node"));
        let path = record.folder.to_string_lossy();
        let folder = open_below(&root, &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let folder =
            folder.map_err(|error| if error == Errno::ENOENT { gone() } else { failed(&path, error) })?;
        Ok(Base { folder, uid: record.uid, with_own: false })
    }
}

impl Base {
    /// Whether a file or folder with this owner may be shown.
    fn shows(&self, uid: u32, is_folder: bool) -> bool {
        uid == self.uid || (self.with_own && is_folder && uid == nix::unistd::geteuid().as_raw())
    }

    /// Something that may be looked at; it is not opened for reading, so that no device or pipe notices.
    fn look(&self, path: &str) -> Answered<(File, std::fs::Metadata)> {
        let found = open_below(&self.folder, path, OFlag::O_PATH).map_err(|error| failed(path, error))?;
        let found = File::from(found);
        let about = found.metadata().map_err(|error| failed_io(path, &error))?;
        if !(about.is_file() || about.is_dir()) {
            return Err(problem(Kind::NotAFile, format!("{path:?} is neither a file nor a folder")));
        }
        if !self.shows(about.uid(), about.is_dir()) {
            return Err(problem(Kind::Denied, format!("{path:?} does not belong to the task's user")));
        }
        Ok((found, about))
    }

    /// The same, to be read. What was looked at is opened, whatever has that name now.
    fn open(&self, path: &str) -> Answered<(File, std::fs::Metadata)> {
        let (found, about) = self.look(path)?;
        let opened = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()));
        Ok((opened.map_err(|error| failed_io(path, &error))?, about))
    }

    fn stat(&self, path: &str) -> Answered<FileInfo> {
        let (_, about) = self.look(path)?;
        Ok(info(path.to_owned(), &about))
    }

    fn read(&self, path: &str, wanted: &FileRead) -> Answered<FileData> {
        let (mut file, about) = self.open(path)?;
        if !about.is_file() {
            return Err(problem(Kind::NotAFile, format!("{path:?} is a folder")));
        }
        let failed = |error: std::io::Error| failed_io(path, &error);
        file.seek(SeekFrom::Start(wanted.offset)).map_err(failed)?;
        let length = (wanted.length as usize).min(READ_BYTES_MAX);
        let mut data = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut data).map_err(failed)?;
        Ok(FileData { data, info: Some(info(path.to_owned(), &about)) })
    }

    /// A page of a listing, in the order of the names.
    fn list(&self, path: &str, wanted: &FileList) -> Answered<FilePage> {
        let (folder, about) = self.open(path)?;
        if !about.is_dir() {
            return Err(problem(Kind::NotAFile, format!("{path:?} is not a folder")));
        }
        let max = (wanted.max as usize).clamp(1, NAMES_MAX);
        let mut listing = Listing { base: self, max, files: Vec::new(), looked_at: 0 };
        let finished = listing.walk(&folder, "", &wanted.after, wanted.recursive, 0)?;
        Ok(FilePage { files: listing.files, more: !finished })
    }

    /// Removes a file or a folder, but not the task's own.
    fn delete(&self, path: &str, wanted: &FileDelete) -> Answered<()> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(problem(Kind::Denied, "the task's folder itself goes when it is no longer kept"));
        }
        let (_, about) = self.look(path)?;
        if about.uid() != self.uid {
            return Err(problem(Kind::Denied, format!("{path:?} is the node's own")));
        }
        let parent = open_below(&self.folder, above, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let parent = parent.map_err(|error| failed(path, error))?;
        if !about.is_dir() {
            return unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).map_err(|error| failed(path, error));
        }
        if wanted.recursive {
            // The standard library follows no link on its way down; the way to here is the opened folder.
            let inner = format!("/proc/self/fd/{}/{name}", parent.as_raw_fd());
            return std::fs::remove_dir_all(inner).map_err(|error| failed_io(path, &error));
        }
        unlinkat(&parent, name, UnlinkatFlags::RemoveDir).map_err(|error| failed(path, error))
    }
}

/// A listing under way.
struct Listing<'a> {
    base: &'a Base,
    max: usize,
    files: Vec<FileInfo>,
    looked_at: usize,
}

impl Listing<'_> {
    /// Adds what is in a folder and comes after a path in it; false if the page is full before the end.
    fn walk(
        &mut self,
        folder: &File,
        below: &str,
        after: &str,
        recursive: bool,
        depth: usize,
    ) -> Answered<bool> {
        let (passed, passed_inside) = after.split_once('/').unwrap_or((after, ""));
        let keyed = self.names(folder, below)?;
        let own_key = keyed.iter().find(|(_, name)| name == passed).map(|(key, _)| key.clone());
        let passed_key = own_key.unwrap_or_else(|| passed.to_owned());
        for (_, name) in keyed.into_iter().filter(|(key, _)| *key >= passed_key) {
            let was_told = !passed.is_empty() && name == passed;
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let Ok(found) = open_below(folder, &name, OFlag::O_PATH | OFlag::O_NOFOLLOW).map(File::from)
            else {
                continue;
            };
            let Ok(about) = found.metadata() else { continue };
            if !(about.is_file() || about.is_dir()) || !self.base.shows(about.uid(), about.is_dir()) {
                continue;
            }
            if !was_told {
                if self.files.len() >= self.max {
                    return Ok(false);
                }
                self.files.push(info(path.clone(), &about));
            }
            if !about.is_dir() || !recursive || depth >= DEPTH_MAX {
                continue;
            }
            let after = if was_told { passed_inside } else { "" };
            if let Ok(inner) = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))
                && !self.walk(&inner, &path, after, recursive, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The names in a folder, each after the key of its place: folders come as if their names ended with a `/`.
    fn names(&mut self, folder: &File, below: &str) -> Answered<Vec<(String, String)>> {
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let mut names = Vec::new();
        for entry in entries.map_err(|error| failed_io(below, &error))?.flatten() {
            self.looked_at += 1;
            if self.looked_at > LOOKED_AT_MAX {
                let text = format!("there are more than {LOOKED_AT_MAX} names; list a folder further down");
                return Err(problem(Kind::Failed, text));
            }
            names.extend(entry.file_name().into_string());
        }
        let is_folder = |name: &String| {
            fstatat(folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|about| about.st_mode & libc::S_IFMT == libc::S_IFDIR)
        };
        let mut keyed: Vec<(String, String)> = names
            .into_iter()
            .map(|name| (if is_folder(&name) { format!("{name}/") } else { name.clone() }, name))
            .collect();
        keyed.sort_unstable();
        Ok(keyed)
    }
}

fn info(path: String, about: &std::fs::Metadata) -> FileInfo {
    let seconds = u64::try_from(about.mtime()).unwrap_or(0);
    let microseconds = u64::try_from(about.mtime_nsec()).unwrap_or(0) / 1000;
    FileInfo {
        path,
        directory: about.is_dir(),
        bytes: if about.is_dir() { 0 } else { about.len() },
        changed_at_us: seconds * 1_000_000 + microseconds,
        mode: about.mode() & 0o7777,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::v1::FileStat;

    struct Bench {
        _folder: tempfile::TempDir,
        desk: Desk,
        task: PathBuf,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let desk =
            Desk { root: folder.path().join("work"), records: Records::at(folder.path().join("folders")) };
        let task = desk.root.join("jobs/7");
        std::fs::create_dir_all(task.join("wd/d")).unwrap();
        let record = Record {
            key: (7, 0, 1),
            folder: "jobs/7".into(),
            uid: nix::unistd::geteuid().as_raw(),
            retention_s: 1,
            ended_at_s: None,
        };
        desk.records.write(&record).unwrap();
        for name in ["stdout.txt", "wd/a", "wd/d/b", "wd/d.txt"] {
            std::fs::write(task.join(name), name).unwrap();
        }
        Bench { _folder: folder, desk, task }
    }

    impl Bench {
        fn ask(&self, path: &str, what: What) -> Answer {
            let key = Some(AttemptKey { job: 7, task: 0, attempt: 1 });
            let request = FileRequest { id: 3, key, path: path.to_owned(), what: Some(what), uid: 0 };
            let reply = self.desk.answer(&request);
            assert_eq!(reply.id, 3);
            reply.answer.unwrap()
        }

        fn names(&self, path: &str, recursive: bool, max: u32) -> Vec<String> {
            let mut names: Vec<String> = Vec::new();
            loop {
                let after = names.last().cloned().unwrap_or_default();
                match self.ask(path, What::List(FileList { recursive, after, max })) {
                    Answer::Page(page) => {
                        names.extend(page.files.into_iter().map(|file| file.path));
                        if !page.more {
                            return names;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }

        fn kind(&self, path: &str, what: What) -> Kind {
            match self.ask(path, what) {
                Answer::Problem(problem) => problem.kind(),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    fn read(offset: u64, length: u32) -> What {
        What::Read(FileRead { offset, length })
    }

    #[test]
    fn folders_are_listed_page_by_page() {
        let bench = bench();
        let all = ["stdout.txt", "wd", "wd/a", "wd/d.txt", "wd/d", "wd/d/b"];
        for max in [1, 2, 3, 100] {
            assert_eq!(bench.names("", true, max), all, "{max}");
        }
        assert_eq!(bench.names("wd", false, 100), ["a", "d.txt", "d"]);
        assert_eq!(bench.kind("wd/a", What::List(FileList::default())), Kind::NotAFile);
    }

    #[test]
    fn files_are_read_in_parts_and_removed() {
        let bench = bench();
        match bench.ask("stdout.txt", read(3, 4)) {
            Answer::Data(data) => {
                assert_eq!(data.data, b"out.");
                assert_eq!(data.info.unwrap().bytes, 10);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(bench.ask("stdout.txt", read(100, 4)), Answer::Data(data) if data.data.is_empty()));
        let delete = |recursive| What::Delete(FileDelete { recursive });
        assert_eq!(bench.kind("wd/d", delete(false)), Kind::NotEmpty);
        assert_eq!(bench.kind("", delete(true)), Kind::Denied);
        assert!(matches!(bench.ask("wd/d", delete(true)), Answer::Done(_)));
        assert!(matches!(bench.ask("wd/a", delete(false)), Answer::Done(_)));
        assert_eq!(bench.names("wd", true, 9), ["d.txt"]);
        assert_eq!(bench.kind("wd/a", What::Stat(FileStat {})), Kind::NotFound);
        // The folder of an attempt that has ended can go as a whole.
        bench.desk.records.note_end((7, 0, 1), 5);
        assert!(matches!(bench.ask("", delete(true)), Answer::Done(_)));
        assert!(!bench.task.exists());
        assert_eq!(bench.kind("", What::Stat(FileStat {})), Kind::CleanedUp);
    }

    #[test]
    fn no_link_and_no_path_leads_out_of_the_folder() {
        let bench = bench();
        std::os::unix::fs::symlink("/etc/passwd", bench.task.join("wd/link")).unwrap();
        std::os::unix::fs::symlink("/etc", bench.task.join("wd/etc")).unwrap();
        std::os::unix::fs::symlink("a", bench.task.join("wd/inside")).unwrap();
        nix::unistd::mkfifo(&bench.task.join("wd/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, kind) in [
            ("wd/link", Kind::Denied),
            ("wd/etc/passwd", Kind::Denied),
            ("wd/inside", Kind::Denied),
            ("../8/x", Kind::Denied),
            ("wd/../../8", Kind::Denied),
            ("wd/pipe", Kind::NotAFile),
            ("none", Kind::NotFound),
        ] {
            assert_eq!(bench.kind(path, read(0, 9)), kind, "{path}");
        }
        assert!(
            !bench.names("wd", true, 99).iter().any(|name| name.contains("etc") || name.contains("link"))
        );
        let delete = What::Delete(FileDelete { recursive: true });
        assert_eq!(bench.kind("wd/etc/passwd", delete), Kind::Denied);
    }

    #[test]
    fn only_what_is_the_users_is_shown() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let bench = bench();
        std::os::unix::fs::chown(bench.task.join("wd/a"), Some(65534), None).unwrap();
        assert_eq!(bench.kind("wd/a", read(0, 9)), Kind::Denied);
        assert_eq!(bench.names("wd", false, 9), ["d.txt", "d"]);
        // From the root on, the same user's files are seen through folders of the node's own, and no others.
        let from_root = |path: &str, uid| {
            let what = Some(What::Stat(FileStat {}));
            let request = FileRequest { id: 1, key: None, path: path.to_owned(), what, uid };
            bench.desk.answer(&request).answer.unwrap()
        };
        assert!(matches!(from_root("jobs/7/wd/a", 65534), Answer::Info(_)));
        assert!(matches!(from_root("jobs/7/stdout.txt", 65534), Answer::Problem(_)));
    }

    #[test]
    fn a_folder_that_is_gone_is_told_apart_from_a_file_that_is_not_there() {
        let bench = bench();
        std::fs::remove_dir_all(&bench.task).unwrap();
        assert_eq!(bench.kind("", What::Stat(FileStat {})), Kind::CleanedUp);
        assert!(bench.desk.root.exists());
    }
}
