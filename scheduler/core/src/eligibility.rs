//! When a job may start: holds, begin times, deadlines and dependencies, after sbatch(1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::on::{BadOn, On, Tasks};

/// Most terms of one dependency, where each range of tasks counts as one.
pub const DEPENDENCY_TERMS_MAX: usize = 1000;

/// What must be so before a job's tasks may start. The default lets them start at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eligibility {
    /// Whether the job is held from its submission until somebody releases it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Timestamp>,
    /// Every task must have ended by then; one that could not is not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The shortest time limit, in seconds, with which a task may start if it would start later with its whole one, or
    /// miss its deadline; the time limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_min_s: Option<u64>,
    /// Which other jobs must have done what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
    /// Whether tasks whose dependency can never be fulfilled are cancelled rather than left waiting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_unfulfillable: bool,
}

impl Eligibility {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The last instant at which a task with this time limit may start and still end by the deadline.
    #[must_use]
    pub fn latest_start(&self, time_limit_s: Option<u64>) -> Option<Timestamp> {
        let needed_s = self.time_min_s.or(time_limit_s).unwrap_or(0);
        self.deadline.map(|deadline| Timestamp(deadline.0.saturating_sub(needed_s.saturating_mul(1_000_000))))
    }
}

/// What must have become of other jobs. Written as `afterok:12:13_4,afterany:14`: `,` joins terms that must all
/// hold, `?` terms of which one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dependency {
    /// Whether one term is enough.
    pub any: bool,
    /// The terms, at least one; each names one job or tasks of one.
    pub terms: Vec<Term>,
}

/// One thing that must have become of one job or of tasks of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// It started, or was cancelled before, and as many minutes have gone by since.
    After {
        /// Of what.
        on: On,
        /// Minutes.
        minutes: u32,
    },
    /// It ended, in whatever way.
    AfterAny(On),
    /// All of it ended with success.
    AfterOk(On),
    /// It ended, and not all of it with success.
    AfterNotOk(On),
    /// The task of the same index ended with success.
    AfterCorr(On),
    /// Every earlier job of the same user and name ended.
    Singleton,
}

impl Term {
    /// The job or tasks that it names.
    #[must_use]
    pub fn on(&self) -> Option<&On> {
        match self {
            Self::After { on, .. }
            | Self::AfterAny(on)
            | Self::AfterOk(on)
            | Self::AfterNotOk(on)
            | Self::AfterCorr(on) => Some(on),
            Self::Singleton => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::After { .. } => "after",
            Self::AfterAny(_) => "afterany",
            Self::AfterOk(_) => "afterok",
            Self::AfterNotOk(_) => "afternotok",
            Self::AfterCorr(_) => "aftercorr",
            Self::Singleton => "singleton",
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::After { on, minutes: 0 } => write!(f, ":{on}"),
            Self::After { on, minutes } => write!(f, ":{on}+{minutes}"),
            _ => self.on().map_or(Ok(()), |on| write!(f, ":{on}")),
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(if self.any { "?" } else { "," })?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

/// A text that is not a dependency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDependency {
    /// Both `,` and `?`.
    #[error("'{text}' mixes ',' and '?': all of the terms must hold (,), or one of them (?), not both")]
    Mixed {
        /// What was written.
        text: String,
    },
    /// A word that is no kind.
    #[error(
        "'{term}' is not a dependency: write after, afterany, afterok, afternotok or aftercorr with jobs, such as \
         afterok:12:13_4, or singleton"
    )]
    Kind {
        /// The term.
        term: String,
    },
    /// Minutes that are no number, or where none may be.
    #[error("'{term}': minutes are written as in after:12+5, and with 'after' only")]
    Minutes {
        /// The term.
        term: String,
    },
    /// No job and no tasks are named.
    #[error("'{term}': {source}")]
    Job {
        /// The term.
        term: String,
        /// Why.
        #[source]
        source: BadOn,
    },
    /// Too many terms.
    #[error(
        "a dependency names at most {DEPENDENCY_TERMS_MAX} jobs or ranges of tasks, this one names {found}"
    )]
    TooMany {
        /// How many.
        found: usize,
    },
}

impl FromStr for Dependency {
    type Err = BadDependency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let any = text.contains('?');
        if any && split_outside_brackets(text, ',').count() > 1 {
            return Err(BadDependency::Mixed { text: text.to_owned() });
        }
        let mut read = Self { any, terms: Vec::new() };
        for part in split_outside_brackets(text, if any { '?' } else { ',' }) {
            read_terms(part, &mut read.terms)?;
            if read.size() > DEPENDENCY_TERMS_MAX {
                return Err(BadDependency::TooMany { found: read.size() });
            }
        }
        Ok(read)
    }
}

impl Dependency {
    /// How many jobs, tasks and ranges of tasks it names.
    #[must_use]
    pub fn size(&self) -> usize {
        let of = |term: &Term| match term.on().map(|on| &on.tasks) {
            Some(Tasks::Ranges(ranges)) => ranges.len(),
            _ => 1,
        };
        self.terms.iter().map(of).sum()
    }
}

/// The parts of a text between separators that stand outside brackets.
fn split_outside_brackets(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == separator && depth == 0
    })
}

