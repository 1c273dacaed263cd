//! The keys of slurm.conf that stand alone.

use muster_core::notation::{format_time_s, parse_time_s};

use super::Output;
use super::conf::Line;

/// Keys that mean nothing here: how Slurm's own daemons find each other, log, and keep their state.
const OF_SLURMS_OWN: &[&str] = &[
    "accountingstoragebackuphost",
    "accountingstoragehost",
    "accountingstoragepass",
    "accountingstorageport",
    "accountingstoragetype",
    "accountingstorageuser",
    "accountingstoragetres",
    "accountingstoreflags",
    "authinfo",
    "authtype",
    "authalttypes",
    "authaltparameters",
    "communicationparameters",
    "credtype",
    "cryptotype",
    "debugflags",
    "gpufreqdef",
    "grestypes",
    "jobacctgathertype",
    "jobacctgatherfrequency",
    "jobacctgatherparams",
    "jobcomptype",
    "jobcomploc",
    "launchtype",
    "launchparameters",
    "logtimeformat",
    "messagetimeout",
    "mpidefault",
    "mpiparams",
    "plugindir",
    "plugstackconfig",
    "proctracktype",
    "propagateresourcelimits",
    "propagateresourcelimitsexcept",
    "returntoservice",
    "schedulertimeslice",
    "selecttype",
    "slurmctlddebug",
    "slurmctldlogfile",
    "slurmctldpidfile",
    "slurmctldtimeout",
    "slurmctldparameters",
    "slurmddebug",
    "slurmdlogfile",
    "slurmdpidfile",
    "slurmdport",
    "slurmdparameters",
    "slurmdspooldir",
    "slurmduser",
    "slurmuser",
    "slurmschedlogfile",
    "slurmschedloglevel",
    "srunportrange",
    "statesavelocation",
    "switchtype",
    "taskplugin",
    "taskpluginparam",
    "tcptimeout",
    "tmpfs",
    "treewidth",
    "topologyparam",
    "acctgathernodefreq",
    "batchstarttimeout",
    "cachegroups",
    "checkpointtype",
    "corespecplugin",
    "disablerootjobs",
    "enforcepartlimits",
    "fastschedule",
    "firstjobid",
    "getenvtimeout",
    "inactivelimit",
    "jobfileappend",
    "keepalivetime",
    "maxstepcount",
    "minjobage",
    "mcsplugin",
    "nodefeaturesplugins",
    "preemptmode",
    "preempttype",
    "priorityflags",
    "prioritytype",
    "prioritycalcperiod",
    "priorityusageresetperiod",
    "rebootprogram",
    "resumeprogram",
    "resumetimeout",
    "rosettatype",
    "routeplugin",
    "clustername",
    "slurmctldhost",
    "controlmachine",
    "controladdr",
    "backupcontroller",
    "backupaddr",
    "slurmctldport",
    "topologyplugin",
    "schedulertype",
    "unkillablesteptimeout",
    "waittime",
    "x11parameters",
    "vsizefactor",
];

/// What takes the place of a key that has no equivalent, where something does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("prolog", "no program runs before a job; [health] has a check of nodes"),
    ("epilog", "no program runs after a job; what a job leaves running is killed"),
    ("taskprolog", "put it into the job scripts"),
    ("taskepilog", "put it into the job scripts"),
    ("srunprolog", "put it into the job scripts"),
    ("srunepilog", "put it into the job scripts"),
    ("prologslurmctld", "no program runs before a job"),
    ("epilogslurmctld", "no program runs after a job"),
    ("prologflags", "no program runs before a job"),
    ("licenses", "its parts that are no NAME:COUNT have no equivalent: declare [[license]] sections"),
    ("jobsubmitplugins", "jobs are checked by the configuration alone"),
    ("overtimelimit", "a time limit is a limit"),
    ("suspendtime", "nodes are not switched off"),
    ("suspendprogram", "nodes are not switched off"),
    ("accountingstorageenforce", "declare [[account]] sections: where there are any, every job charges one"),
    ("federationparameters", "clusters stand alone"),
    ("burstbuffertype", "there are no burst buffers"),
    ("defmempernode", "say memory_per_core of each pool"),
    ("maxmempernode", "a job may have all memory of a node"),
    ("maxmempercpu", "a job may have all memory of a node"),
];

