//! `musterd store`: looks after the journal of a controller.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use muster_server::ServerError;
use muster_server::server::place;
use muster_store::{Place, Repair, RepairPlan, Repaired, Report, StoreError};

const EXIT_CODES: &str = "\
Exit codes:
  0  in order; repaired; exported
  1  a file or the terminal failed
  2  the command line is wrong
  3  the configuration cannot be read or holds errors
  4  the journal cannot be used as it is: none there, locked by a running musterd, of a later version
  6  something is damaged: check found it, or repair would give up what it lists and wants --yes
  7  too much is damaged for a repair: a backup is the only way";

/// What to do with the journal.
#[derive(Debug, Subcommand)]
#[command(after_help = EXIT_CODES)]
pub enum StoreCommand {
    /// Read everything and say whether it is in order. Changes nothing; a controller may run meanwhile.
    #[command(after_help = concat!("Examples:\n  musterd store check\n  musterd store check --json | jq .findings"))]
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a database that can be opened in the place of a damaged one, and say what is lost. The controller must be
    /// stopped. Without --yes it only says what it would do.
    #[command(after_help = "Examples:\n  musterd store repair\n  musterd store repair --yes")]
    Repair {
        /// Do it. The files as they were are kept in a folder beside the database.
        #[arg(long)]
        yes: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write snapshots, records and accounting as JSON lines. Changes nothing; a controller may run meanwhile.
    #[command(
        after_help = "Examples:\n  musterd store export /backup/muster.jsonl\n  musterd store export - | zstd > muster.zst"
    )]
    Export {
        /// A new file, or - for the standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{database} is repaired by PostgreSQL's own means: restore it from a backup; `musterd store check` says whether it \
         is in order then"
    )]
    NotRepairable { database: String },
    #[error("cannot print")]
    Print(#[source] io::Error),
}

const DAMAGED: u8 = 6;

/// Carries a command out for the controller that `config` configures.
pub fn run(config: &Path, command: &StoreCommand) -> ExitCode {
    let done = super::load(config).map_err(CommandError::Server).and_then(|config| {
        let place = place(&config.controller)?;
        match (command, &place) {
            (StoreCommand::Check { json }, _) => check(&place, *json),
            (StoreCommand::Repair { yes, json }, Place::Sqlite(path)) => repair(path, *yes, *json),
            (StoreCommand::Repair { .. }, Place::Postgres(server)) => {
                Err(CommandError::NotRepairable { database: server.to_string() })
            }
            (StoreCommand::Export { file }, _) => export(&place, file),
        }
    });
    done.map_or_else(
        |error| {
            super::report(&error);
            ExitCode::from(exit_code(&error))
        },
        ExitCode::from,
    )
}

fn exit_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Server(ServerError::Config(_)) => 3,
        CommandError::Store(StoreError::Corrupt { .. } | StoreError::Damaged { .. }) => DAMAGED,
        CommandError::Store(
            StoreError::BeyondRepair { .. } | StoreError::Invariant { .. } | StoreError::BrokenMeta { .. },
        ) => 7,
        CommandError::Store(StoreError::File { .. } | StoreError::Full { .. }) => 1,
        CommandError::NotRepairable { .. } => 7,
        CommandError::Store(_) => 4,
        CommandError::Server(_) | CommandError::File { .. } | CommandError::Print(_) => 1,
    }
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(CommandError::Print)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let encode = |source| StoreError::Encode { what: "the report", source };
    print(&serde_json::to_string_pretty(value).map_err(encode)?)
}

