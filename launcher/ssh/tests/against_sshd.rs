//! Sessions against a real sshd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use muster_ssh::{
    Credentials, ExitStatus, HostAddr, HostKeys, Session, SshError, SshTarget, Upload, fan_out, shell_quote,
};
use support::{HOST, Sshd, TIMEOUT, free_port, new_key};

fn connect(sshd: &Sshd, host_keys: &HostKeys) -> Result<Session, SshError> {
    Session::connect(&sshd.target(), &sshd.credentials(), host_keys, TIMEOUT)
}

fn fingerprint(key: &ssh_key::PrivateKey) -> String {
    key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
}

#[test]
fn a_known_host_is_accepted() {
    let sshd = Sshd::start("");
    let (line, port) = (sshd.host_key_line(), sshd.port);
    for entry in [format!("{HOST} {line}"), format!("[{HOST}]:{port},other {line}")] {
        let text = format!("# comment\n@cert-authority *.example {line}\nother ssh-rsa AAAA\n{entry}\n");
        let mut session = connect(&sshd, &sshd.known_hosts(&text)).unwrap();
        assert_eq!(session.exec("echo hello", b"").unwrap().stdout, b"hello\n");
    }
}

#[test]
fn the_known_key_type_is_asked_for() {
    let extra = tempfile::tempdir().unwrap();
    let ecdsa = extra.path().join("ecdsa");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
        .arg(&ecdsa)
        .status()
        .unwrap();
    assert!(made.success());
    let sshd = Sshd::start(&format!("HostKey {}", ecdsa.display()));
    let public = std::fs::read_to_string(ecdsa.with_extension("pub")).unwrap();
    connect(&sshd, &sshd.known_hosts(&format!("{HOST} {public}"))).unwrap();
    connect(&sshd, &HostKeys::from_openssh_line(&public).unwrap()).unwrap();
    connect(&sshd, &sshd.known_hosts(&format!("{HOST} {}", sshd.host_key_line()))).unwrap();
}

#[test]
fn an_unknown_host_is_refused() {
    let sshd = Sshd::start("");
    let refused =
        connect(&sshd, &sshd.known_hosts(&format!("other {}\n", sshd.host_key_line()))).err().unwrap();
    assert!(matches!(refused, SshError::HostKeyUnknown { .. }));
    let message = refused.to_string();
    let file = sshd.known_hosts_file().display().to_string();
    for part in [HOST, &file, &fingerprint(&sshd.host_key)] {
        assert!(message.contains(part), "{message} names {part}");
    }
    let nowhere = HostKeys::KnownHostsFiles(vec!["/nonexistent/known_hosts".into()]);
    assert!(matches!(connect(&sshd, &nowhere), Err(SshError::KnownHosts { .. })));
}

#[test]
fn a_changed_or_revoked_key_is_refused() {
    let sshd = Sshd::start("");
    let other = new_key(&sshd.folder.path().join("other"));
    let other_line = other.public_key().to_openssh().unwrap();
    let by_file = connect(&sshd, &sshd.known_hosts(&format!("{HOST} {other_line}\n"))).err().unwrap();
    assert!(by_file.to_string().contains(&sshd.known_hosts_file().display().to_string()), "{by_file}");
    let exactly = connect(&sshd, &HostKeys::from_openssh_line(&other_line).unwrap()).err().unwrap();
    assert!(exactly.to_string().contains(&fingerprint(&other)), "{exactly}");
    for refused in [by_file, exactly] {
        assert!(matches!(refused, SshError::HostKeyChanged { .. }), "{refused}");
        assert!(refused.to_string().contains(&fingerprint(&sshd.host_key)), "{refused}");
        assert!(refused.to_string().contains(HOST), "{refused}");
    }
    let line = sshd.host_key_line();
    let revoked =
        connect(&sshd, &sshd.known_hosts(&format!("{HOST} {line}\n@revoked * {line}\n"))).err().unwrap();
    assert!(matches!(revoked, SshError::HostKeyRevoked { .. }), "{revoked}");
}

