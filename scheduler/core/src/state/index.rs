//! What follows from the configuration and the nodes, and is asked for all the time.

use std::sync::{Arc, OnceLock};

use foldhash::HashMap;

use super::{Node, State};
use crate::cluster::{AccountConfig, QosConfig};
use crate::gres::NodeGres;
use crate::ids::{NodeId, Timestamp};
use crate::place::SwitchTree;
use crate::spec::JobSpec;

/// Made when it is first asked for; a state is equal to another whether or not that has happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Derived(OnceLock<Arc<Index>>);

impl PartialEq for Derived {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Derived {}

/// The first instant at which a node that is held back is let go; found when it is first asked for after one was held back or let go.
#[derive(Debug, Clone, Default)]
pub(super) struct NextRelease(OnceLock<Option<Timestamp>>);

impl PartialEq for NextRelease {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for NextRelease {}

#[derive(Debug)]
struct Index {
    by_name: HashMap<String, NodeId>,
    pools: HashMap<String, PoolNodes>,
    /// Made when it is first asked for.
    tree: OnceLock<SwitchTree>,
    /// Where each stands in the configuration's list.
    qos: HashMap<String, usize>,
    accounts: HashMap<String, usize>,
    /// The accounts that list a user, in the configuration's order.
    accounts_of: HashMap<String, Vec<usize>>,
    /// Declared nodes that the site's programs bring up and take down.
    elastic: Vec<NodeId>,
}

/// The declared nodes of a pool.
#[derive(Debug, Default)]
pub(crate) struct PoolNodes {
    /// In the order of their ids.
    pub ids: Vec<NodeId>,
    /// Nodes that hold the same when empty are of one kind.
    pub kinds: Vec<Kind>,
}

/// A kind of nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// One of them.
    pub node: NodeId,
    /// How many there are.
    pub count: u32,
}

impl State {
    /// The node of this name, if it was ever declared.
    #[must_use]
    pub fn node_by_name(&self, name: &str) -> Option<NodeId> {
        self.index().by_name.get(name).copied()
    }

    /// The nodes of the pool of this name.
    pub(crate) fn pool_nodes(&self, pool: &str) -> Option<&PoolNodes> {
        self.index().pools.get(pool)
    }

    /// The network tree over all nodes.
    pub(crate) fn tree(&self) -> &SwitchTree {
        self.index().tree.get_or_init(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            SwitchTree::new(&self.config.switches, &names)
        })
    }

    /// The quality of service of a job, if it has one that the configuration declares.
    #[must_use]
    pub fn qos_of(&self, spec: &JobSpec) -> Option<&QosConfig> {
        self.qos_named(spec.qos.as_deref()?)
    }

    /// The quality of service of this name.
    #[must_use]
    pub fn qos_named(&self, name: &str) -> Option<&QosConfig> {
        self.index().qos.get(name).map(|at| &self.config.qos[*at])
    }

    /// The account of this name, if the configuration declares it.
    #[must_use]
    pub fn account_named(&self, name: &str) -> Option<&AccountConfig> {
        self.index().accounts.get(name).map(|at| &self.config.accounts[*at])
    }

    /// The accounts that list a user, in the configuration's order.
    pub fn accounts_of(&self, user: &str) -> impl Iterator<Item = &AccountConfig> {
        let places = self.index().accounts_of.get(user);
        places.into_iter().flatten().map(|at| &self.config.accounts[*at])
    }

    /// The priority that goes first in every order but `multifactor`: the job's own and that of its quality of
    /// service.
    #[must_use]
    pub fn priority_of(&self, spec: &JobSpec) -> i32 {
        spec.priority.saturating_add(self.qos_of(spec).map_or(0, |qos| qos.priority))
    }

    /// Cores of the declared nodes of a pool.
    #[must_use]
    pub fn pool_cores(&self, pool: &str) -> u64 {
        let kinds = self.pool_nodes(pool).map(|nodes| nodes.kinds.as_slice()).unwrap_or_default();
        kinds.iter().map(|kind| u64::from(kind.count) * u64::from(self.node(kind.node).cores)).sum()
    }

    /// Declared nodes that the site's programs bring up and take down.
    pub(super) fn elastic_ids(&self) -> &[NodeId] {
        &self.index().elastic
    }

    /// When the first of the nodes that are held back for a while is let go.
    #[must_use]
    pub fn next_release(&self) -> Option<Timestamp> {
        let first = || self.nodes.iter().filter_map(|node| node.held.as_ref()?.until).min();
        *self.next_release.0.get_or_init(first)
    }

    fn index(&self) -> &Index {
        self.derived.0.get_or_init(|| Arc::new(Index::new(self)))
    }
}

impl Index {
    fn new(state: &State) -> Self {
        let ids = state.nodes.iter().enumerate();
        let by_name: HashMap<String, NodeId> =
            ids.map(|(i, node)| (node.name.clone(), NodeId(i as u32))).collect();
        let pools = state.config.pools.iter().map(|pool| {
            let known = pool.nodes.iter().filter_map(|name| by_name.get(name).copied());
            let mut ids: Vec<NodeId> = known.filter(|id| state.node(*id).declared).collect();
            ids.sort_unstable();
            ids.dedup();
            let kinds = kinds(state, &ids);
            (pool.name.clone(), PoolNodes { ids, kinds })
        });
        let config = &state.config;
        let qos = config.qos.iter().enumerate().map(|(i, qos)| (qos.name.clone(), i)).collect();
        let accounts =
            config.accounts.iter().enumerate().map(|(i, account)| (account.name.clone(), i)).collect();
        let mut accounts_of: HashMap<String, Vec<usize>> = HashMap::default();
        for (i, account) in config.accounts.iter().enumerate() {
            for user in account.users.keys() {
                accounts_of.entry(user.clone()).or_default().push(i);
            }
        }
        let is_elastic = |node: &Node| node.declared && node.elastic.is_some();
        let elastic = (0..).map(NodeId).zip(&state.nodes).filter(|(_, node)| is_elastic(node));
        let elastic = elastic.map(|(id, _)| id).collect();
        let tree = OnceLock::new();
        Self { pools: pools.collect(), by_name, qos, accounts, accounts_of, elastic, tree }
    }
}

/// What the devices of a node have to say about its kind: all but which of them are free.
fn kinds_of_gres(gres: &[NodeGres]) -> Vec<(&str, Option<&str>, u32)> {
    gres.iter().map(|gres| (gres.name.as_str(), gres.kind.as_deref(), gres.count)).collect()
}

fn kinds(state: &State, ids: &[NodeId]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::default();
    for id in ids {
        let Node { cores, memory_bytes, features, gres, .. } = state.node(*id);
        let place = *known.entry((cores, memory_bytes, features, kinds_of_gres(gres))).or_insert(kinds.len());
        match kinds.get_mut(place) {
            Some(kind) => kind.count += 1,
            None => kinds.push(Kind { node: *id, count: 1 }),
        }
    }
    kinds
}
