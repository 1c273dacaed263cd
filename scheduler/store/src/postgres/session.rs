//! One connection.

use std::collections::HashMap;
use std::fmt;

use postgres::error::SqlState;
use postgres::{Client, Statement};

use super::server::Server;
use crate::error::StoreError;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To stand by, and to take over.
    Standby,
    /// To write under the lease of this term.
    Lead(u64),
    /// To read.
    Read,
}

impl Purpose {
    /// What the server calls the connection: whoever takes over ends all those of the term that is over.
    pub fn name(self) -> String {
        match self {
            Self::Standby => "musterd, standing by".to_owned(),
            Self::Lead(term) => format!("musterd, leading in term {term}"),
            Self::Read => "musterd, reading".to_owned(),
        }
    }
}

/// A connection with its prepared statements.
pub(crate) struct Session {
    /// None only while it is dropped.
    client: Option<Box<Client>>,
    statements: HashMap<&'static str, Statement>,
    /// The server's process behind it.
    pub process: i32,
}

impl Session {
    /// Connects.
    pub fn open(server: &Server, purpose: Purpose) -> Result<Self, postgres::Error> {
        let mut client = server.client(&purpose.name())?;
        // A writer that falls silent inside of a transaction must not keep the row of the leader locked.
        client.batch_execute(match purpose {
            Purpose::Read => "SET default_transaction_read_only = on",
            Purpose::Standby | Purpose::Lead(_) => {
                "SET synchronous_commit = on; SET lock_timeout = '2s'; \
                 SET idle_in_transaction_session_timeout = '4s'"
            }
        })?;
        let process = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        Ok(Self { client: Some(Box::new(client)), statements: HashMap::new(), process })
    }

    /// The connection.
    pub fn client(&mut self) -> &mut Client {
        self.client.as_deref_mut().expect("it is only taken when the session is dropped")
    }

    /// A statement, prepared on its first use.
    pub fn statement(&mut self, sql: &'static str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client().prepare(sql)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Whether another connection may succeed where this one failed.
    pub fn is_broken(&mut self, error: &postgres::Error) -> bool {
        self.client().is_closed() || is_of_connection(error)
    }
}

fn is_of_connection(error: &postgres::Error) -> bool {
    let Some(code) = error.code() else {
        let cause = std::error::Error::source(error);
        return error.is_closed() || cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    };
    let ended = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    // Class 08 is that of connections.
    ended.contains(code) || code.code().starts_with("08")
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        // Closing waits for the server, which threads that serve others must not do.
        if std::thread::panicking() {
            std::mem::forget(client);
        } else {
            let _ = std::thread::Builder::new().name("close".to_owned()).spawn(move || drop(client));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.process)
    }
}

/// Says what was being done when the server, or the connection to it, failed.
pub(crate) fn failed(server: &Server, doing: &'static str) -> impl Fn(postgres::Error) -> StoreError {
    move |error| {
        let (place, code) = (server.into(), error.code());
        if code == Some(&SqlState::DISK_FULL) {
            return StoreError::Full { place };
        }
        let corrupt = [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED];
        if code.is_some_and(|code| corrupt.contains(code)) {
            return StoreError::Corrupt { place, doing, source: error.into() };
        }
        StoreError::Database { place, doing, source: error.into() }
    }
}
