//! A store that is served on a port of the loopback interface.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use muster_batch::signature::SharedKey;
use muster_blobs::{Accounts, Limits, Permissions, Resource, Store, sign_url};

pub const ACCOUNT: &str = "acme";
/// Base64 of `a key for tests of the store`.
pub const KEY: &str = "YSBrZXkgZm9yIHRlc3RzIG9mIHRoZSBzdG9yZQ==";

pub fn key() -> SharedKey {
    SharedKey::from_base64(KEY).unwrap()
}

/// Opens the store in this folder.
pub fn open(folder: &Path, limits: Limits) -> Arc<Store> {
    let other = SharedKey::from_base64("YW5vdGhlciBhY2NvdW50J3Mga2V5").unwrap();
    let accounts = Accounts::from([(ACCOUNT.to_owned(), vec![key()]), ("other".to_owned(), vec![other])]);
    Store::open(folder, "", accounts, limits).unwrap()
}

/// Serves it until the runtime ends. Gives its address.
pub async fn serve(store: Arc<Store>) -> String {
    // What fails in the store is told where the test fails.
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    async fn answer(
        State(store): State<Arc<Store>>,
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
        request: Request,
    ) -> axum::response::Response {
        store.serve(request, Some(peer.ip()), false).await
    }
    let routes = Router::new().fallback(answer).with_state(store);
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("http://{address}")
}

/// The query of a URL that is signed for the next hour.
pub fn signed(resource: Resource<'_>, permissions: Permissions) -> String {
    let hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    sign_url(ACCOUNT, &key(), resource, permissions, hour)
}

pub const ALL: Permissions = Permissions { read: true, create: true, write: true, delete: true, list: true };

/// A Python with Azure's client; none if the tests are told to be skipped.
pub fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join(".ci/stores.sh")).arg("--where").output().unwrap();
    if output.status.success() {
        let place = String::from_utf8(output.stdout).unwrap();
        return Some(Path::new(place.trim()).join("python/bin/python"));
    }
    let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
    assert!(skip, "run .ci/stores.sh, or set MUSTER_TEST_SKIP_CLUSTER=1 to leave these tests out");
    None
}

/// Every file of the store's data.
pub fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.join("data")).unwrap() {
        files.extend(std::fs::read_dir(entry.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    files
}

/// Sends a request that is signed with the account's key.
pub async fn send(
    method: &str,
    address: &str,
    target: &str,
    headers: &[(&str, String)],
    body: reqwest::Body,
) -> reqwest::Response {
    use std::fmt::Write as _;
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut all: Vec<(&str, String)> = headers.to_vec();
    all.extend([("x-ms-date", date), ("x-ms-version", "2021-12-02".to_owned())]);
    all.sort();
    let value =
        |name: &str| all.iter().find(|(each, _)| *each == name).map_or("", |(_, value)| value.as_str());
    let mut text = format!("{method}\n");
    for name in [
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        let _ = writeln!(text, "{}", if value(name) == "0" { "" } else { value(name) });
    }
    for (name, value) in all.iter().filter(|(name, _)| name.starts_with("x-ms-")) {
        let _ = writeln!(text, "{name}:{value}");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let _ = write!(text, "/{ACCOUNT}{path}");
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap();
        let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
        let _ = write!(text, "\n{name}:{value}");
    }
    let authorization = format!("SharedKey {ACCOUNT}:{}", key().sign(&text));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = reqwest::Client::new().request(method, format!("{address}{target}"));
    for (name, value) in all {
        request = request.header(name, value);
    }
    request.header("authorization", authorization).body(body).send().await.unwrap()
}

/// Makes a container.
pub async fn create_container(address: &str, name: &str) {
    let target = format!("/{ACCOUNT}/{name}?restype=container");
    let response = send("PUT", address, &target, &[("content-length", "0".into())], "".into()).await;
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
}

/// Puts a blob whole.
pub async fn put(address: &str, name: &str, bytes: Vec<u8>) -> reqwest::Response {
    let headers = [("content-length", bytes.len().to_string()), ("x-ms-blob-type", "BlockBlob".to_owned())];
    send("PUT", address, &format!("/{ACCOUNT}/{name}"), &headers, bytes.into()).await
}
