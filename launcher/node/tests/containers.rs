//! Containers of tasks on a real node: images that are made here, without a network, and what processes in them can and cannot do.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::controller::Controller;
use common::is_root;
use common::node::{Kind, Node};
use common::work::Task;
use muster_wire::v1::container::Directory;
use muster_wire::v1::gone::How;
use muster_wire::v1::{Container, Gone, Image, Setup, Staging, Volume, to_node};

const NODE: &str = "node01";
/// What scripts of these tests need.
const PROGRAMS: [&str; 8] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/ls",
    "/bin/touch",
    "/bin/stat",
    "/usr/bin/id",
    "/usr/bin/env",
    "/usr/bin/head",
];

fn make_image(to: &Path, more: &[&str]) -> String {
    let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-tests/clients/batch/image.py");
    let mut command = Command::new("python3");
    command.arg(maker).arg(to).args(PROGRAMS.iter().flat_map(|program| ["--program", program])).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An archive in a folder of its own, and the image in it.
fn archive(more: &[&str]) -> (tempfile::TempDir, Image) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    make_image(&path, &[&["--file", "/etc/image=this is the image\n"], more].concat());
    let image = Image { name: format!("oci-archive:{}", path.display()), ..Image::default() };
    (folder, image)
}

fn container(image: &Image) -> Container {
    Container { image: Some(image.clone()), ..Container::default() }
}

async fn one_node() -> (Controller, Node) {
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, NODE);
    // Everybody may pass to the folders of tasks, as on a real node.
    std::fs::set_permissions(node.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    controller.hello(NODE).await;
    (controller, node)
}

async fn set_up(controller: &mut Controller, number: u64, images: Vec<Image>) -> Vec<(String, String)> {
    let setup = Setup { number, containers: true, images, ..Setup::default() };
    controller.send(NODE, to_node::Body::Setup(setup)).await;
    let done = controller.set_up(NODE, number).await;
    done.errors.into_iter().map(|error| (error.code, error.message)).collect()
}

/// A task of the batch service with this command in a container, and the name of its folder.
fn task(name: &str, container: Container, command: &[&str]) -> Task {
    let mut task = Task::new(NODE, "#!/bin/false\n");
    task.work().stdout_path = String::new();
    task.prepare.memory_bytes = 256 << 20;
    task.prepare.staging = Some(Staging {
        folder: format!("workitems/{name}/job-1/t"),
        batch: true,
        retention_s: 60,
        prepare_s: 60,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        container: Some(container),
        ..Staging::default()
    });
    task
}

fn folder(node: &Node, name: &str) -> PathBuf {
    node.dir.path().join("work/workitems").join(name).join("job-1/t")
}

async fn run(controller: &mut Controller, node: &Node, name: &str, of: Container, script: &str) -> String {
    let task = task(name, of, &["sh", "-c", script]);
    let gone = controller.run(NODE, &task.prepare).await;
    let folder = folder(node, name);
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let said = format!("{}{}", text("stdout.txt"), text("stderr.txt"));
    assert!(
        matches!(&gone.how, Some(How::Exited(exited)) if exited.code == 0),
        "{gone:?}\n{said}\n{}",
        node.log()
    );
    said
}

async fn refused(controller: &mut Controller, task: &Task) -> (String, String) {
    controller.prepare(NODE, &task.prepare).await;
    let Gone { how: Some(How::StageInFailed(failed)), .. } = controller.gone(NODE, task.key()).await else {
        panic!("it was not refused");
    };
    (failed.code, failed.message)
}

