//! Removing the folders of tasks whose time is over, and earlier ones where the disk is nearly full.

use std::path::Path;
use std::time::Duration;

use muster_wire::v1::AttemptKey;

use crate::folders::{Record, Records};

/// How often it looks.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// How many folders it removes at most each time: each may have a million files.
const AT_ONCE_MAX: usize = 100;
/// The disk is nearly full when less than this part of it is free, in percent; folders are then removed before their
/// time, and while that does not help the node takes no work.
const FREE_PERCENT_MIN: u64 = 3;

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
    let mut removed = 0;
    for record in &ended {
        let is_over = record.expires_at_s().is_some_and(|at| at <= now_s);
        if removed >= AT_ONCE_MAX || !(is_over || is_nearly_full(root)) {
            break;
        }
        if let Err(error) = records.remove(root, record) {
            tracing::warn!(error = error.sentence(), "the folder of a task cannot be removed");
        }
        removed += 1;
    }
    let problem = is_nearly_full(root).then(|| {
        format!("DiskFull: less than {FREE_PERCENT_MIN} % of the disk of {} is free", root.display())
    });
    Looked { problem }
}

fn name((job, task, attempt): (u64, u32, u32)) -> String {
    AttemptKey { job, task, attempt }.to_string()
}

fn is_nearly_full(root: &Path) -> bool {
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
    fn a_disk_is_nearly_full_below_its_mark() {
        assert!(is_below(2, 100) && !is_below(3, 100) && !is_below(0, 0));
    }
}
