//! What nodes use: they say it with their heartbeats, it is added up here, and the engine hears of it by pool, as often as it
//! wants to.
//!
//! Until then it is in memory alone. What was said since the last time is lost with the controller: at most ten minutes of the
//! statistics of a pool.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use muster_core::autoscale::SAMPLE_PERIOD_S;
use muster_core::batch::{BatchPoolKey, Flows, NodeReading, NodeUse, PoolReadings};
use muster_core::ids::NodeId;
use muster_core::input::Input;
use muster_wire::v1;
use tokio::sync::watch;

use crate::engine_loop::EngineHandle;
use crate::sessions::Sessions;
use crate::shared::Shared;

/// How often it is asked whether the engine wants to hear of a pool's nodes.
const EVERY: Duration = Duration::from_secs(2);
/// How long a sample stands for, in milliseconds, with what clocks may add to it.
const RECENT_MS_MAX: u64 = SAMPLE_PERIOD_S as u64 * 1000 + 2_500;
/// For how long what a node has said last is how it is.
const RECENT_AGE_MAX: Duration = Duration::from_secs(SAMPLE_PERIOD_S as u64 + 5);
/// What a node says more often than that is passed over.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest time for which a node speaks that has not spoken yet, in milliseconds.
const FIRST_MS_MAX: u64 = 60_000;
/// A node that says nothing for so long is forgotten until it does.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// What all nodes use.
#[derive(Default)]
pub struct NodeUses(Mutex<Known>);

#[derive(Default)]
struct Known {
    nodes: HashMap<String, KnownNode>,
    /// What nodes have used that left a pool since it was last told of.
    left: HashMap<BatchPoolKey, BTreeMap<NodeId, NodeUse>>,
}

/// How its machine is, as a node says that has it for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// The load average over one minute, in hundredths.
    pub load_hundredths: Option<u32>,
    /// Memory that holds nothing at all, in bytes.
    pub memory_idle_bytes: Option<u64>,
}

struct KnownNode {
    heard: Instant,
    machine: Machine,
    /// What it has said in the last time, the oldest first.
    recent: VecDeque<NodeUse>,
    /// All that it has said since its pool was last told of, as one of that pool.
    since: NodeUse,
    pool: Option<(BatchPoolKey, NodeId)>,
}

/// A pool, with the nodes that it has and their names.
pub struct PoolNodes {
    /// Which pool.
    pub key: BatchPoolKey,
    /// Whether the engine wants to hear of it now.
    pub is_due: bool,
    /// The nodes.
    pub nodes: Vec<(NodeId, String)>,
}

/// What a node says, as far as any node can have done it.
fn read(said: &v1::NodeUse, period_ms_max: u64) -> NodeUse {
    let period_ms = u64::from(said.period_ms).min(period_ms_max);
    let used = NodeUse {
        period_ms,
        busy_ms: period_ms * u64::from(said.cpu_hundredths.min(10_000)) / 10_000,
        memory_bytes: said.memory_bytes,
        memory_peak_bytes: said.memory_bytes,
        disk_bytes: said.disk_bytes,
        disk_peak_bytes: said.disk_bytes,
        flows: Flows {
            disk_read_bytes: said.disk_read_bytes,
            disk_write_bytes: said.disk_write_bytes,
            disk_reads: said.disk_reads,
            disk_writes: said.disk_writes,
            network_in_bytes: said.network_in_bytes,
            network_out_bytes: said.network_out_bytes,
        },
    };
    // How much memory it has, the engine knows.
    used.within(u64::MAX)
}

