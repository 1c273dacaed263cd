//! Waiting jobs of a pool, grouped by what they ask for.
//!
//! Jobs that ask for the same differ only in age: if the oldest does not fit, none does. A pass therefore looks
//! at one job of each group, however many wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::HashMap;

use super::order::Shape;
use crate::cluster::{Order, QosConfig};
use crate::common::Common;
use crate::ids::{JobId, Timestamp};
use crate::preempt::Rank;
use crate::priority::Claim;
use crate::spec::{JobSpec, Request};
use crate::state::{Job, State};

/// What makes jobs equal to the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    pub priority: i32,
    pub limit_s: Option<u64>,
    /// How short an attempt may be, and the deadline by which it then ends: such jobs may fit where others do not.
    pub shortest: Option<(u64, Option<Timestamp>)>,
    /// The place of the quality of service in the configuration.
    pub qos: Option<u32>,
    pub request: Common<Request>,
    pub reservation: Option<String>,
    /// In pools with the order `multifactor`.
    pub standing: Option<Box<Standing>>,
    /// What else decides how many of their tasks may run.
    pub limited: Option<Box<Limited>>,
}

/// What decides how many tasks may run, beside room.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Limited {
    /// The quality of service and the user, where it limits how many tasks of a user run.
    of_user: Option<(String, u32)>,
    /// Licences.
    licenses: BTreeMap<String, u32>,
}

impl Limited {
    fn of(state: &State, spec: &JobSpec) -> Option<Box<Self>> {
        let limits = |qos: &&QosConfig| qos.running_per_user_max.is_some();
        let of_user = state.qos_of(spec).filter(limits).map(|qos| (qos.name.clone(), spec.user.uid));
        let is_free = of_user.is_none() && spec.licenses.is_empty();
        (!is_free).then(|| Box::new(Self { of_user, licenses: spec.licenses.clone() }))
    }
}

/// What the priority sum looks at beside the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    account: Option<String>,
    user: String,
    qos: Option<String>,
    priority: i32,
}

impl ClassKey {
    fn of(state: &State, job: &Job, by_sum: bool) -> Self {
        let spec = &job.spec;
        let place = |name: &String| state.config.qos.iter().position(|qos| qos.name == *name);
        Self {
            priority: state.priority_of(spec),
            limit_s: spec.time_limit_s,
            shortest: spec.eligibility.time_min_s.map(|least| (least, spec.eligibility.deadline)),
            qos: spec.qos.as_ref().and_then(place).map(|place| place as u32),
            request: spec.request.clone(),
            reservation: spec.reservation.clone(),
            standing: by_sum.then(|| {
                Box::new(Standing {
                    account: spec.account.clone(),
                    user: spec.user.name.clone(),
                    qos: spec.qos.clone(),
                    priority: spec.priority,
                })
            }),
            limited: Limited::of(state, spec),
        }
    }

    /// The shortest that an attempt may be, in seconds; none without a limit.
    pub fn shortest_s(&self) -> Option<u64> {
        self.shortest.map(|(least, _)| least).or(self.limit_s)
    }

    fn claim(&self) -> Option<Claim<'_>> {
        let standing = self.standing.as_ref()?;
        Some(Claim {
            account: standing.account.as_deref(),
            user: &standing.user,
            qos: standing.qos.as_deref(),
            priority: standing.priority,
            cores: self.request.cores_total(),
        })
    }
}

/// A group of equal jobs, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub key: Arc<ClassKey>,
    pub jobs: BTreeSet<JobId>,
}

/// What a pass asks of every group, close together in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub job: JobId,
    pub priority: i32,
    pub qos: Option<u32>,
    pub rank: Option<Rank>,
    pub shape: Shape,
    pub cores: u64,
    pub nodes_min: u32,
    /// Whether its jobs use an advance reservation.
    pub reserved: bool,
    /// Whether something beside room limits how many of these tasks run.
    pub limited: bool,
}

/// All groups of a pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Classes {
    by_key: HashMap<Arc<ClassKey>, u32>,
    by_job: HashMap<JobId, u32>,
    classes: Vec<Option<Class>>,
    heads: Vec<Option<Head>>,
    vacant: Vec<u32>,
    /// Those whose jobs use an advance reservation.
    reserved: BTreeSet<u32>,
    /// Whether the pool's order is `multifactor`.
    by_sum: bool,
}

impl Classes {
    /// No groups, of a pool with this order.
    pub fn new(order: Order) -> Self {
        Self { by_sum: order == Order::Multifactor, ..Self::default() }
    }

