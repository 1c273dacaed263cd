//! `scontrol update`: of jobs and of nodes.

use std::process::ExitCode;

use jiff::Zoned;
use muster_client::api::{JobUpdate, NodesRequest};
use muster_client::{Client, ClientError};
use muster_core::ids::JobRef;
use muster_core::notation::{parse_hosts, parse_size_bytes, parse_time_s};
use muster_core::spec::{Memory, Request};
use muster_core::state::PoolState;

use super::change::{job_refs, whole};
use crate::out::tell;
use crate::slurm::connect::connect;
use crate::slurm::fault::Fault;
use crate::slurm::refusal;
use crate::submit::{Origin, Said, read_instant};

/// A word `Key=value`, `Key+=value` or `Key-=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting<'a> {
    /// In lower case.
    key: String,
    how: How,
    value: &'a str,
    /// As it was written.
    word: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Set,
    Add,
    Take,
}

fn setting(word: &str) -> Result<Setting<'_>, Fault> {
    let Some((key, value)) = word.split_once('=') else { return Err(unsupported(word)) };
    let (key, how) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
        (Some(key), _) => (key, How::Add),
        (_, Some(key)) => (key, How::Take),
        _ => (key, How::Set),
    };
    Ok(Setting { key: key.to_ascii_lowercase(), how, value, word })
}

fn unsupported(word: &str) -> Fault {
    Fault::Said(format!("Update of this parameter is not supported: {word}\nRequest aborted"))
}

fn invalid(setting: &Setting<'_>) -> Fault {
    Fault::Said(format!("Invalid input: {}\nRequest aborted", setting.word))
}

/// What is updated, by the keys that name it.
pub(super) fn run(words: &[String]) -> Result<ExitCode, Fault> {
    let settings: Vec<Setting<'_>> = words.iter().map(|word| setting(word)).collect::<Result<_, _>>()?;
    let named = |keys: &[&str]| settings.iter().find(|setting| keys.contains(&setting.key.as_str()));
    if let Some(target) = named(&["jobid", "job"]) {
        return jobs(target, &settings);
    }
    if let Some(nodes) = named(&["nodename", "node"]) {
        return node(nodes.value, &settings);
    }
    if let Some(pool) = named(&["partitionname", "partition"]) {
        return partition(pool.value, &settings);
    }
    Err(Fault::Said(match named(&["reservationname", "reservation", "stepid", "step"]) {
        Some(other) => format!(
            "scontrol: an update of {} is not supported: reservations are deleted and made again",
            other.word
        ),
        None => {
            "No valid entity in update command\nInput line must include \"NodeName\", \"JobId\" or \"StepId\""
                .to_owned()
        }
    }))
}

