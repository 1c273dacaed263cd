//! `/pools`.

use std::ops::Bound;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::wire;
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{BatchCommand, BatchPoolKey, BatchRefusal, Condition, FoldedId, Target};
use muster_core::engine::Trial;
use muster_core::ids::Timestamp;
use muster_core::state::{BatchPool, PoolAllocation, State};

use serde_json::Value;

use super::call::{Call, Page, created, empty, tags};
use super::{Answer, Service};

pub(super) fn key(call: &Call, pool: &str) -> BatchPoolKey {
    BatchPoolKey { account: Arc::clone(&call.caller.account), pool: FoldedId::of(pool) }
}

/// A pool of the caller's account.
pub(super) fn find<'a>(state: &'a State, key: &BatchPoolKey) -> Result<&'a BatchPool, BatchError> {
    let not_found =
        || wire::refused(&BatchRefusal::NotFound { what: Target::Pool, id: key.pool.to_string() });
    state.batch_pool(key).ok_or_else(not_found)
}

struct Row<'a> {
    pool: &'a BatchPool,
}

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        let pool = self.pool;
        let is_resizing = pool.deleting.is_some() || pool.allocation != PoolAllocation::Steady;
        match property {
            Property::Id => Of::Text(&pool.spec.id),
            Property::State => Of::Text(if pool.deleting.is_some() { "deleting" } else { "active" }),
            Property::StateTransitionTime => Of::Instant(pool.deleting.unwrap_or(pool.created)),
            Property::CreationTime => Of::Instant(pool.created),
            Property::LastModified => Of::Instant(pool.modified),
            Property::AllocationState => Of::Text(if is_resizing { "resizing" } else { "steady" }),
            Property::AllocationStateTransitionTime => Of::Instant(pool.allocation_since),
            Property::EnableAutoScale => Of::Boolean(pool.scale.is_some()),
            Property::EnableInterNodeCommunication => Of::Boolean(pool.spec.inter_node),
            Property::VmSize => Of::Text(&pool.spec.home),
            _ => Of::None,
        }
    }
}

/// A pool as clients see it, with its statistics until an instant if they are asked for.
fn with_stats(state: &State, id: &FoldedId, pool: &BatchPool, base: &str, until: Option<Timestamp>) -> Value {
    let mut shown = wire::show_pool(id, pool, base);
    if let Some(now) = until {
        shown["stats"] = wire::show_pool_stats(state, pool, &format!("{base}/pools/{id}"), now);
    }
    shown
}

/// `GET /pools`
pub async fn list(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::Pools)?);
    let (stats, now) = (page.stats(), service.shared.now());
    let from = page.after().map_or(Bound::Unbounded, |after| Bound::Excluded(FoldedId::of(after)));
    {
        let reading = service.shared.read();
        let state = reading.state();
        let account = state.batch_account(&call.caller.account);
        let mut last: Option<&FoldedId> = None;
        for (id, pool) in
            account.into_iter().flat_map(|all| all.pools.range((from.clone(), Bound::Unbounded)))
        {
            let show = || with_stats(state, id, pool, &call.base, stats.then_some(now));
            if page.offer(&Row { pool }, last.map(FoldedId::as_str), show) {
                break;
            }
            last = Some(id);
        }
    }
    call.page("pools", page)
}

/// `POST /pools`
pub async fn create(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let wire::NewPool { spec, target, timeout_s, scaling } =
        wire::read_pool(&call.json()?, &call.caller.user)?;
    let key = key(&call, &spec.id);
    let (spec, scaling) = (Box::new(spec), scaling.map(Box::new));
    call.ask(&service, BatchCommand::CreatePool { spec, target, timeout_s, scaling }).await?;
    let reading = service.shared.read();
    let pool = find(reading.state(), &key)?;
    Ok(created(&call.base, &format!("/pools/{}", key.pool), pool.version, pool.modified))
}

/// `GET /pools/{pool}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let key = key(&call, &pool);
    let reading = service.shared.read();
    let pool = find(reading.state(), &key)?;
    let (state, now) = (reading.state(), service.shared.now());
    call.shown_of(List::Pools, pool.version, pool.modified, |stats| {
        with_stats(state, &key.pool, pool, &call.base, stats.then_some(now))
    })
}

/// `HEAD /pools/{pool}`
pub async fn exists(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let reading = service.shared.read();
    let pool = find(reading.state(), &key(&call, &pool))?;
    Ok((StatusCode::OK, tags(pool.version, pool.modified)).into_response())
}

/// `PATCH /pools/{pool}`
pub async fn patch(service: Shell<Arc<Service>>, call: Extension<Call>, pool: Path<String>) -> Answer {
    change(&service.0, &call.0, &pool.0, false).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /pools/{pool}/updateproperties`
pub async fn update_properties(
    service: Shell<Arc<Service>>,
    call: Extension<Call>,
    pool: Path<String>,
) -> Answer {
    change(&service.0, &call.0, &pool.0, true).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn change(service: &Service, call: &Call, pool: &str, replaces: bool) -> Result<(), BatchError> {
    let (key, body, wished) = (key(call, pool), call.json()?, call.condition()?);
    let (spec, version) = {
        let reading = service.shared.read();
        let pool = find(reading.state(), &key)?;
        (Box::new(wire::change_pool(pool, &body, replaces, &call.caller.user)?), pool.version)
    };
    // What was read must still be there when the change is made of it.
    let condition = Condition { matches: wished.matches.or(Some(Some(version))), ..wished };
    call.ask_if(service, BatchCommand::UpdatePool { pool: key.pool, spec }, condition).await?;
    Ok(())
}

/// `DELETE /pools/{pool}`
pub async fn delete(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::DeletePool { pool: FoldedId::of(&pool) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /pools/{pool}/resize`
pub async fn resize(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let command = wire::read_resize(FoldedId::of(&pool), &call.json()?)?;
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /pools/{pool}/stopresize`
pub async fn stop_resize(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::StopResize { pool: FoldedId::of(&pool) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /pools/{pool}/removenodes`
pub async fn remove_nodes(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let command = wire::read_removal(FoldedId::of(&pool), &call.json()?)?;
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /pools/{pool}/enableautoscale`
pub async fn enable_scaling(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let command = wire::read_scaling(FoldedId::of(&pool), &call.json()?)?;
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /pools/{pool}/disableautoscale`
pub async fn disable_scaling(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::DisableScaling { pool: FoldedId::of(&pool) }).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /pools/{pool}/evaluateautoscale`
pub async fn evaluate_scaling(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let formula = wire::read_trial(&call.json()?)?;
    let key = key(&call, &pool);
    let now = service.shared.now();
    let trial = {
        let reading = service.shared.read();
        let pool = find(reading.state(), &key)?;
        if pool.scale.is_none() {
            let why = "the pool does not scale itself: enable that first";
            return Err(wire::refused(&BatchRefusal::InvalidState { why }).into());
        }
        Trial::of(reading.state(), &key, pool, now)
    };
    // A formula may cost some milliseconds, in which neither readers nor this thread's other clients shall wait.
    let run = tokio::task::spawn_blocking(move || trial.run(&formula)).await;
    let run = run.map_err(|_| BatchError::new(ErrorCode::InternalError, "The evaluation was broken off."))?;
    let run = run.map_err(|refusal| wire::refused(&refusal))?;
    Ok(axum::Json(wire::show_run(&run)).into_response())
}
