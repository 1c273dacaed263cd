//! `muster pools`.

use std::process::ExitCode;

use muster_client::api::PoolList;
use muster_core::notation::format_time_s;

use super::connect;
use crate::cli::PoolsArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};

pub(crate) fn run(args: &PoolsArgs) -> Result<ExitCode, CliError> {
    let list = connect()?.pools()?;
    if args.json {
        print_json(&list)?;
    } else {
        print(&table(&list).render())?;
    }
    Ok(Exit::Ok.into())
}

fn table(list: &PoolList) -> Table {
    let mut table = Table::new(vec![
        ("POOL", Side::Left),
        ("TIME", Side::Right),
        ("LONGEST", Side::Right),
        ("NODES", Side::Left),
    ]);
    for pool in &list.pools {
        let mark = if pool.default { "*" } else { "" };
        table.push(vec![
            Cell::new(format!("{}{mark}", pool.name)),
            Cell::new(format_time_s(pool.time_default_s)),
            Cell::new(format_time_s(pool.time_max_s)),
            Cell::new(&pool.node_list),
        ]);
    }
    table
}