#[tokio::test]
async fn a_task_has_its_image_as_its_root_and_is_its_user_and_its_files_are_in_its_folder() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let (_kept, image) =
        archive(&["--env", "FROM=image", "--env", "PATH=/bin:/usr/bin", "--env", "TOLD=image"]);
    assert_eq!(set_up(&mut controller, 1, vec![image.clone()]).await, []);
    let script = "cat /etc/image; echo $FROM $TOLD $HOME; id; ls /; ls /root 2>&1; pwd; echo made > made; cat /proc/self/cgroup; \
                  head -c 1 /dev/zero > /tmp/x && echo written; cat /etc/passwd";
    let of = Container { environment: vec!["TOLD=task".into()], ..container(&image) };
    let said = run(&mut controller, &node, "a", of, script).await;
    let folder = folder(&node, "a");
    let inner = folder.join("wd").display().to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["this is the image", &format!("image task {inner}")]);
    assert!(lines[2].starts_with("uid=65534(nobody) gid=65534(nogroup)"), "{said}");
    assert!(said.contains(&format!("\n{inner}\n")) && said.contains("\nwritten\n"), "{said}");
    let names = |path: &str| std::fs::read_dir(path).unwrap().flatten().count();
    assert!(names("/") > 10 && !lines.contains(&"home") && !lines.contains(&"boot"), "{said}");
    assert!(said.contains(&format!("nobody:x:65534:65534::{inner}:/bin/sh")), "{said}");
    // Its processes are in the attempt's group, whatever its root.
    assert!(said.lines().any(|line| line.contains(&node.cgroup)), "{said}");
    let made = folder.join("wd/made");
    assert_eq!(
        (std::fs::read_to_string(&made).unwrap().as_str(), made.metadata().unwrap().uid()),
        ("made\n", 65534)
    );
    // What a task has written beside its folder is gone with it, and nothing of it is mounted on the node.
    let said =
        run(&mut controller, &node, "b", container(&image), "ls /tmp/x 2>/dev/null; ls /etc/image").await;
    assert_eq!(said, "/etc/image\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&format!("{}/images", node.dir.path().display())), "{mounts}");
    // Nobody but root can look at unpacked images: what is in them may claim any rights.
    let images = node.dir.path().join("images");
    assert_eq!(images.metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(
        std::fs::read_dir(&images)
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with(".way-"))
    );
}

#[tokio::test]
async fn nothing_in_an_image_leads_out_of_it_or_gives_more_rights() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let victim = node.dir.path().join("work/shared/victim");
    std::fs::create_dir_all(victim.parent().unwrap()).unwrap();
    std::fs::write(&victim, "untouched").unwrap();
    let outside = tempfile::tempdir().unwrap();
    let to_victim = |path: &str| format!("{path}={}", victim.display());
    let (passwd, hosts) = (to_victim("/etc/passwd"), to_victim("/etc/hosts"));
    let above = format!("/tmp=../../../../..{}", outside.path().display());
    let run_out = format!("/run={}", outside.path().display());
    let (_kept, image) = archive(&[
        "--link",
        &passwd,
        "--link",
        &hosts,
        "--link",
        &above,
        "--link",
        &run_out,
        "--link",
        "/etc/group=/proc/1/root/etc/shadow",
        "--link",
        "/etc/resolv.conf=../../../../../etc/resolv.conf",
        "--link",
        "/var=/proc/self/cwd",
        "--setuid",
        "/bin/su-id=/usr/bin/id",
        "--device",
        "/disk=1:3",
    ]);
    let script = "/bin/su-id -u; cat /disk 2>&1; cat /etc/hosts > /dev/null && echo hosts; cat /etc/shadow 2>&1; \
                  head -n 1 /etc/passwd; cat /proc/self/status | { while read name value; do case $name in NoNewPrivs:|CapEff:) echo $name $value;; esac; done; }; \
                  while read line; do case \"$line\" in *' / / '*) echo root $line;; esac; done < /proc/self/mountinfo";
    let (code, said) = {
        let task = task("a", container(&image), &["/bin/sh", "-c", script]);
        controller.prepare(NODE, &task.prepare).await;
        let made = controller.wait("the task is ready or refused", |_, message| {
            use muster_wire::v1::from_node::Body;
            use muster_wire::v1::instance_report::Phase;
            let Some(Body::Report(report)) = &message.body else { return None };
            match report.phase.as_ref()? {
                Phase::Ready(_) => Some(None),
                Phase::Gone(gone) => Some(Some(gone.clone())),
                _ => None,
            }
        });
        match made.await {
            None => {
                controller
                    .go(NODE, muster_wire::v1::Go { key: Some(task.key()), peers: vec![Default::default()] })
                    .await;
                controller.gone(NODE, task.key()).await;
                (String::new(), std::fs::read_to_string(folder(&node, "a").join("stdout.txt")).unwrap())
            }
            Some(Gone { how: Some(How::StageInFailed(failed)), .. }) => (failed.code, failed.message),
            Some(other) => panic!("{other:?}"),
        }
    };
    // Links that lead nowhere in the image are refused; nothing outside has been touched by them.
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(code, "ContainerInvalidSettings", "{said}");
    assert!(said.contains("/tmp") || said.contains("/run") || said.contains("/var"), "{said}");
    // The same without those: what remains leads to places within the image, and claims rights in vain.
    let (_kept, image) = archive(&[
        "--link",
        &passwd,
        "--link",
        &hosts,
        "--link",
        "/etc/group=/proc/1/root/etc/shadow",
        "--link",
        "/proc=/elsewhere",
        "--file",
        "/elsewhere/x=",
        "--setuid",
        "/bin/su-id=/usr/bin/id",
        "--device",
        "/disk=1:3",
    ]);
    let said = run(&mut controller, &node, "b", container(&image), script).await;
    assert!(said.starts_with("65534\n"), "a set-user-id program gives nothing: {said}");
    assert!(said.contains("/disk: Permission denied"), "a device of an image is none: {said}");
    assert!(said.contains("\nhosts\n") && said.contains("/etc/shadow: No such file"), "{said}");
    assert!(said.contains("nobody:x:65534:65534:"), "{said}");
    assert!(said.contains("NoNewPrivs: 1\n") && said.contains("CapEff: 0000000000000000\n"), "{said}");
    assert!(said.contains("nosuid,nodev"), "{said}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
}

