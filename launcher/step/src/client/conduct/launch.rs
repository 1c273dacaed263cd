//! What the daemons are told, and what the starter opens itself.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::super::output::{Outputs, Sink};
use super::super::patterns::{Names, differs_by_rank, expand};
use super::super::supervisor::Granted;
use super::super::{Plan, Programs, Redirect, terminal};
use super::{Input, input_tag};
use crate::StepError;
use crate::frames::{Common, Own, Place, Task};

/// Resources whose soft limits ranks get from the starter (setrlimit(2)).
const LIMITS: [libc::__rlimit_resource_t; 10] = [
    libc::RLIMIT_AS,
    libc::RLIMIT_CORE,
    libc::RLIMIT_CPU,
    libc::RLIMIT_DATA,
    libc::RLIMIT_FSIZE,
    libc::RLIMIT_MEMLOCK,
    libc::RLIMIT_NOFILE,
    libc::RLIMIT_NPROC,
    libc::RLIMIT_RSS,
    libc::RLIMIT_STACK,
];

/// What daemons are told.
pub(super) struct Launch {
    pub common: Common,
    /// By the position of the node; taken when it is told.
    pub own: Vec<Own>,
}

/// The starter's ends of the ranks' streams.
pub(super) struct Streams {
    pub outputs: Outputs,
    pub input: Input,
    pub input_tag: u32,
}

pub(super) fn prepare(plan: &Plan, job: u64, granted: &Granted) -> Result<(Launch, Streams), StepError> {
    let placement = &granted.placement;
    let mut node_of_rank = vec![0; placement.ntasks as usize];
    for (position, node) in placement.nodes.iter().enumerate() {
        for task in &node.tasks {
            node_of_rank[task.rank as usize] = position as u32;
        }
    }
    let array_job = std::env::var("SLURM_ARRAY_JOB_ID").ok().and_then(|job| job.parse().ok());
    let array_index = std::env::var("SLURM_ARRAY_TASK_ID").ok().and_then(|index| index.parse().ok());
    let names = Names {
        job,
        step: granted.step,
        array: array_job.zip(array_index),
        job_name: plan.job_name.clone(),
        user: std::env::var("USER").unwrap_or_default(),
        ..Names::default()
    };
    let mut own = Vec::new();
    for (position, node) in placement.nodes.iter().enumerate() {
        let mut tasks = Vec::new();
        for task in &node.tasks {
            let names =
                Names { host: node.host.clone(), node: position as u32, rank: task.rank, ..names.clone() };
            let (program, words) = match &plan.programs {
                Programs::One(_) => (0, None),
                Programs::Multi(multi) => {
                    let (program, words) = multi.of(task.rank)?;
                    (program, Some(words))
                }
            };
            let stdout = place(plan, &plan.stdout, &names);
            let stderr = match &plan.stderr {
                Some(redirect) => place(plan, redirect, &names),
                None if matches!(stdout, Place::File(_)) => Place::Stdout,
                None if plan.stdout == Redirect::Nothing => Place::Starter,
                None => place(plan, &as_errors(&plan.stdout), &names),
            };
            let stdin = place(plan, &plan.stdin, &names);
            tasks.push(Task {
                rank: task.rank,
                cores: task.cores.clone(),
                program,
                words,
                stdin,
                stdout,
                stderr,
            });
        }
        own.push(Own { position: position as u32, cores: node.cores.clone(), tasks });
    }
    let programs = match &plan.programs {
        Programs::One(words) => vec![words.clone()],
        Programs::Multi(multi) => multi.assignments.iter().map(|line| line.words.clone()).collect(),
    };
    let common = Common {
        programs,
        environment: plan.environment.clone(),
        directory: plan.directory.clone(),
        umask: own_umask(),
        limits: LIMITS.iter().filter_map(|resource| Some((*resource, soft_limit(*resource)?))).collect(),
        ntasks: placement.ntasks,
        cores_per_task: placement.cores_per_task,
        node_of_rank,
        hosts: placement.nodes.iter().map(|node| node.host.clone()).collect(),
        wireup: plan.wireup,
        bind: plan.bind.clone(),
        terminal: plan.pty.then(terminal::size),
        append: plan.append,
        relayed: plan.relayed,
        show_bindings: plan.show_bindings,
        dry_run: plan.dry_run,
        sent: None,
    };
    let streams = streams(plan, &names, placement.ntasks)?;
    Ok((Launch { common, own }, streams))
}

/// Without a word about errors they go where output goes, but to the starter's standard error instead of its output.
fn as_errors(stdout: &Redirect) -> Redirect {
    match stdout {
        Redirect::Rank(rank) => Redirect::Rank(*rank),
        _ => Redirect::Own,
    }
}

/// Where a stream of a rank is connected.
fn place(plan: &Plan, redirect: &Redirect, names: &Names) -> Place {
    match redirect {
        Redirect::Own => Place::Starter,
        Redirect::Nothing => Place::Null,
        Redirect::Rank(rank) if *rank == names.rank => Place::Starter,
        Redirect::Rank(_) => Place::Null,
        Redirect::File(pattern) if differs_by_rank(pattern) => Place::File(path_of(plan, pattern, names)),
        Redirect::File(_) => Place::Starter,
    }
}

fn path_of(plan: &Plan, pattern: &str, names: &Names) -> String {
    Path::new(&plan.directory).join(expand(pattern, names)).to_string_lossy().into_owned()
}

fn streams(plan: &Plan, names: &Names, ntasks: u32) -> Result<Streams, StepError> {
    let common_file = |redirect: &Redirect| match redirect {
        Redirect::File(pattern) if !differs_by_rank(pattern) => Some(path_of(plan, pattern, names)),
        _ => None,
    };
    let create = |path: String| -> Result<Sink, StepError> {
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.map_err(StepError::file("write", &path))?;
        if !plan.append && file.metadata().is_ok_and(|found| found.is_file()) {
            file.set_len(0).map_err(StepError::file("empty", &path))?;
        }
        Ok(Sink::File(file))
    };
    let out_path = common_file(&plan.stdout);
    let err_path = plan.stderr.as_ref().and_then(common_file);
    let stderr = match (&plan.stderr, err_path) {
        // One file for both is opened once.
        (_, Some(path)) if Some(&path) == out_path.as_ref() => None,
        (_, Some(path)) => Some(create(path)?),
        (None, None) if out_path.is_some() => None,
        _ => Some(Sink::Stderr),
    };
    let stdout = match out_path {
        Some(path) => create(path)?,
        None => Sink::Stdout,
    };
    let (input, rank) = match &plan.stdin {
        Redirect::Own => (Input::Own, None),
        Redirect::Rank(rank) => (Input::Own, Some(*rank)),
        Redirect::Nothing => (Input::None, None),
        Redirect::File(pattern) if differs_by_rank(pattern) => (Input::None, None),
        Redirect::File(pattern) => {
            let path = path_of(plan, pattern, names);
            (Input::File(File::open(&path).map_err(StepError::file("read", &path))?), None)
        }
    };
    let width = (ntasks.max(1) - 1).to_string().len();
    let label = plan.label.then_some(width);
    let outputs = Outputs::new(stdout, stderr, label, plan.unbuffered || plan.pty);
    Ok(Streams { outputs, input, input_tag: input_tag(rank) })
}

fn own_umask() -> u32 {
    use nix::sys::stat::{Mode, umask};
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is a valid place for the answer.
    let asked = unsafe { libc::getrlimit(resource, &raw mut now) };
    (asked == 0).then_some(now.rlim_cur)
}
