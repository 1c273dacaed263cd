//! What expressions have as their values, and what can be done with them.

use std::fmt;
use std::sync::Arc;

use super::ast::{Binary, Member, Unary};
use super::error::{Failed, RunErrorCode};
use crate::ids::Timestamp;

/// An instant, in ticks of 100 ns since 1970-01-01 UTC, in the years 1 to 9998.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(i64);

/// A span of time in ticks of 100 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(i64);

/// The value of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `double`. Comparisons are 1 or 0.
    Number(f64),
    /// `doubleVec`.
    Vector(Arc<[f64]>),
    /// `string`.
    Text(Arc<str>),
    /// `timestamp`.
    Instant(Instant),
    /// `timeinterval`.
    Interval(Interval),
}

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Number,
    Vector,
    Text,
    Instant,
    Interval,
    /// `stop()`, which has none.
    Never,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Number => "double",
            Self::Vector => "doubleVec",
            Self::Text => "string",
            Self::Instant => "timestamp",
            Self::Interval => "timeinterval",
            Self::Never => "nothing",
        }
    }

    /// The type of `self sign other`, if that means anything.
    pub(super) fn binary(self, sign: Binary, other: Self) -> Option<Self> {
        use Type::{Instant, Interval, Number, Text, Vector};
        match (self, sign, other) {
            (Number, _, Number) => Some(Number),
            (
                Vector | Number,
                Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide,
                Vector | Number,
            ) => Some(Vector),
            (Number, Binary::Multiply, Interval)
            | (Interval, Binary::Multiply | Binary::Divide, Number)
            | (Interval, Binary::Add | Binary::Subtract, Interval)
            | (Instant, Binary::Subtract, Instant) => Some(Interval),
            (Interval, Binary::Add, Instant) | (Instant, Binary::Add | Binary::Subtract, Interval) => {
                Some(Instant)
            }
            (Text, sign, Text) | (Instant, sign, Instant) | (Interval, sign, Interval) if compares(sign) => {
                Some(Number)
            }
            _ => None,
        }
    }

    /// The type after a sign before it.
    pub(super) fn unary(self, sign: Unary) -> Option<Self> {
        match (sign, self) {
            (_, Self::Number) => Some(Self::Number),
            (Unary::Minus, Self::Interval) => Some(Self::Interval),
            _ => None,
        }
    }
}

fn compares(sign: Binary) -> bool {
    matches!(
        sign,
        Binary::Equal
            | Binary::NotEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::Greater
            | Binary::GreaterOrEqual
    )
}

fn overflow() -> Failed {
    Failed::new(RunErrorCode::ArithmeticOverflow, "this instant or interval is out of range")
}

impl Instant {
    /// 0001-01-01T00:00:00Z.
    const MIN: i64 = -621_355_968_000_000_000;
    /// 9998-12-31T23:59:59.9999999Z.
    const MAX: i64 = 2_533_707_647_999_999_999;

    pub(super) fn new(ticks: i64) -> Result<Self, Failed> {
        if (Self::MIN..=Self::MAX).contains(&ticks) { Ok(Self(ticks)) } else { Err(overflow()) }
    }

    pub(super) fn from_timestamp(at: Timestamp) -> Self {
        Self(i64::try_from(at.0).unwrap_or(i64::MAX).saturating_mul(10).min(Self::MAX))
    }

    /// Reads a date in the W3C's profile of ISO 8601 or as RFC 1123 has it; one without an offset is in UTC.
    pub(super) fn parse(text: &str) -> Result<Self, Failed> {
        let wrong = || {
            Failed::new(
                RunErrorCode::InvalidDateTime,
                "this is no date: write 2011-05-08T08:49:37Z or Sun, 08 May 2011 08:49:37 GMT",
            )
        };
        let text = text.trim();
        let instant = text
            .parse::<jiff::Timestamp>()
            .ok()
            .or_else(|| {
                let digits = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T');
                let civil =
                    text.bytes().all(digits).then(|| text.parse::<jiff::civil::DateTime>().ok())??;
                civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
            })
            .or_else(|| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()))
            .ok_or_else(wrong)?;
        let ticks = instant.as_nanosecond().div_euclid(100);
        Self::new(i64::try_from(ticks).map_err(|_| wrong())?).map_err(|_| wrong())
    }

    /// Ticks of 100 ns since 1970.
    #[must_use]
    pub fn ticks(self) -> i64 {
        self.0
    }

    fn civil(self) -> jiff::civil::DateTime {
        let nanos = i128::from(self.0) * 100;
        jiff::Timestamp::from_nanosecond(nanos)
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .datetime()
    }

    pub(super) fn member(self, member: Member) -> f64 {
        let civil = self.civil();
        match member {
            Member::Year => f64::from(civil.year()),
            Member::Month => f64::from(civil.month()),
            Member::Day => f64::from(civil.day()),
            Member::Weekday => f64::from(civil.weekday().to_sunday_zero_offset()),
            Member::Hour => f64::from(civil.hour()),
            Member::Minute => f64::from(civil.minute()),
            Member::Second => f64::from(civil.second()),
        }
    }
}

