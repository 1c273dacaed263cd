//! The fields of squeue: how they are called, and what they show of a line.

use std::env;
use std::fmt::Write as _;

use muster_client::api::{JobDetail, TaskLine, TaskList, TaskState};

use super::options::Options;
use crate::slurm::columns::{Column, Layout};
use crate::slurm::job::{self, Facts};
use crate::slurm::people::People;
use crate::slurm::state;
use crate::slurm::time::{Times, elapsed_s, short_span};
use crate::slurm::units;

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Account,
    ArrayJobId,
    ArrayTaskId,
    BatchHost,
    Cluster,
    Command,
    Comment,
    Contiguous,
    CpusPerTask,
    Deadline,
    Dependency,
    EligibleTime,
    EndTime,
    ExcNodes,
    ExitCode,
    Feature,
    GroupId,
    GroupName,
    JobArrayId,
    JobId,
    MaxCpus,
    MaxNodes,
    MinCpus,
    MinMemory,
    MinTime,
    Name,
    Nice,
    NodeList,
    NtasksPerNode,
    NumCpus,
    NumNodes,
    NumTasks,
    OverSubscribe,
    Partition,
    PendingTime,
    Priority,
    PriorityLong,
    Qos,
    Reason,
    ReasonList,
    ReqNodes,
    ReqSwitch,
    Requeue,
    Reservation,
    RestartCount,
    Sct,
    StartTime,
    State,
    StateCompact,
    Stderr,
    Stdin,
    Stdout,
    SubmitHost,
    SubmitTime,
    Threads,
    TimeLeft,
    TimeLimit,
    TimeUsed,
    TresAlloc,
    TresPerNode,
    UserId,
    UserName,
    Licenses,
    Wckey,
    WorkDir,
    /// What is the same for every job: Muster has nothing of the kind.
    Fixed(&'static str),
}

impl Field {
    /// Whether it shows what only a list with details holds.
    pub(super) fn needs_detail(self) -> bool {
        use Field::*;
        matches!(
            self,
            Command
                | Comment
                | Contiguous
                | CpusPerTask
                | Deadline
                | Dependency
                | ExcNodes
                | Feature
                | GroupId
                | GroupName
                | MaxNodes
                | MinCpus
                | MinMemory
                | MinTime
                | Nice
                | NtasksPerNode
                | OverSubscribe
                | ReqNodes
                | ReqSwitch
                | Requeue
                | Sct
                | Stderr
                | Stdin
                | Stdout
                | SubmitHost
                | Threads
                | TresAlloc
                | TresPerNode
                | Wckey
                | WorkDir
        )
    }
}

/// Letter of `--format`, name of `--Format`, header, field; in the order of the letters.
type Known = (Option<char>, &'static str, &'static str, Field);

const NULL: Field = Field::Fixed("(null)");
const STAR: Field = Field::Fixed("*");
const NA: Field = Field::Fixed("N/A");
const ZERO: Field = Field::Fixed("0");