#[test]
fn a_wrong_user_key_is_refused() {
    let sshd = Sshd::start("");
    let file = sshd.folder.path().join("stranger");
    new_key(&file);
    let host_keys = HostKeys::from_openssh_line(&sshd.host_key_line()).unwrap();
    let key = Credentials::KeyFile { path: file.clone() };
    let refused = Session::connect(&sshd.target(), &key, &host_keys, TIMEOUT).err().unwrap();
    assert!(matches!(refused, SshError::Authentication { .. }), "{refused}");
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
    let text = std::fs::read_to_string(sshd.folder.path().join("user_key")).unwrap();
    Session::connect(&sshd.target(), &Credentials::KeyMemory(text), &host_keys, TIMEOUT).unwrap();
}

#[test]
fn a_refused_connection_says_so() {
    let target = SshTarget {
        host: HOST.to_owned(),
        addr: HostAddr::of("127.0.0.1"),
        port: free_port(),
        user: "someone".to_owned(),
    };
    let key = Credentials::KeyMemory(String::new());
    let refused = Session::connect(&target, &key, &HostKeys::Exact(Vec::new()), TIMEOUT).err().unwrap();
    assert!(refused.is_transient());
    let expected =
        format!("cannot connect to someone@node01 (127.0.0.1:{}): the host is up, but", target.port);
    assert!(refused.to_string().starts_with(&expected), "{refused}");
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    assert_eq!(session.exec("true", b"").unwrap().status, ExitStatus::Code(0));
    let seven = session.exec("echo out; echo err >&2; exit 7", b"").unwrap();
    assert_eq!(seven.status, ExitStatus::Code(7));
    assert_eq!((seven.stdout.as_slice(), seven.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    for signal in ["TERM", "KILL", "SEGV"] {
        let killed = session.exec(&format!("kill -{signal} $$"), b"").unwrap();
        assert_eq!(killed.status, ExitStatus::Signal(signal.to_owned()));
    }
    let late = session.exec("exec >&- 2>&-; sleep 0.2; exit 9", b"").unwrap();
    assert_eq!(late.status, ExitStatus::Code(9), "the code may come after the end of the output");
}

#[test]
fn both_outputs_may_be_long_at_once() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let command =
        "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; exit 3";
    let output = session.exec_within(command, b"", TIMEOUT).unwrap();
    assert_eq!(output.status, ExitStatus::Code(3));
    assert_eq!((output.stdout.len(), output.stderr.len()), (6_000_000, 3_000_000));
    let endless = session.exec_within("cat /dev/zero >&2", b"", TIMEOUT).unwrap_err();
    assert!(matches!(endless, SshError::OutputTooLong { stream: "standard error", .. }), "{endless}");
}

#[test]
fn a_long_input_arrives_whole() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let input: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(session.exec_within("cat", &input, TIMEOUT).unwrap().stdout, input);
    let ignored = session.exec_within("exit 4", &input, TIMEOUT).unwrap();
    assert_eq!(ignored.status, ExitStatus::Code(4), "a command need not read its input");
}

#[test]
fn a_command_without_end_is_given_up() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let started = Instant::now();
    let given_up = session.exec_within("sleep 60", b"", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(given_up, SshError::DeadlineExceeded { .. }), "{given_up}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(matches!(session.exec("true", b""), Err(SshError::Session { .. })), "the session is closed");
}

#[test]
fn a_file_is_uploaded_whole_with_its_mode() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let contents: Vec<u8> = (0..20 * 1024 * 1024u32).map(|number| (number / 7 % 253) as u8).collect();
    let local = sshd.folder.path().join("local");
    std::fs::write(&local, &contents).unwrap();
    let remote = sshd.folder.path().join("it's a program");
    let started = Instant::now();
    session.upload(Upload::File(&local), remote.to_str().unwrap(), 0o750).unwrap();
    println!("upload of 20 MiB took {:?}", started.elapsed());
    assert!(std::fs::read(&remote).unwrap() == contents);
    assert_eq!(std::fs::metadata(&remote).unwrap().permissions().mode() & 0o7777, 0o750);
    session.upload(Upload::Bytes(b"new"), remote.to_str().unwrap(), 0o600).unwrap();
    assert_eq!(std::fs::read(&remote).unwrap(), b"new");
    let left = std::fs::read_dir(sshd.folder.path()).unwrap();
    assert!(left.filter_map(Result::ok).all(|entry| !entry.file_name().to_string_lossy().ends_with(".part")));
    let refused = session.upload(Upload::Bytes(b"x"), "/nonexistent/folder/file", 0o600).unwrap_err();
    assert!(refused.to_string().contains("/nonexistent/folder/file"), "{refused}");
}

