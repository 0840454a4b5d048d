//! A command that is too large for one entry, made into many.
//!
//! Its runs and its single writes are merged by key: the engine builds its files from the pieces as they
//! come, which takes ascending keys. Where one run has no rival for a while its bytes are copied in one go,
//! so that rows loaded in key order cost nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::command::{Command, CommandWrite, put_header};
use crate::api::{Key, Timestamp, TxnId};
use crate::run::Run;

/// The pieces of a command, encoded.
#[derive(Debug)]
pub struct Pieces {
    txn: Option<TxnId>,
    ts: Timestamp,
    bytes_max: usize,
    writes: Peekable<vec::IntoIter<CommandWrite>>,
    runs: Vec<Option<Arc<Run>>>,
    /// The next row of each run: its key, the run, its place there.
    next: BinaryHeap<Reverse<(Key, usize, usize)>>,
    ended: bool,
}

impl Pieces {
    pub(super) fn new(command: Command, bytes_max: usize) -> Pieces {
        let Command { txn, ts, writes, runs } = command;
        let heads = runs.iter().enumerate();
        let next = heads.map(|(of, run)| Reverse((run.shared_key(0), of, 0))).collect();
        let runs = runs.into_iter().map(Some).collect();
        let writes = writes.into_iter().peekable();
        Pieces { txn, ts, bytes_max, writes, runs, next, ended: false }
    }

    /// Appends what comes next in key order; answers the number of writes, 0 at the end.
    fn append(&mut self, piece: &mut Vec<u8>) -> usize {
        let Some(Reverse((key, of, from))) = self.next.pop() else {
            return self.append_write(piece);
        };
        let write = self.writes.peek().map(|write| &write.key);
        if write.is_some_and(|write| *write < key) {
            self.next.push(Reverse((key, of, from)));
            return self.append_write(piece);
        }
        let run = self.runs[of].clone().expect("a run that has a next row is here");
        let (mut to, mut count) = (from + 1, 0);
        // The same key among the writes: they win.
        if write != Some(&key) {
            let room = self.bytes_max.saturating_sub(piece.len());
            to = from + run.fitting(from, room);
            let rival = self.next.peek().map(|Reverse((key, ..))| key);
            for bound in [rival, write].into_iter().flatten() {
                if run.key(to - 1) >= &bound[..] {
                    to = run.lower_bound(from, bound).max(from + 1);
                }
            }
            piece.extend_from_slice(run.encoded(from, to));
            count = to - from;
        }
        if to < run.len() {
            self.next.push(Reverse((run.shared_key(to), of, to)));
        } else {
            self.runs[of] = None;
        }
        match count {
            0 => self.append(piece),
            count => count,
        }
    }

    fn append_write(&mut self, piece: &mut Vec<u8>) -> usize {
        let Some(write) = self.writes.next() else { return 0 };
        write.encode(piece);
        1
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::with_capacity(self.bytes_max);
        put_header(&mut piece, self.txn, self.ts);
        let count_at = piece.len();
        piece.extend_from_slice(&[0; 4]);
        let mut count = 0;
        while count == 0 || piece.len() < self.bytes_max {
            match self.append(&mut piece) {
                0 => break,
                more => count += more,
            }
        }
        self.ended = count == 0;
        let count = u32::try_from(count).expect("a piece is bounded in bytes");
        piece[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::command::HEADER_BYTES;
    use super::*;
    use crate::run::RunBuilder;

    fn run(keys: impl Iterator<Item = u32>) -> Arc<Run> {
        let mut builder = RunBuilder::default();
        keys.for_each(|n| builder.push(&n.to_be_bytes(), format!("run {n}").as_bytes()));
        Arc::new(builder.build().expect("no doubles").0)
    }

    fn write(n: u32, value: Option<&str>) -> CommandWrite {
        let key = Bytes::copy_from_slice(&n.to_be_bytes());
        CommandWrite { key, value: value.map(|v| Bytes::from(v.to_owned())), old: None }
    }

    /// However runs and writes interleave, the pieces have every key once, in order, and a write wins.
    #[test]
    fn pieces_merge_runs_and_writes_in_key_order() {
        let runs = vec![
            run((0..500).map(|n| n * 2)),
            run((0..300).map(|n| 2001 - n * 4)),
            run(5000..5400),
        ];
        let writes = vec![
            write(0, None),
            write(7, Some("w")),
            write(998, Some("w")),
            write(5399, Some("w")),
            write(9000, Some("w")),
        ];
        let mut expected = BTreeMap::new();
        for run in &runs {
            expected.extend((0..run.len()).map(|at| (run.shared_key(at), Some(run.row(at)))));
        }
        expected.extend(writes.iter().map(|w| (w.key.clone(), w.value.clone())));
        for bytes_max in [1, 100, 1000, 100_000] {
            let (writes, runs, ts) = (writes.clone(), runs.clone(), Timestamp(9));
            let pieces: Vec<Bytes> =
                Command { txn: None, ts, writes, runs }.pieces(bytes_max).collect();
            assert_eq!(pieces.last().map(Bytes::len), Some(HEADER_BYTES), "the last one is empty");
            let mut found = Vec::new();
            for mut piece in pieces {
                assert!(piece.len() < bytes_max + 100, "{} bytes", piece.len());
                let command = Command::decode(&mut piece).expect("own bytes");
                assert!(piece.is_empty() && command.ts == Timestamp(9));
                found.extend(command.writes.into_iter().map(|w| (w.key, w.value)));
            }
            assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            let same = BTreeMap::from_iter(found) == expected;
            assert!(same, "pieces of {bytes_max} bytes hold something else");
        }
    }
}
