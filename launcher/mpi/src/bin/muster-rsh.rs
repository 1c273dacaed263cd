//! `muster-rsh [-x] HOST COMMAND...`: what launchers call in place of `ssh` to start their daemons.
//!
//! It runs the command on another node of the allocation, through the attempt's own SSH endpoint there, with the
//! caller's variables and standard streams, and exits with the command's code; with 255, as `ssh` does, if the node
//! could not be reached or the connection broke. A death by signal gives 128 plus its number. If the command did not
//! end by itself, this node's supervisor is told, because Hydra would wait for ever.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::Duration;

use muster_mpi::shim::{Forwarded, Request, remote_lost_event};
use muster_mpi::{AttemptDir, MpiError, find_peer, parse_peers};
use muster_ssh::{Credentials, ExitStatus, HostKeys, Session, SshTarget, with_retries};
use nix::sys::signal::Signal;

/// The exit code for failures of the shim itself and of the connection.
const TRANSPORT_FAILED: u8 = 255;
/// How long each step of the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The greatest number of a signal (signal(7)).
const SIGNAL_MAX: u8 = 64;

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os(AttemptDir::VARIABLE) else {
        return failure(&MpiError::NoVariable { name: AttemptDir::VARIABLE, by: "the node's supervisor" });
    };
    let dir = AttemptDir::new(folder);
    let request =
        match Request::parse(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())) {
            Ok(request) => request,
            Err(error) => return failure(&error),
        };
    match run(&dir, &request) {
        Ok(status) => {
            let code = match status {
                ExitStatus::Code(code) => u8::try_from(code).unwrap_or(TRANSPORT_FAILED),
                ExitStatus::Signal(name) => signal_code(&name),
            };
            // A shell that started the daemon there says 128 and the signal's number where it was killed.
            if let Some(signal) = code.checked_sub(128).filter(|signal| (1..=SIGNAL_MAX).contains(signal)) {
                let detail = format!("what was started there was killed by signal {signal}");
                eprintln!("muster-rsh: {}: {detail}", request.host);
                report_lost(&dir, &request.host, &detail);
            }
            ExitCode::from(code)
        }
        Err(error) => {
            if matches!(error, MpiError::Remote { .. }) {
                report_lost(&dir, &request.host, &chain(&error));
            }
            failure(&error)
        }
    }
}

fn run(dir: &AttemptDir, request: &Request) -> Result<ExitStatus, MpiError> {
    let path = dir.peers();
    let text = std::fs::read_to_string(&path).map_err(|source| MpiError::File {
        doing: "read",
        path: path.clone(),
        source,
    })?;
    let peers = parse_peers(&text, &path)?;
    let peer = find_peer(&peers, &request.host)?;
    let remote = |source| MpiError::Remote { host: peer.host.clone(), source };
    let target = SshTarget { host: peer.host.clone(), addr: peer.addr, port: peer.port, user: user()? };
    let host_key = HostKeys::from_openssh_line(&peer.host_key).map_err(remote)?;
    let key = Credentials::KeyFile { path: dir.private_key() };
    let variables = Forwarded::choose(std::env::vars_os().filter_map(|(name, value)| {
        // What is not UTF-8 cannot be said in the command, and no launcher's setting is.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }));
    if !variables.left_out.is_empty() {
        eprintln!("muster-rsh: too long to be sent to {}: {}", peer.host, variables.left_out.join(", "));
    }
    let line = request.remote_line(&variables);
    let connect = |target: &SshTarget| Session::connect(target, &key, &host_key, CONNECT_TIMEOUT);
    let mut session = with_retries(&target, &connect).map_err(remote)?;
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    session.exec_interactive(&line, input.as_fd(), output.as_fd(), errors.as_fd()).map_err(remote)
}

/// The account of this process; the endpoints admit no other.
fn user() -> Result<String, MpiError> {
    let unknown = |source: io::Error| MpiError::File { doing: "read", path: "/etc/passwd".into(), source };
    match nix::unistd::User::from_uid(nix::unistd::geteuid()) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(unknown(io::Error::other("it has no entry for this user"))),
        Err(errno) => Err(unknown(errno.into())),
    }
}

/// Tells the supervisor. It may be gone, and the launcher hears of the loss by the exit code anyway.
fn report_lost(dir: &AttemptDir, host: &str, detail: &str) {
    let send =
        || UnixDatagram::unbound()?.send_to(remote_lost_event(host, detail).as_bytes(), dir.events_socket());
    let _nobody_listens: io::Result<usize> = send();
}

fn failure(error: &MpiError) -> ExitCode {
    eprintln!("muster-rsh: {}", chain(error));
    ExitCode::from(TRANSPORT_FAILED)
}

/// The error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    message
}

/// 128 plus the signal's number, as shells have it.
fn signal_code(name: &str) -> u8 {
    let number = format!("SIG{name}").parse::<Signal>().map_or(0, |signal| signal as i32);
    u8::try_from(128 + number).unwrap_or(TRANSPORT_FAILED)
}
