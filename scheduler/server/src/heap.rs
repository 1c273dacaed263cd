//! Memory that the allocator holds and nobody uses.

/// Gives it back to the system. glibc keeps what a thread has freed, in the thread's own arena, for as long as anything above it
/// is in use: after a snapshot that would be a copy of the whole state (malloc_trim(3)).
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: it takes the allocator's own locks and touches nothing but what is free; any thread may call it at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves, or not at all.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
