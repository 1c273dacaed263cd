//! Programs linked with libraries of both families' names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_step::{MpiKind, StepError, which_mpi};

/// Links a program with an empty library of this name.
fn program(folder: &Path, soname: &str) -> PathBuf {
    let run = |arguments: &[&str]| {
        assert!(Command::new("cc").args(arguments).current_dir(folder).status().unwrap().success())
    };
    std::fs::write(folder.join("lib.c"), "int answer(void) { return 42; }\n").unwrap();
    std::fs::write(folder.join("main.c"), "int answer(void); int main(void) { return answer(); }\n").unwrap();
    run(&["-shared", "-fPIC", &format!("-Wl,-soname,{soname}"), "-o", "libstub.so", "lib.c"]);
    let name = format!("program-{soname}");
    run(&["-o", &name, "main.c", "-L.", "-lstub"]);
    folder.join(name)
}

#[test]
fn the_family_is_told_by_the_library_names() {
    let folder = tempfile::tempdir().unwrap();
    for (soname, kind) in [
        ("libmpi.so.40", Some(MpiKind::OpenMpi)),
        ("libmpi_mpifh.so.40", Some(MpiKind::OpenMpi)),
        ("libmpi.so.12", Some(MpiKind::Mpich)),
        ("libmpich.so.12", Some(MpiKind::Mpich)),
        ("libcompute.so.1", None),
    ] {
        assert_eq!(which_mpi(&program(folder.path(), soname)).unwrap(), kind, "{soname}");
    }
}

#[test]
fn what_is_no_program_has_no_family() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for text in ["", "#!", "#!/bin/sh\nexec mpirun ./a.out\n"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(which_mpi(&file).unwrap(), None);
    }
    let whole = std::fs::read(program(folder.path(), "libmpi.so.40")).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(which_mpi(&file), Err(StepError::Elf { .. })));
    assert!(matches!(which_mpi(&folder.path().join("missing")), Err(StepError::File { .. })));
}
