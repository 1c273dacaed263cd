//! Requests to the batch service.

use std::io::{Read as _, Write};
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use muster_batch::query::encode;
use muster_batch::signature;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::account::Account;
use crate::error::{BatchClientError, Result};
use crate::transport::{Ask, Content, Transport, http_now, unreachable};

/// The version of the protocol that is spoken.
const API_VERSION: &str = "2024-02-01.19.0";
/// Most tasks of one request.
const TASKS_PER_REQUEST: usize = 100;
/// Bytes of a file that are copied at once.
const PART_BYTES: usize = 256 << 10;

/// A batch service, asked with the key of an account.
#[derive(Debug)]
pub struct Service {
    account: Account,
    transport: Transport,
}

/// What is asked of a list.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// An expression such as `state eq 'active'`.
    pub filter: Option<String>,
    /// Which properties are wanted, with commas between them.
    pub select: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Service {
    /// A service that is not asked for anything yet.
    ///
    /// # Errors
    /// If the certificates cannot be read that are to be trusted.
    pub fn new(account: Account) -> Result<Self> {
        let transport = Transport::new(&account)?;
        Ok(Self { account, transport })
    }

    /// Waits so long for a service that is away, at each request.
    pub fn set_patience(&mut self, patience: Duration) {
        self.transport.patience = patience;
    }

    /// Who asks, and whom.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// A thing, or what a question about it finds.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.transport.json(self.ask(Method::GET, &target(path, &[]), None)?)
    }

    /// A thing with its statistics.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn get_with_stats(&self, path: &str) -> Result<Value> {
        self.transport.json(self.ask(Method::GET, &target(path, &[("$expand", "stats")]), None)?)
    }

    /// Does something.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.transport.json(self.ask(Method::POST, &target(path, &[]), Some(body))?)
    }

    /// Changes a thing.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn patch(&self, path: &str, body: &Value) -> Result<()> {
        self.ask(Method::PATCH, &target(path, &[]), Some(body)).map(|_| ())
    }

    /// Removes a thing; of a folder with everything in it if it is `recursive`.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        let more: &[_] = if recursive { &[("recursive", "true")] } else { &[] };
        self.ask(Method::DELETE, &target(path, more), None).map(|_| ())
    }

    /// A list, page by page until its end.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer.
    pub fn list(&self, path: &str, listing: &Listing, more: &[(&str, &str)]) -> Result<Vec<Value>> {
        let mut pairs = more.to_vec();
        let page = listing.limit.map(|limit| limit.clamp(1, 1000).to_string());
        pairs.extend(listing.filter.as_deref().map(|filter| ("$filter", filter)));
        pairs.extend(listing.select.as_deref().map(|select| ("$select", select)));
        pairs.extend(page.as_deref().map(|page| ("maxresults", page)));
        let mut at = target(path, &pairs);
        let mut all = Vec::new();
        loop {
            let mut body = self.transport.json(self.ask(Method::GET, &at, None)?)?;
            let Some(Value::Array(rows)) = body.get_mut("value").map(Value::take) else {
                return Err(self.transport.bad("a list has no value"));
            };
            all.extend(rows);
            if listing.limit.is_some_and(|limit| all.len() >= limit) {
                all.truncate(listing.limit.unwrap_or_default());
                return Ok(all);
            }
            let Some(next) = body["odata.nextLink"].as_str() else { return Ok(all) };
            // Only what stands after the host: a proxy may know the service by another name.
            let next: Uri = next.parse().map_err(|_| self.transport.bad("a list goes on at no address"))?;
            at = next.path_and_query().map_or_else(String::new, ToString::to_string);
        }
    }

    /// Adds tasks, a hundred at a time, and tells after each request how many are added. Those that are there already count as
    /// added, so that it may be done again.
    ///
    /// # Errors
    /// What the service refuses; [`BatchClientError::Tasks`] once all were offered, if it took some and others not.
    pub fn add_tasks(
        &self,
        job: &str,
        tasks: impl Iterator<Item = Value>,
        mut added: impl FnMut(usize),
    ) -> Result<()> {
        let path = format!("/jobs/{}/addtaskcollection", encode(job));
        let mut tasks = tasks.peekable();
        let (mut count, mut failures) = (0, Vec::new());
        while tasks.peek().is_some() {
            let part: Vec<Value> = tasks.by_ref().take(TASKS_PER_REQUEST).collect();
            count += part.len();
            let answer = self.post_again(&path, &json!({ "value": part }))?;
            for result in answer["value"].as_array().into_iter().flatten() {
                let (status, code) = (result["status"].as_str(), result["error"]["code"].as_str());
                if status.is_some_and(|status| !status.eq_ignore_ascii_case("success"))
                    && code != Some("TaskExists")
                {
                    failures.push(result.clone());
                }
            }
            added(count);
        }
        let Some(first) = failures.first() else { return Ok(()) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Err(BatchClientError::Tasks {
            count: failures.len(),
            id: text(&first["taskId"]),
            code: text(&first["error"]["code"]),
            message: text(&first["error"]["message"]["value"]).trim_end_matches('.').to_owned(),
        })
    }

    /// Posts what may be posted twice.
    fn post_again(&self, path: &str, body: &Value) -> Result<Value> {
        let end = std::time::Instant::now() + self.transport.patience;
        loop {
            match self.post(path, body) {
                Err(error) if error.is_away() && std::time::Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                other => return other,
            }
        }
    }

    /// Writes a file of a task or node, and goes on where a connection breaks. Says how many bytes it has.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer, or why the file cannot be written.
    pub fn read_file(&self, path: &str, to: &mut dyn Write, mut moved: impl FnMut(u64)) -> Result<u64> {
        let at = target(path, &[]);
        let mut from = 0;
        loop {
            let mut headers = HeaderMap::new();
            if from > 0
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
            {
                headers.insert("ocp-range", range);
            }
            let asked =
                self.send(&Ask { method: Method::GET, target: at.clone(), headers, body: Content::Nothing });
            let response = match asked {
                // Nothing is left of a file that has been read to its end.
                Err(error) if from > 0 && error.code() == Some("InvalidRange") => return Ok(from),
                other => other?,
            };
            let before = from;
            match copy(response, to, &mut |bytes| {
                from += bytes;
                moved(bytes);
            }) {
                Ok(()) => return Ok(from),
                Err(Broken::There(error)) if from == before => {
                    return Err(BatchClientError::Unreachable {
                        endpoint: self.account.endpoint.clone(),
                        why: error.to_string(),
                        source: None,
                    });
                }
                Err(Broken::There(_)) => {}
                Err(Broken::Here(error)) => return Err(BatchClientError::Output(error)),
            }
        }
    }

    /// Adds a package, which is a zip, as a version of an application; says how the application is then.
    ///
    /// # Errors
    /// What the service refuses, or why it does not answer, or why the file cannot be read.
    pub fn add_package(&self, application: &str, version: &str, file: &Path, default: bool) -> Result<Value> {
        let (digest, bytes) = sha256(file)?;
        let path = format!("/applications/{}/versions/{}", encode(application), encode(version));
        let default = if default { "true" } else { "false" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
        let ask = Ask {
            method: Method::PUT,
            target: target(&path, &[("sha256", &digest), ("default", default)]),
            headers,
            body: Content::File(file, bytes),
        };
        self.transport.json(self.send(&ask)?)
    }

    fn ask(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Response> {
        let text = body.map(ToString::to_string);
        let mut headers = HeaderMap::new();
        if text.is_some() {
            let kind = HeaderValue::from_static("application/json; odata=minimalmetadata");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let body = text.as_ref().map_or(Content::Nothing, |text| Content::Bytes(text.as_bytes()));
        self.send(&Ask { method, target: target.to_owned(), headers, body })
    }

    pub(crate) fn send(&self, ask: &Ask<'_>) -> Result<Response> {
        self.transport.send(ask, &|ask, headers| self.sign(ask, headers))
    }

    fn sign(&self, ask: &Ask<'_>, headers: &mut HeaderMap) -> Result<()> {
        headers.insert("ocp-date", http_now());
        let bad = || BatchClientError::Address { address: self.account.endpoint.clone() };
        // The path that is signed is the whole one, with what the service's own address has of it.
        let uri: Uri = format!("{}{}", self.account.endpoint, ask.target).parse().map_err(|_| bad())?;
        let account = &self.account;
        let text = signature::authorization(&account.name, &account.key, &ask.method, &uri, headers)?;
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&text).map_err(|_| bad())?);
        Ok(())
    }

    /// Why an answer broke off.
    pub(crate) fn broken(&self, error: reqwest::Error) -> BatchClientError {
        unreachable(&self.account.endpoint, error)
    }
}

/// On which side copying failed.
pub(crate) enum Broken {
    There(std::io::Error),
    Here(std::io::Error),
}

pub(crate) fn copy(
    mut response: Response,
    to: &mut dyn Write,
    moved: &mut dyn FnMut(u64),
) -> std::result::Result<(), Broken> {
    let mut part = vec![0; PART_BYTES];
    loop {
        let count = response.read(&mut part).map_err(Broken::There)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&part[..count]).map_err(Broken::Here)?;
        moved(count as u64);
    }
}

/// The digest of a file, in hexadecimal digits, and its length.
fn sha256(path: &Path) -> Result<(String, u64)> {
    let failed = || BatchClientError::file("read", path);
    let mut file = std::fs::File::open(path).map_err(failed())?;
    let (mut digest, mut bytes, mut part) = (Sha256::new(), 0, vec![0; PART_BYTES]);
    loop {
        let count = file.read(&mut part).map_err(failed())?;
        if count == 0 {
            return Ok((format!("{:x}", digest.finalize()), bytes));
        }
        digest.update(&part[..count]);
        bytes += count as u64;
    }
}

/// A path with its query.
fn target(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut target = format!("{path}?api-version={API_VERSION}");
    for (name, value) in pairs {
        target.push_str(&format!("&{}={}", name.replace('$', "%24"), encode(value)));
    }
    target
}
