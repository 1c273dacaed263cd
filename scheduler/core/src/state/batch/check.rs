//! What must hold of the batch service in every state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chore::{self, ready_for};
use super::happen::job_work;
use super::job::BatchJob;
use super::low;
use super::pool::{PoolAllocation, with_pools, work};
use super::schedule;
use super::task::{Counts, TaskState};
use crate::batch::{ChoreKey, FoldedId, NodeMove, ScheduleKey};
use crate::ids::NodeId;
use crate::state::State;

impl State {
    /// The name of an index of the batch service that does not follow from its records, or of what cannot be.
    pub(in crate::state) fn batch_broken(&self) -> Option<&'static str> {
        let batch = &self.batch;
        if batch.is_empty() {
            return None;
        }
        self.broken_schedules()
            .or_else(|| self.broken_pools())
            .or_else(|| self.broken_jobs())
            .or_else(|| self.broken_chores())
            .or_else(|| {
                let broken = batch.jobs().find_map(|(_, job)| broken_tasks(job));
                broken.or_else(|| {
                    let config = match &batch.declared {
                        Some(declared) => with_pools(declared, batch.pools(), self) == *self.config,
                        None => batch.pools().next().is_none(),
                    };
                    (!config).then_some("pools of the batch service in the configuration")
                })
            })
    }

    fn broken_pools(&self) -> Option<&'static str> {
        let batch = &self.batch;
        let mut holders = BTreeMap::new();
        let (mut due, mut resizing, mut give_up) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut scales, mut retained) = (BTreeSet::new(), BTreeSet::new());
        for (key, pool) in batch.pools() {
            retained.extend(pool.retained_until().map(|at| (at, key.clone())));
            scales.extend(pool.scale.as_ref().map(|scale| (scale.due(), key.clone())));
            for (node, seat) in &pool.nodes {
                let is_place = matches!(seat.at, NodeMove::Claimed | NodeMove::Lent | NodeMove::Leaving);
                if !is_place || holders.insert(*node, key.clone()).is_some() {
                    return Some("a node is lent twice");
                }
            }
            if work(self, pool).is_some() {
                due.insert(key.clone());
            }
            let moves = pool.nodes.values().any(|seat| seat.at != NodeMove::Lent);
            if moves || pool.deleting.is_some() || pool.allocation != PoolAllocation::Steady {
                resizing.insert(key.clone());
            }
            if let (PoolAllocation::Resizing { until, .. }, None) = (&pool.allocation, pool.deleting) {
                give_up.insert((*until, key.clone()));
            }
        }
        // What is lent takes work of its borrower only.
        for (key, job, live) in self.live() {
            let of = batch.made.get(&key.task.job).map(|task| &task.account);
            for share in &live.allocation.shares {
                let Some(holder) = holders.get(&share.node) else { continue };
                let seat = batch.pool(holder).and_then(|pool| pool.nodes.get(&share.node));
                let is_lent =
                    seat.is_some_and(|seat| seat.at == NodeMove::Lent && seat.since < live.placed_at);
                let is_of_pool = job.spec.pool.as_deref() == Some(&holder.pool_name());
                if is_lent && (!is_of_pool || of.is_some_and(|account| *account != holder.account)) {
                    return Some("work of others on a node that is lent");
                }
            }
        }
        let checks = [
            ("nodes that are lent", holders == batch.holders),
            ("pools with something to do", due == batch.pools_due),
            ("pools that are being resized", resizing == batch.resizing),
            ("ends of resizes", give_up == batch.give_up),
            ("pools that scale themselves", scales == batch.scales),
            ("ends of what is kept on nodes", retained == batch.retained),
            ("low-priority nodes", low::is_sound(self)),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(index, _)| *index)
    }

    fn broken_schedules(&self) -> Option<&'static str> {
        let (mut due, mut times) = (BTreeSet::new(), BTreeSet::new());
        for (account, all) in &self.batch.accounts {
            for (id, of) in &all.schedules {
                let key = ScheduleKey { account: Arc::clone(account), schedule: id.clone() };
                if schedule::work(self, &key, of).is_some() {
                    due.insert(key.clone());
                }
                times.extend(schedule::due_at(self, &key, of).map(|at| (at, key)));
            }
        }
        let checks = [
            ("schedules with something to do", due == self.batch.schedules_due),
            ("times of schedules", times == self.batch.schedule_times),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(index, _)| *index)
    }

    fn broken_chores(&self) -> Option<&'static str> {
        let batch = &self.batch;
        let mut all: BTreeMap<ChoreKey, &super::ChoreRun> = BTreeMap::new();
        for (key, pool) in batch.pools() {
            let starts = pool.nodes.iter().filter_map(|(node, seat)| Some((*node, seat.start.as_ref()?)));
            all.extend(starts.map(|(node, run)| (ChoreKey::start(&key, node), run)));
        }
        for (key, job) in batch.jobs() {
            for (node, row) in &job.nodes {
                all.insert(ChoreKey::preparation(&key, *node), &row.preparation);
                all.extend(row.release.as_ref().map(|run| (ChoreKey::release(&key, *node), run)));
            }
        }
        let made = all.iter().all(|(key, run)| match &run.state {
            super::ChoreState::Made(made) => batch.chores_made.get(&made.job) == Some(key),
            _ => true,
        });
        let lives = |job| self.jobs.get(job).is_some_and(|job| job.finished_at.is_none());
        let known = all.keys().chain(batch.chores_made.values());
        let open: BTreeSet<ChoreKey> = known.filter(|key| chore::is_open(self, key)).cloned().collect();
        let due = open.iter().filter(|key| chore::chore_work(self, key).is_some());
        let is_preparing = |job: &BatchJob| job.spec.preparation.is_some() && !job.is_completed();
        let preparing = batch.jobs().filter(|(_, job)| is_preparing(job)).map(|(key, _)| key);
        let nodes = (0..).map(NodeId).zip(&self.nodes);
        let checks = [
            ("chores by their jobs of the cluster", made && batch.chores_made.keys().all(lives)),
            ("chores with something to do", due.eq(&batch.chores_due)),
            ("chores that are not over", open == batch.chores_open),
            ("jobs with a preparation task", preparing.eq(batch.preparing.iter().cloned())),
            (
                "what nodes are ready for",
                nodes.into_iter().all(|(id, node)| node.ready_for == ready_for(self, id)),
            ),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(index, _)| *index)
    }

    fn broken_jobs(&self) -> Option<&'static str> {
        let batch = &self.batch;
        let (mut made, mut due, mut ends) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for (key, job) in batch.jobs() {
            for (id, task) in &job.tasks {
                let TaskState::Made(of) = &task.state else { continue };
                let there = self.jobs.get(&of.job);
                let started = there.is_some_and(|job| !job.live.is_empty());
                if there.is_none_or(|job| job.finished_at.is_some()) || started != of.started.is_some() {
                    return Some("a task and the job of the cluster that it was made into");
                }
                made.insert(of.job, key.task(id.clone()));
            }
            if job_work(self, &key, job).is_some() {
                due.insert(key.clone());
            }
            ends.extend(job.must_end_at().map(|at| (at, key.clone())));
        }
        let active = batch.accounts.values().all(|account| {
            let active = account.jobs.iter().filter(|(_, job)| !job.is_completed()).map(|(id, _)| id);
            active.eq(account.active_jobs.iter())
        });
        let checks = [
            ("tasks by their jobs of the cluster", made == batch.made),
            ("jobs with something to do", due == batch.jobs_due),
            ("ends of jobs", ends == batch.job_ends),
            ("active jobs", active),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(index, _)| *index)
    }
}

