//! Why a task of the batch service does not run, as far as that is the service's own doing.

use std::fmt;
use std::sync::Arc;

use super::job::{BatchJob, JobPhase, JobWord};
use super::pool::{BatchPool, PoolAllocation};
use super::task::{BatchTask, TaskState, TaskWord};
use crate::batch::{BatchPoolKey, BatchTaskKey, FoldedId, IdRange, NodeMove};
use crate::ids::{JobId, NodeId};
use crate::notation::counted;
use crate::state::State;

/// Most of the tasks that a task waits for that are named.
const NAMED_MAX: usize = 10;
/// Most tasks of a range that are looked at.
const RANGE_LOOKED_AT_MAX: u32 = 1000;
/// Most digits of an id that stands for a number, with its zeros in front.
const DIGITS_MAX: usize = 10;

/// Why a task does not run, or what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchWhy {
    /// Its job starts nothing at present.
    JobDisabled,
    /// Its job has come to its end, and starts nothing any more.
    JobOver {
        /// The job's phase.
        phase: JobWord,
    },
    /// It depends on other tasks.
    Depends {
        /// Some of those that are open.
        on: Vec<Open>,
        /// How many more there are.
        others: usize,
    },
    /// There is no such pool.
    NoPool {
        /// Its id.
        pool: FoldedId,
    },
    /// Its pool is being deleted.
    PoolDeleting,
    /// Its pool cannot hold it as the pool is.
    NeverFits(Misfit),
    /// It needs more nodes at once than its pool has.
    TooFewNodes {
        /// How many it needs.
        needed: u32,
        /// How many the pool has.
        has: u32,
        /// How many it is to have.
        target: u32,
    },
    /// Its pool has no node that takes tasks.
    NoNodes {
        /// How many the pool is to have.
        target: u32,
        /// How many it has.
        has: u32,
        /// How many of those wait for their start task, or have failed it.
        not_started: u32,
        /// Whether the pool still tries to get more.
        is_resizing: bool,
        /// Why it gave up, if it did.
        error: Option<String>,
    },
    /// As many tasks of its job run or wait in the queue as may.
    RunningMax {
        /// How many may.
        running_max: u32,
    },
    /// No node is prepared for its job yet.
    NotPrepared {
        /// Nodes that are being prepared.
        under_way: u32,
        /// Nodes on which the preparation has failed.
        failed: u32,
    },
    /// Others of its job go before it.
    Behind {
        /// How many tasks of the job wait in the queue.
        queued: u64,
        /// How many slots the pool has for the job.
        slots: u64,
    },
    /// A node is being made ready for its job, because of it.
    Preparing {
        /// The node.
        node: NodeId,
    },
    /// It was made into a job of the cluster: what that does is the cluster's affair.
    Made {
        /// The job.
        job: JobId,
        /// Whether it has its nodes.
        is_placed: bool,
    },
    /// It has ended, and what becomes of it is being decided.
    Settling,
    /// It has completed.
    Completed,
}

/// Why a pool can never hold a task as the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It takes more slots than a node has.
    Slots {
        /// How many it takes.
        needed: u32,
        /// How many a node has.
        of: u32,
    },
    /// It is of several nodes, and the pool's nodes may not speak with each other.
    NotInterNode,
    /// It is of several nodes, and the pool's nodes have more than one slot.
    SeveralSlots {
        /// How many.
        slots: u32,
    },
}

/// Something that a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// A task.
    Task {
        /// Its id.
        id: String,
        /// How it stands.
        stands: Stands,
    },
    /// Tasks whose ids are the numbers of a range.
    Range {
        /// The range.
        range: IdRange,
        /// The first of them that is open, or the first that stands in the way for ever.
        number: u32,
        /// How that one stands.
        stands: Stands,
    },
}

/// How a task stands that another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It has not completed.
    Open(TaskWord),
    /// It is not there.
    Missing,
    /// It has completed in a way that satisfies nobody.
    Blocks,
}

impl Open {
    /// How the task stands.
    #[must_use]
    pub fn stands(&self) -> Stands {
        match self {
            Self::Task { stands, .. } | Self::Range { stands, .. } => *stands,
        }
    }
}