/// Reads `afterok:12:13_4` into two terms.
fn read_terms(part: &str, terms: &mut Vec<Term>) -> Result<(), BadDependency> {
    let part = part.trim();
    let unknown = || BadDependency::Kind { term: part.to_owned() };
    let mut words = split_outside_brackets(part, ':');
    let kind = words.next().unwrap_or_default().to_ascii_lowercase();
    if kind == "singleton" {
        if words.next().is_some() {
            return Err(unknown());
        }
        terms.push(Term::Singleton);
        return Ok(());
    }
    let make: fn(On) -> Term = match kind.as_str() {
        "after" => |on| Term::After { on, minutes: 0 },
        "afterany" => Term::AfterAny,
        "afterok" => Term::AfterOk,
        "afternotok" => Term::AfterNotOk,
        "aftercorr" => Term::AfterCorr,
        _ => return Err(unknown()),
    };
    let before = terms.len();
    for word in words {
        let (job, minutes) = word.split_once('+').map_or((word, None), |(job, late)| (job, Some(late)));
        let on: On = job.parse().map_err(|source| BadDependency::Job { term: part.to_owned(), source })?;
        terms.push(match (make(on), minutes) {
            (term, None) => term,
            (Term::After { on, .. }, Some(minutes)) if minutes.bytes().all(|b| b.is_ascii_digit()) => {
                let minutes =
                    minutes.parse().map_err(|_| BadDependency::Minutes { term: part.to_owned() })?;
                Term::After { on, minutes }
            }
            _ => return Err(BadDependency::Minutes { term: part.to_owned() }),
        });
    }
    if terms.len() == before { Err(unknown()) } else { Ok(()) }
}

impl TryFrom<String> for Dependency {
    type Error = BadDependency;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Dependency> for String {
    fn from(dependency: Dependency) -> Self {
        dependency.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_as_sbatch_reads_them() {
        for (text, written) in [
            ("afterok:12", "afterok:12"),
            ("afterok:1:2_3,afterany:4", "afterok:1,afterok:2_3,afterany:4"),
            ("AFTERNOTOK:1?singleton", "afternotok:1?singleton"),
            ("after:1+5:2", "after:1+5,after:2"),
            ("aftercorr:7", "aftercorr:7"),
            ("afterok:1_[2-9:3,11]:4,after:5_[0-1]+5", "afterok:1_[2-8:3,11],afterok:4,after:5_[0-1]+5"),
            ("afterok:1_[2,4]?afterany:1_[2]", "afterok:1_[2,4]?afterany:1_2"),
        ] {
            let read: Dependency = text.parse().unwrap();
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(written.parse::<Dependency>().unwrap(), read, "{text}");
        }
        for (text, told) in [
            ("", "is not a dependency"),
            ("afterok", "is not a dependency"),
            ("afterok:", "is not a job id"),
            ("before:1", "is not a dependency"),
            ("singleton:1", "is not a dependency"),
            ("afterok:1+5", "minutes are written as in after:12+5"),
            ("after:1+", "minutes"),
            ("after:1++5", "minutes"),
            ("afterok:1,afterany:2?singleton", "mixes ',' and '?'"),
            ("afterok:1_[2-1]", "write ranges that do not overlap"),
            ("afterok:1_[2,3", "write ranges that do not overlap"),
            ("afterok:1_[2]x", "does not name tasks"),
        ] {
            let problem = text.parse::<Dependency>().expect_err(text).to_string();
            assert!(problem.contains(told), "{text}: {problem}");
        }
        let many = format!("afterok{}", ":1".repeat(DEPENDENCY_TERMS_MAX + 1));
        assert!(many.parse::<Dependency>().unwrap_err().to_string().contains("at most 1000"));
        let indices = |count: u32| (0..count).map(|i| (2 * i).to_string()).collect::<Vec<_>>().join(",");
        let ranges = |count: u32| format!("afterok:1_[{}]", indices(count)).parse::<Dependency>();
        assert_eq!(ranges(1000).unwrap().size(), DEPENDENCY_TERMS_MAX);
        assert!(ranges(1001).unwrap_err().to_string().contains("this one names 1001"));
    }

    #[test]
    fn the_last_instant_to_start_leaves_the_time_that_is_needed() {
        let mut when = Eligibility { deadline: Some(Timestamp(100_000_000)), ..Eligibility::default() };
        assert_eq!(when.latest_start(Some(60)), Some(Timestamp(40_000_000)));
        when.time_min_s = Some(10);
        assert_eq!(when.latest_start(Some(60)), Some(Timestamp(90_000_000)));
        assert_eq!(Eligibility::default().latest_start(Some(60)), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3000))]

        #[test]
        fn what_is_nearly_right_is_read_or_refused(
            text in crate::mutated::of(
                &["afterok:1:2_3,afterany:4", "after:1+5:2?singleton", "aftercorr:7,afternotok:18446744073709551615"],
                5,
            ),
        ) {
            if let Ok(dependency) = text.parse::<Dependency>() {
                proptest::prop_assert_eq!(dependency.to_string().parse::<Dependency>().unwrap(), dependency);
            }
        }
    }
}
