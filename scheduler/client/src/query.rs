//! Paths and queries of HTTP.

use std::fmt::Write as _;

/// `text` with everything but the unreserved characters of RFC 3986, section 2.3, percent-encoded.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `path` with the pairs that have a value as its query.
pub(crate) fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    let mut mark = '?';
    for (name, value) in pairs {
        if let Some(value) = value {
            let _ = write!(out, "{mark}{name}={}", encode(value));
            mark = '&';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_are_there_make_a_query() {
        let none = [("state", None), ("user", None)];
        assert_eq!(with_query("/v1/jobs", &none), "/v1/jobs");
        let some = [
            ("state", Some("running,waiting".to_owned())),
            ("all", None),
            ("user", Some("a&b é".to_owned())),
        ];
        assert_eq!(with_query("/v1/jobs", &some), "/v1/jobs?state=running%2Cwaiting&user=a%26b%20%C3%A9");
    }
}
