//! Advance reservations over the client API.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_client::api::{ReservationRequest, SubmitRequest};
use muster_core::reservation::{Repeat, ReservedNodes};

use crate::common::{Controller, code, job, whole};

const HOUR_US: u64 = 3_600_000_000;

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

fn course() -> ReservationRequest {
    ReservationRequest {
        name: "course".to_owned(),
        nodes: ReservedNodes::Count { pool: "main".to_owned(), count: 2 },
        start_us: now_us() + HOUR_US,
        duration_s: 7200,
        repeat: Some(Repeat::Weekly),
        users: ["root".to_owned()].into(),
        accounts: Default::default(),
        maintenance: false,
        ignore_running: false,
        comment: "MPI for all".to_owned(),
    }
}

#[test]
fn reservations_are_made_listed_used_and_deleted() {
    let mut controller = Controller::start(3);
    let mut client = controller.client();
    assert_eq!(client.reservations().unwrap().reservations, []);
    let request = course();
    let answer = client.make_reservation(&request).unwrap();
    assert_eq!((answer.node_list.as_str(), answer.running.len()), ("n[01-02]", 0));
    assert_eq!(code(&client.make_reservation(&request).unwrap_err()), (400, "reservation_exists"));
    let other = ReservationRequest { name: "other".to_owned(), repeat: None, ..course() };
    let other = ReservationRequest { nodes: ReservedNodes::List(["n02".to_owned()].into()), ..other };
    assert_eq!(code(&client.make_reservation(&other).unwrap_err()), (400, "reservation_overlap"));
    let nobody = ReservationRequest { users: Default::default(), ..other.clone() };
    assert_eq!(code(&client.make_reservation(&nobody).unwrap_err()), (400, "bad_field"));

    let within = |name: &str| SubmitRequest {
        reservation: Some(name.to_owned()),
        time_limit_s: Some(3600),
        ..job("within")
    };
    assert_eq!(code(&client.submit(&within("curse")).unwrap_err()), (404, "unknown_reservation"));
    let long = SubmitRequest { time_limit_s: Some(7201), ..within("course") };
    assert_eq!(code(&client.submit(&long).unwrap_err()), (400, "never_fits"));
    let id = client.submit(&within("course")).unwrap().job.unwrap();
    assert_eq!(client.job(whole(id)).unwrap().reservation.as_deref(), Some("course"));
    let why = client.why(whole(id)).unwrap();
    assert_eq!((why.code.as_str(), why.expected_start_us), ("reservation", Some(request.start_us)));

    // They are part of the journal.
    drop(client);
    controller.kill();
    controller.run();
    let mut client = controller.client();
    let listed = client.reservations().unwrap().reservations;
    assert_eq!(listed.len(), 1);
    let view = &listed[0];
    assert_eq!((view.name.as_str(), view.node_list.as_str(), view.nodes), ("course", "n[01-02]", 2));
    assert_eq!((view.active, view.maintenance, view.jobs, view.by_uid), (false, false, 1, 0));
    assert_eq!((view.start_us, view.end_us), (request.start_us, request.start_us + 2 * HOUR_US));
    assert_eq!((view.repeat, view.comment.as_str()), (Some(Repeat::Weekly), "MPI for all"));
    let nodes = client.nodes().unwrap().nodes;
    assert_eq!(nodes[0].kept_for[0].reservation, "course");
    assert!(nodes[2].kept_for.is_empty());

    client.delete_reservation("course").unwrap();
    assert_eq!(code(&client.delete_reservation("course").unwrap_err()), (404, "unknown_reservation"));
    assert_eq!(client.why(whole(id)).unwrap().code, "reservation_over");
    assert_eq!(client.cancel(whole(id)).unwrap().tasks, 1);
}

#[test]
fn only_an_admin_makes_and_deletes_them() {
    let controller = Controller::start(1);
    let mut client = controller.client();
    let whole = ReservedNodes::Pool("main".to_owned());
    client.make_reservation(&ReservationRequest { nodes: whole, ..course() }).unwrap();
    let other = serde_json::to_string(&ReservationRequest { name: "other".to_owned(), ..course() }).unwrap();
    let ask = super::routes::ask_as;
    for (method, path, body) in
        [("POST", "/v1/reservations", other.as_str()), ("DELETE", "/v1/reservations/course", "")]
    {
        let (status, answer) = ask(&controller, "65534", method, path, body);
        assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("not_admin")), "{method}");
    }
    let (status, answer) = ask(&controller, "65534", "GET", "/v1/reservations", "");
    assert_eq!((status.as_str(), answer["reservations"][0]["name"].as_str()), ("200", Some("course")));
}
