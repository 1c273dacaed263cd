//! The face `sstat`: the steps of running jobs, and what they use. Those that run are asked: each calls this host.

use std::process::ExitCode;

use muster_client::TaskFilter;
use muster_client::api::{SCHEMA, StepView};
use muster_core::ids::JobRef;

use super::connect::{connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::job;
use super::listing::{self, Head, Style};
use super::sacct::{Units, step};
use crate::look::{self, Live, StepAndLive};

/// What is said where the controller cannot be reached.
const DOING: &str = "sstat: error: slurm_load_jobs error";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    AllSteps,
    Format,
    Help,
    HelpFormat,
    Ignored,
    Jobs,
    Json,
    NoConvert,
    NoHeader,
    Parsable,
    Parsable2,
    Pidformat,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::AllSteps, Some('a'), &["allsteps"], Nothing),
    opt(Key::HelpFormat, Some('e'), &["helpformat"], Nothing),
    opt(Key::Help, Some('h'), &["help", "usage"], Nothing),
    opt(Key::Pidformat, Some('i'), &["pidformat"], Nothing),
    opt(Key::Jobs, Some('j'), &["jobs"], Value),
    opt(Key::Json, None, &["json"], Nothing),
    opt(Key::NoHeader, Some('n'), &["noheader"], Nothing),
    opt(Key::NoConvert, None, &["noconvert"], Nothing),
    opt(Key::Format, Some('o'), &["format", "fields"], Value),
    opt(Key::Parsable, Some('p'), &["parsable"], Nothing),
    opt(Key::Parsable2, Some('P'), &["parsable2"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
];

const HELP: &str = "\
Usage: sstat [OPTIONS] -j JOB[.STEP],...
  -a, --allsteps     all steps of the jobs
  -e, --helpformat   the fields
  -i, --pidformat    the processes of each node
  -j, --jobs         these jobs or steps
      --json         JSON
  -n, --noheader     no header
      --noconvert    sizes in K
  -o, --format       these fields
  -p, --parsable     fields with | after each
  -P, --parsable2    fields with | between them
  -V, --version      the version
Steps that run are asked what their ranks use: each calls this host, which its node must reach.
";

const fn head(header: &'static str, width: i32) -> Head {
    Head { header, width }
}

/// Every field, in the order of the default listing.
const FIELDS: [Head; 49] = [
    head("JobID", -12),
    head("MaxVMSize", 10),
    head("MaxVMSizeNode", 14),
    head("MaxVMSizeTask", 14),
    head("AveVMSize", 10),
    head("MaxRSS", 10),
    head("MaxRSSNode", 10),
    head("MaxRSSTask", 10),
    head("AveRSS", 10),
    head("MaxPages", 8),
    head("MaxPagesNode", 12),
    head("MaxPagesTask", 14),
    head("AvePages", 10),
    head("MinCPU", 10),
    head("MinCPUNode", 10),
    head("MinCPUTask", 10),
    head("AveCPU", 10),
    head("NTasks", 8),
    head("AveCPUFreq", 10),
    head("ReqCPUFreqMin", 13),
    head("ReqCPUFreqMax", 13),
    head("ReqCPUFreqGov", 13),
    head("ConsumedEnergy", 14),
    head("MaxDiskRead", 12),
    head("MaxDiskReadNode", 15),
    head("MaxDiskReadTask", 15),
    head("AveDiskRead", 12),
    head("MaxDiskWrite", 12),
    head("MaxDiskWriteNode", 16),
    head("MaxDiskWriteTask", 16),
    head("AveDiskWrite", 12),
    head("TRESUsageInAve", 14),
    head("TRESUsageInMax", 14),
    head("TRESUsageInMaxNode", 18),
    head("TRESUsageInMaxTask", 18),
    head("TRESUsageInMin", 14),
    head("TRESUsageInMinNode", 18),
    head("TRESUsageInMinTask", 18),
    head("TRESUsageInTot", 14),
    head("TRESUsageOutAve", 15),
    head("TRESUsageOutMax", 15),
    head("TRESUsageOutMaxNode", 19),
    head("TRESUsageOutMaxTask", 19),
    head("TRESUsageOutMin", 15),
    head("TRESUsageOutMinNode", 19),
    head("TRESUsageOutMinTask", 19),
    head("TRESUsageOutTot", 15),
    head("Nodelist", 20),
    head("Pids", 20),
];

/// Those that are known without asking a step that runs.
const UNASKED: [&str; 3] = ["JobID", "NTasks", "Nodelist"];

/// Of `--pidformat` (sstat(1)).
const OF_PIDS: [&str; 3] = ["JobID", "Nodelist", "Pids"];

/// How many of them are listed by default.
const DEFAULT: usize = 47;

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

struct Options {
    heads: Vec<Head>,
    wanted: Vec<(JobRef, Option<String>)>,
    all_steps: bool,
    /// A row for each node.
    by_node: bool,
    json: bool,
    header: bool,
    style: Style,
    units: Units,
}

fn said(text: String) -> Fault {
    Fault::Said(text)
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sstat", source })?;
    let mut options = Options {
        heads: FIELDS[..DEFAULT].to_vec(),
        wanted: Vec::new(),
        all_steps: false,
        by_node: false,
        json: false,
        header: true,
        style: Style::Columns,
        units: Units::Exact,
    };
    for (key, value) in line.options {
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::HelpFormat => return print(&listing::names(&FIELDS)).map(|()| ExitCode::SUCCESS),
            key => take(&mut options, key, &value.unwrap_or_default())?,
        }
    }
    for word in &line.words {
        take(&mut options, Key::Jobs, word)?;
    }
    if options.wanted.is_empty() {
        return Err(said("You didn't give me any jobs to stat.".to_owned()));
    }
    show(&options)
}

