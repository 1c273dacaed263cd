//! The few things that several programs do with MPI.

use std::time::Duration;

use mpi::Count;
use mpi::collective::Root;
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::CommunicatorCollectives;

/// How often a waiting rank looks whether the others have come.
const POLITE_INTERVAL: Duration = Duration::from_millis(1);

/// Initialises MPI; the end of the returned value's life finalises it.
///
/// # Panics
/// When MPI was initialised before.
#[must_use]
pub fn start() -> (Universe, SimpleCommunicator) {
    let universe = mpi::initialize().expect("each program initialises MPI once, at its start");
    let world = universe.world();
    (universe, world)
}

/// A rank or size of MPI as an index.
///
/// # Panics
/// Never: MPI counts ranks from 0.
#[must_use]
pub fn index(number: i32) -> usize {
    usize::try_from(number).expect("MPI's ranks and sizes are not negative")
}

/// A length as MPI's count.
///
/// # Panics
/// From 2^31 elements on, which every program's limits exclude.
#[must_use]
pub fn count(length: usize) -> Count {
    Count::try_from(length).expect("the programs' limits keep every message under 2^31 elements")
}

/// First line of the MPI library's description of itself.
#[must_use]
pub fn library() -> Option<String> {
    let text = mpi::environment::library_version().ok()?;
    let line = text.trim_matches('\0').lines().next()?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// An empty list whose address is real even when it stays empty.
///
/// Rust points an empty list at its alignment, which is address 1 for bytes, and that is what Open MPI defines
/// as `MPI_IN_PLACE`: it would take the list for a wrong argument.
fn real_buffer<T>(length: usize) -> Vec<T> {
    Vec::with_capacity(length + 1)
}

/// Brings every rank's elements to rank 0, which gets one list for each rank; the others get `None`.
pub fn gather<C, T>(comm: &C, own: &[T], zero: T) -> Option<Vec<Vec<T>>>
where
    C: Communicator + CommunicatorCollectives,
    T: Equivalence + Clone,
    [T]: mpi::datatype::Buffer,
{
    let root = comm.process_at_rank(0);
    let mut sent = real_buffer(own.len());
    sent.extend_from_slice(own);
    if comm.rank() != 0 {
        root.gather_into(&count(own.len()));
        root.gather_varcount_into(&sent[..]);
        return None;
    }
    let mut lengths: Vec<Count> = vec![0; index(comm.size())];
    root.gather_into_root(&count(own.len()), &mut lengths[..]);
    let starts: Vec<Count> = lengths
        .iter()
        .scan(0_usize, |next, &length| {
            let start = *next;
            *next += index(length);
            Some(count(start))
        })
        .collect();
    let total = lengths.iter().map(|&length| index(length)).sum();
    let mut all = real_buffer(total);
    all.resize(total, zero);
    {
        let mut parts = PartitionMut::new(&mut all[..], &lengths[..], &starts[..]);
        root.gather_varcount_into_root(&sent[..], &mut parts);
    }
    Some(
        starts
            .iter()
            .zip(&lengths)
            .map(|(&start, &length)| all[index(start)..][..index(length)].to_vec())
            .collect(),
    )
}

/// Brings every rank's text to rank 0, in the order of ranks; the others get `None`.
pub fn gather_texts<C: Communicator + CommunicatorCollectives>(comm: &C, own: &str) -> Option<Vec<String>> {
    let all = gather(comm, own.as_bytes(), 0_u8)?;
    Some(all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
}

/// Gives every rank the text of rank 0; the others' own text is ignored.
pub fn share_text<C: Communicator + CommunicatorCollectives>(comm: &C, own: &str) -> String {
    let root = comm.process_at_rank(0);
    let mut length = own.len() as u64;
    root.broadcast_into(&mut length);
    let mut bytes = real_buffer(own.len());
    bytes.extend_from_slice(own.as_bytes());
    bytes.resize(usize::try_from(length).expect("rank 0 held this text in its memory"), 0);
    root.broadcast_into(&mut bytes[..]);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until every rank has come here, without taking the core away from those who still compute.
///
/// MPI's own waiting spins, and there is no event to sleep on that all MPIs share, so this one looks, sleeps a
/// moment, and looks again.
pub fn wait_politely<C: CommunicatorCollectives>(comm: &C) {
    let mut request = comm.immediate_barrier();
    while let Err(pending) = request.test() {
        request = pending;
        std::thread::sleep(POLITE_INTERVAL);
    }
}