impl Interval {
    /// Ticks of a second.
    pub(super) const SECOND: i64 = 10_000_000;

    /// The constants, by their names.
    pub(super) const CONSTANTS: [(&'static str, Self); 10] = [
        ("TimeInterval_Zero", Self(0)),
        ("TimeInterval_100ns", Self(1)),
        ("TimeInterval_Microsecond", Self(10)),
        ("TimeInterval_Millisecond", Self(10_000)),
        ("TimeInterval_Second", Self(Self::SECOND)),
        ("TimeInterval_Minute", Self(60 * Self::SECOND)),
        ("TimeInterval_Hour", Self(3600 * Self::SECOND)),
        ("TimeInterval_Day", Self(86_400 * Self::SECOND)),
        ("TimeInterval_Week", Self(7 * 86_400 * Self::SECOND)),
        ("TimeInterval_Year", Self(365 * 86_400 * Self::SECOND)),
    ];

    /// This many seconds.
    pub(super) fn seconds(seconds: u32) -> Self {
        Self(i64::from(seconds) * Self::SECOND)
    }

    /// Ticks of 100 ns.
    #[must_use]
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// The whole number of ticks that is nearest.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "what does not fit is refused"
    )]
    fn from_f64(ticks: f64) -> Result<Self, Failed> {
        let ticks = ticks.round();
        // 2^63 is the first that does not fit; no number is what NaN is.
        if ticks.abs() < i64::MAX as f64 { Ok(Self(ticks as i64)) } else { Err(overflow()) }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as docs/autoscale.md says: intervals times numbers are doubles"
    )]
    fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

impl Value {
    /// How many elements it has.
    pub(super) fn len(&self) -> usize {
        if let Self::Vector(elements) = self { elements.len() } else { 1 }
    }

    pub(super) fn binary(&self, sign: Binary, other: &Self) -> Result<Self, Failed> {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Ok(Self::Number(number(*a, sign, *b))),
            (Self::Vector(a), Self::Number(b)) => {
                Ok(Self::Vector(a.iter().map(|a| number(*a, sign, *b)).collect()))
            }
            (Self::Number(a), Self::Vector(b)) => {
                Ok(Self::Vector(b.iter().map(|b| number(*a, sign, *b)).collect()))
            }
            (Self::Vector(a), Self::Vector(b)) if a.len() == b.len() => {
                Ok(Self::Vector(a.iter().zip(b.iter()).map(|(a, b)| number(*a, sign, *b)).collect()))
            }
            (Self::Vector(a), Self::Vector(b)) => Err(Failed::new(
                RunErrorCode::VectorLengthsDiffer,
                format!("the vectors have {} and {} elements, and must have as many", a.len(), b.len()),
            )),
            (Self::Text(a), Self::Text(b)) => Ok(truth(ordered(a.cmp(b), sign))),
            (Self::Instant(a), Self::Instant(b)) if sign == Binary::Subtract => {
                Ok(Self::Interval(Interval(a.0.checked_sub(b.0).ok_or_else(overflow)?)))
            }
            (Self::Instant(a), Self::Instant(b)) => Ok(truth(ordered(a.cmp(b), sign))),
            (Self::Interval(a), Self::Interval(b)) => match sign {
                Binary::Add => Ok(Self::Interval(Interval(a.0.checked_add(b.0).ok_or_else(overflow)?))),
                Binary::Subtract => Ok(Self::Interval(Interval(a.0.checked_sub(b.0).ok_or_else(overflow)?))),
                _ => Ok(truth(ordered(a.cmp(b), sign))),
            },
            (Self::Number(a), Self::Interval(b)) => Interval::from_f64(a * b.as_f64()).map(Self::Interval),
            (Self::Interval(a), Self::Number(b)) if sign == Binary::Multiply => {
                Interval::from_f64(a.as_f64() * b).map(Self::Interval)
            }
            (Self::Interval(a), Self::Number(b)) => Interval::from_f64(a.as_f64() / b).map(Self::Interval),
            (Self::Instant(a), Self::Interval(b)) if sign == Binary::Subtract => {
                a.minus(*b).map(Self::Instant)
            }
            (Self::Instant(a), Self::Interval(b)) | (Self::Interval(b), Self::Instant(a)) => {
                Instant::new(a.0.checked_add(b.0).ok_or_else(overflow)?).map(Self::Instant)
            }
            _ => Err(mismatch()),
        }
    }

    pub(super) fn unary(&self, sign: Unary) -> Result<Self, Failed> {
        match (sign, self) {
            (Unary::Minus, Self::Number(a)) => Ok(Self::Number(-a)),
            (Unary::Not, Self::Number(a)) => Ok(truth(*a == 0.0)),
            (Unary::Minus, Self::Interval(a)) => {
                Ok(Self::Interval(Interval(a.0.checked_neg().ok_or_else(overflow)?)))
            }
            _ => Err(mismatch()),
        }
    }

    /// Whether it counts as true, if it is a number.
    pub(super) fn is_true(&self) -> Result<bool, Failed> {
        self.number().map(|number| number != 0.0)
    }

    pub(super) fn number(&self) -> Result<f64, Failed> {
        if let Self::Number(number) = self { Ok(*number) } else { Err(mismatch()) }
    }
}

