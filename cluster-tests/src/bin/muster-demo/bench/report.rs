//! What all parts told, as a table, as Markdown and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use muster_cluster_tests::figures::{Against, Bar, Better, Figure, Told, Verdict};
use muster_cluster_tests::site::repository;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plot;

/// The load for each core above which a machine has other work to do.
const BUSY: f64 = 0.5;
/// The shape of `report.json`.
const SCHEMA: u32 = 1;

/// All of one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// Whether less was measured than is worth quoting.
    pub quick: bool,
    /// The parts, in the order in which they ran.
    pub parts: Vec<Ran>,
}

/// The machine of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// When the run began, in seconds since 1970.
    at_unix_s: u64,
    /// Hardware threads.
    cores: usize,
    /// The kernel's version.
    kernel: String,
    /// What was measured, as git describes it.
    version: String,
}

/// A part that ran.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub what: String,
    /// How long it took.
    pub seconds: f64,
    /// The machine's load over a minute before it began: above its own cores, others were at work as well.
    pub load: f64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It told its figures.
    Measured {
        /// What it told.
        told: Told,
    },
    /// It did not come to its end.
    Failed {
        /// Why.
        why: String,
    },
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(repository()).output();
            let output = output.ok().filter(|output| output.status.success());
            output.map_or_else(
                || "unknown".to_owned(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            )
        };
        Self {
            at_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: said("uname", &["-r"]),
            version: said("git", &["describe", "--always", "--dirty"]),
        }
    }

    fn began(&self) -> String {
        let seconds = i64::try_from(self.at_unix_s).ok();
        let began = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        began.map_or_else(|| "at an unknown time".to_owned(), |began| began.to_string())
    }

    /// The load over the last minute; 0 where nobody tells it.
    pub fn load() -> f64 {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
    }
}

impl Report {
    /// All figures, each with the peers that other parts told for it.
    pub fn figures(&self) -> Vec<Figure> {
        let told = || self.parts.iter().filter_map(Ran::told);
        let mut figures: Vec<Figure> = told().flat_map(|told| told.figures.iter().cloned()).collect();
        for peer in told().flat_map(|told| &told.peers) {
            for figure in figures.iter_mut().filter(|figure| figure.name == peer.figure) {
                figure.peers.push(peer.peer.clone());
            }
        }
        figures
    }

