//! How many steps of one process a job starts, one after another and all at once, and what the controller does meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::figures::{Better, Figure, Told};
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks::{self, controller_cpu};

const USER: &str = "ann";
const NODES: usize = 4;
const CORES: u32 = 8;
const JOB_LIMIT: Duration = Duration::from_secs(1800);

/// A way to start many steps: what it is, its figure, and the script, which writes when it began and ended.
const WAYS: [(&str, &str, &str); 3] = [
    (
        "one after another",
        "steps.sequential",
        "for ((i = 0; i < COUNT; i++)); do muster run -N1 -n1 true || failed=$((failed + 1)); done",
    ),
    (
        "all asked for at once, on 32 cores",
        "steps.asked_at_once",
        "for ((i = 0; i < COUNT; i++)); do muster run -q -N1 -n1 --exact true || echo failed >> failures & done; wait",
    ),
    (
        "all running at once",
        "steps.running_at_once",
        "for ((i = 0; i < COUNT; i++)); do
           muster run -q -N1 -n1 -i none --overlap -w node0$((i % 4 + 1)) sh -c 'echo >> ready; read -r line < go' \\
             || echo failed >> failures &
         done
         until [ $(stat -c %s ready 2>/dev/null || echo 0) -ge COUNT ]; do sleep 0.2; done
         echo all run: $(ps -e | grep -c muster-step) daemons $EPOCHREALTIME
         exec 3<> go; yes | head -n COUNT >&3 & wait",
    ),
];

pub fn run(count: usize, way: Option<usize>, json: bool) -> Result<()> {
    ensure!(count > 0, "at least one step is needed");
    let name = format!("qst{}", std::process::id() % 10_000);
    // Thousands of starters on one node take some GiB.
    let site = Site::up(&SiteOptions { memory: "16G".to_owned(), ..SiteOptions::new(&name, NODES, CORES)? })?;
    let work = checks::user_directory(&site, USER)?;
    println!("{count} steps of one process in one job of {NODES} nodes with {CORES} cores each");
    println!("{:36} {:>9} {:>9} {:>9} {:>16}", "", "seconds", "steps/s", "ms/step", "controller, CPU s");
    let ways = WAYS.iter().enumerate().filter(|(number, _)| way.is_none_or(|way| way == *number));
    let mut figures = Vec::new();
    for (_, (what, name, script)) in ways {
        let rate = measure(&site, &work, what, &script.replace("COUNT", &count.to_string()), count)?;
        let words = format!("{count} steps of one process, {what}");
        figures.push(Figure::new(name, words, rate, "1/s", Better::Higher));
    }
    site.down()?;
    if json {
        Told { figures, ..Told::default() }.print()?;
    }
    Ok(())
}

/// Steps a second.
fn measure(site: &Site, work: &Path, what: &str, script: &str, count: usize) -> Result<f64> {
    let bin = site.staged.bin.display();
    let text = format!(
        "#!/bin/bash\nPATH={bin}:$PATH\nfailed=0\nrm -f ready go failures\nmkfifo go\ntouch failures\nbegin=$EPOCHREALTIME\n\
         {script}\necho $((${{EPOCHREALTIME/./}} - ${{begin/./}})) $((failed + $(wc -l < failures)))\n"
    );
    std::fs::write(work.join("steps.sh"), text)?;
    let before = controller_cpu(site)?;
    let job = site.submit(USER, work, &["-N4", "--ntasks-per-node=8", "-t30", "steps.sh"])?;
    let detail = site.wait(job, JOB_LIMIT)?;
    let used = controller_cpu(site)? - before;
    ensure!(checks::all_completed(&detail), "{}", checks::complaint(&detail));
    let task = detail.task_list.first().context("the job has no task")?;
    let output = std::fs::read_to_string(&task.stdout_path)?;
    let last = output.lines().last().context("the script wrote nothing")?;
    let (micros, failed) = last.split_once(' ').with_context(|| format!("no result in: {output}"))?;
    let seconds = micros.parse::<f64>()? / 1e6;
    let failed: usize = failed.parse()?;
    ensure!(failed == 0, "{failed} of {count} steps failed:\n{output}");
    let rate = count as f64 / seconds;
    println!("{what:36} {seconds:>9.1} {rate:>9.0} {:>9.2} {used:>16.2}", 1e3 / rate);
    Ok(rate)
}
