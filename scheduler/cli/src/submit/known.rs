//! The table of options: ours, those of Slurm that change nothing, and those that are refused.

use super::options::Takes::{Maybe, Nothing, Value};
use super::options::{Known, Meaning, Opt, Takes};

const fn ours(long: &'static str, short: Option<char>, takes: Takes, option: Opt) -> Known {
    Known { long, short, takes, meaning: Meaning::Set(option) }
}

const fn so_anyway(long: &'static str, short: Option<char>, takes: Takes) -> Known {
    Known { long, short, takes, meaning: Meaning::SoAnyway }
}

const fn ignored(long: &'static str, short: Option<char>, takes: Takes, why: &'static str) -> Known {
    Known { long, short, takes, meaning: Meaning::Ignored(why) }
}

const fn refused(long: &'static str, short: Option<char>, takes: Takes, right: &'static str) -> Known {
    Known { long, short, takes, meaning: Meaning::Refused(right) }
}

const DEVICES: &str = "ask for devices with --gres, --gpus-per-node or --gpus-per-task, and take it out";
const PLACES: &str =
    "name a pool of the right nodes with --pool, or features with --constraint, and take it out";
const SHAPE: &str = "say the shape with --nodes, --ntasks-per-node and --cpus-per-task, and take it out";
const TAKE_OUT: &str = "take it out";
const PINNED: &str = "ranks are pinned to the cores of their allocation, with its memory and devices near";
const MEASURED: &str = "use is measured for every job";
const SYSTEMS: &str = "clocks and power are the system's";

