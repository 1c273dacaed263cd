//! The keys of accounts, and the users whom they are bound to.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use muster_batch::signature::SharedKey;
use muster_config::BatchConfig;
use muster_core::batch::BatchCaller;
use muster_core::spec::User;

use crate::error::ServerError;

/// Longest file of a key, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 16 << 10;

/// A key with the user whom it is bound to.
type Key = (Arc<User>, SharedKey);

/// The keys of all accounts.
#[derive(Debug, Default)]
pub struct Accounts(HashMap<Arc<str>, Vec<Key>>);

impl Accounts {
    /// Reads the keys. Blocks for as long as the disk and the system's user database take.
    ///
    /// # Errors
    /// [`ServerError`] if a key is not one, may be read by others, or is of a user who is not there or may not run work.
    pub fn load(config: &BatchConfig) -> Result<Self, ServerError> {
        let mut accounts: HashMap<Arc<str>, Vec<Key>> = HashMap::new();
        for key in &config.keys {
            let bad = |why: String| ServerError::BatchKey { account: key.account.clone(), why };
            let found = nix::unistd::User::from_name(&key.user).ok().flatten();
            let user = found.ok_or_else(|| bad(format!("there is no user '{}' on this host", key.user)))?;
            if user.uid.is_root() {
                return Err(bad("root runs no work: bind the key to an ordinary user".to_owned()));
            }
            let user = User { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() };
            let secret = SharedKey::from_base64(&read(&key.key_file)?)
                .map_err(|error| bad(format!("{}: {error}", key.key_file.display())))?;
            accounts.entry(key.account.as_str().into()).or_default().push((Arc::new(user), secret));
        }
        Ok(Self(accounts))
    }

    /// The keys alone, for the embedded store: all keys of an account reach all that the account has in it.
    #[must_use]
    pub fn shared_keys(&self) -> muster_blobs::Accounts {
        let keys = |keys: &[Key]| keys.iter().map(|(_, key)| key.clone()).collect();
        self.0.iter().map(|(account, all)| (account.to_string(), keys(all))).collect()
    }

    /// The keys of an account.
    pub(super) fn keys(
        &self,
        account: &str,
    ) -> (Option<Arc<str>>, impl Iterator<Item = (Arc<User>, &SharedKey)>) {
        let found = self.0.get_key_value(account);
        let keys =
            found.into_iter().flat_map(|(_, keys)| keys.iter().map(|(user, key)| (Arc::clone(user), key)));
        (found.map(|(name, _)| Arc::clone(name)), keys)
    }
}

/// Reads a file with a secret.
///
/// # Errors
/// [`ServerError::File`] if it cannot be read, is too long to be a key, or others may read it.
pub(super) fn read(path: &Path) -> Result<String, ServerError> {
    let file = |doing| ServerError::file(doing, path);
    let data = std::fs::metadata(path).map_err(file("read the key"))?;
    if data.mode() & 0o077 != 0 {
        let why = std::io::Error::other("others may read it; say chmod 600");
        return Err(file("trust the key")(why));
    }
    if data.len() > KEY_FILE_BYTES_MAX {
        return Err(file("read the key")(std::io::Error::other("it is too long to be one")));
    }
    std::fs::read_to_string(path).map_err(file("read the key"))
}

/// Who asks.
pub(super) fn caller(account: Arc<str>, user: &User) -> BatchCaller {
    BatchCaller { account, user: user.clone() }
}
