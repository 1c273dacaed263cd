//! File systems that are mounted on the nodes of a pool.
//!
//! The node mounts them as root on a user's word, so that sources are those that the site lists, and options those of a list:
//! none can bring programs that run as somebody else (`suid`) or devices (`dev`).

use serde::{Deserialize, Serialize};

use crate::staging::RelativePath;

/// File systems of one pool.
pub const MOUNTS_PER_POOL_MAX: usize = 10;
/// Longest source, in bytes.
const SOURCE_BYTES_MAX: usize = 1024;
/// Most options of one file system.
const OPTIONS_MAX: usize = 20;
/// The folder below a node's root for work where they are mounted.
pub const MOUNTS_FOLDER: &str = "fsmounts";

/// Options that stand alone.
const WORDS: [&str; 17] = [
    "ro",
    "rw",
    "noexec",
    "nosuid",
    "nodev",
    "noatime",
    "nodiratime",
    "relatime",
    "hard",
    "soft",
    "softerr",
    "ac",
    "noac",
    "lock",
    "nolock",
    "cto",
    "nocto",
];
/// Options with a number.
const NUMBERS: [&str; 10] = [
    "timeo", "retrans", "rsize", "wsize", "nconnect", "actimeo", "acregmin", "acregmax", "acdirmin",
    "acdirmax",
];
/// Options with one of several words.
const CHOICES: [(&str, &[&str]); 4] = [
    ("vers", &["3", "4", "4.0", "4.1", "4.2"]),
    ("nfsvers", &["3", "4", "4.0", "4.1", "4.2"]),
    ("proto", &["tcp", "udp", "rdma", "tcp6", "udp6"]),
    ("sec", &["sys", "krb5", "krb5i", "krb5p"]),
];
/// Options that a folder of the node itself may have: the rest is for servers.
const LOCAL_WORDS: [&str; 8] = ["ro", "rw", "noexec", "nosuid", "nodev", "noatime", "nodiratime", "relatime"];

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, below the folder for mounts: one name.
    pub path: RelativePath,
    /// With which options, each of which is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// What an NFS server exports.
    Nfs {
        /// The server: a name or an address.
        host: String,
        /// The export, or a folder of it: absolute.
        path: String,
    },
    /// A folder of the node itself.
    Local {
        /// Absolute.
        path: String,
    },
}

/// What is wrong with a file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMount {
    /// The source is none.
    #[error(
        "'{source_said}' is no source: write SERVER:/PATH or file:///PATH, without .. and with at most 1024 bytes"
    )]
    Source {
        /// What was said.
        source_said: String,
    },
    /// The place is none.
    #[error("'{path}' is no place: write one name, such as data")]
    Path {
        /// What was said.
        path: String,
    },
    /// An option is not allowed.
    #[error("the mount option '{option}' is not allowed; there are: {known}")]
    Option {
        /// Which.
        option: String,
        /// Those that are.
        known: String,
    },
    /// There are too many options.
    #[error("{found} mount options are too many; at most 20 are allowed")]
    Options {
        /// How many.
        found: usize,
    },
}

impl MountSource {
    /// Reads a source: `SERVER:/PATH`, `nfs://SERVER/PATH` or `file:///PATH`.
    ///
    /// # Errors
    /// [`BadMount::Source`] if it is none.
    pub fn parse(text: &str) -> Result<Self, BadMount> {
        let bad = || BadMount::Source { source_said: text.chars().take(100).collect() };
        if text.len() > SOURCE_BYTES_MAX {
            return Err(bad());
        }
        if let Some(path) = text.strip_prefix("file://") {
            return absolute(path).map(|path| Self::Local { path }).ok_or_else(bad);
        }
        let (host, path) = match text.strip_prefix("nfs://") {
            Some(rest) => rest.find('/').map(|at| rest.split_at(at)).ok_or_else(bad)?,
            None => text.find(":/").map(|at| (&text[..at], &text[at + 1..])).ok_or_else(bad)?,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        // A name that begins with a hyphen would be taken for an option by mount(8).
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_host) {
            return Err(bad());
        }
        let path = absolute(path).ok_or_else(bad)?;
        Ok(Self::Nfs { host: host.to_ascii_lowercase(), path })
    }

    /// Whether it is this one, or lies in it: what a site lists stands for everything below it.
    #[must_use]
    pub fn lies_in(&self, listed: &Self) -> bool {
        let below = |path: &str, of: &str| {
            let rest = path.strip_prefix(of.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (self, listed) {
            (Self::Nfs { host, path }, Self::Nfs { host: same, path: of }) => host == same && below(path, of),
            (Self::Local { path }, Self::Local { path: of }) => below(path, of),
            _ => false,
        }
    }
}

impl std::fmt::Display for MountSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nfs { host, path } => write!(f, "{host}:{path}"),
            Self::Local { path } => write!(f, "file://{path}"),
        }
    }
}

/// An absolute path that leads nowhere else, without a slash at its end.
pub(super) fn absolute(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.strip_prefix('/')?.trim_end_matches('/').split('/').collect();
    let is_fine =
        |part: &&str| !matches!(*part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || c == ',');
    let is_root = parts == [""];
    (is_root || parts.iter().all(is_fine)).then(|| format!("/{}", parts.join("/")))
}

