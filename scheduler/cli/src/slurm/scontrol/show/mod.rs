//! `scontrol show`.

mod config;
mod hosts;
mod jobs;
mod licenses;
mod nodes;
mod partitions;
mod reservations;
mod steps;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_client::Client;

use crate::slurm::connect::{check_clusters, connect};
use crate::slurm::fault::Fault;
use crate::slurm::time::Times;

/// How things are shown.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub one_line: bool,
    pub details: bool,
    pub json: bool,
    pub clusters: Option<String>,
}

/// What can be shown. Any beginning of a name that is as long as the second number will do.
const ENTITIES: [(&str, usize, Entity); 21] = [
    ("assoc_mgr", 2, Entity::Empty("")),
    ("burstbuffer", 2, Entity::Empty("")),
    ("config", 1, Entity::Config),
    ("daemons", 1, Entity::Empty("slurmctld slurmd\n")),
    ("federation", 1, Entity::Empty("")),
    ("frontends", 1, Entity::Empty("")),
    ("hostlistsorted", 9, Entity::HostListSorted),
    ("hostlist", 5, Entity::HostList),
    ("hostnames", 5, Entity::HostNames),
    ("jobs", 1, Entity::Jobs),
    ("job", 1, Entity::Jobs),
    ("licenses", 2, Entity::Licenses),
    ("nodes", 1, Entity::Nodes),
    ("node", 1, Entity::Nodes),
    ("partitions", 1, Entity::Partitions),
    ("reservations", 1, Entity::Reservations),
    ("slurmd", 2, Entity::Refused),
    ("steps", 2, Entity::Steps),
    ("topology", 1, Entity::Refused),
    ("aliases", 2, Entity::Refused),
    ("dwstat", 2, Entity::Refused),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entity {
    Config,
    HostList,
    HostListSorted,
    HostNames,
    Jobs,
    Licenses,
    Nodes,
    Partitions,
    Reservations,
    Steps,
    /// Muster has nothing of the kind, and Slurm would print this.
    Empty(&'static str),
    /// Not supported.
    Refused,
}

/// Runs it with the words after `show`.
pub(super) fn run(words: &[String], how: &How) -> Result<ExitCode, Fault> {
    let said = |text: String| Fault::Said(text);
    let Some((word, rest)) = words.split_first() else {
        return Err(said("too few arguments for keyword:show".to_owned()));
    };
    let (name, mut value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word.as_str(), None),
    };
    let mut rest = rest.iter();
    value = value.or_else(|| rest.next().map(String::as_str));
    if rest.next().is_some() {
        return Err(said("too many arguments for keyword:show".to_owned()));
    }
    let lower = name.to_ascii_lowercase();
    let is = |entity: &&(&str, usize, Entity)| entity.0.starts_with(&lower) && lower.len() >= entity.1;
    let Some((_, _, entity)) = ENTITIES.iter().find(is) else {
        return Err(said(format!("invalid entity:{name} for keyword:show ")));
    };
    let text = match entity {
        Entity::HostNames => hosts::names(value)?,
        Entity::HostList => hosts::list(value, false)?,
        Entity::HostListSorted => hosts::list(value, true)?,
        Entity::Empty(text) => (*text).to_owned(),
        Entity::Refused => {
            return Err(said(format!("scontrol: error: show {name} is not supported")));
        }
        Entity::Jobs => jobs::text(&mut Shown::connect(how, "slurm_load_jobs error")?, value)?,
        Entity::Licenses => licenses::text(&mut Shown::connect(how, "slurm_load_licenses error")?, value)?,
        Entity::Nodes => nodes::text(&mut Shown::connect(how, "slurm_load_node error")?, value)?,
        Entity::Partitions => {
            partitions::text(&mut Shown::connect(how, "slurm_load_partitions error")?, value)?
        }
        Entity::Reservations => {
            reservations::text(&mut Shown::connect(how, "slurm_load_reservations error")?, value)?
        }
        Entity::Steps => steps::text(&mut Shown::connect(how, "slurm_get_job_steps error")?, value)?,
        Entity::Config => config::text(&mut Shown::connect(how, super::DOING)?)?,
    };
    crate::slurm::fault::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What records are shown with.
struct Shown<'a> {
    how: &'a How,
    /// What Slurm calls what is asked for.
    doing: &'static str,
    client: Client,
    times: Times,
}

impl<'a> Shown<'a> {
    fn connect(how: &'a How, doing: &'static str) -> Result<Self, Fault> {
        let mut client = connect(doing)?;
        if let Some(named) = &how.clusters {
            check_clusters("scontrol", named, &client.ping().map_err(Fault::client(doing))?.cluster)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let times = Times::new(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        Ok(Self { how, doing, client, times })
    }

    /// Adds a record, whose groups are lines of their own unless it is one line.
    fn add(&self, groups: &[String], out: &mut String) {
        if self.how.one_line {
            out.push_str(&groups.join(" "));
            out.push('\n');
        } else {
            out.push_str(&groups.join("\n   "));
            out.push_str("\n\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_found_by_their_beginning() {
        let find = |name: &str| {
            ENTITIES
                .iter()
                .find(|entity| entity.0.starts_with(name) && name.len() >= entity.1)
                .map(|entity| entity.2)
        };
        for (name, entity) in [
            ("job", Entity::Jobs),
            ("jobs", Entity::Jobs),
            ("j", Entity::Jobs),
            ("hostname", Entity::HostNames),
            ("hostnames", Entity::HostNames),
            ("hostlist", Entity::HostList),
            ("hostlistsorted", Entity::HostListSorted),
            ("part", Entity::Partitions),
            ("nodes", Entity::Nodes),
            ("n", Entity::Nodes),
            ("res", Entity::Reservations),
            ("config", Entity::Config),
        ] {
            assert_eq!(find(name), Some(entity), "{name}");
        }
        assert_eq!(find("bogus"), None);
    }
}
