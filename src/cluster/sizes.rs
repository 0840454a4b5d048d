//! Ranges that have grown too large are split.
//!
//! How large a range is nobody keeps: it is measured by a walk over its keys, on the side and seldom: when
//! its leaseholder hasn't done so yet, and again when its log has brought a good part of what it had, or of what it
//! may grow. The planner of copies goes by these sizes, too. The walk notes a key every so many bytes; the one in
//! the middle is where the range splits.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::Span;
use meridian_kv::api::{Key, KvError};
use meridian_storage::StorageError;
use meridian_storage::engine::{Keyspace, Reader};

use crate::commit::CommitError;
use crate::core::Core;
use crate::replicas::Replica;
use crate::split::FIRST_SPLIT_KEY;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// A key is noted after so many bytes: halves differ by less than a few of these.
const NOTE_BYTES: u64 = 1 << 20;
/// A range is measured again when its log has brought this part of the most that it may have …
const MEASURE_AGAIN: u64 = 8;
/// … or this part of what it had, if that is less …
const GROWN: u64 = 4;
/// … but not for less than this.
const GROWN_LEAST: u64 = 256 << 10;

/// What a walk over a range has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes of keys and newest rows.
    pub(crate) bytes: u64,
    /// What the log had brought by then.
    written: u64,
    /// The key with about half of the bytes below it, if the range can be split there.
    middle: Option<Key>,
}

/// Walks over a range. Blocks for some time.
pub(crate) fn measure(engine: &dyn Reader, span: &Span) -> Result<Measured, StorageError> {
    let (mut bytes, mut noted, mut notes) = (0, 0, Vec::new());
    for pair in engine.range(Keyspace::Cur, &span.physical(), false) {
        let (physical, value) = pair?;
        let key = physical.slice(1..);
        if bytes - noted >= NOTE_BYTES.min(bytes / 4) && key[..] >= FIRST_SPLIT_KEY[..] {
            notes.push((bytes, key));
            noted = bytes;
        }
        bytes += (physical.len() + value.len()) as u64;
    }
    let nearest = notes.iter().min_by_key(|(at, _)| at.abs_diff(bytes / 2));
    let middle = nearest.map(|(_, key)| key.clone()).filter(|key| *key > span.start);
    Ok(Measured { bytes, written: 0, middle })
}

/// Measures and splits, for as long as the store lives.
pub(crate) async fn run_splitter(core: Arc<Core>) {
    // Where there is one node, nothing is won by it.
    if core.alone {
        return;
    }
    let bytes_max = match core.config.range_bytes_max {
        0 => u64::MAX,
        bytes => bytes,
    };
    loop {
        tokio::time::sleep(LOOK).await;
        for replica in core.replicas().map(|replicas| replicas.all()).unwrap_or_default() {
            if let Err(error) = core.perhaps_split(&replica, bytes_max).await {
                tracing::warn!(%error, range = %replica.range.id, "a range was not split");
            }
        }
    }
}

impl Core {
    /// Measures a range if it is due, and splits it if it is too large. Has it been split?
    pub(crate) async fn perhaps_split(
        self: &Arc<Self>,
        replica: &Replica,
        bytes_max: u64,
    ) -> Result<bool, KvError> {
        let written = replica.holds.written();
        let known = replica.measured.lock().clone();
        let due = known.as_ref().is_none_or(|known| {
            let part = (known.bytes / GROWN).max(GROWN_LEAST).min(bytes_max / MEASURE_AGAIN);
            written - known.written >= part
        });
        let led = replica.range.lease.here(&self.hlc).is_some();
        if !led || !due {
            return Ok(false);
        }
        let (core, span) = (Arc::clone(self), replica.range.span());
        let walk = move || measure(core.read.engine.as_ref(), &span);
        let measured = tokio::task::spawn_blocking(walk).await;
        let storage = |reason: String| KvError::Storage { reason };
        let measured = measured.map_err(|error| storage(error.to_string()))?;
        let measured = Measured { written, ..measured.map_err(crate::read::storage_error)? };
        *replica.measured.lock() = Some(measured.clone());
        let Some(middle) = measured.middle.filter(|_| measured.bytes > bytes_max) else {
            return Ok(false);
        };
        tracing::info!(range = %replica.range.id, bytes = measured.bytes, "a large range is split");
        match self.split_here(&middle).await {
            Ok(_) => {
                // Half of it is another's now.
                *replica.measured.lock() = None;
                Ok(true)
            }
            Err(CommitError::Refused(error)) => Err(error),
            // In a while.
            Err(CommitError::Moved | CommitError::Unknown(_)) => {
                *replica.measured.lock() = None;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_storage::{Engine, MemEngine, WriteBatch};

    #[test]
    fn the_middle_is_where_half_of_the_bytes_are() {
        let engine = MemEngine::new();
        let mut batch = WriteBatch::default();
        let key = |n: u32| [&FIRST_SPLIT_KEY[..], &n.to_be_bytes()].concat();
        for n in 0..4_000_u32 {
            // The second half of the rows has most of the bytes.
            let row = vec![0; if n < 2_000 { 10 } else { 3_000 }];
            batch.put(Keyspace::Cur, meridian_base::keys::data_key(&key(n)), row);
        }
        engine.apply(batch).expect("memory");
        let measured = measure(&engine, &Span::all()).expect("memory");
        assert!((6_000_000..6_200_000).contains(&measured.bytes), "{}", measured.bytes);
        let middle = measured.middle.expect("it can be split");
        let n = u32::from_be_bytes(middle[5..].try_into().expect("a row"));
        assert!((2_600..3_400).contains(&n), "{n}");
        let one = measure(&engine, &Span::point(&key(5))).expect("memory");
        assert_eq!((one.middle, one.bytes), (None, 10 + 10), "one row can't be split");
    }
}
