//! A plain HTTP server, with the failures that real ones have.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Task, assert_failed, assert_moved, base64, url};
use md5::{Digest, Md5};
use muster_wire::v1::StageOrders;

/// What one request was answered with: its path and its range.
type Log = Arc<Mutex<Vec<(String, Option<u64>)>>>;

/// The bytes that it has for every path.
fn contents() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Answers by the path: `/ok`, `/tagged/N` breaks off after N bytes each time and can go on, `/broken/N` cannot go on,
/// `/busy/N` says 503 to the first N requests, `/status/N`, `/digest/right` and `/digest/wrong`.
fn answer(mut stream: TcpStream, log: &Log) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let path = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let mut range = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = from.trim().trim_end_matches('-').parse::<u64>().ok();
        }
    }
    let seen = {
        let mut log = log.lock().unwrap();
        let seen = log.iter().filter(|(other, _)| *other == path).count() as u64;
        log.push((path.clone(), range));
        seen
    };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = || parts.get(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let all = contents();
    let digest = |bytes: &[u8]| base64(&Md5::digest(bytes));
    let (status, headers, from, sent) = match parts[0] {
        "tagged" => {
            let from = range.unwrap_or(0);
            let status = if from > 0 { 206 } else { 200 };
            (status, "ETag: \"v1\"\r\n".to_owned(), from, Some(number()))
        }
        "broken" if seen == 0 => (200, String::new(), 0, Some(number())),
        "busy" if seen < number() => (503, String::new(), 0, Some(0)),
        "status" => (number(), String::new(), 0, Some(0)),
        "digest" if parts[1] == "right" => (200, format!("Content-MD5: {}\r\n", digest(&all)), 0, None),
        "digest" => (200, format!("Content-MD5: {}\r\n", digest(b"other")), 0, None),
        _ => (200, String::new(), 0, None),
    };
    let rest = &all[usize::try_from(from).unwrap()..];
    let length = if status < 300 { rest.len() } else { 0 };
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    let sent = sent.map_or(rest.len(), |sent| rest.len().min(usize::try_from(sent).unwrap()));
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&rest[..sent]));
}

fn server() -> (String, Log) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let seen = Arc::clone(&log);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || answer(stream, &seen));
        }
    });
    (address, log)
}

fn requests(log: &Log, path: &str) -> Vec<Option<u64>> {
    log.lock().unwrap().iter().filter(|(other, _)| other == path).map(|(_, range)| *range).collect()
}

#[test]
fn a_file_arrives_whole_whatever_happens_on_the_way() {
    let (address, log) = server();
    let task = Task::new();
    for path in ["/ok", "/tagged/150000", "/broken/1000", "/busy/2", "/digest/right"] {
        let name = path.replace('/', "_");
        assert_moved(&task.bring(vec![url(&format!("{address}{path}?sig=SECRET"), &name)]), 1);
        assert!(task.read(&format!("wd/{name}")) == contents(), "{path}");
    }
    assert_eq!(requests(&log, "/tagged/150000"), [None, Some(150_000)], "it goes on where it broke off");
    assert_eq!(requests(&log, "/broken/1000"), [None, None], "without a tag it begins anew");
    assert_eq!(requests(&log, "/busy/2").len(), 3);
    assert_eq!(task.names().len(), 5, "nothing partial is left: {:?}", task.names());
}

#[test]
fn what_fails_says_why_and_leaves_nothing() {
    let (address, log) = server();
    let mut task = Task::new();
    // The pauses between tries are long, so all are waited for at once.
    std::thread::scope(|scope| {
        for (path, code, tries) in [
            ("/status/404", "BlobNotFound", 1),
            ("/status/403", "BlobAccessDenied", 1),
            ("/status/400", "BlobDownloadMiscError", 1),
            ("/status/503", "BlobDownloadMiscError", 6),
            ("/digest/wrong", "BlobDownloadMiscError", 6),
        ] {
            let (address, log, task) = (&address, &log, &task);
            scope.spawn(move || {
                assert_failed(&task.bring(vec![url(&format!("{address}{path}?sig=SECRET"), "x")]), code);
                assert_eq!(requests(log, path).len(), tries, "{path}");
            });
        }
        scope.spawn(|| {
            assert_failed(&task.bring(vec![url("http://127.0.0.1:1/x", "x")]), "BlobDownloadMiscError")
        });
    });
    assert_failed(&task.bring(vec![url(&format!("{address}/ok"), "../out")]), "BlobDownloadMiscError");
    task.orders.bytes_max = 1000;
    let done = task.bring(vec![url(&format!("{address}/ok"), "x")]);
    assert_failed(&done, "BlobDownloadMiscError");
    assert!(done.failure.unwrap().message.contains("more than 1000 bytes"));
    assert!(task.names().is_empty(), "{:?}", task.names());
}

#[test]
fn common_inputs_are_brought_once_for_each_version() {
    let (address, log) = server();
    let cache = tempfile::tempdir().unwrap();
    let mut task = Task::new();
    task.orders.cache_directory = cache.path().display().to_string();
    let bring = |task: &Task, path: &str, name: &str| {
        let common_inputs = vec![url(&format!("{address}{path}"), name)];
        common::run(&StageOrders { common_inputs, ..task.orders.clone() }, &task.environment)
    };
    // The server sends a part of this file only, each time: twice to bring it, and once to hear that it is the same.
    assert_moved(&bring(&task, "/tagged/150000", "first"), 1);
    assert_moved(&bring(&task, "/tagged/150000", "second"), 1);
    assert!(task.read("first") == contents() && task.read("second") == contents());
    assert_eq!(requests(&log, "/tagged/150000"), [None, Some(150_000), None]);
    // Without a version nothing is kept, and what was tampered with is not used.
    assert_moved(&bring(&task, "/ok", "third"), 1);
    let entries: Vec<_> =
        std::fs::read_dir(cache.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    std::fs::write(&entries[0], "short").unwrap();
    assert_moved(&bring(&task, "/tagged/150000", "fourth"), 1);
    assert!(task.read("fourth") == contents());
}
