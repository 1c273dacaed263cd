//! A formula as it is read: names are already what they stand for.

use super::Metric;
use super::error::Place;
use super::functions::Function;
use super::value::Value;

/// `name = expression`, or an expression alone.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// What is set, and where it stands.
    pub(super) target: Option<(Variable, Place)>,
    pub(super) expression: Expression,
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Variable {
    /// `$TargetDedicatedNodes`, and by its other name `$TargetDedicated`.
    Dedicated { alias: bool },
    /// `$TargetLowPriorityNodes`, and by its other name `$TargetLowPriority`.
    LowPriority { alias: bool },
    /// `$NodeDeallocationOption`.
    Deallocation,
    /// The user's own, without a dollar sign.
    Own(String),
}

impl Variable {
    /// The name as people write it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dedicated { alias: false } => "$TargetDedicatedNodes".to_owned(),
            Self::Dedicated { alias: true } => "$TargetDedicated".to_owned(),
            Self::LowPriority { alias: false } => "$TargetLowPriorityNodes".to_owned(),
            Self::LowPriority { alias: true } => "$TargetLowPriority".to_owned(),
            Self::Deallocation => "$NodeDeallocationOption".to_owned(),
            Self::Own(name) => format!("${name}"),
        }
    }
}

/// An expression, and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// Operators of one rank that follow each other are one expression, so that long sums are not deep.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Constant(Value),
    Variable(Variable),
    Metric(Metric),
    /// `a op b op c`, from the left.
    Chain(Box<Expression>, Vec<(Binary, Place, Expression)>),
    Unary(Unary, Box<Expression>),
    Choice(Box<[Expression; 3]>),
    Call(Function, Vec<Expression>),
    Member(Box<Expression>, Member),
    Method(Metric, Method, Vec<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Binary {
    /// All of them, by rank: those that bind least come first.
    pub(super) const RANKS: [&[Self]; 6] = [
        &[Self::Or],
        &[Self::And],
        &[Self::Equal, Self::NotEqual],
        &[Self::Less, Self::LessOrEqual, Self::Greater, Self::GreaterOrEqual],
        &[Self::Add, Self::Subtract],
        &[Self::Multiply, Self::Divide],
    ];

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Minus,
    Not,
}

/// A part of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Year,
    Month,
    Day,
    Weekday,
    Hour,
    Minute,
    Second,
}

impl Member {
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("year", Self::Year),
        ("month", Self::Month),
        ("day", Self::Day),
        ("weekday", Self::Weekday),
        ("hour", Self::Hour),
        ("minute", Self::Minute),
        ("second", Self::Second),
    ];
}

/// What a metric can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    GetSample,
    GetSamplePercent,
    GetSamplePeriod,
    Count,
    HistoryBeginTime,
}

impl Method {
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("GetSample", Self::GetSample),
        ("GetSamplePercent", Self::GetSamplePercent),
        ("GetSamplePeriod", Self::GetSamplePeriod),
        ("Count", Self::Count),
        ("HistoryBeginTime", Self::HistoryBeginTime),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}
