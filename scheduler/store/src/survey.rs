//! Looks at everything in a database, without stopping at the first thing that is wrong.

use std::ops::ControlFlow;

use muster_core::event::Record;
use muster_core::state::State;

use crate::damage::Damage;
use crate::error::StoreError;
use crate::read::{Fault, Source, Which};

/// How records in a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole,
    Changed,
    Unknown,
}

/// Records in a row that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub first: u64,
    pub last: u64,
    pub kind: Kind,
}

/// What a database holds.
#[derive(Debug)]
pub(crate) struct Survey {
    /// All snapshots, the newest first.
    pub snapshots: Vec<(u64, Result<State, Fault>)>,
    /// All records, in order.
    pub runs: Vec<Run>,
    /// Tables that the database cannot read as a whole.
    pub unreadable: Vec<&'static str>,
    /// The last record that was acknowledged, if that is known.
    pub acknowledged: Option<u64>,
}

impl Survey {
    /// Reads everything.
    pub fn take(source: &dyn Source, acknowledged: Option<u64>) -> Result<Self, StoreError> {
        let mut unreadable = Vec::new();
        let seqs = readable(source.snapshot_seqs(), "snapshot", &mut unreadable)?;
        let mut snapshots = Vec::new();
        for seq in seqs.unwrap_or_default() {
            let state = readable(source.snapshot(seq), "snapshot_part", &mut unreadable)?;
            snapshots.push((seq, state.unwrap_or(Err(Fault::Changed))));
        }
        let mut up = Vec::new();
        let read = source.records(Which::After(0), &mut |seq, record| {
            add(&mut up, seq, kind(&record));
            Ok(ControlFlow::Continue(()))
        });
        let mut runs = up;
        if readable(read, "journal", &mut unreadable)?.is_none() {
            let reached = runs.last().map_or(0, |run: &Run| run.last);
            runs.extend(from_the_end(source, reached)?);
        }
        Ok(Self { snapshots, runs, unreadable, acknowledged })
    }

    /// What is wrong.
    pub fn damage(&self) -> Vec<Damage> {
        let mut found: Vec<Damage> = self
            .snapshots
            .iter()
            .filter_map(|(seq, state)| match state {
                Ok(_) => None,
                Err(Fault::Changed) => Some(Damage::Snapshot { seq: *seq }),
                Err(_) => Some(Damage::UnknownSnapshot { seq: *seq }),
            })
            .collect();
        let mut reached = self.snapshots.last().map_or(0, |(seq, _)| *seq);
        let runs: Vec<&Run> = self.runs.iter().filter(|run| run.last > reached).collect();
        let last_whole = runs.iter().filter(|run| run.kind == Kind::Whole).map(|run| run.last).max();
        for run in &runs {
            if run.first > reached + 1 {
                found.push(Damage::Gap { first: reached + 1, last: run.first - 1 });
            }
            let (first, last) = (run.first.max(reached + 1), run.last);
            match run.kind {
                Kind::Whole => {}
                Kind::Unknown => found.push(Damage::UnknownRecord { seq: first }),
                Kind::Changed if last_whole > Some(last) => found.push(Damage::Middle { first, last }),
                Kind::Changed => found.push(Damage::Tail { first, last }),
            }
            reached = last;
        }
        let reached = self.highest();
        if let Some(last) = self.acknowledged.filter(|acknowledged| *acknowledged > reached) {
            found.push(Damage::End { first: reached + 1, last });
        }
        found.extend(self.unreadable.iter().map(|table| Damage::Unreadable { table }));
        found
    }

    /// The highest sequence number that is seen, whole or not.
    pub fn highest(&self) -> u64 {
        let records = self.runs.last().map_or(0, |run| run.last);
        self.snapshots.first().map_or(records, |(seq, _)| records.max(*seq))
    }

    /// The snapshot from which whole records lead furthest, and how far; the newer one of two. The empty state is
    /// the snapshot at 0, if it was the first.
    pub fn best(&self) -> Option<(u64, u64)> {
        let whole = self.snapshots.iter().filter(|(_, state)| state.is_ok()).map(|(seq, _)| *seq);
        let from_the_start = (self.snapshots.is_empty() || self.reach(0) > 0).then_some(0);
        let mut best: Option<(u64, u64)> = None;
        for base in whole.chain(from_the_start) {
            let reach = self.reach(base);
            if best.is_none_or(|(_, furthest)| reach > furthest) {
                best = Some((base, reach));
            }
        }
        best
    }

    /// How far whole records lead from a snapshot without a gap.
    fn reach(&self, base: u64) -> u64 {
        let mut reached = base;
        for run in self.runs.iter().filter(|run| run.last > base) {
            if run.kind != Kind::Whole || run.first > reached + 1 {
                break;
            }
            reached = run.last;
        }
        reached
    }

    /// The state of a whole snapshot.
    pub fn state_of(&self, base: u64) -> State {
        let found = self.snapshots.iter().find(|(seq, _)| *seq == base);
        match found {
            Some((_, Ok(state))) => state.clone(),
            _ => State::new(),
        }
    }
}

/// Adds up the records after `base` up to `last`, all of which are whole.
pub(crate) fn replay(
    source: &dyn Source,
    mut state: State,
    (base, last): (u64, u64),
) -> Result<State, StoreError> {
    source.records(Which::After(base), &mut |seq, record| {
        match record {
            Ok(record) if seq <= last => state.evolve(&record.event, record.at),
            _ => return Ok(ControlFlow::Break(())),
        }
        Ok(if seq == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(state)
}

/// What the database could read; if it could not, the table is noted.
fn readable<T>(
    read: Result<T, StoreError>,
    table: &'static str,
    unreadable: &mut Vec<&'static str>,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Corrupt { .. }) => {
            if !unreadable.contains(&table) {
                unreadable.push(table);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Records behind a place that cannot be read, as far as they can be reached from the end.
fn from_the_end(source: &dyn Source, reached: u64) -> Result<Vec<Run>, StoreError> {
    let mut down = Vec::new();
    let read = source.records(Which::Down, &mut |seq, record| {
        if seq <= reached {
            return Ok(ControlFlow::Break(()));
        }
        down.push((seq, kind(&record)));
        Ok(ControlFlow::Continue(()))
    });
    readable(read, "journal", &mut Vec::new())?;
    let mut runs = Vec::new();
    down.iter().rev().for_each(|(seq, kind)| add(&mut runs, *seq, *kind));
    Ok(runs)
}

fn kind(record: &Result<Record, Fault>) -> Kind {
    match record {
        Ok(_) => Kind::Whole,
        Err(Fault::Changed) => Kind::Changed,
        Err(_) => Kind::Unknown,
    }
}

fn add(runs: &mut Vec<Run>, seq: u64, kind: Kind) {
    match runs.last_mut() {
        Some(run) if run.kind == kind && run.last + 1 == seq => run.last = seq,
        _ => runs.push(Run { first: seq, last: seq, kind }),
    }
}
