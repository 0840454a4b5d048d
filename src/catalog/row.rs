//! The packed form of a row's value.
//!
//! `schema version:u16 ‖ flags:u8 ‖ null bitmap ‖ fixed area ‖ ends of the variable columns ‖ their
//! bytes`, all little-endian. Every column of fixed width lies at an offset that only depends on
//! the version, NULLs keeping their place, so that one column is read without looking at others.
//! Columns of the primary key that can be read back from the key aren't stored here.
//!
//! ADD COLUMN raises the version; a row of an older version simply lacks the column, which then has
//! its `missing` value. A dropped column keeps its place and is NULL in new rows.

use std::sync::Arc;

use bytes::Bytes;
use meridian_types::datum::{Datum, Interval};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result};

use crate::desc::TableDesc;
use crate::key::{IndexCodec, KeyKind, PREFIX_LEN, skip_value, take_value};
use crate::value;

const HEADER: usize = 3;
/// Ends of variable columns are `u32` instead of `u16`.
const WIDE: u8 = 1;

/// A value borrowed from a row.
#[derive(Clone, Debug, PartialEq)]
pub enum DatumRef<'a> {
    /// NULL
    Null,
    /// `bool`
    Bool(bool),
    /// `int2`
    Int2(i16),
    /// `int4`
    Int4(i32),
    /// `int8` and types with its representation
    Int8(i64),
    /// `float4`
    Float4(f32),
    /// `float8`
    Float8(f64),
    /// Character types
    Text(&'a str),
    /// `bytea`
    Bytea(&'a [u8]),
    /// `date`
    Date(i32),
    /// `time`
    Time(i64),
    /// `timetz`
    TimeTz(i64, i32),
    /// `timestamp`
    Timestamp(i64),
    /// `timestamptz`
    TimestampTz(i64),
    /// `interval`
    Interval(Interval),
    /// `uuid`
    Uuid([u8; 16]),
    /// `jsonb`
    Jsonb(&'a [u8]),
    /// `oid` and its aliases
    Oid(Oid),
    /// Anything that had to be built.
    Owned(Datum),
}

impl DatumRef<'_> {
    /// The value by itself.
    pub fn into_datum(self) -> Datum {
        match self {
            DatumRef::Null => Datum::Null,
            DatumRef::Bool(v) => Datum::Bool(v),
            DatumRef::Int2(v) => Datum::Int2(v),
            DatumRef::Int4(v) => Datum::Int4(v),
            DatumRef::Int8(v) => Datum::Int8(v),
            DatumRef::Float4(v) => Datum::Float4(v),
            DatumRef::Float8(v) => Datum::Float8(v),
            DatumRef::Text(v) => Datum::Text(Arc::from(v)),
            DatumRef::Bytea(v) => Datum::Bytea(Bytes::copy_from_slice(v)),
            DatumRef::Date(v) => Datum::Date(v),
            DatumRef::Time(v) => Datum::Time(v),
            DatumRef::TimeTz(v, west) => Datum::TimeTz(v, west),
            DatumRef::Timestamp(v) => Datum::Timestamp(v),
            DatumRef::TimestampTz(v) => Datum::TimestampTz(v),
            DatumRef::Interval(v) => Datum::Interval(v),
            DatumRef::Uuid(v) => Datum::Uuid(v),
            DatumRef::Jsonb(v) => Datum::Jsonb(Bytes::copy_from_slice(v)),
            DatumRef::Oid(v) => Datum::Oid(v),
            DatumRef::Owned(v) => v,
        }
    }
}

/// How a type is stored in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// One byte.
    Bool,
    /// Two bytes.
    Int2,
    /// Four bytes.
    Int4,
    /// Eight bytes.
    Int8,
    /// Four bytes.
    Float4,
    /// Eight bytes.
    Float8,
    /// Four bytes.
    Date,
    /// Eight bytes.
    Time,
    /// Twelve bytes.
    TimeTz,
    /// Eight bytes.
    Timestamp,
    /// Eight bytes.
    TimestampTz,
    /// Sixteen bytes.
    Interval,
    /// Sixteen bytes.
    Uuid,
    /// Four bytes.
    Oid,
    /// UTF-8.
    Text,
    /// Bytes.
    Bytea,
    /// Bytes.
    Jsonb,
    /// Number.
    Numeric,
    /// With tags.
    Tagged,
}

