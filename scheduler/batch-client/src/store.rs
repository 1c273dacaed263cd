//! Containers and blobs of the embedded store.
//!
//! Only a container is made with the account's key; all else goes by addresses that are signed here for an hour, as the
//! addresses are that tasks take their files from.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use muster_batch::query::{Query, encode};
use muster_batch::storage::{self, Permissions, Resource, sign_url};
use quick_xml::events::Event;

use crate::error::{BatchClientError, Result};
use crate::service::{Broken, Service, copy};
use crate::transport::{Ask, Content, http_now};

/// The version of the store's protocol that is spoken.
const VERSION: &str = "2021-12-02";
/// Files up to this size are put at once, and larger ones in blocks of it.
const BLOCK_BYTES: usize = 16 << 20;
/// Blobs of one page of a list.
const PAGE: usize = 5000;

/// A blob, as a list tells of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, as the store says it.
    pub last_modified: String,
}

/// The store of a service.
#[derive(Debug, Clone, Copy)]
pub struct Store<'s> {
    service: &'s Service,
}

impl<'s> Store<'s> {
    /// The store that a service offers, if it does.
    #[must_use]
    pub fn of(service: &'s Service) -> Self {
        Self { service }
    }

    /// An address by which whoever has it may do something with a container, or below a folder of it, for so long.
    #[must_use]
    pub fn container_url(&self, container: &str, permissions: Permissions, valid: SignedDuration) -> String {
        self.url(container, "", Resource::Container(container), permissions, valid)
    }

    /// An address by which whoever has it may read a blob, for so long.
    #[must_use]
    pub fn blob_url(&self, container: &str, blob: &str, valid: SignedDuration) -> String {
        let reads = Permissions { read: true, ..Permissions::default() };
        self.url(container, &path(blob), Resource::Blob(container, blob), reads, valid)
    }

    fn url(
        &self,
        container: &str,
        below: &str,
        resource: Resource<'_>,
        permissions: Permissions,
        valid: SignedDuration,
    ) -> String {
        let account = self.service.account();
        let end = Timestamp::now().checked_add(valid).unwrap_or(Timestamp::MAX);
        let query = sign_url(&account.name, &account.key, resource, permissions, end);
        let base = account.store.as_ref().unwrap_or(&account.endpoint);
        format!("{base}/{}/{container}{below}?{query}", account.name)
    }

    /// Makes a container, if it is not there.
    ///
    /// # Errors
    /// What the store refuses, or that there is none.
    pub fn make_container(&self, container: &str) -> Result<()> {
        let account = self.service.account();
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
        let ask = Ask {
            method: Method::PUT,
            target: format!("/{}/{}?restype=container", account.name, encode(container)),
            headers,
            body: Content::Bytes(&[]),
        };
        let sign = |ask: &Ask<'_>, headers: &mut HeaderMap| {
            headers.insert("x-ms-date", http_now());
            let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
            let query = Query::parse(query)?;
            let text =
                storage::authorization(&account.name, &account.key, &ask.method, path, &query, headers);
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(header::AUTHORIZATION, value);
            }
            Ok(())
        };
        match self.service.transport().send(&ask, &sign) {
            Err(error) if error.code() == Some("ContainerAlreadyExists") => Ok(()),
            Err(error) => Err(self.there_is_none(error, container)),
            Ok(_) => Ok(()),
        }
    }

    /// The batch service itself answers where there is no store, and does not know this way of signing.
    fn there_is_none(&self, error: BatchClientError, what: &str) -> BatchClientError {
        match error.code() {
            Some(
                "InvalidAuthenticationInfo"
                | "MissingRequiredHeader"
                | "ResourceNotFound"
                | "InvalidHeaderValue",
            ) => BatchClientError::NoStore {
                endpoint: self.service.account().endpoint.clone(),
                what: what.to_owned(),
            },
            _ => error,
        }
    }

    /// Asks for something by an address that is signed for it.
    fn ask(
        &self,
        method: Method,
        container: &str,
        below: &str,
        more: &str,
        headers: HeaderMap,
        body: Content<'_>,
    ) -> Result<reqwest::blocking::Response> {
        let account = self.service.account();
        let all = Permissions { read: true, create: true, write: true, delete: true, list: true };
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        let query = sign_url(&account.name, &account.key, Resource::Container(container), all, end);
        let target = format!("/{}/{}{below}?{more}{query}", account.name, encode(container));
        let sent = self.service.transport().send(&Ask { method, target, headers, body }, &|_, headers| {
            headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
            Ok(())
        });
        sent.map_err(|error| self.there_is_none(error, container))
    }

    /// Brings a file there, and tells how many bytes more are there.
    ///
    /// # Errors
    /// If the file cannot be read, or the store refuses it.
    pub fn upload(&self, from: &Path, container: &str, blob: &str, mut moved: impl FnMut(u64)) -> Result<()> {
        let failed = |source| BatchClientError::File { action: "read", path: from.to_owned(), source };
        let mut file = File::open(from).map_err(failed)?;
        let mut whole = Vec::new();
        let mut block = |whole: &mut Vec<u8>| -> Result<bool> {
            whole.clear();
            let read = Read::by_ref(&mut file).take(BLOCK_BYTES as u64).read_to_end(whole).map_err(failed)?;
            Ok(read == BLOCK_BYTES)
        };
        if !block(&mut whole)? {
            self.put(container, &path(blob), "", &whole, true)?;
            moved(whole.len() as u64);
            return Ok(());
        }
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        let mut number = 0;
        loop {
            let id = STANDARD.encode(format!("{number:08}"));
            self.put(container, &path(blob), &format!("comp=block&blockid={}&", encode(&id)), &whole, false)?;
            moved(whole.len() as u64);
            list.push_str(&format!("<Latest>{id}</Latest>"));
            number += 1;
            let full = block(&mut whole)?;
            if whole.is_empty() {
                break;
            }
            if !full {
                let id = STANDARD.encode(format!("{number:08}"));
                let more = format!("comp=block&blockid={}&", encode(&id));
                self.put(container, &path(blob), &more, &whole, false)?;
                moved(whole.len() as u64);
                list.push_str(&format!("<Latest>{id}</Latest>"));
                break;
            }
        }
        list.push_str("</BlockList>");
        self.put(container, &path(blob), "comp=blocklist&", list.as_bytes(), false)
    }

    fn put(&self, container: &str, below: &str, more: &str, bytes: &[u8], is_blob: bool) -> Result<()> {
        let mut headers = HeaderMap::new();
        if is_blob {
            let name = HeaderName::from_static("x-ms-blob-type");
            headers.insert(name, HeaderValue::from_static("BlockBlob"));
        }
        if let Ok(digest) = HeaderValue::from_str(&STANDARD.encode(Md5::digest(bytes))) {
            headers.insert("content-md5", digest);
        }
        self.ask(Method::PUT, container, below, more, headers, Content::Bytes(bytes)).map(|_| ())
    }

    /// The blobs whose names begin with `prefix`.
    ///
    /// # Errors
    /// What the store refuses.
    pub fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>> {
        let mut all = Vec::new();
        let mut marker = String::new();
        loop {
            let more = format!(
                "restype=container&comp=list&maxresults={PAGE}&prefix={}&marker={}&",
                encode(prefix),
                encode(&marker)
            );
            let answer = self.ask(Method::GET, container, "", &more, HeaderMap::new(), Content::Nothing)?;
            let text = answer.text().map_err(|error| self.service.broken(error))?;
            let page = read_page(&text)
                .ok_or_else(|| self.service.transport().bad("its list of blobs is no XML"))?;
            all.extend(page.blobs);
            if page.marker.is_empty() {
                return Ok(all);
            }
            marker = page.marker;
        }
    }

    /// Writes a blob somewhere, and tells how many bytes more are written.
    ///
    /// # Errors
    /// What the store refuses, or why it cannot be written.
    pub fn download(
        &self,
        container: &str,
        blob: &str,
        to: &mut dyn Write,
        mut moved: impl FnMut(u64),
    ) -> Result<()> {
        let answer = self.ask(Method::GET, container, &path(blob), "", HeaderMap::new(), Content::Nothing)?;
        copy(answer, to, &mut moved).map_err(|broken| match broken {
            Broken::Here(error) => BatchClientError::Output(error),
            Broken::There(error) => BatchClientError::Unreachable {
                endpoint: self.service.account().endpoint.clone(),
                why: error.to_string(),
                source: None,
            },
        })
    }

    /// Removes a blob.
    ///
    /// # Errors
    /// What the store refuses.
    pub fn delete(&self, container: &str, blob: &str) -> Result<()> {
        self.ask(Method::DELETE, container, &path(blob), "", HeaderMap::new(), Content::Nothing).map(|_| ())
    }
}

