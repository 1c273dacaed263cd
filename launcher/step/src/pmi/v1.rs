//! PMI-1: a line for each command, words `key=value` between blanks.

use super::{COMMAND_BYTES_MAX, Effect, KEY_BYTES_MAX, Phase, Server, VALUE_BYTES_MAX};

/// A line for the rank.
pub(super) fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// The next whole line.
pub(super) fn next_command(inbox: &mut Vec<u8>) -> Result<Option<String>, String> {
    let Some(end) = inbox.iter().position(|byte| *byte == b'\n') else {
        if inbox.len() > COMMAND_BYTES_MAX {
            return Err(format!("a line of more than {COMMAND_BYTES_MAX} bytes"));
        }
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&inbox[..end]).into_owned();
    inbox.drain(..=end);
    Ok(Some(text))
}

/// The value of a word. A value goes on to the next blank, and may hold `=`.
fn word<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

impl Server {
    pub(super) fn take_one(&mut self, place: usize, line_read: &str, effects: &mut Vec<Effect>) {
        let mut say = |text: String| effects.push(Effect::Reply { place, bytes: line(&text) });
        // A spawn has a line for each argument, up to its end.
        if self.ranks[place].in_spawn || line_read.starts_with("mcmd=") {
            self.ranks[place].in_spawn = line_read != "endcmd";
            if line_read == "endcmd" {
                say("cmd=spawn_result rc=-1 msg=not_supported".to_owned());
            }
            return;
        }
        let size = self.world.size;
        let name = self.world.name.clone();
        match word(line_read, "cmd").unwrap_or_default() {
            "init" => self.init(place, line_read, effects),
            "get_maxes" => say(format!(
                "cmd=maxes kvsname_max=256 keylen_max={KEY_BYTES_MAX} vallen_max={VALUE_BYTES_MAX} rc=0"
            )),
            "get_appnum" => say(format!("cmd=appnum appnum={} rc=0", self.ranks[place].program)),
            "get_universe_size" => say(format!("cmd=universe_size size={size} rc=0")),
            "get_my_kvsname" => say(format!("cmd=my_kvsname kvsname={name} rc=0")),
            "put" => {
                let (key, value) = (word(line_read, "key"), word(line_read, "value"));
                let done = key.zip(value).is_some_and(|(key, value)| self.put(key, value));
                say(match done {
                    true => "cmd=put_result rc=0 msg=success".to_owned(),
                    false => "cmd=put_result rc=-1 msg=invalid_pair".to_owned(),
                });
            }
            "get" => {
                let key = word(line_read, "key").unwrap_or_default();
                say(match self.pairs.get(key) {
                    Some(value) => format!("cmd=get_result rc=0 msg=success value={value}"),
                    None => format!("cmd=get_result rc=-1 msg=key_{key}_not_found value=unknown"),
                });
            }
            "barrier_in" => self.enter_barrier(place, None, effects),
            "finalize" => {
                say("cmd=finalize_ack rc=0".to_owned());
                self.ranks[place].phase = Phase::Finalized;
            }
            "abort" => {
                let code = word(line_read, "exitcode").and_then(|code| code.parse().ok()).unwrap_or(1);
                let message = line_read.split_once("message=").map_or("", |(_, message)| message);
                effects.push(self.abort(place, code, message.to_owned()));
                self.ranks[place].phase = Phase::Finalized;
            }
            "" => {
                effects.push(self.abort(place, 1, format!("said what is no PMI: {line_read:.80}")));
                self.ranks[place].phase = Phase::Finalized;
            }
            other => say(format!("cmd={other}_result rc=-1 msg=not_supported")),
        }
    }

    /// The first command of both versions.
    fn init(&mut self, place: usize, line_read: &str, effects: &mut Vec<Effect>) {
        let two = word(line_read, "pmi_version") == Some("2");
        let rank = &mut self.ranks[place];
        rank.phase = if two { Phase::Two } else { Phase::One };
        let text = match two {
            true => "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0",
            false => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
        };
        effects.push(Effect::Reply { place, bytes: line(text) });
    }
}