/// All of them.
pub(crate) static KNOWN: &[Known] = &[
    ours("job-name", Some('J'), Value, Opt::JobName),
    ours("pool", Some('p'), Value, Opt::Pool),
    ours("partition", None, Value, Opt::Pool),
    ours("nodes", Some('N'), Value, Opt::Nodes),
    ours("ntasks", Some('n'), Value, Opt::Ntasks),
    ours("ntasks-per-node", None, Value, Opt::NtasksPerNode),
    ours("tasks-per-node", None, Value, Opt::NtasksPerNode),
    ours("ntasks-per-core", None, Value, Opt::NtasksPerCore),
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
    ours("get-user-env", None, Maybe, Opt::GetUserEnv),
    ours("propagate", None, Maybe, Opt::Propagate),
    ours("exclusive", None, Maybe, Opt::Exclusive),
    ours("requeue", None, Nothing, Opt::Requeue),
    ours("no-requeue", None, Nothing, Opt::NoRequeue),
    ours("priority", None, Value, Opt::Priority),
    ours("nice", None, Maybe, Opt::Nice),
    ours("account", Some('A'), Value, Opt::Account),
    ours("qos", Some('q'), Value, Opt::Qos),
    ours("wckey", None, Value, Opt::Wckey),
    ours("comment", None, Value, Opt::Comment),
    ours("mail-type", None, Value, Opt::MailType),
    ours("mail-user", None, Value, Opt::MailUser),
    ours("signal", None, Value, Opt::Signal),
    ours("constraint", Some('C'), Value, Opt::Constraint),
    ours("nodelist", Some('w'), Value, Opt::Nodelist),
    ours("nodefile", Some('F'), Value, Opt::Nodefile),
    ours("exclude", Some('x'), Value, Opt::Exclude),
    ours("switches", None, Value, Opt::Switches),
    ours("contiguous", None, Nothing, Opt::Contiguous),
    ours("threads-per-core", None, Value, Opt::ThreadsPerCore),
    ours("hint", None, Value, Opt::Hint),
    ours("distribution", Some('m'), Value, Opt::Distribution),
    ours("spread-job", None, Nothing, Opt::SpreadJob),
    ours("pack-job", None, Nothing, Opt::PackJob),
    ours("gres", None, Value, Opt::Gres),
    ours("gpus", Some('G'), Value, Opt::Gpus),
    ours("gpus-per-node", None, Value, Opt::GpusPerNode),
    ours("gpus-per-task", None, Value, Opt::GpusPerTask),
    ours("ntasks-per-gpu", None, Value, Opt::NtasksPerGpu),
    ours("cpus-per-gpu", None, Value, Opt::CpusPerGpu),
    ours("mem-per-gpu", None, Value, Opt::MemPerGpu),
    ours("licenses", Some('L'), Value, Opt::Licenses),
    ours("stage-in", None, Value, Opt::StageIn),
    ours("stage-out", None, Value, Opt::StageOut),
    ours("stage-keep", None, Value, Opt::StageKeep),
    ours("hold", Some('H'), Nothing, Opt::Hold),
    ours("begin", Some('b'), Value, Opt::Begin),
    ours("deadline", None, Value, Opt::Deadline),
    ours("time-min", None, Value, Opt::TimeMin),
    ours("dependency", Some('d'), Value, Opt::Dependency),
    ours("kill-on-invalid-dep", None, Value, Opt::KillOnInvalidDep),
    ours("reservation", None, Value, Opt::Reservation),
    ours("wait-all-nodes", None, Value, Opt::WaitAllNodes),
    ours("clusters", Some('M'), Value, Opt::Clusters),
    ours("uid", None, Value, Opt::Uid),
    ours("gid", None, Value, Opt::Gid),
    ours("wait", Some('W'), Nothing, Opt::Wait),
    ours("parsable", None, Nothing, Opt::Parsable),
    ours("test-only", None, Nothing, Opt::TestOnly),
    ours("wrap", None, Value, Opt::Wrap),
    ours("quiet", Some('Q'), Nothing, Opt::Quiet),
    ours("verbose", Some('v'), Nothing, Opt::Verbose),
    ours("help", Some('h'), Nothing, Opt::Help),
    ours("usage", None, Nothing, Opt::Usage),
    ours("version", Some('V'), Nothing, Opt::Version),
    so_anyway("ignore-pbs", None, Nothing),
    so_anyway("use-min-nodes", None, Nothing),
    ignored("acctg-freq", None, Value, MEASURED),
    ignored("core-spec", Some('S'), Value, "no cores are set apart for the system"),
    ignored("cpu-freq", None, Value, SYSTEMS),
    ignored("delay-boot", None, Value, "nodes are not booted for a job"),
    ignored("gpu-bind", None, Value, PINNED),
    ignored("gpu-freq", None, Value, SYSTEMS),
    ignored("gres-flags", None, Value, PINNED),
    ignored("mem-bind", None, Value, PINNED),
    ignored("network", None, Value, "there is no switch to set up"),
    ignored("no-kill", Some('k'), Maybe, "a gang ends as a whole when a node fails"),
    ignored("oversubscribe", Some('s'), Nothing, "cores are never shared"),
    ignored("power", None, Value, SYSTEMS),
    ignored("prefer", None, Value, "only what must be can be asked for, with --constraint"),
    ignored("profile", None, Value, MEASURED),
    ignored("thread-spec", None, Value, "no threads are set apart for the system"),
    refused("batch", None, Value, PLACES),
    refused("bb", None, Value, TAKE_OUT),
    refused("bbf", None, Value, TAKE_OUT),
    refused("cluster-constraint", None, Value, PLACES),
    refused("container", None, Value, "start the container in the script"),
    refused("cores-per-socket", None, Value, SHAPE),
    refused("export-file", None, Value, "read the file in the script"),
    refused("extra-node-info", Some('B'), Value, SHAPE),
    refused("gpus-per-socket", None, Value, DEVICES),
    refused("mcs-label", None, Value, TAKE_OUT),
    refused("mincpus", None, Value, SHAPE),
    refused("ntasks-per-socket", None, Value, SHAPE),
    refused("overcommit", Some('O'), Nothing, "each rank has cores of its own; take it out"),
    refused("reboot", None, Nothing, TAKE_OUT),
    refused("sockets-per-node", None, Value, SHAPE),
    refused("tmp", None, Value, TAKE_OUT),
];
