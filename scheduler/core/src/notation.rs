//! The field's notations: ranges (`0-3,8`), host lists (`node[01-04,7]`), times (`1-12:30`), sizes (`4G`).
//!
//! Times follow sbatch(1), `--time`; sizes follow sbatch(1), `--mem`; host lists follow scontrol(1),
//! `show hostlist`.

use std::fmt::Write as _;

use crate::ids::Timestamp;

/// How many hosts one host list may name.
pub const HOSTS_PER_LIST_MAX: usize = 100_000;

/// A text that is not in the notation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Not a list of absolute paths.
    #[error("'{text}' is not a list of absolute paths such as /dev/nvidia[0-3]")]
    Paths {
        /// The text.
        text: String,
    },
    /// Not a list of ranges.
    #[error("'{text}' is not a list of numbers: write numbers and ranges up to {max}, such as 0-3,8")]
    Ranges {
        /// What was written.
        text: String,
        /// The largest number allowed.
        max: u32,
    },
    /// Not a host list.
    #[error("'{text}' is not a host list: write names and numbered ranges, such as node[01-04],head")]
    Hosts {
        /// What was written.
        text: String,
    },
    /// A host list that names too many hosts.
    #[error("'{text}' names more than {HOSTS_PER_LIST_MAX} hosts")]
    TooManyHosts {
        /// What was written.
        text: String,
    },
    /// Not a time.
    #[error("'{text}' is not a time: write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS")]
    Time {
        /// What was written.
        text: String,
    },
    /// Not a memory size.
    #[error(
        "'{text}' is not a memory size: write a number of MiB, or a number with K, M, G or T, such as 4G"
    )]
    Size {
        /// What was written.
        text: String,
    },
}

/// The numbers `first..=last`, every `step`th of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
    /// The distance, at least 1.
    pub step: u32,
}

/// Writes rising numbers as `0-3,8`.
pub fn format_ranges(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut out = String::new();
    let mut run: Option<(u32, u32)> = None;
    let mut flush = |run: Option<(u32, u32)>| {
        if let Some((first, last)) = run {
            if !out.is_empty() {
                out.push(',');
            }
            let _ = if first == last { write!(out, "{first}") } else { write!(out, "{first}-{last}") };
        }
    };
    for number in numbers {
        run = match run {
            Some((first, last)) if last.checked_add(1) == Some(number) => Some((first, number)),
            other => {
                flush(other);
                Some((number, number))
            }
        };
    }
    flush(run);
    out
}

/// Reads `0-3,8,10-20:2`. The empty text is the empty list.
///
/// # Errors
/// [`NotationError::Ranges`] if the text is anything else or names a number above `max`.
pub fn parse_ranges(text: &str, max: u32) -> Result<Vec<Range>, NotationError> {
    let bad = || NotationError::Ranges { text: text.to_owned(), max };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|part| {
            let (range, step) = match part.split_once(':') {
                Some((range, step)) => (range, digits(step).filter(|s| *s > 0).ok_or_else(bad)?),
                None => (part, 1),
            };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (digits(first).ok_or_else(bad)?, digits(last).ok_or_else(bad)?);
            if first > last || last > max {
                return Err(bad());
            }
            Ok(Range { first, last, step })
        })
        .collect()
}

fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Splits at commas that stand outside brackets.
fn split_outside_brackets(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0u32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
        if depth > 1 {
            return None;
        }
    }
    (depth == 0).then(|| {
        parts.push(&text[start..]);
        parts
    })
}

/// Whether `name` can name a host: letters, digits, `-`, `_` and `.`, at most 64 bytes.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(good)
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// Reads `head,node[01-04,7]` into names, in the order in which they are written.
///
/// # Errors
/// [`NotationError::Hosts`] for any other text, [`NotationError::TooManyHosts`] above [`HOSTS_PER_LIST_MAX`].
pub fn parse_hosts(text: &str) -> Result<Vec<String>, NotationError> {
    let bad = || NotationError::Hosts { text: text.to_owned() };
    let hosts = expand_list(text)?;
    if hosts.iter().all(|host| is_host_name(host)) { Ok(hosts) } else { Err(bad()) }
}