impl Instant {
    pub(super) fn minus(self, interval: Interval) -> Result<Self, Failed> {
        Self::new(self.0.checked_sub(interval.0).ok_or_else(overflow)?)
    }
}

/// What the check of types has ruled out.
pub(super) fn mismatch() -> Failed {
    Failed::new(RunErrorCode::InvalidArgument, "this operation is not for values of these types")
}

pub(super) fn truth(holds: bool) -> Value {
    Value::Number(f64::from(u8::from(holds)))
}

#[expect(clippy::float_cmp, reason = "that is what == asks for")]
fn number(a: f64, sign: Binary, b: f64) -> f64 {
    let holds = match sign {
        Binary::Add => return a + b,
        Binary::Subtract => return a - b,
        Binary::Multiply => return a * b,
        Binary::Divide => return a / b,
        Binary::Or => a != 0.0 || b != 0.0,
        Binary::And => a != 0.0 && b != 0.0,
        Binary::Equal => a == b,
        Binary::NotEqual => a != b,
        Binary::Less => a < b,
        Binary::LessOrEqual => a <= b,
        Binary::Greater => a > b,
        Binary::GreaterOrEqual => a >= b,
    };
    f64::from(u8::from(holds))
}

fn ordered(order: std::cmp::Ordering, sign: Binary) -> bool {
    match sign {
        Binary::Equal => order.is_eq(),
        Binary::NotEqual => order.is_ne(),
        Binary::Less => order.is_lt(),
        Binary::LessOrEqual => order.is_le(),
        Binary::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// As `autoScaleRun.results` has it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write_number(f, *number),
            Self::Vector(elements) => {
                f.write_str("[")?;
                for (n, element) in elements.iter().enumerate() {
                    if n > 0 {
                        f.write_str(",")?;
                    }
                    write_number(f, *element)?;
                }
                f.write_str("]")
            }
            Self::Text(text) => f.write_str(text),
            Self::Instant(instant) => {
                let civil = instant.civil();
                write!(f, "{}", civil.strftime("%Y-%m-%dT%H:%M:%S"))?;
                write_fraction(f, instant.0.rem_euclid(Interval::SECOND))?;
                f.write_str("Z")
            }
            Self::Interval(interval) => {
                if interval.0 < 0 {
                    f.write_str("-")?;
                }
                let ticks = interval.0.unsigned_abs();
                let second = Interval::SECOND.unsigned_abs();
                let seconds = ticks / second;
                if seconds >= 86_400 {
                    write!(f, "{}.", seconds / 86_400)?;
                }
                write!(f, "{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)?;
                write_fraction(f, i64::try_from(ticks % second).unwrap_or(0))
            }
        }
    }
}

fn write_number(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    match number {
        n if n == f64::INFINITY => f.write_str("Infinity"),
        n if n == f64::NEG_INFINITY => f.write_str("-Infinity"),
        // There is no minus zero.
        n => write!(f, "{}", n + 0.0),
    }
}

/// The part of a second, without zeros at its end.
fn write_fraction(f: &mut fmt::Formatter<'_>, ticks: i64) -> fmt::Result {
    if ticks == 0 {
        return Ok(());
    }
    write!(f, ".{}", format!("{ticks:07}").trim_end_matches('0'))
}