/// What a pool does is all that is changed of it here.
fn partition(pool: &str, settings: &[Setting<'_>]) -> Result<ExitCode, Fault> {
    const DOING: &str = "slurm_update error";
    let mut wanted = None;
    for setting in settings.iter().filter(|setting| !setting.key.starts_with("partition")) {
        if setting.key != "state" || setting.how != How::Set {
            return Err(Fault::Said(format!(
                "scontrol: an update of a partition's {} is not supported: pools are changed in muster.toml",
                setting.word
            )));
        }
        let is = |state: &PoolState| state.word().eq_ignore_ascii_case(setting.value);
        let found = PoolState::ALL.into_iter().find(is);
        wanted = Some(found.ok_or_else(|| {
            Fault::Said(format!(
                "Invalid input: {}\nRequest aborted\nAcceptable State values are \"UP\", \"DOWN\", \"DRAIN\" and \"INACTIVE\"",
                setting.word
            ))
        })?);
    }
    let wanted = wanted.ok_or_else(|| Fault::Said("No changes specified".to_owned()))?;
    connect(DOING)?.set_pool_state(pool, wanted).map_err(Fault::client(DOING))?;
    Ok(ExitCode::SUCCESS)
}

fn jobs(target: &Setting<'_>, settings: &[Setting<'_>]) -> Result<ExitCode, Fault> {
    let targets = job_refs(&[target.value.to_owned()])?;
    let changes: Vec<&Setting<'_>> = settings.iter().filter(|other| other.key != target.key).collect();
    if changes.is_empty() {
        return Err(Fault::Said("No changes specified".to_owned()));
    }
    let mut client = connect("slurm_update_job error")?;
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        match job(&mut client, target, &changes) {
            Ok(()) => {}
            Err(Fault::Client { source: source @ ClientError::Refused { .. }, .. }) => {
                tell(&format!("{} for job {target}", refusal::text(&source)));
                if let ClientError::Refused { body, .. } = &source
                    && body.code != "unknown_job"
                {
                    tell(&body.message);
                }
                code = ExitCode::FAILURE;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(code)
}

fn job(client: &mut Client, target: JobRef, changes: &[&Setting<'_>]) -> Result<(), Fault> {
    const DOING: &str = "slurm_update_job error";
    let id = whole(target)?;
    let needs_detail = |setting: &&&Setting<'_>| setting.how != How::Set || is_of_request(&setting.key);
    let detail = match changes.iter().any(|setting| needs_detail(&setting)) {
        true => Some(client.job(target).map_err(Fault::client(DOING))?),
        false => None,
    };
    let mut update = JobUpdate::default();
    let mut request = detail.as_ref().map(|detail| detail.request.clone());
    for setting in changes {
        match &mut request {
            Some(request) if is_of_request(&setting.key) => change_request(request, setting)?,
            _ => {
                let before_s = detail.as_ref().and_then(|detail| detail.summary.time_limit_s);
                change_job(&mut update, setting, before_s)?;
            }
        }
    }
    update.request = request.filter(|request| detail.is_none_or(|detail| detail.request != *request));
    client.update_job(id, &update).map_err(Fault::client(DOING))
}

/// Changes what is no part of the request.
fn change_job(
    update: &mut JobUpdate,
    setting: &Setting<'_>,
    limit_before_s: Option<u64>,
) -> Result<(), Fault> {
    let text = || Some(setting.value.to_owned());
    let wrong = || invalid(setting);
    match setting.key.as_str() {
        "name" | "jobname" => update.name = text(),
        "timelimit" => update.time_limit_s = Some(time_limit(setting, limit_before_s)?),
        "priority" => update.priority = Some(setting.value.parse().map_err(|_| wrong())?),
        "nice" if setting.value.is_empty() => update.nice = Some(100),
        "nice" => update.nice = Some(setting.value.parse().map_err(|_| wrong())?),
        "comment" => update.comment = text(),
        "partition" => update.pool = text(),
        "account" => update.account = text(),
        "qos" => update.qos = text(),
        "reservationname" | "reservation" => update.reservation = text(),
        "dependency" => update.dependency = text(),
        "requeue" => update.requeue = Some(flag(setting)?),
        "arraytaskthrottle" => update.running_max = Some(setting.value.parse().map_err(|_| wrong())?),
        "starttime" | "eligibletime" => update.begin_us = Some(instant(setting)?),
        _ => return Err(unsupported(setting.word)),
    }
    Ok(())
}

fn instant(setting: &Setting<'_>) -> Result<u64, Fault> {
    let origin = Origin::CommandLine { option: "StartTime".to_owned() };
    let said = Said { value: setting.value.to_owned(), origin };
    read_instant(&said, &Zoned::now()).map(|at| at.0).map_err(|_| invalid(setting))
}

fn flag(setting: &Setting<'_>) -> Result<bool, Fault> {
    match setting.value.to_ascii_lowercase().as_str() {
        "1" | "yes" => Ok(true),
        "0" | "no" => Ok(false),
        _ => Err(invalid(setting)),
    }
}

fn time_limit(setting: &Setting<'_>, before_s: Option<u64>) -> Result<u64, Fault> {
    let seconds = parse_time_s(setting.value).map_err(|error| {
        Fault::Said(format!("Invalid TimeLimit value\nRequest aborted\nscontrol: {error}"))
    })?;
    let before_s = before_s.unwrap_or(0);
    Ok(match setting.how {
        How::Set => seconds,
        How::Add => before_s.saturating_add(seconds),
        How::Take => before_s.saturating_sub(seconds),
    })
}

fn is_of_request(key: &str) -> bool {
    matches!(
        key,
        "numnodes"
            | "reqnodes"
            | "minnodes"
            | "numtasks"
            | "reqprocs"
            | "cpuspertask"
            | "features"
            | "reqnodelist"
            | "nodelist"
            | "excnodelist"
            | "minmemorynode"
            | "minmemorycpu"
            | "contiguous"
    )
}

fn change_request(request: &mut Request, setting: &Setting<'_>) -> Result<(), Fault> {
    let wrong = || invalid(setting);
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(wrong);
    match setting.key.as_str() {
        "numnodes" | "reqnodes" | "minnodes" => {
            let (least, most) = match setting.value.split_once('-') {
                Some((least, most)) => (number(least)?, Some(number(most)?)),
                None => (number(setting.value)?, None),
            };
            request.nodes = Some(least);
            request.nodes_max = most.filter(|most| *most > least);
            match request.ranks_per_node {
                Some(per_node) => request.ranks = per_node.saturating_mul(least),
                None => request.ranks = request.ranks.max(least),
            }
        }
        "numtasks" | "reqprocs" => request.ranks = number(setting.value)?,
        "cpuspertask" => request.cores_per_rank = number(setting.value)?,
        "features" if setting.value.is_empty() => request.constraint = None,
        "features" => request.constraint = Some(setting.value.parse().map_err(|_| wrong())?),
        "reqnodelist" | "nodelist" => request.nodelist = hosts(setting)?,
        "excnodelist" => request.exclude = hosts(setting)?,
        "minmemorynode" => request.memory = Memory::PerNodeBytes(size(setting)?),
        "minmemorycpu" => request.memory = Memory::PerCoreBytes(size(setting)?),
        _ => request.contiguous = flag(setting)?,
    }
    Ok(())
}

fn hosts(setting: &Setting<'_>) -> Result<std::collections::BTreeSet<String>, Fault> {
    match setting.value {
        "" => Ok(Default::default()),
        list => Ok(parse_hosts(list).map_err(|_| invalid(setting))?.into_iter().collect()),
    }
}

fn size(setting: &Setting<'_>) -> Result<u64, Fault> {
    parse_size_bytes(setting.value).map_err(|_| invalid(setting))
}

/// Nodes are drained, taken down, or let go on.
fn node(nodes: &str, settings: &[Setting<'_>]) -> Result<ExitCode, Fault> {
    const DOING: &str = "slurm_update error";
    let (mut state, mut reason) = (None, None);
    for setting in settings {
        match setting.key.as_str() {
            "nodename" | "node" => {}
            "state" => state = Some(setting),
            "reason" => reason = Some(setting.value),
            _ => return Err(unsupported(setting.word)),
        }
    }
    let Some(state) = state else {
        return Err(Fault::Said("No changes specified".to_owned()));
    };
    let word = state.value.to_ascii_uppercase();
    let is_resume = matches!(word.as_str(), "RESUME" | "IDLE" | "UNDRAIN");
    if !is_resume && !matches!(word.as_str(), "DRAIN" | "DOWN" | "FAIL") {
        return Err(Fault::Said(format!(
            "Invalid input: {}\nRequest aborted\nValid states are: DRAIN DOWN FAIL RESUME IDLE UNDRAIN",
            state.word
        )));
    }
    let reason = reason.map(|reason| reason.trim_matches(['\'', '"'])).filter(|reason| !reason.is_empty());
    let nodes = nodes.to_owned();
    let mut client = connect(DOING)?;
    let done = match reason {
        _ if is_resume => client.resume_nodes(&nodes),
        None => {
            let text = "You must specify a reason when DOWNING or DRAINING a node. Request denied";
            return Err(Fault::Said(text.to_owned()));
        }
        Some(reason) => {
            let request = NodesRequest { nodes, reason: reason.to_owned(), for_s: None };
            if word == "DOWN" { client.down_nodes(&request) } else { client.drain_nodes(&request) }
        }
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(source @ ClientError::Refused { .. }) => {
            Err(Fault::Said(format!("{DOING}: {}\n{source}", refusal::text(&source))))
        }
        Err(source) => Err(Fault::Client { doing: DOING, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(words: &[&str]) -> Result<(JobUpdate, Request), String> {
        let (mut update, mut request) = (JobUpdate::default(), Request::default());
        for word in words {
            let setting = setting(word).map_err(|fault| fault.to_string())?;
            let done = match is_of_request(&setting.key) {
                true => change_request(&mut request, &setting),
                false => change_job(&mut update, &setting, Some(600)),
            };
            done.map_err(|fault| fault.to_string())?;
        }
        Ok((update, request))
    }

    #[test]
    fn keys_are_read_in_any_case() {
        let (update, _) =
            changed(&["TimeLimit=1:00:00", "JobName=x", "nice=5", "ARRAYTASKTHROTTLE=0"]).unwrap();
        assert_eq!((update.time_limit_s, update.nice, update.running_max), (Some(3600), Some(5), Some(0)));
        assert_eq!(update.name.as_deref(), Some("x"));
        let (update, request) =
            changed(&["timelimit+=5", "NumNodes=2-4", "MinMemoryNode=500", "ExcNodeList=n[1-2]"]).unwrap();
        assert_eq!(update.time_limit_s, Some(900));
        assert_eq!((request.nodes, request.nodes_max, request.ranks), (Some(2), Some(4), 2));
        assert_eq!(request.memory, Memory::PerNodeBytes(500 << 20));
        assert_eq!(request.exclude.len(), 2);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let said = |word: &str| changed(&[word]).unwrap_err();
        assert_eq!(said("bogus=1"), "Update of this parameter is not supported: bogus=1\nRequest aborted");
        assert_eq!(said("bogus"), "Update of this parameter is not supported: bogus\nRequest aborted");
        assert!(said("requeue=perhaps").starts_with("Invalid input: requeue=perhaps"));
        assert!(said("timelimit=soon").starts_with("Invalid TimeLimit value"));
    }
}
