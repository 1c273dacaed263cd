//! A filter that has been read and checked, and what it says of a row.

use std::cmp::Ordering;
use std::fmt;

use muster_core::ids::Timestamp;

use super::Property;

/// The value of a row's property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// The row has none: only `ne` holds of it.
    None,
    /// A text, or the name of a state.
    Text(&'a str),
    /// An instant.
    Instant(Timestamp),
    /// A number.
    Number(i64),
    /// Yes or no.
    Boolean(bool),
}

/// A row of a list.
pub trait Properties {
    /// The value of one of its properties; [`Value::None`] for one that it does not have.
    fn value(&self, property: Property) -> Value<'_>;
}

/// What a property is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// An instant, to the second or finer.
    Instant(Timestamp),
    /// A number.
    Number(f64),
    /// Yes or no.
    Boolean(bool),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`name` has the words")]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Equal, Self::NotEqual, Self::Greater, Self::GreaterOrEqual, Self::Less, Self::LessOrEqual];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::NotEqual => "ne",
            Self::Greater => "gt",
            Self::GreaterOrEqual => "ge",
            Self::Less => "lt",
            Self::LessOrEqual => "le",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// At least one of these, of which there are two or more.
    Any(Vec<Term>),
    /// All of these, of which there are two or more.
    All(Vec<Term>),
    /// `property operator literal`.
    Compare {
        /// The property.
        property: Property,
        /// How.
        comparison: Comparison,
        /// With what.
        literal: Literal,
    },
    /// `startswith(property, 'prefix')`.
    StartsWith {
        /// The property.
        property: Property,
        /// How it must begin.
        prefix: String,
    },
}

/// A filter, ready to be asked for each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub(super) term: Term,
}

impl Filter {
    /// Whether the row is wanted.
    #[must_use]
    pub fn wants(&self, row: &impl Properties) -> bool {
        self.term.holds(row)
    }

    /// The text that this property must be equal to (in any case of letters) in every row that is wanted: for those who
    /// keep an index by it.
    #[must_use]
    pub fn pinned(&self, property: Property) -> Option<&str> {
        self.term.pinned(property)
    }

    /// The whole expression.
    #[must_use]
    pub fn term(&self) -> &Term {
        &self.term
    }
}

impl Term {
    fn holds(&self, row: &impl Properties) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.holds(row)),
            Self::All(terms) => terms.iter().all(|term| term.holds(row)),
            Self::Compare { property, comparison, literal } => match compare(row.value(*property), literal) {
                Some(order) => comparison.holds(order),
                None => *comparison == Comparison::NotEqual,
            },
            Self::StartsWith { property, prefix } => {
                matches!(row.value(*property), Value::Text(text) if starts_with(text, prefix))
            }
        }
    }

    fn pinned(&self, wanted: Property) -> Option<&str> {
        match self {
            Self::All(terms) => terms.iter().find_map(|term| term.pinned(wanted)),
            Self::Compare { property, comparison: Comparison::Equal, literal: Literal::Text(text) }
                if *property == wanted =>
            {
                Some(text)
            }
            _ => None,
        }
    }
}

/// How a value stands to a literal; nothing if there is no value.
fn compare(value: Value<'_>, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Text(text), Literal::Text(literal)) => Some(compare_text(text, literal)),
        (Value::Instant(instant), Literal::Instant(literal)) => Some(instant.cmp(literal)),
        // Exit codes and counts are far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "larger numbers do not occur")]
        (Value::Number(number), Literal::Number(literal)) => (number as f64).partial_cmp(literal),
        (Value::Boolean(boolean), Literal::Boolean(literal)) => Some(boolean.cmp(literal)),
        _ => None,
    }
}

/// Compares two texts, in which the case of letters does not count.
fn compare_text(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()));
    }
    a.chars().flat_map(char::to_lowercase).cmp(b.chars().flat_map(char::to_lowercase))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    if let Some(head) = text.as_bytes().get(..prefix.len())
        && head.is_ascii()
        && prefix.is_ascii()
    {
        return head.eq_ignore_ascii_case(prefix.as_bytes());
    }
    let mut text = text.chars().flat_map(char::to_lowercase);
    prefix.chars().flat_map(char::to_lowercase).all(|wanted| text.next() == Some(wanted))
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.term)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(terms) => join(f, terms, " or "),
            Self::All(terms) => join(f, terms, " and "),
            Self::Compare { property, comparison, literal } => {
                write!(f, "{} {} {literal}", property.path(), comparison.name())
            }
            Self::StartsWith { property, prefix } => {
                write!(f, "startswith({},{})", property.path(), Literal::Text(prefix.clone()))
            }
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, terms: &[Term], word: &str) -> fmt::Result {
    for (n, term) in terms.iter().enumerate() {
        if n > 0 {
            f.write_str(word)?;
        }
        match term {
            Term::Any(_) | Term::All(_) => write!(f, "({term})")?,
            _ => write!(f, "{term}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Instant(instant) => {
                let micros = i64::try_from(instant.0).unwrap_or(i64::MAX);
                let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
                write!(f, "DateTime'{instant}'")
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
        }
    }
}
