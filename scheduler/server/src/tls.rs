//! The cluster's own certificate authority, and the certificates that controller and nodes know each other by.
//!
//! All of it lies below `state_dir/tls`, made once and used for ever: `ca.crt`, `ca.key`, `controller.crt`,
//! `controller.key`, and for each declared node `nodes/NAME.crt` and `nodes/NAME.key`. A node is who its
//! certificate was made for here; a certificate that is not in `nodes/` opens no session, whoever signed it, so
//! that removing the file and reloading the configuration shuts a node out.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::ServerError;

/// The name that the controller's certificate is valid for, on whatever host it runs.
pub const CONTROLLER_NAME: &str = "muster-controller";

/// A certificate and its private key, in PEM.
#[derive(Clone)]
pub struct KeyedCertificate {
    /// The certificate.
    pub cert_pem: String,
    /// The key.
    pub key_pem: String,
}

/// The certificate authority.
pub struct Authority {
    folder: PathBuf,
    ca: KeyedCertificate,
    issuer: Issuer<'static, KeyPair>,
    controller: KeyedCertificate,
    /// Whom each certificate, as DER, was made for.
    names: RwLock<HashMap<Vec<u8>, String>>,
}

/// For whom a certificate is made.
enum Subject<'a> {
    Authority,
    Controller,
    Node(&'a str),
}

impl Authority {
    /// Opens the authority below `state_dir`, making it if there is none.
    ///
    /// # Errors
    /// [`ServerError::File`], [`ServerError::Certificate`] or [`ServerError::BadCertificate`].
    pub fn open(state_dir: &Path) -> Result<Self, ServerError> {
        let folder = state_dir.join("tls");
        private_folder(&folder.join("nodes"))?;
        let ca = keyed(&folder, "ca", &Subject::Authority, None)?;
        // The issuer's name and usages are constants, so that its certificate need not be parsed.
        let issuer = || Ok(Issuer::new(params(&Subject::Authority)?, KeyPair::from_pem(&ca.key_pem)?));
        let issuer =
            issuer().map_err(|source| ServerError::Certificate { subject: "ca".to_owned(), source })?;
        let controller = keyed(&folder, "controller", &Subject::Controller, Some(&issuer))?;
        Ok(Self { folder, ca, issuer, controller, names: RwLock::new(HashMap::new()) })
    }

    /// The authority's certificate, which both sides trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca.cert_pem
    }

    /// The controller's own certificate.
    #[must_use]
    pub fn controller(&self) -> &KeyedCertificate {
        &self.controller
    }

    /// The certificate of a node, made on the first call.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn node(&self, name: &str) -> Result<KeyedCertificate, ServerError> {
        let (keyed, der) = self.load(name)?;
        self.names.write().expect("no code panics under this lock").insert(der, name.to_owned());
        Ok(keyed)
    }

    fn load(&self, name: &str) -> Result<(KeyedCertificate, Vec<u8>), ServerError> {
        let keyed = keyed(&self.folder.join("nodes"), name, &Subject::Node(name), Some(&self.issuer))?;
        let path = self.folder.join("nodes").join(format!("{name}.crt"));
        let der = CertificateDer::from_pem_slice(keyed.cert_pem.as_bytes())
            .map_err(|source| ServerError::BadCertificate { path, source })?;
        Ok((keyed, der.to_vec()))
    }

    /// Makes the certificates of exactly these nodes usable.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn admit<'a>(&self, nodes: impl Iterator<Item = &'a str>) -> Result<(), ServerError> {
        let names: HashMap<Vec<u8>, String> = nodes
            .map(|node| Ok((self.load(node)?.1, node.to_owned())))
            .collect::<Result<_, ServerError>>()?;
        *self.names.write().expect("no code panics under this lock") = names;
        Ok(())
    }

    /// The node that a certificate was made for.
    #[must_use]
    pub fn name_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        self.names.read().expect("no code panics under this lock").get(certificate.as_ref()).cloned()
    }
}

/// Reads `NAME.crt` and `NAME.key`, making both where one is missing. The certificate is written last: where it
/// is, its key is as well.
fn keyed(
    folder: &Path,
    name: &str,
    subject: &Subject<'_>,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> Result<KeyedCertificate, ServerError> {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    if let (Some(cert_pem), Some(key_pem)) = (read_if_there(&cert)?, read_if_there(&key)?) {
        return Ok(KeyedCertificate { cert_pem, key_pem });
    }
    let made = make(subject, issuer)
        .map_err(|source| ServerError::Certificate { subject: name.to_owned(), source })?;
    write_private(&key, &made.key_pem)?;
    write_private(&cert, &made.cert_pem)?;
    Ok(made)
}

fn make(
    subject: &Subject<'_>,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> Result<KeyedCertificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let params = params(subject)?;
    let certificate = match issuer {
        None => params.self_signed(&key)?,
        Some(issuer) => params.signed_by(&key, issuer)?,
    };
    Ok(KeyedCertificate { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn params(subject: &Subject<'_>) -> Result<CertificateParams, rcgen::Error> {
    let (common_name, alternative_names) = match subject {
        Subject::Authority => ("Muster cluster authority", vec![]),
        Subject::Controller => (CONTROLLER_NAME, vec![CONTROLLER_NAME.to_owned()]),
        // A node's name may hold '_', which no DNS name has; only the common name is of use here.
        Subject::Node(name) => (*name, vec![]),
    };
    let mut params = CertificateParams::new(alternative_names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    match subject {
        Subject::Authority => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Subject::Controller => params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth),
        Subject::Node(_) => params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth),
    }
    if !matches!(subject, Subject::Authority) {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
    }
    Ok(params)
}

/// Makes a folder, and those above it, that only the owner may enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), ServerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ServerError::file("make the folder", path))
}

fn read_if_there(path: &Path) -> Result<Option<String>, ServerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServerError::file("read", path)(error)),
    }
}

/// Writes a file that only the owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), ServerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(ServerError::file("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn der(keyed: &KeyedCertificate) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(keyed.cert_pem.as_bytes()).unwrap()
    }

    #[test]
    fn certificates_are_kept_private_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let node = first.node("node01").unwrap();
        assert_eq!(first.name_of(&der(&node)), Some("node01".to_owned()));
        let again = Authority::open(folder.path()).unwrap();
        assert_eq!(again.ca_pem(), first.ca_pem());
        assert_eq!(again.name_of(&der(&node)), None, "a node that is not declared is not known");
        again.admit(["node01", "node02"].into_iter()).unwrap();
        assert_eq!(again.name_of(&der(&node)), Some("node01".to_owned()));
        assert_eq!(again.node("node01").unwrap().key_pem, node.key_pem);
        for path in ["tls", "tls/nodes"] {
            let mode = fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{path}");
        }
        for path in ["tls/ca.key", "tls/controller.key", "tls/nodes/node01.key"] {
            let mode = fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path}");
        }
    }

    #[test]
    fn a_node_of_another_cluster_is_unknown() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Authority::open(here.path()).unwrap(), Authority::open(there.path()).unwrap());
        here.node("node01").unwrap();
        assert_eq!(here.name_of(&der(&there.node("node01").unwrap())), None);
    }
}
