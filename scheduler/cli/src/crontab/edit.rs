//! The table in the caller's editor.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_client::{ClientError, new_request_key};

use crate::error::CliError;
use crate::out::tell;

/// What is edited where there is no table.
pub(super) const EMPTY: &str = "\
# Recurring jobs of yours. Options of sbatch for the next entry stand in lines that begin with #SCRON.
#
# minute (0-59)  hour (0-23)  day of month (1-31)  month (1-12)  day of week (0-7)  command
#
# #SCRON --time=10:00
# 0 8 * * mon-fri  ./report.sh
";

/// A file that is gone when it is no longer needed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Lets the caller edit a text.
pub(super) fn in_editor(text: &str) -> Result<String, CliError> {
    let folder = env::var_os("TMPDIR").filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/tmp".into());
    let path = Path::new(&folder).join(format!("scrontab-{}", new_request_key()?));
    let failed = |action| {
        let path = path.clone();
        move |source| CliError::File { action, path, source }
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed("make"))?;
    let draft = Draft(path.clone());
    file.write_all(text.as_bytes()).map_err(failed("write"))?;
    drop(file);
    let said = |name| env::var(name).ok().filter(|editor: &String| !editor.trim().is_empty());
    let editor = said("VISUAL").or_else(|| said("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let ended = Command::new(program).args(words).arg(&draft.0).status();
    let ended = ended.map_err(|source| CliError::File {
        action: "start the editor",
        path: program.into(),
        source,
    })?;
    if !ended.success() {
        return Err(CliError::Editor { editor });
    }
    fs::read_to_string(&draft.0).map_err(failed("read"))
}

/// Says what is wrong, and asks whether to edit again.
pub(super) fn asks_again(error: &CliError) -> Result<bool, CliError> {
    tell(&error.to_string());
    loop {
        tell(
            "There are errors in your crontab, and nothing was changed.\nThe failed line is commented out with #BAD:\nDo you \
             want to retry the edit? (y/n)",
        );
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let read = read.map_err(|source| CliError::System { action: "read your answer", source })?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" => return Ok(true),
            "n" => return Ok(false),
            // Nobody is there to answer.
            _ if read == 0 => return Ok(false),
            _ => {}
        }
    }
}

/// The text with the line commented out that is wrong, if that is known.
pub(super) fn with_bad_line(text: &str, error: &CliError) -> String {
    let Some(bad) = bad_line(&error.to_string(), error) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len() + 8);
    for (number, line) in (1..).zip(text.lines()) {
        out.push_str(if number == bad { "#BAD: " } else { "" });
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The line that a message is about: `crontab:3: ...`, or `line 3 of the crontab: ...` from the controller.
fn bad_line(message: &str, error: &CliError) -> Option<usize> {
    let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    match error {
        CliError::Client(ClientError::Refused { .. }) => {
            message.split_once("line ").and_then(|(_, rest)| digits(rest))
        }
        _ => message.strip_prefix("crontab:").and_then(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_line_is_commented_out() {
        let error = CliError::Crontab { place: "crontab:2".to_owned(), problem: "x".to_owned() };
        assert_eq!(with_bad_line("a\nb\nc", &error), "a\n#BAD: b\nc\n");
        let body = muster_client::api::ErrorBody {
            code: "crontab_line".to_owned(),
            message: "line 3 of the crontab: the job can never run".to_owned(),
            again_ms: None,
        };
        let error = CliError::Client(ClientError::Refused { status: 400, body });
        assert_eq!(with_bad_line("a\nb\nc\n", &error), "a\nb\n#BAD: c\n");
    }
}
