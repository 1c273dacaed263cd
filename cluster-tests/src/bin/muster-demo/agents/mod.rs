//! What the controller takes for thousands of agents: they register, are silent but for their heartbeats, launch a gang, run a
//! swarm of small tasks, do not listen, vanish, and come back to a controller that was killed.

mod parts;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use muster_client::Client;
use muster_client::api::SubmitRequest;
use muster_cluster_tests::agents::{Agents, AgentsOptions, Loopback, LoopbackOptions, array};
use muster_cluster_tests::site::repository;
use muster_core::cores::CORES_PER_NODE_MAX;
use muster_core::ids::{JobId, JobRef};

use self::report::{Registration, Report, Swarm, Swarms, kib, mib, say_swarm};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Agents, each for a node of its own.
    #[arg(long, default_value_t = 5000)]
    agents: u32,
    /// Tasks that wait all the time.
    #[arg(long, default_value_t = 100_000)]
    waiting: u32,
    /// Nodes of the gang.
    #[arg(long, default_value_t = 4000)]
    gang: u32,
    /// Small tasks of the swarm.
    #[arg(long, default_value_t = 100_000)]
    tasks: u32,
    /// Cores of each node.
    #[arg(long, default_value_t = 8)]
    cores: u32,
    /// Between two heartbeats of an agent, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    heartbeat_ms: u32,
    /// After how many seconds of silence a node is given up.
    #[arg(long, default_value_t = 30)]
    node_timeout_s: u64,
    /// How long the controller is watched at rest, in seconds.
    #[arg(long, default_value_t = 30)]
    rest_s: u64,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Print the figures as one JSON object, on the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Rest,
    Gang,
    Swarm,
    Deaf,
    Failure,
    Restart,
}

pub fn run(options: &Options) -> Result<()> {
    ensure!(options.agents >= 10, "at least 10 agents are needed");
    ensure!(
        options.gang <= options.agents,
        "a gang of {} nodes is more than the {} agents: --gang takes at most as many",
        options.gang,
        options.agents
    );
    let mut bench = Bench::up(options)?;
    bench.measure()?;
    let (mut report, many) = (std::mem::take(&mut bench.report), bench.swarm.take());
    report.memory_peak_mib = mib(bench.controller.figures().memory_peak_bytes);
    drop(bench);
    if let Some(many) = many {
        let one = one_agent(options)?;
        say_swarm("one agent", &one);
        let ratio = many.tasks_per_s / one.tasks_per_s;
        println!("{:36} {ratio:.2}", "  rate, many over one");
        report.swarm = Some(Swarms { tasks: options.tasks, many, one, ratio });
    }
    println!("{:36} {:.0} MiB", "memory, the most", report.memory_peak_mib);
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// A folder of its own on the disk that the build is on, which is removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = repository().join("target/sites").join(format!("{name}{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Bench<'a> {
    options: &'a Options,
    // Agents first: they would look for a controller that is gone.
    agents: Agents,
    controller: Loopback,
    client: Client,
    report: Report,
    /// The swarm on many agents, which is told beside that on one.
    swarm: Option<Swarm>,
    _folder: Folder,
}

/// A controller and its agents, which are not connected yet.
fn prepare(
    folder: &Path,
    options: &Options,
    names: Vec<String>,
    cluster: String,
    cores: u32,
) -> Result<(Loopback, Agents, f64)> {
    let controller =
        format!("heartbeat_ms = {}\nnode_timeout_s = {}", options.heartbeat_ms, options.node_timeout_s);
    let most = u64::from(options.waiting) + u64::from(options.tasks) + 2 * u64::from(options.agents) + 1000;
    let policy = format!("tasks_waiting_max = {most}");
    let mut loopback =
        Loopback::new(&LoopbackOptions { folder: folder.to_owned(), controller, policy, cluster })?;
    let begun = Instant::now();
    loopback.start()?;
    let start_s = begun.elapsed().as_secs_f64();
    // Those that may be deaf are the last tenth of the nodes of the main pool.
    let unasking = names.len() / 10 + 1;
    let options =
        AgentsOptions { controller: loopback.address(), tls: loopback.tls(), names, cores, unasking };
    let agents = Agents::new(&options)?;
    Ok((loopback, agents, start_s))
}

