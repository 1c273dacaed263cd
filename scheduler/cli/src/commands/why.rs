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
    let mut text: String = why.sentences.iter().map(|sentence| as_sentence(&tame(sentence)) + "\n").collect();
    if let Some(at) = why.expected_start_us {
        text.push_str(&format!("It is expected to start by {}.\n", instant(at)));
    }
    print(&text)?;
    Ok(Exit::Ok.into())
}

/// Reasons come without a capital and a full stop, because they stand in brackets elsewhere.
fn as_sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?', ':']) || text.is_empty() { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_sentences() {
        assert_eq!(as_sentence("it waits for 2 nodes"), "It waits for 2 nodes.");
        assert_eq!(as_sentence("It runs."), "It runs.");
        assert_eq!(as_sentence(""), "");
    }
}
