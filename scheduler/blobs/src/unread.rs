//! Bodies that an answer did not need. A request that is refused by its head alone leaves its body in the connection. The
//! connection would be closed for that, and a client that still sends would find it reset, often before it has read the
//! answer (RFC 9112, 9.6). What little there is, is therefore read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::response::Response;
use bytes::Bytes;
use http::{Request, header};
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt as _};

/// How much is read of a body that nobody wanted, which is what the SDKs send at once: the client of a larger one will find its
/// connection closed.
const UNREAD_BYTES_MAX: usize = 64 << 20;

/// How long its client may take to send it.
const UNREAD_WITHIN: Duration = Duration::from_secs(5);

/// Answers a request, and reads what the answer has left of its body.
pub async fn answer_and_read<F>(
    request: Request<Body>,
    answer: impl FnOnce(Request<Body>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    // Who expects to be asked for the body has not sent it.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return answer(request).await;
    }
    let (parts, body) = request.into_parts();
    let (back, mut left) = oneshot::channel();
    let lent = Lent { stream: Some(body.into_data_stream()), back: Some(back) };
    let response = answer(Request::from_parts(parts, Body::from_stream(lent))).await;
    if let Ok(stream) = left.try_recv() {
        let _too_slow = tokio::time::timeout(UNREAD_WITHIN, read(stream)).await;
    }
    response
}

async fn read(mut stream: BodyDataStream) {
    let mut bytes = 0;
    while let Some(Ok(part)) = stream.next().await {
        bytes += part.len();
        if bytes > UNREAD_BYTES_MAX {
            return;
        }
    }
}

/// A body that goes back when it is no longer used.
struct Lent {
    stream: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            let _nobody_waits = back.send(stream);
        }
    }
}
