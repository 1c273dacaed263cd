//! The face `sreport`: what the cluster, its accounts and its users have used in a period.
//!
//! The controller adds up what each user of each account used by the size of the attempts; here that is grouped and laid out.

mod accounts;
mod jobs;
mod options;
mod period;
mod times;
mod users;
mod utilization;

use std::process::ExitCode;

use muster_client::api::{UsageReport, UsageView};

use self::accounts::Tree;
use self::options::{Asked, Report, Tres, Wanted};
use self::period::Period;
use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::listing::{Head, Style};

/// What Slurm calls asking for usage.
const DOING: &str = "sreport: error: Problem with the usage query";

/// The widest line of a header.
const RULE: &str = "--------------------------------------------------------------------------------";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let wanted = match options::read(words)? {
        Asked::Help => return print(options::HELP).map(|()| ExitCode::SUCCESS),
        Asked::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
        Asked::Report(wanted) => *wanted,
    };
    let mut client = connect(DOING)?;
    let cluster = client.ping().map_err(Fault::client(DOING))?.cluster;
    for named in &wanted.clusters {
        check_clusters("sreport", named, &cluster)?;
    }
    let period = Period::of(wanted.start_s, wanted.end_s)?;
    let is_plain = wanted.tres.as_ref().is_none_or(|tres| tres.iter().all(|tres| *tres == Tres::Cpu));
    let usage =
        client.usage(period.since_us(), period.until_us(), !is_plain).map_err(Fault::client(DOING))?;
    if usage.cut {
        let lines = muster_client::api::USAGE_LINES_MAX;
        return Err(Fault::Said(format!(
            "sreport: error: there are more than {lines} combinations of account, user, partition and size in this period: ask \
             for a shorter one"
        )));
    }
    let tree = match wanted.report {
        Report::Utilization => Tree::default(),
        _ => Tree::new(&client.shares(None).map_err(Fault::client(DOING))?.shares),
    };
    let sheet = Sheet { cluster, tres: columns_of(&wanted, &usage)?, wanted, period, usage, tree };
    let out = match sheet.wanted.report {
        Report::Utilization => utilization::write(&sheet)?,
        Report::AccountsByUser => users::by_account(&sheet)?,
        Report::UsersByAccount => users::by_user(&sheet)?,
        Report::Top => users::top(&sheet)?,
        Report::Sizes => jobs::write(&sheet)?,
    };
    print(&out).map(|()| ExitCode::SUCCESS)
}

/// A field: what `format=` calls it, and its column.
type Field = (&'static str, Head);

/// Reads `NAME` or `NAME%WIDTH` of a list of fields.
fn field(text: &str, known: &[Field]) -> Result<Head, Fault> {
    let bad = || Fault::Said(format!(" Unknown field '{text}'"));
    let (name, width) = match text.split_once('%') {
        Some((name, width)) => {
            (name, Some(width.parse::<i32>().ok().filter(|width| *width != 0).ok_or_else(bad)?))
        }
        None => (text, None),
    };
    let lower = name.trim().to_ascii_lowercase();
    let exact = known.iter().find(|(name, _)| *name == lower);
    let begun = || known.iter().find(|(name, _)| name.starts_with(&lower));
    let (_, head) = exact.or_else(begun).filter(|_| !lower.is_empty()).ok_or_else(bad)?;
    Ok(Head { width: width.unwrap_or(head.width), ..*head })
}

/// All that a report is made from.
struct Sheet {
    cluster: String,
    wanted: Wanted,
    /// The resources that it tells of.
    tres: Vec<Tres>,
    period: Period,
    usage: UsageReport,
    tree: Tree,
}

/// The resources that are asked for, of those that there are.
fn columns_of(wanted: &Wanted, usage: &UsageReport) -> Result<Vec<Tres>, Fault> {
    let Some(asked) = &wanted.tres else { return Ok(vec![Tres::Cpu]) };
    let mut all = vec![Tres::Cpu, Tres::Memory, Tres::Node, Tres::Billing];
    all.extend(usage.capacity.gres_s.keys().cloned().map(Tres::Gres));
    if asked.contains(&Tres::All) {
        return Ok(all);
    }
    match asked.iter().find(|tres| !all.contains(tres)) {
        None => Ok(asked.clone()),
        Some(unknown) => {
            let known: Vec<String> = all.iter().map(Tres::to_string).collect();
            Err(Fault::Said(format!(
                "sreport: fatal: No valid TRES given\nThere is no '{unknown}' here; there are {} and ALL",
                known.join(", ")
            )))
        }
    }
}

impl Tres {
    /// How much of it there is in an amount of resources.
    fn of(&self, usage: &UsageView) -> f64 {
        match self {
            Self::Cpu | Self::Billing => usage.core_s,
            Self::Memory => usage.memory_mib_s,
            Self::Node => usage.node_s,
            Self::Gres(name) => usage.gres_s.get(name).copied().unwrap_or(0.0),
            Self::All => 0.0,
        }
    }
}

impl Sheet {
    fn style(&self) -> &Style {
        &self.wanted.style
    }

    /// The lines above a report: what it is of, and in which unit.
    fn title(&self, out: &mut String, what: &str, seconds: bool, unit: &str) {
        if !self.wanted.header {
            return;
        }
        let seconds = if seconds { format!(" ({} secs)", self.period.seconds()) } else { String::new() };
        out.push_str(&format!("{RULE}\n{what} {}{seconds}\n{unit}\n{RULE}\n", self.period));
    }

    /// What the unit of usage is called.
    fn unit(&self) -> String {
        let what = if self.wanted.tres.is_some() { "TRES" } else { "CPU" };
        self.wanted.times.usage_unit(what)
    }

    /// The fields of a report: those that were asked for, or its own. Names may be cut short.
    fn fields(&self, known: &[Field], default: &str) -> Result<Vec<Head>, Fault> {
        let default = || default.split(',').map(str::to_owned).collect();
        self.wanted.format.clone().unwrap_or_else(default).iter().map(|text| field(text, known)).collect()
    }

    /// Whether `format=` says how wide a field is.
    fn has_width(&self, place: usize) -> bool {
        self.wanted.format.as_ref().and_then(|names| names.get(place)).is_some_and(|name| name.contains('%'))
    }

    /// Writes the header and the rows.
    fn table(&self, out: &mut String, heads: &[Head], rows: &[Vec<String>]) {
        if self.wanted.header {
            self.style().header(out, heads);
        }
        for row in rows {
            self.style().row(out, heads, row.iter().cloned());
        }
    }
}
