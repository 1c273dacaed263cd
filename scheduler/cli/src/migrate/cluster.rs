//! The nodes and partitions of slurm.conf, and gres.conf, as nodes and pools.

use muster_core::gres;
use muster_core::notation::{format_time_s, parse_time_s};

use super::Output;
use super::conf::Line;

/// The longest time limit that there is: what has none in Slurm gets this.
const TIME_MAX_S: u64 = 365 * 86_400;

/// A line with the values of the `DEFAULT` lines before it under its own.
struct Defaults<'a> {
    own: &'a Line,
    before: Vec<&'a Line>,
}

impl<'a> Defaults<'a> {
    /// The lines of a kind that name something, each with what it inherits.
    fn of(lines: &'a [Line], kind: &str) -> Vec<Self> {
        let mut before = Vec::new();
        let mut all = Vec::new();
        for line in lines.iter().filter(|line| line.kind() == kind) {
            if line.get(kind).is_some_and(|name| name.eq_ignore_ascii_case("DEFAULT")) {
                before.push(line);
            } else {
                all.push(Self { own: line, before: before.clone() });
            }
        }
        all
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.own.get(key).or_else(|| self.before.iter().rev().find_map(|line| line.get(key)))
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
}

/// Adds a `[[node]]` for each line.
pub(super) fn nodes(lines: &[Line], out: &mut Output) {
    for line in Defaults::of(lines, "nodename") {
        let name = line.get("NodeName").unwrap_or_default();
        let state = line.get("State").unwrap_or_default().to_ascii_uppercase();
        if matches!(state.as_str(), "FUTURE" | "CLOUD") {
            out.notes.push(format!(
                "{}: NodeName={name} State={state}: nodes are there or not; it is left out",
                line.own.place
            ));
            continue;
        }
        let mut text = format!("[[node]]\nname = {name:?}\n");
        if let Some(address) = line.get("NodeAddr").filter(|address| *address != name) {
            text += &format!("address = {address:?}\n");
        }
        text += &format!("cores = {}\n", cores(&line));
        text += &memory(&line, name, out);
        let threads = line.number("ThreadsPerCore").filter(|threads| (2..=16).contains(threads));
        text += &threads.map(|threads| format!("threads_per_core = {threads}\n")).unwrap_or_default();
        let features = line.get("Features").or(line.get("Feature"));
        if let Some(features) = features.filter(|features| !features.is_empty()) {
            let list: Vec<String> = features.split(',').map(|feature| format!("{feature:?}")).collect();
            text += &format!("features = [{}]\n", list.join(", "));
        }
        text += &devices(&line, out);
        for key in ["Weight", "TmpDisk", "CoreSpecCount", "MemSpecLimit", "Port"] {
            if let Some(value) = line.get(key).filter(|value| !matches!(*value, "0" | "1")) {
                out.notes
                    .push(format!("{}: NodeName={name} {key}={value}: it has no equivalent", line.own.place));
            }
        }
        out.nodes.push(text);
        out.names.push(name.to_owned());
    }
}

/// Cores as sockets and cores say them, else CPUs, of which a core has as many as threads.
fn cores(line: &Defaults<'_>) -> u64 {
    let sockets = line.number("SocketsPerBoard").map(|sockets| sockets * line.number("Boards").unwrap_or(1));
    let sockets = sockets.or_else(|| line.number("Sockets"));
    if sockets.is_some() || line.get("CoresPerSocket").is_some() {
        return (sockets.unwrap_or(1) * line.number("CoresPerSocket").unwrap_or(1)).max(1);
    }
    let cpus = line.number("CPUs").or_else(|| line.number("Procs")).unwrap_or(1);
    (cpus / line.number("ThreadsPerCore").unwrap_or(1).max(1)).max(1)
}

fn memory(line: &Defaults<'_>, name: &str, out: &mut Output) -> String {
    match line.number("RealMemory").filter(|memory| *memory > 1) {
        Some(memory) => format!("memory = \"{memory}M\"\n"),
        None => {
            out.notes.push(format!(
                "{}: NodeName={name}: it has no RealMemory, and 1G is written: put in what tasks may use",
                line.own.place
            ));
            "memory = \"1G\"\n".to_owned()
        }
    }
}

/// `Gres=gpu:a100:4(S:0-1),shard:8` without what says where they are, which agents find themselves.
fn devices(line: &Defaults<'_>, out: &mut Output) -> String {
    let Some(text) = line.get("Gres").filter(|text| !matches!(*text, "" | "none" | "(null)")) else {
        return String::new();
    };
    let mut list = Vec::new();
    for part in text.split(',') {
        let plain = part.split('(').next().unwrap_or(part).replace(":no_consume", "");
        match plain.parse::<gres::Gres>() {
            Ok(gres) => list.push(format!("{:?}", gres.to_string())),
            // Commas within parentheses give pieces that are none.
            Err(_) if part.ends_with(')') => {}
            Err(error) => out.notes.push(format!("{}: Gres={part}: {error}", line.own.place)),
        }
    }
    if list.is_empty() { String::new() } else { format!("gres = [{}]\n", list.join(", ")) }
}

/// What the lines of gres.conf say beside the counts of slurm.conf.
pub(super) fn gres_conf(lines: &[Line], out: &mut Output) {
    for line in lines {
        for (key, value) in &line.words {
            match key.to_ascii_lowercase().as_str() {
                "name" | "nodename" | "type" | "file" | "count" | "autodetect" | "cores" | "cpus" => {}
                _ => out.notes.push(format!("{}: {key}={value}: it has no equivalent", line.place)),
            }
        }
    }
    if lines.iter().any(|line| line.get("Cores").is_some() || line.get("CPUs").is_some()) {
        out.notes.push(
            "gres.conf: where devices are attached is found by the agents; gres_numa of a [[node]] says otherwise".to_owned(),
        );
    }
}

/// Adds a `[[pool]]` for each partition.
pub(super) fn pools(lines: &[Line], out: &mut Output) {
    let partitions = Defaults::of(lines, "partitionname");
    let sets: Vec<&Line> = lines.iter().filter(|line| line.kind() == "nodeset").collect();
    for line in &partitions {
        let name = line.get("PartitionName").unwrap_or_default();
        let named = line.get("Nodes").unwrap_or("ALL");
        let nodes: Vec<String> = split_hosts(named)
            .into_iter()
            .map(|part| match sets.iter().find(|set| set.get("NodeSet") == Some(&part)) {
                Some(set) => set.get("Nodes").unwrap_or_default().to_owned(),
                None if part.eq_ignore_ascii_case("ALL") => out.names.join(","),
                None => part,
            })
            .filter(|part| !part.is_empty())
            .collect();
        let mut text = format!("[[pool]]\nname = {name:?}\nnodes = {:?}\n", nodes.join(","));
        if line.get("Default").is_some_and(|value| value.eq_ignore_ascii_case("YES")) {
            text += "default = true\n";
        }
        text += &times(line, name, out);
        if let Some(memory) = line.number("DefMemPerCPU").filter(|memory| *memory > 0) {
            text += &format!("memory_per_core = \"{memory}M\"\n");
        }
        text += &claims(line, name, out);
        if out.multifactor {
            text += "order = \"multifactor\"\n";
        }
        if !out.backfills {
            text += "backfill = \"none\"\n";
        }
        left_out(line, name, out);
        out.pools.push(text);
    }
}

/// Splits a list of hosts at commas outside brackets.
fn split_hosts(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    for c in list.chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        match (c, parts.last_mut()) {
            (',', _) if depth == 0 => parts.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    parts
}

fn times(line: &Defaults<'_>, name: &str, out: &mut Output) -> String {
    let time = |key: &str| {
        line.get(key).and_then(|text| parse_time_s(text).ok()).map(|time_s| time_s.min(TIME_MAX_S))
    };
    let longest_s = time("MaxTime").unwrap_or_else(|| {
        out.notes.push(format!(
            "{}: PartitionName={name}: it has no MaxTime, and every task has a limit here: 365 days is written",
            line.own.place
        ));
        TIME_MAX_S
    });
    // Who says no time gets the longest in Slurm.
    let usual_s = time("DefaultTime").unwrap_or(longest_s).min(longest_s);
    format!("max_time = \"{}\"\ndefault_time = \"{}\"\n", format_time_s(longest_s), format_time_s(usual_s))
}

/// Its claim on nodes that other pools have as well.
fn claims(line: &Defaults<'_>, name: &str, out: &mut Output) -> String {
    let mut text = String::new();
    if let Some(tier) = line.number("PriorityTier").filter(|tier| (2..=1000).contains(tier)) {
        text += &format!("tier = {tier}\n");
    }
    if let Some(factor) = line.number("PriorityJobFactor").filter(|factor| (2..=1_000_000).contains(factor)) {
        text += &format!("priority = {factor}\n");
    }
    match line.get("PreemptMode").unwrap_or("OFF").to_ascii_uppercase().as_str() {
        "OFF" => {}
        mode @ ("REQUEUE" | "CANCEL") => text += &format!("preempt = {:?}\n", mode.to_ascii_lowercase()),
        mode => out.notes.push(format!(
            "{}: PartitionName={name} PreemptMode={mode}: preempted tasks are put back (requeue) or ended (cancel)",
            line.own.place
        )),
    }
    if let Some(grace_s) = line.number("GraceTime").filter(|grace_s| (1..=86_400).contains(grace_s)) {
        text += &format!("grace = \"{}:{:02}\"\n", grace_s / 60, grace_s % 60);
    }
    text
}

/// Keys of a partition that have no equivalent, with the values that change nothing.
const OF_PARTITIONS: [(&str, &[&str]); 20] = [
    ("AllowAccounts", &["ALL"]),
    ("AllowGroups", &["ALL"]),
    ("AllowQos", &["ALL"]),
    ("AllocNodes", &["ALL"]),
    ("Alternate", &["NONE"]),
    ("DenyAccounts", &[]),
    ("DenyQos", &[]),
    ("ExclusiveUser", &["NO"]),
    ("Hidden", &["NO"]),
    ("LLN", &["NO"]),
    ("MaxCPUsPerNode", &["UNLIMITED"]),
    ("MaxMemPerCPU", &["0", "UNLIMITED"]),
    ("MaxMemPerNode", &["0", "UNLIMITED"]),
    ("DefMemPerNode", &["0", "UNLIMITED"]),
    ("MaxNodes", &["UNLIMITED", "INFINITE"]),
    ("MinNodes", &["0", "1"]),
    ("OverSubscribe", &["NO"]),
    ("QOS", &["N/A"]),
    ("RootOnly", &["NO"]),
    ("State", &["UP"]),
];

fn left_out(line: &Defaults<'_>, name: &str, out: &mut Output) {
    for (key, harmless) in OF_PARTITIONS {
        if let Some(value) =
            line.get(key).filter(|value| !harmless.iter().any(|word| word.eq_ignore_ascii_case(value)))
        {
            let why = match key {
                "OverSubscribe" if value.eq_ignore_ascii_case("EXCLUSIVE") => {
                    "jobs say --exclusive themselves"
                }
                "OverSubscribe" => "cores are never shared",
                "LLN" => "say fill = \"spread\"",
                _ => "it has no equivalent",
            };
            out.notes.push(format!("{}: PartitionName={name} {key}={value}: {why}", line.own.place));
        }
    }
}