#[tokio::test]
async fn a_container_is_as_its_task_says() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(shared.path().join("input"), "shared\n").unwrap();
    let (_kept, image) = archive(&["--workdir", "/etc", "--entrypoint", "/bin/cat", "--file", "/opt/x=x\n"]);
    let volume = |target: &str, read_only| Volume {
        source: shared.path().display().to_string(),
        target: target.into(),
        read_only,
        ..Volume::default()
    };
    // The image has its commands given to a program, in a folder of its own.
    let of = Container { directory: Some(Directory::ImageDirectory(true)), ..container(&image) };
    let task_in = task("a", of, &["image"]);
    controller.run(NODE, &task_in.prepare).await;
    assert_eq!(
        std::fs::read_to_string(folder(&node, "a").join("stdout.txt")).unwrap(),
        "this is the image\n"
    );
    let of = Container {
        entrypoint: Some(String::new()),
        directory: Some(Directory::Path("/opt".into())),
        read_only: true,
        volumes: vec![volume("/data/in", true), volume("/data/out", false)],
        ..container(&image)
    };
    let script = "cat x; cat /data/in/input; touch /data/in/no 2>/dev/null || echo read-only; touch /data/out/made && echo made; \
                  touch /etc/no 2>/dev/null || echo kept; touch /tmp/yes $AZ_BATCH_TASK_WORKING_DIR/yes && echo own";
    let said = run(&mut controller, &node, "b", of.clone(), script).await;
    assert_eq!(said, "x\nshared\nread-only\nmade\nkept\nown\n");
    assert!(shared.path().join("made").exists());
    // What its pool has mounted is there as well.
    let source = Some(muster_wire::v1::mount::Source::Local(shared.path().display().to_string()));
    let mounts = vec![muster_wire::v1::Mount { name: "data".into(), source, ..Default::default() }];
    controller.send(NODE, to_node::Body::Setup(Setup { number: 1, mounts, ..Setup::default() })).await;
    assert_eq!(controller.set_up(NODE, 1).await.errors, []);
    let said = run(&mut controller, &node, "g", of.clone(), "cat $AZ_BATCH_NODE_MOUNTS_DIR/data/input").await;
    assert_eq!(said, "shared\n");
    controller.send(NODE, to_node::Body::Setup(Setup::default())).await;
    common::eventually("nothing is mounted", || !node.dir.path().join("mounts.json").exists()).await;
    // A folder is no easier to reach in a container than it is outside, and not through a link.
    let closed = shared.path().join("closed");
    std::fs::create_dir_all(closed.join("inner")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc", shared.path().join("link")).unwrap();
    for wrong in ["closed/inner", "link", "none"] {
        let source = shared.path().join(wrong).display().to_string();
        let volumes = vec![Volume { source, ..volume("/data", false) }];
        let task =
            task(&format!("c-{}", wrong.replace('/', "-")), Container { volumes, ..of.clone() }, &["true"]);
        let (code, message) = refused(&mut controller, &task).await;
        assert!(code == "ContainerInvalidSettings" && message.contains(wrong), "{code}: {message}");
    }
    let problem = Volume { problem: "it is not listed".into(), ..volume("/data", false) };
    let (code, message) =
        refused(&mut controller, &task("d", Container { volumes: vec![problem], ..of.clone() }, &["true"]))
            .await;
    assert_eq!((code.as_str(), message.as_str()), ("ContainerInvalidSettings", "it is not listed"));
    // So is a folder to begin in that the image lacks.
    let nowhere = Container { directory: Some(Directory::Path("/nowhere".into())), ..of.clone() };
    let begins = task("f", nowhere, &["sh", "-c", ":"]);
    controller.launch(NODE, &begins.prepare).await;
    let gone = controller.gone(NODE, begins.key()).await;
    assert!(
        matches!(&gone.how, Some(How::StageInFailed(failed)) if failed.code == "ContainerInvalidSettings"),
        "{gone:?}"
    );
    // A program that is not there is told as without a container.
    let task = task("e", of, &["no-such-program"]);
    controller.launch(NODE, &task.prepare).await;
    let gone = controller.gone(NODE, task.key()).await;
    assert!(format!("{gone:?}").contains("CommandProgramNotFound"), "{gone:?}");
}

