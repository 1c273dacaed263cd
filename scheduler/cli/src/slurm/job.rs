//! What Slurm's listings show of a job, worked out once for squeue, scontrol and sacct.

use std::borrow::Cow;
use std::collections::BTreeMap;

use muster_client::api::{JobDetail, NotesView, ShareView, StepView, TaskLine, TaskList, TaskState, Which};
use muster_core::gres::Gres;
use muster_core::ids::{JobId, TaskId, TaskIndex};
use muster_core::notation::{format_hosts, parse_ranges};
use muster_core::patterns::{self, Names};
use muster_core::spec::{IndexRange, Memory, Request};

use super::units;

/// Longest list of array indices, in characters, unless `SLURM_BITSTR_LEN` says otherwise.
pub(super) const INDICES_MAX: usize = 64;
/// The priority of a job that asked for none.
const PRIORITY_BASE: i64 = 100_000;

/// The priority of a line as a number that is greater for what comes first: 0 if it is held.
pub(super) fn priority(line: &TaskLine) -> u32 {
    if line.reason_code.starts_with("held_by_") {
        return 0;
    }
    u32::try_from(PRIORITY_BASE + i64::from(line.priority)).unwrap_or(1)
}

/// Indices as Slurm lists them, such as `3-8%2` or `0,4,8`, cut at `max` characters unless that is 0.
pub(super) fn indices(ranges: &[IndexRange], running_max: Option<u32>, max: usize) -> String {
    /// From this distance on between first and last a step is written as one.
    const STEP_FROM: u32 = 10;
    let mut text = String::new();
    if let [range] = ranges
        && range.step > 1
        && range.last - range.first > STEP_FROM
    {
        text = format!("{}-{}:{}", range.first, range.last, range.step);
    } else {
        for (first, last) in runs(ranges) {
            let comma = if text.is_empty() { "" } else { "," };
            text.push_str(&if first == last {
                format!("{comma}{first}")
            } else {
                format!("{comma}{first}-{last}")
            });
            if max > 0 && text.len() > max {
                text.truncate(max.saturating_sub(3));
                text.push_str("...");
                break;
            }
        }
    }
    running_max.map(|most| format!("{text}%{most}")).unwrap_or(text)
}

/// Neighbours joined.
fn runs(ranges: &[IndexRange]) -> impl Iterator<Item = (u32, u32)> {
    let pieces = ranges.iter().flat_map(|range| {
        let step = if range.step <= 1 { range.last - range.first + 1 } else { range.step };
        let width = if range.step <= 1 { range.last - range.first } else { 0 };
        (range.first..=range.last).step_by(step as usize).map(move |first| (first, first + width))
    });
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let (first, mut last) = pieces.next()?;
        while let Some((_, end)) = pieces.next_if(|(next, _)| last.checked_add(1) == Some(*next)) {
            last = end;
        }
        Some((first, last))
    })
}

/// The number of a line: that of its task, of an array's element; else its job's.
pub(super) fn number(line: &TaskLine, element: Option<u32>) -> u64 {
    let index = match (&line.which, element) {
        (Which::Job, _) => return line.job,
        (_, Some(index)) => TaskIndex(index),
        (Which::Element(index), None) => *index,
        (Which::Elements(_), None) => return line.job,
    };
    TaskId { job: JobId(line.job), index }.number()
}

/// The index of a line, or the list of its indices; none of a job without an array.
pub(super) fn index_text(line: &TaskLine, element: Option<u32>, max: usize) -> Option<String> {
    match (&line.which, element) {
        (Which::Job, _) => None,
        (_, Some(index)) => Some(index.to_string()),
        (Which::Element(index), _) => Some(index.to_string()),
        (Which::Elements(ranges), _) => Some(indices(ranges, line.running_max, max)),
    }
}

/// The id of a line: `12`, `12_3` or `12_[3-9%2]`.
pub(super) fn id_text(line: &TaskLine, element: Option<u32>, max: usize) -> String {
    let text = index_text(line, element, max);
    match (&line.which, element, text) {
        (_, _, None) => line.job.to_string(),
        (Which::Elements(_), None, Some(list)) => format!("{}_[{list}]", line.job),
        (_, _, Some(index)) => format!("{}_{index}", line.job),
    }
}