impl Repr {
    /// The representation of a type.
    pub fn of(ty: Oid) -> Repr {
        match ty {
            oid::BOOL => Repr::Bool,
            oid::INT2 => Repr::Int2,
            oid::INT4 => Repr::Int4,
            oid::INT8 | oid::MONEY | oid::XID8 | oid::PG_LSN => Repr::Int8,
            oid::FLOAT4 => Repr::Float4,
            oid::FLOAT8 => Repr::Float8,
            oid::DATE => Repr::Date,
            oid::TIME => Repr::Time,
            oid::TIMETZ => Repr::TimeTz,
            oid::TIMESTAMP => Repr::Timestamp,
            oid::TIMESTAMPTZ => Repr::TimestampTz,
            oid::INTERVAL => Repr::Interval,
            oid::UUID => Repr::Uuid,
            oid::OID
            | oid::XID
            | oid::CID
            | oid::REGPROC
            | oid::REGPROCEDURE
            | oid::REGOPER
            | oid::REGOPERATOR
            | oid::REGCLASS
            | oid::REGTYPE
            | oid::REGCONFIG
            | oid::REGDICTIONARY
            | oid::REGNAMESPACE
            | oid::REGROLE
            | oid::REGCOLLATION => Repr::Oid,
            oid::TEXT
            | oid::VARCHAR
            | oid::BPCHAR
            | oid::NAME
            | oid::CHAR
            | oid::JSON
            | oid::XML => Repr::Text,
            oid::BYTEA => Repr::Bytea,
            oid::JSONB => Repr::Jsonb,
            oid::NUMERIC => Repr::Numeric,
            _ => Repr::Tagged,
        }
    }

    /// Bytes taken in the fixed area; `None` for a variable column.
    pub fn width(self) -> Option<usize> {
        match self {
            Repr::Bool => Some(1),
            Repr::Int2 => Some(2),
            Repr::Int4 | Repr::Float4 | Repr::Date | Repr::Oid => Some(4),
            Repr::Int8 | Repr::Float8 | Repr::Time | Repr::Timestamp | Repr::TimestampTz => Some(8),
            Repr::TimeTz => Some(12),
            Repr::Interval | Repr::Uuid => Some(16),
            Repr::Text | Repr::Bytea | Repr::Jsonb | Repr::Numeric | Repr::Tagged => None,
        }
    }
}

/// Where a column of one layout is.
#[derive(Clone, Debug)]
enum Slot {
    /// In the key: at this offset when all columns before it have fixed widths.
    Key { ordinal: usize, offset: Option<usize>, ty: Oid },
    /// In the fixed area, at this offset from the start of the row.
    Fixed { offset: usize, bit: usize, repr: Repr },
    /// The n-th variable column.
    Var { ordinal: usize, bit: usize, repr: Repr },
    /// Not in rows of this version.
    Missing(Datum),
}

/// The form of rows written at one schema version.
#[derive(Clone, Debug)]
struct Layout {
    version: u16,
    fixed_end: usize,
    vars: usize,
    slots: Vec<Slot>,
}

/// Writes and reads the rows of one table.
#[derive(Clone, Debug)]
pub struct TableCodec {
    primary: IndexCodec,
    key_attnums: Vec<usize>,
    key_kinds: Vec<KeyKind>,
    /// Newest last.
    layouts: Vec<Layout>,
    version: u16,
}

impl TableCodec {
    /// The codec of a table. `read_text` reads a value's text form, for `missing` values.
    pub fn new(
        table: &TableDesc,
        read_text: impl Fn(PgType, &str) -> Result<Datum>,
    ) -> Result<TableCodec> {
        let primary = IndexCodec::new(table, table.primary());
        let key_attnums: Vec<usize> = table
            .primary()
            .columns
            .iter()
            .filter_map(|c| usize::try_from(c.attnum?).ok()?.checked_sub(1))
            .collect();
        let key_kinds: Vec<KeyKind> =
            key_attnums.iter().map(|i| KeyKind::of(table.columns[*i].ty.oid)).collect();
        let mut versions = table.columns_added.clone();
        versions.sort_unstable();
        versions.dedup();
        if versions.is_empty() {
            versions.push(table.schema_version);
        }
        let layouts: Result<Vec<Layout>> = versions
            .iter()
            .map(|v| Layout::new(table, *v, &key_attnums, &key_kinds, &read_text))
            .collect();
        Ok(TableCodec {
            primary,
            key_attnums,
            key_kinds,
            layouts: layouts?,
            version: table.schema_version,
        })
    }

    /// The primary index's codec.
    pub fn primary(&self) -> &IndexCodec {
        &self.primary
    }

