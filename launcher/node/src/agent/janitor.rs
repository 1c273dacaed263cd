//! Removing the folders of tasks whose time is over, and earlier ones where the disk is nearly full.

use std::path::Path;
use std::time::{Duration, SystemTime};

use muster_wire::v1::AttemptKey;

use crate::folders::{CACHE, Record, Records};
use crate::packages::Shelf;

/// How often it looks.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// How many folders it removes at most each time: each may have a million files.
const AT_ONCE_MAX: usize = 100;
/// The disk is nearly full when less than this part of it is free, in percent; folders are then removed before their
/// time, and while that does not help the node takes no work.
const FREE_PERCENT_MIN: u64 = 3;

/// How long an entry of a user's cache is kept without being used.
const UNUSED_MAX: Duration = Duration::from_secs(24 * 3600);
/// How many entries of caches are looked at.
const CACHED_MAX: usize = 100_000;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    /// Why the node is not fit for work.
    pub problem: Option<String>,
}

/// Looks once. The folder `attempts` has one for each attempt that the node holds, made before the task's own: an attempt
/// without one has ended, whether or not its supervisor could note that.
pub(super) fn look(root: &Path, records: &Records, attempts: &Path, now_s: u64) -> Looked {
    let mut ended: Vec<Record> = Vec::new();
    for record in records.all() {
        match record.ended_at_s {
            None if attempts.join(name(record.key)).exists() => {}
            None => records.note_end(record.key, now_s),
            Some(_) => ended.push(record),
        }
    }
    ended.sort_by_key(Record::expires_at_s);
    for record in ended.iter().take(AT_ONCE_MAX) {
        let is_over = record.expires_at_s().is_some_and(|at| at <= now_s);
        if !(is_over || is_nearly_full(root)) {
            break;
        }
        if let Err(error) = records.remove(root, record) {
            tracing::warn!(error = error.sentence(), "the folder of a task cannot be removed");
        }
    }
    Shelf::below(root).tidy(SystemTime::now(), || is_nearly_full(root));
    tidy_caches(&root.join(CACHE), SystemTime::now(), || is_nearly_full(root));
    let problem = is_nearly_full(root).then(|| {
        format!("DiskFull: less than {FREE_PERCENT_MIN} % of the disk of {} is free", root.display())
    });
    Looked { problem }
}

fn name((job, task, attempt): (u64, u32, u32)) -> String {
    AttemptKey { job, task, attempt }.to_string()
}

/// Removes from users' caches what was not used for long, and while the disk is nearly full what was not used for longest.
/// Nothing there is needed: it would be brought again.
fn tidy_caches(caches: &Path, now: SystemTime, is_full: impl Fn() -> bool) {
    let entries_of = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let users = entries_of(caches).filter(|user| user.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut entries: Vec<(SystemTime, std::path::PathBuf)> = users
        .flat_map(|user| entries_of(&user.path()).collect::<Vec<_>>())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .take(CACHED_MAX)
        .collect();
    entries.sort_unstable();
    for (used, path) in entries {
        if now.duration_since(used).unwrap_or_default() < UNUSED_MAX && !is_full() {
            return;
        }
        // What a user has made of it, a folder perhaps, is removed as well; no link is followed.
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
    }
}

pub(super) fn is_nearly_full(root: &Path) -> bool {
    let Ok(disk) = nix::sys::statvfs::statvfs(root) else { return false };
    is_below(disk.blocks_available(), disk.blocks())
}

fn is_below(free: u64, all: u64) -> bool {
    all > 0 && free.saturating_mul(100) < all.saturating_mul(FREE_PERCENT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_removed_when_their_time_is_over_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let (root, records) = (folder.path().join("work"), Records::at(folder.path().join("folders")));
        let record = |job: u64, retention_s: u64, ended_at_s: Option<u64>| {
            let record = Record {
                key: (job, 0, 1),
                folder: format!("jobs/{job}").into(),
                uid: 0,
                retention_s,
                ended_at_s,
            };
            std::fs::create_dir_all(root.join(&record.folder)).unwrap();
            records.write(&record).unwrap();
        };
        record(1, 10, Some(100));
        record(2, 11, Some(100));
        record(3, 1, None);
        record(4, 1, None);
        let live = folder.path().join("attempts");
        std::fs::create_dir_all(live.join("3_0.1")).unwrap();
        let there = || {
            let mut all: Vec<u64> = records.all().into_iter().map(|record| record.key.0).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(look(&root, &records, &live, 110).problem, None);
        assert_eq!(there(), [2, 3, 4]);
        assert!(!root.join("jobs/1").exists() && root.join("jobs/2").exists());
        // The end of an attempt whose supervisor was killed is noted at the first look.
        assert_eq!(records.find((4, 0, 1)).unwrap().ended_at_s, Some(110));
        look(&root, &records, &live, 111);
        assert_eq!(there(), [3]);
    }

    #[test]
    fn what_nobody_uses_leaves_the_caches_and_more_when_the_disk_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let user = folder.path().join("1000");
        std::fs::create_dir(&user).unwrap();
        let now = SystemTime::now();
        for (name, age_s) in [("new", 10), ("old", 3600), ("unused", 25 * 3600)] {
            let file = std::fs::File::create(user.join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age_s)).unwrap();
        }
        let names = || std::fs::read_dir(&user).unwrap().count();
        tidy_caches(folder.path(), now, || false);
        assert!(names() == 2 && !user.join("unused").exists());
        tidy_caches(folder.path(), now, || names() == 2);
        assert!(names() == 1 && user.join("new").exists());
    }

    #[test]
    fn a_disk_is_nearly_full_below_its_mark() {
        assert!(is_below(2, 100) && !is_below(3, 100) && !is_below(0, 0));
    }
}
