//! Containers of the batch service, asked for by both generations of the SDK (`cluster-tests/clients/batch/containers.py`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use muster_cluster_tests::site::repository;

use crate::support::Bench;

/// A key, in base64: of this test alone.
const KEY: &str = "bXVzdGVyIHRlc3RzIGNvbnRhaW5lcnM=";

/// Where `.ci/batch-clients.sh` has put the SDKs.
fn clients() -> PathBuf {
    let found = Command::new(repository().join(".ci/batch-clients.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "the batch service's SDKs are missing: run .ci/batch-clients.sh as root");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

fn make_image(to: &std::path::Path, of: &[&str]) {
    let maker = repository().join("cluster-tests/clients/batch/image.py");
    let made = Command::new("python3").arg(maker).arg(to).args(of).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Programs of this machine, with things beside them that claim more rights.
#[rustfmt::skip]
const TOOL: [&str; 20] = [
    "--program", "/bin/sh", "--program", "/bin/cat", "--program", "/bin/ls", "--program", "/bin/touch", "--program", "/usr/bin/id",
    "--file", "/etc/image=the image\n", "--env", "FROM=image", "--workdir", "/etc",
    "--setuid", "/bin/su-id=/usr/bin/id", "--device", "/disk=1:3",
];
/// Nothing but links to where the node's own programs will be.
#[rustfmt::skip]
const MPI: [&str; 10] = [
    "--file", "/etc/image=the image of MPI\n", "--link", "/bin=usr/bin", "--link", "/lib=usr/lib", "--link", "/lib64=usr/lib64", "--link", "/sbin=usr/sbin",
];

#[test]
fn both_sdks_run_tasks_in_containers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = folder.path().join("lab.key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (images, listed) = (folder.path().join("images"), folder.path().join("listed"));
    for made in [&images, &listed] {
        std::fs::create_dir(made).unwrap();
        std::fs::set_permissions(made, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::fs::write(listed.join("input"), "shared\n").unwrap();
    make_image(&images.join("tool.tar"), &TOOL);
    make_image(&images.join("mpi.tar"), &MPI);
    let section = format!(
        "[batch]\nlisten = \"0.0.0.0:8443\"\nurl = \"http://head:8443\"\npackages = \"{packages}\"\n\
         mount_sources = [\"file://{listed}\", \"file:///usr\", \"file:///etc/alternatives\", \"file:///etc/openmpi\"]\nimage_sources = [\"oci-archive:{images}\"]\n\
         [[batch.account]]\nname = \"lab\"\nuser = \"ann\"\nkey_file = \"{key}\"\n",
        packages = folder.path().join("packages").display(),
        listed = listed.display(),
        images = images.display(),
        key = key.display()
    );
    let Some(bench) = Bench::up_with("box", 2, 2, &section) else { return };
    bench.write("key", KEY);
    let clients_here = repository().join("cluster-tests/clients/batch");
    for file in ["containers.py", "setup.py", "story.py"] {
        std::fs::copy(clients_here.join(file), bench.work.join(file)).unwrap();
    }
    let faces = bench.make_faces();
    for generation in ["14", "15"] {
        let python = clients().join(format!("sdk{generation}/bin/python"));
        let line = format!(
            "timeout 120 {} -B containers.py {generation} http://127.0.0.1:8443 lab key {} {}",
            python.display(),
            images.display(),
            listed.display()
        );
        let output = bench.shell(&faces, &bench.work, &line).output().unwrap();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let log = std::fs::read_to_string(bench.site.controller_log()).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&said), end.join("\n"));
    }
    // Nothing of a container is mounted on the nodes, now or ever.
    for node in ["node01", "node02"] {
        assert!(!bench.mounts(node).contains("/images/"), "{node}");
    }
    assert!(!listed.join("x").exists());
}
