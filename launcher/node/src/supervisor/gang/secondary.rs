//! The other instances' side: a connection to the primary that is made again when it breaks.

use std::time::Duration;

use hmac::Mac;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::super::Event;
use super::{GANG_TIMEOUT, HANDSHAKE_WITHIN, Line, News, PING_EVERY};
use super::{proof, read_line, tell, to_hex, write_line};

/// The pause before a connection is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

type Reader = BufReader<OwnedReadHalf>;

/// Everything about the way to the primary.
pub(super) struct Way {
    /// Address and port.
    pub address: (String, u16),
    /// The primary's node, for messages.
    pub host: String,
    /// The own instance.
    pub instance: u32,
    pub token: String,
    pub events: mpsc::Sender<Event>,
    /// What is to be told the primary.
    pub messages: mpsc::Receiver<Line>,
}

/// Starts the task.
pub(super) fn begin(mut way: Way) {
    tokio::spawn(async move {
        let mut heard = Instant::now();
        loop {
            let over = timeout(GANG_TIMEOUT.saturating_sub(heard.elapsed()), way.connect()).await;
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
                        let with = format!("the primary on {}", way.host);
                        return tell(&way.events, News::LostContact { with }).await;
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    });
}

impl Way {
    async fn connect(&self) -> std::io::Result<(Reader, OwnedWriteHalf)> {
        let connection = TcpStream::connect((self.address.0.as_str(), self.address.1)).await?;
        connection.set_nodelay(true)?;
        let (reader, mut writer) = connection.into_split();
        let mut reader = BufReader::new(reader);
        timeout(HANDSHAKE_WITHIN, self.greet(&mut reader, &mut writer)).await??;
        Ok((reader, writer))
    }

    async fn greet(&self, from: &mut Reader, to: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let unexpected = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let Line::Challenge { nonce } = read_line(from).await? else { return Err(unexpected()) };
        let proof = to_hex(&proof(&self.token, &nonce, self.instance).finalize().into_bytes());
        write_line(to, &Line::Join { instance: self.instance, proof }).await?;
        match read_line(from).await? {
            Line::Welcome => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn converse(
        &mut self,
        (mut from, mut to): (Reader, OwnedWriteHalf),
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
