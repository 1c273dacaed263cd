//! The options of `srun`.

use super::super::getopt::{Opt, Takes};

/// What an option of `srun` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Ntasks,
    Nodes,
    NtasksPerNode,
    CpusPerTask,
    Nodelist,
    Exclude,
    Relative,
    Exact,
    Overlap,
    Exclusive,
    Overcommit,
    Distribution,
    Immediate,
    Mpi,
    CpuBind,
    Input,
    Output,
    Error,
    OpenMode,
    Label,
    Unbuffered,
    Pty,
    MultiProg,
    KillOnBadExit,
    Wait,
    Time,
    QuitOnInterrupt,
    Quiet,
    Verbose,
    TestOnly,
    JobName,
    JobId,
    Chdir,
    Export,
    Bcast,
    BcastExclude,
    SendLibs,
    Compress,
    Help,
    Usage,
    Version,
    /// It is about the job that is made outside of an allocation; this is its name. Inside it changes nothing.
    OfTheJob(&'static str),
    /// Muster does not have it; this says what to do instead.
    Refused(&'static str),
}

impl Key {
    /// How an option is called that the job of a step outside of an allocation has as well.
    pub fn name_for_jobs(self) -> Option<&'static str> {
        Some(match self {
            Self::Ntasks => "ntasks",
            Self::Nodes => "nodes",
            Self::NtasksPerNode => "ntasks-per-node",
            Self::CpusPerTask => "cpus-per-task",
            Self::Nodelist => "nodelist",
            Self::Exclude => "exclude",
            Self::Exclusive => "exclusive",
            Self::Time => "time",
            Self::JobName => "job-name",
            Self::Chdir => "chdir",
            Self::Export => "export",
            Self::Quiet => "quiet",
            Self::OfTheJob(name) => name,
            _ => return None,
        })
    }
}

use Key::{OfTheJob, Refused};

use Takes::{Maybe, Nothing, Value};

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

