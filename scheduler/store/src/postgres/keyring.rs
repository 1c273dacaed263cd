//! The certificates and keys of controllers and nodes, which every controller that may lead needs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::journal::fence;
use super::lease::Lease;
use super::session::Session;
use crate::error::StoreError;

/// Keeps certificates with their keys, under the lease of the leader.
#[derive(Debug)]
pub struct Keyring {
    lease: Lease,
    session: Mutex<Option<Session>>,
}

impl Keyring {
    /// The keyring of the database in which the lease was taken.
    #[must_use]
    pub fn new(lease: &Lease) -> Self {
        Self { lease: lease.clone(), session: Mutex::new(None) }
    }

    /// All certificates with their keys, by their names.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they cannot be read.
    pub fn all(&self) -> Result<HashMap<String, (String, String)>, StoreError> {
        self.with("read the certificates", |session| {
            let rows = session.client().query("SELECT name, cert_pem, key_pem FROM keyring", &[])?;
            Ok(Some(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()))
        })
    }

    /// Keeps a certificate with its key, for a name that has none.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] if this controller leads no longer, [`StoreError::Database`] if it cannot be stored.
    pub fn put(&self, name: &str, cert_pem: &str, key_pem: &str) -> Result<(), StoreError> {
        self.with("store a certificate", |session| {
            let mut transaction = session.client().transaction()?;
            let sql = "INSERT INTO keyring (name, cert_pem, key_pem) VALUES ($1, $2, $3)";
            transaction.execute(sql, &[&name, &cert_pem, &key_pem])?;
            if !fence(&mut transaction, &self.lease)? {
                return Ok(None);
            }
            transaction.commit()?;
            Ok(Some(()))
        })
    }

    /// Works in a connection, which is given up if it fails. None says that this controller leads no longer.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Session) -> Result<Option<T>, postgres::Error>,
    ) -> Result<T, StoreError> {
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = match place.take() {
            Some(session) => session,
            None => self.lease.connect_again()?,
        };
        let worked = work(&mut session).map_err(self.lease.failed(doing))?;
        *place = Some(session);
        worked.ok_or_else(|| self.lease.deposed())
    }
}
