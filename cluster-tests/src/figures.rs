//! What a measurement found, in the one shape in which every part of `make bench` tells it, and how it is judged.
//!
//! A part is a program (or a test). Each line of its standard output that is an object with the key `figures` is one
//! [`Told`]; a program tells all of it in its last line, by [`Told::print`].

use serde::{Deserialize, Serialize};

/// How a line begins in which something is told. Tests print it behind the words of their harness.
const BEGINS: &str = "{\"figures\":";
/// The longest line that is read, in bytes: a part tells dozens of figures, and no more.
const LINE_MAX: usize = 1 << 20;

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Which it is, such as `swarm.rate`: the same in all runs and versions.
    pub name: String,
    /// What was measured, for people.
    pub what: String,
    /// What was found.
    pub value: f64,
    /// In which unit: `1/s`, `ms`, `us`, `s`, `bytes`, `MiB`, `%`.
    pub unit: String,
    /// Which way it is good.
    pub better: Better,
    /// What the machine does without a scheduler, or without what the figure is about, in the same run and unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Measured>,
    /// What other systems do in the same run, in the same unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Measured>,
    /// What it must reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
}

/// Which way a figure is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Less of it.
    Lower,
    /// More of it.
    Higher,
}

/// The same of something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What was measured.
    pub what: String,
    /// What was found.
    pub value: f64,
}

/// What a figure must reach: at least `limit` if more is better, else at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// What the limit is compared with.
    pub against: Against,
    /// The limit.
    pub limit: f64,
}

/// What a bar is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The value itself.
    Value,
    /// Its ratio to the floor.
    Floor,
    /// Its ratio to the best of the peers.
    Peers,
}

/// What came of a bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It is reached, by this.
    Holds(f64),
    /// It is missed, by this.
    Missed(f64),
    /// There is nothing to compare with in this run.
    Open,
}

impl Figure {
    /// Something that was measured, with nothing beside it.
    #[must_use]
    pub fn new(name: &str, what: impl Into<String>, value: f64, unit: &str, better: Better) -> Self {
        Self {
            name: name.to_owned(),
            what: what.into(),
            value,
            unit: unit.to_owned(),
            better,
            floor: None,
            peers: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// With its floor.
    #[must_use]
    pub fn floor(mut self, what: impl Into<String>, value: f64) -> Self {
        self.floor = Some(Measured { what: what.into(), value });
        self
    }

    /// With one more peer.
    #[must_use]
    pub fn peer(mut self, what: impl Into<String>, value: f64) -> Self {
        self.peers.push(Measured { what: what.into(), value });
        self
    }

    /// With one more bar.
    #[must_use]
    pub fn bar(mut self, against: Against, limit: f64) -> Self {
        self.bars.push(Bar { against, limit });
        self
    }

    /// The value over its floor.
    #[must_use]
    pub fn to_floor(&self) -> Option<f64> {
        self.floor.as_ref().and_then(|floor| ratio(self.value, floor.value))
    }

    /// The value over that of the best peer.
    #[must_use]
    pub fn to_peers(&self) -> Option<f64> {
        let values = self.peers.iter().map(|peer| peer.value);
        let best = match self.better {
            Better::Higher => values.reduce(f64::max),
            Better::Lower => values.reduce(f64::min),
        };
        best.and_then(|best| ratio(self.value, best))
    }

    /// What came of a bar of it.
    #[must_use]
    pub fn judge(&self, bar: Bar) -> Verdict {
        let is = match bar.against {
            Against::Value => Some(self.value),
            Against::Floor => self.to_floor(),
            Against::Peers => self.to_peers(),
        };
        let holds = |is: f64| match self.better {
            Better::Higher => is >= bar.limit,
            Better::Lower => is <= bar.limit,
        };
        match is {
            None => Verdict::Open,
            Some(is) if holds(is) => Verdict::Holds(is),
            Some(is) => Verdict::Missed(is),
        }
    }
}

fn ratio(value: f64, other: f64) -> Option<f64> {
    let ratio = value / other;
    (other > 0.0 && ratio.is_finite()).then_some(ratio)
}

/// All that a part tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// What it measured.
    pub figures: Vec<Figure>,
    /// What it measured of other systems, beside figures of other parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerOf>,
    /// What somebody who reads the figures should know, such as what was not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A peer of a figure that another part tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerOf {
    /// The figure's name.
    pub figure: String,
    /// What was found.
    pub peer: Measured,
}

/// Why what a part said cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// It has no line with figures.
    #[error("it told no figures: a line with an object with the key 'figures' is missing")]
    Nothing,
    /// A line is too long.
    #[error("a line with figures has {bytes} bytes, and more than {LINE_MAX} are not read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A line has another shape.
    #[error("a line with figures has another shape than cluster-tests/src/figures.rs describes")]
    Shape(#[source] serde_json::Error),
}

impl Told {
    /// Prints it as a line of its own, for whoever runs all parts.
    ///
    /// # Errors
    /// Those of standard output, and a value that is no number.
    pub fn print(&self) -> std::io::Result<()> {
        use std::io::Write as _;
        let line = serde_json::to_string(self)?;
        // The harness of tests leaves its line open.
        writeln!(std::io::stdout().lock(), "\n{line}")
    }

