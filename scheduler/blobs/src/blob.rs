//! Requests for blobs.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{BlobsError, Code, file, refuse};
use crate::headers::{self, Range};
use crate::index::{Part, Properties};
use crate::service::{Asked, Store, empty, with_body};
use crate::shared_key::header;

/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;
/// How many pieces wait for a client that reads slowly.
const PIECES_AHEAD: usize = 2;

/// Keeps the files of a version until it has been read.
struct Pinned {
    store: Arc<Store>,
    blob: i64,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let (store, blob) = (Arc::clone(&self.store), self.blob);
        let unpin = move || store.data.remove(&store.index.unpin(blob));
        match tokio::runtime::Handle::try_current() {
            // The index may be waiting for the disk.
            Ok(runtime) => drop(runtime.spawn_blocking(unpin)),
            Err(_) => unpin(),
        }
    }
}

impl Store {
    pub(crate) async fn put_blob(
        self: Arc<Self>,
        asked: Asked,
        body: Body,
    ) -> Result<Response<Body>, BlobsError> {
        if asked.headers.contains_key("x-ms-copy-source") {
            return Err(refuse(Code::UnsupportedHeader, "There is no copying: read the source, and put it."));
        }
        if header(&asked.headers, "x-ms-blob-type") != "BlockBlob" {
            return Err(refuse(
                Code::InvalidHeaderValue,
                "The header x-ms-blob-type is BlockBlob: there are no others.",
            ));
        }
        let length = headers::content_length(&asked.headers, self.limits.body_bytes)?;
        let md5 = headers::digest(&asked.headers, "content-md5")?;
        let mut properties = headers::properties(&asked.headers, true)?;
        let reserved = self.reserve(&asked, length).await?;
        // What cannot be is said before the body comes, and asked again when it is there.
        let asked = self
            .blocking(move |store| {
                let before = match store.index.blob(asked.at()) {
                    Ok(blob) => Some(blob.version),
                    Err(error) if error.code() == Code::BlobNotFound => None,
                    Err(error) => return Err(error),
                };
                asked.conditions.check_write(before)?;
                Ok(asked)
            })
            .await?;
        let incoming = self.data.receive(body, length, md5).await?;
        let digest = STANDARD.encode(incoming.md5);
        properties.md5.get_or_insert_with(|| digest.clone());
        let version = self
            .blocking(move |store| {
                let part = Part { file: incoming.id, length: incoming.length, block: None };
                let done =
                    store.index.put_blob(asked.at(), &properties, &asked.conditions, part, asked.now)?;
                incoming.keep();
                Ok(store.clear(done))
            })
            .await?;
        drop(reserved);
        Ok(empty(headers::version(Response::builder().status(201).header("content-md5", digest), version)))
    }

    pub(crate) async fn get_blob(
        self: Arc<Self>,
        asked: Asked,
        head: bool,
    ) -> Result<Response<Body>, BlobsError> {
        let store = Arc::clone(&self);
        let (asked, blob, parts, pinned) = self
            .blocking(move |this| {
                let (blob, parts) = this.index.pin(asked.at())?;
                let pinned = Pinned { store, blob: blob.id };
                Ok((asked, blob, parts, pinned))
            })
            .await?;
        asked.conditions.check_read(blob.version)?;
        let mut builder = headers::of_blob(Response::builder(), &blob);
        let md5 = blob.properties.md5.as_deref().unwrap_or_default();
        if head {
            builder = headers::text(builder, "content-md5", md5);
            return Ok(empty(builder.header("content-length", blob.length)));
        }
        let range = headers::range(&asked.headers, blob.length)?;
        let (range, bytes) = match range {
            Some(Range { first, last }) => {
                let told = format!("bytes {first}-{last}/{}", blob.length);
                builder = builder.status(206).header("content-range", told);
                // The digest is of the whole.
                builder = headers::text(builder, "x-ms-blob-content-md5", md5);
                (Some(Range { first, last }), last - first + 1)
            }
            None => {
                builder = headers::text(builder, "content-md5", md5);
                (blob.length.checked_sub(1).map(|last| Range { first: 0, last }), blob.length)
            }
        };
        let mut response = with_body(builder.header("content-length", bytes), Body::empty());
        for (name, value) in asked.overrides {
            if let Ok(value) = http::HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        if let Some(range) = range {
            *response.body_mut() = stream(pinned, parts, range);
        }
        Ok(response)
    }

    pub(crate) async fn delete_blob(self: Arc<Self>, asked: Asked) -> Result<Response<Body>, BlobsError> {
        self.blocking(move |store| {
            let files = store.index.delete_blob(asked.at(), &asked.conditions)?;
            store.data.remove(&files);
            Ok(())
        })
        .await?;
        Ok(empty(Response::builder().status(202)))
    }

    pub(crate) async fn set_metadata(self: Arc<Self>, asked: Asked) -> Result<Response<Body>, BlobsError> {
        let metadata = headers::metadata(&asked.headers)?;
        self.change(asked, |properties| properties.metadata = metadata).await
    }

    pub(crate) async fn set_properties(self: Arc<Self>, asked: Asked) -> Result<Response<Body>, BlobsError> {
        let given = headers::properties(&asked.headers, false)?;
        self.change(asked, |properties| {
            properties.headers = given.headers;
            properties.md5 = given.md5;
        })
        .await
    }

    async fn change(
        self: Arc<Self>,
        asked: Asked,
        change: impl FnOnce(&mut Properties) + Send + 'static,
    ) -> Result<Response<Body>, BlobsError> {
        let changed =
            move |store: &Self| store.index.set_properties(asked.at(), &asked.conditions, change, asked.now);
        let version = self.blocking(changed).await?;
        Ok(empty(headers::version(Response::builder(), version)))
    }
}

/// Reads a range piece by piece, no faster than the client takes it. An error breaks the connection off, so that nobody takes
/// half a blob for a whole one.
fn stream(pinned: Pinned, parts: Vec<Part>, range: Range) -> Body {
    let (pieces, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&pinned, &parts, range, &pieces) {
            tracing::error!(error = &error as &dyn std::error::Error, "a blob cannot be read to its end");
            let _ = pieces.blocking_send(Err(std::io::Error::other(error)));
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}

fn read(
    pinned: &Pinned,
    parts: &[Part],
    range: Range,
    pieces: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), BlobsError> {
    let mut begin = 0_u64;
    for part in parts {
        let end = begin + part.length;
        // What of this part lies in the range.
        let (first, after) = (range.first.max(begin), (range.last + 1).min(end));
        if first < after {
            let path = pinned.store.data.path(part.file);
            let mut opened = std::fs::File::open(&path).map_err(file("open", &path))?;
            opened.seek(SeekFrom::Start(first - begin)).map_err(file("read", &path))?;
            let mut left = after - first;
            while left > 0 {
                let size = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
                let mut piece = vec![0; size];
                opened.read_exact(&mut piece).map_err(file("read", &path))?;
                left -= size as u64;
                if pieces.blocking_send(Ok(piece.into())).is_err() {
                    // The client has gone.
                    return Ok(());
                }
            }
        }
        begin = end;
    }
    Ok(())
}
