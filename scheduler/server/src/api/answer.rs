//! Answers and refusals as HTTP.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use muster_client::api::{ErrorBody, NOT_LEADING, TOO_OFTEN};
use muster_core::eligibility::BadDependency;
use muster_core::ids::{BadJobRef, JobRef};
use muster_core::input::Refusal;
use muster_core::notation::NotationError;
use muster_core::rate::Rate;
use muster_store::{Leader, StoreError};
use serde::de::DeserializeOwned;

use crate::engine_loop::{InputError, chain};
use crate::error::ServerError;
use crate::files::FileError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The engine refused, or could not store.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The path names no job.
    #[error(transparent)]
    JobRef(#[from] BadJobRef),
    /// The path names a task where only a whole job will do.
    #[error("{target} is one task of job {}: only whole jobs are changed, so name job {}", target.job, target.job)]
    WholeJob {
        /// What was asked for.
        target: JobRef,
    },
    /// What should be a dependency is none.
    #[error(transparent)]
    Dependency(#[from] BadDependency),
    /// What should be a list of nodes is none.
    #[error(transparent)]
    Nodes(#[from] NotationError),
    /// The body is too large or broke off.
    #[error("the request's body cannot be read: {0}")]
    Body(#[from] BytesRejection),
    /// The body is not what the route takes.
    #[error("the request's body is not what this route takes: {0}")]
    Json(#[from] serde_json::Error),
    /// The query is not what the route takes.
    #[error("the query is not what this route takes: {0}")]
    Query(#[from] QueryRejection),
    /// A word in the query that is no state.
    #[error("'{word}' is not a state of a job; the states are {known}")]
    BadState {
        /// What was asked for.
        word: String,
        /// What could be asked for.
        known: String,
    },
    /// The caller's user id has no login name.
    #[error("user id {uid} has no login name on the controller's host, so that no node could run its jobs")]
    NoUser {
        /// The user id.
        uid: u32,
    },
    /// There is no such user on the controller's host.
    #[error("there is no user '{name}' on the controller's host")]
    UnknownUser {
        /// What was asked for.
        name: String,
    },
    /// A job that no priority sum orders.
    #[error("job {job} has no priority sum: {why}")]
    NoPriority {
        /// The job's number.
        job: u64,
        /// Why not.
        why: String,
    },
    /// The task has no node, or no folder there.
    #[error("{target} has no files yet: it has not been placed on a node")]
    NoFiles {
        /// What was asked for.
        target: JobRef,
    },
    /// The node does not give the file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The path names no step.
    #[error("'{text}' is not the number of a step: write a number, such as 0")]
    BadStep {
        /// What was asked for.
        text: String,
    },
    /// No such route.
    #[error(
        "there is no {method} {path}: this controller's API is older than the client, or the path is wrong"
    )]
    NoRoute {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// The accounting tables cannot be read.
    #[error("the accounting tables cannot be read at present")]
    History(#[source] StoreError),
    /// This controller does not lead.
    #[error("{}", not_leading(.leader))]
    NotLeading {
        /// Who does, if that is known.
        leader: Option<Leader>,
    },
    /// The caller may not have the keys of nodes.
    #[error(
        "bringing nodes up takes their private keys, which only root on the controller's host may have: run it as root, \
         and to use your SSH agent by sudo --preserve-env=SSH_AUTH_SOCK"
    )]
    NotRoot,
    /// A node's certificate could not be made or read.
    #[error("the nodes' certificates cannot be had: {}", chain(.0))]
    Certificates(#[source] ServerError),
    /// The caller asks more often than the site lets a user.
    #[error(
        "you ask more often than this cluster takes it: {} a second of each user, and {} at once after a pause \
         (requests_per_user_s under [controller]); ask again in {:.1} s, or ask for more in one request",
        requests(.rate.per_s), .rate.burst, (*.again_ms as f64 / 1000.0).max(0.1)
    )]
    TooOften {
        /// How often each may.
        rate: Rate,
        /// When the next request is taken, in milliseconds from now.
        again_ms: u64,
    },
    /// The caller has too many connections.
    #[error(
        "you have {limit} connections to the controller already, as many as a user may \
         (connections_per_user_max under [controller]): end some of your commands, or try again in a moment"
    )]
    UserConnections {
        /// How many each may have.
        limit: u32,
        /// When to try again, in milliseconds from now.
        again_ms: u64,
    },
    /// All clients together have too many connections.
    #[error("the controller has {limit} connections of clients, and takes no more: try again in a moment")]
    Connections {
        /// How many there may be.
        limit: u32,
    },
    /// The server's own fault.
    #[error("the controller failed over this request; its log says why")]
    Panicked,
    /// The request took too long.
    #[error("the controller took too long over this request")]
    TooLong,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Input(InputError::Refused(refusal))
    }
}

