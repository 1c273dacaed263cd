//! Licences, as the API tells them. The words are those of [`crate::api`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::ClientError;

/// All licences that the configuration declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// By name.
    pub licenses: Vec<LicenseView>,
}

/// A kind of licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseView {
    /// Its name.
    pub name: String,
    /// How many there are.
    pub total: u32,
    /// How many running tasks hold: more than there are, if their number was lowered since.
    pub held: u64,
}

/// Licences as options and listings write them: `ansys:1,matlab:2`.
#[must_use]
pub fn format_licenses(licenses: &BTreeMap<String, u32>) -> String {
    let parts: Vec<String> = licenses.iter().map(|(name, count)| format!("{name}:{count}")).collect();
    parts.join(",")
}

impl Client {
    /// Lists the licences.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn licenses(&mut self) -> Result<LicenseList, ClientError> {
        self.get("/v1/licenses".to_owned())
    }
}
