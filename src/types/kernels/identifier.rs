//! `parse_ident`: a qualified name taken apart.

use std::sync::Arc;

use super::call::{invalid_parameter, mismatch};
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgError, Result, oid};

fn starts(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || !c.is_ascii()
}

fn continues(c: char) -> bool {
    starts(c) || c == '$' || c.is_ascii_digit()
}

/// Takes one part off the front.
fn part<'a>(rest: &'a str, whole: &str, after_dot: bool) -> Result<(String, &'a str)> {
    let detail = |text: &str| not_a_name(whole).detail(text);
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut from = quoted;
        loop {
            let end = from.find('"').ok_or_else(|| detail("String has unclosed double quotes."))?;
            name.push_str(&from[..end]);
            from = &from[end + 1..];
            let Some(next) = from.strip_prefix('"') else { break };
            name.push('"');
            from = next;
        }
        if name.is_empty() {
            return Err(detail("Quoted identifier must not be empty."));
        }
        return Ok((name, from));
    }
    if !rest.starts_with(starts) {
        return Err(if rest.starts_with('.') {
            detail("No valid identifier before \".\".")
        } else if after_dot {
            detail("No valid identifier after \".\".")
        } else {
            not_a_name(whole)
        });
    }
    let end = rest.find(|c| !continues(c)).unwrap_or(rest.len());
    Ok((rest[..end].to_ascii_lowercase(), &rest[end..]))
}

fn not_a_name(whole: &str) -> PgError {
    invalid_parameter(format!("string is not a valid identifier: \"{whole}\""))
}

fn parse_ident(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [Datum::Text(whole), Datum::Bool(strict)] = args else { return Err(mismatch(args)) };
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let mut parts = Vec::new();
    let mut rest = whole.trim_start_matches(space);
    loop {
        let (name, behind) = part(rest, whole, !parts.is_empty())?;
        parts.push(Datum::text(name));
        let behind = behind.trim_start_matches(space);
        match behind.strip_prefix('.') {
            Some(next) => rest = next.trim_start_matches(space),
            None if behind.is_empty() || !strict => break,
            None => return Err(not_a_name(whole)),
        }
    }
    Ok(Datum::Array(Arc::new(ArrayValue::from_elements(oid::TEXT, parts))))
}

pub(crate) const KERNELS: &[(&str, Kernel)] = &[("parse_ident", parse_ident)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EvalContext, PgType};

    fn parse(text: &str, strict: bool) -> std::result::Result<Vec<String>, String> {
        let ctx = EvalContext::bare();
        let info = CallInfo { ctx: &ctx, args: &[], ret: PgType::new(oid::TEXT_ARRAY) };
        match parse_ident(&info, &[Datum::text(text), Datum::Bool(strict)]) {
            Ok(Datum::Array(a)) => {
                Ok(a.elements.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect())
            }
            Ok(other) => Err(format!("{other:?}")),
            Err(e) => Err(e.fields().detail.clone().unwrap_or_default()),
        }
    }

    #[test]
    fn names_are_taken_apart() {
        let parts = |names: &[&str]| Ok(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(parse("Schema . \"Ta\"\"ble\"", true), parts(&["schema", "Ta\"ble"]));
        assert_eq!(parse("foo.boo[]", false), parts(&["foo", "boo"]));
        assert_eq!(parse("foo.boo[]", true), Err(String::new()));
        assert_eq!(parse(" first.\"", true), Err("String has unclosed double quotes.".to_owned()));
        assert_eq!(parse("a.", true), Err("No valid identifier after \".\".".to_owned()));
        assert_eq!(parse(".a", true), Err("No valid identifier before \".\".".to_owned()));
        assert_eq!(parse("\"\"", true), Err("Quoted identifier must not be empty.".to_owned()));
    }
}
