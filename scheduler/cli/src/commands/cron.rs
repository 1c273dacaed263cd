//! `muster cron`.

use std::process::ExitCode;

use muster_client::api::CrontabView;

use super::connect;
use crate::crontab::{self, Owner};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};

/// Arguments of `muster cron`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cron set table      sets the recurring jobs that the file holds; - is the standard input\n  \
    muster cron edit           edits them, with VISUAL or EDITOR\n  muster cron list           prints them\n  muster cron remove         removes them\n\n\
    A line is an entry (`*/5 8-18 * * mon-fri ./report.sh`, `@daily ./clean.sh`), options of muster submit for the next one\n\
    (`#SCRON -n4 -t 10`), a variable (`A=1`), or a comment. `muster cancel --cron JOB` ends one of them for good."
)]
pub struct CronArgs {
    #[command(subcommand)]
    action: CronAction,
}

#[derive(Debug, clap::Subcommand)]
enum CronAction {
    /// Print the table; exit code 4 if there is none
    List {
        /// Of this user, for admins
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
        /// Print JSON, with the jobs that wait and run
        #[arg(long)]
        json: bool,
    },
    /// Set the table that a file holds, all of it or nothing
    Set {
        /// The file; - is the standard input
        file: String,
        /// Of this user, for admins
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Edit the table
    Edit {
        /// Of this user, for admins
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
    },
    /// Remove the table: what waits is cancelled, what runs goes on to its end
    Remove {
        /// Of this user, for admins
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
    },
}

pub(crate) fn run(args: &CronArgs) -> Result<ExitCode, CliError> {
    let mut warn = |sentence: &str| tell(&format!("muster cron: {sentence}"));
    match &args.action {
        CronAction::List { user, json } => {
            let owner = Owner::find(user.as_deref())?;
            let mut client = connect()?;
            if *json {
                print_json(&crontab::view(&mut client, &owner)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            match crontab::show(&mut client, &owner)? {
                Some(text) => print(&text)?,
                None => return Ok(Exit::NotFound.into()),
            }
        }
        CronAction::Set { file, user, json } => {
            let owner = Owner::find(user.as_deref())?;
            told(&crontab::set(&mut connect()?, &owner, file, &mut warn)?, *json)?;
        }
        CronAction::Edit { user } => {
            let owner = Owner::find(user.as_deref())?;
            match crontab::edit(&mut connect()?, &owner, &mut warn)? {
                Some(view) => told(&view, false)?,
                None => return Ok(Exit::Refused.into()),
            }
        }
        CronAction::Remove { user } => crontab::remove(&mut connect()?, &Owner::find(user.as_deref())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn told(view: &CrontabView, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(view);
    }
    let count = view.entries.len();
    print(&format!("Set {count} recurring job{}\n", if count == 1 { "" } else { "s" }))
}
