//! A way to a server that can be cut: a socket whose connections are handed on, or are held without a word.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::PostgresServer;

/// A socket of its own on the way to a server.
#[derive(Debug)]
pub struct Cut {
    folder: tempfile::TempDir,
    port: u16,
    gate: Arc<Gate>,
}

/// Holds back whatever goes through while it is closed.
#[derive(Debug, Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(closed, |closed| *closed));
    }

    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = is_closed;
        self.changed.notify_all();
    }
}

impl Cut {
    /// Opens the socket. It is served until the test's process ends.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn before(server: &PostgresServer) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = format!(".s.PGSQL.{}", server.port());
        let listener = UnixListener::bind(folder.path().join(&name))?;
        let gate = Arc::new(Gate::default());
        let (to, through) = (server.folder().join(name), Arc::clone(&gate));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A server that is down refuses: so does this, by closing.
                if let Ok(server) = UnixStream::connect(&to) {
                    hand_on(stream, server, &through);
                }
            }
        });
        Ok(Self { folder, port: server.port(), gate })
    }

    /// The URL of a database over this socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://muster@/{database}?host={}&port={}", self.folder.path().display(), self.port)
    }

    /// The folder of the socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Nothing goes through any more, in either direction, and nobody is told.
    pub fn close(&self) {
        self.gate.set(true);
    }

    /// What was held back goes on, in order.
    pub fn open(&self) {
        self.gate.set(false);
    }
}

fn hand_on(client: UnixStream, server: UnixStream, gate: &Arc<Gate>) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    for (from, to) in [(client, server), (server_too, client_too)] {
        let gate = Arc::clone(gate);
        std::thread::spawn(move || pump(&from, &to, &gate));
    }
}

fn pump(mut from: &UnixStream, mut to: &UnixStream, gate: &Gate) {
    let mut buffer = [0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        gate.pass();
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            let _ = from.shutdown(std::net::Shutdown::Both);
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
