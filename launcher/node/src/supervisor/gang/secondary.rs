//! The other instances' side: a connection to the primary that is made again when it breaks.

use std::time::Duration;

use hmac::Mac;
use muster_wire::v1;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::{Event, Supervisor};
use super::{GANG_TIMEOUT, HANDSHAKE_WITHIN, Line, News, PING_EVERY};
use super::{proof, read_line, starter_proof, tell, to_hex, write_line};
use crate::error::{NodeError, Result};

/// How long the way to the primary may take that a starter waits for.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The pause before a connection is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// One side of a connection to the primary.
pub(in crate::supervisor) type Reader = BufReader<OwnedReadHalf>;

/// The other side.
pub(in crate::supervisor) type Writer = OwnedWriteHalf;

/// How the primary is reached from another instance.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct ToPrimary {
    /// Address and port.
    pub address: (String, u16),
    /// The primary's node, for messages.
    pub host: String,
    /// The own instance.
    pub instance: u32,
    /// The own node's address.
    pub own_address: String,
    /// The gang's secret.
    pub token: String,
}

/// A membership.
pub(super) struct Way {
    /// To whom.
    pub to: ToPrimary,
    pub events: mpsc::Sender<Event>,
    /// What is to be told the primary.
    pub messages: mpsc::Receiver<Line>,
}

/// Starts the task.
pub(super) fn begin(mut way: Way) {
    tokio::task::spawn_local(async move {
        let mut heard = Instant::now();
        loop {
            let over = timeout(GANG_TIMEOUT.saturating_sub(heard.elapsed()), way.to.join()).await;
            let outcome = match over {
                Ok(Ok(connection)) => way.converse(connection, &mut heard).await,
                Ok(Err(error)) => Err(error),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            };
            match outcome {
                Ok(()) => return,
                Err(error) => {
                    tracing::info!(%error, "no connection to the primary");
                    if heard.elapsed() >= GANG_TIMEOUT {
                        let with = format!("the primary on {}", way.to.host);
                        return tell(&way.events, News::LostContact { with }).await;
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    });
}

impl ToPrimary {
    /// The way of this instance.
    ///
    /// # Errors
    ///
    /// [`NodeError::Incomplete`] if the go does not say where the primary is.
    pub fn of(supervisor: &Supervisor, go: &v1::Go) -> Result<Self> {
        let primary = go.peers.first().ok_or(NodeError::Incomplete { part: "primary's endpoint" })?;
        let port = u16::try_from(primary.gang_port).ok().filter(|port| *port != 0);
        let port = port.ok_or(NodeError::Incomplete { part: "primary's membership port" })?;
        Ok(Self {
            address: (primary.address.clone(), port),
            host: primary.host.clone(),
            instance: supervisor.prepare.instance,
            own_address: supervisor.assignment.address.clone(),
            token: supervisor.prepare.gang_token.clone(),
        })
    }

    /// Joins the gang.
    async fn join(&self) -> std::io::Result<(Reader, Writer)> {
        let instance = self.instance;
        let join = |nonce: &str| {
            let proof = to_hex(&proof(&self.token, nonce, instance).finalize().into_bytes());
            Line::Join { instance, proof }
        };
        self.connect(join).await?.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }

    /// Brings the primary a starter of this node; `None` if it hears as many as it can.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn connect_for_starter(&self) -> std::io::Result<Option<(Reader, Writer)>> {
        let (instance, address) = (self.instance, &self.own_address);
        let starter = |nonce: &str| {
            let proof = starter_proof(&self.token, nonce, instance, address).finalize().into_bytes();
            Line::Starter { instance, address: address.clone(), proof: to_hex(&proof) }
        };
        timeout(CONNECT_WITHIN, self.connect(starter)).await?
    }

    async fn connect(&self, opening: impl FnOnce(&str) -> Line) -> std::io::Result<Option<(Reader, Writer)>> {
        let connection = TcpStream::connect((self.address.0.as_str(), self.address.1)).await?;
        connection.set_nodelay(true)?;
        let (reader, mut writer) = connection.into_split();
        let mut reader = BufReader::new(reader);
        let welcome = timeout(HANDSHAKE_WITHIN, greet(&mut reader, &mut writer, opening)).await??;
        Ok(welcome.then_some((reader, writer)))
    }
}

/// Answers the challenge. Says whether the primary takes what comes.
async fn greet(
    from: &mut Reader,
    to: &mut Writer,
    opening: impl FnOnce(&str) -> Line,
) -> std::io::Result<bool> {
    let unexpected = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let Line::Challenge { nonce } = read_line(from).await? else { return Err(unexpected()) };
    write_line(to, &opening(&nonce)).await?;
    match read_line(from).await? {
        Line::Welcome => Ok(true),
        Line::Busy => Ok(false),
        _ => Err(unexpected()),
    }
}

impl Way {
    async fn converse(
        &mut self,
        (mut from, mut to): (Reader, Writer),
        heard: &mut Instant,
    ) -> std::io::Result<()> {
        *heard = Instant::now();
        let (messages, events) = (&mut self.messages, &self.events);
        let read = async {
            loop {
                // A line takes the primary a second; silence for longer is the cut that nobody else notices.
                match timeout(GANG_TIMEOUT, read_line(&mut from)).await?? {
                    Line::End => tell(events, News::PrimaryEnded).await,
                    Line::EndStep { step } => tell(events, News::EndStep { step }).await,
                    Line::StartStep(order) => tell(events, News::StartStep(order)).await,
                    _ => *heard = Instant::now(),
                }
            }
        };
        let write = async {
            loop {
                let line = tokio::select! {
                    () = tokio::time::sleep(PING_EVERY) => Line::Ping,
                    message = messages.recv() => match message {
                        Some(line) => line,
                        // The supervisor is at its end.
                        None => return Ok(()),
                    },
                };
                write_line(&mut to, &line).await?;
                // After these the primary expects nothing more from here.
                if matches!(line, Line::Leave | Line::Ended { .. }) {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            done = read => done,
            done = write => done,
        }
    }
}
