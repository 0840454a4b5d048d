//! Point reads: record cache, then engine, then history.

use std::sync::Arc;

use meridian_kv::api::{Bytes, KvError, Span, Timestamp};
use meridian_kv::range::{Newest, Version};
use meridian_storage::cache::Lookup;
use meridian_storage::engine::{Engine, Keyspace};
use meridian_storage::mvcc::MvccScan;
use meridian_storage::{Barren, RecordCache, StorageError, mvcc};

/// Where a transaction reads.
pub(crate) struct ReadPath {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) cache: RecordCache,
    pub(crate) barren: Arc<Barren>,
}

/// The storage's error in the words of the KV layer.
pub(crate) fn storage_error(error: StorageError) -> KvError {
    match error {
        StorageError::DiskFull => KvError::DiskFull,
        StorageError::Stopped(reason) => KvError::Unavailable { reason },
        other => KvError::Storage { reason: other.to_string() },
    }
}

impl ReadPath {
    /// What `cur` holds for a logical key.
    fn cur(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let miss = match self.cache.get(key) {
            Lookup::Hit(value) => return Ok(value),
            Lookup::Miss(miss) => miss,
        };
        let value = self.engine.get(Keyspace::Cur, &meridian_base::keys::data_key(key))?;
        self.cache.fill(miss, key, value.as_deref());
        Ok(value)
    }

    /// The row at a snapshot.
    pub(crate) fn get(&self, key: &[u8], read_ts: Timestamp) -> Result<Option<Bytes>, KvError> {
        let Some(value) = self.cur(key).map_err(storage_error)? else { return Ok(None) };
        let version = mvcc::decode_cur(value).map_err(storage_error)?;
        if version.ts <= read_ts {
            return Ok(version.row);
        }
        mvcc::get_hist(self.engine.as_ref(), key, read_ts).map_err(storage_error)
    }

    /// The rows of a span at a snapshot.
    pub(crate) fn scan(&self, span: &Span, reverse: bool, read_ts: Timestamp) -> MvccScan {
        let scan = MvccScan::new(self.engine.snapshot(), span, reverse, read_ts);
        scan.skipping(Arc::clone(&self.barren))
    }

    /// Reads on in a scan, and notes what was found barren on the way.
    pub(crate) fn next_batch(
        &self,
        scan: &mut MvccScan,
        rows_max: usize,
        out: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<bool, KvError> {
        let more = scan.next_batch(rows_max, out).map_err(storage_error)?;
        if let Some(span) = scan.walked() {
            self.barren.prove(span, self.engine.as_ref()).map_err(storage_error)?;
        }
        Ok(more)
    }
}

impl Newest for ReadPath {
    fn newest(&self, key: &[u8]) -> Result<Option<Version>, KvError> {
        let value = self.cur(key).map_err(storage_error)?;
        value.map(mvcc::decode_cur).transpose().map_err(storage_error)
    }
}
