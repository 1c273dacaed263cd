//! What went wrong with files, for programs and for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why files could not be brought or taken away, with a code that programs know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StagingFailure {
    /// The code, such as `BlobNotFound`.
    pub code: FailureCode,
    /// A sentence; without secrets.
    pub message: String,
}

/// What went wrong with files, or with the start of a command. The names are those of the batch service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureCode {
    /// An input is not there.
    BlobNotFound,
    /// An input may not be read.
    BlobAccessDenied,
    /// An input could not be read in time.
    BlobDownloadTimedOut,
    /// An input could not be read for another reason.
    BlobDownloadMiscError,
    /// A folder could not be made.
    ResourceDirectoryCreateFailed,
    /// A file could not be made.
    ResourceFileCreateFailed,
    /// A file could not be written.
    ResourceFileWriteFailed,
    /// The node's disk is full.
    DiskFull,
    /// An application package could not be unpacked.
    ApplicationPackageError,
    /// The image of a container cannot be had or unpacked.
    ContainerInvalidImage,
    /// A container cannot be made as its settings say.
    ContainerInvalidSettings,
    /// A container cannot be made for a reason of the node's own.
    ContainerMiscError,
    /// The program of a command is not there.
    CommandProgramNotFound,
    /// A command could not be started.
    CommandLaunchFailed,
    /// The coordination command failed.
    CoordinationCommandFailed,
    /// The container for an output is not there.
    FileUploadContainerNotFound,
    /// The container for an output may not be written.
    FileUploadAccessDenied,
    /// An output could not be taken away for another reason.
    FileUploadMiscError,
    /// The attempt was ended before it was done.
    TaskEnded,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 19] = [
        Self::BlobNotFound,
        Self::BlobAccessDenied,
        Self::BlobDownloadTimedOut,
        Self::BlobDownloadMiscError,
        Self::ResourceDirectoryCreateFailed,
        Self::ResourceFileCreateFailed,
        Self::ResourceFileWriteFailed,
        Self::DiskFull,
        Self::ApplicationPackageError,
        Self::ContainerInvalidImage,
        Self::ContainerInvalidSettings,
        Self::ContainerMiscError,
        Self::CommandProgramNotFound,
        Self::CommandLaunchFailed,
        Self::CoordinationCommandFailed,
        Self::FileUploadContainerNotFound,
        Self::FileUploadAccessDenied,
        Self::FileUploadMiscError,
        Self::TaskEnded,
    ];

    /// The name that goes over wires.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BlobNotFound => "BlobNotFound",
            Self::BlobAccessDenied => "BlobAccessDenied",
            Self::BlobDownloadTimedOut => "BlobDownloadTimedOut",
            Self::BlobDownloadMiscError => "BlobDownloadMiscError",
            Self::ResourceDirectoryCreateFailed => "ResourceDirectoryCreateFailed",
            Self::ResourceFileCreateFailed => "ResourceFileCreateFailed",
            Self::ResourceFileWriteFailed => "ResourceFileWriteFailed",
            Self::DiskFull => "DiskFull",
            Self::ApplicationPackageError => "ApplicationPackageError",
            Self::ContainerInvalidImage => "ContainerInvalidImage",
            Self::ContainerInvalidSettings => "ContainerInvalidSettings",
            Self::ContainerMiscError => "ContainerMiscError",
            Self::CommandProgramNotFound => "CommandProgramNotFound",
            Self::CommandLaunchFailed => "CommandLaunchFailed",
            Self::CoordinationCommandFailed => "CoordinationCommandFailed",
            Self::FileUploadContainerNotFound => "FileUploadContainerNotFound",
            Self::FileUploadAccessDenied => "FileUploadAccessDenied",
            Self::FileUploadMiscError => "FileUploadMiscError",
            Self::TaskEnded => "TaskEnded",
        }
    }

    /// The code of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether the user can do something about it, rather than whoever runs the nodes and the stores.
    #[must_use]
    pub fn is_users(self) -> bool {
        !matches!(
            self,
            Self::BlobDownloadTimedOut
                | Self::BlobDownloadMiscError
                | Self::ResourceDirectoryCreateFailed
                | Self::ResourceFileCreateFailed
                | Self::ResourceFileWriteFailed
                | Self::DiskFull
                | Self::ContainerMiscError
        )
    }
}

impl fmt::Display for StagingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}
