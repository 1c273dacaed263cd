//! What nothing can be faster than: small writes that are synced, round trips, and both for as many connections as clients have.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use muster_client::api::SubmitRequest;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::bare;

/// As many bytes as a submit has, and its answer.
const BYTES: (usize, usize) = (800, 150);

/// Small writes that are synced, on the disk below a folder.
pub struct Syncs {
    file: File,
    made: u64,
}

impl Syncs {
    /// How many pages the file has.
    const PAGES: u64 = 1024;

    pub fn below(folder: &Path) -> Self {
        let file = File::create(folder.join("syncs")).unwrap();
        // The log of the database is overwritten in place as well, most of the time.
        file.write_all_at(&vec![0; Self::PAGES as usize * 4096], 0).unwrap();
        file.sync_all().unwrap();
        Self { file, made: 0 }
    }

    pub fn one(&mut self) {
        let page = [self.made as u8; 4096];
        self.file.write_all_at(&page, self.made % Self::PAGES * 4096).unwrap();
        self.file.sync_data().unwrap();
        self.made += 1;
    }
}

/// How long something takes that is done again and again for a time: half of the times it takes less.
fn median_ms(time: Duration, mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < time {
        let before = Instant::now();
        work();
        took.push(before.elapsed());
    }
    took.sort_unstable();
    percentile_ms(&took, 50)
}

/// The part of the sorted values at which `percent` of them are smaller, in milliseconds.
pub fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// How long a request and its answer take over a stream to another thread: half of them take less.
fn echo_ms<S: Read + Write + Send + 'static>(time: Duration, mut near: S, mut far: S) -> f64 {
    let echo = std::thread::spawn(move || {
        let mut request = vec![0; BYTES.0];
        while far.read_exact(&mut request).is_ok() {
            if far.write_all(&request[..BYTES.1]).is_err() {
                return;
            }
        }
    });
    let (request, mut answer) = (vec![1; BYTES.0], vec![0; BYTES.1]);
    let took = median_ms(time, || {
        near.write_all(&request).unwrap();
        near.read_exact(&mut answer).unwrap();
    });
    drop(near);
    echo.join().unwrap();
    took
}

/// A synced write, and a round trip over a Unix socket and over TCP.
pub struct Floor {
    pub sync_ms: f64,
    pub unix_ms: f64,
    pub tcp_ms: f64,
}

impl Floor {
    /// Measures it for three fourths of the time.
    pub fn measure(folder: &Path, time: Duration) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let unix_ms = echo_ms(time / 8, near, far);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let tcp_ms = echo_ms(time / 8, near, far);
        let mut syncs = Syncs::below(folder);
        let sync_ms = median_ms(time / 2, || syncs.one());
        Self { sync_ms, unix_ms, tcp_ms }
    }

    /// One sync and one round trip, in milliseconds.
    pub fn submit_ms(&self) -> f64 {
        self.sync_ms + self.unix_ms
    }
}

/// Submits over so many bare connections to a thread that commits once for all that have come, which it is told the number of, and
/// does nothing else but read and answer. Gives how long each took, sorted.
pub fn only_committed(
    connections: usize,
    time: Duration,
    request: &SubmitRequest,
    commit: impl FnMut(usize) + Send,
) -> Vec<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&listener, connections, commit));
        bare::submit(&socket, connections, time, request)
    })
}

/// Answers submits of so many connections until the first of them is closed.
fn answer(listener: &UnixListener, connections: usize, mut commit: impl FnMut(usize)) {
    let body = r#"{"schema":1,"job":123456}"#;
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let accept = |number: usize| {
        let stream = listener.accept().unwrap().0;
        epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64)).unwrap();
        stream
    };
    let mut streams: Vec<UnixStream> = (0..connections).map(accept).collect();
    // A whole submit, which its client writes at once.
    let mut request = vec![0; 8192];
    let mut ready = vec![EpollEvent::empty(); connections];
    loop {
        let count = epoll.wait(&mut ready, EpollTimeout::NONE).unwrap();
        let ready = ready[..count].iter().map(|event| event.data() as usize);
        for number in ready.clone() {
            if streams[number].read(&mut request).is_ok_and(|bytes| bytes == 0) {
                return;
            }
        }
        commit(count);
        for number in ready {
            // One that is about to be closed may be closed already.
            let _ = streams[number].write_all(answer.as_bytes());
        }
    }
}
