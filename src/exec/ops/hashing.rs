//! DISTINCT, INTERSECT and EXCEPT by hashing of row keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::future::BoxFuture;
use meridian_sql::rel::SetOpKind;
use meridian_types::{PgError, PgType};

use super::aside::{Aside, Budget};
use super::basic::{batch_of, take_rows};
use super::{Batches, Operator, Yielder, generate, input};
use crate::error::from_datafusion;
use crate::keys::Keyer;

/// Memory of this query.
pub(crate) fn reservation(name: &str, task: &TaskContext) -> MemoryReservation {
    MemoryConsumer::new(name).register(task.memory_pool())
}

/// Takes more memory, or fails with 53200.
pub(crate) fn grow(reservation: &MemoryReservation, bytes: usize) -> Result<(), PgError> {
    reservation.try_grow(bytes).map_err(|e| from_datafusion(&e))
}

/// Overhead of one entry of a hash table, besides its key.
pub(crate) const ENTRY_BYTES: usize = 48;

/// The first row of each key, in the input's order.
#[derive(Debug)]
pub(crate) struct DistinctOp {
    pub(crate) on: Vec<(usize, PgType)>,
}

impl Operator for DistinctOp {
    fn name(&self) -> &'static str {
        "Distinct"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let rows = input(&children[0], task.clone())?;
        let budget = Budget::new("Distinct", &task);
        let on = self.on.clone();
        Ok(generate(|mut out| async move { distinct(&on, rows, 0, &task, budget, &mut out).await }))
    }
}

/// Gives the first row of each key; rows for whose keys there is no memory come last.
fn distinct<'a>(
    on: &'a [(usize, PgType)],
    mut rows: Batches,
    level: u32,
    task: &'a TaskContext,
    mut budget: Budget,
    out: &'a mut Yielder,
) -> BoxFuture<'a, Result<(), PgError>> {
    Box::pin(async move {
        let keyer = Keyer::new(on)?;
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        let mut aside: Option<Aside> = None;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let keys = keyer.keys(&batch)?;
            let (mut keep, mut later) = (vec![], vec![]);
            for row in 0..batch.num_rows() {
                let key = keys.get(row);
                if seen.contains(key) {
                    continue;
                }
                let row = u32::try_from(row).unwrap_or(u32::MAX);
                if aside.is_some() || !budget.take(key.len() + ENTRY_BYTES) {
                    if aside.is_none() {
                        aside = Some(Aside::new(task, batch.schema(), level)?);
                    }
                    later.push(row);
                    continue;
                }
                seen.insert(key.into());
                keep.push(row);
            }
            if let Some(aside) = &mut aside {
                aside.put(&batch, &keys, &later)?;
            }
            out.send(take_rows(&batch, keep)?).await;
        }
        drop(seen);
        budget.free();
        let Some(aside) = aside else { return Ok(()) };
        for part in aside.finish()? {
            let budget = Budget::new("Distinct", task);
            distinct(on, part, level + 1, task, budget, out).await?;
        }
        Ok(())
    })
}

/// INTERSECT and EXCEPT, with and without ALL.
#[derive(Debug)]
pub(crate) struct SetOpOp {
    pub(crate) kind: SetOpKind,
    pub(crate) all: bool,
    /// Positions in the left and the right child.
    pub(crate) columns: [Vec<usize>; 2],
    pub(crate) types: Vec<PgType>,
    pub(crate) schema: SchemaRef,
}

fn positions(columns: &[usize], types: &[PgType]) -> Vec<(usize, PgType)> {
    columns.iter().copied().zip(types.iter().copied()).collect()
}

impl Operator for SetOpOp {
    fn name(&self) -> &'static str {
        "SetOp"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let memory = reservation("SetOp", &task);
        let mut left = input(&children[0], task.clone())?;
        let mut right = input(&children[1], task)?;
        let (kind, all, schema) = (self.kind, self.all, self.schema.clone());
        let columns = self.columns.clone();
        let [left_keys, right_keys] =
            [0, 1].map(|side| positions(&self.columns[side], &self.types));
        Ok(generate(|mut out| async move {
            let mut counts: HashMap<Box<[u8]>, (u64, bool)> = HashMap::new();
            let keyer = Keyer::new(&right_keys)?;
            while let Some(batch) = right.next().await {
                let batch = batch?;
                let keys = keyer.keys(&batch)?;
                for row in 0..batch.num_rows() {
                    if let Some(entry) = counts.get_mut(keys.get(row)) {
                        entry.0 += 1;
                    } else {
                        grow(&memory, keys.get(row).len() + ENTRY_BYTES)?;
                        counts.insert(keys.get(row).into(), (1, false));
                    }
                }
            }
            let keyer = Keyer::new(&left_keys)?;
            while let Some(batch) = left.next().await {
                let batch = batch?;
                let keys = keyer.keys(&batch)?;
                let mut keep: Vec<u32> = vec![];
                for row in 0..batch.num_rows() {
                    let entry = counts.entry(keys.get(row).into()).or_insert((0, false));
                    let give = match (kind, all) {
                        (SetOpKind::Intersect, true) => entry.0 > 0,
                        (SetOpKind::Intersect, false) => entry.0 > 0 && !entry.1,
                        (_, true) => entry.0 == 0,
                        (_, false) => entry.0 == 0 && !entry.1,
                    };
                    if all {
                        entry.0 = entry.0.saturating_sub(1);
                    }
                    entry.1 = true;
                    if give {
                        keep.push(u32::try_from(row).unwrap_or(u32::MAX));
                    }
                }
                let kept = take_rows(&batch, keep)?;
                let arrays = columns[0].iter().map(|c| kept.column(*c).clone()).collect();
                out.send(batch_of(&schema, arrays, kept.num_rows())?).await;
            }
            Ok(())
        }))
    }
}
