//! What `sreport` is asked for.

use std::env;
use std::fmt;

use super::times::Times;
use crate::slurm::fault::Fault;
use crate::slurm::getopt::{self, Opt, Order, Takes};
use crate::slurm::instant;
use crate::slurm::listing::Style;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Clusters,
    Harmless,
    Help,
    NoHeader,
    Parsable,
    Parsable2,
    Times,
    Tres,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Harmless, Some('a'), &["all_clusters"], Nothing),
    opt(Key::Harmless, None, &["federation", "local"], Nothing),
    opt(Key::Help, Some('h'), &["help", "usage"], Nothing),
    opt(Key::Clusters, Some('M'), &["cluster", "clusters"], Value),
    opt(Key::NoHeader, Some('n'), &["noheader"], Nothing),
    opt(Key::Parsable, Some('p'), &["parsable"], Nothing),
    opt(Key::Parsable2, Some('P'), &["parsable2"], Nothing),
    opt(Key::Harmless, Some('Q'), &["quiet"], Nothing),
    opt(Key::Times, Some('t'), &[], Value),
    opt(Key::Tres, Some('T'), &["tres"], Value),
    opt(Key::Harmless, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
];

pub(super) const HELP: &str = "\
Usage:  sreport [OPTION] REPORT [CONDITION]
    -a, --all_clusters  changes nothing: there is one cluster
    -M, --cluster=      this cluster or all
    -n, --noheader      no header
    -p, --parsable      fields with | after each
    -P, --parsable2     fields with | between them
    -t FORMAT           Seconds, Minutes, Hours, Percent, SecPer, MinPer, HourPer
    -T, --tres=         these resources: cpu, mem, node, billing, gres/NAME, ALL
    -V, --version       the version
Reports:
    cluster Utilization
    cluster AccountUtilizationByUser   [Accounts= Users= Tree]
    cluster UserUtilizationByAccount   [Accounts= Users=]
    user TopUsage                      [Accounts= Users= TopCount= Group]
    job SizesByAccount                 [Accounts= Users= Partitions= Grouping= FlatView AcctAsParent PrintJobCount]
Conditions of all reports: Start= End= Format= Cluster=
";

/// What is to be done.
pub(super) enum Asked {
    Help,
    Version,
    Report(Box<Wanted>),
}

/// A report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Utilization,
    AccountsByUser,
    UsersByAccount,
    Top,
    Sizes,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tres {
    Cpu,
    Memory,
    Node,
    Billing,
    Gres(String),
    All,
}

impl fmt::Display for Tres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("mem"),
            Self::Node => f.write_str("node"),
            Self::Billing => f.write_str("billing"),
            Self::Gres(name) => write!(f, "gres/{name}"),
            Self::All => f.write_str("ALL"),
        }
    }
}

/// The sizes by which jobs are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grouping {
    /// A group from each number on.
    From(Vec<u64>),
    /// A group for each size.
    Individual,
}

/// A report with all that is said about it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub report: Report,
    pub style: Style,
    pub header: bool,
    pub times: Times,
    /// Resources that were named.
    pub tres: Option<Vec<Tres>>,
    pub clusters: Vec<String>,
    pub start_s: Option<i64>,
    pub end_s: Option<i64>,
    pub format: Option<Vec<String>>,
    pub accounts: Vec<String>,
    pub users: Vec<String>,
    pub partitions: Vec<String>,
    pub top: usize,
    pub tree: bool,
    pub group: bool,
    pub flat: bool,
    pub as_parent: bool,
    pub count_jobs: bool,
    pub grouping: Grouping,
}

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

