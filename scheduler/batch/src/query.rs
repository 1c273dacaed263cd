//! The query of a request: its parameters, decoded once and kept with their raw text.
//!
//! Values are decoded as HTML forms are (`+` is a space), because that is what the clients sign.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{BatchError, ErrorCode};

/// Most parameters of one request.
const PARAMETERS_MAX: usize = 32;

/// The parameters of a request's query.
#[derive(Debug, Clone, Default)]
pub struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads the part of a request's target after the question mark.
    ///
    /// # Errors
    /// `InvalidUri` for more than 32 parameters, and `InvalidQueryParameterValue` for one that is given twice, in any case of
    /// letters: clients sign the first alone.
    pub fn parse(query: &'a str) -> Result<Self, BatchError> {
        let mut parameters: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name), decode(value));
            if parameters.len() == PARAMETERS_MAX {
                return Err(BatchError::new(
                    ErrorCode::InvalidUri,
                    format!("The query has more than {PARAMETERS_MAX} parameters."),
                ));
            }
            if parameters.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err(BatchError::invalid_query(&name, &value, "it is given twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self { parameters })
    }

    /// The value of the parameter of this name, whatever the case of its letters; one without a value is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(other, value)| other.eq_ignore_ascii_case(name) && !value.is_empty())
            .map(|(_, value)| &**value)
    }

    /// All parameters with a value, as they were sent, decoded.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter_all().filter(|(_, value)| !value.is_empty())
    }

    /// All parameters, those without a value as well.
    pub fn iter_all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// What is not encoded in a part of a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as one part of a path: its slashes are encoded as well.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let text = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_any_case_and_decoded_once() {
        let query =
            Query::parse("$filter=startswith%28id%2C%27a%2Bb%27%29+or&TimeOut=30&blank=&%2541=1").unwrap();
        assert_eq!(query.get("$FILTER"), Some("startswith(id,'a+b') or"));
        assert_eq!(query.get("timeout"), Some("30"));
        assert_eq!(query.get("blank"), None);
        assert_eq!(query.iter().last(), Some(("%41", "1")));
    }

    #[test]
    fn a_parameter_is_given_once() {
        let error = Query::parse("maxresults=1&MaxResults=2").unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidQueryParameterValue);
        let many: String = (0..40).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(Query::parse(&many).unwrap_err().code, ErrorCode::InvalidUri);
        assert!(Query::parse("&&").unwrap().iter().next().is_none());
    }
}
