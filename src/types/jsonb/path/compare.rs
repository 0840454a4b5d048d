//! Predicates over pairs of items: comparison, `starts with`, `like_regex`.

use std::cmp::Ordering;

use super::Binary;
use crate::jsonb::Value;
use crate::{PgError, Result, SqlState};

/// Compares two items; `None` is unknown.
pub(super) fn compare(op: Binary, a: &Value, b: &Value) -> Option<bool> {
    let order = match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) | (_, Value::Null) => return Some(op == Binary::Ne),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.compare(b),
        (Value::String(a), Value::String(b)) => {
            if op == Binary::StartsWith {
                return Some(a.starts_with(b.as_str()));
            }
            a.cmp(b)
        }
        _ => return None,
    };
    Some(match op {
        Binary::Eq => order.is_eq(),
        Binary::Ne => order.is_ne(),
        Binary::Lt => order.is_lt(),
        Binary::Le => order.is_le(),
        Binary::Gt => order.is_gt(),
        Binary::Ge => order.is_ge(),
        _ => return None,
    })
}

/// A compiled `like_regex`.
pub(super) fn regex(pattern: &str, flags: &str) -> Result<fancy_regex::Regex> {
    let literal = flags.contains('q');
    let body = if literal { fancy_regex::escape(pattern).into_owned() } else { pattern.to_owned() };
    let mut inline: String = flags.chars().filter(|c| "ismx".contains(*c)).collect();
    if literal {
        inline.retain(|c| c == 'i');
    }
    let prefix = if inline.is_empty() { String::new() } else { format!("(?{inline})") };
    fancy_regex::Regex::new(&format!("{prefix}{body}")).map_err(|e| {
        PgError::new(
            SqlState::INVALID_REGULAR_EXPRESSION,
            format!("invalid regular expression: {e}"),
        )
    })
}
