//! Looking on at a running step: for `muster attach` and `sattach`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_client::api::{StepAttachRequest, StepUsageView, StepView};
use muster_client::{Client, ClientError, TaskFilter};
use muster_core::ids::{JobId, JobRef, TaskIndex};
use muster_step::StepError;
use muster_step::client::{View, Viewed};
use muster_step::live::LiveUsage;

/// How long one wait for the starter's call takes; then it is looked whether there is such a step, and asked again.
const CALLED_WITHIN: Duration = Duration::from_secs(1);

/// For how long a step may be unknown: steps are told of when they have run for a second, and it takes a little until
/// that has arrived.
const KNOWN_WITHIN: Duration = Duration::from_secs(4);

/// For how long a step that runs may not call.
const RUNNING_CALLS_WITHIN: Duration = Duration::from_secs(20);

/// How long the starter of a step may take to call somebody who asks what it uses, and then to answer.
const USAGE_WITHIN: Duration = Duration::from_secs(5);

/// Of so many steps it is asked at most in one listing.
const ASKED_MAX: usize = 200;

/// Why nothing is seen of a step.
#[derive(Debug, thiserror::Error)]
pub enum BadView {
    /// The controller refused, or was not reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The connection to the step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// There is no such step.
    #[error("job {job} has no step {step}; `muster steps {job}` lists those that it has")]
    Unknown {
        /// The job or task.
        job: JobRef,
        /// The step.
        step: u32,
    },
    /// It is over.
    #[error("step {job}.{step} has already ended; its output went to whoever started it")]
    Ended {
        /// The job or task.
        job: JobRef,
        /// The step.
        step: u32,
    },
    /// It does not say what it uses.
    #[error("step {job}.{step} has not said in time what it uses; perhaps it has just ended")]
    Silent {
        /// The job or task.
        job: JobRef,
        /// The step.
        step: u32,
    },
    /// It runs, and nobody calls.
    #[error(
        "step {job}.{step} runs, but does not reach this host at {addresses}, port {port}: call this on a host that the \
         nodes can reach; at most 16 may look on at once"
    )]
    Unreached {
        /// The job or task.
        job: JobRef,
        /// The step.
        step: u32,
        /// Where this host would be reached.
        addresses: String,
        /// The port.
        port: u16,
    },
}

/// Has the starter of a step call here, and waits for that.
///
/// # Errors
///
/// [`BadView`].
pub(crate) fn open(client: &mut Client, job: JobRef, step: u32) -> Result<Viewed, BadView> {
    let mut view = View::open()?;
    let (hosts, port) = view.address()?;
    let addresses: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let request = StepAttachRequest { hosts, port, key: view.key().to_owned() };
    let began = Instant::now();
    loop {
        client.attach_step(job, step, &request)?;
        if let Some(viewed) = view.wait(CALLED_WITHIN)? {
            return Ok(viewed);
        }
        match find(client, job, step)? {
            Some(view) if view.finished_at_us.is_some() => return Err(BadView::Ended { job, step }),
            Some(_) if began.elapsed() > RUNNING_CALLS_WITHIN => {
                return Err(BadView::Unreached { job, step, addresses: addresses.join(", "), port });
            }
            None if began.elapsed() > KNOWN_WITHIN => return Err(BadView::Unknown { job, step }),
            _ => {}
        }
    }
}

/// What a step that runs uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    /// What is known of all its ranks.
    pub usage: LiveUsage,
    /// Its nodes, in their order.
    pub hosts: Vec<String>,
    /// The position of each rank's node.
    pub node_of_rank: Vec<u32>,
}

impl Live {
    /// The node of a rank.
    pub fn host_of(&self, rank: u32) -> String {
        let node = self.node_of_rank.get(rank as usize);
        node.and_then(|node| self.hosts.get(*node as usize)).cloned().unwrap_or_default()
    }

    /// The processes on each node, by its name.
    pub fn pids(&self) -> impl Iterator<Item = (&str, &Vec<i32>)> {
        self.usage
            .pids
            .iter()
            .filter_map(|(node, pids)| Some((self.hosts.get(*node as usize)?.as_str(), pids)))
    }

