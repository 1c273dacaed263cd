//! What users ask of tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Decided, check_goes_on, container, end, event, invalid, not_found, package};
use crate::batch::{
    Added, BatchCommand, BatchEvent, BatchInput, BatchJobSpec, BatchPoolKey, BatchRefusal, BatchTaskKey,
    DEPENDENCY_CHARS_MAX, DEPENDENCY_RANGES_MAX, DependsOn, EndWish, FailedIn, Failure, FailureCategory,
    FoldedId, Manager, NewTask, Outcome, SAID_BYTES_MAX, SLOTS_PER_NODE_MAX, TASKS_PER_COLLECTION_MAX,
    TASKS_PER_JOB_MAX, Target, TaskShape, is_id,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::staging::Command;
use crate::state::{BatchJob, BatchTask, BatchTaskState, State};

/// Adds tasks, each by itself: says what became of each.
pub(super) fn add(
    state: &State,
    input: &BatchInput,
    job: &FoldedId,
    shapes: &[Arc<TaskShape>],
    tasks: &[NewTask],
) -> Result<(Vec<Event>, Vec<Added>), BatchRefusal> {
    let (key, job) = input.job_of_task(state, job)?;
    check_goes_on(job)?;
    if tasks.len() > TASKS_PER_COLLECTION_MAX {
        let reason = format!("at most {TASKS_PER_COLLECTION_MAX} tasks can be added at once");
        return Err(invalid("value", reason));
    }
    let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
    let mut here: BTreeSet<FoldedId> = BTreeSet::new();
    let mut check = |task: &NewTask| {
        let id = FoldedId::of(&task.id);
        if job.tasks.contains_key(&id) || here.contains(&id) {
            return Err(BatchRefusal::Exists { what: Target::Task, id: task.id.clone() });
        }
        if job.tasks.len() + here.len() >= TASKS_PER_JOB_MAX {
            return Err(BatchRefusal::Quota { what: "tasks in the job", limit: TASKS_PER_JOB_MAX });
        }
        let shape = shapes.get(task.shape as usize);
        let shape = shape.ok_or_else(|| invalid("value", "is incomplete"))?;
        check_task(job, task, shape)?;
        package::check(state, &key.account, &shape.packages)?;
        container::check_task(state, &pool, shape.container.as_deref())?;
        here.insert(id);
        Ok(())
    };
    let added: Vec<Added> = tasks.iter().map(&mut check).collect();
    let taken: Vec<NewTask> =
        tasks.iter().zip(&added).filter(|(_, added)| added.is_ok()).map(|(task, _)| task.clone()).collect();
    let events = match taken.is_empty() {
        true => Vec::new(),
        false => vec![event(BatchEvent::TasksAdded { job: key, shapes: shapes.to_vec(), tasks: taken })],
    };
    Ok((events, added))
}

fn check_task(job: &BatchJob, task: &NewTask, shape: &TaskShape) -> Result<(), BatchRefusal> {
    check_id(&job.spec, task)?;
    Command::parse(&task.command).map_err(|error| invalid("commandLine", error.to_string()))?;
    if let Some(depends) = &task.depends {
        check_dependencies(job, depends)?;
    }
    check_shape(&job.spec, shape)
}

/// Checks the task that is made with its job.
pub(super) fn check_manager(job: &BatchJobSpec, manager: &Manager) -> Result<(), BatchRefusal> {
    check_id(job, &manager.task)?;
    Command::parse(&manager.task.command).map_err(|error| invalid("commandLine", error.to_string()))?;
    check_shape(job, &manager.shape)
}

fn check_id(job: &BatchJobSpec, task: &NewTask) -> Result<(), BatchRefusal> {
    for (chore, what) in [(&job.preparation, "preparation"), (&job.release, "release")] {
        if chore.as_ref().is_some_and(|chore| chore.id.eq_ignore_ascii_case(&task.id)) {
            return Err(BatchRefusal::IdOfChore { what });
        }
    }
    if is_id(&task.id) {
        Ok(())
    } else {
        Err(invalid("id", "must have 1 to 64 letters, digits, hyphens or underscores"))
    }
}

fn check_shape(job: &BatchJobSpec, shape: &TaskShape) -> Result<(), BatchRefusal> {
    if shape.slots == 0 || shape.slots > SLOTS_PER_NODE_MAX {
        return Err(invalid("requiredSlots", format!("must be 1 to {SLOTS_PER_NODE_MAX}")));
    }
    if shape.multi_instance.is_some() && shape.slots != 1 {
        return Err(invalid("requiredSlots", "must be 1 for a task with multiInstanceSettings"));
    }
    if shape.multi_instance.as_ref().is_some_and(|multi| multi.instances == 0) {
        return Err(invalid("numberOfInstances", "must be at least 1"));
    }
    if shape.exits.has_job_action() && !job.acts_on_failure {
        let reason = "can be set only if the job says onTaskFailure = performexitoptionsjobaction";
        return Err(invalid("jobAction", reason));
    }
    if shape.wall_clock_max_s == Some(0) {
        return Err(invalid("maxWallClockTime", "must be at least one second"));
    }
    shape.staging.check().map_err(|error| invalid("resourceFiles", error.to_string()))?;
    if shape.said.len() > SAID_BYTES_MAX {
        return Err(invalid("id", format!("what is said of the task has more than {SAID_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn check_dependencies(job: &BatchJob, depends: &DependsOn) -> Result<(), BatchRefusal> {
    if !job.spec.uses_dependencies {
        return Err(BatchRefusal::DependenciesNotSpecified);
    }
    let chars: usize = depends.ids.iter().map(String::len).sum();
    if chars > DEPENDENCY_CHARS_MAX {
        return Err(BatchRefusal::DependencyTooLong {
            what: "characters of ids",
            limit: DEPENDENCY_CHARS_MAX,
        });
    }
    if depends.ranges.len() > DEPENDENCY_RANGES_MAX {
        return Err(BatchRefusal::DependencyTooLong { what: "ranges", limit: DEPENDENCY_RANGES_MAX });
    }
    if depends.ids.iter().any(|id| !is_id(id)) {
        return Err(invalid("taskIds", "must be ids of tasks"));
    }
    if depends.ranges.iter().any(|range| range.start > range.end) {
        return Err(invalid("taskIdRanges", "the start of a range may not be after its end"));
    }
    Ok(())
}

pub(super) fn decide(state: &State, input: &BatchInput, now: Timestamp) -> Decided {
    match &input.command {
        BatchCommand::UpdateTask { job, task, shape } => {
            let (key, job, task) = find(state, input, job, task)?;
            check_goes_on(job)?;
            if task.completed().is_some() {
                return Err(BatchRefusal::TaskCompleted);
            }
            check_shape(&job.spec, shape)?;
            package::check(state, &key.account, &shape.packages)?;
            Ok(vec![event(BatchEvent::TaskUpdated { task: key, shape: Arc::clone(shape) })])
        }
        BatchCommand::TerminateTask { job, task } => {
            let (key, _, task) = find(state, input, job, task)?;
            match task.state {
                BatchTaskState::Completed(_) => Err(BatchRefusal::TaskCompleted),
                BatchTaskState::Waiting { .. } | BatchTaskState::Preparing { .. } => {
                    let failure = Some(terminated());
                    let outcome = Outcome::Completed { exit_code: None, failure, satisfies: false };
                    Ok(vec![event(BatchEvent::TaskSettled { task: key, outcome })])
                }
                _ => Ok(end::end(state, &key, task, EndWish::Terminate, EndWish::Terminate, now)),
            }
        }
        BatchCommand::ReactivateTask { job, task } => {
            let (key, job, task) = find(state, input, job, task)?;
            check_goes_on(job)?;
            match task.completed() {
                None => Err(BatchRefusal::TaskNotCompleted),
                Some(completed) if completed.failure.is_none() => Err(BatchRefusal::TaskSucceeded),
                Some(_) => Ok(vec![event(BatchEvent::TaskReactivated { task: key })]),
            }
        }
        BatchCommand::DeleteTask { job, task } => {
            let (key, _, task) = find(state, input, job, task)?;
            // The job of the cluster comes to its end by itself, and is nobody's then.
            let mut events = vec![event(BatchEvent::TaskDeleted { task: key })];
            events.extend(end::cancel(state, task, now));
            Ok(events)
        }
        _ => Ok(Vec::new()),
    }
}

/// A task that somebody ended.
pub(super) fn terminated() -> Failure {
    Failure {
        category: FailureCategory::User,
        code: "TaskEnded".to_owned(),
        message: "the task was ended at a user's request".to_owned(),
        failed_in: FailedIn::Command,
    }
}

/// A task of the caller's account, of which the request's condition holds.
fn find<'a>(
    state: &'a State,
    input: &BatchInput,
    job: &FoldedId,
    id: &FoldedId,
) -> Result<(BatchTaskKey, &'a BatchJob, &'a BatchTask), BatchRefusal> {
    let (key, job) = input.job_of_task(state, job)?;
    let task = job.tasks.get(id).ok_or_else(|| not_found(Target::Task, id))?;
    input.check(task.version, task.modified)?;
    Ok((key.task(id.clone()), job, task))
}
