//! A request, once it is known who sends it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shell};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use muster_batch::odata::{List, ListQuery, Properties, SkipToken, next_link, page_body};
use muster_batch::query::Query;
use muster_batch::wire::{etag, version_of};
use muster_batch::{BatchError, ErrorCode, date, signature, wire};
use muster_core::batch::{BatchCaller, BatchCommand, BatchInput, BatchReply, Condition, FoldedId};
use muster_core::ids::{AttemptKey, Timestamp};
use muster_core::input::{Input, Refusal, Reply};
use muster_core::spec::User;
use muster_core::state::State;
use serde_json::Value;

use super::{Answer, Service, accounts, allowed, native, packages};
use crate::api::Peer;
use crate::engine_loop::InputError;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// The first version of the protocol that is answered.
pub(super) const VERSION_MIN: &str = "2020-09-01";
/// When a client should try again that came at a bad moment, in seconds.
pub const RETRY_AFTER_S: u32 = 1;

/// An error as an answer.
#[derive(Debug)]
pub struct Refused(pub BatchError);

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = match status {
            StatusCode::NOT_MODIFIED => status.into_response(),
            _ => (status, axum::Json(self.0.body(""))).into_response(),
        };
        if let Some(seconds) = self.0.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A request whose sender is known.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who sent it.
    pub caller: BatchCaller,
    /// The service's address as the client knows it, without a slash at its end.
    pub base: String,
    /// The attempt whose token it came with, if it did.
    attempt: Option<AttemptKey>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Lets a request in whose signature is right.
pub async fn admit(Shell(service): Shell<Arc<Service>>, request: Request, next: Next) -> Response {
    let ids = [header::HeaderName::from_static("client-request-id")]
        .map(|name| request.headers().get(name).cloned());
    let mut response = match call(&service, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => Refused(error).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("dataserviceversion"), HeaderValue::from_static("3.0"));
    if let [Some(id)] = ids {
        headers.insert(HeaderName::from_static("client-request-id"), id.clone());
        headers.insert(HeaderName::from_static("request-id"), id);
    }
    response
}

async fn call(service: &Service, request: Request) -> Result<Request, BatchError> {
    let (mut parts, body) = request.into_parts();
    let (caller, attempt) = match signature::bearer(&parts.headers)? {
        Some(token) => {
            let (caller, attempt) = task_caller(service, token, parts.uri.path())?;
            (caller, Some(attempt))
        }
        None => (key_caller(service, &parts)?, None),
    };
    take_turn(service, &caller)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    // The native paths have their version in themselves.
    if !native::owns(parts.uri.path()) {
        check_version(query.get("api-version"))?;
    }
    let (body, rest) = match packages::is_upload(&parts.method, parts.uri.path()) {
        true => (Bytes::new(), body),
        false => (whole(body).await?, Body::empty()),
    };
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let call = Call {
        caller,
        attempt,
        base: format!("{}://{host}", if service.tls.is_some() { "https" } else { "http" }),
        uri: parts.uri.clone(),
        headers: parts.headers.clone(),
        body,
    };
    parts.extensions.insert(call);
    Ok(Request::from_parts(parts, rest))
}

/// Counts a request among those of its user.
fn take_turn(service: &Service, caller: &BatchCaller) -> Result<(), BatchError> {
    let User { name, uid, gid } = &caller.user;
    let who = Peer::new(*uid, *gid, Some(name.clone()), &service.admins);
    service.door.ask(&who, service.shared.now()).map_err(|error| {
        let seconds = error.retry_after_s().unwrap_or(RETRY_AFTER_S);
        BatchError::new(ErrorCode::TooManyRequests, error.to_string()).retry_after(seconds)
    })
}

async fn whole(body: Body) -> Result<Bytes, BatchError> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let why = format!("The body has more than {BODY_BYTES_MAX} bytes, or did not come to its end.");
        BatchError::new(ErrorCode::RequestBodyTooLarge, why)
    })
}

fn unknown() -> BatchError {
    BatchError::new(ErrorCode::AuthenticationFailed, "The request could not be authenticated.")
}

/// Who sent a request that is signed with a key.
fn key_caller(service: &Service, parts: &Parts) -> Result<BatchCaller, BatchError> {
    let claim = signature::claim(&parts.headers)?;
    let (account, keys) = service.accounts.keys(claim.account);
    let now = jiff::Timestamp::now();
    let user = signature::verify(&claim, &parts.method, &parts.uri, &parts.headers, keys, now)?;
    Ok(accounts::caller(account.ok_or_else(unknown)?, &user))
}

