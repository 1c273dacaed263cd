//! Images of containers: their names, and the sources from which a site lets them come.

use serde::{Deserialize, Serialize};

use super::mount::absolute;

/// Longest name of an image, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// How the name of an image begins that is a file of the node.
const ARCHIVE: &str = "oci-archive:";
/// The registry of names that say none, and the folder there of names of one part.
const REGISTRY: &str = "docker.io";
const LIBRARY: &str = "library";

/// The name of an image, with all its parts: as `docker pull` takes it, or an archive on the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageName {
    /// In a registry.
    Registry {
        /// The registry's name or address, with its port if it has one.
        host: String,
        /// The repository there.
        path: String,
        /// What follows it: `:TAG` or `@sha256:DIGEST`.
        version: String,
    },
    /// An OCI archive, as `podman save --format oci-archive` and `skopeo copy` make them.
    Archive {
        /// The file: absolute.
        path: String,
    },
}

/// Where images may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A registry, or a part of it.
    Registry {
        /// The registry's name or address, with its port if it has one.
        host: String,
        /// The beginning of repositories there, in whole parts; empty: all.
        path: String,
        /// Whether it is spoken to without TLS.
        plain: bool,
    },
    /// Archives in a folder of the nodes, or one archive.
    Archive {
        /// Absolute.
        path: String,
    },
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{said}' names no image: write one as for docker pull, such as debian:12 or registry.example:5000/team/tool@sha256:..., \
     or oci-archive:/FILE"
)]
pub struct BadImage {
    said: String,
}

impl ImageName {
    /// Reads a name, and completes it: `debian` is `docker.io/library/debian:latest`.
    ///
    /// # Errors
    /// [`BadImage`] if it is none.
    pub fn parse(text: &str) -> Result<Self, BadImage> {
        let bad = || BadImage { said: text.chars().take(100).collect() };
        if text.len() > NAME_BYTES_MAX {
            return Err(bad());
        }
        if let Some(path) = text.strip_prefix(ARCHIVE) {
            // A colon would be taken for the name of an image within the archive.
            let path = absolute(path).filter(|path| path != "/" && !path.contains(':')).ok_or_else(bad)?;
            return Ok(Self::Archive { path });
        }
        let (name, version) = split_version(text).ok_or_else(bad)?;
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host_like(host) => (host, path.to_owned()),
            Some(_) => (REGISTRY, name.to_owned()),
            None => (REGISTRY, format!("{LIBRARY}/{name}")),
        };
        match is_host(host) && path.split('/').all(is_part) {
            true => Ok(Self::Registry { host: host.to_ascii_lowercase(), path, version }),
            false => Err(bad()),
        }
    }

    /// Whether it comes from a source.
    #[must_use]
    pub fn comes_from(&self, source: &ImageSource) -> bool {
        match (self, source) {
            (Self::Registry { host, path, .. }, ImageSource::Registry { host: listed, path: of, .. }) => {
                host == listed && (of.is_empty() || lies_below(path, of))
            }
            (Self::Archive { path }, ImageSource::Archive { path: of }) => lies_below(path, of),
            _ => false,
        }
    }
}

impl ImageSource {
    /// Reads a source: `registry.example`, `registry.example/team`, `http://10.0.0.1:5000` without TLS, or `oci-archive:/srv/images`.
    /// None if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix(ARCHIVE) {
            return absolute(path).filter(|path| !path.contains(':')).map(|path| Self::Archive { path });
        }
        let (rest, plain) = match text.strip_prefix("http://") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("https://").unwrap_or(text), false),
        };
        let rest = rest.trim_end_matches('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_fine =
            is_host(host) && is_host_like(host) && (path.is_empty() || path.split('/').all(is_part));
        is_fine.then(|| Self::Registry { host: host.to_ascii_lowercase(), path: path.to_owned(), plain })
    }
}

