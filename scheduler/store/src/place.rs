//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::postgres::Server;

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file of SQLite's.
    Sqlite(PathBuf),
    /// In a database of a PostgreSQL server.
    Postgres(Server),
}

impl Place {
    /// What may be the matter where there is no journal.
    pub(crate) fn none_there(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "is `state_dir` under [controller] the right folder?",
            Self::Postgres(_) => {
                "is `store` under [controller] the right database? No controller has led there yet"
            }
        }
    }

    /// The way back to what was stored.
    pub(crate) fn restore(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "restore the state directory from a backup",
            Self::Postgres(_) => "restore the database from a backup with PostgreSQL's own tools",
        }
    }

    /// What can be done about damage, as whole sentences.
    pub(crate) fn ways_out(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => {
                "Restore the state directory from a backup; or `musterd store check` says what is left, and \
                 `musterd store repair` what it would give up"
            }
            Self::Postgres(_) => {
                "Restore the database from a backup with PostgreSQL's own tools; `musterd store check` says what is \
                 left"
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

impl From<&Self> for Place {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Server> for Place {
    fn from(server: &Server) -> Self {
        Self::Postgres(server.clone())
    }
}
