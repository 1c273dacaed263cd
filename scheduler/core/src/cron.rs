//! When recurring jobs run: the expressions of crontab(5), and the tables that users make of them.
//!
//! What an expression means is a pure function of an instant and a time zone. An instant that a change of clocks takes away
//! comes as much later as the clocks are put forward; one that such a change brings twice comes the first time only. Where the
//! hour is left open (`*`), both are taken as they come: `*/10 * * * *` is every ten minutes in any night.

use std::sync::Arc;

use jiff::Timestamp as Instant;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::spec::{JobSpec, User};

/// Largest table, in bytes.
pub const CRONTAB_BYTES_MAX: usize = 128 << 10;
/// Most entries of one table.
pub const CRONTAB_ENTRIES_MAX: usize = 200;
/// Most users with a table.
pub const CRONTABS_MAX: usize = 10_000;
/// How far ahead an instant is looked for: the 29th of February may be eight years away.
const DAYS_AHEAD: u32 = 8 * 366 + 1;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// There are not enough fields.
    #[error(
        "the {field} is missing: write minute, hour, day of month, month and day of week, and then the command"
    )]
    Missing {
        /// The first one that is not there.
        field: &'static str,
    },
    /// A field is not in order.
    #[error("the {field} '{text}' is wrong: {right}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        text: String,
        /// What would be right.
        right: String,
    },
    /// A word with an @ that means nothing.
    #[error("'{0}' is wrong: write @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")]
    Nickname(String),
    /// No day is like that.
    #[error("no day ever comes that is the day of month '{days}' of month '{months}'")]
    Never {
        /// The day of month.
        days: String,
        /// The month.
        months: String,
    },
    /// There is nothing to run.
    #[error("the command is missing after the time")]
    NoCommand,
}

/// A field of an expression.
struct Field {
    name: &'static str,
    first: u8,
    last: u8,
    /// Names of values, the first of which is `first`.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day of month", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0, and 7 as well.
const WEEKDAY: Field = Field {
    name: "day of week",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};
const FIELDS: [Field; 5] = [MINUTE, HOUR, DAY, MONTH, WEEKDAY];

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Field {
    /// The values that a text stands for, as bits.
    fn read(&self, text: &str) -> Result<u64, BadSchedule> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(text, part)?))
    }

    fn part(&self, text: &str, part: &str) -> Result<u64, BadSchedule> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let step: Option<u8> = match step {
            Some(step) => Some(
                step.parse()
                    .ok()
                    .filter(|step| *step > 0 && *step <= self.last)
                    .ok_or_else(|| self.bad(text))?,
            ),
            None => None,
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.first, self.last),
            (_, Some((first, last))) => (self.value(text, first)?, self.value(text, last)?),
            // With a step it is the first of those up to the end.
            (one, None) => {
                let first = self.value(text, one)?;
                (first, if step.is_some() { self.last } else { first })
            }
        };
        if first > last {
            return Err(self.bad(text));
        }
        Ok((first..=last).step_by(usize::from(step.unwrap_or(1))).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str, word: &str) -> Result<u8, BadSchedule> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let value = named.and_then(|place| u8::try_from(place).ok()).map(|place| place + self.first);
        let number = || word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
        value
            .or_else(number)
            .filter(|value| (self.first..=self.last).contains(value))
            .ok_or_else(|| self.bad(text))
    }

    fn bad(&self, text: &str) -> BadSchedule {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(", or {first} to {last}"),
            _ => String::new(),
        };
        let right = format!(
            "write *, or numbers from {} to {}{names}, with commas, ranges and steps as in {}-{}/2",
            self.first, self.last, self.first, self.last
        );
        BadSchedule::Field { field: self.name, text: text.to_owned(), right }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the hour is left open.
    any_hour: bool,
    /// Whether the day of month, and that of the week, is: where both are said, one of them is enough.
    any_day: bool,
    any_weekday: bool,
}

impl TryFrom<String> for Schedule {
    type Error = BadSchedule;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::read(&text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.text
    }
}

