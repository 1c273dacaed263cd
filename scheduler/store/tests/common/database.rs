//! Databases of both kinds, so that the same tests run over both.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use muster_store::{Candidacy, Candidate, Lease, Place, Recovered, Server, ServerOptions, Store, StoreError};
use muster_test_postgres::PostgresServer;

/// Makes databases of one kind.
pub enum Databases {
    Sqlite,
    Postgres { server: Box<PostgresServer>, made: Cell<u32> },
}

impl Databases {
    pub fn sqlite() -> Self {
        Self::Sqlite
    }

    pub fn postgres() -> Self {
        Self::Postgres { server: Box::new(PostgresServer::start().unwrap()), made: Cell::new(0) }
    }

    pub fn fresh(&self) -> Database {
        match self {
            Self::Sqlite => Database::Sqlite(tempfile::tempdir().unwrap()),
            Self::Postgres { server, made } => {
                made.set(made.get() + 1);
                let url = server.database(&format!("d{}", made.get())).unwrap();
                Database::Postgres { url, lease: RefCell::default() }
            }
        }
    }
}

/// A database that nobody uses but the test.
pub enum Database {
    Sqlite(tempfile::TempDir),
    Postgres { url: String, lease: RefCell<Option<Lease>> },
}

pub fn server(url: &str) -> Server {
    let options = ServerOptions { url: url.to_owned(), password_file: None, ca_file: None };
    Server::new(&options).unwrap()
}

/// Takes the lead, which nobody may hold.
pub fn lead(server: &Server) -> Lease {
    leads(try_to_lead(server).unwrap())
}

fn leads(candidacy: Candidacy) -> Lease {
    match candidacy {
        Candidacy::Leads(lease) => lease,
        Candidacy::Follows(leader) => panic!("{leader:?} leads"),
    }
}

pub fn try_to_lead(server: &Server) -> Result<Candidacy, StoreError> {
    Candidate::new(server, "test".to_owned(), "localhost:1".to_owned()).stand()
}

impl Database {
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("muster.db"),
            Self::Postgres { .. } => panic!("not in a file"),
        }
    }

    pub fn place(&self) -> Place {
        match self {
            Self::Sqlite(_) => (&self.path()).into(),
            Self::Postgres { url, .. } => (&server(url)).into(),
        }
    }

    /// What names it to another process.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(_) => self.path().to_str().unwrap().to_owned(),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// The database that another process was told of.
    pub fn open_named(name: &str) -> (Store, Recovered) {
        if name.starts_with("postgresql:") {
            Store::lead(&lead(&server(name))).unwrap()
        } else {
            Store::open(name.as_ref()).unwrap()
        }
    }

    /// Opens it; who had it open before must have let go of it, or have been killed.
    pub fn open(&self) -> Result<(Store, Recovered), StoreError> {
        match self {
            Self::Sqlite(_) => Store::open(&self.path()),
            Self::Postgres { url, lease } => {
                if let Some(before) = lease.borrow_mut().take() {
                    before.release();
                }
                let led = leads(try_to_lead(&server(url))?);
                *lease.borrow_mut() = Some(led.clone());
                Store::lead(&led)
            }
        }
    }

    /// Lets the lease of a killed process run out.
    pub fn expire(&self) {
        if let Self::Postgres { .. } = self {
            self.sql("UPDATE leader SET expires_at = 'epoch'");
        }
    }

    /// Changes something.
    pub fn sql(&self, statement: &str) {
        assert_ne!(self.execute(statement), 0, "{statement}");
    }

    /// Gives how many rows were changed.
    pub fn execute(&self, statement: &str) -> u64 {
        match self {
            Self::Sqlite(_) => {
                rusqlite::Connection::open(self.path()).unwrap().execute(statement, []).unwrap() as u64
            }
            Self::Postgres { url, .. } => {
                postgres::Client::connect(url, postgres::NoTls).unwrap().execute(statement, &[]).unwrap()
            }
        }
    }

    pub fn number(&self, query: &str) -> i64 {
        match self {
            Self::Sqlite(_) => {
                let connection = rusqlite::Connection::open(self.path()).unwrap();
                connection.query_row(query, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres { url, .. } => {
                let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
                client.query_one(&format!("SELECT ({query})::bigint"), &[]).unwrap().get(0)
            }
        }
    }

    pub fn count(&self, table: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {table}"))
    }

    /// Everything that a start must not change.
    pub fn content(&self) -> Vec<u8> {
        match self {
            Self::Sqlite(_) => std::fs::read(self.path()).unwrap(),
            Self::Postgres { url, .. } => {
                let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
                let rows = |client: &mut postgres::Client, table: &str| -> String {
                    let sql = format!(
                        "SELECT coalesce(string_agg(t::text, ',' ORDER BY t::text), '') FROM {table} t"
                    );
                    client.query_one(&sql, &[]).unwrap().get(0)
                };
                let tables = ["meta", "journal", "snapshot", "snapshot_part", "job_history", "task_history"];
                tables.map(|table| rows(&mut client, table)).join("\n").into_bytes()
            }
        }
    }

    /// As if nothing after the record `seq` were known to have been acknowledged.
    pub fn acknowledged(&self, seq: u64) {
        match self {
            Self::Sqlite(folder) => {
                let number = format!("{seq:020}");
                let line = format!("acknowledged {number} {:08x}\n", crc32fast::hash(number.as_bytes()));
                std::fs::write(folder.path().join("muster.db.lock"), line).unwrap();
            }
            Self::Postgres { .. } => self.sql(&format!("UPDATE leader SET acknowledged = {seq}")),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// Makes a test over SQLite and one over PostgreSQL of each function.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&super::Databases::sqlite()); })*
        }
        mod postgresql {
            $(#[test] fn $name() { super::$name(&super::Databases::postgres()); })*
        }
    };
}
