//! Which host keys are trusted.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;
use ssh_key::{Certificate, HashAlg, PublicKey};
use ssh2::MethodType;

use crate::certificate::{self, SignatureProblem};
use crate::known_hosts::Known;
use crate::{SshError, SshTarget};

/// Host key types in the order in which they are asked for when nothing is known beforehand.
const KEY_TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The same for certificates of hosts.
const CERTIFICATE_TYPES: [&str; 6] = [
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
];

/// Which keys a host may present. There is no "any".
#[derive(Debug, Clone)]
pub enum HostKeys {
    /// The keys that files in the form of `ssh_known_hosts` (sshd(8)) hold for the host's name or for
    /// `[name]:port`. Hashed names, patterns, `@revoked` and `@cert-authority` are honoured.
    KnownHostsFiles(Vec<PathBuf>),
    /// Exactly this key, as the bytes of its SSH wire form (what is base64 in `ssh-ed25519 AAAA...`).
    Exact(Vec<u8>),
}

impl HostKeys {
    /// Exactly the key of a line such as `ssh-ed25519 AAAA... comment`.
    ///
    /// # Errors
    ///
    /// [`SshError::HostKeyLine`] if the line is no public key.
    pub fn from_openssh_line(line: &str) -> Result<Self, SshError> {
        let wrong = |source| SshError::HostKeyLine { line: line.to_owned(), source };
        let key = PublicKey::from_openssh(line.trim()).map_err(wrong)?;
        Ok(Self::Exact(key.to_bytes().map_err(wrong)?))
    }

    /// Asks the host for the kind of key that is known of it; otherwise a host with several keys, or with a
    /// certificate as well, might present another one than the known one.
    pub(crate) fn prefer(&self, session: &ssh2::Session, target: &SshTarget) -> Result<(), SshError> {
        let types = match self {
            Self::Exact(blob) => key_types(PublicKey::from_bytes(blob).ok().iter()),
            Self::KnownHostsFiles(files) => {
                let known = Known::read(files, target)?;
                let mut types = key_types(known.keys.iter().map(|(_, key)| key));
                if !known.authorities.is_empty() {
                    types.splice(0..0, CERTIFICATE_TYPES.map(str::to_owned));
                }
                types
            }
        };
        session
            .method_pref(MethodType::HostKey, &types.join(","))
            .map_err(|source| SshError::Handshake { target: Box::new(target.clone()), source })
    }

    /// Compares the key that the host presented in the handshake.
    pub(crate) fn verify(&self, session: &ssh2::Session, target: &SshTarget) -> Result<(), SshError> {
        let (presented, _) = session.host_key().ok_or_else(|| SshError::Session {
            target: Box::new(target.clone()),
            doing: "asked for the host's key",
            source: std::io::Error::other("the host presented none"),
        })?;
        match self {
            Self::Exact(expected) if expected == presented => Ok(()),
            Self::Exact(expected) => Err(SshError::HostKeyChanged {
                host: target.host.clone(),
                expected: fingerprint(expected),
                fingerprint: fingerprint(presented),
            }),
            Self::KnownHostsFiles(files) => {
                verify_known(&Known::read(files, target)?, files, target, presented)
            }
        }
    }
}

fn verify_known(
    known: &Known,
    files: &[PathBuf],
    target: &SshTarget,
    presented: &[u8],
) -> Result<(), SshError> {
    let (host, print) = (target.host.clone(), fingerprint(presented));
    let certificate = Certificate::from_bytes(presented).ok();
    // A certificate is as good as the key in it and as the one that signed it.
    let involved: Vec<Vec<u8>> = match &certificate {
        Some(certificate) => [certificate.public_key(), certificate.signature_key()]
            .into_iter()
            .filter_map(|key| PublicKey::from(key.clone()).to_bytes().ok())
            .collect(),
        None => vec![presented.to_owned()],
    };
    let is_one_of = |key: &PublicKey| key.to_bytes().is_ok_and(|blob| involved.contains(&blob));
    if let Some((file, _)) = known.revoked.iter().find(|(_, key)| is_one_of(key)) {
        return Err(SshError::HostKeyRevoked { host, file: file.clone(), fingerprint: print });
    }
    if let Some(certificate) = certificate {
        return verify_certificate(presented, &certificate, known, &target.host).map_err(|reason| {
            SshError::HostCertificate { host, key_id: certificate.key_id().to_owned(), reason }
        });
    }
    if known.keys.iter().any(|(_, key)| is_one_of(key)) {
        return Ok(());
    }
    match (known.keys.first(), known.authorities.first()) {
        (Some((file, _)), _) => Err(SshError::HostKeyChanged {
            host,
            expected: format!("another key, from {},", file.display()),
            fingerprint: print,
        }),
        (None, Some((file, _))) => {
            Err(SshError::HostKeyUncertified { host, file: file.clone(), fingerprint: print })
        }
        (None, None) => Err(SshError::HostKeyUnknown { host, files: files.to_vec(), fingerprint: print }),
    }
}

/// What is wrong with a host's certificate, if anything is.
fn verify_certificate(
    presented: &[u8],
    certificate: &Certificate,
    known: &Known,
    host: &str,
) -> Result<(), String> {
    let signer = certificate.signature_key().fingerprint(HashAlg::Sha256);
    if !known.authorities.iter().any(|(_, key)| key.fingerprint(HashAlg::Sha256) == signer) {
        return Err(format!("it is signed by {signer}, which no @cert-authority of this host is"));
    }
    if certificate.cert_type() != CertType::Host {
        return Err("it is a user's and not a host's".to_owned());
    }
    if !certificate.valid_principals().iter().any(|name| name.eq_ignore_ascii_case(host)) {
        let names = certificate.valid_principals().join(", ");
        return Err(format!("it is for the hosts [{names}]"));
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Err(format!("it has the critical option {option}, which means nothing here"));
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !(certificate.valid_after()..certificate.valid_before()).contains(&now_s) {
        return Err("it is not valid at this time".to_owned());
    }
    certificate::check(presented, certificate).map_err(|problem| match problem {
        SignatureProblem::Wrong => format!("the signature of {signer} is wrong"),
        SignatureProblem::Unsupported => format!(
            "the signature of {signer} is of a kind that is not known here: authorities have keys of the kinds Ed25519, \
             RSA (2,048 bits or more, signed with rsa-sha2-256 or rsa-sha2-512), and ECDSA on P-256 and P-384"
        ),
    })
}

/// `SHA256:...`, as `ssh-keygen -l` prints it; of a certificate, that of the key in it.
fn fingerprint(blob: &[u8]) -> String {
    match (PublicKey::from_bytes(blob), Certificate::from_bytes(blob)) {
        (Ok(key), _) => key.fingerprint(HashAlg::Sha256).to_string(),
        (_, Ok(certificate)) => certificate.public_key().fingerprint(HashAlg::Sha256).to_string(),
        _ => "a key of unknown form".to_owned(),
    }
}

/// The signature algorithms to ask for: those of the known keys first, then all others of plain keys.
fn key_types<'a>(known: impl Iterator<Item = &'a PublicKey>) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    let known = known.map(|key| signature_name(key.algorithm().as_str()));
    for name in known.chain(KEY_TYPES.map(str::to_owned)) {
        if !types.contains(&name) {
            types.push(name);
        }
    }
    types
}

/// RSA keys sign with SHA-2 only; the key's own name would ask for SHA-1.
fn signature_name(key_type: &str) -> String {
    if key_type == "ssh-rsa" { "rsa-sha2-512".to_owned() } else { key_type.to_owned() }
}
