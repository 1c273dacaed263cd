//! Sends requests, waits for a service that is away for a while, and reads what it refuses.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use reqwest::blocking::{Body, Client, Response};
use serde_json::Value;

use crate::account::Account;
use crate::error::{BatchClientError, Result};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the service may take over one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// How fast a network must be at least to bring a file there, in bytes a second.
const BYTES_PER_S_MIN: u64 = 256 << 10;
/// First and longest pause before something is asked again.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// How long a service that says that it is busy, or asked too often, is asked again, however patient the caller is.
const BUSY_WITHIN: Duration = Duration::from_secs(30);
/// Longest refusal that is read, in characters.
const REFUSAL_CHARS_MAX: usize = 2000;

/// A request, before it is signed.
pub(crate) struct Ask<'a> {
    pub method: Method,
    /// With everything encoded, and the query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Content<'a>,
}

/// What a request brings.
pub(crate) enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A file, which is read anew at each try, and its length.
    File(&'a Path, u64),
}

/// Connections to one service.
#[derive(Debug)]
pub(crate) struct Transport {
    client: Client,
    endpoint: String,
    /// For how long a service that is away is asked again.
    pub patience: Duration,
}

impl Transport {
    pub fn new(account: &Account) -> Result<Self> {
        // Another crate of this program may have chosen the same already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &account.ca_file {
            let pem = std::fs::read(path).map_err(BatchClientError::file("read", path))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|source| BatchClientError::Certificate { path: path.clone(), source })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let endpoint = account.endpoint.clone();
        let client = builder.build().map_err(|error| unreachable(&endpoint, error))?;
        Ok(Self { client, endpoint, patience: Duration::ZERO })
    }

    /// Sends a request, signed anew by `sign` at each try, and gives back an answer that is no refusal.
    pub fn send(
        &self,
        ask: &Ask<'_>,
        sign: &dyn Fn(&Ask<'_>, &mut HeaderMap) -> Result<()>,
    ) -> Result<Response> {
        let started = Instant::now();
        let mut pause = PAUSES[0];
        loop {
            let failed = match self.send_once(ask, sign) {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let patience = match &failed {
                BatchClientError::Refused { status: 429 | 503, .. } => self.patience.max(BUSY_WITHIN),
                // What was sent may have been done, and is asked again only where that does no harm.
                BatchClientError::Unreachable { source: Some(source), .. }
                    if source.is_connect() || ask.method == Method::GET || ask.method == Method::PUT =>
                {
                    self.patience
                }
                _ => Duration::ZERO,
            };
            if started.elapsed() + pause > patience {
                return Err(failed);
            }
            sleep(pause);
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    fn send_once(
        &self,
        ask: &Ask<'_>,
        sign: &dyn Fn(&Ask<'_>, &mut HeaderMap) -> Result<()>,
    ) -> Result<Response> {
        let url = format!("{}{}", self.endpoint, ask.target);
        let url =
            Url::parse(&url).map_err(|_| BatchClientError::Address { address: self.endpoint.clone() })?;
        let mut headers = ask.headers.clone();
        let body = match ask.body {
            Content::Nothing => None,
            Content::Bytes(bytes) => Some((Body::from(bytes.to_vec()), bytes.len() as u64)),
            Content::File(path, bytes) => {
                let file = std::fs::File::open(path).map_err(BatchClientError::file("read", path))?;
                Some((Body::sized(file, bytes), bytes))
            }
        };
        if let Some((_, bytes)) = &body {
            headers.insert(header::CONTENT_LENGTH, (*bytes).into());
        }
        sign(ask, &mut headers)?;
        let mut request = self.client.request(ask.method.clone(), url).headers(headers);
        if let Some((body, bytes)) = body {
            request =
                request.timeout(ANSWER_WITHIN + Duration::from_secs(bytes / BYTES_PER_S_MIN)).body(body);
        }
        let response = request.send().map_err(|error| unreachable(&self.endpoint, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response))
    }

    /// An answer that is JSON.
    pub fn json(&self, response: Response) -> Result<Value> {
        let text = response.text().map_err(|error| unreachable(&self.endpoint, error))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| self.bad("it is not JSON; is this a batch service?"))
    }

    pub fn bad(&self, problem: &str) -> BatchClientError {
        BatchClientError::BadAnswer { endpoint: self.endpoint.clone(), problem: problem.to_owned() }
    }
}

/// Something could not be asked, or not to its end.
pub(crate) fn unreachable(endpoint: &str, error: reqwest::Error) -> BatchClientError {
    // An address may hold a signature.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let why = if error.is_timeout() { "it takes too long".to_owned() } else { cause.to_string() };
    BatchClientError::Unreachable { endpoint: endpoint.to_owned(), why, source: Some(error) }
}

/// What an answer says that is a refusal: the service says it in JSON, the store in XML.
fn refusal(response: Response) -> BatchClientError {
    let status = response.status();
    let named =
        response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok().map(str::to_owned));
    let text = response.text().unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let code = body["code"].as_str().map(str::to_owned).or(named);
    let message = body["message"]["value"].as_str().map(str::to_owned);
    let message = message.or_else(|| element(&text, "Message"));
    let mut message = message.unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned());
    for detail in body["values"].as_array().into_iter().flatten() {
        if let (Some(key), Some(value)) = (detail["key"].as_str(), detail["value"].as_str())
            && key != "AuthenticationErrorDetail"
            && !message.contains(value)
        {
            message.push_str(&format!(" {key}: {value}."));
        }
    }
    BatchClientError::Refused {
        status: status.as_u16(),
        code: code.unwrap_or_else(|| default_code(status)),
        message: message.trim_end_matches('.').chars().take(REFUSAL_CHARS_MAX).collect(),
    }
}

fn default_code(status: StatusCode) -> String {
    format!("HTTP {}", status.as_u16())
}

/// What stands in the first element of this name.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    quick_xml::escape::unescape(inner).ok().map(|text| text.into_owned())
}

/// The present as headers say it.
pub(crate) fn http_now() -> HeaderValue {
    let text = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_unescaped() {
        assert_eq!(
            element("<Error><Message>a &lt; b</Message></Error>", "Message").as_deref(),
            Some("a < b")
        );
        assert_eq!(element("<html>", "Message"), None);
    }
}
