//! Fields of a DataRow straight from a column.

use arrow::array::Array;

use super::ColumnReader;
use super::read::Column;
use crate::io::{self, number};
use crate::oid;
use crate::{EvalContext, PgError, PgType, Result, SqlState, datetime};

/// The format of a result column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}

/// Writes the fields of one column: a length (−1 for NULL) and the bytes.
#[derive(Clone, Copy, Debug)]
pub struct ColumnWriter<'a> {
    column: Column<'a>,
    reader: ColumnReader<'a>,
    ty: PgType,
    format: Format,
}

impl<'a> ColumnWriter<'a> {
    /// A writer of a column; fails when it is not held as its type should be.
    pub fn new(array: &'a dyn Array, ty: PgType, format: Format) -> Result<ColumnWriter<'a>> {
        Ok(ColumnWriter {
            column: Column::new(array, ty)?,
            reader: ColumnReader::new(array, ty)?,
            ty,
            format,
        })
    }

    /// Appends the field of a row.
    pub fn write(&self, row: usize, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<()> {
        if self.reader.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let done = match self.format {
            Format::Text => self.text(row, ctx, out)?,
            Format::Binary => self.binary(row, out),
        };
        if !done {
            let value = self.reader.get(row)?;
            match self.format {
                Format::Text => io::text_out(&value, self.ty, ctx, out)?,
                Format::Binary => io::binary_send(&value, self.ty, ctx, out)?,
            }
        }
        let len = i32::try_from(out.len() - start - 4)
            .map_err(|_| PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "field is too long"))?;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    /// The text of types that need no datum; false when this is none of them.
    fn text(&self, row: usize, ctx: &EvalContext, out: &mut Vec<u8>) -> Result<bool> {
        let settings = &*ctx.settings;
        match (self.column, self.ty.oid) {
            (Column::Int32(a), oid::INT4) => number::write_i64(out, i64::from(a.value(row))),
            (Column::Int32(a), oid::DATE) => datetime::date_out(out, a.value(row), settings),
            (Column::Int64(a), oid::INT8) => number::write_i64(out, a.value(row)),
            (Column::Int64(a), oid::TIMESTAMP) => {
                datetime::timestamp_out(out, a.value(row), settings)?;
            }
            (Column::Int64(a), oid::TIMESTAMPTZ) => {
                datetime::timestamptz_out(out, a.value(row), settings)?;
            }
            (Column::Utf8(a), _) => out.extend_from_slice(a.value(row).as_bytes()),
            (Column::Int16(a), _) => number::write_i64(out, i64::from(a.value(row))),
            (Column::Bool(a), _) => out.push(if a.value(row) { b't' } else { b'f' }),
            (Column::Float64(a), _) => {
                number::float8_out(out, a.value(row), settings.extra_float_digits);
            }
            (Column::Binary(a), oid::BYTEA) => {
                io::chars::bytea_out(out, a.value(row), settings.bytea_hex);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The bytes of types that need no datum; false when this is none of them.
    fn binary(&self, row: usize, out: &mut Vec<u8>) -> bool {
        match (self.column, self.ty.oid) {
            (Column::Int32(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::Int64(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::Int16(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::UInt32(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::Float32(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::Float64(a), _) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            (Column::Bool(a), _) => out.push(u8::from(a.value(row))),
            (Column::Utf8(a), _) => out.extend_from_slice(a.value(row).as_bytes()),
            (Column::Binary(a), oid::BYTEA | oid::UUID) => out.extend_from_slice(a.value(row)),
            _ => return false,
        }
        true
    }
}
