//! The face `sattach`: the output of a running step, from elsewhere.

use std::process::ExitCode;

use muster_core::ids::JobRef;
use muster_step::client::ViewOptions;

use super::connect::{connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::refusal;
use crate::commands::attach;
use crate::look::{self, BadView};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    ErrorFilter,
    Help,
    InputFilter,
    Label,
    Layout,
    OutputFilter,
    Pty,
    Ignored,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::ErrorFilter, None, &["error-filter"], Value),
    opt(Key::Help, Some('h'), &["help", "usage"], Nothing),
    opt(Key::InputFilter, None, &["input-filter"], Value),
    opt(Key::Label, Some('l'), &["label"], Nothing),
    opt(Key::Layout, None, &["layout"], Nothing),
    opt(Key::OutputFilter, None, &["output-filter"], Value),
    opt(Key::Pty, None, &["pty"], Nothing),
    opt(Key::Ignored, Some('Q'), &["quiet"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
];

const HELP: &str = "\
Usage: sattach [OPTIONS] JOB.STEP
      --error-filter=RANK    show the errors of this rank alone
      --input-filter=RANK    give input to this rank alone
  -l, --label                the rank before each line
      --layout               say which rank is on which node, and end
      --output-filter=RANK   show the output of this rank alone
      --pty                  the step has a terminal, for which this one stands
  -Q, --quiet
  -V, --version              the version
Ctrl-C ends the view and not the step. What ranks wrote before is not shown.
";

fn said(text: &str) -> Fault {
    Fault::Said(format!("sattach: error: {text}"))
}

pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(attach_to(words))
}

fn attach_to(words: &[String]) -> Result<ExitCode, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "sattach", source })?;
    let (mut options, mut layout) = (ViewOptions::default(), false);
    for (key, value) in &line.options {
        let rank = || -> Result<Option<u32>, Fault> {
            let text = value.as_deref().unwrap_or_default();
            let bad = || said(&format!("Invalid rank \"{text}\": write its number, such as 0"));
            text.parse().map(Some).map_err(|_| bad())
        };
        match key {
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::ErrorFilter => options.errors_of = rank()?,
            Key::InputFilter => options.input_to = rank()?,
            Key::OutputFilter => options.output_of = rank()?,
            Key::Label => options.label = true,
            Key::Layout => layout = true,
            Key::Pty => options.pty = true,
            Key::Ignored => {}
        }
    }
    if options.pty && (options.label || options.output_of.is_some() || options.errors_of.is_some()) {
        return Err(said("--pty shows what the terminal shows: leave out --label and the filters"));
    }
    let [word] = line.words.as_slice() else {
        return Err(said("name one step, such as `sattach 12.0`"));
    };
    let (job, step) = target(word)?;
    let failed = |error: BadView| match &error {
        BadView::Client(client) => {
            said(&format!("Could not get job step info: {}\n{client}", refusal::text(client)))
        }
        BadView::Unknown { .. } | BadView::Ended { .. } => {
            said(&format!("Could not get job step info: Invalid job id specified\n{error}"))
        }
        _ => said(&error.to_string()),
    };
    let viewed = look::open(&mut connect("sattach: error: Could not get job step info")?, job, step)
        .map_err(failed)?;
    if layout {
        return print(&attach::layout(&viewed.layout)).map(|()| ExitCode::SUCCESS);
    }
    viewed.run(&options).map(ExitCode::from).map_err(|error| failed(error.into()))
}

fn target(word: &str) -> Result<(JobRef, u32), Fault> {
    let parts = word.split_once('.').and_then(|(job, step)| Some((job.parse().ok()?, step.parse().ok()?)));
    parts.ok_or_else(|| said(&format!("Invalid job step id {word}: write a job and a step, such as 12.0")))
}
