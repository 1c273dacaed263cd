//! Who holds what a waiting job lacks, and until when at the latest.
//!
//! For the first job of a pool these are the jobs whose ends its reservation counts on. For any other they are the jobs
//! that hold the most of what it lacks, on the nodes that could hold a part of it and at present cannot. Both are
//! asked for by people alone: a pass that nobody asks to explain itself pays for neither.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::fit::{self, NodeRoom, pool_nodes, ranks_that_fit};
use super::index::Planner;
use super::reserve::Reservation;
use super::suits::suits;
use crate::cluster::PoolConfig;
use crate::event::Share;
use crate::gres::Counts;
use crate::ids::{JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::spec::Request;
use crate::state::{Job, Node, State};

/// How many holders are named; the others are counted.
pub const HOLDERS_NAMED_MAX: usize = 5;

/// The jobs that hold what a waiting job lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// Whether the job's reservation counts on the end of each of them; otherwise they hold the most of what it lacks.
    pub counted_on: bool,
    /// At most [`HOLDERS_NAMED_MAX`]: those that a reservation counts on the last to end first, others by how much of
    /// what is lacked they hold.
    pub named: Vec<Holder>,
    /// How many jobs there are beside those that are named.
    pub others: usize,
    /// When all of them have ended at the latest; none if one has no time limit.
    pub until: Option<Timestamp>,
}

/// A job that holds something of what another one lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The job; of an array, the first of its tasks that hold something.
    pub task: TaskId,
    /// How many of its tasks hold something.
    pub tasks: u32,
    /// On how many of the nodes.
    pub nodes: u32,
    /// Cores that it holds there.
    pub cores: u64,
    /// When all these tasks have ended at the latest; none without a time limit.
    pub until: Option<Timestamp>,
}

/// Nodes that a job could use if they took work, at most [`HOLDERS_NAMED_MAX`], and how many there are.
#[must_use]
pub fn nodes_away(state: &State, job: &Job) -> (Vec<NodeId>, usize) {
    let Some(pool) = pool_of(state, job) else { return (Vec::new(), 0) };
    let away = |id: &NodeId| !state.node(*id).takes_work() && suits(state.node(*id), &job.spec.request);
    let mut named: Vec<NodeId> = pool_nodes(state, pool).filter(away).collect();
    let count = named.len();
    named.truncate(HOLDERS_NAMED_MAX);
    (named, count)
}

/// The jobs that hold the most of what a waiting job lacks; none if nothing of it is held.
#[must_use]
pub fn holders(state: &State, job: &Job) -> Option<Holders> {
    let pool = pool_of(state, job)?;
    let request = &job.spec.request;
    let mut sums = Sums::default();
    for id in pool_nodes(state, pool) {
        let node = state.node(id);
        let Some(lack) = lack(node, pool, request).filter(|_| node.takes_work()) else { continue };
        for key in &node.attempts {
            let Some(holder) = state.jobs.get(&key.task.job) else { continue };
            let Some(live) = holder.live.get(&key.task.index).filter(|live| live.holds_allocation()) else {
                continue;
            };
            let Some(share) = live.allocation.shares.iter().find(|share| share.node == id) else { continue };
            let until = live.deadline(holder.spec.time_limit_s);
            sums.add(key.task, id, lack.weight(node, share), share.cores.len(), until);
        }
    }
    sums.most_first()
}

fn pool_of<'a>(state: &'a State, job: &Job) -> Option<&'a PoolConfig> {
    let name = job.spec.pool.as_deref().unwrap_or_default();
    state.config.pools.iter().find(|pool| pool.name == name)
}

/// What a node lacks for its part of a request.
enum Lack<'a> {
    Cores,
    Memory,
    /// Devices that the request names.
    Devices(&'a Request),
}

/// What a node lacks that could hold a part of the request when empty; none if it holds that part now.
fn lack<'a>(node: &Node, pool: &PoolConfig, request: &'a Request) -> Option<Lack<'a>> {
    let (whole, free) = (NodeRoom::whole(node), NodeRoom::free(node));
    let most = ranks_that_fit(node, pool, whole, request);
    let least = fit::least(request);
    let part = least.nodes.map_or(most, |count| {
        let (low, larger) = fit::split(least.ranks, count);
        most.min(low + u32::from(larger > 0))
    });
    if part == 0 || ranks_that_fit(node, pool, free, request) >= part {
        return None;
    }
    let with = |room: NodeRoom| ranks_that_fit(node, pool, room, request) >= part;
    // Where several are short, the scarcest tells most.
    if request.has_gres() && !with(NodeRoom { gres: free.gres, ..whole }) {
        Some(Lack::Devices(request))
    } else if !with(NodeRoom { memory_bytes: free.memory_bytes, ..whole }) {
        Some(Lack::Memory)
    } else {
        Some(Lack::Cores)
    }
}

