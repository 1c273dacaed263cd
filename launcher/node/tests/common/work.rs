//! Things to run.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_wire::v1::{AttemptKey, Member, Prepare, User, Work};

static JOBS: AtomicU64 = AtomicU64::new(1);

/// A task of one instance on core 0, run by `nobody` in a folder of its own.
pub struct Task {
    pub prepare: Prepare,
    pub folder: tempfile::TempDir,
}

impl Task {
    pub fn new(node: &str, script: &str) -> Self {
        Self::of(user("nobody"), &[(node, &[0])], script)
    }

    /// A task with these members and their cores.
    pub fn of(user: User, members: &[(&str, &[u32])], script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::Builder::new().prefix("muster-work-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let members = members.iter().map(|(host, cores)| Member {
            host: (*host).to_owned(),
            cores: cores.to_vec(),
            ranks: u32::try_from(cores.len()).unwrap(),
            ..Member::default()
        });
        let work = Work {
            job_name: "test".into(),
            pool: "all".into(),
            script: script.as_bytes().to_vec(),
            working_directory: folder.path().to_str().unwrap().into(),
            stdout_path: folder.path().join("out").to_str().unwrap().into(),
            umask: 0o027,
            ..Work::default()
        };
        let job = JOBS.fetch_add(1, Ordering::Relaxed);
        let mut prepare = Prepare {
            key: Some(AttemptKey { job, task: 0, attempt: 1 }),
            instance: 0,
            members: members.collect(),
            user: Some(user),
            gang_token: "the gang's secret".into(),
            cpus_per_rank: 1,
            task_count: 1,
            ..Prepare::default()
        };
        prepare.add_work(&work);
        Self { prepare, folder }
    }

    pub fn key(&self) -> AttemptKey {
        self.prepare.key.unwrap()
    }

    pub fn name(&self) -> String {
        self.key().to_string()
    }

    /// What it is to do, which may be changed.
    pub fn work(&mut self) -> Change<'_> {
        let work = self.prepare.decode_work().unwrap().unwrap();
        Change { prepare: &mut self.prepare, work }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path("out")).unwrap()
    }
}

/// What a task is to do, told once this is dropped.
pub struct Change<'a> {
    prepare: &'a mut Prepare,
    work: Work,
}

impl Deref for Change<'_> {
    type Target = Work;

    fn deref(&self) -> &Work {
        &self.work
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Work {
        &mut self.work
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.prepare.work.clear();
        self.prepare.add_work(&self.work);
    }
}

/// A user of this machine.
pub fn user(name: &str) -> User {
    let found = nix::unistd::User::from_name(name).unwrap().unwrap();
    User { name: name.into(), uid: found.uid.as_raw(), gid: found.gid.as_raw() }
}
