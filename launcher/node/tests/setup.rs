//! What a node has for a pool of the batch service: packages that are unpacked once, and file systems that are mounted.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use common::controller::Controller;
use common::node::Node;
use common::work::Task;
use common::{eventually, is_root};
use muster_wire::v1::gone::How;
use muster_wire::v1::mount::Source;
use muster_wire::v1::{Mount, Package, Setup, Staging, to_node};

const NODE: &str = "node01";

fn zip(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(*mode)).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn one_node() -> (Controller, Node) {
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, NODE);
    controller.hello(NODE).await;
    (controller, node)
}

async fn set_up(
    controller: &mut Controller,
    number: u64,
    packages: Vec<Package>,
    mounts: Vec<Mount>,
) -> Vec<(String, String)> {
    controller.send(NODE, to_node::Body::Setup(Setup { number, packages, mounts, ..Setup::default() })).await;
    let done = controller.set_up(NODE, number).await;
    done.errors.into_iter().map(|error| (error.code, error.message)).collect()
}

/// A task that says what it finds of an application.
fn uses(package: &Package, folder: &str) -> Task {
    let mut task = Task::new(
        NODE,
        "#!/bin/sh\n\"$AZ_BATCH_APP_PACKAGE_app_1/bin/run\"\ntouch \"$AZ_BATCH_APP_PACKAGE_app_1/mine\" || echo not mine\nls $AZ_BATCH_NODE_MOUNTS_DIR\n",
    );
    task.work()
        .environment
        .insert("AZ_BATCH_APP_PACKAGE_app_1".into(), format!("applications/{}", package.digest));
    task.prepare.staging = Some(Staging {
        folder: format!("workitems/{folder}/job-1/t"),
        batch: true,
        retention_s: 60,
        prepare_s: 60,
        packages: vec![package.clone()],
        ..Staging::default()
    });
    task
}

fn place(node: &Node, package: &Package) -> PathBuf {
    node.dir.path().join("work/applications").join(&package.digest)
}