    /// In figures, for JSON.
    pub fn figures(&self) -> LiveFigures<'_> {
        let usage = &self.usage;
        LiveFigures {
            running: usage.running,
            resident_bytes: usage.resident_bytes,
            virtual_peak_bytes: usage.virtual_peak_bytes,
            virtual_peak_rank: usage.virtual_peak_rank,
            virtual_sum_bytes: usage.virtual_sum_bytes,
            silent_nodes: usage.silent_nodes,
            pids: self.pids().collect(),
        }
    }

    /// As of a step that has ended.
    fn view(&self) -> StepUsageView {
        let used = &self.usage.usage;
        StepUsageView {
            ranks: used.ranks,
            user_us: used.user_us,
            system_us: used.system_us,
            cpu_min_us: used.cpu_min_us,
            cpu_min_rank: used.cpu_min_rank,
            cpu_min_node: self.host_of(used.cpu_min_rank),
            memory_peak_bytes: used.memory_peak_bytes,
            memory_peak_rank: used.memory_peak_rank,
            memory_peak_node: self.host_of(used.memory_peak_rank),
            memory_sum_bytes: used.memory_sum_bytes,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
        }
    }
}

/// What is known of a step that runs, and of none that has ended.
#[derive(Debug, serde::Serialize)]
pub(crate) struct LiveFigures<'a> {
    /// Ranks that run.
    running: u32,
    /// The memory that they hold now.
    resident_bytes: u64,
    /// Largest address space of one of their processes.
    virtual_peak_bytes: u64,
    virtual_peak_rank: u32,
    virtual_sum_bytes: u64,
    /// Nodes that have not answered.
    silent_nodes: u32,
    /// Processes by node.
    pids: BTreeMap<&'a str, &'a Vec<i32>>,
}

/// A step, and what is known of it while it runs.
#[derive(Debug, serde::Serialize)]
pub(crate) struct StepAndLive<'a> {
    #[serde(flatten)]
    pub step: &'a StepView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveFigures<'a>>,
}

/// Asks each of the steps that run what it uses, and notes that in it. Gives the answers by the place of the step, and why
/// there is none of others.
pub(crate) fn ask_all(client: &mut Client, steps: &mut [&mut StepView]) -> (Vec<Option<Live>>, Vec<BadView>) {
    let (mut answers, mut missing, mut asked) = (Vec::new(), Vec::new(), 0);
    for step in steps {
        let runs = step.finished_at_us.is_none();
        asked += usize::from(runs);
        let answer = if runs && asked <= ASKED_MAX { ask(client, step) } else { Ok(None) };
        let answer = answer.unwrap_or_else(|error| {
            missing.push(error);
            None
        });
        if let Some(live) = &answer {
            step.usage = Some(live.view());
        }
        answers.push(answer);
    }
    (answers, missing)
}

fn ask(client: &mut Client, step: &StepView) -> Result<Option<Live>, BadView> {
    let (job, number) = (JobRef { job: JobId(step.job), task: Some(TaskIndex(step.task)) }, step.step);
    let mut view = View::open()?;
    let (hosts, port) = view.address()?;
    let addresses: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    client.attach_step(job, number, &StepAttachRequest { hosts, port, key: view.key().to_owned() })?;
    let Some(viewed) = view.wait(USAGE_WITHIN)? else {
        return Err(BadView::Unreached { job, step: number, addresses: addresses.join(", "), port });
    };
    let (hosts, node_of_rank) = (viewed.layout.hosts.clone(), viewed.layout.node_of_rank.clone());
    match viewed.usage(USAGE_WITHIN)? {
        Some(usage) => Ok(Some(Live { usage, hosts, node_of_rank })),
        None => Err(BadView::Silent { job, step: number }),
    }
}

/// The step of the newest attempt.
fn find(client: &mut Client, job: JobRef, step: u32) -> Result<Option<StepView>, ClientError> {
    let filter = TaskFilter { jobs: vec![job], since_us: Some(0), steps: true, ..TaskFilter::default() };
    let steps = client.tasks(&filter)?.steps;
    Ok(steps.into_iter().filter(|view| view.step == step).max_by_key(|view| view.attempt))
}
