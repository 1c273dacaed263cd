//! `/v1/reservations`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use muster_client::api::{ReservationAnswer, ReservationList, ReservationRequest, RunsIntoView, SCHEMA};
use muster_core::ids::Timestamp;
use muster_core::input::{Input, MadeReservation, Reply};
use muster_core::reservation::{ReservationSpec, Windows};
use serde_json::{Value, json};

use super::answer::{Answered, ApiError, read_json};
use super::peer::Peer;
use super::{App, blocking};
use crate::reservation_view;

/// `GET /v1/reservations`
pub async fn list(Shell(app): Shell<Arc<App>>) -> Answered<ReservationList> {
    let list = |app: &App| Ok(reservation_view::reservations(app.shared.read().state(), app.shared.now()));
    let reservations = blocking(&app, list).await?;
    Ok(Json(ReservationList { schema: SCHEMA, reservations }))
}

/// `POST /v1/reservations`
pub async fn make(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ReservationAnswer>), ApiError> {
    let request: ReservationRequest = read_json(body)?;
    let name = request.name.clone();
    let input = Input::MakeReservation { caller: peer.caller(), spec: Box::new(spec(request)) };
    let made = match app.engine.ask(input).await? {
        Reply::Reserved(made) => made,
        _ => MadeReservation { node_list: String::new(), running: Vec::new() },
    };
    let running = made.running.into_iter().map(|runs| RunsIntoView {
        task: runs.task,
        node: runs.node,
        until_us: Some(runs.until.0).filter(|until| *until < u64::MAX),
    });
    let answer =
        ReservationAnswer { schema: SCHEMA, name, node_list: made.node_list, running: running.collect() };
    Ok((StatusCode::CREATED, Json(answer)))
}

fn spec(request: ReservationRequest) -> ReservationSpec {
    ReservationSpec {
        name: request.name,
        nodes: request.nodes,
        windows: Windows {
            start: Timestamp(request.start_us),
            duration_s: request.duration_s,
            repeat: request.repeat,
        },
        users: request.users,
        accounts: request.accounts,
        maintenance: request.maintenance,
        ignore_running: request.ignore_running,
        comment: request.comment,
    }
}

/// `DELETE /v1/reservations/{name}`
pub async fn remove(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Answered<Value> {
    app.engine.ask(Input::RemoveReservation { caller: peer.caller(), name }).await?;
    Ok(Json(json!({})))
}
