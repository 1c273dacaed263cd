//! Real servers: Azurite for blob containers with signatures, moto for S3.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod common;

use common::{Task, assert_failed, assert_moved, azurite, container, moto, output, url};

/// Larger than one part, and of no round size.
fn large() -> Vec<u8> {
    (0..20_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn blobs_go_to_a_container_and_come_back() {
    let Some(server) = azurite() else { return };
    let address = server.make_container("results", "rwl");
    let from = Task::new();
    from.write("wd/a.txt", "a");
    from.write("wd/d/b c.txt", "b");
    from.write("wd/d/.hidden", "no");
    from.write("wd/large.bin", large());
    from.write("wd/empty", "");
    from.write("stdout.txt", "said");
    let mut typed = output("a.txt", &address, "typed.json");
    typed.headers.insert("Content-Type".into(), "application/json".into());
    typed.headers.insert("x-ms-meta-kind".into(), "test".into());
    let outputs = vec![
        output("**/*.txt", &address, "run1"),
        output("large.bin", &address, "run1/large.bin"),
        output("../std*.txt", &address, "logs"),
        output("empty", &address, ""),
        output("no-such-file", &address, "x"),
        typed,
    ];
    assert_moved(&from.take(outputs), 6);
    let report = String::from_utf8(from.read("fileuploadout.txt")).unwrap();
    assert!(report.contains("run1/large.bin (20000003 bytes)") && !report.contains("sig"), "{report}");
    assert_eq!(from.read("fileuploaderr.txt"), b"no-such-file: there is no such file\n");
    let head = common::request("HEAD", &address.replacen("results?", "results/typed.json?", 1));
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    assert!(head.to_lowercase().contains("x-ms-meta-kind: test"), "{head}");

    let to = Task::new();
    assert_moved(&to.bring(vec![container(&address, "", "all"), container(&address, "run1/d", "")]), 7);
    assert_eq!(
        to.names(),
        [
            "all/empty",
            "all/logs/stdout.txt",
            "all/run1/a.txt",
            "all/run1/d/b c.txt",
            "all/run1/large.bin",
            "all/typed.json",
            "run1/d/b c.txt"
        ]
    );
    assert!(to.read("wd/all/run1/large.bin") == large(), "a large file is the same");
    assert_eq!(to.read("wd/run1/d/b c.txt"), b"b");
    // One blob by its own address, with the container's signature.
    let one = address.replacen("results?", "results/run1/a.txt?", 1);
    assert_moved(&to.bring(vec![url(&one, "one.txt")]), 1);
    assert_eq!(to.read("wd/one.txt"), b"a");
    refuses(&server, &address, &to);
}

/// What a container does not have, or its signature does not permit.
fn refuses(server: &common::Server, address: &str, task: &Task) {
    let blob = address.replacen("results?", "results/none?", 1);
    assert_failed(&task.bring(vec![url(&blob, "")]), "BlobNotFound");
    let forged = address.replacen("sig=", "sig=SECRET", 1);
    assert_failed(&task.bring(vec![container(&forged, "", "x")]), "BlobAccessDenied");
    let missing = address.replacen("/results?", "/missing?", 1);
    assert_failed(&task.bring(vec![container(&missing, "", "x")]), "BlobAccessDenied");
    let read_only = server.make_container("inputs", "rl");
    task.write("wd/mine", "x");
    assert_failed(&task.take(vec![output("mine", &read_only, "")]), "FileUploadAccessDenied");
    let account = server.make_container("gone", "rwl");
    assert_failed(
        &task.take(vec![output("mine", &account.replacen("/gone?", "/other?", 1), "")]),
        "FileUploadAccessDenied",
    );
    let mut bad = output("mine", address, "");
    bad.headers.insert("x-ms-lease-id".into(), "1".into());
    assert_failed(&task.take(vec![bad]), "FileUploadMiscError");
}

#[test]
fn objects_go_to_a_bucket_and_come_back() {
    let Some(server) = moto() else { return };
    server.make_bucket("bucket");
    let mut task = Task::new();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", server.address()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "SECRET".to_owned()),
    ] {
        task.environment.insert(name.to_owned(), value);
    }
    task.write("wd/a.txt", "a");
    task.write("wd/large.bin", large());
    assert_moved(&task.take(vec![output("*", "s3://bucket/runs", "7")]), 2);
    let inputs =
        vec![url("s3://bucket/runs/7/a.txt", "back.txt"), container("s3://bucket/runs", "7/", "all")];
    assert_moved(&task.bring(inputs), 3);
    assert_eq!(task.read("wd/back.txt"), b"a");
    assert!(task.read("wd/all/7/large.bin") == large());
    assert_failed(&task.bring(vec![url("s3://bucket/none", "")]), "BlobNotFound");
    assert_failed(&task.take(vec![output("a.txt", "s3://missing", "")]), "FileUploadContainerNotFound");
}
