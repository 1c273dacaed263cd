//! What pools and tasks of the batch service have on their nodes: application packages, mounts, and files of the account's own store,
//! asked for by both generations of the SDK (`cluster-tests/clients/batch/setup.py`). Packages are added by `muster batch app`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use muster_cluster_tests::site::repository;

use crate::support::Bench;

/// A key, in base64: of this test alone.
const KEY: &str = "bXVzdGVyIHRlc3RzIHdoYXQgbm9kZXMgaGF2ZQ==";

/// Where `.ci/batch-clients.sh` has put the SDKs.
fn clients() -> PathBuf {
    let found = Command::new(repository().join(".ci/batch-clients.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "the batch service's SDKs are missing: run .ci/batch-clients.sh as root");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

fn run(generation: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = folder.path().join("lab.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(shared.join("input"), "shared\n").unwrap();
    let section = format!(
        "[batch]\nlisten = \"0.0.0.0:8443\"\nurl = \"http://head:8443\"\nstore = \"{blobs}\"\nstore_account_gib = 1\n\
         packages = \"{packages}\"\nmount_sources = [\"file://{shared}\"]\n\
         [[batch.account]]\nname = \"lab\"\nuser = \"ann\"\nkey_file = \"{key}\"\n",
        blobs = folder.path().join("blobs").display(),
        packages = folder.path().join("packages").display(),
        shared = shared.display(),
        key = key.display()
    );
    let Some(bench) = Bench::up_with(&format!("bp{generation}"), 2, 2, &section) else { return };
    let faces = bench.make_faces();
    bench.write("key", KEY);
    let muster = std::fs::read_link(faces.join("squeue")).unwrap();
    let python = clients().join(format!("sdk{generation}/bin/python"));
    let good = |line: &str| {
        let line = format!("set -e; PATH={}:$PATH; {line}", muster.parent().unwrap().display());
        let output = bench.shell(&faces, &bench.work, &line).output().unwrap();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let log = std::fs::read_to_string(bench.site.controller_log()).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        assert!(output.status.success(), "{line}\n{said}\n{}", end.join("\n"));
        assert!(!log.contains(KEY) && !log.contains("sig="), "no log has a key or a signature");
        said
    };
    let account = "export AZURE_BATCH_ACCOUNT=lab AZURE_BATCH_ENDPOINT=http://head:8443 AZURE_BATCH_KEY_FILE=$PWD/own.key";
    good("install -m 600 key own.key");
    for version in ["1", "2"] {
        good(&format!(
            "mkdir -p v{version}/bin && cd v{version} && printf '#!/bin/sh\\necho tool {version}\\n' > bin/tool && chmod 755 bin/tool \
             && {} -m zipfile -c ../tool{version}.zip bin",
            python.display()
        ));
    }
    good(&format!(
        "{account}; muster batch app add Tool 1.0 tool1.zip && muster batch app add tool 2.0 tool2.zip --default"
    ));
    good(&format!(
        "{account}; head -c 3000 tool1.zip > broken.zip; printf 'PK\\003\\004 and no more' > broken.zip; muster batch app add Broken 1 broken.zip"
    ));
    let refused = good(&format!("{account}; muster batch app add none 1 key 2>&1 || true"));
    assert!(refused.contains("it is no zip") || refused.contains("is no zip"), "{refused}");
    let shown = good(&format!("{account}; muster batch app list; muster batch app show TOOL"));
    assert!(shown.contains("Broken") && shown.contains("Default") && shown.contains("2.0"), "{shown}");
    good("mkdir -p in && echo one > in/a && echo two > in/b");
    good(&format!("{account}; muster batch file upload in/a in/b store:data/in/"));
    let clients = repository().join("cluster-tests/clients/batch");
    for file in ["setup.py", "story.py"] {
        std::fs::copy(clients.join(file), bench.work.join(file)).unwrap();
    }
    good(&format!(
        "timeout 240 {} -B setup.py {generation} http://127.0.0.1:8443 lab key $PWD {}",
        python.display(),
        shared.display()
    ));
    // What the pools had mounted is gone with them, and nothing in it was touched.
    for node in ["node01", "node02"] {
        assert!(!bench.mounts(node).contains("fsmounts/"), "{node}");
    }
    assert_eq!(std::fs::read_to_string(shared.join("input")).unwrap(), "shared\n");
    // Versions that no pool refers to any more can go, and their files with them.
    let left = || std::fs::read_dir(folder.path().join("packages")).unwrap().count();
    assert_eq!(left(), 3);
    good(&format!("{account}; muster batch app remove tool 1.0 2.0 && muster batch app remove broken 1"));
    assert_eq!(left(), 0);
}

#[test]
fn the_older_sdk_finds_packages_mounts_and_the_accounts_own_store() {
    run("14");
}

#[test]
fn the_newer_sdk_finds_packages_mounts_and_the_accounts_own_store() {
    run("15");
}