fn refused(what: &str, instead: &str) -> Fault {
    said(format!("sreport: error: {what} is not supported: {instead}"))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Reads the command line.
///
/// # Errors
/// [`Fault`] with the first thing that is wrong.
pub(super) fn read(words: &[String]) -> Result<Asked, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "sreport", source })?;
    let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let mut wanted = Wanted {
        report: Report::Utilization,
        style: Style::Columns,
        header: true,
        times: Times::DEFAULT,
        tres: variable("SREPORT_TRES").map(|text| tres_of(&text)),
        clusters: variable("SREPORT_CLUSTER").into_iter().collect(),
        start_s: None,
        end_s: None,
        format: None,
        accounts: Vec::new(),
        users: Vec::new(),
        partitions: Vec::new(),
        top: 10,
        tree: false,
        group: false,
        flat: false,
        as_parent: false,
        count_jobs: false,
        grouping: Grouping::From(vec![50, 250, 500, 1000]),
    };
    for (key, value) in line.options {
        let value = value.unwrap_or_default();
        match key {
            Key::Harmless => {}
            Key::Help => return Ok(Asked::Help),
            Key::Version => return Ok(Asked::Version),
            Key::Clusters => wanted.clusters = vec![value],
            Key::NoHeader => wanted.header = false,
            Key::Parsable => wanted.style = Style::Fields { delimiter: "|".to_owned(), ended: true },
            Key::Parsable2 => wanted.style = Style::Fields { delimiter: "|".to_owned(), ended: false },
            Key::Times => {
                let bad = || said(format!("unknown time format {value}"));
                wanted.times = Times::read(&value).ok_or_else(bad)?;
            }
            Key::Tres => wanted.tres = Some(tres_of(&value)),
        }
    }
    let mut words = line.words.iter().map(String::as_str);
    let Some(kind) = words.next() else {
        return Err(refused("the interactive mode", "name a report, such as `sreport cluster utilization`"));
    };
    let is = |name: &str, least: usize| begins(kind, name, least);
    match () {
        () if is("help", 1) => return Ok(Asked::Help),
        () if is("version", 4) => return Ok(Asked::Version),
        () if ["cluster", "job", "user", "reservation"].iter().any(|name| is(name, 1)) => {}
        () => return Err(said(format!("invalid keyword: {kind}"))),
    }
    let Some(report) = words.next() else {
        return Err(said(format!("too few arguments for keyword:{kind}")));
    };
    wanted.report = report_of(kind, report)?;
    if wanted.report == Report::Sizes && wanted.tres.as_ref().is_some_and(|tres| *tres != [Tres::Cpu]) {
        return Err(refused("-T of job reports", "sizes are numbers of cores, which is `-T cpu`"));
    }
    words.try_for_each(|word| condition(word, &mut wanted))?;
    Ok(Asked::Report(Box::new(wanted)))
}