/// The same of one job's tasks.
fn broken_tasks(job: &BatchJob) -> Option<&'static str> {
    let mut fresh = BatchJob { tasks: job.tasks.clone(), shapes: job.shapes.clone(), ..blank(job) };
    let ids: Vec<FoldedId> = job.tasks.keys().cloned().collect();
    ids.iter().for_each(|id| fresh.enter_task(id, true));
    let mut shapes: BTreeMap<u32, u32> = BTreeMap::new();
    job.tasks.values().for_each(|task| *shapes.entry(task.shape).or_default() += 1);
    let waits = |id: &FoldedId| {
        job.tasks.get(id).is_some_and(|task| matches!(task.state, TaskState::Waiting { unmet: 1.. }))
    };
    let mut waiting = job.dependents.values().flatten().chain(&job.range_dependents);
    let unmet = job.tasks.iter().all(|(id, task)| match task.state {
        TaskState::Waiting { unmet } if unmet > 0 => {
            let ids = job.dependents.values().filter(|all| all.contains(id)).count();
            let ranges = task.depends.iter().flat_map(|depends| &depends.ranges);
            let open = ranges.filter(|range| !job.satisfied.holds(range.start, range.end)).count();
            ids + open == unmet as usize
        }
        _ => true,
    });
    let checks = [
        ("counts of tasks", fresh.counts == job.counts),
        ("tasks that may run", fresh.ready == job.ready),
        ("tasks that were made into jobs", fresh.made == job.made && fresh.queued == job.queued),
        ("tasks to be settled", fresh.settling == job.settling),
        ("shapes of tasks", shapes.into_iter().eq(job.shapes.tasks())),
        ("tasks that wait for others", waiting.all(waits) && unmet),
    ];
    checks.iter().find(|(_, holds)| !holds).map(|(index, _)| *index)
}

fn blank(job: &BatchJob) -> BatchJob {
    let mut blank = BatchJob::new(&Arc::clone(&job.spec), &job.by, job.version, job.created);
    blank.counts = Counts::default();
    blank
}
