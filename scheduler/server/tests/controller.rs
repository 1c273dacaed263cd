//! The controller from outside: a real process, real sockets, and nodes that the tests play.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Controller, Node, SOON, exited, gang, gone, hello, job, preparing, ready, running, runtime};
use muster_client::api::TaskState;
use muster_client::{ClientError, JobFilter};
use muster_core::ids::{JobId, JobRef};
use muster_store::HistoryReader;
use muster_wire::v1;
use muster_wire::v1::to_node::Body as Told;

fn whole(job: u64) -> JobRef {
    JobRef { job: JobId(job), task: None }
}

fn code(error: &ClientError) -> (u16, &str) {
    match error {
        ClientError::Refused { status, body } => (*status, body.code.as_str()),
        other => panic!("{other:?}"),
    }
}

/// Waits until the job is in `state`.
fn until(client: &mut muster_client::Client, job: u64, state: TaskState) -> muster_client::api::JobDetail {
    let mut seen = None;
    let end = std::time::Instant::now() + SOON;
    loop {
        let detail = client.wait_change(whole(job), seen, SOON).unwrap();
        if detail.summary.state == state {
            return detail;
        }
        assert!(std::time::Instant::now() < end, "{state:?} must come, not {detail:?}");
        seen = Some(detail.version);
    }
}

#[test]
fn a_task_goes_its_whole_way() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let id = client.submit(&job("first")).unwrap().job.unwrap();
    assert_eq!(id, 1);
    let prepare = rt.block_on(node.told_to_prepare());
    assert_eq!(prepare.key, Some(v1::AttemptKey { job: 1, task: 0, attempt: 1 }));
    let work = prepare.work.as_ref().unwrap();
    assert_eq!(work.script, b"#!/bin/sh\ntrue\n");
    assert_eq!((work.stdout_path.as_str(), work.stderr_path.as_str()), ("/tmp/muster-1.out", ""));
    assert_eq!((work.job_name.as_str(), work.pool.as_str(), work.time_limit_s), ("first", "main", 3600));
    assert_eq!((prepare.task_count, prepare.array, prepare.cpus_per_rank), (1, false, 1));
    assert_eq!(prepare.user.as_ref().unwrap().name, "root");
    assert!(prepare.ssh_private_key.is_empty(), "a task on one node needs no keys");
    assert_eq!(until(&mut client, id, TaskState::Preparing).summary.node_list, "n01");
    rt.block_on(node.report(ready(&prepare)));
    assert_eq!(rt.block_on(node.told_to_go()).peers.len(), 1);
    rt.block_on(node.report(running(&prepare)));
    let detail = until(&mut client, id, TaskState::Running);
    assert_eq!(detail.task_list[0].shares[0].node, "n01");
    assert_eq!(client.why(whole(id)).unwrap().sentences, ["it runs on n01"]);
    rt.block_on(node.report(exited(&prepare, 7, 0)));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    let detail = until(&mut client, id, TaskState::Failed);
    let task = &detail.task_list[0];
    assert_eq!((task.exit_code, task.signal, task.reason.as_str()), (Some(7), None, "exit code 7"));
    assert_eq!((task.started_at_us, task.cpu_time_us), (Some(5_000_000), 1_500_000));
    assert_eq!(task.stdout_path, "/tmp/muster-1.out");
    let history = HistoryReader::open(&controller.folder.path().join("state/muster.db")).unwrap();
    let row = history.job(JobId(1)).unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.user.as_str()), ("failed", "root"));
    let row = &history.tasks(JobId(1), 9).unwrap()[0];
    assert_eq!((row.exit_code, row.nodes.as_str(), row.cores), (Some(7), "n01", 1));
}

