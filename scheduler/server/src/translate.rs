//! Between the engine's words and the wire's.

mod common;
mod gang;
mod staging;

use std::sync::Arc;

use muster_config::HealthConfig;
use muster_core::batch::{SETUP_ERRORS_MAX, SetupError};
use muster_core::event::{Allocation, Endpoint, Hardware, HardwareCore, HardwareDevice, Usage};
use muster_core::gres::{GRES_COUNT_MAX, GRES_KINDS_PER_NODE_MAX};
use muster_core::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{Effect, GoneHow, InstancePhase, InstanceReport, StopCause};
use muster_core::patterns;
use muster_core::spec::{ArraySpec, IndexRange, JobSpec, SignalTo};
use muster_core::staging::FailureCode;
use muster_core::state::State;
use muster_wire::{Told, v1};

use self::common::{Arrays, WHOSE_NODE};
use self::gang::Gangs;
use crate::batch_site::BatchSite;
use crate::outputs::{self, Outputs};
use crate::secrets::Secrets;

/// Most devices of one node that are remembered: as many kinds, with as many devices each, as may be declared.
const DEVICES_MAX: usize = GRES_KINDS_PER_NODE_MAX * GRES_COUNT_MAX as usize;

/// A message that does not keep to the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A field that must be there.
    #[error("the message lacks its {field}")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A number outside its limits.
    #[error("{field} is {value}, but at most {max} is possible")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u32,
        /// Its limit.
        max: u32,
    },
}

fn missing(field: &'static str) -> BadMessage {
    BadMessage::Missing { field }
}

/// An attempt's key for the wire.
#[must_use]
pub fn wire_key(key: AttemptKey) -> v1::AttemptKey {
    v1::AttemptKey { job: key.task.job.0, task: key.task.index.0, attempt: key.attempt }
}

/// The attempt that a message names.
///
/// # Errors
/// [`BadMessage`] if it names none.
pub(crate) fn core_key(key: Option<v1::AttemptKey>) -> Result<AttemptKey, BadMessage> {
    let key = key.ok_or_else(|| missing("key"))?;
    let task = TaskId { job: JobId(key.job), index: TaskIndex(key.task) };
    Ok(AttemptKey { task, attempt: key.attempt })
}

fn port(field: &'static str, value: u32) -> Result<u16, BadMessage> {
    let max = u32::from(u16::MAX);
    u16::try_from(value).map_err(|_| BadMessage::TooLarge { field, value, max })
}

fn core_endpoint(endpoint: v1::Endpoint) -> Result<Endpoint, BadMessage> {
    Ok(Endpoint {
        host: endpoint.host,
        address: endpoint.address,
        ssh_port: port("ssh_port", endpoint.ssh_port)?,
        ssh_host_key: endpoint.ssh_host_key,
        gang_port: port("gang_port", endpoint.gang_port)?,
    })
}

fn wire_endpoint(endpoint: &Endpoint) -> v1::Endpoint {
    v1::Endpoint {
        host: endpoint.host.clone(),
        address: endpoint.address.clone(),
        ssh_port: u32::from(endpoint.ssh_port),
        ssh_host_key: endpoint.ssh_host_key.clone(),
        gang_port: u32::from(endpoint.gang_port),
    }
}

fn core_usage(gone: &v1::Gone) -> Usage {
    let usage = gone.usage.unwrap_or_default();
    Usage {
        cpu_time_us: usage.cpu_time_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        cpu_system_us: usage.cpu_system_us.min(usage.cpu_time_us),
        read_bytes: usage.read_bytes,
        write_bytes: usage.write_bytes,
        read_operations: usage.read_operations,
        write_operations: usage.write_operations,
        // The difference holds however wrong the node's clock is; what was too fast for it ran as well.
        ran_us: match gone.started_at_us {
            0 => 0,
            started_at_us => gone.ended_at_us.saturating_sub(started_at_us).max(1),
        },
    }
}

