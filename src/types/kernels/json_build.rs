//! Building and changing JSON: `to_json`, `json_build_object`, `jsonb_set`, `||` and their like.

use super::json_access::{array, bytes, invalid, string, texts, view};
use super::json_value::{Layout, arg_type, key_text, tree, write};
use crate::jsonb::edit::{self, Change};
use crate::jsonb::{Kind, Node, Value, parse, text};
use crate::registry::{CallInfo, Kernel};
use crate::{ArrayValue, Datum, PgError, Result, SqlState};

fn json(out: Vec<u8>) -> Datum {
    Datum::text(text::into_string(out))
}

fn jsonb(v: &Value) -> Result<Datum> {
    v.to_bytes().map(Datum::Jsonb)
}

fn owned(d: &Datum) -> Result<Value> {
    Ok(Value::of(view(d)?))
}

fn to_json(call: &CallInfo<'_>, a: &[Datum]) -> Result<Datum> {
    let lines = a.get(1).and_then(Datum::as_bool) == Some(true);
    let layout = if lines { Layout::Lines } else { Layout::Compact };
    let mut out = Vec::new();
    write(&mut out, &a[0], arg_type(call, 0, &a[0]), call.ctx, layout)?;
    Ok(json(out))
}

/// Makers.
pub(crate) const MAKERS: &[(&str, Kernel)] = &[
    ("to_json", to_json),
    ("array_to_json", to_json),
    ("array_to_json_pretty", to_json),
    ("row_to_json", to_json),
    ("row_to_json_pretty", to_json),
    ("to_jsonb", |c, a| jsonb(&tree(&a[0], arg_type(c, 0, &a[0]), c.ctx)?)),
    ("json_build_array", |c, a| {
        let args = typed(c, a);
        let mut out = vec![b'['];
        for (i, (value, ty)) in args.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            write(&mut out, value, *ty, c.ctx, Layout::Compact)?;
        }
        out.push(b']');
        Ok(json(out))
    }),
    ("json_build_array_noargs", |_, _| Ok(Datum::text("[]"))),
    ("json_build_object", |c, a| {
        let args = pairs_of(typed(c, a), "json_build_object")?;
        let mut out = vec![b'{'];
        for (i, pair) in args.chunks_exact(2).enumerate() {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            if pair[0].0.is_null() {
                return Err(invalid(format!("argument {} cannot be null", 2 * i + 1))
                    .hint("Object keys should be text."));
            }
            text::quote(&mut out, &key_text(&pair[0].0, pair[0].1, c.ctx)?);
            out.extend_from_slice(b" : ");
            write(&mut out, &pair[1].0, pair[1].1, c.ctx, Layout::Compact)?;
        }
        out.push(b'}');
        Ok(json(out))
    }),
    ("json_build_object_noargs", |_, _| Ok(Datum::text("{}"))),
    ("jsonb_build_array", |c, a| {
        let items = typed(c, a).into_iter().map(|(v, ty)| tree(&v, ty, c.ctx));
        jsonb(&Value::Array(items.collect::<Result<_>>()?))
    }),
    ("jsonb_build_array_noargs", |_, _| jsonb(&Value::Array(vec![]))),
    ("jsonb_build_object", |c, a| {
        let args = pairs_of(typed(c, a), "jsonb_build_object")?;
        let pairs = args.chunks_exact(2).enumerate().map(|(i, pair)| {
            if pair[0].0.is_null() {
                return Err(invalid(format!("argument {}: key must not be null", 2 * i + 1)));
            }
            let key = key_text(&pair[0].0, pair[0].1, c.ctx)?;
            Ok((key, tree(&pair[1].0, pair[1].1, c.ctx)?))
        });
        jsonb(&Value::object(pairs.collect::<Result<_>>()?))
    }),
    ("jsonb_build_object_noargs", |_, _| jsonb(&Value::Object(vec![]))),
    ("json_object", |_, a| object_json(&pairs_of_array(array(&a[0])?)?)),
    ("json_object_two_arg", |_, a| object_json(&zipped(array(&a[0])?, array(&a[1])?)?)),
    ("jsonb_object", |_, a| object_jsonb(pairs_of_array(array(&a[0])?)?)),
    ("jsonb_object_two_arg", |_, a| object_jsonb(zipped(array(&a[0])?, array(&a[1])?)?)),
];

type Typed = (Datum, crate::PgType);

/// The arguments with their types.
fn typed(call: &CallInfo<'_>, a: &[Datum]) -> Vec<Typed> {
    a.iter().enumerate().map(|(i, d)| (d.clone(), arg_type(call, i, d))).collect()
}

fn pairs_of(args: Vec<Typed>, function: &str) -> Result<Vec<Typed>> {
    if !args.len().is_multiple_of(2) {
        return Err(invalid("argument list must have even number of elements").hint(format!(
            "The arguments of {function}() must consist of alternating keys and values."
        )));
    }
    Ok(args)
}

type TextPair = (String, Option<String>);

fn subscript_error(text: &str) -> PgError {
    PgError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, text)
}

fn null_key() -> PgError {
    PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "null value not allowed for object key")
}

fn text_pair(key: &Datum, value: &Datum) -> Result<TextPair> {
    let key = key.as_str().ok_or_else(null_key)?.to_owned();
    Ok((key, value.as_str().map(str::to_owned)))
}

fn pairs_of_array(a: &ArrayValue) -> Result<Vec<TextPair>> {
    match a.dims.as_slice() {
        [] => return Ok(vec![]),
        [n] if n % 2 != 0 => {
            return Err(subscript_error("array must have even number of elements"));
        }
        [_] | [_, 2] => {}
        [_, _] => return Err(subscript_error("array must have two columns")),
        _ => return Err(subscript_error("wrong number of array subscripts")),
    }
    a.elements.chunks_exact(2).map(|p| text_pair(&p[0], &p[1])).collect()
}

