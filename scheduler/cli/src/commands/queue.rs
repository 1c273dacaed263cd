//! `muster queue`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use muster_client::api::{JobList, JobSummary, SCHEMA, TaskState};
use muster_client::{Client, JobFilter};
use muster_core::notation::format_time_s;
use nix::unistd::{Uid, User};

use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{is_terminal, print, print_json, tell};
use crate::table::{Cell, Side, Table};
use crate::text::{elapsed_s, instant_or_dash, now_us, state_style, state_words, time_or_dash};

/// How often `--watch` looks again.
const WATCH_PERIOD: Duration = Duration::from_secs(2);

/// Arguments of `muster queue`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster queue                    what waits and runs\n  \
    muster queue --me --all         all your jobs, those that have ended as well\n  \
    muster queue -t running -p big  what runs in pool big\n  muster queue 12 13 -w           watch two jobs\n  \
    muster queue --me --start       when your jobs are expected to start\n\n\
    States: waiting, preparing, running, ending, completed, failed, timed_out,\n\
    deadline, out_of_memory, cancelled, node_failed, all; Slurm's names and letters\n\
    (PENDING, PD, ...) are read as well.")]
pub struct QueueArgs {
    /// Only these jobs
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Only jobs of this user
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Only your jobs
    #[arg(long, conflicts_with = "user")]
    me: bool,
    /// Only jobs in these states
    #[arg(short = 't', long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only jobs of this pool
    #[arg(short, long, visible_alias = "partition", value_name = "POOL")]
    pool: Option<String>,
    /// Jobs that have ended as well
    #[arg(short, long)]
    all: bool,
    /// Say when what waits is expected to start at the latest
    #[arg(long)]
    start: bool,
    /// Look again every 2 seconds, until Ctrl-C
    #[arg(short, long, conflicts_with = "json")]
    watch: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The caller's login name.
pub(super) fn own_name() -> Result<String, CliError> {
    let uid = Uid::current();
    let unknown = |source| CliError::System { action: "tell your login name", source };
    let user = User::from_uid(uid).map_err(|errno| unknown(errno.into()))?;
    user.map(|user| user.name)
        .ok_or_else(|| unknown(std::io::Error::other(format!("nobody has the user id {uid}"))))
}

pub(crate) fn run(args: &QueueArgs) -> Result<ExitCode, CliError> {
    let (states, all_states) = read_states(&args.state)?;
    let user = if args.me { Some(own_name()?) } else { args.user.clone() };
    let all = args.all || all_states || states.iter().any(|state| state.is_finished());
    let filter = JobFilter { states, user, all, limit: None, starts: args.start };
    let mut client = connect()?;
    loop {
        let list = fetch(&mut client, args, &filter)?;
        if args.json {
            print_json(&list)?;
            break;
        }
        let text = table(&list, now_us(), args.start).render();
        if args.watch && is_terminal() {
            // Home, the new text over the old, each line and the rest of the screen cleared.
            print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))?;
        } else {
            print(&text)?;
        }
        if list.cut {
            tell("muster queue: there are more jobs than are listed: name a user, a state or a pool");
        }
        if !args.watch {
            break;
        }
        thread::sleep(WATCH_PERIOD);
    }
    Ok(Exit::Ok.into())
}

fn fetch(client: &mut Client, args: &QueueArgs, filter: &JobFilter) -> Result<JobList, CliError> {
    let mut list = if args.jobs.is_empty() {
        client.jobs(filter)?
    } else {
        let mut jobs = Vec::new();
        for job in job_refs(&args.jobs)? {
            let mut summary = client.job(job)?.summary;
            if args.start && summary.tasks.contains_key(&TaskState::Waiting) {
                summary.expected_start_us = client.why(job)?.expected_start_us;
            }
            let is_wanted = (filter.states.is_empty() || filter.states.contains(&summary.state))
                && filter.user.as_ref().is_none_or(|user| *user == summary.user);
            if is_wanted {
                jobs.push(summary);
            }
        }
        JobList { schema: SCHEMA, jobs, cut: false }
    };
    if let Some(pool) = &args.pool {
        list.jobs.retain(|job| job.pool == *pool);
    }
    Ok(list)
}

