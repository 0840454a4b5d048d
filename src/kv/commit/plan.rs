//! Which range has to do what of a commit.

use crate::api::{Isolation, Key, Span, Timestamp};
use crate::range::{Header, PrepareRequest, Verify};
use crate::txn::{ReadSet, Write};

/// One range's part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which of the ranges.
    pub range: usize,
    /// Its representative key.
    pub key: Key,
    /// Its writes.
    pub writes: Vec<Write>,
    /// Its keys that are locked and not written.
    pub verify: Vec<Verify>,
    /// What was read there.
    pub reads: ReadSet,
}

impl Part {
    fn new(range: usize) -> Part {
        let (key, writes, verify) = (Key::new(), Vec::new(), Vec::new());
        Part { range, key, writes, verify, reads: ReadSet::default() }
    }

    /// Some key of the range that the part is about.
    fn name(&mut self, range: &Span) {
        let written = self.writes.first().map(|write| &write.key);
        let verified = self.verify.first().map(|verify| &verify.key);
        let read = self.reads.points().next();
        let key = written.or(verified).or(read).unwrap_or(&range.start);
        self.key = key.clone();
    }
}

/// The prepares of a commit with several parts; the header has their keys as participants.
pub fn requests(
    header: &Header,
    isolation: Isolation,
    read_ts: Timestamp,
    parts: Vec<Part>,
) -> Vec<PrepareRequest> {
    let request = |(own, part): (usize, Part)| {
        debug_assert_eq!(header.participants[own], part.key, "parts in the participants' order");
        let (header, writes, verify, reads) =
            (header.clone(), part.writes, part.verify, part.reads);
        let (behalf, before) = (None, Timestamp::MAX);
        PrepareRequest { header, own, isolation, read_ts, writes, verify, reads, behalf, before }
    };
    parts.into_iter().enumerate().map(request).collect()
}

/// Divides a commit among ranges, which ascend and cover everything. Every range that is written,
/// verified, or read (give reads for SERIALIZABLE only) has a part; with one part the commit is of one
/// phase.
pub fn plan(
    writes: Vec<Write>,
    verify: Vec<Verify>,
    reads: &ReadSet,
    ranges: &[Span],
) -> Vec<Part> {
    let mut parts: Vec<Part> = (0..ranges.len()).map(Part::new).collect();
    let range_of = |key: &Key| ranges.partition_point(|range| range.start <= *key).max(1) - 1;
    for write in writes {
        parts[range_of(&write.key)].writes.push(write);
    }
    for locked in verify {
        parts[range_of(&locked.key)].verify.push(locked);
    }
    if !reads.is_empty() {
        parts.iter_mut().for_each(|part| part.reads = reads.within(&ranges[part.range]));
    }
    parts.retain(|part| {
        !(part.writes.is_empty() && part.verify.is_empty() && part.reads.is_empty())
    });
    parts.iter_mut().for_each(|part| part.name(&ranges[part.range]));
    parts
}