fn zipped(keys: &ArrayValue, values: &ArrayValue) -> Result<Vec<TextPair>> {
    if keys.dims.len() > 1 || keys.dims.len() != values.dims.len() {
        return Err(subscript_error("wrong number of array subscripts"));
    }
    if keys.elements.len() != values.elements.len() {
        return Err(subscript_error("mismatched array dimensions"));
    }
    keys.elements.iter().zip(&values.elements).map(|(k, v)| text_pair(k, v)).collect()
}

fn object_json(pairs: &[TextPair]) -> Result<Datum> {
    let mut out = vec![b'{'];
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        text::quote(&mut out, key);
        out.extend_from_slice(b" : ");
        match value {
            Some(value) => text::quote(&mut out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(json(out))
}

fn object_jsonb(pairs: Vec<TextPair>) -> Result<Datum> {
    let pairs = pairs.into_iter().map(|(k, v)| (k, v.map_or(Value::Null, Value::String)));
    jsonb(&Value::object(pairs.collect()))
}

/// Changes.
pub(crate) const CHANGES: &[(&str, Kernel)] = &[
    ("jsonb_concat", |_, a| jsonb(&edit::concat(owned(&a[0])?, owned(&a[1])?))),
    ("jsonb_delete", |_, a| jsonb(&edit::delete_keys(owned(&a[0])?, &[string(&a[1])?])?)),
    ("jsonb_delete_array", |_, a| {
        let keys: Vec<&str> = texts(&a[1])?.into_iter().flatten().collect();
        jsonb(&edit::delete_keys(owned(&a[0])?, &keys)?)
    }),
    ("jsonb_delete_idx", |_, a| {
        let index = a[1].as_i64().and_then(|i| i32::try_from(i).ok()).unwrap_or(0);
        jsonb(&edit::delete_index(owned(&a[0])?, index)?)
    }),
    ("jsonb_delete_path", |_, a| {
        let path = path_of(&a[1])?;
        jsonb(&edit::change(owned(&a[0])?, &path, None, Change::Delete)?)
    }),
    ("jsonb_set", |_, a| set(&a[0], &a[1], &a[2], flag(a, 3, true))),
    ("jsonb_set_lax", |_, a| set_lax(a)),
    ("jsonb_insert", |_, a| {
        let how = if flag(a, 3, false) { Change::InsertAfter } else { Change::InsertBefore };
        let new = owned(&a[2])?;
        jsonb(&edit::change(owned(&a[0])?, &path_of(&a[1])?, Some(&new), how)?)
    }),
    ("jsonb_strip_nulls", |_, a| {
        bytes(&a[0])?;
        jsonb(&edit::strip_nulls(owned(&a[0])?))
    }),
    ("json_strip_nulls", |_, a| {
        let json_text = string(&a[0])?;
        let node = parse::parse(json_text, true)?;
        let mut out = Vec::with_capacity(json_text.len());
        strip(&mut out, &node, json_text);
        Ok(json(out))
    }),
];

fn flag(a: &[Datum], at: usize, default: bool) -> bool {
    a.get(at).and_then(Datum::as_bool).unwrap_or(default)
}

fn path_of(d: &Datum) -> Result<Vec<Option<&str>>> {
    if array(d)?.dims.len() > 1 {
        return Err(subscript_error("wrong number of array subscripts"));
    }
    texts(d)
}

fn set(target: &Datum, path: &Datum, new: &Datum, create: bool) -> Result<Datum> {
    let how = if create { Change::ReplaceOrCreate } else { Change::Replace };
    let new = owned(new)?;
    jsonb(&edit::change(owned(target)?, &path_of(path)?, Some(&new), how)?)
}

fn set_lax(a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() || a[1].is_null() || a[3].is_null() {
        return Ok(Datum::Null);
    }
    let refuse = |text: &str| PgError::new(SqlState::INVALID_PARAMETER_VALUE, text);
    let Some(treatment) = a.get(4).and_then(Datum::as_str) else {
        return Err(refuse(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        ));
    };
    if !a[2].is_null() {
        return set(&a[0], &a[1], &a[2], flag(a, 3, true));
    }
    match treatment {
        "raise_exception" => {
            Err(PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "JSON value must not be null")
                .detail(
                    "Exception was raised because null_value_treatment is \"raise_exception\".",
                )
                .hint("To avoid, either change the null_value_treatment argument or ensure that an SQL NULL is not passed."))
        }
        "use_json_null" => {
            let null = jsonb(&Value::Null)?;
            set(&a[0], &a[1], &null, flag(a, 3, true))
        }
        "delete_key" => {
            let path = path_of(&a[1])?;
            jsonb(&edit::change(owned(&a[0])?, &path, None, Change::Delete)?)
        }
        "return_target" => Ok(a[0].clone()),
        _ => Err(refuse(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        )),
    }
}

/// Writes a parsed text without spaces and without the null pairs of objects.
fn strip(out: &mut Vec<u8>, node: &Node, json_text: &str) {
    match &node.kind {
        Kind::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                strip(out, item, json_text);
            }
            out.push(b']');
        }
        Kind::Object(pairs) => {
            out.push(b'{');
            let kept = pairs.iter().filter(|(_, v)| v.kind != Kind::Null);
            for (i, (key, value)) in kept.enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                text::quote(out, key);
                out.push(b':');
                strip(out, value, json_text);
            }
            out.push(b'}');
        }
        Kind::String(s) => text::quote(out, s),
        _ => out.extend_from_slice(json_text[node.span.clone()].as_bytes()),
    }
}