impl Schedule {
    /// Reads an expression: five fields, or a word such as `@daily`.
    ///
    /// # Errors
    /// [`BadSchedule`] with the field that is wrong.
    pub fn read(text: &str) -> Result<Self, BadSchedule> {
        let text = text.trim();
        let fields = match text.starts_with('@') {
            true => NICKNAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, fields)| *fields)
                .ok_or_else(|| BadSchedule::Nickname(text.to_owned()))?,
            false => text,
        };
        let words: Vec<&str> = fields.split_whitespace().collect();
        let mut bits = [0; 5];
        for (place, field) in FIELDS.iter().enumerate() {
            let word = words.get(place).ok_or(BadSchedule::Missing { field: field.name })?;
            bits[place] = field.read(word)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let schedule = Self {
            text: text.to_owned(),
            minutes,
            hours,
            days,
            months,
            // Both numbers of Sunday are one.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            any_hour: words[1].starts_with('*'),
            any_day: words[2] == "*",
            any_weekday: words[4] == "*",
        };
        let exists = |month: u8| {
            let longest = match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            schedule.months & 1 << month != 0 && schedule.days.trailing_zeros() <= longest
        };
        if schedule.any_weekday && !(1..=12).any(exists) {
            return Err(BadSchedule::Never { days: words[2].to_owned(), months: words[3].to_owned() });
        }
        Ok(schedule)
    }

    /// Reads a line of a crontab: an expression, and the command after it.
    ///
    /// # Errors
    /// [`BadSchedule`] with the field that is wrong.
    pub fn read_line(line: &str) -> Result<(Self, &str), BadSchedule> {
        let line = line.trim();
        let count = if line.starts_with('@') { 1 } else { FIELDS.len() };
        let mut rest = line;
        for _ in 0..count {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest = rest[end..].trim_start();
        }
        let schedule = Self::read(&line[..line.len() - rest.len()])?;
        if rest.is_empty() { Err(BadSchedule::NoCommand) } else { Ok((schedule, rest)) }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn has_day(&self, date: Date) -> bool {
        let month = self.months & 1 << date.month() != 0;
        let day = self.days & 1 << date.day() != 0;
        let weekday = self.weekdays & 1 << date.weekday().to_sunday_zero_offset() != 0;
        // As crontab(5) has it: of two restrictions either will do.
        month && if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// The first instant after `after` in a time zone; none if there is none within eight years.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = Instant::from_microsecond(i64::try_from(after.0).ok()?).ok()?;
        // What a change of clocks has put off may be of the day before.
        let mut date = after.to_zoned(zone.clone()).date().yesterday().ok()?;
        for _ in 0..=DAYS_AHEAD {
            if self.has_day(date)
                && let Some(first) = self.of_day(date, zone).filter(|at| *at > after).min()
            {
                return Some(Timestamp(u64::try_from(first.as_microsecond()).ok()?));
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// All instants of a day.
    fn of_day<'a>(&'a self, date: Date, zone: &'a TimeZone) -> impl Iterator<Item = Instant> + 'a {
        let hours = (0..24i8).filter(|hour| self.hours & 1 << hour != 0);
        let times = hours.flat_map(move |hour| {
            (0..60i8).filter(|minute| self.minutes & 1 << minute != 0).map(move |minute| (hour, minute))
        });
        times.flat_map(move |(hour, minute)| self.instants(date.at(hour, minute, 0, 0), zone)).flatten()
    }

    /// The instants at which clocks show a time: usually one.
    fn instants(&self, time: DateTime, zone: &TimeZone) -> [Option<Instant>; 2] {
        let ambiguous = zone.to_ambiguous_timestamp(time);
        match (ambiguous.offset(), self.any_hour) {
            (AmbiguousOffset::Gap { .. }, true) => [None, None],
            (AmbiguousOffset::Fold { .. }, true) => [ambiguous.earlier().ok(), ambiguous.later().ok()],
            // As much later as the gap is long; the first of two.
            _ => [ambiguous.compatible().ok(), None],
        }
    }
}

/// A user's table of recurring jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crontab {
    /// Whose it is.
    pub user: User,
    /// The table as it was written.
    pub text: String,
    /// Its entries, in the order of their lines.
    pub entries: Vec<CronEntry>,
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronEntry {
    /// The first line that says something of it, from 1.
    pub first_line: u32,
    /// The line with its time and its command.
    pub last_line: u32,
    /// When it runs.
    pub schedule: Schedule,
    /// What runs, but for when it begins.
    pub spec: Arc<JobSpec>,
}

/// Whether a text is a rule of POSIX for a time zone.
#[must_use]
pub fn is_zone(rule: &str) -> bool {
    TimeZone::posix(rule).is_ok()
}

/// The time zone that a rule of POSIX (`CET-1CEST,M3.5.0,M10.5.0/3`) describes; UTC if it describes none.
#[must_use]
pub fn zone(rule: &str) -> TimeZone {
    TimeZone::posix(rule).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests;
