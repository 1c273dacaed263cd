//! The cluster's own certificate authority, and the certificates that controller and nodes know each other by.
//!
//! All of it lies below `state_dir/tls`, made once and used for ever: `ca.crt`, `ca.key`, `controller.crt`,
//! `controller.key`, and for each declared node `nodes/NAME.crt` and `nodes/NAME.key`. A node is who its
//! certificate was made for here; a certificate that is not in `nodes/` opens no session, whoever signed it, so
//! that removing the file and reloading the configuration shuts a node out.
//!
//! Where several controllers share a database, they share the authority in its table `keyring`, and the files are copies
//! of what is there, for whoever brings agents up by hand.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use muster_store::Keyring;
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
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedCertificate {
    /// The certificate.
    pub cert_pem: String,
    /// The key.
    pub key_pem: String,
}

/// The certificate authority.
pub struct Authority {
    folder: PathBuf,
    shared: Option<SharedKeys>,
    ca: KeyedCertificate,
    issuer: Issuer<'static, KeyPair>,
    controller: KeyedCertificate,
    /// Whom each certificate, as DER, was made for.
    names: RwLock<HashMap<Vec<u8>, String>>,
}

/// What several controllers share: the keyring of their database, and what was in it when it was read last.
struct SharedKeys {
    keyring: Keyring,
    kept: RwLock<HashMap<String, KeyedCertificate>>,
    /// Whether the files become the keyring's content: it was empty, and this controller has been alone so far.
    takes_files: bool,
}

impl SharedKeys {
    fn open(keyring: Keyring) -> Result<Self, ServerError> {
        let shared = Self { keyring, kept: RwLock::default(), takes_files: false };
        shared.read_again()?;
        let takes_files = shared.kept(CA).is_none();
        Ok(Self { takes_files, ..shared })
    }

    fn read_again(&self) -> Result<(), ServerError> {
        let all = self.keyring.all().map_err(ServerError::Store)?;
        let all =
            all.into_iter().map(|(name, (cert_pem, key_pem))| (name, KeyedCertificate { cert_pem, key_pem }));
        *self.kept.write().expect("no code panics under this lock") = all.collect();
        Ok(())
    }

    fn kept(&self, name: &str) -> Option<KeyedCertificate> {
        self.kept.read().expect("no code panics under this lock").get(name).cloned()
    }

    fn keep(&self, name: &str, made: &KeyedCertificate) -> Result<(), ServerError> {
        self.keyring.put(name, &made.cert_pem, &made.key_pem).map_err(ServerError::Store)?;
        self.kept.write().expect("no code panics under this lock").insert(name.to_owned(), made.clone());
        Ok(())
    }
}

/// The authority's name in the keyring and among the files.
const CA: &str = "ca";

/// For whom a certificate is made.
enum Subject<'a> {
    Authority,
    Controller,
    Node(&'a str),
}

impl Authority {
    /// Opens the authority below `state_dir`, or the one in the keyring, making it if there is none.
    ///
    /// # Errors
    /// [`ServerError::File`], [`ServerError::Certificate`] or [`ServerError::BadCertificate`]; [`ServerError::Store`] if
    /// the keyring cannot be read or written.
    pub fn open(state_dir: &Path, keyring: Option<Keyring>) -> Result<Self, ServerError> {
        let folder = state_dir.join("tls");
        private_folder(&folder.join("nodes"))?;
        let shared = keyring.map(SharedKeys::open).transpose()?;
        let ca = keyed(&folder, shared.as_ref(), CA, &Subject::Authority, None)?;
        // The issuer's name and usages are constants, so that its certificate need not be parsed.
        let issuer = || Ok(Issuer::new(params(&Subject::Authority)?, KeyPair::from_pem(&ca.key_pem)?));
        let issuer =
            issuer().map_err(|source| ServerError::Certificate { subject: CA.to_owned(), source })?;
        let controller = keyed(&folder, shared.as_ref(), "controller", &Subject::Controller, Some(&issuer))?;
        Ok(Self { folder, shared, ca, issuer, controller, names: RwLock::new(HashMap::new()) })
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

    /// The certificate of a node, made on the first call; that of one that was admitted is there.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn node(&self, name: &str) -> Result<KeyedCertificate, ServerError> {
        let (keyed, der) = self.load(name)?;
        self.names.write().expect("no code panics under this lock").insert(der, name.to_owned());
        Ok(keyed)
    }

    fn load(&self, name: &str) -> Result<(KeyedCertificate, Vec<u8>), ServerError> {
        let keyed = keyed(
            &self.folder,
            self.shared.as_ref(),
            &format!("nodes/{name}"),
            &Subject::Node(name),
            Some(&self.issuer),
        )?;
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
        if let Some(shared) = &self.shared {
            shared.read_again()?;
        }
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
/// is, its key is as well. What the keyring holds is so, whatever the files say.
fn keyed(
    folder: &Path,
    shared: Option<&SharedKeys>,
    name: &str,
    subject: &Subject<'_>,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> Result<KeyedCertificate, ServerError> {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let kept = shared.and_then(|shared| shared.kept(name));
    let in_files = match (read_if_there(&cert)?, read_if_there(&key)?) {
        (Some(cert_pem), Some(key_pem)) => Some(KeyedCertificate { cert_pem, key_pem }),
        _ => None,
    };
    let is_new = kept.is_none();
    let usable = |_: &KeyedCertificate| shared.is_none_or(|shared| shared.takes_files);
    let keyed = match kept.or_else(|| in_files.clone().filter(usable)) {
        Some(keyed) => keyed,
        None => make(subject, issuer)
            .map_err(|source| ServerError::Certificate { subject: name.to_owned(), source })?,
    };
    if let Some(shared) = shared.filter(|_| is_new) {
        shared.keep(name, &keyed)?;
    }
    if in_files.as_ref() != Some(&keyed) {
        write_private(&key, &keyed.key_pem)?;
        write_private(&cert, &keyed.cert_pem)?;
    }
    Ok(keyed)
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
///
/// # Errors
/// [`ServerError::File`] if it cannot be made.
pub fn private_folder(path: &Path) -> Result<(), ServerError> {
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
        let first = Authority::open(folder.path(), None).unwrap();
        let node = first.node("node01").unwrap();
        assert_eq!(first.name_of(&der(&node)), Some("node01".to_owned()));
        let again = Authority::open(folder.path(), None).unwrap();
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
        let (here, there) =
            (Authority::open(here.path(), None).unwrap(), Authority::open(there.path(), None).unwrap());
        here.node("node01").unwrap();
        assert_eq!(here.name_of(&der(&there.node("node01").unwrap())), None);
    }
}
