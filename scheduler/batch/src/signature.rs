//! Who sent a request: the scheme SharedKey of the Azure Batch REST API, over the raw path and the decoded query.
//!
//! A signature covers the method, the path, the query, the length of the body and the conditional headers, but not the body
//! itself: over a network that is not trusted the service is offered with TLS.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use sha2::Sha256;

use crate::error::{BatchError, ErrorCode};
use crate::query::Query;

/// How far a client's clock may be from ours, in seconds, either way.
pub const CLOCK_SKEW_MAX_S: i64 = 15 * 60;

/// The headers that are signed, in this order; one that is not there is an empty line.
pub const SIGNED_HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// A key of an account.
#[derive(Clone)]
pub struct SharedKey(Hmac<Sha256>);

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// Why a text is no key. It never says the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is not base64.
    #[error(
        "a key is base64, with padding; this one is not: make one with `head -c 64 /dev/urandom | base64 -w0`"
    )]
    NotBase64(#[source] base64::DecodeError),
    /// It could be guessed.
    #[error(
        "a key has at least {min} bytes; this one has {found}: make one with `head -c 64 /dev/urandom | base64 -w0`"
    )]
    TooShort {
        /// How many bytes it has.
        found: usize,
        /// How many it needs.
        min: usize,
    },
}

/// Fewest bytes of a key.
const KEY_BYTES_MIN: usize = 16;

impl SharedKey {
    /// Reads a key as account keys are written: base64 of random bytes. White space around it does not count.
    ///
    /// # Errors
    /// If it is not base64, or shorter than 16 bytes.
    pub fn from_base64(text: &str) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(BadKey::NotBase64)?;
        if bytes.len() < KEY_BYTES_MIN {
            return Err(BadKey::TooShort { found: bytes.len(), min: KEY_BYTES_MIN });
        }
        // HMAC takes keys of any length.
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| BadKey::TooShort { found: 0, min: KEY_BYTES_MIN })
    }

    /// The signature of a text, in base64.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.0.clone().chain_update(text.as_bytes()).finalize().into_bytes())
    }

    /// Whether this key made `signature` over `text`, in a time that does not depend on how much of it is right.
    #[must_use]
    pub fn made(&self, signature: &[u8], text: &str) -> bool {
        self.0.clone().chain_update(text.as_bytes()).verify_slice(signature).is_ok()
    }
}

/// What the header `Authorization` says: who claims to have sent the request, and with which proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The account.
    pub account: &'a str,
    /// The proof, to be verified with a key of the account by [`verify`].
    pub signature: [u8; 32],
}

/// The token of the header `Authorization`, if that is of the scheme Bearer.
///
/// # Errors
/// `InvalidAuthenticationInfo` if the header is given twice.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, BatchError> {
    let mut all = headers.get_all("authorization").iter();
    let token = all.next().and_then(|value| value.to_str().ok()).and_then(|text| text.split_once(' '));
    let token =
        token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")).map(|(_, token)| token.trim());
    if token.is_some() && all.next().is_some() {
        let why = "The header Authorization is given twice.";
        return Err(BatchError::new(ErrorCode::InvalidAuthenticationInfo, why));
    }
    Ok(token)
}

/// Reads the header `Authorization`.
///
/// # Errors
/// `AuthenticationFailed` without the header, `InvalidAuthenticationInfo` if it is not of the scheme SharedKey.
pub fn claim(headers: &HeaderMap) -> Result<Claim<'_>, BatchError> {
    let bad = |why: &str| {
        BatchError::new(
            ErrorCode::InvalidAuthenticationInfo,
            format!("The header Authorization is wrong: {why}; write SharedKey ACCOUNT:SIGNATURE."),
        )
    };
    let mut all = headers.get_all("authorization").iter();
    let Some(value) = all.next() else {
        return Err(failed("the header Authorization is missing"));
    };
    if all.next().is_some() {
        return Err(bad("it is given twice"));
    }
    let text = value.to_str().map_err(|_| bad("it is not ASCII"))?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(|| bad("there is no space after the scheme"))?;
    if !scheme.eq_ignore_ascii_case("SharedKey") {
        return Err(bad("the scheme is not SharedKey"));
    }
    let (account, signature) =
        rest.trim().split_once(':').ok_or_else(|| bad("there is no colon after the account"))?;
    let signature = STANDARD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
    Ok(Claim { account, signature: signature.ok_or_else(|| bad("the signature is not base64 of 32 bytes"))? })
}