/// Reads a list of absolute paths with the same brackets, such as `/dev/nvidia[0-3]`.
///
/// # Errors
///
/// [`NotationError`] if it is no such list.
pub fn parse_paths(text: &str) -> Result<Vec<String>, NotationError> {
    let paths = expand_list(text)?;
    let is_path =
        |path: &String| path.starts_with('/') && !path.contains(|c: char| c.is_control() || c == ' ');
    if paths.iter().all(is_path) { Ok(paths) } else { Err(NotationError::Paths { text: text.to_owned() }) }
}

/// The elements of a list, with the brackets replaced.
fn expand_list(text: &str) -> Result<Vec<String>, NotationError> {
    let bad = || NotationError::Hosts { text: text.to_owned() };
    let mut elements = Vec::new();
    for part in split_outside_brackets(text).ok_or_else(bad)? {
        expand_hosts(part, &mut elements).map_err(|too_many| {
            if too_many { NotationError::TooManyHosts { text: text.to_owned() } } else { bad() }
        })?;
    }
    Ok(elements)
}

/// Expands the first bracket and recurses into the rest; the error says whether the limit was the cause.
fn expand_hosts(part: &str, hosts: &mut Vec<String>) -> Result<(), bool> {
    let Some(open) = part.find('[') else {
        hosts.push(part.to_owned());
        return if hosts.len() > HOSTS_PER_LIST_MAX { Err(true) } else { Ok(()) };
    };
    let close = part[open..].find(']').ok_or(false)? + open;
    let mut ends = Vec::new();
    expand_hosts(&part[close + 1..], &mut ends)?;
    for range in part[open + 1..close].split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let width = first.len();
        let (low, high) = (digits(first).ok_or(false)?, digits(last).ok_or(false)?);
        if low > high {
            return Err(false);
        }
        for number in low..=high {
            for end in &ends {
                hosts.push(format!("{}{number:0width$}{end}", &part[..open]));
                if hosts.len() > HOSTS_PER_LIST_MAX {
                    return Err(true);
                }
            }
        }
    }
    Ok(())
}

/// Writes names as a host list, `node[01-04],head`: names keep their order, neighbours that count up join.
#[must_use]
pub fn format_hosts<S: AsRef<str>>(hosts: &[S]) -> String {
    let mut groups: Vec<(&str, usize, Vec<u32>)> = Vec::new();
    for host in hosts.iter().map(AsRef::as_ref) {
        let stem = host.trim_end_matches(|c: char| c.is_ascii_digit());
        let tail = &host[stem.len()..];
        let number = digits(tail);
        match (groups.last_mut(), number) {
            (Some((last_stem, width, numbers)), Some(n))
                if *last_stem == stem && *width == tail.len() && !numbers.is_empty() =>
            {
                numbers.push(n);
            }
            (_, Some(n)) => groups.push((stem, tail.len(), vec![n])),
            (_, None) => groups.push((host, 0, Vec::new())),
        }
    }
    let texts: Vec<String> =
        groups.iter().map(|(stem, width, numbers)| format_group(stem, *width, numbers)).collect();
    texts.join(",")
}

fn format_group(stem: &str, width: usize, numbers: &[u32]) -> String {
    match numbers {
        [] => stem.to_owned(),
        [one] => format!("{stem}{one:0width$}"),
        many => {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for &n in many {
                match runs.last_mut() {
                    Some((_, last)) if last.checked_add(1) == Some(n) => *last = n,
                    _ => runs.push((n, n)),
                }
            }
            let texts: Vec<String> = runs
                .iter()
                .map(
                    |(a, b)| if a == b { format!("{a:0width$}") } else { format!("{a:0width$}-{b:0width$}") },
                )
                .collect();
            format!("{stem}[{}]", texts.join(","))
        }
    }
}

