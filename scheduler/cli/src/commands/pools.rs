//! `muster pools`.

use std::process::ExitCode;

use muster_client::api::PoolList;
use muster_core::notation::format_time_s;
use muster_core::state::PoolState;

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};

/// Arguments of `muster pools`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster pools           a line for each pool; * marks the default\n  muster pools --json    for programs\n  \
    muster pools state down main   it starts nothing until it is up again"
)]
pub struct PoolsArgs {
    /// What to do; without, list the pools
    #[command(subcommand)]
    action: Option<PoolsAction>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum PoolsAction {
    /// Say what pools do from now on (admins only); what runs goes on
    #[command(
        after_help = "Examples:\n  muster pools state drain main   what waits starts, new jobs are refused\n  \
        muster pools state down main    jobs are taken, and none starts\n  \
        muster pools state inactive main   neither\n  muster pools state up main      both again"
    )]
    State {
        /// up, down, drain or inactive
        #[arg(value_name = "STATE", value_parser = pool_state)]
        state: PoolState,
        /// Pools
        #[arg(value_name = "POOL", required = true)]
        pools: Vec<String>,
    },
}

fn pool_state(text: &str) -> Result<PoolState, String> {
    let found = PoolState::ALL.into_iter().find(|state| state.word() == text);
    found.ok_or_else(|| "write up, down, drain or inactive".to_owned())
}

pub(crate) fn run(args: &PoolsArgs) -> Result<ExitCode, CliError> {
    if let Some(PoolsAction::State { state, pools }) = &args.action {
        let mut client = connect()?;
        pools.iter().try_for_each(|pool| client.set_pool_state(pool, *state))?;
        return Ok(Exit::Ok.into());
    }
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
        ("STATE", Side::Left),
        ("TIME", Side::Right),
        ("LONGEST", Side::Right),
        ("NODES", Side::Left),
    ]);
    for pool in &list.pools {
        let mark = if pool.default { "*" } else { "" };
        table.push(vec![
            Cell::new(format!("{}{mark}", pool.name)),
            Cell::new(pool.state.word()),
            Cell::new(format_time_s(pool.time_default_s)),
            Cell::new(format_time_s(pool.time_max_s)),
            Cell::new(&pool.node_list),
        ]);
    }
    table
}
