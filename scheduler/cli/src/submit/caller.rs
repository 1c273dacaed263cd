//! What goes with a job from the process that submits it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getgid, gethostname, getuid};

use crate::error::CliError;

/// The process that submits a job, as far as the job inherits from it.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    pub(crate) directory: PathBuf,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) umask: u32,
    pub(crate) limits: BTreeMap<String, u64>,
    pub(crate) host: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its command line; empty if that is not worth keeping.
    pub(crate) words: Vec<String>,
}

/// The limits that go with a job, by their names in setrlimit(2) without `RLIMIT_`.
pub(crate) const LIMITS: [(&str, Resource); 10] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("stack", Resource::RLIMIT_STACK),
];

impl Caller {
    /// This process.
    pub(crate) fn this() -> Result<Self, CliError> {
        let directory = env::current_dir()
            .map_err(|source| CliError::System { action: "tell the present directory", source })?;
        let mask = umask(Mode::empty());
        umask(mask);
        let mut limits = BTreeMap::new();
        for (name, resource) in LIMITS {
            let (soft, _) = getrlimit(resource).map_err(|errno| CliError::System {
                action: "read the resource limits",
                source: errno.into(),
            })?;
            limits.insert(name.to_owned(), soft);
        }
        let host = gethostname()
            .map_err(|errno| CliError::System { action: "tell the host's name", source: errno.into() })?;
        let host = host.to_string_lossy().split('.').next().unwrap_or_default().to_owned();
        let words = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let environment = env::vars_os().collect();
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        Ok(Self { directory, environment, umask: mask.bits(), limits, host, uid, gid, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_goes_with_its_jobs() {
        let caller = Caller::this().unwrap();
        assert!(caller.directory.is_absolute() && !caller.host.is_empty() && !caller.host.contains('.'));
        assert_eq!(caller.limits.len(), LIMITS.len());
        assert!(!caller.words.is_empty());
    }
}
