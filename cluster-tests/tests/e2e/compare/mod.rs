//! The faces beside the real Slurm: the same submissions to both, the same commands, the same answers.

mod mpi_start;
mod peers;
mod slurm;
mod speed;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use self::slurm::Slurm;
use crate::support::{Bench, PATIENCE};

/// What a command answered, with what changes from run to run taken out.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Instants become `TIME`, spans of less than an hour `M:SS`; blanks at the ends of lines go.
fn normalised(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(normal_word).collect();
        lines.push(words.join(" ").trim_end().to_owned());
    }
    lines.join("\n")
}

fn normal_word(word: &str) -> String {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if word.len() == 19 && word.as_bytes()[10] == b'T' && digits(&word[..4]) {
        return "TIME".to_owned();
    }
    match word.split_once(':') {
        // How long something has run, unless it is a limit in whole minutes.
        Some((minutes, seconds))
            if digits(minutes) && digits(seconds) && seconds != "00" && word.len() == 4 =>
        {
            "0:00".to_owned()
        }
        _ => word.to_owned(),
    }
}

impl Answer {
    fn of(output: &Output) -> Self {
        Self { code: output.status.code(), out: normalised(&output.stdout), err: normalised(&output.stderr) }
    }
}

/// Both clusters.
struct Both {
    bench: Bench,
    faces: PathBuf,
    slurm: Slurm,
}

impl Both {
    /// Four nodes of eight cores each, on both sides; none where there is no Slurm, or no cluster.
    fn up(tag: &str) -> Option<Self> {
        if !slurm::is_there() {
            return None;
        }
        let policy = "root_may_submit = true\njobs_per_user_max = 200_000\n\
                      [[license]]\nname = \"matlab\"\ncount = 2";
        let bench = Bench::up_with(tag, 4, 8, policy)?;
        let faces = bench.work.join("faces");
        let made = bench
            .site
            .run("ann", &bench.work, &["generate", "slurm-links", faces.to_str().unwrap()])
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let nodes: Vec<String> = (1..=4).map(|node| format!("node{node:02}")).collect();
        Some(Self { slurm: Slurm::start(&nodes, 8), bench, faces })
    }

    /// A face, run by root on `head`.
    fn face(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.faces.join(program);
        self.on_head(&[&[program.to_str().unwrap()], arguments].concat())
    }

