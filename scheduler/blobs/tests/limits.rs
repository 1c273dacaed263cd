//! What is too much is refused before it is stored, and what comes wrong leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{ACCOUNT, data_files, put, send};
use muster_blobs::{Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A store with the container `data`.
async fn store(limits: Limits) -> (tempfile::TempDir, Arc<Store>, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = common::open(folder.path(), limits);
    let address = common::serve(Arc::clone(&store)).await;
    common::create_container(&address, "data").await;
    (folder, store, address)
}

fn code(response: &reqwest::Response) -> (u16, String) {
    let code = response.headers().get("x-ms-error-code").map(|code| code.to_str().unwrap().to_owned());
    (response.status().as_u16(), code.unwrap_or_default())
}

#[tokio::test]
async fn an_account_has_no_more_bytes_than_it_may() {
    let limits = Limits { account_bytes: 1000, ..Limits::default() };
    let (folder, store, address) = store(limits).await;
    assert_eq!(put(&address, "data/a", vec![0; 600]).await.status(), 201);
    let refused = put(&address, "data/b", vec![0; 401]).await;
    assert_eq!(code(&refused), (413, "AccountQuotaExceeded".into()));
    assert!(refused.text().await.unwrap().contains("would have 1001 bytes with this, and may have 1000"));
    assert_eq!(put(&address, "data/b", vec![0; 400]).await.status(), 201);
    // Blocks count as well, and what is replaced or deleted counts no more.
    let block = format!("/{ACCOUNT}/data/c?comp=block&blockid=YQ%3D%3D");
    let headers = [("content-length", "10".to_owned())];
    let refused = send("PUT", &address, &block, &headers, vec![0; 10].into()).await;
    assert_eq!(code(&refused), (413, "AccountQuotaExceeded".into()));
    let deleted = send("DELETE", &address, &format!("/{ACCOUNT}/data/a"), &[], "".into()).await;
    assert_eq!(deleted.status(), 202);
    assert_eq!(send("PUT", &address, &block, &headers, vec![0; 10].into()).await.status(), 201);
    assert_eq!(put(&address, "data/c", vec![0; 500]).await.status(), 201);
    assert_eq!(put(&address, "data/b", vec![0; 100]).await.status(), 201);
    assert_eq!(data_files(folder.path()).len(), 2);
    // It is the same after a restart.
    drop(store);
    let again = common::serve(common::open(folder.path(), limits)).await;
    assert_eq!(code(&put(&again, "data/d", vec![0; 401]).await).0, 413);
    assert_eq!(put(&again, "data/d", vec![0; 400]).await.status(), 201);
}

/// The controller's journal may be on the same disk.
#[tokio::test]
async fn the_disk_is_never_filled() {
    let limits = Limits { free_bytes: u64::MAX, ..Limits::default() };
    let (folder, _store, address) = store(limits).await;
    assert_eq!(code(&put(&address, "data/a", vec![0; 10]).await), (413, "InsufficientStorage".into()));
    assert_eq!(data_files(folder.path()).len(), 0);
}

#[tokio::test]
async fn bodies_have_a_length_a_limit_and_the_digest_that_is_said() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let (folder, _store, address) = store(limits).await;
    let target = format!("/{ACCOUNT}/data/a");
    let kind = ("x-ms-blob-type", "BlockBlob".to_owned());
    assert_eq!(code(&put(&address, "data/a", vec![0; 1001]).await), (413, "RequestBodyTooLarge".into()));
    let digest = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==".to_owned());
    let headers = [("content-length", "3".to_owned()), kind.clone(), digest];
    let wrong = send("PUT", &address, &target, &headers, "abc".into()).await;
    assert_eq!(code(&wrong), (400, "Md5Mismatch".into()));
    let chunks = tokio_stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))]);
    let chunked = send("PUT", &address, &target, &[kind], reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(code(&chunked), (411, "MissingContentLengthHeader".into()));
    let pages = [("content-length", "0".to_owned()), ("x-ms-blob-type", "PageBlob".to_owned())];
    assert_eq!(
        code(&send("PUT", &address, &target, &pages, "".into()).await),
        (400, "InvalidHeaderValue".into())
    );
    assert_eq!(data_files(folder.path()).len(), 0);
}

