//! Values as bytes in the order of the values.
//!
//! Comparing two encoded columns with `memcmp` compares the values, and every encoding ends itself,
//! so columns can be laid one after another. Encoders append to a `Vec`; [`Reader`] takes the same
//! columns off again.
//!
//! ```text
//! ints        big-endian, sign bit flipped            −1 → 7F FF FF FF, 0 → 80 00 00 00
//! floats      −0 → +0; negative !bits, else bits^SIGN; NaN is the canonical one, above +∞
//! bytes, text 00 → 00 FF, end 00 01                   "a\0b" → 61 00 FF 62 00 01
//! null tag    01 NULL first · 02 value · 03 NULL last (absent for key columns that are never NULL)
//! DESC        bitwise NOT of tag and payload, terminator too
//! ```
//! Inverting a column also inverts its null tag: `DESC` written with tag 03 puts NULLs first, which
//! is PostgreSQL's default for both directions.
//!
//! What is not here: numeric, jsonb, arrays, collated text (the layers that know these types build
//! them from the primitives).

use std::fmt;

/// Tag of a NULL that sorts below all values.
pub const NULL_FIRST: u8 = 0x01;
/// Tag before a value of a column that may be NULL.
pub const NOT_NULL: u8 = 0x02;
/// Tag of a NULL that sorts above all values.
pub const NULL_LAST: u8 = 0x03;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const TERMINATOR: u8 = 0x01;
const SIGN64: u64 = 1 << 63;
const SIGN32: u32 = 1 << 31;

/// Direction of an index column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Largest first.
    pub desc: bool,
    /// NULLs before all values, as the reader of the index meets them.
    pub nulls_first: bool,
}

impl Order {
    /// PostgreSQL's default: ascending, NULLs last.
    pub const ASC: Self = Self { desc: false, nulls_first: false };
    /// PostgreSQL's default for `DESC`: NULLs first.
    pub const DESC: Self = Self { desc: true, nulls_first: true };

    /// The tag of a NULL, before inversion.
    #[must_use]
    pub const fn null_tag(self) -> u8 {
        if self.nulls_first == self.desc { NULL_LAST } else { NULL_FIRST }
    }
}

/// Bitwise NOT of everything from `from` on: makes the column just written descending.
pub fn invert(out: &mut [u8], from: usize) {
    for byte in &mut out[from..] {
        *byte = !*byte;
    }
}

/// Appends a bool.
pub fn put_bool(out: &mut Vec<u8>, v: bool) {
    out.push(u8::from(v));
}

/// Appends one raw byte.
pub fn put_u8(out: &mut Vec<u8>, v: u8) {
    out.push(v);
}

/// Appends an `i16`.
pub fn put_i16(out: &mut Vec<u8>, v: i16) {
    out.extend_from_slice(&(v.cast_unsigned() ^ 0x8000).to_be_bytes());
}

/// Appends an `i32`.
pub fn put_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&(v.cast_unsigned() ^ SIGN32).to_be_bytes());
}

/// Appends an `i64`.
pub fn put_i64(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&(v.cast_unsigned() ^ SIGN64).to_be_bytes());
}

/// Appends an `i128`.
pub fn put_i128(out: &mut Vec<u8>, v: i128) {
    out.extend_from_slice(&(v.cast_unsigned() ^ (1 << 127)).to_be_bytes());
}

