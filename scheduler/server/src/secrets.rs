//! Secrets of attempts. They are derived from the cluster's secret and the attempt's key, so that a controller
//! that was restarted in the middle of a gang's preparation says the same ones again, and none is ever stored.

use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex};
use ring::hmac;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

/// Derives secrets of attempts.
#[derive(Debug, Clone)]
pub struct Secrets {
    key: hmac::Key,
}

/// A key pair in OpenSSH's formats; both empty where there is none.
#[derive(Default)]
pub(crate) struct SshKeys {
    /// One line.
    pub public: String,
    /// A whole file.
    pub private: String,
}

/// How tokens of tasks of the batch service begin.
const TOKEN_PREFIX: &str = "muster-task.";

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
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
        hex(&self.derive("gang", key))
    }

    /// By what a task of the batch service shows that it is this attempt.
    pub(crate) fn batch_token(&self, key: AttemptKey) -> String {
        let AttemptKey { task, attempt } = key;
        let tag = hex(&self.derive("batch", key));
        format!("{TOKEN_PREFIX}{}.{}.{attempt}.{tag}", task.job.0, task.index.0)
    }

    /// The attempt that a token was made for. Whether that still lives is not looked at here.
    pub(crate) fn batch_token_of(&self, token: &str) -> Option<AttemptKey> {
        let mut parts = token.strip_prefix(TOKEN_PREFIX)?.split('.');
        let (job, index) = (JobId(parts.next()?.parse().ok()?), TaskIndex(parts.next()?.parse().ok()?));
        let (attempt, tag) = (parts.next()?.parse().ok()?, unhex(parts.next()?)?);
        let key = AttemptKey { task: TaskId { job, index }, attempt };
        let is_ours = hmac::verify(&self.key, format!("batch {key}").as_bytes(), &tag).is_ok();
        (is_ours && parts.next().is_none()).then_some(key)
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
        let token = one.batch_token(key(1));
        assert_eq!(same.batch_token_of(&token), Some(key(1)));
        assert_eq!(other.batch_token_of(&token), None);
        let tag = token.rsplit('.').next().unwrap();
        let another = token.replace("1.0.1.", "1.0.2.");
        for forged in [another, format!("{token}."), token.replace(tag, "é0"), "x".to_owned()] {
            assert_eq!(one.batch_token_of(&forged), None, "{forged}");
        }
        let private = PrivateKey::from_openssh(&a.private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), a.public);
    }
}
