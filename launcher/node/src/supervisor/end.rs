//! Watching over an attempt while it runs, and its end.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use muster_wire::v1::gone::How;
use muster_wire::v1::stop::Cause;
use muster_wire::v1::{self, Gone};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::events::RemoteLost;
use super::gang::{self, News};
use super::place::{self, KeptGroup, Place};
use super::prepare::Prepared;
use super::work::Left;
use super::{Event, Outcome, Supervisor};
use crate::error::NodeError;
use crate::process::now_us;

/// How long the script may take to notice that a remote process of its launcher was lost. Open MPI's mpirun
/// notices within 1.3 s; Hydra's never does.
pub(super) const LOST_GRACE: Duration = Duration::from_secs(3);

/// How long the dead may take to become children of the supervisor. Their parents are dead too, so it is a matter of
/// the kernel's microseconds.
const REAP_WITHIN: Duration = Duration::from_secs(1);

/// How long the daemons of a launcher whose script has ended may take to leave by themselves. They need a few
/// milliseconds, and remove their files on the way.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// How long an instance whose primary has ended waits for the controller's stop.
const STOP_AFTER_END_WITHIN: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Takes events until one of them ends the attempt.
    pub(super) async fn watch_over(&mut self, prepared: &Prepared, gang: &gang::Handle) -> Outcome {
        let mut losses = Losses::default();
        loop {
            let event = match losses.deadline() {
                Some(deadline) => tokio::time::timeout_at(deadline, self.next_event()).await.ok(),
                None => Some(self.next_event().await),
            };
            match event {
                None => return losses.outcome(),
                Some(Event::ScriptEnded(status)) => return Outcome::Exited(status),
                Some(Event::Stop(stop)) => return Outcome::stopped(&stop),
                Some(Event::Ssh(connection)) => self.serve_ssh(prepared, connection),
                Some(Event::Followed { host }) => losses.follow(host),
                Some(Event::LauncherStuck(lost)) => return Outcome::Broken(lost_reason(&lost)),
                Some(Event::DaemonKilled(signal)) => {
                    let host = self.host_of(self.prepare.instance as usize).to_owned();
                    let detail = format!("its SSH server was killed by signal {signal}");
                    self.note_lost(&mut losses, gang, RemoteLost { host, detail });
                }
                Some(Event::RemoteLost(lost) | Event::Gang(News::DaemonLost(lost))) => {
                    self.note_lost(&mut losses, gang, lost);
                }
                Some(Event::Gang(News::PrimaryEnded)) => return self.wait_for_stop(prepared, gang).await,
                Some(Event::Gang(News::StartStep(order))) => self.start_step_here(prepared, gang, &order),
                Some(Event::Gang(News::EndStep { step })) => self.steps.let_go(step),
                Some(Event::Gang(News::StepListens { step, instance, address })) => {
                    self.step_listens(step, instance, address);
                }
                Some(Event::Gang(News::StepGone { step, instance, failed })) => {
                    self.step_gone(prepared, gang, step, instance, failed);
                }
                Some(Event::Starter(news)) => self.take_starter(prepared, gang, news),
                Some(Event::StepDaemonEnded { step, status }) => {
                    self.step_daemon_ended(prepared, gang, step, status);
                }
                Some(Event::Gang(News::LostContact { with })) => {
                    return Outcome::Broken(format!("lost contact with {with}"));
                }
                Some(Event::StepsDue) => self.tell_of_steps(),
                Some(Event::Signal(signal)) => match signal.step {
                    Some(step) => self.signal_step(step, &signal),
                    None => self.signal(prepared, &signal),
                },
                Some(Event::Go(_) | Event::Moved(_) | Event::Deployed(_)) => {}
            }
        }
    }

    /// A launcher's process on some node is gone. The primary waits whether its script notices; others tell the
    /// primary.
    fn note_lost(&self, losses: &mut Losses, gang: &gang::Handle, lost: RemoteLost) {
        tracing::info!(host = lost.host, detail = lost.detail, "a launcher lost its remote process");
        if self.is_primary() {
            losses.note(lost);
        } else {
            gang.tell_primary(lost);
        }
    }

    /// The primary has ended, so this instance ends at once; that the controller agrees is told by its stop, which
    /// comes as soon as it has heard the primary.
    async fn wait_for_stop(&mut self, prepared: &Prepared, gang: &gang::Handle) -> Outcome {
        gang.answer_end(prepared.group.out_of_memory());
        let stopped = self.let_leave(prepared).await;
        if let Err(error) = prepared.group.end().await {
            tracing::error!(error = error.sentence(), "the instance could not be ended");
        }
        if stopped {
            return Outcome::Stopped { grace_ms: 0, cause: Cause::Unspecified };
        }
        let deadline = Instant::now() + STOP_AFTER_END_WITHIN;
        while let Ok(event) = tokio::time::timeout_at(deadline, self.next_event()).await {
            if matches!(event, Event::Stop(_)) {
                break;
            }
        }
        Outcome::Stopped { grace_ms: 0, cause: Cause::Unspecified }
    }

    /// Ends the attempt on this node: what is told afterwards holds, nothing is left.
    pub(super) async fn end(
        &mut self,
        prepared: &mut Prepared,
        gang: &gang::Handle,
        outcome: Result<Outcome, NodeError>,
    ) -> Gone {
        match &outcome {
            Ok(Outcome::Stopped { cause, .. }) if self.started_at_us > 0 => {
                self.say_why_it_ends(&prepared.account, *cause);
            }
            Ok(Outcome::Broken(_)) => self.say_why_it_ends(&prepared.account, Cause::NodeFailure),
            _ => {}
        }
        if !matches!(outcome, Ok(Outcome::Exited(_))) {
            self.steps.stop();
        }
        if let Ok(Outcome::Stopped { grace_ms, .. }) = &outcome
            && *grace_ms > 0
        {
            self.ask_to_end(prepared, Duration::from_millis(u64::from(*grace_ms))).await;
        }
        if let Err(error) = self.end_group(prepared).await {
            tracing::error!(error = error.sentence(), "the end of the attempt cannot be awaited");
        }
        self.reap_the_rest().await;
        self.end_steps().await;
        let mut out_of_memory = prepared.group.out_of_memory();
        if let Ok(Outcome::Exited(status)) = &outcome
            && !status.success()
            && !out_of_memory
        {
            out_of_memory = gang.were_out_of_memory(self.prepare.members.len() - 1).await;
        }
        if out_of_memory && matches!(outcome, Ok(Outcome::Exited(_))) {
            self.say_out_of_memory(&prepared.account);
        }
        let mut not_taken = None;
        if self.prepare.staging.is_some() {
            not_taken = self.stage_out(prepared, &outcome, out_of_memory).await;
            if let Err(error) = self.end_group(prepared).await {
                tracing::error!(error = error.sentence(), "the end of the attempt cannot be awaited");
            }
            self.reap_the_rest().await;
        }
        let used = prepared.group.usage();
        let usage = place::since(used, &prepared.used_before);
        self.note_end_of_folder();
        let may_leave = matches!(outcome, Ok(Outcome::Exited(_))) && !out_of_memory;
        self.leave_place(prepared, used, may_leave).await;
        let how = match outcome {
            Ok(Outcome::Exited(status)) => match not_taken.filter(|_| status.success() && !out_of_memory) {
                Some(failed) => How::StageOutFailed(failed),
                None => How::Exited(exited(status, out_of_memory)),
            },
            Ok(Outcome::Stopped { .. }) => How::Stopped(v1::Stopped {}),
            Ok(Outcome::Broken(reason)) => How::Broken(v1::Broken { reason }),
            Err(NodeError::Staged(failed)) => How::StageInFailed(failed),
            Err(NodeError::Staging { code, message }) => {
                How::StageInFailed(v1::StagingFailed { code: code.to_owned(), message })
            }
            Err(error) if self.started_at_us == 0 => How::PrepareFailed(v1::PrepareFailed {
                reason: error.sentence(),
                node_at_fault: error.node_at_fault(),
            }),
            Err(error) => How::Broken(v1::Broken { reason: error.sentence() }),
        };
        Gone { how: Some(how), usage: Some(usage), started_at_us: self.started_at_us, ended_at_us: now_us() }
    }

    /// Leaves the empty containment and the folder to another attempt, or removes them.
    async fn leave_place(&mut self, prepared: &mut Prepared, used: v1::Usage, may_leave: bool) {
        let in_use = prepared.in_use.take().filter(|_| may_leave);
        let kept = (in_use.is_some() && prepared.group.renew()).then(|| KeptGroup {
            group: prepared.group.clone(),
            limits: std::mem::take(&mut prepared.limits),
            used,
            open: prepared.open.take().unwrap_or_default(),
        });
        if kept.is_none() {
            // A group in which a thread stands cannot be removed.
            prepared.open = None;
            prepared.group.remove().await;
        }
        self.place = in_use.and_then(|in_use| {
            let left = Left {
                prepare: std::mem::take(&mut self.prepare),
                read: self.read.take(),
                environment: self.common_environment.take(),
            };
            Place::of(self.assignment.run.clone(), in_use, kept, left)
        });
        if self.place.is_none() {
            prepared.group.remove().await;
            place::remove_folder(&self.assignment.run);
        }
    }

    /// Kills everything. Children are reaped meanwhile, so that the sweep does not see them for ever.
    async fn end_group(&mut self, prepared: &Prepared) -> Result<(), NodeError> {
        let end = prepared.group.end();
        tokio::pin!(end);
        loop {
            tokio::select! {
                done = &mut end => return done,
                event = self.next_event() => self.note_step(event),
            }
        }
    }

    /// Gives what is left a moment to leave by itself. Says whether the controller's stop came meanwhile.
    async fn let_leave(&mut self, prepared: &Prepared) -> bool {
        let mut stopped = false;
        let deadline = tokio::time::sleep(LEAVE_WITHIN);
        let emptied = prepared.group.emptied();
        tokio::pin!(deadline, emptied);
        loop {
            tokio::select! {
                () = &mut emptied => return stopped,
                () = &mut deadline => return stopped,
                event = self.next_event() => stopped |= matches!(event, Event::Stop(_)),
            }
        }
    }

    /// Takes the status of everything that was killed, so that not even a number in the process table is left.
    async fn reap_the_rest(&mut self) {
        let all = async {
            while self.reap() {
                let _ = self.child_signal.recv().await;
            }
        };
        let _ = tokio::time::timeout(REAP_WITHIN, all).await;
    }

    /// SIGTERM to all, and time to follow it. A second stop with less grace shortens the time.
    async fn ask_to_end(&mut self, prepared: &Prepared, grace: Duration) {
        prepared.group.signal(Signal::SIGTERM);
        let mut deadline = Instant::now() + grace;
        let emptied = prepared.group.emptied();
        tokio::pin!(emptied);
        loop {
            tokio::select! {
                () = &mut emptied => return,
                () = tokio::time::sleep_until(deadline) => return,
                event = self.next_event() => match event {
                    Event::Stop(stop) => {
                        let grace = Duration::from_millis(u64::from(stop.grace_ms));
                        deadline = deadline.min(Instant::now() + grace);
                    }
                    other => self.note_step(other),
                },
            }
        }
    }
}

