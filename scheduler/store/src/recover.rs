//! What the controller's start makes of a database: the newest whole snapshot, and every record after it.
//!
//! A transaction that did not come to its end has never been there, so a crash leaves no damage. What is damaged
//! has changed since it was stored, and most of it was acknowledged then: going on without would give an id to two
//! jobs, or run a task twice. So the start refuses every damage but two, which it says and goes on:
//!
//! - a damaged snapshot, if the one before it and all records since are whole: they add up to the same state;
//! - damaged records at the end with nothing whole after them, if none of them is known to have been acknowledged.

use std::ops::ControlFlow;

use muster_core::state::State;

use crate::damage::Damage;
use crate::error::StoreError;
use crate::place::Place;
use crate::read::{Fault, Source, Which};

/// What a database adds up to.
#[derive(Debug)]
pub(crate) struct Found {
    /// The state.
    pub state: State,
    /// The last record in it.
    pub last_seq: u64,
    /// The snapshot under it; 0 without.
    pub snapshot_seq: u64,
    /// A newer snapshot that was passed over.
    pub passed_over: Option<u64>,
    /// The first and the last of the records at the end that are to be cut.
    pub cut: Option<(u64, u64)>,
}

/// Adds up what the database holds. Changes nothing.
pub(crate) fn recover(source: &dyn Source, acknowledged: Option<u64>) -> Result<Found, StoreError> {
    let place = source.place();
    let damaged = |damage| StoreError::Damaged { place: place.clone(), damage };
    let (snapshot_seq, state, passed_over) = base(source)?;
    let mut replay = Replay { place, state, last_seq: snapshot_seq, cut: None };
    source.records(Which::After(snapshot_seq), &mut |seq, record| replay.next(seq, record))?;
    let Replay { state, last_seq, cut, .. } = replay;
    if let Some(seq) = passed_over.filter(|seq| last_seq < *seq) {
        return Err(damaged(Damage::Snapshot { seq }));
    }
    if let Some((first, last)) = cut
        && acknowledged.is_none_or(|acknowledged| first <= acknowledged)
    {
        return Err(damaged(Damage::Tail { first, last }));
    }
    if let Some(last) = acknowledged.filter(|acknowledged| *acknowledged > last_seq) {
        return Err(damaged(Damage::End { first: last_seq + 1, last }));
    }
    Ok(Found { state, last_seq, snapshot_seq, passed_over, cut })
}

/// The newest whole snapshot, or the empty state that the first record was written over; and the newest snapshot
/// if it is another.
fn base(source: &dyn Source) -> Result<(u64, State, Option<u64>), StoreError> {
    let mut passed_over = None;
    for seq in source.snapshot_seqs()? {
        match source.snapshot(seq)? {
            Ok(state) => return Ok((seq, state, passed_over)),
            Err(fault) => {
                if let Some(error) = fault.not_damage("snapshot", source.place(), seq) {
                    return Err(error);
                }
                passed_over.get_or_insert(seq);
            }
        }
    }
    Ok((0, State::new(), passed_over))
}

struct Replay<'a> {
    place: &'a Place,
    state: State,
    last_seq: u64,
    /// Records that are not as they were written, with nothing whole after them so far.
    cut: Option<(u64, u64)>,
}

impl Replay<'_> {
    fn next(
        &mut self,
        seq: u64,
        record: Result<muster_core::event::Record, Fault>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let damaged = |damage| StoreError::Damaged { place: self.place.clone(), damage };
        let expected = self.cut.map_or(self.last_seq, |(_, last)| last) + 1;
        if seq != expected {
            return Err(damaged(Damage::Gap { first: expected, last: seq - 1 }));
        }
        match (record, self.cut) {
            (Ok(record), None) => {
                self.state.evolve(&record.event, record.at);
                self.last_seq = seq;
            }
            (Ok(_), Some((first, last))) => return Err(damaged(Damage::Middle { first, last })),
            (Err(fault), cut) => {
                if let Some(error) = fault.not_damage("journal record", self.place, seq) {
                    return Err(error);
                }
                self.cut = Some((cut.map_or(seq, |(first, _)| first), seq));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
