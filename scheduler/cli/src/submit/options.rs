//! Every option that a directive can name: ours, those of Slurm that change nothing, and those we refuse.

/// An option of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opt {
    JobName,
    Pool,
    Nodes,
    Ntasks,
    NtasksPerNode,
    CpusPerTask,
    Mem,
    MemPerCpu,
    Time,
    Output,
    Error,
    Input,
    OpenMode,
    Chdir,
    Array,
    Export,
    Exclusive,
    Requeue,
    NoRequeue,
    Priority,
    Account,
    Qos,
    Constraint,
    Nodelist,
    Nodefile,
    Exclude,
    Switches,
    Contiguous,
    ThreadsPerCore,
    Hint,
    SpreadJob,
    PackJob,
    Gres,
    Gpus,
    GpusPerNode,
    GpusPerTask,
    Hold,
    Begin,
    Deadline,
    TimeMin,
    Dependency,
    KillOnInvalidDep,
    Wait,
    Parsable,
    TestOnly,
}

impl Opt {
    /// The options that are forgotten when this one is said after them.
    pub(crate) fn replaces(self) -> &'static [Self] {
        match self {
            Self::Requeue => &[Self::NoRequeue],
            Self::NoRequeue => &[Self::Requeue],
            Self::Nodelist => &[Self::Nodefile],
            Self::Nodefile => &[Self::Nodelist],
            Self::SpreadJob => &[Self::PackJob],
            Self::PackJob => &[Self::SpreadJob],
            Self::Mem => &[Self::MemPerCpu],
            Self::MemPerCpu => &[Self::Mem],
            Self::ThreadsPerCore => &[Self::Hint],
            Self::Hint => &[Self::ThreadsPerCore],
            _ => &[],
        }
    }
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// Only as `--option=value`.
    Maybe,
}

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Set(Opt),
    /// Slurm's, and harmless: a warning says that it is ignored.
    Ignored,
    /// Slurm's, and not to be ignored: the job would not be what the user wants. Says what to do.
    Refused(&'static str),
}

/// An option that exists.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) takes: Takes,
    pub(crate) meaning: Meaning,
}

const fn ours(long: &'static str, short: Option<char>, takes: Takes, option: Opt) -> Known {
    Known { long, short, takes, meaning: Meaning::Set(option) }
}

const fn ignored(long: &'static str, short: Option<char>, takes: Takes) -> Known {
    Known { long, short, takes, meaning: Meaning::Ignored }
}

const fn refused(long: &'static str, short: Option<char>, takes: Takes, right: &'static str) -> Known {
    Known { long, short, takes, meaning: Meaning::Refused(right) }
}

const DEVICES: &str = "ask for devices with --gres, --gpus-per-node or --gpus-per-task, and take it out";
const PLACES: &str = "name a pool of the right nodes with --pool, and take it out";
const SHAPE: &str = "say the shape with --nodes, --ntasks-per-node and --cpus-per-task, and take it out";
const TAKE_OUT: &str = "take it out";

use Takes::{Maybe, Nothing, Value};

