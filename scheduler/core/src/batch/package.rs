//! Application packages: zips of an account, by application and version, which nodes unpack for tasks.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{FoldedId, ID_CHARS_MAX};
use crate::ids::Timestamp;

/// Applications of one account.
pub const APPLICATIONS_PER_ACCOUNT_MAX: usize = 20;
/// Versions of one application.
pub const VERSIONS_PER_APPLICATION_MAX: usize = 40;
/// References to packages of one pool, or of one task.
pub const PACKAGE_REFERENCES_MAX: usize = 10;

/// The folder below a node's root for work that holds what packages unpack to, each in a folder that its digest names.
pub const APPLICATIONS_FOLDER: &str = "applications";

/// Whether a text may name a version: letters, digits, hyphens, underscores and periods of ASCII, at most 64 of them.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let is_fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= ID_CHARS_MAX && text.bytes().all(is_fine)
}

/// The SHA-256 digest of a package, in hexadecimal digits: what has the same digest is the same package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageDigest(String);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest has 64 hexadecimal digits in lower case")]
pub struct BadDigest;

impl PackageDigest {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PackageDigest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(BadDigest) }
    }
}

impl From<PackageDigest> for String {
    fn from(digest: PackageDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for PackageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An application of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its id, as typed first.
    pub id: String,
    /// Its versions, by their names as they are compared.
    pub versions: BTreeMap<FoldedId, Package>,
    /// The version that references without one stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<FoldedId>,
}

/// A version of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The version, as typed.
    pub version: String,
    /// What it is.
    pub digest: PackageDigest,
    /// How long the zip is.
    pub bytes: u64,
    /// When it was added.
    pub added: Timestamp,
}

/// What pools and tasks say of a package that they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageReference {
    /// The application.
    pub application: String,
    /// Its version; the default one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl fmt::Display for PackageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "version '{version}' of application '{}'", self.application),
            None => write!(f, "default version of application '{}'", self.application),
        }
    }
}

/// A package that a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPackage {
    /// The variable by which tasks find it.
    pub variable: String,
    /// What it is.
    pub digest: PackageDigest,
    /// How long the zip is.
    pub bytes: u64,
}

/// The package that a reference stands for, if there is one.
#[must_use]
pub fn find_package(
    applications: &BTreeMap<FoldedId, Application>,
    reference: &PackageReference,
) -> Option<FoundPackage> {
    let application = applications.get(&FoldedId::of(&reference.application))?;
    let version = match &reference.version {
        Some(version) => FoldedId::of(version),
        None => application.default.clone()?,
    };
    let package = application.versions.get(&version)?;
    let named = reference.version.is_some().then_some(package.version.as_str());
    let variable = variable(&application.id, named);
    Some(FoundPackage { variable, digest: package.digest.clone(), bytes: package.bytes })
}

/// The variable of a package: of a version that was named, its name is part of it.
fn variable(application: &str, version: Option<&str>) -> String {
    let name = match version {
        Some(version) => format!("{application}_{version}"),
        None => application.to_owned(),
    };
    format!("AZ_BATCH_APP_PACKAGE_{}", name.replace(['.', '-', '#'], "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> PackageDigest {
        PackageDigest::try_from(digit.to_string().repeat(64)).unwrap()
    }

    #[test]
    fn a_digest_has_64_digits() {
        assert!(PackageDigest::try_from("a".repeat(63)).is_err());
        assert!(PackageDigest::try_from("A".repeat(64)).is_err());
        assert!(PackageDigest::try_from(format!("../{}", "a".repeat(61))).is_err());
        assert_eq!(digest('0').as_str().len(), 64);
    }

    #[test]
    fn a_reference_stands_for_a_version_or_for_the_default_one() {
        let package = |version: &str, digit| {
            let package =
                Package { version: version.to_owned(), digest: digest(digit), bytes: 1, added: Timestamp(0) };
            (FoldedId::of(version), package)
        };
        let versions = BTreeMap::from([package("1.0-Beta", 'a'), package("2", 'b')]);
        let blender = Application { id: "My-Blender".to_owned(), versions, default: None };
        let mut all = BTreeMap::from([(FoldedId::of("my-blender"), blender)]);
        let find = |all: &BTreeMap<_, _>, version: Option<&str>| {
            let application = "MY-BLENDER".to_owned();
            find_package(all, &PackageReference { application, version: version.map(str::to_owned) })
        };
        let found = find(&all, Some("1.0-beta")).unwrap();
        assert_eq!(found.variable, "AZ_BATCH_APP_PACKAGE_My_Blender_1_0_Beta");
        assert_eq!(found.digest, digest('a'));
        assert_eq!(find(&all, Some("3")), None);
        assert_eq!(find(&all, None), None, "no default has been said");
        all.values_mut().for_each(|application| application.default = Some(FoldedId::of("2")));
        let found = find(&all, None).unwrap();
        assert_eq!((found.variable.as_str(), found.digest), ("AZ_BATCH_APP_PACKAGE_My_Blender", digest('b')));
    }

    #[test]
    fn versions_have_periods_and_no_slashes() {
        assert!(is_version("1.10-rc_2") && !is_version("") && !is_version("a/b") && !is_version("ä"));
        assert!(is_version(&"1".repeat(64)) && !is_version(&"1".repeat(65)));
    }
}
