//! What the controller has done, for those who watch it: counted in memory, and lost with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use muster_client::api::{CallerFigures, PassFigures, RequestFigures, TaskCounts};
use muster_core::event::{Event, Record, Verdict};
use muster_core::ids::Timestamp;
use muster_core::plan::Effort;
use muster_core::spec::JobSpec;

/// Users that are counted one by one; all others are counted together.
const CALLERS_MAX: usize = 10_000;
/// Kinds of requests that are counted one by one: more than there are routes and messages.
const KINDS_MAX: usize = 256;

/// How often something was asked, and how long that took.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    count: u64,
    total_us: u64,
}

impl Asked {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total_us += micros(took);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Since when.
    pub since: Timestamp,
    /// What became of tasks. What waits and runs at present is not counted here.
    pub tasks: TaskCounts,
    /// The scheduling passes.
    pub passes: PassFigures,
    requests: BTreeMap<String, Asked>,
    callers: BTreeMap<Option<u32>, Asked>,
}

impl Counts {
    /// What was asked, most often first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestFigures> {
        let figures = |(what, asked): (&String, &Asked)| RequestFigures {
            what: what.clone(),
            count: asked.count,
            total_us: asked.total_us,
        };
        let mut all: Vec<RequestFigures> = self.requests.iter().map(figures).collect();
        all.sort_by_key(|figures| std::cmp::Reverse(figures.count));
        all
    }

    /// Who asked, most often first.
    #[must_use]
    pub fn callers(&self) -> Vec<CallerFigures> {
        let figures = |(uid, asked): (&Option<u32>, &Asked)| CallerFigures {
            uid: *uid,
            count: asked.count,
            total_us: asked.total_us,
        };
        let mut all: Vec<CallerFigures> = self.callers.iter().map(figures).collect();
        all.sort_by_key(|figures| std::cmp::Reverse(figures.count));
        all
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::JobSubmitted { spec, .. } => self.tasks.submitted += task_count(spec),
            Event::AttemptGo { .. } => self.tasks.started += 1,
            Event::WaitingCancelled { indices, .. } => {
                self.tasks.cancelled += indices.iter().map(muster_core::spec::IndexRange::len).sum::<u64>();
            }
            Event::AttemptEnded { verdict, again_not_before: None, .. } => match verdict {
                Verdict::Cancelled { .. } | Verdict::Preempted { .. } => self.tasks.cancelled += 1,
                Verdict::Exited { .. }
                | Verdict::Signalled { .. }
                | Verdict::OutOfMemory { .. }
                | Verdict::TimedOut
                | Verdict::StageOutFailed { .. }
                | Verdict::Deadline => self.tasks.completed += 1,
                Verdict::Requeued { .. }
                | Verdict::LaunchFailed { .. }
                | Verdict::StageInFailed { .. }
                | Verdict::PrepareFailed { .. }
                | Verdict::NodeFailed { .. }
                | Verdict::Broken { .. } => self.tasks.failed += 1,
            },
            _ => {}
        }
    }
}

fn task_count(spec: &JobSpec) -> u64 {
    let of = |ranges: &Vec<muster_core::spec::IndexRange>| {
        ranges.iter().map(muster_core::spec::IndexRange::len).sum()
    };
    spec.array.as_ref().map_or(1, |array| of(&array.indices))
}

/// Counts what the controller does.
pub struct Diagnostics {
    counts: Mutex<Counts>,
    /// How long asking for the time took a thousand times at the start, in microseconds.
    pub clock_latency_us: u64,
}

impl Diagnostics {
    /// Counts from `now` on.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let begun = Instant::now();
        for _ in 0..1000 {
            std::hint::black_box(SystemTime::now());
        }
        let clock_latency_us = micros(begun.elapsed());
        Self { counts: Mutex::new(Counts { since: now, ..Counts::default() }), clock_latency_us }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counters that a panic left behind are still whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Begins anew.
    pub fn reset(&self, now: Timestamp) {
        let mut counts = self.lock();
        let backfilled_since_start = counts.tasks.backfilled_since_start;
        *counts = Counts { since: now, ..Counts::default() };
        counts.tasks.backfilled_since_start = backfilled_since_start;
    }

    /// These records are durable.
    pub fn happened(&self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let mut counts = self.lock();
        records.iter().flat_map(|record| record.event.parts()).for_each(|event| counts.count(&event));
    }

    /// There was a pass.
    pub fn passed(&self, effort: Effort, took: Duration, at: Timestamp, queue_len: usize) {
        let mut counts = self.lock();
        let (took, queue_len) = (micros(took), queue_len as u64);
        counts.tasks.backfilled += effort.backfilled;
        counts.tasks.backfilled_since_start += effort.backfilled;
        let passes = &mut counts.passes;
        passes.count += 1;
        passes.last_us = took;
        passes.max_us = passes.max_us.max(took);
        passes.total_us += took;
        passes.groups += effort.groups;
        passes.last_groups = effort.groups;
        passes.last_at_us = Some(at.0);
        passes.queue_len = queue_len;
        passes.queue_len_total += queue_len;
    }

    /// Something was answered; to nobody in particular if a node said it.
    pub fn asked(&self, what: &str, uid: Option<u32>, took: Duration) {
        let mut counts = self.lock();
        if counts.requests.contains_key(what) || counts.requests.len() < KINDS_MAX {
            counts.requests.entry(what.to_owned()).or_default().add(took);
        }
        let Some(uid) = uid else { return };
        let is_known = counts.callers.contains_key(&Some(uid)) || counts.callers.len() < CALLERS_MAX;
        counts.callers.entry(is_known.then_some(uid)).or_default().add(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_beyond_the_limit_are_counted_together() {
        let diagnostics = Diagnostics::new(Timestamp(5));
        for uid in 0..CALLERS_MAX as u32 + 10 {
            diagnostics.asked("GET /v1/ping", Some(uid), Duration::from_micros(2));
        }
        diagnostics.asked("node report", None, Duration::from_micros(3));
        let counts = diagnostics.counts();
        let callers = counts.callers();
        assert_eq!(callers.len(), CALLERS_MAX + 1);
        assert_eq!(callers[0], CallerFigures { uid: None, count: 10, total_us: 20 });
        let requests = counts.requests();
        assert_eq!(requests[0].count, CALLERS_MAX as u64 + 10);
        assert_eq!((requests[1].what.as_str(), requests[1].total_us), ("node report", 3));
    }

    #[test]
    fn a_reset_begins_anew_but_for_what_is_since_the_start() {
        let diagnostics = Diagnostics::new(Timestamp(5));
        let effort = Effort { groups: 4, backfilled: 3 };
        diagnostics.passed(effort, Duration::from_micros(7), Timestamp(6), 9);
        diagnostics.passed(Effort::default(), Duration::from_micros(5), Timestamp(8), 1);
        let counts = diagnostics.counts();
        let right = PassFigures {
            count: 2,
            last_us: 5,
            max_us: 7,
            total_us: 12,
            groups: 4,
            last_groups: 0,
            last_at_us: Some(8),
            queue_len: 1,
            queue_len_total: 10,
        };
        assert_eq!((counts.passes, counts.since), (right, Timestamp(5)));
        diagnostics.reset(Timestamp(9));
        let counts = diagnostics.counts();
        assert_eq!((counts.passes, counts.since), (PassFigures::default(), Timestamp(9)));
        assert_eq!((counts.tasks.backfilled, counts.tasks.backfilled_since_start), (0, 3));
    }
}
