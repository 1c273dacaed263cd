//! How requests to stores of blobs are signed, which is Azure Storage's: by SharedKey
//! (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>), and by signed URLs, which are service SAS for
//! containers and blobs (<https://learn.microsoft.com/rest/api/storageservices/create-service-sas>).

use std::fmt::Write as _;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::query::Query;
use crate::signature::{SIGNED_HEADERS, SharedKey};

/// The version that signed URLs of ours have.
const VERSION: &str = "2021-12-02";
/// Since this one the text has a line for an encryption scope.
const VERSION_WITH_SCOPE: &str = "2020-12-06";
/// What makes a signed URL's answer say other headers, and which.
pub const OVERRIDES: [(&str, &str); 5] = [
    ("rscc", "cache-control"),
    ("rscd", "content-disposition"),
    ("rsce", "content-encoding"),
    ("rscl", "content-language"),
    ("rsct", "content-type"),
];

/// What a signed URL allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Permissions {
    /// To read blobs.
    pub read: bool,
    /// To make blobs that are not there.
    pub create: bool,
    /// To write blobs.
    pub write: bool,
    /// To delete blobs.
    pub delete: bool,
    /// To list a container.
    pub list: bool,
}

impl Permissions {
    /// Reads the letters of a signed URL; those that mean nothing here allow nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let has = |letter| text.contains(letter);
        Self { read: has('r'), create: has('c'), write: has('w'), delete: has('d'), list: has('l') }
    }

    fn letters(self) -> String {
        [('r', self.read), ('c', self.create), ('w', self.write), ('d', self.delete), ('l', self.list)]
            .iter()
            .filter(|(_, allowed)| *allowed)
            .map(|(letter, _)| *letter)
            .collect()
    }
}

/// What a signed URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// All blobs of a container.
    Container(&'a str),
    /// One blob.
    Blob(&'a str, &'a str),
}

/// The query of a signed URL that allows this until `expiry`.
#[must_use]
pub fn sign_url(
    account: &str,
    key: &SharedKey,
    resource: Resource<'_>,
    permissions: Permissions,
    expiry: Timestamp,
) -> String {
    let (kind, name) = match resource {
        Resource::Container(container) => ("c", format!("/blob/{account}/{container}")),
        Resource::Blob(container, blob) => ("b", format!("/blob/{account}/{container}/{blob}")),
    };
    let (letters, expiry) = (permissions.letters(), expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let pairs = [("sp", letters.as_str()), ("se", expiry.as_str()), ("sv", VERSION), ("sr", kind)];
    let value = |name: &str| pairs.iter().find(|(each, _)| *each == name).map_or("", |(_, value)| *value);
    let signature = key.sign(&url_text(&value, &name, VERSION));
    let mut query = String::new();
    for (name, value) in pairs.iter().copied().chain([("sig", signature.as_str())]) {
        let _ = write!(query, "{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    query.pop();
    query
}

/// What is signed of a URL for the resource of this name; `value` gives the parameters of its query.
#[must_use]
pub fn url_text<'q>(value: &dyn Fn(&str) -> &'q str, name: &str, version: &str) -> String {
    let mut text = format!("{}\n{}\n{}\n{name}\n", value("sp"), value("st"), value("se"));
    for parameter in ["si", "sip", "spr", "sv", "sr"] {
        let _ = writeln!(text, "{}", value(parameter));
    }
    // The instant of a snapshot, of which there are none.
    text.push('\n');
    if version >= VERSION_WITH_SCOPE {
        let _ = writeln!(text, "{}", value("ses"));
    }
    let overrides: Vec<&str> = OVERRIDES.iter().map(|(parameter, _)| value(parameter)).collect();
    text + &overrides.join("\n")
}

/// What may have been signed: clients sort headers with hyphens as letters, or as if there were none.
#[must_use]
pub fn request_texts(
    account: &str,
    method: &Method,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Vec<String> {
    let mut head = format!("{method}\n");
    for name in SIGNED_HEADERS {
        let value = header(headers, name);
        // A length of zero is not signed since version 2015-02-21.
        head.push_str(if name == "content-length" && value == "0" { "" } else { value });
        head.push('\n');
    }
    let mut tail = format!("/{account}{path}");
    let mut parameters: Vec<(String, &str)> =
        query.iter_all().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    parameters.sort_unstable();
    for (name, value) in parameters {
        let _ = write!(tail, "\n{name}:{value}");
    }
    let mut names: Vec<&str> =
        headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-ms-")).collect();
    names.sort_unstable();
    let plain = middle(&names, headers);
    names.sort_by_key(|name| name.replace('-', ""));
    let collated = middle(&names, headers);
    let mut texts = vec![format!("{head}{plain}{tail}")];
    if collated != plain {
        texts.push(format!("{head}{collated}{tail}"));
    }
    texts
}

fn middle(names: &[&str], headers: &HeaderMap) -> String {
    names.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "{name}:{}", header(headers, name).trim());
        text
    })
}

/// Signs a request with an account's key. The path and the query are those that go over the wire, and the headers are complete
/// but for the signature, `x-ms-date` and `x-ms-version` among them.
#[must_use]
pub fn authorization(
    account: &str,
    key: &SharedKey,
    method: &Method,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> String {
    let texts = request_texts(account, method, path, query, headers);
    format!("SharedKey {account}:{}", key.sign(texts.first().map_or("", String::as_str)))
}

/// The value of a header, or nothing.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or_default()
}
