//! Values inside batches: thin helpers over `meridian_types::arrow` with fast ways for the types
//! that almost every row has.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, Int16Array, Int16Builder,
    Int32Array, Int32Builder, Int64Array, Int64Builder, StringArray, StringBuilder, UInt32Array,
    UInt32Builder,
};
use arrow::datatypes::DataType;
use bytes::Bytes;
use meridian_catalog::row::DatumRef;
use meridian_types::arrow::DatumBuilder;
use meridian_types::oid::Oid;
use meridian_types::{Datum, PgType, Result, builtin, oid, order};

/// The Arrow type of a PostgreSQL type.
pub fn data_type(ty: PgType) -> DataType {
    meridian_types::arrow::arrow_type(ty)
}

/// Whether Arrow's order and equality are the type's own. Floats are not: −0 equals 0.
pub(crate) fn is_native(ty: PgType) -> bool {
    match data_type(ty) {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt32 => true,
        DataType::Utf8 => {
            matches!(ty.oid, oid::TEXT | oid::VARCHAR | oid::NAME | oid::CHAR | oid::UNKNOWN)
        }
        _ => matches!(ty.oid, oid::BYTEA | oid::UUID),
    }
}

/// `oid` and its aliases.
pub(crate) fn is_oid_type(ty: Oid) -> bool {
    data_type(PgType::new(ty)) == DataType::UInt32
}

/// Whether a value of the type may be a row.
pub(crate) fn may_be_record(ty: Oid) -> bool {
    ty == oid::RECORD
        || ty >= meridian_catalog::FIRST_NORMAL_OID
        || builtin::type_by_oid(ty).is_none_or(|t| t.typtype == 'c')
}

/// Bytes that a value holds besides itself, about.
pub(crate) fn heap_bytes(value: &Datum) -> usize {
    match value {
        Datum::Text(s) => s.len() + 16,
        Datum::Bytea(b) => b.len() + 32,
        Datum::Numeric(_) => 16,
        Datum::Array(a) => a.elements.iter().map(|e| 32 + heap_bytes(e)).sum(),
        Datum::Record(fields) => fields.iter().map(|e| 32 + heap_bytes(e)).sum(),
        _ => 0,
    }
}

/// The element type of an array type, itself when it is none.
pub(crate) fn element_type(array: Oid) -> Oid {
    builtin::array_element(array).unwrap_or(array)
}

enum Inner {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Oid(UInt32Builder),
    Text(StringBuilder),
    Other(Box<DatumBuilder>),
}

/// Builds a column of values.
pub struct Builder(Inner);

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Builder")
    }
}

impl Builder {
    /// A builder for a column of this type and about this many rows.
    pub fn new(ty: PgType, rows: usize) -> Builder {
        Builder(match data_type(ty) {
            DataType::Boolean => Inner::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Inner::Int2(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Inner::Int4(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Inner::Int8(Int64Builder::with_capacity(rows)),
            DataType::UInt32 => Inner::Oid(UInt32Builder::with_capacity(rows)),
            DataType::Utf8 => Inner::Text(StringBuilder::with_capacity(rows, rows * 8)),
            _ => Inner::Other(Box::new(DatumBuilder::new(ty, rows))),
        })
    }

    /// Appends a value.
    pub fn push(&mut self, value: &Datum) -> Result<()> {
        match (&mut self.0, value) {
            (Inner::Other(b), value) => b.append(value)?,
            (_, Datum::Null) => self.push_null(),
            (Inner::Bool(b), Datum::Bool(v)) => b.append_value(*v),
            (Inner::Int2(b), Datum::Int2(v)) => b.append_value(*v),
            (Inner::Int4(b), Datum::Int4(v) | Datum::Date(v)) => b.append_value(*v),
            (
                Inner::Int8(b),
                Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v),
            ) => b.append_value(*v),
            (Inner::Oid(b), Datum::Oid(v)) => b.append_value(*v),
            (Inner::Oid(b), Datum::Int4(v)) => b.append_value(v.cast_unsigned()),
            (Inner::Int4(b), Datum::Oid(v)) => b.append_value(v.cast_signed()),
            (Inner::Text(b), Datum::Text(v)) => b.append_value(v),
            (_, value) => {
                return Err(meridian_types::PgError::internal(format!(
                    "a column was given the value {value:?}"
                )));
            }
        }
        Ok(())
    }

    /// Appends a value of a stored row, without a detour for the common types.
    pub(crate) fn push_ref(&mut self, value: DatumRef<'_>) -> Result<()> {
        match (&mut self.0, value) {
            (Inner::Other(b), value) => b.append(&value.into_datum())?,
            (_, DatumRef::Null) => self.push_null(),
            (Inner::Bool(b), DatumRef::Bool(v)) => b.append_value(v),
            (Inner::Int2(b), DatumRef::Int2(v)) => b.append_value(v),
            (Inner::Int4(b), DatumRef::Int4(v) | DatumRef::Date(v)) => b.append_value(v),
            (
                Inner::Int8(b),
                DatumRef::Int8(v)
                | DatumRef::Time(v)
                | DatumRef::Timestamp(v)
                | DatumRef::TimestampTz(v),
            ) => b.append_value(v),
            (Inner::Text(b), DatumRef::Text(v)) => b.append_value(v),
            (_, other) => return self.push(&other.into_datum()),
        }
        Ok(())
    }

    /// Appends raw bytes to a `bytea` column.
    pub(crate) fn push_bytes(&mut self, bytes: &Bytes) -> Result<()> {
        self.push(&Datum::Bytea(bytes.clone()))
    }

    fn push_null(&mut self) {
        match &mut self.0 {
            Inner::Bool(b) => b.append_null(),
            Inner::Int2(b) => b.append_null(),
            Inner::Int4(b) => b.append_null(),
            Inner::Int8(b) => b.append_null(),
            Inner::Oid(b) => b.append_null(),
            Inner::Text(b) => b.append_null(),
            Inner::Other(b) => b.append_null(),
        }
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        match self.0 {
            Inner::Bool(mut b) => Arc::new(b.finish()),
            Inner::Int2(mut b) => Arc::new(b.finish()),
            Inner::Int4(mut b) => Arc::new(b.finish()),
            Inner::Int8(mut b) => Arc::new(b.finish()),
            Inner::Oid(mut b) => Arc::new(b.finish()),
            Inner::Text(mut b) => Arc::new(b.finish()),
            Inner::Other(mut b) => b.finish(),
        }
    }
}

fn cast<A: 'static>(array: &ArrayRef) -> Option<&A> {
    array.as_any().downcast_ref::<A>()
}

