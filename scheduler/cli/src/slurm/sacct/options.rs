//! The options of sacct and its variables.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_core::ids::JobRef;
use muster_core::notation::parse_hosts;
use nix::unistd::Uid;

use super::fields::{self, Column, Units};
use crate::slurm::fault::Fault;
use crate::slurm::getopt::{self, Opt, Order, Takes};
use crate::slurm::instant;
use crate::slurm::listing::Style;
use crate::slurm::people::{find_user, own_name};
use crate::slurm::state::{self, Name};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Json,
    Help,
    HelpFormat,
    Version,
}

/// A job or one of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub job: JobRef,
    /// Such as `batch`; the job and all of its steps without.
    pub step: Option<String>,
}

/// Everything that was asked for.
pub(super) struct Options {
    pub mode: Mode,
    pub columns: Vec<Column>,
    pub style: Style,
    pub header: bool,
    /// Only jobs, not their steps.
    pub allocations: bool,
    pub units: Units,
    pub jobs: Vec<Wanted>,
    pub users: Option<Vec<String>>,
    pub states: Option<Vec<Name>>,
    pub names: Option<Vec<String>>,
    pub accounts: Option<Vec<String>>,
    pub pools: Option<Vec<String>>,
    pub qos: Option<Vec<String>>,
    pub nodes: Option<Vec<String>>,
    pub clusters: Option<String>,
    pub since_us: u64,
    pub until_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Account,
    AllUsers,
    Allocations,
    Brief,
    Clusters,
    Delimiter,
    End,
    Format,
    Help,
    HelpFormat,
    Ignored,
    Jobs,
    Json,
    Long,
    Name,
    NoConvert,
    NoHeader,
    Nodes,
    Parsable,
    Parsable2,
    Partition,
    Qos,
    Refused(&'static str),
    Start,
    State,
    Units,
    Users,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::AllUsers, Some('a'), &["allusers"], Nothing),
    opt(Key::Account, Some('A'), &["accounts"], Value),
    opt(Key::Brief, Some('b'), &["brief"], Nothing),
    opt(Key::Refused("--batch-script"), Some('B'), &["batch-script"], Nothing),
    opt(Key::Refused("--constraints"), Some('C'), &["constraints"], Value),
    opt(Key::Delimiter, None, &["delimiter"], Value),
    opt(Key::Ignored, Some('D'), &["duplicates"], Nothing),
    opt(Key::HelpFormat, Some('e'), &["helpformat"], Nothing),
    opt(Key::End, Some('E'), &["endtime"], Value),
    opt(Key::Refused("--env-vars"), None, &["env-vars"], Nothing),
    opt(Key::Refused("--file"), Some('f'), &["file"], Value),
    opt(Key::Refused("--flags"), Some('F'), &["flags"], Value),
    opt(Key::Refused("--gid"), Some('g'), &["gid", "group"], Value),
    opt(Key::Help, Some('h'), &["help", "usage"], Nothing),
    opt(Key::Refused("--nnodes"), Some('i'), &["nnodes"], Value),
    opt(Key::Refused("--ncpus"), Some('I'), &["ncpus"], Value),
    opt(Key::Jobs, Some('j'), &["jobs"], Value),
    opt(Key::Json, None, &["json"], Maybe),
    opt(Key::Refused("--timelimit-min"), Some('k'), &["timelimit-min"], Value),
    opt(Key::Refused("--timelimit-max"), Some('K'), &["timelimit-max"], Value),
    opt(Key::Long, Some('l'), &["long"], Nothing),
    opt(Key::Ignored, Some('L'), &["allclusters"], Nothing),
    opt(Key::Ignored, None, &["federation", "local"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters", "cluster"], Value),
    opt(Key::NoHeader, Some('n'), &["noheader"], Nothing),
    opt(Key::Nodes, Some('N'), &["nodelist"], Value),
    opt(Key::Name, None, &["name"], Value),
    opt(Key::NoConvert, None, &["noconvert"], Nothing),
    opt(Key::Format, Some('o'), &["format"], Value),
    opt(Key::Refused("--whole-hetjob"), None, &["whole-hetjob"], Maybe),
    opt(Key::Parsable, Some('p'), &["parsable"], Nothing),
    opt(Key::Parsable2, Some('P'), &["parsable2"], Nothing),
    opt(Key::Qos, Some('q'), &["qos"], Value),
    opt(Key::Partition, Some('r'), &["partition"], Value),
    opt(Key::Refused("--reason"), Some('R'), &["reason"], Value),
    opt(Key::State, Some('s'), &["state"], Value),
    opt(Key::Start, Some('S'), &["starttime"], Value),
    opt(Key::Ignored, Some('T'), &["truncate"], Nothing),
    opt(Key::Users, Some('u'), &["uid", "user"], Value),
    opt(Key::Units, None, &["units"], Value),
    opt(Key::Refused("--use-local-uid"), None, &["use-local-uid"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Refused("--wckeys"), Some('W'), &["wckeys"], Value),
    opt(Key::Allocations, Some('X'), &["allocations"], Nothing),
    opt(Key::Refused("--associations"), Some('x'), &["associations"], Value),
    opt(Key::Refused("--yaml"), None, &["yaml"], Maybe),
];

const DEFAULT: &str = "jobid,jobname,partition,account,alloccpus,state,exitcode";
const BRIEF: &str = "jobid,state,exitcode";
const LONG: &str = "jobid,jobidraw,jobname,partition,maxvmsize,maxvmsizenode,maxvmsizetask,avevmsize,maxrss,maxrssnode,\
maxrsstask,averss,maxpages,maxpagesnode,maxpagestask,avepages,mincpu,mincpunode,mincputask,avecpu,ntasks,alloccpus,\
elapsed,state,exitcode,avecpufreq,reqcpufreqmin,reqcpufreqmax,reqcpufreqgov,reqmem,consumedenergy,maxdiskread,\
maxdiskreadnode,maxdiskreadtask,avediskread,maxdiskwrite,maxdiskwritenode,maxdiskwritetask,avediskwrite,reqtres,\
alloctres,tresusageinave,tresusageinmax,tresusageinmaxn,tresusageinmaxt,tresusageinmin,tresusageinminn,\
tresusageinmint,tresusageintot,tresusageoutmax,tresusageoutmaxn,tresusageoutmaxt,tresusageoutave,tresusageouttot";

pub(super) const HELP: &str = "\
sacct [OPTIONS]
    -a, --allusers         jobs of all users
    -A, --accounts=LIST    jobs of these accounts
    -b, --brief            job, state and exit code
    -D, --duplicates       as without: the last attempt of each job is shown
    --delimiter=TEXT       between fields of -p and -P
    -e, --helpformat       every field
    -E, --endtime=TIME     jobs that were there before
    -j, --jobs=LIST        these jobs, elements or steps
    --json                 JSON
    -l, --long             many fields
    -M, --clusters=LIST    this cluster or all
    -n, --noheader         no header
    -N, --nodelist=LIST    jobs on these nodes
    --name=LIST            jobs of these names
    --noconvert            sizes in their own unit
    -o, --format=LIST      these fields; FIELD%20 is 20 wide, FIELD%-20 flush left
    -p, --parsable         fields with | after each
    -P, --parsable2        fields with | between them
    -q, --qos=LIST         jobs of these qualities of service
    -r, --partition=LIST   jobs of these partitions
    -s, --state=LIST       jobs in these states
    -S, --starttime=TIME   jobs that were there after
    -u, --user=LIST        jobs of these users
    --units=[KMGTP]        sizes in this unit
    -V, --version          the version
    -X, --allocations      jobs without their steps
";

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What the options say about time, before it is known what holds without.
#[derive(Default)]
struct Period {
    start: Option<u64>,
    end: Option<u64>,
    all_users: bool,
}

/// Reads the command line and the variables, which it overrides.
pub(super) fn read(words: &[String]) -> Result<Options, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sacct", source })?;
    let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let mut options = Options {
        mode: Mode::Table,
        columns: Vec::new(),
        style: Style::Columns,
        header: true,
        allocations: false,
        units: Units::Exact,
        jobs: Vec::new(),
        users: None,
        states: None,
        names: None,
        accounts: None,
        pools: None,
        qos: None,
        nodes: None,
        clusters: variable("SLURM_CLUSTERS"),
        since_us: 0,
        until_us: None,
    };
    let mut period = Period::default();
    if let Some(value) = variable("SACCT_FORMAT") {
        take(&mut options, &mut period, Key::Format, &value)?;
    }
    let mut delimiter = None;
    for (key, value) in line.options {
        let value = value.unwrap_or_default();
        if key == Key::Delimiter {
            delimiter = Some(value);
        } else {
            take(&mut options, &mut period, key, &value)?;
        }
    }
    if let Some(word) = line.words.first() {
        return Err(said(format!("sacct: error: Unknown arguments:\nsacct: error:  {word}")));
    }
    if options.columns.is_empty() {
        options.columns = read_columns(DEFAULT)?;
    }
    if let (Some(text), Style::Fields { delimiter, .. }) = (delimiter, &mut options.style) {
        *delimiter = text;
    }
    finish(&mut options, &period);
    Ok(options)
}

/// Fills in what follows from the options together.
fn finish(options: &mut Options, period: &Period) {
    let midnight = || instant::read("today").and_then(|at| u64::try_from(at).ok()).unwrap_or(0) * 1_000_000;
    options.since_us = period.start.unwrap_or_else(|| match (options.jobs.is_empty(), &options.states) {
        (false, _) => 0,
        (true, Some(_)) => now_us(),
        (true, None) => midnight(),
    });
    options.until_us = period.end;
    if options.users.is_none() && !period.all_users && options.jobs.is_empty() && !Uid::current().is_root() {
        options.users = Some(vec![own_name()]);
    }
}

fn take(options: &mut Options, period: &mut Period, key: Key, value: &str) -> Result<(), Fault> {
    match key {
        Key::Ignored | Key::Delimiter => {}
        Key::Account => options.accounts = Some(list(value)),
        Key::AllUsers => period.all_users = true,
        Key::Allocations => options.allocations = true,
        Key::Brief => options.columns = read_columns(BRIEF)?,
        Key::Clusters => options.clusters = Some(value.to_owned()),
        Key::End => period.end = Some(read_instant(value)?),
        Key::Start => period.start = Some(read_instant(value)?),
        Key::Format => options.columns.extend(read_columns(value)?),
        Key::Help => options.mode = Mode::Help,
        Key::HelpFormat => options.mode = Mode::HelpFormat,
        Key::Version => options.mode = Mode::Version,
        Key::Json => options.mode = Mode::Json,
        Key::Jobs => options.jobs.extend(read_jobs(value)?),
        Key::Long => options.columns = read_columns(LONG)?,
        Key::Name => options.names = Some(list(value)),
        Key::NoConvert => options.units = Units::Raw,
        Key::NoHeader => options.header = false,
        Key::Nodes => {
            let bad = |_| said(format!("sacct: error: Invalid node name {value}"));
            options.nodes = Some(parse_hosts(value).map_err(bad)?);
        }
        Key::Parsable => options.style = Style::Fields { delimiter: "|".to_owned(), ended: true },
        Key::Parsable2 => options.style = Style::Fields { delimiter: "|".to_owned(), ended: false },
        Key::Partition => options.pools = Some(list(value)),
        Key::Qos => options.qos = Some(list(value)),
        Key::Refused(name) => return Err(said(format!("sacct: error: {name} is not supported"))),
        Key::State => options.states = Some(read_states(value)?),
        Key::Units => options.units = read_units(value)?,
        Key::Users => {
            let find = |word: &String| {
                find_user(word).ok_or_else(|| said(format!("sacct: fatal: Invalid user: {word}")))
            };
            options.users = Some(list(value).iter().map(find).collect::<Result<_, _>>()?);
        }
    }
    Ok(())
}

fn read_columns(value: &str) -> Result<Vec<Column>, Fault> {
    let bad = |piece: &str| said(format!("sacct: error: Invalid field requested: \"{piece}\""));
    list(value).iter().map(|piece| fields::column(piece).ok_or_else(|| bad(piece))).collect()
}

fn read_instant(value: &str) -> Result<u64, Fault> {
    let seconds = instant::read(value).and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.ok_or_else(|| said(format!("Invalid time specification (pos=0): {value}")))?;
    Ok(seconds.saturating_mul(1_000_000))
}

fn read_jobs(value: &str) -> Result<Vec<Wanted>, Fault> {
    let read = |word: &String| {
        let bad = || said(format!("sacct: fatal: Bad job/step specified: {word}"));
        let (job, step) = match word.split_once('.') {
            Some((job, step)) => (job, Some(step.to_owned())),
            None => (word.as_str(), None),
        };
        Ok(Wanted { job: job.parse().map_err(|_| bad())?, step })
    };
    list(value).iter().map(read).collect()
}

fn read_states(value: &str) -> Result<Vec<Name>, Fault> {
    let find = |word: &String| {
        state::find(word).ok_or_else(|| said(format!("sacct: fatal: unrecognized job state value '{word}'")))
    };
    list(value).iter().map(find).collect()
}

fn read_units(value: &str) -> Result<Units, Fault> {
    let bad = || said(format!("sacct: error: Invalid unit type ({value}). Options are K, M, G, T and P"));
    let place = match value.to_ascii_uppercase().as_str() {
        "K" => 0,
        "M" => 1,
        "G" => 2,
        "T" => 3,
        "P" => 4,
        _ => return Err(bad()),
    };
    Ok(Units::Of(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_wrong_is_said_in_slurms_words() {
        let said = |text: &str| match read(&words(text)) {
            Ok(_) => panic!("{text} must be refused"),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(said("-o bogus"), "sacct: error: Invalid field requested: \"bogus\"");
        assert_eq!(said("-s X"), "sacct: fatal: unrecognized job state value 'X'");
        assert_eq!(said("-j abc"), "sacct: fatal: Bad job/step specified: abc");
        assert_eq!(said("-S foo"), "Invalid time specification (pos=0): foo");
        assert!(said("-nu root -o Account%256 | tail -1").starts_with("sacct: invalid option -- '1'"));
        assert!(said("-B").contains("--batch-script is not supported"));
    }

    #[test]
    fn periods_default_as_slurms_do() {
        let since = |text: &str| read(&words(text)).unwrap().since_us;
        assert_eq!(since("-X -j 1,2 -j 3_4.batch"), 0);
        assert!(since("-X") > 0 && since("-s PD") > since("-X"));
        assert_eq!(since("-S 1970-01-01T00:00:10 -s CD") % 1_000_000, 0);
        assert_eq!(read(&words("-j 12.batch")).unwrap().jobs[0].step.as_deref(), Some("batch"));
    }
}