    /// All that is told in what a part wrote.
    ///
    /// # Errors
    /// [`ToldError`].
    pub fn read(output: &str) -> Result<Self, ToldError> {
        let mut all: Option<Self> = None;
        for line in output.lines() {
            let Some(begin) = line.find(BEGINS) else { continue };
            if line.len() > LINE_MAX {
                return Err(ToldError::TooLong { bytes: line.len() });
            }
            let told: Self = serde_json::from_str(&line[begin..]).map_err(ToldError::Shape)?;
            let all = all.get_or_insert_default();
            all.figures.extend(told.figures);
            all.peers.extend(told.peers);
            all.notes.extend(told.notes);
        }
        all.ok_or(ToldError::Nothing)
    }

    /// Only a note.
    #[must_use]
    pub fn note(text: impl Into<String>) -> Self {
        Self { notes: vec![text.into()], ..Self::default() }
    }
}

/// The middle one of values; of an even number the upper one of both. None of none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rate(value: f64) -> Figure {
        Figure::new("swarm.rate", "tasks", value, "1/s", Better::Higher)
            .floor("xargs", 2_000.0)
            .bar(Against::Floor, 0.8)
            .bar(Against::Peers, 1.0)
    }

    #[test]
    fn bars_are_judged_by_the_value_its_floor_and_the_best_peer() {
        let figure = rate(1_000.0).peer("slow", 31.0).peer("fast", 998.0);
        let judged: Vec<Verdict> = figure.bars.iter().map(|bar| figure.judge(*bar)).collect();
        assert_eq!(judged, [Verdict::Missed(0.5), Verdict::Holds(1_000.0 / 998.0)]);
        let time = Figure::new("t", "a time", 10.0, "ms", Better::Lower).peer("a", 40.0).peer("b", 5.0);
        assert_eq!(time.judge(Bar { against: Against::Value, limit: 10.0 }), Verdict::Holds(10.0));
        assert_eq!(time.judge(Bar { against: Against::Peers, limit: 1.0 }), Verdict::Missed(2.0));
    }

    #[test]
    fn a_bar_with_nothing_to_compare_with_stays_open() {
        let figure = rate(1_000.0);
        assert_eq!(figure.judge(figure.bars[1]), Verdict::Open);
        // A floor that was not measured is none.
        let figure = Figure { floor: Some(Measured { what: "none".to_owned(), value: 0.0 }), ..rate(1.0) };
        assert_eq!(figure.judge(figure.bars[0]), Verdict::Open);
    }

    #[test]
    fn what_is_told_is_read_back_from_between_other_lines() {
        let told = Told {
            figures: vec![rate(1_000.0).peer("HyperQueue", 998.0)],
            peers: vec![PeerOf {
                figure: "steps.rate".to_owned(),
                peer: Measured { what: "Slurm".to_owned(), value: 25.0 },
            }],
            notes: vec!["a note".to_owned()],
        };
        let line = serde_json::to_string(&told).unwrap();
        let output = format!("a table\ntest compare::speed ... {line}\nok\n{line}\n");
        let read = Told::read(&output).unwrap();
        assert_eq!(read.figures, [told.figures[0].clone(), told.figures[0].clone()]);
        assert_eq!((read.peers.len(), read.notes.len()), (2, 2));
        assert_eq!(Told::read(&line).unwrap(), told);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(matches!(Told::read("a table\n{\"rate\":1}\n"), Err(ToldError::Nothing)));
        assert!(matches!(Told::read("{\"figures\":[{\"name\":\"x\"}]}"), Err(ToldError::Shape(_))));
        let long = format!("{{\"figures\":[],\"notes\":[\"{}\"]}}", "x".repeat(LINE_MAX));
        assert!(matches!(Told::read(&long), Err(ToldError::TooLong { .. })));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
