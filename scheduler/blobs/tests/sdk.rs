//! Azure's own Python client drives the store.

mod common;

use std::process::Command;

use muster_blobs::Limits;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_own_client_finds_what_it_knows() {
    let Some(python) = common::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = common::serve(common::open(folder.path(), Limits::default())).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blob_client.py");
    let client = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .arg("-B")
            .arg(script)
            .args([&address, common::ACCOUNT, common::KEY])
            .output()
            .unwrap()
    });
    let output = client.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What was deleted is gone from the disk as well.
    assert_eq!(common::data_files(folder.path()), Vec::<std::path::PathBuf>::new());
}