/// What a node says of an instance.
///
/// # Errors
/// [`BadMessage`] if it does not keep to the contract.
pub fn report(report: v1::InstanceReport) -> Result<InstanceReport, BadMessage> {
    use v1::instance_report::Phase;
    let phase = match report.phase.ok_or_else(|| missing("phase"))? {
        Phase::Preparing(_) => InstancePhase::Preparing,
        Phase::Ready(ready) => {
            InstancePhase::Ready(core_endpoint(ready.endpoint.ok_or_else(|| missing("endpoint"))?)?)
        }
        Phase::Running(running) => InstancePhase::Running { started_at: Timestamp(running.started_at_us) },
        Phase::Gone(gone) => InstancePhase::Gone {
            usage: core_usage(&gone),
            how: gone_how(gone.how.ok_or_else(|| missing("how"))?),
            started_at: (gone.started_at_us > 0).then_some(Timestamp(gone.started_at_us)),
        },
    };
    Ok(InstanceReport { key: core_key(report.key)?, instance: report.instance, phase })
}

fn gone_how(how: v1::gone::How) -> GoneHow {
    use v1::gone::How;
    match how {
        How::PrepareFailed(failed) => {
            GoneHow::PrepareFailed { reason: failed.reason, node_at_fault: failed.node_at_fault }
        }
        How::Exited(exited) => {
            GoneHow::Exited { code: exited.code, signal: exited.signal, out_of_memory: exited.out_of_memory }
        }
        How::StageInFailed(failed) => {
            GoneHow::StageInFailed(staging::failure(failed, FailureCode::BlobDownloadMiscError))
        }
        How::StageOutFailed(failed) => {
            GoneHow::StageOutFailed(staging::failure(failed, FailureCode::FileUploadMiscError))
        }
        How::Stopped(_) => GoneHow::Stopped,
        How::Returned(_) => GoneHow::Returned,
        How::Broken(broken) => GoneHow::Broken { reason: broken.reason },
    }
}

/// Longest text of a failed health check, in characters.
const PROBLEM_CHARS_MAX: usize = 200;

/// What a node's health check found, if anything is wrong.
#[must_use]
pub fn problem(health: &v1::Health) -> Option<String> {
    let printable = health.problem.chars().map(|c| if c.is_control() { ' ' } else { c });
    let problem: String = printable.take(PROBLEM_CHARS_MAX).collect();
    (!health.problem.is_empty()).then_some(problem)
}

/// Longest sentence about the set-up of a node that is kept, in characters.
const SETUP_CHARS_MAX: usize = 1000;

/// Why a node could not be set up, as it says.
#[must_use]
pub fn setup_errors(done: &v1::SetupDone) -> Vec<SetupError> {
    let text = |text: &str, most: usize| {
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(most).collect::<String>()
    };
    let error = |error: &v1::SetupError| SetupError {
        code: text(&error.code, 64),
        message: text(&error.message, SETUP_CHARS_MAX),
    };
    done.errors.iter().take(SETUP_ERRORS_MAX).map(error).collect()
}

/// The health check that agents are to run.
#[must_use]
pub fn health_check(config: &HealthConfig) -> v1::HealthCheck {
    v1::HealthCheck {
        program: config.program.display().to_string(),
        interval_ms: config.interval_s.saturating_mul(1000),
        timeout_ms: config.timeout_s.saturating_mul(1000),
    }
}

