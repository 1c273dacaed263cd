//! One file from a store: tried again, continued where a try broke off, checked, and put into its place whole.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use object_store::{GetOptions, GetRange, ObjectStore};
use reqwest::header::{ACCEPT_RANGES, CONTENT_LENGTH, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio_stream::{Stream, StreamExt as _};

use crate::cache::Cache;
use crate::error::{FilesError, Result, without_secrets};
use crate::local::Partial;
use crate::order::Tally;

/// How often a file is tried, and the pause after the first try, which doubles.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);

/// How long a connection may take, and how long nothing may come.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);
pub const SILENT_MAX: Duration = Duration::from_secs(60);

/// Where one file comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A GET of this address.
    Http { client: reqwest::Client, url: Url },
    /// An object of a store.
    Object { store: Arc<dyn ObjectStore>, path: object_store::path::Path },
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What a store answers to a request for a file from some byte on.
struct Opened {
    chunks: Chunks,
    /// The byte at which it begins: 0 if it cannot begin where it was asked to.
    from: u64,
    /// What a later request must say so that it gets the same version of the file.
    version: Option<String>,
    /// The whole file's MD5 digest, in Base64, if the store tells it.
    md5: Option<String>,
    /// The whole file's length, if the store tells it.
    bytes: Option<u64>,
}

impl Source {
    /// How it is named in messages.
    pub fn shown(&self) -> String {
        match self {
            Self::Http { url, .. } => {
                let mut url = url.clone();
                url.set_query(None);
                url.to_string()
            }
            Self::Object { path, .. } => format!("the object {path}"),
        }
    }

    async fn open(&self, from: u64, version: Option<&str>) -> Result<Opened> {
        match self {
            Self::Http { client, url } => {
                let mut request = client.get(url.clone());
                if let Some(version) = version.filter(|_| from > 0) {
                    request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, version);
                }
                let response = request.send().await.map_err(|error| self.failed_request(error))?;
                self.read(response, from)
            }
            Self::Object { store, path } => {
                let options = GetOptions {
                    range: (from > 0).then_some(GetRange::Offset(from)),
                    if_match: version.map(str::to_owned),
                    ..GetOptions::default()
                };
                let what = self.shown();
                let got = store.get_opts(path, options).await.map_err(|error| of_store(&what, &error))?;
                let (meta, range) = (got.meta.clone(), got.range.clone());
                let chunks =
                    got.into_stream().map(move |chunk| chunk.map_err(|error| of_store(&what, &error)));
                Ok(Opened {
                    chunks: Box::pin(chunks),
                    from: range.start,
                    version: meta.e_tag,
                    md5: None,
                    bytes: Some(meta.size),
                })
            }
        }
    }

    fn read(&self, response: Response, asked_from: u64) -> Result<Opened> {
        let status = response.status();
        if !status.is_success() {
            return Err(of_status(self.shown(), status));
        }
        let headers = response.headers();
        let from = if status == StatusCode::PARTIAL_CONTENT { asked_from } else { 0 };
        let rest: Option<u64> = text(headers, CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let opened = Opened {
            from,
            // A weak tag does not promise the same bytes.
            version: text(headers, ETAG).filter(|tag| {
                !tag.starts_with("W/") && text(headers, ACCEPT_RANGES).as_deref() != Some("none")
            }),
            // In an answer with a part of the file it would be the part's.
            md5: text(headers, "content-md5").filter(|_| from == 0),
            bytes: rest.map(|rest| rest + from),
            chunks: Box::pin(tokio_stream::empty()),
        };
        let what = self.shown();
        let chunks = response.bytes_stream().map(move |chunk| {
            chunk.map_err(|error| FilesError::Store {
                what: what.clone(),
                said: said(error),
                transient: true,
            })
        });
        Ok(Opened { chunks: Box::pin(chunks), ..opened })
    }

    fn failed_request(&self, error: reqwest::Error) -> FilesError {
        let transient = error.is_connect() || error.is_timeout() || error.is_request();
        FilesError::Store { what: self.shown(), said: said(error), transient }
    }

    /// Brings the file to a place, and says how many bytes it has.
    ///
    /// # Errors
    ///
    /// [`FilesError`] once no more tries are left, or another one would fail as well.
    pub async fn bring(&self, place: &Path, mode: u32, tally: &Tally, cache: Option<&Cache>) -> Result<u64> {
        let mut partial = Partial::create(place)?;
        let mut progress = Progress::default();
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            let had = progress.bytes;
            match self.try_once(&mut partial, &mut progress, place, tally, cache).await {
                Ok(()) => break,
                Err(error) if error.is_transient() => {
                    // A try that brought something was not in vain.
                    tries = if progress.bytes > had { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        partial.finish(mode)?;
        if let Some((cache, version)) = cache.zip(progress.version.as_ref()).filter(|_| !progress.is_cached) {
            cache.keep(&self.shown(), version, place);
        }
        Ok(progress.bytes)
    }

    async fn try_once(
        &self,
        partial: &mut Partial,
        progress: &mut Progress,
        place: &Path,
        tally: &Tally,
        cache: Option<&Cache>,
    ) -> Result<()> {
        let from = if progress.version.is_some() { progress.bytes } else { 0 };
        let mut opened = self.open(from, progress.version.as_deref()).await?;
        if opened.from != progress.bytes || from == 0 {
            progress.restart(partial, place, tally)?;
        }
        if progress.md5.is_none() {
            progress.md5 = opened.md5.take();
        }
        progress.version = opened.version.take();
        if let (Some(cache), Some(version), Some(bytes)) = (cache, &progress.version, opened.bytes)
            && progress.bytes == 0
            && cache.fill(&self.shown(), version, bytes, &mut partial.file, place)?
        {
            // What the store would send is not read.
            tally.add_bytes(bytes)?;
            (progress.bytes, progress.is_cached) = (bytes, true);
            return Ok(());
        }
        while let Some(chunk) = opened.chunks.next().await {
            let chunk = chunk?;
            tally.add_bytes(chunk.len() as u64)?;
            partial.file.write_all(&chunk).map_err(FilesError::local("write", place))?;
            progress.digest.update(&chunk);
            progress.bytes += chunk.len() as u64;
        }
        if let Some(bytes) = opened.bytes.filter(|bytes| *bytes != progress.bytes) {
            let said = format!("it ended after {} of {bytes} bytes", progress.bytes);
            return Err(FilesError::Store { what: self.shown(), said, transient: true });
        }
        let found = base64(&progress.digest.clone().finalize());
        match &progress.md5 {
            Some(expected) if *expected != found => {
                let error = FilesError::Damaged { what: self.shown(), found, expected: expected.clone() };
                progress.version = None;
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// What has arrived of a file.
#[derive(Default)]
struct Progress {
    bytes: u64,
    digest: Md5,
    version: Option<String>,
    md5: Option<String>,
    /// Whether it came from the cache.
    is_cached: bool,
}

impl Progress {
    /// Begins anew.
    fn restart(&mut self, partial: &mut Partial, place: &Path, tally: &Tally) -> Result<()> {
        tally.take_back_bytes(self.bytes);
        partial.file.set_len(0).map_err(FilesError::local("write", place))?;
        partial.file.seek(SeekFrom::Start(0)).map_err(FilesError::local("write", place))?;
        *self = Self::default();
        Ok(())
    }
}

fn text(headers: &HeaderMap, name: impl reqwest::header::AsHeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What an error of the HTTP client says, with its causes and without the address.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    without_secrets(&text)
}

fn of_status(what: String, status: StatusCode) -> FilesError {
    let said = format!("the server answers {status}");
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => FilesError::NotFound { what, said },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FilesError::Denied { what, said },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            FilesError::Store { what, said, transient: true }
        }
        _ => FilesError::Store { what, said, transient: status.is_server_error() },
    }
}

/// What an error of a store means. Its library has tried again already what the store asked to be tried again.
pub fn of_store(what: &str, error: &object_store::Error) -> FilesError {
    use object_store::Error;
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    // Stores answer in XML of many lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (what, said) = (what.to_owned(), without_secrets(&text));
    match error {
        Error::NotFound { .. } => FilesError::NotFound { what, said },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => FilesError::Denied { what, said },
        Error::Precondition { .. } => FilesError::Store { what, said, transient: true },
        // For listings the library keeps the status in its text alone.
        _ if said.contains("status code: 404") => FilesError::NotFound { what, said },
        _ if said.contains("status code: 403") || said.contains("status code: 401") => {
            FilesError::Denied { what, said }
        }
        _ => FilesError::Store { what, said, transient: false },
    }
}

/// Base64 with padding (RFC 4648), as Content-MD5 has it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place)) & 63;
            text.push(if place > group.len() { '=' } else { ALPHABET[digit as usize] as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_headers_have_them() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
