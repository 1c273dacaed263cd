//! Brings agents onto nodes: asks the program `muster-bootstrap serve` to, at the start and whenever a node has
//! no session.
//!
//! The program is a child with pipes: a request is one line of JSON, and so is its answer, in any order. It does
//! many nodes at a time; a node is asked for again with growing pauses for as long as it has no session.

mod plans;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use muster_client::api::{BootstrapAnswer, BootstrapRequest};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use self::plans::{NoPlan, Plans};
use crate::engine_loop::chain;
use crate::sessions::Sessions;

/// The pause before the second try; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an agent whose session ended may take to come back by itself: it tries at once, and again soon.
const RETURN_WITHIN: Duration = Duration::from_millis(500);
/// How long agents that outlived a restart of the controller may take: their pauses had time to grow.
const RETURN_AFTER_RESTART_WITHIN: Duration = Duration::from_secs(3);
/// How long an agent that was started may take to open its session.
const SESSION_WITHIN: Duration = Duration::from_secs(10);
/// Requests that may wait for the program to read them.
const REQUESTS_MAX: usize = 256;

type Asked = (BootstrapRequest, oneshot::Sender<BootstrapAnswer>);

/// The watch over nodes without a session.
pub struct Bootstrap {
    sessions: Arc<Sessions>,
    plans: Arc<Plans>,
    requests: mpsc::Sender<Asked>,
    watches: HashMap<String, AbortHandle>,
    program: AbortHandle,
}

impl Bootstrap {
    /// Starts the program, and the watch over every node of the configuration.
    #[must_use]
    pub fn start(plans: Arc<Plans>, sessions: Arc<Sessions>) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let settings = plans.settings();
        let program = run_program(find_program(&settings.program), settings.fan_out, inbox);
        let program = tokio::spawn(program).abort_handle();
        let mut bootstrap = Self { sessions, plans, requests, watches: HashMap::new(), program };
        bootstrap.reconcile();
        bootstrap
    }

    /// Watches exactly the nodes of this configuration.
    pub fn reconcile(&mut self) {
        let declared = self.plans.nodes();
        self.watches.retain(|node, watch| {
            let keep = declared.contains(node);
            if !keep {
                watch.abort();
            }
            keep
        });
        for node in declared {
            if self.watches.contains_key(&node) {
                continue;
            }
            let request = match self.plans.request(&node) {
                Ok(request) => request,
                Err(error) => {
                    tracing::error!(node, error = %chain(&error), "no certificate: the node is not brought up");
                    continue;
                }
            };
            let watch = watch(request, Arc::clone(&self.sessions), self.requests.clone());
            self.watches.insert(node, tokio::spawn(watch).abort_handle());
        }
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        self.program.abort();
        self.watches.values().for_each(AbortHandle::abort);
    }
}

/// A name without a folder is looked for beside this program first, then in `PATH`.
fn find_program(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let here = std::env::current_exe().ok();
    let beside = here.and_then(|exe| Some(exe.parent()?.join(program))).filter(|path| path.exists());
    beside.unwrap_or_else(|| program.to_owned())
}

/// Asks for the node's agent for as long as the node has no session.
async fn watch(request: BootstrapRequest, sessions: Arc<Sessions>, requests: mpsc::Sender<Asked>) {
    let mut presence = sessions.presence(&request.node);
    let mut powers = sessions.power_changes();
    let mut pause = PAUSE_MIN;
    // A node that was never there, or was given up, has no agent that could come back by itself.
    let mut patience = match sessions.was_up(&request.node) {
        true => RETURN_AFTER_RESTART_WITHIN,
        false => Duration::ZERO,
    };
    loop {
        if presence.wait_for(|present| !present).await.is_err() {
            return;
        }
        powers.borrow_and_update();
        if !sessions.may_have_agent(&request.node) {
            tokio::select! {
                changed = powers.changed() => if changed.is_err() { return },
                _ = presence.wait_for(|present| *present) => {}
            }
            (pause, patience) = (PAUSE_MIN, Duration::ZERO);
            continue;
        }
        let returned = timeout(patience, presence.wait_for(|present| *present)).await.is_ok();
        patience = RETURN_WITHIN;
        if returned {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        if requests.send((request.clone(), reply)).await.is_err() {
            return;
        }
        match answer.await {
            Ok(BootstrapAnswer { ok: true, .. }) => {
                tracing::info!(node = %request.node, "the agent was brought up");
                if timeout(SESSION_WITHIN, presence.wait_for(|present| *present)).await.is_ok() {
                    pause = PAUSE_MIN;
                    continue;
                }
                tracing::warn!(node = %request.node, "the agent was brought up, but it opens no session");
            }
            Ok(BootstrapAnswer { failure, .. }) => {
                let error = failure.map_or_else(|| "no reason was given".to_owned(), |failure| failure.error);
                tracing::warn!(node = %request.node, %error, "the node could not be brought up");
            }
            Err(_) => tracing::warn!(node = %request.node, "muster-bootstrap ended before it answered"),
        }
        let _ = timeout(pause, presence.wait_for(|present| *present)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Runs the program, again and again if it ends.
async fn run_program(program: PathBuf, fan_out: u16, mut requests: mpsc::Receiver<Asked>) {
    let mut pause = PAUSE_MIN;
    loop {
        let spawned = Command::new(&program)
            .args(["serve", "--concurrency", &fan_out.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Err(error) => {
                tracing::error!(program = %program.display(), %error, "cannot start muster-bootstrap")
            }
            Ok(mut child) => {
                let answered = converse(&mut child, &mut requests).await;
                if requests.is_closed() {
                    return;
                }
                if answered > 0 {
                    pause = PAUSE_MIN;
                }
                let status = child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
                tracing::error!(status, "muster-bootstrap ended; it is started again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Passes requests and answers until the program or this controller ends. Says how many answers there were.
/// Whoever waits for an answer that cannot come any more is told by the end of the channel.
async fn converse(child: &mut Child, requests: &mut mpsc::Receiver<Asked>) -> u64 {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return 0 };
    let mut lines = BufReader::new(stdout).lines();
    let mut waiting: HashMap<String, oneshot::Sender<BootstrapAnswer>> = HashMap::new();
    let mut answered = 0;
    loop {
        tokio::select! {
            asked = requests.recv() => {
                let Some((request, reply)) = asked else { return answered };
                if let Err(error) = write_line(&mut stdin, &request).await {
                    tracing::warn!(%error, "muster-bootstrap takes no request");
                    return answered;
                }
                waiting.insert(request.node, reply);
            }
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return answered };
                match serde_json::from_str::<BootstrapAnswer>(&line) {
                    Ok(answer) => {
                        answered += 1;
                        if let Some(reply) = waiting.remove(&answer.node) {
                            let _ = reply.send(answer);
                        }
                    }
                    Err(error) => tracing::warn!(%error, line, "muster-bootstrap says something unexpected"),
                }
            }
        }
    }
}

async fn write_line(stdin: &mut ChildStdin, request: &BootstrapRequest) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stdin.write_all(&line).await?;
    stdin.flush().await
}
