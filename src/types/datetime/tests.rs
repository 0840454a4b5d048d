//! Input and output against values that PostgreSQL 15 gave.

use super::*;
use crate::Settings;
use crate::context::{DateOrder, DateStyle, IntervalStyle};

/// 2026-11-22 10:00:00 UTC
const NOW: i64 = 848_656_800_000_000;

fn settings() -> Settings {
    let zone = TimeZone::parse("America/Los_Angeles").expect("known zone");
    Settings { time_zone: zone, ..Settings::default() }
}

fn tstz(text: &str) -> String {
    let s = settings();
    match timestamptz_in(text, -1, &s, NOW) {
        Ok(ts) => {
            let mut out = Vec::new();
            timestamptz_out(&mut out, ts, &s).expect("in range");
            String::from_utf8(out).expect("ASCII")
        }
        Err(e) => e.to_string(),
    }
}

#[test]
fn timestamptz_input_styles() {
    for (input, expected) in [
        ("Feb 10 17:32:01 1997 PST", "1997-02-10 17:32:01-08"),
        ("1997-06-10 17:32:01.5 -07:30", "1997-06-10 18:02:01.5-07"),
        ("J2451187 04:05:06-05", "1999-01-08 01:05:06-08"),
        ("2001-09-22T18:19:20", "2001-09-22 18:19:20-07"),
        ("19970210 173201 America/New_York", "1997-02-10 14:32:01-08"),
        ("2000-03-15 08:14:01 GMT+8", "2000-03-15 08:14:01-08"),
        ("Feb 16 17:32:01 0097 BC", "0097-02-16 17:32:01-07:52:58 BC"),
        ("epoch", "1969-12-31 16:00:00-08"),
        ("infinity", "infinity"),
        ("tomorrow", "2026-11-23 00:00:00-08"),
        ("2024-11-03 01:30 MSK", "2024-11-02 15:30:00-07"),
        ("12.25.1997 10:00", "1997-12-25 10:00:00-08"),
        ("13/01/1997", "date/time field value out of range: \"13/01/1997\" (22008)"),
        (
            "nonsense",
            "invalid input syntax for type timestamp with time zone: \"nonsense\" (22007)",
        ),
        (
            "2000-01-01 10:00 +20",
            "time zone displacement out of range: \"2000-01-01 10:00 +20\" (22009)",
        ),
    ] {
        assert_eq!(tstz(input), expected, "{input}");
    }
}

#[test]
fn output_styles() {
    let mut s = settings();
    let ts = timestamptz_in("1997-02-10 17:32:01.25", -1, &s, NOW).expect("valid");
    for (style, order, expected) in [
        (DateStyle::Iso, DateOrder::Mdy, "1997-02-10 17:32:01.25-08"),
        (DateStyle::Sql, DateOrder::Mdy, "02/10/1997 17:32:01.25 PST"),
        (DateStyle::Sql, DateOrder::Dmy, "10/02/1997 17:32:01.25 PST"),
        (DateStyle::Postgres, DateOrder::Mdy, "Mon Feb 10 17:32:01.25 1997 PST"),
        (DateStyle::Postgres, DateOrder::Dmy, "Mon 10 Feb 17:32:01.25 1997 PST"),
        (DateStyle::German, DateOrder::Mdy, "10.02.1997 17:32:01.25 PST"),
    ] {
        (s.date_style, s.date_order) = (style, order);
        let mut out = Vec::new();
        timestamptz_out(&mut out, ts, &s).expect("in range");
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    }
}

#[test]
fn times() {
    let s = settings();
    let show = |text: &str| match timetz_in(text, -1, &s, NOW) {
        Ok((t, west)) => {
            let mut out = Vec::new();
            timetz_out(&mut out, t, west);
            String::from_utf8(out).expect("ASCII")
        }
        Err(e) => e.to_string(),
    };
    assert_eq!(show("040506.789+08"), "04:05:06.789+08");
    assert_eq!(show("04:05 PM PDT"), "16:05:00-07");
    assert_eq!(show("2003-03-07 15:36:39 America/New_York"), "15:36:39-05");
    assert_eq!(show("allballs"), "00:00:00+00");
    assert_eq!(
        show("15:36:39 America/New_York"),
        "invalid input syntax for type time with time zone: \"15:36:39 America/New_York\" (22007)"
    );
    assert_eq!(show("24:01"), "date/time field value out of range: \"24:01\" (22008)");
}

#[test]
fn intervals_in_four_styles() {
    use IntervalStyle::{Iso8601, Postgres, PostgresVerbose, SqlStandard};
    let styles = [Postgres, PostgresVerbose, SqlStandard, Iso8601];
    for (input, expected) in [
        (
            "1 year 2 months -3 days 4:05:06.7",
            [
                "1 year 2 mons -3 days +04:05:06.7",
                "@ 1 year 2 mons -3 days 4 hours 5 mins 6.7 secs",
                "+1-2 -3 +4:05:06.7",
                "P1Y2M-3DT4H5M6.7S",
            ],
        ),
        (
            "P1Y2M3W4DT5H6M7S",
            [
                "1 year 2 mons 25 days 05:06:07",
                "@ 1 year 2 mons 25 days 5 hours 6 mins 7 secs",
                "+1-2 +25 +5:06:07",
                "P1Y2M25DT5H6M7S",
            ],
        ),
        (
            "1.5 months ago",
            ["-1 mons -15 days", "@ 1 mon 15 days ago", "-0-1 -15 +0:00:00", "P-1M-15D"],
        ),
        ("-1-2", ["-1 years -2 mons", "@ 1 year 2 mons ago", "-1-2", "P-1Y-2M"]),
        ("0", ["00:00:00", "@ 0", "0", "PT0S"]),
    ] {
        let v = interval_in(input, -1, Postgres).expect("valid");
        for (style, expected) in styles.iter().zip(expected) {
            let mut out = Vec::new();
            interval_out(&mut out, v, *style);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected, "{input}");
        }
    }
    let error = interval_in("1 fortnight", -1, Postgres).expect_err("no such unit");
    assert_eq!(
        error.to_string(),
        "invalid input syntax for type interval: \"1 fortnight\" (22007)"
    );
}
