//! `muster reservation`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::Zoned;
use muster_client::api::{ReservationAnswer, ReservationList, ReservationRequest, ReservationView};
use muster_core::notation::{parse_hosts, parse_time_s};
use muster_core::reservation::{Repeat, ReservedNodes};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::submit::{Origin, Said, read_instant};
use crate::table::{Cell, Side, Table};
use crate::text::{instant, tame};

const LIST_EXAMPLES: &str = "\
Examples:
  muster reservation list
  muster reservation list --json    for programs";

const CREATE_EXAMPLES: &str = "\
Examples:
  muster reservation create --name disks --nodes n[01-04] --maintenance \\
         --start 2026-01-31T08:00 --duration 4:00:00
                   nothing starts that could run into it; what runs goes on
  muster reservation create --name course --pool main --node-count 4 \\
         --start 14:00 --end 18:00 --users ann,bob
                   they submit with --reservation=course
  muster reservation create --name nightly --pool main --accounts physics \\
         --start 22:00 --duration 6:00:00 --repeat daily

A window that repeats comes each 24 hours or 7 days: where clocks are set
forward or back, its local time moves. On weekdays only: make one weekly
reservation for each of the five days.";

/// Arguments of `muster reservation`.
#[derive(Debug, clap::Args)]
pub struct ReservationArgs {
    /// What to do.
    #[command(subcommand)]
    action: ReservationAction,
}

