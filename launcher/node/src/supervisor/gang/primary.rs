//! The primary's side: it listens, and misses who falls silent.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use hmac::Mac;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::super::Event;
use super::super::events::RemoteLost;
use super::super::steps::Desk;
use super::{Answers, GANG_TIMEOUT, HANDSHAKE_WITHIN, Line, News, PING_EVERY};
use super::{Reader, Writer, from_hex, proof, read_line, starter_proof, tell, to_hex, write_line};
use crate::error::{NodeError, Result};

/// The primary's ends of what its handle holds.
pub(super) struct Ends {
    /// Whether its part has ended.
    pub ended: watch::Receiver<bool>,
    /// What the others answer to that.
    pub answers: watch::Sender<Answers>,
    /// What each instance is to be told.
    pub orders: Vec<mpsc::Receiver<Line>>,
}

/// What one instance is to be told; the connection that it has at present takes from here.
type Orders = Arc<tokio::sync::Mutex<mpsc::Receiver<Line>>>;

/// When each instance was heard last; `None` for those that are not missed: the primary, and who has left.
type Heard = Arc<Mutex<Vec<Option<Instant>>>>;

#[derive(Clone)]
struct Gang {
    token: Arc<str>,
    heard: Heard,
    events: mpsc::Sender<Event>,
    ended: watch::Receiver<bool>,
    answers: Arc<watch::Sender<Answers>>,
    orders: Arc<[Orders]>,
    desk: Desk,
}

/// Who has proved that it knows the token.
enum Came {
    /// An instance, by its number.
    Instance(usize),
    /// A starter of another node, which listens at this address.
    Starter { address: String, room: OwnedSemaphorePermit },
    /// One for which there is no room now.
    StarterTooMany,
}

/// Starts the tasks of the primary. `hosts` are the instances' nodes, in order.
pub(super) fn begin(
    listener: TcpListener,
    token: String,
    hosts: Vec<String>,
    events: mpsc::Sender<Event>,
    ends: Ends,
    desk: Desk,
) -> Result<()> {
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(NodeError::system("use the membership port"))?;
    let now = Instant::now();
    let heard = (0..hosts.len()).map(|instance| (instance > 0).then_some(now)).collect();
    let gang = Gang {
        token: token.into(),
        heard: Arc::new(Mutex::new(heard)),
        events,
        ended: ends.ended,
        answers: ends.answers.into(),
        orders: ends.orders.into_iter().map(|orders| Arc::new(tokio::sync::Mutex::new(orders))).collect(),
        desk,
    };
    tokio::task::spawn_local(miss(gang.clone(), hosts));
    tokio::task::spawn_local(async move {
        loop {
            if let Ok((connection, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(gang.clone(), connection));
            }
        }
    });
    Ok(())
}

/// Waits until some instance was silent for too long.
async fn miss(gang: Gang, hosts: Vec<String>) {
    loop {
        let oldest = {
            let heard = gang.heard.lock().expect("nobody panics with the lock");
            let present = heard.iter().enumerate().filter_map(|(instance, at)| Some((((*at)?), instance)));
            present.min()
        };
        let Some((at, instance)) = oldest else { return };
        if at.elapsed() >= GANG_TIMEOUT {
            let with = hosts.get(instance).cloned().unwrap_or_default();
            return tell(&gang.events, News::LostContact { with }).await;
        }
        tokio::time::sleep_until(at + GANG_TIMEOUT).await;
    }
}

async fn serve(gang: Gang, connection: TcpStream) {
    let peer = connection.peer_addr().ok();
    if let Err(error) = converse(gang, connection).await {
        tracing::info!(?peer, %error, "a membership connection ended");
    }
}

async fn converse(gang: Gang, connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let (from, mut to) = connection.into_split();
    let mut from = BufReader::new(from);
    match timeout(HANDSHAKE_WITHIN, greet(&gang, &mut from, &mut to)).await?? {
        Came::Instance(instance) => converse_with(gang, instance, from, to).await,
        Came::Starter { address, room } => {
            gang.desk.hear_another(address, &gang.token, from, to).await;
            drop(room);
            Ok(())
        }
        Came::StarterTooMany => Ok(()),
    }
}

async fn converse_with(
    mut gang: Gang,
    instance: usize,
    mut from: Reader,
    mut to: Writer,
) -> std::io::Result<()> {
    let orders = gang.orders[instance].clone();
    let write = async {
        loop {
            let line = if *gang.ended.borrow_and_update() { Line::End } else { Line::Ping };
            write_line(&mut to, &line).await?;
            if line == Line::End {
                // The connection stays open until the process ends, so that the line surely arrives.
                std::future::pending::<()>().await;
            }
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => {}
                changed = gang.ended.changed() => if changed.is_err() { return Ok(()) },
                Some(order) = next_order(&orders) => write_line(&mut to, &order).await?,
            }
        }
    };
    let read = async {
        loop {
            let line = read_line(&mut from).await?;
            let left = line == Line::Leave;
            gang.heard.lock().expect("nobody panics with the lock")[instance] = (!left).then(Instant::now);
            match line {
                Line::DaemonLost { host, detail } => {
                    tell(&gang.events, News::DaemonLost(RemoteLost { host, detail })).await;
                }
                Line::Ended { out_of_memory } => gang.answers.send_modify(|answers| {
                    answers.count += 1;
                    answers.out_of_memory |= out_of_memory;
                }),
                Line::StepListens { step, address } => {
                    let instance = instance as u32;
                    tell(&gang.events, News::StepListens { step, instance, address }).await;
                }
                Line::StepGone { step, failed } => {
                    let instance = instance as u32;
                    tell(&gang.events, News::StepGone { step, instance, failed }).await;
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        done = write => done,
        done = read => done,
    }
}

/// The next order for an instance. While an older connection of the same instance waits for it, this waits behind.
async fn next_order(orders: &Orders) -> Option<Line> {
    orders.lock().await.recv().await
}

/// Learns who is at the other end, and that it knows the token.
async fn greet(
    gang: &Gang,
    from: &mut (impl tokio::io::AsyncBufRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> std::io::Result<Came> {
    use std::io::{Error, ErrorKind};
    let refused = |text| Error::new(ErrorKind::PermissionDenied, text);
    let mut random = [0u8; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    let nonce = to_hex(&random);
    write_line(to, &Line::Challenge { nonce: nonce.clone() }).await?;
    let line = read_line(from).await?;
    let (given, wanted, instance) = match &line {
        Line::Join { instance, proof: given } => (given, proof(&gang.token, &nonce, *instance), *instance),
        Line::Starter { instance, address, proof: given } => {
            (given, starter_proof(&gang.token, &nonce, *instance, address), *instance)
        }
        _ => return Err(refused("the first line is no join")),
    };
    let given = from_hex(given).unwrap_or_default();
    // Compared in constant time.
    if wanted.verify_slice(&given).is_err() {
        return Err(refused("the other side does not know the attempt's token"));
    }
    let index = instance as usize;
    let members = gang.heard.lock().expect("nobody panics with the lock").len();
    if index == 0 || index >= members {
        return Err(refused("there is no such instance"));
    }
    let came = match line {
        Line::Starter { address, .. } => match gang.desk.room_for_another() {
            Some(room) => Came::Starter { address, room },
            None => Came::StarterTooMany,
        },
        _ => Came::Instance(index),
    };
    let answer = if matches!(came, Came::StarterTooMany) { Line::Busy } else { Line::Welcome };
    write_line(to, &answer).await?;
    Ok(came)
}
