//! Nodes of pools, how many there are, and what they run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::wire::{self, Fields};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{BatchCommand, BatchRefusal, FoldedId, Target};
use muster_core::state::{BatchPool, Node, NodeStatus, Seat, State};
use serde_json::{Value, json};

use super::call::{Call, Page, empty};
use super::pools::{find, key};
use super::{Answer, Service, jobs};

struct Row<'a> {
    pool: &'a BatchPool,
    node: &'a Node,
    seat: &'a Seat,
}

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::State => Of::Text(wire::node_word(self.pool, self.node, self.seat).as_str()),
            Property::StateTransitionTime | Property::AllocationTime => Of::Instant(self.seat.since),
            Property::LastBootTime => match &self.node.status {
                NodeStatus::Up { since, .. } => Of::Instant(*since),
                _ => Of::None,
            },
            Property::StartTaskState => jobs::state_of(self.seat.start.as_ref()),
            Property::StartTaskResult => jobs::result_of(self.seat.start.as_ref()),
            Property::StartTaskExitCode => jobs::code_of(self.seat.start.as_ref()),
            Property::StartTaskStartTime => jobs::began(self.seat.start.as_ref()),
            Property::StartTaskEndTime => jobs::ended(self.seat.start.as_ref()),
            _ => Of::None,
        }
    }
}

/// The nodes of a pool by their names.
fn by_name<'a>(state: &'a State, pool: &'a BatchPool) -> BTreeMap<&'a str, (&'a Node, Cow<'a, Seat>)> {
    let named = |(id, seat): (muster_core::ids::NodeId, Cow<'a, Seat>)| {
        let node = state.node(id);
        (node.name.as_str(), (node, seat))
    };
    pool.seats().map(named).collect()
}

/// `GET /pools/{pool}/nodes`
pub async fn list(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(pool): Path<String>,
) -> Answer {
    let key = key(&call, &pool);
    let mut page = Page::new(call.list_query(List::Nodes)?);
    let after = page.after().map(str::to_owned);
    {
        let reading = service.shared.read();
        let state = reading.state();
        let pool = find(state, &key)?;
        let mut last: Option<&str> = None;
        for (name, (node, seat)) in by_name(state, pool) {
            if after.as_deref().is_some_and(|after| name <= after) {
                continue;
            }
            let show = || wire::show_node(state, (&key.pool, pool), node, &seat, &call.base);
            if page.offer(&Row { pool, node, seat: &seat }, last, show) {
                break;
            }
            last = Some(name);
        }
    }
    call.page("nodes", page)
}

/// `GET /pools/{pool}/nodes/{node}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    let key = key(&call, &pool);
    let reading = service.shared.read();
    let state = reading.state();
    let pool = find(state, &key)?;
    let found = by_name(state, pool).remove(node.as_str());
    let not_found = || wire::refused(&BatchRefusal::NotFound { what: Target::Node, id: node.clone() });
    let (node, seat) = found.ok_or_else(not_found)?;
    Ok(axum::Json(wire::show_node(state, (&key.pool, pool), node, &seat, &call.base)).into_response())
}

