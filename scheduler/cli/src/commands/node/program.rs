//! The conversation with `muster-bootstrap serve`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muster_client::api::{BootstrapAnswer, BootstrapFailure, BootstrapPlan, BootstrapRequest};

use super::NodeFault;

/// Has all requests of a plan done, and gives the answers in the order of the requests.
pub(super) fn carry_out(plan: &BootstrapPlan) -> Result<Vec<BootstrapAnswer>, NodeFault> {
    let failed = |action| move |source| NodeFault::Program { action, program: plan.program.clone(), source };
    let mut child = Command::new(&plan.program)
        .args(["serve", "--concurrency", &plan.fan_out.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed("start"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(failed("talk with")(std::io::Error::other("it has no pipes")));
    };
    let progress = Progress::new(plan.requests.len());
    let mut answers: HashMap<String, BootstrapAnswer> = HashMap::new();
    std::thread::scope(|scope| -> Result<(), NodeFault> {
        // What cannot be written is not answered either, which is noticed below.
        scope.spawn(|| ask(stdin, &plan.requests));
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(failed("read from"))?;
            let answer: BootstrapAnswer = serde_json::from_str(&line)
                .map_err(|source| NodeFault::Nonsense { program: plan.program.clone(), source })?;
            progress.add(&answer);
            answers.insert(answer.node.clone(), answer);
        }
        Ok(())
    })?;
    progress.end();
    let status = child.wait().map_err(failed("wait for"))?;
    let missing = |request: &BootstrapRequest| unanswered(&request.node, &status.to_string());
    Ok(plan
        .requests
        .iter()
        .map(|request| answers.remove(&request.node).unwrap_or_else(|| missing(request)))
        .collect())
}

fn ask(mut stdin: ChildStdin, requests: &[BootstrapRequest]) -> std::io::Result<()> {
    for request in requests {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stdin.write_all(&line)?;
    }
    Ok(())
}

fn unanswered(node: &str, status: &str) -> BootstrapAnswer {
    let cause = format!("muster-bootstrap ended ({status}) before it was done");
    failure(node, "prepare", cause)
}

/// The answer for a node where something failed that is not over SSH.
pub(super) fn failure(node: &str, step: &str, cause: String) -> BootstrapAnswer {
    let error = format!("node {node}: {cause}");
    BootstrapAnswer {
        node: node.to_owned(),
        ok: false,
        duration_ms: 0,
        did: None,
        uploaded: None,
        failure: Some(BootstrapFailure { step: step.to_owned(), cause, detail: None, error }),
    }
}

/// How far it has come, on a terminal.
struct Progress {
    bar: ProgressBar,
    failed: std::cell::Cell<usize>,
}

impl Progress {
    fn new(nodes: usize) -> Self {
        let failed = std::cell::Cell::new(0);
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), failed };
        }
        let style =
            ProgressStyle::with_template("{spinner} [{elapsed_precise}] {wide_bar} {pos}/{len} {msg}")
                .expect("the template is fixed and right");
        let bar = ProgressBar::new(nodes as u64).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, failed }
    }

    fn add(&self, answer: &BootstrapAnswer) {
        self.bar.inc(1);
        if !answer.ok {
            self.failed.set(self.failed.get() + 1);
            self.bar.set_message(format!("{} failed", self.failed.get()));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
