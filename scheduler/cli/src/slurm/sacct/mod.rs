//! The face `sacct`: what has been in the queue.

mod fields;
mod json;
mod options;
mod rows;
pub(in crate::slurm) mod step;

use std::process::ExitCode;

use muster_client::TaskFilter;

pub(super) use self::fields::Units;
use self::fields::View;
use self::options::{Mode, Options};
use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::listing::Head;
use super::time::Times;

/// What is said where Slurm's database cannot be reached.
const DOING: &str = "sacct: error: Problem talking to the database";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let options = options::read(words)?;
    match options.mode {
        Mode::Help => return print(options::HELP).map(|()| ExitCode::SUCCESS),
        Mode::HelpFormat => return print(&fields::list()).map(|()| ExitCode::SUCCESS),
        Mode::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
        Mode::Table | Mode::Json => {}
    }
    let mut client = connect(DOING)?;
    let filter = TaskFilter {
        jobs: options.jobs.iter().map(|wanted| wanted.job).collect(),
        users: options.users.clone().unwrap_or_default(),
        since_us: Some(options.since_us),
        until_us: options.until_us,
        detail: true,
        steps: !options.allocations || options.columns.iter().any(|column| column.field.needs_steps()),
        ..TaskFilter::default()
    };
    let list = client.tasks(&filter).map_err(Fault::client(DOING))?;
    if list.cut {
        crate::out::tell("sacct: warning: there are more jobs than one list holds: name a shorter period");
    }
    if let Some(named) = &options.clusters {
        check_clusters("sacct", named, &list.cluster)?;
    }
    let view = View { list: &list, times: Times::new(list.now_us), units: options.units };
    let rows = rows::rows(&list, &options);
    if options.mode == Mode::Json {
        return print(&json::text(&view, &rows)).map(|()| ExitCode::SUCCESS);
    }
    print(&table(&view, &rows, &options)).map(|()| ExitCode::SUCCESS)
}

fn table(view: &View<'_>, rows: &[rows::Row<'_>], options: &Options) -> String {
    let heads: Vec<Head> = options.columns.iter().map(|column| column.head).collect();
    let mut out = String::new();
    if options.header {
        options.style.header(&mut out, &heads);
    }
    for row in rows {
        let values = options.columns.iter().map(|column| view.text(column.field, row));
        options.style.row(&mut out, &heads, values);
    }
    out
}
