//! The fields of sacct: how they are called, how wide they are, and what they show of a row.

use muster_client::api::{EndView, TaskList, TaskState};

use super::rows::{About, Row};
use super::step;
use crate::slurm::job::{self, INDICES_MAX, steps_of};
use crate::slurm::listing::{self, Head};
use crate::slurm::people::People;
use crate::slurm::state;
use crate::slurm::time::{Times, elapsed_s, long_span};

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name and width.
    head: Head,
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Account,
    AllocCpus,
    AllocNodes,
    AllocTres,
    Cluster,
    Comment,
    Constraints,
    CpuTime,
    CpuTimeRaw,
    DbIndex,
    DerivedExitCode,
    Elapsed,
    ElapsedRaw,
    Eligible,
    End,
    ExitCode,
    Gid,
    Group,
    JobId,
    JobIdRaw,
    JobName,
    MaxRss,
    MaxRssNode,
    NNodes,
    NodeList,
    NTasks,
    Partition,
    Priority,
    Qos,
    Reason,
    ReqCpus,
    ReqMem,
    ReqNodes,
    ReqTres,
    Reservation,
    Restarts,
    Reserved,
    ReservedCpu,
    ReservedCpuRaw,
    Start,
    State,
    StdErr,
    StdIn,
    StdOut,
    Submit,
    SubmitLine,
    Suspended,
    TimeLimit,
    TimeLimitRaw,
    TotalCpu,
    Uid,
    User,
    Wckey,
    WorkDir,
    /// What ranks have used: of steps alone.
    OfStep,
    /// What Muster does not know: empty.
    Unknown,
    /// The same for every job, and empty for steps.
    OfJob(&'static str),
}

impl Field {
    /// Whether steps are needed to show it of a job.
    pub(super) fn needs_steps(self) -> bool {
        self.key == Key::DerivedExitCode
    }
}

const fn field(name: &'static str, width: i32, key: Key) -> Field {
    Field { head: Head { header: name, width }, key }
}