/// Slurm's names for the states, long and short.
const SLURM_STATES: [(&str, &str, TaskState); 12] = [
    ("pending", "pd", TaskState::Waiting),
    ("configuring", "cf", TaskState::Preparing),
    ("running", "r", TaskState::Running),
    ("completing", "cg", TaskState::Ending),
    ("completed", "cd", TaskState::Completed),
    ("failed", "f", TaskState::Failed),
    ("timeout", "to", TaskState::TimedOut),
    ("deadline", "dl", TaskState::Deadline),
    ("out_of_memory", "oom", TaskState::OutOfMemory),
    ("cancelled", "ca", TaskState::Cancelled),
    ("preempted", "pr", TaskState::Preempted),
    ("node_fail", "nf", TaskState::NodeFailed),
];

/// The states that the words name, and whether `all` is among them.
fn read_states(words: &[String]) -> Result<(Vec<TaskState>, bool), CliError> {
    let mut states = Vec::new();
    for word in words {
        let name = word.to_ascii_lowercase();
        if name == "all" {
            return Ok((Vec::new(), true));
        }
        let ours = TaskState::ALL.into_iter().find(|state| state.word() == name);
        let found = ours.or_else(|| {
            SLURM_STATES
                .iter()
                .find(|(long, short, _)| name == *long || name == *short)
                .map(|(_, _, state)| *state)
        });
        states.push(found.ok_or_else(|| CliError::State {
            word: word.clone(),
            known: TaskState::ALL.map(TaskState::word).join(", "),
        })?);
    }
    Ok((states, false))
}

fn table(list: &JobList, now_us: u64, with_start: bool) -> Table {
    let mut columns = vec![
        ("JOB", Side::Right),
        ("NAME", Side::Left),
        ("USER", Side::Left),
        ("POOL", Side::Left),
        ("STATE", Side::Left),
        ("TASKS", Side::Left),
        ("NODES", Side::Right),
        ("TIME", Side::Right),
        ("LIMIT", Side::Right),
        ("NODE LIST (REASON)", Side::Left),
    ];
    let start_at = columns.len() - 1;
    if with_start {
        columns.insert(start_at, ("STARTS BY", Side::Left));
    }
    let mut table = Table::new(columns);
    for job in &list.jobs {
        let mut cells = vec![
            Cell::new(job.job.to_string()),
            Cell::new(&job.name),
            Cell::new(&job.user),
            Cell::new(&job.pool),
            Cell::styled(state_words(job.state), state_style(job.state)),
            Cell::new(tasks(job)),
            Cell::new(job.nodes.to_string()),
            Cell::new(format_time_s(elapsed_s(job.started_at_us, job.finished_at_us, now_us))),
            Cell::new(time_or_dash(job.time_limit_s)),
            Cell::new(place(job)),
        ];
        if with_start {
            cells.insert(start_at, Cell::new(instant_or_dash(job.expected_start_us)));
        }
        table.push(cells);
    }
    table
}

/// `1` for a job of one task, else how many are in which state.
fn tasks(job: &JobSummary) -> String {
    if !job.array {
        return "1".to_owned();
    }
    counts(&job.tasks)
}

/// Such as `3 running 197 waiting`, what lives first.
pub(super) fn counts(tasks: &BTreeMap<TaskState, u64>) -> String {
    let live = [TaskState::Running, TaskState::Preparing, TaskState::Ending, TaskState::Waiting];
    let ended = TaskState::ALL.into_iter().filter(|state| state.is_finished());
    let texts: Vec<String> = live
        .into_iter()
        .chain(ended)
        .filter_map(|state| Some((state, *tasks.get(&state)?)))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", state_words(state)))
        .collect();
    texts.join(" ")
}