fn take(options: &mut Options, key: Key, value: &str) -> Result<(), Fault> {
    let words = || value.split(',').filter(|word| !word.is_empty());
    match key {
        Key::AllSteps => options.all_steps = true,
        Key::Json => options.json = true,
        Key::Pidformat => {
            options.by_node = true;
            options.heads = FIELDS.into_iter().filter(|head| OF_PIDS.contains(&head.header)).collect();
        }
        Key::NoConvert => options.units = Units::Raw,
        Key::NoHeader => options.header = false,
        Key::Parsable => options.style = Style::Fields { delimiter: "|".to_owned(), ended: true },
        Key::Parsable2 => options.style = Style::Fields { delimiter: "|".to_owned(), ended: false },
        Key::Format => {
            let find = |word: &str| {
                listing::find(word, &FIELDS)
                    .map(|(_, head)| head)
                    .ok_or_else(|| said(format!("Invalid field requested: \"{word}\"")))
            };
            options.heads = words().map(find).collect::<Result<_, _>>()?;
        }
        Key::Jobs => {
            for word in words() {
                let (job, step) = word.split_once('.').map_or((word, None), |(job, step)| (job, Some(step)));
                let job =
                    job.parse().map_err(|_| said(format!("sstat: fatal: Bad job/step specified: {word}")))?;
                options.wanted.push((job, step.map(str::to_owned)));
            }
        }
        Key::Help | Key::Version | Key::HelpFormat | Key::Ignored => {}
    }
    Ok(())
}