/// When it started, or is expected to.
pub(super) fn start_us(line: &TaskLine) -> Option<u64> {
    match line.state {
        TaskState::Waiting => {
            line.expected_start_us.or(line.begin_us.filter(|_| line.reason_code == "begin_time"))
        }
        state if state.is_finished() => line.started_at_us.or(line.finished_at_us),
        _ => line.started_at_us,
    }
}

/// When it ended, or must have at the latest.
pub(super) fn end_us(line: &TaskLine) -> Option<u64> {
    let expected = || Some(start_us(line)? + line.time_limit_s? * 1_000_000);
    match line.state {
        TaskState::Waiting => line.expected_start_us.and_then(|_| expected()),
        state if state.is_finished() => line.finished_at_us,
        _ => line.ends_by_us,
    }
}

/// From when on it was allowed to start, as far as its submitter has a say.
pub(super) fn eligible_us(line: &TaskLine) -> u64 {
    line.begin_us.unwrap_or(0).max(line.submitted_at_us)
}

/// The steps of the task of a line, in its last attempt.
pub(super) fn steps_of<'a>(list: &'a TaskList, line: &'a TaskLine) -> impl Iterator<Item = &'a StepView> {
    let from = list.steps.partition_point(|step| step.job < line.job);
    let of_job = list.steps[from..].iter().take_while(|step| step.job == line.job);
    let attempt = line.task.as_ref().map(|task| task.attempt);
    of_job.filter(move |step| {
        line.which.holds(Some(TaskIndex(step.task))) && attempt.is_none_or(|last| last == step.attempt)
    })
}

/// A line with its job, where the list has details.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub line: &'a TaskLine,
    pub job: Option<&'a JobDetail>,
}

/// A text, or what Slurm shows for none.
fn or_null(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("(null)").to_owned()
}

