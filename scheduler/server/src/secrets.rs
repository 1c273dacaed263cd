//! Secrets of attempts. They are derived from the cluster's secret and the attempt's key, so that a controller
//! that was restarted in the middle of a gang's preparation says the same ones again, and none is ever stored.

use std::fmt::Write as _;

use muster_core::ids::AttemptKey;
use ring::hmac;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

/// Derives secrets of attempts.
#[derive(Debug, Clone)]
pub struct Secrets {
    key: hmac::Key,
}

/// A key pair in OpenSSH's formats.
pub(crate) struct SshKeys {
    /// One line.
    pub public: String,
    /// A whole file.
    pub private: String,
}

impl Secrets {
    /// Derives from the cluster's secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    fn derive(&self, purpose: &str, key: AttemptKey) -> [u8; 32] {
        let tag = hmac::sign(&self.key, format!("{purpose} {key}").as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA-256 makes 32 bytes")
    }

    /// What the instances of an attempt know each other by.
    pub(crate) fn gang_token(&self, key: AttemptKey) -> String {
        self.derive("gang", key).iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The key pair that may start processes of an attempt on its nodes.
    pub(crate) fn ssh_keys(&self, key: AttemptKey) -> SshKeys {
        let pair = Ed25519Keypair::from_seed(&self.derive("ssh", key));
        let private = PrivateKey::new(KeypairData::from(pair), format!("muster {key}"))
            .expect("an unencrypted pair of keys has no part that can fail");
        let public = private.public_key().to_openssh().expect("a comment of plain letters can be encoded");
        let private = private.to_openssh(LineEnding::LF).expect("an Ed25519 key can be encoded");
        SshKeys { public, private: private.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::ids::{JobId, TaskId, TaskIndex};

    use super::*;

    fn key(attempt: u32) -> AttemptKey {
        AttemptKey { task: TaskId { job: JobId(1), index: TaskIndex(0) }, attempt }
    }

    #[test]
    fn secrets_are_the_same_again_and_different_for_each_attempt_and_cluster() {
        let (one, same, other) = (Secrets::new(&[1; 32]), Secrets::new(&[1; 32]), Secrets::new(&[2; 32]));
        assert_eq!(one.gang_token(key(1)), same.gang_token(key(1)));
        assert_ne!(one.gang_token(key(1)), one.gang_token(key(2)));
        assert_ne!(one.gang_token(key(1)), other.gang_token(key(1)));
        let (a, b) = (one.ssh_keys(key(1)), same.ssh_keys(key(1)));
        assert_eq!((&a.public, &a.private), (&b.public, &b.private));
        assert_ne!(a.public, one.ssh_keys(key(2)).public);
        let private = PrivateKey::from_openssh(&a.private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), a.public);
    }
}