/// Every field. Names are written in lower case.
pub(super) const FIELDS: [Known; 106] = [
    (Some('a'), "account", "ACCOUNT", Field::Account),
    (Some('A'), "jobid", "JOBID", Field::JobId),
    (Some('b'), "tres-per-node", "TRES_PER_NODE", Field::TresPerNode),
    (Some('B'), "batchhost", "EXEC_HOST", Field::BatchHost),
    (Some('c'), "mincpus", "MIN_CPUS", Field::MinCpus),
    (Some('C'), "numcpus", "CPUS", Field::NumCpus),
    (Some('d'), "mintmpdisk", "MIN_TMP_DISK", ZERO),
    (Some('D'), "numnodes", "NODES", Field::NumNodes),
    (Some('e'), "endtime", "END_TIME", Field::EndTime),
    (Some('E'), "dependency", "DEPENDENCY", Field::Dependency),
    (Some('f'), "feature", "FEATURES", Field::Feature),
    (Some('F'), "arrayjobid", "ARRAY_JOB_ID", Field::ArrayJobId),
    (Some('g'), "groupname", "GROUP", Field::GroupName),
    (Some('G'), "groupid", "GROUP", Field::GroupId),
    (Some('h'), "oversubscribe", "OVER_SUBSCRIBE", Field::OverSubscribe),
    (Some('H'), "sockets", "SOCKETS_PER_NODE", STAR),
    (Some('i'), "jobarrayid", "JOBID", Field::JobArrayId),
    (Some('I'), "cores", "CORES_PER_SOCKET", STAR),
    (Some('j'), "name", "NAME", Field::Name),
    (Some('J'), "threads", "THREADS_PER_CORE", Field::Threads),
    (Some('k'), "comment", "COMMENT", Field::Comment),
    (Some('K'), "arraytaskid", "ARRAY_TASK_ID", Field::ArrayTaskId),
    (Some('l'), "timelimit", "TIME_LIMIT", Field::TimeLimit),
    (Some('L'), "timeleft", "TIME_LEFT", Field::TimeLeft),
    (Some('m'), "minmemory", "MIN_MEMORY", Field::MinMemory),
    (Some('M'), "timeused", "TIME", Field::TimeUsed),
    (Some('n'), "reqnodes", "REQ_NODES", Field::ReqNodes),
    (Some('N'), "nodelist", "NODELIST", Field::NodeList),
    (Some('o'), "command", "COMMAND", Field::Command),
    (Some('O'), "contiguous", "CONTIGUOUS", Field::Contiguous),
    (Some('p'), "priority", "PRIORITY", Field::Priority),
    (Some('P'), "partition", "PARTITION", Field::Partition),
    (Some('q'), "qos", "QOS", Field::Qos),
    (Some('Q'), "prioritylong", "PRIORITY", Field::PriorityLong),
    (Some('r'), "reason", "REASON", Field::Reason),
    (Some('R'), "reasonlist", "NODELIST(REASON)", Field::ReasonList),
    (Some('s'), "selectjobinfo", "", Field::Fixed("")),
    (Some('S'), "starttime", "START_TIME", Field::StartTime),
    (Some('t'), "statecompact", "ST", Field::StateCompact),
    (Some('T'), "state", "STATE", Field::State),
    (Some('u'), "username", "USER", Field::UserName),
    (Some('U'), "userid", "UID", Field::UserId),
    (Some('v'), "reservation", "RESERVATION", Field::Reservation),
    (Some('V'), "submittime", "SUBMIT_TIME", Field::SubmitTime),
    (Some('w'), "wckey", "WCKEY", Field::Wckey),
    (Some('W'), "licenses", "LICENSES", Field::Licenses),
    (Some('x'), "excnodes", "EXC_NODES", Field::ExcNodes),
    (Some('X'), "corespec", "CORE_SPEC", NA),
    (Some('y'), "nice", "NICE", Field::Nice),
    (Some('Y'), "schednodes", "SCHEDNODES", NULL),
    (Some('z'), "sct", "S:C:T", Field::Sct),
    (Some('Z'), "workdir", "WORK_DIR", Field::WorkDir),
    (None, "accruetime", "ACCRUE_TIME", Field::EligibleTime),
    (None, "admin_comment", "ADMIN_COMMENT", NULL),
    (None, "allocnodes", "ALLOC_NODES", Field::SubmitHost),
    (None, "allocsid", "ALLOC_SID", ZERO),
    (None, "associd", "ASSOC_ID", ZERO),
    (None, "batchflag", "BATCH_FLAG", Field::Fixed("1")),
    (None, "boardspernode", "BOARDS_PER_NODE", ZERO),
    (None, "burstbuffer", "BURST_BUFFER", NULL),
    (None, "burstbufferstate", "BURST_BUFFER_STATE", NULL),
    (None, "cluster", "CLUSTER", Field::Cluster),
    (None, "clusterfeature", "CLUSTER_FEATURES", NULL),
    (None, "container", "CONTAINER", NULL),
    (None, "cpus-per-task", "CPUS_PER_TASK", Field::CpusPerTask),
    (None, "cpus-per-tres", "CPUS_PER_TRES", NA),
    (None, "deadline", "DEADLINE", Field::Deadline),
    (None, "delayboot", "DELAY_BOOT", Field::Fixed("0:00")),
    (None, "derivedec", "DERIVED_EC", ZERO),
    (None, "eligibletime", "ELIGIBLE_TIME", Field::EligibleTime),
    (None, "exit_code", "EXIT_CODE", Field::ExitCode),
    (None, "hetjobid", "HET_JOB_ID", NA),
    (None, "hetjobidset", "HET_JOB_ID_SET", NA),
    (None, "hetjoboffset", "HET_JOB_OFFSET", NA),
    (None, "lastschedeval", "LAST_SCHED_EVAL", NA),
    (None, "maxcpus", "MAX_CPUS", Field::MaxCpus),
    (None, "maxnodes", "MAX_NODES", Field::MaxNodes),
    (None, "mcslabel", "MCSLABEL", NULL),
    (None, "mem-per-tres", "MEM_PER_TRES", NA),
    (None, "mintime", "TIME_MIN", Field::MinTime),
    (None, "network", "NETWORK", NULL),
    (None, "ntperboard", "NTASKS_PER_BOARD", ZERO),
    (None, "ntpercore", "NTASKS_PER_CORE", NA),
    (None, "ntpernode", "NTASKS_PER_NODE", Field::NtasksPerNode),
    (None, "ntpersocket", "NTASKS_PER_SOCKET", NA),
    (None, "numtasks", "TASKS", Field::NumTasks),
    (None, "origin", "ORIGIN", Field::Fixed("NA")),
    (None, "originraw", "ORIGIN_RAW", Field::Fixed("NA")),
    (None, "pendingtime", "PENDING_TIME", Field::PendingTime),
    (None, "preempttime", "PREEMPT_TIME", NA),
    (None, "prefer", "PREFER", NULL),
    (None, "profile", "PROFILE", Field::Fixed("NotSet")),
    (None, "reboot", "REBOOT", ZERO),
    (None, "reqswitch", "REQ_SWITCH", Field::ReqSwitch),
    (None, "requeue", "REQUEUE", Field::Requeue),
    (None, "resizetime", "RESIZE_TIME", NA),
    (None, "restartcnt", "RESTART_COUNT", Field::RestartCount),
    (None, "sperboard", "SOCKETS_PER_BOARD", ZERO),
    (None, "stderr", "STDERR", Field::Stderr),
    (None, "stdin", "STDIN", Field::Stdin),
    (None, "stdout", "STDOUT", Field::Stdout),
    (None, "system_comment", "SYSTEM_COMMENT", NULL),
    (None, "tres-alloc", "TRES_ALLOC", Field::TresAlloc),
    (None, "tres-per-job", "TRES_PER_JOB", NA),
    (None, "tres-per-socket", "TRES_PER_SOCKET", NA),
    (None, "tres-per-task", "TRES_PER_TASK", NA),
];

