//! Reads instants as the options of sacct write them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// Reads `now[±N[seconds|minutes|hours|days|weeks]]`, `today`, `midnight`, `noon`, `tomorrow`, `HH:MM[:SS]`,
/// `YYYY-MM-DD[THH:MM[:SS]]`, `MMDD[YY][-HH:MM[:SS]]`, `MM/DD[/YY][-HH:MM[:SS]]` or `utsSECONDS`, in local time. Gives
/// seconds since 1970; none for any other text.
pub(super) fn read(text: &str) -> Option<i64> {
    read_at(text.trim(), &Zoned::now())
}

fn read_at(text: &str, now: &Zoned) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    if let Some(seconds) = lower.strip_prefix("uts") {
        return seconds.parse().ok();
    }
    if let Some(offset) = lower.strip_prefix("now") {
        return shifted(offset, now);
    }
    let today = now.date();
    let local = match lower.as_str() {
        "today" | "midnight" => today.to_datetime(Time::midnight()),
        "noon" => today.at(12, 0, 0, 0),
        "teatime" => today.at(16, 0, 0, 0),
        "tomorrow" => today.tomorrow().ok()?.to_datetime(Time::midnight()),
        "yesterday" => today.yesterday().ok()?.to_datetime(Time::midnight()),
        _ => read_local(&lower, today)?,
    };
    seconds_of(local, now.time_zone())
}

fn seconds_of(local: DateTime, zone: &TimeZone) -> Option<i64> {
    local.to_zoned(zone.clone()).ok().map(|at| at.timestamp().as_second())
}

/// The instant `offset` after now, such as `-2days` or `+60`.
fn shifted(offset: &str, now: &Zoned) -> Option<i64> {
    let at: Timestamp = now.timestamp();
    if offset.is_empty() {
        return Some(at.as_second());
    }
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => return None,
    };
    let unit_at = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let count = rest[..unit_at].parse::<i64>().ok()?.checked_mul(sign)?;
    let unit = &rest[unit_at..];
    let is = |name: &str| !unit.is_empty() && name.starts_with(unit);
    let span = Span::new();
    let span = if unit.is_empty() || is("seconds") {
        span.try_seconds(count)
    } else if is("minutes") {
        span.try_minutes(count)
    } else if is("hours") {
        span.try_hours(count)
    } else if is("days") {
        span.try_days(count)
    } else if is("weeks") {
        span.try_weeks(count)
    } else {
        return None;
    };
    now.checked_add(span.ok()?).ok().map(|at| at.timestamp().as_second())
}

fn read_local(text: &str, today: Date) -> Option<DateTime> {
    if text.contains(':') && !text.contains(['-', 't', '/']) {
        return read_time(text).map(|time| today.to_datetime(time));
    }
    // A date with dashes has its time after a T, any other after a dash.
    let is_iso = text.as_bytes().get(4) == Some(&b'-');
    let (date, time) = match text.split_once(if is_iso { 't' } else { '-' }) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let date = if is_iso { read_iso(date) } else { read_american(date, today) }?;
    Some(date.to_datetime(time.map_or(Some(Time::midnight()), read_time)?))
}

fn read_iso(text: &str) -> Option<Date> {
    let mut parts = text.split('-').map(|part| part.parse::<i16>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// `MMDD`, `MMDDYY`, `MM/DD` or `MM/DD/YY`, with dots in place of the slashes as well.
fn read_american(text: &str, today: Date) -> Option<Date> {
    let digits: String = text.chars().filter(|c| !matches!(c, '/' | '.')).collect();
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let two = |from: usize| digits.get(from..from + 2).and_then(|part| part.parse::<i8>().ok());
    let year = two(4).map_or(today.year(), |year| 2000 + i16::from(year));
    Date::new(year, two(0)?, two(2)?).ok()
}

fn read_time(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        None => 0,
        Some(second) => second?,
    };
    if parts.next().is_some() { None } else { Time::new(hour, minute, second, 0).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_all_their_forms() {
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let now = now.to_zoned(jiff::tz::TimeZone::UTC);
        let at = |text: &str| {
            let seconds = read_at(text, &now)?;
            Some(Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%dT%H:%M:%S").to_string())
        };
        for (text, right) in [
            ("now", "2026-03-04T05:06:07"),
            ("now-2days", "2026-03-02T05:06:07"),
            ("now+60", "2026-03-04T05:07:07"),
            ("now-1hour", "2026-03-04T04:06:07"),
            ("today", "2026-03-04T00:00:00"),
            ("midnight", "2026-03-04T00:00:00"),
            ("noon", "2026-03-04T12:00:00"),
            ("2025-12-31", "2025-12-31T00:00:00"),
            ("2025-12-31T23:59", "2025-12-31T23:59:00"),
            ("2025-12-31T23:59:58", "2025-12-31T23:59:58"),
            ("0102", "2026-01-02T00:00:00"),
            ("010225-03:04", "2025-01-02T03:04:00"),
            ("01/02/25", "2025-01-02T00:00:00"),
            ("16:30", "2026-03-04T16:30:00"),
            ("uts0", "1970-01-01T00:00:00"),
        ] {
            assert_eq!(at(text).as_deref(), Some(right), "{text}");
        }
        for text in
            ["foo", "", "now-", "now-2fortnights", "2025-13-01", "25:00", "2025-12-31T", "1", "13/40", "é"]
        {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
