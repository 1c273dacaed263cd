//! A Unix socket of which the runtime waits for what comes in, and for room to write only where there is none.
//!
//! The runtime's own socket waits for both all the time, so that each message that the other end takes wakes the one who wrote it. Between
//! agent and supervisors, which wait for each other at each task, that would be as many wakings as there are messages.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// The socket. It is read and written by reference, by one reader and one writer.
#[derive(Debug)]
pub struct Quiet {
    socket: AsyncFd<UnixStream>,
    /// While there is no room to write.
    room: Mutex<Option<AsyncFd<OwnedFd>>>,
}

impl Quiet {
    /// Takes a socket, for use within the present runtime.
    ///
    /// # Errors
    ///
    /// Those of the runtime.
    pub fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: register(socket, Interest::READABLE)?, room: Mutex::new(None) })
    }
}

fn register<T: AsRawFd>(socket: T, interest: Interest) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: both kinds of socket own their descriptor, which stays open and the same for as long as they are registered.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(Into::into)
}

impl AsRawFd for Quiet {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsyncRead for &Quiet {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            let place = buffer.initialize_unfilled();
            match self.socket.get_ref().read(place) {
                Ok(read) => {
                    // Nothing is left: the kernel will tell of what comes next, as it does at each arrival.
                    if read > 0 && read < place.len() {
                        ready.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for &Quiet {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.socket.get_ref().write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                written => {
                    *room = None;
                    return Poll::Ready(written);
                }
            }
            let waits = match room.take() {
                Some(waits) => waits,
                None => {
                    let again = self.socket.get_ref().as_fd().try_clone_to_owned()?;
                    register(again, Interest::WRITABLE)?
                }
            };
            let waits = room.insert(waits);
            ready!(waits.poll_write_ready(cx))?.clear_ready();
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_has_no_room_waits_until_the_other_end_reads() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Quiet::new(near).unwrap(), Quiet::new(far).unwrap());
        let bytes: Vec<u8> = (0..4u32 << 20).map(|i| (i % 251) as u8).collect();
        let mut found = vec![0; bytes.len()];
        // Both ways at once, in one task: whoever would block would do so for ever.
        let all = async {
            let (mut near, mut far) = (&near, &far);
            tokio::join!(near.write_all(&bytes), async {
                tokio::task::yield_now().await;
                far.read_exact(&mut found).await.unwrap();
            })
        };
        all.await.0.unwrap();
        assert!(found == bytes);
        assert!(near.room.lock().unwrap().is_none(), "it waits for room no longer");
        let (mut near, mut reads) = (&near, &far);
        near.write_all(b"short").await.unwrap();
        near.shutdown().await.unwrap();
        let mut rest = Vec::new();
        reads.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"short");
        // Nobody reads any more.
        drop(far);
        assert_eq!(near.write(b"lost").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_comes_later_is_heard_of() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Quiet::new(near).unwrap(), Quiet::new(far).unwrap());
        let (mut to, mut from) = (&near, &far);
        let mut found = [0; 3];
        for round in 0..100 {
            // The reader waits before anything is written.
            let write = async {
                tokio::task::yield_now().await;
                to.write_all(&[round; 3]).await
            };
            let (read, written) = tokio::join!(from.read_exact(&mut found), write);
            read.unwrap();
            written.unwrap();
            assert_eq!(found, [round; 3]);
        }
        drop(near);
        assert_eq!(from.read(&mut found).await.unwrap(), 0);
    }
}