    /// The key of a row, given all its values by attnum.
    pub fn row_key(&self, values: &[Datum]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(PREFIX_LEN + 10 * self.key_attnums.len());
        self.row_key_into(values, &mut out)?;
        Ok(out)
    }

    /// The key of a row, written over `out`.
    pub fn row_key_into(&self, values: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(self.primary.prefix());
        for (at, kind) in self.key_attnums.iter().zip(&self.key_kinds) {
            crate::key::push_value(out, *kind, &values[*at])?;
        }
        Ok(())
    }

    /// The value of a row, given all its values by attnum (dropped columns included, as NULL).
    pub fn encode(&self, values: &[Datum]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.encode_into(values, &mut out)?;
        Ok(out)
    }

    /// The value of a row, written over `out`.
    pub fn encode_into(&self, values: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        let Some(layout) = self.layouts.last() else {
            return Err(PgError::internal("a table without layout"));
        };
        layout.encode(self.version, values, out)
    }

    /// A view of one row.
    pub fn row<'a>(&'a self, key: &'a [u8], value: &'a [u8]) -> Result<RowRef<'a>> {
        let Some((version, _)) = value.split_first_chunk::<2>() else { return Err(corrupt()) };
        let version = u16::from_le_bytes(*version);
        let layout = match self.layouts.last() {
            Some(newest) if version >= newest.version => newest,
            _ => {
                let after = self.layouts.partition_point(|l| l.version <= version);
                self.layouts.get(after.saturating_sub(1)).ok_or_else(corrupt)?
            }
        };
        if value.len() < layout.fixed_end {
            return Err(corrupt());
        }
        Ok(RowRef { codec: self, layout, key, value })
    }

    /// All values of a row, by attnum.
    pub fn decode(&self, key: &[u8], value: &[u8]) -> Result<Vec<Datum>> {
        let row = self.row(key, value)?;
        (0..row.layout.slots.len()).map(|i| Ok(row.get(i)?.into_datum())).collect()
    }
}

fn corrupt() -> PgError {
    PgError::internal("a stored row is cut short")
}

impl Layout {
    fn new(
        table: &TableDesc,
        version: u16,
        key_attnums: &[usize],
        key_kinds: &[KeyKind],
        read_text: &impl Fn(PgType, &str) -> Result<Datum>,
    ) -> Result<Layout> {
        let in_key = |i: usize| {
            let ordinal = key_attnums.iter().position(|a| *a == i)?;
            key_kinds[ordinal].reversible().then_some(ordinal)
        };
        let present = |i: usize| table.columns_added[i] <= version;
        let stored = (0..table.columns.len()).filter(|i| present(*i) && in_key(*i).is_none());
        let mut offset = HEADER + stored.count().div_ceil(8);
        let (mut bit, mut vars) = (0, 0);
        let mut slots = Vec::with_capacity(table.columns.len());
        for (i, column) in table.columns.iter().enumerate() {
            let repr = Repr::of(column.ty.oid);
            let slot = if let Some(ordinal) = in_key(i) {
                let widths = key_kinds[..ordinal].iter().map(|k| k.width());
                let before = widths.sum::<Option<usize>>().map(|w| w + PREFIX_LEN);
                Slot::Key { ordinal, offset: before, ty: column.ty.oid }
            } else if !present(i) {
                Slot::Missing(match &column.missing {
                    Some(text) if !column.dropped => read_text(column.ty, text)?,
                    _ => Datum::Null,
                })
            } else {
                bit += 1;
                match repr.width() {
                    Some(width) => {
                        offset += width;
                        Slot::Fixed { offset: offset - width, bit: bit - 1, repr }
                    }
                    None => {
                        vars += 1;
                        Slot::Var { ordinal: vars - 1, bit: bit - 1, repr }
                    }
                }
            };
            slots.push(slot);
        }
        Ok(Layout { version, fixed_end: offset, vars, slots })
    }

