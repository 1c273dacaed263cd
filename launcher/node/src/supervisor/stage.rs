//! Bringing a task's files before it starts, its coordination command, and taking files away after its end.
//!
//! `muster-stage` moves the files. It runs as the task's user and in its containment, so that it can do nothing that
//! the task itself could not; the addresses with their signatures go to it over a socket, where nobody else reads them.

use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use muster_wire::v1::stage_output::Condition;
use muster_wire::v1::stop::Cause;
use muster_wire::v1::{StageDone, StageOrders, StagingFailed};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::prepare::{Prepared, Script};
use super::spawn::{Child, Stdio, WayIn, c_path};
use super::{Event, Outcome, Supervisor};
use crate::error::{NodeError, Result};
use crate::frame;

/// How long files are taken away after an end that the time limit brought: the nodes are promised to others then.
const AFTER_LIMIT: Duration = Duration::from_secs(120);
/// How long files are taken away at most: what takes longer hangs.
const STAGE_OUT_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How an order to move files ended.
enum Moved {
    /// The program answered; without an answer it was killed, or could not go on.
    Done(Option<StageDone>),
    /// The attempt is to be stopped.
    Stopped(Outcome),
    /// It took too long.
    Late,
}

fn failed(code: &'static str, message: impl Into<String>) -> NodeError {
    NodeError::Staging { code, message: message.into() }
}

impl Supervisor {
    /// Brings the files of the task and runs its coordination command. The answer is how the attempt ends, if it was
    /// stopped meanwhile.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] with what the program said, or [`NodeError::Staging`].
    pub(super) async fn stage_in(&mut self, prepared: &Prepared) -> Result<Option<Outcome>> {
        let Some(staging) = self.prepare.staging.clone() else { return Ok(None) };
        let deadline = Instant::now() + Duration::from_secs(staging.prepare_s.max(1));
        if let Some(stopped) = self.bring_packages(&staging.packages, deadline).await? {
            return Ok(Some(stopped));
        }
        if let Some(said) = &staging.container
            && let Some(stopped) = self.make_container(&prepared.account, said, deadline).await?
        {
            return Ok(Some(stopped));
        }
        if !(staging.inputs.is_empty() && staging.common_inputs.is_empty()) {
            let orders = StageOrders {
                inputs: staging.inputs.clone(),
                common_inputs: staging.common_inputs.clone(),
                cache_directory: self.cache(prepared),
                ..self.orders()
            };
            match self.move_files(prepared, orders, deadline).await? {
                Moved::Done(Some(StageDone { failure: None, .. })) => {}
                Moved::Done(Some(StageDone { failure: Some(failure), .. })) => {
                    return Err(NodeError::Staged(failure));
                }
                Moved::Done(None) => {
                    let message = "the program that brings the task's files was killed";
                    return Err(failed("BlobDownloadMiscError", message));
                }
                Moved::Stopped(outcome) => return Ok(Some(outcome)),
                Moved::Late => {
                    let message = format!("the inputs were not there within {} s", staging.prepare_s);
                    return Err(failed("BlobDownloadTimedOut", message));
                }
            }
        }
        match staging.coordination.is_empty() {
            true => Ok(None),
            false => self.coordinate(prepared, &staging.coordination, deadline).await,
        }
    }

    /// Runs the coordination command and waits for its end.
    async fn coordinate(
        &mut self,
        prepared: &Prepared,
        words: &[String],
        deadline: Instant,
    ) -> Result<Option<Outcome>> {
        let command = Script::direct(words)?;
        self.script = Some(self.start_command(prepared, &command)?);
        let refuse = |why: String| Err(failed("CoordinationCommandFailed", why));
        loop {
            match tokio::time::timeout_at(deadline, self.next_event()).await {
                Ok(Event::ScriptEnded(status)) if status.success() => return Ok(None),
                Ok(Event::ScriptEnded(status)) => {
                    return refuse(format!("the coordination command {}", how_it_ended(status)));
                }
                Ok(Event::Stop(stop)) => return Ok(Some(Outcome::stopped(&stop))),
                Ok(other) => tracing::debug!(event = ?other, "an event before the go"),
                Err(_) => return refuse("the coordination command did not end in time".to_owned()),
            }
        }
    }

