//! What files in the form of `ssh_known_hosts` (sshd(8)) say about a host.

use std::path::{Path, PathBuf};

use ring::hmac;
use ssh_key::PublicKey;
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};

use crate::{SshError, SshTarget};

/// The keys that count for one host, each with the file that it was found in.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Keys of the host itself.
    pub keys: Vec<(PathBuf, PublicKey)>,
    /// Keys of authorities (`@cert-authority`) whose certificates the host may present.
    pub authorities: Vec<(PathBuf, PublicKey)>,
    /// Keys that are marked `@revoked`, for whichever host.
    pub revoked: Vec<(PathBuf, PublicKey)>,
}

impl Known {
    /// Reads what the files say about a host. Lines that are no entries make no host known, and are passed over.
    ///
    /// # Errors
    ///
    /// [`SshError::KnownHosts`] if a file cannot be read.
    pub(crate) fn read(files: &[PathBuf], target: &SshTarget) -> Result<Self, SshError> {
        let mut known = Self::default();
        for file in files {
            let text = std::fs::read_to_string(file)
                .map_err(|source| SshError::KnownHosts { file: file.clone(), source })?;
            known.add(file, &text, target);
        }
        Ok(known)
    }

    fn add(&mut self, file: &Path, text: &str, target: &SshTarget) {
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            // The parser wants exactly one blank between fields.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let Ok(entry) = line.parse::<Entry>() else { continue };
            let list = match entry.marker() {
                Some(Marker::Revoked) => &mut self.revoked,
                _ if !is_for(entry.host_patterns(), target) => continue,
                Some(Marker::CertAuthority) => &mut self.authorities,
                None => &mut self.keys,
            };
            list.push((file.to_owned(), entry.public_key().clone()));
        }
    }
}

/// Whether an entry names the host, as `name` or as `[name]:port`.
fn is_for(patterns: &HostPatterns, target: &SshTarget) -> bool {
    let host = target.host.to_ascii_lowercase();
    let with_port = format!("[{host}]:{}", target.port);
    let names = [host.as_str(), with_port.as_str()];
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            names.iter().any(|name| hmac::verify(&key, name.as_bytes(), hash).is_ok())
        }
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                let (negated, pattern) = match pattern.strip_prefix('!') {
                    Some(pattern) => (true, pattern),
                    None => (false, pattern.as_str()),
                };
                let pattern = pattern.to_ascii_lowercase();
                if names.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes())) {
                    if negated {
                        return false;
                    }
                    found = true;
                }
            }
            found
        }
    }
}

/// Whether a pattern with `*` and `?` matches a whole name. The time is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                in_name = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUPdCAeQRd0DQMgMEiOADjaF0QaWqzTXhQZHn8SXZ8i";

    fn target(host: &str, port: u16) -> SshTarget {
        SshTarget { host: host.to_owned(), addr: crate::HostAddr::of(host), port, user: "root".to_owned() }
    }

    fn counts(text: &str, host: &str, port: u16) -> (usize, usize, usize) {
        let mut known = Known::default();
        known.add(Path::new("known_hosts"), text, &target(host, port));
        (known.keys.len(), known.authorities.len(), known.revoked.len())
    }

    #[test]
    fn names_patterns_and_ports() {
        for (names, host, port, found) in [
            ("n1", "n1", 22, true),
            ("n1", "N1", 22, true),
            ("n1", "n12", 22, false),
            ("n2,n1", "n1", 22, true),
            ("[n1]:2222", "n1", 2222, true),
            ("[n1]:2222", "n1", 22, false),
            ("n1", "n1", 2222, true),
            ("n?", "n1", 22, true),
            ("n*", "n1.example.org", 22, true),
            ("*.example.org", "n1.example.org", 22, true),
            ("*.example.org", "example.org", 22, false),
            ("*", "n1", 2222, true),
            ("[n*]:2222", "n1", 2222, true),
            ("n*,!n1", "n1", 22, false),
            ("!n2,n*", "n1", 22, true),
            ("!n2", "n1", 22, false),
        ] {
            assert_eq!(
                counts(&format!("{names} {KEY}\n"), host, port).0 == 1,
                found,
                "{names} {host} {port}"
            );
        }
    }

    #[test]
    fn hashed_names_are_found() {
        // Made by `ssh-keygen -H`.
        let made = "|1|krRKlXB0sdEAWtoPMsBfPerKcYQ=|Ay3Mv5/Zky17MVzno9MafpCEHdM=";
        assert_eq!(counts(&format!("{made} {KEY}\n"), "node01", 22), (1, 0, 0));
        assert_eq!(counts(&format!("{made} {KEY}\n"), "stranger", 22), (0, 0, 0));
        let salted = |name: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"0123456789abcdefghij");
            let mut hash = [0; 20];
            hash.copy_from_slice(hmac::sign(&key, name.as_bytes()).as_ref());
            HostPatterns::HashedName { salt: b"0123456789abcdefghij".to_vec(), hash }
        };
        assert!(is_for(&salted("node01"), &target("node01", 22)));
        assert!(is_for(&salted("[node01]:2222"), &target("node01", 2222)));
        assert!(!is_for(&salted("[node01]:2222"), &target("node01", 22)));
        assert!(!is_for(&salted("node02"), &target("node01", 22)));
    }

    #[test]
    fn marks_and_lines_that_are_no_entries() {
        let text = format!(
            "# n1 {KEY}\n\nn1\nn1 nonsense\n@cert-authority\t*  {KEY} the site\n@revoked other {KEY}\n@bogus n1 {KEY}\n"
        );
        assert_eq!(counts(&text, "n1", 22), (0, 1, 1));
    }

    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        let pattern = "*a".repeat(200);
        assert!(!matches(pattern.as_bytes(), "a".repeat(199).as_bytes()));
        assert!(matches(pattern.as_bytes(), "a".repeat(300).as_bytes()));
    }
}
