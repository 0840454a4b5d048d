//! FOR UPDATE and its kin.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray};
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use datafusion_common::Result as DfResult;
use datafusion_execution::TaskContext;
use datafusion_physical_plan::ExecutionPlan;
use futures::StreamExt;
use meridian_cluster::{Locked, Txn};
use meridian_kv::api::{Strength, WaitPolicy};
use meridian_sql::rel::{LockWait, RowLock};
use meridian_types::PgError;

use super::{Batches, Operator, generate, input};
use crate::codecs::Table;
use crate::dml::changed;
use crate::error::{from_arrow, from_kv, from_lock};
use crate::shared::Shared;

/// A table whose rows are locked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) table: Arc<Table>,
    /// Position of the key.
    pub(crate) key: usize,
    pub(crate) strength: RowLock,
    pub(crate) wait: LockWait,
}

/// Locks the rows that pass; leaves out those it is told to skip.
#[derive(Clone, Debug)]
pub(crate) struct LockOp {
    pub(crate) targets: Arc<Vec<Target>>,
    pub(crate) shared: Arc<Shared>,
}

impl Target {
    async fn lock(&self, key: &[u8], txn: &mut Txn) -> Result<bool, PgError> {
        let strength = match self.strength {
            RowLock::KeyShare => Strength::KeyShare,
            RowLock::Share => Strength::Share,
            RowLock::NoKeyUpdate => Strength::NoKeyUpdate,
            RowLock::Update => Strength::Update,
        };
        let wait = match self.wait {
            LockWait::Block => WaitPolicy::Block,
            LockWait::NoWait => WaitPolicy::NoWait,
            LockWait::SkipLocked => WaitPolicy::Skip,
        };
        let name = &self.table.desc.name;
        match txn.lock(key, strength, wait).await.map_err(|e| from_lock(e, name))? {
            Locked::Skipped => Ok(false),
            Locked::Held { newest: Some((_, row)), changed: true }
                if self.strength == RowLock::KeyShare
                    && self.has_same_key(key, &row, txn).await? =>
            {
                Ok(true)
            }
            Locked::Held { changed: true, .. } => Err(changed(txn)),
            Locked::Held { newest, .. } => Ok(newest.is_some()),
        }
    }

    /// A key lock doesn't concern the other columns: the row stays as the snapshot shows it.
    async fn has_same_key(
        &self,
        key: &[u8],
        newest: &Bytes,
        txn: &mut Txn,
    ) -> Result<bool, PgError> {
        let Some(seen) = txn.get(key).await.map_err(from_kv)? else { return Ok(false) };
        let decode = |row| self.table.codec.decode(key, row);
        Ok(self.table.same_key(&decode(&seen)?, &decode(newest)?))
    }
}

impl Operator for LockOp {
    fn name(&self) -> &'static str {
        "LockRows"
    }

    fn execute(
        &self,
        children: &[Arc<dyn ExecutionPlan>],
        task: Arc<TaskContext>,
    ) -> DfResult<Batches> {
        let mut rows = input(&children[0], task)?;
        let op = self.clone();
        Ok(generate(|mut out| async move {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                // One row at a time: a LIMIT above must not lock rows that it does not give.
                for row in 0..batch.num_rows() {
                    let one = batch.slice(row, 1);
                    let mut keys: Vec<Option<Bytes>> = vec![];
                    for target in op.targets.iter() {
                        let column = one.column(target.key).as_any();
                        let key = column.downcast_ref::<BinaryArray>().filter(|a| a.is_valid(0));
                        keys.push(key.map(|a| Bytes::copy_from_slice(a.value(0))));
                    }
                    let targets = op.targets.clone();
                    let keep = op
                        .shared
                        .job(move |driver| {
                            Box::pin(async move {
                                for (target, key) in targets.iter().zip(keys) {
                                    let Some(key) = key else { continue };
                                    if !target.lock(&key, driver.txn).await? {
                                        return Ok(false);
                                    }
                                }
                                Ok(true)
                            })
                        })
                        .await?;
                    let keep = BooleanArray::from(vec![keep]);
                    out.send(filter_record_batch(&one, &keep).map_err(from_arrow)?).await;
                }
            }
            Ok(())
        }))
    }
}
