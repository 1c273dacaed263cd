//! Snapshots, written beside the journal under the same lease.

use muster_core::ids::Timestamp;
use muster_core::state::State;
use postgres::Transaction;

use super::journal::fence;
use super::lease::Lease;
use super::reader::Reader;
use super::session::Session;
use crate::checksum::Head;
use crate::error::StoreError;
use crate::place::Place;
use crate::recover::{Found, recover};
use crate::schema::{SNAPSHOT_VERSION, signed};
use crate::snapshot::{Snapshot, write_parts};

/// Rows that are deleted in one transaction at most.
const DELETE_MAX: i64 = 1000;
/// Parts that are deleted in one transaction at most.
const DELETE_PARTS_MAX: i64 = 64;

/// Writes snapshots into a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    lease: Lease,
    session: Option<Session>,
}

/// Whether a commit waits for the disk. One that does not is safe as soon as a later one has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    Later,
}

impl SnapshotWriter {
    pub fn new(lease: &Lease) -> Self {
        Self { lease: lease.clone(), session: None }
    }

    pub fn place(&self) -> Place {
        self.lease.server().into()
    }

    fn session(&mut self) -> Result<Session, StoreError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.lease.connect_again(),
        }
    }

    /// What a start would find now.
    pub fn found(&self) -> Result<Found, StoreError> {
        let reader = Reader::open(self.lease.server())?;
        let acknowledged = reader.begin()?;
        recover(&reader, Some(acknowledged))
    }

    /// See [`crate::SnapshotWriter::write`].
    pub fn write(&mut self, state: &State, seq: u64, at: Timestamp) -> Result<Snapshot, StoreError> {
        // A connection in which something failed is given up: another one is made for the next snapshot.
        let mut session = self.session()?;
        let snapshot = self.write_in(&mut session, state, seq, at)?;
        self.session = Some(session);
        Ok(snapshot)
    }

    fn write_in(
        &self,
        session: &mut Session,
        state: &State,
        seq: u64,
        at: Timestamp,
    ) -> Result<Snapshot, StoreError> {
        self.drop_unfinished(session)?;
        let head = Head { seq: signed(seq), at_us: signed(at.0), version: SNAPSHOT_VERSION };
        let (bytes, checksum) = write_parts(state, head, &mut |part, body| {
            self.transaction(session, "store a part of a snapshot", Durable::Later, |transaction| {
                let sql = "INSERT INTO snapshot_part (seq, part, body) VALUES ($1, $2, $3)";
                transaction.execute(sql, &[&head.seq, &part, &body])
            })?;
            Ok(())
        })?;
        let crc = checksum.value();
        self.transaction(session, "store a snapshot", Durable::Yes, |transaction| {
            let sql = "INSERT INTO snapshot (seq, at_us, version, bytes, crc) VALUES ($1, $2, $3, $4, $5)";
            transaction.execute(sql, &[&head.seq, &head.at_us, &head.version, &signed(bytes), &crc])
        })?;
        self.drop_covered(session)?;
        Ok(Snapshot { seq, bytes })
    }

    /// Drops parts that belong to no snapshot.
    fn drop_unfinished(&self, session: &mut Session) -> Result<(), StoreError> {
        let sql = "DELETE FROM snapshot_part WHERE ctid IN (SELECT ctid FROM snapshot_part \
                   WHERE seq NOT IN (SELECT seq FROM snapshot) LIMIT $1)";
        self.delete_all(session, sql, DELETE_PARTS_MAX)
    }

    /// Drops what the last two snapshots make superfluous.
    fn drop_covered(&self, session: &mut Session) -> Result<(), StoreError> {
        let older = "DELETE FROM snapshot WHERE seq IN (SELECT seq FROM snapshot \
                     WHERE seq NOT IN (SELECT seq FROM snapshot ORDER BY seq DESC LIMIT 2) LIMIT $1)";
        self.delete_all(session, older, 1)?;
        self.drop_unfinished(session)?;
        let records = "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal \
                       WHERE seq <= (SELECT min(seq) FROM snapshot) ORDER BY seq LIMIT $1)";
        self.delete_all(session, records, DELETE_MAX)
    }

    /// Runs a statement that deletes so many rows at most until it finds none.
    fn delete_all(&self, session: &mut Session, sql: &str, at_most: i64) -> Result<(), StoreError> {
        let doing = "drop what a snapshot covers";
        while self.transaction(session, doing, Durable::Later, |transaction| {
            transaction.execute(sql, &[&at_most])
        })? > 0
        {}
        Ok(())
    }

    fn transaction(
        &self,
        session: &mut Session,
        doing: &'static str,
        durable: Durable,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<u64, postgres::Error>,
    ) -> Result<u64, StoreError> {
        let failed = self.lease.failed(doing);
        let run = || {
            let mut transaction = session.client().transaction()?;
            if durable == Durable::Later {
                transaction.batch_execute("SET LOCAL synchronous_commit = off")?;
            }
            let done = work(&mut transaction)?;
            if !fence(&mut transaction, &self.lease)? {
                return Ok(None);
            }
            transaction.commit()?;
            Ok(Some(done))
        };
        run().map_err(&failed)?.ok_or_else(|| self.lease.deposed())
    }
}
