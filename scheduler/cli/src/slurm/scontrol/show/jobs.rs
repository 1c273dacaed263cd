//! `scontrol show job`.

use muster_client::TaskFilter;
use muster_client::api::{FINISHED_SHOWN_S, JobDetail, TaskLine, TaskList, Which};
use muster_core::ids::JobRef;
use serde_json::{Value, json};

use super::Shown;
use crate::slurm::fault::Fault;
use crate::slurm::job::{self, Facts};
use crate::slurm::job_json;
use crate::slurm::people::People;
use crate::slurm::sacct::step;
use crate::slurm::state;
use crate::slurm::time::{elapsed_s, long_span};
use crate::slurm::units;

/// Where the exit code of steps stands among the groups of a record.
const DERIVED_EXIT_AT: usize = 5;

/// The records of a job or a task, or of all jobs that are there.
pub(super) fn text(shown: &mut Shown<'_>, id: Option<&str>) -> Result<String, Fault> {
    let bad = |_| Fault::Said("scontrol_print_job error: Invalid job id specified".to_owned());
    let wanted: Option<JobRef> = id.map(|id| id.parse().map_err(bad)).transpose()?;
    let filter = TaskFilter {
        jobs: wanted.into_iter().collect(),
        finished_s: Some(FINISHED_SHOWN_S),
        detail: true,
        starts: true,
        steps: shown.how.details,
        ..TaskFilter::default()
    };
    let list = shown.client.tasks(&filter).map_err(Fault::client(shown.doing))?;
    shown.times.now_us = list.now_us;
    if list.lines.is_empty() {
        match (wanted, list.known.is_empty()) {
            (Some(_), true) => {
                return Err(Fault::Said(format!("{}: Invalid job id specified", shown.doing)));
            }
            (Some(id), false) => {
                crate::slurm::fault::print(&format!("Job {id} not found\n"))?;
                return Err(Fault::Silent);
            }
            (None, _) if !shown.how.json => return Ok("No jobs in the system\n".to_owned()),
            (None, _) => {}
        }
    }
    let people = People::default();
    if shown.how.json {
        return Ok(json(&list, &people));
    }
    let mut out = String::new();
    for line in &list.lines {
        let facts = Facts { line, job: list.jobs.get(&line.job) };
        let mut groups = groups(shown, &facts, &people);
        if shown.how.details {
            let (code, signal) = step::derived_exit(job::steps_of(&list, line));
            groups.insert(DERIVED_EXIT_AT, format!("DerivedExitCode={code}:{signal}"));
        }
        if !shown.how.one_line {
            // A line of blanks ends a record of several lines.
            groups.push(String::new());
        }
        shown.add(&groups, &mut out);
    }
    Ok(out)
}

fn json(list: &TaskList, people: &People) -> String {
    let jobs: Vec<Value> = list
        .lines
        .iter()
        .map(|line| job_json::job(line, list.jobs.get(&line.job), &list.cluster, people))
        .collect();
    job_json::document("show job", json!({ "jobs": jobs }))
}

/// No value may hold a blank: programs take records apart at blanks.
fn or_null(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("(null)").to_owned()
}

fn head(line: &TaskLine) -> String {
    let array = match &line.which {
        Which::Job => String::new(),
        _ => {
            let index = job::index_text(line, None, job::INDICES_MAX).unwrap_or_default();
            let index = index.split('%').next().unwrap_or_default();
            let throttle =
                line.running_max.map(|most| format!("ArrayTaskThrottle={most} ")).unwrap_or_default();
            format!("ArrayJobId={} ArrayTaskId={index} {throttle}", line.job)
        }
    };
    format!("JobId={} {array}JobName={}", job::number(line, None), line.name)
}

/// The record of a line, in groups.
fn groups(shown: &Shown<'_>, facts: &Facts<'_>, people: &People) -> Vec<String> {
    let (line, job) = (facts.line, facts.job);
    let (uid, gid) = (line.uid, job.map_or(0, |job| job.gid));
    let mut groups = vec![
        head(line),
        format!("UserId={}({uid}) GroupId={}({gid}) MCS_label=N/A", line.user, people.group(gid)),
        format!(
            "Priority={} Nice={} Account={} QOS={}{}",
            job::priority(line),
            facts.nice(),
            or_null(line.account.as_deref()),
            or_null(line.qos.as_deref()),
            Some(facts.wckey())
                .filter(|key| key != "(null)")
                .map(|key| format!(" WCKey={key}"))
                .unwrap_or_default(),
        ),
        format!(
            "JobState={} Reason={} Dependency={}",
            state::of(line.state).long,
            state::reason(line),
            facts.dependency()
        ),
        {
            let (code, signal) = state::exit(line);
            format!(
                "Requeue={} Restarts={} BatchFlag=1 Reboot=0 ExitCode={code}:{signal}",
                u8::from(job.is_some_and(|job| job.requeue)),
                line.restarts
            )
        },
    ];
    groups.extend(times(shown, facts));
    groups.extend(place(shown, facts));
    groups.extend(files(facts));
    groups
}

