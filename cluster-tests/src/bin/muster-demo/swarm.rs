//! How many small tasks of one array a node runs in a second, beside the floor: xargs, which starts the same program and
//! neither contains, nor records, nor survives anything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::figures::{Against, Better, Figure, Told, median};
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks::{self, TICKS_PER_SECOND, controller_cpu};

const USER: &str = "ann";
const SLOTS: u32 = 8;
const JOB_LIMIT: Duration = Duration::from_secs(3600);
/// The part of a rate that is told apart from the same rate.
const SAME_RATE: f64 = 0.95;

pub fn run(count: usize, rounds: usize, then: Option<usize>, json: bool) -> Result<()> {
    ensure!(count > 0 && rounds > 0 && then != Some(0), "at least one task is needed, and one round");
    let name = format!("qsw{}", std::process::id() % 10_000);
    let policy = format!("tasks_waiting_max = {}", count.max(then.unwrap_or(0)) + 1);
    let site = Site::up(&SiteOptions { policy, ..SiteOptions::new(&name, 1, SLOTS)? })?;
    let work = checks::user_directory(&site, USER)?;
    println!("{count} tasks that do nothing, {SLOTS} at once, on one node, an output file for each");
    println!(
        "{:24} {:>9} {:>9} {:>18} {:>14}",
        "", "seconds", "tasks/s", "controller, us/task", "node, us/task"
    );
    std::fs::write(work.join("nothing.sh"), "#!/bin/sh\ntrue\n")?;
    by_xargs(&site, &work, count, "/bin/sh nothing.sh")?.print("xargs -P 8");
    // In turns: the machine is not as fast in one minute as in the next.
    let mut pairs = Vec::new();
    for round in 1..=rounds {
        // What the file system takes for the files, which no scheduler can spare.
        let folder = format!("of-xargs-{round}");
        std::fs::create_dir_all(work.join(&folder))?;
        std::fs::set_permissions(work.join(&folder), std::fs::Permissions::from_mode(0o777))?;
        let each = format!("/bin/sh -c '. ./nothing.sh >{folder}/$0'");
        let floor = by_xargs(&site, &work, count, &each)?;
        floor.print("the same, with files");
        let array = as_array(&site, &work, &format!("out-{round}"), count)?;
        array.print("an array");
        println!("{:24} {:>9.2}", "of the rate with files", array.rate() / floor.rate());
        pairs.push((floor, array));
    }
    let mut rates: Vec<f64> = pairs.iter().map(|(_, array)| array.rate()).collect();
    // What ran one after the other had the same machine; of different rounds that cannot be said.
    pairs.sort_by(|(floor, array), (other_floor, other)| {
        (array.rate() / floor.rate()).total_cmp(&(other.rate() / other_floor.rate()))
    });
    let controller: Vec<f64> = pairs.iter().map(|(_, array)| array.controller_us).collect();
    let (floor, array) = pairs.swap_remove((rounds - 1) / 2);
    let mut figures = array.figures(&floor, rounds);
    // Nothing else that runs beside is in it, so that it needs no other of the same round.
    let controller = median(&controller).context("no round was run")?;
    figures.push(
        Figure::new(
            "swarm.controller",
            format!("CPU time of the controller for a small task, the median of {rounds} rounds"),
            controller,
            "us",
            Better::Lower,
        )
        .bar(Against::Value, 30.0),
    );
    if let Some(many) = then {
        let large = as_array(&site, &work, "large", many)?;
        large.print("a larger array");
        // It takes ten times as long, in which the machine becomes faster or slower: it is set beside those before and after it.
        let after = as_array(&site, &work, "after", count)?;
        after.print("an array after it");
        rates.push(after.rate());
        rates.sort_by(f64::total_cmp);
        let words = format!("small tasks of an array of {many}");
        figures.push(
            Figure::new("swarm.large_rate", words, large.rate(), "1/s", Better::Higher)
                .floor(format!("arrays of {count} before and after, the middle one"), rates[rates.len() / 2])
                .bar(Against::Floor, SAME_RATE),
        );
    }
    site.down()?;
    if json {
        Told { figures, ..Told::default() }.print()?;
    }
    Ok(())
}