/// All of them.
pub(crate) static KNOWN: &[Known] = &[
    ours("job-name", Some('J'), Value, Opt::JobName),
    ours("pool", Some('p'), Value, Opt::Pool),
    ours("partition", None, Value, Opt::Pool),
    ours("nodes", Some('N'), Value, Opt::Nodes),
    ours("ntasks", Some('n'), Value, Opt::Ntasks),
    ours("ntasks-per-node", None, Value, Opt::NtasksPerNode),
    ours("tasks-per-node", None, Value, Opt::NtasksPerNode),
    ours("cpus-per-task", Some('c'), Value, Opt::CpusPerTask),
    ours("mem", None, Value, Opt::Mem),
    ours("mem-per-cpu", None, Value, Opt::MemPerCpu),
    ours("time", Some('t'), Value, Opt::Time),
    ours("output", Some('o'), Value, Opt::Output),
    ours("error", Some('e'), Value, Opt::Error),
    ours("input", Some('i'), Value, Opt::Input),
    ours("open-mode", None, Value, Opt::OpenMode),
    ours("chdir", Some('D'), Value, Opt::Chdir),
    ours("array", Some('a'), Value, Opt::Array),
    ours("export", None, Value, Opt::Export),
    ours("exclusive", None, Maybe, Opt::Exclusive),
    ours("requeue", None, Nothing, Opt::Requeue),
    ours("no-requeue", None, Nothing, Opt::NoRequeue),
    ours("priority", None, Value, Opt::Priority),
    ours("account", Some('A'), Value, Opt::Account),
    ours("qos", Some('q'), Value, Opt::Qos),
    ours("constraint", Some('C'), Value, Opt::Constraint),
    ours("nodelist", Some('w'), Value, Opt::Nodelist),
    ours("nodefile", Some('F'), Value, Opt::Nodefile),
    ours("exclude", Some('x'), Value, Opt::Exclude),
    ours("switches", None, Value, Opt::Switches),
    ours("contiguous", None, Nothing, Opt::Contiguous),
    ours("threads-per-core", None, Value, Opt::ThreadsPerCore),
    ours("hint", None, Value, Opt::Hint),
    ours("spread-job", None, Nothing, Opt::SpreadJob),
    ours("pack-job", None, Nothing, Opt::PackJob),
    ours("gres", None, Value, Opt::Gres),
    ours("gpus", Some('G'), Value, Opt::Gpus),
    ours("gpus-per-node", None, Value, Opt::GpusPerNode),
    ours("gpus-per-task", None, Value, Opt::GpusPerTask),
    ours("hold", Some('H'), Nothing, Opt::Hold),
    ours("begin", Some('b'), Value, Opt::Begin),
    ours("deadline", None, Value, Opt::Deadline),
    ours("time-min", None, Value, Opt::TimeMin),
    ours("dependency", Some('d'), Value, Opt::Dependency),
    ours("kill-on-invalid-dep", None, Value, Opt::KillOnInvalidDep),
    ours("wait", Some('W'), Nothing, Opt::Wait),
    ours("parsable", None, Nothing, Opt::Parsable),
    ours("test-only", None, Nothing, Opt::TestOnly),
    ignored("comment", None, Value),
    ignored("mail-user", None, Value),
    ignored("mail-type", None, Value),
    ignored("get-user-env", None, Maybe),
    refused("acctg-freq", None, Value, TAKE_OUT),
    refused("batch", None, Value, PLACES),
    refused("bb", None, Value, TAKE_OUT),
    refused("bbf", None, Value, TAKE_OUT),
    refused("cluster-constraint", None, Value, PLACES),
    refused("clusters", Some('M'), Value, "submit on a host of that cluster"),
    refused("container", None, Value, "start the container in the script"),
    refused("core-spec", Some('S'), Value, TAKE_OUT),
    refused("cores-per-socket", None, Value, SHAPE),
    refused("cpu-freq", None, Value, TAKE_OUT),
    refused("cpus-per-gpu", None, Value, DEVICES),
    refused("delay-boot", None, Value, TAKE_OUT),
    refused("distribution", Some('m'), Value, "ranks fill one node after the other; take it out"),
    refused("export-file", None, Value, "read the file in the script"),
    refused("extra-node-info", Some('B'), Value, SHAPE),
    refused("gid", None, Value, "work runs as the user who submits it"),
    refused("gpu-bind", None, Value, DEVICES),
    refused("gpu-freq", None, Value, DEVICES),
    refused("gpus-per-socket", None, Value, DEVICES),
    refused("gres-flags", None, Value, DEVICES),
    refused("ignore-pbs", None, Nothing, "#PBS lines are remarks here; take it out"),
    refused("licenses", Some('L'), Value, TAKE_OUT),
    refused("mem-bind", None, Value, TAKE_OUT),
    refused("mem-per-gpu", None, Value, DEVICES),
    refused("mincpus", None, Value, SHAPE),
    refused("network", None, Value, TAKE_OUT),
    refused("nice", None, Maybe, "write --priority=-100 instead"),
    refused("no-kill", Some('k'), Maybe, "a gang ends as a whole when a node fails; take it out"),
    refused("ntasks-per-core", None, Value, SHAPE),
    refused("ntasks-per-gpu", None, Value, DEVICES),
    refused("ntasks-per-socket", None, Value, SHAPE),
    refused("overcommit", Some('O'), Nothing, "each rank has cores of its own; take it out"),
    refused("oversubscribe", Some('s'), Nothing, "cores are never shared; take it out"),
    refused("power", None, Value, TAKE_OUT),
    refused("prefer", None, Value, PLACES),
    refused("profile", None, Value, TAKE_OUT),
    refused("propagate", None, Maybe, "all soft limits go with the job; take it out"),
    refused("reboot", None, Nothing, TAKE_OUT),
    refused("reservation", None, Value, PLACES),
    refused("signal", None, Value, "a task gets SIGTERM before SIGKILL when its time is over; take it out"),
    refused("sockets-per-node", None, Value, SHAPE),
    refused("thread-spec", None, Value, TAKE_OUT),
    refused("tmp", None, Value, TAKE_OUT),
    refused("uid", None, Value, "work runs as the user who submits it"),
    refused("use-min-nodes", None, Nothing, "as few nodes as possible are used anyway; take it out"),
    refused("wait-all-nodes", None, Value, "a script starts when all its nodes are ready; take it out"),
    refused("wckey", None, Value, TAKE_OUT),
];

