//! Membership in a gang: every instance notices within [`GANG_TIMEOUT`] that the primary, or the way to it, is gone,
//! and the primary that an instance is. Neither mpirun nor Hydra ever notices a network that is cut silently.
//!
//! Every other instance keeps one TCP connection to the primary. The primary opens with a challenge; the instance
//! proves by an HMAC-SHA256 (RFC 2104) over it that it knows the attempt's token, which itself never travels there.
//! From then on both sides send one JSON text a line, at least a ping every second.

mod primary;
mod secondary;

use std::net::TcpListener;
use std::time::Duration;

use hmac::{Hmac, Mac};
use muster_wire::v1;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

pub(super) use self::secondary::{Reader, ToPrimary, Writer};
use super::events::RemoteLost;
use super::steps::StepOrder;
use super::{Event, Supervisor};
use crate::error::{NodeError, Result};

/// How long one side may be silent before it counts as lost. Ranks that spin on every core of a node can keep its
/// supervisor waiting for seconds; an end that nobody asked for is worse than one that comes a little later.
pub(super) const GANG_TIMEOUT: Duration = Duration::from_secs(10);

/// How often each side says that it lives.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long the two sides of a new connection may take to agree.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(2);

/// How long the primary waits to hear whether others were out of memory.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// The longest line, in bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// How many messages to the primary, or to one other instance, may wait.
const OUTBOX_MAX: usize = 4096;

/// What the gang tells the supervisor.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing was heard for [`GANG_TIMEOUT`].
    LostContact {
        /// `the primary on node01`, or the node's name.
        with: String,
    },
    /// To other instances: the primary's script has ended, or was ended.
    PrimaryEnded,
    /// To the primary: another instance's daemon was killed.
    DaemonLost(RemoteLost),
    /// To other instances: a step has ranks there.
    StartStep(StepOrder),
    /// To other instances: a step is over, so that nobody comes any more to a daemon that listens.
    EndStep {
        /// The step.
        step: u32,
    },
    /// To the primary: the daemon of a step listens on another instance.
    StepListens {
        /// The step.
        step: u32,
        /// The other instance.
        instance: u32,
        /// Where.
        address: (String, u16),
    },
    /// To the primary: the daemon of a step has ended on another instance, or could not be started.
    StepGone {
        /// The step.
        step: u32,
        /// The other instance.
        instance: u32,
        /// Why it could not be started.
        failed: Option<String>,
    },
}

/// One line between two supervisors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Line {
    /// The primary opens.
    Challenge { nonce: String },
    /// The other proves itself.
    Join { instance: u32, proof: String },
    /// The supervisor of another instance brings a starter of its node, which listens at this address.
    Starter { instance: u32, address: String, proof: String },
    /// The primary accepts.
    Welcome,
    /// The primary hears as many starters as it can.
    Busy,
    /// Either lives.
    Ping,
    /// The primary's part has ended.
    End,
    /// The other leaves because the controller said so.
    Leave,
    /// The other instance answers the end.
    Ended { out_of_memory: bool },
    /// A daemon of the other instance was killed.
    DaemonLost { host: String, detail: String },
    /// The primary has a step begin on the other instance.
    StartStep(StepOrder),
    /// A step is over, so that nobody comes any more to a daemon that listens.
    EndStep { step: u32 },
    /// The daemon of a step listens on the other instance.
    StepListens { step: u32, address: (String, u16) },
    /// The daemon of a step has ended on the other instance, or could not be started.
    StepGone { step: u32, failed: Option<String> },
}

/// The part of the membership that is made in the preparation: on the primary, the open port.
pub(super) struct Membership(Option<TcpListener>);

/// What the other instances have answered to the primary's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Answers {
    /// How many have.
    count: usize,
    /// Whether one of them was out of memory.
    out_of_memory: bool,
}

/// The running part.
pub(super) struct Handle {
    /// Says to the tasks of the primary that its part has ended.
    ended: watch::Sender<bool>,
    /// On the primary: what the others answered to that.
    answers: watch::Receiver<Answers>,
    /// What another instance has to tell the primary.
    outbox: mpsc::Sender<Line>,
    /// On the primary: what each instance is to be told, by its number.
    orders: Vec<mpsc::Sender<Line>>,
}

impl Membership {
    /// Opens the port on the primary.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the node's address cannot be listened at.
    pub fn prepare(supervisor: &Supervisor, endpoint: &mut v1::Endpoint) -> Result<Self> {
        if !supervisor.is_primary() {
            return Ok(Self(None));
        }
        let listener = super::ssh_endpoint::listen_at(&supervisor.assignment.address)?;
        let port = listener.local_addr().map_err(NodeError::system("ask for a port's number"))?.port();
        endpoint.gang_port = u32::from(port);
        Ok(Self(Some(listener)))
    }

