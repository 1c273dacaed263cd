//! Certificates of hosts, keys of an agent, and jump hosts, against real sshds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use muster_ssh::{Credentials, HostAddr, Session, SshError, SshTarget};
use support::{HOST, Sshd, TIMEOUT, free_port, new_key};
use tempfile::TempDir;

fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// An sshd that presents a certificate beside its key, and the line of the authority that signed it.
/// sshd reads its keys again for each connection, from the folder that comes last.
fn certified(names: &str, valid: &str) -> (Sshd, String, TempDir) {
    certified_by(&["-t", "ed25519"], names, valid)
}

/// The same, with an authority's key of this kind.
fn certified_by(kind: &[&str], names: &str, valid: &str) -> (Sshd, String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    keygen(&[&["-q", "-N", "", "-f", &path("authority")], kind].concat());
    let authority = std::fs::read_to_string(path("authority.pub")).unwrap().trim().to_owned();
    new_key(Path::new(&path("host")));
    let public = Command::new("ssh-keygen").args(["-y", "-f", &path("host")]).output().unwrap().stdout;
    std::fs::write(path("host.pub"), public).unwrap();
    keygen(&[
        "-q",
        "-h",
        "-s",
        &path("authority"),
        "-I",
        "the host",
        "-n",
        names,
        "-V",
        valid,
        &path("host.pub"),
    ]);
    let sshd = Sshd::start(&format!("HostKey {}\nHostCertificate {}", path("host"), path("host-cert.pub")));
    (sshd, authority, folder)
}

fn refusal(sshd: &Sshd, known_hosts: &str) -> SshError {
    let host_keys = sshd.known_hosts(known_hosts);
    Session::connect(&sshd.target(), &sshd.credentials(), &host_keys, TIMEOUT).err().unwrap()
}

#[test]
fn a_certificate_of_a_trusted_authority_makes_a_host_known() {
    let (sshd, authority, _keys) = certified(&format!("other,{HOST}"), "-1h:+1h");
    let connect = |known_hosts: &str| {
        let host_keys = sshd.known_hosts(known_hosts);
        Session::connect(&sshd.target(), &sshd.credentials(), &host_keys, TIMEOUT)
    };
    let mut session = connect(&format!("@cert-authority node* {authority}\n")).unwrap();
    assert_eq!(session.exec("echo hello", b"").unwrap().stdout, b"hello\n");
    // The key of a host that has a certificate as well.
    connect(&format!("{HOST} {}\n", sshd.host_key_line())).unwrap();

    let stranger = new_key(&sshd.folder.path().join("stranger")).public_key().to_openssh().unwrap();
    let text = refusal(&sshd, &format!("@cert-authority node* {stranger}\n")).to_string();
    assert!(text.contains("`the host`") && text.contains("no @cert-authority"), "{text}");
    let revoked = format!("@cert-authority node* {authority}\n@revoked * {authority}\n");
    assert!(matches!(refusal(&sshd, &revoked), SshError::HostKeyRevoked { .. }));
    let text = refusal(&sshd, &format!("@cert-authority elsewhere {authority}\n"));
    assert!(matches!(text, SshError::HostKeyUnknown { .. }), "{text}");
}

