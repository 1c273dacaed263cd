//! What clients say of blobs in headers, and how they are told again.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::response::Builder;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::conditions::Version;
use crate::error::{BlobsError, Code, refuse};
use crate::index::{Blob, Properties};
use crate::shared_key::header;

/// Most bytes of a blob's metadata, names and values.
const METADATA_BYTES_MAX: usize = 8 << 10;
/// Longest value of a header that is kept with a blob, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// The headers that are kept. A client gives one as `x-ms-blob-NAME`, or with a whole blob as NAME.
pub(crate) const KEPT: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type"];
/// The type of a blob that none was given for.
const TYPE_DEFAULT: &str = "application/octet-stream";
/// What introduces metadata.
const METADATA: &str = "x-ms-meta-";

/// What a client says of the blob that it puts. `whole`: the request's own headers count too.
pub(crate) fn properties(headers: &HeaderMap, whole: bool) -> Result<Properties, BlobsError> {
    let mut kept = BTreeMap::new();
    for name in KEPT {
        let given = header(headers, &format!("x-ms-blob-{name}"));
        let value = if given.is_empty() && whole { header(headers, name) } else { given };
        if value.len() > VALUE_BYTES_MAX {
            let what = format!("The header {name} has more than {VALUE_BYTES_MAX} bytes.");
            return Err(refuse(Code::InvalidHeaderValue, what));
        }
        if !value.is_empty() {
            kept.insert(name.to_owned(), value.to_owned());
        }
    }
    kept.entry("content-type".to_owned()).or_insert_with(|| TYPE_DEFAULT.to_owned());
    let md5 = digest(headers, "x-ms-blob-content-md5")?.map(|digest| STANDARD.encode(digest));
    Ok(Properties { headers: kept, md5, metadata: metadata(headers)? })
}

/// The pairs that a client keeps with a blob or a container.
pub(crate) fn metadata(headers: &HeaderMap) -> Result<BTreeMap<String, String>, BlobsError> {
    let mut metadata = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(METADATA) else { continue };
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let value = value.to_str().ok().filter(|_| good).ok_or_else(|| {
            refuse(
                Code::InvalidMetadata,
                "Names of metadata are letters, digits and _; their values are ASCII.",
            )
        })?;
        bytes += name.len() + value.len();
        metadata.insert(name.to_owned(), value.to_owned());
    }
    if bytes > METADATA_BYTES_MAX {
        let what = format!("The metadata has more than {METADATA_BYTES_MAX} bytes.");
        return Err(refuse(Code::InvalidMetadata, what));
    }
    Ok(metadata)
}

/// A header that holds an MD5 digest.
pub(crate) fn digest(headers: &HeaderMap, name: &str) -> Result<Option<[u8; 16]>, BlobsError> {
    let text = header(headers, name);
    if text.is_empty() {
        return Ok(None);
    }
    let digest = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    digest
        .map(Some)
        .ok_or_else(|| refuse(Code::InvalidMd5, format!("The header {name} is not base64 of 16 bytes.")))
}

/// The length of the body, without which nothing is written.
pub(crate) fn content_length(headers: &HeaderMap, most: u64) -> Result<u64, BlobsError> {
    let text = header(headers, "content-length");
    if text.is_empty() {
        return Err(refuse(Code::MissingContentLengthHeader, "The header Content-Length is missing."));
    }
    let length: u64 = text
        .parse()
        .map_err(|_| refuse(Code::InvalidHeaderValue, "The header Content-Length is not a number."))?;
    if length > most {
        return Err(refuse(
            Code::RequestBodyTooLarge,
            format!("The body has {length} bytes; {most} are allowed."),
        ));
    }
    Ok(length)
}

/// Bytes of a blob, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The range that is asked for of a blob of this length; nothing for all of it.
pub(crate) fn range(headers: &HeaderMap, length: u64) -> Result<Option<Range>, BlobsError> {
    let text =
        ["x-ms-range", "range"].into_iter().map(|name| header(headers, name)).find(|text| !text.is_empty());
    // What is no range of bytes does not count (RFC 9110, section 14.2), nor do several.
    let Some(spec) = text.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let (first, last) = (first.trim(), last.trim());
    let none = || refuse(Code::InvalidRange, format!("The blob has {length} bytes, and none in this range."));
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => Range { first, last: last.min(length.saturating_sub(1)) },
        (Ok(first), Err(_)) if last.is_empty() => Range { first, last: length.saturating_sub(1) },
        (Err(_), Ok(count)) if first.is_empty() => {
            if count == 0 {
                return Err(none());
            }
            Range { first: length.saturating_sub(count), last: length.saturating_sub(1) }
        }
        _ => return Ok(None),
    };
    if range.first >= length { Err(none()) } else { Ok(Some(range)) }
}

