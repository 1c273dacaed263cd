//! The batch service, driven by both generations of its real SDK (`cluster-tests/clients/batch/`): pools, jobs, tasks and their
//! ends, lists and errors, an MPI program on a gang of nodes, and a user who asks too often.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_cluster_tests::site::repository;

use crate::support::{Bench, TOO_OFTEN};

/// A key, in base64: of this test alone.
const KEY: &str = "bXVzdGVyIHRlc3RzIGl0cyBiYXRjaCBzZXJ2aWNl";
const ADDRESS: &str = "127.0.0.1:8443";
/// Where the other stores listen on the head.
const AZURITE_PORT: &str = "10000";
const S3_PORT: &str = "10001";

/// Where `.ci/batch-clients.sh` has put the SDKs.
fn programs() -> PathBuf {
    let found = Command::new(repository().join(".ci/batch-clients.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "the batch service's SDKs are missing: run .ci/batch-clients.sh as root");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// A certificate for this address, and its key.
fn make_certificate(keys: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=batch", "-addext", "subjectAltName=IP:127.0.0.1,DNS:head"])
        // The certificate is trusted itself, and nodes take none of an authority for that of a host.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(keys.join("tls.key"))
        .arg("-out")
        .arg(keys.join("tls.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn up(tag: &str, keys: &Path, tls: bool) -> Option<Bench> {
    let key = keys.join("lab.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let encrypted = match tls {
        true => {
            make_certificate(keys);
            let keys = keys.display();
            format!("tls_certificate_file = \"{keys}/tls.pem\"\ntls_key_file = \"{keys}/tls.key\"\n")
        }
        false => String::new(),
    };
    // Tasks on nodes ask as well.
    let scheme = if tls { "https" } else { "http" };
    let section = format!(
        "[batch]\nlisten = \"0.0.0.0:8443\"\nurl = \"{scheme}://head:8443\"\nstore = \"{}\"\nstore_account_gib = 1\n{encrypted}\
         [[batch.account]]\nname = \"lab\"\nuser = \"ann\"\nkey_file = \"{}\"\n",
        keys.join("blobs").display(),
        key.display()
    );
    Bench::up_with(tag, 2, 4, &section)
}

/// A store that runs on the head, ended when it is dropped.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts Azurite and moto's S3 on the head, and fills them and the embedded store for the scenario.
fn make_stores(bench: &Bench, keys: &Path, scheme: &str) -> [Server; 2] {
    let found = Command::new(repository().join(".ci/stores.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "Azurite and moto are missing: run .ci/stores.sh as root");
    let place = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let start = |program: &str, arguments: &[&str]| {
        let mut command = bench.site.cluster.exec("head", None).unwrap();
        command.arg(place.join(program)).args(arguments).current_dir(keys);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let location = keys.join("azurite").display().to_string();
    let quiet = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", &location];
    let azurite = start(
        "azurite/node_modules/.bin/azurite-blob",
        &[&quiet[..], &["--blobHost", "0.0.0.0", "--blobPort", AZURITE_PORT]].concat(),
    );
    let s3 = start("python/bin/moto_server", &["-H", "0.0.0.0", "-p", S3_PORT]);
    let mut command = bench.site.cluster.exec("head", None).unwrap();
    command
        .arg(place.join("python/bin/python"))
        .arg("-B")
        .arg(repository().join("cluster-tests/clients/batch/stores.py"))
        .arg(bench.work.join("stores.json"))
        .arg(bench.work.join("key"))
        .arg(format!("{scheme}://head:8443"))
        .args([format!("http://head:{AZURITE_PORT}"), format!("http://head:{S3_PORT}")])
        .env("REQUESTS_CA_BUNDLE", keys.join("tls.pem"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    [azurite, s3]
}

fn run(sdk: &str, tls: bool) {
    let keys = tempfile::tempdir().unwrap();
    let Some(bench) = up(sdk.replace("sdk", "bs").as_str(), keys.path(), tls) else { return };
    let from = repository().join("cluster-tests/clients/batch");
    let clients = bench.work.join("clients");
    std::fs::create_dir(&clients).unwrap();
    for file in ["story.py".to_owned(), "often.py".to_owned(), format!("{sdk}.py")] {
        std::fs::copy(from.join(&file), clients.join(&file)).unwrap();
    }
    bench.write("key", KEY);
    let faces = bench.make_faces();
    // The clients trust nothing but the certificate itself.
    let (scheme, trust) = if tls {
        ("https", "SSL_CERT_FILE=$PWD/tls.pem REQUESTS_CA_BUNDLE=$PWD/tls.pem ")
    } else {
        ("http", "")
    };
    if tls {
        std::fs::copy(keys.path().join("tls.pem"), bench.work.join("tls.pem")).unwrap();
    }
    let _stores = make_stores(&bench, keys.path(), scheme);
    let read_log = || std::fs::read_to_string(bench.site.controller_log()).unwrap_or_default();
    let tell = |script: &str| {
        let line = format!(
            "{trust}timeout 240 {}/{sdk}/bin/python -B clients/{script}.py {scheme}://{ADDRESS} lab key {}",
            programs().display(),
            bench.work.display()
        );
        let output = bench.shell(&faces, &bench.work, &line).output().unwrap();
        let log = read_log();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&said), end.join("\n"));
    };
    tell(sdk);
    bench.limit_requests();
    tell("often");
    let log = read_log();
    assert!(log.contains(TOO_OFTEN), "{log}");
    assert!(!log.contains(KEY) && !log.contains("sig="), "no log has a key or a signature");
    let token = std::fs::read_to_string(bench.work.join("token")).unwrap();
    assert!(token.starts_with("muster-task.") && !log.contains(token.trim()), "no log has a token");
}

#[test]
fn the_sdk_of_the_older_generation_finds_what_it_expects() {
    run("sdk14", false);
}

#[test]
fn the_sdk_of_the_newer_generation_finds_what_it_expects() {
    run("sdk15", true);
}
