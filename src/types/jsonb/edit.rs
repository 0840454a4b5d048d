//! Changes of `jsonb` values: `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert`, `jsonb_strip_nulls`.

use super::value::Value;
use crate::{PgError, Result, SqlState};

fn invalid(text: &str) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

/// `a || b`
pub fn concat(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            a.extend(b);
            Value::object(a)
        }
        (Value::Array(mut a), Value::Array(b)) => {
            a.extend(b);
            Value::Array(a)
        }
        (Value::Array(mut a), b) => {
            a.push(b);
            Value::Array(a)
        }
        (a, Value::Array(mut b)) => {
            b.insert(0, a);
            Value::Array(b)
        }
        (a, b) => Value::Array(vec![a, b]),
    }
}

/// `v - keys`: keys of an object, strings of an array.
pub fn delete_keys(v: Value, keys: &[&str]) -> Result<Value> {
    Ok(match v {
        Value::Object(mut pairs) => {
            pairs.retain(|(k, _)| !keys.contains(&k.as_str()));
            Value::Object(pairs)
        }
        Value::Array(mut items) => {
            items.retain(|i| !matches!(i, Value::String(s) if keys.contains(&s.as_str())));
            Value::Array(items)
        }
        _ => return Err(invalid("cannot delete from scalar")),
    })
}

/// `v - index`
pub fn delete_index(v: Value, index: i32) -> Result<Value> {
    match v {
        Value::Array(mut items) => {
            if let Some(at) = position(items.len(), i64::from(index)) {
                items.remove(at);
            }
            Ok(Value::Array(items))
        }
        Value::Object(_) => Err(invalid("cannot delete from object using integer index")),
        _ => Err(invalid("cannot delete from scalar")),
    }
}

/// The place of an index that may count from the end.
fn position(length: usize, index: i64) -> Option<usize> {
    let at = if index < 0 { index + length as i64 } else { index };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// What is done at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replace; nothing where nothing stands.
    Replace,
    /// Replace, or add as a new key or element.
    ReplaceOrCreate,
    /// Insert before an element.
    InsertBefore,
    /// Insert after an element.
    InsertAfter,
    /// Delete.
    Delete,
}

/// Changes the value at a path. A step without meaning leaves everything as it was.
pub fn change(v: Value, path: &[Option<&str>], new: Option<&Value>, how: Change) -> Result<Value> {
    if !v.is_container() {
        return Err(invalid(match how {
            Change::Delete => "cannot delete path in scalar",
            _ => "cannot set path in scalar",
        }));
    }
    if path.is_empty()
        || matches!(&v, Value::Array(a) if a.is_empty() && blocks(how))
        || matches!(&v, Value::Object(o) if o.is_empty() && blocks(how))
    {
        return Ok(v);
    }
    let mut v = v;
    step(&mut v, path, 0, new, how)?;
    Ok(v)
}

/// Without the right to create there is nothing to do in an empty container.
fn blocks(how: Change) -> bool {
    matches!(how, Change::Replace | Change::Delete)
}

fn step(
    v: &mut Value,
    path: &[Option<&str>],
    level: usize,
    new: Option<&Value>,
    how: Change,
) -> Result<()> {
    let Some(key) = path[level] else {
        return Err(PgError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            format!("path element at position {} is null", level + 1),
        ));
    };
    let last = level + 1 == path.len();
    match v {
        Value::Object(pairs) => match (Value::find(pairs, key), last) {
            (Ok(at), false) => step(&mut pairs[at].1, path, level + 1, new, how),
            (Ok(at), true) => change_pair(pairs, at, new, how),
            (Err(at), true) if how != Change::Replace && how != Change::Delete => {
                if let Some(new) = new {
                    pairs.insert(at, (key.to_owned(), new.clone()));
                }
                Ok(())
            }
            (Err(_), _) => Ok(()),
        },
        Value::Array(items) => {
            let index = key.trim_start().parse::<i32>().map_err(|_| {
                PgError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    format!("path element at position {} is not an integer: \"{key}\"", level + 1),
                )
            })?;
            match (position(items.len(), i64::from(index)), last) {
                (Some(at), false) => step(&mut items[at], path, level + 1, new, how),
                (None, false) => Ok(()),
                (at, true) => {
                    change_item(items, at, index, new, how);
                    Ok(())
                }
            }
        }
        _ => Ok(()),
    }
}

