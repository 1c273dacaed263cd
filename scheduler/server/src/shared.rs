//! What readers see: a copy of the state that only durable events reach, so that nothing is ever shown that a
//! crash could take back, and that no reader waits for a disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use muster_batch::wire::before_event;
use muster_core::event::{Event, Record};
use muster_core::ids::{JobId, Timestamp};
use muster_core::plan::{self, Plan};
use muster_core::state::State;
use tokio::sync::watch;

use crate::batch::{Feed, Following};
use crate::clock::Clock;
use crate::steps::RunningSteps;

/// How long reasons may be older than the state, for readers that ask often.
const PLAN_AGE_MAX: Duration = Duration::from_secs(1);
/// And no longer than it took so many times to find them: where that is a matter of a moment, they are never old.
const PLAN_AGE_MAX_TIMES: u32 = 10;

/// Jobs that are looked at as a whole while nothing can become durable: a matter of a millisecond.
const JOBS_LOOKED_AT_MAX: usize = 1000;

/// The durable state, for readers.
pub struct Shared {
    durable: RwLock<Durable>,
    plan: Mutex<Option<KnownPlan>>,
    waiters: Mutex<Waiters>,
    /// Changes whenever a node is to be brought up or taken down, or is there or off.
    powers: watch::Sender<u64>,
    clock: Clock,
    /// The steps that nodes say run; these are not durable, and nodes say them again.
    pub steps: RunningSteps,
    /// What clients of the batch service are told of what happens, where there is one.
    feed: OnceLock<Arc<Feed>>,
}

/// Those who wait for changes of jobs.
#[derive(Default)]
struct Waiters {
    by_job: HashMap<JobId, watch::Sender<u64>>,
    /// How many there may be before those that nobody waits for any more are looked for.
    tidy_at: usize,
}

/// Jobs that may have been waited for before the first tidying up.
const WAITERS_TIDY_MIN: usize = 1024;

struct Durable {
    state: State,
    /// Sequence number of the last record in `state`.
    seq: u64,
    /// Sequence number of the last record about each job that changed since the start.
    changed: HashMap<JobId, u64>,
    /// The version of every other job.
    seq_at_start: u64,
}

struct KnownPlan {
    seq: u64,
    made: Instant,
    took: Duration,
    plan: Arc<Plan>,
}

/// The durable state at one instant. Nothing becomes durable while it is held: hold it briefly.
pub struct Reading<'a>(RwLockReadGuard<'a, Durable>);

impl Reading<'_> {
    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.0.state
    }

    /// The number of the last record in it.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// A number that changes with every change of the job, and that a restart does not repeat for another
    /// content of it.
    #[must_use]
    pub fn version(&self, job: JobId) -> u64 {
        self.0.changed.get(&job).copied().unwrap_or(self.0.seq_at_start)
    }
}

impl Shared {
    /// The state that was recovered, whose last record has the number `seq`.
    #[must_use]
    pub fn new(state: State, seq: u64) -> Self {
        let clock = Clock::new(state.at);
        let durable = Durable { state, seq, changed: HashMap::new(), seq_at_start: seq };
        Self {
            durable: RwLock::new(durable),
            plan: Mutex::new(None),
            waiters: Mutex::default(),
            powers: watch::Sender::new(0),
            clock,
            steps: RunningSteps::default(),
            feed: OnceLock::new(),
        }
    }

