//! How rank 0 tells the outcome: one line for people, or one JSON document.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::launch::{EXIT_CHECK_FAILED, EXIT_PASSED};

/// The frame of every JSON document.
#[derive(Clone, Debug, Serialize)]
pub struct Document<T> {
    /// The program's name.
    pub program: &'static str,
    /// The MPI library's own description, first line; absent in programs without MPI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpi_library: Option<String>,
    /// Ranks of the world.
    pub ranks: usize,
    /// Whether the program's check held.
    pub passed: bool,
    /// What the program found.
    #[serde(flatten)]
    pub found: T,
}

impl<T: Serialize> Document<T> {
    /// Writes the document (`json`) or the text to standard output at once, and gives the exit code that
    /// belongs to the outcome.
    ///
    /// A reader that went away is no failure of the check.
    pub fn tell(&self, json: bool, text: &str) -> ExitCode {
        let line = if json {
            serde_json::to_string(self).expect("reports hold only keys and values that JSON can write")
        } else {
            format!("{}: {}: {text}", self.program, if self.passed { "passed" } else { "FAILED" })
        };
        let mut output = io::stdout().lock();
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
        ExitCode::from(if self.passed { EXIT_PASSED } else { EXIT_CHECK_FAILED })
    }
}

/// This host's name, as the kernel has it.
#[must_use]
pub fn host() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Bytes as people write them: `1 B`, `64 KiB`, `1 MiB`.
#[must_use]
pub fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count / 1024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_flat() {
        #[derive(Serialize)]
        struct Found {
            wrong: u32,
        }
        let document =
            Document { program: "x", mpi_library: None, ranks: 2, passed: true, found: Found { wrong: 0 } };
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            r#"{"program":"x","ranks":2,"passed":true,"wrong":0}"#
        );
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!([bytes(1), bytes(65_536), bytes(1 << 20)], ["1 B", "64 KiB", "1 MiB"]);
    }
}
