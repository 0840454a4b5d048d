//! Fields of DataRow messages straight from stored rows.

use meridian_catalog::row::{DatumRef, RowRef};
use meridian_types::arrow::Format;
use meridian_types::{Datum, EvalContext, PgError, PgType, SqlState, io};

/// The format of the `i`-th column.
fn format(formats: &[Format], i: usize) -> Format {
    match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(i).copied().unwrap_or(Format::Text),
    }
}

/// Begins a DataRow of so many fields; the answer is where its length goes.
fn begin(fields: usize, out: &mut Vec<u8>) -> usize {
    out.push(b'D');
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u16::try_from(fields).unwrap_or(u16::MAX).to_be_bytes());
    at
}

/// Puts the length that began at `at`; `own` says whether it counts its own four bytes.
fn end(at: usize, own: bool, out: &mut [u8]) -> Result<(), PgError> {
    let len = out.len() - at - if own { 0 } else { 4 };
    let len = i32::try_from(len)
        .map_err(|_| PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "row is too long"))?;
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

/// A DataRow of these columns of a stored row.
pub(super) fn data_row(
    row: &RowRef<'_>,
    columns: &[(usize, PgType)],
    eval: &EvalContext,
    formats: &[Format],
    out: &mut Vec<u8>,
) -> Result<(), PgError> {
    let at = begin(columns.len(), out);
    for (i, (column, ty)) in columns.iter().enumerate() {
        put_ref(row.get(*column)?, *ty, format(formats, i), eval, out)?;
    }
    end(at, true, out)
}

/// A DataRow of values.
pub fn put_row(
    values: &[Datum],
    types: impl IntoIterator<Item = PgType>,
    eval: &EvalContext,
    formats: &[Format],
    out: &mut Vec<u8>,
) -> Result<(), PgError> {
    let at = begin(values.len(), out);
    for (i, (value, ty)) in values.iter().zip(types).enumerate() {
        put_datum(value, ty, format(formats, i), eval, out)?;
    }
    end(at, true, out)
}

/// One field: its length, −1 for NULL, and its bytes.
pub fn put_datum(
    value: &Datum,
    ty: PgType,
    format: Format,
    eval: &EvalContext,
    out: &mut Vec<u8>,
) -> Result<(), PgError> {
    if value.is_null() {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    }
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    match format {
        Format::Text => io::text_out(value, ty, eval, out)?,
        Format::Binary => io::binary_send(value, ty, eval, out)?,
    }
    end(at, false, out)
}

fn integer(value: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

fn put_ref(
    value: DatumRef<'_>,
    ty: PgType,
    format: Format,
    eval: &EvalContext,
    out: &mut Vec<u8>,
) -> Result<(), PgError> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    match (format, value) {
        (_, DatumRef::Null) => {
            out[at..].copy_from_slice(&(-1_i32).to_be_bytes());
            return Ok(());
        }
        // Character types have the same bytes in both formats.
        (_, DatumRef::Text(v)) => out.extend_from_slice(v.as_bytes()),
        (Format::Text, DatumRef::Int2(v)) => integer(v.into(), out),
        (Format::Text, DatumRef::Int4(v)) => integer(v.into(), out),
        (Format::Text, DatumRef::Int8(v)) if ty.oid == meridian_types::oid::INT8 => integer(v, out),
        (Format::Text, DatumRef::Bool(v)) => out.push(if v { b't' } else { b'f' }),
        (Format::Binary, DatumRef::Int2(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (Format::Binary, DatumRef::Int4(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (Format::Binary, DatumRef::Int8(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (Format::Binary, DatumRef::Bool(v)) => out.push(u8::from(v)),
        (_, other) => {
            out.truncate(at);
            return put_datum(&other.into_datum(), ty, format, eval, out);
        }
    }
    end(at, false, out)
}
