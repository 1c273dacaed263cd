//! How nodes of a pool are set up before anything of the pool runs on them.

use serde::{Deserialize, Serialize};

use super::container::PoolContainers;
use super::mount::Mount;
use super::package::{FoundPackage, PackageReference};

/// What a pool's user wants to be on each of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolSetup {
    /// Packages that are unpacked there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageReference>,
    /// File systems that are mounted there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Set if its tasks may run in containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<PoolContainers>,
}

impl PoolSetup {
    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.mounts.is_empty() && self.containers.is_none()
    }
}

/// What one node is told to have: the packages are those that the references stood for when it came, or started anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeSetup {
    /// Packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<FoundPackage>,
    /// File systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Set if tasks may run in containers there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<PoolContainers>,
}

/// Why a node could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupError {
    /// A code that programs know.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// The code where a package cannot be had or unpacked.
pub const PACKAGE_ERROR: &str = "ApplicationPackageError";
/// The code where a file system cannot be mounted.
pub const MOUNT_ERROR: &str = "MountConfigurationError";
/// Most errors of a node that are kept.
pub const SETUP_ERRORS_MAX: usize = 20;
