//! Instants as sbatch(1) reads them for `--begin` and `--deadline`.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, ToSpan, Zoned};
use muster_core::ids::Timestamp;

use super::layer::Said;
use crate::error::CliError;

const RIGHT: &str =
    "write now+2hours, 16:30, tomorrow, midnight, 2026-01-31 or 2026-01-31T16:30, as sbatch(1) says";

/// Reads an instant; one that names a time of day only is the next such time after `now`.
pub(crate) fn instant(said: &Said, now: &Zoned) -> Result<Timestamp, CliError> {
    let found = read(&said.value, now).and_then(|at| u64::try_from(at.timestamp().as_microsecond()).ok());
    found.map(Timestamp).ok_or_else(|| CliError::Value {
        origin: said.origin.clone(),
        value: said.value.clone(),
        right: RIGHT,
    })
}

fn read(text: &str, now: &Zoned) -> Option<Zoned> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(rest) = text.strip_prefix("now") {
        return if rest.is_empty() {
            Some(now.clone())
        } else {
            now.checked_add(later(rest.strip_prefix('+')?)?).ok()
        };
    }
    let at = |date: Date, time: Time| now.time_zone().to_zoned(DateTime::from_parts(date, time)).ok();
    if let Some(time) = time_of_day(&text) {
        let today = at(now.date(), time)?;
        return if today > *now { Some(today) } else { at(now.date().tomorrow().ok()?, time) };
    }
    if let Some((day, time)) = text.split_once('t').filter(|(day, _)| day.contains('-')) {
        return at(date(day, now)?, time_of_day(time)?);
    }
    at(date(&text, now)?, Time::midnight())
}

/// `60`, `2hours`, `1day`: seconds without a unit.
fn later(text: &str) -> Option<Span> {
    /// Ten years in seconds: nobody means more.
    const COUNT_MAX: i64 = 10 * 366 * 86_400;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: i64 = text[..digits].parse().ok().filter(|count| *count <= COUNT_MAX)?;
    // Hours and days of this count are beyond what a span can hold, and are none that anybody means.
    let of = |unit_s: i64, span: fn(i64) -> Span| (count <= COUNT_MAX / unit_s).then(|| span(count));
    match text[digits..].trim() {
        "" | "s" | "second" | "seconds" => of(1, |n| n.seconds()),
        "minute" | "minutes" => of(60, |n| n.minutes()),
        "hour" | "hours" => of(3600, |n| n.hours()),
        "day" | "days" => of(86_400, |n| n.days()),
        "week" | "weeks" => of(7 * 86_400, |n| n.weeks()),
        _ => None,
    }
}

/// `16:00`, `4:30pm`, `16:00:30`, and names of times.
fn time_of_day(text: &str) -> Option<Time> {
    let named = match text {
        "midnight" => Some(0),
        "noon" => Some(12),
        "fika" => Some(15),
        "teatime" => Some(16),
        _ => None,
    };
    if let Some(hour) = named {
        return Time::new(hour, 0, 0, 0).ok();
    }
    let (clock, half) = if let Some(clock) = text.strip_suffix("am") {
        (clock, Some(0))
    } else if let Some(clock) = text.strip_suffix("pm") {
        (clock, Some(12))
    } else {
        (text, None)
    };
    let parts: Vec<i8> = clock.trim().split(':').map(|part| number(part, 2)).collect::<Option<_>>()?;
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) => hour % 12 + half,
        None => hour,
    };
    Time::new(hour, minute, second, 0).ok()
}

/// `2026-01-31`, `01/31/26`, `013126`, `today`, `tomorrow`; without a year the next such day.
fn date(text: &str, now: &Zoned) -> Option<Date> {
    match text {
        "today" => return Some(now.date()),
        "tomorrow" => return now.date().tomorrow().ok(),
        _ => {}
    }
    if let [year, month, day] = text.split('-').collect::<Vec<_>>().as_slice() {
        return Date::new(number(year, 4)?, number(month, 2)?, number(day, 2)?).ok();
    }
    let parts: Vec<&str> = match text.split(['/', '.']).collect::<Vec<_>>().as_slice() {
        [all] if all.is_ascii() && all.len() == 6 => vec![&all[..2], &all[2..4], &all[4..]],
        parts => parts.to_vec(),
    };
    match parts.as_slice() {
        [month, day, year] => {
            Date::new(2000 + number::<i16>(year, 2)?, number(month, 2)?, number(day, 2)?).ok()
        }
        [month, day] => {
            let this = Date::new(now.year(), number(month, 2)?, number(day, 2)?).ok()?;
            if this >= now.date() {
                Some(this)
            } else {
                Date::new(now.year() + 1, this.month(), this.day()).ok()
            }
        }
        _ => None,
    }
}

/// A number of at most `digits` digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let plain = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at_noon(text: &str) -> Option<String> {
        let now = jiff::civil::date(2026, 3, 10).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        read(text, &now).map(|at| at.datetime().to_string())
    }

    #[test]
    fn instants_are_read_as_sbatch_reads_them() {
        for (text, expected) in [
            ("now", "2026-03-10T12:00:00"),
            ("now+60", "2026-03-10T12:01:00"),
            ("now+1hour", "2026-03-10T13:00:00"),
            ("NOW+12hours", "2026-03-11T00:00:00"),
            ("now+2days", "2026-03-12T12:00:00"),
            ("now+1week", "2026-03-17T12:00:00"),
            ("16:00", "2026-03-10T16:00:00"),
            ("11:59:30", "2026-03-11T11:59:30"),
            ("4:30pm", "2026-03-10T16:30:00"),
            ("12:15 am", "2026-03-11T00:15:00"),
            ("midnight", "2026-03-11T00:00:00"),
            ("teatime", "2026-03-10T16:00:00"),
            ("tomorrow", "2026-03-11T00:00:00"),
            ("2026-04-01", "2026-04-01T00:00:00"),
            ("2026-04-01T12:34:56", "2026-04-01T12:34:56"),
            ("04/01/26", "2026-04-01T00:00:00"),
            ("040126", "2026-04-01T00:00:00"),
            ("02/01", "2027-02-01T00:00:00"),
        ] {
            assert_eq!(read_at_noon(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "now+",
            "now-1hour",
            "now+1fortnight",
            "25:00",
            "13:00pm",
            "2026-13-01",
            "+5",
            "now+99999999999",
        ] {
            assert_eq!(read_at_noon(text), None, "{text} must be refused");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(now\\+)?[-+:/.0-9a-zé ]{0,24}") {
            read_at_noon(&text);
        }
    }
}
