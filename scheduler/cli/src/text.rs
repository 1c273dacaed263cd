//! How instants, times and names are written.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_client::api::TaskState;
use muster_core::notation::format_time_s;

/// Now, in microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// An instant in local time, such as `2026-01-02T03:04:05`.
pub(crate) fn instant(at_us: u64) -> String {
    i64::try_from(at_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok()).map_or_else(
        || "-".to_owned(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string(),
    )
}

/// An instant in local time, or `-`.
pub(crate) fn instant_or_dash(at_us: Option<u64>) -> String {
    at_us.map_or_else(|| "-".to_owned(), instant)
}

/// From start to finish, or to `now_us` while it goes on.
pub(crate) fn elapsed_s(started_us: Option<u64>, finished_us: Option<u64>, now_us: u64) -> u64 {
    started_us.map_or(0, |started| finished_us.unwrap_or(now_us).saturating_sub(started) / 1_000_000)
}

/// A number of seconds, or `-`.
pub(crate) fn time_or_dash(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), format_time_s)
}

/// `text` without characters that a terminal would obey: names and reasons come from other people.
pub(crate) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A state as people read it, such as `timed out`.
pub(crate) fn state_words(state: TaskState) -> &'static str {
    match state {
        TaskState::TimedOut => "timed out",
        TaskState::Deadline => "missed deadline",
        TaskState::OutOfMemory => "out of memory",
        TaskState::NodeFailed => "node failed",
        other => other.word(),
    }
}

/// The colour of a state.
pub(crate) fn state_style(state: TaskState) -> anstyle::Style {
    use anstyle::AnsiColor::{Cyan, Green, Red, Yellow};
    match state {
        TaskState::Waiting => Yellow.on_default(),
        TaskState::Preparing | TaskState::Ending => Cyan.on_default(),
        TaskState::Running => Green.on_default(),
        TaskState::Completed => anstyle::Style::new(),
        TaskState::Cancelled => anstyle::Style::new().dimmed(),
        _ => Red.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_a_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\nc é"), "a?[2Jb?c é");
    }

    #[test]
    fn time_runs_until_the_end() {
        assert_eq!(elapsed_s(None, None, 9), 0);
        assert_eq!(elapsed_s(Some(1_000_000), None, 6_500_000), 5);
        assert_eq!(elapsed_s(Some(1_000_000), Some(3_000_000), 99_000_000), 2);
    }
}
