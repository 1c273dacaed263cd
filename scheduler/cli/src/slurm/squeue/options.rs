//! The options of squeue and its variables.

use std::env;

use muster_core::ids::JobRef;
use muster_core::notation::parse_hosts;

use super::fields::{self, Field};
use super::layout_of;
use super::select::SortKey;
use crate::out::tell;
use crate::slurm::columns::Layout;
use crate::slurm::fault::{self, Fault};
use crate::slurm::getopt::{self, Opt, Order, Takes};
use crate::slurm::people::{find_user, own_name};
use crate::slurm::state::{self, Name};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Jobs,
    Steps,
    Json,
    Help,
    Usage,
    Version,
}

/// Which states are listed.
#[derive(Debug, Clone)]
pub(super) enum States {
    /// Those of jobs that have not finished.
    Unfinished,
    All,
    These(Vec<Name>),
}

/// Everything that was asked for.
pub(super) struct Options {
    pub mode: Mode,
    pub layout: Layout<Field>,
    pub header: bool,
    pub long: bool,
    pub start: bool,
    /// Whether each element of an array is a line.
    pub array: bool,
    pub convert: bool,
    pub sort: Vec<SortKey>,
    pub states: States,
    pub jobs: Option<Vec<JobRef>>,
    /// Steps as `JOB` and name; all without.
    pub steps: Vec<(JobRef, String)>,
    pub users: Option<Vec<String>>,
    pub names: Option<Vec<String>>,
    pub pools: Option<Vec<String>>,
    pub accounts: Option<Vec<String>>,
    pub qos: Option<Vec<String>>,
    pub reservation: Option<String>,
    pub licenses: Option<Vec<String>>,
    pub nodes: Option<Vec<String>>,
    pub clusters: Option<String>,
    pub iterate_s: Option<u64>,
}

