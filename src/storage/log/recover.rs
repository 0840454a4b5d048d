//! Reading the log back after a restart.

use std::path::Path;

use bytes::Bytes;
use meridian_base::RangeId;

use super::LogWrite;
use super::frame::{self, ALIGN};
use super::memory::Groups;
use super::segment::{self, Found, HEADER_BYTES, Header};
use crate::StorageError;

/// What one old segment holds: the highest entry index of each group in it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) id: u64,
    pub(super) last: std::collections::BTreeMap<RangeId, u64>,
}

impl Contents {
    pub(super) fn note(&mut self, group: RangeId, write: &LogWrite) {
        match write {
            LogWrite::Entry { index, .. } => {
                let last = self.last.entry(group).or_default();
                *last = (*last).max(*index);
            }
            LogWrite::Forget => drop(self.last.remove(&group)),
            _ => {}
        }
    }
}

/// The recovered log.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) groups: Groups,
    pub(super) segments: Vec<Contents>,
    pub(super) next_seq: u64,
    pub(super) next_id: u64,
    /// Segments that hold nothing: their header never became durable.
    pub(super) empty: Vec<u64>,
}

/// Reads all segments of a directory.
pub(super) fn recover(dir: &Path) -> Result<Recovered, StorageError> {
    let ids = segment::list(dir)?;
    let mut out = Recovered { next_seq: 1, next_id: 1, ..Recovered::default() };
    // The end of the previous segment, in case it is the last one.
    let mut tail: Option<Tail> = None;
    for id in ids {
        out.next_id = id + 1;
        let path = segment::path(dir, id);
        let bytes = std::fs::read(&path).map_err(|e| StorageError::file("read", &path, e))?;
        let bytes = Bytes::from(bytes);
        let header = match Header::decode(&bytes, id) {
            Found::Used(header) => header,
            Found::Unused => {
                out.empty.push(id);
                continue;
            }
            Found::Damaged => return Err(damaged(dir, id, 0, "its header does not check")),
        };
        if !out.empty.is_empty() {
            let lost = out.empty[0];
            return Err(damaged(dir, lost, 0, "it is empty, and later segments exist"));
        }
        if tail.is_none() {
            out.next_seq = header.first_seq;
        } else if header.first_seq != out.next_seq {
            let at = tail.as_ref().map_or(0, |t| t.offset);
            return Err(damaged(
                dir,
                id - 1,
                at,
                "frames between it and the next segment are missing",
            ));
        }
        tail = Some(replay(dir, &bytes, header, &mut out)?);
    }
    if let Some(tail) = tail {
        refuse_if_more(dir, &tail, out.next_seq)?;
    }
    Ok(out)
}

struct Tail {
    id: u64,
    bytes: Bytes,
    offset: usize,
    salt: u32,
}

/// Applies a segment's frames up to the first that does not check.
fn replay(
    dir: &Path,
    bytes: &Bytes,
    header: Header,
    out: &mut Recovered,
) -> Result<Tail, StorageError> {
    let mut offset = HEADER_BYTES;
    let mut contents = Contents { id: header.id, ..Contents::default() };
    while offset < bytes.len() {
        let Some(frame) = frame::parse(&bytes.slice(offset..), header.salt) else { break };
        if frame.seq != out.next_seq {
            break;
        }
        let len = frame.padded_len;
        let writes = frame.writes();
        let writes = writes.ok_or_else(|| damaged(dir, header.id, offset, "unknown record"))?;
        for (group, write) in writes {
            contents.note(group, &write);
            if matches!(write, LogWrite::Forget) {
                out.segments.iter_mut().for_each(|old| old.note(group, &write));
            }
            let write = match write {
                LogWrite::Entry { index, data } => {
                    LogWrite::Entry { index, data: frame::unpin(&data) }
                }
                other => other,
            };
            let applied = out.groups.apply(group, &write);
            applied.map_err(|what| damaged(dir, header.id, offset, &format!("{group}: {what}")))?;
        }
        out.next_seq += 1;
        offset += len;
    }
    out.segments.push(contents);
    Ok(Tail { id: header.id, bytes: bytes.clone(), offset, salt: header.salt })
}

/// A valid frame behind the end means that the end is damage, not a torn write.
fn refuse_if_more(dir: &Path, tail: &Tail, next_seq: u64) -> Result<(), StorageError> {
    let mut offset = tail.offset;
    while offset + frame::HEADER_BYTES <= tail.bytes.len() {
        if let Some(frame) = frame::parse(&tail.bytes.slice(offset..), tail.salt)
            && frame.seq >= next_seq
        {
            let what = format!(
                "frame {next_seq} does not check, but frame {} behind it does; acknowledged data \
                 is lost",
                frame.seq
            );
            return Err(damaged(dir, tail.id, tail.offset, &what));
        }
        offset += ALIGN;
    }
    Ok(())
}

fn damaged(dir: &Path, id: u64, offset: usize, what: &str) -> StorageError {
    let path = segment::path(dir, id);
    StorageError::Corruption(format!("raft log {} at byte {offset}: {what}", path.display()))
}
