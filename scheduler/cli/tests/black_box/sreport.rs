//! `sreport` over a period of which everything is known: the answers are those that Slurm's own gives for the same jobs.

use std::fmt::Write as _;
use std::sync::Arc;

use muster_core::event::{Event, Hardware, Record};
use muster_core::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use muster_store::{AttemptRow, AwayRow, HistoryRow, JobRow, Store, TaskRow, TaskSpan};

use crate::common::{Ran, face};
use crate::controller::Controller;

/// Memory of each attempt, in bytes.
const MEMORY_BYTES: u64 = 500 << 20;

/// What Slurm 22.05 answers, once its slurmdbd has rolled the same jobs up. Time that it counts as planned, because a job
/// waited that could have run, is idle here.
const ANSWERS: &str = include_str!("sreport.txt");

fn at(text: &str) -> u64 {
    let at: jiff::Timestamp = format!("2025-11-{text}Z").parse().unwrap();
    u64::try_from(at.as_microsecond()).unwrap()
}

fn view(job: &str, index: u32) -> String {
    format!(
        r#"{{"index":{index},"state":"completed","job":"{job}","shares":[{{"node":"n1","cores":"0","ranks":1,"memory_bytes":{MEMORY_BYTES}}}]}}"#
    )
}

/// A job whose tasks ran one after another, each from an instant to the next.
struct Past {
    job: u64,
    user: &'static str,
    account: &'static str,
    cores: u64,
    instants: &'static [&'static str],
}

impl Past {
    fn rows(&self) -> Vec<HistoryRow> {
        let instants: Vec<u64> = self.instants.iter().map(|text| at(text)).collect();
        let (submitted_us, ended_us) = (instants[0], instants[instants.len() - 1]);
        let detail = format!(r#"{{"name":"x","account":"{}"}}"#, self.account);
        let mut rows = vec![HistoryRow::Job(Box::new(JobRow {
            job: JobId(self.job),
            name: "x".into(),
            user: self.user.into(),
            uid: 0,
            pool: "main".into(),
            state: "completed".into(),
            tasks: (instants.len() - 1) as u64,
            submitted_us,
            started_us: Some(submitted_us),
            ended_us,
            detail,
        }))];
        for (index, span) in (0..).zip(instants.windows(2)) {
            rows.push(HistoryRow::Task(Box::new(TaskRow {
                job: JobId(self.job),
                span: TaskSpan::one(TaskIndex(index)),
                attempts: 1,
                name: "x".into(),
                user: self.user.into(),
                uid: 0,
                pool: "main".into(),
                state: "completed".into(),
                exit_code: Some(0),
                signal: None,
                reason: String::new(),
                nodes: "n1".into(),
                cores: self.cores,
                submitted_us,
                started_us: Some(span[0]),
                ended_us: span[1],
                cpu_time_us: 0,
                memory_peak_bytes: 0,
                view: Some(view("x", index)),
            })));
        }
        rows
    }
}

const PAST: [Past; 6] = [
    // What remains of it after a requeue: its first half is an attempt of before.
    Past { job: 1, user: "root", account: "physics", cores: 4, instants: &["25T09:00:00", "25T10:30:00"] },
    // It runs into the period.
    Past { job: 2, user: "daemon", account: "theory", cores: 2, instants: &["24T23:00:00", "25T01:00:00"] },
    Past { job: 3, user: "games", account: "chem", cores: 8, instants: &["25T12:00:00", "25T12:45:30"] },
    // An array.
    Past {
        job: 4,
        user: "games",
        account: "physics",
        cores: 1,
        instants: &["25T13:00:00", "25T13:10:00", "25T14:00:00"],
    },
    Past { job: 5, user: "root", account: "physics", cores: 16, instants: &["25T20:00:00", "25T21:00:00"] },
    // It runs out of the period.
    Past { job: 6, user: "root", account: "physics", cores: 1, instants: &["25T23:00:00", "26T05:00:00"] },
];

/// A controller that has counted for some days, and knows these jobs.
fn controller() -> Controller {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "[cluster]\nname = \"test\"\n[controller]\nlisten = \"127.0.0.1:0\"\nsocket = \"{0}/s\"\n\
         state_dir = \"{0}/state\"\n[policy]\nroot_may_submit = true\n\
         [[node]]\nname = \"n[1-4]\"\ncores = 4\nmemory = \"8000M\"\n[[pool]]\nname = \"main\"\nnodes = \"n[1-4]\"\n",
        folder.path().display()
    );
    for (name, parent) in [("physics", None), ("theory", Some("physics")), ("chem", None)] {
        writeln!(text, "[[account]]\nname = \"{name}\"\nusers = [\"root\", \"games\", \"daemon\"]").unwrap();
        if let Some(parent) = parent {
            writeln!(text, "parent = \"{parent}\"").unwrap();
        }
    }
    let path = folder.path().join("muster.toml");
    std::fs::write(&path, text).unwrap();
    let config = muster_config::load(&path).unwrap();
    let mut records = vec![Event::Configured { config: Arc::new(config.cluster) }];
    records.extend((0..4).map(|node| Event::NodeUp {
        node: NodeId(node),
        boot_id: "boot".into(),
        hardware: Arc::new(Hardware::default()),
        stale: Vec::new(),
    }));
    let begin = Timestamp(at("20T00:00:00"));
    let records: Vec<Record> = records.into_iter().map(|event| Record { at: begin, event }).collect();
    let mut rows: Vec<HistoryRow> = PAST.iter().flat_map(Past::rows).collect();
    rows.push(HistoryRow::Attempt(Box::new(AttemptRow {
        attempt: AttemptKey { task: TaskId { job: JobId(1), index: TaskIndex(0) }, attempt: 1 },
        user: "root".into(),
        account: Some("physics".into()),
        pool: "main".into(),
        cores: 4,
        started_us: at("25T08:30:00"),
        ended_us: at("25T09:00:00"),
        view: view("x", 0),
    })));
    rows.push(HistoryRow::Away(Box::new(AwayRow {
        node: "n4".into(),
        since_us: at("25T03:00:00"),
        until_us: None,
        reason: "broken".into(),
    })));
    rows.push(HistoryRow::Back { node: "n4".into(), at_us: at("25T05:30:00") });
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let (mut store, _) = Store::open(&folder.path().join("state/muster.db")).unwrap();
    store.append(&records, &rows).unwrap();
    drop(store);
    Controller::over(folder)
}

