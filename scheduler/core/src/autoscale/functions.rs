//! The functions, but for those that look at the clock or at chance.

use std::sync::Arc;

use super::error::{Failed, RunErrorCode};
use super::value::{Type, Value, mismatch};

/// A function of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Avg,
    Ceil,
    Floor,
    Len,
    Lg,
    Ln,
    Log,
    Max,
    Min,
    Norm,
    Percentile,
    Rand,
    Range,
    Round,
    Std,
    Stop,
    Sum,
    Time,
    Val,
}

impl Function {
    const ALL: [(&'static str, Self); 19] = [
        ("avg", Self::Avg),
        ("ceil", Self::Ceil),
        ("floor", Self::Floor),
        ("len", Self::Len),
        ("lg", Self::Lg),
        ("ln", Self::Ln),
        ("log", Self::Log),
        ("max", Self::Max),
        ("min", Self::Min),
        ("norm", Self::Norm),
        ("percentile", Self::Percentile),
        ("rand", Self::Rand),
        ("range", Self::Range),
        ("round", Self::Round),
        ("std", Self::Std),
        ("stop", Self::Stop),
        ("sum", Self::Sum),
        ("time", Self::Time),
        ("val", Self::Val),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(each, _)| *each == name).map(|(_, function)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    /// All names, for people.
    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The type of its value for arguments of these types; otherwise what it takes.
    pub(super) fn check(self, arguments: &[Type]) -> Result<Type, &'static str> {
        use Type::{Number, Text, Vector};
        let list = || {
            let numbers = arguments.iter().all(|each| matches!(each, Number | Vector));
            if numbers && !arguments.is_empty() {
                Ok(Number)
            } else {
                Err("numbers and vectors, at least one of them")
            }
        };
        match self {
            Self::Avg
            | Self::Len
            | Self::Max
            | Self::Min
            | Self::Norm
            | Self::Range
            | Self::Std
            | Self::Sum => list(),
            Self::Ceil | Self::Floor | Self::Lg | Self::Ln | Self::Log | Self::Round => {
                list().map(|number| if arguments == [Number] { number } else { Vector })
            }
            Self::Percentile | Self::Val => match arguments {
                [Vector, Number] => Ok(Number),
                _ => Err("a vector and a number"),
            },
            Self::Rand if arguments.is_empty() => Ok(Number),
            Self::Stop if arguments.is_empty() => Ok(Type::Never),
            Self::Rand | Self::Stop => Err("nothing"),
            Self::Time => match arguments {
                [] | [Text] => Ok(Type::Instant),
                _ => Err("nothing, or a text"),
            },
        }
    }

    /// Its value, for those that only depend on their arguments.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, Failed> {
        let one = matches!(arguments, [Value::Number(_)]);
        if let [Value::Vector(vector), Value::Number(number)] = arguments {
            match self {
                Self::Percentile => return percentile(vector, *number),
                Self::Val => return element(vector, *number),
                _ => {}
            }
        }
        let list = flatten(arguments)?;
        let each = |what: fn(f64) -> f64| match list.first() {
            Some(only) if one => Value::Number(what(*only)),
            _ => Value::Vector(list.iter().map(|n| what(*n)).collect()),
        };
        match self {
            Self::Ceil => return Ok(each(f64::ceil)),
            Self::Floor => return Ok(each(f64::floor)),
            Self::Round => return Ok(each(f64::round)),
            Self::Lg => return Ok(each(f64::log2)),
            Self::Ln => return Ok(each(f64::ln)),
            Self::Log => return Ok(each(f64::log10)),
            _ => {}
        }
        self.of_list(&list).map(Value::Number)
    }

    fn of_list(self, list: &[f64]) -> Result<f64, Failed> {
        #[expect(clippy::cast_precision_loss, reason = "vectors are short")]
        let length = list.len() as f64;
        let sum = || list.iter().sum::<f64>() + 0.0;
        match self {
            Self::Len => return Ok(length),
            Self::Sum => return Ok(sum()),
            Self::Norm => return Ok(list.iter().map(|n| n * n).sum::<f64>().sqrt()),
            _ => {}
        }
        if list.is_empty() {
            return Err(Failed::new(
                RunErrorCode::EmptyVector,
                format!(
                    "{} of no values: ask GetSamplePercent() first, or add one, as max(0, v) does",
                    self.name()
                ),
            ));
        }
        let max = || list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = || list.iter().copied().fold(f64::INFINITY, f64::min);
        match self {
            Self::Avg => Ok(sum() / length),
            Self::Max => Ok(max()),
            Self::Min => Ok(min()),
            Self::Range => Ok(max() - min()),
            Self::Std if list.len() == 1 => Ok(0.0),
            Self::Std => {
                let mean = sum() / length;
                let squares: f64 = list.iter().map(|n| (n - mean) * (n - mean)).sum();
                Ok((squares / (length - 1.0)).sqrt())
            }
            _ => Err(mismatch()),
        }
    }
}

/// Numbers and vectors as one vector.
fn flatten(arguments: &[Value]) -> Result<Arc<[f64]>, Failed> {
    if let [Value::Vector(only)] = arguments {
        return Ok(Arc::clone(only));
    }
    let mut list = Vec::new();
    for argument in arguments {
        match argument {
            Value::Number(number) => list.push(*number),
            Value::Vector(vector) => list.extend_from_slice(vector),
            _ => return Err(mismatch()),
        }
    }
    Ok(list.into())
}

/// The smallest element that at least `p` per cent of them do not exceed (the nearest rank).
fn percentile(vector: &[f64], p: f64) -> Result<Value, Failed> {
    if !(0.0..=100.0).contains(&p) {
        return Err(Failed::new(
            RunErrorCode::InvalidArgument,
            format!("a percentile is from 0 to 100, and not {p}"),
        ));
    }
    let mut sorted = vector.to_vec();
    // What is no number comes last, whatever its sign.
    sorted.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is from 0 to the length of a short vector"
    )]
    let rank = (p * sorted.len() as f64 / 100.0).ceil() as usize;
    match sorted.get(rank.max(1) - 1) {
        Some(element) => Ok(Value::Number(*element)),
        None => Err(Failed::new(
            RunErrorCode::EmptyVector,
            "percentile of no values: ask GetSamplePercent() first",
        )),
    }
}

/// The element of this index, from 0; a fraction of an index does not count.
fn element(vector: &[f64], index: f64) -> Result<Value, Failed> {
    let whole = index.trunc();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is not found is refused"
    )]
    let found = if whole >= 0.0 { vector.get(whole as usize) } else { None };
    found.map(|element| Value::Number(*element)).ok_or_else(|| {
        Failed::new(
            RunErrorCode::IndexOutOfRange,
            format!("there is no element {index}: the vector has {}, counted from 0", vector.len()),
        )
    })
}
