//! The way to the controller: one stream over mutual TLS that is made again whenever it breaks.

use std::time::Duration;

use muster_wire::v1::node_controller_client::NodeControllerClient;
use muster_wire::v1::{FromNode, ToNode, to_node};
use muster_wire::{Kept, MESSAGE_BYTES_MAX};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::OUTBOX_MAX;
use crate::config::{AgentConfig, AgentDir};
use crate::error::{NodeError, Result};

/// The pause before the first new try, and the longest one. Each failure doubles the pause.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long a connection, and the start of the stream, may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How often the other side is asked whether it lives, and how long it may take to answer. A link that was cut
/// without a word is noticed after the sum of both.
const ALIVE_EVERY: Duration = Duration::from_secs(3);
const ALIVE_WITHIN: Duration = Duration::from_secs(3);

/// What happens to the way to the controller.
#[derive(Debug)]
pub enum LinkEvent {
    /// A session begins. The first message in the outbox must be the hello.
    Up {
        /// Takes messages to the controller; dropping it ends the session.
        outbox: mpsc::Sender<FromNode>,
        /// The controller's address.
        controller: String,
        /// The address from which this node reaches the controller.
        local_address: String,
    },
    /// The controller said something.
    Heard(Box<ToNode>),
    /// The session ended, or a try to make one failed.
    Down {
        /// Why, for the log.
        reason: String,
    },
}

/// Where the controllers are and how they are spoken with.
#[derive(Debug)]
pub struct Link {
    addresses: Vec<String>,
    tls: ClientTlsConfig,
    /// The highest term in which a controller said that it leads. One with a lower term was replaced and does not know
    /// yet: it was frozen or cut off. This need not outlive the agent: such a controller finds by its own clock that its
    /// lease is over before it says anything. After a database was set up anew, its agents need to be started again.
    term: u64,
}

impl Link {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if one cannot be read, [`NodeError::Transport`] if one is none, and
    /// [`NodeError::NoController`] if the settings name no controller.
    pub fn new(dir: &AgentDir, config: &AgentConfig) -> Result<Self> {
        if config.controller.is_empty() {
            return Err(NodeError::NoController { path: dir.path().join("agent.json") });
        }
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(dir.read(&config.ca)?))
            .identity(Identity::from_pem(dir.read(&config.cert)?, dir.read(&config.key)?))
            .domain_name(&config.controller_name);
        // Certificates that cannot be used shall stop the agent now, and not each of its connections later.
        Endpoint::from_static("https://controller").tls_config(tls.clone()).map_err(NodeError::Transport)?;
        Ok(Self { addresses: config.controller.clone(), tls, term: 0 })
    }

    /// Keeps a session for ever; ends when nobody listens to the events any more.
    pub async fn keep(mut self, events: mpsc::Sender<LinkEvent>) {
        let mut pause = AGAIN_AFTER.0;
        // Of several controllers one leads, and the others refuse: all are tried before a pause.
        let pause_max = AGAIN_AFTER.1 / u32::try_from(self.addresses.len()).unwrap_or(u32::MAX).max(1);
        let addresses = self.addresses.clone();
        for (place, address) in addresses.iter().enumerate().cycle() {
            let mut was_up = false;
            let reason = match self.session(address, &events, &mut was_up).await {
                Ok(()) => format!("{address} ended the session"),
                Err(error) => format!("{address}: {}", error.sentence()),
            };
            if events.send(LinkEvent::Down { reason }).await.is_err() {
                return;
            }
            if was_up {
                pause = AGAIN_AFTER.0;
            }
            if place + 1 == addresses.len() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(pause_max);
            }
        }
    }

    /// Refuses a controller that was replaced by one that this node has heard.
    fn check_term(&mut self, message: &ToNode) -> Result<()> {
        let Some(to_node::Body::Welcome(welcome)) = &message.body else { return Ok(()) };
        if welcome.term < self.term {
            return Err(NodeError::Replaced { term: welcome.term, known: self.term });
        }
        self.term = welcome.term;
        Ok(())
    }

    /// Where the controllers are.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Connects to a controller.
    ///
    /// # Errors
    ///
    /// [`NodeError::Transport`] or [`NodeError::System`] if it is not there, or not one.
    pub async fn connect(&self, address: &str) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(self.tls.clone()))
            .map_err(NodeError::Transport)?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        match tokio::time::timeout(CONNECT_WITHIN, endpoint.connect()).await {
            Ok(channel) => channel.map_err(NodeError::Transport),
            Err(late) => Err(NodeError::system("connect to the controller")(late)),
        }
    }

    async fn session(
        &mut self,
        address: &str,
        events: &mpsc::Sender<LinkEvent>,
        was_up: &mut bool,
    ) -> Result<()> {
        let channel = self.connect(address).await?;
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let local_address = local_address_towards(address);
        let up = LinkEvent::Up { outbox, controller: address.to_owned(), local_address };
        if events.send(up).await.is_err() {
            return Ok(());
        }
        let mut client = NodeControllerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let answer =
            tokio::time::timeout(CONNECT_WITHIN, client.session(ReceiverStream::new(messages))).await;
        let mut stream = match answer {
            Ok(answer) => answer.map_err(|status| NodeError::Session(Box::new(status)))?.into_inner(),
            Err(late) => return Err(NodeError::system("start the session")(late)),
        };
        let mut kept = Kept::default();
        while let Some(message) = stream.next().await {
            let mut message = message.map_err(|status| NodeError::Session(Box::new(status)))?;
            self.check_term(&message)?;
            if let Some(to_node::Body::Prepare(prepare)) = &mut message.body {
                kept.complete(prepare).map_err(NodeError::NothingKept)?;
            }
            *was_up = true;
            if events.send(LinkEvent::Heard(Box::new(message))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The address that this node has towards the controller, as the routes say; nothing is sent for it.
fn local_address_towards(controller: &str) -> String {
    let ask = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(controller)?;
        socket.local_addr()
    };
    ask().map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string())
}
