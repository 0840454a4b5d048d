//! Order-preserving keys of rows and index entries.
//!
//! A key is `0x10 ‖ storage id ‖ index id ‖ columns`. Every column's encoding is self-delimiting,
//! and its bytes compare as the type's btree order does. Columns of the primary index are bare
//! (they are never NULL and never DESC); those of other indexes begin with a tag, so that NULLs
//! have a place, and are inverted bit by bit for DESC.
//!
//! | type | payload |
//! |---|---|
//! | integers, oid, dates and times | big-endian, sign bit flipped |
//! | floats | sign set: all bits inverted; else the sign bit flipped; −0 as 0, NaN greatest |
//! | text, bytea | bytes with `00` as `00 FF`, then `00 01`; `bpchar` without trailing blanks |
//! | uuid | its 16 bytes |
//! | others | the type's sort key, escaped like text |

use meridian_types::datum::Datum;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result};

use crate::desc::{IndexDesc, TableDesc};

/// First byte of every row key.
pub const ROW_SPACE: u8 = 0x10;
/// Length of the part before the columns.
pub const PREFIX_LEN: usize = 7;

const NULL_FIRST: u8 = 0x01;
const VALUE: u8 = 0x02;
const NULL_LAST: u8 = 0x03;

/// How a type is written in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// One byte.
    Bool,
    /// `int2`
    I16,
    /// `int4`, `date`
    I32,
    /// `int8`, `time`, `timestamp`, `timestamptz`, `money`
    I64,
    /// `oid` and its aliases
    U32,
    /// `float4`
    F32,
    /// `float8`
    F64,
    /// Character types with byte order.
    Text,
    /// `char(n)`: trailing blanks don't count.
    Bpchar,
    /// `bytea`
    Bytes,
    /// `uuid`
    Uuid,
    /// Any other: by `meridian_types::sort_key`.
    Other,
}

impl KeyKind {
    /// The kind for a type.
    pub fn of(ty: Oid) -> KeyKind {
        match ty {
            oid::BOOL => KeyKind::Bool,
            oid::INT2 => KeyKind::I16,
            oid::INT4 | oid::DATE => KeyKind::I32,
            oid::INT8 | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::MONEY => KeyKind::I64,
            oid::OID
            | oid::REGCLASS
            | oid::REGTYPE
            | oid::REGPROC
            | oid::REGROLE
            | oid::REGNAMESPACE => KeyKind::U32,
            oid::FLOAT4 => KeyKind::F32,
            oid::FLOAT8 => KeyKind::F64,
            oid::TEXT | oid::VARCHAR | oid::NAME | oid::CHAR => KeyKind::Text,
            oid::BPCHAR => KeyKind::Bpchar,
            oid::BYTEA => KeyKind::Bytes,
            oid::UUID => KeyKind::Uuid,
            _ => KeyKind::Other,
        }
    }

    /// Whether the value can be read back from the key, so that the row needn't store it.
    pub fn reversible(self) -> bool {
        !matches!(self, KeyKind::F32 | KeyKind::F64 | KeyKind::Bpchar | KeyKind::Other)
    }

    /// Bytes taken, when that is the same for all values.
    pub fn width(self) -> Option<usize> {
        match self {
            KeyKind::Bool => Some(1),
            KeyKind::I16 => Some(2),
            KeyKind::I32 | KeyKind::U32 | KeyKind::F32 => Some(4),
            KeyKind::I64 | KeyKind::F64 => Some(8),
            KeyKind::Uuid => Some(16),
            KeyKind::Text | KeyKind::Bpchar | KeyKind::Bytes | KeyKind::Other => None,
        }
    }
}

/// Appends an `int2` column.
pub fn push_i16(out: &mut Vec<u8>, v: i16) {
    out.extend_from_slice(&(v.cast_unsigned() ^ 0x8000).to_be_bytes());
}

/// Appends an `int4` or `date` column.
pub fn push_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&(v.cast_unsigned() ^ 0x8000_0000).to_be_bytes());
}

