//! What the service tells beside its protocol: reasons, placement, events as they come, and output as it comes.

use std::io::{BufRead as _, BufReader, Write};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, header};
use muster_batch::openapi::NATIVE;
use muster_batch::query::encode;
use serde_json::Value;

use crate::error::{BatchClientError, Result};
use crate::service::{Broken, Service, copy};
use crate::transport::{Ask, Content, PAUSES};

/// Longest line of a stream of events, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Something that came on a stream of events.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// An event.
    Event(Value),
    /// Events are missing here, because they came too long ago.
    Lost {
        /// Up to this one.
        up_to: String,
    },
}

/// A part of a task's output that has been written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRead {
    /// The attempt that it is of; none if the task has not been given a node.
    pub attempt: Option<String>,
    /// How many bytes of that attempt's output have been written by now.
    pub at: u64,
}

/// The native path of something of the protocol's.
fn path(of: &str) -> String {
    format!("{NATIVE}{of}")
}

fn target(of: &str, pairs: &[(&str, &str)]) -> String {
    let mut target = path(of);
    for (i, (name, value)) in pairs.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={}", encode(value)));
    }
    target
}

impl Service {
    /// The document that describes all that the service answers.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn document(&self) -> Result<Value> {
        self.native("/openapi.json", &[])
    }

    /// What the service tells of a thing of its protocol, such as `/jobs/film/tasks/7/why`.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn native(&self, of: &str, pairs: &[(&str, &str)]) -> Result<Value> {
        let ask = Ask {
            method: Method::GET,
            target: target(of, pairs),
            headers: HeaderMap::new(),
            body: Content::Nothing,
        };
        self.transport().json(self.send(&ask)?)
    }

    /// Tells of events as they come, those after `after` first, until `each` fails or the service says no. Where a connection
    /// breaks, it goes on after the last event.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer for longer than one waits for it; what `each` fails with.
    pub fn follow_events<E: From<BatchClientError>>(
        &self,
        of: &str,
        after: &str,
        mut each: impl FnMut(Came) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut last = after.to_owned();
        let (mut quiet_since, mut pause) = (Instant::now(), PAUSES[0]);
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Ok(value) = HeaderValue::from_str(&last) {
                headers.insert("last-event-id", value);
            }
            let ask = Ask { method: Method::GET, target: path(of), headers, body: Content::Nothing };
            let response = self.send(&ask)?;
            let mut lines = BufReader::new(response);
            let mut frame = Frame::default();
            // Until the stream ends or breaks; either way it is asked for again.
            while let Some(line) = next_line(&mut lines) {
                (quiet_since, pause) = (Instant::now(), PAUSES[0]);
                if let Some((id, came)) = frame.line(&line) {
                    each(came)?;
                    last = id;
                }
            }
            if quiet_since.elapsed() > self.transport().patience {
                return Err(self.transport().bad("the stream of events ends at once").into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Writes a task's output after what was `read` of it, to the end that it has, or with `follows` to the end of its attempt
    /// or to where the connection ends; what is given back is where to go on.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer, or why the output cannot be written.
    pub fn read_log(
        &self,
        task: &str,
        stream: &str,
        follows: bool,
        read: &LogRead,
        to: &mut dyn Write,
    ) -> Result<LogRead> {
        let from = read.at.to_string();
        let mut pairs = vec![("stream", stream)];
        if let Some(attempt) = &read.attempt {
            pairs.extend([("from", from.as_str()), ("attempt", attempt.as_str())]);
        }
        if follows {
            pairs.push(("follow", "true"));
        }
        let target = target(&format!("{task}/logs"), &pairs);
        let ask = Ask { method: Method::GET, target, headers: HeaderMap::new(), body: Content::Nothing };
        let response = self.send(&ask)?;
        let attempt = response.headers().get("muster-attempt").and_then(|name| name.to_str().ok());
        let attempt = attempt.map(str::to_owned);
        let begins = attempt != read.attempt;
        let mut now = LogRead { at: if begins { 0 } else { read.at }, attempt };
        match copy(response, to, &mut |bytes| now.at += bytes) {
            Err(Broken::Here(error)) => Err(BatchClientError::Output(error)),
            // What is missing is asked for from here on.
            Ok(()) | Err(Broken::There(_)) => Ok(now),
        }
    }
}

/// The next line of a stream, without its end; none where it ends or breaks, or a line is longer than there are.
fn next_line(stream: &mut impl std::io::BufRead) -> Option<String> {
    let mut line = String::new();
    let count = std::io::Read::take(&mut *stream, LINE_BYTES_MAX).read_line(&mut line).ok()?;
    let is_whole = count > 0 && line.ends_with('\n');
    is_whole.then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// What has come of a server-sent event.
#[derive(Debug, Default)]
struct Frame {
    id: String,
    name: String,
    data: String,
}

impl Frame {
    /// Takes a line; gives the event that it ends, with its id.
    fn line(&mut self, line: &str) -> Option<(String, Came)> {
        if !line.is_empty() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.id),
                "event" => value.clone_into(&mut self.name),
                "data" => self.data.push_str(value),
                // Comments, and what is not known.
                _ => {}
            }
            return None;
        }
        let Self { id, name, data } = std::mem::take(self);
        let value: Value = serde_json::from_str(&data).ok()?;
        let came = match name.as_str() {
            "lost" => Came::Lost { up_to: id.clone() },
            _ => Came::Event(value),
        };
        Some((id, came))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_put_together_line_by_line() {
        let mut frame = Frame::default();
        let stream = ": hello\n\nid: 8.0\nevent: TaskStartEvent\ndata: {\"id\":\"8.0\"}\n\nid: 9.1\nevent: lost\ndata: {}\n\nid: 10.0\nda";
        let mut lines = BufReader::new(stream.as_bytes());
        let mut came = Vec::new();
        while let Some(line) = next_line(&mut lines) {
            came.extend(frame.line(&line));
        }
        let event = Came::Event(json!({ "id": "8.0" }));
        let lost = Came::Lost { up_to: "9.1".to_owned() };
        assert_eq!(came, [("8.0".to_owned(), event), ("9.1".to_owned(), lost)]);
    }

    #[test]
    fn targets_are_encoded() {
        assert_eq!(target("/jobs/a/events", &[]), "/muster/v1/jobs/a/events");
        assert_eq!(target("/events", &[("after", "0"), ("x", "a b")]), "/muster/v1/events?after=0&x=a%20b");
    }
}
