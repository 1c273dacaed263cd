//! Processes that run in the memory of the one that makes them until they have become their program, as with vfork(2), on a stack of
//! their own; where the system can, they are born in a cgroup.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// What a child does, with what it is given. It must not return.
pub(super) type Begin = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// The stack of a child until it has become its program.
const STACK_BYTES: usize = 64 << 10;

thread_local! {
    /// The stack of one child after another of this thread.
    static STACK: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

/// Makes a process. The answer is its number.
///
/// # Errors
///
/// Those of clone(2).
///
/// # Safety
///
/// `begin` makes system calls only, on memory that was prepared before and lives until this call returns, which is when the child has
/// become its program or ended.
pub(super) unsafe fn make(begin: Begin, argument: *mut libc::c_void) -> Result<i32, Errno> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own; all else is the caller's to see to.
    let pid = with_stack(|stack| unsafe { libc::clone(begin, stack.end.cast(), flags, argument) });
    Errno::result(pid)
}

/// `CLONE_INTO_CGROUP`, for which the library has a type that is too small.
#[cfg(target_arch = "x86_64")]
const INTO_CGROUP: u64 = 1 << 33;

/// As [`make`]: the process is born in a cgroup of version 2, whose folder is open (clone3(2), `CLONE_INTO_CGROUP`, Linux 5.7), and need
/// not be moved there.
///
/// # Errors
///
/// Those of clone3(2); ENOSYS where it cannot be called.
///
/// # Safety
///
/// That of [`make`].
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn make_in(
    group: BorrowedFd,
    begin: Begin,
    argument: *mut libc::c_void,
) -> Result<i32, Errno> {
    use std::os::fd::AsRawFd as _;

    let answer = with_stack(|stack| {
        // SAFETY: all fields are numbers, of which zero says that it is not used.
        let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
        wanted.flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | INTO_CGROUP;
        wanted.exit_signal = libc::SIGCHLD as u64;
        wanted.stack = stack.start as u64;
        wanted.stack_size = STACK_BYTES as u64;
        wanted.cgroup = group.as_raw_fd() as u64;
        let mut answer: isize;
        // SAFETY: the kernel changes rax, rcx and r11 alone. The child begins after the call with the same registers but for its
        // answer, 0, and for its stack, whose end is aligned as a call wants it; it calls `begin`, which does not return.
        unsafe {
            std::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, r13",
                "call r12",
                "ud2",
                "2:",
                inlateout("rax") libc::SYS_clone3 as isize => answer,
                in("rdi") &raw const wanted,
                in("rsi") size_of::<libc::clone_args>(),
                in("r12") begin,
                in("r13") argument,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        answer
    });
    // What is not a process's number is an error's, below zero.
    match i32::try_from(answer) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(error) => Err(Errno::from_raw(-error)),
        Err(_) => Err(Errno::EOVERFLOW),
    }
}

/// The library has no clone3(2), and its call in assembly is there for x86-64 only.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn make_in(_: BorrowedFd, _: Begin, _: *mut libc::c_void) -> Result<i32, Errno> {
    Err(Errno::ENOSYS)
}

fn with_stack<T>(act: impl FnOnce(std::ops::Range<*mut u128>) -> T) -> T {
    const LENGTH: usize = STACK_BYTES / size_of::<u128>();
    STACK.with_borrow_mut(|stack| {
        stack.reserve_exact(LENGTH);
        let start = stack.as_mut_ptr();
        // SAFETY: there is room for so many.
        act(start..unsafe { start.add(LENGTH) })
    })
}
