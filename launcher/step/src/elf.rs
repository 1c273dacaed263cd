//! Which MPI library a program is linked with.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

use object::elf::{DT_NEEDED, FileHeader32, FileHeader64};
use object::read::ReadCache;
use object::read::elf::{Dyn, FileHeader};

use crate::StepError;

/// A family of MPI libraries that start their programs in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MpiKind {
    /// Open MPI 2 to 5 (`libmpi.so.40` and its companions).
    OpenMpi,
    /// MPICH and the libraries that share its ABI, such as Intel MPI and MVAPICH (`libmpi.so.12`, `libmpich.so.12`).
    Mpich,
}

/// Beginnings of library names by which a family is known.
const KNOWN: [(&str, MpiKind); 11] = [
    ("libmpi.so.40", MpiKind::OpenMpi),
    ("libmpi.so.20", MpiKind::OpenMpi),
    ("libmpi_mpifh.so", MpiKind::OpenMpi),
    ("libmpi_usempi", MpiKind::OpenMpi),
    ("libmpi_cxx.so.40", MpiKind::OpenMpi),
    ("libopen-rte.so", MpiKind::OpenMpi),
    ("libmpi.so.12", MpiKind::Mpich),
    ("libmpich", MpiKind::Mpich),
    ("libmpifort.so.12", MpiKind::Mpich),
    ("libmpicxx.so.12", MpiKind::Mpich),
    ("libmpi_intel.so", MpiKind::Mpich),
];

/// Tells the MPI library of a program from the names of the shared libraries it asks for.
///
/// `None` for programs without MPI, for scripts, for statically linked programs, and for interpreters that load MPI
/// later (Python).
///
/// # Errors
///
/// [`StepError::File`] if the file cannot be read, [`StepError::Elf`] if it begins like an ELF program but is none.
pub fn which_mpi(program: &Path) -> Result<Option<MpiKind>, StepError> {
    let file = |source| StepError::File { action: "read", path: program.to_owned(), source };
    let mut opened = File::open(program).map_err(file)?;
    let mut start = [0; 5];
    match opened.read_exact(&mut start).and_then(|()| opened.rewind()) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome.map_err(file)?,
    }
    let cache = ReadCache::new(opened);
    let names = match start {
        [0x7f, b'E', b'L', b'F', 2] => needed::<FileHeader64<object::Endianness>>(&cache),
        [0x7f, b'E', b'L', b'F', 1] => needed::<FileHeader32<object::Endianness>>(&cache),
        _ => return Ok(None),
    };
    let names = names.map_err(|source| StepError::Elf { path: program.to_owned(), source })?;
    Ok(names
        .iter()
        .find_map(|name| KNOWN.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, kind)| *kind)))
}

/// The names of the shared libraries in the file's dynamic section (elf(5), `DT_NEEDED`).
fn needed<Header: FileHeader<Endian = object::Endianness>>(
    data: &ReadCache<File>,
) -> Result<Vec<String>, object::read::Error> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((entries, index)) = sections.dynamic(endian, data)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, data, index)?;
    let mut names = Vec::new();
    for entry in entries {
        if entry.tag(endian) == DT_NEEDED {
            names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    Ok(names)
}
