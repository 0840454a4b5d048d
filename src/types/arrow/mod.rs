//! PostgreSQL values in Arrow arrays.
//!
//! A column of a batch is an array whose physical type follows from the PostgreSQL type, and the
//! PostgreSQL type is always known beside it; nothing is kept in Arrow's metadata.
//!
//! | PostgreSQL | Arrow |
//! |---|---|
//! | `bool`, `int2/4/8`, `float4/8` | the native type |
//! | `oid` and aliases | `UInt32` |
//! | `date` | `Int32`, days since 2000-01-01 |
//! | `time`, `timestamp`, `timestamptz`, `money`, `pg_lsn` | `Int64`, the datum's own number |
//! | all character types, `json` | `Utf8` |
//! | all others | `Binary`, the payload of [`crate::io::storage`] |
//!
//! Dates and timestamps are plain integers on purpose: Arrow's own date types neither reach
//! PostgreSQL's years nor know its infinities. Comparing two `Binary` columns says nothing about
//! the values: sort and group by [`crate::order::sort_key`].

mod build;
mod read;
mod wire;

use arrow::datatypes::DataType;

pub use build::{DatumBuilder, constant, from_datums};
pub use read::ColumnReader;
pub use wire::{ColumnWriter, Format};

use crate::oid::{self, Oid};
use crate::{Datum, PgType, Result};

/// The Arrow type of a PostgreSQL type.
pub fn arrow_type(ty: PgType) -> DataType {
    match ty.oid {
        oid::BOOL => DataType::Boolean,
        oid::INT2 => DataType::Int16,
        oid::INT4 | oid::DATE => DataType::Int32,
        oid::INT8
        | oid::TIME
        | oid::TIMESTAMP
        | oid::TIMESTAMPTZ
        | oid::MONEY
        | oid::PG_LSN
        | oid::XID8 => DataType::Int64,
        oid::FLOAT4 => DataType::Float32,
        oid::FLOAT8 => DataType::Float64,
        oid::OID | oid::XID | oid::CID => DataType::UInt32,
        oid::NUMERIC
        | oid::BYTEA
        | oid::UUID
        | oid::INTERVAL
        | oid::TIMETZ
        | oid::JSONB
        | oid::RECORD
        | oid::INT2VECTOR
        | oid::OIDVECTOR => DataType::Binary,
        other if crate::io::is_reg_type(other) => DataType::UInt32,
        other if is_composite(other) => DataType::Binary,
        _ => DataType::Utf8,
    }
}

/// Arrays and row types; both are self-describing bytes.
fn is_composite(type_oid: Oid) -> bool {
    crate::builtin::array_element(type_oid).is_some()
        || crate::shape::is_row_type(type_oid)
        || crate::builtin::type_by_oid(type_oid).is_some_and(|r| r.typtype == 'c')
}

/// One value of a column. To read many rows, keep a [`ColumnReader`].
pub fn datum_at(array: &dyn arrow::array::Array, row: usize, ty: PgType) -> Result<Datum> {
    ColumnReader::new(array, ty)?.get(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EvalContext;

    #[test]
    fn columns_give_back_what_was_put_in() {
        let ctx = EvalContext::bare();
        let cases: &[(Oid, &[&str])] = &[
            (oid::BOOL, &["t", "f"]),
            (oid::INT4, &["1", "-5"]),
            (oid::NUMERIC, &["1.50", "NaN", "123456789012345678901234567890"]),
            (oid::TEXT, &["", "é"]),
            (oid::UUID, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            (oid::INTERVAL, &["1 mon 2 days 00:00:03"]),
            (oid::TIMESTAMPTZ, &["infinity", "2026-11-22 10:00:00+00"]),
            (oid::TEXT_ARRAY, &["{a,NULL}", "{}"]),
        ];
        for (type_oid, texts) in cases {
            let ty = PgType::new(*type_oid);
            let mut values: Vec<Datum> = texts
                .iter()
                .map(|t| crate::io::text_in(*type_oid, -1, t, &ctx).expect(t))
                .collect();
            values.push(Datum::Null);
            let array = from_datums(ty, &values).expect("array");
            assert_eq!(array.data_type(), &arrow_type(ty));
            let reader = ColumnReader::new(&array, ty).expect("reader");
            let writer = ColumnWriter::new(&array, ty, Format::Text).expect("writer");
            for (row, value) in values.iter().enumerate() {
                assert_eq!(&reader.get(row).expect("value"), value);
                let mut field = vec![];
                writer.write(row, &ctx, &mut field).expect("written");
                match texts.get(row) {
                    Some(text) => assert_eq!(&field[4..], text.as_bytes()),
                    None => assert_eq!(field, (-1i32).to_be_bytes()),
                }
            }
        }
    }
}