impl BatchWhy {
    /// One word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::JobDisabled => "jobDisabled",
            Self::JobOver { .. } => "jobOver",
            Self::Depends { .. } if self.is_for_ever() => "dependencyNever",
            Self::Depends { .. } => "dependency",
            Self::NoPool { .. } => "noPool",
            Self::PoolDeleting => "poolDeleting",
            Self::NeverFits(_) => "neverFits",
            Self::TooFewNodes { .. } => "tooFewNodes",
            Self::NoNodes { .. } => "noNodes",
            Self::RunningMax { .. } => "maxParallelTasks",
            Self::NotPrepared { .. } => "notPrepared",
            Self::Behind { .. } => "behind",
            Self::Preparing { .. } => "preparing",
            Self::Made { is_placed: false, .. } => "queued",
            Self::Made { is_placed: true, .. } => "placed",
            Self::Settling => "settling",
            Self::Completed => "completed",
        }
    }

    /// Whether it stays so until somebody does something about it.
    #[must_use]
    pub fn is_for_ever(&self) -> bool {
        match self {
            Self::JobOver { .. } | Self::NeverFits(_) => true,
            Self::Depends { on, .. } => on.iter().any(|open| open.stands() == Stands::Blocks),
            _ => false,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { needed, of } => {
                let (needed, of) = (counted(*needed, "slot"), counted(*of, "slot"));
                write!(f, "it takes {needed} of a node, and nodes of its pool have {of} (taskSlotsPerNode)")
            }
            Self::NotInterNode => {
                f.write_str("it is of several nodes, and its pool has no enableInterNodeCommunication")
            }
            Self::SeveralSlots { slots } => {
                write!(
                    f,
                    "it is of several nodes, and nodes of its pool have {slots} slots instead of one (taskSlotsPerNode)"
                )
            }
        }
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, of) = match self {
            Self::Task { id, .. } => (id.clone(), String::new()),
            Self::Range { range, number, .. } => {
                (number.to_string(), format!(" of those from {} to {}", range.start, range.end))
            }
        };
        match self.stands() {
            Stands::Open(word) => write!(f, "task {id}{of}, which is {}", word.as_str()),
            Stands::Missing => write!(f, "task {id}{of}, which its job does not have"),
            Stands::Blocks => {
                write!(
                    f,
                    "task {id}{of}, which has completed without letting it run: that lasts until {id} is reactivated and succeeds"
                )
            }
        }
    }
}

impl fmt::Display for BatchWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobDisabled => {
                f.write_str("its job is disabled, and starts tasks again when it is enabled")
            }
            Self::JobOver { phase } => {
                write!(f, "its job is {}, and what waits of it never runs", phase.as_str())
            }
            Self::Depends { on, others } => {
                f.write_str("it waits for ")?;
                for (i, open) in on.iter().enumerate() {
                    write!(f, "{}{open}", if i == 0 { "" } else { "; " })?;
                }
                if *others > 0 { write!(f, "; and for {others} more") } else { Ok(()) }
            }
            Self::NoPool { pool } => write!(f, "there is no pool '{pool}'; it may run once there is"),
            Self::PoolDeleting => f.write_str("its pool is being deleted"),
            Self::NeverFits(misfit) => write!(f, "its pool cannot hold it: {misfit}"),
            Self::TooFewNodes { needed, has, target } => {
                let needed = counted(*needed, "node");
                write!(f, "it needs {needed} at once, and its pool has {has}, and is to have {target}")
            }
            Self::NoNodes { target: 0, has: 0, .. } => {
                f.write_str("its pool has no nodes, and is to have none: resize it")
            }
            Self::NoNodes { target, has, not_started, is_resizing, error } => {
                let has = counted(*has, "node");
                write!(f, "no node of its pool takes tasks: it has {has}, and is to have {target}")?;
                if *not_started > 0 {
                    let these = counted(*not_started, "node");
                    write!(f, "; the start task has not succeeded on {these}")?;
                }
                match error {
                    Some(error) if !is_resizing => write!(f, "; {error}"),
                    _ => Ok(()),
                }
            }
            Self::RunningMax { running_max } => {
                write!(f, "as many tasks of its job run as may at once (maxParallelTasks is {running_max})")
            }
            Self::NotPrepared { under_way: 0, failed: 1.. } => {
                f.write_str("the job's preparation task has failed on the nodes of the pool")
            }
            Self::NotPrepared { under_way, .. } => {
                let nodes = counted(*under_way, "node");
                write!(f, "no node has room that is prepared for its job; {nodes} being prepared")
            }
            Self::Behind { queued, slots } => {
                let (slots, queued) = (counted(*slots, "slot"), counted(*queued, "task"));
                write!(
                    f,
                    "its turn has not come: {queued} of its job wait in the queue, where its pool has {slots}"
                )
            }
            Self::Preparing { .. } => f.write_str("a node is being prepared for its job"),
            Self::Made { job, is_placed: false } => {
                write!(f, "it is job {job} of the cluster, and waits there")
            }
            Self::Made { job, is_placed: true } => {
                write!(f, "it is job {job} of the cluster, and has its nodes")
            }
            Self::Settling => f.write_str("it has ended, and what becomes of it is being decided"),
            Self::Completed => f.write_str("it has completed"),
        }
    }
}

