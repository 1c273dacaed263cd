//! Which names containers and blobs may have, and what a request's path names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::{BlobsError, Code, refuse};

/// Longest name of a blob, in characters.
const BLOB_CHARS_MAX: usize = 1024;

/// What the path of a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) account: String,
    pub(crate) container: Option<String>,
    /// Only with a container.
    pub(crate) blob: Option<String>,
}

impl Target {
    /// Reads `/ACCOUNT[/CONTAINER[/BLOB]]`, in which each part is percent-encoded.
    pub(crate) fn parse(path: &str) -> Result<Self, BlobsError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (account, rest) = split(path);
        let account = decode(account)?.into_owned();
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            return Ok(Self { account, container: None, blob: None });
        };
        let (container, rest) = split(rest);
        let container = decode(container)?.into_owned();
        check_container(&container)?;
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            return Ok(Self { account, container: Some(container), blob: None });
        };
        let blob = decode(rest)?.into_owned();
        check_blob(&blob)?;
        Ok(Self { account, container: Some(container), blob: Some(blob) })
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, BlobsError> {
    percent_decode_str(text).decode_utf8().map_err(|_| refuse(Code::InvalidUri, "The path is not UTF-8."))
}

/// 3 to 63 lower-case letters, digits and hyphens; a hyphen stands between two of the others.
fn check_container(name: &str) -> Result<(), BlobsError> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let hyphens = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    if letters && !hyphens && (3..=63).contains(&name.len()) {
        return Ok(());
    }
    Err(refuse(
        Code::InvalidResourceName,
        "The name of a container is 3 to 63 lower-case letters, digits and single hyphens between them.",
    ))
}

/// Any text of which a list in XML can tell. It is never the name of a file.
fn check_blob(name: &str) -> Result<(), BlobsError> {
    let told = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    if name.chars().count() <= BLOB_CHARS_MAX && name.chars().all(told) {
        return Ok(());
    }
    Err(refuse(
        Code::InvalidResourceName,
        format!("The name of a blob is 1 to {BLOB_CHARS_MAX} characters, without control characters."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_accounts_containers_and_blobs() {
        let parse = |path: &str| Target::parse(path).map(|t| (t.account, t.container, t.blob));
        assert_eq!(parse("/acme").unwrap(), ("acme".into(), None, None));
        assert_eq!(parse("/acme/in-put").unwrap(), ("acme".into(), Some("in-put".into()), None));
        assert_eq!(
            parse("/acme/input/a%20b/%C3%A4%2Fc//d").unwrap(),
            ("acme".into(), Some("input".into()), Some("a b/ä/c//d".into()))
        );
        // Only a name, wherever it seems to lead.
        assert_eq!(parse("/acme/input/../../etc").unwrap().2, Some("../../etc".into()));
        for bad in [
            "/acme/In",
            "/acme/ab",
            "/acme/-abc",
            "/acme/a--b",
            "/acme/..",
            "/acme/%2e%2e%2f",
            "/acme/abc/%00",
        ] {
            assert_eq!(parse(bad).unwrap_err().code(), Code::InvalidResourceName, "{bad}");
        }
        assert_eq!(parse("/acme/abc/%ff").unwrap_err().code(), Code::InvalidUri);
        assert!(parse(&format!("/acme/abc/{}", "ä".repeat(1024))).is_ok());
        assert!(parse(&format!("/acme/abc/{}", "ä".repeat(1025))).is_err());
    }
}
