//! What the job's own error output says of an end that the script did not choose, in Slurm's words.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use muster_wire::v1::stop::Cause;

use super::Supervisor;
use crate::user::Account;

impl Supervisor {
    /// Says on the primary why the attempt is ended.
    pub(super) fn say_why_it_ends(&self, account: &Account, cause: Cause) {
        let why = match cause {
            Cause::Unspecified => return,
            Cause::Cancelled => "",
            Cause::TimeLimit => " DUE TO TIME LIMIT",
            Cause::Preemption => " DUE TO PREEMPTION",
            Cause::NodeFailure => " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS",
            Cause::Requeue => " DUE TO JOB REQUEUE",
        };
        let at = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let (job, host) = (self.number(), self.host_of(self.prepare.instance as usize));
        self.say(
            account,
            &format!("slurmstepd: error: *** JOB {job} ON {host} CANCELLED AT {at}{why} ***\n"),
        );
    }

    /// Says that the kernel killed processes of the attempt, whose memory was used up.
    pub(super) fn say_out_of_memory(&self, account: &Account) {
        let line = format!(
            "slurmstepd: error: Detected 1 oom_kill event in StepId={}.batch. Some of the step tasks have been OOM \
             Killed.\n",
            self.number()
        );
        self.say(account, &line);
    }

    /// The number that the script knows its job by.
    pub(super) fn number(&self) -> u64 {
        match self.prepare.number {
            0 => self.prepare.key.unwrap_or_default().job,
            number => number,
        }
    }

    /// Writes a line at the end of the job's error output, with the rights of its user. That a file has gone meanwhile, or
    /// cannot be written, is the user's doing and nobody else's trouble.
    fn say(&self, account: &Account, line: &str) {
        let Some(work) = self.work().filter(|_| self.is_primary()) else { return };
        let path = if work.stderr_path.is_empty() { &work.stdout_path } else { &work.stderr_path };
        if path.is_empty() {
            return;
        }
        let path = Path::new(&work.working_directory).join(path);
        let written = account.with_rights(|| {
            let mut options = OpenOptions::new();
            // The other end of a pipe may be gone.
            let mut file =
                options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path)?;
            file.write_all(line.as_bytes())
        });
        if let Err(error) = written {
            tracing::info!(%error, path = %path.display(), "the job's error output takes no last words");
        }
    }
}
