//! What stops a face, in Slurm's words.

use std::io;
use std::process::ExitCode;

use muster_client::ClientError;

use super::getopt::BadOption;
use super::refusal;
use crate::out::tell;

/// Why a face ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// An option that is not right.
    #[error("{face}: {source}\nTry \"{face} --help\" for more information")]
    Option {
        /// The face.
        face: &'static str,
        /// What is wrong.
        #[source]
        source: BadOption,
    },
    /// The controller did not answer, or refused.
    #[error("{doing}: {}\n{source}", refusal::text(.source))]
    Client {
        /// What was tried, as Slurm calls it, such as `slurm_load_jobs error`.
        doing: &'static str,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The standard output cannot be written.
    #[error("the standard output cannot be written: {0}")]
    Output(#[source] io::Error),
    /// A sentence of Slurm's, to be printed as it is.
    #[error("{0}")]
    Said(String),
    /// Nothing is to be said.
    #[error("")]
    Silent,
}

impl Fault {
    /// For `map_err`: what was tried when the client failed.
    pub(super) fn client(doing: &'static str) -> impl Fn(ClientError) -> Self {
        move |source| Self::Client { doing, source }
    }
}

/// Ends a face.
pub(super) fn end(result: Result<ExitCode, Fault>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(Fault::Output(source)) if source.kind() == io::ErrorKind::BrokenPipe => crate::end_by_sigpipe(),
        Err(Fault::Silent) => ExitCode::FAILURE,
        Err(fault) => {
            tell(&fault.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes to the standard output.
pub(super) fn print(text: &str) -> Result<(), Fault> {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Fault::Output)
}
