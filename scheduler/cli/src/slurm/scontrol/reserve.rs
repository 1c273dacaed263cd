//! `scontrol create reservation` and `scontrol delete reservation`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::Zoned;
use muster_client::Client;
use muster_client::api::ReservationRequest;
use muster_core::notation::{parse_hosts, parse_time_s};
use muster_core::reservation::{Repeat, ReservedNodes};

use crate::slurm::connect::connect;
use crate::slurm::fault::{Fault, print};
use crate::submit::{Origin, Said, read_instant};

/// What Slurm calls making one.
const CREATING: &str = "Error creating the reservation";
/// What Slurm calls deleting one.
const DELETING: &str = "slurm_delete_reservation error";
/// How long one without an end lasts, as in Slurm: a year.
const DURATION_INFINITE_S: u64 = 365 * 86_400;

/// What the words say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Wish {
    name: Option<String>,
    start: Option<String>,
    end: Option<String>,
    duration: Option<String>,
    nodes: Option<String>,
    count: Option<u32>,
    pool: Option<String>,
    users: BTreeSet<String>,
    accounts: BTreeSet<String>,
    maintenance: bool,
    ignore_running: bool,
    repeat: Option<Repeat>,
    comment: String,
}

/// `create reservation KEY=VALUE...`
pub(super) fn create(words: &[String]) -> Result<ExitCode, Fault> {
    let words = match words.first().map(|word| word.to_ascii_lowercase()) {
        Some(word) if word.len() >= 3 && "reservation".starts_with(&word) => &words[1..],
        Some(word) if word.starts_with("res") && word.contains('=') => words,
        _ => {
            return Err(Fault::Said(
                "scontrol: create is not supported but of a reservation: pools and nodes are in muster.toml"
                    .to_owned(),
            ));
        }
    };
    let wish = read(words)?;
    let mut client = connect(CREATING)?;
    let now = Zoned::now();
    let request = request(&mut client, wish, &now)?;
    let made = client.make_reservation(&request).map_err(Fault::client(CREATING))?;
    print(&format!("Reservation created: {}\n", made.name)).map(|()| ExitCode::SUCCESS)
}

/// `delete ReservationName=NAME`
pub(super) fn delete(words: &[String]) -> Result<ExitCode, Fault> {
    let name = words.iter().find_map(|word| {
        let (key, name) = word.split_once('=')?;
        let key = key.to_ascii_lowercase();
        (key.len() >= 3 && "reservationname".starts_with(&key)).then_some(name)
    });
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(Fault::Said(
            "scontrol: delete is not supported but of a reservation: write delete ReservationName=NAME"
                .to_owned(),
        ));
    };
    connect(DELETING)?.delete_reservation(name).map_err(Fault::client(DELETING))?;
    Ok(ExitCode::SUCCESS)
}

