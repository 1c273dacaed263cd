//! Durations of ISO 8601, as bodies have them.

/// From here on a time is no limit: clients write the longest that their language has.
const NO_LIMIT_DAYS: u64 = 10_000_000;

/// Reads a duration such as `PT1H30M` or `P7D` in whole seconds, rounded up; none stands for no limit.
///
/// # Errors
/// Nothing if it is not a duration.
#[expect(clippy::result_unit_err, reason = "the caller says which property is wrong")]
pub fn parse_duration_s(text: &str) -> Result<Option<u64>, ()> {
    let rest = text.strip_prefix('P').ok_or(())?;
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    if date.is_empty() && time.is_none_or(str::is_empty) {
        return Err(());
    }
    let mut seconds = 0.0_f64;
    for (text, units) in [
        (date, &[('W', 604_800.0), ('D', 86_400.0)][..]),
        (time.unwrap_or(""), &[('H', 3600.0), ('M', 60.0), ('S', 1.0)][..]),
    ] {
        let mut rest = text;
        let mut units = units.iter();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(())?;
            let (number, unit) = rest.split_at(end);
            let unit = unit.chars().next().ok_or(())?;
            let (_, factor) = units.find(|(name, _)| *name == unit).ok_or(())?;
            if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
                return Err(());
            }
            seconds += number.parse::<f64>().map_err(|_| ())? * factor;
            rest = &rest[end + 1..];
        }
    }
    if seconds >= (NO_LIMIT_DAYS * 86_400) as f64 { Ok(None) } else { Ok(Some(seconds.ceil() as u64)) }
}

/// Writes so many seconds.
#[must_use]
pub fn format_duration(seconds: u64) -> String {
    let parts = [(seconds / 3600 % 24, 'H'), (seconds / 60 % 60, 'M'), (seconds % 60, 'S')];
    let days = seconds / 86_400;
    let mut text = "P".to_owned();
    if days > 0 {
        text.push_str(&format!("{days}D"));
    }
    if parts.iter().any(|(number, _)| *number > 0) || days == 0 {
        text.push('T');
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            text.push_str(&format!("{number}{unit}"));
        }
        if seconds == 0 {
            text.push_str("0S");
        }
    }
    text
}

/// Writes so many microseconds.
#[must_use]
pub fn format_duration_us(us: u64) -> String {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    if fraction == 0 {
        return format_duration(seconds);
    }
    let whole = seconds - seconds % 60;
    let before = if whole == 0 { "PT".to_owned() } else { format_duration(whole) };
    let before = if before.contains('T') { before } else { before + "T" };
    format!("{before}{}.{fraction:06}S", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_clients_write_them() {
        for (text, seconds) in [
            ("PT15M", Some(900)),
            ("P7D", Some(604_800)),
            ("P1DT2H3M4S", Some(93_784)),
            ("PT0.5S", Some(1)),
            ("P1W", Some(604_800)),
            ("PT0S", Some(0)),
            ("P10675199DT2H48M5.4775807S", None),
        ] {
            assert_eq!(parse_duration_s(text), Ok(seconds), "{text}");
        }
        for text in ["", "P", "PT", "15M", "PT15", "P1H", "PTM", "PT1S1M", "P-1D", "PT1e9S"] {
            assert_eq!(parse_duration_s(text), Err(()), "{text}");
        }
        for seconds in [0, 59, 60, 3600, 86_400, 93_784, 604_800] {
            assert_eq!(parse_duration_s(&format_duration(seconds)), Ok(Some(seconds)));
        }
        assert_eq!(format_duration(93_784), "P1DT2H3M4S");
        for (us, text) in [
            (0, "PT0S"),
            (1_500_000, "PT1.500000S"),
            (60_000_001, "PT1M0.000001S"),
            (86_400_250_000, "P1DT0.250000S"),
            (3_600_000_000, "PT1H"),
        ] {
            assert_eq!(format_duration_us(us), text);
            assert!(parse_duration_s(text).is_ok());
        }
    }
}