    /// The names of the parts that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.parts.iter().filter(|ran| ran.told().is_none()).map(|ran| ran.name.as_str()).collect()
    }

    /// Writes `report.json`, `report.md` and the plots.
    pub fn write(&self, out: &Path) -> Result<()> {
        let figures = self.figures();
        let mut json = serde_json::to_value(self)?;
        json["schema"] = SCHEMA.into();
        json["figures"] = figures.iter().map(with_ratios).collect::<Result<Vec<Value>>>()?.into();
        for (name, text) in [
            ("report.json", serde_json::to_string_pretty(&json)? + "\n"),
            ("report.md", self.markdown()),
            ("bars.svg", plot::bars(&figures)),
            ("beside.svg", plot::beside(&figures)),
        ] {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let head = ["", "value", "floor", "ratio", "best peer", "ratio", "bars"].map(str::to_owned);
        let rows = self.figures().iter().map(row).collect::<Vec<_>>();
        let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row[1..6].iter().zip(&widths[1..6]) {
                let _ = write!(line, "  {cell:>width$}");
            }
            let _ = write!(line, "  {}", row[6]);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.push_str(&self.summary());
        for (name, note) in self.notes() {
            let _ = writeln!(text, "{name}: {note}");
        }
        text
    }

    /// How many bars hold.
    fn summary(&self) -> String {
        let figures = self.figures();
        let verdicts: Vec<Verdict> =
            figures.iter().flat_map(|figure| figure.bars.iter().map(|bar| figure.judge(*bar))).collect();
        let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
        format!(
            "{} bars hold, {} are missed, {} are open\n",
            count(|verdict| matches!(verdict, Verdict::Holds(_))),
            count(|verdict| matches!(verdict, Verdict::Missed(_))),
            count(|verdict| matches!(verdict, Verdict::Open)),
        )
    }

    /// What parts noted, why others failed, and which ran beside other work.
    fn notes(&self) -> Vec<(&str, String)> {
        let mut notes = Vec::new();
        for ran in &self.parts {
            let name = ran.name.as_str();
            match &ran.outcome {
                Outcome::Measured { told } => {
                    notes.extend(told.notes.iter().map(|note| (name, note.clone())));
                }
                Outcome::Failed { why } => notes.push((name, why.clone())),
            }
            // The parts load the machine themselves, so that the first one alone tells what else was there.
            let is_first = self.parts.first().is_some_and(|first| std::ptr::eq(first, ran));
            if is_first && ran.load > BUSY * self.machine.cores as f64 {
                let note = format!(
                    "the machine had other work when the run began (a load of {:.1} on {} cores): quote nothing of it",
                    ran.load, self.machine.cores
                );
                notes.push((name, note));
            }
        }
        notes
    }

    /// As a document.
    fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "# What Muster costs\n\n{} cores, Linux {}, Muster {}, {}.{}\n\n{}\n",
            machine.cores,
            machine.kernel,
            machine.version,
            machine.began(),
            if self.quick { " A quick run, which is not to be quoted." } else { "" },
            self.summary(),
        );
        text.push_str("| figure | | value | floor | ratio | best peer | ratio | bars |\n");
        text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
        for figure in self.figures() {
            let [name, value, floor, to_floor, peer, to_peer, bars] =
                row(&figure).map(|cell| cell.replace('|', "\\|"));
            let what = figure.what.replace('|', "\\|");
            let floor_what = beside(floor, figure.floor.as_ref().map(|floor| floor.what.as_str()));
            let peer_what = beside(peer, best_peer(&figure).map(|(what, _)| what));
            let _ = writeln!(
                text,
                "| `{name}` | {what} | {value} | {floor_what} | {to_floor} | {peer_what} | {to_peer} | {bars} |"
            );
        }
        text.push_str(
            "\n![figures and their bars](bars.svg)\n\n![figures beside floors and peers](beside.svg)\n\n",
        );
        text.push_str("| part | seconds | load before | |\n| --- | ---: | ---: | --- |\n");
        for ran in &self.parts {
            let _ = writeln!(text, "| {} | {:.0} | {:.1} | {} |", ran.name, ran.seconds, ran.load, ran.what);
        }
        for (name, note) in self.notes() {
            let _ = write!(text, "\n- {name}: {note}");
        }
        text.push('\n');
        text
    }
}

/// A value with what it is of.
fn beside(value: String, what: Option<&str>) -> String {
    what.map_or(String::new(), |what| format!("{value} ({})", what.replace('|', "\\|")))
}

impl Ran {
    fn told(&self) -> Option<&Told> {
        match &self.outcome {
            Outcome::Measured { told } => Some(told),
            Outcome::Failed { .. } => None,
        }
    }
}

fn with_ratios(figure: &Figure) -> Result<Value> {
    let mut value = serde_json::to_value(figure)?;
    let judged = figure.bars.iter().map(|bar| {
        let (is, holds) = match figure.judge(*bar) {
            Verdict::Holds(is) => (Some(is), Some(true)),
            Verdict::Missed(is) => (Some(is), Some(false)),
            Verdict::Open => (None, None),
        };
        json!({"against": bar.against, "limit": bar.limit, "is": is, "holds": holds})
    });
    let judged: Vec<Value> = judged.collect();
    value["bars"] = judged.into();
    value["to_floor"] = figure.to_floor().into();
    value["to_peers"] = figure.to_peers().into();
    Ok(value)
}

pub(super) fn best_peer(figure: &Figure) -> Option<(&str, f64)> {
    let peers = figure.peers.iter().map(|peer| (peer.what.as_str(), peer.value));
    match figure.better {
        Better::Higher => peers.max_by(|a, b| a.1.total_cmp(&b.1)),
        Better::Lower => peers.min_by(|a, b| a.1.total_cmp(&b.1)),
    }
}

fn row(figure: &Figure) -> [String; 7] {
    let ratio = |ratio: Option<f64>| ratio.map_or(String::new(), number);
    let value = |value: f64| format!("{} {}", number(value), figure.unit);
    [
        figure.name.clone(),
        value(figure.value),
        figure.floor.as_ref().map_or(String::new(), |floor| value(floor.value)),
        ratio(figure.to_floor()),
        best_peer(figure).map_or(String::new(), |(_, best)| value(best)),
        ratio(figure.to_peers()),
        figure.bars.iter().map(|bar| words(figure, *bar)).collect::<Vec<_>>().join("; "),
    ]
}

