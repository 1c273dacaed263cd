//! The standard output and error: colours on a terminal only, and a closed pipe is no failure.

use std::io::{self, IsTerminal, Write};

use crate::error::CliError;

/// Writes `text`; colours are taken out unless a terminal reads them.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes bytes as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes one of the API's answers as JSON.
pub(crate) fn print_json<T: serde::Serialize>(answer: &T) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(answer).expect("the API's types have only string keys, and serialise");
    print(&(text + "\n"))
}

/// Writes a line to the standard error; if that fails there is nobody to tell.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether a person reads the standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
