//! The program under test, and the servers that it speaks with.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use muster_wire::v1::{StageDone, StageInput, StageOrders, StageOutput, stage_input, stage_output};
use prost::Message;
use sha2::Sha256;

/// The well-known account of Azurite, whose key is in its documentation.
pub const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A folder for a task, as a supervisor makes it.
pub struct Task {
    folder: tempfile::TempDir,
    pub environment: BTreeMap<String, String>,
    pub orders: StageOrders,
}

impl Task {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("wd")).unwrap();
        let text = |path: PathBuf| path.display().to_string();
        let orders = StageOrders {
            task_directory: text(folder.path().to_owned()),
            working_directory: text(folder.path().join("wd")),
            shared_roots: vec!["/".into()],
            files_max: 1000,
            bytes_max: 1 << 30,
            ..StageOrders::default()
        };
        Self { folder, environment: BTreeMap::new(), orders }
    }

    /// A path below the task's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Every file below the working directory.
    pub fn names(&self) -> Vec<String> {
        fn walk(folder: &Path, below: &Path, all: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), below, all),
                    false => all.push(entry.path().strip_prefix(below).unwrap().display().to_string()),
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.path("wd"), &self.path("wd"), &mut all);
        all.sort();
        all
    }

    pub fn bring(&self, inputs: Vec<StageInput>) -> StageDone {
        run(&StageOrders { inputs, ..self.orders.clone() }, &self.environment)
    }

    pub fn take(&self, outputs: Vec<StageOutput>) -> StageDone {
        run(&StageOrders { outputs, ..self.orders.clone() }, &self.environment)
    }
}

/// Has the program carry out an order.
pub fn run(orders: &StageOrders, environment: &BTreeMap<String, String>) -> StageDone {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-stage"));
    command.env_clear().envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let bytes = orders.encode_to_vec();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
    input.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    StageDone::decode(&answer[4..]).unwrap()
}

pub fn url(address: &str, to: &str) -> StageInput {
    StageInput { source: Some(stage_input::Source::Url(address.to_owned())), to: to.to_owned(), mode: None }
}

pub fn container(address: &str, prefix: &str, to: &str) -> StageInput {
    let container = muster_wire::v1::StageContainer { url: address.to_owned(), prefix: prefix.to_owned() };
    StageInput { source: Some(stage_input::Source::Container(container)), to: to.to_owned(), mode: None }
}

pub fn output(pattern: &str, address: &str, path: &str) -> StageOutput {
    StageOutput {
        pattern: pattern.to_owned(),
        destination: Some(stage_output::Destination::ContainerUrl(address.to_owned())),
        path: path.to_owned(),
        ..StageOutput::default()
    }
}

/// Succeeded, with so many files.
pub fn assert_moved(done: &StageDone, files: u64) {
    assert_eq!((done.failure.clone(), done.files), (None, files));
}

/// Failed with a code, and without a word of what is secret.
pub fn assert_failed(done: &StageDone, code: &str) {
    let failure = done.failure.clone().expect("it should have failed");
    assert_eq!(failure.code, code, "{}", failure.message);
    assert!(!failure.message.contains("sig=") && !failure.message.contains("SECRET"), "{}", failure.message);
}

/// A server process, ended when it is dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the servers are installed; none if the tests are told to be skipped.
fn installed() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join(".ci/stores.sh")).arg("--where").output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
    assert!(skip, "run .ci/stores.sh, or set MUSTER_TEST_SKIP_CLUSTER=1 to leave these tests out");
    None
}

fn serve(mut command: Command, port: u16, folder: tempfile::TempDir) -> Server {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, port, _folder: folder };
    let end = Instant::now() + Duration::from_secs(60);
    // Nothing tells when another's server listens.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Azurite.
pub fn azurite() -> Option<Server> {
    let place = installed()?;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(place.join("azurite/node_modules/.bin/azurite-blob"));
    command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"]);
    command.arg("--blobPort").arg(port.to_string()).arg("--location").arg(folder.path());
    Some(serve(command, port, folder))
}

/// moto's server of S3.
pub fn moto() -> Option<Server> {
    let place = installed()?;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(place.join("python/bin/moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Some(serve(command, port, folder))
}

impl Server {
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a container of Azurite, and gives its address with a signature for these permissions.
    pub fn make_container(&self, name: &str, permissions: &str) -> String {
        let expiry = "2099-01-01T00:00:00Z";
        let version = "2020-12-06";
        let text = format!("{ACCOUNT}\nrwlac\nb\nco\n\n{expiry}\n\nhttp,https\n{version}\n\n");
        let signature = escaped(&sign(&text));
        let account = format!("sv={version}&ss=b&srt=co&sp=rwlac&se={expiry}&spr=http,https&sig={signature}");
        let address = format!("{}/{ACCOUNT}/{name}", self.address());
        let made = request("PUT", &format!("{address}?restype=container&{account}"));
        assert!(made.starts_with("HTTP/1.1 201"), "{made}");
        let text =
            format!("{permissions}\n\n{expiry}\n/blob/{ACCOUNT}/{name}\n\n\n\n{version}\nc\n\n\n\n\n\n\n");
        let signature = escaped(&sign(&text));
        format!("{address}?sv={version}&sr=c&sp={permissions}&se={expiry}&sig={signature}")
    }

    /// Makes a bucket of moto.
    pub fn make_bucket(&self, name: &str) {
        let made = request("PUT", &format!("{}/{name}", self.address()));
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    }
}

/// One request without a body, over a connection of its own; the answer's first bytes.
pub fn request(method: &str, address: &str) -> String {
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let text = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn sign(text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&from_base64(KEY)).unwrap();
    mac.update(text.as_bytes());
    base64(&mac.finalize().into_bytes())
}

fn escaped(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn base64(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let digit = |part: &[u8]| {
        let part = format!("{:0<6}", std::str::from_utf8(part).unwrap());
        ALPHABET.as_bytes()[usize::from_str_radix(&part, 2).unwrap()] as char
    };
    let mut text: String = bits.as_bytes().chunks(6).map(digit).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let digits = text.trim_end_matches('=').chars().map(|c| ALPHABET.find(c).unwrap());
    let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
    bits.as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}