/// Processes of launchers that were lost and whose launcher nobody watches: the script must end in time.
#[derive(Default)]
struct Losses {
    /// Hosts whose losses a launcher was told of; it is watched instead.
    followed: HashSet<String>,
    first: Option<(Instant, RemoteLost)>,
}

impl Losses {
    fn follow(&mut self, host: String) {
        if self.first.as_ref().is_some_and(|(_, lost)| lost.host == host) {
            self.first = None;
        }
        self.followed.insert(host);
    }

    fn note(&mut self, lost: RemoteLost) {
        if !self.followed.contains(&lost.host) {
            self.first.get_or_insert((Instant::now() + LOST_GRACE, lost));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.first.as_ref().map(|(deadline, _)| *deadline)
    }

    /// What becomes of the attempt after the deadline.
    fn outcome(self) -> Outcome {
        Outcome::Broken(self.first.map(|(_, lost)| lost_reason(&lost)).unwrap_or_default())
    }
}

/// Why an attempt ends whose launcher waits for something that is gone.
fn lost_reason(lost: &RemoteLost) -> String {
    format!("the MPI daemon on {} was lost and the launcher did not notice: {}", lost.host, lost.detail)
}

fn exited(status: ExitStatus, out_of_memory: bool) -> v1::Exited {
    v1::Exited {
        code: status.code().unwrap_or(0).cast_unsigned(),
        signal: status.signal().unwrap_or(0).cast_unsigned(),
        out_of_memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loss_counts_once_and_not_if_its_launcher_is_watched() {
        let lost = |host: &str, detail: &str| RemoteLost { host: host.into(), detail: detail.into() };
        let mut losses = Losses::default();
        losses.follow("node02".into());
        losses.note(lost("node02", "a"));
        assert_eq!(losses.deadline(), None);
        losses.note(lost("node03", "b"));
        losses.note(lost("node04", "c"));
        let deadline = losses.deadline().unwrap();
        assert!(deadline > Instant::now() + LOST_GRACE / 2);
        losses.follow("node04".into());
        assert_eq!(losses.deadline(), Some(deadline));
        match losses.outcome() {
            Outcome::Broken(reason) => assert!(reason.contains("node03"), "{reason}"),
            other => panic!("{other:?}"),
        }
        let mut losses = Losses::default();
        losses.note(lost("node02", "a"));
        losses.follow("node02".into());
        assert_eq!(losses.deadline(), None);
    }

    #[test]
    fn a_signal_is_not_an_exit_code() {
        let killed = exited(ExitStatus::from_raw(0x80 | 11), false);
        assert_eq!((killed.code, killed.signal), (0, 11));
        let ended = exited(ExitStatus::from_raw(7 << 8), true);
        assert_eq!((ended.code, ended.signal, ended.out_of_memory), (7, 0, true));
    }
}