/// The name, and `:TAG` or `@sha256:DIGEST`; a tag beside a digest says nothing more.
fn split_version(text: &str) -> Option<(&str, String)> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is that of a port.
    let at = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    let (name, tag) = at.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
    let is_tag = |tag: &str| {
        let is_fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        (1..=128).contains(&tag.len()) && tag.bytes().all(is_fine) && !tag.starts_with(['.', '-'])
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    match digest {
        Some(digest) => {
            let hex = digest.strip_prefix("sha256:")?;
            let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            (hex.len() == 64 && hex.bytes().all(is_hex)).then(|| (name, format!("@{digest}")))
        }
        None => Some((name, format!(":{}", tag.unwrap_or("latest")))),
    }
}

/// Whether the first part of a name is that of a registry, as Docker tells it from a folder.
fn is_host_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-');
    let is_name = !host.is_empty() && host.bytes().all(is_fine) && !host.starts_with(['.', '-']);
    is_name && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Whether a text is a part of a repository's name: lower-case letters and digits, with single separators within.
fn is_part(part: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let (first, last) = (part.bytes().next(), part.bytes().last());
    part.bytes().all(|c| is_plain(c) || matches!(c, b'.' | b'_' | b'-'))
        && first.is_some_and(is_plain)
        && last.is_some_and(is_plain)
        && !part.contains("..")
}

fn lies_below(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry { host, path, version } => write!(f, "{host}/{path}{version}"),
            Self::Archive { path } => write!(f, "{ARCHIVE}{path}"),
        }
    }
}

impl TryFrom<String> for ImageName {
    type Error = BadImage;

    fn try_from(text: String) -> Result<Self, BadImage> {
        Self::parse(&text)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn name(text: &str) -> String {
        ImageName::parse(text).unwrap().to_string()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        assert_eq!(name("debian"), "docker.io/library/debian:latest");
        assert_eq!(name("team/tool:1.2"), "docker.io/team/tool:1.2");
        assert_eq!(name("Registry.example:5000/a/b_c"), "registry.example:5000/a/b_c:latest");
        assert_eq!(name("localhost/x"), "localhost/x:latest");
        assert_eq!(name(&format!("debian:12@{DIGEST}")), format!("docker.io/library/debian@{DIGEST}"));
        assert_eq!(name("oci-archive:/srv/images/a.tar"), "oci-archive:/srv/images/a.tar");
        for again in ["debian", "localhost/x", "oci-archive:/srv/a"] {
            assert_eq!(name(&name(again)), name(again));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(513);
        for wrong in [
            "",
            "-x",
            "--raw",
            "Debian",
            "a//b",
            "a/../b",
            "debian:",
            "debian:.x",
            "debian@sha256:00",
            "docker://debian",
            "oci-archive:x",
            "oci-archive:/a/../b",
            "oci-archive:/a:b",
            "oci-archive:/",
            "dir:/etc",
            "host.example:99999/x",
            "a b",
            "a\nb",
            long.as_str(),
        ] {
            assert!(ImageName::parse(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<ImageName>("\"a b\"").is_err());
    }

    #[test]
    fn what_a_site_lists_stands_for_what_is_below_it() {
        let comes = |name: &str, source: &str| {
            ImageName::parse(name).unwrap().comes_from(&ImageSource::parse(source).unwrap())
        };
        assert!(comes("debian", "docker.io/library") && comes("debian", "docker.io"));
        assert!(comes("reg.example/team/a/b", "https://Reg.example/team/"));
        assert!(!comes("reg.example/teams/a", "reg.example/team") && !comes("team/a", "reg.example/team"));
        assert!(!comes("reg.example:5000/team/a", "reg.example/team"));
        assert!(comes("oci-archive:/srv/images/a.tar", "oci-archive:/srv/images"));
        assert!(!comes("oci-archive:/srv/images2/a.tar", "oci-archive:/srv/images"));
        assert!(!comes("reg.example/srv", "oci-archive:/"));
        let plain =
            |text: &str| matches!(ImageSource::parse(text), Some(ImageSource::Registry { plain: true, .. }));
        assert!(plain("http://10.0.0.1:5000") && !plain("10.0.0.1:5000"));
        for wrong in
            ["", "debian", "oci-archive:srv", "ftp://x.y", "http://", "reg.example/Team", "file:///srv"]
        {
            assert!(ImageSource::parse(wrong).is_none(), "{wrong}");
        }
    }
}
