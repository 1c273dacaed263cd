//! Waiting jobs of a pool, grouped by what they ask for.
//!
//! Jobs that ask for the same differ only in age: if the oldest does not fit, none does. A pass therefore looks
//! at one job of each group, however many wait.

use std::collections::BTreeSet;
use std::ops::Bound;

use foldhash::HashMap;

use super::order::Shape;
use crate::ids::{JobId, Timestamp};
use crate::spec::Request;
use crate::state::{Job, State};

/// What makes jobs equal to the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    pub priority: i32,
    pub limit_s: Option<u64>,
    pub request: Request,
    pub reservation: Option<String>,
}

impl ClassKey {
    fn of(job: &Job) -> Self {
        Self {
            priority: job.spec.priority,
            limit_s: job.spec.time_limit_s,
            request: job.spec.request.clone(),
            reservation: job.spec.reservation.clone(),
        }
    }
}

/// A group of equal jobs, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub key: ClassKey,
    pub jobs: BTreeSet<JobId>,
}

/// What a pass asks of every group, close together in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub job: JobId,
    pub priority: i32,
    pub shape: Shape,
    pub cores: u64,
    pub nodes_min: u32,
    /// Whether its jobs use an advance reservation.
    pub reserved: bool,
}

/// All groups of a pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Classes {
    by_key: HashMap<ClassKey, u32>,
    classes: Vec<Option<Class>>,
    heads: Vec<Option<Head>>,
    vacant: Vec<u32>,
    /// Those whose jobs use an advance reservation.
    reserved: BTreeSet<u32>,
}

impl Classes {
    /// Puts a job among its equals.
    pub fn admit(&mut self, state: &State, job: &Job) {
        let key = ClassKey::of(job);
        let class = match self.by_key.get(&key) {
            Some(class) => *class,
            None => self.open(key),
        };
        if let Some(group) = &mut self.classes[class as usize]
            && group.jobs.insert(job.id)
            && group.jobs.first() == Some(&job.id)
        {
            self.new_head(state, class);
        }
    }

    fn open(&mut self, key: ClassKey) -> u32 {
        let class = self.vacant.pop().unwrap_or(self.classes.len() as u32);
        if class as usize == self.classes.len() {
            self.classes.push(None);
            self.heads.push(None);
        }
        self.by_key.insert(key.clone(), class);
        if key.reservation.is_some() {
            self.reserved.insert(class);
        }
        self.classes[class as usize] = Some(Class { key, jobs: BTreeSet::new() });
        class
    }

    /// Takes a job out.
    pub fn dismiss(&mut self, state: &State, job: &Job) {
        let key = ClassKey::of(job);
        let Some(&class) = self.by_key.get(&key) else { return };
        let Some(group) = &mut self.classes[class as usize] else { return };
        let was_head = group.jobs.first() == Some(&job.id);
        group.jobs.remove(&job.id);
        if group.jobs.is_empty() {
            self.by_key.remove(&key);
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
        let head = group.jobs.first().and_then(|id| state.jobs.get(id)).map(|job| head(&group.key, job));
        self.heads[class as usize] = head;
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

    /// How many jobs wait here.
    pub fn jobs(&self) -> usize {
        self.classes.iter().flatten().map(|class| class.jobs.len()).sum()
    }
}

fn head(key: &ClassKey, job: &Job) -> Head {
    let cores = key.request.cores_total();
    Head {
        job: job.id,
        priority: key.priority,
        shape: Shape {
            since: job.submitted_at,
            limit_s: key.limit_s.map_or(1e12, |limit| limit.max(1) as f64),
            cores: cores as f64,
        },
        cores,
        nodes_min: key.request.nodes_min(),
        reserved: key.reservation.is_some(),
    }
}
