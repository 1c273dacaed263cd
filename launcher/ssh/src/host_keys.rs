//! Which host keys are trusted.

use std::path::{Path, PathBuf};

use ssh_key::PublicKey;
use ssh2::{CheckResult, KnownHostFileKind, MethodType};

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

/// Which keys a host may present. There is no "any".
#[derive(Debug, Clone)]
pub enum HostKeys {
    /// The keys that a file in the form of `ssh_known_hosts` (sshd(8)) holds for the host's name or for
    /// `[name]:port`. Hashed names and `@revoked` are honoured; patterns and certificate authorities are not.
    KnownHostsFile(PathBuf),
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

    /// Asks the host for the kind of key that is known of it; otherwise a host with several keys might present
    /// another one than the known one.
    pub(crate) fn prefer(&self, session: &ssh2::Session, target: &SshTarget) -> Result<(), SshError> {
        let mut types = match self {
            Self::Exact(blob) => key_type(blob).into_iter().collect(),
            Self::KnownHostsFile(file) => known_types(&read(file)?, target),
        };
        if types.is_empty() {
            return Ok(());
        }
        types.extend(KEY_TYPES.iter().map(|name| (*name).to_owned()));
        let mut seen = Vec::new();
        types.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
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
        let host = target.host.clone();
        match self {
            Self::Exact(expected) if expected == presented => Ok(()),
            Self::Exact(expected) => Err(SshError::HostKeyChanged {
                host,
                expected: fingerprint(expected),
                fingerprint: fingerprint(presented),
            }),
            Self::KnownHostsFile(file) => verify_by_file(session, target, file, presented),
        }
    }
}

fn verify_by_file(
    session: &ssh2::Session,
    target: &SshTarget,
    file: &Path,
    presented: &[u8],
) -> Result<(), SshError> {
    let text = read(file)?;
    let (host, fingerprint) = (target.host.clone(), fingerprint(presented));
    if revoked(&text).any(|blob| blob == presented) {
        return Err(SshError::HostKeyRevoked { host, file: file.to_owned(), fingerprint });
    }
    let mut known = session.known_hosts().map_err(|source| SshError::Session {
        target: Box::new(target.clone()),
        doing: "prepared the check of the host's key",
        source: source.into(),
    })?;
    for line in text.lines().filter(|line| !line.starts_with(['#', '@']) && !line.trim().is_empty()) {
        // A line that libssh2 cannot read makes no host known, so it can only lead to a refusal.
        let _unreadable = known.read_str(line, KnownHostFileKind::OpenSSH);
    }
    match known.check_port(&host, target.port, presented) {
        CheckResult::Match => Ok(()),
        CheckResult::Mismatch => Err(SshError::HostKeyChanged {
            host,
            expected: format!("another key, from {},", file.display()),
            fingerprint,
        }),
        CheckResult::NotFound | CheckResult::Failure => {
            Err(SshError::HostKeyUnknown { host, file: file.to_owned(), fingerprint })
        }
    }
}

fn read(file: &Path) -> Result<String, SshError> {
    std::fs::read_to_string(file).map_err(|source| SshError::KnownHosts { file: file.to_owned(), source })
}

/// `SHA256:...`, as `ssh-keygen -l` prints it.
fn fingerprint(blob: &[u8]) -> String {
    match PublicKey::from_bytes(blob) {
        Ok(key) => key.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        Err(_) => "a key of unknown form".to_owned(),
    }
}

/// The name at the start of a key's wire form, as the name of the signature algorithm to ask for.
fn key_type(blob: &[u8]) -> Option<String> {
    let key = PublicKey::from_bytes(blob).ok()?;
    Some(signature_name(key.algorithm().as_str()))
}

/// RSA keys sign with SHA-2 only; the key's own name would ask for SHA-1.
fn signature_name(key_type: &str) -> String {
    if key_type == "ssh-rsa" { "rsa-sha2-512".to_owned() } else { key_type.to_owned() }
}

/// The types of the keys that stand behind the host's plain name in the file.
fn known_types(text: &str, target: &SshTarget) -> Vec<String> {
    let with_port = format!("[{}]:{}", target.host, target.port);
    text.lines()
        .filter(|line| !line.starts_with(['#', '@']))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (names, key_type) = (words.next()?, words.next()?);
            names
                .split(',')
                .any(|name| name == target.host || name == with_port)
                .then(|| signature_name(key_type))
        })
        .collect()
}

/// The keys of the lines that begin with `@revoked`, for whichever host.
fn revoked(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines().filter_map(|line| {
        let rest = line.strip_prefix("@revoked")?;
        let (_hosts, key) = rest.trim_start().split_once(char::is_whitespace)?;
        PublicKey::from_openssh(key.trim()).ok()?.to_bytes().ok()
    })
}
