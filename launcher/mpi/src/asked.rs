//! What Hydra's `mpiexec` was asked for, by its command line: Hydra itself goes round the hosts when it is asked for more
//! ranks than they have, and starts programs of any MPI.

use std::path::{Path, PathBuf};

use crate::{MpiError, MpiKind, which_mpi};

/// The variable by which a user lets more ranks run than the allocation has.
pub const OVERSUBSCRIBE_VARIABLE: &str = "MUSTER_OVERSUBSCRIBE";

/// What a command line of `mpiexec` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The ranks that it names; 0 where it leaves them to the host file.
    pub ranks: u32,
    /// The files of its programs, as far as they were found.
    pub programs: Vec<PathBuf>,
}

impl Asked {
    /// Reads the words after the launcher's name, with programs between colons, each after its own options.
    ///
    /// `find` gives the file of a word that names a program. Which options take a value differs between releases, so a
    /// section's program is its first word that is no option and names a program; what was not understood is not
    /// counted.
    pub fn parse(words: &[String], find: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let mut asked = Self::default();
        for section in words.split(|word| word == ":") {
            let mut words = section.iter();
            while let Some(word) = words.next() {
                let option = word.trim_start_matches('-');
                if option.len() < word.len() {
                    let (name, joined) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
                    if matches!(name, "n" | "np") {
                        let value = joined.or_else(|| words.next().map(String::as_str));
                        let ranks = value.and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
                        asked.ranks = asked.ranks.saturating_add(ranks);
                    }
                } else if let Some(file) = find(word) {
                    asked.programs.push(file);
                    break;
                }
            }
        }
        asked
    }

    /// Checks it against an allocation of so many ranks and nodes.
    ///
    /// # Errors
    ///
    /// [`MpiError::WrongMpi`] or [`MpiError::TooManyRanks`].
    pub fn check(&self, ranks: u32, nodes: usize, may_oversubscribe: bool) -> Result<(), MpiError> {
        let foreign = self.programs.iter().find(|file| matches!(which_mpi(file), Ok(Some(MpiKind::OpenMpi))));
        if let Some(file) = foreign {
            return Err(MpiError::WrongMpi {
                program: file.display().to_string(),
                linked: "Open MPI",
                launcher: "mpiexec of MPICH or a launcher of its kind",
                right: "Open MPI's mpirun",
            });
        }
        if self.ranks > ranks && !may_oversubscribe {
            return Err(MpiError::TooManyRanks { asked: self.ranks, ranks, nodes });
        }
        Ok(())
    }
}

/// The executable file that a word means to execvp(3), in this process's folder and with its search path.
pub fn find_program(word: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |file: &Path| {
        file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if word.contains('/') {
        return Some(PathBuf::from(word)).filter(|file| is_program(file));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(word)).find(|file| is_program(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Asked::parse(&words, |word| word.starts_with("./").then(|| PathBuf::from(word)))
    }

    #[test]
    fn ranks_are_summed_over_the_programs_and_their_own_words_are_theirs() {
        assert_eq!(asked("-n 4 ./a -n 100").ranks, 4);
        assert_eq!(asked("-genv A b -np 4 -ppn 2 ./a x : --n=3 -host n1 ./b").ranks, 7);
        assert_eq!(asked("-np 4 ./a : -n 3 ./b").programs, [PathBuf::from("./a"), PathBuf::from("./b")]);
        assert_eq!(asked("./a"), Asked { ranks: 0, programs: vec!["./a".into()] });
        assert_eq!(asked("-n x -n").ranks, 0);
    }

    #[test]
    fn more_than_the_allocation_has_is_refused_with_the_numbers() {
        let message = asked("-n 9 ./a").check(8, 2, false).unwrap_err().to_string();
        assert!(
            message.starts_with("9 ranks are asked for, and the allocation has 8 on 2 nodes"),
            "{message}"
        );
        assert!(asked("-n 8 ./a").check(8, 2, false).is_ok());
        assert!(asked("-n 9 ./a").check(8, 2, true).is_ok());
    }
}
