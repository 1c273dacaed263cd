//! Everything that can go wrong with files, and the codes by which programs know it.

use std::io::ErrorKind;
use std::path::PathBuf;

use muster_wire::v1::StagingFailed;

/// A failure to move files. No message holds a secret: addresses are shown without their queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The other side has no such file or container.
    #[error("{what} is not there: {said}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the other side said.
        said: String,
    },
    /// The other side refuses.
    #[error("{what} may not be used: {said}")]
    Denied {
        /// What was asked for.
        what: String,
        /// What the other side said.
        said: String,
    },
    /// The other side, or the way to it, fails.
    #[error("{what} cannot be used: {said}")]
    Store {
        /// What was asked for.
        what: String,
        /// What it said.
        said: String,
        /// Whether another try may succeed.
        transient: bool,
    },
    /// The file arrived, but is not what the store says it is.
    #[error("{what} arrived damaged: its MD5 digest is {found}, and the store says {expected}")]
    Damaged {
        /// What was asked for.
        what: String,
        /// The digest of what arrived.
        found: String,
        /// The digest that the store tells.
        expected: String,
    },
    /// A file or folder of the node cannot be used.
    #[error("cannot {action} {}", path.display())]
    Local {
        /// What was tried: `create the folder`, `write`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A path lies where no path of a task may.
    #[error("{} lies outside of the folders that tasks may use here ({roots})", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// Those folders.
        roots: String,
    },
    /// There is more than the node allows.
    #[error("more than {limit} {what} would be moved, which is the most that this node allows")]
    TooMuch {
        /// Files or bytes.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The order itself cannot be carried out.
    #[error("{problem}")]
    Order {
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// The result of most functions of this crate.
pub type Result<T, E = FilesError> = std::result::Result<T, E>;

impl FilesError {
    /// Wraps a failure with a file of the node.
    pub fn local(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { action, path, source }
    }

    /// Whether another try may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store { transient: true, .. } | Self::Damaged { .. })
    }

    /// The message and its causes as one sentence.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    fn disk_is_full(&self) -> bool {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
        matches!(self, Self::Local { source, .. } if full.contains(&source.kind()))
    }

    /// What the supervisor is told of a failure to bring files.
    pub fn while_bringing(&self) -> StagingFailed {
        let code = match self {
            _ if self.disk_is_full() => "DiskFull",
            Self::NotFound { .. } => "BlobNotFound",
            Self::Denied { .. } | Self::Outside { .. } => "BlobAccessDenied",
            Self::Local { action: "create the folder", .. } => "ResourceDirectoryCreateFailed",
            Self::Local { action: "create", .. } => "ResourceFileCreateFailed",
            Self::Local { action: "write" | "put in its place", .. } => "ResourceFileWriteFailed",
            Self::Local { source, .. } if source.kind() == ErrorKind::NotFound => "BlobNotFound",
            Self::Local { source, .. } if source.kind() == ErrorKind::PermissionDenied => "BlobAccessDenied",
            _ => "BlobDownloadMiscError",
        };
        self.told(code)
    }

    /// What the supervisor is told of a failure to take files away.
    pub fn while_taking_away(&self) -> StagingFailed {
        let code = match self {
            Self::NotFound { .. } => "FileUploadContainerNotFound",
            Self::Denied { .. } | Self::Outside { .. } => "FileUploadAccessDenied",
            Self::Local { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                "FileUploadAccessDenied"
            }
            _ => "FileUploadMiscError",
        };
        self.told(code)
    }

    fn told(&self, code: &str) -> StagingFailed {
        StagingFailed { code: code.to_owned(), message: self.sentence() }
    }
}

/// A text of another library without what follows a `?` in addresses, where signatures are.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        shown.push_str(&rest[..=at]);
        rest = rest[at + 1..].trim_start_matches(|c: char| !c.is_whitespace() && !"\"')>".contains(c));
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_never_shown() {
        let text = "GET (http://h/c/b?sig=SECRET&a=b) failed: \"x?SECRET\" and ?";
        assert_eq!(without_secrets(text), "GET (http://h/c/b?) failed: \"x?\" and ?");
    }

    #[test]
    fn failures_have_the_codes_of_the_batch_service() {
        let local =
            |action, kind: ErrorKind| FilesError::Local { action, path: "/x".into(), source: kind.into() };
        for (error, bringing, taking) in [
            (local("write", ErrorKind::StorageFull), "DiskFull", "FileUploadMiscError"),
            (local("read", ErrorKind::NotFound), "BlobNotFound", "FileUploadMiscError"),
            (local("read", ErrorKind::PermissionDenied), "BlobAccessDenied", "FileUploadAccessDenied"),
            (
                local("create", ErrorKind::PermissionDenied),
                "ResourceFileCreateFailed",
                "FileUploadAccessDenied",
            ),
            (
                FilesError::NotFound { what: "c".into(), said: "404".into() },
                "BlobNotFound",
                "FileUploadContainerNotFound",
            ),
        ] {
            assert_eq!(error.while_bringing().code, bringing, "{error:?}");
            assert_eq!(error.while_taking_away().code, taking, "{error:?}");
        }
    }
}
