//! Trying again: while the controller is away or cannot store anything, and when it puts a user off who asks too often.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::api::{ErrorBody, NOT_LEADING};
use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Answer, Failure, Transport};

/// The longest pause between two rounds where there are several controllers, one of which may take over at any instant.
const PAUSE_SEVERAL_MAX: Duration = Duration::from_millis(200);
/// The longest time for retries; longer ones could not be added to an instant.
const RETRY_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The pause before the second try; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// And of one who asks too often, unless the controller names a longer one.
const LIMITED_PAUSE_MAX: Duration = Duration::from_secs(4);

impl Client {
    /// Tries until a controller is reached and able (status 503 is neither), or the time for retries is over.
    pub(crate) fn until_reached<T: Reached>(
        &mut self,
        retry: Duration,
        mut attempt: impl FnMut(&mut Transport) -> Result<T, Failure>,
    ) -> Result<T, ClientError> {
        let end = Instant::now() + retry.min(RETRY_MAX);
        let pause_max = if self.transport.has_others() { PAUSE_SEVERAL_MAX } else { PAUSE_MAX };
        let mut pause = PAUSE_MIN;
        let mut said = false;
        // Each is tried once, even where there is no time for retries.
        let mut first_round = self.transport.count();
        let mut limited = Limited::new(self.retry_waiting);
        loop {
            let result = attempt(&mut self.transport);
            if let Some(put_off) = result.as_ref().ok().and_then(Reached::put_off)
                && let Some(pause) = limited.pause(put_off.again)
            {
                if !std::mem::replace(&mut self.has_said_limited, true) {
                    (self.on_limited)(&format!("waiting: {}", put_off.message));
                }
                self.transport.pause(pause);
                continue;
            }
            first_round = first_round.saturating_sub(1);
            let left = end.saturating_duration_since(Instant::now());
            let is_last = left.is_zero() && first_round == 0;
            let cause = match result {
                Ok(reached) if reached.is_able() || is_last => return Ok(reached),
                Ok(reached) => reached.cause(),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Away(source)) if is_last => {
                    return Err(ClientError::Unreachable { socket: self.transport.socket().clone(), source });
                }
                Err(Failure::Away(source)) => {
                    format!("does not answer at {} ({source})", self.transport.socket().display())
                }
            };
            if !self.transport.go_on() {
                continue;
            }
            // A connection that broke between two requests is opened again at once: nothing to talk about.
            if !said && pause > PAUSE_MIN {
                said = true;
                (self.on_away)(&format!(
                    "the controller {cause}: trying again for {} s",
                    left.as_secs().max(1)
                ));
            }
            self.transport.pause(pause.min(left));
            pause = (pause * 2).min(pause_max);
        }
    }
}

/// What the controller says to a user who asks too often.
pub(crate) struct PutOff {
    again: Duration,
    message: String,
}

/// The waits of a user who asks too often. Many processes may wait at once, and each is told when the next request is taken, and
/// not when its own is: so they come back more and more rarely, and not all at the same instant.
struct Limited {
    end: Instant,
    pause: Duration,
}

impl Limited {
    fn new(time: Duration) -> Self {
        Self { end: Instant::now() + time.min(RETRY_MAX), pause: PAUSE_MIN }
    }

    /// How long to wait when the controller says that it takes a request in `again`; none if the time for that is over.
    fn pause(&mut self, again: Duration) -> Option<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        // From half to one and a half of the pause.
        let part = RandomState::new().hash_one(0) % 1024;
        let pause = self.pause / 2 + self.pause * part as u32 / 1024;
        self.pause = (self.pause * 2).min(LIMITED_PAUSE_MAX);
        Some(pause.max(again).min(left))
    }
}

/// Whether a try that reached the controller is to be taken as it is.
pub(crate) trait Reached {
    fn is_able(&self) -> bool;

    /// Whether it is to be asked again later, and when.
    fn put_off(&self) -> Option<PutOff> {
        None
    }

    /// What is the matter, for a sentence about the controller.
    fn cause(&self) -> String {
        "cannot store anything at present".to_owned()
    }
}

impl Reached for () {
    fn is_able(&self) -> bool {
        true
    }
}

impl Reached for Answer {
    fn is_able(&self) -> bool {
        self.status != 503
    }

    fn put_off(&self) -> Option<PutOff> {
        if self.status != 429 {
            return None;
        }
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        Some(PutOff { again: Duration::from_millis(body.again_ms?), message: body.message })
    }

    fn cause(&self) -> String {
        match serde_json::from_slice::<ErrorBody>(&self.body) {
            Ok(body) if body.code == NOT_LEADING => "stands by".to_owned(),
            _ => "cannot store anything at present".to_owned(),
        }
    }
}
