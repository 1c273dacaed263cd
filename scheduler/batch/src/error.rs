//! The protocol's errors: the codes, the status that each is answered with, and the body that clients read.

use serde::Serialize;

/// Defines an enum of names on the wire.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the protocol's own names say what they are")]
        pub enum $name { $($(#[$each])* $variant),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),* }
            }

            /// The one of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($variant) => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

/// Defines [`ErrorCode`] from groups of one status each, so that no code can be without one.
macro_rules! error_codes {
    ($($status:literal: $($variant:ident),+;)+) => {
        codes! {
            /// What a request is refused for.
            ErrorCode { $($($variant),+),+ }
        }

        impl ErrorCode {
            /// The HTTP status that it is answered with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $($(Self::$variant)|+ => $status),+ }
            }
        }
    };
}

error_codes! {
    400: MissingRequiredHeader, MissingRequiredProperty, MissingRequiredQueryParameter, UnsupportedHeader,
        UnsupportedProperty, UnsupportedQueryParameter, UnsupportedRequestVersion, InvalidHeaderValue,
        InvalidPropertyValue, InvalidQueryParameterValue, InvalidInput, InvalidRequestBody, InvalidUri,
        InvalidHttpVerb, InvalidMetadata, OutOfRangeInput, OutOfRangeQueryParameterValue, EmptyMetadataKey,
        MetadataTooLarge, MultipleConditionHeadersNotSupported, InvalidAuthenticationInfo, OutOfRangePriority,
        InvalidConstraintValue, AutoScalingFormulaSyntaxError, AutoScaleFormulaTooLong,
        InvalidAutoScalingSettings, TaskDependenciesNotSpecifiedOnJob, TaskDependencyListTooLong,
        TaskDependencyRangesTooLong;
    403: AuthenticationFailed, InsufficientAccountPermissions, AccountIsDisabled, IOError;
    404: ResourceNotFound, PoolNotFound, NodeNotFound, JobNotFound, JobScheduleNotFound, TaskNotFound,
        FileNotFound, NodeUserNotFound, ApplicationNotFound, NodeAgentSKUNotFound,
        JobPreparationTaskNotRunOnNode, JobReleaseTaskNotRunOnNode;
    405: UnsupportedHttpVerb;
    409: PoolExists, JobExists, JobScheduleExists, TaskExists, NodeUserExists, JobWithSameIdExists,
        JobScheduleWithSameIdExists, PoolBeingCreated, PoolBeingResized, PoolBeingDeleted, NodeBeingCreated,
        NodeBeingStarted, NodeBeingRebooted, NodeBeingReimaged, NodeStateUnusable,
        NodeAlreadyInTargetSchedulingState, OperationNotValidOnNode, OperationNotValidOnPool,
        OperationInvalidForCurrentState, JobBeingTerminated, JobBeingDeleted, JobDisabled, JobCompleted,
        JobNotActive, JobScheduleBeingTerminated, JobScheduleBeingDeleted, JobScheduleDisabled,
        JobScheduleCompleted, TaskCompleted, TaskNotCompleted, TaskSucceeded, TaskFilesUnavailable,
        TaskFilesCleanedup, ActiveJobAndScheduleQuotaReached, PoolQuotaReached,
        JobPreparationTaskNotSpecified, JobReleaseTaskNotSpecified, TaskIdSameAsJobPreparationTask,
        TaskIdSameAsJobReleaseTask, InvalidApplicationPackageReferences;
    411: MissingContentLengthHeader;
    412: ConditionNotMet;
    413: RequestBodyTooLarge, RequestEntityTooLarge;
    416: InvalidRange;
    429: TooManyRequests;
    500: InternalError, OperationTimedOut;
    503: ServerBusy, TooManyEnableAutoScaleRequests;
}

codes! {
    /// Why a job could not be scheduled (`schedulingError`).
    SchedulingErrorCode {
        AutoPoolCreationFailedWithQuotaReached, InvalidAutoPoolSettings, InvalidAutoScaleFormulaInAutoPool,
        InvalidApplicationPackageReferencesInAutoPool, Unknown,
    }
}

codes! {
    /// Why a resize did not reach its target (`resizeErrors`).
    ResizeErrorCode {
        AllocationTimedout, AllocationFailed, AccountCoreQuotaReached, AccountLowPriorityCoreQuotaReached,
        RemoveNodesFailed, ResizeStopped, Unknown,
    }
}

codes! {
    /// Why a task failed (`failureInfo`).
    TaskFailureCode {
        BlobNotFound, BlobAccessDenied, CommandProgramNotFound, CommandLaunchFailed, TaskEnded,
        TaskSchedulingConstraintFailed, MaxInternalRetryCountReached, FailureExitCode,
        FileUploadContainerNotFound, FileUploadAccessDenied, FileUploadMiscError, ApplicationPackageError,
        ContainerInvalidImage, ContainerInvalidSettings, ContainerMiscError,
        JobPreparationTaskFailed, BlobDownloadTimedOut, BlobDownloadMiscError, ResourceDirectoryCreateFailed,
        ResourceFileCreateFailed, ResourceFileWriteFailed, DiskFull, Unknown,
    }
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorCategory {
    /// What was asked for cannot work.
    UserError,
    /// The service could not do it.
    ServerError,
}

impl TaskFailureCode {
    /// Whose fault it is.
    #[must_use]
    pub fn category(self) -> ErrorCategory {
        match self {
            Self::BlobDownloadTimedOut
            | Self::BlobDownloadMiscError
            | Self::ResourceDirectoryCreateFailed
            | Self::ResourceFileCreateFailed
            | Self::ResourceFileWriteFailed
            | Self::DiskFull
            | Self::Unknown => ErrorCategory::ServerError,
            _ => ErrorCategory::UserError,
        }
    }
}

/// A name and a value: what more an error says, such as the property that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    /// What the value is.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct BatchError {
    /// The code that programs read.
    pub code: ErrorCode,
    /// The sentence that people read.
    pub message: String,
    /// What more there is to say.
    pub values: Vec<ErrorDetail>,
    /// When to try again, in seconds: the header `Retry-After`.
    pub retry_after_s: Option<u32>,
    /// The condition of a read was not met, which is answered with 304 and not with 412.
    not_modified: bool,
}

impl BatchError {
    /// An error with this code and this sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), values: Vec::new(), retry_after_s: None, not_modified: false }
    }

    /// What a read is answered with whose condition is not met: 304, without a body.
    #[must_use]
    pub fn not_modified() -> Self {
        Self {
            not_modified: true,
            ..Self::new(ErrorCode::ConditionNotMet, "The resource has not changed since.")
        }
    }

    /// A property that may not have this value.
    #[must_use]
    pub fn invalid_property(name: &str, value: &str, reason: &str) -> Self {
        Self::new(ErrorCode::InvalidPropertyValue, format!("The property {name} is wrong: {reason}"))
            .with("PropertyName", name)
            .with("PropertyValue", value)
            .with("Reason", reason)
    }

    /// A query parameter that may not have this value.
    #[must_use]
    pub fn invalid_query(name: &str, value: &str, reason: &str) -> Self {
        Self::query(ErrorCode::InvalidQueryParameterValue, name, value, reason)
    }

    /// A query parameter that may not have this value, with a code of its own.
    pub(crate) fn query(code: ErrorCode, name: &str, value: &str, reason: &str) -> Self {
        Self::new(code, format!("The query parameter {name} is wrong: {reason}"))
            .with("QueryParameterName", name)
            .with("QueryParameterValue", value)
            .with("Reason", reason)
    }

    /// Says more: a name and a value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.values.push(ErrorDetail { key: key.to_owned(), value: value.into() });
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.not_modified { 304 } else { self.code.status() }
    }

    /// The body. `base_url` is the account's address, without a slash at its end.
    #[must_use]
    pub fn body(&self, base_url: &str) -> serde_json::Value {
        let mut body = self.element();
        body["odata.metadata"] =
            format!("{base_url}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element")
                .into();
        body
    }

    /// The error inside another body, as the result of one task of a collection has it.
    #[must_use]
    pub fn element(&self) -> serde_json::Value {
        let mut body = serde_json::json!({
            "code": self.code.name(),
            "message": { "lang": "en-us", "value": self.message },
        });
        if !self.values.is_empty() {
            body["values"] = serde_json::json!(self.values);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_what_both_generations_of_the_sdk_read() {
        let error =
            BatchError::invalid_property("vmSize", "huge", "the classes are small and large").retry_after(3);
        assert_eq!(error.status(), 400);
        assert_eq!(
            error.body("http://h:1/batch/acme"),
            serde_json::json!({
                "odata.metadata": "http://h:1/batch/acme/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element",
                "code": "InvalidPropertyValue",
                "message": {"lang": "en-us", "value": "The property vmSize is wrong: the classes are small and large"},
                "values": [
                    {"key": "PropertyName", "value": "vmSize"},
                    {"key": "PropertyValue", "value": "huge"},
                    {"key": "Reason", "value": "the classes are small and large"},
                ],
            })
        );
    }

    #[test]
    fn each_code_has_a_status_and_a_name_of_its_own() {
        let mut names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.name()), Some(*code));
            assert!((400..=503).contains(&code.status()));
        }
        assert_eq!(ErrorCode::ConditionNotMet.status(), 412);
        assert_eq!(BatchError::not_modified().status(), 304);
    }

    #[test]
    fn a_failure_is_the_users_or_the_services() {
        assert_eq!(serde_json::to_value(TaskFailureCode::BlobNotFound.category()).unwrap(), "usererror");
        assert_eq!(TaskFailureCode::DiskFull.category(), ErrorCategory::ServerError);
    }
}
