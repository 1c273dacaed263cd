//! Events: a page of those that are kept, or a stream of them as they come.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State as Shell};
use axum::http::header;
use axum::response::IntoResponse as _;
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::FoldedId;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::super::call::{Call, RETRY_AFTER_S};
use super::super::feed::{EventId, Found, Wish};
use super::super::{Answer, Service, jobs};

/// Most events of a page, and of what is sent at once.
const PAGE_MAX: usize = 1000;
/// How often a stream without events gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what is sent. It may come back and go on where it was.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// `GET /muster/v1/events`
pub async fn of_account(service: Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let wish = Wish { account: Arc::clone(&call.caller.account), job: None };
    events(service.0, call, wish)
}

/// `GET /muster/v1/jobs/{job}/events`
pub async fn of_job(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    jobs::find(service.shared.read().state(), &jobs::key(&call, &job))?;
    let wish = Wish { account: Arc::clone(&call.caller.account), job: Some(FoldedId::of(&job)) };
    events(service, call, wish)
}

fn events(service: Arc<Service>, call: Call, wish: Wish) -> Answer {
    let after = after(&call)?;
    let is_stream = call.header("accept").is_some_and(|kinds| kinds.contains("text/event-stream"));
    if !is_stream {
        let found = service.feed.after(after.unwrap_or(EventId::FIRST), &wish, page_max(&call)?);
        return Ok(axum::Json(page(&found, after)?).into_response());
    }
    let place = stream_place(&service)?;
    let (sender, receiver) = mpsc::channel(1);
    let from = after.unwrap_or_else(|| service.feed.end());
    tokio::spawn(send(service, call, wish, from, place, sender));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// A place for an answer that goes on.
///
/// # Errors
/// `ServerBusy` if all are taken.
pub(super) fn stream_place(service: &Service) -> Result<OwnedSemaphorePermit, BatchError> {
    Arc::clone(&service.streams).try_acquire_owned().map_err(|_| {
        let why = "As many clients follow events and output as may at once; try again.";
        BatchError::new(ErrorCode::ServerBusy, why).retry_after(RETRY_AFTER_S)
    })
}

/// The event after which the client wants to go on.
fn after(call: &Call) -> Result<Option<EventId>, BatchError> {
    let wrong = "it must be the id of an event, such as 120.0, or 0 for all that are kept";
    if let Some(text) = call.header("last-event-id").filter(|text| !text.is_empty()) {
        let why = || format!("The header Last-Event-ID is wrong: {wrong}.");
        let id = text.parse().map_err(|()| BatchError::new(ErrorCode::InvalidHeaderValue, why()))?;
        return Ok(Some(id));
    }
    let text = call.parameter("after")?;
    text.map(|text| text.parse().map_err(|()| BatchError::invalid_query("after", &text, wrong))).transpose()
}

fn page_max(call: &Call) -> Result<usize, BatchError> {
    let Some(text) = call.parameter("maxresults")? else { return Ok(PAGE_MAX) };
    let most = text.parse().ok().filter(|most| (1..=PAGE_MAX).contains(most));
    most.ok_or_else(|| {
        BatchError::invalid_query("maxresults", &text, "it must be a whole number from 1 to 1000")
    })
}

/// A page; that events are lost is said to those alone who knew of some.
fn page(found: &Found, after: Option<EventId>) -> Result<serde_json::Value, BatchError> {
    let raw = |text: &str| serde_json::from_str::<serde_json::Value>(text);
    let value: Result<Vec<_>, _> = found.events.iter().map(|entry| raw(&entry.text)).collect();
    let value = value.map_err(|_| BatchError::new(ErrorCode::InternalError, "An event cannot be told."))?;
    let mut page = json!({ "value": value, "next": found.next.to_string(), "more": found.more });
    if let Some(lost) = found.lost.filter(|_| after.is_some_and(|after| after != EventId::FIRST)) {
        page["lostUpTo"] = lost.to_string().into();
    }
    Ok(page)
}

/// Sends events as they come, until the client is gone, takes nothing any more, or may no longer ask.
async fn send(
    service: Arc<Service>,
    call: Call,
    wish: Wish,
    from: EventId,
    _place: OwnedSemaphorePermit,
    sender: mpsc::Sender<Result<String, Infallible>>,
) {
    let mut changed = service.feed.watch();
    let mut stopping = service.stopping.clone();
    let mut at = from;
    let mut text = ": events of the batch service\n\n".to_owned();
    loop {
        changed.borrow_and_update();
        let found = service.feed.after(at, &wish, PAGE_MAX);
        write(&mut text, &found, at);
        at = found.next;
        if !text.is_empty() {
            let sent = timeout(TAKEN_WITHIN, sender.send(Ok(std::mem::take(&mut text))));
            tokio::select! {
                sent = sent => if !matches!(sent, Ok(Ok(()))) { return },
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
        if found.more {
            continue;
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = sleep(SIGN_OF_LIFE) => text.push_str(": still here\n\n"),
            () = sender.closed() => return,
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if !call.is_admitted(&service) {
            return;
        }
    }
}

/// Writes events as server-sent ones.
fn write(text: &mut String, found: &Found, after: EventId) {
    if let Some(lost) = found.lost.filter(|_| after != EventId::FIRST) {
        let data = json!({ "after": after.to_string(), "lostUpTo": lost.to_string() });
        let _ = write!(text, "id: {lost}\nevent: lost\ndata: {data}\n\n");
    }
    for entry in &found.events {
        let _ = write!(text, "id: {}\nevent: {}\ndata: {}\n\n", entry.id, entry.name, entry.text);
    }
}