/// The task that sent a request with the token of an attempt, which must live. It may ask about its own job alone.
fn task_caller(service: &Service, token: &str, path: &str) -> Result<(BatchCaller, AttemptKey), BatchError> {
    let attempt = service.secrets.batch_token_of(token).ok_or_else(unknown)?;
    let reading = service.shared.read();
    let state = reading.state();
    let lives = lives(state, attempt);
    let key = state.batch_task_of(attempt.task.job).filter(|_| lives);
    let (key, (job, task)) = key.and_then(|key| Some((key, state.batch_task(key)?))).ok_or_else(|| {
        let why = "The task that the token was given to has ended, and the token with it.";
        BatchError::new(ErrorCode::AuthenticationFailed, why)
    })?;
    let shape = job.shape(task);
    let mut parts = native::below(path).trim_start_matches('/').split('/');
    // Of what an id may have, clients encode the colon alone.
    let is_job = |id: &str| FoldedId::of(&id.replace("%3A", ":").replace("%3a", ":")) == key.job;
    let is_own = parts.next() == Some("jobs") && parts.next().is_some_and(is_job);
    if !shape.token || !is_own {
        let why =
            format!("The token of a task is for its own job alone: for what is at /jobs/{}.", job.spec.id);
        return Err(BatchError::new(ErrorCode::InsufficientAccountPermissions, why));
    }
    Ok((accounts::caller(Arc::clone(&key.account), &shape.user), attempt))
}

fn lives(state: &State, attempt: AttemptKey) -> bool {
    state.live_attempt(attempt.task).is_some_and(|live| live.attempt == attempt.attempt)
}

fn check_version(version: Option<&str>) -> Result<(), BatchError> {
    let Some(version) = version else {
        let why = "The query has no api-version.";
        return Err(BatchError::new(ErrorCode::MissingRequiredQueryParameter, why)
            .with("QueryParameterName", "api-version"));
    };
    let day = version.get(..VERSION_MIN.len()).unwrap_or_default();
    let is_day = day.len() == VERSION_MIN.len() && day.bytes().all(|c| c.is_ascii_digit() || c == b'-');
    if is_day && day >= VERSION_MIN {
        return Ok(());
    }
    let why = format!("The version {version} is not offered; those from {VERSION_MIN} on are.");
    Err(BatchError::new(ErrorCode::UnsupportedRequestVersion, why))
}

