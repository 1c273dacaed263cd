//! Work that flows while there is violence: clients that submit and cancel, with the real commands.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_client::JobFilter;
use muster_cluster_tests::site::Site;
use muster_core::ids::JobId;

use super::dice::Dice;
use super::journal::Journal;
use crate::support::mpich_prologue;

/// Nodes of the site, and cores of each: as many as this machine has, so that the kernel's word on which cores a
/// process may use says exactly which cores of its node those are.
pub const NODES: [&str; 4] = ["node01", "node02", "node03", "node04"];
pub const USERS: [&str; 2] = ["ann", "bob"];

/// So many tasks may be unfinished before clients wait.
const UNFINISHED_MAX: u64 = 400;
/// The exit codes of `muster` for a controller that is away, and for a job that has ended.
const AWAY: i32 = 3;
const ENDED: i32 = 6;

/// A job that a client was told was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub job: JobId,
    pub name: String,
    pub order: Order,
    /// Whether somebody wanted it, or some of it, cancelled.
    pub cancelled: bool,
}

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Order {
    pub what: &'static str,
    pub tasks: u64,
    /// Ranks of a gang.
    pub ranks: Option<usize>,
    pub requeue: bool,
    /// How its script exits if it is left alone; none if it runs longer than it may.
    pub code: Option<u32>,
    options: Vec<String>,
    body: String,
}

/// What clients and violence share.
pub struct Yard {
    pub site: Site,
    pub dir: PathBuf,
    pub book: Mutex<Vec<Accepted>>,
    pub journal: Mutex<Journal>,
    /// Names of jobs whose submit got no answer: they may be there or not, but not twice.
    pub doubtful: Mutex<Vec<String>>,
    /// No more is to be submitted.
    pub closed: AtomicBool,
    /// A thread has failed.
    pub failed: AtomicBool,
    pub unfinished: AtomicU64,
    submits: AtomicU64,
}

impl Yard {
    /// Puts the scripts that everything sources in place.
    pub fn open(site: Site) -> Self {
        let dir = site.cluster.shared_dir().join("violence");
        let open = |path: &Path| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(path, mode).unwrap();
        };
        for path in [dir.clone(), dir.join("locks"), dir.join("out")] {
            std::fs::create_dir(&path).unwrap();
            open(&path);
        }
        for host in NODES {
            for core in 0..std::thread::available_parallelism().unwrap().get() {
                let path = dir.join("locks").join(format!("{host}.{core}"));
                std::fs::write(&path, "").unwrap();
                open(&path);
            }
        }
        let ledger = dir.join("ledger");
        std::fs::write(&ledger, "").unwrap();
        open(&ledger);
        let yard = Self {
            site,
            dir,
            book: Mutex::default(),
            journal: Mutex::default(),
            doubtful: Mutex::default(),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            unfinished: AtomicU64::new(0),
            submits: AtomicU64::new(0),
        };
        std::fs::write(yard.dir.join("tell.sh"), include_str!("tell.sh")).unwrap();
        std::fs::write(yard.dir.join("rank.sh"), yard.prologue() + include_str!("rank.sh")).unwrap();
        yard
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// How many bytes the ledger has: how much work has flowed.
    pub fn flowed(&self) -> u64 {
        std::fs::metadata(self.ledger()).unwrap().len()
    }

    fn prologue(&self) -> String {
        let dir = self.dir.display();
        format!("#!/bin/bash\nLEDGER={dir}/ledger LOCKS={dir}/locks\n. {dir}/tell.sh\n")
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.failed.load(Ordering::SeqCst)
    }

    fn muster(&self, user: &str, retry_s: &str, args: &[&str]) -> Output {
        let mut command = self.site.muster(user, &self.dir).unwrap();
        command.args(args).env("MUSTER_RETRY_S", retry_s).output().unwrap()
    }

    /// Submits something. What was acknowledged goes into the book.
    fn submit(&self, dice: &mut Dice, user: &'static str) -> Option<JobId> {
        let order = draw(dice);
        let number = self.submits.fetch_add(1, Ordering::SeqCst);
        let name = format!("{}-{number}", order.what);
        let script = self.dir.join(format!("{name}.sh"));
        let body = format!("{}tell start\nhold_cores\n{}\nfinish $?\n", self.prologue(), order.body);
        std::fs::write(&script, body).unwrap();
        let out = self.dir.join("out").join(if order.ranks.is_some() { "%j" } else { "%x" });
        let out = if order.tasks > 1 { "/dev/null".into() } else { out.to_string_lossy() };
        let mut args = vec!["submit", "--parsable", "-J", &name, "-o", &out];
        args.extend(order.options.iter().map(String::as_str));
        args.push(script.to_str().unwrap());
        // Some give up at once, most wait for a controller that is away.
        let retry_s = if dice.one_in(4) { "0" } else { "20" };
        let output = self.muster(user, retry_s, &args);
        match output.status.code() {
            Some(0) => {
                let job = JobId(String::from_utf8_lossy(&output.stdout).trim().parse().unwrap());
                let accepted = Accepted { job, name, order, cancelled: false };
                self.book.lock().unwrap_or_else(PoisonError::into_inner).push(accepted);
                Some(job)
            }
            Some(AWAY) => {
                self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                None
            }
            _ => panic!("{args:?} as {user} was refused: {output:?}"),
        }
    }

