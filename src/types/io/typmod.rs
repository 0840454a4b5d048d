//! Length coercions: what a type modifier does to a value.

use std::sync::Arc;

use crate::builtin::array_element;
use crate::oid;
use crate::{ArrayValue, Datum, PgError, PgType, Result, SqlState, datetime};

fn too_long(name: &str, limit: usize) -> PgError {
    PgError::new(
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
        format!("value too long for type {name}({limit})"),
    )
}

/// The characters that `n` leaves: cut silently when explicit or when only blanks go.
fn fit(text: &Arc<str>, limit: usize, explicit: bool, name: &str) -> Result<Option<usize>> {
    if text.len() <= limit {
        return Ok(None);
    }
    let Some((cut, _)) = text.char_indices().nth(limit) else { return Ok(None) };
    if !explicit && text[cut..].bytes().any(|b| b != b' ') {
        return Err(too_long(name, limit));
    }
    Ok(Some(cut))
}

fn limit_of(typmod: i32) -> Option<usize> {
    usize::try_from(typmod - 4).ok()
}

/// `varchar(n)`
pub(crate) fn varchar(text: Arc<str>, typmod: i32, explicit: bool) -> Result<Arc<str>> {
    let Some(limit) = limit_of(typmod) else { return Ok(text) };
    Ok(match fit(&text, limit, explicit, "character varying")? {
        Some(cut) => Arc::from(&text[..cut]),
        None => text,
    })
}

/// Blanks to pad with.
const BLANKS: &str = "                                                                ";

/// `bpcharin` of a short value, made in one go; `None` when it is not as simple as that.
pub(crate) fn short_bpchar(text: &str, typmod: i32) -> Option<Arc<str>> {
    let limit = limit_of(typmod)?;
    let mut padded = [b' '; 128];
    if text.len() > limit || limit > padded.len() || !text.is_ascii() {
        return None;
    }
    padded[..text.len()].copy_from_slice(text.as_bytes());
    std::str::from_utf8(&padded[..limit]).ok().map(Arc::from)
}

/// `char(n)`: blank-padded to exactly n characters.
pub(crate) fn bpchar(text: Arc<str>, typmod: i32, explicit: bool) -> Result<Arc<str>> {
    let Some(limit) = limit_of(typmod) else { return Ok(text) };
    if let Some(cut) = fit(&text, limit, explicit, "character")? {
        return Ok(Arc::from(&text[..cut]));
    }
    let has = text.chars().count();
    if has == limit {
        return Ok(text);
    }
    let mut padded = String::with_capacity(text.len() + limit - has);
    padded.push_str(&text);
    let mut missing = limit - has;
    while missing > 0 {
        let some = missing.min(BLANKS.len());
        padded.push_str(&BLANKS[..some]);
        missing -= some;
    }
    Ok(Arc::from(padded))
}

/// Applies the modifier of `ty` to a value of its type. An explicit cast truncates strings where
/// an assignment would fail.
pub fn apply_typmod(value: Datum, ty: PgType, explicit: bool) -> Result<Datum> {
    if ty.typmod < 0 {
        return Ok(value);
    }
    Ok(match (value, ty.oid) {
        (Datum::Text(s), oid::VARCHAR) => Datum::Text(varchar(s, ty.typmod, explicit)?),
        (Datum::Text(s), oid::BPCHAR) => Datum::Text(bpchar(s, ty.typmod, explicit)?),
        (Datum::Numeric(v), _) => Datum::Numeric(v.apply_typmod(ty.typmod)?),
        (Datum::Time(v), _) => Datum::Time(datetime::time_scale(v, ty.typmod)),
        (Datum::TimeTz(v, west), _) => Datum::TimeTz(datetime::time_scale(v, ty.typmod), west),
        (Datum::Timestamp(v), _) => Datum::Timestamp(datetime::timestamp_scale(v, ty.typmod)?),
        (Datum::TimestampTz(v), _) => Datum::TimestampTz(datetime::timestamp_scale(v, ty.typmod)?),
        (Datum::Interval(v), _) => Datum::Interval(datetime::interval_scale(v, ty.typmod)?),
        (Datum::Array(a), _) => {
            let Some(element) = array_element(ty.oid) else { return Ok(Datum::Array(a)) };
            let ty = PgType::with_typmod(element, ty.typmod);
            let elements = a
                .elements
                .iter()
                .map(|e| apply_typmod(e.clone(), ty, explicit))
                .collect::<Result<Vec<_>>>()?;
            Datum::Array(Arc::new(ArrayValue { elements, ..(*a).clone() }))
        }
        (other, _) => other,
    })
}
