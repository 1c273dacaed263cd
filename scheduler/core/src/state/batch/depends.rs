//! What tasks wait for.

use std::collections::BTreeSet;

use super::job::BatchJob;
use super::task::{BatchTask, TaskState};
use crate::batch::{FoldedId, NewTask};

/// How many of the things that a new task depends on are still to come.
pub(super) fn unmet(job: &BatchJob, new: &NewTask) -> u32 {
    let Some(depends) = new.depends.as_deref() else { return 0 };
    let ids: BTreeSet<FoldedId> = depends.ids.iter().map(|id| FoldedId::of(id)).collect();
    let ids = ids.iter().filter(|id| !satisfies(job, id)).count();
    let ranges = depends.ranges.iter().filter(|range| !job.satisfied.holds(range.start, range.end)).count();
    (ids + ranges) as u32
}

fn satisfies(job: &BatchJob, id: &FoldedId) -> bool {
    job.tasks.get(id).and_then(BatchTask::completed).is_some_and(|completed| completed.satisfies)
}

/// Notes what a waiting task waits for.
pub(super) fn enter(job: &mut BatchJob, id: &FoldedId, task: &BatchTask) {
    let (Some(depends), TaskState::Waiting { unmet: 1.. }) = (task.depends.as_deref(), &task.state) else {
        return;
    };
    for on in depends.ids.iter().map(|id| FoldedId::of(id)) {
        if !satisfies(job, &on) {
            job.dependents.entry(on).or_default().insert(id.clone());
        }
    }
    if depends.ranges.iter().any(|range| !job.satisfied.holds(range.start, range.end)) {
        job.range_dependents.insert(id.clone());
    }
}

/// A task has satisfied those that depend on it.
pub(super) fn satisfied(job: &mut BatchJob, by: &FoldedId) {
    let mut fewer: Vec<(FoldedId, u32)> =
        job.dependents.remove(by).into_iter().flatten().map(|id| (id, 1)).collect();
    if let Some(number) = by.number() {
        let before = job.satisfied.clone();
        job.satisfied.insert(number);
        let mut done = Vec::new();
        for id in &job.range_dependents {
            let ranges = job.tasks.get(id).and_then(|task| task.depends.as_deref());
            let (mut now, mut left) = (0, false);
            for range in ranges.into_iter().flat_map(|depends| &depends.ranges) {
                let holds = job.satisfied.holds(range.start, range.end);
                now += u32::from(holds && !before.holds(range.start, range.end));
                left |= !holds;
            }
            if now > 0 {
                fewer.push((id.clone(), now));
            }
            if !left {
                done.push(id.clone());
            }
        }
        job.range_dependents.retain(|id| !done.contains(id));
    }
    for (id, by) in fewer {
        job.change(&id, |task| {
            if let TaskState::Waiting { unmet } = &mut task.state {
                *unmet = unmet.saturating_sub(by);
            }
        });
    }
}

/// A task that waits no more waits for nothing.
pub(super) fn forget(job: &mut BatchJob, id: &FoldedId) {
    let Some(depends) = job.tasks.get(id).and_then(|task| task.depends.clone()) else { return };
    for on in depends.ids.iter().map(|id| FoldedId::of(id)) {
        if let Some(all) = job.dependents.get_mut(&on) {
            all.remove(id);
            if all.is_empty() {
                job.dependents.remove(&on);
            }
        }
    }
    job.range_dependents.remove(id);
}