/// Appends an `int8`, `time` or `timestamp` column.
pub fn push_i64(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&(v.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

/// Appends bytes, escaped and terminated.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|b| *b == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 0xFF]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

fn push_f64(out: &mut Vec<u8>, v: f64) {
    let v = if v == 0.0 { 0.0 } else { v };
    let bits = if v.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { v.to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn push_f32(out: &mut Vec<u8>, v: f32) {
    let v = if v == 0.0 { 0.0 } else { v };
    let bits = if v.is_nan() { f32::NAN.to_bits() & !(1 << 31) } else { v.to_bits() };
    let ordered = if bits >> 31 == 1 { !bits } else { bits ^ (1 << 31) };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Appends a value that isn't NULL, in ascending order, without a tag.
pub fn push_value(out: &mut Vec<u8>, kind: KeyKind, value: &Datum) -> Result<()> {
    match (kind, value) {
        (KeyKind::Bool, Datum::Bool(v)) => out.push(u8::from(*v)),
        (KeyKind::I16, Datum::Int2(v)) => push_i16(out, *v),
        (KeyKind::I32, Datum::Int4(v) | Datum::Date(v)) => push_i32(out, *v),
        (
            KeyKind::I64,
            Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v),
        ) => push_i64(out, *v),
        (KeyKind::U32, Datum::Oid(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (KeyKind::F32, Datum::Float4(v)) => push_f32(out, *v),
        (KeyKind::F64, Datum::Float8(v)) => push_f64(out, *v),
        (KeyKind::Text, Datum::Text(v)) => push_bytes(out, v.as_bytes()),
        (KeyKind::Bpchar, Datum::Text(v)) => push_bytes(out, v.trim_end_matches(' ').as_bytes()),
        (KeyKind::Bytes, Datum::Bytea(v)) => push_bytes(out, v),
        (KeyKind::Uuid, Datum::Uuid(v)) => out.extend_from_slice(v),
        (KeyKind::Other, value) => {
            let mut sort_key = Vec::new();
            crate::sort::push(&mut sort_key, value)?;
            push_bytes(out, &sort_key);
        }
        (kind, value) => {
            return Err(PgError::internal(format!("key column {kind:?} was given {value:?}")));
        }
    }
    Ok(())
}

pub(crate) fn corrupt() -> PgError {
    PgError::internal("a key is shorter than its columns")
}

pub(crate) fn take<const N: usize>(key: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = key.split_first_chunk::<N>().ok_or_else(corrupt)?;
    *key = rest;
    Ok(*head)
}

/// Takes an escaped column; the slice is the escaped text without the terminator.
pub(crate) fn take_escaped<'a>(key: &mut &'a [u8]) -> Result<&'a [u8]> {
    let all = *key;
    let mut from = 0;
    loop {
        let zero = all[from..].iter().position(|b| *b == 0).ok_or_else(corrupt)? + from;
        match all.get(zero + 1) {
            Some(1) => {
                *key = &all[zero + 2..];
                return Ok(&all[..zero]);
            }
            Some(_) => from = zero + 2,
            None => return Err(corrupt()),
        }
    }
}

/// Removes the escapes of [`push_bytes`].
pub fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(b) = bytes.next() {
        out.push(*b);
        if *b == 0 {
            bytes.next();
        }
    }
    out
}

/// Skips one bare ascending column.
pub fn skip_value(key: &mut &[u8], kind: KeyKind) -> Result<()> {
    match kind.width() {
        Some(width) => *key = key.get(width..).ok_or_else(corrupt)?,
        None => {
            take_escaped(key)?;
        }
    }
    Ok(())
}

/// Reads one bare ascending column of a reversible kind. Text is borrowed, as it never contains a
/// zero byte.
pub fn take_value<'a>(key: &mut &'a [u8], ty: Oid) -> Result<crate::row::DatumRef<'a>> {
    use crate::row::DatumRef;
    Ok(match KeyKind::of(ty) {
        KeyKind::Bool => DatumRef::Bool(take::<1>(key)?[0] != 0),
        KeyKind::I16 => DatumRef::Int2((u16::from_be_bytes(take(key)?) ^ 0x8000).cast_signed()),
        KeyKind::I32 => {
            let v = (u32::from_be_bytes(take(key)?) ^ 0x8000_0000).cast_signed();
            if ty == oid::DATE { DatumRef::Date(v) } else { DatumRef::Int4(v) }
        }
        KeyKind::I64 => {
            let v = (u64::from_be_bytes(take(key)?) ^ (1 << 63)).cast_signed();
            match ty {
                oid::TIME => DatumRef::Time(v),
                oid::TIMESTAMP => DatumRef::Timestamp(v),
                oid::TIMESTAMPTZ => DatumRef::TimestampTz(v),
                _ => DatumRef::Int8(v),
            }
        }
        KeyKind::U32 => DatumRef::Oid(u32::from_be_bytes(take(key)?)),
        KeyKind::Text => {
            let bytes = take_escaped(key)?;
            DatumRef::Text(std::str::from_utf8(bytes).map_err(|_| corrupt())?)
        }
        KeyKind::Bytes => DatumRef::Owned(Datum::Bytea(unescape(take_escaped(key)?).into())),
        KeyKind::Uuid => DatumRef::Uuid(take(key)?),
        KeyKind::F32 | KeyKind::F64 | KeyKind::Bpchar | KeyKind::Other => {
            return Err(PgError::internal("this type cannot be read back from a key"));
        }
    })
}

/// The prefix shared by all keys of one index.
pub fn index_prefix(storage_id: u32, index_id: u16) -> [u8; PREFIX_LEN] {
    let s = storage_id.to_be_bytes();
    let i = index_id.to_be_bytes();
    [ROW_SPACE, s[0], s[1], s[2], s[3], i[0], i[1]]
}

/// The first key after all that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The storage and the index that a key is of.
pub fn storage_of(key: &[u8]) -> Option<(u32, u16)> {
    let [_, a, b, c, d, e, f, ..] = *key else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])))
}

