//! What must hold in every state, derived anew from the records: tests call this after every event.

use std::collections::{BTreeMap, BTreeSet};

use super::{LivePhase, Power, QueueKey, State, TaskHold, kept, line};
use crate::cores::CoreSet;
use crate::gres::ShareGres;
use crate::ids::{AttemptKey, JobId, NodeId, TaskIndex, Timestamp};
use crate::threads::CoreThreads;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Two attempts hold the same core.
    #[error("core sets of {first} and {second} on node {node:?} overlap")]
    CoreTwice {
        /// The node.
        node: NodeId,
        /// One attempt.
        first: AttemptKey,
        /// The other.
        second: AttemptKey,
    },
    /// Two attempts hold the same device.
    #[error("two attempts on node {node:?} hold {name} {device}")]
    DeviceTwice {
        /// The node.
        node: NodeId,
        /// The name of the device.
        name: String,
        /// Its number.
        device: u32,
    },
    /// Something goes on on a node that an admin took down.
    #[error("{key} goes on although node {node:?} is down")]
    RunsOnDown {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
    },
    /// Something is on a node that is off, or one is off that nobody takes down.
    #[error("the power of node {node:?} cannot be so")]
    Power {
        /// The node.
        node: NodeId,
    },
    /// The devices that a node has free are not what its attempts leave.
    #[error("the free devices of node {node:?} are not what its attempts leave")]
    FreeDevices {
        /// The node.
        node: NodeId,
    },
    /// More memory is held than a node has.
    #[error("attempts on node {node:?} hold {held} bytes of {present}")]
    MemoryTwice {
        /// The node.
        node: NodeId,
        /// Held, in bytes.
        held: u64,
        /// There, in bytes.
        present: u64,
    },
    /// What a node has free is not what its attempts leave.
    #[error("node {node:?} says that {said} is free, its attempts leave {left}")]
    FreeCores {
        /// The node.
        node: NodeId,
        /// In the record.
        said: CoreSet,
        /// Derived.
        left: CoreSet,
    },
    /// An attempt was started that can reach into a reservation that it may not use, or leave its own.
    #[error("{key} can hold node {node:?} against the windows of reservation '{reservation}'")]
    Reservation {
        /// The attempt.
        key: AttemptKey,
        /// The node.
        node: NodeId,
        /// The reservation.
        reservation: String,
    },
    /// An index disagrees with the records.
    #[error("the index '{index}' disagrees with the records")]
    Index {
        /// Which one.
        index: &'static str,
    },
    /// An attempt gave way to its own job, or more attempts did than there were.
    #[error("job {job} preempted itself, or more of its attempts were preempted than there were")]
    Preempted {
        /// The job's number.
        job: u64,
    },
    /// Something is said of the hold of a task that is not there, or that says nothing.
    #[error("job {job} says of the hold of single tasks what cannot be")]
    Holds {
        /// The job's number.
        job: u64,
    },
    /// A line of attempts is broken.
    #[error("an attempt of job {job} does not stand where its neighbours in its line say")]
    Line {
        /// The job's number.
        job: u64,
    },
    /// What is kept of all finished tasks of a job is not what they say.
    #[error("the finished tasks of job {job} are not counted as they are")]
    Finished {
        /// The job's number.
        job: u64,
    },
    /// A task is in two phases or in none.
    #[error("job {job} has {found} tasks in its phases, it was submitted with {expected}")]
    TaskLost {
        /// The job's number.
        job: u64,
        /// Tasks found.
        found: u64,
        /// Tasks submitted.
        expected: u64,
    },
}

