//! What signed URLs allow.

use std::net::IpAddr;

use jiff::Timestamp;
use muster_batch::query::Query;
use muster_batch::signature::SharedKey;
use muster_batch::storage::{Permissions, url_text};

use crate::error::{BlobsError, Code, refuse};
use crate::names::Target;
use crate::shared_key::{failed, made};

/// The oldest whose text to sign is known here.
const VERSION_MIN: &str = "2018-11-09";

/// How a request came here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) tls: bool,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) now: Timestamp,
}

/// Checks the signature in a query, and gives what it allows on the target. `raw_path` is the path without what stands before the
/// account, still encoded: some clients sign it so.
pub(crate) fn verify(
    target: &Target,
    raw_path: &str,
    keys: &[SharedKey],
    query: &Query<'_>,
    arrival: Arrival,
) -> Result<Permissions, BlobsError> {
    let value = |name: &str| query.get(name).unwrap_or_default();
    for unknown in ["si", "skoid", "ss", "srt", "snapshot"] {
        if !value(unknown).is_empty() {
            return Err(failed(&format!(
                "signed URLs with {unknown} are not known here, only service SAS for a container or a blob"
            )));
        }
    }
    let version = value("sv");
    if version < VERSION_MIN {
        return Err(failed("the sv of a signed URL is 2018-11-09 or later"));
    }
    let names = signed_names(target, raw_path, value("sr"))?;
    let texts: Vec<String> = names.iter().map(|name| url_text(&value, name, version)).collect();
    // A plus sign that was not encoded has become a space.
    let signature = value("sig").replace(' ', "+");
    if !keys.iter().any(|key| made(key, &signature, &texts)) {
        return Err(failed("the signature of the URL is not right"));
    }
    check_when(value("st"), value("se"), arrival.now)?;
    if value("spr") == "https" && !arrival.tls {
        return Err(refuse(Code::AuthorizationProtocolMismatch, "This URL is for https only."));
    }
    check_address(value("sip"), arrival.peer)?;
    Ok(Permissions::parse(value("sp")))
}

/// What may have been signed as the name of the resource.
fn signed_names(target: &Target, raw_path: &str, kind: &str) -> Result<Vec<String>, BlobsError> {
    let account = &target.account;
    match (kind, &target.container, &target.blob) {
        ("c", Some(container), _) => Ok(vec![format!("/blob/{account}/{container}")]),
        ("b", Some(container), Some(blob)) => {
            Ok(vec![format!("/blob/{account}/{container}/{blob}"), format!("/blob{raw_path}")])
        }
        ("c" | "b", _, _) => Err(failed("the URL is signed for something else")),
        _ => Err(failed("the sr of a signed URL is c, for a container, or b, for a blob")),
    }
}

fn check_when(start: &str, expiry: &str, now: Timestamp) -> Result<(), BlobsError> {
    let instant = |text: &str| {
        // `2026-01-01T00:00Z` has no seconds, and is allowed.
        let filled = text.strip_suffix('Z').filter(|rest| rest.len() == 16).map(|rest| format!("{rest}:00Z"));
        muster_batch::date::iso8601(filled.as_deref().unwrap_or(text))
            .ok_or_else(|| failed("st or se of the signed URL is no date: write 2026-01-01T00:00:00Z"))
    };
    if now >= instant(expiry)? {
        return Err(failed(&format!("the signed URL was valid until {expiry}")));
    }
    if !start.is_empty() && now < instant(start)? {
        return Err(failed(&format!("the signed URL is valid from {start}")));
    }
    Ok(())
}

/// `sip` is an address, or the first and the last one of a range.
fn check_address(sip: &str, peer: Option<IpAddr>) -> Result<(), BlobsError> {
    if sip.is_empty() {
        return Ok(());
    }
    let (first, last) = sip.split_once('-').unwrap_or((sip, sip));
    if let (Ok(first), Ok(last), Some(peer)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>(), peer)
        && first.is_ipv4() == peer.is_ipv4()
        && (first..=last).contains(&peer)
    {
        return Ok(());
    }
    Err(refuse(Code::AuthorizationSourceIPMismatch, "This URL is for other addresses."))
}
