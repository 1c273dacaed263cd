//! Dates as the protocol writes them: RFC 1123 in headers, ISO 8601 in bodies, and either of them in filters.

use jiff::Timestamp;

/// Reads a date as HTTP headers have it, such as `Sun, 08 May 2011 08:49:37 GMT`.
#[must_use]
pub fn rfc1123(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp())
}

/// Reads a date of the W3C's profile of ISO 8601 (<https://www.w3.org/TR/NOTE-datetime>), such as `2011-05-08T08:49:37Z`; one
/// without an offset is in UTC, and one without a time is the day's first instant.
#[must_use]
pub fn iso8601(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    // A civil time with an offset or a zone that the parser passes over would be off by it.
    let plain =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T' | b't' | b' '));
    if !plain {
        return None;
    }
    local.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Reads a date in either form.
#[must_use]
pub fn either(text: &str) -> Option<Timestamp> {
    iso8601(text).or_else(|| rfc1123(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_instant() {
        let instant: Timestamp = "2011-05-08T08:49:37Z".parse().unwrap();
        for text in [
            "2011-05-08T08:49:37Z",
            "2011-05-08T10:49:37+02:00",
            "2011-05-08T08:49:37",
            "Sun, 08 May 2011 08:49:37 GMT",
        ] {
            assert_eq!(either(text), Some(instant), "{text}");
        }
        assert_eq!(either("2011-05-08"), "2011-05-08T00:00:00Z".parse().ok());
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "yesterday", "2011-13-08T08:49:37Z", "Sun, 99 May 2011 08:49:37 GMT", "08:49:37"] {
            assert_eq!(either(text), None, "{text}");
        }
    }
}