/// Appends a `u16`.
pub fn put_u16(out: &mut Vec<u8>, v: u16) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a `u32`.
pub fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a `u64`.
pub fn put_u64(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends an `f64`; −0 becomes 0 and every NaN the same one, above infinity.
pub fn put_f64(out: &mut Vec<u8>, v: f64) {
    let bits = if v.is_nan() { f64::NAN.to_bits() & !SIGN64 } else { (v + 0.0).to_bits() };
    let ordered = if bits & SIGN64 == 0 { bits ^ SIGN64 } else { !bits };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Appends an `f32`, by the same rule.
pub fn put_f32(out: &mut Vec<u8>, v: f32) {
    let bits = if v.is_nan() { f32::NAN.to_bits() & !SIGN32 } else { (v + 0.0).to_bits() };
    let ordered = if bits & SIGN32 == 0 { bits ^ SIGN32 } else { !bits };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Appends bytes (or UTF-8 text), escaped and terminated.
pub fn put_bytes(out: &mut Vec<u8>, v: &[u8]) {
    put_bytes_part(out, v);
    out.extend_from_slice(&[ESCAPE, TERMINATOR]);
}

/// Appends escaped bytes without the terminator: for prefix searches (`LIKE 'abc%'`).
pub fn put_bytes_part(out: &mut Vec<u8>, v: &[u8]) {
    let mut rest = v;
    while let Some(zero) = rest.iter().position(|b| *b == ESCAPE) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
}

/// An encoded key that does not decode: corruption, or a reader that expects other columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed key: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Takes columns off an encoded key.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    mask: u8,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `key`, ascending.
    #[must_use]
    pub const fn new(key: &'a [u8]) -> Self {
        Self { rest: key, mask: 0 }
    }

    /// Whether the next column was inverted.
    pub const fn set_desc(&mut self, desc: bool) {
        self.mask = if desc { 0xFF } else { 0 };
    }

    /// What is left, as stored.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError("ends early"))?;
        self.rest = rest;
        Ok(head.map(|b| b ^ self.mask))
    }

    /// The next byte.
    ///
    /// # Errors
    /// The key ends early; so for all methods below.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    /// Takes a null tag; true = NULL.
    ///
    /// # Errors
    /// Not a tag.
    pub fn null(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            NOT_NULL => Ok(false),
            NULL_FIRST | NULL_LAST => Ok(true),
            _ => Err(DecodeError("not a null tag")),
        }
    }

    /// Takes a bool.
    ///
    /// # Errors
    /// Neither 0 nor 1.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("not a bool")),
        }
    }

    /// Takes an `i16`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok((u16::from_be_bytes(self.take()?) ^ 0x8000).cast_signed())
    }

    /// Takes an `i32`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok((u32::from_be_bytes(self.take()?) ^ SIGN32).cast_signed())
    }

    /// Takes an `i64`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok((u64::from_be_bytes(self.take()?) ^ SIGN64).cast_signed())
    }

    /// Takes an `i128`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn i128(&mut self) -> Result<i128, DecodeError> {
        Ok((u128::from_be_bytes(self.take()?) ^ (1 << 127)).cast_signed())
    }

    /// Takes a `u16`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    /// Takes a `u32`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// Takes a `u64`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// Takes an `f64`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        let ordered = u64::from_be_bytes(self.take()?);
        Ok(f64::from_bits(if ordered & SIGN64 == 0 { !ordered } else { ordered ^ SIGN64 }))
    }

    /// Takes an `f32`.
    ///
    /// # Errors
    /// The key ends early.
    pub fn f32(&mut self) -> Result<f32, DecodeError> {
        let ordered = u32::from_be_bytes(self.take()?);
        Ok(f32::from_bits(if ordered & SIGN32 == 0 { !ordered } else { ordered ^ SIGN32 }))
    }

    /// Takes `N` raw bytes (a uuid).
    ///
    /// # Errors
    /// The key ends early.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take()
    }

    /// Takes escaped bytes, appending them to `out`.
    ///
    /// # Errors
    /// A wrong escape or no terminator.
    pub fn bytes_into(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let escape = ESCAPE ^ self.mask;
        loop {
            let at = self.rest.iter().position(|b| *b == escape);
            let at = at.ok_or(DecodeError("text without its end"))?;
            let (mask, start) = (self.mask, out.len());
            out.extend_from_slice(&self.rest[..at]);
            if mask != 0 {
                invert(out, start);
            }
            let code = *self.rest.get(at + 1).ok_or(DecodeError("text without its end"))? ^ mask;
            self.rest = &self.rest[at + 2..];
            match code {
                TERMINATOR => return Ok(()),
                ESCAPED_ZERO => out.push(0),
                _ => return Err(DecodeError("unknown escape in text")),
            }
        }
    }

    /// Takes escaped bytes.
    ///
    /// # Errors
    /// A wrong escape or no terminator.
    pub fn bytes(&mut self) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        self.bytes_into(&mut out)?;
        Ok(out)
    }

    /// Steps over escaped bytes without decoding them.
    ///
    /// # Errors
    /// No terminator.
    pub fn skip_bytes(&mut self) -> Result<(), DecodeError> {
        loop {
            let at = self.rest.iter().position(|b| *b ^ self.mask == ESCAPE);
            let at = at.ok_or(DecodeError("text without its end"))?;
            let code = self.rest.get(at + 1).map(|b| b ^ self.mask);
            self.rest = self.rest.get(at + 2..).ok_or(DecodeError("text without its end"))?;
            if code == Some(TERMINATOR) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