/// Every field, in the order of `--helpformat`.
pub(super) const FIELDS: [Field; 118] = [
    field("Account", 10, Key::Account),
    field("AdminComment", 15, Key::Unknown),
    field("AllocCPUS", 10, Key::AllocCpus),
    field("AllocNodes", 10, Key::AllocNodes),
    field("AllocTRES", 10, Key::AllocTres),
    field("AssocID", 7, Key::OfJob("0")),
    field("AveCPU", 10, Key::OfStep),
    field("AveCPUFreq", 10, Key::Unknown),
    field("AveDiskRead", 14, Key::OfStep),
    field("AveDiskWrite", 14, Key::OfStep),
    field("AvePages", 10, Key::Unknown),
    field("AveRSS", 10, Key::OfStep),
    field("AveVMSize", 10, Key::Unknown),
    field("BlockID", 16, Key::Unknown),
    field("Cluster", 10, Key::Cluster),
    field("Comment", 14, Key::Comment),
    field("Constraints", 19, Key::Constraints),
    field("ConsumedEnergy", 14, Key::Unknown),
    field("ConsumedEnergyRaw", 17, Key::Unknown),
    field("Container", 19, Key::Unknown),
    field("CPUTime", 10, Key::CpuTime),
    field("CPUTimeRAW", 10, Key::CpuTimeRaw),
    field("DBIndex", -10, Key::DbIndex),
    field("DerivedExitCode", 15, Key::DerivedExitCode),
    field("Elapsed", 10, Key::Elapsed),
    field("ElapsedRaw", 10, Key::ElapsedRaw),
    field("Eligible", 19, Key::Eligible),
    field("End", 19, Key::End),
    field("ExitCode", 8, Key::ExitCode),
    field("FailedNode", 19, Key::Unknown),
    field("Flags", 19, Key::OfJob("")),
    field("GID", 6, Key::Gid),
    field("Group", 9, Key::Group),
    field("JobID", -12, Key::JobId),
    field("JobIDRaw", -12, Key::JobIdRaw),
    field("JobName", 10, Key::JobName),
    field("Layout", 9, Key::Unknown),
    field("MaxDiskRead", 12, Key::Unknown),
    field("MaxDiskReadNode", 15, Key::Unknown),
    field("MaxDiskReadTask", 15, Key::Unknown),
    field("MaxDiskWrite", 12, Key::Unknown),
    field("MaxDiskWriteNode", 16, Key::Unknown),
    field("MaxDiskWriteTask", 16, Key::Unknown),
    field("MaxPages", 8, Key::Unknown),
    field("MaxPagesNode", 12, Key::Unknown),
    field("MaxPagesTask", 14, Key::Unknown),
    field("MaxRSS", 10, Key::MaxRss),
    field("MaxRSSNode", 10, Key::MaxRssNode),
    field("MaxRSSTask", 10, Key::OfStep),
    field("MaxVMSize", 10, Key::Unknown),
    field("MaxVMSizeNode", 14, Key::Unknown),
    field("MaxVMSizeTask", 14, Key::Unknown),
    field("McsLabel", 12, Key::Unknown),
    field("MinCPU", 10, Key::OfStep),
    field("MinCPUNode", 10, Key::OfStep),
    field("MinCPUTask", 10, Key::OfStep),
    field("NCPUS", 10, Key::AllocCpus),
    field("NNodes", 8, Key::NNodes),
    field("NodeList", 15, Key::NodeList),
    field("NTasks", 8, Key::NTasks),
    field("Partition", 10, Key::Partition),
    field("Planned", 10, Key::Reserved),
    field("PlannedCPU", 10, Key::ReservedCpu),
    field("PlannedCPURAW", 13, Key::ReservedCpuRaw),
    field("Priority", 10, Key::Priority),
    field("QOS", 10, Key::Qos),
    field("QOSRAW", 6, Key::OfJob("0")),
    field("Reason", 22, Key::Reason),
    field("ReqCPUFreq", 10, Key::OfJob("Unknown")),
    field("ReqCPUFreqGov", 13, Key::OfJob("Unknown")),
    field("ReqCPUFreqMax", 13, Key::OfJob("Unknown")),
    field("ReqCPUFreqMin", 13, Key::OfJob("Unknown")),
    field("ReqCPUS", 8, Key::ReqCpus),
    field("ReqMem", 10, Key::ReqMem),
    field("ReqNodes", 8, Key::ReqNodes),
    field("ReqTRES", 10, Key::ReqTres),
    field("Reservation", 20, Key::Reservation),
    field("ReservationId", 8, Key::Unknown),
    field("Reserved", 10, Key::Reserved),
    field("ResvCPU", 10, Key::ReservedCpu),
    field("ResvCPURAW", 10, Key::ReservedCpuRaw),
    field("Restarts", 8, Key::Restarts),
    field("Start", 19, Key::Start),
    field("State", 10, Key::State),
    field("StdErr", 20, Key::StdErr),
    field("StdIn", 20, Key::StdIn),
    field("StdOut", 20, Key::StdOut),
    field("Submit", 19, Key::Submit),
    field("SubmitLine", 20, Key::SubmitLine),
    field("Suspended", 10, Key::Suspended),
    field("SystemComment", 15, Key::Unknown),
    field("SystemCPU", 10, Key::OfStep),
    field("Timelimit", 10, Key::TimeLimit),
    field("TimelimitRaw", 10, Key::TimeLimitRaw),
    field("TotalCPU", 10, Key::TotalCpu),
    field("TRESUsageInAve", 14, Key::OfStep),
    field("TRESUsageInMax", 14, Key::OfStep),
    field("TRESUsageInMaxNode", 18, Key::OfStep),
    field("TRESUsageInMaxTask", 18, Key::OfStep),
    field("TRESUsageInMin", 14, Key::OfStep),
    field("TRESUsageInMinNode", 18, Key::OfStep),
    field("TRESUsageInMinTask", 18, Key::OfStep),
    field("TRESUsageInTot", 14, Key::OfStep),
    field("TRESUsageOutAve", 15, Key::OfStep),
    field("TRESUsageOutMax", 15, Key::Unknown),
    field("TRESUsageOutMaxNode", 19, Key::Unknown),
    field("TRESUsageOutMaxTask", 19, Key::Unknown),
    field("TRESUsageOutMin", 15, Key::Unknown),
    field("TRESUsageOutMinNode", 19, Key::Unknown),
    field("TRESUsageOutMinTask", 19, Key::Unknown),
    field("TRESUsageOutTot", 15, Key::OfStep),
    field("UID", 6, Key::Uid),
    field("User", 9, Key::User),
    field("UserCPU", 10, Key::OfStep),
    field("WCKey", 10, Key::Wckey),
    field("WCKeyID", 10, Key::OfJob("0")),
    field("WorkDir", 20, Key::WorkDir),
    field("Extra", 15, Key::Unknown),
];

