//! The client against a server that plays the controller's good and bad days.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use muster_client::api::SubmitRequest;
use muster_client::{Client, ClientError, JobFilter, Options};
use muster_core::ids::{JobId, JobRef};
use tempfile::TempDir;

const PING: &str = r#"{"schema":1,"cluster":"c","version":"0","nodes_up":1,"nodes":2}"#;

/// One request as it came in.
struct Seen {
    line: String,
    body: String,
}

fn read_request(stream: &mut BufReader<UnixStream>) -> Option<Seen> {
    let mut line = String::new();
    if stream.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { line: line.trim().to_owned(), body: String::from_utf8(body).unwrap() })
}

/// Serves connection after connection: each inner list holds the answers of one connection, which is then closed.
fn serve(listener: UnixListener, script: Vec<Vec<(u16, &'static str)>>) -> mpsc::Receiver<Seen> {
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        for answers in script {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            for (status, body) in answers {
                let Some(request) = read_request(&mut stream) else { break };
                sender.send(request).unwrap();
                if status == 0 {
                    break;
                }
                write!(
                    stream.get_mut(),
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        }
    });
    seen
}

fn options(socket: &Path) -> Options {
    let mut options = Options::new(socket);
    options.retry = Duration::from_secs(10);
    options.on_away = Box::new(|_| {});
    options
}

fn room() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    (folder, socket)
}

fn job() -> SubmitRequest {
    SubmitRequest::of("j", "#!/bin/sh\n")
}

#[test]
fn one_connection_serves_many_requests() {
    let (_folder, socket) = room();
    // One connection only: a second one would wait for ever.
    let seen = serve(UnixListener::bind(&socket).unwrap(), vec![vec![(200, PING), (200, PING), (200, PING)]]);
    let mut client = Client::connect_with(options(&socket)).unwrap();
    for _ in 0..3 {
        assert_eq!(client.ping().unwrap().nodes, 2);
    }
    assert_eq!(seen.iter().take(3).map(|s| s.line).collect::<Vec<_>>(), vec!["GET /v1/ping HTTP/1.1"; 3]);
}

#[test]
fn a_controller_that_starts_late_is_found_and_the_user_is_told_once() {
    let (_folder, socket) = room();
    let (sender, sentences) = mpsc::channel();
    let mut options = options(&socket);
    options.on_away = Box::new(move |sentence| sender.send(sentence.to_owned()).unwrap());
    let at = socket.clone();
    let server = thread::spawn(move || {
        let sentence = sentences.recv().unwrap();
        let _seen = serve(UnixListener::bind(&at).unwrap(), vec![vec![(200, PING)]]);
        (sentence, sentences.recv().is_err())
    });
    let mut client = Client::connect_with(options).unwrap();
    client.ping().unwrap();
    drop(client);
    let (sentence, once) = server.join().unwrap();
    assert!(sentence.contains(socket.to_str().unwrap()) && sentence.contains("trying again"), "{sentence}");
    assert!(once);
}

#[test]
fn of_several_controllers_the_one_that_leads_is_found() {
    let (_folder, leads) = room();
    let refusal = r#"{"code":"not_leading","message":"this controller stands by"}"#;
    let stands_by = leads.with_extension("standby");
    let frozen = UnixListener::bind(leads.with_extension("frozen")).unwrap();
    // One is not there, one takes questions and never answers, one stands by, and the last one leads.
    let sockets = ["gone", "frozen", "standby"].map(|name| leads.with_extension(name));
    let asked = serve(UnixListener::bind(&stands_by).unwrap(), vec![vec![(503, refusal)]]);
    let _led = serve(UnixListener::bind(&leads).unwrap(), vec![vec![(200, PING), (200, PING)]]);
    let mut options = Options::of([&sockets[..], &[leads]].concat());
    options.retry = Duration::from_secs(20);
    options.on_away = Box::new(|sentence| panic!("nothing to talk about: {sentence}"));
    let mut client = Client::connect_with(options).unwrap();
    assert_eq!(client.ping().unwrap().cluster, "c");
    client.ping().unwrap();
    assert_eq!(asked.iter().count(), 1, "the one that leads is kept to");
    drop(frozen);
}

