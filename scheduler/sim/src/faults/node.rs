//! A simulated node: what its agent knows, and what really runs on its cores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::cores::CoreSet;
use muster_core::event::{Endpoint, Hardware, HardwareCore, Usage};
use muster_core::ids::{AttemptKey, Timestamp};
use muster_core::input::{Effect, GoneHow, InstancePhase, InstanceReport};

use crate::rng::Rng;

/// A node as it really is.
pub(crate) struct SimNode {
    pub name: String,
    pub cores: u32,
    pub boots: u64,
    /// Whether messages pass at present.
    pub linked: bool,
    /// Whether the controller has a session with it.
    pub session: bool,
    /// When the controller last heard of it.
    pub heard: Timestamp,
    /// Whether its agent takes lines.
    takes_lines: bool,
    held: BTreeMap<AttemptKey, Held>,
}

struct Held {
    instance: u32,
    cores: CoreSet,
    phase: InstancePhase,
    /// Whether it starts without another word once it is prepared.
    at_once: bool,
    /// Told to stop; processes go after a while.
    stopping: bool,
    /// It waits in a line until this one is gone, and holds nothing.
    after: Option<AttemptKey>,
}

/// Something that happened on a node and that the world must know.
pub(crate) enum Happened {
    /// A report to send.
    Report(InstanceReport),
    /// A primary's script was started: the world checks that all instances stand.
    Started(AttemptKey),
}

impl SimNode {
    pub fn new(name: String, cores: u32) -> Self {
        Self {
            name,
            cores,
            boots: 1,
            linked: true,
            session: false,
            heard: Timestamp(0),
            takes_lines: cores.is_multiple_of(2),
            held: BTreeMap::new(),
        }
    }

    pub fn hardware(&self) -> Arc<Hardware> {
        // Every third core has two threads.
        let threads = |i: u32| if i.is_multiple_of(3) { 2 } else { 1 };
        let place = |i: u32| HardwareCore { package: i / 4, numa: i / 4, l3: i / 2, threads: threads(i) };
        Arc::new(Hardware {
            cores: (0..self.cores).map(place).collect(),
            takes_lines: self.takes_lines,
            ..Hardware::default()
        })
    }

    pub fn held_reports(&self) -> Vec<InstanceReport> {
        self.held.iter().map(|(key, held)| held.report(*key)).collect()
    }

    /// Power loss: nothing is left.
    pub fn reboot(&mut self) {
        self.held.clear();
        self.boots += 1;
        self.session = false;
    }

    /// Whether the instance is prepared or running here, or was until just now.
    pub fn stands(&self, key: AttemptKey) -> bool {
        let stands = |h: &Held| {
            matches!(
                h.phase,
                InstancePhase::Ready(_)
                    | InstancePhase::Running { .. }
                    | InstancePhase::Gone { started_at: Some(_), .. }
            )
        };
        self.held.get(&key).is_some_and(stands)
    }

    /// Two instances that hold the same core at this instant.
    pub fn core_twice(&self) -> Option<(AttemptKey, AttemptKey)> {
        let present: Vec<_> = self.held.iter().filter(|(_, h)| !h.is_gone() && h.after.is_none()).collect();
        present.iter().enumerate().find_map(|(i, (key, held))| {
            let other = present[..i].iter().find(|(_, other)| !other.cores.is_disjoint(&held.cores))?;
            Some((*other.0, **key))
        })
    }

    /// Obeys a message from the controller.
    pub fn obey(&mut self, effect: &Effect) -> Option<Happened> {
        match effect {
            Effect::Prepare { key, instance, allocation, spec, after, .. } => {
                let share = &allocation.shares[*instance as usize];
                // One that left its line before its turn is nobody to wait for.
                let is_known = |after| {
                    self.held.get(after).is_some_and(|ahead| !ahead.is_gone() || ahead.after.is_none())
                };
                let may_wait = after.as_ref().is_none_or(is_known);
                let waits_for =
                    after.filter(|after| self.held.get(after).is_some_and(|ahead| !ahead.is_gone()));
                let is_new = !self.held.contains_key(key);
                self.held.entry(*key).or_insert_with(|| Held {
                    instance: *instance,
                    cores: share.cores.clone(),
                    phase: if may_wait { InstancePhase::Preparing } else { gone(GoneHow::Returned) },
                    at_once: spec.starts_at_once(allocation.shares.len()),
                    stopping: false,
                    after: if may_wait { waits_for } else { *after },
                });
                (is_new && !may_wait).then(|| Happened::Report(self.held[key].report(*key)))
            }
            Effect::Go { key, .. } => {
                let held = self.held.get_mut(key)?;
                if held.instance != 0 || held.stopping || !matches!(held.phase, InstancePhase::Ready(_)) {
                    return None;
                }
                held.phase = InstancePhase::Running { started_at: self.heard };
                Some(Happened::Started(*key))
            }
            Effect::Stop { key, .. } => {
                let Some(held) = self.held.get_mut(key) else {
                    let how = GoneHow::Stopped;
                    let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
                    return Some(Happened::Report(InstanceReport { key: *key, instance: 0, phase }));
                };
                held.stopping = true;
                held.is_gone().then(|| Happened::Report(held.report(*key)))
            }
            // What it does to a script is up to the script.
            Effect::Signal { .. } | Effect::SignalStep { .. } | Effect::AttachStep { .. } => None,
            // No pool of these worlds wants anything on its nodes.
            Effect::SetUp { .. } => None,
            Effect::Forget { key, .. } => {
                self.held.retain(|k, held| k != key || !held.is_gone());
                None
            }
        }
    }

