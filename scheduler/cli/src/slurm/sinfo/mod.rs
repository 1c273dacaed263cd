//! The face `sinfo`: partitions and nodes.

mod fields;
mod json;
mod options;
mod rows;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_client::Client;

use self::options::{Mode, Options};
use self::rows::Cluster;
use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::reservations;
use super::time::Times;

/// What Slurm calls asking for partitions.
const DOING: &str = "slurm_load_partitions";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let options = options::read(words)?;
    match options.mode {
        Mode::Help => return print(options::HELP).map(|()| ExitCode::SUCCESS),
        Mode::Usage => return print(options::USAGE).map(|()| ExitCode::SUCCESS),
        Mode::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
        Mode::Table | Mode::Json | Mode::Reservations => {}
    }
    let mut client = connect(DOING)?;
    loop {
        let text = listing(&mut client, &options)?;
        print(&text)?;
        let Some(seconds) = options.iterate_s else { return Ok(ExitCode::SUCCESS) };
        thread::sleep(Duration::from_secs(seconds));
        print("\n")?;
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn listing(client: &mut Client, options: &Options) -> Result<String, Fault> {
    let mut text = String::new();
    if let Some(named) = &options.clusters {
        let own = client.ping().map_err(Fault::client(DOING))?.cluster;
        check_clusters("sinfo", named, &own)?;
        if options.mode != Mode::Json {
            text.push_str(&format!("CLUSTER: {own}\n"));
        }
    }
    let times = Times::new(now_us());
    if options.mode == Mode::Reservations {
        let list = client.reservations().map_err(Fault::client(DOING))?.reservations;
        text.push_str(&reservations::table(&list, &times, options.header));
        return Ok(text);
    }
    let nodes = client.nodes().map_err(Fault::client(DOING))?.nodes;
    let pools = client.pools().map_err(Fault::client(DOING))?.pools;
    let cluster = Cluster::new(&nodes, &pools, times.now_us);
    if options.mode == Mode::Json {
        text.push_str(&json::text(&cluster, options));
        return Ok(text);
    }
    if options.long && options.header {
        text.push_str(&format!("{}\n", times.headline()));
    }
    let layout = options.layout(&cluster);
    if options.header {
        layout.header(&mut text);
    }
    let view = fields::View { times };
    let mut rows = rows::rows(&cluster, options, &layout, &view);
    rows::sort(&mut rows, options, &view);
    for row in &rows {
        layout.line(&mut text, |column, out| view.write(column.key, row, out));
    }
    Ok(text)
}