/// What `--helpformat` prints.
pub(super) fn list() -> String {
    listing::names(&FIELDS.map(|field| field.head))
}

/// A field with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub field: Field,
    pub head: Head,
}

/// Reads `FIELD` or `FIELD%WIDTH`; the beginning of a name will do, in any case.
pub(super) fn column(text: &str) -> Option<Column> {
    let heads = FIELDS.map(|field| field.head);
    let (place, head) = listing::find(text, &heads)?;
    Some(Column { field: FIELDS[place], head })
}

/// In which unit sizes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::slurm) enum Units {
    /// The largest that keeps them whole.
    Exact,
    /// Their own: K for what was used, M for what was asked for.
    Raw,
    /// K is 0, M is 1 and so on.
    Of(u32),
}

const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

impl Units {
    /// A size, whose own unit is K if 0, M if 1.
    pub(in crate::slurm) fn size(self, bytes: u64, own: u32) -> String {
        let number = bytes >> (10 * (own + 1));
        if number == 0 {
            return "0".to_owned();
        }
        let (mut value, mut unit) = (number, own);
        match self {
            Self::Raw => {}
            Self::Exact => {
                while value.is_multiple_of(1024) && unit + 1 < UNITS.len() as u32 {
                    value /= 1024;
                    unit += 1;
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
            Self::Of(wanted) => {
                let scaled = bytes as f64 / 1024_f64.powi(i32::try_from(wanted).unwrap_or(0) + 1);
                let text =
                    if scaled.fract() == 0.0 { format!("{scaled:.0}") } else { format!("{scaled:.2}") };
                return format!("{text}{}", UNITS[wanted as usize % UNITS.len()]);
            }
        }
        format!("{value}{}", UNITS[unit as usize])
    }
}

/// CPU time as sacct writes it: `00:00.004`, `01:02:03`, `1-02:03:04`.
pub(super) fn cpu_time(us: u64) -> String {
    let (seconds, milliseconds) = (us / 1_000_000, us / 1000 % 1000);
    if seconds >= 3600 || milliseconds == 0 {
        return long_span(seconds);
    }
    format!("{:02}:{:02}.{milliseconds:03}", seconds / 60, seconds % 60)
}

/// What stands after the job's number.
fn of_part(about: About<'_>) -> String {
    match about {
        About::Job => String::new(),
        About::Batch => ".batch".to_owned(),
        About::Step(step) => format!(".{}", step.step),
    }
}

/// What rows are shown with.
pub(super) struct View<'a> {
    pub list: &'a TaskList,
    pub times: Times,
    pub units: Units,
}

impl View<'_> {
    /// How long it ran, in seconds.
    pub(super) fn elapsed_s(&self, row: &Row<'_>) -> u64 {
        let (from, to) = row.span_us();
        let from = from.filter(|_| !row.line.node_list.is_empty());
        u64::try_from(elapsed_s(from, to, self.times.now_us)).unwrap_or(0)
    }

    /// The state, with who cancelled it.
    pub(super) fn state(row: &Row<'_>) -> String {
        let line = row.line;
        match (row.about, line.state, &line.end) {
            (About::Step(step), ..) => step::state(step).to_owned(),
            (_, TaskState::Preparing | TaskState::Ending, _) => "RUNNING".to_owned(),
            (About::Batch, ..) => state::batch(line).to_owned(),
            (About::Job, TaskState::Cancelled, Some(EndView::Cancelled { by_uid })) => {
                format!("CANCELLED by {by_uid}")
            }
            (About::Job, state, _) => state::of(state).long.to_owned(),
        }
    }

    /// Cores that the row counts: the script's are those of its node.
    pub(super) fn cores(row: &Row<'_>) -> u64 {
        match row.about {
            About::Job => row.line.cores,
            About::Batch => row.facts().cores_of_primary(),
            About::Step(step) => step.cores,
        }
    }

    /// The exit code and the signal.
    pub(super) fn exit(row: &Row<'_>) -> (u32, u32) {
        match row.about {
            About::Step(step) => step::exit(step),
            _ if !row.line.state.is_finished() => (0, 0),
            About::Job => state::accounting_exit(row.line),
            About::Batch => state::exit(row.line),
        }
    }

