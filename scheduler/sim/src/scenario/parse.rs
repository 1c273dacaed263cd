//! Lines, words and settings.

use muster_core::gres::{self, Gres};
use muster_core::notation;

/// Most lines of a scenario.
pub const LINES_MAX: usize = 10_000;

/// What is wrong with a scenario, or came otherwise than it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A line cannot be read.
    #[error("line {line}: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An expectation was not met.
    #[error("line {line}: expected that {expected}, but {found}")]
    Unmet {
        /// The line, from 1.
        line: usize,
        /// What the line says.
        expected: String,
        /// What is the case.
        found: String,
    },
    /// An invariant of the state does not hold.
    #[error("line {line}: an invariant of the state does not hold")]
    Invariant {
        /// The line, from 1.
        line: usize,
        /// Which.
        #[source]
        source: muster_core::state::Broken,
    },
}

/// A line that says something: its verb, the words after it, and the settings `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub number: usize,
    pub verb: &'a str,
    pub words: Vec<&'a str>,
    settings: Vec<(&'a str, &'a str)>,
}

/// The lines of a text that say something.
pub(super) fn lines(text: &str) -> Result<Vec<Line<'_>>, ScenarioError> {
    if text.lines().count() > LINES_MAX {
        let problem = format!("a scenario has at most {LINES_MAX} lines");
        return Err(ScenarioError::Line { line: LINES_MAX + 1, problem });
    }
    let said = text.lines().enumerate().filter_map(|(i, raw)| {
        let mut words = raw.split('#').next().unwrap_or_default().split_whitespace();
        let verb = words.next()?;
        let (settings, words): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
        let settings = settings.iter().filter_map(|word| word.split_once('=')).collect();
        Some(Line { number: i + 1, verb, words, settings })
    });
    Ok(said.collect())
}

impl<'a> Line<'a> {
    /// Whether the line describes the cluster.
    pub fn is_setup(&self) -> bool {
        matches!(self.verb, "nodes" | "pool" | "switch" | "policy" | "account" | "qos" | "priority")
    }

    /// An error on this line.
    pub fn wrong(&self, problem: impl Into<String>) -> ScenarioError {
        ScenarioError::Line { line: self.number, problem: problem.into() }
    }

    /// The first word after the verb.
    pub fn subject(&self, what: &str) -> Result<&'a str, ScenarioError> {
        self.words.first().copied().ok_or_else(|| self.wrong(format!("'{}' needs {what}", self.verb)))
    }

    /// The value of a setting.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.settings.iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
    }

    /// A whole number.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ScenarioError> {
        let number = |value: &str| {
            value
                .parse()
                .map_err(|_| self.wrong(format!("{key}={value}: '{value}' is not a number that fits")))
        };
        self.text(key).map(number).transpose()
    }

    /// A time in Slurm's notation, in seconds.
    pub fn seconds(&self, key: &str) -> Result<Option<u64>, ScenarioError> {
        self.text(key).map(|value| self.to_seconds(value)).transpose()
    }

    /// A time in Slurm's notation, in seconds.
    pub fn to_seconds(&self, value: &str) -> Result<u64, ScenarioError> {
        // A bare number is minutes for Slurm and seconds for everybody else: neither is taken.
        if !value.contains([':', '-']) {
            return Err(self.wrong(format!("'{value}' is not a time: write minutes:seconds, 1:00:00 or 2-0")));
        }
        notation::parse_time_s(value).map_err(|error| self.wrong(error.to_string()))
    }

    /// A size such as 4G, in bytes.
    pub fn bytes(&self, key: &str) -> Result<Option<u64>, ScenarioError> {
        let size = |value| notation::parse_size_bytes(value).map_err(|error| self.wrong(error.to_string()));
        self.text(key).map(size).transpose()
    }

    /// A list of devices; an empty one without.
    pub fn gres(&self, key: &str) -> Result<Vec<Gres>, ScenarioError> {
        let list = |value| gres::parse_list(value).map_err(|error| self.wrong(error.to_string()));
        Ok(self.text(key).map(list).transpose()?.unwrap_or_default())
    }

    /// A list of hosts.
    pub fn hosts(&self, key: &str) -> Result<Option<Vec<String>>, ScenarioError> {
        self.text(key).map(|value| self.to_hosts(value)).transpose()
    }

    /// A list of hosts.
    pub fn to_hosts(&self, value: &str) -> Result<Vec<String>, ScenarioError> {
        notation::parse_hosts(value).map_err(|error| self.wrong(error.to_string()))
    }

    /// Words between commas.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.text(key).into_iter().flat_map(|value| value.split(',')).filter(|word| !word.is_empty())
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Result<Option<T>, ScenarioError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let found = known.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
        let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.wrong(format!("{key}={value} is not one of {}", names())))
    }

    /// Refuses words and settings that mean nothing here.
    pub fn only(&self, words_max: usize, settings: &[&str]) -> Result<(), ScenarioError> {
        if let Some(word) = self.words.get(words_max) {
            return Err(self.wrong(format!("'{word}' means nothing after '{}'", self.verb)));
        }
        match self.settings.iter().find(|(key, _)| !settings.contains(key)) {
            Some((key, _)) => {
                let known = settings.join(", ");
                Err(self.wrong(format!("'{}' has no setting '{key}'; it has {known}", self.verb)))
            }
            None => Ok(()),
        }
    }
}