#[test]
fn a_gang_is_prepared_on_all_its_nodes_before_it_starts() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let id = client.submit(&gang(2)).unwrap().job.unwrap();
    let (mut one, mut two) =
        rt.block_on(async { (controller.node("n01").await, controller.node("n02").await) });
    let (first, second) = rt.block_on(async { (one.told_to_prepare().await, two.told_to_prepare().await) });
    let (primary, other) = if first.instance == 0 { (&first, &second) } else { (&second, &first) };
    assert_eq!(primary.members.len(), 2);
    assert_eq!(primary.members[0].cores, [0, 1, 2, 3]);
    assert_eq!(primary.gang_token, other.gang_token);
    assert!(!primary.gang_token.is_empty());
    assert!(primary.ssh_private_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert!(other.ssh_private_key.is_empty(), "only the primary holds the key");
    assert!(other.ssh_authorized_key.starts_with("ssh-ed25519 "));
    assert!(other.work.as_ref().unwrap().script.is_empty(), "only the primary holds the script");
    rt.block_on(one.report(ready(&first)));
    rt.block_on(two.report(ready(&second)));
    let (go_one, go_two) = rt.block_on(async { (one.told_to_go().await, two.told_to_go().await) });
    assert_eq!(go_one, go_two);
    assert_eq!(go_one.peers.iter().map(|peer| peer.ssh_port).collect::<Vec<_>>(), [2200, 2201]);
    let why = client.why(JobRef { job: JobId(id), task: None }).unwrap();
    assert_eq!(why.state, TaskState::Running);
    client.cancel(whole(id)).unwrap();
    let stop = rt.block_on(one.told_to_stop());
    assert_eq!((stop.grace_ms, stop.reason.as_str()), (5000, "cancelled by user id 0"));
    rt.block_on(two.told_to_stop());
    let stopped = || v1::gone::How::Stopped(v1::Stopped {});
    rt.block_on(one.report(gone(&first, stopped())));
    rt.block_on(two.report(gone(&second, stopped())));
    let detail = until(&mut client, id, TaskState::Cancelled);
    assert_eq!(detail.summary.reason, "cancelled by root");
    assert_eq!(detail.task_list[0].cpu_time_us, 3_000_000);
}

#[test]
fn a_killed_controller_goes_on_where_it_was() {
    let mut controller = Controller::start(2);
    let rt = runtime();
    let id = controller.client().submit(&gang(2)).unwrap().job.unwrap();
    let (mut one, mut two) =
        rt.block_on(async { (controller.node("n01").await, controller.node("n02").await) });
    let (first, second) = rt.block_on(async { (one.told_to_prepare().await, two.told_to_prepare().await) });
    rt.block_on(one.report(ready(&first)));
    until(&mut controller.client(), id, TaskState::Preparing);
    controller.kill();
    controller.run();
    // The first node holds its instance; the second lost the order on the way and hears it again.
    let mut one = rt.block_on(controller.node_holding("n01", vec![ready(&first)]));
    let mut two = rt.block_on(controller.node("n02"));
    let again = rt.block_on(two.told_to_prepare());
    assert_eq!(again, second, "secrets and all else are the same after the restart");
    rt.block_on(two.report(ready(&again)));
    rt.block_on(async { (one.told_to_go().await, two.told_to_go().await) });
    let primary = if first.instance == 0 { &first } else { &second };
    let (node_p, node_o) = if first.instance == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
    rt.block_on(node_p.report(running(primary)));
    until(&mut controller.client(), id, TaskState::Running);
    controller.kill();
    controller.run();
    let other = if first.instance == 0 { &second } else { &first };
    let (name_p, name_o) = (node_p.name.clone(), node_o.name.clone());
    let mut node_o = rt.block_on(controller.node_holding(&name_o, vec![ready(other)]));
    // The script ended while the controller was away.
    let mut node_p = rt.block_on(controller.node_holding(&name_p, vec![exited(primary, 0, 0)]));
    rt.block_on(async {
        // What was lost on the way may be said again before the news of the end.
        while !matches!(node_o.told().await, Told::Stop(_)) {}
        node_o.report(gone(other, v1::gone::How::Stopped(v1::Stopped {}))).await;
        while !matches!(node_p.told().await, Told::Forget(_)) {}
        while !matches!(node_o.told().await, Told::Forget(_)) {}
    });
    let detail = until(&mut controller.client(), id, TaskState::Completed);
    assert_eq!(detail.task_list[0].attempt, 1, "it ran once");
}

