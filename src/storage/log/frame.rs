//! Bytes of a frame.
//!
//! The checksum covers the header after itself, the body, and a random *salt* of the log: a client's row
//! that happens to contain the image of a frame is not one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meridian_base::RangeId;

use super::{LogWrite, Slot};

const MAGIC: u32 = 0x4C47_524D;
/// Bytes before the records.
pub(super) const HEADER_BYTES: usize = 24;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 64;
const RECORD_HEADER_BYTES: usize = 21;

const ENTRY: u8 = 1;
const TRUNCATE_FROM: u8 = 2;
const PURGE_TO: u8 = 3;
const SLOT: u8 = 4;
const FORGET: u8 = 5;

/// Collects records into one frame.
#[derive(Default)]
pub(super) struct Builder {
    buf: Vec<u8>,
    records: u32,
}

impl Builder {
    pub(super) fn clear(&mut self) {
        self.buf.clear();
        self.buf.resize(HEADER_BYTES, 0);
        self.records = 0;
    }

    pub(super) fn push(&mut self, group: RangeId, write: &LogWrite) {
        let (kind, index, data): (u8, u64, &[u8]) = match write {
            LogWrite::Entry { index, data } => (ENTRY, *index, data),
            LogWrite::TruncateFrom(index) => (TRUNCATE_FROM, *index, &[]),
            LogWrite::PurgeTo(index) => (PURGE_TO, *index, &[]),
            LogWrite::Slot(slot, data) => (SLOT, *slot as u64, data),
            LogWrite::Forget => (FORGET, 0, &[]),
        };
        let len = u32::try_from(data.len()).expect("an entry is far below 4 GiB");
        self.buf.reserve(RECORD_HEADER_BYTES + data.len());
        self.buf.put_u8(kind);
        self.buf.put_u64_le(group.0);
        self.buf.put_u64_le(index);
        self.buf.put_u32_le(len);
        self.buf.put_slice(data);
        self.records += 1;
    }

    pub(super) const fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of the frame with its padding.
    pub(super) fn padded_len(&self) -> usize {
        self.buf.len().next_multiple_of(ALIGN)
    }

    /// Fills in the header and returns the whole frame.
    pub(super) fn finish(&mut self, seq: u64, salt: u32) -> &[u8] {
        let len = u32::try_from(self.buf.len()).expect("a frame is far below 4 GiB");
        let records = self.records;
        self.buf.resize(self.padded_len(), 0);
        let mut header = &mut self.buf[..HEADER_BYTES];
        header.put_u32_le(MAGIC);
        header.put_u32_le(len);
        header.put_u32_le(0);
        header.put_u32_le(records);
        header.put_u64_le(seq);
        let crc = checksum(&self.buf[..len as usize], salt);
        self.buf[8..12].copy_from_slice(&crc.to_le_bytes());
        &self.buf
    }
}

/// Checksum of a frame (of the given exact length).
fn checksum(frame: &[u8], salt: u32) -> u32 {
    let crc = crc32c::crc32c_append(salt, &frame[..8]);
    crc32c::crc32c_append(crc, &frame[12..])
}

/// A frame that checks.
pub(super) struct Frame {
    pub(super) seq: u64,
    records: u32,
    body: Bytes,
    /// Where the next one starts, relative to this one.
    pub(super) padded_len: usize,
}

/// The frame at the start of `bytes`, if there is a valid one.
pub(super) fn parse(bytes: &Bytes, salt: u32) -> Option<Frame> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    if word(0)? != MAGIC {
        return None;
    }
    let len = word(4)? as usize;
    let frame = bytes.get(..len).filter(|frame| frame.len() >= HEADER_BYTES)?;
    if checksum(frame, salt) != word(8)? {
        return None;
    }
    let seq = u64::from_le_bytes(header[16..24].try_into().ok()?);
    let body = bytes.slice(HEADER_BYTES..len);
    Some(Frame { seq, records: word(12)?, body, padded_len: len.next_multiple_of(ALIGN) })
}

impl Frame {
    /// The records; `None` for a frame that checks but cannot be understood (a newer version's).
    pub(super) fn writes(mut self) -> Option<Vec<(RangeId, LogWrite)>> {
        let mut out = Vec::with_capacity(self.records as usize);
        for _ in 0..self.records {
            if self.body.remaining() < RECORD_HEADER_BYTES {
                return None;
            }
            let kind = self.body.get_u8();
            let group = RangeId(self.body.get_u64_le());
            let index = self.body.get_u64_le();
            let len = self.body.get_u32_le() as usize;
            if self.body.remaining() < len {
                return None;
            }
            let data = self.body.split_to(len);
            out.push((
                group,
                match kind {
                    ENTRY => LogWrite::Entry { index, data },
                    TRUNCATE_FROM => LogWrite::TruncateFrom(index),
                    PURGE_TO => LogWrite::PurgeTo(index),
                    FORGET => LogWrite::Forget,
                    // A slot's few bytes must not keep a whole segment in memory.
                    SLOT => LogWrite::Slot(Slot::from_index(index)?, Bytes::copy_from_slice(&data)),
                    _ => return None,
                },
            ));
        }
        Some(out)
    }
}

/// Copies a slice out of the segment that it pins.
pub(super) fn unpin(data: &Bytes) -> Bytes {
    BytesMut::from(&data[..]).freeze()
}