/// All keys of a table, over all its indexes: (first, end).
pub fn table_span(storage_id: u32) -> (Vec<u8>, Vec<u8>) {
    let prefix = &index_prefix(storage_id, 0)[..5];
    (prefix.to_vec(), prefix_end(prefix))
}

#[derive(Clone, Copy, Debug)]
struct KeyColumn {
    kind: KeyKind,
    ty: PgType,
    desc: bool,
    nulls_first: bool,
}

/// Writes and reads the keys of one index.
#[derive(Clone, Debug)]
pub struct IndexCodec {
    prefix: [u8; PREFIX_LEN],
    columns: Vec<KeyColumn>,
    primary: bool,
    unique: bool,
    nulls_not_distinct: bool,
}

impl IndexCodec {
    /// The codec of an index of this table.
    pub fn new(table: &TableDesc, index: &IndexDesc) -> IndexCodec {
        let columns = index
            .columns
            .iter()
            .map(|c| KeyColumn {
                kind: KeyKind::of(c.ty.oid),
                ty: c.ty,
                desc: c.desc,
                nulls_first: c.nulls_first,
            })
            .collect();
        IndexCodec {
            prefix: index_prefix(table.storage_id, index.index_id),
            columns,
            primary: index.index_id == crate::desc::PRIMARY_INDEX_ID,
            unique: index.unique,
            nulls_not_distinct: index.nulls_not_distinct,
        }
    }

    /// What all keys of the index begin with.
    pub fn prefix(&self) -> &[u8; PREFIX_LEN] {
        &self.prefix
    }

    /// Number of key columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether it has no key column.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Type and kind of a key column.
    pub fn column(&self, i: usize) -> (PgType, KeyKind) {
        (self.columns[i].ty, self.columns[i].kind)
    }

