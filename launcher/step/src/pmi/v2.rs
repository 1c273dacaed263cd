//! PMI-2: commands of a known length, six digits wide, with pairs `key=value;` in which `;;` stands for a semicolon.

use super::{COMMAND_BYTES_MAX, Effect, Phase, Server};

/// The digits before each command.
const LENGTH_DIGITS: usize = 6;

/// The next whole command.
pub(super) fn next_command(inbox: &mut Vec<u8>) -> Result<Option<String>, String> {
    let Some(digits) = inbox.get(..LENGTH_DIGITS) else { return Ok(None) };
    let digits = String::from_utf8_lossy(digits).into_owned();
    let length = digits.trim().parse::<usize>().ok().filter(|length| *length <= COMMAND_BYTES_MAX);
    let length = length.ok_or_else(|| format!("`{digits}` is no length of a command"))?;
    let Some(body) = inbox.get(LENGTH_DIGITS..LENGTH_DIGITS + length) else { return Ok(None) };
    let text = String::from_utf8_lossy(body).into_owned();
    inbox.drain(..LENGTH_DIGITS + length);
    Ok(Some(text))
}

/// The pairs of a command.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ';' if chars.peek() == Some(&';') => {
                chars.next();
                parts.last_mut().into_iter().for_each(|part| part.push(';'));
            }
            ';' => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    let pair = |part: String| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.into_iter().filter_map(pair).collect()
}

/// An answer, with the thread that the command named.
pub(super) fn answer(command: &str, thread: Option<&str>, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("cmd={command};");
    for (key, value) in thread.map(|thread| ("thrid", thread)).iter().chain(pairs) {
        text.push_str(&format!("{key}={};", value.replace(';', ";;")));
    }
    format!("{:LENGTH_DIGITS$}{text}", text.len()).into_bytes()
}

impl Server {
    pub(super) fn take_two(&mut self, place: usize, command: &str, effects: &mut Vec<Effect>) {
        let pairs = pairs(command);
        let value = |key: &str| pairs.iter().find(|pair| pair.0 == key).map(|pair| pair.1.as_str());
        let thread = value("thrid");
        let mut say = |command: &str, pairs: &[(&str, &str)]| {
            effects.push(Effect::Reply { place, bytes: answer(command, thread, pairs) });
        };
        let found = |found: Option<&String>| match found {
            Some(value) => {
                vec![("found", "TRUE".to_owned()), ("value", value.clone()), ("rc", "0".to_owned())]
            }
            None => vec![("found", "FALSE".to_owned()), ("rc", "0".to_owned())],
        };
        let mut say_found = |command: &str, pairs: Vec<(&str, String)>| {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            say(command, &pairs);
        };
        let key = value("key").unwrap_or_default();
        match value("cmd").unwrap_or_default() {
            "fullinit" => {
                let (rank, program) =
                    (self.ranks[place].number.to_string(), self.ranks[place].program.to_string());
                let size = self.world.size.to_string();
                say(
                    "fullinit-response",
                    &[
                        ("pmi-version", "2"),
                        ("pmi-subversion", "0"),
                        ("rank", &rank),
                        ("size", &size),
                        ("appnum", &program),
                        ("debugged", "FALSE"),
                        ("pmiverbose", "FALSE"),
                        ("rc", "0"),
                    ],
                );
            }
            "job-getid" => say("job-getid-response", &[("jobid", &self.world.name), ("rc", "0")]),
            "info-getjobattr" => {
                let size = self.world.size.to_string();
                let known = if key == "universeSize" { Some(&size) } else { self.pairs.get(key) };
                say_found("info-getjobattr-response", found(known));
            }
            "info-putnodeattr" => {
                let set = value("value").unwrap_or_default().to_owned();
                self.node_attributes.insert(key.to_owned(), set);
                let freed = self.serve_waiting(key);
                effects.extend(freed);
                effects.push(Effect::Reply {
                    place,
                    bytes: answer("info-putnodeattr-response", thread, &[("rc", "0")]),
                });
            }
            "info-getnodeattr" => match (self.node_attributes.get(key), value("wait") == Some("TRUE")) {
                (None, true) => self.waiting.push((place, key.to_owned(), thread.map(str::to_owned))),
                (known, _) => say_found("info-getnodeattr-response", found(known)),
            },
            "kvs-put" => {
                let done = value("value").is_some_and(|value| self.put(key, value));
                say("kvs-put-response", &[("rc", if done { "0" } else { "-1" })]);
            }
            "kvs-get" => say_found("kvs-get-response", found(self.pairs.get(key))),
            "kvs-fence" => self.enter_barrier(place, thread.map(str::to_owned), effects),
            "finalize" => {
                say("finalize-response", &[("rc", "0")]);
                self.ranks[place].phase = Phase::Finalized;
            }
            "abort" => {
                effects.push(self.abort(place, 1, value("msg").unwrap_or_default().to_owned()));
                self.ranks[place].phase = Phase::Finalized;
            }
            "" => {
                effects.push(self.abort(place, 1, format!("said what is no PMI: {command:.80}")));
                self.ranks[place].phase = Phase::Finalized;
            }
            other => say(&format!("{other}-response"), &[("rc", "-1"), ("errmsg", "not supported")]),
        }
    }

    /// Answers those who wait for an attribute that is there now.
    fn serve_waiting(&mut self, key: &str) -> Vec<Effect> {
        let Some(value) = self.node_attributes.get(key) else { return Vec::new() };
        let (ready, waiting): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|waits| waits.1 == key);
        self.waiting = waiting;
        let pairs = [("found", "TRUE"), ("value", value.as_str()), ("rc", "0")];
        let reply = |(place, _, thread): (usize, String, Option<String>)| Effect::Reply {
            place,
            bytes: answer("info-getnodeattr-response", thread.as_deref(), &pairs),
        };
        ready.into_iter().map(reply).collect()
    }
}
