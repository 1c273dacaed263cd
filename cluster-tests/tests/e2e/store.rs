//! The embedded store of the batch service: Azure's own client drives it through the controller, and tasks on nodes take
//! their files from it and bring them there, by signed URLs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_batch::signature::SharedKey;
use muster_blobs::{Permissions, Resource, sign_url};
use muster_cluster_tests::site::repository;

use crate::support::Bench;

/// A key, in base64: of this test alone.
const KEY: &str = "bXVzdGVyIHRlc3RzIGl0cyBlbWJlZGRlZCBzdG9yZQ==";
const PORT: u16 = 8443;

/// A Python with Azure's client for blobs.
fn python() -> PathBuf {
    let found = Command::new(repository().join(".ci/stores.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "Azure's client for blobs is missing: run .ci/stores.sh as root");
    Path::new(String::from_utf8(found.stdout).unwrap().trim()).join("python/bin/python")
}

/// Runs Python on the head.
fn run(bench: &Bench, arguments: &[&str]) -> String {
    let mut command = bench.site.cluster.exec("head", None).unwrap();
    let output = command.arg(python()).arg("-B").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tasks_take_their_files_from_the_store_and_bring_them_there() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("lab.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = folder.path().join("blobs");
    let section = format!(
        "[batch]\nlisten = \"0.0.0.0:{PORT}\"\nstore = \"{}\"\nstore_account_gib = 1\n\
         [[batch.account]]\nname = \"lab\"\nuser = \"ann\"\nkey_file = \"{}\"\n",
        store.display(),
        key.display()
    );
    let Some(bench) = Bench::up_with("lst", 2, 2, &section) else { return };
    let address = format!("http://head:{PORT}");

    let script = std::fs::read_to_string(repository().join("scheduler/blobs/tests/blob_client.py")).unwrap();
    bench.write("blob_client.py", &script);
    let client = bench.work.join("blob_client.py").display().to_string();
    run(&bench, &[&client, &address, "lab", KEY]);

    let credential = format!("{{'account_name': 'lab', 'account_key': '{KEY}'}}");
    let service = format!(
        "from azure.storage.blob import BlobServiceClient as S; s = S('{address}/lab', credential={credential})"
    );
    let made = "c = s.create_container('data'); c.upload_blob('in/one.txt', 'one\\n'); c.upload_blob('in/d/two.txt', 'two\\n')";
    run(&bench, &["-c", &format!("{service}; {made}")]);
    let signed = |permissions| {
        let hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        sign_url("lab", &SharedKey::from_base64(KEY).unwrap(), Resource::Container("data"), permissions, hour)
    };
    let reads = signed(Permissions { read: true, list: true, ..Permissions::default() });
    let writes = signed(Permissions { write: true, ..Permissions::default() });
    let job = bench.submit(
        &[
            "-n1",
            "-t1",
            &format!("--stage-in={address}/lab/data/?{reads}=>brought"),
            &format!("--stage-out=*.out={address}/lab/data/results?{writes}"),
        ],
        "set -e; cat brought/in/one.txt brought/in/d/two.txt > all.out
         head -c 20000000 /dev/zero | tr '\\0' x > large.out",
    );
    bench.complete(job);
    let taken = "c = s.get_container_client('data'); print(sorted((b.name, b.size) for b in c.list_blobs('results')), \
                 c.download_blob('results/all.out').readall())";
    let taken = run(&bench, &["-c", &format!("{service}; {taken}")]);
    assert_eq!(taken.trim(), "[('results/all.out', 8), ('results/large.out', 20000000)] b'one\\ntwo\\n'");
    let log = std::fs::read_to_string(bench.site.controller_log()).unwrap_or_default();
    assert!(!log.contains(KEY) && !log.contains("sig="), "no log has a key or a signature");
}
