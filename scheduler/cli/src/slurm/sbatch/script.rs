//! Where the script comes from: a file, the standard input, or `--wrap`.

use std::path::{Path, PathBuf};

use super::super::job_options::Said;
use super::super::wrong::{self, FAILED, Wrong};
use super::{FACE, SUBMISSION};
use crate::error::CliError;
use crate::submit::{Opt, Script};

/// The script and its arguments.
pub(super) fn get(said: &Said) -> Result<(Script, Vec<String>), Wrong> {
    let mut words = said.words.iter().cloned();
    let first = words.next();
    if first.as_deref() == Some(":") || said.words.iter().any(|word| word == ":") && is_options(&said.words) {
        return Err(Wrong::error(FAILED, het_job()));
    }
    let script = match (said.layer.get(Opt::Wrap), first) {
        (Some(_), Some(_)) => {
            return Err(Wrong::error(FAILED, "Script arguments not permitted with --wrap option"));
        }
        (Some(command), None) => Script::wrap_as(&command.value, "This script was created by sbatch --wrap."),
        (None, Some(path)) if path == "-" => from_stdin(),
        (None, Some(path)) => Script::from_path(&find(&path)),
        (None, None) => from_stdin(),
    };
    let script = script.map_err(|error| wrong::of_error(FACE, SUBMISSION, &error, &said.layer))?;
    let is_directive = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if script.text.lines().take_while(is_directive).any(is_separator) {
        return Err(Wrong::error(FAILED, format!("{}: {}", script.name, het_job())));
    }
    Ok((script, words.collect()))
}

/// The job of a script from the standard input is called as Slurm calls it.
fn from_stdin() -> Result<Script, CliError> {
    Script::from_stdin().map(|script| Script { job_name: FACE.to_owned(), ..script })
}

/// Whether a line of a script begins another component of a heterogeneous job.
fn is_separator(line: &str) -> bool {
    let rest = line.strip_prefix("#SBATCH").map(str::trim);
    matches!(rest, Some("hetjob" | "packjob"))
}

/// Whether options follow a colon, as components of a heterogeneous job do on a command line.
fn is_options(words: &[String]) -> bool {
    let mut after = words.iter().skip_while(|word| *word != ":").skip(1);
    after.next().is_some_and(|word| word.starts_with('-'))
}

fn het_job() -> &'static str {
    "heterogeneous jobs are not to be had here: submit the components as jobs of their own, or ask for the largest \
     component on each node"
}

/// The file of a script: a bare name that is not in the present directory is looked for on the PATH, as sbatch does.
fn find(name: &str) -> PathBuf {
    let here = PathBuf::from(name);
    if name.contains('/') || here.exists() {
        return here;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.find(|file| is_readable(file)).unwrap_or(here)
}

fn is_readable(file: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    file.is_file() && access(file, AccessFlags::R_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_of_components_are_seen() {
        assert!(is_separator("#SBATCH hetjob") && is_separator("#SBATCH\tpackjob "));
        assert!(!is_separator("#SBATCH -J hetjob") && !is_separator("echo hetjob"));
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(is_options(&words(": -n2 job.sh")));
        assert!(!is_options(&words("job.sh a : b")));
    }

    #[test]
    fn bare_names_are_looked_for_on_the_path() {
        assert_eq!(find("./sh"), PathBuf::from("./sh"));
        assert!(find("sh").is_absolute());
        assert_eq!(find("no-such-script-anywhere"), PathBuf::from("no-such-script-anywhere"));
    }
}