/// A pipe whose reading end is collected by a thread.
fn collector() -> (OwnedFd, std::thread::JoinHandle<Vec<u8>>) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let thread = std::thread::spawn(move || {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        data
    });
    (writer.into(), thread)
}

#[test]
fn descriptors_are_relayed_both_ways() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let input: Vec<u8> = (0..3_000_000u32).map(|number| (number % 249) as u8).collect();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let sent = input.clone();
    let feeder = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let ((out, outs), (err, errs)) = (collector(), collector());
    let status =
        session.exec_interactive("tee /dev/stderr; exit 5", reader.as_fd(), out.as_fd(), err.as_fd());
    assert_eq!(status.unwrap(), ExitStatus::Code(5));
    feeder.join().unwrap();
    drop((out, err));
    assert!(outs.join().unwrap() == input);
    assert!(errs.join().unwrap() == input);
    let null = std::fs::File::open("/dev/null").unwrap();
    let again = session.exec_interactive("true", null.as_fd(), null.as_fd(), null.as_fd()).unwrap();
    assert!(again.success(), "the session can be used again");
}

#[test]
fn a_death_is_noticed_while_others_hold_the_output() {
    let sshd = Sshd::start("");
    let null = std::fs::File::open("/dev/null").unwrap();
    for (command, expected) in [
        ("sleep 30 & echo $!; kill -KILL $$", ExitStatus::Signal("KILL".to_owned())),
        ("sleep 30 & echo $!; exit 6", ExitStatus::Code(6)),
    ] {
        let mut session = sshd.session();
        let (out, outs) = collector();
        let started = Instant::now();
        let status = session.exec_interactive(command, null.as_fd(), out.as_fd(), null.as_fd()).unwrap();
        drop(out);
        assert_eq!(status, expected);
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
        let left_behind = String::from_utf8(outs.join().unwrap()).unwrap();
        let pid = nix::unistd::Pid::from_raw(left_behind.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn output_that_nobody_reads_is_discarded() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let null = std::fs::File::open("/dev/null").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let command = "head -c 5000000 /dev/zero";
    let status = session.exec_interactive(command, null.as_fd(), writer.as_fd(), null.as_fd()).unwrap();
    assert_eq!(status, ExitStatus::Code(0));
}

#[test]
fn a_broken_connection_is_an_error() {
    let sshd = Sshd::start("");
    let mut session = sshd.session();
    let null = std::fs::File::open("/dev/null").unwrap();
    // The shell's parent is the sshd process that serves this session.
    let broken =
        session.exec_interactive("kill -KILL $PPID; sleep 5", null.as_fd(), null.as_fd(), null.as_fd());
    assert!(matches!(broken, Err(SshError::Session { .. })), "{broken:?}");
}

#[test]
fn many_hosts_are_served_and_failures_stay_apart() {
    // A crowded host drops every second connection beyond the first that waits for authentication.
    let sshd = Sshd::start("MaxStartups 1:50:64");
    let host_keys = HostKeys::from_openssh_line(&sshd.host_key_line()).unwrap();
    let mut targets = vec![sshd.target(); 12];
    targets[5].port = free_port();
    let results = fan_out(&targets, 6, |target| {
        let mut session = Session::connect(target, &sshd.credentials(), &host_keys, TIMEOUT)?;
        Ok(session.exec(&format!("echo {}", shell_quote(&target.port.to_string())), b"")?.stdout)
    });
    assert_eq!(results.len(), 12);
    for (position, result) in results.iter().enumerate() {
        match result {
            Ok(output) => assert_eq!(*output, format!("{}\n", sshd.port).into_bytes()),
            Err(error) => assert!(position == 5 && error.is_transient(), "target {position}: {error:?}"),
        }
    }
    assert!(results[5].is_err());
}

#[test]
fn latencies() {
    let sshd = Sshd::start("");
    let started = Instant::now();
    let mut session = sshd.session();
    let connected = started.elapsed();
    session.exec("true", b"").unwrap();
    let started = Instant::now();
    for _ in 0..10 {
        assert!(session.exec("true", b"").unwrap().status.success());
    }
    println!("connect {connected:?}, exec {:?}", started.elapsed() / 10);
    assert!(connected < TIMEOUT);
}
