//! Connections of nodes, accepted and made secret here rather than by the server above them: thousands may come at once.
//!
//! Of those from one address, so many handshakes are under way at once, and no more: each that is begun ends before whoever it is with
//! has lost patience, and one host that wants to be a nuisance is one to itself alone. Who has said nothing yet is not counted. A
//! connection that cannot be had, as there is no descriptor left, ends nothing: others are tried a little later.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::ServerError;
use crate::tls::Authority;

/// Handshakes with one address that are under way at once: what one core does in a sixth of a second.
const PER_ADDRESS_MAX: usize = 256;
/// Connections that have shown no certificate yet. Others wait in the kernel's queue, where they cost nothing.
const PENDING_MAX: usize = 8192;
/// Addresses that may be known before those without a connection are forgotten.
const ADDRESSES_MAX: usize = 1024;
/// How long a node may take to show its certificate.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may wait for its turn. Agents take three seconds for all of it: with one that is likely to be gone, no
/// handshake is begun.
const TURN_WITHIN: Duration = Duration::from_secs(2);
/// Connections that may wait to be accepted, as far as the kernel lets them (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// How long it is waited after a connection could not be accepted.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A connection of somebody who has shown a certificate of the authority.
pub(crate) type Connection = TlsStream<TcpStream>;

/// Listens for nodes, and accepts them for as long as the stream is kept.
///
/// # Errors
/// [`ServerError::Listen`] if the address cannot be had, [`ServerError::NodeTls`] if the authority's certificates are of no use.
pub(crate) fn listen(
    address: SocketAddr,
    authority: &Authority,
) -> Result<(SocketAddr, ReceiverStream<io::Result<Connection>>), ServerError> {
    let acceptor = acceptor(authority)?;
    let failed = |source| ServerError::Listen { address, source };
    let listener = bind(address).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let (connections, stream) = mpsc::channel(1);
    tokio::spawn(accept(listener, acceptor, connections));
    Ok((local, ReceiverStream::new(stream)))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A controller that is started again finds connections of the one before it, which are over.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn acceptor(authority: &Authority) -> Result<TlsAcceptor, ServerError> {
    let bad = |error: rustls_pki_types::pem::Error| ServerError::NodeTls { source: Box::new(error) };
    let controller = authority.controller();
    let ca = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).map_err(bad)?;
    let certificate = CertificateDer::from_pem_slice(controller.cert_pem.as_bytes()).map_err(bad)?;
    let key = PrivateKeyDer::from_pem_slice(controller.key_pem.as_bytes()).map_err(bad)?;
    let configure = || -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A node has one connection, and none of before that it would take up again.
        config.send_tls13_tickets = 0;
        Ok(config)
    };
    let config = configure().map_err(|source| ServerError::NodeTls { source })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The turns of each address.
#[derive(Default)]
struct Turns(HashMap<IpAddr, Arc<Semaphore>>);

impl Turns {
    fn of(&mut self, address: IpAddr) -> Arc<Semaphore> {
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        Arc::clone(self.0.entry(address).or_insert_with(|| Arc::new(Semaphore::new(PER_ADDRESS_MAX))))
    }
}

/// Accepts connections until nobody wants them any more.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: mpsc::Sender<io::Result<Connection>>) {
    let places = Arc::new(Semaphore::new(PENDING_MAX));
    let mut turns = Turns::default();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            Some((place.ok()?, listener.accept().await))
        };
        let accepted = tokio::select! {
            next = next => next,
            () = to.closed() => None,
        };
        let (place, stream, peer) = match accepted {
            None => return,
            Some((place, Ok((stream, peer)))) => (place, stream, peer),
            Some((_, Err(error))) => {
                tracing::warn!(%error, "a node's connection cannot be accepted");
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        let (acceptor, to, turns) = (acceptor.clone(), to.clone(), turns.of(peer.ip()));
        tokio::spawn(async move {
            let shown = timeout(HANDSHAKE_WITHIN, show(stream, &acceptor, &turns)).await;
            drop(place);
            match shown {
                Ok(Ok(connection)) => drop(to.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%peer, "a handshake took too long"),
            }
        });
    }
}

/// The handshake, once the other side has begun it and its address has a turn.
async fn show(stream: TcpStream, acceptor: &TlsAcceptor, turns: &Semaphore) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    // Unlike `readable`, which may say so of a connection that nothing has come over.
    if stream.peek(&mut [0]).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let _turn = timeout(TURN_WITHIN, turns.acquire()).await?.map_err(io::Error::other)?;
    acceptor.accept(stream).await
}