    /// Lets a little happen on the node by itself; `calm` leaves failures out.
    pub fn live(&mut self, rng: &mut Rng, calm: bool) -> Vec<Happened> {
        let mut happened = Vec::new();
        let mut started: BTreeSet<AttemptKey> = BTreeSet::new();
        for (key, held) in &mut self.held {
            let next = match &held.phase {
                InstancePhase::Gone { .. } => None,
                _ if held.after.is_some() && held.stopping => Some(gone(GoneHow::Stopped)),
                _ if held.after.is_some() => rng.one_in(20).then(|| gone(GoneHow::Returned)),
                // A script may end by itself before it is killed.
                InstancePhase::Running { .. } if held.stopping && rng.one_in(8) => {
                    Some(gone(GoneHow::Exited { code: 0, signal: 0, out_of_memory: false }))
                }
                _ if held.stopping => rng.one_in(3).then(|| gone(GoneHow::Stopped)),
                InstancePhase::Preparing if !calm && rng.one_in(40) => {
                    let reason = "simulated".to_owned();
                    Some(gone(GoneHow::PrepareFailed { reason, node_at_fault: rng.one_in(2) }))
                }
                InstancePhase::Preparing => rng.one_in(2).then(|| match held.at_once {
                    // A short one is told of with its end.
                    true if rng.one_in(4) => {
                        let how = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };
                        let started_at = Some(self.heard);
                        InstancePhase::Gone { how, usage: Usage::default(), started_at }
                    }
                    true => InstancePhase::Running { started_at: self.heard },
                    false => InstancePhase::Ready(Endpoint::default()),
                }),
                InstancePhase::Running { .. } if started.insert(*key) && rng.one_in(12) => {
                    let how =
                        GoneHow::Exited { code: rng.below(3) as u32 / 2, signal: 0, out_of_memory: false };
                    Some(gone(how))
                }
                _ if !calm && rng.one_in(400) => {
                    Some(gone(GoneHow::Broken { reason: "simulated".to_owned() }))
                }
                _ => None,
            };
            if let Some(phase) = next {
                let has_started = matches!(
                    phase,
                    InstancePhase::Running { .. } | InstancePhase::Gone { started_at: Some(_), .. }
                );
                if held.phase == InstancePhase::Preparing && has_started {
                    happened.push(Happened::Started(*key));
                }
                held.phase = phase;
                happened.push(Happened::Report(held.report(*key)));
            }
        }
        self.close_lines();
        happened
    }

    /// Whoever waits for what is gone waits for the one before that, or for nobody.
    fn close_lines(&mut self) {
        let mut ahead: BTreeMap<AttemptKey, Option<AttemptKey>> = BTreeMap::new();
        ahead.extend(
            self.held.iter().filter(|(_, held)| held.is_gone()).map(|(key, held)| (*key, held.after)),
        );
        for held in self.held.values_mut() {
            while let Some(before) = held.after.and_then(|after| ahead.get(&after)) {
                held.after = *before;
            }
        }
    }
}

fn gone(how: GoneHow) -> InstancePhase {
    InstancePhase::Gone { how, usage: Usage::default(), started_at: None }
}

impl Held {
    fn is_gone(&self) -> bool {
        matches!(self.phase, InstancePhase::Gone { .. })
    }

    fn report(&self, key: AttemptKey) -> InstanceReport {
        InstanceReport { key, instance: self.instance, phase: self.phase.clone() }
    }
}