fn show(options: &Options) -> Result<ExitCode, Fault> {
    let filter = TaskFilter {
        jobs: options.wanted.iter().map(|(job, _)| *job).collect(),
        // What has ended of a job that runs is told as well.
        finished_s: Some(0),
        steps: true,
        ..TaskFilter::default()
    };
    let mut client = connect(DOING)?;
    let list = client.tasks(&filter).map_err(Fault::client(DOING))?;
    let mut missing = Vec::new();
    let mut all: Vec<(String, StepView)> = Vec::new();
    for (job, wanted) in &options.wanted {
        let lines = list.lines.iter().filter(|line| line.job == job.job.0 && line.which.holds(job.task));
        let mut steps: Vec<(String, &StepView)> = Vec::new();
        for line in lines {
            let id = job::id_text(line, None, job::INDICES_MAX);
            steps.extend(job::steps_of(&list, line).map(|step| (format!("{id}.{}", step.step), step)));
        }
        match wanted {
            Some(wanted) => steps.retain(|(_, step)| step.step.to_string() == *wanted),
            // Without -a the newest is meant (sstat(1)).
            None if !options.all_steps => drop(steps.drain(..steps.len().saturating_sub(1))),
            None => {}
        }
        if steps.is_empty() {
            missing.push(format!("sstat: error: couldn't get steps for job {job}"));
        }
        all.extend(steps.into_iter().map(|(id, step)| (id, step.clone())));
    }
    let mut live = Vec::new();
    if options.json || options.heads.iter().any(|head| !UNASKED.contains(&head.header)) {
        let mut steps: Vec<&mut StepView> = all.iter_mut().map(|(_, step)| step).collect();
        let (answers, silent) = look::ask_all(&mut client, &mut steps);
        live = answers;
        missing.extend(silent.iter().map(|error| format!("sstat: error: {error}")));
    }
    let rows: Vec<Row> = all
        .iter()
        .enumerate()
        .map(|(place, (id, step))| Row { id, step, live: live.get(place).and_then(Option::as_ref) })
        .collect();
    print(&if options.json { json(&rows) } else { text(options, &rows) })?;
    for line in missing {
        crate::out::tell(&line);
    }
    // Slurm's ends well, whatever there is.
    Ok(ExitCode::SUCCESS)
}

/// What is known of a step.
struct Row<'a> {
    id: &'a str,
    step: &'a StepView,
    /// If it runs, and has answered.
    live: Option<&'a Live>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    schema: u32,
    steps: Vec<StepAndLive<'a>>,
}

impl<'a> Report<'a> {
    fn of(rows: &[Row<'a>]) -> Self {
        let step = |row: &Row<'a>| StepAndLive { step: row.step, live: row.live.map(Live::figures) };
        Self { schema: SCHEMA, steps: rows.iter().map(step).collect() }
    }
}

fn json(rows: &[Row<'_>]) -> String {
    let text = serde_json::to_string_pretty(&Report::of(rows));
    text.expect("the API's types have only string keys, and serialise") + "\n"
}

fn text(options: &Options, rows: &[Row<'_>]) -> String {
    let mut out = String::new();
    if options.header {
        options.style.header(&mut out, &options.heads);
    }
    let mut put = |row: &Row<'_>, node: Option<(&str, &Vec<i32>)>| {
        let values = options.heads.iter().map(|head| match (head.header, node) {
            ("Nodelist", Some((host, _))) => host.to_owned(),
            ("Pids", Some((_, pids))) => list(pids.iter()),
            (name, _) => row.value(name, options.units),
        });
        options.style.row(&mut out, &options.heads, values);
    };
    for row in rows {
        match row.live.filter(|_| options.by_node) {
            Some(live) => live.pids().for_each(|node| put(row, Some(node))),
            None => put(row, None),
        }
    }
    out
}

fn list<'a>(pids: impl Iterator<Item = &'a i32>) -> String {
    pids.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Row<'_> {
    fn value(&self, name: &str, units: Units) -> String {
        match (name, self.live) {
            ("JobID", _) => self.id.to_owned(),
            ("NTasks", _) => self.step.ranks.to_string(),
            ("Nodelist", _) => self.step.node_list.clone(),
            ("Pids", Some(live)) => list(live.pids().flat_map(|(_, pids)| pids)),
            ("MaxVMSize", Some(live)) => units.size(live.usage.virtual_peak_bytes, 0),
            ("MaxVMSizeNode", Some(live)) => live.host_of(live.usage.virtual_peak_rank),
            ("MaxVMSizeTask", Some(live)) => live.usage.virtual_peak_rank.to_string(),
            ("AveVMSize", Some(live)) => {
                units.size(live.usage.virtual_sum_bytes / u64::from(live.usage.running.max(1)), 0)
            }
            (name, _) => step::used(name, self.step, units),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_listing_is_slurms() {
        let mut out = String::new();
        Style::Columns.header(&mut out, &FIELDS[..DEFAULT]);
        assert!(
            out.starts_with("JobID         MaxVMSize  MaxVMSizeNode  MaxVMSizeTask  AveVMSize     MaxRSS ")
        );
        for (at, field) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|other| other.header != field.header), "{field:?}");
        }
    }
}
