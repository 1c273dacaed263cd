//! Answers that are made and sent part by part, so that a listing of a hundred thousand jobs needs the memory of one part of it,
//! and holds nothing that the engine waits for while it is made or sent.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::answer::ApiError;
use crate::engine_loop::chain;

/// Entries of a part.
pub const PART_ENTRIES: usize = 1000;
/// Jobs that are looked at before the state is let go of for a moment.
pub const LOOKED_AT_ONCE: usize = 4096;

/// As many parts of lists are made at once as leave the engine a processor.
#[must_use]
pub fn part_turns() -> Semaphore {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((cpus / 2).max(1))
}

/// A part of an answer.
pub struct Part {
    /// A piece of the JSON.
    pub bytes: Vec<u8>,
    /// Whether no other part follows.
    pub is_last: bool,
}

/// What an answer is made of, part after part.
pub trait Parts: Send + 'static {
    /// The next part. May take a moment, and read a disk.
    ///
    /// # Errors
    /// [`ApiError`]; the answer breaks off if a part of it was sent.
    fn next(&mut self, app: &App) -> Result<Part, ApiError>;
}

/// Does something off the threads that serve others, in its turn.
async fn in_turn<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let _turn = app.part_turns.acquire().await.map_err(|_| ApiError::Panicked)?;
    super::blocking(app, work).await
}

/// Answers with all parts of what `begin` gives.
///
/// # Errors
/// [`ApiError`] if the first part cannot be made.
pub async fn answer<P: Parts>(
    app: Arc<App>,
    begin: impl FnOnce(&App) -> Result<P, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let begin = move |app: &App| {
        let mut parts = begin(app)?;
        let first = parts.next(app)?;
        Ok((parts, first))
    };
    let (parts, first) = in_turn(&app, begin).await?;
    // Most lists are short: they go out as a whole.
    if first.is_last {
        return Ok(json(first.bytes.into()));
    }
    let (to_client, waiting) = mpsc::channel(1);
    tokio::spawn(send(app, parts, first.bytes, to_client));
    Ok(json(Body::from_stream(ReceiverStream::new(waiting))))
}

/// Sends all parts: waits for a client that reads slowly, and ends with one that has gone away.
async fn send<P: Parts>(
    app: Arc<App>,
    mut parts: P,
    first: Vec<u8>,
    to_client: mpsc::Sender<io::Result<Vec<u8>>>,
) {
    let (mut bytes, mut is_last) = (first, false);
    while to_client.send(Ok(bytes)).await.is_ok() && !is_last {
        let next = move |app: &App| {
            let part = parts.next(app)?;
            Ok((parts, part))
        };
        match in_turn(&app, next).await {
            Ok((left, part)) => (parts, bytes, is_last) = (left, part.bytes, part.is_last),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a list broke off");
                let _ = to_client.send(Err(io::Error::other(error))).await;
                return;
            }
        }
    }
}

/// Answers with one value, which may be large: it is found, and made JSON, off the threads that serve others.
///
/// # Errors
/// [`ApiError`] if it cannot be made.
pub async fn whole<T: Serialize>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let bytes = super::blocking(app, move |app| Ok(serde_json::to_vec(&work(app)?)?)).await?;
    Ok(json(bytes.into()))
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}

/// Adds an entry to an array that has been opened in `out`.
///
/// # Errors
/// [`ApiError::Json`] if it cannot be written.
pub fn add_entry(out: &mut Vec<u8>, is_first: &mut bool, entry: &impl Serialize) -> Result<(), ApiError> {
    if !std::mem::replace(is_first, false) {
        out.push(b',');
    }
    Ok(serde_json::to_writer(out, entry)?)
}