/// What a node's agent found.
#[must_use]
pub fn hardware(hello: &v1::Hello) -> Hardware {
    let topology = hello.topology.clone().unwrap_or_default();
    let core = |core: &v1::Core| HardwareCore {
        package: core.package,
        numa: core.numa,
        l3: core.l3,
        threads: u32::try_from(core.cpus.len()).unwrap_or(u32::MAX).max(1),
    };
    let containment = match hello.containment() {
        v1::Containment::Unspecified => "unknown",
        v1::Containment::CgroupV2 => "cgroup_v2",
        v1::Containment::CgroupHybrid => "cgroup_hybrid",
        v1::Containment::Subreaper => "subreaper",
    };
    let device = |device: v1::Device| HardwareDevice {
        name: device.name,
        numa: device.numa,
        package: device.package,
        pci_address: device.pci_address,
    };
    Hardware {
        devices: topology.devices.into_iter().take(DEVICES_MAX).map(device).collect(),
        cores: topology.cores.iter().map(core).collect(),
        memory_bytes: topology.memory_bytes,
        address: hello.address.clone(),
        agent_version: hello.agent_version.clone(),
        containment: containment.to_owned(),
        takes_lines: hello.takes_lines,
        ..Hardware::default()
    }
}

/// Makes messages of effects, and remembers what many of them say alike.
#[derive(Default)]
pub struct Translator {
    gangs: Gangs,
    arrays: Arrays,
}

impl Translator {
    /// The message that carries an effect out.
    #[must_use]
    pub fn message(
        &self,
        state: &State,
        secrets: &Secrets,
        site: Option<&BatchSite>,
        effect: &Effect,
    ) -> Told {
        use v1::to_node::Body;
        let body = match effect {
            Effect::Prepare { node, key, instance, allocation, spec, time_limit_s, after } => {
                let attempts = attempts_until(state, *key);
                let gang = self.gangs.of(state, secrets, *key, allocation);
                // Tasks of the batch service are told of more than their specs say, and each has a spec of its own.
                let of_batch = site.filter(|_| state.batch_account_of(key.task.job).is_some());
                let common = if of_batch.is_some() { None } else { self.arrays.common(spec, *instance == 0) };
                let (user, mut work) = match common {
                    Some(_) => (None, v1::Work::default()),
                    None => (Some(common::user(spec)), common::work(spec, *instance == 0)),
                };
                let mut prepare =
                    v1::Prepare { user, ..prepare(state, &gang, *key, *instance, allocation, spec) };
                say_of_task(*key, attempts, spec, *time_limit_s, primary(state, allocation), &mut work);
                prepare.after = after.map(wire_key);
                prepare.returned = key.attempt - attempts;
                prepare.staging = staging::staging(*key, spec, *instance == 0, |container, for_s| {
                    site?.container_url(state.batch_account_of(key.task.job)?, container, for_s)
                });
                if let Some(site) = site {
                    site.add_words(state, secrets, *key, *node, &mut prepare, &mut work);
                    say_whose_node(state, *node, &mut work);
                }
                prepare.add_work(&work);
                if let Some(common) = common {
                    return Told::Prepare { common, own: prepare };
                }
                Body::Prepare(prepare)
            }
            Effect::Go { key, peers, .. } => Body::Go(v1::Go {
                key: Some(wire_key(*key)),
                peers: peers.iter().map(wire_endpoint).collect(),
            }),
            Effect::Stop { key, grace_ms, reason, cause, .. } => Body::Stop(v1::Stop {
                key: Some(wire_key(*key)),
                grace_ms: *grace_ms,
                reason: reason.clone(),
                cause: wire_cause(*cause).into(),
            }),
            Effect::Signal { key, signal, to, .. } => Body::Signal(v1::Signal {
                key: Some(wire_key(*key)),
                number: u32::from(*signal),
                to: match to {
                    SignalTo::Script => v1::SignalTo::Script,
                    SignalTo::Ranks => v1::SignalTo::Ranks,
                    SignalTo::All => v1::SignalTo::All,
                }
                .into(),
                step: None,
                viewer: None,
            }),
            Effect::SignalStep { key, step, signal, .. } => Body::Signal(v1::Signal {
                key: Some(wire_key(*key)),
                number: signal.map_or(0, u32::from),
                to: v1::SignalTo::Ranks.into(),
                step: Some(*step),
                viewer: None,
            }),
            Effect::AttachStep { key, step, viewer, .. } => Body::Signal(v1::Signal {
                key: Some(wire_key(*key)),
                number: 0,
                to: v1::SignalTo::Ranks.into(),
                step: Some(*step),
                viewer: Some(v1::Viewer {
                    hosts: viewer.hosts.iter().map(ToString::to_string).collect(),
                    port: u32::from(viewer.port),
                    key: viewer.key.clone(),
                }),
            }),
            // Without the service nobody says any more what may be mounted.
            Effect::SetUp { number, what, .. } => Body::Setup(match site {
                Some(site) => site.setup(*number, what),
                None => v1::Setup::default(),
            }),
            Effect::Forget { key, .. } => Body::Forget(v1::Forget { key: Some(wire_key(*key)) }),
        };
        v1::ToNode { body: Some(body) }.into()
    }
}

