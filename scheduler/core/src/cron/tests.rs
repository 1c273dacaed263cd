use proptest::prelude::*;

use super::*;

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn at(text: &str) -> Timestamp {
    let instant: Instant = text.parse().unwrap();
    Timestamp(u64::try_from(instant.as_microsecond()).unwrap())
}

/// The next instants, as clocks in a zone show them with the offset in hours.
fn next(expression: &str, after: &str, zone_rule: &str, count: usize) -> Vec<String> {
    let (schedule, zone) = (Schedule::read(expression).unwrap(), zone(zone_rule));
    let mut now = at(after);
    let mut shown = Vec::new();
    for _ in 0..count {
        now = schedule.next(now, &zone).unwrap();
        let instant = Instant::from_microsecond(now.0 as i64).unwrap();
        shown.push(instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %z").to_string());
    }
    shown
}

#[test]
fn expressions_mean_what_crontab_says() {
    for (expression, after, right) in [
        ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01 00:01"),
        ("* * * * *", "2026-01-01T00:00:59.9Z", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01T00:16:00Z", "2026-01-01 00:30"),
        ("5-59/20 * * * *", "2026-01-01T00:26:00Z", "2026-01-01 00:45"),
        ("10/25 * * * *", "2026-01-01T00:36:00Z", "2026-01-01 01:10"),
        ("0 8-18/5,22 * * *", "2026-01-01T18:00:00Z", "2026-01-01 22:00"),
        ("30 4 1,15 * *", "2026-01-02T00:00:00Z", "2026-01-15 04:30"),
        ("0 0 * * mon-fri", "2026-01-02T00:00:00Z", "2026-01-05 00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04 00:00"),
        ("0 0 * Feb,JUN *", "2026-02-28T12:00:00Z", "2026-06-01 00:00"),
        // Two restrictions of the day: either will do.
        ("0 0 13 * fri", "2026-01-01T00:00:00Z", "2026-01-02 00:00"),
        ("0 0 13 * fri", "2026-01-09T00:00:00Z", "2026-01-13 00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29 00:00"),
        ("0 0 31 * *", "2026-04-01T00:00:00Z", "2026-05-31 00:00"),
        ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01 01:00"),
        ("@daily", "2026-01-01T00:00:00Z", "2026-01-02 00:00"),
        ("@midnight", "2026-01-01T00:00:00Z", "2026-01-02 00:00"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04 00:00"),
        ("@Monthly", "2026-01-01T00:00:00Z", "2026-02-01 00:00"),
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01 00:00"),
        ("@annually", "2026-01-01T00:00:00Z", "2027-01-01 00:00"),
    ] {
        assert_eq!(next(expression, after, "UTC0", 1)[0], format!("{right} +0000"), "{expression}");
    }
}

#[test]
fn an_instant_that_clocks_skip_comes_later_and_one_that_comes_twice_is_taken_once() {
    // On 2026-03-29 clocks go from 02:00 to 03:00, on 2026-10-25 from 03:00 to 02:00.
    assert_eq!(
        next("30 2 * * *", "2026-03-28T00:00:00Z", BERLIN, 3),
        ["2026-03-28 02:30 +0100", "2026-03-29 03:30 +0200", "2026-03-30 02:30 +0200"]
    );
    assert_eq!(
        next("30 2 * * *", "2026-10-24T12:00:00Z", BERLIN, 2),
        ["2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"]
    );
    // Where the hour is open, time goes on evenly.
    assert_eq!(
        next("*/30 * * * *", "2026-03-29T00:15:00Z", BERLIN, 3),
        ["2026-03-29 01:30 +0100", "2026-03-29 03:00 +0200", "2026-03-29 03:30 +0200"]
    );
    assert_eq!(
        next("*/30 * * * *", "2026-10-25T00:15:00Z", BERLIN, 4),
        [
            "2026-10-25 02:30 +0200",
            "2026-10-25 02:00 +0100",
            "2026-10-25 02:30 +0100",
            "2026-10-25 03:00 +0100"
        ]
    );
}

#[test]
fn mistakes_name_the_field_and_what_would_be_right() {
    for (line, right) in [
        (
            "* * * *",
            "the day of week is missing: write minute, hour, day of month, month and day of week, and then the command",
        ),
        (
            "",
            "the minute is missing: write minute, hour, day of month, month and day of week, and then the command",
        ),
        (
            "60 * * * * true",
            "the minute '60' is wrong: write *, or numbers from 0 to 59, with commas, ranges and steps as in 0-59/2",
        ),
        (
            "* 24 * * * true",
            "the hour '24' is wrong: write *, or numbers from 0 to 23, with commas, ranges and steps as in 0-23/2",
        ),
        (
            "* * 0 * * true",
            "the day of month '0' is wrong: write *, or numbers from 1 to 31, with commas, ranges and steps as in 1-31/2",
        ),
        (
            "* * * foo * true",
            "the month 'foo' is wrong: write *, or numbers from 1 to 12, or jan to dec, with commas, ranges and steps as in 1-12/2",
        ),
        (
            "* * * * 8 true",
            "the day of week '8' is wrong: write *, or numbers from 0 to 7, or sun to sat, with commas, ranges and steps as in 0-7/2",
        ),
        (
            "* 5-3 * * * true",
            "the hour '5-3' is wrong: write *, or numbers from 0 to 23, with commas, ranges and steps as in 0-23/2",
        ),
        (
            "@reboot true",
            "'@reboot' is wrong: write @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually",
        ),
        ("0 0 30 feb * true", "no day ever comes that is the day of month '30' of month 'feb'"),
        ("0 0 1 1 *", "the command is missing after the time"),
        ("@daily", "the command is missing after the time"),
    ] {
        assert_eq!(Schedule::read_line(line).unwrap_err().to_string(), right, "{line}");
    }
    for field in ["*/0", "1-", "-1", "1,,2", "+1", "*/60", "1-2-3", "a"] {
        assert!(Schedule::read(&format!("{field} * * * *")).is_err(), "{field}");
    }
    let (schedule, command) = Schedule::read_line(" 0\t8 * *  mon   echo  a % b ").unwrap();
    assert_eq!((schedule.text(), command), ("0\t8 * *  mon", "echo  a % b"));
}

#[test]
fn an_expression_is_kept_as_it_was_written() {
    let schedule = Schedule::read("*/5 8-18 * * mon-fri").unwrap();
    let json = serde_json::to_string(&schedule).unwrap();
    assert_eq!(json, r#""*/5 8-18 * * mon-fri""#);
    assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
    assert!(serde_json::from_str::<Schedule>(r#""61 * * * *""#).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_is_an_expression_or_a_mistake(text in "[-*/,0-9a-z@ ]{0,30}") {
        let _ = Schedule::read_line(&text);
    }

    /// Minute by minute nothing is found that the step by days passes over. Where no clock is changed, that is.
    #[test]
    fn the_next_instant_is_the_first_that_fits(
        minute in 0u8..60, step in 1u8..30, hour in 0u8..24, any_hour in any::<bool>(), weekday in 0u8..8, start in 0u64..4_000_000,
    ) {
        let hour = if any_hour { "*".to_owned() } else { format!("{hour}") };
        let schedule = Schedule::read(&format!("{minute}-59/{step} {hour} * * {weekday}")).unwrap();
        let after = Timestamp(1_767_225_600_000_000 + start * 1_000_000);
        let found = schedule.next(after, &TimeZone::UTC).unwrap();
        let fits = |at: u64| {
            let time = Instant::from_second(at as i64).unwrap().to_zoned(TimeZone::UTC);
            let is_minute = time.minute() as u8 >= minute && (time.minute() as u8 - minute).is_multiple_of(step);
            let is_hour = hour == "*" || hour == time.hour().to_string();
            is_minute && is_hour && time.weekday().to_sunday_zero_offset() as u8 == weekday % 7
        };
        let first = (after.0 / 60_000_000 + 1..).find(|at| fits(at * 60)).unwrap();
        prop_assert_eq!(found.0, first * 60_000_000);
    }
}
