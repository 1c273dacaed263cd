//! `muster-cluster`: virtual clusters from the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use muster_cluster_tests::{
    ClusterError, ClusterOptions, HEAD, HostStatus, LinkState, PowerState, Subnet, VirtualCluster, host,
    list, shell, stand_guard,
};

/// The exit code for "cannot be done here", as test runners know it.
const EXIT_NOT_ROOT: u8 = 77;

/// The exit code for every other failure of this program.
const EXIT_FAILURE: u8 = 1;

const EXAMPLES: &str = "\
Examples:
  muster-cluster up --hosts 4 --user alice      head and node01 to node04
  muster-cluster run --hosts 2 -- ssh node02 id head and two nodes, only while the program runs
  muster-cluster exec head -- ssh node01 hostname
  muster-cluster exec --user alice node02       a shell
  muster-cluster cut node03                     packets from and to node03 are lost
  muster-cluster power-off node04
  muster-cluster status
  muster-cluster down

Exit codes: 0 done, 1 failed, 2 wrong usage, 77 not root;
`exec` ends with the program's code, or 128 and the number of the signal that ended it.";

/// Hosts in Linux namespaces on this machine, each with its own sshd, for tests of clusters.
#[derive(Debug, Parser)]
#[command(name = "muster-cluster", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
    /// The cluster's name: 1 to 8 lower-case letters and digits
    #[arg(long, short, global = true, default_value = "mst", env = "MUSTER_CLUSTER")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a cluster; it lives until `down`
    Up {
        #[command(flatten)]
        shape: Shape,
    },
    /// Build a cluster, run a program in its head, and take the cluster down when that ends
    Run {
        #[command(flatten)]
        shape: Shape,
        /// The program and its arguments; a shell if not given
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// End all hosts and remove everything that the cluster put on this machine
    Down,
    /// List all clusters of this machine
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the hosts of the cluster
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a program inside a host
    Exec {
        /// Run it as this user and not as root
        #[arg(long, short)]
        user: Option<String>,
        /// The host, as in node01
        host: String,
        /// The program and its arguments; a shell if not given
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Kill a host: all its processes end at once
    PowerOff {
        /// The host, as in node01
        host: String,
    },
    /// Start a host that is off
    PowerOn {
        /// The host, as in node01
        host: String,
    },
    /// Lose every packet from and to a host
    Cut {
        /// The host, as in node01
        host: String,
    },
    /// End `cut`
    Heal {
        /// The host, as in node01
        host: String,
    },
    /// Stop every process of a host where it is
    Freeze {
        /// The host, as in node01
        host: String,
    },
    /// End `freeze`
    Thaw {
        /// The host, as in node01
        host: String,
    },
    /// The process that holds a host
    #[command(hide = true)]
    HostHold { host: String },
    /// Process 1 of a host
    #[command(hide = true)]
    HostInit { host: String },
    /// The process that takes the cluster down when its maker ends
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        identity: String,
    },
}

#[derive(Debug, Args)]
struct Shape {
    /// The number of nodes beside head
    #[arg(long, short = 'H', default_value_t = 4)]
    hosts: usize,
    /// The first three numbers of its addresses, as in 10.77.0; a free subnet if not given
    #[arg(long)]
    subnet: Option<Subnet>,
    /// A user that the hosts must know; made inside the cluster if the machine has no such user
    #[arg(long = "user", short)]
    users: Vec<String>,
}

impl Shape {
    fn named(self, name: &str) -> ClusterOptions {
        ClusterOptions {
            hosts: self.hosts,
            subnet: self.subnet,
            users: self.users,
            ..ClusterOptions::named(name)
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.name, arguments.command) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("muster-cluster: {error:#}");
            let not_root = matches!(error.downcast_ref(), Some(ClusterError::NotRoot));
            if not_root { EXIT_NOT_ROOT } else { EXIT_FAILURE }.into()
        }
    }
}

fn run(name: &str, verb: Verb) -> Result<u8> {
    muster_cluster_tests::require_root()?;
    match verb {
        Verb::Up { shape } => up(&shape.named(name))?,
        Verb::Run { shape, command } => return run_in_head(&shape.named(name), &command),
        Verb::Down => VirtualCluster::remove(name)?,
        Verb::List { json } => print_clusters(json)?,
        Verb::Status { json } => print_status(&VirtualCluster::attach(name)?, json)?,
        Verb::Exec { user, host, command } => return Ok(shell::run(name, &host, user.as_deref(), &command)?),
        Verb::PowerOff { host } => VirtualCluster::attach(name)?.power_off(&host)?,
        Verb::PowerOn { host } => VirtualCluster::attach(name)?.power_on(&host)?,
        Verb::Cut { host } => VirtualCluster::attach(name)?.cut(&host)?,
        Verb::Heal { host } => VirtualCluster::attach(name)?.heal(&host)?,
        Verb::Freeze { host } => VirtualCluster::attach(name)?.freeze(&host)?,
        Verb::Thaw { host } => VirtualCluster::attach(name)?.thaw(&host)?,
        Verb::HostHold { host } => host::hold(name, &host)?,
        Verb::HostInit { host } => host::init(name, &host)?,
        Verb::Guard { identity } => stand_guard(name, &identity)?,
    }
    Ok(0)
}

fn up(options: &ClusterOptions) -> Result<()> {
    let cluster = VirtualCluster::up(options)?;
    let subnet = cluster.state().subnet;
    println!(
        "cluster {}: head and {} nodes on {subnet}.0/{}",
        options.name,
        options.hosts,
        Subnet::PREFIX_BITS
    );
    println!("try: muster-cluster exec --name {} head -- ssh node01 hostname", options.name);
    Ok(cluster.keep()?)
}

fn run_in_head(options: &ClusterOptions, command: &[OsString]) -> Result<u8> {
    let cluster = VirtualCluster::up(options)?;
    // `exec` already turns a signal into a code, so one is always there unless `exec` itself was killed.
    let status = cluster.exec(HEAD, None)?.args(command).status().context("cannot start the program")?;
    cluster.down()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILURE))
}

fn print_clusters(json: bool) -> Result<()> {
    let clusters = list()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&clusters).context("cannot print the list")?);
        return Ok(());
    }
    println!("{:<10} {:<14} {:>5}  USERS", "NAME", "SUBNET", "HOSTS");
    for cluster in clusters {
        let (subnet, hosts) = (cluster.subnet.to_string(), cluster.hosts.len());
        println!("{:<10} {subnet:<14} {hosts:>5}  {}", cluster.name, cluster.users.join(","));
    }
    Ok(())
}

fn print_status(cluster: &VirtualCluster, json: bool) -> Result<()> {
    let hosts = cluster.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&hosts).context("cannot print the status")?);
        return Ok(());
    }
    println!("{:<8} {:<15} {:<7} {:<5} {:>8} {:>9}", "HOST", "ADDRESS", "POWER", "LINK", "PID", "PROCESSES");
    for HostStatus { name, address, power, link, pid, processes } in hosts {
        let power = match power {
            PowerState::On => "on",
            PowerState::Off => "off",
            PowerState::Frozen => "frozen",
        };
        let link = match link {
            LinkState::Up => "up",
            LinkState::Cut => "cut",
        };
        let (address, pid) = (address.to_string(), pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()));
        println!("{name:<8} {address:<15} {power:<7} {link:<5} {pid:>8} {processes:>9}");
    }
    Ok(())
}
