//! Why something could not be done.

use std::io;
use std::path::PathBuf;

use muster_batch::signature::BadKey;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BatchClientError {
    /// Nothing says who asks, or whom.
    #[error(
        "no {what} is said: give {option}, set {variable}, or write {key} = \"...\" into {}",
        config.display()
    )]
    NotSaid {
        /// Such as `account`.
        what: &'static str,
        /// The option that says it.
        option: &'static str,
        /// The variable that says it.
        variable: &'static str,
        /// The key of the file that says it.
        key: &'static str,
        /// The file.
        config: PathBuf,
    },
    /// The service's address is none.
    #[error("'{address}' is not the address of a batch service: write one such as https://head:8443")]
    Address {
        /// What was said.
        address: String,
    },
    /// A key is none.
    #[error("{place}: {source}")]
    Key {
        /// Where it was said.
        place: String,
        /// Why not.
        #[source]
        source: BadKey,
    },
    /// Others may read a secret.
    #[error("{} holds a secret, and others may read it: say chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
    },
    /// The file of an account is wrong.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A certificate is none.
    #[error("{} is not a certificate in PEM", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// No answer.
    #[error("the batch service at {endpoint} does not answer: {why}")]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// The innermost cause.
        why: String,
        /// The cause.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// It said no.
    #[error("{message} ({code})")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// The protocol's code.
        code: String,
        /// Its sentence.
        message: String,
    },
    /// It said something that is not understood.
    #[error("the answer of {endpoint} cannot be understood: {problem}")]
    BadAnswer {
        /// The service's address.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A request cannot be made.
    #[error("this cannot be asked for: {0}")]
    Request(#[from] muster_batch::BatchError),
    /// A file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What was brought is to be written somewhere, and that failed.
    #[error("cannot write what was brought: {0}")]
    Output(#[source] io::Error),
    /// The service has no store.
    #[error(
        "the batch service at {endpoint} has no store for {what}: its controller needs `store` under [batch]"
    )]
    NoStore {
        /// The service's address.
        endpoint: String,
        /// What needs one.
        what: String,
    },
    /// A job file is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    JobFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A job file has a name that says no notation.
    #[error("{} is no job file by its name: it must end with .toml, .yaml, .yml or .json", path.display())]
    Notation {
        /// The file.
        path: PathBuf,
    },
    /// Tasks were not taken.
    #[error("{count} of the tasks were not taken; the first is task {id}: {message} ({code})")]
    Tasks {
        /// How many.
        count: usize,
        /// The first one.
        id: String,
        /// The protocol's code.
        code: String,
        /// Its sentence.
        message: String,
    },
}

impl BatchClientError {
    /// A file that failed.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether the service was not there, so that the same may be asked again.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { status: 503 | 500, .. })
    }

    /// The protocol's code, of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// What all of this crate answers.
pub type Result<T> = std::result::Result<T, BatchClientError>;
