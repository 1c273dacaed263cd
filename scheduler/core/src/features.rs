//! Features of nodes, and which of them a task asks for, after sbatch(1), `--constraint`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest constraint, in bytes.
pub const CONSTRAINT_BYTES_MAX: usize = 4096;
/// Longest name of a feature, in bytes.
pub const FEATURE_BYTES_MAX: usize = 64;
/// How deep parentheses may be nested.
const DEPTH_MAX: u32 = 32;

/// Whether `name` can name a feature: letters, digits, `_`, `-`, `.`, `+`, `:`, `/`, `@` and `%`, not beginning with
/// a sign.
#[must_use]
pub fn is_feature(name: &str) -> bool {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"_-.+:/@%".contains(&b);
    name.len() <= FEATURE_BYTES_MAX
        && name.bytes().all(is_good)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Which features every node of a task must have. Written as `(intel|amd)&gpu&!old`: `&` and `|` bind equally and
/// are read from the left, as Slurm reads them; `!` says that a node must not have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Constraint {
    /// This feature.
    Feature(String),
    /// Not this.
    Not(Box<Constraint>),
    /// Both.
    And(Box<Constraint>, Box<Constraint>),
    /// One or both.
    Or(Box<Constraint>, Box<Constraint>),
}

impl Constraint {
    /// Whether a node with these features is right.
    #[must_use]
    pub fn holds(&self, features: &BTreeSet<String>) -> bool {
        match self {
            Self::Feature(name) => features.contains(name),
            Self::Not(inner) => !inner.holds(features),
            Self::And(left, right) => left.holds(features) && right.holds(features),
            Self::Or(left, right) => left.holds(features) || right.holds(features),
        }
    }

    /// The features that it names.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        match self {
            Self::Feature(name) => BTreeSet::from([name.as_str()]),
            Self::Not(inner) => inner.names(),
            Self::And(left, right) | Self::Or(left, right) => {
                let mut names = left.names();
                names.extend(right.names());
                names
            }
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything but a name or its opposite is put in parentheses on the right-hand side, and where the
        // left-hand side's sign differs, so that it is read back as it was meant.
        let wrapped = |f: &mut fmt::Formatter<'_>, inner: &Self, is_needed: bool| {
            if is_needed { write!(f, "({inner})") } else { write!(f, "{inner}") }
        };
        match self {
            Self::Feature(name) => f.write_str(name),
            Self::Not(inner) => {
                f.write_str("!")?;
                wrapped(f, inner, matches!(**inner, Self::And(..) | Self::Or(..)))
            }
            Self::And(left, right) | Self::Or(left, right) => {
                let is_and = matches!(self, Self::And(..));
                let differs =
                    if is_and { matches!(**left, Self::Or(..)) } else { matches!(**left, Self::And(..)) };
                wrapped(f, left, differs)?;
                f.write_str(if is_and { "&" } else { "|" })?;
                wrapped(f, right, matches!(**right, Self::And(..) | Self::Or(..)))
            }
        }
    }
}

/// A text that is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConstraint {
    /// Not an expression of features.
    #[error(
        "'{text}' is not a constraint: write features joined with & (and) and | (or), such as (intel|amd)&!old; \
         quote it, so that the shell leaves it alone"
    )]
    Syntax {
        /// What was written.
        text: String,
    },
    /// Slurm's counts, or its wish for equal nodes.
    #[error(
        "'{text}' asks for numbers of nodes, or for nodes that are alike, by [ ] or *: here a constraint is about each \
         node by itself; submit one job for each kind of node, or name the features of one kind"
    )]
    Counts {
        /// What was written.
        text: String,
    },
    /// Too long, or too deep.
    #[error(
        "a constraint has at most {CONSTRAINT_BYTES_MAX} bytes and {DEPTH_MAX} parentheses in one another"
    )]
    TooLong,
}

impl FromStr for Constraint {
    type Err = BadConstraint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > CONSTRAINT_BYTES_MAX {
            return Err(BadConstraint::TooLong);
        }
        if text.contains(['[', ']', '*']) {
            return Err(BadConstraint::Counts { text: text.to_owned() });
        }
        let mut reader = Reader { text, rest: text };
        let constraint = reader.expression(0)?;
        if reader.rest.is_empty() { Ok(constraint) } else { Err(reader.syntax()) }
    }
}

