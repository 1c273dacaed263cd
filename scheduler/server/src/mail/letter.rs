//! Which records somebody wants to be told of, and in which words. Subjects are Slurm's, which the programs of sites read.

use std::collections::BTreeSet;

use muster_core::event::{Event, FinishedKind, Record, Verdict, WaitingEnd};
use muster_core::ids::{JobId, TaskId, Timestamp};
use muster_core::notation::format_time_s;
use muster_core::spec::{MailEvent, MailWish, User};
use muster_core::state::{FinishedHow, Job, State};

/// Something to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whose job it is, as whom the program runs.
    pub user: User,
    /// The address.
    pub to: String,
    /// The subject; there is nothing else.
    pub subject: String,
}

/// What is to be told of records that have happened in `state` already.
#[must_use]
pub fn letters(state: &State, records: &[Record]) -> Vec<Letter> {
    let mut told = BTreeSet::new();
    let mut letters = Vec::new();
    for record in records {
        let job = record.event.job().and_then(|id| state.jobs.get(&id));
        if job.is_none_or(|job| job.spec.mail.is_none()) {
            continue;
        }
        letters.extend(record.event.parts().filter_map(|event| letter(state, &event, record.at, &mut told)));
    }
    letters
}

fn letter(state: &State, event: &Event, at: Timestamp, told: &mut BTreeSet<JobId>) -> Option<Letter> {
    let job = state.jobs.get(&event.job()?)?;
    let wish = job.spec.mail.as_ref()?;
    let whole = job.is_array() && !wish.events.contains(&MailEvent::ArrayTasks);
    let said = match event {
        Event::AttemptRunning { key, started_at } => {
            let first = is_first(job, key.task);
            let wanted = wish.events.contains(&MailEvent::Begin) && (!whole || first);
            let queued_s = started_at.micros_since(job.submitted_at) / 1_000_000;
            wanted.then(|| format!("Began, Queued time {}", clock(queued_s)))
        }
        Event::AttemptRanFor { key, percent } => ran_for(job, key.task, *percent, wish, at),
        Event::AttemptEnded { again_not_before: Some(_), .. } => {
            wish.events.contains(&MailEvent::Requeue).then(|| "Requeued".to_owned())
        }
        Event::AttemptEnded { key, .. } if !whole => ended(job, key.task, wish, at),
        Event::AttemptEnded { .. } if job.is_finished() && told.insert(job.id) => all_ended(job, wish),
        Event::WaitingEnded { why: WaitingEnd::Dependency, .. } => {
            let wanted = wish.events.contains(&MailEvent::InvalidDepend);
            wanted.then(|| "Invalid dependency".to_owned())
        }
        _ => None,
    }?;
    let subject = match (event, whole) {
        (Event::AttemptRanFor { key, .. }, _) if job.is_array() => task_subject(job, key.task, &said),
        (_, true) => format!("Slurm Array Summary Job_id={0}_* ({0}) Name={1} {said}", job.id, job.spec.name),
        (Event::AttemptRunning { key, .. } | Event::AttemptEnded { key, .. }, false) if job.is_array() => {
            task_subject(job, key.task, &said)
        }
        _ => format!("Slurm Job_id={} Name={} {said}", job.id, job.spec.name),
    };
    let to = wish.to.clone().unwrap_or_else(|| job.spec.user.name.clone());
    Some(Letter { user: (*job.spec.user).clone(), to, subject })
}

fn task_subject(job: &Job, task: TaskId, said: &str) -> String {
    let (id, index, number) = (job.id, task.index, task.number());
    format!("Slurm Array Task Job_id={id}_{index} ({number}) Name={} {said}", job.spec.name)
}

/// That a task still runs and has used a part of its time limit, if its user wants to know of that part.
fn ran_for(job: &Job, task: TaskId, percent: u8, wish: &MailWish, now: Timestamp) -> Option<String> {
    wish.events.iter().find(|event| event.percent_of_limit() == Some(percent))?;
    let started_at = job.live.get(&task.index)?.started_at();
    let run_s = started_at.map_or(0, |started| now.micros_since(started) / 1_000_000);
    Some(format!("Reached {percent}% of time limit, Run time {}", clock(run_s)))
}

/// Whether no other task of the job has been started.
fn is_first(job: &Job, task: TaskId) -> bool {
    let mut started = job.live.iter().filter(|(_, live)| live.started_at().is_some());
    let others_tried = job.tried.keys().any(|index| *index != task.index);
    job.finished.is_empty() && !others_tried && started.next().is_some_and(|(index, _)| *index == task.index)
}

/// How a task ended, if its user wants to know.
fn ended(job: &Job, task: TaskId, wish: &MailWish, now: Timestamp) -> Option<String> {
    let FinishedHow::Ran { verdict, started_at, .. } = &job.finished.get(&task.index)?.how else {
        return None;
    };
    let wants = |event: MailEvent| wish.events.contains(&event);
    let run_s = started_at.map_or(0, |started| now.micros_since(started) / 1_000_000);
    let said = match verdict {
        verdict if verdict.is_success() => wants(MailEvent::End).then_some("Ended"),
        Verdict::TimedOut if wants(MailEvent::TimeLimit) => Some("Reached time limit"),
        _ if wants(MailEvent::Fail) => Some("Failed"),
        _ => wants(MailEvent::End).then_some("Ended"),
    }?;
    Some(format!("{said}, Run time {}, {}", clock(run_s), state_word(verdict)))
}

/// How an array ended as a whole.
fn all_ended(job: &Job, wish: &MailWish) -> Option<String> {
    let some_good = job.finished.counts().any(|(kind, _)| kind == FinishedKind::Completed);
    let wants = |event: MailEvent| wish.events.contains(&event);
    match (job.finished.are_successes(), some_good) {
        (true, _) => wants(MailEvent::End).then(|| "Ended, COMPLETED, ExitCode [0-0]".to_owned()),
        (false, _) if !wants(MailEvent::Fail) && !wants(MailEvent::End) => None,
        (false, false) => Some("Failed, FAILED".to_owned()),
        (false, true) => Some("Ended, Mixed".to_owned()),
    }
}

/// The state's name in Slurm, with the exit code where there is one.
fn state_word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Exited { code: 0 } => "COMPLETED, ExitCode 0".to_owned(),
        Verdict::Exited { code } => format!("FAILED, ExitCode {code}"),
        Verdict::Signalled { signal } => format!("FAILED, ExitCode 0:{signal}"),
        Verdict::LaunchFailed { .. } | Verdict::StageInFailed { .. } | Verdict::StageOutFailed { .. } => {
            "FAILED".to_owned()
        }
        Verdict::OutOfMemory { .. } => "OUT_OF_MEMORY".to_owned(),
        Verdict::TimedOut => "TIMEOUT".to_owned(),
        Verdict::Deadline => "DEADLINE".to_owned(),
        Verdict::Cancelled { .. } => "CANCELLED".to_owned(),
        Verdict::Preempted { .. } => "PREEMPTED".to_owned(),
        Verdict::Requeued { .. } => "REQUEUED".to_owned(),
        Verdict::PrepareFailed { .. } | Verdict::NodeFailed { .. } | Verdict::Broken { .. } => {
            "NODE_FAIL".to_owned()
        }
    }
}

fn clock(seconds: u64) -> String {
    format_time_s(seconds)
}