#[test]
fn a_standby_says_who_leads_to_those_who_do_not_wait() {
    let (_folder, socket) = room();
    let refusal = r#"{"code":"not_leading","message":"this controller stands by; a leads at b"}"#;
    let _asked = serve(UnixListener::bind(&socket).unwrap(), vec![vec![(503, refusal)]]);
    let mut client = Client::connect_with(Options { retry: Duration::ZERO, ..options(&socket) }).unwrap();
    let error = client.ping().unwrap_err().to_string();
    assert_eq!(error, "this controller stands by; a leads at b");
}

#[test]
fn a_controller_that_never_starts_is_named_with_its_socket() {
    let (_folder, socket) = room();
    let mut options = options(&socket);
    options.retry = Duration::ZERO;
    let error = Client::connect_with(options).err().unwrap();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(socket.to_str().unwrap()) && text.contains("MUSTER_SOCKET"), "{text}");
}

#[test]
fn a_repeated_submission_carries_the_same_key() {
    let (_folder, socket) = room();
    // The first connection ends after it has taken the request; the second is told "not now" before it is let in.
    let script = vec![
        vec![(0, "")],
        vec![
            (503, r#"{"code":"busy","message":"m"}"#),
            (201, r#"{"schema":1,"job":7}"#),
            (201, r#"{"schema":1,"job":8}"#),
        ],
    ];
    let seen = serve(UnixListener::bind(&socket).unwrap(), script);
    let mut client = Client::connect_with(options(&socket)).unwrap();
    assert_eq!(client.submit(&job()).unwrap().job, Some(7));
    assert_eq!(client.submit(&job()).unwrap().job, Some(8));
    let keys: Vec<String> = seen
        .iter()
        .take(4)
        .map(|s| serde_json::from_str::<SubmitRequest>(&s.body).unwrap().request_key.unwrap())
        .collect();
    assert!(keys[0].len() > 36 && keys[..3].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[3], keys[0], "the next submission is another one");
}

#[test]
fn refusals_and_nonsense_are_told_apart() {
    let (_folder, socket) = room();
    let script = vec![vec![
        (404, r#"{"code":"no_such_job","message":"there is no job 9"}"#),
        (200, "<html>"),
        (502, "gateway"),
        (503, r#"{"code":"busy","message":"cannot store"}"#),
    ]];
    let _seen = serve(UnixListener::bind(&socket).unwrap(), script);
    let mut options = options(&socket);
    options.retry = Duration::ZERO;
    let mut client = Client::connect_with(options).unwrap();
    let nine = JobRef { job: JobId(9), task: None };
    let refused = client.job(nine).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 404, .. }));
    assert_eq!(refused.to_string(), "there is no job 9");
    assert!(matches!(client.why(nine), Err(ClientError::BadAnswer { .. })));
    assert!(matches!(client.pools(), Err(ClientError::BadAnswer { .. })));
    let away = client.jobs(&JobFilter::default()).unwrap_err();
    assert!(matches!(away, ClientError::Refused { status: 503, .. }), "{away}");
}

#[test]
fn a_wait_asks_again_with_the_version_it_has_seen() {
    let (_folder, socket) = room();
    let waiting = DETAIL.replace("STATE", "waiting");
    let completed = DETAIL.replace("STATE", "completed");
    let (waiting, completed): (&'static str, &'static str) = (waiting.leak(), completed.leak());
    let script = vec![vec![(200, waiting), (200, waiting)], vec![(200, completed)]];
    let seen = serve(UnixListener::bind(&socket).unwrap(), script);
    let mut client = Client::connect_with(options(&socket)).unwrap();
    let mut changes = 0;
    let job = JobRef { job: JobId(7), task: None };
    let end = client.watch_finished(job, None, |_| changes += 1).unwrap().unwrap();
    assert!(end.is_finished(job));
    assert_eq!(changes, 3);
    let lines: Vec<String> = seen.iter().take(3).map(|s| s.line).collect();
    assert_eq!(lines[0], "GET /v1/jobs/7 HTTP/1.1");
    assert_eq!(lines[2], "GET /v1/jobs/7/wait?timeout_ms=60000&seen=5 HTTP/1.1");
}

#[test]
fn a_wait_for_the_end_asks_for_the_end_until_it_comes() {
    let (_folder, socket) = room();
    let of = |state: &str| -> &'static str { DETAIL.replace("STATE", state).leak() };
    // The controller goes away in the middle of the first wait, which has the patience of one that waits.
    let script =
        vec![vec![(0, "")], vec![(200, of("waiting"))], vec![(200, of("running")), (200, of("completed"))]];
    let seen = serve(UnixListener::bind(&socket).unwrap(), script);
    let options = Options { retry: Duration::ZERO, ..options(&socket) };
    let mut client = Client::connect_with(options).unwrap();
    let job = JobRef { job: JobId(7), task: None };
    assert!(client.wait_finished(job, None).unwrap().unwrap().is_finished(job));
    for _ in 0..4 {
        let asked = seen.recv().unwrap().line;
        assert_eq!(asked, "GET /v1/jobs/7/wait?timeout_ms=60000&finished=true HTTP/1.1");
    }
}

const DETAIL: &str = r#"{"schema":1,"job":7,"name":"n","user":"u","pool":"p","state":"STATE","tasks":{"STATE":1},
"array":false,"nodes":1,"ranks":1,"cores":1,"node_list":"","submitted_at_us":0,"started_at_us":null,
"finished_at_us":null,"time_limit_s":null,"priority":0,"reason":"","working_directory":"/","stdout":null,
"stderr":null,"request":{"nodes":null,"ranks":1,"ranks_per_node":null,"cores_per_rank":1,"memory":"pool_default",
"exclusive":false},"array_spec":null,"requeue":true,"task_list":[],"version":5}"#;

const PUT_OFF: &str = r#"{"code":"too_often","message":"not so often","again_ms":3}"#;

#[test]
fn what_is_put_off_is_asked_again_and_said_once() {
    let (_folder, socket) = room();
    let answers = vec![(429, PUT_OFF), (429, PUT_OFF), (200, PING), (429, PUT_OFF), (200, PING)];
    let _seen = serve(UnixListener::bind(&socket).unwrap(), vec![answers]);
    let (tell, told) = mpsc::channel();
    let mut options = options(&socket);
    // Not a matter of a controller that is away.
    options.retry = Duration::ZERO;
    options.on_limited = Box::new(move |sentence| tell.send(sentence.to_owned()).unwrap());
    let mut client = Client::connect_with(options).unwrap();
    for _ in 0..2 {
        assert_eq!(client.ping().unwrap().nodes, 2);
    }
    drop(client);
    assert_eq!(told.iter().collect::<Vec<_>>(), ["waiting: not so often"]);
}

#[test]
fn what_is_put_off_for_too_long_or_for_good_is_refused() {
    const FULL: &str = r#"{"code":"limit_reached","message":"full"}"#;
    let (_folder, socket) = room();
    let _seen = serve(UnixListener::bind(&socket).unwrap(), vec![vec![(429, FULL), (429, PUT_OFF)]]);
    let mut options = options(&socket);
    options.retry_waiting = Duration::ZERO;
    let mut client = Client::connect_with(options).unwrap();
    for right in ["full", "not so often"] {
        let Err(ClientError::Refused { status: 429, body }) = client.ping() else { panic!("it is refused") };
        assert_eq!(body.message, right);
    }
}
