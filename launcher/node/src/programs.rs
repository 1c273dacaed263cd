//! The sets of programs on a node: folders beside each other, each named by its contents.
//!
//! A new version comes beside the old one, which attempts go on to use that began with it. When nobody does any more,
//! it is removed, so that a node which is upgraded for years does not fill up.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many digits the name of a set has.
const NAME_DIGITS: usize = 16;

/// How old a set must be to be removed: somebody may just have brought it and not started it yet.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// Removes the sets beside the one of this program that nobody uses. What cannot be removed stays.
pub fn remove_unused() {
    if let Ok(program) = std::env::current_exe()
        && let Some(own) = program.parent().filter(|folder| is_set(folder))
    {
        remove_unused_beside(own, KEPT_FOR);
    }
}

fn remove_unused_beside(own: &Path, kept_for: Duration) {
    let Some(Ok(folders)) = own.parent().map(std::fs::read_dir) else { return };
    let others: Vec<PathBuf> = folders
        .flatten()
        .map(|folder| folder.path())
        .filter(|path| path != own && is_set(path) && is_older(path, kept_for))
        .collect();
    if others.is_empty() {
        return;
    }
    // Links that cannot be read are those of processes that have ended, or of others that run nothing of ours.
    let running: Vec<PathBuf> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| std::fs::read_link(process.path().join("exe")).ok())
        .collect();
    for set in others.iter().filter(|set| !running.iter().any(|program| program.starts_with(set))) {
        let _stays = std::fs::remove_dir_all(set);
    }
}

fn is_set(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && folder.is_dir()
}

fn is_older(folder: &Path, age: Duration) -> bool {
    let changed = std::fs::metadata(folder).and_then(|folder| folder.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn sets_that_nobody_uses_are_removed() {
        let bin = tempfile::tempdir().unwrap();
        let set = |name: &str| {
            let folder = bin.path().canonicalize().unwrap().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::copy("/bin/sleep", folder.join("muster-node")).unwrap();
            folder
        };
        let [own, used, unused] = ["0000000000000001", "0000000000000002", "0000000000000003"].map(set);
        let [fresh, other] = [".new.abcdef", "elsewhere"].map(set);
        let mut supervisor = Command::new(used.join("muster-node")).arg("600").spawn().unwrap();
        remove_unused_beside(&own, Duration::from_secs(3600));
        assert!(unused.exists(), "it is too young");
        remove_unused_beside(&own, Duration::ZERO);
        let left = [&own, &used, &unused, &fresh, &other].map(|folder| folder.exists());
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        assert_eq!(left, [true, true, false, true, true]);
        remove_unused_beside(&own, Duration::ZERO);
        assert!(!used.exists());
    }
}
