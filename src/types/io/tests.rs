//! Expected texts are PostgreSQL 15's.
use super::*;

fn round(type_oid: Oid, text: &str) -> String {
    let ctx = EvalContext::bare();
    let value = text_in(type_oid, -1, text, &ctx).expect(text);
    let (mut bytes, mut stored) = (vec![], vec![]);
    binary_send(&value, PgType::new(type_oid), &ctx, &mut bytes).expect("send");
    assert_eq!(binary_recv(type_oid, -1, &bytes, &ctx).expect("recv"), value);
    storage::encode_bare(&value, &mut stored);
    assert_eq!(storage::decode_bare(type_oid, &stored).expect("stored"), value);
    to_text(&value, PgType::new(type_oid), &ctx).expect("text")
}

fn fails(type_oid: Oid, typmod: i32, text: &str) -> String {
    text_in(type_oid, typmod, text, &EvalContext::bare()).expect_err(text).fields().message.clone()
}

#[test]
fn floats_print_like_postgresql() {
    for (text, want) in [
        ("1e15", "1e+15"),
        ("123456789012345", "123456789012345"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("-0", "-0"),
        ("1e300", "1e+300"),
        ("inf", "Infinity"),
        (" 0.1 ", "0.1"),
        ("100", "100"),
        ("-12.5", "-12.5"),
    ] {
        assert_eq!(round(oid::FLOAT8, text), want);
    }
    assert_eq!(round(oid::FLOAT4, "123456789"), "1.2345679e+08");
    assert_eq!(round(oid::FLOAT4, "100000"), "100000");
    assert_eq!(
        fails(oid::FLOAT8, -1, "1e400"),
        "\"1e400\" is out of range for type double precision"
    );
    assert_eq!(
        fails(oid::FLOAT8, -1, "x"),
        "invalid input syntax for type double precision: \"x\""
    );
}

#[test]
fn integers_and_strings_complain_like_postgresql() {
    assert_eq!(fails(oid::INT4, -1, "1x"), "invalid input syntax for type integer: \"1x\"");
    assert_eq!(
        fails(oid::INT4, -1, "3000000000"),
        "value \"3000000000\" is out of range for type integer"
    );
    assert_eq!(fails(oid::VARCHAR, 9, "abcdef"), "value too long for type character varying(5)");
    assert_eq!(fails(oid::NUMERIC, ((3 << 16) | 1) + 4, "123.45"), "numeric field overflow");
    assert_eq!(fails(oid::BOOL, -1, "o"), "invalid input syntax for type boolean: \"o\"");
    let ctx = EvalContext::bare();
    assert_eq!(text_in(oid::BPCHAR, 8, "ab", &ctx), Ok(Datum::text("ab  ")));
    assert_eq!(text_in(oid::VARCHAR, 6, "ab   ", &ctx), Ok(Datum::text("ab")));
    assert_eq!(round(oid::BYTEA, "a\\\\b\\001"), "\\x615c6201");
    assert_eq!(
        round(oid::UUID, "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}"),
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    );
}

#[test]
fn arrays_keep_shape_bounds_and_quotes() {
    assert_eq!(round(oid::INT4_ARRAY, " { 1 , NULL,3 } "), "{1,NULL,3}");
    assert_eq!(round(oid::INT4_ARRAY, "{{1,2},{3,4},{5,6}}"), "{{1,2},{3,4},{5,6}}");
    assert_eq!(round(oid::INT4_ARRAY, "[2:3]={7,8}"), "[2:3]={7,8}");
    assert_eq!(round(oid::TEXT_ARRAY, r#"{"a b",c\,d,"null",""}"#), r#"{"a b","c,d","null",""}"#);
    assert!(fails(oid::INT4_ARRAY, -1, "{1,{2}}").starts_with("malformed array literal"));
    assert!(fails(oid::INT4_ARRAY, -1, "{1,2").starts_with("malformed array literal"));
}

#[test]
fn xid8_takes_what_c_takes() {
    for (text, shown) in [
        ("18446744073709551615", "18446744073709551615"),
        ("99999999999999999999", "18446744073709551615"),
        ("-1", "18446744073709551615"),
        (" 42 ", "42"),
        ("0xff", "255"),
        ("010", "8"),
        ("12abc", "12"),
        ("abc", "0"),
    ] {
        assert_eq!(round(oid::XID8, text), shown, "{text}");
    }
}

/// Each row around a row doubles the quotes: what cannot be written is refused at once.
#[test]
fn rows_in_rows_end_before_the_memory_does() {
    let around = |inner: Datum| Datum::Record([inner].into());
    let nested = |levels: u32| (0..levels).fold(Datum::Int4(1), |inner, _| around(inner));
    let write = |value: &Datum| {
        let mut text = Vec::new();
        let ty = PgType::new(oid::RECORD);
        text_out(value, ty, &EvalContext::bare(), &mut text).map(|()| text.len())
    };
    assert_eq!(write(&nested(2)).ok(), Some("(\"(1)\")".len()));
    assert!(write(&nested(12)).is_ok_and(|bytes| bytes > 1 << 11));
    for levels in [40, 900] {
        let refused = write(&nested(levels)).expect_err("it would take all memory");
        assert_eq!(refused.state(), crate::SqlState::PROGRAM_LIMIT_EXCEEDED);
    }
}
