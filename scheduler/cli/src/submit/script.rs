//! The script: read and checked before it is sent.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use muster_core::spec::SCRIPT_BYTES_MAX;

use super::notes;
use crate::error::{CliError, ScriptFault};

/// A script that may be sent.
#[derive(Debug)]
pub(crate) struct Script {
    /// How messages name it.
    pub(crate) name: String,
    /// The name of a job that has no other.
    pub(crate) job_name: String,
    /// Its path; none if it came from elsewhere than a file.
    pub(crate) command: Option<String>,
    pub(crate) text: String,
}

impl Script {
    /// Reads the script at `path`.
    pub(crate) fn from_path(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::ScriptFile { path: path.to_owned(), source };
        let bytes = read_limited(File::open(path).map_err(failed)?).map_err(failed)?;
        let job_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let script = Self::checked(path.display().to_string(), job_name, bytes)?;
        // What is read through a descriptor of this process is nothing that anybody could find again.
        let is_file = !path.starts_with("/dev") && !path.starts_with("/proc");
        let command = std::path::absolute(path).ok().filter(|_| is_file);
        Ok(Self { command: command.map(|path| notes::remark(&path.to_string_lossy())), ..script })
    }

    /// Reads the script from the standard input.
    pub(crate) fn from_stdin() -> Result<Self, CliError> {
        let bytes = read_limited(io::stdin().lock()).map_err(|source| CliError::System {
            action: "read the script from the standard input",
            source,
        })?;
        Self::checked("standard input".to_owned(), "stdin".to_owned(), bytes)
    }

    /// Makes a script of one command.
    pub(crate) fn wrap(command: &str) -> Result<Self, CliError> {
        Self::wrap_as(command, "Made by muster submit --wrap.")
    }

    /// The same, with a remark that says who made it.
    pub(crate) fn wrap_as(command: &str, remark: &str) -> Result<Self, CliError> {
        let text = format!("#!/bin/sh\n# {remark}\n\n{command}\n");
        Self::checked("--wrap".to_owned(), "wrap".to_owned(), text.into_bytes())
    }

    fn checked(name: String, job_name: String, bytes: Vec<u8>) -> Result<Self, CliError> {
        match check(&name, bytes) {
            Ok(text) => Ok(Self { name, job_name, command: None, text }),
            Err((None, fault)) => Err(CliError::Script { name, fault }),
            Err((Some(line), fault)) => Err(CliError::Script { name: format!("{name}:{line}"), fault }),
        }
    }
}

/// Reads one byte more than a script may have, so that the check sees it.
fn read_limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(SCRIPT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The line of the byte at `at`, from 1.
fn line_of(bytes: &[u8], at: usize) -> Option<usize> {
    Some(bytes[..at].iter().filter(|b| **b == b'\n').count() + 1)
}

fn check(name: &str, bytes: Vec<u8>) -> Result<String, (Option<usize>, ScriptFault)> {
    /// How much of a first line a message shows.
    const SHOWN_MAX: usize = 40;
    if bytes.starts_with(b"\x7fELF") {
        return Err((None, ScriptFault::Program { name: name.to_owned() }));
    }
    if bytes.len() > SCRIPT_BYTES_MAX {
        return Err((None, ScriptFault::TooLarge { max: SCRIPT_BYTES_MAX }));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err((None, ScriptFault::Empty));
    }
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return Err((line_of(&bytes, at), ScriptFault::Nul));
    }
    if !bytes.starts_with(b"#!") {
        let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let shown: String =
            first.trim_end().chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
        return Err((Some(1), ScriptFault::NoShebang { first: shown }));
    }
    if let Some(at) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        return Err((line_of(&bytes, at), ScriptFault::DosLineEnds));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        (line_of(error.as_bytes(), at), ScriptFault::NotUtf8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_no_node_could_run_are_refused_with_line_and_remedy() {
        for (bytes, place, remedy) in [
            (&b""[..], "job.sh: ", "#!/bin/bash"),
            (b" \n\n", "job.sh: ", "#!/bin/bash"),
            (b"echo hi\n", "job.sh:1: the first line is 'echo hi'", "--wrap"),
            (b"\n#!/bin/sh\n", "job.sh:1: ", "#!/bin/bash"),
            (b"\x7fELF\x02\x01", "job.sh: this is a program", "--wrap"),
            (b"#!/bin/sh\na\0b\n", "job.sh:2: ", "NUL"),
            (b"#!/bin/sh\necho\r\n", "job.sh:2: ", "dos2unix"),
            (b"#!/bin/sh\r\necho\r\n", "job.sh:1: ", "dos2unix"),
            (b"#!/bin/sh\n\n# caf\xe9\n", "job.sh:3: ", "iconv"),
        ] {
            let message =
                Script::checked("job.sh".into(), "j".into(), bytes.to_vec()).unwrap_err().to_string();
            assert!(message.starts_with(place) && message.contains(remedy), "{message}");
        }
        let large = [b"#!/bin/sh\n".as_slice(), &vec![b'#'; SCRIPT_BYTES_MAX]].concat();
        let message = Script::checked("job.sh".into(), "j".into(), large).unwrap_err().to_string();
        assert!(message.contains("4194304"), "{message}");
    }

    #[test]
    fn a_wrapped_command_is_a_script() {
        let script = Script::wrap("hostname | sort").unwrap();
        assert!(script.text.starts_with("#!/bin/sh\n") && script.text.ends_with("\nhostname | sort\n"));
        assert_eq!(script.job_name, "wrap");
    }
}