/// Where it runs or ran; why it waits, or what it failed of.
fn place(job: &JobSummary) -> String {
    let is_over = job.state.is_finished() && job.state != TaskState::Completed;
    match (job.node_list.as_str(), job.reason.as_str()) {
        (nodes, "") => nodes.to_owned(),
        (nodes, reason) if nodes.is_empty() || is_over => format!("({reason})"),
        (nodes, _) => nodes.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(job: u64, state: TaskState) -> JobSummary {
        JobSummary {
            job,
            name: "relax".into(),
            user: "ann".into(),
            pool: "main".into(),
            state,
            tasks: [(state, 1)].into(),
            array: false,
            nodes: 2,
            ranks: 8,
            cores: 8,
            node_list: String::new(),
            submitted_at_us: 0,
            started_at_us: None,
            finished_at_us: None,
            time_limit_s: Some(3600),
            priority: 0,
            reason: "no room".into(),
            reason_code: "resources".into(),
            expected_start_us: None,
        }
    }

    #[test]
    fn the_queue_is_an_aligned_table() {
        let running = JobSummary {
            started_at_us: Some(1_000_000),
            node_list: "n[01-02]".into(),
            reason: String::new(),
            ..summary(7, TaskState::Running)
        };
        let array = JobSummary {
            array: true,
            tasks: [(TaskState::Waiting, 197), (TaskState::Running, 3), (TaskState::Failed, 1)].into(),
            time_limit_s: None,
            ..summary(1234, TaskState::Waiting)
        };
        let list = JobList { schema: SCHEMA, jobs: vec![running, array], cut: false };
        let text = anstream::adapter::strip_str(&table(&list, 66_000_000, false).render()).to_string();
        let expected = "\
\u{20}JOB  NAME   USER  POOL  STATE    TASKS                           NODES      TIME     LIMIT  NODE LIST (REASON)
\u{20}  7  relax  ann   main  running  1                                   2  00:01:05  01:00:00  n[01-02]
1234  relax  ann   main  waiting  3 running 197 waiting 1 failed      2  00:00:00         -  (no room)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn starts_are_a_column_where_they_are_asked_for() {
        let told =
            JobSummary { expected_start_us: Some(1_767_323_045_000_000), ..summary(7, TaskState::Waiting) };
        let list = JobList { schema: SCHEMA, jobs: vec![told, summary(8, TaskState::Waiting)], cut: false };
        let text = anstream::adapter::strip_str(&table(&list, 0, true).render()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("LIMIT  STARTS BY            NODE LIST"), "{text}");
        assert!(lines[1].contains("01:00:00  2026-01-0") && lines[2].contains("01:00:00  -     "), "{text}");
    }

    #[test]
    fn a_failed_job_says_what_it_failed_of() {
        let ended =
            |state| JobSummary { node_list: "n1".into(), reason: "exit code 7".into(), ..summary(1, state) };
        assert_eq!(place(&ended(TaskState::Failed)), "(exit code 7)");
        assert_eq!(place(&ended(TaskState::Completed)), "n1");
        assert_eq!(place(&ended(TaskState::Running)), "n1");
    }

    #[test]
    fn an_empty_queue_is_its_header() {
        let list = JobList { schema: SCHEMA, jobs: vec![], cut: false };
        let text = anstream::adapter::strip_str(&table(&list, 0, false).render()).to_string();
        assert!(text.starts_with("JOB  NAME") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn states_are_read_by_all_their_names() {
        let read = |text: &str| read_states(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let (states, all) = read("PD,r,timed_out,NODE_FAIL,Failed").unwrap();
        use TaskState::{Failed, NodeFailed, Running, TimedOut, Waiting};
        assert_eq!(states, [Waiting, Running, TimedOut, NodeFailed, Failed]);
        assert!(!all);
        assert_eq!(read("all").unwrap(), (vec![], true));
        assert!(read("bogus").unwrap_err().to_string().contains("waiting, preparing"));
    }
}
