//! What was said in one place, and how places are laid over each other.

use std::collections::BTreeMap;
use std::fmt;

use super::options::{KNOWN, Meaning, Opt, Takes};

/// Where an option was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, by this option.
    CommandLine {
        /// With its dashes.
        option: String,
    },
    /// In the environment, by this variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// In the script, by this option of a directive.
    Directive {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// With its dashes.
        option: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine { option } => f.write_str(option),
            Self::Environment { variable } => f.write_str(variable),
            Self::Directive { place, option } => write!(f, "{place}: {option}"),
        }
    }
}

/// What stands between the values of an option that adds up.
pub(super) const LIST_BREAK: char = '\n';

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// The text; empty for an option without one.
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// Everything that was said in one place, the last word for each option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer(BTreeMap<Opt, Said>);

impl Layer {
    /// Says `option`. What it replaces is forgotten: an earlier value, unless it adds up, and an option of which it is the
    /// opposite.
    pub(crate) fn say(&mut self, option: Opt, value: impl Into<String>, origin: Origin) {
        for other in option.replaces() {
            self.0.remove(other);
        }
        let mut value = value.into();
        if let Some(earlier) = self.0.get(&option).filter(|_| option.adds_up()) {
            value = format!("{}{LIST_BREAK}{value}", earlier.value);
        }
        self.0.insert(option, Said { value, origin });
    }

    pub(crate) fn get(&self, option: Opt) -> Option<&Said> {
        self.0.get(&option)
    }

    /// The same, unless its value is empty: scripts clear an option of their user's environment so.
    pub(crate) fn written(&self, option: Opt) -> Option<&Said> {
        self.get(option).filter(|said| !said.value.is_empty())
    }

    /// The option that was said there.
    pub(crate) fn said_at(&self, origin: &Origin) -> Option<Opt> {
        self.0.iter().find(|(_, said)| said.origin == *origin).map(|(option, _)| *option)
    }

    pub(crate) fn has(&self, option: Opt) -> bool {
        self.0.contains_key(&option)
    }

    /// This layer under `upper`, which has the last word.
    pub(crate) fn under(mut self, upper: Self) -> Self {
        for (option, said) in upper.0 {
            self.say(option, said.value, said.origin);
        }
        self
    }
}

/// sbatch's names for what it reads from the environment, where they are not the option's.
const SBATCH_NAMES: [(&str, Opt); 45] = [
    ("SBATCH_JOB_NAME", Opt::JobName),
    ("SBATCH_PARTITION", Opt::Pool),
    ("SBATCH_RESERVATION", Opt::Reservation),
    ("SBATCH_NODES", Opt::Nodes),
    ("SBATCH_NTASKS", Opt::Ntasks),
    ("SBATCH_NTASKS_PER_NODE", Opt::NtasksPerNode),
    ("SBATCH_CPUS_PER_TASK", Opt::CpusPerTask),
    ("SBATCH_MEM_PER_NODE", Opt::Mem),
    ("SBATCH_MEM_PER_CPU", Opt::MemPerCpu),
    ("SBATCH_TIMELIMIT", Opt::Time),
    ("SBATCH_OUTPUT", Opt::Output),
    ("SBATCH_ERROR", Opt::Error),
    ("SBATCH_INPUT", Opt::Input),
    ("SBATCH_OPEN_MODE", Opt::OpenMode),
    ("SBATCH_CHDIR", Opt::Chdir),
    ("SBATCH_ARRAY_INX", Opt::Array),
    ("SBATCH_EXPORT", Opt::Export),
    ("SBATCH_EXCLUSIVE", Opt::Exclusive),
    ("SBATCH_REQUEUE", Opt::Requeue),
    ("SBATCH_NO_REQUEUE", Opt::NoRequeue),
    ("SBATCH_PRIORITY", Opt::Priority),
    ("SBATCH_ACCOUNT", Opt::Account),
    ("SBATCH_QOS", Opt::Qos),
    ("SBATCH_WAIT", Opt::Wait),
    ("SBATCH_KILL_ON_INVALID_DEP", Opt::KillOnInvalidDep),
    ("SBATCH_DEADLINE", Opt::Deadline),
    ("SBATCH_CONSTRAINT", Opt::Constraint),
    ("SBATCH_EXCLUDE", Opt::Exclude),
    ("SBATCH_REQ_SWITCH", Opt::Switches),
    ("SBATCH_THREADS_PER_CORE", Opt::ThreadsPerCore),
    ("SBATCH_HINT", Opt::Hint),
    ("SBATCH_GRES", Opt::Gres),
    ("SBATCH_GPUS", Opt::Gpus),
    ("SBATCH_GPUS_PER_NODE", Opt::GpusPerNode),
    ("SBATCH_GPUS_PER_TASK", Opt::GpusPerTask),
    ("SBATCH_NTASKS_PER_GPU", Opt::NtasksPerGpu),
    ("SBATCH_CPUS_PER_GPU", Opt::CpusPerGpu),
    ("SBATCH_MEM_PER_GPU", Opt::MemPerGpu),
    ("SBATCH_SIGNAL", Opt::Signal),
    ("SBATCH_WCKEY", Opt::Wckey),
    ("SBATCH_DISTRIBUTION", Opt::Distribution),
    ("SBATCH_GET_USER_ENV", Opt::GetUserEnv),
    ("SLURM_CLUSTERS", Opt::Clusters),
    ("SBATCH_CLUSTERS", Opt::Clusters),
    ("SBATCH_WAIT_ALL_NODES", Opt::WaitAllNodes),
];

