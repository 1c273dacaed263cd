//! Looking on at a running step: for `muster attach` and `sattach`.

use std::time::{Duration, Instant};

use muster_client::api::{StepAttachRequest, StepView};
use muster_client::{Client, ClientError, TaskFilter};
use muster_core::ids::JobRef;
use muster_step::StepError;
use muster_step::client::{View, Viewed};

/// How long one wait for the starter's call takes; then it is looked whether there is such a step, and asked again.
const CALLED_WITHIN: Duration = Duration::from_secs(1);

/// For how long a step may be unknown: steps are told of when they have run for a second, and it takes a little until
/// that has arrived.
const KNOWN_WITHIN: Duration = Duration::from_secs(4);

/// For how long a step that runs may not call.
const RUNNING_CALLS_WITHIN: Duration = Duration::from_secs(20);

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

/// The step of the newest attempt.
fn find(client: &mut Client, job: JobRef, step: u32) -> Result<Option<StepView>, ClientError> {
    let filter = TaskFilter { jobs: vec![job], since_us: Some(0), steps: true, ..TaskFilter::default() };
    let steps = client.tasks(&filter)?.steps;
    Ok(steps.into_iter().filter(|view| view.step == step).max_by_key(|view| view.attempt))
}