    fn encode(&self, version: u16, values: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        if values.len() != self.slots.len() {
            return Err(PgError::internal("a row has other columns than its table"));
        }
        let ends_at = self.fixed_end;
        out.clear();
        out.reserve(ends_at + self.vars * 16);
        out.resize(ends_at + 2 * self.vars, 0);
        out[..2].copy_from_slice(&version.to_le_bytes());
        let data_at = out.len();
        let mut ends: [usize; 64] = [0; 64];
        let mut many = if self.vars > 64 { vec![0; self.vars] } else { Vec::new() };
        for (slot, value) in self.slots.iter().zip(values) {
            match slot {
                Slot::Key { .. } | Slot::Missing(_) => {}
                Slot::Fixed { offset, bit, repr } => {
                    if value.is_null() {
                        out[HEADER + bit / 8] |= 1 << (bit % 8);
                    } else {
                        put_fixed(out, *offset, *repr, value)?;
                    }
                }
                Slot::Var { ordinal, bit, repr } => {
                    if value.is_null() {
                        out[HEADER + bit / 8] |= 1 << (bit % 8);
                    } else {
                        put_var(out, *repr, value)?;
                    }
                    let end = out.len() - data_at;
                    match many.get_mut(*ordinal) {
                        Some(slot) => *slot = end,
                        None => ends[*ordinal] = end,
                    }
                }
            }
        }
        let ends = if many.is_empty() { &ends[..self.vars] } else { &many[..] };
        self.put_ends(out, ends);
        Ok(())
    }

    fn put_ends(&self, out: &mut Vec<u8>, ends: &[usize]) {
        let at = self.fixed_end;
        if ends.last().is_none_or(|last| *last <= usize::from(u16::MAX)) {
            for (i, end) in ends.iter().enumerate() {
                let end = u16::try_from(*end).unwrap_or(u16::MAX);
                out[at + 2 * i..at + 2 * i + 2].copy_from_slice(&end.to_le_bytes());
            }
            return;
        }
        out[2] |= WIDE;
        let wide =
            ends.iter().flat_map(|end| u32::try_from(*end).unwrap_or(u32::MAX).to_le_bytes());
        out.splice(at..at + 2 * ends.len(), wide);
    }
}

fn mismatch(repr: Repr, value: &Datum) -> PgError {
    PgError::internal(format!("a column stored as {repr:?} was given {value:?}"))
}

fn put_fixed(out: &mut [u8], at: usize, repr: Repr, value: &Datum) -> Result<()> {
    macro_rules! word {
        ($v:expr) => {{
            let bytes = $v.to_le_bytes();
            out[at..at + bytes.len()].copy_from_slice(&bytes);
        }};
    }
    match (repr, value) {
        (Repr::Bool, Datum::Bool(v)) => out[at] = u8::from(*v),
        (Repr::Int2, Datum::Int2(v)) => word!(v),
        (Repr::Int4, Datum::Int4(v)) | (Repr::Date, Datum::Date(v)) => word!(v),
        (Repr::Int8, Datum::Int8(v))
        | (Repr::Time, Datum::Time(v))
        | (Repr::Timestamp, Datum::Timestamp(v))
        | (Repr::TimestampTz, Datum::TimestampTz(v)) => word!(v),
        (Repr::Float4, Datum::Float4(v)) => word!(v),
        (Repr::Float8, Datum::Float8(v)) => word!(v),
        (Repr::Oid, Datum::Oid(v)) => word!(v),
        (Repr::TimeTz, Datum::TimeTz(v, west)) => {
            word!(v);
            out[at + 8..at + 12].copy_from_slice(&west.to_le_bytes());
        }
        (Repr::Interval, Datum::Interval(v)) => {
            out[at..at + 16].copy_from_slice(&value::interval_bytes(v));
        }
        (Repr::Uuid, Datum::Uuid(v)) => out[at..at + 16].copy_from_slice(v),
        (repr, value) => return Err(mismatch(repr, value)),
    }
    Ok(())
}

fn put_var(out: &mut Vec<u8>, repr: Repr, value: &Datum) -> Result<()> {
    match (repr, value) {
        (Repr::Text, Datum::Text(v)) => out.extend_from_slice(v.as_bytes()),
        (Repr::Bytea, Datum::Bytea(v)) | (Repr::Jsonb, Datum::Jsonb(v)) => out.extend_from_slice(v),
        (Repr::Numeric, Datum::Numeric(v)) => v.encode(out),
        (Repr::Tagged, value) => value::push_tagged(out, value)?,
        (repr, value) => return Err(mismatch(repr, value)),
    }
    Ok(())
}