    /// The parts of trackable resources, in the order of their names.
    fn tres(text: &str, with_billing: bool) -> String {
        let mut parts: Vec<&str> =
            text.split(',').filter(|part| with_billing || !part.starts_with("billing")).collect();
        parts.sort_unstable();
        parts.join(",")
    }

    /// What a field shows of a row.
    pub(super) fn text(&self, field: Field, row: &Row<'_>) -> String {
        let (line, facts) = (row.line, row.facts());
        let has_run = facts.has_run();
        let pair = |(code, signal): (u32, u32)| format!("{code}:{signal}");
        let (start, end) = row.span_us();
        match (field.key, row.about) {
            (Key::Unknown, _) => String::new(),
            (Key::OfStep | Key::MaxRss | Key::MaxRssNode, About::Step(step)) => {
                step::used(field.head.header, step, self.units)
            }
            (Key::OfStep, _) => String::new(),
            (Key::Account, _) => line.account.clone().unwrap_or_default(),
            (Key::AllocCpus, _) => Self::cores(row).to_string(),
            (Key::AllocNodes | Key::NNodes, About::Batch) => "1".to_owned(),
            (Key::AllocNodes | Key::NNodes, About::Step(step)) => step.nodes.to_string(),
            (Key::AllocNodes, _) => if has_run { line.nodes } else { 0 }.to_string(),
            (Key::NNodes, _) => line.nodes.to_string(),
            (Key::AllocTres, _) if !has_run => String::new(),
            (Key::AllocTres, About::Job) => Self::tres(&facts.tres_held(), true),
            (Key::AllocTres, About::Batch) => Self::tres(&facts.tres_of_primary(), false),
            (Key::AllocTres, About::Step(step)) => format!("cpu={},node={}", step.cores, step.nodes),
            (Key::Cluster, _) => self.list.cluster.clone(),
            (Key::CpuTime, _) => long_span(self.elapsed_s(row) * Self::cores(row)),
            (Key::CpuTimeRaw, _) => (self.elapsed_s(row) * Self::cores(row)).to_string(),
            (Key::DbIndex, _) => line.job.to_string(),
            (Key::Elapsed, _) => long_span(self.elapsed_s(row)),
            (Key::ElapsedRaw, _) => self.elapsed_s(row).to_string(),
            (Key::Eligible | Key::Submit, About::Batch | About::Step(_)) => {
                self.times.instant(start, "Unknown")
            }
            (Key::End, _) => self.times.instant(end, "Unknown"),
            (Key::ExitCode, _) => pair(Self::exit(row)),
            (Key::JobId, about) => {
                let id = job::id_text(line, None, INDICES_MAX);
                id + &of_part(about)
            }
            (Key::JobIdRaw, about) => job::number(line, None).to_string() + &of_part(about),
            (Key::JobName, About::Batch) => "batch".to_owned(),
            (Key::JobName, About::Step(step)) => step.name.clone(),
            (Key::NodeList, _) if !has_run => "None assigned".to_owned(),
            (Key::NodeList, About::Batch) => line.primary.clone(),
            (Key::NodeList, About::Step(step)) => step.node_list.clone(),
            (Key::ReqNodes, About::Step(step)) => step.nodes.to_string(),
            (Key::NTasks, About::Step(step)) => step.ranks.to_string(),
            (Key::NodeList, About::Job) => line.node_list.clone(),
            (Key::ReqCpus, _) => Self::cores(row).to_string(),
            (Key::ReqNodes, About::Batch) | (Key::NTasks, About::Batch) => "1".to_owned(),
            (Key::Start, _) => self.times.instant(start.or(end), "Unknown"),
            (Key::State, _) => Self::state(row),
            (Key::Suspended, _) => "00:00:00".to_owned(),
            (Key::TotalCpu, About::Step(step)) => cpu_time(step::cpu_us(step)),
            (Key::TotalCpu, _) => cpu_time(line.task.as_ref().map_or(0, |task| task.cpu_time_us)),
            (Key::MaxRss, About::Batch) => {
                let bytes = line.task.as_ref().map_or(0, |task| task.memory_peak_bytes);
                if bytes == 0 { String::new() } else { self.units.size(bytes, 0) }
            }
            (Key::MaxRssNode, About::Batch) if line.nodes == 1 => line.primary.clone(),
            (_, About::Batch | About::Step(_)) => String::new(),
            (key, About::Job) => self.of_job(key, row),
        }
    }

