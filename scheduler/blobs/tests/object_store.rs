//! The client that nodes stage files with (`object_store`) drives the store by a signed URL.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{ACCOUNT, ALL};
use muster_blobs::{Limits, Permissions, Resource, Store};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    UpdateVersion,
};
use tokio_stream::StreamExt as _;

/// A client of a container, by a signed URL for it.
fn client(address: &str, container: &str, permissions: Permissions) -> MicrosoftAzure {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let query = common::signed(Resource::Container(container), permissions);
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
    MicrosoftAzureBuilder::new()
        .with_account(ACCOUNT)
        .with_container_name(container)
        .with_endpoint(format!("{address}/{ACCOUNT}"))
        .with_allow_http(true)
        .with_sas_authorization(pairs)
        .with_retry(object_store::RetryConfig { max_retries: 0, ..Default::default() })
        .build()
        .unwrap()
}

/// A store with the container `data`, made by an account's key.
async fn store() -> (tempfile::TempDir, Arc<Store>, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = common::open(folder.path(), Limits::default());
    let address = common::serve(Arc::clone(&store)).await;
    common::create_container(&address, "data").await;
    (folder, store, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_put_read_in_ranges_listed_and_deleted() {
    let (_folder, _store, address) = store().await;
    let data = client(&address, "data", ALL);
    for name in ["a/1 ä+%.txt", "a/2", "a/b/3", "c"] {
        data.put(&Path::from(name), name.as_bytes().to_vec().into()).await.unwrap();
    }
    let got = data.get(&Path::from("a/1 ä+%.txt")).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), "a/1 ä+%.txt".as_bytes());
    let options = GetOptions { range: Some(GetRange::Offset(3)), ..GetOptions::default() };
    assert_eq!(data.get_opts(&Path::from("a/b/3"), options).await.unwrap().bytes().await.unwrap(), "/3");
    assert_eq!(data.head(&Path::from("a/2")).await.unwrap().size, 3);
    let listed: Vec<String> =
        data.list(Some(&Path::from("a"))).map(|meta| meta.unwrap().location.to_string()).collect().await;
    assert_eq!(listed, [Path::from("a/1 ä+%.txt").to_string(), "a/2".into(), "a/b/3".into()]);
    let level = data.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    assert_eq!((level.objects.len(), level.common_prefixes), (2, vec![Path::from("a/b")]));
    // This client deletes by batches, which the store does not know.
    let query = common::signed(Resource::Container("data"), ALL);
    let url = format!("{address}/{ACCOUNT}/data/c?{query}");
    assert_eq!(reqwest::Client::new().delete(url).send().await.unwrap().status(), 202);
    assert!(matches!(data.get(&Path::from("c")).await.unwrap_err(), Error::NotFound { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_there_or_not_have_changed_is_left_alone() {
    let (_folder, _store, address) = store().await;
    let data = client(&address, "data", ALL);
    let path = Path::from("once");
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let first = data.put_opts(&path, "1".into(), create()).await.unwrap();
    let again = data.put_opts(&path, "2".into(), create()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    let update = |e_tag: Option<String>| PutOptions {
        mode: PutMode::Update(UpdateVersion { e_tag, version: None }),
        ..PutOptions::default()
    };
    let second = data.put_opts(&path, "3".into(), update(first.e_tag.clone())).await.unwrap();
    let stale = data.put_opts(&path, "4".into(), update(first.e_tag)).await.unwrap_err();
    assert!(matches!(stale, Error::Precondition { .. }), "{stale}");
    let unchanged = GetOptions { if_none_match: second.e_tag, ..GetOptions::default() };
    let unchanged = data.get_opts(&path, unchanged).await.unwrap_err();
    assert!(matches!(unchanged, Error::NotModified { .. }), "{unchanged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_come_in_parts() {
    let (folder, _store, address) = store().await;
    let data = client(&address, "data", ALL);
    let path = Path::from("large");
    let part = |byte: u8| vec![byte; 1 << 20];
    let mut upload = data.put_multipart_opts(&path, PutMultipartOptions::default()).await.unwrap();
    for byte in 0..5 {
        upload.put_part(part(byte).into()).await.unwrap();
    }
    assert!(data.head(&path).await.is_err(), "nothing is there before all of it is");
    upload.complete().await.unwrap();
    let whole = data.get(&path).await.unwrap().bytes().await.unwrap();
    assert!(
        whole.len() == 5 << 20 && whole.chunks(1 << 20).zip(0..).all(|(chunk, byte)| chunk == part(byte))
    );
    let across = data.get_range(&path, (1 << 20) - 2..(1 << 20) + 2).await.unwrap();
    assert_eq!(across[..], [0, 0, 1, 1]);
    assert_eq!(common::data_files(folder.path()).len(), 5);
}

/// A signed URL for reading reads, and does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_url_allows_what_it_says() {
    let (_folder, _store, address) = store().await;
    client(&address, "data", ALL).put(&Path::from("x"), "1".into()).await.unwrap();
    let reader = client(&address, "data", Permissions { read: true, ..Permissions::default() });
    assert!(reader.get(&Path::from("x")).await.is_ok());
    assert!(matches!(
        reader.put(&Path::from("x"), "2".into()).await.unwrap_err(),
        Error::PermissionDenied { .. }
    ));
    assert!(reader.list(None).next().await.unwrap().is_err());
}
