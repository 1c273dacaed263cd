//! `muster licenses`.

use std::process::ExitCode;

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};

/// Arguments of `muster licenses`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster licenses           a line for each kind of licence\n  muster licenses --json    for programs"
)]
pub struct LicensesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &LicensesArgs) -> Result<ExitCode, CliError> {
    let list = connect()?.licenses()?;
    if args.json {
        print_json(&list)?;
        return Ok(Exit::Ok.into());
    }
    let columns = ["TOTAL", "HELD", "FREE"].map(|name| (name, Side::Right));
    let mut table = Table::new([("LICENSE", Side::Left)].into_iter().chain(columns).collect());
    for license in &list.licenses {
        table.push(vec![
            Cell::new(&license.name),
            Cell::new(license.total.to_string()),
            Cell::new(license.held.to_string()),
            Cell::new(u64::from(license.total).saturating_sub(license.held).to_string()),
        ]);
    }
    print(&table.render())?;
    Ok(Exit::Ok.into())
}