#[tokio::test]
async fn images_that_cannot_be_had_are_told_with_the_reason() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let folder = tempfile::tempdir().unwrap();
    let (kept, fine) = archive(&[]);
    std::fs::write(folder.path().join("damaged.tar"), "no archive").unwrap();
    std::os::unix::fs::symlink(kept.path().join("image.tar"), folder.path().join("link.tar")).unwrap();
    let at = |name: &str| Image {
        name: format!("oci-archive:{}/{name}", folder.path().display()),
        ..Image::default()
    };
    let unlisted = Image { problem: "it is not listed".into(), ..fine.clone() };
    let nobody = Image { name: "127.0.0.1:1/none:latest".into(), ..Image::default() };
    let wanted = vec![at("none.tar"), at("damaged.tar"), at("link.tar"), unlisted, nobody.clone(), fine];
    let errors = set_up(&mut controller, 1, wanted).await;
    let says = [
        "none.tar is no file",
        "damaged.tar cannot be brought",
        "through a link",
        "it is not listed",
        "connection refused",
    ];
    assert_eq!(errors.len(), says.len(), "{errors:?}");
    for (says, (code, message)) in says.iter().zip(&errors) {
        assert!(code == "ContainerInvalidImage" && message.contains(says), "{says}: {code}: {message}");
    }
    let (code, message) = refused(&mut controller, &task("a", container(&nobody), &["true"])).await;
    assert!(code == "ContainerInvalidImage" && message.contains("connection refused"), "{code}: {message}");
    let left: Vec<_> = std::fs::read_dir(node.dir.path().join("images")).unwrap().flatten().collect();
    let names = left.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<String> =
        names.filter(|name| name.starts_with(".way-") || name.ends_with(".new")).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn an_agent_without_roots_rights_says_that_it_can_have_none() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let node = Node::start_as(&controller, NODE, Kind::Nobody);
    controller.hello(NODE).await;
    let errors = set_up(&mut controller, 1, Vec::new()).await;
    assert!(errors[0].0 == "ContainerPoolSetupFailed" && errors[0].1.contains("root"), "{errors:?}");
    drop(node);
}

