//! The controller: the real engine, a journal, and a shell that can lose everything but the journal.

use std::sync::Arc;

use muster_core::engine::Engine;
use muster_core::event::{Event, Record};
use muster_core::ids::{AttemptKey, Timestamp};
use muster_core::input::{Effect, Input, Refusal, Reply};
use muster_core::spec::IndexRange;
use muster_core::state::{FIRST_ATTEMPT, State};

use super::{Violation, claims};

/// The engine with its journal. Effects leave only after their records are in the journal.
pub(crate) struct Controller {
    pub engine: Engine,
    /// Attempts that gave way to others.
    pub preempted: u64,
    journal: Vec<Record>,
    /// The state as it was written last, and the length of the journal then.
    snapshot: Option<(Vec<u8>, usize)>,
}

impl Controller {
    pub fn new() -> Self {
        Self { engine: Engine::new(State::new()), preempted: 0, journal: Vec::new(), snapshot: None }
    }

    /// Applies an input and a pass, and gives back what leaves.
    pub fn input(
        &mut self,
        input: &Input,
        now: Timestamp,
    ) -> Result<(Vec<Effect>, Result<Reply, Refusal>), Violation> {
        let applied = self.engine.apply(input, now);
        let pass = self.engine.pass(now);
        let preempted = claims::check(self.engine.state(), &pass.records);
        self.preempted += preempted.map_err(|key| Violation::NoRight { key })?;
        self.journal.extend(applied.records);
        self.journal.extend(pass.records);
        self.engine.state().check_invariants().map_err(Violation::Invariant)?;
        if !self.engine.is_consistent() {
            return Err(Violation::PlannerDiffers);
        }
        Ok(([applied.effects, pass.effects].concat(), applied.reply))
    }

    /// Crashes and recovers: the journal over nothing and over the last snapshot must give the same state, bit for
    /// bit. With `snapshot`, the state that was found is written as the next one.
    pub fn crash(&mut self, snapshot: bool) -> Result<(), Violation> {
        let mut state = State::new();
        self.replay(&mut state, 0, "over nothing")?;
        if let Some((bytes, from)) = &self.snapshot {
            let mut state = serde_json::from_slice(bytes).map_err(unreadable)?;
            self.replay(&mut state, *from, "over a snapshot")?;
        }
        if snapshot {
            self.snapshot = Some((serde_json::to_vec(&state).map_err(unreadable)?, self.journal.len()));
        }
        self.engine = Engine::new(state);
        Ok(())
    }

    fn replay(&self, state: &mut State, skip: usize, from: &'static str) -> Result<(), Violation> {
        let records = &self.journal[skip..];
        for record in records {
            state.evolve(&record.event, record.at);
        }
        let known = self.engine.state();
        let bytes = |state: &State| serde_json::to_vec(state).map_err(unreadable);
        if state != known || bytes(state)? != bytes(known)? {
            return Err(Violation::ReplayDiffers { from, records: records.len() });
        }
        Ok(())
    }

    /// When an attempt was placed, or lined up behind another one. The state tells of one from a line when it came to hold something,
    /// which is later.
    pub fn placed_at(&self, key: AttemptKey) -> Option<Timestamp> {
        let placed = self.journal.iter().rev().find(|record| match &record.event {
            Event::AttemptPlaced { key: placed, .. } => *placed == key,
            Event::LineMade { behind, indices } => {
                let mut indices = indices.iter().flat_map(IndexRange::indices);
                key.attempt == FIRST_ATTEMPT
                    && behind.task.job == key.task.job
                    && indices.any(|index| index == key.task.index.0)
            }
            _ => false,
        });
        placed.map(|record| record.at)
    }

    pub fn journal_len(&self) -> usize {
        self.journal.len()
    }
}

fn unreadable(error: serde_json::Error) -> Violation {
    Violation::Snapshot(Arc::new(error))
}