    /// What clients of the batch service are told of what happens from now on.
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(self.feed.get_or_init(|| Arc::new(Feed::new(self.read().seq()))))
    }

    /// The present instant, by the clock that the engine has too.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The durable state.
    pub fn read(&self) -> Reading<'_> {
        Reading(self.durable.read().expect("evolving a state does not panic"))
    }

    /// Lets durable records happen here as well, and tells those who wait for a job of theirs. `engine` is the state that they
    /// add up to, with which jobs are kept in common.
    pub fn publish(&self, records: &[Record], engine: &State) {
        if records.is_empty() {
            return;
        }
        let mut jobs: HashMap<JobId, u64> = HashMap::new();
        let mut following = self.feed.get().map(|feed| Following::new(feed));
        let held = {
            let mut guard = self.durable.write().expect("evolving a state does not panic");
            let durable = &mut *guard;
            for record in records {
                let before = following.is_some().then(|| before_event(&durable.state, record));
                durable.seq += 1;
                durable.state.evolve(&record.event, record.at);
                if let (Some(following), Some(before)) = (&mut following, before) {
                    following.happened(&durable.state, &before, record, durable.seq);
                }
                if let Some(job) = record.event.job() {
                    jobs.insert(job, durable.seq);
                }
                // What becomes of a reservation shows in the reasons of the jobs that name it.
                if let Some(name) = record.event.reservation() {
                    jobs.extend(durable.state.jobs_of_reservation(name).map(|job| (job, durable.seq)));
                }
            }
            durable.state.share_with(engine, jobs.keys().copied());
            durable.changed.extend(&jobs);
            // Versions of jobs that left the memory are forgotten now and then.
            if durable.changed.len() > 2 * durable.state.jobs.len() + 1000 {
                let state = &durable.state;
                durable.changed.retain(|job, _| state.jobs.contains_key(job));
            }
            following.map(|following| following.hold(durable.seq))
        };
        if let Some(held) = held {
            held.show();
        }
        if records.iter().any(|record| may_change_power(&record.event)) {
            self.powers.send_modify(|changes| *changes += 1);
        }
        let mut waiters = self.waiters.lock().expect("no code panics under this lock");
        for (job, version) in jobs {
            let Some(waiter) = waiters.by_job.get(&job) else { continue };
            if waiter.receiver_count() == 0 {
                waiters.by_job.remove(&job);
            } else {
                waiter.send_replace(version);
            }
        }
    }

    /// Changes whenever the job does.
    pub fn subscribe(&self, job: JobId) -> watch::Receiver<u64> {
        let mut waiters = self.waiters.lock().expect("no code panics under this lock");
        if waiters.by_job.len() >= waiters.tidy_at {
            waiters.by_job.retain(|_, waiter| waiter.receiver_count() > 0);
            waiters.tidy_at = WAITERS_TIDY_MIN.max(2 * waiters.by_job.len());
        }
        waiters.by_job.entry(job).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Changes whenever a node is to be brought up or taken down, or is there or off.
    pub fn power_changes(&self) -> watch::Receiver<u64> {
        self.powers.subscribe()
    }

    /// Why jobs wait, as of the present state or a moment ago; `needed` is certainly among them if it
    /// waits, with what happened to it last.
    pub fn plan(&self, now: Timestamp, needed: Option<JobId>) -> Arc<Plan> {
        let mut known = self.plan.lock().expect("planning does not panic");
        let durable = self.durable.read().expect("evolving a state does not panic");
        if let Some(known) = &*known {
            // What happened to the job itself must show in its reason at once: it may have been held or released.
            let is_older = |job: &JobId| durable.changed.get(job).is_none_or(|seq| *seq <= known.seq);
            let has_needed = needed.is_none_or(|job| known.plan.waiting.contains_key(&job) && is_older(&job));
            let age_max = PLAN_AGE_MAX.min(known.took * PLAN_AGE_MAX_TIMES);
            if known.seq == durable.seq || (has_needed && known.made.elapsed() < age_max) {
                return Arc::clone(&known.plan);
            }
        }
        let (begun, seq) = (Instant::now(), durable.seq);
        let plan = Arc::new(for_long(durable, |state| plan::plan(state, now)));
        let (made, took) = (Instant::now(), begun.elapsed());
        *known = Some(KnownPlan { seq, made, took, plan: Arc::clone(&plan) });
        plan
    }

    /// Looks at the durable state for longer than the engine may wait to go on.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        for_long(self.durable.read().expect("evolving a state does not panic"), look)
    }

    /// A copy of the durable state that is to go on by itself.
    #[must_use]
    pub fn copy(&self) -> State {
        let (mut state, _) = self.copy_with_seq();
        state.part();
        state
    }

    /// A copy of the durable state, and the sequence number of the last record in it.
    #[must_use]
    pub fn copy_with_seq(&self) -> (State, u64) {
        let reading = self.read();
        (reading.0.state.clone(), reading.0.seq)
    }
}

/// Looks at a copy of a large state, which takes a tenth of the time to make that looking at all of it takes.
fn for_long<T>(durable: RwLockReadGuard<'_, Durable>, look: impl FnOnce(&State) -> T) -> T {
    if durable.state.jobs.len() < JOBS_LOOKED_AT_MAX {
        return look(&durable.state);
    }
    let copy = durable.state.clone();
    drop(durable);
    look(&copy)
}

fn may_change_power(event: &Event) -> bool {
    matches!(event, Event::NodePower { .. } | Event::NodeUp { .. } | Event::Configured { .. })
}
