//! Which account of which service is asked, and by which key.
//!
//! Each of them is taken from the first place that says it: an option, a variable of the environment, the user's file. A key is
//! never an argument, because lists of processes show those; files that hold one must be their owner's alone.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use muster_batch::signature::SharedKey;
use serde::Deserialize;

use crate::error::{BatchClientError, Result};

/// Longest file with a key or settings, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// What the options say; the rest is in the environment and in the user's file.
#[derive(Debug, Clone, Default)]
pub struct AccountSource {
    /// The account.
    pub account: Option<String>,
    /// The service's address.
    pub endpoint: Option<String>,
    /// The file with the key.
    pub key_file: Option<PathBuf>,
    /// The file with the certificates that are trusted.
    pub ca_file: Option<PathBuf>,
}

/// An account of a service.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: SharedKey,
    /// The service's address, without a slash at its end.
    pub endpoint: String,
    /// The store's address as nodes know it, where it is another than the service's.
    pub store: Option<String>,
    /// The certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The user's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    account: Option<String>,
    endpoint: Option<String>,
    store: Option<String>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl AccountSource {
    /// Finds out account, address and key.
    ///
    /// # Errors
    /// What is missing, or cannot be read, or may be read by others.
    pub fn find(&self) -> Result<Account> {
        let config = settings_path();
        let settings = read_settings(&config)?;
        let missing = |what, option, variable, key| BatchClientError::NotSaid {
            what,
            option,
            variable,
            key,
            config: config.clone(),
        };
        let name = self.account.clone().or_else(|| variable("AZURE_BATCH_ACCOUNT")).or(settings.account);
        let name = name.ok_or_else(|| missing("account", "--account", "AZURE_BATCH_ACCOUNT", "account"))?;
        let endpoint = self.endpoint.clone().or_else(|| variable("AZURE_BATCH_ENDPOINT"));
        let endpoint = endpoint.or(settings.endpoint);
        let endpoint =
            endpoint.ok_or_else(|| missing("address", "--endpoint", "AZURE_BATCH_ENDPOINT", "endpoint"))?;
        let beside =
            |path: PathBuf| config.parent().map_or_else(|| path.clone(), |folder| folder.join(&path));
        let key = if let Some(file) = &self.key_file {
            key_of(file)?
        } else if let Some(file) = variable("AZURE_BATCH_KEY_FILE") {
            key_of(Path::new(&file))?
        } else if let Some(key) = variable("AZURE_BATCH_ACCESS_KEY") {
            read_key(&key, "AZURE_BATCH_ACCESS_KEY")?
        } else if let Some(file) = settings.key_file {
            key_of(&beside(file))?
        } else if let Some(key) = settings.key {
            read_key(&key, &config.display().to_string())?
        } else {
            return Err(missing("key", "--key-file", "AZURE_BATCH_KEY_FILE", "key_file"));
        };
        let ca_file = self.ca_file.clone().or_else(|| variable("AZURE_BATCH_CA_FILE").map(PathBuf::from));
        Ok(Account {
            name,
            key,
            endpoint: address(&endpoint)?,
            store: settings.store.as_deref().map(address).transpose()?,
            ca_file: ca_file.or_else(|| settings.ca_file.map(beside)),
        })
    }
}

/// Where the user's file is.
fn settings_path() -> PathBuf {
    if let Some(file) = variable("MUSTER_BATCH_CONFIG") {
        return file.into();
    }
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".config");
    variable("XDG_CONFIG_HOME").map_or_else(home, PathBuf::from).join("muster/batch.toml")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_settings(path: &Path) -> Result<Settings> {
    if !path.exists() {
        return Ok(Settings::default());
    }
    let text = read_secret(path)?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        // The message alone: the excerpt that the error has as well might hold the key.
        let problem = format!("line {line}: {}", error.message().replace('\n', ", "));
        BatchClientError::Config { path: path.to_owned(), problem }
    })
}

fn key_of(path: &Path) -> Result<SharedKey> {
    read_key(&read_secret(path)?, &path.display().to_string())
}

fn read_key(text: &str, place: &str) -> Result<SharedKey> {
    SharedKey::from_base64(text).map_err(|source| BatchClientError::Key { place: place.to_owned(), source })
}

fn read_secret(path: &Path) -> Result<String> {
    let data = std::fs::metadata(path).map_err(BatchClientError::file("read", path))?;
    if data.mode() & 0o077 != 0 {
        return Err(BatchClientError::Readable { path: path.to_owned() });
    }
    if data.len() > FILE_BYTES_MAX {
        let problem =
            format!("it has more than {FILE_BYTES_MAX} bytes, and is no file of settings or of a key");
        return Err(BatchClientError::Config { path: path.to_owned(), problem });
    }
    std::fs::read_to_string(path).map_err(BatchClientError::file("read", path))
}

fn address(text: &str) -> Result<String> {
    let trimmed = text.trim_end_matches('/');
    let bad = || BatchClientError::Address { address: text.to_owned() };
    let url = reqwest::Url::parse(trimmed).map_err(|_| bad())?;
    let is_plain =
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if is_plain && url.has_host() && url.username().is_empty() { Ok(trimmed.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        assert_eq!(address("http://head:8443/").unwrap(), "http://head:8443");
        for wrong in ["head:8443", "ftp://head", "http://", "https://head?sig=1", "http://a:b@head"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "bXVzdGVyIHRlc3RzIGl0cyBiYXRjaCBzZXJ2aWNl\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(key_of(&file), Err(BatchClientError::Readable { .. })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        key_of(&file).unwrap();
        std::fs::write(&file, "not a key").unwrap();
        let said = key_of(&file).unwrap_err().to_string();
        assert!(said.contains("base64") && !said.contains("not a key"), "{said}");
    }

    #[test]
    fn an_error_in_the_settings_shows_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("batch.toml");
        std::fs::write(&file, "account = \"lab\"\nkee = \"c2VjcmV0\"\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let said = read_settings(&file).unwrap_err().to_string();
        assert!(said.contains("line 2") && said.contains("kee") && !said.contains("c2VjcmV0"), "{said}");
    }
}