impl Options {
    /// Whether finished jobs may be among what is listed.
    pub fn wants_finished(&self) -> bool {
        match &self.states {
            States::Unfinished => false,
            States::All => true,
            States::These(names) => names.iter().any(|name| name.ours.is_some_and(|ours| ours.is_finished())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Account,
    All,
    Array,
    Clusters,
    Format,
    FormatNames,
    Help,
    Ignored,
    Iterate,
    Jobs,
    Json,
    Licenses,
    Long,
    Me,
    Name,
    NoConvert,
    NoHeader,
    Nodes,
    Partition,
    Qos,
    Reservation,
    Sort,
    Start,
    States,
    Steps,
    Usage,
    User,
    Version,
    Yaml,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Account, Some('A'), &["accounts"], Value),
    opt(Key::All, Some('a'), &["all"], Nothing),
    opt(Key::Array, Some('r'), &["array"], Nothing),
    opt(Key::Array, None, &["array-unique"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters"], Value),
    opt(Key::Format, Some('o'), &["format"], Value),
    opt(Key::FormatNames, Some('O'), &["Format"], Value),
    opt(Key::Help, None, &["help"], Nothing),
    opt(Key::Ignored, None, &["federation", "hide", "local", "sibling", "only-job-state"], Nothing),
    opt(Key::Ignored, Some('P'), &["priority"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Iterate, Some('i'), &["iterate"], Value),
    opt(Key::Jobs, Some('j'), &["jobs"], Maybe),
    opt(Key::Json, None, &["json"], Maybe),
    opt(Key::Licenses, Some('L'), &["licenses"], Value),
    opt(Key::Long, Some('l'), &["long"], Nothing),
    opt(Key::Me, None, &["me"], Nothing),
    opt(Key::Name, Some('n'), &["name"], Value),
    opt(Key::NoConvert, None, &["noconvert"], Nothing),
    opt(Key::NoHeader, Some('h'), &["noheader"], Nothing),
    opt(Key::Nodes, Some('w'), &["nodelist"], Value),
    opt(Key::Partition, Some('p'), &["partition"], Value),
    opt(Key::Qos, Some('q'), &["qos"], Value),
    opt(Key::Reservation, Some('R'), &["reservation"], Value),
    opt(Key::Sort, Some('S'), &["sort"], Value),
    opt(Key::Start, None, &["start"], Nothing),
    opt(Key::States, Some('t'), &["states"], Value),
    opt(Key::Steps, Some('s'), &["steps"], Maybe),
    opt(Key::Usage, None, &["usage"], Nothing),
    opt(Key::User, Some('u'), &["users"], Value),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Yaml, None, &["yaml"], Maybe),
];

const DEFAULT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";
const LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";
const START: &str = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R";

pub(super) const USAGE: &str = "\
Usage: squeue [-A account] [--clusters names] [-i seconds] [--job jobid]
              [-n name] [-o format] [-p partitions] [--qos qos]
              [--reservation reservation] [--sort fields] [--start]
              [--step step_id] [-t states] [-u user_name] [--usage]
              [-L licenses] [-w nodes] [--federation] [--local] [--sibling]
\t      [-ahjlrsv]
";

pub(super) const HELP: &str = "\
Usage: squeue [OPTIONS]
  -A, --account=account(s)        jobs of these accounts
  -a, --all                       jobs of all partitions; always so
      --array-unique              one element of an array a line, as -r
  -h, --noheader                  no header
  -i, --iterate=seconds           again after so many seconds, until interrupted
  -j, --job=job(s)                these jobs or elements
      --json                      JSON
  -l, --long                      more columns
  -L, --licenses=(license names)  jobs that use one of these licences
  -M, --clusters=cluster_name     this cluster or all
      --me                        own jobs
  -n, --name=job_name(s)          jobs of these names
      --noconvert                 sizes in MiB
  -o, --format=format             columns by letter
  -O, --Format=format             columns by name
  -p, --partition=partition(s)    jobs of these partitions
  -q, --qos=qos(s)                jobs of these qualities of service
  -R, --reservation=name          jobs of this reservation
  -r, --array                     one element of an array a line
  -s, --step=step(s)              steps rather than jobs
  -S, --sort=fields               order, letters as of --format, + or - before each
      --start                     when pending jobs are expected to start
  -t, --states=states             jobs in these states, or all
  -u, --user=user_name(s)         jobs of these users
  -V, --version                   the version
  -w, --nodelist=hostlist         jobs on these nodes

Help options:
  --help                          this text
  --usage                         a brief summary
";

/// The words of a list with commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

/// Reads the command line and the variables, which it overrides.
pub(super) fn read(words: &[String]) -> Result<Options, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "squeue", source })?;
    let mut options = defaults()?;
    let mut rest = line.words.into_iter();
    for (key, value) in line.options {
        let value = match key {
            // The value of these may be left out, and may follow a blank.
            Key::Jobs | Key::Steps => value.or_else(|| rest.next()),
            _ => value,
        };
        take(&mut options, key, value.as_deref().unwrap_or_default())?;
    }
    if let Some(word) = rest.next() {
        fault::print(USAGE)?;
        return Err(said(format!("squeue: error: Unrecognized option: {word}")));
    }
    finish(&mut options)?;
    Ok(options)
}

/// What holds without options: what the variables say.
fn defaults() -> Result<Options, Fault> {
    let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let mut options = Options {
        mode: Mode::Jobs,
        layout: Layout { prefix: String::new(), columns: Vec::new() },
        header: true,
        long: false,
        start: false,
        array: env::var_os("SQUEUE_ARRAY").is_some(),
        convert: true,
        sort: Vec::new(),
        states: States::Unfinished,
        jobs: None,
        steps: Vec::new(),
        users: None,
        names: None,
        pools: None,
        accounts: None,
        qos: None,
        reservation: None,
        licenses: None,
        nodes: None,
        clusters: variable("SLURM_CLUSTERS"),
        iterate_s: None,
    };
    for (name, key) in [
        ("SQUEUE_ACCOUNT", Key::Account),
        ("SQUEUE_FORMAT", Key::Format),
        ("SQUEUE_FORMAT2", Key::FormatNames),
        ("SQUEUE_LICENSES", Key::Licenses),
        ("SQUEUE_NAMES", Key::Name),
        ("SQUEUE_PARTITION", Key::Partition),
        ("SQUEUE_QOS", Key::Qos),
        ("SQUEUE_SORT", Key::Sort),
        ("SQUEUE_STATES", Key::States),
        ("SQUEUE_USERS", Key::User),
    ] {
        if let Some(value) = variable(name) {
            take(&mut options, key, &value)?;
        }
    }
    Ok(options)
}

fn take(options: &mut Options, key: Key, value: &str) -> Result<(), Fault> {
    match key {
        Key::All | Key::Ignored => {}
        Key::Account => options.accounts = Some(list(value)),
        Key::Array => options.array = true,
        Key::Clusters => options.clusters = Some(value.to_owned()),
        Key::Format if value == "%all" => options.layout = fields::all(),
        Key::Format => set_layout(options, Layout::of_letters(value, fields::of_letter)),
        Key::FormatNames => set_layout(options, Layout::of_names(value, fields::of_name)),
        Key::Help => options.mode = Mode::Help,
        Key::Usage => options.mode = Mode::Usage,
        Key::Version => options.mode = Mode::Version,
        Key::Json => options.mode = Mode::Json,
        Key::Yaml => return Err(said("squeue: error: --yaml is not supported: use --json")),
        Key::Iterate => {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            options.iterate_s =
                Some(seconds.ok_or_else(|| said(format!("squeue: error: --iterate={value}\n")))?);
        }
        Key::Jobs => options.jobs = (!value.is_empty()).then(|| read_jobs(value)).transpose()?,
        Key::Steps => {
            options.mode = Mode::Steps;
            options.steps = read_steps(value)?;
        }
        Key::Licenses => options.licenses = Some(list(value)),
        Key::Long => options.long = true,
        Key::Me => options.users = Some(vec![own_name()]),
        Key::Name => options.names = Some(list(value)),
        Key::NoConvert => options.convert = false,
        Key::NoHeader => options.header = false,
        Key::Nodes => options.nodes = Some(read_nodes(value)?),
        Key::Partition => options.pools = Some(list(value)),
        Key::Qos => options.qos = Some(list(value)),
        Key::Reservation => options.reservation = Some(value.to_owned()),
        Key::Sort => options.sort = read_sort(value)?,
        Key::Start => options.start = true,
        Key::States => options.states = read_states(value)?,
        Key::User => options.users = Some(read_users(value)),
    }
    Ok(())
}

fn set_layout(options: &mut Options, (layout, unknown): (Layout<Field>, Vec<String>)) {
    for piece in unknown {
        tell(&format!("squeue: error: Invalid job format specification: {piece}"));
    }
    options.layout = layout;
}

/// Fills in what follows from the options together.
fn finish(options: &mut Options) -> Result<(), Fault> {
    if options.mode == Mode::Json && matches!(options.states, States::Unfinished) {
        options.states = States::All;
    }
    if options.start {
        options.states = States::These(state::find("PD").into_iter().collect());
    }
    if options.sort.is_empty() {
        options.sort = read_sort(if options.start { "S" } else { "P,t,-p" })?;
    }
    if options.layout.columns.is_empty() && options.layout.prefix.is_empty() {
        options.layout = layout_of(match (options.start, options.long) {
            (true, _) => START,
            (false, true) => LONG,
            (false, false) => DEFAULT,
        });
    }
    Ok(())
}

fn read_jobs(value: &str) -> Result<Vec<JobRef>, Fault> {
    let bad = |word: &str| said(format!("squeue: error: Invalid job id: {word}"));
    list(value).iter().map(|word| word.parse().map_err(|_| bad(word))).collect()
}

fn read_steps(value: &str) -> Result<Vec<(JobRef, String)>, Fault> {
    let read = |word: &String| {
        let bad = || said(format!("squeue: error: Invalid job_step id: {word}.??"));
        let (job, step) = word.split_once('.').ok_or_else(bad)?;
        Ok((job.parse().map_err(|_| bad())?, step.to_owned()))
    };
    list(value).iter().map(read).collect()
}

fn read_nodes(value: &str) -> Result<Vec<String>, Fault> {
    parse_hosts(value).map_err(|_| said(format!("squeue: error: Invalid node name {value}")))
}

fn read_users(value: &str) -> Vec<String> {
    let find = |word: String| {
        let found = find_user(&word);
        if found.is_none() {
            tell(&format!("squeue: error: Invalid user: {word}\n"));
        }
        found
    };
    list(value).into_iter().filter_map(find).collect()
}

fn read_states(value: &str) -> Result<States, Fault> {
    if value.eq_ignore_ascii_case("all") {
        return Ok(States::All);
    }
    let find = |word: &String| {
        state::find(word).ok_or_else(|| {
            said(format!(
                "squeue: error: Invalid job state specified: {word}\nsqueue: error: Valid job states include: {}\n",
                state::known()
            ))
        })
    };
    list(value).iter().map(find).collect::<Result<_, _>>().map(States::These)
}

fn read_sort(value: &str) -> Result<Vec<SortKey>, Fault> {
    let read = |piece: String| {
        let (descending, letter) = match piece.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, piece.strip_prefix('+').unwrap_or(&piece)),
        };
        let mut letters = letter.chars();
        match (letters.next().and_then(fields::of_letter), letters.next()) {
            (Some((field, _)), None) => Ok(SortKey { field, descending }),
            _ => Err(said(format!("squeue: error: Invalid sort specification: {piece}"))),
        }
    };
    list(value).into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn fails(text: &str) -> String {
        match read(&words(text)) {
            Ok(_) => panic!("{text} must be refused"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn jobs_may_follow_a_blank_and_may_be_left_out() {
        let jobs = |text: &str| read(&words(text)).unwrap().jobs;
        let refs =
            |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<JobRef>>());
        assert_eq!(jobs("-j 12,13_4"), refs(&["12", "13_4"]));
        assert_eq!(jobs("-hj12"), refs(&["12"]));
        assert_eq!(jobs("--jobs=1,1"), refs(&["1", "1"]));
        assert_eq!(jobs("--job 7 -h"), refs(&["7"]));
        assert_eq!(jobs("-j"), None);
        assert_eq!(fails("-j abc"), "squeue: error: Invalid job id: abc");
    }

    #[test]
    fn what_is_wrong_is_said_in_slurms_words() {
        assert!(
            fails("-t BOGUS")
                .starts_with("squeue: error: Invalid job state specified: BOGUS\nsqueue: error: Valid")
        );
        assert_eq!(
            fails("-o"),
            "squeue: option requires an argument -- 'o'\nTry \"squeue --help\" for more information"
        );
        assert_eq!(fails("-s 20"), "squeue: error: Invalid job_step id: 20.??");
        assert_eq!(fails("-i x"), "squeue: error: --iterate=x\n");
        assert!(fails("-S bogus").contains("Invalid sort specification"));
        assert!(matches!(read(&words("-t all")).unwrap().states, States::All));
        assert!(
            read(&words("-t r,CD")).unwrap().wants_finished()
                && !read(&words("-t r")).unwrap().wants_finished()
        );
    }
}
