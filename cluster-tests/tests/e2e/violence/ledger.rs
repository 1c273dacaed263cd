//! What the tasks themselves wrote down, line by line in the order in which it happened.
//!
//! All hosts share one kernel, and every line is one short write on a descriptor that appends: the file's order is the
//! order of the writes, exactly. The file lies in the machine's memory, which no act of the test reaches, so nothing
//! need be synced.

use std::collections::BTreeMap;
use std::path::Path;

use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex};

use crate::support::numbers;

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The script starts.
    Start,
    /// This process is alive.
    Beat,
    /// The script is about to exit with this code.
    End {
        code: u32,
    },
    RankStart {
        rank: usize,
    },
    RankEnd {
        rank: usize,
        code: u32,
    },
    /// Another process that lives has the lock of this core.
    Clash {
        core: u32,
    },
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    pub key: AttemptKey,
    pub told: Told,
    pub host: String,
    pub instance: u32,
    /// The cores on which the kernel lets the process run.
    pub cores: Vec<u32>,
    /// Microseconds since 1970, on the clock that the controller reads too.
    pub at_us: u64,
}

/// Reads everything.
///
/// # Errors
/// The line that is not whole.
pub fn read(path: &Path) -> Result<Vec<Line>, String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("a line of the ledger is torn: {line:?}")))
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    let [kind, job, task, attempt, host, instance, _boot, cores, at, more] = words[..] else { return None };
    let told = match kind {
        "start" => Told::Start,
        "beat" => Told::Beat,
        "end" => Told::End { code: more.parse().ok()? },
        "rank-start" => Told::RankStart { rank: more.parse().ok()? },
        "rank-end" => {
            let (rank, code) = more.split_once(':')?;
            Told::RankEnd { rank: rank.parse().ok()?, code: code.parse().ok()? }
        }
        "clash" => Told::Clash { core: more.parse().ok()? },
        _ => return None,
    };
    let task = TaskId { job: JobId(job.parse().ok()?), index: TaskIndex(task.parse().ok()?) };
    let (seconds, micros) = at.split_once('.')?;
    let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    Some(Line {
        key: AttemptKey { task, attempt: attempt.parse().ok()? },
        told,
        host: host.to_owned(),
        instance: instance.parse().ok()?,
        cores: numbers(cores),
        at_us,
    })
}

/// What an attempt wrote, all of its processes together.
#[derive(Debug, Default)]
pub struct Traces {
    pub starts: u32,
    pub code: Option<u32>,
    /// How often each rank started, and its code.
    pub ranks: BTreeMap<usize, (u32, Option<u32>)>,
    /// By host: instance, first and last line, and every core that a process of it could use.
    pub hosts: BTreeMap<String, Trace>,
}

#[derive(Debug)]
pub struct Trace {
    pub instance: u32,
    pub first_us: u64,
    pub last_us: u64,
    pub cores: Vec<u32>,
}

/// The lines by attempt.
pub fn by_attempt(lines: &[Line]) -> BTreeMap<AttemptKey, Traces> {
    let mut all: BTreeMap<AttemptKey, Traces> = BTreeMap::new();
    for line in lines {
        let traces = all.entry(line.key).or_default();
        match line.told {
            Told::Start => traces.starts += 1,
            Told::End { code } => traces.code = Some(code),
            Told::RankStart { rank } => traces.ranks.entry(rank).or_default().0 += 1,
            Told::RankEnd { rank, code } => traces.ranks.entry(rank).or_default().1 = Some(code),
            Told::Beat | Told::Clash { .. } => {}
        }
        let trace = traces.hosts.entry(line.host.clone()).or_insert_with(|| Trace {
            instance: line.instance,
            first_us: line.at_us,
            last_us: line.at_us,
            cores: Vec::new(),
        });
        trace.last_us = trace.last_us.max(line.at_us);
        trace.cores.extend(&line.cores);
        trace.cores.sort_unstable();
        trace.cores.dedup();
    }
    all
}

