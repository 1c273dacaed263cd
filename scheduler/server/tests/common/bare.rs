//! Clients that cost next to nothing: requests over bare sockets, by one thread. What is measured with them is the controller.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster_client::api::SubmitRequest;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

struct Bare {
    stream: UnixStream,
    answer: Vec<u8>,
    since: Instant,
}

/// Makes requests to submit, each with a key of its own.
struct Requests {
    before_key: String,
    after_key: String,
}

/// A key that comes twice makes no second job.
static KEYS: AtomicU64 = AtomicU64::new(0);

impl Requests {
    fn new(request: &SubmitRequest) -> Self {
        const KEY: &str = "the key";
        let keyed = SubmitRequest { request_key: Some(KEY.to_owned()), ..request.clone() };
        let body = serde_json::to_string(&keyed).unwrap();
        let (before, after) = body.split_once(KEY).unwrap();
        Self { before_key: before.to_owned(), after_key: after.to_owned() }
    }

    fn next(&self) -> Vec<u8> {
        let (before, after) = (&self.before_key, &self.after_key);
        // As long as the key that the client makes.
        let key = format!(
            "{:08x}-6a1c-4f3b-9d2e-{:012x}-1",
            std::process::id(),
            KEYS.fetch_add(1, Ordering::Relaxed)
        );
        let bytes = before.len() + key.len() + after.len();
        let head =
            "POST /v1/jobs HTTP/1.1\r\nhost: muster\r\ncontent-type: application/json\r\ncontent-length:";
        format!("{head} {bytes}\r\n\r\n{before}{key}{after}").into_bytes()
    }
}

/// Whether an answer is there as a whole. Panics if it is a refusal.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).unwrap();
    assert!(text.starts_with("HTTP/1.1 201"), "{}", String::from_utf8_lossy(answer));
    let bytes = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    answer.len() >= head + 4 + bytes.parse::<usize>().unwrap()
}

/// Submits over so many connections at once until the time is over. Gives how long each submit took, sorted.
pub fn submit(socket: &Path, connections: usize, time: Duration, request: &SubmitRequest) -> Vec<Duration> {
    let requests = Requests::new(request);
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let mut all: Vec<Bare> = (0..connections)
        .map(|number| {
            let stream = UnixStream::connect(socket).unwrap();
            epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64)).unwrap();
            Bare { stream, answer: Vec::new(), since: Instant::now() }
        })
        .collect();
    let end = Instant::now() + time;
    let (mut took, mut chunk) = (Vec::new(), vec![0; 4096]);
    for bare in &mut all {
        bare.since = Instant::now();
        bare.stream.write_all(&requests.next()).unwrap();
    }
    let mut ready = vec![EpollEvent::empty(); connections];
    while Instant::now() < end {
        let count = epoll.wait(&mut ready, EpollTimeout::from(1000u16)).unwrap();
        for event in &ready[..count] {
            let bare = &mut all[event.data() as usize];
            let bytes = bare.stream.read(&mut chunk).unwrap();
            assert!(bytes > 0, "the controller closed a connection");
            bare.answer.extend_from_slice(&chunk[..bytes]);
            if is_whole(&bare.answer) {
                took.push(bare.since.elapsed());
                bare.answer.clear();
                bare.since = Instant::now();
                bare.stream.write_all(&requests.next()).unwrap();
            }
        }
    }
    took.sort_unstable();
    took
}