impl NodeUses {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no code panics under this lock")
    }

    /// A node has said what it uses.
    pub fn heard(&self, node: &str, said: &v1::NodeUse, now: Instant) {
        let mut known = self.lock();
        let before = known.nodes.get(node).map(|node| now.saturating_duration_since(node.heard));
        if before.is_some_and(|passed| passed < PAUSE_MIN) {
            return;
        }
        // Nobody has used anything for longer than time has passed.
        let period_ms_max = before.map_or(FIRST_MS_MAX, |passed| {
            u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).saturating_add(1_000)
        });
        let used = read(said, period_ms_max);
        if used.period_ms == 0 {
            return;
        }
        let new = || KnownNode {
            heard: now,
            machine: Machine::default(),
            recent: VecDeque::new(),
            since: NodeUse::default(),
            pool: None,
        };
        let node = known.nodes.entry(node.to_owned()).or_insert_with(new);
        if now.saturating_duration_since(node.heard) > RECENT_AGE_MAX {
            node.recent.clear();
        }
        node.heard = now;
        node.machine =
            Machine { load_hundredths: said.load_hundredths, memory_idle_bytes: said.memory_free_bytes };
        node.since = node.since.and(used);
        node.recent.push_back(used);
        while node.recent.len() > 1
            && node.recent.iter().map(|used| used.period_ms).sum::<u64>() > RECENT_MS_MAX
        {
            node.recent.pop_front();
        }
    }

    /// How the machine of a node is, if the node has said it lately.
    #[must_use]
    pub fn machine(&self, node: &str, now: Instant) -> Machine {
        let known = self.lock();
        let node =
            known.nodes.get(node).filter(|node| now.saturating_duration_since(node.heard) <= RECENT_AGE_MAX);
        node.map(|node| node.machine).unwrap_or_default()
    }

    /// What the engine is to hear: of each pool that is due, what its nodes use, and what those used that have left it.
    pub fn readings(&self, pools: Vec<PoolNodes>, now: Instant) -> Vec<PoolReadings> {
        let mut known = self.lock();
        let Known { nodes: all, left } = &mut *known;
        let mut places: HashMap<&str, (&BatchPoolKey, NodeId)> = HashMap::new();
        for pool in &pools {
            places.extend(pool.nodes.iter().map(|(id, name)| (name.as_str(), (&pool.key, *id))));
        }
        for (name, node) in all.iter_mut() {
            node.settle(places.get(name.as_str()).copied(), left);
        }
        all.retain(|_, node| now.saturating_duration_since(node.heard) < FORGOTTEN_AFTER);
        left.retain(|key, _| pools.iter().any(|pool| pool.key == *key));
        let mut found = Vec::new();
        for pool in pools.into_iter().filter(|pool| pool.is_due) {
            let mut read = |(id, name): &(NodeId, String)| Some(all.get_mut(name.as_str())?.read(*id, now));
            let nodes: Vec<NodeReading> = pool.nodes.iter().filter_map(&mut read).collect();
            let gone = left.remove(&pool.key).unwrap_or_default().into_iter();
            let gone = gone.map(|(node, since)| NodeReading { node, recent: NodeUse::default(), since });
            let readings = PoolReadings { pool: pool.key, nodes, left: gone.collect() };
            let says = |reading: &NodeReading| reading.recent.period_ms > 0 || reading.since.period_ms > 0;
            if readings.nodes.iter().chain(&readings.left).any(says) {
                found.push(readings);
            }
        }
        found
    }
}

impl KnownNode {
    /// The node is of this pool now. What it has used as one of another one stays that one's.
    fn settle(
        &mut self,
        place: Option<(&BatchPoolKey, NodeId)>,
        left: &mut HashMap<BatchPoolKey, BTreeMap<NodeId, NodeUse>>,
    ) {
        if self.pool.as_ref().map(|(key, id)| (key, *id)) == place && place.is_some() {
            return;
        }
        let since = std::mem::take(&mut self.since);
        if let Some((key, id)) = self.pool.take() {
            let used = left.entry(key).or_default().entry(id).or_default();
            *used = used.and(since);
        }
        if let Some((key, id)) = place {
            self.pool = Some((key.clone(), id));
            self.recent.clear();
        }
    }

    fn read(&mut self, node: NodeId, now: Instant) -> NodeReading {
        let is_recent = now.saturating_duration_since(self.heard) <= RECENT_AGE_MAX;
        let recent =
            self.recent.iter().filter(|_| is_recent).fold(NodeUse::default(), |sum, used| sum.and(*used));
        NodeReading { node, recent, since: std::mem::take(&mut self.since) }
    }
}