    /// From the go on.
    ///
    /// # Errors
    ///
    /// [`NodeError::Incomplete`] if the go does not say where the primary is.
    pub fn begin(self, supervisor: &Supervisor, go: &v1::Go) -> Result<Handle> {
        let token = supervisor.prepare.gang_token.clone();
        let events = supervisor.sender.clone();
        let (ended, watch_ended) = watch::channel(false);
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let (answers_to, answers) = watch::channel(Answers::default());
        let mut orders = Vec::new();
        match self.0 {
            Some(listener) => {
                let hosts: Vec<String> =
                    supervisor.prepare.members.iter().map(|member| member.host.clone()).collect();
                let (senders, receivers) = hosts.iter().map(|_| mpsc::channel(OUTBOX_MAX)).unzip();
                orders = senders;
                let ends = primary::Ends { ended: watch_ended, answers: answers_to, orders: receivers };
                primary::begin(listener, token, hosts, events, ends, supervisor.steps.desk())?;
            }
            None => {
                let to = ToPrimary::of(supervisor, go)?;
                secondary::begin(secondary::Way { to, events, messages });
            }
        }
        Ok(Handle { ended, answers, outbox, orders })
    }
}

impl Handle {
    /// Of an attempt with one instance.
    pub fn alone() -> Self {
        let answers = watch::channel(Answers::default()).1;
        Self { ended: watch::channel(false).0, answers, outbox: mpsc::channel(1).0, orders: Vec::new() }
    }

    /// On the primary: the others end their instances now.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// On the primary, after its end: whether one of `others` instances was out of memory, as far as they say so in
    /// time. It tells the user why a rank was killed; nothing else waits for it.
    pub async fn were_out_of_memory(&self, others: usize) -> bool {
        let mut answers = self.answers.clone();
        let all = answers.wait_for(|answers| answers.out_of_memory || answers.count >= others);
        let told = tokio::time::timeout(ANSWERS_WITHIN, all).await;
        matches!(told, Ok(Ok(answers)) if answers.out_of_memory)
    }

    /// On another instance: the answer to the primary's end.
    pub fn answer_end(&self, out_of_memory: bool) {
        let _ = self.outbox.try_send(Line::Ended { out_of_memory });
    }

    /// On another instance: the controller has stopped it, so the primary must not miss it.
    pub fn leave(&self) {
        let _ = self.outbox.try_send(Line::Leave);
    }

    /// On the primary: a step begins on another instance. Says whether it can be told.
    pub fn start_step(&self, instance: u32, order: StepOrder) -> bool {
        self.orders.get(instance as usize).is_some_and(|to| to.try_send(Line::StartStep(order)).is_ok())
    }

    /// On the primary: a step is over for the daemon of another instance, if it still waits for somebody.
    pub fn end_step(&self, instance: u32, step: u32) {
        if let Some(to) = self.orders.get(instance as usize) {
            let _ = to.try_send(Line::EndStep { step });
        }
    }

    /// On another instance: the daemon of a step listens here.
    pub fn step_listens(&self, step: u32, address: (String, u16)) {
        let _ = self.outbox.try_send(Line::StepListens { step, address });
    }

    /// On another instance: the daemon of a step has ended here, or could not be started.
    pub fn step_gone(&self, step: u32, failed: Option<String>) {
        let _ = self.outbox.try_send(Line::StepGone { step, failed });
    }

    /// On another instance: a daemon was killed here.
    pub fn tell_primary(&self, news: RemoteLost) {
        let _ = self.outbox.try_send(Line::DaemonLost { host: news.host, detail: news.detail });
    }
}

/// The MAC with which an instance proves that it knows the token.
fn proof(token: &str, nonce: &str, instance: u32) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("muster gang {nonce} {instance}").as_bytes());
    mac
}