fn report(controller: &Controller, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = face("sreport", &controller.socket(), &words);
    Ran::new(command.env("TZ", "UTC").output().unwrap())
}

#[test]
fn reports_are_those_of_slurm_for_the_same_jobs() {
    let controller = controller();
    let mut told = 0;
    for block in ANSWERS.split("$ sreport ").skip(1) {
        let (line, right) = block.split_once('\n').unwrap();
        let ran = report(&controller, line);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}");
        assert_eq!(ran.out, right, "sreport {line}\n{}\n{right}", ran.out);
        told += 1;
    }
    assert!(told > 30, "{told}");

    // A task of an array, and an attempt before a requeue, are jobs of their own, as in Slurm.
    let day = "start=2025-11-25 end=2025-11-26";
    let ran = report(&controller, &format!("-nP job sizes printjobcount grouping=individual {day}"));
    assert_eq!(ran.out, "test|root|3|1|2|1|1|100.00%\n", "{ran:?}");
    let ran = report(&controller, &format!("-nP job sizes printjobcount partitions=other {day}"));
    assert_eq!(ran.out, "");
    // Before it was there, a cluster had nothing to report.
    let ran = report(&controller, "-nP cluster util start=2025-11-18 end=2025-11-19");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    let ran = report(&controller, "-nP -t hours cluster util start=2025-11-19 end=2025-11-21");
    assert_eq!(ran.out, "test|0|0|0|384|0|384\n", "{ran:?}");
    // The nodes have not come back to this controller: they are up as far as it knows, until it has missed them.
    let ran = report(&controller, &format!("-T gres/gpu cluster util {day}"));
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with("sreport: fatal: No valid TRES given\n") && ran.err.contains("cpu, mem"),
        "{ran:?}"
    );
    let ran = report(&controller, &format!("-nP -T ALL cluster util {day}"));
    assert_eq!(ran.out.lines().count(), 4, "{ran:?}");
}