/// Tells the engine of what nodes use, until the controller stops.
pub async fn tell(
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
    engine: EngineHandle,
    mut stopping: watch::Receiver<bool>,
) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stops| *stops) => return,
            _ = pace.tick() => {}
        }
        let now = shared.now();
        let pools: Vec<PoolNodes> = {
            let reading = shared.read();
            let state = reading.state();
            let named = |id: NodeId| (id, state.node(id).name.clone());
            let pools = state.batch_nodes_to_hear(now);
            pools
                .map(|(key, is_due, nodes)| PoolNodes { key, is_due, nodes: nodes.map(named).collect() })
                .collect()
        };
        for readings in sessions.uses().readings(pools, Instant::now()) {
            engine.tell(Input::PoolUsed(Box::new(readings))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::batch::FoldedId;

    fn key(pool: &str) -> BatchPoolKey {
        BatchPoolKey { account: "lab".into(), pool: FoldedId::of(pool) }
    }

    fn pool(name: &str, is_due: bool, nodes: &[u32]) -> PoolNodes {
        let nodes = nodes.iter().map(|node| (NodeId(*node), format!("n{node}"))).collect();
        PoolNodes { key: key(name), is_due, nodes }
    }

    /// Five seconds of a node that was so busy.
    fn said(percent: u32) -> v1::NodeUse {
        v1::NodeUse {
            period_ms: 5_000,
            cpu_hundredths: 100 * percent,
            memory_bytes: 1 << 30,
            disk_reads: 1,
            ..v1::NodeUse::default()
        }
    }

    struct Clock(Instant);

    impl Clock {
        fn after_s(&mut self, seconds: u64) -> Instant {
            self.0 += Duration::from_secs(seconds);
            self.0
        }
    }

    #[test]
    fn a_sample_is_of_half_a_minute_and_the_rest_is_added_up() {
        let (uses, mut clock) = (NodeUses::default(), Clock(Instant::now()));
        uses.heard("n1", &said(100), clock.0);
        assert!(uses.readings(vec![pool("p", true, &[1])], clock.0).is_empty(), "it was of no pool then");
        for _ in 0..24 {
            uses.heard("n1", &said(0), clock.after_s(5));
        }
        for _ in 0..6 {
            uses.heard("n1", &said(50), clock.after_s(5));
        }
        assert!(uses.readings(vec![pool("p", false, &[1])], clock.0).is_empty(), "nobody wants to hear it");
        let found = uses.readings(vec![pool("p", true, &[1, 2])], clock.0);
        let [PoolReadings { nodes, left, .. }] = found.as_slice() else { panic!("{found:?}") };
        let [NodeReading { node, recent, since }] = nodes.as_slice() else { panic!("{nodes:?}") };
        assert_eq!((*node, left.len()), (NodeId(1), 0));
        assert_eq!((recent.period_ms, recent.busy_ms, recent.flows.disk_reads), (30_000, 15_000, 6));
        assert_eq!((since.period_ms, since.busy_ms, since.flows.disk_reads), (150_000, 15_000, 30));
        // Told once, it is not told again; the last half a minute still is how things stand.
        let again = uses.readings(vec![pool("p", true, &[1])], clock.after_s(1));
        assert_eq!((again[0].nodes[0].recent.period_ms, again[0].nodes[0].since.period_ms), (30_000, 0));
        assert!(uses.readings(vec![pool("p", true, &[1])], clock.after_s(60)).is_empty());
    }

    #[test]
    fn what_a_node_used_stays_with_the_pool_that_had_it() {
        let (uses, mut clock) = (NodeUses::default(), Clock(Instant::now()));
        let pools = |due, p: &[u32], q: &[u32]| vec![pool("p", due, p), pool("q", due, q)];
        uses.heard("n1", &said(0), clock.0);
        uses.readings(pools(false, &[1], &[]), clock.0);
        uses.heard("n1", &said(100), clock.after_s(5));
        uses.readings(pools(false, &[], &[1]), clock.0);
        uses.heard("n1", &said(50), clock.after_s(5));
        uses.readings(pools(false, &[1], &[]), clock.0);
        uses.heard("n1", &said(10), clock.after_s(5));
        uses.readings(pools(false, &[], &[1]), clock.0);
        let found = uses.readings(pools(true, &[], &[1]), clock.0);
        let [p, q] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((p.nodes.len(), p.left[0].since.busy_ms), (0, 5_500));
        assert_eq!(p.left[0].recent, NodeUse::default());
        assert_eq!((q.left[0].since.busy_ms, q.nodes[0].since.busy_ms), (2_500, 0));
        // What was of a pool that is gone is of no interest any more.
        uses.heard("n1", &said(100), clock.after_s(5));
        uses.readings(vec![pool("p", false, &[])], clock.0);
        assert!(uses.lock().left.is_empty());
    }

    #[test]
    fn how_a_machine_is_is_known_for_as_long_as_it_is_new() {
        let (uses, mut clock) = (NodeUses::default(), Clock(Instant::now()));
        let loaded = v1::NodeUse { load_hundredths: Some(150), memory_free_bytes: Some(7), ..said(1) };
        uses.heard("n1", &loaded, clock.0);
        let machine = Machine { load_hundredths: Some(150), memory_idle_bytes: Some(7) };
        assert_eq!((uses.machine("n1", clock.0), uses.machine("n2", clock.0)), (machine, Machine::default()));
        assert_eq!(uses.machine("n1", clock.after_s(40)), Machine::default());
    }

    #[test]
    fn ten_thousand_nodes_are_one_message() {
        let (uses, mut clock) = (NodeUses::default(), Clock(Instant::now()));
        let nodes: Vec<u32> = (0..10_000).collect();
        let all = |uses: &NodeUses, now| {
            nodes.iter().for_each(|node| uses.heard(&format!("n{node}"), &said(10), now))
        };
        all(&uses, clock.0);
        uses.readings(vec![pool("p", false, &nodes)], clock.0);
        all(&uses, clock.after_s(5));
        let found = uses.readings(vec![pool("p", true, &nodes)], clock.0);
        assert_eq!((found.len(), found[0].nodes.len()), (1, 10_000));
        assert!(found[0].nodes.iter().all(|node| node.since.busy_ms == 500));
    }

    #[test]
    fn a_node_that_lies_says_no_more_than_time_has_passed() {
        let (uses, mut clock) = (NodeUses::default(), Clock(Instant::now()));
        let lie = v1::NodeUse {
            period_ms: u32::MAX,
            cpu_hundredths: u32::MAX,
            memory_bytes: u64::MAX,
            disk_bytes: u64::MAX,
            disk_read_bytes: u64::MAX,
            disk_reads: u64::MAX,
            ..v1::NodeUse::default()
        };
        uses.readings(vec![pool("p", false, &[1])], clock.0);
        uses.heard("n1", &lie, clock.0);
        uses.readings(vec![pool("p", false, &[1])], clock.0);
        for _ in 0..100 {
            uses.heard("n1", &lie, clock.0);
        }
        uses.heard("n1", &v1::NodeUse { period_ms: 0, ..lie }, clock.after_s(2));
        uses.heard("n1", &lie, clock.after_s(3));
        let found = uses.readings(vec![pool("p", true, &[1])], clock.0);
        let NodeReading { recent, since, .. } = found[0].nodes[0];
        assert_eq!(recent, since);
        assert_eq!((since.period_ms, since.busy_ms), (6_000, 6_000));
        assert!(since.disk_bytes <= 1 << 50 && since.flows.disk_read_bytes <= 6 << 40, "{since:?}");
        for node in 0..100 {
            uses.heard(&format!("n{node}"), &said(1), clock.after_s(2));
        }
        assert_eq!(uses.lock().nodes.len(), 100);
        uses.readings(Vec::new(), clock.after_s(4_000));
        assert_eq!(uses.lock().nodes.len(), 0);
    }
}