fn check(place: &Place, json: bool) -> Result<u8, CommandError> {
    let report = muster_store::check(place)?;
    if json {
        print_json(&report)?
    } else {
        print(&check_text(&report, matches!(place, Place::Sqlite(_))))?
    }
    Ok(if report.findings.is_empty() { 0 } else { DAMAGED })
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn check_text(report: &Report, is_file: bool) -> String {
    let is_ok = report.findings.is_empty();
    let verdict = if is_ok { "in order" } else { "not in order" };
    let snapshots = report.snapshots.iter().map(|snapshot| {
        format!("at record {}{}", snapshot.seq, if snapshot.whole { "" } else { " (damaged)" })
    });
    let mut text = format!("{}: {verdict}\n", report.database);
    text += &format!("  tables of version {}\n", report.schema_version);
    text += &format!("  snapshots: {}\n", list(snapshots));
    text += &format!("  records: {} whole", report.records);
    text += &report.acknowledged.map_or("\n".to_owned(), |seq| format!(", acknowledged up to {seq}\n"));
    match &report.state {
        Some(state) => {
            text += &format!(
                "  state at record {}: {} jobs, {} live attempts, {} waiting tasks; the next job is {}\n",
                state.seq, state.jobs, state.live, state.waiting, state.next_job
            );
        }
        None => text += "  state: none can be made of what is whole\n",
    }
    for finding in &report.findings {
        text += &format!("  - {finding}\n");
    }
    if !is_ok {
        text += if is_file {
            "Restore the state directory from a backup, or see what `musterd store repair` would do.\n"
        } else {
            "Restore the database from a backup with PostgreSQL's own tools.\n"
        };
    }
    text
}

fn repair(path: &Path, yes: bool, json: bool) -> Result<u8, CommandError> {
    let Some(repair) = Repair::plan(path)? else {
        match json {
            true => print("null")?,
            false => print(&format!("{}: nothing is damaged, and nothing was changed", path.display()))?,
        }
        return Ok(0);
    };
    if !yes {
        let plan = repair.planned();
        match json {
            true => print_json(plan)?,
            false => {
                let text = plan_text(plan, "would be");
                print(&format!(
                    "{text}Nothing was changed. Say --yes to do it; the files are copied before."
                ))?;
            }
        }
        return Ok(DAMAGED);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".damaged-{now}"));
    let repaired = repair.carry_out(Path::new(&copy))?;
    if json {
        print_json(&repaired)?
    } else {
        print(&repaired_text(&repaired))?
    }
    Ok(0)
}

fn plan_text(plan: &RepairPlan, is: &str) -> String {
    let mut text = format!("{}:\n", plan.database.display());
    for finding in &plan.findings {
        text += &format!("  - {finding}\n");
    }
    let from = match plan.snapshot_seq {
        0 => "the first record".to_owned(),
        seq => format!("the snapshot at record {seq}"),
    };
    text += &format!("From {from}, everything up to record {} is whole and {is} kept.\n", plan.last_kept);
    let Some((first, last)) = plan.given_up else { return text + "No record is lost.\n" };
    text += &format!("Records {first} to {last} {is} given up; {} of them cannot be read.\n", plan.unknown);
    text += &format!("  jobs that are gone: {}\n", list(&plan.jobs_gone));
    text += &format!("  jobs that go back to an earlier state: {}\n", list(&plan.jobs_changed));
    text += &format!("  attempts that may have been started or have ended: {}\n", list(&plan.attempts));
    if plan.more {
        text += "  and more; the files hold them all\n";
    }
    text += &format!("The next job {is} {}, so that no id is given twice.\n", plan.next_job);
    text += "Nodes are told to end what the controller no longer knows; a task may so be run again.\n";
    text
}

fn repaired_text(repaired: &Repaired) -> String {
    let mut text = plan_text(&repaired.plan, "is");
    text += &format!("{} rows of the accounting were kept", repaired.history_rows);
    text += if repaired.history_whole { ".\n" } else { "; others could not be read.\n" };
    text += &format!("Repaired. The files as they were are in {}.\n", repaired.copy.display());
    text
}

fn export(place: &Place, file: &Path) -> Result<u8, CommandError> {
    let exported = if file == Path::new("-") {
        muster_store::export(place, BufWriter::new(io::stdout().lock()))?
    } else {
        let failed = |source| CommandError::File { path: file.to_owned(), source };
        // It holds users' environments.
        let mut options = OpenOptions::new();
        let out = options.write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
        let exported = muster_store::export(place, BufWriter::new(&out))?;
        out.sync_all().map_err(failed)?;
        exported
    };
    Ok(if exported.damaged == 0 { 0 } else { DAMAGED })
}
