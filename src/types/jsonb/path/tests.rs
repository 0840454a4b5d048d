//! Paths against values that PostgreSQL 15 gave.

use super::exec::{Stop, run};
use super::parse::parse;
use crate::jsonb::{Value, to_text};

fn query(value: &str, path: &str) -> String {
    let value = Value::parse(value).expect("valid JSON");
    let path = match parse(path) {
        Ok(path) => path,
        Err(e) => return e.to_string(),
    };
    let mut found = Vec::new();
    let result = run(&path, &value, &Value::Object(vec![]), &mut found);
    match result {
        Ok(()) => found
            .iter()
            .map(|v| to_text(&v.to_bytes().expect("short")))
            .collect::<Vec<_>>()
            .join(" "),
        Err(Stop::Soft(e) | Stop::Hard(e)) => e.to_string(),
    }
}

#[test]
fn steps_filters_and_arithmetic() {
    let doc = r#"{"a": [{"b": 1}, {"b": 2}, {"c": "x"}], "n": 5}"#;
    assert_eq!(query(doc, "$.a.b"), "1 2");
    assert_eq!(query(doc, "$.a[*] ? (@.b > 1)"), r#"{"b": 2}"#);
    assert_eq!(query(doc, "$.a[last].c"), "\"x\"");
    assert_eq!(query(doc, "$.n * 2 + 1"), "11");
    assert_eq!(query(doc, "$.a.size()"), "3");
    assert_eq!(query(doc, "$.** ? (@ == \"x\")"), "\"x\"");
    assert_eq!(query(doc, "$.a[*] ? (exists(@.c) && !(@.c starts with \"y\"))"), r#"{"c": "x"}"#);
}

#[test]
fn strict_mode_tells_what_is_missing() {
    assert_eq!(query("{}", "strict $.a"), "JSON object does not contain key \"a\" (2203A)");
    assert_eq!(
        query("1", "strict $[0]"),
        "jsonpath array accessor can only be applied to an array (22039)"
    );
    assert_eq!(query("[1]", "$.a.b["), "syntax error at end of jsonpath input (42601)");
}
