//! What is wrong with a formula, and why an evaluation failed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a formula, in characters. Both numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character of the line.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, character {}", self.line, self.column)
    }
}

/// The protocol's codes for formulas that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormulaErrorCode {
    /// Anything that is wrong but for its length.
    AutoScalingFormulaSyntaxError,
    /// It has too many characters or statements.
    AutoScaleFormulaTooLong,
}

/// Why a formula is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the formula is wrong at {place}: {what}")]
pub struct BadFormula {
    /// The code that programs read.
    pub code: FormulaErrorCode,
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl BadFormula {
    pub(super) fn syntax(place: Place, what: impl Into<String>) -> Self {
        Self { code: FormulaErrorCode::AutoScalingFormulaSyntaxError, place, what: what.into() }
    }

    pub(super) fn too_long(place: Place, what: impl Into<String>) -> Self {
        Self { code: FormulaErrorCode::AutoScaleFormulaTooLong, place, what: what.into() }
    }
}

/// Why an evaluation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunErrorCode {
    /// There are fewer samples than the formula wants.
    InsufficientSampleData,
    /// A vector has no element of this index.
    IndexOutOfRange,
    /// A vector without elements has no such value.
    EmptyVector,
    /// Two vectors of different lengths were put together.
    VectorLengthsDiffer,
    /// An argument is outside of its range.
    InvalidArgument,
    /// A text is no date.
    InvalidDateTime,
    /// An instant or an interval is out of range.
    ArithmeticOverflow,
    /// A target is not a number of nodes.
    InvalidTarget,
    /// There is no such way to take nodes away.
    InvalidNodeDeallocationOption,
    /// It costs too much.
    EvaluationTooLong,
}

impl RunErrorCode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::InsufficientSampleData,
        Self::IndexOutOfRange,
        Self::EmptyVector,
        Self::VectorLengthsDiffer,
        Self::InvalidArgument,
        Self::InvalidDateTime,
        Self::ArithmeticOverflow,
        Self::InvalidTarget,
        Self::InvalidNodeDeallocationOption,
        Self::EvaluationTooLong,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InsufficientSampleData => "InsufficientSampleData",
            Self::IndexOutOfRange => "IndexOutOfRange",
            Self::EmptyVector => "EmptyVector",
            Self::VectorLengthsDiffer => "VectorLengthsDiffer",
            Self::InvalidArgument => "InvalidArgument",
            Self::InvalidDateTime => "InvalidDateTime",
            Self::ArithmeticOverflow => "ArithmeticOverflow",
            Self::InvalidTarget => "InvalidTarget",
            Self::InvalidNodeDeallocationOption => "InvalidNodeDeallocationOption",
            Self::EvaluationTooLong => "EvaluationTooLong",
        }
    }
}

/// An evaluation failed: the pool stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("at {place}: {what}")]
pub struct RunError {
    /// The code that programs read.
    pub code: RunErrorCode,
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// What an operation says of its values; its place is known to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) code: RunErrorCode,
    pub(super) what: String,
}

impl Failed {
    pub(super) fn new(code: RunErrorCode, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }

    pub(super) fn at(self, place: Place) -> RunError {
        RunError { code: self.code, place, what: self.what }
    }
}
