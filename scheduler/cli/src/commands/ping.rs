//! `muster ping`.

use std::process::ExitCode;

use super::connect;
use crate::cli::PingArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};

pub(crate) fn run(args: &PingArgs) -> Result<ExitCode, CliError> {
    let ping = connect()?.ping()?;
    if args.json {
        print_json(&ping)?;
    } else {
        print(&format!(
            "The controller of cluster {} answers (version {}): {} of {} nodes are up\n",
            ping.cluster, ping.version, ping.nodes_up, ping.nodes
        ))?;
        if let Some(leader) = &ping.leader {
            print(&format!("It is {}, which leads in term {}\n", leader.holder, leader.term))?;
        }
    }
    Ok(Exit::Ok.into())
}
