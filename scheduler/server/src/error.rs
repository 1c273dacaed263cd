//! What can keep the controller from running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use muster_config::ConfigErrors;
use muster_store::StoreError;

/// Why the controller does not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error("the configuration is not in order")]
    Config(#[source] ConfigErrors),
    /// The journal cannot be used.
    #[error("the controller's state cannot be used")]
    Store(#[source] StoreError),
    /// A file or folder.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The address for nodes cannot be listened on.
    #[error(
        "cannot listen on {address} for node agents: correct `listen` under [controller], or stop what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The address for clients of the batch service cannot be listened on.
    #[error(
        "cannot listen on {address} for the batch service: correct `listen` under [batch], or stop what uses it"
    )]
    ListenBatch {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A key of the batch service cannot be used.
    #[error("the key of account {account} of the batch service cannot be used: {why}")]
    BatchKey {
        /// The account.
        account: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The certificate of the batch service cannot be used with its key.
    #[error(
        "the certificate {} cannot be used: correct `tls_certificate_file` and `tls_key_file` under [batch]",
        certificate_file.display()
    )]
    BatchTls {
        /// The certificate's file.
        certificate_file: PathBuf,
        /// The cause.
        #[source]
        source: tokio_rustls::rustls::Error,
    },
    /// The embedded store cannot be used.
    #[error("the store of the batch service in {} cannot be used: correct `store` under [batch]", folder.display())]
    Blobs {
        /// Its folder.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: muster_blobs::BlobsError,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make a certificate for {subject}")]
    Certificate {
        /// For whom.
        subject: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A key or certificate on disk cannot be read.
    #[error("{} is not a PEM certificate: remove it and its key, and musterd makes new ones", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Nodes cannot be listened to with the authority's certificates.
    #[error(
        "the controller's certificates below tls/ of its state_dir cannot be used: if they were not changed, remove the \
         controller's and its key, and musterd makes new ones"
    )]
    NodeTls {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system refuses something basic.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The engine's thread ended, which it only does when told to.
    #[error("the engine ended by itself; the log before this says why")]
    EngineEnded,
}

impl ServerError {
    /// Wraps a failure with a file.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
