//! The store in a database of a PostgreSQL server, which several controllers may share: one leads, the others stand by.
//!
//! The table `leader` has one row, with the term of the controller that leads and the instant at which its lease ends, by
//! the database's clock. Whoever takes over raises the term. Every transaction that writes makes sure, under the lock of
//! that row, that the term is still its own: what a controller still sends that was frozen or cut off, and meanwhile
//! replaced, is refused by the database itself.

mod journal;
mod keyring;
mod lease;
mod reader;
mod schema;
mod server;
mod session;
mod snapshot;

pub(crate) use journal::PostgresJournal;
pub use keyring::Keyring;
pub use lease::{Candidacy, Candidate, Leader, Lease, boot_clock};
pub(crate) use reader::Reader;
pub use server::{Server, ServerOptions};
pub(crate) use snapshot::SnapshotWriter;
