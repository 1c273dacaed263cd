//! `muster why`.

use std::process::ExitCode;

use super::connect;
use crate::cli::WhyArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::text::{instant, tame};

pub(crate) fn run(args: &WhyArgs) -> Result<ExitCode, CliError> {
    let job = args.job.parse()?;
    let why = connect()?.why(job)?;
    if args.json {
        print_json(&why)?;
        return Ok(Exit::Ok.into());
    }
    let mut text: String = why.sentences.iter().map(|sentence| tame(sentence) + "\n").collect();
    if let Some(at) = why.expected_start_us {
        text.push_str(&format!("It is expected to start by {}.\n", instant(at)));
    }
    print(&text)?;
    Ok(Exit::Ok.into())
}
