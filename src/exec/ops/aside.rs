//! Rows put aside on disk until there is memory for them.
//!
//! A hash table that may not grow any more goes on serving the keys that it has; rows with other
//! keys are written to files, one for each part of the hash values. When the input has ended and the
//! table's memory is given back, each part is worked through as an input of its own, in which a
//! fraction of the keys comes up. A part may do the same one level further down, where other hash
//! values make the parts.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::SpillManager;
use datafusion_physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::StreamExt;
use meridian_types::{PgError, Result, SqlState};

use super::Batches;
use super::basic::take_rows;
use crate::error::from_datafusion;
use crate::keys::Keys;

/// Parts of one level.
const PARTS: usize = 16;
/// Levels after which more memory is the only way.
const LEVELS_MAX: u32 = 8;
/// Memory is asked for in steps of this size.
const STEP_BYTES: usize = 64 << 10;

/// Memory of a table that can put rows aside.
pub(crate) struct Budget {
    memory: MemoryReservation,
    room: usize,
    /// Half of the statement's: the operators above work while the table is still there.
    most: usize,
}

impl Budget {
    pub(crate) fn new(name: &str, task: &TaskContext) -> Budget {
        let consumer = MemoryConsumer::new(name).with_can_spill(true);
        let pool = task.memory_pool();
        let most = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 2,
            _ => usize::MAX,
        };
        Budget { memory: consumer.register(pool), room: 0, most }
    }

    /// Takes memory if there is any.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        if self.room < bytes {
            let step = bytes.max(STEP_BYTES);
            if self.memory.size() + step > self.most || self.memory.try_grow(step).is_err() {
                return false;
            }
            self.room += step;
        }
        self.room -= bytes;
        true
    }

    /// Takes memory for what has to be kept, or fails with 53200.
    pub(crate) fn need(&mut self, bytes: usize) -> Result<()> {
        if self.take(bytes) {
            return Ok(());
        }
        self.memory.try_grow(bytes).map_err(|e| from_datafusion(&e))
    }

    /// Bytes taken.
    pub(crate) fn size(&self) -> usize {
        self.memory.size()
    }

    /// Gives all of it back.
    pub(crate) fn free(&mut self) {
        self.memory.free();
        self.room = 0;
    }
}

/// A file: takes batches; without one, it is ended and gives them all.
type Part =
    Box<dyn FnMut(Option<&RecordBatch>) -> DfResult<Option<SendableRecordBatchStream>> + Send>;

/// See the module's text.
pub(crate) struct Aside {
    spill: SpillManager,
    parts: Vec<Option<Part>>,
    level: u32,
}

impl Aside {
    pub(crate) fn new(task: &TaskContext, schema: SchemaRef, level: u32) -> Result<Aside> {
        if level >= LEVELS_MAX {
            let text = "Rows with equal keys do not fit into the statement's memory.";
            return Err(PgError::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(text));
        }
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let spill = SpillManager::new(task.runtime_env(), metrics, schema);
        Ok(Aside { spill, parts: (0..PARTS).map(|_| None).collect(), level })
    }

    /// Writes these rows of a batch, which has these keys.
    pub(crate) fn put(&mut self, batch: &RecordBatch, keys: &Keys, rows: &[u32]) -> Result<()> {
        let mut by_part: [Vec<u32>; PARTS] = std::array::from_fn(|_| vec![]);
        for row in rows {
            let mut hasher = DefaultHasher::new();
            self.level.hash(&mut hasher);
            keys.get(*row as usize).hash(&mut hasher);
            by_part[usize::try_from(hasher.finish() % PARTS as u64).unwrap_or(0)].push(*row);
        }
        for (part, rows) in self.parts.iter_mut().zip(by_part) {
            if rows.is_empty() {
                continue;
            }
            if part.is_none() {
                *part = Some(part_of(&self.spill).map_err(|e| from_datafusion(&e))?);
            }
            let rows = take_rows(batch, rows)?;
            if let Some(part) = part {
                part(Some(&rows)).map_err(|e| from_datafusion(&e))?;
            }
        }
        Ok(())
    }

    /// The rows of each part, in the order in which they came.
    pub(crate) fn finish(self) -> Result<Vec<Batches>> {
        let mut out: Vec<Batches> = vec![];
        for mut part in self.parts.into_iter().flatten() {
            if let Some(rows) = part(None).map_err(|e| from_datafusion(&e))? {
                out.push(Box::pin(rows.map(|item| item.map_err(|e| from_datafusion(&e)))));
            }
        }
        Ok(out)
    }
}

fn part_of(spill: &SpillManager) -> DfResult<Part> {
    let mut file = spill.create_in_progress_file("rows put aside")?;
    let spill = spill.clone();
    Ok(Box::new(move |batch| match batch {
        Some(batch) => file.append_batch(batch).map(|_| None),
        None => match file.finish()? {
            Some(file) => spill.read_spill_as_stream_unbuffered(file, None).map(Some),
            None => Ok(None),
        },
    }))
}