/// All of them (srun(1)).
pub(super) const TABLE: &[Opt<Key>] = &[
    opt(Key::Ntasks, Some('n'), &["ntasks"], Value),
    opt(Key::Nodes, Some('N'), &["nodes"], Value),
    opt(Key::NtasksPerNode, None, &["ntasks-per-node", "tasks-per-node"], Value),
    opt(Key::CpusPerTask, Some('c'), &["cpus-per-task"], Value),
    opt(Key::Nodelist, Some('w'), &["nodelist"], Value),
    opt(Key::Exclude, Some('x'), &["exclude"], Value),
    opt(Key::Relative, Some('r'), &["relative"], Value),
    opt(Key::Exact, None, &["exact"], Nothing),
    opt(Key::Overlap, None, &["overlap"], Nothing),
    opt(Key::Exclusive, None, &["exclusive"], Maybe),
    opt(Key::Overcommit, Some('O'), &["overcommit"], Nothing),
    opt(Key::Distribution, Some('m'), &["distribution"], Value),
    opt(Key::Immediate, Some('I'), &["immediate"], Maybe),
    opt(Key::Mpi, None, &["mpi"], Value),
    opt(Key::CpuBind, None, &["cpu-bind", "cpu_bind"], Value),
    opt(Key::Input, Some('i'), &["input"], Value),
    opt(Key::Output, Some('o'), &["output"], Value),
    opt(Key::Error, Some('e'), &["error"], Value),
    opt(Key::OpenMode, None, &["open-mode"], Value),
    opt(Key::Label, Some('l'), &["label"], Nothing),
    opt(Key::Unbuffered, Some('u'), &["unbuffered"], Nothing),
    opt(Key::Pty, None, &["pty"], Maybe),
    opt(Key::MultiProg, None, &["multi-prog"], Nothing),
    opt(Key::KillOnBadExit, Some('K'), &["kill-on-bad-exit"], Maybe),
    opt(Key::Wait, Some('W'), &["wait"], Value),
    opt(Key::Time, Some('t'), &["time"], Value),
    opt(Key::QuitOnInterrupt, None, &["quit-on-interrupt"], Nothing),
    opt(Key::Quiet, Some('Q'), &["quiet"], Nothing),
    opt(Key::Verbose, Some('v'), &["verbose"], Nothing),
    opt(Key::TestOnly, None, &["test-only"], Nothing),
    opt(Key::JobName, Some('J'), &["job-name"], Value),
    opt(Key::JobId, None, &["jobid"], Value),
    opt(Key::Chdir, Some('D'), &["chdir"], Value),
    opt(Key::Export, None, &["export"], Value),
    opt(Key::Bcast, None, &["bcast"], Maybe),
    opt(Key::BcastExclude, None, &["bcast-exclude"], Value),
    opt(Key::SendLibs, None, &["send-libs"], Maybe),
    opt(Key::Compress, None, &["compress"], Maybe),
    opt(Key::Help, Some('h'), &["help"], Nothing),
    opt(Key::Usage, None, &["usage"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(OfTheJob("account"), Some('A'), &["account"], Value),
    opt(OfTheJob("extra-node-info"), Some('B'), &["extra-node-info"], Value),
    opt(OfTheJob("begin"), Some('b'), &["begin"], Value),
    opt(OfTheJob("constraint"), Some('C'), &["constraint"], Value),
    opt(OfTheJob("dependency"), Some('d'), &["dependency"], Value),
    opt(OfTheJob("gpus"), Some('G'), &["gpus"], Value),
    opt(OfTheJob("hold"), Some('H'), &["hold"], Nothing),
    opt(OfTheJob("no-kill"), Some('k'), &["no-kill"], Maybe),
    opt(OfTheJob("licenses"), Some('L'), &["licenses"], Value),
    opt(OfTheJob("clusters"), Some('M'), &["clusters", "cluster"], Value),
    opt(OfTheJob("partition"), Some('p'), &["partition"], Value),
    opt(OfTheJob("qos"), Some('q'), &["qos"], Value),
    opt(OfTheJob("oversubscribe"), Some('s'), &["oversubscribe"], Nothing),
    opt(OfTheJob("core-spec"), Some('S'), &["core-spec"], Value),
    opt(OfTheJob("threads"), Some('T'), &["threads"], Value),
    opt(OfTheJob("disable-status"), Some('X'), &["disable-status"], Nothing),
    opt(OfTheJob("no-allocate"), Some('Z'), &["no-allocate"], Nothing),
    opt(OfTheJob("acctg-freq"), None, &["acctg-freq"], Value),
    opt(OfTheJob("comment"), None, &["comment"], Value),
    opt(OfTheJob("contiguous"), None, &["contiguous"], Nothing),
    opt(OfTheJob("cores-per-socket"), None, &["cores-per-socket"], Value),
    opt(OfTheJob("cpu-freq"), None, &["cpu-freq"], Value),
    opt(OfTheJob("cpus-per-gpu"), None, &["cpus-per-gpu"], Value),
    opt(OfTheJob("deadline"), None, &["deadline"], Value),
    opt(OfTheJob("delay-boot"), None, &["delay-boot"], Value),
    opt(OfTheJob("gpu-bind"), None, &["gpu-bind"], Value),
    opt(OfTheJob("gpu-freq"), None, &["gpu-freq"], Value),
    opt(OfTheJob("gpus-per-node"), None, &["gpus-per-node"], Value),
    opt(OfTheJob("gpus-per-socket"), None, &["gpus-per-socket"], Value),
    opt(OfTheJob("gpus-per-task"), None, &["gpus-per-task"], Value),
    opt(OfTheJob("gres"), None, &["gres"], Value),
    opt(OfTheJob("gres-flags"), None, &["gres-flags"], Value),
    opt(OfTheJob("hint"), None, &["hint"], Value),
    opt(OfTheJob("mail-type"), None, &["mail-type"], Value),
    opt(OfTheJob("mail-user"), None, &["mail-user"], Value),
    opt(OfTheJob("mcs-label"), None, &["mcs-label"], Value),
    opt(OfTheJob("mem"), None, &["mem"], Value),
    opt(OfTheJob("mem-bind"), None, &["mem-bind", "mem_bind"], Value),
    opt(OfTheJob("mem-per-cpu"), None, &["mem-per-cpu"], Value),
    opt(OfTheJob("mem-per-gpu"), None, &["mem-per-gpu"], Value),
    opt(OfTheJob("mincpus"), None, &["mincpus"], Value),
    opt(OfTheJob("msg-timeout"), None, &["msg-timeout"], Value),
    opt(OfTheJob("network"), None, &["network"], Value),
    opt(OfTheJob("nice"), None, &["nice"], Maybe),
    opt(OfTheJob("ntasks-per-core"), None, &["ntasks-per-core"], Value),
    opt(OfTheJob("ntasks-per-gpu"), None, &["ntasks-per-gpu"], Value),
    opt(OfTheJob("ntasks-per-socket"), None, &["ntasks-per-socket"], Value),
    opt(OfTheJob("power"), None, &["power"], Value),
    opt(OfTheJob("prefer"), None, &["prefer"], Value),
    opt(OfTheJob("preserve-env"), None, &["preserve-env"], Nothing),
    opt(OfTheJob("priority"), None, &["priority"], Value),
    opt(OfTheJob("profile"), None, &["profile"], Value),
    opt(OfTheJob("propagate"), None, &["propagate"], Maybe),
    opt(OfTheJob("reservation"), None, &["reservation"], Value),
    opt(OfTheJob("reboot"), None, &["reboot"], Nothing),
    opt(OfTheJob("resv-ports"), None, &["resv-ports"], Maybe),
    opt(OfTheJob("slurmd-debug"), None, &["slurmd-debug"], Value),
    opt(OfTheJob("sockets-per-node"), None, &["sockets-per-node"], Value),
    opt(OfTheJob("spread-job"), None, &["spread-job"], Nothing),
    opt(OfTheJob("switches"), None, &["switches"], Value),
    opt(OfTheJob("thread-spec"), None, &["thread-spec"], Value),
    opt(OfTheJob("threads-per-core"), None, &["threads-per-core"], Value),
    opt(OfTheJob("time-min"), None, &["time-min"], Value),
    opt(OfTheJob("tmp"), None, &["tmp"], Value),
    opt(OfTheJob("tres-bind"), None, &["tres-bind"], Value),
    opt(OfTheJob("tres-per-task"), None, &["tres-per-task"], Value),
    opt(OfTheJob("use-min-nodes"), None, &["use-min-nodes"], Nothing),
    opt(OfTheJob("wckey"), None, &["wckey"], Value),
    opt(OfTheJob("x11"), None, &["x11"], Maybe),
    opt(Refused("--bb: Muster has no burst buffers"), None, &["bb", "bbf"], Value),
    opt(Refused("--container: start the container in the command itself"), None, &["container"], Value),
    opt(Refused("--prolog and --epilog: do it in the command itself"), None, &["epilog"], Value),
    opt(Refused("--uid and --gid: a step runs as the user of its job"), None, &["gid"], Value),
    opt(Refused("--het-group: Muster has no heterogeneous jobs"), None, &["het-group"], Value),
    opt(Refused("--prolog and --epilog: do it in the command itself"), None, &["prolog"], Value),
    opt(Refused("--prolog and --epilog: do it in the command itself"), None, &["task-epilog"], Value),
    opt(Refused("--prolog and --epilog: do it in the command itself"), None, &["task-prolog"], Value),
    opt(Refused("--uid and --gid: a step runs as the user of its job"), None, &["uid"], Value),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<String> =
            TABLE.iter().flat_map(|opt| opt.long.iter().map(|long| (*long).to_owned())).collect();
        names.extend(TABLE.iter().filter_map(|opt| opt.short).map(String::from));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