    /// All keys of the index: (first, end).
    pub fn span(&self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix.to_vec(), prefix_end(&self.prefix))
    }

    /// Appends the `i`-th key column, NULL allowed in all but the primary index.
    pub fn push_column(&self, out: &mut Vec<u8>, i: usize, value: &Datum) -> Result<()> {
        let column = &self.columns[i];
        if self.primary {
            return push_value(out, column.kind, value);
        }
        let start = out.len();
        if value.is_null() {
            out.push(if column.nulls_first == column.desc { NULL_LAST } else { NULL_FIRST });
        } else {
            out.push(VALUE);
            push_value(out, column.kind, value)?;
        }
        if column.desc {
            out[start..].iter_mut().for_each(|b| *b = !*b);
        }
        Ok(())
    }

    /// The tag that begins every value of column `i` that isn't NULL: with it, a bound of a range
    /// can leave NULLs out. `None` for the primary index.
    pub fn value_tag(&self, i: usize) -> Option<u8> {
        (!self.primary).then(|| if self.columns[i].desc { !VALUE } else { VALUE })
    }

    /// The key with these leading columns.
    pub fn key(&self, values: &[Datum]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(PREFIX_LEN + 12 * values.len());
        out.extend_from_slice(&self.prefix);
        for (i, value) in values.iter().enumerate() {
            self.push_column(&mut out, i, value)?;
        }
        Ok(out)
    }

    /// The entry of a secondary index for a row: (key, value). `row_key` is the row's whole key.
    ///
    /// The row's primary key is in the value when the entry has to be unique, in the key otherwise.
    pub fn entry(&self, values: &[Datum], row_key: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut key = self.key(values)?;
        let suffix = row_key.get(PREFIX_LEN..).unwrap_or_default();
        if self.is_unique_for(values) {
            return Ok((key, suffix.to_vec()));
        }
        key.extend_from_slice(suffix);
        Ok((key, Vec::new()))
    }

    /// Whether two rows with these values contradict each other.
    pub fn is_unique_for(&self, values: &[Datum]) -> bool {
        self.unique && (self.nulls_not_distinct || !values.iter().any(Datum::is_null))
    }

    /// The key of the row that an entry of this secondary index stands for.
    pub fn row_key(&self, table: &TableDesc, key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        let mut out = index_prefix(table.storage_id, crate::desc::PRIMARY_INDEX_ID).to_vec();
        if value.is_empty() {
            let mut rest = key.get(PREFIX_LEN..).ok_or_else(corrupt)?;
            for i in 0..self.columns.len() {
                self.skip_column(&mut rest, i)?;
            }
            out.extend_from_slice(rest);
        } else {
            out.extend_from_slice(value);
        }
        Ok(out)
    }

    /// Reads the `i`-th column of a key whose prefix and earlier columns were taken off. `None`: of this type
    /// a key holds the order only.
    pub fn take_column(&self, key: &mut &[u8], i: usize) -> Result<Option<Datum>> {
        let column = &self.columns[i];
        let before = *key;
        self.skip_column(key, i)?;
        let mut bytes = before[..before.len() - key.len()].to_vec();
        if column.desc && !self.primary {
            bytes.iter_mut().for_each(|b| *b = !*b);
        }
        let mut rest = &bytes[..];
        if !self.primary && take::<1>(&mut rest)?[0] != VALUE {
            return Ok(Some(Datum::Null));
        }
        crate::read_key::value(&mut rest, column.ty.oid)
    }

    /// Skips the `i`-th column of a key whose prefix and earlier columns were taken off.
    pub fn skip_column(&self, key: &mut &[u8], i: usize) -> Result<()> {
        let column = &self.columns[i];
        if self.primary {
            return skip_value(key, column.kind);
        }
        let flip = if column.desc { 0xFF } else { 0 };
        let tag = take::<1>(key)?[0] ^ flip;
        if tag != VALUE {
            return Ok(());
        }
        match column.kind.width() {
            Some(width) => *key = key.get(width..).ok_or_else(corrupt)?,
            None => {
                let end = key
                    .windows(2)
                    .enumerate()
                    .scan(false, |escaped, (at, pair)| {
                        // A zero that is the second byte of an escape pair doesn't begin one.
                        let begins = !*escaped && pair[0] ^ flip == 0;
                        *escaped = begins;
                        Some((at, begins && pair[1] ^ flip == 1))
                    })
                    .find(|(_, end)| *end)
                    .map(|(at, _)| at + 2)
                    .ok_or_else(corrupt)?;
                *key = &key[end..];
            }
        }
        Ok(())
    }
}