impl BatchPool {
    /// Why it can never hold tasks of so many slots on so many nodes, as it was made.
    #[must_use]
    pub fn misfit(&self, slots: u32, instances: u32) -> Option<Misfit> {
        let of = self.spec.slots_per_node;
        match (slots > of, instances > 1) {
            (true, _) => Some(Misfit::Slots { needed: slots, of }),
            (_, true) if !self.spec.inter_node => Some(Misfit::NotInterNode),
            (_, true) if of > 1 => Some(Misfit::SeveralSlots { slots: of }),
            _ => None,
        }
    }
}

impl State {
    /// Why a task does not run, or what it does; none if it is not there.
    #[must_use]
    pub fn batch_why(&self, key: &BatchTaskKey) -> Option<BatchWhy> {
        let (job, task) = self.batch_task(key)?;
        Some(match &task.state {
            TaskState::Completed(_) => BatchWhy::Completed,
            TaskState::Settling(_) => BatchWhy::Settling,
            TaskState::Made(made) => BatchWhy::Made { job: made.job, is_placed: made.started.is_some() },
            TaskState::Preparing { node } => BatchWhy::Preparing { node: *node },
            TaskState::Waiting { unmet } => waits(self, key, job, task, *unmet),
        })
    }
}

fn waits(state: &State, key: &BatchTaskKey, job: &BatchJob, task: &BatchTask, unmet: u32) -> BatchWhy {
    match &job.phase {
        JobPhase::Active => {}
        JobPhase::Disabling { .. } | JobPhase::Disabled => return BatchWhy::JobDisabled,
        over => return BatchWhy::JobOver { phase: over.word() },
    }
    if unmet > 0 {
        return depends(job, task);
    }
    let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
    let Some(pool) = state.batch.pool(&pool_key) else {
        return BatchWhy::NoPool { pool: job.spec.pool.clone() };
    };
    if pool.deleting.is_some() {
        return BatchWhy::PoolDeleting;
    }
    let shape = job.shape(task);
    if let Some(misfit) = pool.misfit(shape.slots, shape.instances()) {
        return BatchWhy::NeverFits(misfit);
    }
    if pool.slots() == 0 {
        return no_nodes(pool);
    }
    if !pool.holds(shape.slots, shape.instances()) {
        return BatchWhy::TooFewNodes { needed: shape.instances(), has: pool.lent(), target: pool.target };
    }
    if let Some(running_max) =
        job.spec.running_max.filter(|most| job.made().count() as u64 >= u64::from(*most))
    {
        return BatchWhy::RunningMax { running_max };
    }
    let slots = state.batch_slots(&key.job_key(), pool, job);
    if slots == 0 && job.spec.preparation.is_some() {
        let rows = || job.nodes.values().filter(|row| row.pool == job.spec.pool);
        let under_way = rows().filter(|row| row.is_being_prepared()).count() as u32;
        let failed = rows().filter(|row| row.preparation.is_over() && !row.is_ready(job)).count() as u32;
        return BatchWhy::NotPrepared { under_way, failed };
    }
    BatchWhy::Behind { queued: job.queued, slots }
}