impl Call {
    /// The body; an empty one is an empty object.
    pub fn json(&self) -> Result<Value, BatchError> {
        if self.body.is_empty() {
            return Ok(Value::Object(Default::default()));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let why = format!("The body is not JSON: line {}, column {}.", error.line(), error.column());
            BatchError::new(ErrorCode::InvalidRequestBody, why)
        })
    }

    /// What must hold of the thing that is asked about.
    pub fn condition(&self) -> Result<Condition, BatchError> {
        let text = |name: HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let tag = |name: HeaderName| {
            // A tag that is not one of ours is that of nothing.
            text(name).map(|tag| if tag == "*" { None } else { Some(version_of(tag).unwrap_or(u64::MAX)) })
        };
        let instant = |name: HeaderName| -> Result<Option<Timestamp>, BatchError> {
            let Some(text) = text(name.clone()) else { return Ok(None) };
            let wrong = || {
                let why =
                    format!("The header {name} is wrong: write a date as Sun, 08 May 2011 08:49:37 GMT.");
                BatchError::new(ErrorCode::InvalidHeaderValue, why)
            };
            let instant = date::rfc1123(text).ok_or_else(wrong)?;
            Ok(Some(Timestamp(u64::try_from(instant.as_microsecond()).unwrap_or(0))))
        };
        Ok(Condition {
            matches: tag(header::IF_MATCH),
            matches_not: tag(header::IF_NONE_MATCH),
            modified_since: instant(header::IF_MODIFIED_SINCE)?,
            unmodified_since: instant(header::IF_UNMODIFIED_SINCE)?,
        })
    }

    /// Answers with a thing, if the conditions hold of it.
    pub fn shown(&self, version: u64, modified: Timestamp, thing: impl FnOnce() -> Value) -> Answer {
        let condition = self.condition()?;
        if !condition.holds(version, modified) {
            let is_read = condition.matches.is_none() && condition.unmodified_since.is_none();
            let why = "The condition in the headers does not hold.";
            return Err(match is_read {
                true => BatchError::not_modified(),
                false => BatchError::new(ErrorCode::ConditionNotMet, why),
            }
            .into());
        }
        Ok((StatusCode::OK, tags(version, modified), axum::Json(thing())).into_response())
    }

    /// The same of a thing as its list has it: with its statistics if they are asked for, and what is selected of it.
    pub fn shown_of(
        &self,
        list: List,
        version: u64,
        modified: Timestamp,
        thing: impl FnOnce(bool) -> Value,
    ) -> Answer {
        let query = self.list_query(list)?;
        self.shown(version, modified, || {
            let mut shown = thing(query.stats);
            if let Some(select) = &query.select {
                select.apply(&mut shown);
            }
            shown
        })
    }

    /// Asks the engine for something.
    pub async fn ask(&self, service: &Service, command: BatchCommand) -> Result<BatchReply, BatchError> {
        self.ask_if(service, command, self.condition()?).await
    }

    /// The same, under a condition of its own.
    pub async fn ask_if(
        &self,
        service: &Service,
        command: BatchCommand,
        condition: Condition,
    ) -> Result<BatchReply, BatchError> {
        allowed::check(service, &command)?;
        let input = Input::Batch(Box::new(BatchInput { caller: self.caller.clone(), command, condition }));
        match service.engine.ask(input).await {
            Ok(Reply::Batch(reply)) => Ok(reply),
            Ok(_) => Ok(BatchReply::Done),
            Err(InputError::Refused(Refusal::Batch(refusal))) => Err(wire::refused(&refusal)),
            Err(error @ InputError::Refused(_)) => {
                Err(BatchError::new(ErrorCode::InvalidInput, error.to_string()))
            }
            Err(error) => {
                Err(BatchError::new(ErrorCode::ServerBusy, error.to_string()).retry_after(RETRY_AFTER_S))
            }
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client may still ask: a task may for as long as its attempt lives.
    pub fn is_admitted(&self, service: &Service) -> bool {
        self.attempt.is_none_or(|attempt| lives(service.shared.read().state(), attempt))
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Result<Option<String>, BatchError> {
        Ok(Query::parse(self.uri.query().unwrap_or_default())?.get(name).map(str::to_owned))
    }

    /// A parameter of the query that is true or false; false without.
    pub fn flag(&self, name: &str) -> Result<bool, BatchError> {
        let query = Query::parse(self.uri.query().unwrap_or_default())?;
        match query.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(BatchError::invalid_query(name, other, "it must be true or false")),
        }
    }

    /// An instant of the query, if it is there.
    pub fn instant(&self, name: &str) -> Result<Option<Timestamp>, BatchError> {
        let query = Query::parse(self.uri.query().unwrap_or_default())?;
        let Some(text) = query.get(name) else { return Ok(None) };
        let instant = text.parse::<jiff::Timestamp>();
        let why = "it must be a date, such as 2027-01-31T02:00:00Z";
        let instant = instant.map_err(|_| BatchError::invalid_query(name, text, why))?;
        Ok(Some(Timestamp(u64::try_from(instant.as_microsecond()).unwrap_or(0))))
    }

    /// What is asked of a list.
    pub fn list_query(&self, list: List) -> Result<ListQuery, BatchError> {
        ListQuery::parse(list, self.uri.path(), &Query::parse(self.uri.query().unwrap_or_default())?)
    }

    /// A page of a list.
    pub fn page(&self, name: &str, mut page: Page) -> Answer {
        let query = Query::parse(self.uri.query().unwrap_or_default())?;
        if let Some(select) = &page.query.select {
            page.rows.iter_mut().for_each(|row| select.apply(row));
        }
        let next = page.next.map(|after| next_link(&self.base, self.uri.path(), &query, &after));
        let metadata = format!("{}/$metadata#{name}", self.base);
        Ok(axum::Json(page_body(&metadata, page.rows, next)).into_response())
    }
}

/// A page that is being filled.
pub struct Page {
    query: ListQuery,
    rows: Vec<Value>,
    next: Option<SkipToken>,
}

impl Page {
    /// An empty page of what was asked for.
    pub fn new(query: ListQuery) -> Self {
        Self { query, rows: Vec::new(), next: None }
    }

    /// Whether its rows come with their statistics.
    pub fn stats(&self) -> bool {
        self.query.stats
    }

    /// After which key it begins.
    pub fn after(&self) -> Option<&str> {
        self.query.after.as_ref().map(SkipToken::position)
    }

    /// Looks at a row; says whether the page is full. `last` is the key of the row before it.
    pub fn offer(&mut self, row: &impl Properties, last: Option<&str>, show: impl FnOnce() -> Value) -> bool {
        if !self.query.filter.as_ref().is_none_or(|filter| filter.wants(row)) {
            return false;
        }
        if self.rows.len() == self.query.max_results {
            self.next = last.map(SkipToken::after);
            return true;
        }
        self.rows.push(show());
        false
    }
}

/// The headers that tell of a thing's version.
pub fn tags(version: u64, modified: Timestamp) -> [(HeaderName, String); 2] {
    [(header::ETAG, format!("\"{}\"", etag(version))), (header::LAST_MODIFIED, http_date(modified))]
}

/// A date as headers have it.
pub fn http_date(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(i64::try_from(at.0).unwrap_or(0)).unwrap_or_default();
    instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    status.into_response()
}

/// What a new thing is answered with.
pub fn created(base: &str, path: &str, version: u64, modified: Timestamp) -> Response {
    let location = format!("{base}{path}");
    let more = [(header::LOCATION, location.clone()), (HeaderName::from_static("dataserviceid"), location)];
    (StatusCode::CREATED, tags(version, modified), more).into_response()
}