/// The value of one row of a column of this type.
pub fn datum_at(array: &ArrayRef, row: usize, ty: PgType) -> Datum {
    if array.is_null(row) {
        return Datum::Null;
    }
    let value = match ty.oid {
        oid::BOOL => cast::<BooleanArray>(array).map(|a| Datum::Bool(a.value(row))),
        oid::INT2 => cast::<Int16Array>(array).map(|a| Datum::Int2(a.value(row))),
        oid::INT4 => cast::<Int32Array>(array).map(|a| Datum::Int4(a.value(row))),
        oid::INT8 => cast::<Int64Array>(array).map(|a| Datum::Int8(a.value(row))),
        oid::OID | oid::REGCLASS => cast::<UInt32Array>(array).map(|a| Datum::Oid(a.value(row))),
        oid::TEXT | oid::VARCHAR | oid::NAME | oid::BPCHAR => {
            cast::<StringArray>(array).map(|a| Datum::Text(Arc::from(a.value(row))))
        }
        _ => meridian_types::arrow::datum_at(array.as_ref(), row, ty).ok(),
    };
    value.unwrap_or(Datum::Null)
}

/// A column that holds one value in every row.
pub(crate) fn repeat(value: &Datum, ty: PgType, rows: usize) -> Result<ArrayRef> {
    meridian_types::arrow::constant(ty, value, rows)
}

/// Appends the bytes by which the value compares. It must not be NULL.
pub(crate) fn sort_key(value: &Datum, ty: PgType, out: &mut Vec<u8>) -> Result<()> {
    order::sort_key(value, ty, out)
}

/// A column of sort keys.
pub(crate) fn sort_key_array(array: &ArrayRef, ty: PgType) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::with_capacity(array.len(), array.len() * 12);
    let mut key = vec![];
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        key.clear();
        sort_key(&datum_at(array, row, ty), ty, &mut key)?;
        builder.append_value(&key);
    }
    Ok(Arc::new(builder.finish()))
}

/// The btree order of two values of a type; NULL comes last.
pub(crate) fn compare(a: &Datum, b: &Datum, ty: PgType) -> Ordering {
    match (a, b) {
        (Datum::Null, Datum::Null) => Ordering::Equal,
        (Datum::Null, _) => Ordering::Greater,
        (_, Datum::Null) => Ordering::Less,
        (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
        _ => order::compare(ty.oid, a, b),
    }
}

/// The text form of a value.
pub(crate) use crate::io::{text_in, text_out};

/// Reads a column of integers of any width.
pub(crate) fn integer_reader(array: &ArrayRef) -> Box<dyn Fn(usize) -> Option<i64> + '_> {
    let any = array.as_any();
    if let Some(a) = any.downcast_ref::<Int32Array>() {
        return Box::new(|row| a.is_valid(row).then(|| i64::from(a.value(row))));
    }
    if let Some(a) = any.downcast_ref::<Int64Array>() {
        return Box::new(|row| a.is_valid(row).then(|| a.value(row)));
    }
    if let Some(a) = any.downcast_ref::<Int16Array>() {
        return Box::new(|row| a.is_valid(row).then(|| i64::from(a.value(row))));
    }
    Box::new(|_| None)
}