impl<'a> Facts<'a> {
    /// What each task asks for.
    pub(super) fn request(&self) -> Option<&'a Request> {
        self.job.map(|job| &job.request)
    }

    /// Whether it has, or had, an allocation.
    pub(super) fn has_run(&self) -> bool {
        !self.line.node_list.is_empty()
    }

    /// Whether it is a script's. The jobs of srun and salloc have steps alone.
    pub(super) fn has_script(&self) -> bool {
        let line = self.submit_line();
        let program = line.split_whitespace().next().and_then(|word| word.rsplit('/').next());
        !matches!(program, Some("srun" | "salloc"))
    }

    fn notes(&self) -> Option<&'a NotesView> {
        self.job.map(|job| &job.notes)
    }

    /// The path of its script.
    pub(super) fn command(&self) -> String {
        or_null(self.notes().and_then(|notes| notes.command.as_deref()))
    }

    pub(super) fn comment(&self) -> String {
        or_null(self.notes().and_then(|notes| notes.comment.as_deref()))
    }

    /// The command line that submitted it; empty if that is not known.
    pub(super) fn submit_line(&self) -> String {
        self.notes().and_then(|notes| notes.submit_line.clone()).unwrap_or_default()
    }

    /// What each task holds of licences.
    pub(super) fn licenses(&self) -> String {
        or_null(Some(&muster_client::format_licenses(&self.line.licenses)))
    }

    pub(super) fn wckey(&self) -> String {
        or_null(self.notes().and_then(|notes| notes.wckey.as_deref()))
    }

    /// By how much its user lowered its priority.
    pub(super) fn nice(&self) -> i32 {
        self.notes().map_or(0, |notes| notes.nice)
    }

    /// Whom to tell of what becomes of it: address and events, as scontrol writes them.
    pub(super) fn mail(&self) -> Option<(String, String)> {
        let mail = self.notes()?.mail.as_ref()?;
        let events: Vec<String> = mail.events.iter().map(|event| event.word().to_ascii_uppercase()).collect();
        Some((mail.to.clone().unwrap_or_else(|| self.line.user.clone()), events.join(",")))
    }

    pub(super) fn deadline_us(&self) -> Option<u64> {
        self.job.and_then(|job| job.eligibility.deadline).map(|at| at.0)
    }

    /// What it depends on, while it does.
    pub(super) fn dependency(&self) -> String {
        let standing = match self.line.reason_code.as_str() {
            "dependency" => "unfulfilled",
            "dependency_never_satisfied" => "failed",
            _ => return "(null)".to_owned(),
        };
        let Some(dependency) = self.job.and_then(|job| job.eligibility.dependency.as_ref()) else {
            return "(null)".to_owned();
        };
        let terms: Vec<String> = dependency.terms.iter().map(|term| format!("{term}({standing})")).collect();
        terms.join(if dependency.any { "?" } else { "," })
    }

    /// Cores that each of its nodes must have for it.
    pub(super) fn cores_per_node_min(&self) -> u64 {
        self.request().map_or(1, |request| {
            u64::from(request.cores_per_rank) * u64::from(request.ranks_per_node.unwrap_or(1))
        })
    }

    pub(super) fn features(&self) -> String {
        or_null(self.request().and_then(|r| r.constraint.as_ref()).map(ToString::to_string).as_deref())
    }

    /// Host list of the nodes that it must have; empty without.
    pub(super) fn nodes_wanted(&self) -> String {
        self.request().map(|request| hosts(&request.nodelist)).unwrap_or_default()
    }

    /// Host list of the nodes that it must not have; empty without.
    pub(super) fn excluded(&self) -> String {
        self.request().map(|request| hosts(&request.exclude)).unwrap_or_default()
    }

    pub(super) fn over_subscribe(&self) -> &'static str {
        if self.request().is_some_and(|request| request.exclusive) { "NO" } else { "OK" }
    }

    pub(super) fn threads(&self) -> String {
        self.request()
            .and_then(|r| r.threads_per_core)
            .map_or_else(|| "*".to_owned(), |threads| threads.to_string())
    }

    /// The memory that was asked for, in bytes, and whether that is for each core.
    pub(super) fn memory_asked_bytes(&self) -> (u64, bool) {
        match self.request().map(|request| request.memory) {
            Some(Memory::PerNodeBytes(bytes)) => (bytes, false),
            Some(Memory::PerCoreBytes(bytes)) => (bytes, true),
            Some(Memory::PoolDefault | Memory::WholeNode) | None => (0, false),
        }
    }

    /// The memory that was asked for on all nodes together, in bytes; that of the allocation where no number was said.
    pub(super) fn memory_asked_total_bytes(&self) -> u64 {
        match self.request().map(|request| request.memory) {
            Some(Memory::PerNodeBytes(bytes)) => bytes.saturating_mul(self.line.nodes.into()),
            Some(Memory::PerCoreBytes(bytes)) => bytes.saturating_mul(self.line.cores),
            Some(Memory::PoolDefault | Memory::WholeNode) | None => {
                self.shares().iter().map(|share| share.memory_bytes).sum()
            }
        }
    }

    /// Devices of each node, such as `gres:gpu:2`.
    pub(super) fn tres_per_node(&self) -> String {
        let list = self.request().map(|request| request.gres_per_node.as_slice()).unwrap_or_default();
        let texts: Vec<String> = list.iter().map(|gres| format!("gres:{gres}")).collect();
        if texts.is_empty() { "N/A".to_owned() } else { texts.join(",") }
    }

    /// What it holds or held, as trackable resources.
    pub(super) fn tres_held(&self) -> String {
        Self::tres_of(self.shares(), self.line.cores)
    }

    /// The same of the node of instance 0 alone.
    pub(super) fn tres_of_primary(&self) -> String {
        Self::tres_of(self.shares().get(..1).unwrap_or_default(), self.cores_of_primary())
    }

    /// Cores that it holds or held on the node of instance 0.
    pub(super) fn cores_of_primary(&self) -> u64 {
        let Some(share) = self.shares().first() else { return self.line.cores };
        let ranges = parse_ranges(&share.cores, u32::MAX).unwrap_or_default();
        ranges.iter().map(|range| u64::from(range.last - range.first) + 1).sum()
    }

    fn shares(&self) -> &'a [ShareView] {
        self.line.task.as_ref().map(|task| task.shares.as_slice()).unwrap_or_default()
    }

    fn tres_of(shares: &[ShareView], cores: u64) -> String {
        let mut gres: BTreeMap<String, u64> = BTreeMap::new();
        for held in shares.iter().flat_map(|share| &share.gres) {
            // Written as `kind:count(IDX:...)`.
            let kind_and_count = held.split('(').next().unwrap_or_default();
            if let Some((kind, count)) = kind_and_count.rsplit_once(':') {
                *gres.entry(kind.to_owned()).or_default() += count.parse().unwrap_or(0);
            }
        }
        let gres: Vec<(String, u64)> = gres.into_iter().collect();
        let memory = shares.iter().map(|share| share.memory_bytes).sum();
        units::tres(cores, memory, shares.len() as u32, &gres)
    }

    /// What it asks for, as trackable resources.
    pub(super) fn tres_asked(&self) -> String {
        let Some(request) = self.request() else { return String::new() };
        let (nodes, cores) = (self.line.nodes, request.cores_total());
        let memory = self.memory_asked_total_bytes();
        let of = |list: &[Gres], times: u32| -> Vec<(String, u64)> {
            let kind = |gres: &Gres| match &gres.kind {
                Some(kind) => format!("{}:{kind}", gres.name),
                None => gres.name.clone(),
            };
            list.iter().map(|gres| (kind(gres), u64::from(gres.count) * u64::from(times))).collect()
        };
        let gres = [of(&request.gres_per_node, nodes), of(&request.gres_per_rank, request.ranks)].concat();
        units::tres(cores, memory, nodes, &gres)
    }

    fn expand(&self, pattern: &str) -> String {
        let Some(job) = self.job else { return String::new() };
        // Slurm's index of what is no element.
        const NO_INDEX: TaskIndex = TaskIndex(u32::MAX - 1);
        let task = match &self.line.which {
            Which::Job => None,
            Which::Element(index) => Some(*index),
            Which::Elements(_) => Some(NO_INDEX),
        };
        let names = Names {
            job: JobId(self.line.job),
            task,
            restarts: self.line.restarts,
            job_name: &self.line.name,
            user: &self.line.user,
            host: &self.line.primary,
        };
        patterns::expand(pattern, names, &job.working_directory)
    }

    pub(super) fn stdin(&self) -> String {
        let pattern = self.job.and_then(|job| job.stdin.as_deref());
        pattern.map_or_else(|| "/dev/null".to_owned(), |pattern| self.expand(pattern))
    }

    pub(super) fn stdout(&self) -> String {
        let known =
            self.line.task.as_ref().map(|task| task.stdout_path.as_str()).filter(|path| !path.is_empty());
        let is_array = self.line.which != Which::Job;
        let pattern = self.job.and_then(|job| job.stdout.as_deref());
        known.map_or_else(
            || self.expand(pattern.unwrap_or(patterns::default_output(is_array))),
            ToOwned::to_owned,
        )
    }

    pub(super) fn stderr(&self) -> String {
        let known =
            self.line.task.as_ref().map(|task| task.stderr_path.as_str()).filter(|path| !path.is_empty());
        let pattern = self.job.and_then(|job| job.stderr.as_deref());
        match (known, pattern) {
            (Some(path), _) => path.to_owned(),
            (None, Some(pattern)) => self.expand(pattern),
            (None, None) => self.stdout(),
        }
    }
}

fn hosts<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<Cow<'_, str>> = names.into_iter().map(|name| Cow::from(name.as_str())).collect();
    format_hosts(&names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, last: u32, step: u32) -> IndexRange {
        IndexRange { first, last, step }
    }

    #[test]
    fn indices_are_listed_as_slurm_lists_them() {
        assert_eq!(indices(&[range(3, 8, 1)], Some(2), 64), "3-8%2");
        assert_eq!(indices(&[range(0, 3, 1), range(7, 7, 1)], None, 64), "0-3,7");
        assert_eq!(indices(&[range(0, 12, 4)], None, 64), "0-12:4");
        assert_eq!(indices(&[range(0, 8, 4)], None, 64), "0,4,8");
        assert_eq!(indices(&[range(0, 2, 2), range(3, 3, 1), range(4, 9, 1)], None, 64), "0,2-9");
        let many: Vec<IndexRange> = (0..1000).map(|i| range(2 * i, 2 * i, 1)).collect();
        let cut = indices(&many, Some(5), 64);
        assert!(cut.len() <= 66 && cut.ends_with("...%5"), "{cut}");
        assert!(indices(&many, None, 0).ends_with(",1998"));
    }
}