fn no_nodes(pool: &BatchPool) -> BatchWhy {
    let lent = || pool.nodes.values().filter(|seat| seat.at == NodeMove::Lent);
    BatchWhy::NoNodes {
        target: pool.target,
        has: pool.lent(),
        not_started: lent().filter(|seat| !seat.is_started(pool)).count() as u32,
        is_resizing: pool.allocation != PoolAllocation::Steady,
        error: pool.errors.first().map(|error| error.message.clone()),
    }
}

fn depends(job: &BatchJob, task: &BatchTask) -> BatchWhy {
    let mut all: Vec<Open> = Vec::new();
    let depends = task.depends.as_deref();
    for id in depends.into_iter().flat_map(|depends| &depends.ids) {
        let on = job.tasks.get(&FoldedId::of(id));
        if let Some(stands) = on.map_or(Some(Stands::Missing), stands) {
            all.push(Open::Task { id: id.clone(), stands });
        }
    }
    let ranges = depends.into_iter().flat_map(|depends| &depends.ranges);
    all.extend(ranges.filter_map(|range| open_in(job, *range)));
    // What stands in the way for ever is said first.
    all.sort_by_key(|open| open.stands() != Stands::Blocks);
    let others = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    BatchWhy::Depends { on: all, others }
}

/// How a task stands that others wait for; none if they need not.
fn stands(task: &BatchTask) -> Option<Stands> {
    match task.completed() {
        Some(completed) if completed.satisfies => None,
        Some(_) => Some(Stands::Blocks),
        None => Some(Stands::Open(task.state.word())),
    }
}

/// The first task of a range that stands in the way for ever, or else the first that is open.
fn open_in(job: &BatchJob, range: IdRange) -> Option<Open> {
    if job.satisfied.holds(range.start, range.end) {
        return None;
    }
    let mut first: Option<(u32, Stands)> = None;
    let numbers = (range.start..=range.end).filter(|number| !job.satisfied.holds(*number, *number));
    for number in numbers.take(RANGE_LOOKED_AT_MAX as usize) {
        let stands = number_stands(job, number);
        if stands == Stands::Blocks {
            return Some(Open::Range { range, number, stands });
        }
        first = first.or(Some((number, stands)));
    }
    first.map(|(number, stands)| Open::Range { range, number, stands })
}

/// How the tasks stand whose ids are this number: `4`, `04` and `004` are all 4, and the first that succeeds satisfies.
fn number_stands(job: &BatchJob, number: u32) -> Stands {
    let digits = number.to_string().len();
    let ids = (digits..=DIGITS_MAX).map(|width| FoldedId::of(&format!("{number:0width$}")));
    let mut found = Stands::Missing;
    for task in ids.filter_map(|id| job.tasks.get(&id)) {
        match stands(task) {
            Some(Stands::Open(word)) => return Stands::Open(word),
            Some(Stands::Blocks) => found = Stands::Blocks,
            Some(Stands::Missing) | None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_say_what_is_lacking_and_whether_it_lasts() {
        let open = |id: &str, stands| Open::Task { id: id.to_owned(), stands };
        let waits = BatchWhy::Depends { on: vec![open("a", Stands::Open(TaskWord::Running))], others: 2 };
        assert_eq!(waits.to_string(), "it waits for task a, which is running; and for 2 more");
        assert_eq!((waits.code(), waits.is_for_ever()), ("dependency", false));
        let range = IdRange { start: 1, end: 9 };
        let blocked = BatchWhy::Depends {
            on: vec![Open::Range { range, number: 4, stands: Stands::Blocks }],
            others: 0,
        };
        assert_eq!((blocked.code(), blocked.is_for_ever()), ("dependencyNever", true));
        assert!(
            blocked.to_string().contains("task 4 of those from 1 to 9, which has completed"),
            "{blocked}"
        );
        let misfit = BatchWhy::NeverFits(Misfit::Slots { needed: 4, of: 2 });
        assert_eq!(
            misfit.to_string(),
            "its pool cannot hold it: it takes 4 slots of a node, and nodes of its pool have 2 slots (taskSlotsPerNode)"
        );
    }
}
