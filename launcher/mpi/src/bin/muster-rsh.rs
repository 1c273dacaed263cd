//! `muster-rsh [-x] HOST COMMAND...`: what launchers call in place of `ssh` to start their daemons.
//!
//! It runs the command on another node of the allocation, through the attempt's own SSH endpoint there, with the
//! caller's variables and standard streams, and exits with the command's code; with 255, as `ssh` does, if the node
//! could not be reached or the connection broke. A death by signal gives 128 plus its number. If the command did not
//! end by itself, this node's supervisor is told, because Hydra would wait for ever.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use muster_mpi::asked::{Asked, OVERSUBSCRIBE_VARIABLE, find_program};
use muster_mpi::shim::{Forwarded, Request, remote_lost_event};
use muster_mpi::{AttemptDir, MpiError, find_peer, parse_peers};
use muster_ssh::{Credentials, ExitStatus, HostKeys, Session, SshTarget, with_retries};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// The exit code for failures of the shim itself and of the connection.
const TRANSPORT_FAILED: u8 = 255;
/// How long each step of the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a refused call waits for the launcher to have read why, or to have ended.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

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
    if let Err(error) = check_launcher(&dir, &request) {
        return refuse(&dir, &error);
    }
    if is_here(&dir, &request.host) {
        return run_here(&request);
    }
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

/// Refuses what Hydra would start and the allocation does not hold, or what is no program of its MPI.
fn check_launcher(dir: &AttemptDir, request: &Request) -> Result<(), MpiError> {
    if !request.is_hydra() {
        return Ok(());
    }
    // Without either file there is nothing to compare, and nothing to refuse.
    let parent = nix::unistd::getppid();
    let Ok(words) = std::fs::read(format!("/proc/{parent}/cmdline")) else { return Ok(()) };
    let Ok(hosts) = std::fs::read_to_string(dir.hostfile_hydra()) else { return Ok(()) };
    let words: Vec<String> = words
        .split(|byte| *byte == 0)
        .skip(1)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let slots = hosts.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u32>().ok());
    let may_oversubscribe = std::env::var(OVERSUBSCRIBE_VARIABLE).is_ok_and(|value| value == "1");
    Asked::parse(&words, find_program).check(slots.sum(), hosts.lines().count(), may_oversubscribe)
}

/// Says once why nothing starts: the launcher calls for all hosts at the same time, and ends as soon as one call has
/// failed, with what it has not yet read of the others' errors.
fn refuse(dir: &AttemptDir, error: &MpiError) -> ExitCode {
    let launcher = nix::unistd::getppid();
    let mark = dir.path().join(format!("refused.{launcher}.{}", started_at(launcher)));
    let end = Instant::now() + REFUSED_WITHIN;
    let wait_while = |holds: &dyn Fn() -> bool| {
        while holds() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    match std::fs::File::create_new(&mark) {
        Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists => {
            wait_while(&|| nix::unistd::getppid() == launcher);
            ExitCode::from(TRANSPORT_FAILED)
        }
        _ => {
            let code = failure(error);
            wait_while(&|| unread_errors() > 0);
            code
        }
    }
}

/// When a process was started, in the kernel's ticks (proc_pid_stat(5)): another one may get its number later.
fn started_at(process: Pid) -> u64 {
    const STARTTIME_AFTER_NAME: usize = 19;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(STARTTIME_AFTER_NAME).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// The bytes of standard error that the launcher has not read yet, where it is a pipe to the launcher.
fn unread_errors() -> i32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int (ioctl_tty(2), pipe(7)); it fails, and writes nothing, for what is no pipe.
    let answer = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::FIONREAD, &raw mut bytes) };
    if answer == 0 { bytes } else { 0 }
}

/// The text of the peers' file, which an attempt on one node does not have.
fn read_peers(path: &Path) -> Result<String, MpiError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| MpiError::File { doing: "read", path: path.to_owned(), source }),
    }
}

/// Whether a host is this node, by any of the names and addresses that Hydra's users say.
fn is_here(dir: &AttemptDir, host: &str) -> bool {
    let node = std::env::var("MUSTER_NODE").unwrap_or_default();
    let peers = dir.peers();
    let text = read_peers(&peers).unwrap_or_default();
    let peers = parse_peers(&text, &peers).unwrap_or_default();
    match find_peer(&peers, host) {
        Ok(peer) => peer.host == node,
        Err(_) => {
            let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
            host == node || host == "localhost" || is_loopback
        }
    }
}

/// Becomes the command, which is for this node, as Hydra itself would start it here.
fn run_here(request: &Request) -> ExitCode {
    let source = Command::new("/bin/sh").arg("-c").arg(format!("exec {}", request.command)).exec();
    failure(&MpiError::Exec { program: request.command.clone(), source })
}

fn run(dir: &AttemptDir, request: &Request) -> Result<ExitStatus, MpiError> {
    let path = dir.peers();
    let text = read_peers(&path)?;
    let peers = parse_peers(&text, &path)?;
    let peer = find_peer(&peers, &request.host)?;
    let remote = |source| MpiError::Remote { host: peer.host.clone(), source };
    let target =
        SshTarget { host: peer.host.clone(), addr: peer.addr.into(), port: peer.port, user: user()? };
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