    /// Puts a job among its equals.
    pub fn admit(&mut self, state: &State, job: &Job) {
        let key = ClassKey::of(state, job, self.by_sum);
        let class = match self.by_key.get(&key) {
            Some(class) => *class,
            None => self.open(Arc::new(key)),
        };
        self.by_job.insert(job.id, class);
        if let Some(group) = &mut self.classes[class as usize]
            && group.jobs.insert(job.id)
            && group.jobs.first() == Some(&job.id)
        {
            self.new_head(state, class);
        }
    }

    fn open(&mut self, key: Arc<ClassKey>) -> u32 {
        let class = self.vacant.pop().unwrap_or(self.classes.len() as u32);
        if class as usize == self.classes.len() {
            self.classes.push(None);
            self.heads.push(None);
        }
        self.by_key.insert(Arc::clone(&key), class);
        if key.reservation.is_some() {
            self.reserved.insert(class);
        }
        self.classes[class as usize] = Some(Class { key, jobs: BTreeSet::new() });
        class
    }

    /// Takes a job out.
    pub fn dismiss(&mut self, state: &State, job: JobId) {
        let Some(class) = self.by_job.remove(&job) else { return };
        let Some(group) = &mut self.classes[class as usize] else { return };
        let was_head = group.jobs.first() == Some(&job);
        group.jobs.remove(&job);
        if group.jobs.is_empty() {
            self.by_key.remove(&group.key);
            self.classes[class as usize] = None;
            self.heads[class as usize] = None;
            self.vacant.push(class);
            self.reserved.remove(&class);
        } else if was_head {
            self.new_head(state, class);
        }
    }

    fn new_head(&mut self, state: &State, class: u32) {
        let Some(group) = &self.classes[class as usize] else { return };
        let standing = self.heads[class as usize].map_or(0.0, |head| head.shape.standing);
        let oldest = group.jobs.first().and_then(|id| state.jobs.get(id));
        self.heads[class as usize] = oldest.map(|job| head(&group.key, job, standing));
    }

    /// Asks `of` for the part of each group's priority sum that does not depend on a job's age.
    pub fn weigh(&mut self, of: impl Fn(Claim<'_>) -> f64) {
        for (group, head) in self.classes.iter().zip(&mut self.heads) {
            if let (Some(claim), Some(head)) = (group.as_ref().and_then(|group| group.key.claim()), head) {
                head.shape.standing = of(claim);
            }
        }
    }

    pub fn get(&self, class: u32) -> Option<&Class> {
        self.classes.get(class as usize)?.as_ref()
    }

    /// The groups whose jobs use an advance reservation.
    pub fn reserved(&self) -> impl Iterator<Item = u32> + '_ {
        self.reserved.iter().copied()
    }

    /// The oldest job of a group.
    pub fn head(&self, class: u32) -> Option<&Head> {
        self.heads.get(class as usize)?.as_ref()
    }

    /// The groups with their oldest jobs.
    pub fn heads(&self) -> impl Iterator<Item = (u32, &Head)> {
        self.heads.iter().enumerate().filter_map(|(i, head)| Some((i as u32, head.as_ref()?)))
    }

    /// What an order looks at for a job of the group that is not the oldest.
    pub fn shape(&self, class: u32, submitted_at: Timestamp) -> Option<Shape> {
        let head = self.heads.get(class as usize)?.as_ref()?;
        Some(Shape { since: submitted_at, ..head.shape })
    }

    /// The job after `job` in its group.
    pub fn next(&self, class: u32, job: JobId) -> Option<JobId> {
        self.get(class)?.jobs.range((Bound::Excluded(job), Bound::Unbounded)).next().copied()
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many jobs wait here.
    pub fn jobs(&self) -> usize {
        self.classes.iter().flatten().map(|class| class.jobs.len()).sum()
    }
}

fn head(key: &ClassKey, job: &Job, standing: f64) -> Head {
    let cores = key.request.cores_total();
    Head {
        job: job.id,
        priority: key.priority,
        qos: key.qos,
        rank: key.request.rank,
        shape: Shape {
            since: job.submitted_at,
            limit_s: key.limit_s.map_or(1e12, |limit| limit.max(1) as f64),
            cores: cores as f64,
            standing,
        },
        cores,
        nodes_min: key.request.nodes_min(),
        reserved: key.reservation.is_some(),
        limited: key.limited.is_some(),
    }
}