/// Which of an account's `keys` signed this request, which says that it was sent at about `now`.
///
/// `uri` is the request's target as it came over the wire, still encoded.
///
/// # Errors
/// `MissingRequiredHeader` without a date, and `AuthenticationFailed`, with the text that should have been signed (it holds no
/// secret), if none of them did or the date is too far away.
pub fn verify<'k, K>(
    claim: &Claim<'_>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    keys: impl IntoIterator<Item = (K, &'k SharedKey)>,
    now: Timestamp,
) -> Result<K, BatchError> {
    check_date(headers, now)?;
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let texts = texts_to_sign(claim.account, method, uri.path(), &query, headers)?;
    for (name, key) in keys {
        if texts.iter().any(|text| key.made(&claim.signature, text)) {
            return Ok(name);
        }
    }
    let text = texts.first().map(String::as_str).unwrap_or_default();
    Err(failed("the signature is not right for this account")
        .with("AuthenticationErrorDetail", format!("The text to sign is {text:?}.")))
}

/// The header `Authorization` of a request that is to be sent: its headers are complete but for this one, `ocp-date` and the length of
/// the body among them.
///
/// # Errors
/// What is wrong with the request's own query or headers.
pub fn authorization(
    account: &str,
    key: &SharedKey,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<String, BatchError> {
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let length = header(headers, "content-length")?;
    let text = text_to_sign(account, method, uri.path(), &query, headers, length)?;
    Ok(format!("SharedKey {account}:{}", key.sign(&text)))
}

fn failed(why: &str) -> BatchError {
    BatchError::new(
        ErrorCode::AuthenticationFailed,
        format!("The request could not be authenticated: {why}."),
    )
}

/// The date of a request, which is `ocp-date` where it is given, must be near.
fn check_date(headers: &HeaderMap, now: Timestamp) -> Result<(), BatchError> {
    let (name, value) =
        ["ocp-date", "date"].iter().find_map(|name| Some((name, headers.get(*name)?))).ok_or_else(|| {
            BatchError::new(ErrorCode::MissingRequiredHeader, "The request has neither ocp-date nor Date.")
                .with("HeaderName", "ocp-date")
        })?;
    let text = value.to_str().unwrap_or_default();
    let date = crate::date::rfc1123(text).ok_or_else(|| {
        BatchError::new(
            ErrorCode::InvalidHeaderValue,
            format!("The header {name} is wrong: write a date as Sun, 08 May 2011 08:49:37 GMT."),
        )
        .with("HeaderName", *name)
        .with("HeaderValue", text)
    })?;
    let away = date.as_second().saturating_sub(now.as_second());
    if away.abs() <= CLOCK_SKEW_MAX_S {
        return Ok(());
    }
    let way = if away < 0 { "before" } else { "after" };
    Err(failed(&format!(
        "its date {text} is {} s {way} the server's clock, and may be at most {CLOCK_SKEW_MAX_S} s away",
        away.abs()
    )))
}

/// What the client should have signed. A request without a body has two texts: clients write its length as 0 or not at all.
fn texts_to_sign(
    account: &str,
    method: &Method,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Result<Vec<String>, BatchError> {
    let length = header(headers, "content-length")?;
    let mut texts = vec![text_to_sign(account, method, path, query, headers, length)?];
    if matches!(length, "" | "0") {
        let other = if length.is_empty() { "0" } else { "" };
        texts.push(text_to_sign(account, method, path, query, headers, other)?);
    }
    Ok(texts)
}

fn text_to_sign(
    account: &str,
    method: &Method,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
    content_length: &str,
) -> Result<String, BatchError> {
    let mut text = format!("{method}\n");
    for name in SIGNED_HEADERS {
        text.push_str(if name == "content-length" { content_length } else { header(headers, name)? });
        text.push('\n');
    }
    let mut names: Vec<&str> =
        headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("ocp-")).collect();
    names.sort_unstable();
    for name in names {
        let value = header(headers, name)?;
        if !value.is_empty() {
            let _ = writeln!(text, "{name}:{value}");
        }
    }
    let _ = write!(text, "/{account}{path}");
    let mut parameters: Vec<(&str, &str)> = query.iter().collect();
    parameters.sort_unstable();
    for (name, value) in parameters {
        let _ = write!(text, "\n{name}:{value}");
    }
    Ok(text)
}

/// The value of a header, or nothing; one that counts for the signature must be clear.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, BatchError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok("") };
    let bad = |why: &str| {
        BatchError::new(ErrorCode::InvalidHeaderValue, format!("The header {name} is wrong: {why}."))
            .with("HeaderName", name)
    };
    if values.next().is_some() {
        return Err(bad("it is given twice"));
    }
    value.to_str().map_err(|_| bad("it is not ASCII"))
}

#[cfg(test)]
mod tests;