    /// What a field shows of a job, and not of its steps.
    fn of_job(&self, key: Key, row: &Row<'_>) -> String {
        let (line, facts) = (row.line, row.facts());
        let or_empty = |text: String| if text == "(null)" { String::new() } else { text };
        let planned_s = || {
            let end = line.started_at_us.or(line.finished_at_us);
            u64::try_from(elapsed_s(Some(job::eligible_us(line)), end, self.times.now_us)).unwrap_or(0)
        };
        match key {
            Key::OfJob(text) => text.to_owned(),
            Key::Comment => or_empty(facts.comment()),
            Key::Constraints => or_empty(facts.features()),
            Key::DerivedExitCode => {
                let (code, signal) = step::derived_exit(steps_of(self.list, line));
                format!("{code}:{signal}")
            }
            Key::Eligible => {
                let is_held =
                    line.reason_code.starts_with("held_by_") || line.reason_code.starts_with("dependency");
                self.times.instant((!is_held).then(|| job::eligible_us(line)), "Unknown")
            }
            Key::Gid => row.job.map(|job| job.gid.to_string()).unwrap_or_default(),
            Key::Group => row.job.map(|job| People::default().group(job.gid)).unwrap_or_default(),
            Key::JobName => line.name.clone(),
            Key::Partition => line.pool.clone(),
            Key::Priority => job::priority(line).to_string(),
            Key::Qos => line.qos.clone().unwrap_or_default(),
            Key::Reason if line.state == TaskState::Waiting => state::reason(line).to_owned(),
            Key::Reason => "None".to_owned(),
            Key::ReqMem => self.units.size(facts.memory_asked_total_bytes(), 1),
            Key::ReqNodes => row.job.map_or(line.nodes, |job| job.request.nodes_min()).to_string(),
            Key::ReqTres => Self::tres(&facts.tres_asked(), true),
            Key::Reservation => line.reservation.clone().unwrap_or_default(),
            Key::Restarts => line.restarts.to_string(),
            Key::Reserved => long_span(planned_s()),
            Key::ReservedCpu => long_span(planned_s() * line.cores),
            Key::ReservedCpuRaw => (planned_s() * line.cores).to_string(),
            Key::StdErr => facts.stderr(),
            Key::StdIn => facts.stdin(),
            Key::StdOut => facts.stdout(),
            Key::Submit => self.times.instant(Some(line.submitted_at_us), "Unknown"),
            Key::SubmitLine => facts.submit_line(),
            Key::TimeLimit => line.time_limit_s.map_or_else(|| "UNLIMITED".to_owned(), long_span),
            Key::TimeLimitRaw => {
                line.time_limit_s.map_or_else(|| "UNLIMITED".to_owned(), |s| s.div_ceil(60).to_string())
            }
            Key::Uid => line.uid.to_string(),
            Key::User => line.user.clone(),
            Key::Wckey => or_empty(facts.wckey()),
            Key::WorkDir => row.job.map(|job| job.working_directory.clone()).unwrap_or_default(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_beginning_and_have_widths() {
        let found = |text: &str| column(text).map(|column| (column.head.header, column.head.width));
        assert_eq!(found("jobid"), Some(("JobID", -12)));
        assert_eq!(found("JobIdRaw"), Some(("JobIDRaw", -12)));
        assert_eq!(found("elaps"), Some(("Elapsed", 10)));
        assert_eq!(found("nodelist%-256"), Some(("NodeList", -256)));
        for (at, field) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|other| other.head.header != field.head.header), "{field:?}");
        }
    }

    #[test]
    fn sizes_and_cpu_times_are_written_as_slurm_writes_them() {
        assert_eq!([0, 4000, 0, 59_123_000, 3_600_000_000].map(cpu_time)[1], "00:00.004");
        assert_eq!(cpu_time(59_123_000), "00:59.123");
        assert_eq!((cpu_time(0), cpu_time(3_723_500_000)), ("00:00:00".into(), "01:02:03".into()));
        assert_eq!(Units::Exact.size(4620 << 10, 0), "4620K");
        assert_eq!(Units::Exact.size(2048 << 10, 0), "2M");
        assert_eq!(Units::Raw.size(2 << 30, 1), "2048M");
        assert_eq!(Units::Of(2).size(512 << 20, 1), "0.50G");
    }
}