#[tokio::test]
async fn a_package_is_fetched_once_and_tasks_may_read_it_and_not_change_it() {
    if !is_root() {
        return;
    }
    let (mut controller, mut node) = one_node().await;
    let package = controller.packages.add("app_1", zip(&[("bin/run", 0o755, "#!/bin/sh\necho it runs\n")]));
    assert_eq!(set_up(&mut controller, 7, vec![package.clone()], Vec::new()).await, []);
    let program = place(&node, &package).join("bin/run");
    let about = std::fs::metadata(&program).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (0, 0o755));
    // Of a task, and of two at once on a node that has been told nothing of it.
    let other = controller.packages.add("app_1", zip(&[("bin/run", 0o700, "#!/bin/sh\necho another\n")]));
    let tasks = [uses(&package, "a"), uses(&other, "b"), uses(&other, "c")];
    for task in &tasks {
        controller.prepare(NODE, &task.prepare).await;
    }
    for (task, says) in tasks.iter().zip(["it runs", "another", "another"]) {
        let endpoint = controller.ready(NODE, task.key()).await;
        controller.go(NODE, muster_wire::v1::Go { key: Some(task.key()), peers: vec![endpoint] }).await;
        controller.gone(NODE, task.key()).await;
        assert!(
            task.output().starts_with(&format!("{says}\n")) && task.output().contains("not mine"),
            "{}",
            task.output()
        );
    }
    assert_eq!(controller.packages.asked(), 2);
    // An agent that starts anew says again what it is told again, without fetching anything.
    node.kill_agent();
    node.start_agent();
    controller.hello(NODE).await;
    assert_eq!(set_up(&mut controller, 7, vec![package], Vec::new()).await, []);
    assert_eq!(controller.packages.asked(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_package_is_told_and_fails_the_task() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let bad = controller.packages.add("bad_1", b"PK\x03\x04 but no zip".to_vec());
    let none = Package { name: "gone_1".into(), digest: "a".repeat(64), bytes: 7 };
    let fine = controller.packages.add("app_1", zip(&[("x", 0o644, "x")]));
    let short = Package { bytes: fine.bytes - 1, ..fine.clone() };
    let removed = Package { name: "version '2' of application 'app'".into(), ..Package::default() };
    let errors = set_up(&mut controller, 1, vec![bad.clone(), none, short, removed], Vec::new()).await;
    let codes: Vec<&str> = errors.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["ApplicationPackageError"; 4], "{errors:?}");
    for (says, (_, message)) in [
        "bad_1 cannot be unpacked",
        "gone_1: there is none",
        "app_1 arrived damaged",
        "there is no version '2'",
    ]
    .iter()
    .zip(&errors)
    {
        assert!(message.contains(says), "{message}");
    }
    let task = uses(&bad, "a");
    controller.prepare(NODE, &task.prepare).await;
    let gone = controller.gone(NODE, task.key()).await;
    assert!(
        matches!(&gone.how, Some(How::StageInFailed(failed)) if failed.code == "ApplicationPackageError"),
        "{gone:?}"
    );
    let left = std::fs::read_dir(node.dir.path().join("work/applications")).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| !name.to_string_lossy().ends_with(".lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn local(name: &str, path: &Path, options: &[&str]) -> Mount {
    Mount {
        name: name.into(),
        source: Some(Source::Local(path.display().to_string())),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        problem: String::new(),
    }
}

#[tokio::test]
async fn file_systems_are_mounted_for_a_pool_and_are_gone_with_it() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write(shared.path().join("input"), "shared").unwrap();
    let (data, other) = (local("data", shared.path(), &["ro"]), local("scratch", shared.path(), &[]));
    assert_eq!(set_up(&mut controller, 1, Vec::new(), vec![data.clone(), other.clone()]).await, []);
    let run = async |controller: &mut Controller, script: &str, folder: &str| {
        let mut task = Task::new(NODE, script);
        let folder = format!("workitems/{folder}/job-1/t");
        task.prepare.staging =
            Some(Staging { folder, batch: true, retention_s: 60, prepare_s: 60, ..Staging::default() });
        controller.run(NODE, &task.prepare).await;
        task.output()
    };
    let script = "#!/bin/sh\ncd $AZ_BATCH_NODE_MOUNTS_DIR\ncat data/input; echo\ntouch data/x 2>/dev/null || echo read-only\ntouch scratch/made && echo written\ngrep -o 'fsmounts/[a-z]* [a-z,]*' /proc/self/mountinfo\n";
    let output = run(&mut controller, script, "a").await;
    assert!(output.starts_with("shared\nread-only\nwritten\n"), "{output}");
    assert!(
        output.contains("fsmounts/data ro,nosuid,nodev")
            && output.contains("fsmounts/scratch rw,nosuid,nodev"),
        "{output}"
    );
    assert!(shared.path().join("made").exists());
    // The next pool wants one of them, and a source that is none, and one that the site does not list any more.
    let refused = Mount { problem: "it is not listed".into(), ..local("no", shared.path(), &[]) };
    let none = local("none", &shared.path().join("none"), &[]);
    let errors = set_up(&mut controller, 2, Vec::new(), vec![data, none, refused]).await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].0 == "MountConfigurationError" && errors[0].1.contains("no folder of this node"),
        "{errors:?}"
    );
    assert!(errors[1].1.ends_with("cannot be mounted: it is not listed"), "{errors:?}");
    let output = run(&mut controller, "#!/bin/sh\nls $AZ_BATCH_NODE_MOUNTS_DIR\n", "b").await;
    assert_eq!(output, "data\n");
    // Nothing is to be had any more, and no answer is wanted.
    controller.send(NODE, to_node::Body::Setup(Setup::default())).await;
    eventually("nothing is mounted", || !node.dir.path().join("mounts.json").exists()).await;
    let output = run(&mut controller, "#!/bin/sh\nls $AZ_BATCH_NODE_MOUNTS_DIR\n", "c").await;
    assert_eq!(output, "");
    assert_eq!(
        std::fs::read_to_string(shared.path().join("input")).unwrap(),
        "shared",
        "nothing in it was touched"
    );
}
