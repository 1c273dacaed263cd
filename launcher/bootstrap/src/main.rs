//! Brings the node agent to nodes, over SSH.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Brings the Muster node agent to nodes that have nothing but sshd.
#[derive(Debug, Parser)]
#[command(name = "muster-bootstrap", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read requests from standard input, one JSON text a line, and answer on standard output until the input ends
    Serve {
        /// How many nodes are brought up at the same time
        #[arg(long, default_value_t = muster_bootstrap::THREADS_DEFAULT)]
        concurrency: usize,
    },
}

fn main() -> ExitCode {
    let Command::Serve { concurrency } = Arguments::parse().command;
    let input = std::io::BufReader::new(std::io::stdin());
    match muster_bootstrap::serve(input, std::io::stdout(), concurrency) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-bootstrap: {}", error.sentence());
            ExitCode::FAILURE
        }
    }
}
