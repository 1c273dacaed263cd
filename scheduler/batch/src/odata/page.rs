//! A list's query as a whole, and how a list goes on where one page ends.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::{Filter, List, Select};
use crate::error::{BatchError, ErrorCode};
use crate::query::Query;

/// Most rows of one page, and how many there are if the client says nothing.
pub const RESULTS_MAX: usize = 1000;
/// Longest position in a token, in bytes: ids have 64, and file names up to 4096.
const POSITION_BYTES_MAX: usize = 4096;
/// Stands at the head of every token, so that another form can be told from this one.
const TOKEN_VERSION: u8 = 1;
/// How many bytes of the digest of what was asked a token has.
const DIGEST_BYTES: usize = 8;

/// What is not encoded in the value of a parameter.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a client asks of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// Which rows.
    pub filter: Option<Filter>,
    /// Which properties of them; all, but for the statistics, if this is nothing.
    pub select: Option<Select>,
    /// Whether the rows come with their statistics.
    pub stats: bool,
    /// Most rows of this page.
    pub max_results: usize,
    /// Where the last page ended.
    pub after: Option<SkipToken>,
}

/// Where a page ended: the key of its last row, in the order of the list. The next page begins after it, whether that row is
/// still there or not. Whoever changes a token sees no more than the same request would show without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipToken {
    position: String,
}

impl SkipToken {
    /// The list goes on after this key.
    #[must_use]
    pub fn after(position: impl Into<String>) -> Self {
        Self { position: position.into() }
    }

    /// The key.
    #[must_use]
    pub fn position(&self) -> &str {
        &self.position
    }

    /// The token of a request's list (`path`) and `filter`, without which it means nothing.
    fn encode(&self, path: &str, filter: Option<&str>) -> String {
        let mut bytes = vec![TOKEN_VERSION];
        bytes.extend_from_slice(&digest(path, filter));
        bytes.extend_from_slice(self.position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(token: &str, path: &str, filter: Option<&str>) -> Result<Self, BatchError> {
        let bad = |why: &str| BatchError::invalid_query("$skiptoken", token, why);
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad("it is not one of ours"))?;
        if bytes.first() != Some(&TOKEN_VERSION) || bytes.len() > 1 + DIGEST_BYTES + POSITION_BYTES_MAX {
            return Err(bad("it is not one of ours"));
        }
        if bytes.get(1..=DIGEST_BYTES) != Some(&digest(path, filter)[..]) {
            return Err(bad("it goes on with another list or another $filter: ask for the first page again"));
        }
        let position = bytes.get(1 + DIGEST_BYTES..).unwrap_or_default().to_vec();
        Ok(Self { position: String::from_utf8(position).map_err(|_| bad("it is not one of ours"))? })
    }
}

fn digest(path: &str, filter: Option<&str>) -> [u8; DIGEST_BYTES] {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update([0]);
    hash.update(filter.unwrap_or_default().as_bytes());
    let mut short = [0; DIGEST_BYTES];
    short.copy_from_slice(&hash.finalize()[..DIGEST_BYTES]);
    short
}

impl ListQuery {
    /// Reads what `query` asks of `list` at `path`, the raw path of the request.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue`, `OutOfRangeQueryParameterValue` or `UnsupportedQueryParameter`, with the parameter's name.
    pub fn parse(list: List, path: &str, query: &Query<'_>) -> Result<Self, BatchError> {
        if let Some((name, value)) = query.iter().find(|(name, _)| unsupported(name)) {
            return Err(BatchError::query(
                ErrorCode::UnsupportedQueryParameter,
                name,
                value,
                "lists have $filter, $select, $expand, $skiptoken and maxresults",
            ));
        }
        let filter = query.get("$filter").map(|text| Filter::parse(list, text)).transpose()?;
        let select = query.get("$select").map(|text| Select::parse(list, text)).transpose()?;
        let expanded = query.get("$expand").map(|text| expand(list, text)).transpose()?.is_some();
        let stats = match &select {
            Some(select) => select.wants("stats"),
            None => expanded,
        };
        let max_results = query.get("maxresults").map(max_results).transpose()?.unwrap_or(RESULTS_MAX);
        let after = query.get("$skiptoken").map(|token| SkipToken::decode(token, path, query.get("$filter")));
        Ok(Self { filter, select, stats, max_results, after: after.transpose()? })
    }
}

/// Parameters with a dollar sign belong to lists; others, such as `api-version`, are none of theirs.
fn unsupported(name: &str) -> bool {
    name.starts_with('$')
        && !["$filter", "$select", "$expand", "$skiptoken"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
}

fn expand(list: List, text: &str) -> Result<(), BatchError> {
    let bad = |why: &str| BatchError::invalid_query("$expand", text, why);
    if !list.has_stats() {
        return Err(bad("this list has no $expand"));
    }
    if text.split(',').all(|name| name.trim() == "stats") { Ok(()) } else { Err(bad("it may be stats only")) }
}

fn max_results(text: &str) -> Result<usize, BatchError> {
    let right = format!("it is a number from 1 to {RESULTS_MAX}");
    match text.parse::<i64>() {
        Err(_) => Err(BatchError::invalid_query("maxresults", text, &right)),
        Ok(number) => {
            usize::try_from(number).ok().filter(|n| (1..=RESULTS_MAX).contains(n)).ok_or_else(|| {
                BatchError::query(ErrorCode::OutOfRangeQueryParameterValue, "maxresults", text, &right)
            })
        }
    }
}

/// The address of the next page: the same request, but for where it begins. `origin` is the scheme and the host as the client
/// reached them, such as `https://head:8443`, and `path` the raw path.
#[must_use]
pub fn next_link(origin: &str, path: &str, query: &Query<'_>, after: &SkipToken) -> String {
    let mut link = format!("{origin}{path}?");
    for (name, value) in query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("$skiptoken")) {
        // A dollar sign may stand in a query as it is, and clients read it so.
        let name: String = name.split('$').map(encode).collect::<Vec<_>>().join("$");
        let _ = write!(link, "{name}={}&", encode(value));
    }
    let _ = write!(link, "$skiptoken={}", after.encode(path, query.get("$filter")));
    link
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The body of a page of `list`: its rows, and the address of the next page if there is one.
#[must_use]
pub fn page_body(
    metadata_url: &str,
    rows: Vec<serde_json::Value>,
    next_link: Option<String>,
) -> serde_json::Value {
    let mut body = serde_json::json!({ "odata.metadata": metadata_url, "value": rows });
    if let Some(link) = next_link {
        body["odata.nextLink"] = link.into();
    }
    body
}
