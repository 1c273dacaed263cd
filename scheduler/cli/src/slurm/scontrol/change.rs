//! The half of scontrol that changes something: jobs, and nodes.

use std::process::ExitCode;

use muster_client::{Client, ClientError};
use muster_core::ids::{JobId, JobRef, TaskIndex};
use muster_core::on::{On, Tasks};

use super::{reserve, update};
use crate::out::tell;
use crate::slurm::connect::connect;
use crate::slurm::fault::Fault;
use crate::slurm::refusal;

/// What becomes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Hold,
    Release,
    Requeue { hold: bool },
}

/// Carries a keyword out; none if it is none of those that change something.
pub(super) fn run(keyword: &str, words: &[String]) -> Option<Result<ExitCode, Fault>> {
    let lower = keyword.to_ascii_lowercase();
    Some(match lower.as_str() {
        "hold" | "holdu" | "uhold" => jobs(words, Deed::Hold),
        "release" => jobs(words, Deed::Release),
        "requeue" => jobs(words, Deed::Requeue { hold: false }),
        "requeuehold" => requeue_hold(words),
        "update" => update::run(words),
        "create" => reserve::create(words),
        "delete" => reserve::delete(words),
        _ => return refused(&lower).map(|why| Err(Fault::Said(why))),
    })
}

/// Keywords of Slurm's that nothing here does, with what to do instead.
fn refused(keyword: &str) -> Option<String> {
    let why = match keyword {
        "suspend" | "resume" => {
            "what is suspended would keep its cores, memory and devices: hold jobs, or put them back with scontrol requeue"
        }
        "reconfigure" => "send SIGHUP to musterd, or restart it: what runs goes on",
        "shutdown" | "takeover" => "stop musterd by its service: what runs goes on",
        "setdebug" | "setdebugflags" | "schedloglevel" => {
            "what musterd logs is set by MUSTER_LOG in its environment"
        }
        "reboot" | "reboot_nodes" | "cancel_reboot" => "nodes are rebooted by the site: drain them first",
        "top" => "scontrol update JobId=JOB Nice=N lowers others of your jobs",
        "notify" | "checkpoint" | "errnumstr" | "fsdampeningfactor" | "token" | "power" => {
            "there is no such thing here"
        }
        _ => return None,
    };
    Some(format!("scontrol: {keyword} is not supported: {why}"))
}

/// The parts of a list; commas in brackets are of the part.
fn split_outside_brackets(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    list.split(move |c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

/// Job ids, in as many words and lists as there are; several tasks of an array are written `12_[1-5,8]`.
pub(super) fn job_refs(words: &[String]) -> Result<Vec<JobRef>, Fault> {
    let mut refs = Vec::new();
    for word in words.iter().flat_map(|word| split_outside_brackets(word)).filter(|word| !word.is_empty()) {
        let text = word.strip_prefix("JobId=").or_else(|| word.strip_prefix("jobid=")).unwrap_or(word);
        let bad = |_| Fault::Said(format!("Invalid job id specified for job {word}"));
        let On { job, tasks } = text.parse::<On>().map_err(bad)?;
        match tasks {
            Tasks::All => refs.push(JobRef { job, task: None }),
            Tasks::One(index) => refs.push(JobRef { job, task: Some(index) }),
            Tasks::Ranges(ranges) => {
                let indices = ranges.iter().flat_map(|range| range.indices());
                refs.extend(indices.map(|index| JobRef { job, task: Some(TaskIndex(index)) }));
            }
        }
    }
    if refs.is_empty() {
        return Err(Fault::Said("too few arguments for this keyword".to_owned()));
    }
    Ok(refs)
}

fn requeue_hold(words: &[String]) -> Result<ExitCode, Fault> {
    let is_state = |word: &&String| !word.to_ascii_lowercase().starts_with("state=");
    let words: Vec<String> = words.iter().filter(is_state).cloned().collect();
    jobs(&words, Deed::Requeue { hold: true })
}

fn jobs(words: &[String], deed: Deed) -> Result<ExitCode, Fault> {
    let targets = job_refs(words)?;
    if let Deed::Requeue { .. } = deed {
        crate::outlive_sigterm();
    }
    let mut client = connect("slurm_update_job error")?;
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        let Err(error) = act(&mut client, target, deed) else { continue };
        code = ExitCode::FAILURE;
        let ClientError::Refused { body, .. } = &error else {
            return Err(Fault::Client { doing: "slurm_update_job error", source: error });
        };
        let text = refusal::text(&error);
        tell(&format!("{text} for job {target}"));
        if matches!(deed, Deed::Hold | Deed::Release) {
            tell(&format!("slurm_suspend error: {text}"));
        }
        if body.code != "unknown_job" {
            tell(&body.message);
        }
    }
    Ok(code)
}

fn act(client: &mut Client, target: JobRef, deed: Deed) -> Result<(), ClientError> {
    match deed {
        Deed::Hold => client.hold_job(target),
        Deed::Release => client.release_job(target),
        Deed::Requeue { hold } => client.requeue(target, hold).map(drop),
    }
}

/// The job of a target that must be whole.
pub(super) fn whole(target: JobRef) -> Result<JobId, Fault> {
    match target.task {
        None => Ok(target.job),
        Some(_) => Err(Fault::Said(format!(
            "Requested operation not supported for job {target}\nscontrol: only whole jobs are changed: name job {}",
            target.job
        ))),
    }
}