/// Says which version something has.
pub(crate) fn version(builder: Builder, version: Version) -> Builder {
    builder.header("etag", version.tag()).header("last-modified", rfc1123(version.modified()))
}

/// Says everything of a blob but its length and the digest of its content.
pub(crate) fn of_blob(mut builder: Builder, blob: &Blob) -> Builder {
    builder = version(builder, blob.version);
    for (name, value) in &blob.properties.headers {
        builder = text(builder, name, value);
    }
    let created = jiff::Timestamp::from_microsecond(blob.created).unwrap_or_default();
    builder = builder
        .header("accept-ranges", "bytes")
        .header("x-ms-blob-type", "BlockBlob")
        .header("x-ms-creation-time", rfc1123(created))
        .header("x-ms-lease-state", "available")
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-server-encrypted", "false");
    metadata_of(builder, &blob.properties.metadata)
}

/// Says the metadata again.
pub(crate) fn metadata_of(mut builder: Builder, metadata: &BTreeMap<String, String>) -> Builder {
    for (name, value) in metadata {
        builder = text(builder, &format!("{METADATA}{name}"), value);
    }
    builder
}

/// Adds a header that a client has given, as far as one can be made of it.
pub(crate) fn text(builder: Builder, name: &str, value: &str) -> Builder {
    match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        (Ok(name), Ok(value)) => builder.header(name, value),
        _ => builder,
    }
}

/// A date as headers have it.
pub(crate) fn rfc1123(instant: jiff::Timestamp) -> String {
    instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn ranges_are_what_rfc_9110_says() {
        let of =
            |value: &str, length| range(&headers(&[("range", value)]), length).map_err(|error| error.code());
        let some = |first, last| Ok(Some(Range { first, last }));
        assert_eq!(of("bytes=0-9", 100), some(0, 9));
        assert_eq!(of("bytes=90-200", 100), some(90, 99));
        assert_eq!(of("bytes=90-", 100), some(90, 99));
        assert_eq!(of("bytes=-10", 100), some(90, 99));
        assert_eq!(of("bytes=-200", 100), some(0, 99));
        for none in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(of(none, 100), Err(Code::InvalidRange), "{none}");
        }
        assert_eq!(of("bytes=0-", 0), Err(Code::InvalidRange));
        for all in ["bytes=9-0", "bytes=a-b", "lines=1-2", "bytes=", "bytes=0-1,3-4"] {
            assert_eq!(of(all, 100), Ok(None), "{all}");
        }
        let both = headers(&[("range", "bytes=0-1"), ("x-ms-range", "bytes=2-3")]);
        assert_eq!(range(&both, 100).unwrap(), Some(Range { first: 2, last: 3 }));
    }

    #[test]
    fn headers_are_kept_as_far_as_they_are_good() {
        let given = headers(&[
            ("content-type", "application/xml"),
            ("x-ms-blob-content-encoding", "gzip"),
            ("x-ms-meta-colour", "red"),
        ]);
        let whole = properties(&given, true).unwrap();
        assert_eq!(
            (whole.headers["content-type"].as_str(), whole.headers["content-encoding"].as_str()),
            ("application/xml", "gzip")
        );
        // The body of a block list has a type of its own.
        assert_eq!(properties(&given, false).unwrap().headers["content-type"], TYPE_DEFAULT);
        assert_eq!(whole.metadata["colour"], "red");
        let code = |name, value: &str| properties(&headers(&[(name, value)]), true).unwrap_err().code();
        assert_eq!(code("x-ms-meta-a-b", "1"), Code::InvalidMetadata);
        assert_eq!(code("x-ms-meta-a", &"v".repeat(9000)), Code::InvalidMetadata);
        assert_eq!(code("content-language", &"v".repeat(2000)), Code::InvalidHeaderValue);
        assert_eq!(code("x-ms-blob-content-md5", "AAAA"), Code::InvalidMd5);
    }
}