#[test]
fn authorities_have_keys_of_all_usual_kinds() {
    for kind in [["-t", "rsa", "-b", "3072"], ["-t", "ecdsa", "-b", "256"], ["-t", "ecdsa", "-b", "384"]] {
        let (sshd, authority, _keys) = certified_by(&kind, HOST, "-1h:+1h");
        let host_keys = sshd.known_hosts(&format!("@cert-authority node* {authority}\n"));
        let connected = Session::connect(&sshd.target(), &sshd.credentials(), &host_keys, TIMEOUT);
        connected.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
    let (sshd, authority, _keys) = certified_by(&["-t", "ecdsa", "-b", "521"], HOST, "-1h:+1h");
    let refused = refusal(&sshd, &format!("@cert-authority node* {authority}\n")).to_string();
    assert!(refused.contains("of a kind that is not known here"), "{refused}");
}

#[test]
fn a_certificate_counts_for_its_names_and_its_time() {
    for (names, valid, reason) in
        [("other", "-1h:+1h", "it is for the hosts [other]"), (HOST, "-2h:-1h", "not valid at this time")]
    {
        let (sshd, authority, _keys) = certified(names, valid);
        let refused = refusal(&sshd, &format!("@cert-authority * {authority}\n"));
        assert!(matches!(refused, SshError::HostCertificate { .. }), "{refused}");
        assert!(refused.to_string().contains(reason), "{refused}");
    }
    let plain = Sshd::start("");
    let refused = refusal(&plain, &format!("@cert-authority * {}\n", plain.host_key_line()));
    assert!(matches!(refused, SshError::HostKeyUncertified { .. }), "{refused}");
    let print = plain.host_key.fingerprint(ssh_key::HashAlg::Sha256).to_string();
    assert!(refused.to_string().contains(&print), "{refused}");
}

#[test]
fn a_key_of_the_agent_opens_a_session() {
    let sshd = Sshd::start("");
    let socket = sshd.folder.path().join("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).spawn().unwrap();
    while !socket.exists() {
        std::thread::yield_now();
    }
    let add = |file: &Path| {
        let added = Command::new("ssh-add").arg("-q").arg(file).env("SSH_AUTH_SOCK", &socket).status();
        assert!(added.unwrap().success());
    };
    // SAFETY: the variable is read by this thread alone: no other test of this program uses an agent.
    unsafe { std::env::set_var("SSH_AUTH_SOCK", &socket) };
    let host_keys = sshd.known_hosts(&format!("{HOST} {}\n", sshd.host_key_line()));
    let connect = || Session::connect(&sshd.target(), &Credentials::Agent, &host_keys, TIMEOUT);
    let text = connect().err().unwrap().to_string();
    assert!(text.contains("any key of the SSH agent"), "{text}");
    let stranger = sshd.folder.path().join("stranger");
    new_key(&stranger);
    add(&stranger);
    assert!(matches!(connect(), Err(SshError::Authentication { .. })));
    // The right one is not the first.
    add(&sshd.folder.path().join("user_key"));
    connect().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_host_is_reached_through_others() {
    let sshd = Sshd::start("");
    let jump = |host: &str, port| SshTarget { host: host.to_owned(), port, ..sshd.target() };
    // Names that only the jump host can look up are left to it.
    let target = SshTarget { addr: HostAddr::of("localhost"), host: "localhost".to_owned(), ..sshd.target() };
    let all = format!("gate,gate2,localhost {}\n", sshd.host_key_line());
    let known = sshd.known_hosts(&all);
    let through = |jumps: &[SshTarget], target: &SshTarget| {
        Session::connect_through(jumps, target, &sshd.credentials(), &known, TIMEOUT)
    };
    let mut session = through(&[jump("gate", sshd.port), jump("gate2", sshd.port)], &target).unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echoed = session.exec("cat; echo end >&2", &sent).unwrap();
    assert!(echoed.stdout == sent && echoed.stderr == b"end\n", "{} bytes", echoed.stdout.len());
    assert_eq!(session.exec("cat", b"again").unwrap().stdout, b"again");
    drop(session);

    let text = match through(&[jump("gate", free_port())], &target) {
        Err(error @ SshError::Jump { .. }) => error.to_string(),
        other => panic!("{:?}", other.err()),
    };
    assert!(text.contains("the jump host `gate` cannot be used"), "{text}");
    let closed = SshTarget { port: free_port(), ..target.clone() };
    match through(&[jump("gate", sshd.port)], &closed) {
        Err(error @ SshError::JumpOnwards { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("the jump host `gate` cannot connect to") && text.contains("localhost"),
                "{text}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
    // The key of the target is verified as well as that of the jump host.
    let unknown = sshd.known_hosts(&format!("gate {}\n", sshd.host_key_line()));
    let refused =
        Session::connect_through(&[jump("gate", sshd.port)], &target, &sshd.credentials(), &unknown, TIMEOUT);
    assert!(matches!(refused, Err(SshError::HostKeyUnknown { .. })));
    let unknown = sshd.known_hosts(&format!("localhost {}\n", sshd.host_key_line()));
    let refused =
        Session::connect_through(&[jump("gate", sshd.port)], &target, &sshd.credentials(), &unknown, TIMEOUT);
    match refused {
        Err(SshError::Jump { source, .. }) => assert!(matches!(*source, SshError::HostKeyUnknown { .. })),
        other => panic!("{:?}", other.err()),
    }
}
