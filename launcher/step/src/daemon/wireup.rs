//! How the ranks of a program find each other: as the MPI wants it that the program is linked with.

use std::path::{Path, PathBuf};

use crate::frames::{Common, Wireup};
use crate::{MpiKind, which_mpi};

/// The file that a program's name means to execvp(3), with the ranks' own variables and folder.
pub(crate) fn find_program(name: &str, common: &Common) -> Option<PathBuf> {
    let directory = Path::new(&common.directory);
    if name.contains('/') {
        return Some(directory.join(name));
    }
    let path = common.environment.iter().rev().find(|(variable, _)| variable == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, path)| path);
    let found = path.split(':').map(|folder| directory.join(folder).join(name));
    found.into_iter().find(|file| file.is_file())
}

/// Chooses the wire-up of a step on this node.
///
/// # Errors
///
/// A sentence for the user where what was asked for cannot work: every rank would be alone in a world of its own.
pub(super) fn choose(common: &Common) -> Result<Wireup, String> {
    if common.wireup == Wireup::None || common.relayed {
        return Ok(Wireup::None);
    }
    let mut chosen: Option<(Wireup, String)> = None;
    for words in &common.programs {
        let Some(name) = words.first() else { continue };
        // What cannot be told is served everything: a script, or an interpreter that loads its MPI later.
        let kind = find_program(name, common).and_then(|file| which_mpi(&file).ok().flatten());
        let (wants, family) = match kind {
            Some(MpiKind::OpenMpi) => (Wireup::Pmix, "Open MPI"),
            Some(MpiKind::Mpich) => (Wireup::Pmi, "MPICH or a library of its kind"),
            None => continue,
        };
        if common.wireup != Wireup::Auto && common.wireup != wants && common.ntasks > 1 {
            return Err(format!(
                "`{name}` is linked with {family}, which --mpi={} cannot start: leave --mpi out, or say --mpi={}",
                word(common.wireup),
                word(wants)
            ));
        }
        match &chosen {
            Some((other, first)) if *other != wants => {
                return Err(format!(
                    "`{first}` and `{name}` are linked with different MPIs and cannot be one step"
                ));
            }
            _ => chosen = Some((wants, name.clone())),
        }
    }
    Ok(match (common.wireup, chosen) {
        (Wireup::Auto, Some((wants, _))) => wants,
        // A script or an interpreter may load any MPI; one rank is a whole world with either.
        (Wireup::Auto, None) if common.ntasks > 1 => Wireup::Both,
        (Wireup::Auto, None) => Wireup::Pmi,
        (said, _) => said,
    })
}

/// The word of `--mpi`.
fn word(wireup: Wireup) -> &'static str {
    match wireup {
        Wireup::Auto => "auto",
        Wireup::None => "none",
        Wireup::Pmi => "pmi2",
        Wireup::Pmix => "pmix",
        Wireup::Both => "pmi2 or --mpi=pmix",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_the_c_library_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("prog"), "").unwrap();
        let path = folder.path().display().to_string();
        let common = Common {
            directory: path.clone(),
            environment: vec![("PATH".into(), format!("/nowhere:{path}"))],
            ..Common::default()
        };
        let file = folder.path().join("prog");
        assert_eq!(find_program("prog", &common), Some(file.clone()));
        assert_eq!(find_program("./prog", &common), Some(folder.path().join("./prog")));
        assert_eq!(find_program("other", &common), None);
    }

    #[test]
    fn what_is_no_mpi_is_served_both_unless_it_says_otherwise_or_is_alone() {
        let of = |wireup, ntasks| Common {
            programs: vec![vec!["/bin/sh".into()]],
            wireup,
            ntasks,
            ..Common::default()
        };
        let common = |wireup| of(wireup, 2);
        assert_eq!(choose(&common(Wireup::Auto)), Ok(Wireup::Both));
        assert_eq!(choose(&of(Wireup::Auto, 1)), Ok(Wireup::Pmi));
        assert_eq!(choose(&common(Wireup::None)), Ok(Wireup::None));
        assert_eq!(choose(&common(Wireup::Pmix)), Ok(Wireup::Pmix));
    }
}