/// What a long name can mean.
pub(crate) enum Found {
    One(&'static Known),
    /// It is the beginning of these.
    Several(Vec<&'static str>),
    /// It is nothing; the nearest name, if one is near.
    None(Option<&'static str>),
}

/// Finds an option by its long name or by a beginning that no other has; `_` counts as `-`.
pub(crate) fn find_long(name: &str) -> Found {
    let name = name.replace('_', "-");
    if let Some(known) = KNOWN.iter().find(|known| known.long == name) {
        return Found::One(known);
    }
    let begins: Vec<&'static Known> =
        KNOWN.iter().filter(|known| !name.is_empty() && known.long.starts_with(&name)).collect();
    match begins.as_slice() {
        [one] => Found::One(one),
        [first, rest @ ..] if rest.iter().all(|known| known.meaning == first.meaning) && is_ours(first) => {
            Found::One(first)
        }
        [] => Found::None(nearest(&name)),
        several => Found::Several(several.iter().map(|known| known.long).collect()),
    }
}

fn is_ours(known: &Known) -> bool {
    matches!(known.meaning, Meaning::Set(_))
}

/// Finds an option by its letter.
pub(crate) fn find_short(letter: char) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.short == Some(letter))
}

/// The nearest long name, unless all are far. Of two that are equally near, ours comes first.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    const SIMILAR: f64 = 0.7;
    KNOWN
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known.long), is_ours(known), known.long))
        .filter(|(similarity, _, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
        .map(|(_, _, long)| long)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_letters_are_given_once() {
        let longs: BTreeSet<&str> = KNOWN.iter().map(|known| known.long).collect();
        assert_eq!(longs.len(), KNOWN.len());
        let shorts: Vec<char> = KNOWN.iter().filter_map(|known| known.short).collect();
        assert_eq!(shorts.iter().collect::<BTreeSet<_>>().len(), shorts.len());
    }

    #[test]
    fn long_names_may_be_shortened_while_they_stay_clear() {
        let one = |name| match find_long(name) {
            Found::One(known) => known.long,
            _ => panic!("{name} must be found"),
        };
        assert_eq!(one("out"), "output");
        assert_eq!(one("license"), "licenses");
        assert_eq!(one("mem"), "mem");
        assert_eq!(one("ntasks_per_node"), "ntasks-per-node");
        assert_eq!(one("ntasks-per-n"), "ntasks-per-node");
        let Found::Several(names) = find_long("mail") else { panic!("mail is the beginning of two") };
        assert_eq!(names, ["mail-user", "mail-type"]);
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("ntask-per-nod"), Some("ntasks-per-node"));
        assert_eq!(nearest("ouptut"), Some("output"));
        assert_eq!(nearest("cpu-per-tasks"), Some("cpus-per-task"));
        assert_eq!(nearest("zzz"), None);
    }
}
