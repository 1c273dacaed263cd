//! Pools that scale themselves are sampled, and their formulas evaluated. What an evaluation found is an event: a replay does not
//! work it out again.

use super::event;
use crate::autoscale::{self, BadFormula, Formula, FormulaErrorCode, Inputs, Metrics, Outcome};
use crate::batch::{
    BatchEvent, BatchPoolKey, BatchRefusal, Deallocation, PoolSample, ResizeError, SCALING_INTERVAL_MAX_S,
    SCALING_INTERVAL_MIN_S, ScaleRun, Scaling,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::state::{BatchPool, State};

/// Whether a pool may have this formula.
pub(super) fn check(scaling: &Scaling) -> Result<(), BatchRefusal> {
    if !(SCALING_INTERVAL_MIN_S..=SCALING_INTERVAL_MAX_S).contains(&scaling.interval_s) {
        let reason = format!(
            "must be {SCALING_INTERVAL_MIN_S} s to {SCALING_INTERVAL_MAX_S} s, which are 5 minutes and a week"
        );
        return Err(super::invalid("autoScaleEvaluationInterval", reason));
    }
    Formula::parse(&scaling.formula).map(drop).map_err(|error| bad(&error))
}

fn bad(error: &BadFormula) -> BatchRefusal {
    let too_long = error.code == FormulaErrorCode::AutoScaleFormulaTooLong;
    BatchRefusal::Formula { too_long, why: error.to_string() }
}

/// What an evaluation of a pool's formula looks at, taken out of the state: to evaluate takes longer than to look.
#[derive(Debug)]
pub struct Trial {
    metrics: Metrics,
    now: Timestamp,
    seed: u64,
    dedicated: u32,
    low_priority: u32,
}

impl Trial {
    /// How a pool stands at an instant.
    #[must_use]
    pub fn of(state: &State, key: &BatchPoolKey, pool: &BatchPool, now: Timestamp) -> Self {
        Self::with(state, pool, state.batch_sample(key, pool), false, now)
    }

    fn with(state: &State, pool: &BatchPool, sample: PoolSample, is_taken: bool, now: Timestamp) -> Self {
        let seed = now.0 ^ state.batch_changes().rotate_left(32);
        Self {
            metrics: state.batch_metrics(pool, sample, is_taken, now),
            now,
            seed,
            dedicated: pool.target,
            low_priority: pool.target_low,
        }
    }

    /// Evaluates a formula as if it were the pool's. Nothing changes.
    ///
    /// # Errors
    /// [`BatchRefusal::Formula`] if something is wrong with it.
    pub fn run(&self, formula: &str) -> Result<ScaleRun, BatchRefusal> {
        let formula = Formula::parse(formula).map_err(|error| bad(&error))?;
        Ok(run(&self.evaluate(&formula), self.now))
    }

    fn evaluate(&self, formula: &Formula) -> Outcome {
        let Self { metrics, now, seed, dedicated, low_priority } = self;
        let (dedicated, low_priority) = (*dedicated, *low_priority);
        formula.evaluate(&Inputs { now: *now, seed: *seed, dedicated, low_priority, metrics })
    }
}

fn run(outcome: &Outcome, at: Timestamp) -> ScaleRun {
    let error = outcome.targets.as_ref().err();
    let error =
        error.map(|error| ResizeError { code: error.code.name().to_owned(), message: error.to_string() });
    ScaleRun { at, results: outcome.results(), error }
}

/// Takes a sample of a pool, and evaluates its formula, as far as they are due.
pub(super) fn step(
    state: &State,
    key: &BatchPoolKey,
    pool: &BatchPool,
    now: Timestamp,
    events: &mut Vec<Event>,
) {
    let Some(scale) = &pool.scale else { return };
    let sample = state.batch_sample(key, pool);
    let is_taken = scale.sample_at <= now;
    if is_taken {
        events.push(event(BatchEvent::PoolSampled { pool: key.clone(), sample }));
    }
    if scale.run_at > now {
        return;
    }
    // It was read when it was given.
    let Ok(formula) = Formula::parse(&scale.spec.formula) else { return };
    let outcome = Trial::with(state, pool, sample, is_taken, now).evaluate(&formula);
    events.push(event(BatchEvent::PoolScaled { pool: key.clone(), run: run(&outcome, now) }));
    let Ok(targets) = outcome.targets else { return };
    // No pool gets more nodes than there are of its class, and none waits for them.
    let most = state.pool_nodes(&pool.spec.home).map_or(0, |nodes| nodes.ids.len() as u32);
    let target = targets.dedicated.unwrap_or(pool.target).min(most);
    let target_low = targets.low_priority.unwrap_or(pool.target_low).min(most);
    if (target, target_low) != (pool.target, pool.target_low) {
        let how = match targets.deallocation {
            autoscale::Deallocation::Requeue => Deallocation::Requeue,
            autoscale::Deallocation::Terminate => Deallocation::Terminate,
            autoscale::Deallocation::TaskCompletion => Deallocation::TaskCompletion,
            autoscale::Deallocation::RetainedData => Deallocation::RetainedData,
        };
        let until = now.plus_seconds(pool.timeout_s);
        let (pool, remove) = (key.clone(), Vec::new());
        let resizing = BatchEvent::PoolResizing { pool, target, target_low, remove, how, until };
        events.push(event(resizing));
    }
}
