//! The controller: the real engine, a journal, and a shell that can lose everything but the journal.

use muster_core::engine::Engine;
use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::input::{Effect, Input, Refusal, Reply};
use muster_core::state::State;

use super::Violation;

/// The engine with its journal. Effects leave only after their records are in the journal.
pub(crate) struct Controller {
    pub engine: Engine,
    journal: Vec<Record>,
}

impl Controller {
    pub fn new() -> Self {
        Self { engine: Engine::new(State::new()), journal: Vec::new() }
    }

    /// Applies an input and a pass, and gives back what leaves.
    pub fn input(
        &mut self,
        input: &Input,
        now: Timestamp,
    ) -> Result<(Vec<Effect>, Result<Reply, Refusal>), Violation> {
        let applied = self.engine.apply(input, now);
        let pass = self.engine.pass(now);
        self.journal.extend(applied.records);
        self.journal.extend(pass.records);
        self.engine.state().check_invariants().map_err(Violation::Invariant)?;
        Ok(([applied.effects, pass.effects].concat(), applied.reply))
    }

    /// Crashes and recovers from the journal alone.
    pub fn crash(&mut self) -> Result<(), Violation> {
        let mut state = State::new();
        for record in &self.journal {
            state.evolve(&record.event, record.at);
        }
        if state != *self.engine.state() {
            return Err(Violation::ReplayDiffers { records: self.journal.len() });
        }
        self.engine = Engine::new(state);
        Ok(())
    }

    pub fn journal_len(&self) -> usize {
        self.journal.len()
    }
}
