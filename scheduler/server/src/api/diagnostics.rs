//! `/v1/diagnostics`, and what counts the requests for it.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, MatchedPath, Request, State as Shell};
use axum::middleware::Next;
use axum::response::Response;
use muster_client::api::{Diagnostics, SCHEMA, TaskCounts};
use muster_config::CONNECTIONS_MAX;
use muster_core::input::Refusal;
use serde_json::{Value, json};

use super::App;
use super::answer::Answered;
use super::peer::Peer;

/// `GET /v1/diagnostics`
pub async fn show(Shell(app): Shell<Arc<App>>) -> Json<Diagnostics> {
    let counts = app.diagnostics.counts();
    let (waiting, running) = {
        let reading = app.shared.read();
        (reading.state().waiting_count(), reading.state().live().count() as u64)
    };
    let (messages_queued, nodes_behind) = app.sessions.backlog();
    Json(Diagnostics {
        schema: SCHEMA,
        at_us: app.shared.now().0,
        since_us: counts.since.0,
        connections: (CONNECTIONS_MAX as usize - app.places.available_permits()) as u64,
        messages_queued,
        nodes_behind,
        clock_latency_us: app.diagnostics.clock_latency_us,
        tasks: TaskCounts { waiting, running, ..counts.tasks },
        passes: counts.passes,
        requests: counts.requests(),
        callers: counts.callers(),
    })
}

/// `POST /v1/diagnostics/reset`
pub async fn reset(Shell(app): Shell<Arc<App>>, Extension(peer): Extension<Peer>) -> Answered<Value> {
    if !peer.admin {
        return Err(Refusal::NotAdmin { what: "reset the controller's figures" }.into());
    }
    app.diagnostics.reset(app.shared.now());
    Ok(Json(json!({})))
}

/// Counts a request by its route and caller once it is answered.
pub async fn count(Shell(app): Shell<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let uid = request.extensions().get::<Peer>().map(|peer| peer.uid);
    let begun = Instant::now();
    let response = next.run(request).await;
    let route = route.as_deref().unwrap_or("elsewhere");
    app.diagnostics.asked(&format!("{method} {route}"), uid, begun.elapsed());
    response
}