/// Reads a time limit in sbatch(1)'s notation into seconds.
///
/// # Errors
/// [`NotationError::Time`] for any other text, for 0, and for more than ten years.
pub fn parse_time_s(text: &str) -> Result<u64, NotationError> {
    const TIME_MAX_S: u64 = 10 * 366 * 86_400;
    let bad = || NotationError::Time { text: text.to_owned() };
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(u64::from(digits(days).ok_or_else(bad)?)), rest),
        None => (None, text),
    };
    let parts: Vec<u64> =
        rest.split(':').map(|p| digits(p).map(u64::from).ok_or_else(bad)).collect::<Result<_, _>>()?;
    let seconds = match (days, parts.as_slice()) {
        (None, [m]) => m * 60,
        (None, [m, s]) => m * 60 + s,
        (None, [h, m, s]) => h * 3600 + m * 60 + s,
        (Some(d), [h]) => d * 86_400 + h * 3600,
        (Some(d), [h, m]) => d * 86_400 + h * 3600 + m * 60,
        (Some(d), [h, m, s]) => d * 86_400 + h * 3600 + m * 60 + s,
        _ => return Err(bad()),
    };
    if seconds == 0 || seconds > TIME_MAX_S { Err(bad()) } else { Ok(seconds) }
}

/// Writes seconds as `[D-]HH:MM:SS`.
#[must_use]
pub fn format_time_s(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    if d > 0 { format!("{d}-{h:02}:{m:02}:{s:02}") } else { format!("{h:02}:{m:02}:{s:02}") }
}

/// Writes an instant as `2026-01-31T16:30:00Z`, in UTC and to the second: what speaks here knows no time zone.
#[must_use]
pub fn format_instant(at: Timestamp) -> String {
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days, for days since 1970.
    let (days, seconds) = (at.seconds() / 86_400, at.seconds() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Reads a memory size in sbatch(1)'s notation into bytes: a bare number counts MiB; K, M, G, T are powers of
/// 1024 (an ending `B` or `iB` is allowed).
///
/// # Errors
/// [`NotationError::Size`] for any other text, for 0, and for more than 2^60 bytes.
pub fn parse_size_bytes(text: &str) -> Result<u64, NotationError> {
    let bad = || NotationError::Size { text: text.to_owned() };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = u64::from(digits(&text[..unit_at]).ok_or_else(bad)?);
    let unit = text[unit_at..].to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let shift = match unit {
        "K" => 10,
        "" if unit_at == text.len() => 20,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(bad()),
    };
    let bytes = number.checked_mul(1 << shift).ok_or_else(bad)?;
    if bytes == 0 || bytes > 1 << 60 { Err(bad()) } else { Ok(bytes) }
}

/// A number with its noun: `1 node`, `3 nodes`, `2 leaf switches`.
#[must_use]
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count if noun.ends_with("ch") => format!("{count} {noun}es"),
        count => format!("{count} {noun}s"),
    }
}

