//! Making columns of single values.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder, UInt32Builder,
};
use arrow::datatypes::DataType;

use super::arrow_type;
use crate::io::storage;
use crate::{Datum, PgError, PgType, Result};

#[derive(Debug)]
enum Inner {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt32(UInt32Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder, Vec<u8>),
}

/// Collects the values of one column.
#[derive(Debug)]
pub struct DatumBuilder {
    ty: PgType,
    inner: Inner,
}

impl DatumBuilder {
    /// An empty column with room for some rows.
    pub fn new(ty: PgType, capacity: usize) -> DatumBuilder {
        let bytes = capacity * 16;
        let inner = match arrow_type(ty) {
            DataType::Boolean => Inner::Bool(BooleanBuilder::with_capacity(capacity)),
            DataType::Int16 => Inner::Int16(Int16Builder::with_capacity(capacity)),
            DataType::Int32 => Inner::Int32(Int32Builder::with_capacity(capacity)),
            DataType::Int64 => Inner::Int64(Int64Builder::with_capacity(capacity)),
            DataType::UInt32 => Inner::UInt32(UInt32Builder::with_capacity(capacity)),
            DataType::Float32 => Inner::Float32(Float32Builder::with_capacity(capacity)),
            DataType::Float64 => Inner::Float64(Float64Builder::with_capacity(capacity)),
            DataType::Utf8 => Inner::Utf8(StringBuilder::with_capacity(capacity, bytes)),
            _ => Inner::Binary(BinaryBuilder::with_capacity(capacity, bytes), Vec::new()),
        };
        DatumBuilder { ty, inner }
    }

    /// Appends a NULL.
    pub fn append_null(&mut self) {
        match &mut self.inner {
            Inner::Bool(b) => b.append_null(),
            Inner::Int16(b) => b.append_null(),
            Inner::Int32(b) => b.append_null(),
            Inner::Int64(b) => b.append_null(),
            Inner::UInt32(b) => b.append_null(),
            Inner::Float32(b) => b.append_null(),
            Inner::Float64(b) => b.append_null(),
            Inner::Utf8(b) => b.append_null(),
            Inner::Binary(b, _) => b.append_null(),
        }
    }

    /// Appends a value. Fails only when the value is not of the column's type.
    pub fn append(&mut self, value: &Datum) -> Result<()> {
        match (&mut self.inner, value) {
            (_, Datum::Null) => self.append_null(),
            (Inner::Bool(b), Datum::Bool(v)) => b.append_value(*v),
            (Inner::Int16(b), Datum::Int2(v)) => b.append_value(*v),
            (Inner::Int32(b), Datum::Int4(v) | Datum::Date(v)) => b.append_value(*v),
            (
                Inner::Int64(b),
                Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v),
            ) => b.append_value(*v),
            (Inner::UInt32(b), Datum::Oid(v)) => b.append_value(*v),
            (Inner::Float32(b), Datum::Float4(v)) => b.append_value(*v),
            (Inner::Float64(b), Datum::Float8(v)) => b.append_value(*v),
            (Inner::Utf8(b), Datum::Text(v)) => b.append_value(v),
            (Inner::Binary(b, _), Datum::Bytea(v) | Datum::Jsonb(v)) => b.append_value(v),
            (Inner::Binary(b, _), Datum::Uuid(v)) => b.append_value(v),
            (Inner::Binary(b, scratch), value) => {
                scratch.clear();
                storage::encode_bare(value, scratch);
                b.append_value(scratch.as_slice());
            }
            (_, other) => {
                return Err(PgError::internal(format!(
                    "value {other:?} in a column of type {}",
                    crate::builtin::format_type(self.ty.oid, -1)
                )));
            }
        }
        Ok(())
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        match &self.inner {
            Inner::Bool(b) => b.len(),
            Inner::Int16(b) => b.len(),
            Inner::Int32(b) => b.len(),
            Inner::Int64(b) => b.len(),
            Inner::UInt32(b) => b.len(),
            Inner::Float32(b) => b.len(),
            Inner::Float64(b) => b.len(),
            Inner::Utf8(b) => b.len(),
            Inner::Binary(b, _) => b.len(),
        }
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column; the builder starts anew.
    pub fn finish(&mut self) -> ArrayRef {
        match &mut self.inner {
            Inner::Bool(b) => Arc::new(b.finish()),
            Inner::Int16(b) => Arc::new(b.finish()),
            Inner::Int32(b) => Arc::new(b.finish()),
            Inner::Int64(b) => Arc::new(b.finish()),
            Inner::UInt32(b) => Arc::new(b.finish()),
            Inner::Float32(b) => Arc::new(b.finish()),
            Inner::Float64(b) => Arc::new(b.finish()),
            Inner::Utf8(b) => Arc::new(b.finish()),
            Inner::Binary(b, _) => Arc::new(b.finish()),
        }
    }
}

/// A column of these values.
pub fn from_datums(ty: PgType, values: &[Datum]) -> Result<ArrayRef> {
    let mut builder = DatumBuilder::new(ty, values.len());
    values.iter().try_for_each(|v| builder.append(v))?;
    Ok(builder.finish())
}

/// A column of one value repeated.
pub fn constant(ty: PgType, value: &Datum, rows: usize) -> Result<ArrayRef> {
    let mut builder = DatumBuilder::new(ty, rows);
    (0..rows).try_for_each(|_| builder.append(value))?;
    Ok(builder.finish())
}
