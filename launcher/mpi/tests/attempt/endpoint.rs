//! The remote-shell shim against the attempt's own SSH endpoints, served by `sshd -i` under an ordinary user.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::Attempt;
use muster_mpi::{AttemptKeys, endpoint_environment, format_peers};
use muster_ssh::{Credentials, HostKeys, Session, SshError, SshTarget};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(output: &Output, code: i32, stdout: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), stdout);
}

fn two_nodes() -> Attempt {
    Attempt::start(&["node01", "node02.site"], 2, endpoint_environment)
}

#[test]
fn a_command_runs_on_the_named_node_with_the_callers_variables() {
    let attempt = two_nodes();
    let script = "echo $MUSTER_NODE $MUSTER_INSTANCE $SLURM_JOBID $OMP_NUM_THREADS; echo problem >&2; exit 7";
    for (host, node) in
        [("node01", "node01 0"), ("node02", "node02.site 1"), ("me@node02.site", "node02.site 1")]
    {
        let output = attempt.rsh(&["-x", host, script]).env("OMP_NUM_THREADS", "3").output().unwrap();
        expect(&output, 7, &format!("{node} 7 3\n"));
        assert_eq!(text(&output.stderr), "problem\n");
    }
}

#[test]
fn words_are_joined_for_a_shell_and_input_is_handed_on() {
    let attempt = two_nodes();
    let mut child = attempt
        .rsh(&["node01", "\"cat\"", "-", "|", "tr", "a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    expect(&child.wait_with_output().unwrap(), 0, "HELLO\n");
}

#[test]
fn variables_of_the_endpoint_arrive_byte_for_byte() {
    let value = "it's \"x\" \\ \\n # $HOME `id` %u ~ \u{fc}";
    let attempt = Attempt::start(&["node01"], 1, |_, _| {
        vec![
            ("FIRST".to_owned(), value.to_owned()),
            ("SECOND".to_owned(), String::new()),
            ("T".to_owned(), "t".to_owned()),
        ]
    });
    let output =
        attempt.rsh(&["node01", "printf '%s|%s|%s' \"$FIRST\" \"${SECOND-unset}\" \"$T\""]).output().unwrap();
    expect(&output, 0, &format!("{value}||t"));
}

#[test]
fn a_host_outside_the_allocation_is_refused() {
    let attempt = two_nodes();
    let output = attempt.rsh(&["node03", "true"]).output().unwrap();
    expect(&output, 255, "");
    let expected = "muster-rsh: host `node03` is not in this allocation, which holds node01, node02.site\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn a_killed_command_is_reported_to_the_supervisor() {
    let attempt = two_nodes();
    let output = attempt.rsh(&["node02", "sleep 60 & kill -KILL $$"]).output().unwrap();
    expect(&output, 137, "");
    let event = attempt.event();
    assert!(
        event.contains("\"remote_lost\"") && event.contains("node02") && event.contains("signal 9"),
        "{event}"
    );
    // What a killed command leaves behind is the containment's to end; here the test does it.
    attempt.rsh(&["node02", "pkill -x sleep -u $(id -u)"]).output().unwrap();
}

#[test]
fn a_broken_connection_is_reported_to_the_supervisor() {
    let attempt = two_nodes();
    let output = attempt.rsh(&["node02", "kill -KILL $PPID; sleep 0.3"]).output().unwrap();
    expect(&output, 255, "");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    assert!(attempt.event().contains("node02"));
}

#[test]
fn an_endpoint_with_another_key_is_refused() {
    let mut attempt = two_nodes();
    attempt.peers[0].host_key = AttemptKeys::generate().unwrap().public_line;
    attempt.write(&attempt.layout.attempt_dir.peers(), &format_peers(&attempt.peers));
    let output = attempt.rsh(&["node01", "echo reached"]).output().unwrap();
    expect(&output, 255, "");
    assert!(
        text(&output.stderr).contains("the key of host `node01` does not match"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn nobody_else_enters() {
    let attempt = two_nodes();
    let peer = &attempt.peers[0];
    let enter = |user: &str, key: String| {
        let target = SshTarget {
            host: peer.host.clone(),
            addr: peer.addr.into(),
            port: peer.port,
            user: user.to_owned(),
        };
        let host_key = HostKeys::from_openssh_line(&peer.host_key).unwrap();
        Session::connect(&target, &Credentials::KeyMemory(key), &host_key, Duration::from_secs(10))
            .map(|_| ())
    };
    let right_key = std::fs::read_to_string(attempt.layout.attempt_dir.private_key()).unwrap();
    enter(&attempt.account.user.name, right_key.clone()).unwrap();
    let strange_key = AttemptKeys::generate().unwrap().private_openssh;
    for (user, key) in [(attempt.account.user.name.as_str(), strange_key), ("nobody", right_key)] {
        let refused = enter(user, key);
        assert!(matches!(refused, Err(SshError::Authentication { .. })), "{user}: {refused:?}");
    }
}

#[test]
fn starting_is_quick() {
    let attempt = two_nodes();
    let best = |words: &[&str]| {
        let once = || {
            let started = Instant::now();
            attempt.rsh(words).output().unwrap();
            started.elapsed()
        };
        (0..5).map(|_| once()).min().unwrap()
    };
    let (start, whole) = (best(&["node03", "true"]), best(&["node01", "true"]));
    println!("start alone {start:?}, with connection and command {whole:?}");
    assert!(start < Duration::from_millis(100) && whole < Duration::from_secs(2), "{start:?} {whole:?}");
}
