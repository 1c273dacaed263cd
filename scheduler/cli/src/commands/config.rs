//! `muster config check`.

use std::process::ExitCode;

use crate::cli::ConfigAction;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::print;

pub(crate) fn run(action: &ConfigAction) -> Result<ExitCode, CliError> {
    let ConfigAction::Check { file } = action;
    let config = muster_config::load(file)
        .map_err(|errors| CliError::Config { path: file.clone(), source: errors })?;
    let cluster = &config.cluster;
    print(&format!(
        "{} is right: cluster {}, {} nodes, {} pools\n",
        file.display(),
        cluster.name,
        cluster.nodes.len(),
        cluster.pools.len()
    ))?;
    Ok(Exit::Ok.into())
}