/// `POST /pools/{pool}/nodes/{node}/disablescheduling`
pub async fn disable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    let body = call.json()?;
    let how = wire::read_deallocation(&Fields::of(&body)?, "nodeDisableSchedulingOption")?;
    let command = BatchCommand::ScheduleNode { pool: FoldedId::of(&pool), node, disable: Some(how) };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /pools/{pool}/nodes/{node}/enablescheduling`
pub async fn enable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    let command = BatchCommand::ScheduleNode { pool: FoldedId::of(&pool), node, disable: None };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::OK))
}

/// The address of a node of a pool, as its agent says it; empty before that has.
fn address(service: &Service, call: &Call, pool: &str, node: &str) -> Result<String, BatchError> {
    let reading = service.shared.read();
    let state = reading.state();
    let pool = find(state, &key(call, pool))?;
    let not_found = || wire::refused(&BatchRefusal::NotFound { what: Target::Node, id: node.to_owned() });
    let (found, _) = by_name(state, pool).remove(node).ok_or_else(not_found)?;
    Ok(found.hardware().map_or_else(String::new, |hardware| hardware.address.clone()))
}

fn not_virtual() -> BatchError {
    let why = "Nodes are machines of the site, not virtual ones of the pool: whoever runs the site starts them again, installs them \
               and says who may log in.";
    BatchError::new(ErrorCode::OperationNotValidOnNode, why)
}

/// What can be done to virtual machines alone: `POST /pools/{pool}/nodes/{node}/reboot` and its like.
pub async fn for_virtual_ones(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    address(&service, &call, &pool, &node)?;
    Err(not_virtual().into())
}

/// `PUT` and `DELETE /pools/{pool}/nodes/{node}/users/{user}`
pub async fn user_of_virtual_ones(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node, _)): Path<(String, String, String)>,
) -> Answer {
    address(&service, &call, &pool, &node)?;
    Err(not_virtual().into())
}

/// The port of SSH.
const SSH_PORT: u16 = 22;

/// `GET /pools/{pool}/nodes/{node}/remoteloginsettings`
pub async fn login(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    let address = address(&service, &call, &pool, &node)?;
    // The node's name will do where its agent has not said an address.
    let address = if address.is_empty() { node } else { address };
    let settings = json!({ "remoteLoginIPAddress": address, "remoteLoginPort": SSH_PORT });
    Ok(axum::Json(settings).into_response())
}

struct PoolRow<'a>(&'a str);

impl Properties for PoolRow<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::PoolId => Of::Text(self.0),
            _ => Of::None,
        }
    }
}

/// States of nodes that are counted, in the protocol's words.
const COUNTED: [&str; 16] = [
    "creating",
    "idle",
    "leavingPool",
    "offline",
    "preempted",
    "rebooting",
    "reimaging",
    "running",
    "starting",
    "startTaskFailed",
    "unknown",
    "unusable",
    "waitingForStartTask",
    "upgradingOS",
    "deallocated",
    "deallocating",
];

fn counted(words: &BTreeMap<String, u32>) -> Value {
    let mut counts = json!({ "total": words.values().sum::<u32>() });
    for name in COUNTED {
        counts[name] = words.get(&name.to_ascii_lowercase()).copied().unwrap_or(0).into();
    }
    counts
}

/// `GET /nodecounts`
pub async fn counts(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::NodeCounts)?);
    let after = page.after().map(str::to_owned);
    {
        let reading = service.shared.read();
        let state = reading.state();
        let account = state.batch_account(&call.caller.account);
        let mut last: Option<&str> = None;
        for (id, pool) in account.into_iter().flat_map(|all| &all.pools) {
            if after.as_deref().is_some_and(|after| id.as_str() <= after) {
                continue;
            }
            let show = || {
                let mut words: [BTreeMap<String, u32>; 2] = Default::default();
                for (node, seat) in pool.seats() {
                    let word = wire::node_word(pool, state.node(node), &seat).as_str();
                    *words[usize::from(seat.low)].entry(word.to_owned()).or_default() += 1;
                }
                let [dedicated, low] = words.map(|words| counted(&words));
                json!({ "poolId": pool.spec.id, "dedicated": dedicated, "lowPriority": low })
            };
            if page.offer(&PoolRow(&pool.spec.id), last, show) {
                break;
            }
            last = Some(id.as_str());
        }
    }
    call.page("poolnodecounts", page)
}

/// An image that nodes may be said to have.
struct Image {
    publisher: &'static str,
    offer: &'static str,
    sku: &'static str,
    agent: &'static str,
}

/// Nodes are as they are: these are the names under which clients look for one.
const IMAGES: [Image; 3] = [
    Image { publisher: "muster", offer: "as-is", sku: "linux", agent: "batch.node.ubuntu 22.04" },
    Image {
        publisher: "canonical",
        offer: "0001-com-ubuntu-server-jammy",
        sku: "22_04-lts",
        agent: "batch.node.ubuntu 22.04",
    },
    Image {
        publisher: "canonical",
        offer: "ubuntuserver",
        sku: "18.04-lts",
        agent: "batch.node.ubuntu 18.04",
    },
];

impl Properties for Image {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::OsType => Of::Text("linux"),
            Property::VerificationType => Of::Text("verified"),
            Property::NodeAgentSkuId => Of::Text(self.agent),
            _ => Of::None,
        }
    }
}

/// `GET /supportedimages`
pub async fn images(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::SupportedImages)?);
    let after = page.after().map(str::to_owned);
    let names: Vec<String> = (0..IMAGES.len()).map(|i| i.to_string()).collect();
    // By this clients choose a machine for containers.
    let has_containers = service.sessions.batch().is_some_and(|site| !site.images.is_empty());
    let capabilities: &[&str] = if has_containers { &["DockerCompatible"] } else { &[] };
    let mut last: Option<&str> = None;
    for (name, image) in names.iter().zip(&IMAGES) {
        if after.as_deref().is_some_and(|after| name.as_str() <= after) {
            continue;
        }
        let show = || {
            json!({
                "nodeAgentSKUId": image.agent,
                "imageReference": {
                    "publisher": image.publisher, "offer": image.offer, "sku": image.sku, "version": "latest",
                },
                "osType": "linux",
                "verificationType": "verified",
                "capabilities": capabilities,
            })
        };
        if page.offer(image, last, show) {
            break;
        }
        last = Some(name);
    }
    call.page("supportedimages", page)
}