/// The lines of `[controller]`, `[policy]`, `[priority]` and `[health]` that follow from the keys, and what does not.
pub(super) fn add(lines: &[Line], out: &mut Output) {
    let find = |key: &str| lines.iter().rev().find_map(|line| Some((line, line.get(key)?)));
    let number = |key: &str| find(key).and_then(|(_, value)| value.parse::<u64>().ok());
    if let Some((_, port)) = find("SlurmctldPort") {
        out.controller.push(format!("listen = \"0.0.0.0:{}\"", port.split('-').next().unwrap_or(port)));
    }
    if let Some((_, program)) = find("MailProg").filter(|(_, program)| program.starts_with('/')) {
        out.controller.push(format!("mail_program = {program:?}"));
    }
    if let Some(timeout_s) = number("SlurmdTimeout").filter(|timeout_s| (1..=3600).contains(timeout_s)) {
        out.controller.push(format!("node_timeout_s = {timeout_s}"));
    }
    if find("DisableRootJobs").is_none_or(|(_, value)| !value.eq_ignore_ascii_case("yes")) {
        out.policy.push("root_may_submit = true".to_owned());
    }
    if let Some(wait_s) = number("KillWait").filter(|wait_s| (1..=600).contains(wait_s)) {
        out.policy.push(format!("kill_grace_ms = {}", wait_s * 1000));
    }
    if let Some(count) = number("MaxJobCount").filter(|count| *count > 0) {
        out.policy.push(format!("tasks_waiting_max = {count}"));
    }
    health(lines, out);
    priority(lines, out);
    let are_licenses_taken = find("Licenses").is_none_or(|(_, value)| licenses(value, out));
    for line in lines.iter().filter(|line| !matches!(line.kind().as_str(), "nodename" | "partitionname")) {
        for (key, value) in &line.words {
            if are_licenses_taken && key.eq_ignore_ascii_case("Licenses") {
                continue;
            }
            unmatched(line, key, value, out);
        }
    }
}

/// The sections of licences, and whether all of them were understood.
fn licenses(value: &str, out: &mut Output) -> bool {
    let mut all = true;
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, count) = word.split_once(':').unwrap_or((word, "1"));
        match count.parse::<u32>() {
            Ok(count) if muster_core::notation::is_host_name(name) => {
                out.licenses.push(format!("[[license]]\nname = {name:?}\ncount = {count}\n"));
            }
            _ => all = false,
        }
    }
    all
}

fn health(lines: &[Line], out: &mut Output) {
    let find = |key: &str| lines.iter().rev().find_map(|line| line.get(key));
    let Some(program) = find("HealthCheckProgram").filter(|program| program.starts_with('/')) else { return };
    out.health.push(format!("program = {program:?}"));
    if let Some(interval_s) = find("HealthCheckInterval").and_then(|text| text.parse::<u64>().ok())
        && interval_s > 0
    {
        out.health.push(format!("interval_s = {interval_s}"));
    }
}

/// Slurm's weights with the keys that mean the same.
const WEIGHTS: [(&str, &str); 6] = [
    ("PriorityWeightAge", "age_weight"),
    ("PriorityWeightJobSize", "size_weight"),
    ("PriorityWeightFairshare", "fair_share_weight"),
    ("PriorityWeightPartition", "pool_weight"),
    ("PriorityWeightQOS", "qos_weight"),
    ("PriorityWeightAssoc", "job_weight"),
];

fn priority(lines: &[Line], out: &mut Output) {
    let find = |key: &str| lines.iter().rev().find_map(|line| line.get(key));
    out.multifactor =
        find("PriorityType").is_some_and(|value| value.to_ascii_lowercase().ends_with("multifactor"));
    out.backfills =
        !find("SchedulerType").is_some_and(|value| value.to_ascii_lowercase().ends_with("builtin"));
    for (key, ours) in WEIGHTS {
        if let Some(weight) =
            find(key).and_then(|text| text.parse::<u64>().ok()).filter(|_| ours != "job_weight")
        {
            out.priority.push(format!("{ours} = {}", weight.min(1_000_000_000)));
        }
    }
    for (key, ours) in [("PriorityMaxAge", "age_max"), ("PriorityDecayHalfLife", "half_life")] {
        if let Some(time_s) = find(key).and_then(|text| parse_time_s(text).ok()) {
            out.priority.push(format!("{ours} = \"{}\"", format_time_s(time_s)));
        }
    }
    if find("PriorityFavorSmall").is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
        out.priority.push("small_first = true".to_owned());
    }
}

/// Says what becomes of a key that was not taken over.
fn unmatched(line: &Line, key: &str, value: &str, out: &mut Output) {
    let lower = key.to_ascii_lowercase();
    let taken =
        ["mailprog", "slurmdtimeout", "killwait", "maxjobcount", "healthcheckprogram", "healthcheckinterval"];
    let taken = taken.contains(&lower.as_str())
        || WEIGHTS.iter().any(|(weight, ours)| weight.eq_ignore_ascii_case(key) && *ours != "job_weight")
        || ["prioritymaxage", "prioritydecayhalflife", "priorityfavorsmall"].contains(&lower.as_str());
    if taken || OF_SLURMS_OWN.contains(&lower.as_str()) {
        return;
    }
    let why =
        ELSEWHERE.iter().find(|(known, _)| *known == lower).map_or("it has no equivalent", |(_, why)| why);
    out.notes.push(format!("{}: {key}={value}: {why}", line.place));
}