#[test]
fn a_stop_leaves_running_work_running() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let id = controller.client().submit(&job("stays")).unwrap().job.unwrap();
    let mut node = rt.block_on(controller.node("n01"));
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    let detail = until(&mut controller.client(), id, TaskState::Running);
    // A client that waits is answered rather than left hanging.
    let mut waiting = controller.client();
    let waiter = std::thread::spawn(move || waiting.wait_change(whole(id), Some(detail.version), SOON));
    assert!(controller.stop().success());
    assert!(matches!(rt.block_on(node.next()), Ok(None) | Err(_)), "the session ends without a stop");
    let waited = waiter.join().unwrap();
    assert!(waited.is_err() || waited.unwrap().summary.state == TaskState::Running);
    assert!(!controller.socket().exists());
    controller.run();
    let _node = rt.block_on(controller.node_holding("n01", vec![running(&prepare)]));
    assert_eq!(controller.client().job(whole(id)).unwrap().summary.state, TaskState::Running);
}

#[test]
fn strangers_open_no_session() {
    let controller = Controller::start(1);
    let strangers = Controller::start(1);
    let rt = runtime();
    let here = controller.folder.path().join("state/tls");
    let there = strangers.folder.path().join("state/tls");
    let address = controller.node_address.unwrap();
    // Signed by another cluster's authority: the handshake itself fails, or the first use of the connection.
    let session = rt.block_on(Node::connect(address, &there, &here, "n01", hello("n01", vec![])));
    let ended = match session {
        Err(_) => true,
        Ok(mut node) => rt.block_on(node.next()).is_err(),
    };
    assert!(ended, "a certificate of another authority must open no session");
    // The right authority, but another name than the certificate's.
    let session = rt.block_on(Node::connect(address, &here, &here, "n01", hello("n02", vec![])));
    let status = rt.block_on(session.unwrap().next()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(status.message(), "the agent says that it is 'n02', but its certificate was made for 'n01'");
    // Another version of the protocol.
    let other_version = v1::Hello { protocol_version: 9, ..hello("n01", vec![]) };
    let session = rt.block_on(Node::connect(address, &here, &here, "n01", other_version));
    assert_eq!(rt.block_on(session.unwrap().next()).unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert_eq!(controller.client().ping().unwrap().nodes_up, 0);
}

#[test]
fn a_new_session_replaces_the_old_one() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut old = rt.block_on(controller.node("n01"));
    let id = controller.client().submit(&job("one")).unwrap().job.unwrap();
    let prepare = rt.block_on(old.told_to_prepare());
    let mut new = rt.block_on(controller.node_holding("n01", vec![preparing(&prepare)]));
    assert_eq!(rt.block_on(old.next()).unwrap_err().code(), tonic::Code::Aborted);
    rt.block_on(new.report(ready(&prepare)));
    rt.block_on(async { while !matches!(new.told().await, Told::Go(_)) {} });
    assert_eq!(controller.client().job(whole(id)).unwrap().summary.state, TaskState::Running);
}

#[test]
fn a_silent_node_is_given_up_and_its_task_runs_elsewhere() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let id = client.submit(&job("moves")).unwrap().job.unwrap();
    let mut one = rt.block_on(controller.node("n01"));
    let prepare = rt.block_on(one.told_to_prepare());
    rt.block_on(one.report(ready(&prepare)));
    rt.block_on(one.told_to_go());
    let mut two = rt.block_on(controller.node("n02"));
    one.fall_silent();
    let again = rt.block_on(two.told_to_prepare());
    assert_eq!(again.key, Some(v1::AttemptKey { job: id, task: 0, attempt: 2 }));
    assert_eq!(rt.block_on(one.next()).unwrap_err().message(), "nothing was heard of it for 2 s");
    let nodes = client.nodes().unwrap().nodes;
    assert_eq!((nodes[0].state.as_str(), nodes[1].state.as_str()), ("down", "mixed"));
    assert_eq!(nodes[0].reason, "it is down: nothing was heard of it for 2 s");
    assert_eq!(nodes[1].tasks, [id.to_string()]);
}

