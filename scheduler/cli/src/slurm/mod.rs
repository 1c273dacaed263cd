//! Slurm's commands, as faces of the same client: the program `muster` is one of them when it is called by its name.
//!
//! Each command has a file or a folder of its own. What they share: `getopt` reads options as Slurm's commands do,
//! `job_options` has those of jobs, `refusal` and `wrong` have Slurm's messages. The published matrix of options is `docs/slurm-compatibility.md`.

mod absent;
mod columns;
mod connect;
mod fault;
mod getopt;
mod instant;
mod job;
mod job_json;
mod job_options;
mod listing;
mod node;
mod outside;
mod people;
mod refusal;
mod reservations;
mod sacct;
mod sacctmgr;
mod salloc;
mod sattach;
mod sbatch;
mod sbcast;
mod scancel;
mod scontrol;
mod scrontab;
mod sdiag;
mod seff;
mod sinfo;
mod sprio;
mod squeue;
mod sreport;
mod srun;
mod sshare;
mod sstat;
mod state;
mod time;
mod units;
mod wrong;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// A face: how it is called, and what it does with the words that follow its name.
#[derive(Clone, Copy)]
pub struct Face {
    /// The program's name.
    pub name: &'static str,
    run: fn(&[String]) -> ExitCode,
}

/// Every face.
pub const FACES: [Face; 19] = [
    Face { name: "sacct", run: sacct::run },
    Face { name: "sacctmgr", run: sacctmgr::run },
    Face { name: "salloc", run: salloc::run },
    Face { name: "sattach", run: sattach::run },
    Face { name: "sbatch", run: sbatch::run },
    Face { name: "sbcast", run: sbcast::run },
    Face { name: "scancel", run: scancel::run },
    Face { name: "scontrol", run: scontrol::run },
    Face { name: "scrontab", run: scrontab::run },
    Face { name: "sdiag", run: sdiag::run },
    Face { name: "seff", run: seff::run },
    Face { name: "sinfo", run: sinfo::run },
    Face { name: "sprio", run: sprio::run },
    Face { name: "squeue", run: squeue::run },
    Face { name: "sreport", run: sreport::run },
    Face { name: "srun", run: srun::run },
    Face { name: "sshare", run: sshare::run },
    Face { name: "sstat", run: sstat::run },
    Face { name: "strigger", run: absent::strigger },
];

impl Face {
    /// The face that a program of this path is, if it is one.
    #[must_use]
    pub fn of_program(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_name()?;
        FACES.into_iter().find(|face| name == face.name)
    }

    /// Runs it with the words that follow its name. Bytes that are no UTF-8 are replaced: no option of Slurm's has them.
    pub fn run(self, words: &[OsString]) -> ExitCode {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        (self.run)(&words)
    }
}
