//! What can go wrong: what a client is told, and what the controller's log is.

use std::path::PathBuf;

/// Defines the codes with their statuses.
macro_rules! codes {
    ($($status:literal: $($name:ident),+;)+) => {
        /// The protocol's codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the protocol's own names say what they are")]
        pub enum Code { $($($name),+),+ }

        impl Code {
            /// The HTTP status that it is answered with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $($(Self::$name)|+ => $status),+ }
            }

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name)),+),+ }
            }
        }
    };
}

codes! {
    304: NotModified;
    400: InvalidUri, InvalidResourceName, InvalidHeaderValue, InvalidQueryParameterValue, InvalidMetadata, InvalidInput,
        InvalidAuthenticationInfo, OutOfRangeQueryParameterValue, UnsupportedHeader, UnsupportedQueryParameter, Md5Mismatch, InvalidMd5,
        InvalidBlockList, InvalidBlockId, InvalidXmlDocument, IncompleteBody;
    403: AuthenticationFailed, AuthorizationPermissionMismatch, AuthorizationProtocolMismatch,
        AuthorizationSourceIPMismatch;
    404: ContainerNotFound, BlobNotFound;
    405: UnsupportedHttpVerb;
    409: ContainerAlreadyExists, BlobAlreadyExists, BlockCountExceedsLimit;
    411: MissingContentLengthHeader;
    412: ConditionNotMet;
    413: RequestBodyTooLarge, AccountQuotaExceeded, InsufficientStorage;
    416: InvalidRange;
    500: InternalError, OperationTimedOut;
    503: ServerBusy;
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// The request is refused.
    #[error("{}: {message}", code.name())]
    Refused {
        /// The code that programs read.
        code: Code,
        /// The sentence that people read.
        message: String,
    },
    /// A file or folder of the store.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The database of the store.
    #[error("the index of the store failed")]
    Index(#[from] rusqlite::Error),
    /// The database has what this version does not understand.
    #[error("the index of the store holds what cannot be read: {what}")]
    BadIndex {
        /// What.
        what: &'static str,
    },
    /// The store belongs to a newer version.
    #[error("the store {} has version {found}, and this musterd knows up to {known}: start the one that wrote it", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last one that is known.
        known: i64,
    },
    /// The client's body could not be read to its end.
    #[error("the body of the request could not be read")]
    Body(#[source] axum::Error),
    /// A thread that worked for the request is gone.
    #[error("the work for the request was given up")]
    GivenUp(#[source] tokio::task::JoinError),
}

/// A refusal.
pub(crate) fn refuse(code: Code, message: impl Into<String>) -> BlobsError {
    BlobsError::Refused { code, message: message.into() }
}

/// Names a file that something failed with.
pub(crate) fn file(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> BlobsError {
    let path = path.into();
    move |source| BlobsError::File { doing, path, source }
}

impl BlobsError {
    /// The code that the client is told.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Body(_) => Code::IncompleteBody,
            _ => Code::InternalError,
        }
    }

    /// The sentence that the client is told: of what failed here only that it did.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            Self::Body(_) => "The body of the request ended before its Content-Length.".to_owned(),
            _ => "The store could not do this; the controller's log says why.".to_owned(),
        }
    }
}
