//! The power fails at every instant between two writes.
//!
//! What SQLite writes and syncs is recorded while records are appended and snapshots are taken. Then, for each place
//! in the recording, the files are made again as a disk could hold them after a loss of power there: everything that
//! was synced, and of the rest nothing, everything, or any part in sectors of 512 bytes, in any order. The store must
//! open, hold everything that had been acknowledged, and no part of a batch.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::recorder::{self, File, Step};
use common::{cancelled, configured, submitted};
use muster_core::event::{Event, Record};
use muster_core::ids::{JobId, Timestamp};
use muster_core::state::State;
use muster_store::{HistoryReader, HistoryRow, JobRow, Store};
use rusqlite::Connection;

const SECTOR_BYTES: usize = 512;
const BATCHES: usize = 80;

/// What a run brought about.
struct Recording {
    /// The files when it began, all of them synced.
    files: HashMap<File, Vec<u8>>,
    steps: Vec<Step>,
    /// The state and the last sequence number after each batch; the first is before all.
    states: Vec<(State, u64)>,
}

/// Batches of one to three records, the accounting of one job in each.
fn batch(number: usize) -> Vec<Record> {
    let job = number as u64 + 2;
    let mut records = vec![submitted(job)];
    if number % 2 == 1 {
        records.extend([cancelled(job), cancelled(job - 1)]);
    }
    records
}

fn row(number: usize) -> HistoryRow {
    HistoryRow::Job(Box::new(JobRow {
        job: JobId(number as u64),
        name: "job".to_owned(),
        user: "ann".to_owned(),
        uid: 1000,
        pool: "main".to_owned(),
        state: "completed".to_owned(),
        tasks: 1,
        submitted_us: 1,
        started_us: None,
        ended_us: 2,
        detail: "{}".to_owned(),
    }))
}

/// A job with a script that makes every snapshot take two parts.
fn long_script() -> Record {
    let mut spec = common::story::spec("long", serde_json::json!({}));
    spec.script = format!("#!/bin/sh\n#{}\n", "x".repeat(100 << 10)).into();
    let event = Event::JobSubmitted { job: JobId(1), spec: Arc::new(spec), request_key: None };
    Record { at: Timestamp(2), event }
}

/// A folder on a file system that costs nothing, if there is one.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") }).unwrap()
}

/// Appends all batches, and takes snapshots: `beside` on a thread of their own, else between the batches.
fn record(beside: bool) -> Recording {
    let folder = folder();
    let path = folder.path().join("muster.db");
    recorder::begin(&path);
    let (mut store, _) = Store::open(&path).unwrap();
    let first = [configured(), long_script()];
    store.append(&first, &[]).unwrap();
    let mut state = common::add_up(&first);
    let read = |suffix: &str| std::fs::read(format!("{}{suffix}", path.display())).unwrap();
    let files = HashMap::from([(File::Database, read("")), (File::Log, read("-wal"))]);
    recorder::forget();
    let mut states = vec![(state.clone(), store.last_seq())];
    let mut writer = store.snapshot_writer().unwrap();
    let mover = Connection::open(&path).unwrap();
    std::thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::sync_channel::<(State, u64)>(0);
        scope.spawn(move || {
            for (state, seq) in asked {
                writer.write(&state, seq, Timestamp(seq)).unwrap();
            }
        });
        for number in 1..=BATCHES {
            let records = batch(number);
            store.append(&records, &[row(number)]).unwrap();
            recorder::acknowledged(number);
            for record in &records {
                state.evolve(&record.event, record.at);
            }
            states.push((state.clone(), store.last_seq()));
            if number.is_multiple_of(10) {
                // Sooner than SQLite does it by itself, so that a short recording holds it many times.
                mover.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
            }
            let is_due = number.is_multiple_of(25);
            if is_due && beside {
                ask.send((state.clone(), store.last_seq())).unwrap();
            } else if is_due {
                store.snapshot(&state, Timestamp(9)).unwrap();
            }
        }
        drop(ask);
    });
    let steps = recorder::end();
    Recording { files, steps, states }
}

/// A file on a disk whose cache is lost.
#[derive(Clone, Default)]
struct Disk {
    synced: Vec<u8>,
    /// What came since: writes, and truncations.
    pending: Vec<Step>,
}

fn write(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if image.len() < offset + bytes.len() {
        image.resize(offset + bytes.len(), 0);
    }
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// What of the pending writes reaches the disk.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    Everything,
    /// Each sector with a chance of so many in 8.
    Some(u64),
}