/// Writes bytes with the largest unit that keeps the number whole or has one decimal, such as `4G` or `1.5G`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        let one = 1u64 << shift;
        if bytes >= one {
            let tenths = (bytes / (one / 10).max(1)).min(u64::MAX / 2);
            return if bytes.is_multiple_of(one) || tenths.is_multiple_of(10) {
                format!("{}{unit}", bytes / one)
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_their_nouns() {
        let words = [counted(1_u32, "node"), counted(0_u32, "core"), counted(2_u32, "leaf switch")];
        assert_eq!(words, ["1 node", "0 cores", "2 leaf switches"]);
    }

    #[test]
    fn times_are_read_as_sbatch_reads_them() {
        for (text, seconds) in [
            ("10", 600),
            ("1:30", 90),
            ("01:00:00", 3600),
            ("2-0", 172_800),
            ("1-12:30", 131_400),
            ("1-12:30:05", 131_405),
        ] {
            assert_eq!(parse_time_s(text), Ok(seconds), "{text}");
        }
        for text in ["", "0", "1:2:3:4", "-1", "1-", "a", "1h", "9999999-0", "+5", "1:-2"] {
            assert!(parse_time_s(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn instants_are_written_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_769_877_000, "2026-01-31T16:30:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(format_instant(Timestamp(seconds * 1_000_000)), text);
        }
    }

    #[test]
    fn sizes_are_read_as_sbatch_reads_them() {
        for (text, bytes) in
            [("1", 1 << 20), ("4K", 4096), ("4g", 4 << 30), ("2T", 2 << 40), ("3MB", 3 << 20)]
        {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1", "4X", "G", "1.5G", "99999999T", "4 G"] {
            assert!(parse_size_bytes(text).is_err(), "{text} must be refused");
        }
        assert_eq!(format_size(3 << 29), "1.5G");
        assert_eq!(format_size(4 << 30), "4G");
    }

    #[test]
    fn host_lists_expand_and_compress() {
        let names = parse_hosts("head,node[01-03,10],r[1-2]n[1-2]").unwrap();
        assert_eq!(names, ["head", "node01", "node02", "node03", "node10", "r1n1", "r1n2", "r2n1", "r2n2"]);
        assert_eq!(format_hosts(&names), "head,node[01-03,10],r1n[1-2],r2n[1-2]");
        for text in ["", "a,,b", "n[1-", "n]1[", "n[2-1]", "n[[1]]", "a b", "n[1-999999]", "../x", "-a"] {
            assert!(parse_hosts(text).is_err(), "{text} must be refused");
        }
    }

    proptest! {
        #[test]
        fn host_lists_survive_the_round_trip(numbers in prop::collection::btree_set(0u32..2000, 1..50)) {
            let names: Vec<String> = numbers.iter().map(|n| format!("node{n:04}")).collect();
            prop_assert_eq!(parse_hosts(&format_hosts(&names)).unwrap(), names);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
            let _ = (parse_hosts(&text), parse_time_s(&text), parse_size_bytes(&text), parse_ranges(&text, 1000));
        }

        #[test]
        fn times_and_ranges_survive_the_round_trip(
            seconds in 1..100_000_000u64,
            numbers in prop::collection::btree_set(0u32..500, 1..40),
        ) {
            prop_assert_eq!(parse_time_s(&format_time_s(seconds)), Ok(seconds));
            let read = parse_ranges(&format_ranges(numbers.iter().copied()), 500).unwrap();
            let read: std::collections::BTreeSet<u32> =
                read.iter().flat_map(|range| (range.first..=range.last).step_by(range.step as usize)).collect();
            prop_assert_eq!(read, numbers);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn nothing_that_is_nearly_right_makes_a_parser_panic(
            text in crate::mutated::of(
                &["head,n[01-03,10],r[1-2]n[1-2]", "0-15:4,20,4294967295", "1-12:30:05", "99999999T", "9999999-23:59:59"],
                5,
            ),
        ) {
            if let Ok(hosts) = parse_hosts(&text) {
                let mut again = parse_hosts(&format_hosts(&hosts)).expect("what is written can be read");
                let mut hosts = hosts;
                hosts.sort();
                again.sort();
                hosts.dedup();
                again.dedup();
                prop_assert_eq!(hosts, again);
            }
            let _ = (parse_ranges(&text, u32::MAX), parse_ranges(&text, 1000));
            if let Ok(seconds) = parse_time_s(&text) {
                prop_assert_eq!(parse_time_s(&format_time_s(seconds)), Ok(seconds));
            }
            if let Ok(bytes) = parse_size_bytes(&text) {
                let _ = format_size(bytes);
            }
        }
    }
}
