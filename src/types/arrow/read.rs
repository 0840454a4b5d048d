//! Single values out of columns.

use arrow::array::{
    Array, BinaryArray, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, UInt32Array,
};

use super::arrow_type;
use crate::io::storage;
use crate::oid;
use crate::{Datum, PgError, PgType, Result};

/// A column whose type has been looked at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt32(&'a UInt32Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    /// A column of nothing but NULLs.
    Null,
}

impl<'a> Column<'a> {
    pub(super) fn new(array: &'a dyn Array, ty: PgType) -> Result<Column<'a>> {
        let any = array.as_any();
        let found = any
            .downcast_ref::<Int32Array>()
            .map(Column::Int32)
            .or_else(|| any.downcast_ref::<Int64Array>().map(Column::Int64))
            .or_else(|| any.downcast_ref::<StringArray>().map(Column::Utf8))
            .or_else(|| any.downcast_ref::<BinaryArray>().map(Column::Binary))
            .or_else(|| any.downcast_ref::<BooleanArray>().map(Column::Bool))
            .or_else(|| any.downcast_ref::<Int16Array>().map(Column::Int16))
            .or_else(|| any.downcast_ref::<UInt32Array>().map(Column::UInt32))
            .or_else(|| any.downcast_ref::<Float64Array>().map(Column::Float64))
            .or_else(|| any.downcast_ref::<Float32Array>().map(Column::Float32));
        match found {
            Some(column) if *array.data_type() == arrow_type(ty) => Ok(column),
            _ if array.null_count() == array.len()
                || *array.data_type() == arrow::datatypes::DataType::Null =>
            {
                Ok(Column::Null)
            }
            _ => Err(PgError::internal(format!(
                "column of type {} is held as {}",
                crate::builtin::format_type(ty.oid, -1),
                array.data_type()
            ))),
        }
    }
}

/// Reads values of one column by row.
#[derive(Clone, Copy, Debug)]
pub struct ColumnReader<'a> {
    column: Column<'a>,
    array: &'a dyn Array,
    ty: PgType,
}

impl<'a> ColumnReader<'a> {
    /// A reader of a column; fails when it is not held as its type should be.
    pub fn new(array: &'a dyn Array, ty: PgType) -> Result<ColumnReader<'a>> {
        Ok(ColumnReader { column: Column::new(array, ty)?, array, ty })
    }

    /// True when the row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.column, Column::Null) || self.array.is_null(row)
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Result<Datum> {
        if self.is_null(row) {
            return Ok(Datum::Null);
        }
        Ok(match self.column {
            Column::Bool(a) => Datum::Bool(a.value(row)),
            Column::Int16(a) => Datum::Int2(a.value(row)),
            Column::Int32(a) if self.ty.oid == oid::DATE => Datum::Date(a.value(row)),
            Column::Int32(a) => Datum::Int4(a.value(row)),
            Column::Int64(a) => match self.ty.oid {
                oid::TIMESTAMPTZ => Datum::TimestampTz(a.value(row)),
                oid::TIMESTAMP => Datum::Timestamp(a.value(row)),
                oid::TIME => Datum::Time(a.value(row)),
                _ => Datum::Int8(a.value(row)),
            },
            Column::UInt32(a) => Datum::Oid(a.value(row)),
            Column::Float32(a) => Datum::Float4(a.value(row)),
            Column::Float64(a) => Datum::Float8(a.value(row)),
            Column::Utf8(a) => Datum::text(a.value(row)),
            Column::Binary(a) => {
                let composite = super::is_composite(self.ty.oid)
                    && crate::builtin::array_element(self.ty.oid).is_none();
                let type_oid = if composite { oid::RECORD } else { self.ty.oid };
                storage::decode_bare(type_oid, a.value(row))?
            }
            Column::Null => Datum::Null,
        })
    }
}
