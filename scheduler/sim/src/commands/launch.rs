//! `muster-sim launch`

use std::process::ExitCode;

use clap::Args;
use muster_step::model::{Costs, Launch, launch};
use muster_step::tree::{WIDTH, WIDTH_MAX};

/// Work out what the start of a parallel step costs on many nodes: messages, hops and time
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is started: it is a model, over the tree in which the daemons of a step really hang. A width of at least the number
of nodes is a star, in which the starter speaks with every node.

Examples:
  muster-sim launch
  muster-sim launch --nodes 10000 --width 10000        the same without a tree
  muster-sim launch --nodes 512 --ranks-per-node 64 --send-us 10 --json")]
pub struct LaunchArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    nodes: u32,
    /// Ranks on each node
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    ranks_per_node: u32,
    /// With how many daemons the starter, and each daemon, speaks
    #[arg(long, default_value_t = WIDTH, value_parser = clap::value_parser!(u32).range(1..=i64::from(WIDTH_MAX)))]
    width: u32,
    /// How long a message is on the way, in microseconds
    #[arg(long, default_value_t = Costs::default().message_us, value_parser = cost)]
    message_us: f64,
    /// How long a process is busy with a message, in microseconds
    #[arg(long, default_value_t = Costs::default().send_us, value_parser = cost)]
    send_us: f64,
    /// How long the start of a rank takes, in microseconds
    #[arg(long, default_value_t = Costs::default().fork_us, value_parser = cost)]
    fork_us: f64,
    /// Bytes that each rank brings to the first barrier of MPI_Init
    #[arg(long, default_value_t = Costs::default().fence_bytes, value_parser = cost)]
    fence_bytes: f64,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

fn cost(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|cost| (0.0..=1e9).contains(cost))
        .ok_or("a number from 0 to 1000000000 is wanted")
}

/// Works it out.
pub fn run(args: &LaunchArgs) -> anyhow::Result<ExitCode> {
    let costs = Costs {
        message_us: args.message_us,
        send_us: args.send_us,
        fork_us: args.fork_us,
        fence_bytes: args.fence_bytes,
        ..Costs::default()
    };
    let found = launch(args.nodes, args.ranks_per_node, args.width, &costs);
    if args.json {
        let text = serde_json::json!({ "launch": found, "costs": costs, "total_us": found.total_us() });
        println!("{text}");
    } else {
        print!("{}", table(&found));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(found: &Launch) -> String {
    let ms = |us: f64| format!("{:.1} ms", us / 1000.0);
    let rows = [
        ("step", format!("{} ranks on {} nodes", found.ranks, found.nodes)),
        ("width, hops", format!("{}, {}", found.width, found.hops)),
        ("messages", found.messages.to_string()),
        ("connections of one process", format!("at most {}", found.connections_max)),
        ("bytes sent by one process", format!("at most {:.1} MB", found.bytes_max / 1e6)),
        ("daemons started", ms(found.orders_us)),
        ("launch told", ms(found.tree_us)),
        ("ranks started", ms(found.fork_us)),
        ("wire-up", ms(found.wireup_us)),
        ("all of it", ms(found.total_us())),
    ];
    rows.iter().map(|(what, value)| format!("{what:28}{value}\n")).collect()
}