fn not_leading(leader: &Option<Leader>) -> String {
    match leader {
        Some(Leader { term: 1.., holder, address }) => {
            format!("this controller stands by; {holder} leads, or led last, at {address}")
        }
        _ => "this controller stands by, and does not know yet who leads".to_owned(),
    }
}

fn refusal_code(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::UnknownPool { .. } => (StatusCode::BAD_REQUEST, "unknown_pool"),
        Refusal::PoolClosed { .. } => (StatusCode::CONFLICT, "pool_closed"),
        Refusal::UnknownAccount { .. } => (StatusCode::BAD_REQUEST, "unknown_account"),
        Refusal::NotInAccount { .. } => (StatusCode::FORBIDDEN, "not_in_account"),
        Refusal::NoAccount { .. } => (StatusCode::FORBIDDEN, "no_account"),
        Refusal::UnknownQos { .. } => (StatusCode::BAD_REQUEST, "unknown_qos"),
        Refusal::QosNotForAccount { .. } => (StatusCode::FORBIDDEN, "qos_not_for_account"),
        Refusal::UnknownNode { .. } | Refusal::UnknownNodes { .. } => (StatusCode::NOT_FOUND, "unknown_node"),
        Refusal::UnknownJob { .. } => (StatusCode::NOT_FOUND, "unknown_job"),
        Refusal::AlreadyEnded { .. } => (StatusCode::CONFLICT, "already_ended"),
        Refusal::Waits { .. } => (StatusCode::CONFLICT, "waits"),
        Refusal::NoRequeue { .. } => (StatusCode::CONFLICT, "no_requeue"),
        Refusal::HasStarted { .. } => (StatusCode::CONFLICT, "has_started"),
        Refusal::NothingWaits { .. } => (StatusCode::CONFLICT, "nothing_waits"),
        Refusal::TooManyTaskHolds { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_reached"),
        Refusal::HeldByAdmin { .. } => (StatusCode::FORBIDDEN, "held_by_admin"),
        Refusal::Dependency { .. } => (StatusCode::BAD_REQUEST, "dependency"),
        Refusal::UnknownReservation { .. } => (StatusCode::NOT_FOUND, "unknown_reservation"),
        Refusal::ReservationExists { .. } => (StatusCode::BAD_REQUEST, "reservation_exists"),
        Refusal::ReservationOverlap { .. } => (StatusCode::BAD_REQUEST, "reservation_overlap"),
        Refusal::ReservationBusy { .. } => (StatusCode::BAD_REQUEST, "reservation_busy"),
        Refusal::ReservationNotYours { .. } => (StatusCode::FORBIDDEN, "reservation_not_yours"),
        Refusal::TooManyReservations { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_reservations"),
        Refusal::Recurring { .. } => (StatusCode::BAD_REQUEST, "recurring"),
        Refusal::NotRecurring { .. } => (StatusCode::CONFLICT, "not_recurring"),
        Refusal::CrontabLine { .. } => (StatusCode::BAD_REQUEST, "crontab_line"),
        Refusal::CrontabTooLarge { .. } => (StatusCode::BAD_REQUEST, "crontab_too_large"),
        Refusal::NotOwner { .. } => (StatusCode::FORBIDDEN, "not_owner"),
        Refusal::NotAdmin { .. } => (StatusCode::FORBIDDEN, "not_admin"),
        Refusal::RootMayNotSubmit => (StatusCode::FORBIDDEN, "root_may_not_submit"),
        Refusal::TooManyNodes { .. } => (StatusCode::BAD_REQUEST, "too_many_nodes"),
        Refusal::NeverFits { .. } => (StatusCode::BAD_REQUEST, "never_fits"),
        Refusal::TimeLimit { .. } => (StatusCode::BAD_REQUEST, "time_limit"),
        // Its routes say it in the words of its protocol.
        Refusal::Batch(_) => (StatusCode::BAD_REQUEST, "batch"),
        Refusal::BadField { .. } => (StatusCode::BAD_REQUEST, "bad_field"),
        Refusal::LimitReached { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_reached"),
    }
}

impl ApiError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Input(InputError::Refused(refusal)) => refusal_code(refusal),
            Self::Input(InputError::NotStored { .. }) => (StatusCode::SERVICE_UNAVAILABLE, "not_stored"),
            Self::Input(InputError::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Input(InputError::Deposed) | Self::NotLeading { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, NOT_LEADING)
            }
            Self::JobRef(_) => (StatusCode::BAD_REQUEST, "bad_job_id"),
            Self::Dependency(_) => (StatusCode::BAD_REQUEST, "dependency"),
            Self::Nodes(_) => (StatusCode::BAD_REQUEST, "bad_nodes"),
            Self::WholeJob { .. } => (StatusCode::BAD_REQUEST, "whole_job"),
            Self::Body(_) | Self::Json(_) | Self::Query(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::BadState { .. } => (StatusCode::BAD_REQUEST, "bad_state"),
            Self::UnknownUser { .. } => (StatusCode::NOT_FOUND, "unknown_user"),
            Self::NoUser { .. } => (StatusCode::FORBIDDEN, "no_user"),
            Self::NoPriority { .. } => (StatusCode::BAD_REQUEST, "no_priority"),
            Self::BadStep { .. } => (StatusCode::BAD_REQUEST, "bad_step"),
            Self::NoRoute { .. } => (StatusCode::NOT_FOUND, "no_route"),
            Self::History(_) => (StatusCode::SERVICE_UNAVAILABLE, "history"),
            Self::NoFiles { .. } => (StatusCode::NOT_FOUND, "no_files"),
            Self::File(error) => file_code(error),
            Self::NotRoot => (StatusCode::FORBIDDEN, "not_root"),
            Self::Certificates(_) => (StatusCode::INTERNAL_SERVER_ERROR, "certificates"),
            Self::TooOften { .. } => (StatusCode::TOO_MANY_REQUESTS, TOO_OFTEN),
            Self::UserConnections { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
            Self::Connections { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
            Self::TooLong => (StatusCode::SERVICE_UNAVAILABLE, "too_long"),
        }
    }
}

fn file_code(error: &FileError) -> (StatusCode, &'static str) {
    match error {
        FileError::Away { .. } => (StatusCode::CONFLICT, "node_away"),
        FileError::Late { .. } | FileError::Busy => (StatusCode::TOO_MANY_REQUESTS, "files_busy"),
        FileError::NotFound { .. } => (StatusCode::NOT_FOUND, "no_such_file"),
        FileError::CleanedUp { .. } => (StatusCode::NOT_FOUND, "files_cleaned_up"),
        FileError::Denied { .. } => (StatusCode::FORBIDDEN, "file_denied"),
        FileError::NotAFile { .. } => (StatusCode::BAD_REQUEST, "not_a_file"),
        FileError::NotEmpty { .. } => (StatusCode::CONFLICT, "not_empty"),
        FileError::Strange { .. } | FileError::Failed { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "file_failed")
        }
    }
}

/// A number of requests in words.
fn requests(count: u32) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

impl ApiError {
    /// When to ask again, in milliseconds, if that alone helps.
    fn again_ms(&self) -> Option<u64> {
        match self {
            Self::TooOften { again_ms, .. } | Self::UserConnections { again_ms, .. } => Some(*again_ms),
            _ => None,
        }
    }

    /// The same in seconds, as HTTP's `Retry-After` has it.
    pub fn retry_after_s(&self) -> Option<u32> {
        let seconds = self.again_ms()?.div_ceil(1000).max(1);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// As HTTP has it.
    pub fn response(&self) -> Response {
        let (status, code) = self.code();
        if let Self::History(error) = self {
            tracing::warn!(error = %chain(error), "the accounting tables cannot be read");
        }
        let body = ErrorBody { code: code.to_owned(), message: self.to_string(), again_ms: self.again_ms() };
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.response()
    }
}

/// Reads a body; axum's own extractor would answer in its own words.
pub fn read_json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    Ok(serde_json::from_slice(&body?)?)
}

/// An answer.
pub type Answered<T> = Result<Json<T>, ApiError>;