impl Lack<'_> {
    /// How much of what is lacked a share holds, in thousandths of what its node has.
    fn weight(&self, node: &Node, share: &Share) -> u64 {
        let thousandths = |part: u64, whole: u64| {
            u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
        };
        match self {
            Self::Cores => thousandths(share.cores.len().into(), node.cores.into()),
            Self::Memory => thousandths(share.memory_bytes, node.memory_bytes),
            Self::Devices(request) => {
                let held = Counts::held(&node.gres, &share.gres);
                let (mut part, mut all) = (0, 0);
                for wish in request.gres_per_node.iter().chain(&request.gres_per_rank) {
                    part += crate::gres::count_of(&node.gres, held, wish);
                    all += crate::gres::count_of(&node.gres, Counts::whole(&node.gres), wish);
                }
                thousandths(part.into(), all.into())
            }
        }
    }
}

impl Planner {
    /// The jobs whose ends a reservation of a pool counts on: they hold a part of what is kept and have left by its
    /// start.
    pub(super) fn counted_on(&self, reservation: &Reservation, now: Timestamp) -> Option<Holders> {
        let mut sums = Sums::default();
        for ((end, key), leaving) in &self.ends {
            if (*end).max(now) > reservation.start {
                break;
            }
            for held in leaving.shares() {
                let mut short = reservation.kept_on(held.node).unwrap_or_default();
                short.take(self.nodes[held.node.0 as usize].room);
                if held.room.has_some_of(short) {
                    sums.add(key.task, held.node, 0, held.room.cores, Some(*end));
                }
            }
        }
        sums.last_first()
    }
}

/// What each job holds, added up.
#[derive(Default)]
struct Sums(BTreeMap<JobId, Sum>);

struct Sum {
    tasks: BTreeSet<TaskIndex>,
    nodes: BTreeSet<NodeId>,
    cores: u64,
    until: Option<Timestamp>,
    weight: u64,
}

impl Sums {
    fn add(&mut self, task: TaskId, node: NodeId, weight: u64, cores: u32, until: Option<Timestamp>) {
        let (tasks, nodes) = (BTreeSet::new(), BTreeSet::new());
        let none = || Sum { tasks, nodes, cores: 0, until: Some(Timestamp(0)), weight: 0 };
        let sum = self.0.entry(task.job).or_insert_with(none);
        sum.tasks.insert(task.index);
        sum.nodes.insert(node);
        sum.cores += u64::from(cores);
        sum.until = latest(sum.until, until);
        sum.weight += weight;
    }

    fn most_first(self) -> Option<Holders> {
        self.named(false, |sum| (Reverse(sum.weight), Reverse(sum.cores)))
    }

    fn last_first(self) -> Option<Holders> {
        self.named(true, |sum| (Reverse(sum.until), Reverse(sum.cores)))
    }

    fn named<K: Ord>(self, counted_on: bool, key: impl Fn(&Sum) -> K) -> Option<Holders> {
        let mut sums: Vec<(JobId, Sum)> = self.0.into_iter().collect();
        // Stable: equal ones stay in the order of their ids.
        sums.sort_by_key(|(_, sum)| key(sum));
        let until = sums.iter().try_fold(Timestamp(0), |last, (_, sum)| Some(last.max(sum.until?)));
        let others = sums.len().saturating_sub(HOLDERS_NAMED_MAX);
        let named: Vec<Holder> = sums.iter().take(HOLDERS_NAMED_MAX).filter_map(holder).collect();
        (!named.is_empty()).then_some(Holders { counted_on, named, others, until })
    }
}

fn holder((job, sum): &(JobId, Sum)) -> Option<Holder> {
    let task = TaskId { job: *job, index: *sum.tasks.first()? };
    let (tasks, nodes) = (sum.tasks.len() as u32, sum.nodes.len() as u32);
    Some(Holder { task, tasks, nodes, cores: sum.cores, until: sum.until })
}

