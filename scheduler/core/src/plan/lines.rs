//! Lines: short tasks of an array are handed to a node before it has room for them.
//!
//! Where tasks end within milliseconds, a node that asks for each of them waits longer than it works. So tasks of the array that is the
//! next to get any room are lined up behind one that runs: as its node ends one it starts the next, and tells of both later. A line is
//! short, and a node gives it back as soon as the task at its head turns out to be a long one, so that whoever comes meanwhile waits for
//! moments only. Where more than the array's own turn would have to be looked at (preemption, reservations, limits, licences), there
//! are no lines.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::eligible;
use super::index::Planner;
use super::pass::Pass;
use super::queue::{Head, Queue, keeps_all};
use crate::event::Allocation;
use crate::ids::{AttemptKey, JobId, TaskIndex, Timestamp};
use crate::spec::IndexRange;
use crate::state::{FIRST_ATTEMPT, Finished, FinishedHow, IndexSet, Job, State};

/// How many attempts wait in a line at most.
pub const LINE_MAX: usize = 64;
/// How long a line takes, if its tasks take as long as those before them, in tasks that are just short: whoever comes meanwhile waits for
/// about as long.
const LINE_TAKES: u64 = 5;
/// The shortest line: one that waits while another one starts.
const LINE_MIN: usize = 2;
/// Which part of a task that is just short is so little that to share it out would take as long: towards its end, what is left of an array
/// is handed out at once if it takes each of its places no longer.
const LITTLE: u64 = 5;
/// How many attempts run and wait in lines on one node at most, if each of its cores has one that runs: its agent holds 4,096, those
/// included that it has not yet been told to forget.
const NODE_HELD_MAX: usize = 3584;
/// So many of an array's tasks, the last ones that have finished, show how long its tasks take.
const SHOWN_BY: usize = 8;

/// Tasks that are lined up behind an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The last of its line so far.
    pub behind: AttemptKey,
    /// The tasks, in their order.
    pub indices: Vec<IndexRange>,
}

impl Pass<'_> {
    /// Lines tasks up behind attempts that have come to hold something since the last pass, or in this one.
    pub(super) fn line_up(&mut self, queues: &[Queue]) {
        let heirs = std::mem::take(&mut self.planner.came_to_hold);
        if !self.planner.rights.are_none() || !self.planner.advance.is_empty() {
            return;
        }
        let mut by_job: BTreeMap<JobId, Vec<AttemptKey>> = BTreeMap::new();
        let placed = self.plan.placements.iter().map(|placement| placement.key);
        for key in heirs.into_iter().chain(placed) {
            by_job.entry(key.task.job).or_default().push(key);
        }
        for (id, heads) in by_job {
            let Some(job) = self.state.jobs.get(&id) else { continue };
            let Some(lengths) = may_line_up(self.state, job, self.now) else { continue };
            if self.is_next(job, queues) {
                self.line_up_job(job, &heads, lengths);
            }
        }
    }

    /// Whether a job gets the next room that there is in its pool, and nobody else has a say in that.
    fn is_next(&self, job: &Job, queues: &[Queue]) -> bool {
        let is_its = |queue: &&Queue| queue.head == Head::Waits(job.id) && queue.reserved.is_none();
        let Some(queue) = queues.iter().find(is_its) else { return false };
        let (pool, config) = (&self.planner.pools[queue.pool], &self.planner.config.pools[queue.pool]);
        !pool.overlaps && pool.lent.is_empty() && !keeps_all(config)
    }

    fn line_up_job(&mut self, job: &Job, heads: &[AttemptKey], lengths: Lengths) {
        let placed: HashMap<TaskIndex, &Allocation> = (self.plan.placements.iter())
            .filter(|placement| placement.key.task.job == job.id)
            .map(|placement| (placement.key.task.index, &*placement.allocation))
            .collect();
        let most = lengths.now(job, placed.len(), self.planner.holders(job.id));
        let ends = heads.iter().filter_map(|head| match placed.get(&head.task.index) {
            Some(allocation) => self.takes_lines(allocation).map(|here| (*head, 0, most.min(here))),
            None => self.short_line(job, *head, most),
        });
        // Behind whom, how many wait there, and how many may.
        let ends: Vec<(AttemptKey, usize, usize)> = ends.collect();
        if ends.is_empty() {
            return;
        }
        let is_new =
            |index: &TaskIndex| !placed.contains_key(index) && job.next_attempt(*index) == FIRST_ATTEMPT;
        let mut waiting = eligible::indices(job, self.now).filter(is_new);
        for (behind, length, most) in ends {
            let more = most.saturating_sub(length);
            let mut indices = IndexSet::default();
            waiting.by_ref().take(more).for_each(|index| indices.insert(index.0));
            if !indices.is_empty() {
                self.plan.lines.push(Line { behind, indices: indices.ranges().collect() });
            }
        }
    }

    /// How many others may wait to go on with an allocation, one after the other; `None` if its node takes no lines.
    fn takes_lines(&self, allocation: &Allocation) -> Option<usize> {
        let [share] = &allocation.shares[..] else { return None };
        let node = self.state.node(share.node);
        let hardware = node.hardware().filter(|hardware| node.takes_work() && hardware.takes_lines)?;
        let cores = hardware.cores.len().max(1);
        Some(NODE_HELD_MAX.saturating_sub(cores) / cores)
    }

    /// The end of a line that is to become longer, how many wait in it, and how many may.
    fn short_line(&self, job: &Job, head: AttemptKey, most: usize) -> Option<(AttemptKey, usize, usize)> {
        let live = job.live.get(&head.task.index).filter(|live| live.attempt == head.attempt)?;
        let most = most.min(self.takes_lines(&live.allocation).filter(|_| live.holds_allocation())?);
        let line = std::iter::successors(self.state.behind(head), |key| self.state.behind(*key));
        // One more than makes it short: how long a long one is does not matter.
        let (length, end) = line.take(most / 2 + 1).fold((0, head), |(length, _), key| (length + 1, key));
        (length <= most / 2).then_some((end, length, most))
    }
}

