//! The face `sbatch`: submits a job script. It is `muster submit` with Slurm's words, messages and exit codes.

mod help;
mod script;
mod target;
mod wait;

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use muster_client::api::{SubmitAnswer, SubmitRequest};
use muster_client::{Client, ClientError, Options, default_sockets};

use super::job_options::{self, Said};
use super::wrong::{self, FAILED, Wrong};
use crate::error::CliError;
use crate::out::{print, tell};
use crate::submit::{Caller, Layer, Opt, Origin, Script, build, from_environment, read_directives};

const FACE: &str = "sbatch";
/// What failed, in the words of Slurm's messages.
const SUBMISSION: &str = "Batch job submission failed";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    match submit(words) {
        Ok(code) => ExitCode::from(code),
        Err(wrong) => {
            wrong.tell(FACE);
            let said = std::env::var("SLURM_EXIT_ERROR").ok().and_then(|code| code.parse().ok());
            ExitCode::from(said.unwrap_or(wrong.code))
        }
    }
}

/// Does it all, and says the exit code.
fn submit(words: &[String]) -> Result<u8, Wrong> {
    let said = job_options::read(words).map_err(|bad| wrong::of_line(FACE, &bad))?;
    if let Some(text) = help::asked(&said.layer) {
        print(text).map_err(|error| Wrong::error(FAILED, error))?;
        return Ok(0);
    }
    let (script, arguments) = script::get(&said)?;
    let layer = layers(&said, &script)?;
    let parsable = layer.has(Opt::Parsable);
    // What is wrong in itself is said without asking anybody.
    let (mut client, request) = if target::is_unlimited(&layer) {
        let mut client = connect()?;
        let layer = target::with_longest_time(&mut client, layer.clone())?;
        (client, request(&layer, script, arguments)?)
    } else {
        let request = request(&layer, script, arguments)?;
        (connect()?, request)
    };
    let cluster = target::cluster(&mut client, &layer)?;
    let (pool, answer) = target::submit(&mut client, &layer, request)?;
    if !layer.has(Opt::Quiet) {
        answer.warnings.iter().for_each(|sentence| tell(&format!("{FACE}: warning: {sentence}")));
    }
    let Some(job) = answer.job else {
        tell(&test_line(&answer, &pool));
        return Ok(0);
    };
    let line = match (parsable, cluster) {
        (true, None) => format!("{job}\n"),
        (true, Some(cluster)) => format!("{job};{cluster}\n"),
        (false, _) if layer.has(Opt::Quiet) => String::new(),
        (false, None) => format!("Submitted batch job {job}\n"),
        (false, Some(cluster)) => format!("Submitted batch job {job} on cluster {cluster}\n"),
    };
    print(&line).map_err(|error| Wrong::error(FAILED, error))?;
    if layer.has(Opt::Wait) { wait::for_job(&mut client, job) } else { Ok(0) }
}

/// What is said on the command line, over the environment, over the script.
fn layers(said: &Said, script: &Script) -> Result<Layer, Wrong> {
    let environment = from_environment(|name| std::env::var(name).ok());
    let quiet = said.layer.has(Opt::Quiet);
    let warn = |sentence: &str| {
        if !quiet {
            tell(&format!("{FACE}: warning: {sentence}"));
        }
    };
    said.ignored.iter().for_each(|sentence| warn(sentence));
    let directives = read_directives(&script.name, &script.text, warn)
        .map_err(|error| wrong::of_error(FACE, SUBMISSION, &error, &said.layer))?;
    let layer = directives.under(environment).under(said.layer.clone());
    Ok(with_defaults(layer))
}

/// What sbatch does where nothing else was said. An array's output is one file for each element.
fn with_defaults(layer: Layer) -> Layer {
    let mut defaults = Layer::default();
    let origin = || Origin::CommandLine { option: "sbatch".to_owned() };
    let output = if layer.written(Opt::Array).is_some() { "slurm-%A_%a.out" } else { "slurm-%j.out" };
    defaults.say(Opt::Output, output, origin());
    // A job that does not take its user's environment along has that of a login.
    let takes_all = |value: &str| value.split(',').any(|word| word.eq_ignore_ascii_case("ALL"));
    if layer.written(Opt::Export).is_some_and(|said| !takes_all(&said.value)) {
        defaults.say(Opt::GetUserEnv, "", origin());
    }
    defaults.under(layer)
}

fn request(layer: &Layer, script: Script, arguments: Vec<String>) -> Result<SubmitRequest, Wrong> {
    let quiet = layer.has(Opt::Quiet);
    let warn = |sentence: &str| {
        if !quiet {
            tell(&format!("{FACE}: warning: {sentence}"));
        }
    };
    let built = Caller::this().and_then(|caller| build(layer, script, arguments, caller, warn));
    built.map_err(|error| wrong::of_error(FACE, SUBMISSION, &error, layer))
}

fn connect() -> Result<Client, Wrong> {
    let mut options = Options::of(default_sockets());
    options.on_away = Box::new(|sentence| tell(&format!("{FACE}: {sentence}")));
    Client::connect_with(options).map_err(refused)
}

/// A failed question to the controller.
fn refused(error: ClientError) -> Wrong {
    wrong::of_error(FACE, SUBMISSION, &CliError::from(error), &Layer::default())
}

/// What `--test-only` says.
fn test_line(answer: &SubmitAnswer, pool: &str) -> String {
    let Some(test) = &answer.test else {
        return format!("{FACE}: the job can be submitted to partition {pool}");
    };
    let start = test
        .start_us
        .and_then(|us| i64::try_from(us).ok())
        .and_then(|us| Timestamp::from_microsecond(us).ok());
    match start {
        Some(start) => format!(
            "{FACE}: Job {} to start at {} using {} processors on nodes {} in partition {}",
            test.job,
            start.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S"),
            test.cores,
            test.node_list,
            test.pool
        ),
        None => format!(
            "{FACE}: Job {} can be submitted to partition {}; when it would start cannot be told",
            test.job, test.pool
        ),
    }
}