impl State {
    /// Derives every cross-reference anew and compares.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        self.check_allocations()?;
        self.check_devices()?;
        self.check_down()?;
        self.check_power()?;
        self.check_tasks()?;
        self.check_eligibility()?;
        self.check_reservations()?;
        self.check_indices()
    }

    fn check_allocations(&self) -> Result<(), Broken> {
        let mut holders: BTreeMap<NodeId, Vec<(AttemptKey, &CoreSet, u64)>> = BTreeMap::new();
        let mut present: BTreeMap<NodeId, BTreeSet<AttemptKey>> = BTreeMap::new();
        for (key, _, live) in self.live() {
            for (share, instance) in live.allocation.shares.iter().zip(&live.instances) {
                if instance.holds_share() {
                    present.entry(share.node).or_default().insert(key);
                }
                if instance.holds_share() && live.holds_allocation() {
                    holders.entry(share.node).or_default().push((key, &share.cores, share.memory_bytes));
                }
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let id = NodeId(i as u32);
            let mut left = CoreSet::first(node.cores);
            let mut held: Vec<(AttemptKey, &CoreSet)> = Vec::new();
            let mut memory = 0;
            for (key, cores, memory_bytes) in holders.get(&id).map(Vec::as_slice).unwrap_or_default() {
                if let Some((first, _)) = held.iter().find(|(_, other)| !other.is_disjoint(cores)) {
                    return Err(Broken::CoreTwice { node: id, first: *first, second: *key });
                }
                held.push((*key, cores));
                left.remove_all(cores);
                memory += memory_bytes;
            }
            if memory > node.memory_bytes && node.free_memory_bytes > 0 {
                return Err(Broken::MemoryTwice { node: id, held: memory, present: node.memory_bytes });
            }
            if left != node.free {
                return Err(Broken::FreeCores { node: id, said: node.free.clone(), left });
            }
            let found = node.hardware().map(|found| CoreThreads::of(node.cores, &found.cores));
            if found.is_some_and(|found| found != node.threads) {
                return Err(Broken::Index { index: "threads of a node's cores" });
            }
            if !present.get(&id).into_iter().flatten().eq(node.attempts.iter()) {
                return Err(Broken::Index { index: "attempts of a node" });
            }
        }
        Ok(())
    }

    fn check_devices(&self) -> Result<(), Broken> {
        let mut held: BTreeMap<NodeId, Vec<&ShareGres>> = BTreeMap::new();
        for (_, _, live) in self.live().filter(|(.., live)| live.holds_allocation()) {
            for (share, instance) in live.allocation.shares.iter().zip(&live.instances) {
                if instance.holds_share() {
                    held.entry(share.node).or_default().extend(&share.gres);
                }
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let id = NodeId(i as u32);
            let mut taken: BTreeSet<(&str, u32)> = BTreeSet::new();
            for share in held.get(&id).into_iter().flatten() {
                for device in share.devices.iter() {
                    if !taken.insert((&share.name, device)) {
                        return Err(Broken::DeviceTwice { node: id, name: share.name.clone(), device });
                    }
                }
            }
            for gres in &node.gres {
                let all = gres.first..gres.first + gres.count;
                let left: CoreSet = all.filter(|device| !taken.contains(&(&gres.name, *device))).collect();
                if left != gres.free {
                    return Err(Broken::FreeDevices { node: id });
                }
            }
        }
        Ok(())
    }

    /// On a node that is down, everything comes to its end.
    fn check_down(&self) -> Result<(), Broken> {
        let is_down = |held: &super::Held| held.down;
        for (i, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.held.as_ref().is_some_and(is_down)) {
            let goes_on = |key: &&AttemptKey| {
                self.live_attempt(key.task)
                    .is_some_and(|live| !matches!(live.phase, LivePhase::Ending { .. }))
            };
            if let Some(key) = node.attempts.iter().find(goes_on) {
                return Err(Broken::RunsOnDown { node: NodeId(i as u32), key: *key });
            }
        }
        Ok(())
    }

    /// Nothing is on a node that is off, and none is off or on its way but those that the site's programs look after.
    fn check_power(&self) -> Result<(), Broken> {
        let is_wrong = |node: &super::Node| match &node.power {
            None => node.elastic.is_some(),
            Some(Power::Off { .. }) => node.elastic.is_none() || !node.attempts.is_empty(),
            Some(_) => node.elastic.is_none(),
        };
        match self.nodes.iter().position(|node| node.declared && is_wrong(node)) {
            Some(node) => Err(Broken::Power { node: NodeId(node as u32) }),
            None => Ok(()),
        }
    }

    fn check_tasks(&self) -> Result<(), Broken> {
        for job in self.jobs.values() {
            let expected = job
                .spec
                .array
                .as_ref()
                .map_or(1, |array| array.indices.iter().map(|range| range.len()).sum());
            let found = job.waiting.len() + job.live.len() as u64 + job.finished.len() as u64;
            if found != expected {
                return Err(Broken::TaskLost { job: job.id.0, found, expected });
            }
            if !job.finished.are_counted() {
                return Err(Broken::Finished { job: job.id.0 });
            }
            let is_unfinished =
                |index: u32| job.waiting.contains(index) || job.live.contains_key(&TaskIndex(index));
            if !line::are_whole(job) || !job.returned.iter().all(is_unfinished) {
                return Err(Broken::Line { job: job.id.0 });
            }
            let held_alone = |index: &TaskIndex| {
                job.is_array() && (job.waiting.contains(index.0) || job.live.contains_key(index))
            };
            let let_go = job.task_holds.values().any(|said| *said == TaskHold::Released);
            if !job.task_holds.keys().all(held_alone) || (let_go && job.held.is_none()) {
                return Err(Broken::Holds { job: job.id.0 });
            }
            let by_itself = |live: &super::Live| match live.phase {
                LivePhase::Ending { taken: Some(taken), .. } => {
                    taken.by.job == job.id || taken.order > self.preempted
                }
                _ => false,
            };
            if job.live.values().any(|live| by_itself(live))
                || job.tried.values().any(|tried| tried.preempted > tried.attempts)
            {
                return Err(Broken::Preempted { job: job.id.0 });
            }
        }
        Ok(())
    }

    /// The indices of what waits for an instant, or for another job.
    fn check_eligibility(&self) -> Result<(), Broken> {
        let mut eligible_at = BTreeSet::new();
        let mut expiring = BTreeSet::new();
        let mut dependents: BTreeMap<JobId, BTreeSet<JobId>> = BTreeMap::new();
        let mut unfulfillable = BTreeSet::new();
        for (id, job) in &self.jobs {
            eligible_at.extend(job.eligible_instants().map(|at| (at, *id)));
            expiring.extend(job.expires_at().filter(|_| !job.waiting.is_empty()).map(|at| (at, *id)));
            for target in job.dependency_targets() {
                dependents.entry(target).or_default().insert(*id);
            }
            let is_to_cancel = job.spec.eligibility.cancel_unfulfillable;
            if is_to_cancel && job.unfulfillable() != super::Unfulfillable::None {
                unfulfillable.insert(*id);
            }
        }
        let ended = |target: &JobId| self.jobs.get(target).is_none_or(|job| job.finished_at.is_some());
        let checks = [
            ("instants of eligibility", eligible_at == self.eligible_at),
            ("expiring jobs", expiring == self.expiring),
            ("dependents", dependents == self.dependents),
            ("dependencies on what has ended", !dependents.keys().any(ended)),
            ("unfulfillable dependencies", unfulfillable == self.unfulfillable),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((index, _)) => Err(Broken::Index { index }),
            None => Ok(()),
        }
    }

    /// What was started after a reservation was made keeps out of its windows, unless it uses the reservation: then it
    /// keeps within one of them, on the reservation's nodes.
    fn check_reservations(&self) -> Result<(), Broken> {
        for (key, job, live) in self.live() {
            // What is ending ends as soon as its nodes can end it, and what is in a line holds nothing.
            if matches!(live.phase, LivePhase::Ending { .. }) || !live.holds_allocation() {
                continue;
            }
            let end = live.deadline(job.spec.time_limit_s).unwrap_or(Timestamp(u64::MAX));
            for reserved in self.reservations().filter(|reserved| reserved.made_at < live.placed_at) {
                let reservation = &reserved.reservation;
                let window = reservation.windows.first_open(live.placed_at);
                let uses = job.spec.reservation.as_ref() == Some(&reservation.name);
                let holds = match window {
                    Some(window) if uses => window.start <= live.placed_at && end <= window.end,
                    None if uses => false,
                    window => window.is_none_or(|window| end <= window.start),
                };
                let wrong = |node: &&NodeId| match uses {
                    true => !holds || !reservation.keeps(**node),
                    false => !holds && reservation.keeps(**node),
                };
                if let Some(node) = live.allocation.shares.iter().map(|share| &share.node).find(wrong) {
                    return Err(Broken::Reservation {
                        key,
                        node: *node,
                        reservation: reservation.name.clone(),
                    });
                }
            }
        }
        match self.reservations_are_indexed() {
            true => Ok(()),
            false => Err(Broken::Index { index: "reservations" }),
        }
    }

    fn check_indices(&self) -> Result<(), Broken> {
        let waiting: u64 = self.jobs.values().map(|job| job.waiting.len()).sum();
        let live: usize = self.jobs.values().map(|job| job.live.len()).sum();
        let queued = self.jobs.values().filter(|job| !job.waiting.is_empty()).count();
        let unfinished = self.jobs.values().filter(|job| !job.is_finished()).count();
        // Those whose end is not decided yet, and that may not go on for ever.
        let limited: BTreeSet<AttemptKey> = self
            .live()
            .filter(|(_, job, live)| match live.phase {
                LivePhase::Preparing => live.holds_allocation(),
                LivePhase::Running { go_at, .. } => job.must_end_at(live, go_at).is_some(),
                LivePhase::Ending { .. } => false,
            })
            .map(|(key, ..)| key)
            .collect();
        let (mut signals, mut marks) = (BTreeSet::new(), BTreeSet::new());
        for (key, job, live) in self.live() {
            if let LivePhase::Running { go_at, .. } = live.phase {
                signals.extend(job.signal_at(live, go_at).map(|at| (at, key)));
                marks.extend(job.marks(live, go_at).next().map(|(at, _)| (at, key)));
            }
        }
        let by_user: u32 = self.jobs_of_user.values().sum();
        let is_in_place =
            |key: &QueueKey| self.jobs.get(&key.1).is_some_and(|job| self.priority_of(&job.spec) == key.0.0);
        let checks = [
            ("waiting tasks", waiting == self.waiting_count),
            ("live attempts", live == self.live.len() && self.live().count() == live),
            ("queue", queued == self.queue.len() && self.queue.iter().all(is_in_place)),
            ("unfinished jobs", self.unfinished_are_followed()),
            ("jobs of users", unfinished == by_user as usize),
            ("finished jobs", self.jobs.len() == unfinished + self.finished.len()),
            ("tasks of finished jobs", kept::holds(self)),
            ("usage", self.is_charged_rightly()),
            ("recurring jobs", self.crontabs_hold()),
            ("deadlines", self.deadlines.iter().all(|(_, key)| limited.contains(key))),
            ("signals", self.signals == signals),
            ("parts of time limits", self.marks == marks),
            ("attempts with a deadline", self.deadlines.len() == limited.len()),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((index, _)) => Err(Broken::Index { index }),
            None => match self.batch_broken() {
                Some(index) => Err(Broken::Index { index }),
                None => Ok(()),
            },
        }
    }
}