struct Reader<'t> {
    text: &'t str,
    rest: &'t str,
}

impl Reader<'_> {
    fn syntax(&self) -> BadConstraint {
        BadConstraint::Syntax { text: self.text.to_owned() }
    }

    fn take(&mut self, sign: char) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expression(&mut self, depth: u32) -> Result<Constraint, BadConstraint> {
        if depth > DEPTH_MAX {
            return Err(BadConstraint::TooLong);
        }
        let mut left = self.part(depth)?;
        loop {
            // Slurm reads a comma as an ampersand.
            if self.take('&') || self.take(',') {
                left = Constraint::And(Box::new(left), Box::new(self.part(depth)?));
            } else if self.take('|') {
                left = Constraint::Or(Box::new(left), Box::new(self.part(depth)?));
            } else {
                self.rest = self.rest.trim_start();
                return Ok(left);
            }
        }
    }

    fn part(&mut self, depth: u32) -> Result<Constraint, BadConstraint> {
        if depth > DEPTH_MAX {
            return Err(BadConstraint::TooLong);
        }
        if self.take('!') {
            return Ok(Constraint::Not(Box::new(self.part(depth + 1)?)));
        }
        if self.take('(') {
            let inner = self.expression(depth + 1)?;
            return if self.take(')') { Ok(inner) } else { Err(self.syntax()) };
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| "&|,!()".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if !is_feature(name) {
            return Err(self.syntax());
        }
        self.rest = rest;
        Ok(Constraint::Feature(name.to_owned()))
    }
}

impl TryFrom<String> for Constraint {
    type Error = BadConstraint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn constraints_are_read_as_slurm_reads_them() {
        let features: BTreeSet<String> = ["intel", "gpu", "rack-1"].map(str::to_owned).into();
        for (text, written, holds) in [
            ("intel", "intel", true),
            ("!intel", "!intel", false),
            ("intel&gpu", "intel&gpu", true),
            ("intel,amd", "intel&amd", false),
            ("amd|intel&old", "(amd|intel)&old", false),
            ("amd|(intel&gpu)", "amd|(intel&gpu)", true),
            (" ( amd | intel ) & !old ", "(amd|intel)&!old", true),
            ("!(amd|rack-1)", "!(amd|rack-1)", false),
        ] {
            let read: Constraint = text.parse().unwrap();
            assert_eq!((read.to_string().as_str(), read.holds(&features)), (written, holds), "{text}");
        }
        for (text, told) in [
            ("", "not a constraint"),
            ("a&", "not a constraint"),
            ("(a", "not a constraint"),
            ("a)", "not a constraint"),
            ("a b", "not a constraint"),
            ("a&&b", "not a constraint"),
            ("[rack1|rack2]", "for each kind of node"),
            ("a*2", "for each kind of node"),
        ] {
            let problem = text.parse::<Constraint>().expect_err(text).to_string();
            assert!(problem.contains(told), "{text}: {problem}");
        }
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(deep.parse::<Constraint>(), Err(BadConstraint::TooLong));
        assert_eq!("!".repeat(1000).parse::<Constraint>(), Err(BadConstraint::TooLong));
    }

    fn any_constraint() -> impl Strategy<Value = Constraint> {
        let leaf = "[a-d]".prop_map(Constraint::Feature);
        leaf.prop_recursive(4, 16, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|a| Constraint::Not(Box::new(a))),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Constraint::And(Box::new(a), Box::new(b))),
                (inner.clone(), inner).prop_map(|(a, b)| Constraint::Or(Box::new(a), Box::new(b))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_constraint_is_read_back_as_it_was_meant(constraint in any_constraint()) {
            prop_assert_eq!(constraint.to_string().parse::<Constraint>().unwrap(), constraint);
        }

        #[test]
        fn what_is_nearly_right_is_read_or_refused(
            text in crate::mutated::of(&["(intel|amd)&!old", "a&b|c&!(d|!e)", "gpu,rack-1"], 6),
        ) {
            if let Ok(constraint) = text.parse::<Constraint>() {
                prop_assert_eq!(constraint.to_string().parse::<Constraint>().unwrap(), constraint);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-c&|!(), é]{0,30}") {
            let _ = text.parse::<Constraint>();
        }
    }
}
