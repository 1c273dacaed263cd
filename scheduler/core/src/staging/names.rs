//! Paths below a task's folder, and addresses in stores.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RELATIVE_BYTES_MAX, URL_BYTES_MAX};

/// A path below a folder, which it can never leave: parts with a `/` between them, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, from the outermost folder on.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl TryFrom<String> for RelativePath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        if text.len() > RELATIVE_BYTES_MAX {
            return Err(BadPath::Long { bytes: text.len() });
        }
        let wrong =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.len() > PART_BYTES_MAX;
        if text.split('/').any(wrong) || text.chars().any(char::is_control) {
            return Err(BadPath::Leaves { path: text });
        }
        Ok(Self(text))
    }
}

/// Longest name of a file (NAME_MAX of limits.h).
const PART_BYTES_MAX: usize = 255;

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path that does not stay below its folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It may lead elsewhere.
    #[error(
        "{path:?} must be a relative path that stays in the task's folder: names with / between them, without . and .., \
         such as data/input.csv"
    )]
    Leaves {
        /// The path.
        path: String,
    },
    /// It is too long.
    #[error("a path of {bytes} bytes is too long; at most {RELATIVE_BYTES_MAX} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
    },
}

/// The address of a file or a container in a store.
///
/// It may hold a secret in its query, such as a shared access signature: it is shown without.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole address, with what is secret in it: for whoever reads or writes the store, and for nobody else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The last part of its path, if there is one: the name that a file keeps.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        let (_, rest) = self.shown().split_once("://")?;
        let (_, name) = rest.rsplit_once('/')?;
        (!name.is_empty()).then_some(name)
    }

    /// Everything before the query, which is the part that holds no secret.
    fn shown(&self) -> &str {
        self.0.split(['?', '#']).next().unwrap_or_default()
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::Long { bytes: text.len() });
        }
        let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let Some((scheme, rest)) = scheme else { return Err(BadUrl::NoScheme) };
        if !["http", "https", "s3"].contains(&scheme.as_str()) {
            return Err(BadUrl::Scheme { scheme });
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadUrl::NoHost);
        }
        // What stands before an @ is a user's name and password, which listings and logs would show.
        if authority.contains('@') {
            return Err(BadUrl::Password);
        }
        Ok(Self(text))
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.0
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())?;
        if self.shown().len() < self.0.len() { f.write_str("?...") } else { Ok(()) }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// A text that is no address of a store. The text itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It does not begin as a URL does.
    #[error("the address must begin with http://, https:// or s3://")]
    NoScheme,
    /// It is of another kind.
    #[error("addresses of the kind {scheme}:// are not known; http://, https:// and s3:// are")]
    Scheme {
        /// Which.
        scheme: String,
    },
    /// It names no host.
    #[error("the address must name a host or a bucket after ://, and have no spaces")]
    NoHost,
    /// It has a password.
    #[error("the address may not have a user and password before its host: use a signature in its query")]
    Password,
    /// It is too long.
    #[error("an address of {bytes} bytes is too long; at most {URL_BYTES_MAX} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
    },
}