/// So many small tasks that have run.
struct Swarm {
    count: usize,
    seconds: f64,
    /// CPU time of the controller for each task, in microseconds; 0 without one.
    controller_us: f64,
    /// CPU time of everything else for each task, in microseconds.
    node_us: f64,
}

impl Swarm {
    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    fn print(&self, what: &str) {
        println!(
            "{what:24} {:>9.2} {:>9.0} {:>18.0} {:>14.0}",
            self.seconds,
            self.rate(),
            self.controller_us,
            self.node_us
        );
    }

    /// Those of the round, of so many, whose part of xargs' rate was the middle one.
    fn figures(&self, floor: &Self, rounds: usize) -> Vec<Figure> {
        let words = format!(
            "small tasks of an array of {}, {SLOTS} at once, with an output file each; the middle one of {rounds} rounds",
            self.count
        );
        vec![
            Figure::new("swarm.rate", words, self.rate(), "1/s", Better::Higher)
                .floor(format!("xargs -P {SLOTS}, with files, in turns"), floor.rate())
                .bar(Against::Floor, 0.8)
                .bar(Against::Peers, 1.0),
            Figure::new(
                "swarm.node",
                "CPU time of everything else for a small task",
                self.node_us,
                "us",
                Better::Lower,
            )
            .floor("all of it by xargs, with files", floor.node_us),
        ]
    }
}

/// The same script, once for each number, by xargs on the same host and as the same user.
fn by_xargs(site: &Site, work: &Path, count: usize, each: &str) -> Result<Swarm> {
    let command = format!("cd {} && seq {count} | xargs -P {SLOTS} -n 1 {each}", work.display());
    let (before, cpu) = (Instant::now(), busy_cpu()?);
    let status = site.cluster.exec("node01", Some(USER))?.args(["/bin/sh", "-c", &command]).status()?;
    ensure!(status.success(), "xargs failed: {status}");
    let (seconds, used) = (before.elapsed().as_secs_f64(), busy_cpu()? - cpu);
    Ok(Swarm { count, seconds, controller_us: 0.0, node_us: used * 1e6 / count as f64 })
}

/// From the submit's begin until the job's end is known.
fn as_array(site: &Site, work: &Path, folder: &str, count: usize) -> Result<Swarm> {
    // Made by root, for its tasks to write to.
    let out = work.join(folder);
    std::fs::create_dir_all(&out)?;
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o777))?;
    let (controller, all) = (controller_cpu(site)?, busy_cpu()?);
    let before = Instant::now();
    let array = format!("--array=0-{}", count - 1);
    let output = format!("--output={folder}/%a");
    let job = site.submit(USER, work, &[&array, &output, "--mem=10M", "-t5", "nothing.sh"])?;
    let detail = site.wait(job, JOB_LIMIT)?;
    let seconds = before.elapsed().as_secs_f64();
    ensure!(checks::all_completed(&detail), "{}", checks::complaint(&detail));
    let controller = controller_cpu(site)? - controller;
    let files = std::fs::read_dir(out)?.count();
    ensure!(files == count, "{files} output files of {count}");
    let each = |used: f64| used * 1e6 / count as f64;
    Ok(Swarm {
        count,
        seconds,
        controller_us: each(controller),
        node_us: each(busy_cpu()? - all - controller),
    })
}

/// The CPU time of all of this machine, in seconds (proc(5), `/proc/stat`).
fn busy_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat says: {line}");
    // Without idle time, and without that of waiting for disks.
    let busy: f64 =
        ticks.iter().take(8).enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, t)| t).sum();
    Ok(busy / TICKS_PER_SECOND)
}
