//! The face `scancel`: ends jobs, or signals what runs of them.

use std::env;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use muster_client::api::{TaskLine, TaskState, Which};
use muster_client::{Client, ClientError, TaskFilter};
use muster_core::ids::{JobId, JobRef, TaskIndex};
use muster_core::notation::parse_hosts;
use muster_core::on::{On, Tasks};
use muster_core::spec::SignalTo;
use nix::libc::SIGKILL;
use nix::unistd::Uid;

use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::people::{find_user, own_name};
use super::refusal;
use super::state;
use crate::out::tell;
use crate::submit::signal_number;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Account,
    Batch,
    Clusters,
    Cron,
    Full,
    Help,
    Ignored,
    Interactive,
    Me,
    Name,
    Nodes,
    Partition,
    Qos,
    Quiet,
    Refused,
    Reservation,
    Signal,
    State,
    Usage,
    User,
    Verbose,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Account, Some('A'), &["account"], Value),
    opt(Key::Batch, Some('b'), &["batch"], Nothing),
    opt(Key::Full, Some('f'), &["full"], Nothing),
    opt(Key::Help, None, &["help"], Nothing),
    opt(Key::Ignored, Some('H'), &["hurry"], Nothing),
    opt(Key::Ignored, None, &["ctld"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters"], Value),
    opt(Key::Interactive, Some('i'), &["interactive"], Nothing),
    opt(Key::Me, None, &["me"], Nothing),
    opt(Key::Name, Some('n'), &["name", "jobname"], Value),
    opt(Key::Nodes, Some('w'), &["nodelist"], Value),
    opt(Key::Partition, Some('p'), &["partition"], Value),
    opt(Key::Qos, Some('q'), &["qos"], Value),
    opt(Key::Quiet, Some('Q'), &["quiet"], Nothing),
    opt(Key::Cron, Some('c'), &["cron"], Nothing),
    opt(Key::Refused, None, &["sibling", "wckey"], Value),
    opt(Key::Reservation, Some('R'), &["reservation"], Value),
    opt(Key::Signal, Some('s'), &["signal"], Value),
    opt(Key::State, Some('t'), &["state"], Value),
    opt(Key::Usage, None, &["usage"], Nothing),
    opt(Key::User, Some('u'), &["user"], Value),
    opt(Key::Verbose, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
];

const USAGE: &str = "Usage: scancel [-A account] [--batch] [--full] [--interactive] [-n job_name]\n               \
    [-p partition] [-Q] [-q qos] [-R reservation] [-s signal | integer] [-t PENDING | RUNNING | SUSPENDED]\n               \
    [--usage] [-u user_name] [-w hosts...] [job_id[_array_id]]\n";

const HELP: &str = "Usage: scancel [OPTIONS] [job_id[_array_id]]
  -A, --account=account           act only on jobs charging this account
  -b, --batch                     signal batch shell for specified job
  -c, --cron                      end recurring jobs, which do not come again
  -f, --full                      signal batch shell and all steps for specified job
  -H, --hurry                     accepted: there is no stage-out to skip
  -i, --interactive               require response from user for each job
      --me                        act on jobs of the calling user
  -M, --clusters=name             this cluster or all
  -n, --name=job_name             act only on jobs with this name
  -p, --partition=partition       act only on jobs in this partition
  -Q, --quiet                     disable warnings
  -q, --qos=qos                   act only on jobs with this quality of service
  -R, --reservation=reservation   act only on jobs with this reservation
  -s, --signal=name | integer     signal to send to job, default is SIGKILL
  -t, --state=states              act only on jobs in this state: PENDING, RUNNING or SUSPENDED
  -u, --user=user_name            act only on jobs of this user
  -V, --version                   output version information and exit
  -v, --verbose                   verbosity level
  -w, --nodelist                  act only on jobs on these nodes

Help options:
  --help                          show this help message
  --usage                         display brief usage message

Examples:
  scancel 12 14_3                 job 12, and element 3 of array 14
  scancel '14_[1-5,9]'            some elements of array 14
  scancel -s USR1 -b 12           the signal to the script of job 12
  scancel --me -t PENDING         whatever of yours waits
";

/// Everything that was asked for.
#[derive(Default)]
struct Options {
    targets: Vec<On>,
    /// Single steps of tasks.
    steps: Vec<(JobRef, u32)>,
    account: Option<String>,
    clusters: Option<String>,
    name: Option<String>,
    nodes: Option<Vec<String>>,
    partition: Option<String>,
    qos: Option<String>,
    reservation: Option<String>,
    state: Option<TaskState>,
    user: Option<String>,
    /// None for the usual end of a job.
    signal: Option<u8>,
    to: Option<SignalTo>,
    interactive: bool,
    /// Recurring jobs are meant, which are not to come again.
    cron: bool,
    quiet: bool,
    verbose: bool,
}

impl Options {
    fn is_filtered(&self) -> bool {
        self.user.is_some() || self.name.is_some() || self.state.is_some() || self.nodes.is_some() || {
            [&self.account, &self.partition, &self.qos, &self.reservation].into_iter().any(Option::is_some)
        }
    }

    fn takes(&self, line: &TaskLine) -> bool {
        let is = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        };
        let on = |nodes: &Vec<String>| {
            parse_hosts(&line.node_list).is_ok_and(|own| own.iter().any(|node| nodes.contains(node)))
        };
        is(&self.user, Some(&line.user))
            && is(&self.name, Some(&line.name))
            && is(&self.partition, Some(&line.pool))
            && is(&self.account, line.account.as_ref())
            && is(&self.qos, line.qos.as_ref())
            && is(&self.reservation, line.reservation.as_ref())
            && self.state.is_none_or(|state| state == line.state || state == began(line.state))
            && self.nodes.as_ref().is_none_or(on)
    }
}

/// What is being prepared or ended counts as running.
fn began(state: TaskState) -> TaskState {
    match state {
        TaskState::Preparing | TaskState::Ending => TaskState::Running,
        other => other,
    }
}

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "scancel", source })?;
    let wants = |key| line.options.iter().any(|(given, _)| *given == key);
    for (key, text) in [(Key::Help, HELP), (Key::Usage, USAGE), (Key::Version, version().as_str())] {
        if wants(key) {
            return print(text).map(|()| ExitCode::SUCCESS);
        }
    }
    let options = read(line)?;
    if options.targets.is_empty() && options.steps.is_empty() && !options.is_filtered() {
        return Err(said("No job identification provided"));
    }
    let mut client = connect("scancel: error: slurm_kill_job")?;
    if let Some(named) = &options.clusters {
        let own = client.ping().map_err(Fault::client("scancel: error: slurm_kill_job"))?.cluster;
        check_clusters("scancel", named, &own)?;
    }
    let targets = if options.targets.is_empty() && !options.steps.is_empty() {
        Vec::new()
    } else if options.is_filtered() || options.interactive {
        matching(&mut client, &options)?
    } else {
        named(&options.targets)
    };
    let mut code = ExitCode::SUCCESS;
    for (target, step) in &options.steps {
        if !reach_step(&mut client, *target, *step, &options) {
            code = ExitCode::FAILURE;
        }
    }
    for target in targets {
        if !reach(&mut client, target, &options)? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn said(text: &str) -> Fault {
    Fault::Said(format!("scancel: error: {text}"))
}

/// The options with their variables, which count where the command line is silent.
fn read(line: getopt::Line<Key>) -> Result<Options, Fault> {
    let (targets, steps) = targets(&line.words)?;
    let mut options = Options { targets, steps, ..Options::default() };
    let variables = [
        ("SCANCEL_ACCOUNT", Key::Account),
        ("SCANCEL_BATCH", Key::Batch),
        ("SCANCEL_FULL", Key::Full),
        ("SCANCEL_INTERACTIVE", Key::Interactive),
        ("SCANCEL_NAME", Key::Name),
        ("SCANCEL_PARTITION", Key::Partition),
        ("SCANCEL_QOS", Key::Qos),
        ("SCANCEL_RESERVATION", Key::Reservation),
        ("SCANCEL_STATE", Key::State),
        ("SCANCEL_USER", Key::User),
        ("SCANCEL_VERBOSE", Key::Verbose),
    ];
    for (variable, key) in variables {
        if let Ok(value) = env::var(variable) {
            set(&mut options, key, value)?;
        }
    }
    for (key, value) in line.options {
        set(&mut options, key, value.unwrap_or_default())?;
    }
    Ok(options)
}

fn set(options: &mut Options, key: Key, value: String) -> Result<(), Fault> {
    match key {
        Key::Account => options.account = Some(value),
        Key::Batch => options.to = Some(SignalTo::Script),
        Key::Clusters => options.clusters = Some(value),
        Key::Full => options.to = Some(SignalTo::All),
        Key::Cron => options.cron = true,
        Key::Interactive => options.interactive = true,
        Key::Me => options.user = Some(own_name()),
        Key::Name => options.name = Some(value),
        Key::Nodes => {
            let nodes =
                parse_hosts(&value).map_err(|error| said(&format!("Invalid node list {value}: {error}")))?;
            options.nodes = Some(nodes);
        }
        Key::Partition => options.partition = Some(value),
        Key::Qos => options.qos = Some(value),
        Key::Quiet => options.quiet = true,
        Key::Refused => {
            return Err(said(
                "an option such as --sibling or --wckey is not supported: name jobs, or their --name",
            ));
        }
        Key::Reservation => options.reservation = Some(value),
        Key::Signal => {
            options.signal =
                Some(signal_number(&value).ok_or_else(|| said(&format!("Unknown job signal: {value}")))?);
        }
        Key::State => options.state = Some(state_of(&value)?),
        Key::User => {
            options.user =
                Some(find_user(&value).ok_or_else(|| said(&format!("Invalid user name: {value}")))?);
        }
        Key::Verbose => options.verbose = true,
        Key::Help | Key::Usage | Key::Version | Key::Ignored => {}
    }
    Ok(())
}

fn state_of(word: &str) -> Result<TaskState, Fault> {
    match state::find(word).and_then(|name| name.ours) {
        Some(state @ (TaskState::Waiting | TaskState::Running)) => Ok(state),
        // Nothing is ever suspended.
        _ if state::find(word).is_some_and(|name| name.short == "S") => {
            Err(said("no job is ever SUSPENDED here"))
        }
        _ => Err(said(&format!(
            "Invalid job state specified: {word}\nValid job states are PENDING, RUNNING, and SUSPENDED"
        ))),
    }
}

/// The jobs and tasks, and the steps, that words name.
type Named = (Vec<On>, Vec<(JobRef, u32)>);

fn targets(words: &[String]) -> Result<Named, Fault> {
    let (mut targets, mut steps) = Named::default();
    for word in words {
        let bad = || said(&format!("Invalid job id {word}"));
        if let Some((job, step)) = word.split_once('.') {
            let job: JobRef = job.parse().map_err(|_| bad())?;
            match step {
                // What the script runs in has no number.
                "batch" => targets.push(job.to_string().parse().map_err(|_| bad())?),
                step => steps.push((job, step.parse().map_err(|_| bad())?)),
            }
            continue;
        }
        // A throttle may follow the elements, as squeue prints it.
        let plain = match word.split_once('%') {
            Some((before, _)) if word.ends_with(']') => format!("{before}]"),
            _ => word.clone(),
        };
        targets.push(plain.parse::<On>().map_err(|_| bad())?);
    }
    Ok((targets, steps))
}

/// Ends or signals a step. False if that is to be told by the exit code.
fn reach_step(client: &mut Client, target: JobRef, step: u32, options: &Options) -> bool {
    if options.verbose {
        match options.signal {
            Some(signal) => tell(&format!("scancel: Signal {signal} to step {target}.{step}")),
            None => tell(&format!("scancel: Terminating step {target}.{step}")),
        }
    }
    let Err(error) = client.signal_step(target, step, options.signal) else { return true };
    if !options.quiet {
        let text = refusal::text(&error);
        tell(&format!("scancel: error: Kill job error on job step id {target}.{step}: {text}"));
    }
    false
}

/// What the command line names, one task at a time.
fn named(targets: &[On]) -> Vec<JobRef> {
    let one = |on: &On| match &on.tasks {
        Tasks::All => vec![JobRef { job: on.job, task: None }],
        Tasks::One(index) => vec![JobRef { job: on.job, task: Some(*index) }],
        Tasks::Ranges(ranges) => {
            let indices = ranges.iter().flat_map(|range| range.indices());
            indices.map(|index| JobRef { job: on.job, task: Some(TaskIndex(index)) }).collect()
        }
    };
    targets.iter().flat_map(one).collect()
}

/// What there is of that which matches the options; a job is named as a whole where all of its tasks match.
fn matching(client: &mut Client, options: &Options) -> Result<Vec<JobRef>, Fault> {
    // Nobody but root means the jobs of others without saying so.
    let own = (options.user.is_none() && !Uid::current().is_root()).then(own_name);
    let filter = TaskFilter {
        jobs: options.targets.iter().map(|on| JobRef { job: on.job, task: None }).collect(),
        users: options.user.clone().or(own).into_iter().collect(),
        ..TaskFilter::default()
    };
    let list = client.tasks(&filter).map_err(Fault::client("scancel: error: slurm_load_jobs"))?;
    let mut found = Vec::new();
    for job in list.lines.chunk_by(|a, b| a.job == b.job) {
        let named = |line: &&TaskLine| {
            options.targets.is_empty()
                || options.targets.iter().any(|on| on.job.0 == line.job && holds(on, line))
        };
        let wanted: Vec<&TaskLine> = job.iter().filter(|line| options.takes(line)).filter(named).collect();
        let whole_targets = options.targets.iter().all(|on| on.tasks == Tasks::All);
        if wanted.len() == job.len() && whole_targets {
            let target = JobRef { job: JobId(job[0].job), task: None };
            found.extend(agreed(options, target, wanted[0])?.then_some(target));
            continue;
        }
        for line in wanted {
            for target in of_line(options, line) {
                found.extend(agreed(options, target, line)?.then_some(target));
            }
        }
    }
    Ok(found)
}

fn holds(on: &On, line: &TaskLine) -> bool {
    match &line.which {
        Which::Job => on.tasks == Tasks::All,
        Which::Element(index) => on.holds(*index),
        Which::Elements(ranges) => ranges.iter().any(|range| range.indices().any(|i| on.holds(TaskIndex(i)))),
    }
}

/// The tasks of a line that the command line names.
fn of_line(options: &Options, line: &TaskLine) -> Vec<JobRef> {
    let job = JobId(line.job);
    let is_named = |index| {
        options.targets.is_empty() || options.targets.iter().any(|on| on.job == job && on.holds(index))
    };
    match &line.which {
        Which::Job => vec![JobRef { job, task: None }],
        Which::Element(index) => vec![JobRef { job, task: Some(*index) }],
        Which::Elements(ranges) => ranges
            .iter()
            .flat_map(|range| range.indices())
            .map(TaskIndex)
            .filter(|index| is_named(*index))
            .map(|index| JobRef { job, task: Some(index) })
            .collect(),
    }
}

/// Asks whoever is at the terminal, if that is wanted.
fn agreed(options: &Options, target: JobRef, line: &TaskLine) -> Result<bool, Fault> {
    if !options.interactive {
        return Ok(true);
    }
    print(&format!("Cancel job_id={target} name={} partition={} [y/n]? ", line.name, line.pool))?;
    io::stdout().flush().map_err(Fault::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Fault::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// Ends or signals one. False if that is to be told by the exit code.
fn reach(client: &mut Client, target: JobRef, options: &Options) -> Result<bool, Fault> {
    let signal = options.signal.filter(|signal| i32::from(*signal) != SIGKILL || options.to.is_some());
    let default = options.to.filter(|_| options.signal.is_none()).map(|_| SIGKILL as u8);
    if options.verbose {
        match signal {
            Some(signal) => tell(&format!("scancel: Signal {signal} to job {target}")),
            None => tell(&format!("scancel: Terminating job {target}")),
        }
    }
    let done = match signal.or(default) {
        Some(signal) => client.signal(target, signal, options.to.unwrap_or(SignalTo::Ranks)).map(drop),
        None if options.cron => client.stop_cron(target).map(drop),
        None => client.cancel(target).map(drop),
    };
    let Err(error) = done else { return Ok(true) };
    let (ClientError::Refused { body, .. }, counts) =
        (&error, options.signal.is_some() || options.is_filtered())
    else {
        return Err(Fault::Client { doing: "scancel: error: slurm_kill_job", source: error });
    };
    // With `--cron`, what matches and does not recur is not meant.
    if options.cron && options.is_filtered() && body.code == "not_recurring" {
        return Ok(true);
    }
    let is_over = matches!(body.code.as_str(), "unknown_job" | "already_ended");
    // What matched a moment ago and has ended since is as it was wanted.
    let is_wanted = body.code == "already_ended" && (options.signal.is_none() || options.is_filtered());
    if !options.quiet && (!is_over || options.verbose || (counts && !is_wanted)) {
        tell(&format!("scancel: error: Kill job error on job id {target}: {}", refusal::text(&error)));
    }
    Ok(if is_over { is_wanted || !counts } else { false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &str) -> Result<Options, String> {
        let words: Vec<String> =
            words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let line = getopt::read(&words, TABLE, Order::Free).map_err(|error| error.to_string())?;
        read(line).map_err(|fault| fault.to_string())
    }

    #[test]
    fn targets_are_read_as_squeue_prints_them() {
        let refs = |words: &str| -> Vec<String> {
            named(&read_words(words).unwrap().targets).iter().map(ToString::to_string).collect()
        };
        assert_eq!(refs("12 14_3"), ["12", "14_3"]);
        assert_eq!(refs("14_[1-3,9%2]"), ["14_1", "14_2", "14_3", "14_9"]);
        assert_eq!(read_words("abc").err().unwrap(), "scancel: error: Invalid job id abc");
        let steps = read_words("12.0 14_3.2").unwrap();
        assert_eq!(
            steps.steps.iter().map(|(job, step)| format!("{job}.{step}")).collect::<Vec<_>>(),
            ["12.0", "14_3.2"]
        );
        assert_eq!(refs("12.batch"), ["12"]);
        assert_eq!(read_words("12.x").err().unwrap(), "scancel: error: Invalid job id 12.x");
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let options = read_words("12 --signal SIGTERM -b -v").unwrap();
        assert_eq!((options.signal, options.to, options.verbose), (Some(15), Some(SignalTo::Script), true));
        assert_eq!(read_words("-s 10 12").unwrap().signal, Some(10));
        assert_eq!(read_words("-t pd --name x").unwrap().state, Some(TaskState::Waiting));
        assert!(read_words("-s NOTHING 12").is_err() && read_words("-t CD").is_err());
    }
}
