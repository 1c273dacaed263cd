//! `musterd`, the controller's program.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use muster_config::Config;
use muster_server::server::{database, place};
use muster_server::tls::private_folder;
use muster_server::{End, Running, ServerError, Standby, lead, start};
use muster_store::{Lease, Lock, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod store_command;

use store_command::StoreCommand;

/// What the engine makes for a message is freed by the thread that sends it, which costs glibc's allocator a lock and a wake-up.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_CODES: &str = "\
Signals:
  SIGTERM, SIGINT  stop: take a snapshot and leave running work running
  SIGHUP           read the configuration again; if it holds errors, the old one stays in force

Exit codes:
  0  stopped as asked, or --check found the configuration in order
  1  something failed while running
  2  the command line is wrong
  3  the configuration cannot be read or holds errors
  4  the state directory or the database cannot be used: locked by another musterd, damaged, or of a later version
  5  an address or socket cannot be listened on";

/// The controller of a Muster cluster: decides who runs where and when.
#[derive(Debug, Parser)]
#[command(name = "musterd", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MUSTER_CONFIG",
        default_value = "/etc/muster/muster.toml"
    )]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
    /// Print the state as JSON, for muster-sim, and end. A controller that runs is not disturbed. Scripts, arguments and
    /// environments of jobs are left out.
    #[arg(long, conflicts_with = "check")]
    print_state: bool,
    /// Write the line "ready" to this open file descriptor when clients and nodes can connect.
    #[arg(long, value_name = "N")]
    ready_fd: Option<i32>,
    /// What is logged to the standard error, as tracing's filters say it, such as "debug" or "muster_server=trace".
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do instead of running a controller.
#[derive(Debug, Subcommand)]
enum Command {
    /// Look after the journal: check, repair, export.
    #[command(subcommand)]
    Store(StoreCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What is allocated lies scattered: with huge pages, thousands of nodes took half as much memory again.
    let _ = nix::sys::prctl::set_thp_disable(true);
    if let Some(Command::Store(command)) = &arguments.command {
        return store_command::run(&arguments.config, command);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &ServerError) -> u8 {
    match error {
        ServerError::Config(_) => 3,
        ServerError::Store(_)
        | ServerError::BadCertificate { .. }
        | ServerError::Certificate { .. }
        | ServerError::NodeTls { .. } => 4,
        ServerError::Listen { .. }
        | ServerError::ListenBatch { .. }
        | ServerError::BatchKey { .. }
        | ServerError::BatchTls { .. }
        | ServerError::Blobs { .. }
        | ServerError::File { .. } => 5,
        ServerError::System { .. } | ServerError::EngineEnded => 1,
    }
}

/// Prints an error and its causes, each on a line of its own.
fn report(error: &dyn std::error::Error) {
    eprintln!("musterd: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  {}", error.to_string().replace('\n', "\n  "));
        cause = error.source();
    }
}

fn load(path: &Path) -> Result<Config, ServerError> {
    muster_config::load(path).map_err(ServerError::Config)
}

fn run(arguments: &Arguments) -> Result<(), ServerError> {
    let config = load(&arguments.config)?;
    if arguments.check {
        place(&config.controller).map_err(ServerError::Store)?;
        let (nodes, pools) = (config.cluster.nodes.len(), config.cluster.pools.len());
        println!("{}: in order: {nodes} nodes, {pools} pools", arguments.config.display());
        return Ok(());
    }
    if arguments.print_state {
        return print_state(&config);
    }
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    allow_descriptors(config.cluster.nodes.len());
    let system = |source| ServerError::System { doing: "start the runtime", source };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(system)?;
    let result = runtime.block_on(serve(arguments, config));
    // Nothing that is still under way needs to be waited for: what matters is durable.
    runtime.shutdown_background();
    result
}

/// Descriptors beside one for each node: clients', files', and those of the store.
const OTHER_DESCRIPTORS: u64 = 1000;

/// Takes as many descriptors as the hard limit allows: each node has a connection, and the soft limit is often 1024.
fn allow_descriptors(nodes: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        Ok(most)
    });
    let wanted = nodes as u64 + OTHER_DESCRIPTORS;
    match raised {
        Ok(most) if most < wanted => tracing::warn!(
            most,
            wanted,
            "there are fewer file descriptors than {nodes} nodes and their clients may want: raise the hard limit \
             (`ulimit -Hn`, or LimitNOFILE= of systemd)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of file descriptors cannot be raised"),
    }
}

/// Prints what muster-sim looks at, and nothing of what the jobs do.
fn print_state(config: &Config) -> Result<(), ServerError> {
    let state = muster_server::read_state(config)?;
    let out = std::io::stdout().lock();
    let system = |source| ServerError::System { doing: "print the state", source };
    serde_json::to_writer(out, &state).map_err(|error| system(error.into()))?;
    println!();
    Ok(())
}

