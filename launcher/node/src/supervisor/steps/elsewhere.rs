//! Sessions of starters on other nodes than the primary: the supervisor of their node passes each on to the primary's, over
//! a connection of its own to the membership port. The keys that the primary answers with are veiled on the way.

use std::time::Duration;

use muster_step::auth;
use muster_step::words::{Answer, LINE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;
use tokio::time::Instant;

use super::super::gang::{GANG_TIMEOUT, Reader, ToPrimary, Writer};
use super::starters::say;

/// The pause before the primary is asked again that has no room for one more starter, or cannot be reached.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// An answer on its way between two supervisors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    answer: Answer,
    /// With this nonce and the gang's secret its key is veiled; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    nonce: String,
}

impl Sealed {
    /// Veils what must not be seen on the way.
    ///
    /// # Errors
    ///
    /// Those of `/dev/urandom`.
    pub fn seal(token: &str, mut answer: Answer) -> std::io::Result<Self> {
        let mut nonce = String::new();
        if let Some(key) = key_of(&mut answer) {
            nonce = auth::nonce()?;
            *key = auth::veil(token, &nonce, key);
        }
        Ok(Self { answer, nonce })
    }

    /// The answer as it was; `None` if its key makes no sense.
    fn open(mut self, token: &str) -> Option<Answer> {
        if let Some(key) = key_of(&mut self.answer) {
            *key = auth::unveil(token, &self.nonce, key)?;
        }
        Some(self.answer)
    }
}

fn key_of(answer: &mut Answer) -> Option<&mut String> {
    match answer {
        Answer::Placed { key, .. } | Answer::Attach { key, .. } => Some(key),
        _ => None,
    }
}

/// One starter of this node, from its first question until it or the primary hangs up.
pub(super) async fn pass_on(mut stream: UnixStream, allocation: &Answer, way: &ToPrimary) {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    if say(&mut to, allocation).await.is_err() {
        return;
    }
    // Somebody who only looks costs the primary nothing.
    let asks = matches!(from.fill_buf().await, Ok([_, ..]));
    if !asks {
        return;
    }
    // What it has said waits; that it has hung up is seen when the rest of its words is carried.
    let (down, mut up) = match connect(way).await {
        Ok(connection) => connection,
        Err(error) => {
            let reason =
                format!("the supervisor on {}, which places steps, does not answer: {error}", way.host);
            let _it_may_have_left = say(&mut to, &Answer::Refused { reason }).await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::io::copy_buf(&mut from, &mut up) => {}
        () = carry_answers(down, &mut to, &way.token) => {}
    }
}

/// A session with the primary. While that has no room, this waits its turn.
async fn connect(way: &ToPrimary) -> std::io::Result<(Reader, Writer)> {
    let mut reached = Instant::now();
    loop {
        match way.connect_for_starter().await {
            Ok(Some(connection)) => return Ok(connection),
            Ok(None) => reached = Instant::now(),
            Err(error) if reached.elapsed() >= GANG_TIMEOUT => return Err(error),
            Err(error) => tracing::info!(%error, "no session with the primary"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn carry_answers(mut down: Reader, to: &mut WriteHalf<'_>, token: &str) {
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut down).take(LINE_BYTES_MAX as u64).read_line(&mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        let answer = serde_json::from_str::<Sealed>(&line).ok().and_then(|sealed| sealed.open(token));
        let Some(answer) = answer else {
            return tracing::warn!("the primary's answer to a starter cannot be read");
        };
        if say(to, &answer).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_seen_on_the_way_and_arrive() {
        let attach = Answer::Attach { hosts: "n1".into(), port: 7, key: "secret".into() };
        let text = serde_json::to_string(&Sealed::seal("token", attach.clone()).unwrap()).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let open = |token: &str| serde_json::from_str::<Sealed>(&text).unwrap().open(token);
        assert_eq!(open("token"), Some(attach.clone()));
        assert_ne!(open("tokem"), Some(attach));
        let plain = serde_json::to_string(&Sealed::seal("token", Answer::Waiting).unwrap()).unwrap();
        assert_eq!(plain, r#"{"answer":{"say":"waiting"}}"#);
    }
}
