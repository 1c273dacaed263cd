//! The face `sbcast`: a file of this node to all nodes of the allocation, by a step that shares their cores and runs nothing.

use std::process::ExitCode;
use std::time::Duration;

use muster_step::client::{self, Bcast, Plan, Programs, Redirect};
use muster_step::frames::{CpuBind, Wireup};
use muster_step::words::StepRequest;
use muster_step::{StepError, tree};

use super::connect::version;
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Force,
    Help,
    Ignored,
    Job,
    Preserve,
    SendLibs,
    Timeout,
    Verbose,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Ignored, Some('C'), &["compress"], Maybe),
    opt(Key::Ignored, None, &["exclude"], Value),
    opt(Key::Force, Some('f'), &["force"], Nothing),
    opt(Key::Ignored, Some('F'), &["fanout"], Value),
    opt(Key::Help, None, &["help", "usage"], Nothing),
    opt(Key::Job, Some('j'), &["jobid"], Value),
    opt(Key::Preserve, Some('p'), &["preserve"], Nothing),
    opt(Key::SendLibs, None, &["send-libs"], Maybe),
    opt(Key::Ignored, Some('s'), &["size"], Value),
    opt(Key::Timeout, Some('t'), &["timeout"], Value),
    opt(Key::Verbose, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
];

const HELP: &str = "\
Usage: sbcast [OPTIONS] SOURCE DEST
  -f, --force            replace what is there
  -j, --jobid=JOB        the allocation's own job
  -p, --preserve         with the times of the file
  -t, --timeout=SECONDS  give up after that
  -v, --verbose
  -V, --version          the version
  -C, --compress, -F, --fanout, -s, --size and --exclude change nothing: the file is sent as it is, down the tree of the step.
DEST is a path on each node, from the working directory; a folder where it ends with a slash.
";

fn said(text: &str) -> Fault {
    Fault::Said(format!("sbcast: error: {text}"))
}

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(send(words))
}

fn send(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sbcast", source })?;
    let (mut force, mut preserve, mut verbose, mut job, mut time_limit) = (false, false, false, None, None);
    for (key, value) in &line.options {
        let text = value.as_deref().unwrap_or_default();
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Force => force = true,
            Key::Preserve => preserve = true,
            Key::Verbose => verbose = true,
            Key::Ignored => {}
            Key::SendLibs if text == "no" => {}
            Key::SendLibs => {
                return Err(said(
                    "--send-libs is not supported: libraries are not sent to nodes; put them where all nodes see them",
                ));
            }
            Key::Job => {
                let bad =
                    |_| said(&format!("invalid job ID: {text}: write the allocation's job, such as 12"));
                job = Some(text.parse().map_err(bad)?);
            }
            Key::Timeout => {
                let bad = |_| said(&format!("invalid timeout: {text}: write seconds, such as 60"));
                time_limit =
                    Some(text.parse().map(Duration::from_secs).map_err(bad)?).filter(|time| !time.is_zero());
            }
        }
    }
    let [from, to] = line.words.as_slice() else {
        return Err(said("Need two file names, have something else: write `sbcast SOURCE DEST`"));
    };
    let failed = |error: StepError| said(&error.to_string());
    let nodes = client::allocation().map_err(failed)?.1.len() as u32;
    let directory = std::env::current_dir()
        .map_err(|error| said(&format!("cannot tell the working directory: {error}")))?;
    let plan = Plan {
        name: "sbcast",
        request: StepRequest {
            ntasks: Some(nodes),
            nodes: Some((nodes, nodes)),
            tasks_per_node: Some(1),
            overlap: true,
            overcommit: true,
            ..StepRequest::default()
        },
        programs: Programs::One(vec!["sbcast".to_owned()]),
        environment: Vec::new(),
        directory: directory.to_string_lossy().into_owned(),
        wireup: Wireup::None,
        bind: CpuBind::None,
        stdin: Redirect::Nothing,
        stdout: Redirect::Own,
        stderr: None,
        append: false,
        label: false,
        unbuffered: false,
        pty: false,
        kill_on_bad_exit: false,
        wait: Duration::ZERO,
        time_limit,
        quit_on_interrupt: true,
        quiet: false,
        verbose,
        dry_run: false,
        show_bindings: None,
        job_name: String::new(),
        step_name: "sbcast".to_owned(),
        job,
        tree_width: tree::WIDTH,
        error_status: 1,
        bcast: Some(Bcast::File { from: from.into(), to: to.clone(), replace: force, preserve }),
        relayed: false,
    };
    client::run(&plan).map(ExitCode::from).map_err(failed)
}
