//! Accounts and their keys.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Fewest bytes of a key.
const KEY_BYTES_MIN: usize = 16;

/// A key of an account. It is never shown.
#[derive(Clone)]
pub struct AccountKey(Hmac<Sha256>);

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

/// Why a text is no key. It never says the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key is base64 of at least {KEY_BYTES_MIN} bytes: make one with `head -c 64 /dev/urandom | base64 -w0`"
)]
pub struct BadKey;

impl AccountKey {
    /// Reads a key: base64, white space around it does not count.
    ///
    /// # Errors
    /// If it is not base64, or shorter than 16 bytes.
    pub fn from_base64(text: &str) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| BadKey)?;
        if bytes.len() < KEY_BYTES_MIN {
            return Err(BadKey);
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| BadKey)
    }

    /// The signature of a text, in base64.
    pub(crate) fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.0.clone().chain_update(text.as_bytes()).finalize().into_bytes())
    }

    /// Whether this key made `signature`, in base64, over one of these texts; how long that takes does not depend on how
    /// much of it is right.
    pub(crate) fn made(&self, signature: &str, texts: &[String]) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        texts.iter().any(|text| self.0.clone().chain_update(text.as_bytes()).verify_slice(&signature).is_ok())
    }
}

/// The accounts that the store serves, with the keys of each.
pub type Accounts = HashMap<String, Vec<AccountKey>>;