/// Whether others may take the node back from the pool, as it is when the attempt begins. Only tasks of the batch service ask.
fn say_whose_node(state: &State, node: NodeId, work: &mut v1::Work) {
    if let Some(said) = work.environment.get_mut(WHOSE_NODE) {
        *said = (!state.node(node).low_priority).to_string();
    }
}

fn wire_cause(cause: StopCause) -> v1::stop::Cause {
    use v1::stop::Cause;
    match cause {
        StopCause::None => Cause::Unspecified,
        StopCause::Cancelled => Cause::Cancelled,
        StopCause::TimeLimit => Cause::TimeLimit,
        StopCause::Preemption => Cause::Preemption,
        StopCause::NodeFailure => Cause::NodeFailure,
        StopCause::Requeue => Cause::Requeue,
    }
}

/// What a node is told of its part of an attempt, on top of what the spec says as it is.
fn prepare(
    state: &State,
    gang: &gang::Gang,
    key: AttemptKey,
    instance: u32,
    allocation: &Arc<Allocation>,
    spec: &Arc<JobSpec>,
) -> v1::Prepare {
    let (members, members_packed) = gang.members();
    let share = allocation.shares.get(instance as usize);
    v1::Prepare {
        key: Some(wire_key(key)),
        instance,
        members,
        members_packed,
        memory_bytes: share.map_or(0, |share| share.memory_bytes),
        gang_token: gang.token.clone(),
        ssh_authorized_key: gang.keys.public.clone(),
        ssh_private_key: if instance == 0 { gang.keys.private.clone() } else { String::new() },
        cpus_per_rank: allocation.cores_per_rank,
        threads_per_core: spec.request.threads_per_core.unwrap_or(0),
        task_count: spec.array.as_ref().map_or(1, task_count),
        array: spec.array.is_some(),
        bounds: spec.array.as_ref().and_then(bounds),
        cluster: state.config.name.clone(),
        number: if spec.array.is_some() { key.task.number() } else { key.task.job.0 },
        at_once: spec.starts_at_once(allocation.shares.len()),
        ..v1::Prepare::default()
    }
}

fn bounds(array: &ArraySpec) -> Option<v1::ArrayBounds> {
    let (first, last) = (array.indices.first()?, array.indices.last()?);
    let step = if array.indices.len() == 1 { first.step } else { 1 };
    Some(v1::ArrayBounds { min: first.first, max: last.last, step })
}

fn task_count(array: &ArraySpec) -> u32 {
    let count: u64 = array.indices.iter().map(IndexRange::len).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How many attempts of a task there were with this one, without one that its node gave back.
fn attempts_until(state: &State, key: AttemptKey) -> u32 {
    state.jobs.get(&key.task.job).map_or(key.attempt, |job| job.attempts_until(key.task.index, key.attempt))
}

/// The name of the node on which the script runs.
fn primary<'a>(state: &'a State, allocation: &Allocation) -> &'a str {
    allocation.shares.first().map_or("", |share| &state.node(share.node).name)
}

