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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_as_128_and_its_number() {
        assert_eq!((exit_status(3 << 8), exit_status(9), exit_status(0)), (3, 137, 0));
    }
}