/// The later instant; none if one of them never comes.
fn latest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.zip(b).map(|(a, b)| a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gres::Gres;
    use crate::plan::{Waiting, plan};
    use crate::testing::{ANN, BOB, Bench, GIB, config, job};

    fn waiting(bench: &Bench, id: JobId) -> Waiting {
        plan(bench.engine.state(), bench.now).waiting.remove(&id).expect("it waits")
    }

    fn most(bench: &Bench, id: JobId) -> Holders {
        let state = bench.engine.state();
        holders(state, &state.jobs[&id]).expect("somebody holds what it lacks")
    }

    fn submit(bench: &mut Bench, spec: crate::spec::JobSpec) -> JobId {
        let id = bench.submit(ANN, spec).unwrap();
        if bench.is_live(id) {
            bench.start(bench.key(id));
        }
        id
    }

    fn ids(holders: &Holders) -> Vec<JobId> {
        holders.named.iter().map(|holder| holder.task.job).collect()
    }

    #[test]
    fn the_first_job_names_those_that_it_counts_on_and_no_others() {
        let mut bench = Bench::new(config(&[2, 2, 2]));
        let start = bench.now;
        let short = submit(&mut bench, job(ANN).ranks(2).limit_s(100));
        let middle = submit(&mut bench, job(ANN).ranks(2).limit_s(200));
        let long = submit(&mut bench, job(ANN).ranks(2).limit_s(900));
        let head = submit(&mut bench, job(ANN).gang(2, 2).limit_s(100));
        let next = submit(&mut bench, job(BOB).ranks(1).limit_s(500));
        let of_head = waiting(&bench, head);
        assert_eq!(of_head.expected_start, Some(start.plus_seconds(200)));
        let counted = of_head.holders.expect("its reservation counts on somebody");
        assert!(counted.counted_on);
        assert_eq!(ids(&counted), [middle, short], "the last to end first, and not the long one");
        assert_eq!((counted.named[0].nodes, counted.named[0].cores, counted.others), (1, 2, 0));
        assert_eq!(counted.until, Some(start.plus_seconds(200)));
        assert_eq!(waiting(&bench, next).holders, None, "only the first has a reservation");
        let of_next = most(&bench, next);
        assert_eq!(ids(&of_next), [short, middle, long], "each holds as much: in the order of their ids");
        assert_eq!(of_next.until, Some(start.plus_seconds(900)));
    }

    #[test]
    fn what_is_free_already_is_no_reason_to_wait_for_anybody() {
        let mut bench = Bench::new(config(&[2, 2]));
        let running = submit(&mut bench, job(ANN).ranks(2).limit_s(100));
        let head = submit(&mut bench, job(ANN).gang(2, 2));
        let counted = waiting(&bench, head).holders.unwrap();
        assert_eq!(ids(&counted), [running]);
        assert_eq!(ids(&most(&bench, head)), [running], "n2 is free");
    }

    #[test]
    fn many_holders_are_counted_and_tasks_of_one_array_are_one_holder() {
        let mut bench = Bench::new(config(&[16]));
        let sweep = submit(&mut bench, job(ANN).array(6, None).limit_s(700));
        let others: Vec<JobId> = (0..10).map(|_| submit(&mut bench, job(BOB).limit_s(600))).collect();
        let head = submit(&mut bench, job(ANN).ranks(16).limit_s(60));
        let found = most(&bench, head);
        assert_eq!((found.named.len(), found.others), (HOLDERS_NAMED_MAX, 6));
        let first = found.named[0];
        assert_eq!((first.task.job, first.tasks, first.nodes, first.cores), (sweep, 6, 1, 6));
        assert_eq!(ids(&found)[1..], others[..4], "of equal ones the older");
        assert_eq!(found.until, Some(bench.now.plus_seconds(700)), "also of those that are not named");
    }

    #[test]
    fn who_holds_memory_or_devices_is_named_where_those_are_short() {
        let mut config = config(&[8]);
        config.nodes[0].gres = vec![Gres { name: "gpu".to_owned(), kind: None, count: 2 }];
        let mut bench = Bench::new(config);
        let hungry = submit(&mut bench, job(ANN).memory(5 * GIB));
        let wide = submit(&mut bench, job(ANN).ranks(4).memory(GIB));
        let mut gpus = job(BOB).memory(GIB);
        gpus.request.gres_per_node = vec!["gpu:2".parse().unwrap()];
        let gpus = submit(&mut bench, gpus);
        let memory = submit(&mut bench, job(ANN).memory(2 * GIB));
        assert_eq!(ids(&most(&bench, memory))[0], hungry);
        let cores = submit(&mut bench, job(ANN).ranks(3).memory(0));
        assert_eq!(ids(&most(&bench, cores))[0], wide);
        let mut device = job(ANN).memory(0);
        device.request.gres_per_node = vec!["gpu:1".parse().unwrap()];
        let device = submit(&mut bench, device);
        assert_eq!(ids(&most(&bench, device))[0], gpus);
    }

    #[test]
    fn nodes_that_are_away_are_named() {
        let mut bench = Bench::new(config(&[1; 8]));
        let id = submit(&mut bench, job(ANN).gang(8, 1));
        assert!(bench.is_live(id));
        let away = |bench: &Bench| nodes_away(bench.engine.state(), &bench.engine.state().jobs[&id]);
        assert_eq!(away(&bench), (Vec::new(), 0));
        for i in 2..9 {
            let node = format!("n{i}");
            bench.input(crate::input::Input::NodeSilent { node, reason: "cut".to_owned() });
        }
        let (named, count) = away(&bench);
        assert_eq!((named.len(), count), (HOLDERS_NAMED_MAX, 7));
        assert_eq!(named[0], NodeId(1));
    }
}
