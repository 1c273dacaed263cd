//! Unpacks a zip that nobody is trusted to have made.
//!
//! What is in it stays in its folder, whatever its names and links say: names lead nowhere else, and links are made when all files are
//! there, so that nothing is ever written through one. How much there is is counted as it is written, not as the zip says.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

/// Longest name of an entry, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// Longest text of a link, in bytes.
const LINK_BYTES_MAX: u64 = 1024;

/// How much a package may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes in all its files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 200_000, bytes: 64 << 30 }
    }
}

/// Why a zip is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is none, or damaged.
    #[error("it is no zip, or damaged, or packed in a way that is not known")]
    Zip(#[source] ZipError),
    /// It holds too many things.
    #[error("it holds more than {max} files and folders")]
    Entries {
        /// How many it may hold.
        max: usize,
    },
    /// Two entries have one name, of which programs take one or the other.
    #[error("two of its entries have one name")]
    Twins,
    /// It holds too much.
    #[error("it holds more than {max} bytes")]
    Bytes {
        /// How many it may hold.
        max: u64,
    },
    /// A name leads out of the package.
    #[error("the name {name:?} does not stay in the package")]
    Name {
        /// The name.
        name: String,
    },
    /// A link leads out of the package.
    #[error("the link {name:?} does not stay in the package")]
    Link {
        /// Its name.
        name: String,
    },
    /// Something that is neither file, folder nor link.
    #[error("{name:?} is neither a file nor a folder nor a link")]
    Kind {
        /// Its name.
        name: String,
    },
    /// The node cannot hold it.
    #[error("cannot {action} {name:?}")]
    Local {
        /// What was tried.
        action: &'static str,
        /// The name in the package.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Unpacks a zip into an empty folder.
///
/// # Errors
///
/// [`UnpackError`] with the first thing that is wrong.
pub fn unpack(zip: File, folder: &Path, limits: Limits) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(zip).map_err(UnpackError::Zip)?;
    if archive.len() > limits.entries {
        return Err(UnpackError::Entries { max: limits.entries });
    }
    if archive.has_duplicate_names() {
        return Err(UnpackError::Twins);
    }
    set_mode(folder, 0o755, "")?;
    let mut left = limits.bytes;
    let mut links: Vec<(String, PathBuf, String)> = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(UnpackError::Zip)?;
        let raw = entry.name().map_err(UnpackError::Zip)?.into_owned();
        let Some(name) = inner(&raw)? else { continue };
        let place = folder.join(&name);
        let mode = entry.unix_mode();
        match mode.unwrap_or(0) & libc::S_IFMT {
            _ if raw.ends_with('/') => make_folders(folder, &name)?,
            libc::S_IFDIR => make_folders(folder, &name)?,
            libc::S_IFLNK => {
                let mut text = String::new();
                let read = entry.by_ref().take(LINK_BYTES_MAX + 1).read_to_string(&mut text);
                read.map_err(|source| UnpackError::Local { action: "read", name: name.clone(), source })?;
                links.push((name, place, text));
            }
            0 | libc::S_IFREG => {
                if let Some((above, _)) = name.rsplit_once('/') {
                    make_folders(folder, above)?;
                }
                // Who packed it without Unix's rights has not said that it is no program.
                let mode = mode.map_or(0o755, |mode| if mode & 0o111 == 0 { 0o644 } else { 0o755 });
                left = write(&mut entry, &place, &name, mode, left, limits.bytes)?;
            }
            _ => return Err(UnpackError::Kind { name }),
        }
    }
    for (name, place, text) in links {
        if !stays(&name, &text) {
            return Err(UnpackError::Link { name });
        }
        if let Some((above, _)) = name.rsplit_once('/') {
            make_folders(folder, above)?;
        }
        std::os::unix::fs::symlink(&text, &place).map_err(|source| UnpackError::Local {
            action: "create the link",
            name,
            source,
        })?;
    }
    Ok(())
}

/// The name of an entry below the package's folder; none for that itself.
fn inner(raw: &str) -> Result<Option<String>, UnpackError> {
    let name = raw.trim_end_matches('/');
    let name = name.strip_prefix("./").unwrap_or(name);
    if (name.is_empty() && !raw.starts_with('/')) || name == "." {
        return Ok(None);
    }
    let is_fine = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    let stays = name.split('/').all(is_fine) && !name.chars().any(char::is_control);
    if !stays || name.len() > NAME_BYTES_MAX {
        return Err(UnpackError::Name { name: raw.chars().take(200).collect() });
    }
    Ok(Some(name.to_owned()))
}