fn change_pair(
    pairs: &mut Vec<(String, Value)>,
    at: usize,
    new: Option<&Value>,
    how: Change,
) -> Result<()> {
    match (how, new) {
        (Change::InsertBefore | Change::InsertAfter, _) => {
            return Err(invalid("cannot replace existing key")
                .hint("Try using the function jsonb_set to replace key value."));
        }
        (Change::Delete, _) => {
            pairs.remove(at);
        }
        (_, Some(new)) => pairs[at].1 = new.clone(),
        (_, None) => {}
    }
    Ok(())
}

fn change_item(
    items: &mut Vec<Value>,
    at: Option<usize>,
    index: i32,
    new: Option<&Value>,
    how: Change,
) {
    let Some(new) = new else {
        if let (Change::Delete, Some(at)) = (how, at) {
            items.remove(at);
        }
        return;
    };
    match (how, at) {
        (Change::Replace | Change::ReplaceOrCreate, Some(at)) => items[at] = new.clone(),
        (Change::InsertBefore, Some(at)) => items.insert(at, new.clone()),
        (Change::InsertAfter, Some(at)) => items.insert(at + 1, new.clone()),
        (Change::Replace | Change::Delete, _) => {}
        // Outside of the array: before its start or after its end.
        (_, None) if index < 0 => items.insert(0, new.clone()),
        (_, None) => items.push(new.clone()),
    }
}

/// `v['k'][0] = new`: what is missing on the way is made, an array for a number and an object for
/// any other key; gaps of arrays are filled with nulls.
pub fn assign(v: Value, path: &[String], new: Value) -> Result<Value> {
    assign_at(v, path, 0, new)
}

fn assign_at(v: Value, path: &[String], level: usize, new: Value) -> Result<Value> {
    let Some(key) = path.get(level) else { return Ok(new) };
    match v {
        Value::Object(mut pairs) => {
            match Value::find(&pairs, key) {
                Ok(at) => {
                    let old = std::mem::replace(&mut pairs[at].1, Value::Null);
                    pairs[at].1 = assign_at(old, path, level + 1, new)?;
                }
                Err(at) => pairs.insert(at, (key.clone(), made(&path[level + 1..], new))),
            }
            Ok(Value::Object(pairs))
        }
        Value::Array(mut items) => {
            let index = key.trim_start().parse::<i64>().map_err(|_| {
                let place = level + 1;
                let text = format!("path element at position {place} is not an integer: \"{key}\"");
                PgError::new(SqlState::INVALID_TEXT_REPRESENTATION, text)
            })?;
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if index < 0 { index + length } else { index };
            let Ok(at) = usize::try_from(at) else {
                let text =
                    format!("path element at position {} is out of range: {index}", level + 1);
                return Err(invalid(&text));
            };
            if at < items.len() {
                let old = std::mem::replace(&mut items[at], Value::Null);
                items[at] = assign_at(old, path, level + 1, new)?;
            } else {
                items.resize(at, Value::Null);
                items.push(made(&path[level + 1..], new));
            }
            Ok(Value::Array(items))
        }
        _ => {
            let detail = "The path assumes key is a composite object, but it is a scalar value.";
            Err(invalid("cannot replace existing key").detail(detail.to_owned()))
        }
    }
}

/// The containers of a path, with the value at its end.
fn made(path: &[String], new: Value) -> Value {
    let Some((key, rest)) = path.split_first() else { return new };
    let inner = made(rest, new);
    match key.trim_start().parse::<i32>() {
        Ok(index) => {
            let mut items = vec![Value::Null; usize::try_from(index).unwrap_or(0)];
            items.push(inner);
            Value::Array(items)
        }
        Err(_) => Value::object(vec![(key.clone(), inner)]),
    }
}

/// Takes the pairs with null values out of all objects.
pub fn strip_nulls(v: Value) -> Value {
    match v {
        Value::Object(pairs) => Value::Object(
            pairs
                .into_iter()
                .filter(|(_, v)| *v != Value::Null)
                .map(|(k, v)| (k, strip_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(strip_nulls).collect()),
        scalar => scalar,
    }
}
