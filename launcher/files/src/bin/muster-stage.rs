//! Moves the files of one task. A supervisor starts it as the task's user, with a socket for input and output: one
//! order comes, one answer goes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

use muster_files::order;
use muster_wire::MESSAGE_BYTES_MAX;
use muster_wire::v1::StageOrders;
use prost::Message;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "muster-stage: {error}; it is started by the node's supervisor, with an order on standard input"
            );
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::io::Result<()> {
    let orders = read_orders()?;
    // The first and only TLS of this process; without it no connection could be made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let texts =
        std::env::vars_os().map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let environment: BTreeMap<String, String> = texts.flatten().collect();
    let done = runtime.block_on(order::carry_out(orders, environment)).encode_to_vec();
    let length = u32::try_from(done.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&done)?;
    out.flush()
}

/// Reads the order: a length of four bytes, big-endian, then the message.
fn read_orders() -> std::io::Result<StageOrders> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other("the order is too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    StageOrders::decode(bytes.as_slice()).map_err(std::io::Error::other)
}