/// The path of a blob in an address: its slashes stay.
fn path(blob: &str) -> String {
    blob.split('/').map(|part| format!("/{}", encode(part))).collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    blobs: Vec<Blob>,
    marker: String,
}

/// Reads a page of a list; nothing if it is none.
fn read_page(text: &str) -> Option<Page> {
    let mut reader = quick_xml::Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut page = Page::default();
    let (mut path, mut inner) = (Vec::<String>::new(), String::new());
    let mut blob = Blob { name: String::new(), bytes: 0, last_modified: String::new() };
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                inner.clear();
            }
            Event::Text(text) => inner.push_str(&text.decode().ok()?),
            Event::GeneralRef(reference) => {
                let entity = format!("&{};", reference.decode().ok()?);
                inner.push_str(&quick_xml::escape::unescape(&entity).ok()?);
            }
            Event::End(_) => {
                let name = path.pop()?;
                match name.as_str() {
                    "Name" => blob.name = std::mem::take(&mut inner),
                    "Content-Length" => blob.bytes = inner.parse().ok()?,
                    "Last-Modified" => blob.last_modified = std::mem::take(&mut inner),
                    "NextMarker" => page.marker = std::mem::take(&mut inner),
                    "Blob" => page.blobs.push(blob.clone()),
                    _ => {}
                }
            }
            Event::Eof if path.is_empty() && text.contains("EnumerationResults") => return Some(page),
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_list_is_read() {
        let text = "\u{feff}<?xml version=\"1.0\"?><EnumerationResults><Blobs><Blob><Name>a &amp; b/c</Name><Properties>\
                    <Last-Modified>Sun, 08 May 2011 08:49:37 GMT</Last-Modified><Content-Length>12</Content-Length></Properties>\
                    </Blob></Blobs><NextMarker>x</NextMarker></EnumerationResults>";
        let page = read_page(text).unwrap();
        assert_eq!(
            (page.blobs[0].name.as_str(), page.blobs[0].bytes, page.marker.as_str()),
            ("a & b/c", 12, "x")
        );
        assert_eq!(read_page("<html></html>"), None);
        assert_eq!(read_page("<EnumerationResults><Blobs>"), None);
    }

    #[test]
    fn the_name_of_a_blob_is_encoded_part_by_part() {
        assert_eq!(path("out/a b/c.png"), "/out/a%20b/c.png");
    }
}
