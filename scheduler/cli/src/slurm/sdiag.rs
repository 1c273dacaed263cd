//! The face `sdiag`: what the controller has done, in Slurm's layout.

use std::fmt::Write as _;
use std::process::ExitCode;

use muster_client::api::{Diagnostics, PassFigures, RequestFigures};
use serde_json::{Value, json};

use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::job_json::{document, number};
use super::people::user_name;
use super::refusal;
use super::time::Times;
use crate::out::tell;

/// What Slurm calls asking for the figures.
const DOING: &str = "slurm_get_statistics";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    All,
    Clusters,
    Help,
    Json,
    Reset,
    Sort(Sort),
    Usage,
    Version,
    Yaml,
}

/// The order of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Count,
    Id,
    Total,
    Average,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value as Needs};

const TABLE: &[Opt<Key>] = &[
    opt(Key::All, Some('a'), &["all"], Nothing),
    opt(Key::Help, Some('h'), &["help"], Nothing),
    opt(Key::Sort(Sort::Id), Some('i'), &["sort-by-id"], Nothing),
    opt(Key::Json, None, &["json"], Maybe),
    opt(Key::Clusters, Some('M'), &["cluster", "clusters"], Needs),
    opt(Key::Reset, Some('r'), &["reset"], Nothing),
    opt(Key::Sort(Sort::Total), Some('t'), &["sort-by-time"], Nothing),
    opt(Key::Sort(Sort::Average), Some('T'), &["sort-by-time2"], Nothing),
    opt(Key::Usage, None, &["usage"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Yaml, None, &["yaml"], Maybe),
];

const USAGE: &str = "Usage: sdiag [-M cluster] [-aritT]\n";

const HELP: &str = "\
Usage: sdiag [OPTIONS]
  -a, --all           all statistics
  -r, --reset         reset statistics
  -M, --cluster       direct the request to a specific cluster
  -i, --sort-by-id    sort RPCs by id
  -t, --sort-by-time  sort RPCs by total run time
  -T, --sort-by-time2 sort RPCs by average run time
      --json          JSON
  -V, --version       display current version number

Help options:
  --help          show this help message
  --usage         display brief usage message
";

/// Runs it. What the controller refuses ends with -1, as in Slurm.
pub(super) fn run(words: &[String]) -> ExitCode {
    match start(words) {
        Err(Fault::Client { doing, source }) => {
            tell(&format!("{doing}: {}\n{source}", refusal::text(&source)));
            ExitCode::from(255)
        }
        result => fault::end(result),
    }
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sdiag", source })?;
    let (mut sort, mut reset, mut as_json, mut clusters) = (Sort::Count, false, false, None);
    for (key, value) in line.options {
        match key {
            Key::All => reset = false,
            Key::Clusters => clusters = value,
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Json => as_json = true,
            Key::Reset => reset = true,
            Key::Sort(by) => sort = by,
            Key::Usage => return print(USAGE).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Yaml => {
                return Err(Fault::Said("sdiag: error: --yaml is not supported: use --json".to_owned()));
            }
        }
    }
    let mut client = connect(DOING)?;
    if let Some(named) = clusters {
        check_clusters("sdiag", &named, &client.ping().map_err(Fault::client(DOING))?.cluster)?;
    }
    if reset {
        client.reset_diagnostics().map_err(Fault::client("slurm_reset_statistics"))?;
        return print("Reset scheduling statistics\n").map(|()| ExitCode::SUCCESS);
    }
    let figures = client.diagnostics().map_err(Fault::client(DOING))?;
    let (kinds, users) = (kinds(&figures.requests, sort), users(&figures, sort));
    let text = if as_json {
        document("sdiag", json_of(&figures, &kinds, &users))
    } else {
        text(&figures, &kinds, &users)
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Requests of one kind, or of one user.
struct Asked {
    name: String,
    id: u32,
    count: u64,
    total_us: u64,
}

impl Asked {
    fn average_us(&self) -> u64 {
        average(self.total_us, self.count)
    }
}

fn average(total: u64, count: u64) -> u64 {
    total.checked_div(count).unwrap_or(0)
}

fn sorted(mut all: Vec<Asked>, sort: Sort) -> Vec<Asked> {
    all.sort_by(|a, b| {
        let by_name = a.id.cmp(&b.id).then_with(|| a.name.cmp(&b.name));
        match sort {
            Sort::Count => b.count.cmp(&a.count),
            Sort::Id => by_name,
            Sort::Total => b.total_us.cmp(&a.total_us),
            Sort::Average => b.average_us().cmp(&a.average_us()),
        }
        .then(by_name)
    });
    all
}

/// What was asked, by Slurm's names. Routes that Slurm has one message for are one line.
fn kinds(requests: &[RequestFigures], sort: Sort) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for RequestFigures { what, count, total_us } in requests {
        let (name, id) = message(what);
        match all.iter_mut().find(|asked| asked.name == name) {
            Some(asked) => {
                asked.count += count;
                asked.total_us += total_us;
            }
            None => all.push(Asked { name, id, count: *count, total_us: *total_us }),
        }
    }
    sorted(all, sort)
}

fn users(figures: &Diagnostics, sort: Sort) -> Vec<Asked> {
    let of = |caller: &muster_client::api::CallerFigures| Asked {
        name: caller.uid.map_or_else(|| "others".to_owned(), user_name),
        id: caller.uid.unwrap_or(u32::MAX),
        count: caller.count,
        total_us: caller.total_us,
    };
    sorted(figures.callers.iter().map(of).collect(), sort)
}

/// Slurm's message for a request, with its number; a name of its own with 0 where Slurm has none.
fn message(what: &str) -> (String, u32) {
    let (name, id) = match what {
        "node hello" => ("MESSAGE_NODE_REGISTRATION_STATUS", 1002),
        "node health" => ("REQUEST_HEALTH_CHECK", 1011),
        "GET /v1/ping" => ("REQUEST_PING", 1008),
        "GET /v1/jobs" | "GET /v1/tasks" => ("REQUEST_JOB_INFO", 2003),
        "GET /v1/jobs/{ref}" => ("REQUEST_JOB_INFO_SINGLE", 2021),
        "GET /v1/nodes" => ("REQUEST_NODE_INFO", 2007),
        "GET /v1/pools" => ("REQUEST_PARTITION_INFO", 2009),
        "GET /v1/shares" => ("REQUEST_SHARE_INFO", 2022),
        "GET /v1/reservations" => ("REQUEST_RESERVATION_INFO", 2024),
        "GET /v1/priority" => ("REQUEST_PRIORITY_FACTORS", 2026),
        "GET /v1/diagnostics" | "POST /v1/diagnostics/reset" => ("REQUEST_STATS_INFO", 2035),
        "POST /v1/jobs/{ref}/update" | "POST /v1/jobs/{ref}/hold" | "POST /v1/jobs/{ref}/release" => {
            ("REQUEST_UPDATE_JOB", 3001)
        }
        "POST /v1/nodes/drain"
        | "POST /v1/nodes/down"
        | "POST /v1/nodes/resume"
        | "POST /v1/nodes/{name}/hold"
        | "POST /v1/nodes/{name}/release" => ("REQUEST_UPDATE_NODE", 3002),
        "POST /v1/reservations" => ("REQUEST_CREATE_RESERVATION", 3006),
        "DELETE /v1/reservations/{name}" => ("REQUEST_DELETE_RESERVATION", 3008),
        "POST /v1/jobs" => ("REQUEST_SUBMIT_BATCH_JOB", 4003),
        "POST /v1/jobs/{ref}/requeue" => ("REQUEST_JOB_REQUEUE", 5023),
        "POST /v1/jobs/{ref}/cancel" | "POST /v1/jobs/{ref}/signal" => ("REQUEST_KILL_JOB", 5032),
        other => {
            let words = other.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            let name = words.map(str::to_ascii_uppercase).collect::<Vec<_>>().join("_");
            return (format!("MUSTER_{}", name.replace("_V1_", "_")), 0);
        }
    };
    (name.to_owned(), id)
}

/// An instant as `sdiag` writes it.
fn stamp(at_us: u64) -> String {
    format!("{} ({})", Times::new(at_us).headline(), at_us / 1_000_000)
}

const RULE: &str = "*******************************************************\n";

fn text(figures: &Diagnostics, kinds: &[Asked], users: &[Asked]) -> String {
    let mut out = head(figures);
    passes(&mut out, figures);
    let _ = writeln!(
        out,
        "\nLatency for 1000 calls to gettimeofday(): {} microseconds\n\nRemote Procedure Call statistics by message type",
        figures.clock_latency_us
    );
    for asked in kinds {
        let _ = writeln!(
            out,
            "\t{:<40}({:5}) count:{:<6} ave_time:{:<6} total_time:{}",
            asked.name,
            asked.id,
            asked.count,
            asked.average_us(),
            asked.total_us
        );
    }
    out.push_str("\nRemote Procedure Call statistics by user\n");
    for asked in users {
        let _ = writeln!(
            out,
            "\t{:<16}({:8}) count:{:<6} ave_time:{:<6} total_time:{}",
            asked.name,
            asked.id,
            asked.count,
            asked.average_us(),
            asked.total_us
        );
    }
    out.push_str("\nPending RPC statistics\n\tNo pending RPCs\n");
    out
}

fn head(figures: &Diagnostics) -> String {
    let tasks = &figures.tasks;
    format!(
        "{RULE}sdiag output at {}\nData since      {}\n{RULE}\
         Server thread count:  {}\nAgent queue size:     {}\nAgent count:          {}\nAgent thread count:   {}\n\
         DBD Agent queue size: 0\n\n\
         Jobs submitted: {}\nJobs started:   {}\nJobs completed: {}\nJobs canceled:  {}\nJobs failed:    {}\n\n\
         Job states ts:  {}\nJobs pending:   {}\nJobs running:   {}\n",
        stamp(figures.at_us),
        stamp(figures.since_us),
        figures.connections,
        figures.messages_queued,
        figures.nodes_behind,
        figures.nodes_behind,
        tasks.submitted,
        tasks.started,
        tasks.completed,
        tasks.cancelled,
        tasks.failed,
        stamp(figures.at_us),
        tasks.waiting,
        tasks.running,
    )
}

/// How often passes were a minute, once they have been counted for so long.
fn per_minute(figures: &Diagnostics) -> Option<u64> {
    let minutes = figures.at_us.saturating_sub(figures.since_us) / 60_000_000;
    figures.passes.count.checked_div(minutes)
}

/// Every pass starts what comes first and backfills, so that both of Slurm's parts are of the same passes.
fn passes(out: &mut String, figures: &Diagnostics) {
    let PassFigures { count, last_us, max_us, total_us, groups, last_groups, last_at_us, .. } =
        figures.passes;
    let (queue_len, queue_len_total) = (figures.passes.queue_len, figures.passes.queue_len_total);
    let some = |text: String| if count > 0 { text } else { String::new() };
    let mean = |total| average(total, count);
    let per_minute =
        per_minute(figures).map(|count| format!("\tCycles per minute: {count}\n")).unwrap_or_default();
    let _ = write!(
        out,
        "\nMain schedule statistics (microseconds):\n\tLast cycle:   {last_us}\n\tMax cycle:    {max_us}\n\
         \tTotal cycles: {count}\n{}{per_minute}\tLast queue length: {queue_len}\n",
        some(format!("\tMean cycle:   {}\n\tMean depth cycle:  {}\n", mean(total_us), mean(groups))),
    );
    let _ = write!(
        out,
        "\nBackfilling stats\n\tTotal backfilled jobs (since last slurm start): {}\n\
         \tTotal backfilled jobs (since last stats cycle start): {}\n\
         \tTotal backfilled heterogeneous job components: 0\n\tTotal cycles: {count}\n\tLast cycle when: {}\n\
         \tLast cycle: {last_us}\n\tMax cycle:  {max_us}\n{}\tLast depth cycle: {last_groups}\n\
         \tLast depth cycle (try sched): {last_groups}\n{}\tLast queue length: {queue_len}\n{}\
         \tLast table size: 0\n{}",
        figures.tasks.backfilled_since_start,
        figures.tasks.backfilled,
        last_at_us.map_or_else(|| "N/A".to_owned(), stamp),
        some(format!("\tMean cycle: {}\n", mean(total_us))),
        some(format!("\tDepth Mean: {0}\n\tDepth Mean (try depth): {0}\n", mean(groups))),
        some(format!("\tQueue length mean: {}\n", mean(queue_len_total))),
        some("\tMean table size: 0\n".to_owned()),
    );
}

/// The shape of Slurm 23.11.
fn json_of(figures: &Diagnostics, kinds: &[Asked], users: &[Asked]) -> Value {
    let PassFigures { count, last_us, max_us, total_us, groups, last_groups, last_at_us, .. } =
        figures.passes;
    let (queue_len, queue_len_total) = (figures.passes.queue_len, figures.passes.queue_len_total);
    let mean = |total| average(total, count);
    let instant = |at_us: u64| number(Some(at_us / 1_000_000));
    let mut statistics = json!({
        "parts_packed": 1,
        "req_time": instant(figures.at_us),
        "req_time_start": instant(figures.since_us),
        "server_thread_count": figures.connections,
        "agent_queue_size": figures.messages_queued,
        "agent_count": figures.nodes_behind,
        "agent_thread_count": figures.nodes_behind,
        "dbd_agent_queue_size": 0,
        "gettimeofday_latency": figures.clock_latency_us,
        "schedule_cycle_max": max_us,
        "schedule_cycle_last": last_us,
        "schedule_cycle_sum": total_us,
        "schedule_cycle_total": count,
        "schedule_cycle_mean": mean(total_us),
        "schedule_cycle_mean_depth": mean(groups),
        "schedule_cycle_per_minute": per_minute(figures).unwrap_or(0),
        "schedule_queue_length": queue_len,
        "jobs_submitted": figures.tasks.submitted,
        "jobs_started": figures.tasks.started,
        "jobs_completed": figures.tasks.completed,
        "jobs_canceled": figures.tasks.cancelled,
        "jobs_failed": figures.tasks.failed,
        "jobs_pending": figures.tasks.waiting,
        "jobs_running": figures.tasks.running,
        "job_states_ts": instant(figures.at_us),
    });
    let backfill = json!({
        "bf_backfilled_jobs": figures.tasks.backfilled_since_start,
        "bf_last_backfilled_jobs": figures.tasks.backfilled,
        "bf_backfilled_het_jobs": 0,
        "bf_cycle_counter": count,
        "bf_cycle_mean": mean(total_us),
        "bf_cycle_sum": total_us,
        "bf_cycle_last": last_us,
        "bf_cycle_max": max_us,
        "bf_depth_mean": mean(groups),
        "bf_depth_mean_try": mean(groups),
        "bf_last_depth": last_groups,
        "bf_last_depth_try": last_groups,
        "bf_queue_len": queue_len,
        "bf_queue_len_mean": mean(queue_len_total),
        "bf_queue_len_sum": queue_len_total,
        "bf_table_size": 0,
        "bf_table_size_mean": 0,
        "bf_when_last_cycle": instant(last_at_us.unwrap_or(0)),
        "bf_active": false,
    });
    let kind = |asked: &Asked| {
        json!({
            "message_type": asked.name, "type_id": asked.id, "count": asked.count,
            "average_time": asked.average_us(), "total_time": asked.total_us,
        })
    };
    let user = |asked: &Asked| {
        json!({
            "user": asked.name, "user_id": asked.id, "count": asked.count,
            "average_time": asked.average_us(), "total_time": asked.total_us,
        })
    };
    if let (Value::Object(all), Value::Object(backfill)) = (&mut statistics, backfill) {
        all.extend(backfill);
        all.insert("rpcs_by_message_type".to_owned(), kinds.iter().map(kind).collect());
        all.insert("rpcs_by_user".to_owned(), users.iter().map(user).collect());
        all.insert("pending_rpcs".to_owned(), json!([]));
    }
    json!({ "statistics": statistics })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_slurms_names_where_it_has_them() {
        assert_eq!(message("POST /v1/jobs"), ("REQUEST_SUBMIT_BATCH_JOB".to_owned(), 4003));
        assert_eq!(message("GET /v1/jobs/{ref}/why"), ("MUSTER_GET_JOBS_REF_WHY".to_owned(), 0));
        assert_eq!(message("node report"), ("MUSTER_NODE_REPORT".to_owned(), 0));
        let asked = |what: &str, count, total_us| RequestFigures { what: what.to_owned(), count, total_us };
        let requests =
            [asked("GET /v1/jobs", 3, 10), asked("GET /v1/ping", 4, 900), asked("GET /v1/tasks", 2, 20)];
        let shown = |sort| -> Vec<(u32, u64, u64)> {
            kinds(&requests, sort).iter().map(|kind| (kind.id, kind.count, kind.average_us())).collect()
        };
        assert_eq!(shown(Sort::Count), [(2003, 5, 6), (1008, 4, 225)]);
        assert_eq!(shown(Sort::Id), [(1008, 4, 225), (2003, 5, 6)]);
        assert_eq!(shown(Sort::Total), [(1008, 4, 225), (2003, 5, 6)]);
    }
}