/// A client that goes away in the middle leaves no blob, no file, and nothing that counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_leaves_nothing() {
    let limits = Limits { account_bytes: 100 << 20, ..Limits::default() };
    let (folder, _store, address) = store(limits).await;
    let query = common::signed(muster_blobs::Resource::Container("data"), common::ALL);
    let mut stream = tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "PUT /{ACCOUNT}/data/half?{query} HTTP/1.1\r\nHost: x\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: {}\r\n\r\n",
        90 << 20
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 5 << 20]).await.unwrap();
    // While it is on its way, its bytes are spoken for.
    assert_eq!(code(&put(&address, "data/other", vec![0; 20 << 20]).await).1, "AccountQuotaExceeded");
    assert_eq!(data_files(folder.path()).len(), 1);
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    drop(stream);
    while !data_files(folder.path()).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(put(&address, "data/other", vec![0; 90 << 20]).await.status(), 201);
    let missing = send("GET", &address, &format!("/{ACCOUNT}/data/half"), &[], "".into()).await;
    assert_eq!(code(&missing), (404, "BlobNotFound".into()));
}

#[tokio::test]
async fn a_reader_keeps_what_it_reads_though_it_is_replaced() {
    let (folder, _store, address) = store(Limits::default()).await;
    // More than what the socket's buffers hold.
    let size = 64 << 20;
    assert_eq!(put(&address, "data/a", vec![1; size]).await.status(), 201);
    let mut slow = send("GET", &address, &format!("/{ACCOUNT}/data/a"), &[], "".into()).await;
    let mut read = slow.chunk().await.unwrap().unwrap().len();
    assert_eq!(put(&address, "data/a", vec![2; 10]).await.status(), 201);
    assert_eq!(data_files(folder.path()).len(), 2);
    while let Some(chunk) = slow.chunk().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 1));
        read += chunk.len();
    }
    assert_eq!(read, size);
    while data_files(folder.path()).len() != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_is_done_without_a_signature_or_in_another_account() {
    let (_folder, _store, address) = store(Limits::default()).await;
    assert_eq!(put(&address, "data/a", vec![0; 5]).await.status(), 201);
    let client = reqwest::Client::new();
    let query = common::signed(muster_blobs::Resource::Container("data"), common::ALL);
    for (url, expected) in [
        (format!("{address}/{ACCOUNT}/data/a"), "AuthenticationFailed"),
        (format!("{address}/other/data/a?{query}"), "AuthenticationFailed"),
        (format!("{address}/nobody/data/a?{query}"), "AuthenticationFailed"),
        (
            format!("{address}/{ACCOUNT}/data/a?{}", query.replace("sp=rcwdl", "sp=rcwd")),
            "AuthenticationFailed",
        ),
        (format!("{address}/{ACCOUNT}/data/a?{}&sp=r", query), "InvalidQueryParameterValue"),
        (format!("{address}/{ACCOUNT}/data/a?{query}&comp=acl"), "UnsupportedQueryParameter"),
        (format!("{address}/{ACCOUNT}/DATA/a?{query}"), "InvalidResourceName"),
    ] {
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(code(&response).1, expected, "{url}");
    }
    // Somebody else's key signs nothing here: the path is part of what is signed.
    let moved = send("GET", &address, "/other/data/a", &[], "".into()).await;
    assert_eq!(code(&moved), (403, "AuthenticationFailed".into()));
}

/// Clients send the head of a request before its body, and use the connection again after a refusal.
#[tokio::test]
async fn a_refusal_comes_after_the_body_and_the_connection_stays() {
    let (_folder, _store, address) = store(Limits::default()).await;
    let mut connection =
        tokio::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("PUT /{ACCOUNT}/data/a HTTP/1.1\r\nHost: store\r\nContent-Length: 5\r\n\r\n");
    for _ in 0..3 {
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let at_once = tokio::time::timeout(Duration::from_millis(100), connection.read(&mut answer)).await;
        assert!(at_once.is_err(), "it is answered, and the body is refused by a reset");
        connection.write_all(b"hello").await.unwrap();
        let length = connection.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..length]);
        assert!(text.starts_with("HTTP/1.1 40"), "{text}");
    }
}