    /// Takes the task's files away, as far as its end calls for it. The answer is what went wrong.
    pub(super) async fn stage_out(
        &mut self,
        prepared: &Prepared,
        outcome: &Result<Outcome>,
        out_of_memory: bool,
    ) -> Option<StagingFailed> {
        let (success, within) = match outcome {
            Ok(Outcome::Exited(status)) => (status.success() && !out_of_memory, STAGE_OUT_WITHIN),
            Ok(Outcome::Stopped { cause: Cause::TimeLimit, .. }) if self.started_at_us > 0 => {
                (false, AFTER_LIMIT)
            }
            _ => return None,
        };
        let staging = self.prepare.staging.clone()?;
        let mut outputs = staging.outputs;
        outputs.retain(|output| match output.condition() {
            Condition::Always => true,
            Condition::Success => success,
            Condition::Failure => !success,
        });
        if outputs.is_empty() || !self.is_primary() {
            return None;
        }
        let orders = StageOrders { outputs, ..self.orders() };
        let failed = |code: &str, message: &str| {
            Some(StagingFailed { code: code.to_owned(), message: message.to_owned() })
        };
        match self.move_files(prepared, orders, Instant::now() + within).await {
            Ok(Moved::Done(Some(done))) => done.failure,
            Ok(Moved::Done(None)) => {
                failed("FileUploadMiscError", "the program that takes the task's files away was killed")
            }
            Ok(Moved::Stopped(_)) => {
                failed("TaskEnded", "the task was ended while its files were taken away")
            }
            Ok(Moved::Late) => failed("FileUploadMiscError", "its files were not taken away in time"),
            Err(error) => failed("FileUploadMiscError", &error.sentence()),
        }
    }

    /// The cache of the task's user on this node; none if there can be none, which is no reason to fail.
    fn cache(&self, prepared: &Prepared) -> String {
        match crate::folders::make_cache(&self.assignment.work, &prepared.account) {
            Ok(path) => path.display().to_string(),
            Err(error) => {
                tracing::warn!(error = error.sentence(), "common inputs are not kept for later tasks");
                String::new()
            }
        }
    }

    /// What every order says.
    fn orders(&self) -> StageOrders {
        let folder = self.folder.as_ref();
        let shared = self.assignment.work.join("shared");
        let roots = self.assignment.shared_roots.iter().chain([&shared]);
        StageOrders {
            task_directory: folder.map(|folder| folder.path.display().to_string()).unwrap_or_default(),
            working_directory: folder
                .map(|folder| folder.working_directory().display().to_string())
                .unwrap_or_default(),
            shared_roots: roots.map(|root| root.display().to_string()).collect(),
            files_max: self.assignment.stage_files_max,
            bytes_max: self.assignment.stage_bytes_max,
            ..StageOrders::default()
        }
    }

    /// Has files moved, and waits for that. What is left of the program afterwards is the caller's to end, with all
    /// else of the attempt.
    async fn move_files(
        &mut self,
        prepared: &Prepared,
        orders: StageOrders,
        deadline: Instant,
    ) -> Result<Moved> {
        let (ours, theirs) = StdStream::pair().map_err(NodeError::system("make a socket"))?;
        ours.set_nonblocking(true).map_err(NodeError::system("use a socket"))?;
        let mut ours = UnixStream::from_std(ours).map_err(NodeError::system("use a socket"))?;
        let program = c_path(&self.assignment.bin_dir.join("muster-stage"))?;
        let cpus = self.assignment.cpus();
        let child = Child {
            program: program.clone(),
            arguments: vec![program],
            environment: self.environment_texts(&prepared.account)?,
            common_environment: &[],
            account: &prepared.account,
            way_in: WayIn::Files(prepared.entrances()?),
            cpus: &cpus,
            shares_cores: self.assignment.cores_wrap,
            namespace: None,
            directory: None,
            umask: 0o077,
            limits: Vec::new(),
            stdio: Stdio::Socket(theirs.into()),
        };
        child.start()?;
        // The program's end of the socket is its alone, so that its end is heard.
        drop(child);
        let events = self.sender.clone();
        tokio::task::spawn_local(async move {
            let moved = async {
                frame::write(&mut ours, &orders).await?;
                frame::read::<StageDone>(&mut ours).await
            };
            let done = moved.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the program that moves files does not answer");
                None
            });
            let _ = events.send(Event::Moved(done)).await;
        });
        loop {
            match tokio::time::timeout_at(deadline, self.next_event()).await {
                Ok(Event::Moved(done)) => return Ok(Moved::Done(done)),
                Ok(Event::Stop(stop)) => return Ok(Moved::Stopped(Outcome::stopped(&stop))),
                Ok(other) => self.note_step(other),
                Err(_) => return Ok(Moved::Late),
            }
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, signal) => format!("was killed by signal {}", signal.unwrap_or(0)),
    }
}
