//! Telling people of what becomes of their jobs, through a program of the site's.
//!
//! The program is called as mail(1) is, and as Slurm calls its `MailProg`: `PROGRAM -s SUBJECT ADDRESS`, with nothing on its
//! standard input. It runs as the job's user, a few at a time and for a minute at most; when it cannot keep up, letters are
//! left out and the log says how many. No decision ever waits for it.

mod letter;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_core::event::Record;
use muster_core::state::State;
use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

pub use self::letter::{Letter, letters};

/// How many letters may wait.
const LETTERS_MAX: usize = 1000;
/// How many programs may run at once.
const PROGRAMS_MAX: usize = 8;
/// How long one may take.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(60);

/// Where letters are brought; it has none to bring them to if the site has no program.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    letters: Option<mpsc::Sender<Letter>>,
    left_out: Arc<AtomicU64>,
}

impl Mail {
    /// Starts the sending, in the runtime of the caller. Without a program, nothing is ever sent.
    #[must_use]
    pub fn start(program: Option<PathBuf>) -> Self {
        let Some(program) = program else { return Self::default() };
        let (letters, inbox) = mpsc::channel(LETTERS_MAX);
        tokio::spawn(send_all(program, inbox));
        Self { letters: Some(letters), left_out: Arc::default() }
    }

    /// Whether anybody is told of anything.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.letters.is_some()
    }

    /// Tells of records that are durable and have happened in `state`. Never waits.
    pub fn tell(&self, state: &State, records: &[Record]) {
        let Some(sender) = &self.letters else { return };
        for letter in letters(state, records) {
            if sender.try_send(letter).is_err() {
                let count = self.left_out.fetch_add(1, Ordering::Relaxed) + 1;
                // The first, and then ever more seldom.
                if count.is_power_of_two() {
                    tracing::warn!(count, "the mail program cannot keep up, and letters are left out");
                }
            }
        }
    }
}

async fn send_all(program: PathBuf, mut inbox: mpsc::Receiver<Letter>) {
    let places = Arc::new(Semaphore::new(PROGRAMS_MAX));
    while let Some(letter) = inbox.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let program = program.clone();
        tokio::spawn(async move {
            send(&program, &letter).await;
            drop(place);
        });
    }
}

/// Runs the program for one letter. What it says is nobody's; that it failed is the log's.
async fn send(program: &Path, letter: &Letter) {
    let mut command = Command::new(program);
    command
        .args(["-s", &letter.subject, &letter.to])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("USER", &letter.user.name)
        .env("LOGNAME", &letter.user.name)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // Only root can become somebody else; whoever else runs a controller serves its own jobs.
    if geteuid().is_root() {
        command.gid(letter.user.gid).uid(letter.user.uid);
    }
    let ended = match command.spawn() {
        Ok(mut child) => timeout(PROGRAM_TIME_MAX, child.wait()).await,
        Err(error) => Ok(Err(error)),
    };
    let (program, to) = (program.display(), &letter.to);
    match ended {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(%program, %to, %status, "the mail program failed"),
        Ok(Err(error)) => tracing::warn!(%program, %to, %error, "the mail program cannot be run"),
        Err(_) => tracing::warn!(%program, %to, "the mail program took too long and was killed"),
    }
}
