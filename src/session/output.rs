//! Rows into the client's buffer, in the wire's form.
//!
//! A row is the byte `D`, its length, the number of fields, and for each field its length (−1 for
//! NULL) and its bytes. Lengths are filled in when they are known, so nothing is copied twice.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use meridian_exec::datum_at;
use meridian_sql::plan::Command;
use meridian_types::io::{self, number};
use meridian_types::{Datum, EvalContext, Result, oid};

use crate::client::ResultColumn;

/// Appends CommandComplete with the tag of a command that gave or changed so many rows.
pub(crate) fn command_complete(out: &mut Vec<u8>, command: Command, rows: u64) {
    let tag: &[u8] = match command {
        Command::Select => b"SELECT ",
        Command::Insert => b"INSERT 0 ",
        Command::Update => b"UPDATE ",
        Command::Delete => b"DELETE ",
    };
    let start = out.len();
    out.extend_from_slice(&[b'C', 0, 0, 0, 0]);
    out.extend_from_slice(tag);
    number::write_i64(out, i64::try_from(rows).unwrap_or(i64::MAX));
    out.push(0);
    end_row(out, start);
}

/// Begins a row of `fields` fields: where it starts.
pub(crate) fn begin_row(out: &mut Vec<u8>, fields: usize) -> usize {
    let start = out.len();
    out.extend_from_slice(&[b'D', 0, 0, 0, 0]);
    out.extend_from_slice(&u16::try_from(fields).unwrap_or(u16::MAX).to_be_bytes());
    start
}

/// Ends the row that starts there.
pub(crate) fn end_row(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

/// Appends one field by what `fill` writes.
fn field(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out)?;
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i32).to_be_bytes());
}

/// Appends a value as a field.
pub(crate) fn put_datum(
    out: &mut Vec<u8>,
    value: &Datum,
    column: &ResultColumn,
    ctx: &EvalContext,
) -> Result<()> {
    if value.is_null() {
        null(out);
        return Ok(());
    }
    field(out, |out| {
        if column.binary {
            io::binary_send(value, column.ty, ctx, out)
        } else {
            io::text_out(value, column.ty, ctx, out)
        }
    })
}

/// Appends a row of values.
pub(crate) fn put_row(
    out: &mut Vec<u8>,
    values: &[Datum],
    columns: &[ResultColumn],
    ctx: &EvalContext,
) -> Result<()> {
    let start = begin_row(out, columns.len());
    for (value, column) in values.iter().zip(columns) {
        put_datum(out, value, column, ctx)?;
    }
    end_row(out, start);
    Ok(())
}

/// Appends rows `from..to` of a batch.
pub(crate) fn put_rows(
    out: &mut Vec<u8>,
    batch: &RecordBatch,
    (from, to): (usize, usize),
    columns: &[ResultColumn],
    ctx: &EvalContext,
) -> Result<()> {
    for row in from..to {
        let start = begin_row(out, columns.len());
        for (array, column) in batch.columns().iter().zip(columns) {
            put_cell(out, array, row, column, ctx)?;
        }
        end_row(out, start);
    }
    Ok(())
}

/// Appends one cell; the commonest types go without a [`Datum`] between.
fn put_cell(
    out: &mut Vec<u8>,
    array: &ArrayRef,
    row: usize,
    column: &ResultColumn,
    ctx: &EvalContext,
) -> Result<()> {
    if array.is_null(row) {
        null(out);
        return Ok(());
    }
    match column.ty.oid {
        oid::INT4 => {
            let v = array.as_primitive::<Int32Type>().value(row);
            field(out, |out| put_int(out, i64::from(v), &v.to_be_bytes(), column.binary))
        }
        oid::INT8 => {
            let v = array.as_primitive::<Int64Type>().value(row);
            field(out, |out| put_int(out, v, &v.to_be_bytes(), column.binary))
        }
        oid::INT2 => {
            let v = array.as_primitive::<Int16Type>().value(row);
            field(out, |out| put_int(out, i64::from(v), &v.to_be_bytes(), column.binary))
        }
        oid::OID => {
            let v = array.as_primitive::<UInt32Type>().value(row);
            field(out, |out| put_int(out, i64::from(v), &v.to_be_bytes(), column.binary))
        }
        oid::FLOAT8 => {
            let v = array.as_primitive::<Float64Type>().value(row);
            field(out, |out| {
                if column.binary {
                    out.extend_from_slice(&v.to_be_bytes());
                } else {
                    number::float8_out(out, v, ctx.settings.extra_float_digits);
                }
                Ok(())
            })
        }
        oid::TEXT | oid::VARCHAR | oid::NAME | oid::JSON => {
            let v = array.as_string::<i32>().value(row);
            field(out, |out| {
                out.extend_from_slice(v.as_bytes());
                Ok(())
            })
        }
        _ => put_datum(out, &datum_at(array, row, column.ty), column, ctx),
    }
}

fn put_int(out: &mut Vec<u8>, value: i64, bytes: &[u8], binary: bool) -> Result<()> {
    if binary {
        out.extend_from_slice(bytes);
    } else {
        number::write_i64(out, value);
    }
    Ok(())
}
