//! A connection that can be held up, as by a cut cable or by a process that reads nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::{BoxFuture, Service, http::Uri};

use super::Conduct;

/// What goes through the connections of one agent.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Held>);

#[derive(Debug)]
struct Held {
    conduct: Conduct,
    /// Who waits to read, and who waits to write.
    waiting: [Option<Waker>; 2],
}

#[derive(Clone, Copy)]
enum Way {
    In = 0,
    Out = 1,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Mutex::new(Held { conduct: Conduct::Present, waiting: [None, None] }))
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, conduct: Conduct) {
        let waiting = {
            let mut held = self.lock();
            held.conduct = conduct;
            std::mem::take(&mut held.waiting)
        };
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn pass(&self, way: Way, context: &Context<'_>) -> Poll<()> {
        let mut held = self.lock();
        let open = match held.conduct {
            Conduct::Present | Conduct::Killed => true,
            Conduct::Cut => false,
            Conduct::Deaf => matches!(way, Way::Out),
        };
        if open {
            return Poll::Ready(());
        }
        held.waiting[way as usize] = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A connection through a gate.
pub(super) struct Gated {
    stream: TcpStream,
    gate: Arc<Gate>,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.gate.pass(Way::In, context));
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.gate.pass(Way::Out, context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate.pass(Way::Out, context));
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate.pass(Way::Out, context));
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Makes such connections.
#[derive(Clone)]
pub(super) struct Connector {
    pub address: SocketAddr,
    pub gate: Arc<Gate>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Gated>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, gate } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Gated { stream, gate }))
        })
    }
}
