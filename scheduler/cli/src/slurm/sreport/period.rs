//! The period of a report: whole hours of local time.

use std::fmt;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _, Zoned};

use crate::slurm::fault::Fault;

/// From an instant, and up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    start: Zoned,
    end: Zoned,
}

impl Period {
    /// The period between two instants, in seconds since 1970; without them yesterday, or up to the last midnight.
    ///
    /// # Errors
    /// [`Fault::Said`] for instants that no calendar has.
    pub(super) fn of(start_s: Option<i64>, end_s: Option<i64>) -> Result<Self, Fault> {
        Self::at(start_s, end_s, &Zoned::now())
            .map_err(|error| Fault::Said(format!("sreport: error: Invalid time specification: {error}")))
    }

    fn at(start_s: Option<i64>, end_s: Option<i64>, now: &Zoned) -> Result<Self, jiff::Error> {
        let zone = now.time_zone();
        let today = now.date().to_datetime(Time::midnight()).to_zoned(zone.clone())?;
        let end = end_s.map_or(Ok(today.clone()), |seconds| whole_hour(seconds, zone))?;
        let start = match start_s {
            Some(seconds) => whole_hour(seconds, zone)?,
            None => today.checked_sub(1.day())?,
        };
        // A period is an hour at least.
        let least = start.checked_add(Span::new().hours(1))?;
        Ok(Self { end: end.max(least), start })
    }

    pub(super) fn since_us(&self) -> u64 {
        u64::try_from(self.start.timestamp().as_microsecond()).unwrap_or(0)
    }

    pub(super) fn until_us(&self) -> u64 {
        u64::try_from(self.end.timestamp().as_microsecond()).unwrap_or(0)
    }

    pub(super) fn seconds(&self) -> u64 {
        (self.until_us() - self.since_us()) / 1_000_000
    }
}

/// The full hour that is nearest, as Slurm takes it: half a minute, then half an hour, count up.
fn whole_hour(seconds: i64, zone: &TimeZone) -> Result<Zoned, jiff::Error> {
    let at = Timestamp::from_second(seconds)?.to_zoned(zone.clone());
    let minute = i32::from(at.minute()) + i32::from(at.second() >= 30);
    let full = at
        .checked_sub(Span::new().try_minutes(i64::from(at.minute()))?.try_seconds(i64::from(at.second()))?)?;
    if minute >= 30 { full.checked_add(Span::new().hours(1)) } else { Ok(full) }
}

impl fmt::Display for Period {
    /// The last second is shown, not the one after it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.end.checked_sub(1.second()).unwrap_or_else(|_| self.end.clone());
        let text = |at: &Zoned| at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        write!(f, "{} - {}", text(&self.start), text(&last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_whole_hours_and_yesterday_without_more() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| {
            let local: jiff::civil::DateTime = text.parse().unwrap();
            local.to_zoned(zone.clone()).unwrap()
        };
        let now = at("2026-11-26T09:41:03");
        let seconds = |text: &str| Some(at(text).timestamp().as_second());
        for (start, end, shown) in [
            (None, None, "2026-11-25T00:00:00 - 2026-11-25T23:59:59"),
            (
                Some("2026-11-25T08:00:00"),
                Some("2026-11-25T09:20:00"),
                "2026-11-25T08:00:00 - 2026-11-25T08:59:59",
            ),
            (
                Some("2026-11-26T08:41:03"),
                Some("2026-11-26T09:41:03"),
                "2026-11-26T09:00:00 - 2026-11-26T09:59:59",
            ),
            (
                Some("2026-11-26T00:00:00"),
                Some("2026-11-25T00:00:00"),
                "2026-11-26T00:00:00 - 2026-11-26T00:59:59",
            ),
            (Some("2026-11-24T00:00:00"), None, "2026-11-24T00:00:00 - 2026-11-25T23:59:59"),
        ] {
            let period = Period::at(start.and_then(seconds), end.and_then(seconds), &now).unwrap();
            assert_eq!(period.to_string(), shown);
        }
        // A day on which a clock is put back has 25 hours.
        let now = at("2026-10-26T12:00:00");
        assert_eq!(Period::at(None, None, &now).unwrap().seconds(), 25 * 3600);
    }
}