/// No core was used by two attempts at the same time.
///
/// An attempt uses its cores from its first line to its last. One that was killed wrote no end, and its last line may be
/// as old as a beat; how long its processes really lived is known to the kernel, which keeps their locks until the
/// last of them has ended: whoever comes to the core earlier than that writes a clash.
pub fn shared_cores(lines: &[Line]) -> Vec<String> {
    let mut found = Vec::new();
    // By core: who uses it now, and who did before.
    let mut users: BTreeMap<(&str, u32), Vec<AttemptKey>> = BTreeMap::new();
    for line in lines {
        if let Told::Clash { core } = line.told {
            found.push(format!(
                "{} found core {core} of {} in use by a process that lives",
                line.key, line.host
            ));
        }
        for core in &line.cores {
            let before = users.entry((&line.host, *core)).or_default();
            if before.last() == Some(&line.key) {
                continue;
            }
            if before.contains(&line.key) {
                let other = before.last().unwrap();
                found.push(format!(
                    "{} went on using core {core} of {} after {other} had begun to ({:?} at {})",
                    line.key, line.host, line.told, line.at_us
                ));
            }
            before.push(line.key);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `start 1 0 1 node01 0 77 0-1 5.000000 ` and the like.
    fn lines(text: &str) -> Vec<Line> {
        text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    #[test]
    fn an_attempt_that_goes_on_after_another_has_begun_is_found() {
        let apart = "start 1 0 1 node01 0 77 0-1 5.000000 \n\
                     end 1 0 1 node01 0 77 0-1 6.000000 0\n\
                     start 2 0 1 node01 0 77 1 7.000000 \n\
                     start 1 0 2 node02 0 78 0-1 8.000000 ";
        assert_eq!(shared_cores(&lines(apart)), Vec::<String>::new());
        let at_once = format!("{apart}\nbeat 1 0 1 node01 0 77 0-1 9.000000 3");
        let found = shared_cores(&lines(&at_once));
        assert!(found.len() == 1 && found[0].contains("1_0.1 went on using core 1 of node01"), "{found:?}");
        let met = format!("{apart}\nclash 2 0 1 node01 0 77 1 9.000000 1");
        assert_eq!(shared_cores(&lines(&met)).len(), 1);
    }

    #[test]
    fn a_torn_line_is_none() {
        assert!(parse("start 1 0 1 node01 0 77 0-1 5.0000").is_none());
        assert!(
            parse("start 1 0 1 node01 0 77 0-1 5.000000 start 2 0 1 node01 0 77 0-1 5.000000 ").is_none()
        );
    }

    /// The script that all tasks source, on this machine: who comes to a core that a child of a killed process still
    /// holds, says so.
    #[test]
    fn a_core_that_a_child_still_holds_is_told() {
        use std::io::BufRead as _;
        use std::process::{Command, Stdio};
        let dir = std::env::temp_dir().join(format!("muster-tell-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("tell.sh"), include_str!("tell.sh")).unwrap();
        let start = |job: &str, body: &str| {
            let script =
                format!("LEDGER={0}/ledger LOCKS={0}\n. {0}/tell.sh\nhold_cores\n{body}", dir.display());
            let mut command = Command::new("/bin/bash");
            command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let names = ["MUSTER_JOB_ID", "MUSTER_TASK_INDEX", "MUSTER_ATTEMPT", "MUSTER_INSTANCE"];
            command.envs(names.into_iter().zip([job, "0", "1", "0"]));
            command.spawn().unwrap()
        };
        // The child goes on until the end of its input, which is this test's to close.
        let mut first = start("1", "cat <&0 >/dev/null & echo up; wait");
        let mut word = String::new();
        std::io::BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut word).unwrap();
        let input = first.stdin.take();
        first.kill().unwrap();
        first.wait().unwrap();
        assert!(start("2", "tell start").wait().unwrap().success());
        drop(input);
        let told = read(&dir.join("ledger")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(told.iter().any(|line| matches!(line.told, Told::Clash { .. })), "{told:?}");
    }
}
