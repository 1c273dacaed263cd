//! A server that is killed in the middle of uploads has what it said that it has, and nothing else.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use common::{ACCOUNT, data_files, put, send};
use muster_blobs::Limits;

/// Names the folder that [`serve`] serves.
const FOLDER: &str = "MUSTER_TEST_BLOBS";

/// Not a test: the server of the one below, in a process of its own, until its input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the server of another test"]
async fn serve() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let address = common::serve(common::open(folder.as_ref(), Limits::default())).await;
    println!("\nserving {address}");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..5_u8 {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serve", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned)).unwrap();
        if round == 0 {
            common::create_container(&address, "data").await;
        }
        for n in 0..4_u8 {
            let (name, byte) = (format!("data/{round}-{n}"), round * 16 + n);
            assert_eq!(put(&address, &name, vec![byte; 3000]).await.status(), 201);
            acknowledged.push((name, byte));
        }
        // One more is on its way, by a connection of its own, when the server is killed.
        let unfinished = unfinished(&address, round).await;
        server.kill().unwrap();
        server.wait().unwrap();
        drop(unfinished);
    }
    let address = common::serve(common::open(folder.path(), Limits::default())).await;
    assert_eq!(data_files(folder.path()).len(), acknowledged.len());
    for (name, byte) in acknowledged {
        let found = send("GET", &address, &format!("/{ACCOUNT}/{name}"), &[], "".into()).await;
        assert_eq!(found.bytes().await.unwrap(), vec![byte; 3000], "{name}");
    }
}

/// A connection on which half a blob has been sent, which the server has begun to store.
async fn unfinished(address: &str, round: u8) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let query = common::signed(muster_blobs::Resource::Container("data"), common::ALL);
    let mut stream = tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "PUT /{ACCOUNT}/data/half-{round}?{query} HTTP/1.1\r\nHost: x\r\nx-ms-blob-type: BlockBlob\r\n\
         Content-Length: 8000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![9; 6_000_000]).await.unwrap();
    stream
}
