//! Date, time, formatting and JSON kernels against values that PostgreSQL 15 gave.

use crate::datetime::TimeZone;
use crate::registry::{aggregate, scalar, set_returning};
use crate::{CallInfo, Datum, EvalContext, PgType, Settings, io, oid};
use std::sync::Arc;

fn context() -> EvalContext {
    let time_zone = TimeZone::parse("America/Los_Angeles").expect("known zone");
    EvalContext {
        settings: Arc::new(Settings { time_zone, ..Settings::default() }),
        transaction_time: 848_656_800_000_000,
        ..EvalContext::bare()
    }
}

/// Calls a kernel with arguments given as type and text; the answer as text.
fn call(prosrc: &str, args: &[(u32, &str)]) -> String {
    let ctx = context();
    let types: Vec<PgType> = args.iter().map(|(t, _)| PgType::new(*t)).collect();
    let info = CallInfo { ctx: &ctx, args: &types, ret: PgType::new(oid::TEXT) };
    let show = |d: &Datum| match d {
        Datum::Null => "NULL".to_owned(),
        d => io::to_text(d, io::natural_type(d), &ctx).expect("has a text form"),
    };
    let run = || -> crate::Result<String> {
        let values = args
            .iter()
            .map(|(t, text)| io::text_in(*t, -1, text, &ctx))
            .collect::<crate::Result<Vec<_>>>()?;
        if let Some(kernel) = scalar(prosrc) {
            return kernel(&info, &values).map(|d| show(&d));
        }
        let rows = set_returning(prosrc).expect("kernel exists")(&info, &values)?;
        Ok(rows.iter().map(show).collect::<Vec<_>>().join("; "))
    };
    run().unwrap_or_else(|e| e.to_string())
}

#[test]
fn calendar_arithmetic_respects_months_and_zones() {
    use oid::{INTERVAL, TIMESTAMP, TIMESTAMPTZ};
    let add = |ty, a, b| {
        let name =
            if ty == TIMESTAMP { "timestamp_pl_interval" } else { "timestamptz_pl_interval" };
        call(name, &[(ty, a), (INTERVAL, b)])
    };
    assert_eq!(add(TIMESTAMP, "2024-01-31 10:00", "1 mon"), "2024-02-29 10:00:00");
    assert_eq!(add(TIMESTAMPTZ, "2024-03-09 10:00", "1 day"), "2024-03-10 10:00:00-07");
    assert_eq!(add(TIMESTAMPTZ, "2024-03-09 10:00", "24 hours"), "2024-03-10 11:00:00-07");
    assert_eq!(add(TIMESTAMP, "294276-12-31", "1 day"), "timestamp out of range (22008)");
    assert_eq!(
        call("timestamp_age", &[(TIMESTAMP, "2001-04-10"), (TIMESTAMP, "1957-06-13")]),
        "43 years 9 mons 27 days"
    );
    assert_eq!(
        call("interval_mul", &[(INTERVAL, "1 mon 1 day 01:00"), (oid::FLOAT8, "1.5")]),
        "1 mon 16 days 13:30:00"
    );
}

#[test]
fn parts_truncation_and_bins() {
    use oid::{INTERVAL, TEXT, TIMESTAMP};
    let at = (TIMESTAMP, "2001-02-16 20:38:40.12");
    assert_eq!(call("extract_timestamp", &[(TEXT, "epoch"), at]), "982355920.120000");
    assert_eq!(call("timestamp_part", &[(TEXT, "second"), at]), "40.12");
    assert_eq!(call("timestamp_trunc", &[(TEXT, "week"), at]), "2001-02-12 00:00:00");
    assert_eq!(
        call("extract_timestamp", &[(TEXT, "foo"), at]),
        "unit \"foo\" not recognized for type timestamp without time zone (22023)"
    );
    assert_eq!(
        call("timestamp_bin", &[(INTERVAL, "15 min"), at, (TIMESTAMP, "2001-01-01")]),
        "2001-02-16 20:30:00"
    );
}