/// Whether `word` is a beginning of `name` of at least so many letters, in any case.
fn begins(word: &str, name: &str, least: usize) -> bool {
    word.len() >= least && name.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

fn report_of(kind: &str, name: &str) -> Result<Report, Fault> {
    let is = |whole: &str, least: usize| begins(name, whole, least);
    let wckeys = || refused("a report by wckey", "`sacct -o wckey,cputimeraw` lists what ran");
    let bad = |valid: &str| said(format!("Not valid report {name}\n{valid}"));
    if begins(kind, "reservation", 1) {
        return Err(refused(
            "a report of reservations",
            "`sacct -o reservation,cputimeraw` lists what ran in them",
        ));
    }
    if begins(kind, "cluster", 1) {
        return match () {
            () if is("AccountUtilizationByUser", 1) => Ok(Report::AccountsByUser),
            () if is("UserUtilizationByAccount", 2) => Ok(Report::UsersByAccount),
            () if is("Utilization", 2) => Ok(Report::Utilization),
            () if is("UserUtilizationByWckey", 18) || is("WCKeyUtilizationByUser", 1) => Err(wckeys()),
            () => Err(bad(
                "Valid cluster reports are, \"AccountUtilizationByUser\", \"UserUtilizationByAccount\", and \"Utilization\"",
            )),
        };
    }
    if begins(kind, "job", 1) {
        return match () {
            () if is("SizesByAccount", 1) => Ok(Report::Sizes),
            () if is("SizesByAccountAndWckey", 15) || is("SizesByWckey", 8) => Err(wckeys()),
            () => Err(bad("Valid job reports are, \"SizesByAccount\"")),
        };
    }
    if is("TopUsage", 1) { Ok(Report::Top) } else { Err(bad("Valid user reports are, \"Top\"")) }
}

fn tres_of(text: &str) -> Vec<Tres> {
    let one = |name: &str| match name.to_ascii_lowercase().as_str() {
        "cpu" => Tres::Cpu,
        "mem" => Tres::Memory,
        "node" => Tres::Node,
        "billing" => Tres::Billing,
        "all" => Tres::All,
        // What is no device is not found among them.
        _ => Tres::Gres(name.strip_prefix("gres/").unwrap_or(name).to_owned()),
    };
    text.split(',').filter(|name| !name.is_empty()).map(one).collect()
}

fn condition(word: &str, wanted: &mut Wanted) -> Result<(), Fault> {
    let unknown = || said(format!(" Unknown condition: {word}\nUse keyword set to modify value"));
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let is = |whole: &str, least: usize| begins(name, whole, least);
    let (users, jobs) = (wanted.report != Report::Utilization, wanted.report == Report::Sizes);
    let Some(value) = value else {
        match () {
            () if is("all_clusters", 1) && !is("accounts", 2) || is("where", 5) || is("set", 3) => {}
            () if wanted.report == Report::AccountsByUser && is("tree", 4) => wanted.tree = true,
            () if wanted.report == Report::Top && is("group", 1) => wanted.group = true,
            () if jobs && is("flatview", 2) => wanted.flat = true,
            () if jobs && is("acctasparent", 4) => wanted.as_parent = true,
            () if jobs && is("printjobcount", 2) => wanted.count_jobs = true,
            () => return Err(unknown()),
        }
        return Ok(());
    };
    match () {
        () if is("clusters", 1) => wanted.clusters.push(value.to_owned()),
        () if is("start", 1) => wanted.start_s = Some(read_instant(value)?),
        () if is("end", 1) => wanted.end_s = Some(read_instant(value)?),
        () if is("format", 1) => wanted.format = Some(list(value)),
        () if users && (is("accounts", 2) || is("acct", 4)) => wanted.accounts.extend(list(value)),
        () if users && is("users", 1) => wanted.users.extend(list(value)),
        () if jobs && is("partitions", 2) => wanted.partitions.extend(list(value)),
        () if jobs && is("grouping", 2) => wanted.grouping = grouping(value)?,
        () if wanted.report == Report::Top && is("topcount", 1) => {
            let bad = || said(format!("sreport: error: Invalid value for TopCount ({value})"));
            wanted.top = value.parse().ok().filter(|count| *count > 0).ok_or_else(bad)?;
        }
        () if jobs && ["gid", "jobs", "nodes", "wckeys"].iter().any(|whole| is(whole, 1)) => {
            return Err(refused(word, "jobs are chosen by Accounts=, Users= and Partitions="));
        }
        () => return Err(unknown()),
    }
    Ok(())
}

fn read_instant(text: &str) -> Result<i64, Fault> {
    instant::read(text).ok_or_else(|| said(format!("Invalid time specification (pos=0): {text}")))
}

fn grouping(text: &str) -> Result<Grouping, Fault> {
    if begins(text, "individual", 1) {
        return Ok(Grouping::Individual);
    }
    let numbers: Option<Vec<u64>> = list(text).iter().map(|word| word.parse().ok()).collect();
    let mut numbers =
        numbers.filter(|numbers| !numbers.is_empty() && !numbers.contains(&0)).ok_or_else(|| {
            said(format!(
                "sreport: error: Grouping={text}: write numbers of cores such as 50,250,500, or individual"
            ))
        })?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Grouping::From(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Asked, Fault> {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reports_and_conditions_may_be_cut_short_and_in_any_case() {
        for (line, report) in [
            ("cluster util", Report::Utilization),
            ("clu Utilization", Report::Utilization),
            ("cluster acc tree", Report::AccountsByUser),
            ("CLUSTER userutilizationbyaccount user=ann", Report::UsersByAccount),
            ("user top topcount=3 group", Report::Top),
            ("job sizes grouping=4,2,2 PrintJobCount flat", Report::Sizes),
        ] {
            let Ok(Asked::Report(wanted)) = read_line(line) else { panic!("{line}") };
            assert_eq!(wanted.report, report, "{line}");
        }
        let Ok(Asked::Report(wanted)) = read_line("-P job sizes grouping=4,2,2 acct=a,b") else { panic!() };
        assert_eq!(wanted.grouping, Grouping::From(vec![2, 4]));
        assert_eq!(wanted.accounts, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |line: &str| match read_line(line) {
            Err(fault) => fault.to_string(),
            Ok(_) => panic!("{line}"),
        };
        assert_eq!(said("bogus"), "invalid keyword: bogus");
        assert_eq!(said("cluster"), "too few arguments for keyword:cluster");
        assert!(said("cluster bogus").starts_with("Not valid report bogus\nValid cluster reports are, "));
        assert!(said("cluster util users=ann").starts_with(" Unknown condition: users=ann"));
        assert_eq!(said("cluster util start=bogus"), "Invalid time specification (pos=0): bogus");
        assert_eq!(said("user top topcount=x"), "sreport: error: Invalid value for TopCount (x)");
        assert!(said("job sizes grouping=0").contains("individual"));
        assert!(said("job sizes nodes=n1").contains("is not supported"));
        assert!(said("--bogus").starts_with("sreport: unrecognized option '--bogus'"));
    }
}