/// How many tasks of a job may wait in a line.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    /// As long as there are many.
    most: usize,
    /// How many take so little time together that it does not matter who has them.
    little: usize,
}

impl Lengths {
    /// How many may wait at present. In this pass so many tasks of the job were placed, and with them so many hold an allocation. Each of
    /// those has the same part in what has not begun; it gets half of that part at once, or all of it if that is little, so that
    /// all places have work until the end.
    fn now(self, job: &Job, placed: usize, holders: usize) -> usize {
        let waiting = usize::try_from(job.waiting.len()).unwrap_or(usize::MAX).saturating_sub(placed);
        let lined_up = (job.live.len() + placed).saturating_sub(holders);
        let part = waiting.saturating_add(lined_up).div_ceil(holders.max(1));
        part.min(self.little).max(part / 2).min(self.most)
    }
}

/// How many tasks of a job may wait in a line; `None` if they are not short, or something else than room says when they start.
fn may_line_up(state: &State, job: &Job, now: Timestamp) -> Option<Lengths> {
    let spec = &job.spec;
    let is_plain = spec.array.as_ref().is_some_and(|array| array.running_max.is_none())
        // What was in a line when its node was lost may have run.
        && spec.requeue
        && spec.eligibility.is_default()
        && spec.request.switches.is_none()
        && spec.reservation.is_none()
        && spec.licenses.is_empty()
        && spec.starts_at_once(1)
        && state.qos_left(spec).is_none();
    let short_us = state.config.policy.short_task_ms * 1_000;
    if !is_plain || short_us == 0 || eligible::job(job, now).is_err() {
        return None;
    }
    let takes_us = short_tasks_take_us(job, short_us)?.max(1);
    let within = |time_us: u64| usize::try_from(time_us / takes_us).unwrap_or(usize::MAX);
    let most = within(LINE_TAKES.saturating_mul(short_us)).clamp(LINE_MIN, LINE_MAX);
    Some(Lengths { most, little: within(short_us / LITTLE) })
}

/// How long the last tasks of a job took, in the mean, if all of them were short. Ends in lines are told late, and those of one line at
/// the same instant, so that what the node says counts.
fn short_tasks_take_us(job: &Job, short_us: u64) -> Option<u64> {
    let took_us = |finished: &Finished| match &finished.how {
        FinishedHow::Ran { started_at: Some(started_at), usage, .. } => {
            let by_clock = || finished.at.micros_since(*started_at);
            let took_us = Some(usage.ran_us).filter(|ran_us| *ran_us > 0).unwrap_or_else(by_clock);
            (took_us <= short_us).then_some(took_us)
        }
        _ => None,
    };
    let last = job.finished.values().rev().take(SHOWN_BY).map(took_us).collect::<Option<Vec<u64>>>()?;
    (last.len() == SHOWN_BY).then(|| last.iter().sum::<u64>() / SHOWN_BY as u64)
}

impl Planner {
    /// An attempt of a line has come to hold an allocation: the next pass looks at its line.
    pub(super) fn note_heir(&mut self, state: &State, key: AttemptKey) {
        if state.jobs.get(&key.task.job).is_some_and(|job| !job.waiting.is_empty()) {
            self.came_to_hold.insert(key);
        }
    }
}

/// Attempts that have come to hold an allocation since the last pass.
pub(super) type CameToHold = BTreeSet<AttemptKey>;