fn names(value: &str) -> BTreeSet<String> {
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn read(words: &[String]) -> Result<Wish, Fault> {
    let mut wish = Wish::default();
    for word in words {
        let unknown = || Fault::Said(format!("scontrol: a reservation's {word} is not supported"));
        let (key, value) = word.split_once('=').ok_or_else(unknown)?;
        let text = || Some(value.to_owned());
        match key.to_ascii_lowercase().as_str() {
            "reservationname" | "reservation" | "res" => wish.name = text(),
            "starttime" | "start" => wish.start = text(),
            "endtime" | "end" => wish.end = text(),
            "duration" | "dur" => wish.duration = text(),
            "nodes" | "node" => wish.nodes = text(),
            "nodecnt" | "nodecount" => wish.count = Some(value.parse().map_err(|_| unknown())?),
            "partitionname" | "partition" => wish.pool = text(),
            "users" | "user" => wish.users = names(value),
            "accounts" | "account" => wish.accounts = names(value),
            "comment" => wish.comment = value.to_owned(),
            "flags" | "flag" => flags(&mut wish, value)?,
            _ => return Err(unknown()),
        }
    }
    Ok(wish)
}

fn flags(wish: &mut Wish, value: &str) -> Result<(), Fault> {
    for flag in value.split(',').filter(|flag| !flag.is_empty()) {
        match flag.to_ascii_uppercase().as_str() {
            "MAINT" => wish.maintenance = true,
            "IGNORE_JOBS" => wish.ignore_running = true,
            "DAILY" => wish.repeat = Some(Repeat::Daily),
            "WEEKLY" => wish.repeat = Some(Repeat::Weekly),
            // So anyway.
            "SPEC_NODES" | "ALL_NODES" | "STATIC" | "STATIC_ALLOC" => {}
            _ => {
                return Err(Fault::Said(format!(
                    "scontrol: the flag {flag} of a reservation is not supported: MAINT, IGNORE_JOBS, DAILY and WEEKLY are"
                )));
            }
        }
    }
    Ok(())
}

fn request(client: &mut Client, wish: Wish, now: &Zoned) -> Result<ReservationRequest, Fault> {
    let (start_us, duration_s) = window(&wish, now)?;
    let name = match &wish.name {
        Some(name) => name.clone(),
        None => free_name(client, &wish)?,
    };
    Ok(ReservationRequest {
        name,
        nodes: nodes(client, &wish)?,
        start_us,
        duration_s,
        repeat: wish.repeat,
        users: wish.users,
        accounts: wish.accounts,
        maintenance: wish.maintenance,
        ignore_running: wish.ignore_running,
        comment: wish.comment,
    })
}

/// When it starts and how long it lasts.
fn window(wish: &Wish, now: &Zoned) -> Result<(u64, u64), Fault> {
    let said = |key: &str, value: &str| Said {
        value: value.to_owned(),
        origin: Origin::CommandLine { option: key.to_owned() },
    };
    let instant = |key: &str, value: &str| {
        read_instant(&said(key, value), now)
            .map_err(|error| Fault::Said(format!("Invalid time specification {value}\n{error}")))
    };
    let Some(start) = &wish.start else {
        return Err(Fault::Said("A start time must be given.  No reservation created.".to_owned()));
    };
    let start_us = instant("StartTime", start)?.0;
    let duration_s = match (&wish.duration, &wish.end) {
        (Some(text), _) if ["infinite", "unlimited"].contains(&text.to_ascii_lowercase().as_str()) => {
            DURATION_INFINITE_S
        }
        (Some(text), _) => parse_time_s(text)
            .map_err(|error| Fault::Said(format!("Invalid time specification {text}\n{error}")))?,
        (None, Some(end)) => instant("EndTime", end)?.0.saturating_sub(start_us) / 1_000_000,
        (None, None) => {
            return Err(Fault::Said(
                "An end time or duration must be given.  No reservation created.".to_owned(),
            ));
        }
    };
    Ok((start_us, duration_s))
}

fn nodes(client: &mut Client, wish: &Wish) -> Result<ReservedNodes, Fault> {
    let is_all = wish.nodes.as_ref().is_some_and(|list| list.eq_ignore_ascii_case("all"));
    match (&wish.nodes, &wish.pool, wish.count) {
        (Some(list), ..) if !is_all => {
            let list = parse_hosts(list)
                .map_err(|error| Fault::Said(format!("{CREATING}: Invalid node name specified\n{error}")))?;
            Ok(ReservedNodes::List(list.into_iter().collect()))
        }
        (_, Some(pool), Some(count)) => Ok(ReservedNodes::Count { pool: pool.clone(), count }),
        (_, Some(pool), None) => Ok(ReservedNodes::Pool(pool.clone())),
        (_, None, Some(count)) => {
            let pools = client.pools().map_err(Fault::client(CREATING))?.pools;
            let default = pools.into_iter().find(|pool| pool.default).map(|pool| pool.name);
            Ok(ReservedNodes::Count { pool: default.unwrap_or_default(), count })
        }
        (Some(_), None, None) => {
            let all = client.nodes().map_err(Fault::client(CREATING))?.nodes;
            Ok(ReservedNodes::List(all.into_iter().map(|node| node.name).collect()))
        }
        (None, None, None) => Err(Fault::Said(
            "Nodes, NodeCnt or PartitionName must be given.  No reservation created.".to_owned(),
        )),
    }
}

/// The first user or account with a number that no reservation has, as Slurm names those without a name.
fn free_name(client: &mut Client, wish: &Wish) -> Result<String, Fault> {
    let taken: BTreeSet<String> = client
        .reservations()
        .map_err(Fault::client(CREATING))?
        .reservations
        .into_iter()
        .map(|one| one.name)
        .collect();
    let first = wish.users.iter().chain(&wish.accounts).next();
    let first = first.map_or("resv", String::as_str);
    let numbered = (1_u64..).map(|number| format!("{first}_{number}"));
    Ok(numbered.into_iter().find(|name| !taken.contains(name)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &str) -> Result<Wish, String> {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn wishes_are_read_as_slurm_reads_them() {
        let read = wish("StartTime=now Duration=60 user=ann,bob Nodes=n[1-2] FLAGS=maint,IGNORE_JOBS,DAILY")
            .unwrap();
        assert_eq!(read.users, ["ann", "bob"].map(str::to_owned).into());
        assert!(read.maintenance && read.ignore_running && read.repeat == Some(Repeat::Daily));
        let noon = jiff::civil::date(2026, 3, 10).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        let length = |line: &str| window(&wish(line).unwrap(), &noon).map(|window| window.1);
        assert_eq!(length("StartTime=now Duration=60").unwrap(), 3600);
        assert_eq!(length("StartTime=now Duration=1-2:00:00").unwrap(), 93_600);
        assert_eq!(length("StartTime=14:00 EndTime=16:30").unwrap(), 9000);
        assert_eq!(length("StartTime=now Duration=infinite").unwrap(), DURATION_INFINITE_S);
        for (line, text) in [
            ("Nodes=n1", "A start time must be given"),
            ("StartTime=now", "An end time or duration must be given"),
            ("StartTime=soon Duration=5", "Invalid time specification soon"),
            ("StartTime=now Duration=x", "Invalid time specification x"),
        ] {
            assert!(length(line).unwrap_err().to_string().contains(text), "{line}");
        }
        for line in ["Burstbuffer=x", "Flags=OVERLAP", "nonsense", "NodeCnt=x"] {
            assert!(wish(line).unwrap_err().contains("is not supported"), "{line}");
        }
    }
}