/// A bar and whether it holds.
fn words(figure: &Figure, bar: Bar) -> String {
    let most = match figure.better {
        Better::Higher => "at least",
        Better::Lower => "at most",
    };
    let of = match bar.against {
        Against::Value => format!(" {}", figure.unit),
        Against::Floor => " of the floor".to_owned(),
        Against::Peers => " of the best peer".to_owned(),
    };
    let verdict = match figure.judge(bar) {
        Verdict::Holds(is) => format!("is {}: holds", number(is)),
        Verdict::Missed(is) => format!("is {}: missed", number(is)),
        Verdict::Open => "nothing to compare with".to_owned(),
    };
    format!("{most} {}{of}, {verdict}", number(bar.limit))
}

/// Three digits that say something, without an exponent.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || value == 0.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
        let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>();
        return format!("{sign}{}", groups.join(","));
    }
    let digits = if magnitude >= 10.0 {
        1
    } else if magnitude >= 0.1 {
        2
    } else {
        4
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use muster_cluster_tests::figures::{Measured, PeerOf};

    use super::*;

    fn ran(name: &str, outcome: Outcome) -> Ran {
        Ran { name: name.to_owned(), what: "what it is".to_owned(), seconds: 1.0, load: 0.5, outcome }
    }

    fn report() -> Report {
        let figure = Figure::new("swarm.rate", "small | tasks", 639.0, "1/s", Better::Higher)
            .floor("xargs", 1972.0)
            .bar(Against::Floor, 0.8)
            .bar(Against::Peers, 1.0);
        let late =
            Figure::new("submit.known_end", "one task", 9.4, "ms", Better::Lower).bar(Against::Value, 10.0);
        let peer = Measured { what: "Slurm".to_owned(), value: 31.0 };
        let peers = vec![PeerOf { figure: "swarm.rate".to_owned(), peer }];
        let parts = vec![
            ran("swarm", Outcome::Measured { told: Told { figures: vec![figure, late], ..Told::default() } }),
            ran(
                "peers",
                Outcome::Measured {
                    told: Told { peers, notes: vec!["no hq".to_owned()], ..Told::default() },
                },
            ),
            ran("mpi", Outcome::Failed { why: "exit status: 1".to_owned() }),
        ];
        Report { machine: Machine { cores: 2, ..Machine::here() }, quick: false, parts }
    }

    #[test]
    fn a_run_beside_other_work_says_so() {
        let mut report = report();
        report.parts[0].load = 1.5;
        assert!(
            report
                .table()
                .contains("swarm: the machine had other work when the run began (a load of 1.5 on 2 cores)")
        );
    }

    #[test]
    fn the_table_joins_peers_judges_bars_and_tells_what_failed() {
        let table = report().table();
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines[1],
            "swarm.rate 639 1/s 1,972 1/s 0.32 31.0 1/s 20.6 at least 0.80 of the floor, is 0.32: missed; \
             at least 1.00 of the best peer, is 20.6: holds"
        );
        assert_eq!(lines[2], "submit.known_end 9.40 ms at most 10.0 ms, is 9.40: holds");
        assert_eq!(
            lines[3..],
            ["2 bars hold, 1 are missed, 0 are open", "peers: no hq", "mpi: exit status: 1"]
        );
        assert_eq!(report().failed(), ["mpi"]);
    }

    #[test]
    fn what_is_written_is_read_back_and_makes_the_same_again() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        report().write(first.path()).unwrap();
        let read = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let again: Report = serde_json::from_str(&read(first.path(), "report.json")).unwrap();
        again.write(second.path()).unwrap();
        for name in ["report.json", "report.md", "bars.svg", "beside.svg"] {
            assert_eq!(read(first.path(), name), read(second.path(), name), "{name}");
        }
        let json: Value = serde_json::from_str(&read(first.path(), "report.json")).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["figures"][0]["bars"][0]["holds"], false);
        assert_eq!(json["figures"][0]["bars"][1]["is"], 639.0 / 31.0);
        let markdown = read(first.path(), "report.md");
        assert!(
            markdown.contains("| `swarm.rate` | small \\| tasks | 639 1/s | 1,972 1/s (xargs) | 0.32 |"),
            "{markdown}"
        );
    }

    #[test]
    fn numbers_have_about_three_digits() {
        let cases = [
            (1_234_567.8, "1,234,568"),
            (-1000.0, "-1,000"),
            (99.95, "100.0"),
            (9.4, "9.40"),
            (0.0046, "0.0046"),
            (0.0, "0"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