/// The groups about time.
fn times(shown: &Shown<'_>, facts: &Facts<'_>) -> Vec<String> {
    let (line, times) = (facts.line, &shown.times);
    let is_held = line.reason_code.starts_with("held_by_") || line.reason_code.starts_with("dependency");
    let eligible = times.instant((!is_held).then(|| job::eligible_us(line)), "Unknown");
    let run = elapsed_s(line.started_at_us, line.finished_at_us, times.now_us);
    let min = facts.job.and_then(|job| job.eligibility.time_min_s);
    vec![
        format!(
            "RunTime={} TimeLimit={} TimeMin={}",
            long_span(u64::try_from(run).unwrap_or(0)),
            line.time_limit_s.map_or_else(|| "UNLIMITED".to_owned(), long_span),
            min.map_or_else(|| "N/A".to_owned(), long_span),
        ),
        format!(
            "SubmitTime={} EligibleTime={eligible}",
            times.instant(Some(line.submitted_at_us), "Unknown")
        ),
        format!("AccrueTime={eligible}"),
        format!(
            "StartTime={} EndTime={} Deadline={}",
            times.instant(job::start_us(line), "Unknown"),
            times.instant(job::end_us(line), "Unknown"),
            times.instant(facts.deadline_us(), "N/A"),
        ),
        format!(
            "SuspendTime=None SecsPreSuspend=0 LastSchedEval={} Scheduler=Backfill",
            times.instant(line.started_at_us, "Unknown")
        ),
    ]
}

/// The groups about where it runs and what it holds.
fn place(shown: &Shown<'_>, facts: &Facts<'_>) -> Vec<String> {
    let (line, request) = (facts.line, facts.request());
    let per_rank = request.map_or(1, |request| request.cores_per_rank);
    let per_node = request.and_then(|request| request.ranks_per_node).unwrap_or(0);
    let host = facts.job.map(|job| job.submit_host.as_str()).filter(|host| !host.is_empty()).unwrap_or("N/A");
    let (memory, per_core) = facts.memory_asked_bytes();
    let mut groups = vec![
        format!("Partition={} AllocNode:Sid={host}:0", line.pool),
        format!(
            "ReqNodeList={} ExcNodeList={}",
            or_null(Some(&facts.nodes_wanted())),
            or_null(Some(&facts.excluded()))
        ),
        // Slurm has nothing after the sign here for a job that has not run.
        format!("NodeList={}", line.node_list),
    ];
    if facts.has_run() {
        groups.push(format!("BatchHost={}", line.primary));
    }
    groups.extend([
        format!(
            "NumNodes={} NumCPUs={} NumTasks={} CPUs/Task={per_rank} ReqB:S:C:T=0:0:*:{}",
            line.nodes,
            line.cores,
            line.ranks,
            facts.threads()
        ),
        format!("ReqTRES={}", facts.tres_asked()),
        format!("AllocTRES={}", if facts.has_run() { facts.tres_held() } else { "(null)".to_owned() }),
        format!("Socks/Node=* NtasksPerN:B:S:C={per_node}:0:*:* CoreSpec=*"),
    ]);
    if shown.how.details && facts.has_run() {
        groups.extend(shares(facts));
    }
    groups.extend([
        format!(
            "MinCPUsNode={} {}={} MinTmpDiskNode=0",
            facts.cores_per_node_min(),
            if per_core { "MinMemoryCPU" } else { "MinMemoryNode" },
            units::memory(memory, true)
        ),
        format!("Features={} DelayBoot=00:00:00", facts.features()),
        format!(
            "OverSubscribe={} Contiguous={} Licenses={} Network=(null)",
            facts.over_subscribe(),
            u8::from(request.is_some_and(|request| request.contiguous)),
            facts.licenses()
        ),
    ]);
    if let Some(name) = &line.reservation {
        groups.push(format!("Reservation={name}"));
    }
    groups
}

/// What `--details` adds: exactly what it holds on each node.
fn shares(facts: &Facts<'_>) -> Vec<String> {
    let shares = facts.line.task.as_ref().map(|task| task.shares.as_slice()).unwrap_or_default();
    let mut groups = vec!["JOB_GRES=(null)".to_owned()];
    groups.extend(shares.iter().map(|share| {
        format!(
            "  Nodes={} CPU_IDs={} Mem={} GRES={}",
            share.node,
            share.cores,
            share.memory_bytes >> 20,
            share.gres.join(",")
        )
    }));
    groups
}

/// The groups about files.
fn files(facts: &Facts<'_>) -> Vec<String> {
    let directory = facts.job.map(|job: &JobDetail| job.working_directory.as_str());
    let mut groups = vec![format!("Command={}", facts.command()), format!("WorkDir={}", or_null(directory))];
    let comment = facts.comment();
    if comment != "(null)" {
        groups.push(format!("Comment={comment}"));
    }
    groups.extend([
        format!("StdErr={}", facts.stderr()),
        format!("StdIn={}", facts.stdin()),
        format!("StdOut={}", facts.stdout()),
    ]);
    let per_node = facts.tres_per_node();
    if per_node != "N/A" {
        groups.push(format!("TresPerNode={per_node}"));
    }
    if let Some((user, events)) = facts.mail() {
        groups.push(format!("MailUser={user} MailType={events}"));
    }
    groups
}