impl Mount {
    /// Reads a file system as it is said. The options come with commas or spaces between them, and may begin with `-o`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(source: &str, path: &str, options: &str) -> Result<Self, BadMount> {
        let source = MountSource::parse(source)?;
        let bad = || BadMount::Path { path: path.chars().take(100).collect() };
        let path = RelativePath::try_from(path.trim_matches('/').to_owned()).map_err(|_| bad())?;
        if path.parts().count() != 1 {
            return Err(bad());
        }
        let options: Vec<String> = options
            .split([',', ' '])
            .filter(|option| !option.is_empty() && *option != "-o")
            .map(str::to_owned)
            .collect();
        if options.len() > OPTIONS_MAX {
            return Err(BadMount::Options { found: options.len() });
        }
        let is_local = matches!(source, MountSource::Local { .. });
        match options.iter().find(|option| !is_allowed(option, is_local)) {
            Some(option) => Err(BadMount::Option { option: option.clone(), known: known(is_local) }),
            None => Ok(Self { source, path, options }),
        }
    }
}

fn is_allowed(option: &str, is_local: bool) -> bool {
    if is_local {
        return LOCAL_WORDS.contains(&option);
    }
    match option.split_once('=') {
        None => WORDS.contains(&option),
        Some((name, value)) => {
            let is_number =
                value.len() <= 9 && !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
            (NUMBERS.contains(&name) && is_number)
                || CHOICES.iter().any(|(choice, values)| *choice == name && values.contains(&value))
        }
    }
}

fn known(is_local: bool) -> String {
    if is_local {
        return LOCAL_WORDS.join(", ");
    }
    let numbers = NUMBERS.iter().map(|name| format!("{name}=NUMBER"));
    let choices = CHOICES.iter().map(|(name, values)| format!("{name}={}", values.join("|")));
    WORDS.iter().map(|word| (*word).to_owned()).chain(numbers).chain(choices).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_servers_with_a_path_or_folders_of_the_node() {
        let nfs = |host: &str, path: &str| MountSource::Nfs { host: host.to_owned(), path: path.to_owned() };
        assert_eq!(MountSource::parse("NAS1:/export/home/"), Ok(nfs("nas1", "/export/home")));
        assert_eq!(MountSource::parse("nfs://10.0.0.1/x"), Ok(nfs("10.0.0.1", "/x")));
        assert_eq!(MountSource::parse("[fe80::1]:/x"), Ok(nfs("[fe80::1]", "/x")));
        let local = MountSource::Local { path: "/srv/data".to_owned() };
        assert_eq!(MountSource::parse("file:///srv/data"), Ok(local));
        for wrong in [
            "",
            "nas",
            "nas:",
            "nas:x",
            ":/x",
            "-o:/x",
            "nas:/a/../b",
            "nas:/a//b",
            "file://srv",
            "a b:/x",
            "nas:/a,b",
        ] {
            assert!(MountSource::parse(wrong).is_err(), "{wrong}");
        }
        assert!(MountSource::parse(&format!("n:/{}", "x".repeat(1024))).is_err());
    }

    #[test]
    fn what_a_site_lists_stands_for_what_is_below_it() {
        let lies = |source: &str, listed: &str| {
            MountSource::parse(source).unwrap().lies_in(&MountSource::parse(listed).unwrap())
        };
        assert!(lies("nas:/export", "nas:/export") && lies("nas:/export/a", "NAS:/export/"));
        assert!(!lies("nas:/exports", "nas:/export") && !lies("nas:/", "nas:/export"));
        assert!(!lies("other:/export", "nas:/export") && !lies("file:///export", "nas:/export"));
        assert!(lies("file:///srv/a/b", "file:///srv/a") && lies("nas:/x", "nas:/"));
    }

    #[test]
    fn options_are_those_of_a_list() {
        let mount = |source: &str, options: &str| Mount::parse(source, "data", options);
        let fine = mount("nas:/x", "-o ro,vers=4.1,timeo=600,sec=krb5p").unwrap();
        assert_eq!(fine.options, ["ro", "vers=4.1", "timeo=600", "sec=krb5p"]);
        for wrong in [
            "suid",
            "dev",
            "exec",
            "vers=5",
            "timeo=x",
            "timeo=",
            "remount",
            "bind",
            "context=a",
            "rsize=9999999999",
        ] {
            assert!(matches!(mount("nas:/x", wrong), Err(BadMount::Option { .. })), "{wrong}");
        }
        assert!(mount("file:///x", "ro,noexec").is_ok() && mount("file:///x", "vers=3").is_err());
        assert!(matches!(mount("nas:/x", &"ro,".repeat(21)), Err(BadMount::Options { found: 21 })));
        for wrong in ["", "a/b", "..", "a\nb"] {
            assert!(matches!(Mount::parse("nas:/x", wrong, ""), Err(BadMount::Path { .. })), "{wrong}");
        }
    }
}
