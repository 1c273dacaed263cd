//! What an attempt is to do, and the environment that it does it in, made of what the attempt before has left where that was told the
//! same: most tasks of an array differ in their numbers and in where their output goes, and in nothing else.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

use muster_wire::v1;
use prost::Message as _;
use prost::bytes::Bytes;

use super::Supervisor;
use super::go::texts;
use crate::attempt::Assignment;
use crate::error::{NodeError, Result};
use crate::process::now_us;
use crate::user::Account;

/// A work that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub work: v1::Work,
    /// Whether its second part, of two, has all that is [`Own`], and nothing else.
    in_parts: bool,
}

/// What of a work is each task's own.
#[derive(Debug, Default, PartialEq)]
struct Own {
    stdin_path: String,
    stdout_path: String,
    stderr_path: String,
    time_limit_s: u64,
}

impl Own {
    fn take(work: &mut v1::Work) -> Self {
        Self {
            stdin_path: std::mem::take(&mut work.stdin_path),
            stdout_path: std::mem::take(&mut work.stdout_path),
            stderr_path: std::mem::take(&mut work.stderr_path),
            time_limit_s: std::mem::take(&mut work.time_limit_s),
        }
    }

    fn give(self, work: &mut v1::Work) {
        work.stdin_path = self.stdin_path;
        work.stdout_path = self.stdout_path;
        work.stderr_path = self.stderr_path;
        work.time_limit_s = self.time_limit_s;
    }
}

/// What an attempt has read and made that serves the next one in its place, if it is told the same.
pub(super) struct Left {
    pub prepare: v1::Prepare,
    pub read: Option<Read>,
    pub environment: Option<Environment>,
}

impl Left {
    /// Reads the work of the next attempt.
    ///
    /// # Errors
    ///
    /// [`NodeError::Work`] if it cannot be read.
    pub fn read(before: Option<&mut Self>, prepare: &v1::Prepare) -> Result<Option<Read>> {
        Self::read_after(before, prepare).map_err(NodeError::Work)
    }

    fn read_after(
        before: Option<&mut Self>,
        prepare: &v1::Prepare,
    ) -> std::result::Result<Option<Read>, prost::DecodeError> {
        let Some(before) = before else { return Read::whole(prepare) };
        if let [common, own] = prepare.work.as_slice()
            && let Some(read) = before.read_own(common, own)?
        {
            return Ok(Some(read));
        }
        // That of another work is of no use.
        before.environment = None;
        Read::whole(prepare)
    }

    /// Reads what is the next task's own, if all else is as before.
    fn read_own(
        &mut self,
        common: &Bytes,
        own: &Bytes,
    ) -> std::result::Result<Option<Read>, prost::DecodeError> {
        if self.prepare.work.first() != Some(common) || !self.read.as_ref().is_some_and(|read| read.in_parts)
        {
            return Ok(None);
        }
        let mut rest = v1::Work::decode(own.clone())?;
        let own = Own::take(&mut rest);
        let same = self.read.take_if(|_| rest == v1::Work::default());
        Ok(same.map(|mut read| {
            own.give(&mut read.work);
            read
        }))
    }
}

impl Read {
    fn whole(prepare: &v1::Prepare) -> std::result::Result<Option<Self>, prost::DecodeError> {
        let Some(work) = prepare.decode_work()? else { return Ok(None) };
        let in_parts = match prepare.work.as_slice() {
            [common, own] => {
                let (mut common, mut own) =
                    (v1::Work::decode(common.clone())?, v1::Work::decode(own.clone())?);
                Own::take(&mut own);
                Own::take(&mut common) == Own::default() && own == v1::Work::default()
            }
            _ => false,
        };
        Ok(Some(Self { work, in_parts }))
    }
}

/// What all tasks of an array find alike in their environment, in one place.
pub(super) struct Environment {
    /// In the order of their names.
    pub texts: Vec<CString>,
    account: Account,
    bin_dir: PathBuf,
    cores_wrap: bool,
}

