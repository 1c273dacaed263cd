//! The same work on many hosts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::{SshError, SshTarget};

/// How often a host is tried that refuses or drops connections.
pub const FAN_OUT_ATTEMPTS_MAX: u32 = 5;
/// The pause after the first such failure; each further one is twice as long, 1.5 s in all.
pub const FAN_OUT_PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Does the work for each target, for at most `concurrency_max` of them at a time, and returns the results in the
/// order of the targets.
///
/// Work that fails with an error that [`SshError::is_transient`] is tried again, [`FAN_OUT_ATTEMPTS_MAX`] times in
/// all. Such errors come from [`crate::Session::connect`] before anything has run; work should connect first.
///
/// # Panics
///
/// If `work` panics.
pub fn fan_out<T, F>(targets: &[SshTarget], concurrency_max: usize, work: F) -> Vec<Result<T, SshError>>
where
    T: Send,
    F: Fn(&SshTarget) -> Result<T, SshError> + Sync,
{
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<T, SshError>>>> = targets.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while let Some((target, result)) = take(targets, &results, &next) {
            *result.lock().expect("a result is written once, by one thread") =
                Some(with_retries(target, &work));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..concurrency_max.clamp(1, targets.len().max(1)) {
            scope.spawn(worker);
        }
    });
    results
        .into_iter()
        .map(|result| result.into_inner().expect("no thread panicked").expect("every target was taken"))
        .collect()
}

fn take<'a, R>(
    targets: &'a [SshTarget],
    results: &'a [R],
    next: &AtomicUsize,
) -> Option<(&'a SshTarget, &'a R)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    Some((targets.get(position)?, results.get(position)?))
}

/// Does the work, and again while it fails with an error that [`SshError::is_transient`], at most
/// [`FAN_OUT_ATTEMPTS_MAX`] times in all.
///
/// # Errors
///
/// The last error of `work`.
pub fn with_retries<T>(
    target: &SshTarget,
    work: &impl Fn(&SshTarget) -> Result<T, SshError>,
) -> Result<T, SshError> {
    let mut pause = FAN_OUT_PAUSE_FIRST;
    for _ in 1..FAN_OUT_ATTEMPTS_MAX {
        match work(target) {
            Err(error) if error.is_transient() => std::thread::sleep(pause),
            settled => return settled,
        }
        pause *= 2;
    }
    work(target)
}
