//! What a range is: which keys, in which of its forms, on which nodes.
//!
//! Each replica keeps the one of its range beside its data, under `R ‖ range ‖ "desc"`: the bounds are state
//! of the range, changed by its log only and shipped with its content. The first range has none until it
//! splits: it holds all keys. Copies of descriptors (in the directory, in messages) may be old; of two with
//! overlapping keys the one of the higher generation is right.
//!
//! ```text
//! range:u64 | generation:u64 | start | end | n:u32 | n × node:u64       numbers little endian, keys len:u32 ‖ bytes
//! ```
//!
//! # A split
//! `hist` gets a mark that the right half has begun, in the same batch. A keyspace keeps a batch as a whole
//! and no later one without the earlier: a descriptor in `cur` *and* the mark in `hist` say that a redo of
//! the left half begins behind the split. Only then may the right half be written to.

use bytes::Bytes;
use meridian_base::keys::range_state_key;
use meridian_base::{NodeId, RangeId};
use meridian_storage::engine::{Keyspace, Op};

use super::command::{CommandError, Cursor, put_bytes};
use super::record::put_u64;
use crate::api::{Span, Timestamp};

/// A range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number, never used again.
    pub id: RangeId,
    /// Its keys.
    pub span: Span,
    /// How many changes of its keys, or of its members, led here.
    pub generation: u64,
    /// The nodes with a replica: the first ones, where the range itself keeps it.
    pub replicas: Vec<NodeId>,
}

impl Descriptor {
    /// The first range, before it has split for the first time.
    pub fn first(id: RangeId) -> Descriptor {
        Descriptor { id, generation: 1, ..Descriptor::default() }
    }

    /// Where a range keeps its own.
    pub fn key(id: RangeId) -> Vec<u8> {
        range_state_key(id, b"desc")
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id.0);
        put_u64(out, self.generation);
        put_bytes(out, &self.span.start);
        put_bytes(out, &self.span.end);
        let count = u32::try_from(self.replicas.len()).expect("a handful");
        out.extend_from_slice(&count.to_le_bytes());
        self.replicas.iter().for_each(|node| put_u64(out, node.0));
    }

    /// It, encoded.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.into()
    }

    /// Reads what [`Descriptor::encode`] wrote.
    ///
    /// # Errors
    /// It is damaged.
    pub fn decode(mut bytes: Bytes) -> Result<Descriptor, CommandError> {
        Descriptor::take(&mut Cursor(&mut bytes))
    }

    pub(super) fn take(cursor: &mut Cursor<'_>) -> Result<Descriptor, CommandError> {
        let (id, generation) = (RangeId(cursor.ts()?.0), cursor.ts()?.0);
        let span = Span { start: cursor.bytes()?, end: cursor.bytes()? };
        let count = cursor.u32()?;
        let replicas = (0..count).map(|_| Ok(NodeId(cursor.ts()?.0)));
        let replicas = replicas.collect::<Result<_, CommandError>>()?;
        Ok(Descriptor { id, span, generation, replicas })
    }
}

/// A range has become two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What remains.
    pub left: Descriptor,
    /// The new range, with its first members.
    pub right: Descriptor,
    /// Up to where both are applied: nothing was in flight.
    pub applied: Timestamp,
}

impl Split {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.applied.0);
        self.left.encode(out);
        self.right.encode(out);
    }

    pub(super) fn take(cursor: &mut Cursor<'_>) -> Result<Split, CommandError> {
        let applied = cursor.ts()?;
        let (left, right) = (Descriptor::take(cursor)?, Descriptor::take(cursor)?);
        Ok(Split { left, right, applied })
    }

    pub(super) fn ops(&self, out: &mut Vec<Op>) {
        for half in [&self.left, &self.right] {
            out.push(Op::put(Keyspace::Cur, Descriptor::key(half.id), half.to_bytes()));
        }
        out.push(Op::put(Keyspace::Hist, Descriptor::key(self.right.id), Bytes::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogEntry;
    use super::*;

    #[test]
    fn a_split_is_byte_exact_and_marks_both_keyspaces() {
        let right = Descriptor {
            id: RangeId(2),
            span: Span::new("m", ""),
            generation: 3,
            replicas: vec![NodeId(1), NodeId(4)],
        };
        let left = Descriptor { span: Span::new("", "m"), ..Descriptor::first(RangeId(1)) };
        let split = Split { left, right, applied: Timestamp(9) };
        let entry = LogEntry::Split(Box::new(split.clone()));
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let number = |n: u8| [n, 0, 0, 0, 0, 0, 0, 0];
        let expected = [
            &[5][..],
            &number(9),
            // Left: number, generation, keys, nobody.
            &[&number(1)[..], &number(1), &[0, 0, 0, 0, 1, 0, 0, 0, b'm', 0, 0, 0, 0]].concat(),
            &[&number(2)[..], &number(3), &[1, 0, 0, 0, b'm', 0, 0, 0, 0, 2, 0, 0, 0]].concat(),
            &[number(1), number(4)].concat(),
        ];
        assert_eq!(bytes, expected.concat());
        let mut rest = Bytes::from(bytes);
        assert_eq!(LogEntry::decode(&mut rest), Ok(entry.clone()));
        assert!(rest.is_empty() && entry.ts().is_none() && entry.writes().is_none());
        let mut ops = Vec::new();
        entry.ops(&mut ops);
        let of = |keyspace| ops.iter().filter(|op| op.keyspace == keyspace).count();
        assert_eq!((of(Keyspace::Cur), of(Keyspace::Hist)), (2, 1));
        let stored = ops[1].value.clone().expect("a put");
        assert_eq!(Descriptor::decode(stored), Ok(split.right));
    }
}