impl Disk {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Sync { .. } => self.synced = self.image(Fate::Everything, &mut 0),
            step => return self.pending.push(step.clone()),
        }
        self.pending.clear();
    }

    fn image(&self, fate: Fate, chance: &mut u64) -> Vec<u8> {
        let mut image = self.synced.clone();
        for step in &self.pending {
            match (step, fate) {
                (_, Fate::Nothing) => {}
                (Step::Write { offset, bytes, .. }, Fate::Everything) => write(&mut image, *offset, bytes),
                (Step::Write { offset, bytes, .. }, Fate::Some(eighths)) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = (at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(bytes.len());
                        if next(chance) % 8 < eighths {
                            write(&mut image, offset + at, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
                (Step::Truncate { len, .. }, fate) => {
                    if matches!(fate, Fate::Everything) || next(chance).is_multiple_of(2) {
                        image.resize(*len, 0);
                    }
                }
                (Step::Sync { .. } | Step::Acknowledged(_), _) => unreachable!("these are not pending"),
            }
        }
        image
    }
}

/// The next of a row of numbers without a pattern (Steele, Lea, Flood, OOPSLA 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Opens what a disk holds, and compares it with what was acknowledged.
fn check(recording: &Recording, files: &[(File, Vec<u8>)], acknowledged: usize, path: &Path, place: &str) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    for (file, image) in files {
        let suffix = if *file == File::Database { "" } else { "-wal" };
        std::fs::write(format!("{}{suffix}", path.display()), image).unwrap();
    }
    // The number is never ahead of what was acknowledged; here, it is not behind either.
    let number = format!("{:020}", recording.states[acknowledged].1);
    let line = format!("acknowledged {number} {:08x}\n", crc32fast::hash(number.as_bytes()));
    std::fs::write(format!("{}.lock", path.display()), line).unwrap();
    let (_store, recovered) = Store::open(path).unwrap_or_else(|error| panic!("{place}: {error:?}"));
    assert_eq!(recovered.passed_over, [], "{place}");
    let batches = recording.states.iter().position(|(_, seq)| *seq == recovered.last_seq);
    let batches =
        batches.unwrap_or_else(|| panic!("{place}: half a batch is there, up to {}", recovered.last_seq));
    assert!(
        batches >= acknowledged,
        "{place}: {acknowledged} batches were acknowledged, {batches} are there"
    );
    assert!(recovered.state == recording.states[batches].0, "{place}: another state after {batches} batches");
    let rows = HistoryReader::open(path).unwrap().jobs(JobId(u64::MAX), None, usize::MAX).unwrap();
    assert_eq!(rows.len(), batches, "{place}: the accounting is of the same instant");
}

/// Every place in the recording from `part` on, in strides of `parts`.
fn fail_everywhere(recording: &Recording, part: usize, parts: usize, opened: &AtomicUsize) {
    let folder = folder();
    let path: PathBuf = folder.path().join("muster.db");
    let mut disks: HashMap<File, Disk> = [File::Database, File::Log]
        .map(|file| (file, Disk { synced: recording.files[&file].clone(), pending: Vec::new() }))
        .into();
    let mut acknowledged = 0;
    for (place, step) in recording.steps.iter().enumerate() {
        match step {
            Step::Acknowledged(batches) => acknowledged = *batches,
            Step::Write { file, .. } | Step::Truncate { file, .. } | Step::Sync { file } => {
                disks.get_mut(file).unwrap().step(step);
            }
        }
        if place % parts != part {
            continue;
        }
        let mut chance = place as u64;
        // Where nothing of the rest reaches the disk, it is the same until the next sync.
        let is_settled = matches!(step, Step::Sync { .. } | Step::Acknowledged(_));
        let fates = [Fate::Everything, Fate::Some(1 + place as u64 % 7), Fate::Nothing];
        for fate in fates.into_iter().take(if is_settled { 3 } else { 2 }) {
            let files: Vec<_> =
                disks.iter().map(|(file, disk)| (*file, disk.image(fate, &mut chance))).collect();
            let place = format!("after step {place} of {}, {fate:?}", recording.steps.len());
            check(recording, &files, acknowledged, &path, &place);
            opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_loss_of_power_at_any_instant_loses_nothing_that_was_acknowledged() {
    for beside in [false, true] {
        let recording = record(beside);
        let count = |is: fn(&Step) -> bool| recording.steps.iter().filter(|step| is(step)).count();
        let syncs = count(|step| matches!(step, Step::Sync { .. }));
        let moved = count(|step| matches!(step, Step::Write { file: File::Database, .. }));
        assert!(syncs > BATCHES && moved > 50, "{syncs} syncs, {moved} writes to the database itself");
        let (opened, parts) = (AtomicUsize::new(0), std::thread::available_parallelism().unwrap().get());
        std::thread::scope(|scope| {
            for part in 0..parts {
                let (recording, opened) = (&recording, &opened);
                scope.spawn(move || fail_everywhere(recording, part, parts, opened));
            }
        });
        println!("snapshots beside: {beside}: {} steps, {opened:?} disks", recording.steps.len());
    }
}