impl<'a> Bench<'a> {
    /// The controller runs, and all agents are registered.
    fn up(options: &'a Options) -> Result<Self> {
        let folder = Folder::new("agents")?;
        let count = options.agents;
        let mut names: Vec<String> = (1..=count).map(|number| format!("n{number:05}")).collect();
        // The tasks that wait all the time do so for this one.
        names.push("full".to_owned());
        let cores = options.cores;
        let cluster = format!(
            "[[node]]\nname = \"n[00001-{count:05}]\"\ncores = {cores}\nmemory = \"64G\"\n\n\
             [[node]]\nname = \"full\"\ncores = {cores}\nmemory = \"64G\"\n\n\
             [[pool]]\nname = \"main\"\nnodes = \"n[00001-{count:05}]\"\ndefault = true\ndefault_time = \"1:00:00\"\n\n\
             [[pool]]\nname = \"full\"\nnodes = \"full\"\ndefault_time = \"1:00:00\"\n"
        );
        println!("{count} agents of {cores} cores, a heartbeat every {} ms", options.heartbeat_ms);
        let (controller, mut agents, start_s) = prepare(&folder.0, options, names, cluster, cores)?;
        println!("{:36} {start_s:.2} s", "the controller starts");
        let before = controller.figures();
        let begun = Instant::now();
        agents.connect();
        agents.wait("a session of each agent", LIMIT, |counted| counted.sessions > u64::from(count))?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = controller.figures();
        let registration = Registration {
            seconds,
            cpu_us_per_node: (after.cpu_s - before.cpu_s) * 1e6 / f64::from(count),
            memory_kib_per_node: kib(after.memory_bytes.saturating_sub(before.memory_bytes))
                / f64::from(count),
        };
        println!(
            "{:36} {seconds:.2} s, {:.0} us of CPU time and {:.0} KiB a node",
            "all agents register", registration.cpu_us_per_node, registration.memory_kib_per_node
        );
        let client = controller.client()?;
        let report = Report {
            agents: count,
            waiting_tasks: options.waiting,
            start_s,
            registration,
            ..Report::default()
        };
        Ok(Self { options, agents, controller, client, report, swarm: None, _folder: folder })
    }

    fn wants(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }
}

/// The swarm on one agent with as many slots as the many have together, as far as a node may have them.
fn one_agent(options: &Options) -> Result<Swarm> {
    let folder = Folder::new("agent")?;
    let slots = options.agents.min(CORES_PER_NODE_MAX);
    let cluster = format!(
        "[[node]]\nname = \"one\"\ncores = {slots}\nmemory = \"64G\"\n\n\
         [[pool]]\nname = \"main\"\nnodes = \"one\"\ndefault = true\ndefault_time = \"1:00:00\"\n"
    );
    let (controller, mut agents, _) = prepare(&folder.0, options, vec!["one".to_owned()], cluster, slots)?;
    agents.connect();
    agents.wait("the only session", LIMIT, |counted| counted.sessions == 1)?;
    let mut client = controller.client()?;
    let swarm = swarm(&agents, &controller, &mut client, options.tasks, 1)?;
    Ok(Swarm { agents: 1, slots, ..swarm })
}

/// How many arrays stand for a swarm: one takes two or three seconds, from one to the next of which the machine is a fifth faster or slower.
const SWARM_ROUNDS: usize = 3;

/// Arrays one after another; the one whose rate is the middle one.
fn swarm(
    agents: &Agents,
    controller: &Loopback,
    client: &mut Client,
    tasks: u32,
    cores: u32,
) -> Result<Swarm> {
    let rounds = (0..SWARM_ROUNDS).map(|_| array_of_nothing(agents, controller, client, tasks, cores));
    let mut rounds = rounds.collect::<Result<Vec<_>>>()?;
    rounds.sort_by(|one, other| one.tasks_per_s.total_cmp(&other.tasks_per_s));
    Ok(rounds.swap_remove(SWARM_ROUNDS / 2))
}

/// An array of tasks that take no time, until the end of each is durable.
fn array_of_nothing(
    agents: &Agents,
    controller: &Loopback,
    client: &mut Client,
    tasks: u32,
    cores: u32,
) -> Result<Swarm> {
    let (at_first, before) = (agents.counted(), controller.figures());
    let begun = Instant::now();
    submit(client, &array(tasks, cores, "0"))?;
    agents.wait("the end of all small tasks", LIMIT, |counted| {
        counted.forgotten >= at_first.forgotten + u64::from(tasks)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_s = controller.figures().cpu_s - before.cpu_s;
    Ok(Swarm {
        agents: 0,
        slots: 0,
        tasks_per_s: f64::from(tasks) / seconds,
        cpu_us_per_task: cpu_s * 1e6 / f64::from(tasks),
    })
}

fn submit(client: &mut Client, request: &SubmitRequest) -> Result<JobRef> {
    let answer = client.submit(request)?;
    Ok(JobRef { job: JobId(answer.job.context("no id for the job")?), task: None })
}
