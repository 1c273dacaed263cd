//! Conditional headers.

use http::HeaderMap;
use jiff::Timestamp;

use crate::error::{BlobsError, Code, refuse};
use crate::shared_key::header;

/// What must hold of a blob for a request to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
    /// The blob may not be there yet, because the client may only make blobs.
    pub(crate) only_new: bool,
}

/// What conditions look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) etag: i64,
    /// In microseconds since 1970.
    pub(crate) modified: i64,
}

impl Version {
    /// The tag as headers have it.
    pub(crate) fn tag(self) -> String {
        format!("\"0x{:X}\"", self.etag)
    }

    pub(crate) fn modified(self) -> Timestamp {
        Timestamp::from_microsecond(self.modified).unwrap_or_default()
    }
}

impl Conditions {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, BlobsError> {
        let text = |name| Some(header(headers, name).trim().to_owned()).filter(|text| !text.is_empty());
        let date = |name| {
            text(name).map(|text| {
                muster_batch::date::rfc1123(&text).ok_or_else(|| {
                    refuse(
                        Code::InvalidHeaderValue,
                        format!("The header {name} is no date as RFC 1123 has them."),
                    )
                })
            })
        };
        Ok(Self {
            if_match: text("if-match"),
            if_none_match: text("if-none-match"),
            if_modified_since: date("if-modified-since").transpose()?,
            if_unmodified_since: date("if-unmodified-since").transpose()?,
            only_new: false,
        })
    }

    /// Whether a blob may be read.
    pub(crate) fn check_read(&self, version: Version) -> Result<(), BlobsError> {
        self.check_match(Some(version))?;
        let named = self.if_none_match.as_deref().map(|tags| names(tags, version));
        let old = self.if_modified_since.is_some_and(|since| seconds(version.modified()) <= seconds(since));
        // A tag says more than a date.
        if named.unwrap_or(old) {
            return Err(refuse(Code::NotModified, "The blob has not changed."));
        }
        Ok(())
    }

    /// Whether a blob may be written or deleted, which may not be there.
    pub(crate) fn check_write(&self, version: Option<Version>) -> Result<(), BlobsError> {
        self.check_match(version)?;
        let Some(version) = version else { return Ok(()) };
        if self.only_new {
            let what = "The blob is there, and the signed URL allows to make new ones only.";
            return Err(refuse(Code::AuthorizationPermissionMismatch, what));
        }
        if let Some(tags) = self.if_none_match.as_deref()
            && names(tags, version)
        {
            return Err(if tags == "*" {
                refuse(Code::BlobAlreadyExists, "The blob is there.")
            } else {
                refuse(Code::ConditionNotMet, "The blob has the tag of If-None-Match.")
            });
        }
        if self.if_modified_since.is_some_and(|since| seconds(version.modified()) <= seconds(since)) {
            return Err(refuse(Code::ConditionNotMet, "The blob has not changed since If-Modified-Since."));
        }
        Ok(())
    }

    fn check_match(&self, version: Option<Version>) -> Result<(), BlobsError> {
        if let Some(tags) = self.if_match.as_deref()
            && !version.is_some_and(|version| names(tags, version))
        {
            return Err(refuse(Code::ConditionNotMet, "The blob does not have the tag of If-Match."));
        }
        let since = self.if_unmodified_since.filter(|_| self.if_match.is_none());
        if let (Some(since), Some(version)) = (since, version)
            && seconds(version.modified()) > seconds(since)
        {
            return Err(refuse(Code::ConditionNotMet, "The blob has changed since If-Unmodified-Since."));
        }
        Ok(())
    }
}

/// Headers tell whole seconds.
fn seconds(instant: Timestamp) -> i64 {
    instant.as_second()
}

/// Whether a list of tags has that of this version.
fn names(tags: &str, version: Version) -> bool {
    let tag = version.tag();
    tags == "*" || tags.split(',').any(|each| each.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { etag: 0xAB, modified: 1_700_000_000_500_000 };

    fn conditions(pairs: &[(&'static str, &str)]) -> Conditions {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        Conditions::read(&headers).unwrap()
    }

    fn code(result: Result<(), BlobsError>) -> u16 {
        result.err().map_or(200, |error| error.code().status())
    }

    #[test]
    fn each_header_says_when_a_blob_is_read_or_written() {
        // Tue, 14 Nov 2023 22:13:20 GMT is the blob's second.
        let (before, same) = ("Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:20 GMT");
        for (name, value, read, write, absent) in [
            ("if-match", "\"0xAB\"", 200, 200, 412),
            ("if-match", "*", 200, 200, 412),
            ("if-match", "\"0x1\", \"0xAB\"", 200, 200, 412),
            ("if-match", "\"0x1\"", 412, 412, 412),
            ("if-none-match", "\"0xAB\"", 304, 412, 200),
            ("if-none-match", "*", 304, 409, 200),
            ("if-none-match", "\"0x1\"", 200, 200, 200),
            ("if-modified-since", before, 200, 200, 200),
            ("if-modified-since", same, 304, 412, 200),
            ("if-unmodified-since", before, 412, 412, 200),
            ("if-unmodified-since", same, 200, 200, 200),
        ] {
            let conditions = conditions(&[(name, value)]);
            assert_eq!(
                (
                    code(conditions.check_read(VERSION)),
                    code(conditions.check_write(Some(VERSION))),
                    code(conditions.check_write(None))
                ),
                (read, write, absent),
                "{name}: {value}"
            );
        }
        let new = Conditions { only_new: true, ..Conditions::default() };
        assert_eq!((code(new.check_write(None)), code(new.check_write(Some(VERSION)))), (200, 403));
    }
}
