//! How tasks reach the store.

use jiff::SignedDuration;
use muster_batch::storage::Permissions;

use crate::store::Store;

/// How tasks reach the store.
pub trait Addresses {
    /// An address for reading a container.
    fn readable(&self, container: &str) -> String;
    /// An address for writing into a container.
    fn writable(&self, container: &str) -> String;
    /// An address for reading a blob.
    fn blob(&self, container: &str, blob: &str) -> String;
}

/// Addresses that are signed for so long.
impl Addresses for (Store<'_>, SignedDuration) {
    fn readable(&self, container: &str) -> String {
        let reads = Permissions { read: true, list: true, ..Permissions::default() };
        self.0.container_url(container, reads, self.1)
    }

    fn writable(&self, container: &str) -> String {
        let writes = Permissions { create: true, write: true, ..Permissions::default() };
        self.0.container_url(container, writes, self.1)
    }

    fn blob(&self, container: &str, blob: &str) -> String {
        self.0.blob_url(container, blob, self.1)
    }
}

/// Addresses for people, which nobody can use.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned;

impl Addresses for Unsigned {
    fn readable(&self, container: &str) -> String {
        format!("store:{container}")
    }

    fn writable(&self, container: &str) -> String {
        format!("store:{container}")
    }

    fn blob(&self, container: &str, blob: &str) -> String {
        format!("store:{container}/{blob}")
    }
}
