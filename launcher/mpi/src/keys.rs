//! Key pairs that live as long as an attempt.

use rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::MpiError;

/// A fresh Ed25519 key pair in OpenSSH's forms: for a node's endpoint, or to enter the endpoints.
#[derive(Clone)]
pub struct AttemptKeys {
    /// The private key, as the text of a key file without passphrase.
    pub private_openssh: String,
    /// The public key as one line, `ssh-ed25519 AAAA...`, without a comment and without an end of line.
    pub public_line: String,
}

impl AttemptKeys {
    /// Draws a key pair from the system's random numbers.
    ///
    /// # Errors
    ///
    /// [`MpiError::Keys`] if the key cannot be written down.
    pub fn generate() -> Result<Self, MpiError> {
        let keys = |source| MpiError::Keys { source };
        let private = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(keys)?;
        Ok(Self {
            private_openssh: private.to_openssh(LineEnding::LF).map_err(keys)?.to_string(),
            public_line: private.public_key().to_openssh().map_err(keys)?.trim().to_owned(),
        })
    }
}