#[test]
fn templates_of_dates_and_numbers() {
    use oid::{NUMERIC, TEXT, TIMESTAMP};
    let char_of = |template| {
        call("timestamp_to_char", &[(TIMESTAMP, "1997-02-10 17:32:01.456"), (TEXT, template)])
    };
    assert_eq!(char_of("Day, FMDDth Month YYYY"), "Monday   , 10th February  1997");
    assert_eq!(char_of("HH12:MI:SS.MS a.m. IYYY-IW-ID"), "05:32:01.456 p.m. 1997-07-1");
    let number = |n, template| call("numeric_to_char", &[(NUMERIC, n), (TEXT, template)]);
    assert_eq!(number("-1234.5", "9,999.99PR"), "<1,234.50>");
    assert_eq!(number("0.1", "FM9.9"), ".1");
    assert_eq!(number("485", "RN"), "        CDLXXXV");
    assert_eq!(number("1234", "999"), " ###");
    assert_eq!(call("numeric_to_number", &[(TEXT, "5.01-"), (TEXT, "FM9.999999MI")]), "-5.01");
    assert_eq!(
        call("to_date", &[(TEXT, "1 Foo 2024"), (TEXT, "DD Mon YYYY")]),
        "invalid value \"Foo\" for \"Mon\" (22007)"
    );
    assert_eq!(
        call(
            "to_timestamp",
            &[(TEXT, "2011-12-18 11:38 +05:20"), (TEXT, "YYYY-MM-DD HH12:MI TZH:TZM")]
        ),
        "2011-12-17 22:18:00-08"
    );
}

#[test]
fn json_of_values() {
    use oid::{JSONB, TEXT, TIMESTAMPTZ};
    assert_eq!(call("to_json", &[(TIMESTAMPTZ, "2024-01-01")]), "\"2024-01-01T00:00:00-08:00\"");
    assert_eq!(
        call(
            "jsonb_set",
            &[
                (JSONB, r#"{"a": [1, 2]}"#),
                (oid::TEXT_ARRAY, "{a,5}"),
                (JSONB, "9"),
                (oid::BOOL, "t")
            ]
        ),
        r#"{"a": [1, 2, 9]}"#
    );
    assert_eq!(
        call("json_object_field", &[(oid::JSON, r#"{"a" : { "b":1.50 } }"#), (TEXT, "a")]),
        r#"{ "b":1.50 }"#
    );
    assert_eq!(call("jsonb_each_text", &[(JSONB, r#"{"bb": "x", "a": null}"#)]), "(a,); (bb,x)");
}

#[test]
fn interval_average_and_json_aggregate() {
    let ctx = context();
    let ty = [PgType::new(oid::INTERVAL)];
    let info = CallInfo { ctx: &ctx, args: &ty, ret: PgType::new(oid::INTERVAL) };
    let mut average = aggregate("avg(interval)").expect("exists")(&info);
    for text in ["1 day", "2 days 12:00"] {
        let value = io::text_in(oid::INTERVAL, -1, text, &ctx).expect("valid");
        average.update(&info, &[value]).expect("in range");
    }
    average.update(&info, &[Datum::Null]).expect("NULL is skipped");
    let result = average.finish(&info).expect("in range");
    assert_eq!(io::to_text(&result, ty[0], &ctx).expect("text"), "1 day 18:00:00");
    let ty = [PgType::new(oid::INT4)];
    let info = CallInfo { ctx: &ctx, args: &ty, ret: PgType::new(oid::JSON) };
    let mut list = aggregate("json_agg").expect("exists")(&info);
    assert_eq!(list.finish(&info).expect("empty"), Datum::Null);
    for value in [Datum::Int4(1), Datum::Null] {
        list.update(&info, &[value]).expect("any value");
    }
    assert_eq!(list.finish(&info).expect("two"), Datum::text("[1, null]"));
}

#[test]
fn overlaps_with_lengths() {
    use oid::{INTERVAL, TIMESTAMP};
    let periods = |length| {
        call(
            "overlaps(timestamp,interval,timestamp,interval)",
            &[
                (TIMESTAMP, "2000-11-27"),
                (INTERVAL, length),
                (TIMESTAMP, "2000-11-28"),
                (INTERVAL, "1 day"),
            ],
        )
    };
    assert_eq!((periods("12 hours"), periods("36 hours")), ("f".to_owned(), "t".to_owned()));
}
