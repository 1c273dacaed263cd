//! `/v1/ping`, `/v1/nodes`, `/v1/pools` and `/v1/licenses`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State as Shell};
use axum::response::Response;
use muster_client::api::{
    BootstrapPlan, BootstrapPlanRequest, HoldRequest, LicenseList, LicenseView, NodeList, NodesRequest, Ping,
    PoolList, PoolStateRequest, ResumeRequest, SCHEMA,
};
use muster_core::input::{Input, NodeChange};
use muster_core::notation::parse_hosts;
use nix::unistd::Uid;
use serde_json::{Value, json};

use super::answer::{Answered, ApiError, read_json};
use super::peer::Peer;
use super::{App, blocking, parts};
use crate::bootstrap::NoPlan;
use crate::node_view;

/// `GET /v1/ping`
pub async fn ping(Shell(app): Shell<Arc<App>>) -> Json<Ping> {
    let reading = app.shared.read();
    let state = reading.state();
    let declared = state.nodes.iter().filter(|node| node.declared);
    Json(Ping {
        schema: SCHEMA,
        cluster: state.config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        nodes_up: declared.clone().filter(|node| node.is_up()).count() as u32,
        nodes: declared.count() as u32,
        leader: app.lead.as_ref().map(|lead| lead.view.clone()),
    })
}

/// `GET /v1/nodes`
pub async fn nodes(Shell(app): Shell<Arc<App>>) -> Result<Response, ApiError> {
    parts::whole(&app, |app| {
        let mut nodes = node_view::nodes(app.shared.read().state(), app.shared.now());
        for node in &mut nodes {
            node.connected = app.sessions.is_present(&node.name);
            let machine = app.sessions.uses().machine(&node.name, Instant::now());
            (node.load_hundredths, node.memory_idle_bytes) =
                (machine.load_hundredths, machine.memory_idle_bytes);
        }
        Ok(NodeList { schema: SCHEMA, nodes })
    })
    .await
}

/// `GET /v1/pools`
pub async fn pools(Shell(app): Shell<Arc<App>>) -> Json<PoolList> {
    Json(PoolList { schema: SCHEMA, pools: node_view::pools(app.shared.read().state()) })
}

/// `POST /v1/pools/{name}/state`
pub async fn pool_state(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(pool): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let PoolStateRequest { state } = read_json(body)?;
    app.engine.ask(Input::ChangePool { caller: peer.caller(), pool, state }).await?;
    Ok(Json(json!({})))
}

/// `GET /v1/licenses`
pub async fn licenses(Shell(app): Shell<Arc<App>>) -> Json<LicenseList> {
    let reading = app.shared.read();
    let state = reading.state();
    let view = |(name, total): (&String, &u32)| LicenseView {
        name: name.clone(),
        total: *total,
        held: state.licenses_held(name),
    };
    let licenses = state.config.licenses.iter().map(view).collect();
    Json(LicenseList { schema: SCHEMA, licenses })
}

/// `POST /v1/nodes/drain`
pub async fn drain(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let NodesRequest { nodes, reason, for_s } = read_json(body)?;
    change(&app, &peer, parse_hosts(&nodes)?, NodeChange::Drain { reason, for_s }).await
}

/// `POST /v1/nodes/down`
pub async fn down(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let NodesRequest { nodes, reason, for_s } = read_json(body)?;
    change(&app, &peer, parse_hosts(&nodes)?, NodeChange::Down { reason, for_s }).await
}

/// `POST /v1/nodes/resume`
pub async fn resume(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let ResumeRequest { nodes } = read_json(body)?;
    change(&app, &peer, parse_hosts(&nodes)?, NodeChange::Resume).await
}

/// `POST /v1/nodes/bootstrap`
///
/// The answer holds private keys of nodes, with which one could stand in for them and be sent what users submit. Who may
/// read the files that hold them here may have it, and no other admin.
pub async fn bootstrap(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<BootstrapPlan> {
    let BootstrapPlanRequest { nodes } = read_json(body)?;
    let nodes = parse_hosts(&nodes)?;
    if peer.uid != 0 && peer.uid != Uid::effective().as_raw() {
        return Err(ApiError::NotRoot);
    }
    let plan = blocking(&app, move |app| {
        app.plans.plan(&nodes).map_err(|error| match error {
            NoPlan::Refused(refusal) => refusal.into(),
            NoPlan::Failed(source) => ApiError::Certificates(source),
        })
    });
    Ok(Json(plan.await?))
}

/// `POST /v1/nodes/{name}/hold`: drains one node.
pub async fn hold(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(node): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let HoldRequest { reason } = read_json(body)?;
    change(&app, &peer, vec![node], NodeChange::Drain { reason, for_s: None }).await
}

/// `POST /v1/nodes/{name}/release`: resumes one node.
pub async fn release(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(node): Path<String>,
) -> Answered<Value> {
    change(&app, &peer, vec![node], NodeChange::Resume).await
}

async fn change(app: &App, peer: &Peer, nodes: Vec<String>, change: NodeChange) -> Answered<Value> {
    app.engine.ask(Input::ChangeNodes { caller: peer.caller(), nodes, change }).await?;
    Ok(Json(json!({})))
}
