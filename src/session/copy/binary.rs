//! COPY data in binary form: a header, then for each row a field count and length-prefixed fields,
//! then −1.

use meridian_types::io;
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, SqlState};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// The header: signature, flags, no extension.
pub(crate) fn put_header(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 8]);
}

/// The end of the data.
pub(crate) fn put_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i16).to_be_bytes());
}

/// One row.
pub(crate) fn put_row(
    out: &mut Vec<u8>,
    row: &[Datum],
    types: &[PgType],
    eval: &EvalContext,
) -> Result<()> {
    out.extend_from_slice(&u16::try_from(row.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (value, ty) in row.iter().zip(types) {
        if value.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        io::binary_send(value, *ty, eval, out)?;
        let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Takes rows off bytes that come cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    header_read: bool,
    pub(crate) ended: bool,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether all that has come has been taken.
    pub(crate) fn is_between_rows(&self) -> bool {
        self.header_read && self.pending.is_empty()
    }

    /// The next whole row, `None` when more bytes are needed or the data have ended.
    pub(crate) fn next(
        &mut self,
        types: &[PgType],
        eval: &EvalContext,
    ) -> Result<Option<Vec<Datum>>> {
        if !self.header_read && !self.read_header()? {
            return Ok(None);
        }
        if self.ended {
            return Ok(None);
        }
        let Some(count) = self.pending.first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        if usize::try_from(count).ok() != Some(types.len()) {
            return Err(bad(format!("row field count is {count}, expected {}", types.len())));
        }
        let Some(fields) = self.fields(types.len())? else { return Ok(None) };
        let mut row = Vec::with_capacity(types.len());
        let mut at = 2;
        for (length, ty) in fields.iter().zip(types) {
            at += 4;
            match length {
                None => row.push(Datum::Null),
                Some(n) => {
                    row.push(io::binary_recv(ty.oid, ty.typmod, &self.pending[at..at + n], eval)?);
                    at += n;
                }
            }
        }
        self.pending.drain(..at);
        Ok(Some(row))
    }

    /// The fields' lengths, when all of the row is here.
    fn fields(&self, n: usize) -> Result<Option<Vec<Option<usize>>>> {
        let mut lengths = Vec::with_capacity(n);
        let mut at = 2;
        for _ in 0..n {
            let Some(length) = self.pending.get(at..).and_then(|rest| rest.first_chunk::<4>())
            else {
                return Ok(None);
            };
            at += 4;
            match i32::from_be_bytes(*length) {
                -1 => lengths.push(None),
                length => {
                    let length = usize::try_from(length).map_err(|_| bad("invalid field size"))?;
                    at += length;
                    lengths.push(Some(length));
                }
            }
            if at > self.pending.len() {
                return Ok(None);
            }
        }
        Ok(Some(lengths))
    }

    fn read_header(&mut self) -> Result<bool> {
        let Some(header) = self.pending.first_chunk::<19>() else { return Ok(false) };
        if &header[..11] != SIGNATURE {
            return Err(bad("COPY file signature not recognized"));
        }
        let extension =
            u32::from_be_bytes([header[15], header[16], header[17], header[18]]) as usize;
        if self.pending.len() < 19 + extension {
            return Ok(false);
        }
        self.pending.drain(..19 + extension);
        self.header_read = true;
        Ok(true)
    }
}

fn bad(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}
