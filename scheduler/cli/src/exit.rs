//! The exit codes of every command, in one place.

use std::fmt::Write as _;
use std::process::ExitCode;

use muster_batch_client::BatchClientError;
use muster_client::ClientError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The request was refused as it stands, by the controller or before it was sent.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The controller does not answer, or cannot store anything at present.
    Away = 3,
    /// There is no such job, task, node or file of output.
    NotFound = 4,
    /// The job or node is not the caller's to change.
    NotAllowed = 5,
    /// The job or task has ended already.
    Ended = 6,
    /// A limit of the cluster is reached.
    Limit = 7,
    /// Client and controller do not understand each other.
    BadAnswer = 8,
    /// A file or the terminal failed on this host.
    Io = 9,
    /// Some of several were done, and others failed.
    SomeFailed = 10,
    /// `muster wait --timeout` ran out, as timeout(1) says it.
    TimeOut = 124,
}

/// Every exit code with what it means and what to do.
pub const TABLE: [(Exit, &str, &str); 12] = [
    (Exit::Ok, "done", ""),
    (
        Exit::Refused,
        "refused as it stands: the script, an option or a size is wrong",
        "change what the message names",
    ),
    (Exit::Usage, "the command line is wrong", "see muster help COMMAND"),
    (
        Exit::Away,
        "the controller does not answer, or cannot store anything now",
        "try again later; see muster ping",
    ),
    (Exit::NotFound, "no such job, task, node or output file", "see muster queue --all, muster nodes"),
    (Exit::NotAllowed, "not yours to see or change", "ask the owner or an admin"),
    (Exit::Ended, "the job or task has ended already", ""),
    (
        Exit::Limit,
        "a limit of the cluster is reached: of jobs, of requests a second, or of connections",
        "wait until some of your jobs have ended, or ask less often",
    ),
    (
        Exit::BadAnswer,
        "the controller's answer cannot be understood",
        "compare muster --version with muster ping",
    ),
    (Exit::Io, "a file, the terminal or a pipe failed on this host", "see the message"),
    (
        Exit::SomeFailed,
        "some of several were not done: nodes are not up or down as was asked, tasks of a batch job failed",
        "the table or the message says which",
    ),
    (Exit::TimeOut, "the time of --timeout is over, and what is waited for has not ended", ""),
];

impl Exit {
    /// The exit code for a failed question to the controller.
    #[must_use]
    pub fn of_client(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } | ClientError::Silent { .. } => Self::Away,
            ClientError::Closed { .. } => Self::NotAllowed,
            ClientError::BadAnswer { .. } => Self::BadAnswer,
            ClientError::Io { .. } => Self::Io,
            ClientError::Refused { status, .. } => match status {
                403 => Self::NotAllowed,
                404 => Self::NotFound,
                409 => Self::Ended,
                429 => Self::Limit,
                503 => Self::Away,
                _ => Self::Refused,
            },
        }
    }

    /// The exit code for a failed question to the batch service.
    #[must_use]
    pub fn of_batch(error: &BatchClientError) -> Self {
        match error {
            BatchClientError::NotSaid { .. } | BatchClientError::Notation { .. } => Self::Usage,
            BatchClientError::Unreachable { .. } => Self::Away,
            BatchClientError::Readable { .. } => Self::NotAllowed,
            BatchClientError::BadAnswer { .. } => Self::BadAnswer,
            BatchClientError::Output(_) => Self::Io,
            BatchClientError::File { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Self::NotFound,
                std::io::ErrorKind::PermissionDenied => Self::NotAllowed,
                _ => Self::Io,
            },
            BatchClientError::Tasks { .. } => Self::SomeFailed,
            BatchClientError::Refused { status, code, .. } => match (status, code.as_str()) {
                (403, _) => Self::NotAllowed,
                (404, _) => Self::NotFound,
                (409, "TaskCompleted" | "JobCompleted" | "TaskSucceeded") => Self::Ended,
                (413, _) | (409, "PoolQuotaReached" | "ActiveJobAndScheduleQuotaReached") => Self::Limit,
                (500 | 503, _) => Self::Away,
                _ => Self::Refused,
            },
            _ => Self::Refused,
        }
    }

    /// The table for `muster help exit-codes`.
    #[must_use]
    pub fn help() -> String {
        let mut out = String::from("Exit codes of muster\n\n");
        for (exit, meaning, remedy) in TABLE {
            let _ = write!(out, "  {:>3}  {meaning}", exit as u8);
            let _ = if remedy.is_empty() { writeln!(out) } else { writeln!(out, "; {remedy}") };
        }
        out.push_str(
            "\nmuster wait and muster submit --wait end as the task did: with its exit code (1 to 255), with\n\
             128 + N if signal N ended it, with 1 if it ended in another way, such as by its time limit; of several\n\
             tasks the highest counts. muster batch job wait and submit --wait end with 0 if all tasks succeeded, and else\n\
             with 10. Their own failures have the codes above and a line on the standard error.\n\
             A reader that closes the pipe early ends any command by SIGPIPE (shells show 141), without a message.\n",
        );
        out
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_code_once_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let help = Exit::help();
        for (exit, meaning, _) in TABLE {
            assert!(help.contains(&format!("{:>3}  {meaning}", exit as u8)), "{exit:?}");
        }
    }
}