#[derive(Debug, clap::Subcommand)]
enum ReservationAction {
    /// List the reservations with the windows that run or come next
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep nodes for users, accounts or maintenance (admins only)
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// Delete a reservation: its nodes are for all again (admins only)
    #[command(after_help = "Examples:\n  muster reservation delete disks")]
    Delete {
        /// Its name
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Exactly these nodes, such as n[01-04]
    #[arg(long, value_name = "LIST", required_unless_present = "pool", conflicts_with = "pool")]
    nodes: Option<String>,
    /// The nodes of this pool
    #[arg(long, visible_alias = "partition", value_name = "POOL")]
    pool: Option<String>,
    /// Only so many nodes of the pool, close together
    #[arg(long, value_name = "N", requires = "pool")]
    node_count: Option<u32>,
    /// When it starts: now, now+2hours, 16:30, tomorrow, 2026-01-31T16:30
    #[arg(long, value_name = "WHEN")]
    start: String,
    /// How long it lasts: minutes, 4:00:00, 2-0
    #[arg(long, value_name = "TIME", required_unless_present = "end", conflicts_with = "end")]
    duration: Option<String>,
    /// When it ends; written as for --start
    #[arg(long, value_name = "WHEN")]
    end: Option<String>,
    /// Login names of those who may use it
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    users: Vec<String>,
    /// Accounts whose jobs may use it
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    accounts: Vec<String>,
    /// Nobody runs there
    #[arg(long)]
    maintenance: bool,
    /// How often it comes again: daily or weekly
    #[arg(long, value_name = "daily|weekly")]
    repeat: Option<String>,
    /// Make it although running tasks may reach into it
    #[arg(long)]
    ignore_running: bool,
    /// Why, for those who ask
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ReservationArgs) -> Result<ExitCode, CliError> {
    match &args.action {
        ReservationAction::List { json } => {
            let list = connect()?.reservations()?;
            if *json {
                print_json(&list)?;
            } else {
                print(&table(&list).render())?;
            }
        }
        ReservationAction::Create(args) => {
            let request = request(args, &Zoned::now())?;
            let answer = connect()?.make_reservation(&request)?;
            if args.json {
                print_json(&answer)?;
            } else {
                print(&made(&request, &answer))?;
                warn(&answer);
            }
        }
        ReservationAction::Delete { names } => {
            let mut client = connect()?;
            names.iter().try_for_each(|name| client.delete_reservation(name))?;
        }
    }
    Ok(Exit::Ok.into())
}

fn said(option: &str, value: &str) -> Said {
    Said { value: value.to_owned(), origin: Origin::CommandLine { option: option.to_owned() } }
}

fn wrong(option: &str, value: &str, right: &'static str) -> CliError {
    let Said { value, origin } = said(option, value);
    CliError::Value { origin, value, right }
}

fn request(args: &CreateArgs, now: &Zoned) -> Result<ReservationRequest, CliError> {
    let nodes = match (&args.nodes, &args.pool, args.node_count) {
        (Some(list), _, _) => {
            ReservedNodes::List(parse_hosts(list).map_err(CliError::Hosts)?.into_iter().collect())
        }
        (None, Some(pool), Some(count)) => ReservedNodes::Count { pool: pool.clone(), count },
        (None, pool, _) => ReservedNodes::Pool(pool.clone().unwrap_or_default()),
    };
    let start_us = read_instant(&said("--start", &args.start), now)?.0;
    let duration_s = match (&args.duration, &args.end) {
        (Some(duration), _) => parse_time_s(duration)
            .map_err(|source| CliError::Notation { origin: said("--duration", duration).origin, source })?,
        (None, end) => {
            let end = end.as_deref().unwrap_or_default();
            let end_us = read_instant(&said("--end", end), now)?.0;
            let seconds = end_us.saturating_sub(start_us) / 1_000_000;
            match seconds {
                0 => return Err(wrong("--end", end, "it must be later than --start")),
                seconds => seconds,
            }
        }
    };
    let repeat = match args.repeat.as_deref() {
        None => None,
        Some("daily") => Some(Repeat::Daily),
        Some("weekly") => Some(Repeat::Weekly),
        Some("weekdays") => {
            let right = "make one weekly reservation for each of the five days, each with its own --start";
            return Err(wrong("--repeat", "weekdays", right));
        }
        Some(other) => return Err(wrong("--repeat", other, "write daily or weekly")),
    };
    let names = |names: &[String]| -> BTreeSet<String> { names.iter().cloned().collect() };
    Ok(ReservationRequest {
        name: args.name.clone(),
        nodes,
        start_us,
        duration_s,
        repeat,
        users: names(&args.users),
        accounts: names(&args.accounts),
        maintenance: args.maintenance,
        ignore_running: args.ignore_running,
        comment: args.comment.clone().unwrap_or_default(),
    })
}

fn made(request: &ReservationRequest, answer: &ReservationAnswer) -> String {
    let end_us = request.start_us.saturating_add(request.duration_s.saturating_mul(1_000_000));
    format!(
        "Reservation {} keeps {} from {} to {}\n",
        answer.name,
        answer.node_list,
        instant(request.start_us),
        instant(end_us)
    )
}

/// Says what may still run when it starts.
fn warn(answer: &ReservationAnswer) {
    for runs in &answer.running {
        let until = runs.until_us.map_or("without a limit".to_owned(), |us| format!("until {}", instant(us)));
        tell(&format!(
            "muster reservation: job {} may still run on {} {until}: it is left alone",
            runs.task, runs.node
        ));
    }
}

fn table(list: &ReservationList) -> Table {
    let mut table = Table::new(vec![
        ("RESERVATION", Side::Left),
        ("STATE", Side::Left),
        ("START", Side::Left),
        ("END", Side::Left),
        ("REPEAT", Side::Left),
        ("FOR", Side::Left),
        ("JOBS", Side::Right),
        ("NODES", Side::Left),
        ("COMMENT", Side::Left),
    ]);
    for reservation in &list.reservations {
        table.push(vec![
            Cell::new(&reservation.name),
            Cell::new(if reservation.active { "active" } else { "waiting" }),
            Cell::new(instant(reservation.start_us)),
            Cell::new(instant(reservation.end_us)),
            Cell::new(match reservation.repeat {
                None => "-",
                Some(Repeat::Daily) => "daily",
                Some(Repeat::Weekly) => "weekly",
            }),
            Cell::new(whom(reservation)),
            Cell::new(reservation.jobs.to_string()),
            Cell::new(&reservation.node_list),
            Cell::new(tame(&reservation.comment)),
        ]);
    }
    table
}

/// For whom it is, such as `ann,bob,account physics`.
fn whom(reservation: &ReservationView) -> String {
    if reservation.maintenance {
        return "maintenance".to_owned();
    }
    let accounts = reservation.accounts.iter().map(|account| format!("account {account}"));
    tame(&reservation.users.iter().cloned().chain(accounts).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn read(words: &str) -> Result<ReservationRequest, String> {
        let now = jiff::civil::date(2026, 3, 10).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        let line = Line::try_parse_from(["x"].into_iter().chain(words.split(' ')));
        let line = line.map_err(|error| error.to_string())?;
        request(&line.args, &now).map_err(|error| error.to_string())
    }

    #[test]
    fn times_and_nodes_are_read() {
        let whole =
            read("--name a --pool main --start 14:00 --end 18:30 --users ann,bob --repeat weekly").unwrap();
        let start = muster_core::ids::Timestamp(whole.start_us);
        let start = muster_core::notation::format_instant(start);
        assert_eq!((start.as_str(), whole.duration_s), ("2026-03-10T14:00:00Z", 16_200));
        assert_eq!((whole.nodes, whole.repeat), (ReservedNodes::Pool("main".into()), Some(Repeat::Weekly)));
        assert_eq!(whole.users, ["ann", "bob"].map(str::to_owned).into());
        let some =
            read("--name a --pool main --node-count 3 --start now --duration 90 --maintenance").unwrap();
        assert_eq!(some.nodes, ReservedNodes::Count { pool: "main".into(), count: 3 });
        assert_eq!((some.duration_s, some.maintenance), (5_400, true));
        let listed = read("--name a --nodes n[1-2] --start now --duration 1 --accounts x").unwrap();
        assert_eq!(listed.nodes, ReservedNodes::List(["n1", "n2"].map(str::to_owned).into()));
        for (words, text) in [
            ("--name a --start now --duration 1", "--nodes"),
            ("--name a --nodes n1 --pool main --start now --duration 1", "cannot be used with"),
            ("--name a --nodes n1 --start now", "--duration"),
            ("--name a --nodes n1 --start soon --duration 1", "--start: 'soon' is not possible"),
            ("--name a --nodes n1 --start 18:00 --end 17:00", "later than --start"),
            ("--name a --nodes n1 --start now --duration x", "--duration: 'x' is not a time"),
            (
                "--name a --nodes n1 --start now --duration 1 --repeat weekdays",
                "one weekly reservation for each",
            ),
            ("--name a --nodes n1 --start now --duration 1 --repeat hourly", "daily or weekly"),
        ] {
            let refusal = read(words).unwrap_err();
            assert!(refusal.contains(text), "{words}: {refusal}");
        }
    }
}
