//! Many users at once: connections, lists that are sent in parts, and the limits of each user.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use muster_client::api::TOO_OFTEN;
use muster_client::{Client, ClientError, JobFilter, Options, TaskFilter};

use crate::common::{Controller, code, job};

/// Somebody who administers nothing: `nobody`.
const NOBODY: u32 = 65_534;
/// Clients that come at the same instant.
const CLIENTS: usize = 200;
/// What each submits: all together more than a list is sent in at once.
const JOBS_EACH: usize = 6;

fn held() -> muster_client::api::SubmitRequest {
    let mut request = job("one of many");
    request.eligibility.hold = true;
    request
}

/// Submits from many clients at the same instant. Gives the ids, rising.
fn submit_at_once(controller: &Controller) -> Vec<u64> {
    let start = Barrier::new(CLIENTS);
    let mut ids: Vec<u64> = std::thread::scope(|scope| {
        let submitting = || {
            start.wait();
            let mut client = controller.client();
            let mut ids = Vec::new();
            for round in 0..JOBS_EACH {
                ids.push(client.submit(&held()).unwrap().job.unwrap());
                if round == 0 {
                    let listed = client.jobs(&JobFilter::default()).unwrap();
                    assert!(!listed.cut && listed.jobs.is_sorted_by_key(|job| job.job));
                    assert!(listed.jobs.iter().any(|job| job.job == ids[0]), "it was acknowledged");
                }
            }
            ids
        };
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(submitting)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    ids.sort_unstable();
    ids
}

#[test]
fn hundreds_of_clients_list_and_submit_at_once_and_nothing_is_lost() {
    let controller = Controller::start(1);
    // It asks for a list, and reads nothing of it: that must hold up nobody.
    let mut slow = UnixStream::connect(controller.socket()).unwrap();
    let ids = submit_at_once(&controller);
    slow.write_all(b"GET /v1/jobs HTTP/1.1\r\nhost: muster\r\nconnection: close\r\n\r\n").unwrap();
    let right: Vec<u64> = (1..=(CLIENTS * JOBS_EACH) as u64).collect();
    assert_eq!(ids, right, "each job has an id of its own");
    let mut client = controller.client();
    let listed = |filter: &JobFilter, client: &mut Client| {
        let list = client.jobs(filter).unwrap();
        (list.jobs.iter().map(|job| job.job).collect::<Vec<_>>(), list.cut)
    };
    assert_eq!(listed(&JobFilter::default(), &mut client), (right.clone(), false));
    assert_eq!(listed(&JobFilter { all: true, ..JobFilter::default() }, &mut client), (right.clone(), false));
    let newest = JobFilter { limit: Some(1100), ..JobFilter::default() };
    assert_eq!(listed(&newest, &mut client), (right[100..].to_vec(), true));
    let others = JobFilter { user: Some("nobody".to_owned()), ..JobFilter::default() };
    assert_eq!(listed(&others, &mut client), (vec![], false));
    for filter in [TaskFilter::default(), TaskFilter { finished_s: Some(60), ..TaskFilter::default() }] {
        let tasks = client.tasks(&filter).unwrap();
        assert_eq!(tasks.lines.iter().map(|line| line.job).collect::<Vec<_>>(), right, "{filter:?}");
        assert!(!tasks.cut && tasks.cluster == "test" && tasks.now_us > 0);
    }
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("transfer-encoding: chunked") && text.trim_end().ends_with('0'),
        "it is sent in parts"
    );
    assert!(text.contains("\"job\":1,") && text.contains(&format!("\"job\":{},", right.len())));
}

/// A controller that other users reach, with more lines under `[controller]`.
fn open_to_all(lines: &str) -> Controller {
    let mut controller = Controller::prepared(1, "");
    let text = std::fs::read_to_string(controller.config()).unwrap();
    std::fs::write(controller.config(), text.replace("[controller]", &format!("[controller]\n{lines}")))
        .unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(controller.folder.path(), open).unwrap();
    controller.run();
    controller
}

/// Does something as another user: what the kernel knows of a connection is who opened it.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let as_them = move || {
            // SAFETY: the system call, unlike the C library's function, changes this thread alone, which ends below.
            let done = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, -1, uid, -1) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            work()
        };
        scope.spawn(as_them).join().unwrap()
    })
}

fn options(controller: &Controller, retry_waiting: Duration) -> Options {
    Options { retry: Duration::ZERO, retry_waiting, ..Options::new(&controller.socket()) }
}

#[test]
fn who_asks_too_often_is_told_so_and_waits_while_others_go_on() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let controller = open_to_all("requests_per_user_s = 20\nrequests_per_user_burst = 3");
    as_user(NOBODY, || {
        let mut client = Client::connect_with(options(&controller, Duration::ZERO)).unwrap();
        let refused = (0..1000).find_map(|_| client.ping().err()).expect("there is a limit");
        assert_eq!(code(&refused), (429, TOO_OFTEN));
        let ClientError::Refused { body, .. } = &refused else { unreachable!() };
        assert!((1..=50).contains(&body.again_ms.unwrap()), "{body:?}");
        let right = "20 requests a second of each user, and 3 at once";
        assert!(body.message.contains(right) && body.message.contains("ask again in 0."), "{body:?}");
        // Even a large body is read before it is refused, so that the answer is.
        let mut large = held();
        large.environment.insert("LARGE".to_owned(), "x".repeat(200_000));
        let refused = (0..1000).find_map(|_| client.submit(&large).err()).expect("there is a limit");
        assert_eq!(code(&refused), (429, TOO_OFTEN));
    });
    // Nobody else has to wait.
    let mut root = controller.client();
    for _ in 0..100 {
        root.ping().unwrap();
    }
    let said = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&said);
    as_user(NOBODY, move || {
        let mut options = options(&controller, Duration::from_secs(60));
        options.on_limited = Box::new(move |sentence| {
            assert!(sentence.starts_with("waiting: you ask more often"), "{sentence}");
            count.fetch_add(1, Ordering::Relaxed);
        });
        let mut client = Client::connect_with(options).unwrap();
        // Who waits by itself has all answers in the end.
        for _ in 0..12 {
            client.ping().unwrap();
        }
    });
    assert_eq!(said.load(Ordering::Relaxed), 1, "once for all waits");
}

#[test]
fn who_has_too_many_connections_is_told_so_and_gets_one_when_another_ends() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let controller = open_to_all("connections_per_user_max = 2");
    as_user(NOBODY, || {
        let connect = |time| Client::connect_with(options(&controller, time)).unwrap();
        let (mut first, mut second) = (connect(Duration::ZERO), connect(Duration::ZERO));
        first.ping().unwrap();
        second.ping().unwrap();
        let refused = connect(Duration::ZERO).ping().unwrap_err();
        assert_eq!(code(&refused), (429, "too_many_connections"));
        assert!(refused.to_string().contains("2 connections"), "{refused}");
        drop(first);
        // It tries again by itself.
        connect(Duration::from_secs(60)).ping().unwrap();
    });
    let clients: Vec<Client> = (0..5).map(|_| controller.client()).collect();
    for mut client in clients {
        client.ping().unwrap();
    }
}
