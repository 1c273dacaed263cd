//! What a process can know of its place before MPI is initialised, and how it reads its command line.

use std::process::ExitCode;

use clap::Parser;

/// The check passed.
pub const EXIT_PASSED: u8 = 0;
/// The check failed: what was computed or seen is wrong.
pub const EXIT_CHECK_FAILED: u8 = 1;
/// The command line is wrong, or asks for what this world cannot do.
pub const EXIT_USAGE: u8 = 2;
/// A file or the system refused; nothing is known of the check.
pub const EXIT_TROUBLE: u8 = 3;

/// Variables in which launchers give a process its rank: Open MPI, PMIx, Hydra and other PMI-1 servers, Slurm.
const RANK_VARIABLES: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"];
/// Variables in which launchers give a process its place on its node: Open MPI, Hydra, Slurm.
const LOCAL_RANK_VARIABLES: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];

fn first_number(names: &[&str], read: impl Fn(&str) -> Option<String>) -> Option<usize> {
    names.iter().find_map(|name| read(name)?.parse().ok())
}

/// The rank that the launcher announced, if it announced one.
#[must_use]
pub fn announced_rank() -> Option<usize> {
    first_number(&RANK_VARIABLES, |name| std::env::var(name).ok())
}

/// The place on its node that the launcher announced, if it announced one.
#[must_use]
pub fn announced_local_rank() -> Option<usize> {
    first_number(&LOCAL_RANK_VARIABLES, |name| std::env::var(name).ok())
}

/// Reads the command line before MPI starts; a wrong one, `--help` or `--version` ends the program.
///
/// Only rank 0 says anything, otherwise a thousand ranks would print a thousand times the same usage.
///
/// # Errors
/// The exit code to end with, [`EXIT_USAGE`] for a wrong command line.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|refusal| {
        if announced_rank().is_none_or(|rank| rank == 0) {
            // Nothing is left to do when even the terminal is gone.
            let _ = refusal.print();
        }
        ExitCode::from(if refusal.use_stderr() { EXIT_USAGE } else { EXIT_PASSED })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_readable_variable_counts() {
        let read = |name: &str| match name {
            "PMI_RANK" => Some("3".to_owned()),
            "SLURM_PROCID" => Some("9".to_owned()),
            "PMIX_RANK" => Some("none".to_owned()),
            _ => None,
        };
        assert_eq!(first_number(&RANK_VARIABLES, read), Some(3));
        assert_eq!(first_number(&LOCAL_RANK_VARIABLES, read), None);
    }
}