async fn serve(arguments: &Arguments, mut config: Config) -> Result<(), ServerError> {
    let mut ready = take_ready(arguments.ready_fd)?;
    let mut signals = Signals::new()?;
    // Two controllers on one host, which may share a database, must not share a state directory.
    let _lock = lock_state_dir(&config)?;
    loop {
        let lease = match Standby::start(&config)? {
            None => None,
            Some(standby) => {
                say(&format!("standing by: clients at {}", config.controller.socket.display()));
                say_ready(ready.take());
                match stand_by(standby, arguments, &mut config, &mut signals).await? {
                    Some(lease) => Some(lease),
                    None => return Ok(()),
                }
            }
        };
        let started = match lease {
            None => start(config.clone()).await,
            Some(lease) => match lead(config.clone(), lease).await {
                Err(ServerError::Store(
                    error @ (StoreError::Deposed { .. } | StoreError::Database { .. }),
                )) => {
                    tracing::warn!(%error, "the lead was lost before anything was done with it");
                    continue;
                }
                started => started,
            },
        };
        let mut running = started?;
        say(&format!(
            "ready: cluster {}, nodes at {}, clients at {}{}",
            config.cluster.name,
            running.node_address,
            running.socket.display(),
            running.batch_address.map(|at| format!(", batch service at {at}")).unwrap_or_default()
        ));
        say_ready(ready.take());
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return stop(running).await,
                _ = signals.interrupt.recv() => return stop(running).await,
                _ = signals.hang_up.recv() => {
                    if let Some(read) = reload(&mut running, &arguments.config).await {
                        config = read;
                    }
                }
                end = running.ended() => match end {
                    End::Failed(error) => return Err(error),
                    End::Deposed => break,
                },
            }
        }
        tracing::warn!(
            "another controller leads, or may by now: this one lets nodes and clients go, and stands by"
        );
        running.step_down().await;
    }
}

/// Whoever read this before may have gone away.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "musterd: {text}");
}

async fn stop(running: Running) -> Result<(), ServerError> {
    tracing::info!("stopping; running work goes on");
    running.stop().await;
    Ok(())
}

/// Stands by until this controller leads; none if it is to stop before that.
async fn stand_by(
    mut standby: Standby,
    arguments: &Arguments,
    config: &mut Config,
    signals: &mut Signals,
) -> Result<Option<Lease>, ServerError> {
    let lease = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break None,
            _ = signals.interrupt.recv() => break None,
            _ = signals.hang_up.recv() => match load(&arguments.config) {
                Ok(read) => *config = read,
                Err(error) => tracing::error!(%error, "the configuration stays as it was"),
            },
            lease = standby.lead() => break Some(lease?),
        }
    };
    standby.stop().await;
    if lease.is_none() {
        let _ = std::fs::remove_file(&config.controller.socket);
    }
    Ok(lease)
}

/// Takes the lock that SQLite's store takes by itself.
fn lock_state_dir(config: &Config) -> Result<Option<Lock>, ServerError> {
    if config.controller.store.is_none() {
        return Ok(None);
    }
    private_folder(&config.controller.state_dir)?;
    let lock = Lock::take(&database(&config.controller.state_dir));
    lock.map(Some).map_err(ServerError::Store)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServerError> {
        let of = |kind| signal(kind).map_err(|source| ServerError::System { doing: "catch signals", source });
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hang_up: of(SignalKind::hangup())?,
        })
    }
}

/// Takes over the descriptor that readiness is said to, so that no child inherits it. It must be open for
/// writing.
fn take_ready(descriptor: Option<i32>) -> Result<Option<File>, ServerError> {
    let Some(descriptor) = descriptor else { return Ok(None) };
    let path = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
    // Opened again, it closes on exec, which the inherited one does not.
    let opened = OpenOptions::new().write(true).open(&path);
    let file = opened.map_err(|source| ServerError::File { doing: "write to", path, source })?;
    if descriptor > 2 {
        let _ = nix::unistd::close(descriptor);
    }
    Ok(Some(file))
}

/// Whoever started this may have gone away: a pipe without a reader is no failure.
fn say_ready(file: Option<File>) {
    if let Some(error) = file.and_then(|mut file| file.write_all(b"ready\n").err()) {
        tracing::warn!(%error, "cannot say ready");
    }
}

/// Gives the configuration that is in force now, if it was read.
async fn reload(running: &mut Running, path: &Path) -> Option<Config> {
    match load(path) {
        Ok(config) => match running.reload(config.clone()).await {
            Ok(()) => {
                tracing::info!("the configuration was read again");
                return Some(config);
            }
            Err(error) => tracing::error!(%error, "the configuration stays as it was"),
        },
        Err(ServerError::Config(errors)) => {
            tracing::error!("the configuration stays as it was, because the file is not in order:\n{errors}");
        }
        Err(error) => tracing::error!(%error, "the configuration stays as it was"),
    }
    None
}