/// The same of an instance that brings a starter.
fn starter_proof(token: &str, nonce: &str, instance: u32, address: &str) -> Hmac<Sha256> {
    proof(token, &format!("starter {address} {nonce}"), instance)
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Reads one line; an error for the end of the stream, for too much without a line's end, and for no valid line.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Line> {
    use std::io::{Error, ErrorKind};
    let mut text = String::new();
    from.take(LINE_BYTES_MAX).read_line(&mut text).await?;
    if !text.ends_with('\n') {
        return Err(Error::from(ErrorKind::UnexpectedEof));
    }
    serde_json::from_str(&text).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

async fn write_line(to: &mut (impl AsyncWrite + Unpin), line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    to.write_all(text.as_bytes()).await
}

/// Passes news on; that nobody listens any more means that the attempt has ended.
async fn tell(events: &mpsc::Sender<Event>, news: News) {
    let _ = events.send(Event::Gang(news)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_depends_on_token_nonce_and_instance() {
        let right = proof("token", "n", 1).finalize().into_bytes();
        for (token, nonce, instance) in [("tokem", "n", 1), ("token", "m", 1), ("token", "n", 2)] {
            assert!(proof(token, nonce, instance).verify_slice(&right).is_err());
        }
        assert!(proof("token", "n", 1).verify_slice(&right).is_ok());
    }

    #[test]
    fn hex_goes_round_and_refuses_the_rest() {
        assert_eq!(from_hex(&to_hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        for wrong in ["0", "zz", "é1"] {
            assert_eq!(from_hex(wrong), None);
        }
    }

    /// Both sides over real connections on the loopback.
    mod both {
        use super::super::super::steps::{Desk, News as StarterNews, Socket};
        use super::*;
        use muster_step::words::{Answer, Ask, StepEnd, StepRequest};
        use std::net::Ipv4Addr;
        use tokio::task::LocalSet;

        struct Gang {
            port: u16,
            primary: mpsc::Receiver<Event>,
            handle: Handle,
        }

        fn gang() -> Gang {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            let (events, primary) = mpsc::channel(8);
            let (ended, watch_ended) = watch::channel(false);
            let hosts = vec!["node01".to_owned(), "node02".to_owned()];
            let (answers_to, answers) = watch::channel(Answers::default());
            let (orders, receivers) = hosts.iter().map(|_| mpsc::channel(8)).unzip();
            let ends = primary::Ends { ended: watch_ended, answers: answers_to, orders: receivers };
            let desk = Desk::new(events.clone());
            primary::begin(listener, "token".into(), hosts, events, ends, desk).unwrap();
            Gang { port, primary, handle: Handle { ended, answers, outbox: mpsc::channel(1).0, orders } }
        }

        fn join(port: u16, token: &str) -> (mpsc::Sender<Line>, mpsc::Receiver<Event>) {
            let (events, inbox) = mpsc::channel(8);
            let (outbox, messages) = mpsc::channel(8);
            secondary::begin(secondary::Way { to: way(port, token), events, messages });
            (outbox, inbox)
        }

        fn way(port: u16, token: &str) -> ToPrimary {
            ToPrimary {
                address: ("127.0.0.1".into(), port),
                host: "node01".into(),
                instance: 1,
                own_address: "127.0.0.1".into(),
                token: token.into(),
            }
        }

        async fn next(inbox: &mut mpsc::Receiver<Event>) -> News {
            let event = tokio::time::timeout(GANG_TIMEOUT * 2, inbox.recv()).await.unwrap().unwrap();
            match event {
                Event::Gang(news) => news,
                other => panic!("{other:?}"),
            }
        }

        #[tokio::test]
        async fn news_goes_up_and_the_end_goes_down() {
            LocalSet::new()
                .run_until(async {
                    let mut gang = gang();
                    let (outbox, mut inbox) = join(gang.port, "token");
                    outbox
                        .send(Line::DaemonLost {
                            host: "node02".into(),
                            detail: "was killed by signal 9".into(),
                        })
                        .await
                        .unwrap();
                    match next(&mut gang.primary).await {
                        News::DaemonLost(lost) => assert_eq!(lost.host, "node02"),
                        other => panic!("{other:?}"),
                    }
                    gang.handle.end();
                    assert!(matches!(next(&mut inbox).await, News::PrimaryEnded));
                    outbox.send(Line::Ended { out_of_memory: true }).await.unwrap();
                    assert!(gang.handle.were_out_of_memory(1).await);
                })
                .await;
        }

        #[tokio::test]
        async fn a_steps_order_goes_down_even_before_its_instance_has_joined_and_its_end_goes_up() {
            LocalSet::new()
                .run_until(async {
                    let mut gang = gang();
                    let order = StepOrder {
                        step: 3,
                        nonce: "n".into(),
                        starter: ("node01".into(), 4000),
                        listens: true,
                    };
                    assert!(gang.handle.start_step(1, order.clone()));
                    assert!(!gang.handle.start_step(2, order.clone()));
                    let (outbox, mut inbox) = join(gang.port, "token");
                    match next(&mut inbox).await {
                        News::StartStep(told) => assert_eq!(told, order),
                        other => panic!("{other:?}"),
                    }
                    let address = ("node02".to_owned(), 4001);
                    outbox.send(Line::StepListens { step: 3, address: address.clone() }).await.unwrap();
                    match next(&mut gang.primary).await {
                        News::StepListens { step: 3, instance: 1, address: told } => {
                            assert_eq!(told, address)
                        }
                        other => panic!("{other:?}"),
                    }
                    gang.handle.end_step(1, 3);
                    assert!(matches!(next(&mut inbox).await, News::EndStep { step: 3 }));
                    outbox.send(Line::StepGone { step: 3, failed: Some("why".into()) }).await.unwrap();
                    match next(&mut gang.primary).await {
                        News::StepGone { step: 3, instance: 1, failed } => {
                            assert_eq!(failed.as_deref(), Some("why"))
                        }
                        other => panic!("{other:?}"),
                    }
                })
                .await;
        }

        /// What starters say first.
        fn ask() -> Ask {
            let request = StepRequest::default();
            Ask::Create { request, port: 4000, name: "a".into(), tree_width: 32 }
        }

        #[tokio::test]
        async fn a_starter_of_another_node_speaks_with_the_primary() {
            LocalSet::new()
                .run_until(async {
                    let mut gang = gang();
                    let folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("steps.sock");
                    let socket = Socket::bind(&path).unwrap();
                    let allocation = Answer::Allocation {
                        job: 7,
                        address: "127.0.0.1".into(),
                        supervisor_pid: 1,
                        hosts: vec!["node01".into()],
                    };
                    let own = nix::unistd::getuid().as_raw();
                    let desk = Desk::new(mpsc::channel(1).0);
                    socket.listen(own, allocation.clone(), desk, Some(way(gang.port, "token")));
                    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
                    let (from, mut to) = stream.into_split();
                    let mut from = tokio::io::BufReader::new(from);
                    let mut hear = async || {
                        let mut line = String::new();
                        from.read_line(&mut line).await.unwrap();
                        serde_json::from_str::<Answer>(&line).unwrap()
                    };
                    assert_eq!(hear().await, allocation);
                    let mut say = async |ask: &Ask| {
                        let text = format!("{}\n", serde_json::to_string(ask).unwrap());
                        to.write_all(text.as_bytes()).await.unwrap();
                    };
                    say(&ask()).await;
                    let (starter, answers) = match gang.primary.recv().await.unwrap() {
                        Event::Starter(StarterNews::Asked { starter, address, ask: told, answers }) => {
                            assert_eq!((address.as_deref(), told), (Some("127.0.0.1"), ask()));
                            (starter, answers)
                        }
                        other => panic!("{other:?}"),
                    };
                    let attach = Answer::Attach { hosts: "n".into(), port: 1, key: "secret".into() };
                    for answer in [Answer::Waiting, attach] {
                        answers.send(answer.clone()).unwrap();
                        assert_eq!(hear().await, answer);
                    }
                    say(&Ask::Ended(StepEnd::default())).await;
                    assert!(matches!(
                        gang.primary.recv().await,
                        Some(Event::Starter(StarterNews::Ended { starter: ended, .. })) if ended == starter
                    ));
                    drop(to);
                    assert!(matches!(
                        gang.primary.recv().await,
                        Some(Event::Starter(StarterNews::Left { starter: left })) if left == starter
                    ));
                })
                .await;
        }

        #[tokio::test]
        async fn starters_of_other_nodes_have_a_limit_and_must_know_the_token() {
            LocalSet::new()
                .run_until(async {
                    let gang = gang();
                    assert!(way(gang.port, "guess").connect_for_starter().await.is_err());
                    let mut others = Vec::new();
                    while let Some(other) = way(gang.port, "token").connect_for_starter().await.unwrap() {
                        others.push(other);
                        assert!(others.len() < 1 << 20, "there is no limit");
                    }
                    assert!(others.len() >= 16);
                    // Who leaves makes room.
                    others.pop();
                    while way(gang.port, "token").connect_for_starter().await.unwrap().is_none() {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
        }

        #[tokio::test]
        async fn who_does_not_know_the_token_is_lost_on_both_sides() {
            LocalSet::new()
                .run_until(async {
                    let mut gang = gang();
                    let (_outbox, mut inbox) = join(gang.port, "guess");
                    match next(&mut gang.primary).await {
                        News::LostContact { with } => assert_eq!(with, "node02"),
                        other => panic!("{other:?}"),
                    }
                    match next(&mut inbox).await {
                        News::LostContact { with } => assert_eq!(with, "the primary on node01"),
                        other => panic!("{other:?}"),
                    }
                })
                .await;
        }

        #[tokio::test]
        async fn who_leaves_is_not_missed_and_who_falls_silent_is() {
            LocalSet::new()
                .run_until(async {
                    let mut gang = gang();
                    let (outbox, _inbox) = join(gang.port, "token");
                    outbox.send(Line::Leave).await.unwrap();
                    let waited = tokio::time::timeout(GANG_TIMEOUT + PING_EVERY, gang.primary.recv()).await;
                    assert!(waited.is_err(), "{waited:?}");
                })
                .await;
        }
    }
}
