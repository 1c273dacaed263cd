//! Instants and spans of time as Slurm writes them.

use std::env;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// How instants are written, as `SLURM_TIME_FORMAT` says.
enum Style {
    /// `2026-01-31T16:30:00`.
    Standard,
    /// `16:30:00` today, `Ystday 16:30`, `Sat 16:30`, `31 Jan 16:30` or `31 Jan 2025`.
    Relative,
    /// A pattern of strftime(3).
    Pattern(String),
}

/// Writes instants in local time.
pub(super) struct Times {
    zone: TimeZone,
    style: Style,
    /// The controller's clock, in microseconds since 1970.
    pub now_us: u64,
}

impl Times {
    /// As the environment says.
    pub(super) fn new(now_us: u64) -> Self {
        let style = match env::var("SLURM_TIME_FORMAT").ok().filter(|text| !text.is_empty()) {
            None => Style::Standard,
            Some(text) if text.eq_ignore_ascii_case("standard") => Style::Standard,
            Some(text) if text.eq_ignore_ascii_case("relative") => Style::Relative,
            Some(text) => Style::Pattern(text),
        };
        Self { zone: TimeZone::system(), style, now_us }
    }

    fn local(&self, at_us: u64) -> Option<Zoned> {
        let at = i64::try_from(at_us / 1_000_000).ok()?;
        Timestamp::from_second(at).ok().map(|at| at.to_zoned(self.zone.clone()))
    }

    /// An instant, or what stands for one that is not known.
    pub(super) fn instant(&self, at_us: Option<u64>, unknown: &str) -> String {
        let Some(local) = at_us.and_then(|at| self.local(at)) else { return unknown.to_owned() };
        match &self.style {
            Style::Standard => local.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            Style::Relative => self.relative(&local),
            Style::Pattern(text) => jiff::fmt::strtime::format(text, &local).unwrap_or_else(|_| text.clone()),
        }
    }

    fn relative(&self, at: &Zoned) -> String {
        let Some(now) = self.local(self.now_us) else { return at.strftime("%d %b %H:%M").to_string() };
        let days = match at.date().since(now.date()) {
            Ok(span) => span.get_days(),
            Err(_) => i32::MAX,
        };
        let pattern = match days {
            0 => "%H:%M:%S",
            1 => "Tomorr %H:%M",
            -1 => "Ystday %H:%M",
            -6..=6 => "%a %H:%M",
            _ if at.year() == now.year() => "%d %b %H:%M",
            _ => "%d %b %Y",
        };
        at.strftime(pattern).to_string()
    }

    /// The first line of long listings, as ctime(3) writes it.
    pub(super) fn headline(&self) -> String {
        self.local(self.now_us)
            .map(|now| now.strftime("%a %b %d %H:%M:%S %Y").to_string())
            .unwrap_or_default()
    }

    /// Whole seconds since 1970, as JSON has them.
    pub(super) fn seconds(at_us: Option<u64>) -> u64 {
        at_us.unwrap_or(0) / 1_000_000
    }
}

/// A span as squeue writes it: `0:05`, `5:00`, `1:00:00`, `1-00:00:00`.
pub(super) fn short_span(seconds: i64) -> String {
    if seconds < 0 {
        return "INVALID".to_owned();
    }
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h) {
        (0, 0) => format!("{m}:{s:02}"),
        (0, _) => format!("{h}:{m:02}:{s:02}"),
        _ => format!("{d}-{h:02}:{m:02}:{s:02}"),
    }
}

/// A span as scontrol and sacct write it: `00:00:05`, `1-00:00:00`.
pub(super) fn long_span(seconds: u64) -> String {
    muster_core::notation::format_time_s(seconds)
}

/// How long something ran, in whole seconds: the difference of the seconds that are shown.
pub(super) fn elapsed_s(from_us: Option<u64>, to_us: Option<u64>, now_us: u64) -> i64 {
    let Some(from) = from_us else { return 0 };
    let to = to_us.unwrap_or(now_us);
    i64::try_from((to / 1_000_000).saturating_sub(from / 1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_slurm_writes_them() {
        let short: Vec<String> = [0, 5, 300, 3600, 86_400, 90_061, -1].map(short_span).into();
        assert_eq!(short, ["0:00", "0:05", "5:00", "1:00:00", "1-00:00:00", "1-01:01:01", "INVALID"]);
        assert_eq!([long_span(5), long_span(90_061)], ["00:00:05", "1-01:01:01"]);
        assert_eq!(elapsed_s(Some(1_900_000), Some(3_100_000), 0), 2);
        assert_eq!((elapsed_s(None, None, 9), elapsed_s(Some(1_000_000), None, 5_000_000)), (0, 4));
    }

    #[test]
    fn instants_follow_the_style() {
        let times = |style| Times { zone: TimeZone::UTC, style, now_us: 1_767_323_045_000_000 };
        let at = Some(1_767_323_000_000_000);
        assert_eq!(times(Style::Standard).instant(at, "N/A"), "2026-01-02T03:03:20");
        assert_eq!(times(Style::Standard).instant(None, "N/A"), "N/A");
        assert_eq!(times(Style::Pattern("%s".into())).instant(at, ""), "1767323000");
        let relative = |days: i64| {
            let at = 1_767_323_000_000_000_i64 + days * 86_400_000_000;
            times(Style::Relative).instant(Some(at.unsigned_abs()), "")
        };
        assert_eq!(
            [0, 1, -1, 3, -10, 30].map(relative),
            ["03:03:20", "Tomorr 03:03", "Ystday 03:03", "Mon 03:03", "23 Dec 2025", "01 Feb 03:03"]
        );
        assert_eq!(times(Style::Standard).headline(), "Fri Jan 02 03:04:05 2026");
    }
}
