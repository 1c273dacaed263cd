//! The language in which pools say how many nodes they want: Azure Batch's autoscale formulas.
//!
//! A formula is read once ([`Formula::parse`]), which finds everything that is wrong whatever the samples are: its grammar,
//! names, numbers of arguments and types. It is then evaluated at an instant over samples ([`Formula::evaluate`]): a pure
//! function, also of the seed for `rand()`. What `docs/autoscale.md` says about it is tested against a second evaluator.

mod ast;
mod check;
mod error;
mod evaluate;
mod functions;
mod lexer;
mod metrics;
mod outcome;
mod parse;
mod value;

pub use error::{BadFormula, FormulaErrorCode, Place, RunError, RunErrorCode};
pub use metrics::{History, Metric, Metrics, SAMPLE_PERIOD_S, Sample};
pub use outcome::{Deallocation, Outcome, Targets};
pub use value::{Instant, Interval, Value};

use crate::ids::Timestamp;

/// Longest formula, in characters.
pub const FORMULA_CHARS_MAX: usize = 8192;
/// Most statements of a formula.
pub const STATEMENTS_MAX: usize = 100;
/// Most expressions within each other.
pub const DEPTH_MAX: usize = 50;
/// Most work of one evaluation: each operation counts one, and one more for each element of its vectors.
pub const WORK_MAX: usize = 1_000_000;

/// A formula in which nothing is wrong.
#[derive(Debug, Clone)]
pub struct Formula {
    statements: Vec<ast::Statement>,
}

/// What an evaluation looks at.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The instant at which it takes place: what `time()` is, and where look-back intervals begin.
    pub now: Timestamp,
    /// What the random numbers follow from.
    pub seed: u64,
    /// The pool's target of dedicated nodes before.
    pub dedicated: u32,
    /// The pool's target of low-priority nodes before.
    pub low_priority: u32,
    /// The samples.
    pub metrics: &'a Metrics,
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, BadFormula> {
        let statements = parse::statements(text)?;
        check::check(&statements)?;
        Ok(Self { statements })
    }

    /// Evaluates it. A run that fails has changed nothing: its outcome has an error and no targets.
    #[must_use]
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Outcome {
        evaluate::evaluate(&self.statements, inputs)
    }
}

#[cfg(test)]
mod tests;
