//! What an option of a job can be, and how it is found by what was written. The options themselves are in [`KNOWN`].

pub(crate) use super::known::KNOWN;

/// An option of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opt {
    JobName,
    Pool,
    Nodes,
    Ntasks,
    NtasksPerNode,
    NtasksPerCore,
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
    GetUserEnv,
    Propagate,
    Exclusive,
    Requeue,
    NoRequeue,
    Priority,
    Nice,
    Account,
    Qos,
    Wckey,
    Comment,
    MailType,
    MailUser,
    Signal,
    Constraint,
    Nodelist,
    Nodefile,
    Exclude,
    Switches,
    Contiguous,
    ThreadsPerCore,
    Hint,
    Distribution,
    SpreadJob,
    PackJob,
    Gres,
    Gpus,
    GpusPerNode,
    GpusPerTask,
    NtasksPerGpu,
    CpusPerGpu,
    MemPerGpu,
    Licenses,
    StageIn,
    StageOut,
    StageKeep,
    Hold,
    Begin,
    Deadline,
    TimeMin,
    Dependency,
    KillOnInvalidDep,
    Reservation,
    WaitAllNodes,
    Clusters,
    Uid,
    Gid,
    Wait,
    Parsable,
    TestOnly,
    Wrap,
    Quiet,
    Verbose,
    Help,
    Usage,
    Version,
}

impl Opt {
    /// Whether it may be said several times, and all of it holds.
    pub(crate) fn adds_up(self) -> bool {
        matches!(self, Self::StageIn | Self::StageOut)
    }

    /// The options that are forgotten when this one is said after them.
    pub(crate) fn replaces(self) -> &'static [Self] {
        match self {
            Self::Requeue => &[Self::NoRequeue],
            Self::NoRequeue => &[Self::Requeue],
            Self::Nodelist => &[Self::Nodefile],
            Self::Nodefile => &[Self::Nodelist],
            Self::SpreadJob => &[Self::PackJob],
            Self::PackJob => &[Self::SpreadJob],
            Self::Mem => &[Self::MemPerCpu, Self::MemPerGpu],
            Self::MemPerCpu => &[Self::Mem, Self::MemPerGpu],
            Self::MemPerGpu => &[Self::Mem, Self::MemPerCpu],
            Self::ThreadsPerCore => &[Self::Hint],
            Self::Hint => &[Self::ThreadsPerCore],
            _ => &[],
        }
    }

    /// Whether it is about the command that submits rather than about the job.
    pub(crate) fn is_of_command(self) -> bool {
        use Opt::{Help, Parsable, Quiet, TestOnly, Usage, Verbose, Version, Wrap};
        matches!(self, Parsable | TestOnly | Wrap | Quiet | Verbose | Help | Usage | Version)
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
    /// Slurm's, and so anyway, whatever is said: nothing is to be done.
    SoAnyway,
    /// Slurm's, and harmless: a warning says that it is ignored, and why.
    Ignored(&'static str),
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
        assert_eq!(names, ["mail-type", "mail-user"]);
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("ntask-per-nod"), Some("ntasks-per-node"));
        assert_eq!(nearest("ouptut"), Some("output"));
        assert_eq!(nearest("cpu-per-tasks"), Some("cpus-per-task"));
        assert_eq!(nearest("zzz"), None);
    }
}