/// The field of a letter, with its header.
pub(super) fn of_letter(letter: char) -> Option<(Field, &'static str)> {
    FIELDS.iter().find(|known| known.0 == Some(letter)).map(|known| (known.3, known.2))
}

/// The field of a name, with its header.
pub(super) fn of_name(name: &str) -> Option<(Field, &'static str)> {
    FIELDS.iter().find(|known| known.1.eq_ignore_ascii_case(name)).map(|known| (known.3, known.2))
}

/// All fields that have a letter, with bars between them.
pub(super) fn all() -> Layout<Field> {
    let lettered = FIELDS.iter().filter(|known| known.0.is_some());
    let column = |known: &Known| Column {
        key: known.3,
        header: known.2,
        width: 0,
        right: false,
        suffix: "|".to_owned(),
    };
    Layout { prefix: String::new(), columns: lettered.map(column).collect() }
}

/// A line, or one element of the array whose elements it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub line: &'a TaskLine,
    pub element: Option<u32>,
}

/// What lines are shown with.
pub(super) struct View<'a> {
    pub list: &'a TaskList,
    pub times: Times,
    pub people: People,
    convert: bool,
    /// Longest list of array indices, in characters; 0 is without end.
    indices_max: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(list: &'a TaskList, times: Times, people: People, options: &Options) -> Self {
        let indices_max = env::var("SLURM_BITSTR_LEN").ok().and_then(|text| text.parse().ok());
        let indices_max = indices_max.unwrap_or(job::INDICES_MAX);
        Self { list, times, people, convert: options.convert, indices_max }
    }

    /// The job of a line, in lists with details.
    pub(super) fn job(&self, line: &TaskLine) -> Option<&'a JobDetail> {
        self.list.jobs.get(&line.job)
    }

    /// Whether a line is of a job that has a script.
    pub(super) fn has_script(&self, line: &'a TaskLine) -> bool {
        self.facts(line).has_script()
    }

    fn facts(&self, line: &'a TaskLine) -> Facts<'a> {
        Facts { line, job: self.job(line) }
    }

    /// A number that is greater for what comes first, as Slurm's priorities are.
    pub(super) fn priority(&self, line: &TaskLine) -> u32 {
        job::priority(line)
    }

    /// How long it has run, in seconds.
    pub(super) fn used_s(&self, line: &TaskLine) -> i64 {
        elapsed_s(line.started_at_us, line.finished_at_us, self.times.now_us)
    }

    /// How long it may still run, in seconds.
    pub(super) fn left_s(&self, line: &TaskLine) -> Option<i64> {
        let limit = i64::try_from(line.time_limit_s?).unwrap_or(i64::MAX);
        Some(limit - self.used_s(line))
    }

    /// Adds what a field shows of a row.
    pub(super) fn write(&self, field: Field, row: &Row<'a>, out: &mut String) {
        let line = row.line;
        let facts = self.facts(line);
        let instant = |at: Option<u64>| self.times.instant(at, "N/A");
        let or_null =
            |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("(null)").to_owned();
        // Writing to a string does not fail.
        let mut number = |value: i128| {
            let _ = write!(out, "{value}");
        };
        let text: String = match field {
            Field::ArrayJobId => return number(line.job.into()),
            Field::JobId => return number(job::number(line, row.element).into()),
            Field::NumCpus => return number(line.cores.into()),
            Field::NumNodes => return number(line.nodes.into()),
            Field::NumTasks => return number(line.ranks.into()),
            Field::UserId => return number(line.uid.into()),
            Field::PriorityLong => return number(self.priority(line).into()),
            Field::RestartCount => return number(line.restarts.into()),
            Field::Fixed(text) => return out.push_str(text),
            Field::Name => return out.push_str(&line.name),
            Field::Partition => return out.push_str(&line.pool),
            Field::UserName => return out.push_str(&line.user),
            Field::NodeList => return out.push_str(&line.node_list),
            Field::State => return out.push_str(state::of(line.state).long),
            Field::StateCompact => return out.push_str(state::of(line.state).short),
            Field::Reason => return out.push_str(state::reason(line)),
            Field::Cluster => return out.push_str(&self.list.cluster),
            Field::JobArrayId => job::id_text(line, row.element, self.indices_max),
            Field::ArrayTaskId => {
                job::index_text(line, row.element, self.indices_max).unwrap_or_else(|| "N/A".into())
            }
            Field::Account => or_null(line.account.as_deref()),
            Field::Qos => or_null(line.qos.as_deref()),
            Field::Reservation => or_null(line.reservation.as_deref()),
            Field::BatchHost if line.primary.is_empty() => "n/a".to_owned(),
            Field::BatchHost => line.primary.clone(),
            Field::ReasonList => match line.state {
                TaskState::Waiting
                | TaskState::TimedOut
                | TaskState::OutOfMemory
                | TaskState::Deadline
                | TaskState::Failed => format!("({})", state::reason(line)),
                _ => line.node_list.clone(),
            },
            Field::StartTime => instant(job::start_us(line)),
            Field::EndTime => instant(job::end_us(line)),
            Field::SubmitTime => instant(Some(line.submitted_at_us)),
            Field::EligibleTime => instant(Some(job::eligible_us(line))),
            Field::TimeLimit => {
                line.time_limit_s.map_or_else(|| "UNLIMITED".into(), |s| short_span(signed(s)))
            }
            Field::TimeLeft => self.left_s(line).map_or_else(|| "UNLIMITED".into(), short_span),
            Field::TimeUsed => short_span(self.used_s(line)),
            Field::PendingTime => {
                elapsed_s(Some(line.submitted_at_us), job::start_us(line), self.times.now_us).to_string()
            }
            Field::Priority => format!("{:.14}", f64::from(self.priority(line)) / 4_294_967_296.0),
            Field::ExitCode => {
                let (code, signal) = state::exit(line);
                ((code << 8) | signal).to_string()
            }
            Field::MaxCpus => {
                if facts.has_run() {
                    line.cores.to_string()
                } else {
                    "0".to_owned()
                }
            }
            field => self.of_job(field, &facts),
        };
        out.push_str(&text);
    }

    /// What a field shows of the job's request.
    fn of_job(&self, field: Field, facts: &Facts<'_>) -> String {
        let number = |value: Option<u64>| value.unwrap_or(0).to_string();
        match field {
            Field::Command => facts.command(),
            Field::Comment => facts.comment(),
            Field::Contiguous => number(facts.request().map(|request| request.contiguous.into())),
            Field::CpusPerTask => number(facts.request().map(|request| request.cores_per_rank.into())),
            Field::Deadline => self.times.instant(facts.deadline_us(), "N/A"),
            Field::Dependency => facts.dependency(),
            Field::ExcNodes => facts.excluded(),
            Field::Feature => facts.features(),
            Field::GroupId => number(facts.job.map(|job| job.gid.into())),
            Field::GroupName => facts.job.map(|job| self.people.group(job.gid)).unwrap_or_default(),
            Field::MaxNodes => number(facts.request().map(|r| r.nodes_max.unwrap_or(0).into())),
            Field::MinCpus => number(Some(facts.cores_per_node_min())),
            Field::MinMemory => units::memory(facts.memory_asked_bytes().0, self.convert),
            Field::MinTime => {
                short_span(signed(facts.job.and_then(|job| job.eligibility.time_min_s).unwrap_or(0)))
            }
            Field::Nice => facts.nice().to_string(),
            Field::NtasksPerNode => number(facts.request().map(|r| r.ranks_per_node.unwrap_or(0).into())),
            Field::OverSubscribe => facts.over_subscribe().to_owned(),
            Field::ReqNodes => facts.nodes_wanted(),
            Field::ReqSwitch => {
                number(facts.request().and_then(|r| r.switches).map(|s| s.switches_max.into()))
            }
            Field::Requeue => number(facts.job.map(|job| job.requeue.into())),
            Field::Threads => facts.threads(),
            Field::Sct => format!("*:*:{}", facts.threads()),
            Field::Stdin => facts.stdin(),
            Field::Stdout => facts.stdout(),
            Field::Stderr => facts.stderr(),
            Field::SubmitHost => facts.job.map(|job| job.submit_host.clone()).unwrap_or_default(),
            Field::TresAlloc if facts.has_run() => facts.tres_held(),
            Field::TresAlloc => "N/A".to_owned(),
            Field::TresPerNode => facts.tres_per_node(),
            Field::Licenses => facts.licenses(),
            Field::Wckey => facts.wckey(),
            Field::WorkDir => facts.job.map(|job| job.working_directory.clone()).unwrap_or_default(),
            _ => String::new(),
        }
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_names_are_unique() {
        for (at, known) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|other| other.1 != known.1), "{}", known.1);
            assert!(
                known.0.is_none() || FIELDS[..at].iter().all(|other| other.0 != known.0),
                "{:?}",
                known.0
            );
        }
        assert_eq!(of_name("JobArrayID"), of_letter('i'));
        assert!(of_letter('$').is_none() && of_name("bogus").is_none());
    }
}