/// One stored row.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    codec: &'a TableCodec,
    layout: &'a Layout,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// The column at this index (`attnum − 1`).
    #[inline]
    pub fn get(&self, column: usize) -> Result<DatumRef<'a>> {
        match self.layout.slots.get(column) {
            Some(Slot::Fixed { offset, bit, repr }) => {
                if self.is_null_bit(*bit) {
                    return Ok(DatumRef::Null);
                }
                self.fixed(*offset, *repr)
            }
            Some(Slot::Var { ordinal, bit, repr }) => {
                if self.is_null_bit(*bit) {
                    return Ok(DatumRef::Null);
                }
                read_var(*repr, self.var(*ordinal)?)
            }
            Some(Slot::Key { ordinal, offset, ty }) => self.key_part(*ordinal, *offset, *ty),
            Some(Slot::Missing(value)) => Ok(DatumRef::Owned(value.clone())),
            None => Err(PgError::internal("a row has no such column")),
        }
    }

    #[inline]
    fn is_null_bit(&self, bit: usize) -> bool {
        self.value[HEADER + bit / 8] & (1 << (bit % 8)) != 0
    }

    #[inline]
    fn word<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let bytes = self.value.get(at..at + N).and_then(|b| b.first_chunk::<N>());
        bytes.copied().ok_or_else(corrupt)
    }

    #[inline]
    fn fixed(&self, at: usize, repr: Repr) -> Result<DatumRef<'a>> {
        Ok(match repr {
            Repr::Bool => DatumRef::Bool(self.word::<1>(at)?[0] != 0),
            Repr::Int2 => DatumRef::Int2(i16::from_le_bytes(self.word(at)?)),
            Repr::Int4 => DatumRef::Int4(i32::from_le_bytes(self.word(at)?)),
            Repr::Int8 => DatumRef::Int8(i64::from_le_bytes(self.word(at)?)),
            Repr::Float4 => DatumRef::Float4(f32::from_le_bytes(self.word(at)?)),
            Repr::Float8 => DatumRef::Float8(f64::from_le_bytes(self.word(at)?)),
            Repr::Date => DatumRef::Date(i32::from_le_bytes(self.word(at)?)),
            Repr::Time => DatumRef::Time(i64::from_le_bytes(self.word(at)?)),
            Repr::TimeTz => DatumRef::TimeTz(
                i64::from_le_bytes(self.word(at)?),
                i32::from_le_bytes(self.word(at + 8)?),
            ),
            Repr::Timestamp => DatumRef::Timestamp(i64::from_le_bytes(self.word(at)?)),
            Repr::TimestampTz => DatumRef::TimestampTz(i64::from_le_bytes(self.word(at)?)),
            Repr::Interval => DatumRef::Interval(value::interval(&self.word(at)?)),
            Repr::Uuid => DatumRef::Uuid(self.word(at)?),
            Repr::Oid => DatumRef::Oid(u32::from_le_bytes(self.word(at)?)),
            Repr::Text | Repr::Bytea | Repr::Jsonb | Repr::Numeric | Repr::Tagged => {
                return Err(corrupt());
            }
        })
    }

    #[inline]
    fn var(&self, ordinal: usize) -> Result<&'a [u8]> {
        let at = self.layout.fixed_end;
        let wide = self.value[2] & WIDE != 0;
        let end_of = |i: usize| -> Result<usize> {
            if wide {
                Ok(u32::from_le_bytes(self.word(at + 4 * i)?) as usize)
            } else {
                Ok(usize::from(u16::from_le_bytes(self.word(at + 2 * i)?)))
            }
        };
        let data = at + self.layout.vars * if wide { 4 } else { 2 };
        let start = if ordinal == 0 { 0 } else { end_of(ordinal - 1)? };
        self.value.get(data + start..data + end_of(ordinal)?).ok_or_else(corrupt)
    }

    fn key_part(&self, ordinal: usize, offset: Option<usize>, ty: Oid) -> Result<DatumRef<'a>> {
        if let Some(offset) = offset {
            return take_value(&mut self.key.get(offset..).ok_or_else(corrupt)?, ty);
        }
        let mut rest = self.key.get(PREFIX_LEN..).ok_or_else(corrupt)?;
        for kind in &self.codec.key_kinds[..ordinal] {
            skip_value(&mut rest, *kind)?;
        }
        take_value(&mut rest, ty)
    }
}

#[inline]
fn read_var(repr: Repr, bytes: &[u8]) -> Result<DatumRef<'_>> {
    Ok(match repr {
        Repr::Text => DatumRef::Text(std::str::from_utf8(bytes).map_err(|_| corrupt())?),
        Repr::Bytea => DatumRef::Bytea(bytes),
        Repr::Jsonb => DatumRef::Jsonb(bytes),
        Repr::Numeric => DatumRef::Owned(Datum::Numeric(crate::number::from_bytes(bytes)?)),
        _ => DatumRef::Owned(value::read_tagged(bytes)?),
    })
}
