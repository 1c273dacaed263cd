//! A task's output, as far as it is there, or as it comes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State as Shell};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{BatchTaskKey, FoldedId};
use muster_core::ids::AttemptKey;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;

use super::super::call::Call;
use super::super::files::{Desk, of_task, problem};
use super::super::{Answer, Service, jobs, tasks};
use super::events::stream_place;
use crate::files::{FileError, PART_BYTES_MAX, Place, stream};

/// How often a file is looked at that is still being written: nodes do not tell of each line.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may wait for the task to be given its node; the client asks again then.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what is sent.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may be away while its output is followed.
const AWAY_WITHIN: Duration = Duration::from_secs(60);

/// `GET /muster/v1/jobs/{job}/tasks/{task}/logs`
pub async fn logs(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let wanted = call.parameter("stream")?;
    let file = match wanted.as_deref().unwrap_or("stdout") {
        "stdout" => "stdout.txt",
        "stderr" => "stderr.txt",
        other => return Err(BatchError::invalid_query("stream", other, "it must be stdout or stderr").into()),
    };
    let from = match call.parameter("from")? {
        None => 0,
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| BatchError::invalid_query("from", &text, "it must be a number of bytes"))?,
    };
    let known = call.parameter("attempt")?;
    let follows = call.flag("follow")?;
    let place = follows.then(|| stream_place(&service)).transpose()?;
    let desk = match desk(&service, &call, &job, &task, follows).await? {
        Some(desk) => desk,
        None => return Ok(answer(None, Body::empty())),
    };
    let attempt = attempt_of(&desk);
    let text = attempt.map(name_of);
    // What was read of another attempt says nothing about this one.
    let from = if known.is_none() || known == text { from } else { 0 };
    let body = match place {
        Some(place) => {
            let (sender, receiver) = mpsc::channel(1);
            let tail = Tail { service, call, desk, file, at: from, attempt, _place: place };
            tokio::spawn(tail.follow(sender));
            Body::from_stream(ReceiverStream::new(receiver))
        }
        None => {
            let sessions = Arc::clone(&service.sessions);
            let about =
                sessions.files().stat(&sessions, &desk.node, desk.place, file).await.map_err(problem)?;
            Body::from_stream(stream(sessions, desk.node, desk.place, file.to_owned(), from, about.bytes))
        }
    };
    Ok(answer(text, body))
}

fn answer(attempt: Option<String>, body: Body) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    let attempt = attempt.map(|attempt| [(HeaderName::from_static("muster-attempt"), attempt)]);
    match attempt {
        Some(attempt) => (kind, attempt, body).into_response(),
        None => (kind, body).into_response(),
    }
}

/// The attempt as clients are told it: the job of the cluster, and the how-manieth try.
fn name_of(attempt: AttemptKey) -> String {
    format!("{}.{}", attempt.task.job, attempt.attempt)
}

fn attempt_of(desk: &Desk) -> Option<AttemptKey> {
    match desk.place {
        Place::Task(attempt) => Some(attempt),
        Place::Node { .. } => None,
    }
}

/// Where the output is. Who follows a task waits a while for its start: none if that has not come.
async fn desk(
    service: &Service,
    call: &Call,
    job: &str,
    task: &str,
    follows: bool,
) -> Result<Option<Desk>, BatchError> {
    let key = jobs::key(call, job).task(FoldedId::of(task));
    let mut changed = service.feed.watch();
    let mut stopping = service.stopping.clone();
    let end = Instant::now() + START_WITHIN;
    loop {
        changed.borrow_and_update();
        match of_task(service, call, job, task) {
            Err(error) if follows && error.code == ErrorCode::TaskFilesUnavailable => {
                if has_completed(service, &key)? {
                    return Err(error);
                }
            }
            other => return other.map(Some),
        }
        tokio::select! {
            changed = timeout_at(end, changed.changed()) => if !matches!(changed, Ok(Ok(()))) { return Ok(None) },
            _ = stopping.wait_for(|stop| *stop) => return Ok(None),
        }
    }
}

fn has_completed(service: &Service, key: &BatchTaskKey) -> Result<bool, BatchError> {
    Ok(tasks::find(service.shared.read().state(), key)?.1.completed().is_some())
}

/// Output that is followed to the end of its attempt.
struct Tail {
    service: Arc<Service>,
    call: Call,
    desk: Desk,
    file: &'static str,
    at: u64,
    attempt: Option<AttemptKey>,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    fn lives(&self) -> bool {
        let reading = self.service.shared.read();
        let live = self.attempt.map(|key| (key, reading.state().live_attempt(key.task)));
        live.is_some_and(|(key, live)| live.is_some_and(|live| live.attempt == key.attempt))
    }

    async fn follow(mut self, sender: mpsc::Sender<Result<Vec<u8>, FileError>>) {
        let Some(job) = self.attempt.map(|attempt| attempt.task.job) else { return };
        let mut changed = self.service.shared.subscribe(job);
        let mut stopping = self.service.stopping.clone();
        let mut away_since: Option<Instant> = None;
        loop {
            changed.borrow_and_update();
            // Asked before the file is read, so that nothing is written after what is sent last.
            let lives = self.lives();
            match self.send_new(&sender).await {
                Ok(true) => away_since = None,
                Ok(false) => return,
                // It has written nothing yet.
                Err(FileError::NotFound { .. }) if lives => away_since = None,
                Err(FileError::Away { .. } | FileError::Late { .. } | FileError::Busy) if lives => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY_WITHIN {
                        return;
                    }
                }
                Err(FileError::NotFound { .. }) => return,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
            if !lives || !self.call.is_admitted(&self.service) {
                return;
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                changed = changed.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Sends what is new; says whether the client takes it.
    async fn send_new(
        &mut self,
        sender: &mpsc::Sender<Result<Vec<u8>, FileError>>,
    ) -> Result<bool, FileError> {
        loop {
            let sessions = &self.service.sessions;
            let (node, place) = (self.desk.node.as_str(), self.desk.place);
            let read = sessions.files().read(sessions, node, place, self.file, self.at, PART_BYTES_MAX);
            let (data, _) = read.await?;
            if data.is_empty() {
                return Ok(true);
            }
            self.at += data.len() as u64;
            if !matches!(timeout(TAKEN_WITHIN, sender.send(Ok(data))).await, Ok(Ok(()))) {
                return Ok(false);
            }
        }
    }
}