/// What decides about the environment of an attempt in its place, with its work, beside what [`Supervisor::own_words`] says.
fn common_words(prepare: &v1::Prepare) -> impl PartialEq {
    // All fields are named, so that none that is added is left out without a thought.
    let v1::Prepare {
        key,
        instance,
        members,
        memory_bytes,
        user,
        work: _,
        gang_token: _,
        ssh_authorized_key: _,
        ssh_private_key: _,
        cpus_per_rank,
        task_count,
        array,
        threads_per_core,
        bounds,
        cluster,
        number: _,
        staging,
        at_once,
        members_packed,
        after: _,
        returned: _,
        common: _,
    } = prepare;
    let request = (cpus_per_rank, task_count, array, threads_per_core, bounds, cluster);
    (key.map(|key| key.job), instance, members, memory_bytes, user, request, staging, at_once, members_packed)
}

impl Supervisor {
    /// What all tasks of the array find alike in their environment: that of the attempt before, if it still holds.
    ///
    /// # Errors
    ///
    /// [`NodeError::ZeroByte`] if a variable has one.
    pub(super) fn common_environment(&self, before: Option<Left>, account: &Account) -> Result<Environment> {
        let before = before.filter(|before| common_words(&before.prepare) == common_words(&self.prepare));
        let holds = |environment: &Environment| environment.is_for(&self.assignment, account);
        match before.and_then(|before| before.environment).filter(holds) {
            Some(environment) => Ok(environment),
            None => Ok(Environment {
                texts: texts(&self.environment_of_all(account))?,
                account: account.clone(),
                bin_dir: self.assignment.bin_dir.clone(),
                cores_wrap: self.assignment.cores_wrap,
            }),
        }
    }

    /// What each task of an array finds for itself. It prevails over what all of them find.
    pub(super) fn own_words(&self) -> BTreeMap<String, String> {
        let key = self.prepare.key.unwrap_or_default();
        let mut all = BTreeMap::new();
        let mut set = |names: &[&str], value: String| {
            all.extend(names.iter().map(|name| ((*name).to_owned(), value.clone())));
        };
        set(&["MUSTER_TASK_INDEX"], key.task.to_string());
        set(&["MUSTER_ATTEMPT"], key.attempt.to_string());
        // A controller that does not say the number has none but the job's.
        let number = if self.prepare.number == 0 { key.job } else { self.prepare.number };
        set(&["SLURM_JOB_ID", "SLURM_JOBID"], number.to_string());
        let Some(work) = &self.work() else { return all };
        let started_s = now_us() / 1_000_000;
        set(&["MUSTER_JOB_START_TIME", "SLURM_JOB_START_TIME"], started_s.to_string());
        if work.time_limit_s > 0 {
            let end_s = started_s.saturating_add(work.time_limit_s);
            set(&["MUSTER_JOB_END_TIME", "SLURM_JOB_END_TIME"], end_s.to_string());
        }
        let restarts = key.attempt.saturating_sub(1 + self.prepare.returned);
        if restarts > 0 {
            set(&["SLURM_RESTART_COUNT"], restarts.to_string());
        }
        if self.prepare.array {
            set(&["SLURM_ARRAY_TASK_ID"], key.task.to_string());
        }
        all
    }

    /// Reads what is to be done.
    ///
    /// # Errors
    ///
    /// [`NodeError::Work`] if it cannot be read.
    pub(super) fn read_work(&mut self) -> Result<()> {
        self.read = Left::read(self.place.as_mut().map(|place| &mut place.left), &self.prepare)?;
        Ok(())
    }

    /// What is to be done.
    pub(super) fn work(&self) -> Option<&v1::Work> {
        self.read.as_ref().map(|read| &read.work)
    }
}

