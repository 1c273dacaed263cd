//! From the text of a table to what the controller takes.
//!
//! A line is blank, a comment, `NAME=VALUE` for the environment of the jobs below it, `#SCRON` with options for the next entry, or
//! an entry: when, and what.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use muster_client::api::{CronEntryRequest, CrontabRequest};
use muster_core::cron::{CRONTAB_BYTES_MAX, Schedule};
use muster_core::spec::NAME_BYTES_MAX;

use super::Owner;
use crate::error::CliError;
use crate::submit::{Caller, Layer, Opt, Origin, Script, build, login_environment, read_scron_options};

/// Reads a table. `name` is what messages call it.
pub(super) fn table(
    name: &str,
    text: &str,
    owner: &Owner,
    warn: &mut dyn FnMut(&str),
) -> Result<CrontabRequest, CliError> {
    let wrong = |line: usize, problem: String| CliError::Crontab { place: format!("{name}:{line}"), problem };
    if text.len() > CRONTAB_BYTES_MAX {
        return Err(wrong(1, format!("the table has more than {CRONTAB_BYTES_MAX} bytes")));
    }
    let mut entries = Vec::new();
    // The environment of a login is the caller's: that of somebody else is not to be had here. A table without entries needs none.
    let mut login: Option<Vec<(OsString, OsString)>> = (!owner.is_caller()).then(Vec::new);
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    let mut next = Next::default();
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if let Some(options) = trimmed.strip_prefix("#SCRON") {
            let place = format!("{name}:{number}: {trimmed}");
            read_scron_options(&place, options, &mut next.layer, &mut *warn)?;
            next.script.push_str(line);
            next.script.push('\n');
            next.first_line.get_or_insert(number);
        } else if trimmed.is_empty() || trimmed.starts_with('#') {
        } else if let Some((variable, value)) = assignment(trimmed) {
            variables.retain(|(known, _)| known.as_os_str() != variable);
            variables.push((variable.into(), value.into()));
        } else {
            let (schedule, command) =
                Schedule::read_line(line).map_err(|problem| wrong(number, problem.to_string()))?;
            let next = std::mem::take(&mut next);
            let first_line = next.first_line.unwrap_or(number);
            let mut environment = match &login {
                Some(login) => login.clone(),
                None => login.insert(of_login()?).clone(),
            };
            environment.retain(|(known, _)| !variables.iter().any(|(name, _)| name == known));
            environment.extend_from_slice(&variables);
            let job = job(owner, environment, next, (&schedule, command), &mut *warn)?;
            let (first_line, last_line) = (first_line as u32, number as u32);
            entries.push(CronEntryRequest { first_line, last_line, schedule, job });
        }
    }
    if let Some(line) = next.first_line {
        return Err(wrong(
            line,
            "no entry follows these options: write when and what, or take them out".to_owned(),
        ));
    }
    Ok(CrontabRequest { text: text.to_owned(), entries })
}

fn of_login() -> Result<Vec<(OsString, OsString)>, CliError> {
    Ok(login_environment()?.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

/// What was said of the next entry.
#[derive(Default)]
struct Next {
    layer: Layer,
    script: String,
    first_line: Option<usize>,
}

/// Reads `NAME=VALUE`, with blanks around the sign, and the value between quotes or not.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    is_name.then(|| (name, quoted('"').or_else(|| quoted('\'')).unwrap_or(value)))
}

fn job(
    owner: &Owner,
    environment: Vec<(OsString, OsString)>,
    next: Next,
    (schedule, command): (&Schedule, &str),
    warn: &mut dyn FnMut(&str),
) -> Result<muster_client::api::SubmitRequest, CliError> {
    let mut defaults = Layer::default();
    let origin = || Origin::CommandLine { option: "scrontab".to_owned() };
    defaults.say(Opt::Output, "slurm-%j.out", origin());
    let caller = Caller {
        directory: PathBuf::from(std::ffi::OsStr::from_bytes(owner.user.dir.as_os_str().as_bytes())),
        environment,
        uid: owner.user.uid.as_raw(),
        gid: owner.user.gid.as_raw(),
        words: Vec::new(),
        ..Caller::this()?
    };
    let text = format!(
        "#!/bin/sh\n# This job was submitted through scrontab\n{}# crontab time request was: '{}'\n{command}\n",
        next.script,
        schedule.text()
    );
    let name: String = command.split_whitespace().next().unwrap_or_default().to_owned();
    let script = Script {
        name: "crontab".to_owned(),
        job_name: cut(&name).to_owned(),
        command: Some(command.chars().take(NAME_BYTES_MAX).filter(|c| !c.is_control()).collect()),
        text,
    };
    build(&defaults.under(next.layer), script, Vec::new(), caller, warn)
}

/// A name, cut to what a job may be called.
fn cut(name: &str) -> &str {
    let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CrontabRequest, String> {
        let owner = Owner::find(None).unwrap();
        table("crontab", text, &owner, &mut |warning| panic!("{warning}")).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_those_of_the_next_entry_alone() {
        let text = "# a table\nA=1\nB = \"two words\"\n\n#SCRON -n 2 -t 5\n# between\n#SCRON --job-name=\"a b\"\n\
                    */5 * * * * /bin/true a  b\n@daily echo hi > out\nA='3'\n  0 8 * * mon  x\n";
        let table = read(text).unwrap();
        assert_eq!(table.text, text);
        let [first, second, third] = table.entries.as_slice() else { panic!("{table:?}") };
        assert_eq!((first.first_line, first.last_line, first.schedule.text()), (5, 8, "*/5 * * * *"));
        assert_eq!(
            (first.job.name.as_str(), first.job.request.ranks, first.job.time_limit_s),
            ("a b", 2, Some(300))
        );
        assert_eq!(
            first.job.script,
            "#!/bin/sh\n# This job was submitted through scrontab\n#SCRON -n 2 -t 5\n#SCRON --job-name=\"a b\"\n\
             # crontab time request was: '*/5 * * * *'\n/bin/true a  b\n"
        );
        assert_eq!((second.first_line, second.last_line), (9, 9));
        assert_eq!((second.job.name.as_str(), second.job.request.ranks), ("echo", 1));
        assert_eq!(
            (second.job.environment["A"].as_str(), second.job.environment["B"].as_str()),
            ("1", "two words")
        );
        assert_eq!((third.last_line, third.job.environment["A"].as_str()), (11, "3"));
        assert_eq!(third.job.stdout.as_deref(), Some("slurm-%j.out"));
        assert!(read("").unwrap().entries.is_empty());
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, right) in [
            ("\n* 25 * * * true\n", "crontab:2: the hour '25' is wrong: write *, or numbers from 0 to 23"),
            ("@daily\n", "crontab:1: the command is missing"),
            ("#SCRON --bogus\n@daily true\n", "crontab:1: #SCRON --bogus: there is no option --bogus"),
            ("@daily true\n#SCRON -n2\n", "crontab:2: no entry follows these options"),
            ("#SCRON -n x\n@daily true\n", "crontab:1: #SCRON -n x: -n"),
            ("bogus\n", "crontab:1: the minute 'bogus' is wrong"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.starts_with(right), "{said}");
        }
    }
}