    /// A command, run by root on `head`.
    fn on_head(&self, words: &[&str]) -> Command {
        let mut command = self.bench.site.cluster.exec("head", None).unwrap();
        command
            .args(["/usr/bin/env", "-C", "/tmp"])
            .args(words)
            .env("MUSTER_SOCKET", self.bench.site.socket())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on both sides. Gives what Muster and Slurm answered.
    fn ask(&self, line: &[&str]) -> (Answer, Answer) {
        let (program, arguments) = line.split_first().unwrap();
        let ours = self.face(program, arguments).output().unwrap();
        let theirs = self.slurm.command(program, arguments).output().unwrap();
        (Answer::of(&ours), Answer::of(&theirs))
    }

    /// Both sides answer the same, which may take a moment to come about.
    fn same(&self, line: &[&str]) {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let (ours, theirs) = self.ask(line);
            if ours == theirs {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{line:?}\nMuster:\n{}\n{}[exit {:?}]\nSlurm:\n{}\n{}[exit {:?}]",
                ours.out,
                ours.err,
                ours.code,
                theirs.out,
                theirs.err,
                theirs.code
            );
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// Submits the same to both sides, which give the same id.
    fn submit(&self, arguments: &[&str]) -> String {
        let line = [&["sbatch", "--parsable", "-o", "/dev/null"], arguments].concat();
        let (ours, theirs) = self.ask(&line);
        assert_eq!((&ours, ours.code), (&theirs, Some(0)), "{line:?}");
        ours.out
    }
}

#[test]
fn the_same_submissions_are_seen_the_same() {
    let Some(both) = Both::up("cmp") else { return };
    both.submit(&["-J", "demo", "-n2", "-t5", "--comment=hello there", "--wrap=sleep 1000"]);
    both.submit(&["-J", "ok", "--wrap=true"]);
    both.submit(&["-J", "fail", "--wrap=exit 3"]);
    let running = both.submit(&["-J", "stopped", "--wrap=sleep 1000"]);
    both.submit(&["-J", "licensed", "-L", "matlab:2", "--wrap=sleep 1000"]);
    both.submit(&["-J", "unlicensed", "-L", "matlab:1", "--wrap=true"]);
    both.submit(&["-J", "wide", "-N4", "--ntasks-per-node=2", "-c2", "--wrap=sleep 1000"]);
    let held = both.submit(&["-J", "held", "--hold", "--wrap=true"]);
    both.submit(&["-J", "later", "--begin=now+2hours", "--wrap=true"]);
    both.submit(&["-J", "afterit", "-d", "afterok:1", "--wrap=true"]);
    both.submit(&["-J", "never", "-d", "afterok:3", "--wrap=true"]);
    both.submit(&["-J", "whole", "-N4", "--exclusive", "-t10", "--wrap=sleep 1000"]);
    both.submit(&[
        "-J",
        "nodes",
        "--hold",
        "-N2",
        "-w",
        "node[02-03]",
        "-x",
        "node04",
        "--exclusive",
        "-t3",
        "--wrap=sleep 9",
    ]);
    both.submit(&["-J", "array", "-a", "1-8%2", "-n2", "-t1:00:00", "--hold", "--wrap=true"]);
    both.submit(&["-J", "longname-that-is-cut", "-a", "0-3,7", "--hold", "--wrap=true"]);
    // What never ran has another reason than what was stopped.
    both.bench.running(muster_core::ids::JobId(running.parse().unwrap()));
    both.slurm.until("the job to stop", |slurm| {
        slurm.run("squeue", &["-h", "-j", &running, "-t", "R", "-o", "%t"]).stdout.starts_with(b"R")
    });
    let (ours, theirs) = both.ask(&["scancel", &running]);
    assert_eq!((ours.code, theirs.code), (Some(0), Some(0)), "{ours:?} {theirs:?}");

    // The order of those with the same priority, as the held ones are, is left open by Slurm.
    both.same(&["squeue", "-S", "P,t,-p,i"]);
    both.same(&["squeue", "-t", "all", "-S", "i"]);
    both.same(&["squeue", "-l", "-h", "-S", "i"]);
    both.same(&["squeue", "-t", "all", "-S", "i", "-O", "JobArrayID,StateCompact,Reason"]);
    both.same(&[
        "squeue",
        "-h",
        "-S",
        "i",
        "-t",
        "all",
        "-o",
        "%i|%t|%T|%r|%j|%u|%U|%P|%D|%C|%c|%l|%F|%K|%y|%h|%f",
    ]);
    both.same(&[
        "squeue",
        "-h",
        "-S",
        "i",
        "-t",
        "all",
        "-o",
        "%n^^^%x^^^%k^^^%o^^^%g^^^%G^^^%d^^^%m^^^%z^^^%v^^^%w",
    ]);
    both.same(&["squeue", "-h", "-S", "i", "-t", "PD", "-o", "%i %N %B %E"]);
    both.same(&[
        "squeue",
        "-h",
        "-t",
        "all",
        "-S",
        "i",
        "-O",
        "cpus-per-task:.7,restartcnt:|,requeue:<>,STDIN:x",
    ]);
    both.same(&["squeue", "-L", "matlab", "-h", "-S", "i", "-o", "%i %t %R %W"]);
    both.same(&["scontrol", "show", "lic"]);
    both.same(&["scontrol", "-o", "show", "lic", "matlab"]);
    both.same(&["squeue", "-r", "-S", "i", "-o", "%i %t"]);
    both.same(&["squeue", "-t", "all", "-n", "ok,fail", "-S", "i", "-o", "%i %t %R"]);
    both.same(&["squeue", "-t", "R,CG", "-h", "-S", "i", "-o", "%i %N"]);
    both.same(&["squeue", "-w", "node02", "-h", "-t", "R", "-S", "i", "-o", "%.8i %3j"]);
    both.same(&["squeue", "-j", &held]);
    both.same(&["squeue", "-j", "2"]);
    both.same(&["squeue", "-j", "2,2", "-t", "all", "-o", "%i"]);
    both.same(&["squeue", "--me", "-h", "-t", "PD", "-S", "i", "-o", "%i"]);

    for line in [&["sinfo"][..], &["sinfo", "-s"], &["sinfo", "-N", "-S", "N"]] {
        // Slurm tells of nodes that it keeps free for a job; Muster does not.
        let (ours, theirs) = both.ask(line);
        let plain = |text: String| text.replace("plnd", "idle").replace("planned", "idle");
        assert_eq!(ours.out.lines().next(), plain(theirs.out).lines().next(), "{line:?}");
    }
    both.same(&["sinfo", "-o", "%P|%a|%l|%L|%g|%h|%r|%s|%R|%B|%F"]);
    both.same(&["sinfo", "-N", "-h", "-o", "%N %C"]);
    both.same(&["sinfo", "-ho", "%c %D %b"]);
    both.same(&["sinfo", "-R"]);
    both.same(&["sinfo", "-T"]);
    both.same(&["sinfo", "-d"]);

    // What became of jobs; how many wait and run Slurm counts every half minute only.
    let figures = || {
        let (ours, theirs) = both.ask(&["sdiag"]);
        (labels(&ours.out), labels(&theirs.out), counts(&ours.out), counts(&theirs.out))
    };
    both.slurm.until("the figures of both", |_| {
        let (our_labels, their_labels, ours, theirs) = figures();
        our_labels == their_labels && ours == theirs
    });
    pools_are_closed_the_same(&both);
}

/// What a closed pool does, and what is said of it.
fn pools_are_closed_the_same(both: &Both) {
    for state in ["DOWN", "DRAIN", "INACTIVE", "UP"] {
        both.same(&["scontrol", "update", "PartitionName=main", &format!("State={state}")]);
        both.same(&["sinfo", "-h", "-o", "%P %a"]);
        // A last line of Muster's own says what would be right.
        let (ours, theirs) = both.ask(&["sbatch", "--hold", "-o", "/dev/null", "--wrap=true"]);
        let first = |answer: &Answer| answer.err.lines().next().map(str::to_owned);
        assert_eq!(
            (ours.code, &ours.out, first(&ours)),
            (theirs.code, &theirs.out, first(&theirs)),
            "{state}"
        );
    }
}

/// The labels of what `sdiag` says of the controller, without what is there only once it has run for a minute.
fn labels(out: &str) -> Vec<String> {
    let before_requests = out.lines().take_while(|line| !line.starts_with("Remote Procedure"));
    let label = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    before_requests
        .filter(|line| !line.contains("Cycles per minute") && line.contains(": "))
        .map(label)
        .collect()
}

/// How many jobs came to what, without those that have not yet.
fn counts(out: &str) -> Vec<String> {
    let of = |line: &&str| {
        line.starts_with("Jobs ") && !line.starts_with("Jobs pending") && !line.starts_with("Jobs running")
    };
    out.lines().filter(of).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn mistakes_are_answered_the_same() {
    let Some(both) = Both::up("err") else { return };
    let lines: &[&[&str]] = &[
        &["squeue", "-j", "999999"],
        &["squeue", "-j", "abc"],
        &["squeue", "-j", "1,999999"],
        &["squeue", "-p", "nosuch"],
        &["squeue", "-u", "nosuchuser"],
        &["squeue", "-n", "nosuchname"],
        &["squeue", "-t", "BOGUS"],
        &["squeue", "-t", "3"],
        &["squeue", "-o"],
        &["squeue", "--bogus"],
        &["squeue", "-Z"],
        &["squeue", "extra"],
        &["squeue", "--usage"],
        &["squeue", "-s"],
        &["squeue", "-s", "20"],
        &["squeue", "-i", "x"],
        &["squeue", "-w", "node[01-02],n9"],
        &["squeue"],
        &["sinfo", "-p", "nosuch"],
        &["sinfo", "-n", "nosuch"],
        &["sinfo", "--bogus"],
        &["sinfo", "--usage"],
        &["sinfo"],
        &["sinfo", "-s"],
        &["sinfo", "-N"],
        &["sinfo", "-aho", "%F/%C"],
        &["sinfo", "-t", "drain,alloc"],
        &["scontrol", "show", "job", "999999"],
        &["scontrol", "show", "job", "abc"],
        &["scontrol", "show", "node", "nosuch"],
        &["scontrol", "show", "partition", "nosuch"],
        &["scontrol", "show", "reservation"],
        &["scontrol", "show", "res", "nosuch"],
        &["scontrol", "show", "bogus"],
        &["scontrol", "show"],
        &["scontrol", "show", "job", "1", "2"],
        &["scontrol", "bogus"],
        &["scontrol", "--bogus"],
        &["scontrol", "show", "hostnames", "n[1-3,7]"],
        &["scontrol", "show", "hostnames", "a[1-2]b[1-2],c"],
        &["scontrol", "show", "hostlist", "c,a2,a1,a3"],
        &["scontrol", "show", "hostlist", "n08,n09,n10"],
        &["scontrol", "show", "hostlist", "/no/such/file"],
        &["scontrol", "show", "hostname"],
        &["scontrol", "-Q", "show", "job", "999999"],
        &["scontrol", "show", "lic"],
    ];
    for line in lines {
        both.same(line);
    }
    // What Slurm says of states that it has and Muster has not is left out of the list.
    let (ours, theirs) = both.ask(&["sinfo", "-t", "bogus"]);
    assert_eq!((ours.code, ours.err.lines().next()), (theirs.code, theirs.err.lines().next()));
}