/// A registry of one image, by plain HTTP; it notes what is asked of it.
struct Registry {
    address: std::net::SocketAddr,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Registry {
    /// `login`, if there is one, is what a request must say.
    fn serve(layout: PathBuf, digest: String, login: Option<&'static str>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let notes = std::sync::Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                // What begins a conversation by TLS is no request.
                while head.first() != Some(&0x16)
                    && !head.ends_with(b"\r\n\r\n")
                    && std::io::Read::by_ref(&mut stream).take(1).read_to_end(&mut head).unwrap_or(0) > 0
                {
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                notes.lock().unwrap().push(path.clone());
                let (kind, name) = match path.rsplit_once('/') {
                    Some((_, "")) => ("application/json", None),
                    Some((before, name)) if before.ends_with("/manifests") => {
                        let name = if name == "1" { digest.as_str() } else { name };
                        ("application/vnd.oci.image.manifest.v1+json", Some(name.to_owned()))
                    }
                    Some((_, name)) => ("application/octet-stream", Some(name.to_owned())),
                    None => ("text/plain", None),
                };
                let body = match name {
                    None => Some(b"{}".to_vec()),
                    Some(name) => std::fs::read(layout.join("blobs").join(name.replace(':', "/"))).ok(),
                };
                let is_let_in =
                    login.is_none_or(|login| head.contains(&format!("Authorization: Basic {login}\r\n")));
                let status = match &body {
                    _ if !is_let_in => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"",
                    Some(_) => "200 OK",
                    None => "404 Not Found",
                };
                let body = body.filter(|_| is_let_in).unwrap_or_default();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&body);
            }
        });
        Self { address, asked }
    }

    fn blobs(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.contains("/blobs/")).count()
    }
}

#[tokio::test]
async fn an_image_comes_from_its_registry_once_and_is_used_while_that_is_away() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let layout = tempfile::tempdir().unwrap();
    let digest = make_image(layout.path(), &["--layout", "--file", "/etc/image=from a registry\n"]);
    let registry = Registry::serve(layout.path().to_owned(), digest, None);
    let image = |tag: &str, plain_http| Image {
        name: format!("{}/team/tool:{tag}", registry.address),
        plain_http,
        ..Image::default()
    };
    // Without the site's word nobody speaks to a registry without TLS.
    let errors = set_up(&mut controller, 1, vec![image("1", false), image("2", true)]).await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(set_up(&mut controller, 2, vec![image("1", true)]).await, []);
    let blobs = registry.blobs();
    assert_eq!(blobs, 2, "the configuration and the one layer");
    assert_eq!(set_up(&mut controller, 3, vec![image("1", true)]).await, []);
    let said = run(&mut controller, &node, "a", container(&image("1", true)), "cat /etc/image").await;
    assert_eq!(said, "from a registry\n");
    assert_eq!(registry.blobs(), blobs, "it is not brought again");
    // Its registry does not know it any more.
    std::fs::remove_dir_all(layout.path().join("blobs")).unwrap();
    assert_eq!(set_up(&mut controller, 4, vec![image("1", true)]).await, []);
}

#[tokio::test]
async fn logins_to_registries_are_the_sites_and_no_other() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let layout = tempfile::tempdir().unwrap();
    let digest = make_image(layout.path(), &["--layout"]);
    // The name and the password are `a` and `b`, in base64.
    let registry = Registry::serve(layout.path().to_owned(), digest, Some("YTpi"));
    let image = Image { name: format!("{}/tool:1", registry.address), plain_http: true, ..Image::default() };
    let errors = set_up(&mut controller, 1, vec![image.clone()]).await;
    assert!(errors[0].1.to_lowercase().contains("unauthorized"), "{errors:?}");
    let logins = node.dir.path().join("registries.json");
    let text = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"YTpi\"}}}}}}", registry.address);
    std::fs::write(&logins, text).unwrap();
    std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o644)).unwrap();
    let errors = set_up(&mut controller, 2, vec![image.clone()]).await;
    assert!(errors[0].1.contains("chmod 600"), "{errors:?}");
    std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(set_up(&mut controller, 3, vec![image]).await, []);
    assert!(!node.log().contains("YTpi"));
}