/// Whether the text of a link, from the place that it has, leads to something in the package. It goes up at its beginning alone,
/// where it goes through folders: behind another link, `..` would be somewhere else.
fn stays(name: &str, text: &str) -> bool {
    if text.is_empty() || text.len() as u64 > LINK_BYTES_MAX || text.starts_with('/') || text.contains('\0') {
        return false;
    }
    let parts = || text.split('/').filter(|part| !matches!(*part, "" | "."));
    let up = parts().take_while(|part| *part == "..").count();
    up <= name.matches('/').count() && !parts().skip(up).any(|part| part == "..")
}

/// Makes a folder of the package and those above it. No link is there yet that could lead elsewhere.
fn make_folders(folder: &Path, name: &str) -> Result<(), UnpackError> {
    let mut place = folder.to_owned();
    for part in name.split('/') {
        place.push(part);
        match std::fs::create_dir(&place) {
            Ok(()) => set_mode(&place, 0o755, name)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && is_folder(&place) => {}
            Err(source) => {
                return Err(UnpackError::Local {
                    action: "create the folder",
                    name: name.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn is_folder(place: &Path) -> bool {
    std::fs::symlink_metadata(place).is_ok_and(|about| about.is_dir())
}

fn set_mode(place: &Path, mode: u32, name: &str) -> Result<(), UnpackError> {
    // The mode of mkdir(2) is cut by the mask.
    std::fs::set_permissions(place, Permissions::from_mode(mode)).map_err(|source| UnpackError::Local {
        action: "set the rights of",
        name: name.to_owned(),
        source,
    })
}

/// Writes a file; says how many bytes others may have yet.
fn write(
    entry: &mut impl Read,
    place: &Path,
    name: &str,
    mode: u32,
    left: u64,
    max: u64,
) -> Result<u64, UnpackError> {
    let local = |action| move |source| UnpackError::Local { action, name: name.to_owned(), source };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(place).map_err(local("create"))?;
    let written =
        std::io::copy(&mut entry.take(left.saturating_add(1)), &mut file).map_err(local("write"))?;
    if written > left {
        return Err(UnpackError::Bytes { max });
    }
    file.set_permissions(Permissions::from_mode(mode)).map_err(local("set the rights of"))?;
    Ok(left - written)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    type Writer = ZipWriter<File>;

    fn options(mode: u32) -> SimpleFileOptions {
        SimpleFileOptions::default().unix_permissions(mode)
    }

    fn add(writer: &mut Writer, name: &str, mode: u32, text: &[u8]) {
        writer.start_file(name, options(mode)).unwrap();
        writer.write_all(text).unwrap();
    }

    fn unpacked(
        fill: impl FnOnce(&mut Writer),
        limits: Limits,
    ) -> (tempfile::TempDir, Result<(), UnpackError>) {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("package")).unwrap();
        let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
        fill(&mut writer);
        let mut file = writer.finish().unwrap();
        file.rewind().unwrap();
        let result = unpack(file, &outer.path().join("package"), limits);
        (outer, result)
    }

    /// The same with the name of an entry replaced in the bytes, which no library writes.
    fn renamed(
        from: &str,
        to: &str,
        fill: impl FnOnce(&mut Writer),
    ) -> (tempfile::TempDir, Result<(), UnpackError>) {
        assert_eq!(from.len(), to.len());
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("package")).unwrap();
        let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
        fill(&mut writer);
        let mut file = writer.finish().unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let (mut at, mut found) = (0, 0);
        while at + from.len() <= bytes.len() {
            if &bytes[at..at + from.len()] == from.as_bytes() {
                bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
                found += 1;
            }
            at += 1;
        }
        assert!(found >= 2, "the name is in the head of the entry and in the directory");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let result = unpack(file, &outer.path().join("package"), Limits::default());
        (outer, result)
    }

    #[test]
    fn files_folders_and_links_are_there_with_rights_for_all_to_read() {
        let (outer, result) = unpacked(
            |zip| {
                zip.add_directory("empty/", options(0o700)).unwrap();
                add(zip, "bin/app", 0o4750, b"run");
                add(zip, "lib/libx.so.1", 0o600, b"lib");
                zip.add_symlink("lib/libx.so", "libx.so.1", options(0o777)).unwrap();
                zip.add_symlink("app", "bin/app", options(0o777)).unwrap();
            },
            Limits::default(),
        );
        result.unwrap();
        let package = outer.path().join("package");
        let mode = |name: &str| std::fs::metadata(package.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode(""), mode("empty"), mode("bin/app"), mode("lib/libx.so.1")),
            (0o755, 0o755, 0o755, 0o644)
        );
        assert_eq!(std::fs::read(package.join("lib/libx.so")).unwrap(), b"lib");
        assert_eq!(std::fs::read(package.join("app")).unwrap(), b"run");
    }

    #[test]
    fn no_name_leads_out_of_the_package() {
        for name in ["../escaped", "/tmp/escape", "a/../../es", "a//escaped", "./../escap"] {
            let placeholder = "x".repeat(name.len());
            let (outer, result) = renamed(&placeholder, name, |zip| add(zip, &placeholder, 0o644, b"out"));
            assert!(matches!(result, Err(UnpackError::Name { .. })), "{name}: {result:?}");
            assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_and_none_leads_out() {
        for (name, text) in [("a", "/etc"), ("a", ".."), ("a/b", "../../x"), ("a", "b/../../x"), ("a", "")] {
            let (_outer, result) =
                unpacked(|zip| zip.add_symlink(name, text, options(0o777)).unwrap(), Limits::default());
            assert!(matches!(result, Err(UnpackError::Link { .. })), "{name} -> {text}: {result:?}");
        }
        // What would lead out through another link.
        let (_outer, result) = unpacked(
            |zip| {
                zip.add_symlink("d/up", "..", options(0o777)).unwrap();
                zip.add_symlink("out", "d/up/..", options(0o777)).unwrap();
            },
            Limits::default(),
        );
        assert!(matches!(result, Err(UnpackError::Link { .. })), "{result:?}");
        // The entry after the link has a name below it: the folder is there first, and the link finds no place.
        let (outer, result) = unpacked(
            |zip| {
                zip.add_symlink("d", "e", options(0o777)).unwrap();
                add(zip, "d/file", 0o644, b"x");
            },
            Limits::default(),
        );
        assert!(matches!(result, Err(UnpackError::Local { .. })), "{result:?}");
        assert!(!outer.path().join("package/e").exists());
    }

    #[test]
    fn how_much_there_is_is_limited_as_it_is_written() {
        let bomb = |zip: &mut Writer| add(zip, "zeros", 0o644, &vec![0; 1 << 20]);
        let (outer, result) = unpacked(bomb, Limits { entries: 9, bytes: (1 << 20) - 1 });
        assert!(matches!(result, Err(UnpackError::Bytes { .. })), "{result:?}");
        drop(outer);
        unpacked(bomb, Limits { entries: 9, bytes: 1 << 20 }).1.unwrap();
        let many = |zip: &mut Writer| (0..4).for_each(|i| add(zip, &format!("f{i}"), 0o644, b""));
        let (_outer, result) = unpacked(many, Limits { entries: 3, bytes: 9 });
        assert!(matches!(result, Err(UnpackError::Entries { max: 3 })), "{result:?}");
        unpacked(many, Limits { entries: 4, bytes: 0 }).1.unwrap();
    }

    #[test]
    fn what_is_no_zip_or_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"PK\x03\x04 and no more").unwrap();
        assert!(matches!(unpack(file, folder.path(), Limits::default()), Err(UnpackError::Zip(_))));
        // One byte of a file's contents is another: its sum does not match.
        let (_outer, result) = renamed("contents", "contentz", |zip| {
            let stored = options(0o644).compression_method(zip::CompressionMethod::Stored);
            for name in ["a", "b"] {
                zip.start_file(name, stored).unwrap();
                zip.write_all(b"contents").unwrap();
            }
        });
        assert!(matches!(result, Err(UnpackError::Local { action: "write", .. })), "{result:?}");
        let (_outer, result) = renamed("twin1", "twin2", |zip| {
            add(zip, "twin1", 0o644, b"1");
            add(zip, "twin2", 0o644, b"2");
        });
        assert!(matches!(result, Err(UnpackError::Twins)), "{result:?}");
    }
}