#[test]
fn nodes_that_do_not_come_back_after_a_restart_are_given_up() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let node = rt.block_on(controller.node("n01"));
    controller.kill();
    drop(node);
    controller.run();
    let mut client = controller.client();
    assert_eq!(client.nodes().unwrap().nodes[0].state, "idle");
    let end = std::time::Instant::now() + SOON;
    // Nodes have no route to wait at: a person looks again as well.
    while client.nodes().unwrap().nodes[0].state != "down" {
        assert!(std::time::Instant::now() < end, "the node must be given up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_routes_answer_in_the_apis_words() {
    let controller = Controller::start(3);
    let mut client = controller.client();
    let ping = client.ping().unwrap();
    assert_eq!((ping.cluster.as_str(), ping.nodes, ping.nodes_up), ("test", 3, 0));
    let nodes = client.nodes().unwrap().nodes;
    assert_eq!((nodes[2].name.as_str(), nodes[2].state.as_str(), nodes[2].cores), ("n03", "unknown", 4));
    let pools = client.pools().unwrap().pools;
    assert_eq!((pools[0].node_list.as_str(), pools[0].default), ("n[01-03]", true));

    let tested = muster_client::api::SubmitRequest { test_only: true, ..job("t") };
    assert_eq!(client.submit(&tested).unwrap().job, None);
    let impossible = muster_client::api::SubmitRequest { test_only: true, ..gang(9) };
    assert_eq!(code(&client.submit(&impossible).unwrap_err()), (400, "too_many_nodes"));
    let keyed = muster_client::api::SubmitRequest { request_key: Some("k".to_owned()), ..job("keyed") };
    assert_eq!(client.submit(&keyed).unwrap().job, Some(1), "a test stores nothing");
    assert_eq!(client.submit(&keyed).unwrap().job, Some(1), "a repeated request makes no second job");
    let elsewhere = muster_client::api::SubmitRequest { pool: Some("nope".to_owned()), ..job("p") };
    assert_eq!(code(&client.submit(&elsewhere).unwrap_err()), (400, "unknown_pool"));

    let why = client.why(whole(1)).unwrap();
    assert_eq!((why.state, why.code.as_str()), (TaskState::Waiting, "nodes_away"));
    assert_eq!(why.sentences.len(), 1);
    assert_eq!(code(&client.job(whole(9)).unwrap_err()), (404, "unknown_job"));
    assert_eq!(code(&client.hold_node("n09", "x").unwrap_err()), (404, "unknown_node"));
    client.hold_node("n01", "broken fan").unwrap();
    client.release_node("n01").unwrap();

    client.submit(&job("second")).unwrap();
    let names = |list: muster_client::api::JobList| {
        list.jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(client.jobs(&JobFilter::default()).unwrap()), "keyed second");
    let newest = client.jobs(&JobFilter { limit: Some(1), ..JobFilter::default() }).unwrap();
    assert!(newest.cut);
    assert_eq!(names(newest), "second");
    assert_eq!(client.cancel(whole(1)).unwrap().tasks, 1);
    assert_eq!(code(&client.cancel(whole(1)).unwrap_err()), (409, "already_ended"));
    assert_eq!(names(client.jobs(&JobFilter::default()).unwrap()), "second");
    assert_eq!(names(client.jobs(&JobFilter { all: true, ..JobFilter::default() }).unwrap()), "keyed second");
    let cancelled = JobFilter { states: vec![TaskState::Cancelled], ..JobFilter::default() };
    assert_eq!(names(client.jobs(&cancelled).unwrap()), "keyed");
    let nobody = JobFilter { user: Some("ann".to_owned()), ..JobFilter::default() };
    assert_eq!(names(client.jobs(&nobody).unwrap()), "");
    let detail = client.job(whole(1)).unwrap();
    assert_eq!(detail.summary.reason, "cancelled by root while it waited");
}

#[test]
fn what_is_not_in_the_api_is_refused_in_json() {
    let controller = Controller::start(1);
    for (request, status, code) in [
        ("GET /v1/nothing", 404, "no_route"),
        ("DELETE /v1/jobs", 404, "no_route"),
        ("GET /v1/jobs/x", 400, "bad_job_id"),
        ("GET /v1/jobs?state=asleep", 400, "bad_state"),
        ("GET /v1/jobs?colour=red", 400, "bad_request"),
        ("POST /v1/jobs", 400, "bad_request"),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let output = std::process::Command::new("curl")
            .args(["-sS", "--unix-socket"])
            .arg(controller.socket())
            .args(["-w", "\n%{http_code}", "-X", method, "-d", "{", &format!("http://m{path}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, answered) = text.rsplit_once('\n').unwrap();
        let body: muster_client::api::ErrorBody = serde_json::from_str(body).unwrap();
        assert_eq!((answered, body.code.as_str()), (status.to_string().as_str(), code), "{request}");
    }
}

#[test]
fn a_second_controller_and_a_bad_configuration_have_exit_codes_of_their_own() {
    let controller = Controller::start(1);
    let second = controller.command().output().unwrap();
    assert_eq!(second.status.code(), Some(4));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("is locked by another process"), "{message}");
    let checked = controller.command().arg("--check").output().unwrap();
    assert!(checked.status.success());
    let closed = controller.command().args(["--ready-fd", "77"]).output().unwrap();
    assert_eq!(closed.status.code(), Some(5));
    let broken = Controller::prepared(1, "colour = 1");
    let refused = broken.command().arg("--check").output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("unknown key 'colour' in [[pool]]"), "{message}");
}

#[test]
fn a_configuration_that_is_read_again_brings_new_nodes() {
    let controller = Controller::start(1);
    let text = common::configuration(controller.folder.path(), 2, "");
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let mut client = controller.client();
    let end = std::time::Instant::now() + SOON;
    while client.ping().unwrap().nodes != 2 {
        assert!(std::time::Instant::now() < end, "the second node must be declared");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rt = runtime();
    let _node = rt.block_on(controller.node("n02"));
    while client.ping().unwrap().nodes_up != 1 {
        assert!(std::time::Instant::now() < end, "the second node must be up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A controller whose files may grow to 1 MiB; what goes beyond fails, rather than killing it by SIGXFSZ.
fn with_a_small_disk() -> Controller {
    let mut controller = Controller::prepared(1, "");
    let mut command = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f 2048; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_musterd"), "--config"]).arg(controller.config());
    command.stderr(Stdio::null());
    controller.run_command(command);
    controller
}

/// Submits large jobs until one is refused. Gives the ids of the others, and the refusal.
fn fill_disk(client: &mut muster_client::Client) -> (Vec<u64>, ClientError) {
    let mut accepted = Vec::new();
    loop {
        let large = format!("#!/bin/sh\n#{}", "x".repeat(20_000));
        let request = muster_client::api::SubmitRequest { script: large, ..job("large") };
        match client.submit(&request) {
            Ok(answer) => accepted.push(answer.job.unwrap()),
            Err(error) => return (accepted, error),
        }
        assert!(accepted.len() < 1000, "the disk must fill up");
    }
}

fn make_room(controller: &Controller) {
    let limit = std::process::Command::new("prlimit")
        .args(["--fsize=unlimited:", "--pid", &controller.pid().to_string()])
        .status()
        .unwrap();
    assert!(limit.success());
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let mut controller = with_a_small_disk();
    let mut client = controller.client();
    let (mut accepted, refused) = fill_disk(&mut client);
    assert_eq!(code(&refused), (503, "not_stored"));
    let listed = |client: &mut muster_client::Client| {
        client.jobs(&JobFilter::default()).unwrap().jobs.iter().map(|job| job.job).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut client), accepted, "what was refused is not shown");
    make_room(&controller);
    accepted.push(client.submit(&job("after")).unwrap().job.unwrap());
    assert_eq!(listed(&mut client), accepted);
    controller.kill();
    controller.run();
    assert_eq!(listed(&mut controller.client()), accepted);
    let expected: Vec<u64> = (1..=accepted.len() as u64).collect();
    assert_eq!(accepted, expected, "no id is used for what did not happen");
}

#[test]
fn what_nodes_report_while_the_disk_is_full_is_heard_once_there_is_room() {
    let controller = with_a_small_disk();
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let mut request = job("reports");
    request.request.cores_per_rank = 4;
    let id = client.submit(&request).unwrap().job.unwrap();
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    until(&mut client, id, TaskState::Running);
    fill_disk(&mut client);
    // A last small record may still fit where a large one did not: repeated until it does not either.
    while client.submit(&job("small")).is_ok() {}
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    let status = rt.block_on(node.next()).unwrap_err();
    assert_eq!(status.message(), "the controller could not store what it heard");
    assert_eq!(
        client.job(whole(id)).unwrap().summary.state,
        TaskState::Running,
        "nothing undurable is shown"
    );
    make_room(&controller);
    let mut node = rt.block_on(controller.node_holding("n01", vec![exited(&prepare, 0, 0)]));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    assert_eq!(client.job(whole(id)).unwrap().summary.state, TaskState::Completed);
}

#[test]
fn nodes_without_a_session_are_brought_up_again_and_again() {
    let mut controller = Controller::prepared(2, "");
    let folder = controller.folder.path().to_owned();
    let program = folder.join("bootstrap.sh");
    let log = folder.join("requests");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = serve ] || exit 1\nwhile read -r line; do\n  printf '%s\\n' \"$line\" >> {}\n  \
         node=${{line#*'\"node\":\"'}}\n  echo \"{{\\\"node\\\":\\\"${{node%%\\\"*}}\\\",\\\"ok\\\":true}}\"\ndone\n",
        log.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let more = format!(
        "[bootstrap]\nidentity_file = \"/k\"\nknown_hosts = \"/h\"\nbinaries_dir = \"/b\"\nprogram = \"{}\"\n",
        program.display()
    );
    std::fs::write(controller.config(), common::configuration(&folder, 2, &more)).unwrap();
    controller.run();
    let rt = runtime();
    let requests = |count: usize| {
        let end = std::time::Instant::now() + SOON;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.lines().count() >= count {
                return text;
            }
            assert!(std::time::Instant::now() < end, "{count} requests must come: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let text = requests(2);
    let parsed: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut nodes: Vec<&str> = parsed.iter().map(|request| request["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes[..2], ["n01", "n02"]);
    let request = &parsed[0];
    assert_eq!((request["user"].as_str(), request["port"].as_u64()), (Some("root"), Some(22)));
    assert_eq!(request["controller_name"], "muster-controller");
    assert!(request["tls"]["key_pem"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    // With sessions nobody asks again; when one ends, its node is asked for.
    let _stays = rt.block_on(controller.node("n01"));
    let leave = rt.block_on(controller.node("n02"));
    let before = std::fs::read_to_string(&log).unwrap().lines().count();
    drop(leave);
    let text = requests(before + 1);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["node"], "n02");
}

/// Asks as another user, with curl: status and body.
fn ask_as(
    controller: &Controller,
    uid: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (String, serde_json::Value) {
    use std::os::unix::fs::PermissionsExt as _;
    // The folder is the test's own; other users must pass through it to the socket.
    std::fs::set_permissions(controller.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "curl", "-sS"])
        .arg("--unix-socket")
        .arg(controller.socket())
        .args(["-w", "\n%{http_code}", "-X", method, "-d", body, &format!("http://m{path}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn the_kernel_says_who_asks() {
    let controller = Controller::start(1);
    let mut root = controller.client();
    let roots = root.submit(&job("roots")).unwrap().job.unwrap();
    // 65534 is nobody, a user with a name; 54321 has none.
    let body = serde_json::to_string(&job("nobodys")).unwrap();
    let (status, answer) = ask_as(&controller, "65534", "POST", "/v1/jobs", &body);
    assert_eq!(status, "201", "{answer}");
    let nobodys = answer["job"].as_u64().unwrap();
    assert_eq!(root.job(whole(nobodys)).unwrap().summary.user, "nobody");
    let (status, answer) = ask_as(&controller, "54321", "POST", "/v1/jobs", &body);
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("no_user")));
    let path = format!("/v1/jobs/{roots}/cancel");
    let (status, answer) = ask_as(&controller, "65534", "POST", &path, "");
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("not_owner")));
    assert_eq!(answer["message"], "job 1 belongs to user root: only its owner or an admin may do this");
    let (status, answer) = ask_as(&controller, "65534", "POST", "/v1/nodes/n01/hold", r#"{"reason":"x"}"#);
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("not_admin")));
    let path = format!("/v1/jobs/{nobodys}/cancel");
    let (status, answer) = ask_as(&controller, "65534", "POST", &path, "");
    assert_eq!((status.as_str(), answer["tasks"].as_u64()), ("200", Some(1)));
    // Whoever the configuration names is an admin.
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace("node_timeout_s = 2", "node_timeout_s = 2\nadmins = [\"nobody\"]");
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let end = std::time::Instant::now() + SOON;
    while ask_as(&controller, "65534", "POST", "/v1/nodes/n01/hold", r#"{"reason":"x"}"#).0 != "200" {
        assert!(std::time::Instant::now() < end, "nobody must become an admin");
    }
}

#[test]
fn no_accepted_job_is_lost_by_kills_at_any_instant() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut controller = Controller::start(1);
    let accepted = AtomicU64::new(0);
    for round in 0..6u64 {
        let socket = controller.socket();
        let goal = accepted.load(Ordering::SeqCst) + 3 + (round * 31) % 17;
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (accepted, socket) = (&accepted, &socket);
                scope.spawn(move || {
                    let options = muster_client::Options {
                        retry: Duration::ZERO,
                        ..muster_client::Options::new(socket)
                    };
                    let Ok(mut client) = muster_client::Client::connect_with(options) else { return };
                    for number in 0.. {
                        let request_key = Some(format!("{round} {thread} {number}"));
                        let request = muster_client::api::SubmitRequest { request_key, ..job("kept") };
                        let Ok(answer) = client.submit(&request) else { return };
                        accepted.fetch_max(answer.job.unwrap(), Ordering::SeqCst);
                    }
                });
            }
            let end = std::time::Instant::now() + SOON;
            while accepted.load(Ordering::SeqCst) < goal {
                assert!(std::time::Instant::now() < end, "jobs must be accepted");
                std::thread::yield_now();
            }
            controller.kill();
        });
        controller.run();
        let jobs = controller.client().jobs(&JobFilter::default()).unwrap().jobs;
        let ids: Vec<u64> = jobs.iter().map(|job| job.job).collect();
        let last = accepted.load(Ordering::SeqCst);
        assert!(ids.len() as u64 >= last, "{last} were accepted, {} are there", ids.len());
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn jobs_that_left_the_memory_are_answered_from_the_accounting() {
    // The least number of finished jobs that the configuration lets the memory keep.
    const KEPT: u64 = 4096;
    let controller = Controller::start(1);
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace("[policy]", &format!("[policy]\nfinished_jobs_kept = {KEPT}"));
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let mut client = controller.client();
    let array = muster_core::spec::ArraySpec {
        indices: vec![muster_core::spec::IndexRange { first: 0, last: 900_000, step: 3 }],
        running_max: None,
    };
    let first = muster_client::api::SubmitRequest { array: Some(array), ..job("first") };
    client.submit(&first).unwrap();
    assert_eq!(client.cancel(whole(1)).unwrap().tasks, 300_001);
    let in_memory = client.job(whole(1)).unwrap();
    assert_eq!(in_memory.summary.tasks[&TaskState::Cancelled], 300_001);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = controller.client();
                for _ in 0..KEPT / 8 + 1 {
                    let id = client.submit(&job("many")).unwrap().job.unwrap();
                    client.cancel(whole(id)).unwrap();
                }
            });
        }
    });
    let past = client.job(whole(1)).unwrap();
    assert_eq!(past.version, 0, "it comes from the accounting");
    assert_eq!(past.summary, in_memory.summary);
    assert_eq!(past.task_list.len(), 1, "a cancelled range is one row");
    let task = JobRef { job: JobId(1), task: Some(muster_core::ids::TaskIndex(300)) };
    let past = client.job(task).unwrap();
    assert_eq!((past.task_list[0].index, past.task_list[0].state), (300, TaskState::Cancelled));
    let task = JobRef { job: JobId(1), task: Some(muster_core::ids::TaskIndex(301)) };
    assert_eq!(code(&client.job(task).unwrap_err()), (404, "unknown_job"));
    assert_eq!(code(&client.cancel(whole(1)).unwrap_err()), (409, "already_ended"));
    let all = client.jobs(&JobFilter { all: true, ..JobFilter::default() }).unwrap().jobs;
    assert_eq!(all.len() as u64, 1 + 8 * (KEPT / 8 + 1));
    assert_eq!(all[0].name, "first");
}

#[test]
fn readiness_is_said_to_a_descriptor() {
    let mut controller = Controller::prepared(1, "");
    let path = controller.folder.path().join("ready");
    let mut command = std::process::Command::new("sh");
    let script = format!("exec \"$@\" --ready-fd 7 7> {}", path.display());
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_musterd"), "--config"]).arg(controller.config());
    controller.run_command(command);
    let end = std::time::Instant::now() + SOON;
    while std::fs::read_to_string(&path).unwrap() != "ready\n" {
        assert!(std::time::Instant::now() < end, "ready must be said");
        std::thread::sleep(Duration::from_millis(5));
    }
    let inherited = std::path::PathBuf::from(format!("/proc/{}/fd/7", controller.pid()));
    let target = std::fs::read_link(inherited).unwrap_or_default();
    assert_ne!(target, path, "the descriptor is closed");
}
