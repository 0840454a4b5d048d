//! `jsonb` against values that PostgreSQL 15 gave.

use super::*;

fn round(text: &str) -> String {
    match jsonb_in(text) {
        Ok(bytes) => to_text(&bytes),
        Err(e) => {
            let f = e.fields();
            let detail = f.detail.as_deref().unwrap_or("");
            format!("{} | {detail} | {}", f.message, f.context.as_deref().unwrap_or(""))
        }
    }
}

#[test]
fn keys_are_sorted_and_the_last_duplicate_wins() {
    assert_eq!(
        round(r#" {"bb": 1.50, "a": [true, null, "x\u00e4\n"], "bb": 2e3, "": {}} "#),
        r#"{"": {}, "a": [true, null, "xä\n"], "bb": 2000}"#
    );
    assert_eq!(round("[]"), "[]");
    assert_eq!(round(r#""\ud83d\ude04""#), "\"😄\"");
}

#[test]
fn errors_name_token_and_context() {
    let message = "invalid input syntax for type json";
    for (input, detail, context) in [
        (r#"["\x"]"#, r#"Escape sequence "\x" is invalid."#, r#"JSON data, line 1: ["\x..."#),
        (
            r#"{"abc":1:2}"#,
            r#"Expected "," or "}", but found ":"."#,
            r#"JSON data, line 1: {"abc":1:..."#,
        ),
        ("[1,2,", "The input string ended unexpectedly.", "JSON data, line 1: [1,2,"),
        (
            r#"{"abcdefghijklmnopqrstuvwxyz":1,"abcdefghijklmnopqrstuvwxyz":trux, "a":1}"#,
            r#"Token "trux" is invalid."#,
            r#"JSON data, line 1: ...opqrstuvwxyz":1,"abcdefghijklmnopqrstuvwxyz":trux..."#,
        ),
        ("01", "Token \"01\" is invalid.", "JSON data, line 1: 01"),
        (
            r#""\ud83dx""#,
            "Unicode low surrogate must follow a high surrogate.",
            r#"JSON data, line 1: "\ud83dx..."#,
        ),
    ] {
        assert_eq!(round(input), format!("{message} | {detail} | {context}"));
    }
}

#[test]
fn sort_keys_follow_the_order() {
    let sorted = [
        "[]",
        "null",
        "\"a\"",
        "\"ab\"",
        "\"b\"",
        "-1",
        "0.5",
        "2",
        "false",
        "true",
        "[1]",
        "[2]",
        "[1, 2]",
        "{}",
        r#"{"a": 1}"#,
        r#"{"a": 2}"#,
        r#"{"b": 0}"#,
        r#"{"a": 1, "b": 2}"#,
    ];
    let values: Vec<Bytes> = sorted.iter().map(|t| jsonb_in(t).expect("valid")).collect();
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate() {
            let (mut ka, mut kb) = (Vec::new(), Vec::new());
            sort_key(&mut ka, a);
            sort_key(&mut kb, b);
            assert_eq!(compare(Ref::new(a), Ref::new(b)), i.cmp(&j), "{} {}", sorted[i], sorted[j]);
            assert_eq!(ka.cmp(&kb), i.cmp(&j), "keys of {} {}", sorted[i], sorted[j]);
        }
    }
}
