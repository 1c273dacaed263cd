//! The program that makes a node what a pool or a task of the batch service wants it to be: it unpacks packages, mounts
//! file systems and brings images of containers.
//!
//! It is a process of its own (`muster-node deploy`), started by the agent or a supervisor with a socket for input and output: one
//! [`Setup`] comes, one [`SetupDone`] goes. It ends when the other end of the socket does.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use muster_wire::v1::{Setup, SetupDone, SetupError};
use tokio::net::UnixStream;

use crate::config::AgentDir;
use crate::error::{NodeError, Result};
use crate::{containers, frame, mounts, packages};

/// Starts the program for an agent's folder; the order is to be written to the socket, and the answer read from it. Without
/// `with_mounts` it leaves file systems as they are.
///
/// # Errors
///
/// [`NodeError::System`] if there can be no process.
pub fn start(dir: &Path, with_mounts: bool) -> Result<(UnixStream, Child)> {
    let action = "start the program that sets the node up";
    let (near, far) = StdStream::pair().map_err(NodeError::system(action))?;
    let output = far.try_clone().map_err(NodeError::system(action))?;
    // The very program that runs here, even if its file was replaced or removed meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg("deploy").arg("--dir").arg(dir).current_dir("/").env_clear();
    if with_mounts {
        command.arg("--mounts");
    }
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::from(OwnedFd::from(far))).stdout(Stdio::from(OwnedFd::from(output)));
    let child = command.spawn().map_err(NodeError::system(action))?;
    near.set_nonblocking(true).map_err(NodeError::system(action))?;
    let near = UnixStream::from_std(near).map_err(NodeError::system(action))?;
    Ok((near, child))
}

/// Gives the program its order, and waits for the answer. Whoever no longer waits ends the work.
///
/// # Errors
///
/// [`NodeError::System`] if the program was killed.
pub async fn ask(mut socket: UnixStream, setup: &Setup) -> Result<SetupDone> {
    let asked = async {
        frame::write(&mut socket, setup).await?;
        frame::read::<SetupDone>(&mut socket).await
    };
    match asked.await.map_err(NodeError::system("speak with the program that sets the node up"))? {
        Some(done) => Ok(done),
        None => Err(NodeError::system("set the node up")(std::io::Error::other("the program was killed"))),
    }
}

/// What `muster-node deploy` does.
///
/// # Errors
///
/// [`NodeError`] if it is started by hand.
pub fn run(dir: &AgentDir, with_mounts: bool) -> Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::system("start the runtime"))?;
    let action = "take an order from standard input";
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length).map_err(NodeError::system(action))?;
    let length = u32::from_be_bytes(length) as usize;
    if length > frame::FRAME_BYTES_MAX {
        return Err(NodeError::system(action)(std::io::Error::other("the order is too long")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(NodeError::system(action))?;
    drop(input);
    let setup: Setup = prost::Message::decode(bytes.as_slice())
        .map_err(|error| NodeError::system(action)(std::io::Error::other(error)))?;
    // Whoever has ordered it is gone, or has no use for it any more.
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
    let done = runtime.block_on(carry_out(dir, &setup, with_mounts));
    let answer = prost::Message::encode_to_vec(&done);
    let mut frame = u32::try_from(answer.len()).unwrap_or(0).to_be_bytes().to_vec();
    frame.extend(answer);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &frame).map_err(NodeError::system("answer"))
}

async fn carry_out(dir: &AgentDir, setup: &Setup, with_mounts: bool) -> SetupDone {
    let mut errors = Vec::new();
    // Each by itself, so that all that is wrong is told.
    for package in &setup.packages {
        if let Err(error) = packages::bring(dir, std::slice::from_ref(package)).await {
            errors.push(told(packages::ERROR, error));
        }
    }
    if with_mounts {
        errors.extend(mounts::reconcile(dir, &setup.mounts).await);
    }
    errors.extend(containers::bring(dir, setup).await);
    SetupDone { number: setup.number, errors }
}

/// What is wrong with a part of it, with the code that whatever failed has itself.
fn told(code: &str, error: NodeError) -> SetupError {
    match error {
        NodeError::Staged(failed) => SetupError { code: failed.code, message: failed.message },
        error => SetupError { code: code.to_owned(), message: error.sentence() },
    }
}