    fn cancel(&self, user: &str, job: JobId) {
        // From here on it may be cancelled, whatever the command says.
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter_mut().filter(|accepted| accepted.job == job).for_each(|accepted| accepted.cancelled = true);
        drop(book);
        let output = self.muster(user, "20", &["cancel", &job.to_string()]);
        assert!(
            matches!(output.status.code(), Some(0 | AWAY | ENDED)),
            "{user} cannot cancel {job}: {output:?}"
        );
    }
}

/// A client: submits for as long as the yard is open, whenever not too much is unfinished.
pub fn client(yard: &Yard, mut dice: Dice, user: &'static str) {
    while !yard.is_closed() {
        if yard.unfinished.load(Ordering::SeqCst) > UNFINISHED_MAX {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let job = yard.submit(&mut dice, user);
        if let Some(job) = job.filter(|_| dice.one_in(8)) {
            std::thread::sleep(dice.milliseconds(0..1500));
            yard.cancel(user, job);
        }
        std::thread::sleep(dice.milliseconds(0..400));
    }
}

/// Counts what is unfinished, again and again.
pub fn count(yard: &Yard, ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        let filter = JobFilter::default();
        // A controller that is away longer than the client waits counts next time.
        if let Ok(list) = yard.site.client().and_then(|mut client| Ok(client.jobs(&filter)?)) {
            let live = |job: &muster_client::api::JobSummary| {
                job.tasks.iter().filter(|(state, _)| !state.is_finished()).map(|(_, n)| n).sum::<u64>()
            };
            yard.unfinished.store(list.jobs.iter().map(live).sum(), Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Draws what to submit.
fn draw(dice: &mut Dice) -> Order {
    let requeue = !dice.one_in(3);
    let mut options = vec![if requeue { "--requeue" } else { "--no-requeue" }.to_owned()];
    // Short ones may overtake gangs that wait for their nodes.
    options.push(if dice.one_in(3) { "-t5" } else { "-t0:30" }.to_owned());
    let kinds =
        ["swarm", "swarm", "swarm", "fails", "works", "late", "gang-ompi", "gang-mpich", "gang-fails"];
    let what = *dice.pick(&kinds);
    let (mut tasks, mut ranks, mut code) = (1, None, Some(0));
    let body = match what {
        "swarm" => {
            tasks = dice.between(40..240);
            options.push(format!("--array=0-{}", tasks - 1));
            let naps = ["", "sleep 0.05", "sleep 0.2", "work 2"];
            (*dice.pick(&naps)).to_owned()
        }
        "fails" => {
            tasks = dice.between(1..10);
            if tasks > 1 {
                options.push(format!("--array=0-{}", tasks - 1));
            }
            code = Some(7);
            "sleep 0.1; (exit 7)".to_owned()
        }
        "works" => format!("work {}", dice.between(5..80)),
        "late" => {
            options.push("-t0:02".to_owned());
            code = None;
            "work 600".to_owned()
        }
        _ => {
            let nodes = dice.between(2..5);
            let per_node = dice.between(1..3);
            ranks = usize::try_from(nodes * per_node).ok();
            options.extend([format!("-N{nodes}"), format!("--ntasks-per-node={per_node}")]);
            // Now and then Hydra never notices that it has lost a rank; then the time limit ends the gang.
            options.push("-t0:40".to_owned());
            gang(dice, what, &mut code)
        }
    };
    Order { what, tasks, ranks, requeue, code, options, body }
}

/// The script of a gang: ranks that compute with MPI, that only say that they live, or of which one fails.
fn gang(dice: &mut Dice, what: &str, code: &mut Option<u32>) -> String {
    let mpich = what == "gang-mpich";
    let (prologue, start, flavour) =
        if mpich { (mpich_prologue(), "mpiexec", "mpich") } else { ("", "mpirun", "ompi") };
    let programs = ["allreduce", "pi-reduce", "ping-pong", "stencil"];
    let program = match what {
        "gang-fails" => {
            *code = Some(7);
            format!("\"$MUSTER_MPI_TASKS/{flavour}/misbehave\" --rank 1 --mode exit:7")
        }
        _ if dice.one_in(2) => format!("work {}", dice.between(2..60)),
        _ => format!("\"$MUSTER_MPI_TASKS/{flavour}/{}\"", dice.pick(&programs)),
    };
    format!("{prologue}{start} bash \"${{LEDGER%/*}}/rank.sh\" \"$host\" {program}")
}
