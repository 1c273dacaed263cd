//! The site's health check: a program that says by its exit code whether the node is fit for work.
//!
//! It runs as the agent's user with an environment of its own, in the order of things an ordinary process: not ahead of
//! the work, as the agent is. Whatever it starts is killed when it has ended.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_wire::v1;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How much of what the program prints is read; the rest of its output goes nowhere.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// How long the output of processes that have left the program's group is waited for.
const LEFT_OVER: Duration = Duration::from_millis(200);

/// Checks for as long as it is kept.
pub struct Checks(AbortHandle);

impl Checks {
    /// Runs the check now and again and again; each result goes to `results`: what is wrong, or nothing.
    pub fn start(check: v1::HealthCheck, node: String, results: mpsc::Sender<Option<String>>) -> Self {
        let interval = Duration::from_millis(u64::from(check.interval_ms.max(1)));
        let checking = tokio::spawn(async move {
            while results.send(problem(&check, &node).await).await.is_ok() {
                tokio::time::sleep(interval).await;
            }
        });
        Self(checking.abort_handle())
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The process group of the program. Whatever is in it is killed at the end.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs the check once, and says what is wrong.
async fn problem(check: &v1::HealthCheck, node: &str) -> Option<String> {
    let mut child = match start(check, node) {
        Ok(child) => child,
        Err(error) => return Some(format!("{} cannot be started: {error}", check.program)),
    };
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let output = tokio::spawn(async move { tokio::join!(first_line(out), first_line(err)) });
    let timeout = Duration::from_millis(u64::from(check.timeout_ms.max(1)));
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    // The end of the group is the end of its output.
    drop(group);
    let said = match tokio::time::timeout(LEFT_OVER, output).await {
        Ok(Ok((out, err))) => out.or(err),
        _ => None,
    };
    match ended {
        Err(_) => Some(format!("{} took longer than {} s", check.program, timeout.as_secs_f64())),
        Ok(Err(error)) => Some(format!("{} cannot be waited for: {error}", check.program)),
        Ok(Ok(status)) if status.success() => None,
        Ok(Ok(status)) => {
            Some(said.unwrap_or_else(|| format!("{} ended with {}", check.program, how(status))))
        }
    }
}

fn start(check: &v1::HealthCheck, node: &str) -> std::io::Result<Child> {
    let mut command = Command::new(&check.program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("MUSTER_NODE", node).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    // SAFETY: setpriority(2) is a plain system call, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
            Ok(())
        });
    }
    command.spawn()
}

/// The first line with something in it, of what is printed first.
async fn first_line(from: Option<impl AsyncRead + Unpin>) -> Option<String> {
    let mut text = Vec::new();
    let _ = from?.take(OUTPUT_BYTES_MAX).read_to_end(&mut text).await;
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn run(script: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("check");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap().to_owned();
        let check = v1::HealthCheck { program: program.clone(), interval_ms: 1, timeout_ms: 2_000 };
        problem(&check, "n7").await.map(|text| text.replace(&program, "CHECK"))
    }

    #[tokio::test]
    async fn the_exit_code_says_whether_and_the_first_line_says_what() {
        for (script, problem) in [
            ("echo all is well", None),
            ("exit 3", Some("CHECK ended with exit code 3")),
            ("kill -9 $$", Some("CHECK ended with signal 9")),
            ("echo; echo ' no /scratch on '$MUSTER_NODE; echo more; exit 1", Some("no /scratch on n7")),
            ("echo disk is gone >&2; exit 1", Some("disk is gone")),
            ("yes; exit 1", Some("y")),
        ] {
            assert_eq!(run(script).await.as_deref(), problem, "{script}");
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let hangs = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        assert_eq!(run(&hangs).await.as_deref(), Some("CHECK took longer than 2 s"));
        let leaves = format!("sleep 1000 & echo $! >> {}; echo hot; exit 1", pid.display());
        assert_eq!(run(&leaves).await.as_deref(), Some("hot"));
        for pid in std::fs::read_to_string(&pid).unwrap().lines() {
            // Killed, it may be a zombie until its new parent has waited for it.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
        }
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_a_problem() {
        let check = v1::HealthCheck { program: "/no/check".to_owned(), interval_ms: 1, timeout_ms: 1 };
        let said = problem(&check, "n7").await.unwrap();
        assert_eq!(said, "/no/check cannot be started: No such file or directory (os error 2)");
    }
}
