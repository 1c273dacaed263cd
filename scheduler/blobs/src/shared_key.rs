//! The scheme SharedKey of Azure's storage services: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use muster_batch::query::Query;
use muster_batch::signature::{CLOCK_SKEW_MAX_S, SharedKey};
use muster_batch::storage::request_texts;

use crate::error::{BlobsError, Code, refuse};

/// Checks the header `Authorization` of a request for `account`.
pub(crate) fn verify(
    account: &str,
    keys: &[SharedKey],
    method: &Method,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(), BlobsError> {
    let authorization = header(headers, "authorization");
    let claim = authorization.strip_prefix("SharedKey ").and_then(|rest| rest.split_once(':'));
    let Some((claimed, signature)) = claim else {
        return Err(refuse(
            Code::InvalidAuthenticationInfo,
            "The header Authorization is wrong: write SharedKey ACCOUNT:SIGNATURE.",
        ));
    };
    if claimed != account {
        return Err(failed("the account of the signature is not that of the path"));
    }
    check_date(headers, now)?;
    let texts = request_texts(account, method, path, query, headers);
    if keys.iter().any(|key| made(key, signature, &texts)) {
        return Ok(());
    }
    Err(failed("the signature is not right for this account"))
}

/// Whether a key made this signature, in base64, over one of these texts.
pub(crate) fn made(key: &SharedKey, signature: &str, texts: &[String]) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    texts.iter().any(|text| key.made(&signature, text))
}

/// A request that nobody can be believed to have sent.
pub(crate) fn failed(why: &str) -> BlobsError {
    refuse(Code::AuthenticationFailed, format!("The request could not be authenticated: {why}."))
}

fn check_date(headers: &HeaderMap, now: Timestamp) -> Result<(), BlobsError> {
    let date =
        ["x-ms-date", "date"].into_iter().map(|name| header(headers, name)).find(|text| !text.is_empty());
    let date = date.and_then(muster_batch::date::rfc1123);
    let date =
        date.ok_or_else(|| failed("the header x-ms-date is missing, or is no date as RFC 1123 has them"))?;
    let away = date.as_second().saturating_sub(now.as_second()).abs();
    if away <= CLOCK_SKEW_MAX_S {
        return Ok(());
    }
    Err(failed(&format!(
        "its date is {away} s from the server's clock, and may be at most {CLOCK_SKEW_MAX_S} s away"
    )))
}

/// The value of a header, or nothing.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or_default()
}