/// What the environment says: `SBATCH_*`, and over it `MUSTER_SUBMIT_*` with the options' long names.
///
/// The prefix is not `MUSTER_` alone, because a running script finds facts about its own job under it: a job
/// that is submitted from inside another must not inherit its size.
pub(crate) fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Layer {
    let mut layer = Layer::default();
    let mut say = |variable: String, option: Opt| {
        if let Some(value) = lookup(&variable) {
            layer.say(option, value, Origin::Environment { variable });
        }
    };
    for (variable, option) in SBATCH_NAMES {
        say(variable.to_owned(), option);
    }
    for known in KNOWN {
        if let (Meaning::Set(option), Takes::Value | Takes::Maybe | Takes::Nothing) =
            (known.meaning, known.takes)
            && !option.is_of_command()
        {
            say(format!("MUSTER_SUBMIT_{}", known.long.to_ascii_uppercase().replace('-', "_")), option);
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(option: &str) -> Origin {
        Origin::CommandLine { option: option.to_owned() }
    }

    #[test]
    fn the_upper_layer_has_the_last_word_also_over_opposites() {
        let mut lower = Layer::default();
        lower.say(Opt::Requeue, "", origin("a"));
        lower.say(Opt::Mem, "4G", origin("a"));
        lower.say(Opt::Time, "10", origin("a"));
        let mut upper = Layer::default();
        upper.say(Opt::NoRequeue, "", origin("b"));
        upper.say(Opt::MemPerCpu, "1G", origin("b"));
        let both = lower.under(upper);
        assert!(both.has(Opt::NoRequeue) && !both.has(Opt::Requeue));
        assert!(both.has(Opt::MemPerCpu) && !both.has(Opt::Mem));
        assert_eq!(both.get(Opt::Time).unwrap().value, "10");
    }

    #[test]
    fn the_environment_speaks_with_both_prefixes() {
        let layer = from_environment(|name| match name {
            "SBATCH_TIMELIMIT" => Some("10".to_owned()),
            "SBATCH_PARTITION" => Some("a".to_owned()),
            "MUSTER_SUBMIT_POOL" => Some("b".to_owned()),
            "MUSTER_SUBMIT_TEST_ONLY" | "MUSTER_NODES" | "MUSTER_POOL" => Some("x".to_owned()),
            _ => None,
        });
        assert_eq!(layer.get(Opt::Time).unwrap().origin.to_string(), "SBATCH_TIMELIMIT");
        assert_eq!(layer.get(Opt::Pool).unwrap().value, "b");
        assert!(!layer.has(Opt::TestOnly) && !layer.has(Opt::Nodes));
    }
}
