//! Exit statuses.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// What a signal's number is added to.
const SIGNAL_BASE: i32 = 128;

/// The exit status that stands for a rank's.
pub(crate) fn exit_status(status: i32) -> u8 {
    let status = ExitStatus::from_raw(status);
    let code = status.code().unwrap_or_else(|| SIGNAL_BASE + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signal that an exit status stands for; 0 if for none.
pub(crate) fn signal_of(status: u8) -> u8 {
    // What lies above the last signal (signal(7)) is a program's own code.
    if (129..=192).contains(&status) { status - 128 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_as_128_and_its_number() {
        assert_eq!((exit_status(3 << 8), exit_status(9), exit_status(0)), (3, 137, 0));
        assert_eq!([3, 128, 137, 192, 193, 255].map(signal_of), [0, 0, 9, 64, 0, 0]);
    }
}
