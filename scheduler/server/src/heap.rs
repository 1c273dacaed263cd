//! Memory that the allocators hold and nobody uses: mimalloc, which `musterd` has for its own, and the C library's, for SQLite.

/// Gives what this thread and those that have ended have freed back to the system: after a snapshot that would be a copy of the
/// whole state.
pub(crate) fn give_back() {
    // SAFETY: it touches nothing but what is free, in the caller's own heap or in one that nobody has any more; any thread may call
    // it at any time, and where another allocator is in force there is nothing in mimalloc's heaps.
    unsafe { libmimalloc_sys::mi_collect(true) };
    #[cfg(target_env = "gnu")]
    // glibc keeps what a thread has freed, in the thread's own arena, for as long as anything above it is in use (malloc_trim(3)).
    // SAFETY: it takes the allocator's own locks and touches nothing but what is free; any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