/// What of the work is each task's own.
fn say_of_task(
    key: AttemptKey,
    attempts: u32,
    spec: &JobSpec,
    time_limit_s: Option<u64>,
    primary: &str,
    work: &mut v1::Work,
) {
    let names = outputs::names(key.task.job, spec, key.task.index, attempts, primary);
    let stdin = spec.stdin.as_deref().map(|text| patterns::expand(text, names, &spec.working_directory));
    work.stdin_path = stdin.unwrap_or_default();
    (work.stdout_path, work.stderr_path) = Outputs::from(spec).paths(names);
    work.time_limit_s = time_limit_s.unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_that_break_the_contract_are_refused() {
        let key = Some(v1::AttemptKey { job: 1, task: 2, attempt: 3 });
        let bad = |phase, key| {
            report(v1::InstanceReport { key, phase, ..v1::InstanceReport::default() }).unwrap_err()
        };
        use v1::instance_report::Phase;
        assert_eq!(bad(None, key), missing("phase"));
        assert_eq!(bad(Some(Phase::Preparing(v1::Preparing {})), None), missing("key"));
        assert_eq!(bad(Some(Phase::Ready(v1::Ready { endpoint: None })), key), missing("endpoint"));
        assert_eq!(bad(Some(Phase::Gone(v1::Gone::default())), key), missing("how"));
        let endpoint = v1::Endpoint { ssh_port: 70_000, ..v1::Endpoint::default() };
        let error = bad(Some(Phase::Ready(v1::Ready { endpoint: Some(endpoint) })), key);
        assert_eq!(error.to_string(), "ssh_port is 70000, but at most 65535 is possible");
    }

    #[test]
    fn what_an_agent_found_is_read_with_its_threads_and_devices() {
        let core = |cpus: &[u32]| v1::Core { cpus: cpus.to_vec(), ..v1::Core::default() };
        let device = v1::Device { name: "gpu".into(), numa: Some(1), ..v1::Device::default() };
        let topology = v1::Topology {
            cores: vec![core(&[0, 1]), core(&[2]), core(&[])],
            memory_bytes: 1,
            devices: vec![device; DEVICES_MAX + 1],
        };
        let found = hardware(&v1::Hello { topology: Some(topology), ..v1::Hello::default() });
        assert_eq!(found.cores.iter().map(|core| core.threads).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(
            (found.devices.len(), found.devices[0].numa, found.devices[0].package),
            (DEVICES_MAX, Some(1), None)
        );
    }

    #[test]
    fn a_report_is_read() {
        let usage = Some(v1::Usage { cpu_time_us: 5, memory_peak_bytes: 6, ..v1::Usage::default() });
        let how = Some(v1::gone::How::Exited(v1::Exited { code: 7, signal: 0, out_of_memory: false }));
        let gone = v1::Gone { how, usage, started_at_us: 0, ended_at_us: 9 };
        let times = [(0, 9, 0), (2, 9, 7), (9, 9, 1), (9, 2, 1)];
        for (started_at_us, ended_at_us, ran_us) in times {
            let gone = v1::Gone { started_at_us, ended_at_us, ..gone.clone() };
            assert_eq!(core_usage(&gone).ran_us, ran_us, "{gone:?}");
        }
        let phase = Some(v1::instance_report::Phase::Gone(gone));
        let key = Some(v1::AttemptKey { job: 1, task: 2, attempt: 3 });
        let read =
            report(v1::InstanceReport { key, instance: 4, phase, ..v1::InstanceReport::default() }).unwrap();
        assert_eq!((read.key.to_string().as_str(), read.instance), ("1_2.3", 4));
        let InstancePhase::Gone { how, usage, started_at } = read.phase else { panic!() };
        assert_eq!(how, GoneHow::Exited { code: 7, signal: 0, out_of_memory: false });
        assert_eq!((usage.cpu_time_us, usage.memory_peak_bytes, started_at), (5, 6, None));
    }
}