impl Environment {
    fn is_for(&self, assignment: &Assignment, account: &Account) -> bool {
        self.account == *account
            && self.bin_dir == assignment.bin_dir
            && self.cores_wrap == assignment.cores_wrap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::Accounts;
    use muster_wire::v1::AttemptKey;

    /// What a node is told alike of all tasks of an array. It is encoded once: the order of variables is another each time.
    fn common(variable: &str) -> Bytes {
        let environment = [("A", variable), ("SLURM_RESTART_COUNT", "of another job")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let work = v1::Work { job_name: "sweep".into(), environment, ..v1::Work::default() };
        work.encode_to_vec().into()
    }

    /// What a node is told of one of them.
    fn told(task: u32, common: &Bytes) -> v1::Prepare {
        let own = v1::Work {
            stdout_path: format!("/w/{task}.out"),
            time_limit_s: u64::from(task),
            ..v1::Work::default()
        };
        let mut prepare = v1::Prepare {
            key: Some(AttemptKey { job: 7, task, attempt: 1 + task / 2 }),
            members: vec![v1::Member {
                host: "node01".into(),
                cores: vec![3],
                ranks: 1,
                ..v1::Member::default()
            }],
            number: u64::from(100 + task),
            array: true,
            at_once: true,
            work: vec![common.clone()],
            ..v1::Prepare::default()
        };
        prepare.add_work(&own);
        prepare
    }

    fn account() -> Account {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        Account {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            group: None,
            groups: Vec::new(),
            home: user.dir,
            shell: user.shell,
        }
    }

    /// A supervisor with an attempt for which there is this of one before.
    fn supervisor(prepare: v1::Prepare, before: Option<&mut Left>) -> Supervisor {
        let key = prepare.key.unwrap();
        let assignment = Assignment::of_test(key);
        let read = Left::read(before, &prepare).unwrap();
        Supervisor { read, ..Supervisor::new(assignment, prepare, Accounts::default(), None).unwrap() }
    }

    /// What an attempt leaves.
    fn left(mut supervisor: Supervisor, before: Option<Left>) -> Left {
        let environment = supervisor.common_environment(before, &account()).unwrap();
        Left {
            prepare: supervisor.prepare.clone(),
            read: supervisor.read.take(),
            environment: Some(environment),
        }
    }

    fn place_of_texts(left: &Left) -> *const CString {
        left.environment.as_ref().unwrap().texts.as_ptr()
    }

    #[tokio::test]
    async fn the_next_task_finds_the_same_as_if_none_had_been_before() {
        let common = common("x");
        let mut before = left(supervisor(told(1, &common), None), None);
        for task in 2..5 {
            let place = place_of_texts(&before);
            let next = supervisor(told(task, &common), Some(&mut before));
            assert_eq!(next.work(), told(task, &common).decode_work().unwrap().as_ref());
            let (expected, own) = (next.environment(&account()), next.own_words());
            before = left(next, Some(before));
            assert_eq!(place_of_texts(&before), place, "it is not made again");
            let texts = before.environment.as_ref().unwrap().texts.iter();
            let mut all: BTreeMap<String, String> = texts
                .map(|text| text.to_str().unwrap().split_once('=').unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert!(all.keys().is_sorted());
            all.extend(own);
            assert_eq!(all, expected);
            assert_eq!((all["SLURM_ARRAY_TASK_ID"].as_str(), all["A"].as_str()), (&*task.to_string(), "x"));
        }
    }

    #[tokio::test]
    async fn what_is_told_otherwise_is_made_again() {
        let changes: [fn(&mut v1::Prepare); 6] = [
            |prepare| *prepare = told(2, &common("y")),
            |prepare| prepare.members[0].cores = vec![4],
            |prepare| prepare.cluster = "other".into(),
            |prepare| prepare.memory_bytes = 1,
            |prepare| prepare.add_work(&v1::Work { umask: 7, ..v1::Work::default() }),
            |prepare| {
                let all = prepare.decode_work().unwrap().unwrap();
                prepare.work.truncate(1);
                prepare.add_work(&v1::Work { account: "physics".into(), ..all });
            },
        ];
        let common = common("x");
        for change in changes {
            let mut before = left(supervisor(told(1, &common), None), None);
            let mut prepare = told(2, &common);
            change(&mut prepare);
            let next = supervisor(prepare.clone(), Some(&mut before));
            assert_eq!(next.work(), prepare.decode_work().unwrap().as_ref());
            let expected = texts(&next.environment_of_all(&account())).unwrap();
            let after = left(next, Some(before));
            assert_eq!(after.environment.unwrap().texts, expected);
        }
    }
}
