//! Requests that the real clients signed, recorded from azure-batch 14.2.0 and 15.1.0 with the key below, and what becomes of
//! them when anything is changed.

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::*;

/// Base64 of `muster-test-key-for-vectors`.
const KEY: &str = "bXVzdGVyLXRlc3Qta2V5LWZvci12ZWN0b3Jz";

#[derive(Deserialize)]
struct Recorded {
    client: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    now: Timestamp,
}

impl Request {
    fn verify(&self) -> Result<&'static str, BatchError> {
        let wrong = SharedKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let right = SharedKey::from_base64(KEY).unwrap();
        let claim = claim(&self.headers)?;
        assert_eq!(claim.account, "acme");
        verify(
            &claim,
            &self.method,
            &self.uri,
            &self.headers,
            [("wrong", &wrong), ("right", &right)],
            self.now,
        )
    }

    fn failure(&self) -> ErrorCode {
        self.verify().unwrap_err().code
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
}

fn recorded() -> Vec<(String, Request)> {
    let lines = include_str!("../../tests/vectors/signatures.jsonl").lines();
    lines
        .map(|line| {
            let recorded: Recorded = serde_json::from_str(line).unwrap();
            let mut headers = HeaderMap::new();
            for (name, value) in &recorded.headers {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let now = crate::date::rfc1123(headers["ocp-date"].to_str().unwrap()).unwrap();
            let name = format!("{}: {} {}", recorded.client, recorded.method, recorded.target);
            let request = Request {
                method: recorded.method.parse().unwrap(),
                uri: recorded.target.parse().unwrap(),
                headers,
                now,
            };
            (name, request)
        })
        .collect()
}

fn one(method: &str, part: &str) -> Request {
    recorded().into_iter().find(|(name, _)| name.contains(method) && name.contains(part)).unwrap().1
}

#[test]
fn what_the_real_clients_sign_is_right() {
    let all = recorded();
    assert!(all.len() >= 20);
    for (name, request) in all {
        assert_eq!(request.verify(), Ok("right"), "{name}");
    }
}

#[test]
fn any_change_of_what_is_signed_breaks_it() {
    for (name, mut request) in recorded() {
        let uri = request.uri.clone();
        request.uri = format!("{uri}&extra=1").parse().unwrap();
        assert_eq!(request.failure(), ErrorCode::AuthenticationFailed, "{name}");
        request.uri = uri.to_string().replacen("/batch/", "/batcH/", 1).parse().unwrap();
        assert_eq!(request.failure(), ErrorCode::AuthenticationFailed, "{name}");
        request.uri = uri;
        request.set("ocp-extra", "1");
        assert_eq!(request.failure(), ErrorCode::AuthenticationFailed, "{name}");
        request.headers.remove("ocp-extra");
        for header in SIGNED_HEADERS {
            let before = request.headers.get(header).cloned();
            request.set(header, "17171717");
            assert_eq!(request.failure(), ErrorCode::AuthenticationFailed, "{name}, {header}");
            request.headers.remove(header);
            if let Some(before) = before {
                request.headers.insert(header, before);
            }
        }
        request.method = if request.method == Method::TRACE { Method::GET } else { Method::TRACE };
        assert_eq!(request.failure(), ErrorCode::AuthenticationFailed, "{name}");
    }
}

#[test]
fn the_raw_path_is_signed_and_not_what_it_means() {
    let mut request = one("GET", "wd%2Fout%20dir");
    request.uri = request.uri.to_string().replace("%2F", "/").parse().unwrap();
    assert_eq!(request.failure(), ErrorCode::AuthenticationFailed);
}

#[test]
fn a_clock_may_be_a_quarter_of_an_hour_off_either_way() {
    let request = one("POST", "terminate");
    let at = |seconds: i64| Request {
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        now: request.now + jiff::SignedDuration::from_secs(seconds),
    };
    for seconds in [-900, 900] {
        assert_eq!(at(seconds).verify(), Ok("right"));
    }
    for seconds in [-901, 901] {
        let error = at(seconds).verify().unwrap_err();
        assert_eq!(error.code, ErrorCode::AuthenticationFailed);
        assert!(error.message.contains("901 s"), "{error}");
    }
}

#[test]
fn what_is_missing_or_malformed_is_said() {
    let mut request = one("HEAD", "pools");
    let right = request.headers["authorization"].clone();
    for (text, part) in [
        ("Basic YTpi", "not SharedKey"),
        ("SharedKey", "no space"),
        ("SharedKey acme", "no colon"),
        ("SharedKey acme:abc", "32 bytes"),
    ] {
        request.set("authorization", text);
        let error = request.verify().unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationInfo);
        assert!(error.message.contains(part), "{error}");
    }
    request.headers.insert("authorization", right.clone());
    request.headers.append("authorization", right);
    assert_eq!(request.failure(), ErrorCode::InvalidAuthenticationInfo);
    request.headers.remove("authorization");
    assert_eq!(request.failure(), ErrorCode::AuthenticationFailed);

    let mut request = one("HEAD", "pools");
    request.set("ocp-date", "now");
    assert_eq!(request.failure(), ErrorCode::InvalidHeaderValue);
    request.headers.remove("ocp-date");
    assert_eq!(request.failure(), ErrorCode::MissingRequiredHeader);
}

#[test]
fn keys_are_never_shown_and_are_long_enough() {
    let key = SharedKey::from_base64(KEY).unwrap();
    assert_eq!(format!("{key:?}"), "SharedKey(..)");
    assert!(matches!(SharedKey::from_base64("***"), Err(BadKey::NotBase64(_))));
    assert!(matches!(SharedKey::from_base64("AAAA"), Err(BadKey::TooShort { found: 3, min: 16 })));
    assert!(SharedKey::from_base64(&format!(" {KEY}\n")).is_ok());
}
