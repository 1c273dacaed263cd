//! Many nodes at a time: requests come on one stream, answers leave on another in the order in which they are done.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::binaries::Cache;
use crate::error::{BootstrapError, Result};
use crate::install::carry_out;
use crate::request::{Answer, Failure, Request};

/// How many nodes are brought up at the same time, unless said otherwise. A session costs a thread that mostly waits.
pub const THREADS_DEFAULT: usize = 16;

/// How many requests may wait for a thread; then whoever asks waits.
const WAITING_MAX: usize = 256;

/// Serves requests until there are no more, and returns when all are answered.
///
/// # Errors
///
/// [`BootstrapError::Talk`] if requests cannot be read or answers cannot be written.
pub fn serve(requests: impl BufRead, answers: impl Write + Send, threads: usize) -> Result<()> {
    let cache = Cache::default();
    serve_by(requests, answers, threads, &|line| answer(line, &cache))
}

/// The same with any work on a request.
fn serve_by(
    requests: impl BufRead,
    answers: impl Write + Send,
    threads: usize,
    carry_out: &(impl Fn(&str) -> Answer + Sync),
) -> Result<()> {
    let (work_to, work) = sync_channel::<String>(WAITING_MAX);
    let (answers_to, done) = sync_channel::<Answer>(WAITING_MAX);
    let work = Arc::new(Mutex::new(work));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (work, answers_to) = (work.clone(), answers_to.clone());
            scope.spawn(move || labour(&work, &answers_to, carry_out));
        }
        drop((work, answers_to));
        let writer = scope.spawn(move || write(&done, answers));
        let read = read(requests, &work_to);
        drop(work_to);
        // A writer never panics: it calls nothing that does.
        let written = writer.join().unwrap_or(Ok(()));
        read.and(written)
    })
}

fn read(requests: impl BufRead, work: &SyncSender<String>) -> Result<()> {
    for line in requests.lines() {
        let line = line.map_err(|source| BootstrapError::Talk { action: "read a request", source })?;
        if !line.trim().is_empty() && work.send(line).is_err() {
            break;
        }
    }
    Ok(())
}

fn labour(work: &Mutex<Receiver<String>>, answers: &SyncSender<Answer>, carry_out: &impl Fn(&str) -> Answer) {
    loop {
        let next = work.lock().expect("nobody panics with the lock").recv();
        let Ok(line) = next else { return };
        if answers.send(carry_out(&line)).is_err() {
            return;
        }
    }
}

fn answer(line: &str, cache: &Cache) -> Answer {
    let begun = Instant::now();
    let node = node_of(line);
    let mut answer = Answer { node, ok: false, duration_ms: 0, did: None, uploaded: None, failure: None };
    let outcome = serde_json::from_str::<Request>(line)
        .map_err(BootstrapError::Request)
        .and_then(|request| carry_out(&request, &*cache.get(&request.binaries_dir)?));
    match outcome {
        Ok(outcome) => {
            answer.ok = true;
            answer.did = Some(outcome.did);
            answer.uploaded = Some(outcome.uploaded);
        }
        Err(error) => answer.failure = Some(Failure::new(error.cause(), error.sentence())),
    }
    answer.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    answer
}

/// The node that a line speaks of, even if it is no good request.
fn node_of(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    value["node"].as_str().unwrap_or_default().to_owned()
}

fn write(done: &Receiver<Answer>, mut answers: impl Write) -> Result<()> {
    for answer in done {
        let mut line = serde_json::to_vec(&answer).expect("an answer is plain data");
        line.push(b'\n');
        answers
            .write_all(&line)
            .and_then(|()| answers.flush())
            .map_err(|source| BootstrapError::Talk { action: "write an answer", source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn answers_to(input: &str) -> Vec<Answer> {
        let mut output = Vec::new();
        serve(input.as_bytes(), &mut output, 2).unwrap();
        output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    #[test]
    fn what_is_no_request_is_answered_too() {
        let answers = answers_to("{\"node\":\"node01\"}\n\nnonsense\n");
        assert_eq!(answers.len(), 2);
        let named = answers.iter().find(|answer| answer.node == "node01").unwrap();
        assert!(!named.ok);
        let error = &named.failure.as_ref().unwrap().error;
        assert!(error.contains("address"), "{error}");
    }

    #[test]
    fn missing_programs_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let request = serde_json::json!({
            "node": "node01", "address": "127.0.0.1", "known_hosts_files": ["/x"],
            "binaries_dir": folder.path(), "controller": ["127.0.0.1:1"], "controller_name": "controller",
            "tls": {"ca_pem": "", "cert_pem": "", "key_pem": ""}
        });
        let answers = answers_to(&format!("{request}\n"));
        assert!(answers[0].failure.as_ref().unwrap().cause.contains("muster-node"), "{answers:?}");
    }

    #[test]
    fn no_more_are_served_at_a_time_than_was_said() {
        const THREADS: usize = 3;
        let input: String = (0..40).map(|n| format!("{{\"node\":\"n{n}\"}}\n")).collect();
        let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all_here = std::sync::Barrier::new(THREADS);
        let work = |line: &str| {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Passed only by as many at once as there are threads: the 39 first requests come in threes.
            if node_of(line) != "n39" {
                all_here.wait();
            }
            at_once.fetch_sub(1, Ordering::SeqCst);
            Answer { node: node_of(line), ok: true, duration_ms: 0, did: None, uploaded: None, failure: None }
        };
        let mut output = Vec::new();
        serve_by(input.as_bytes(), &mut output, THREADS, &work).unwrap();
        assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 40);
        assert_eq!(most.into_inner(), THREADS);
    }
}
