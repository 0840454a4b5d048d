//! Durable counters outside transactions: sequences, oids.
//!
//! A counter takes a block of numbers through the log at a time and hands them out from memory, as
//! PostgreSQL's sequences log 32 values ahead. A crash skips what was left of the block; a number is
//! never given out twice. What the log holds is the last number of the block.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_base::keys::COUNTER;
use meridian_kv::api::{Bytes, Key, KvError};
use meridian_kv::range::Newest;
use parking_lot::Mutex;

use crate::core::Core;
use crate::txn::{Txn, TxnOptions};

/// Counters in use, by name.
#[derive(Default)]
pub(crate) struct CounterCache {
    counters: Mutex<BTreeMap<Bytes, Arc<tokio::sync::Mutex<Counter>>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    loaded: bool,
    /// The last number given out.
    current: i64,
    /// What the log says: everything up to here (in the direction of the last step) may be given
    /// out.
    logged: i64,
}

fn counter_key(name: &[u8]) -> Key {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(COUNTER);
    key.extend_from_slice(name);
    key.into()
}

fn overflow() -> KvError {
    KvError::Storage { reason: "a counter has reached the end of bigint".into() }
}

impl CounterCache {
    /// Reads all of them from the log's state again.
    pub(crate) fn forget(&self) {
        self.counters.lock().clear();
    }

    fn counter(&self, name: &[u8]) -> Arc<tokio::sync::Mutex<Counter>> {
        let mut counters = self.counters.lock();
        if let Some(counter) = counters.get(name) {
            return Arc::clone(counter);
        }
        let counter = Arc::<tokio::sync::Mutex<Counter>>::default();
        counters.insert(Bytes::copy_from_slice(name), Arc::clone(&counter));
        counter
    }
}

fn load(core: &Core, name: &[u8], counter: &mut Counter) -> Result<(), KvError> {
    if counter.loaded {
        return Ok(());
    }
    let row = core.read.newest(&counter_key(name))?.and_then(|version| version.row);
    let value = match row {
        None => 0,
        Some(row) => i64::from_le_bytes(row[..].try_into().map_err(|_| KvError::Storage {
            reason: "a counter's value isn't eight bytes".into(),
        })?),
    };
    *counter = Counter { loaded: true, current: value, logged: value };
    Ok(())
}

async fn log(core: &Arc<Core>, name: &[u8], value: i64) -> Result<(), KvError> {
    let mut txn = Txn::begin(Arc::clone(core), TxnOptions::default());
    txn.put(counter_key(name), Bytes::copy_from_slice(&value.to_le_bytes()));
    txn.commit().await.map(drop)
}

/// Adds `by` and answers the new value, wherever the counters are; 0 reads it.
pub(crate) async fn increment(core: &Arc<Core>, name: &[u8], by: i64) -> Result<i64, KvError> {
    count(core, name, by, None).await
}

/// Sets a counter, wherever it is; the next increment starts from `value`.
pub(crate) async fn set(core: &Arc<Core>, name: &[u8], value: i64) -> Result<(), KvError> {
    count(core, name, 0, Some(value)).await.map(drop)
}

async fn count(core: &Arc<Core>, name: &[u8], by: i64, set: Option<i64>) -> Result<i64, KvError> {
    loop {
        if core.first().lease.here(&core.hlc).is_some() {
            return count_here(core, name, by, set).await;
        }
        if let Some(number) = core.among_others()?.counter(name, by, set).await? {
            return Ok(number);
        }
    }
}

/// Sets a counter, or adds `by` to it, and answers the new value. This node leads the range of the counters.
pub(crate) async fn count_here(
    core: &Arc<Core>,
    name: &[u8],
    by: i64,
    set: Option<i64>,
) -> Result<i64, KvError> {
    match set {
        Some(value) => set_here(core, name, value).await.map(|()| value),
        None => increment_here(core, name, by).await,
    }
}

async fn increment_here(core: &Arc<Core>, name: &[u8], by: i64) -> Result<i64, KvError> {
    let counter = core.counters.counter(name);
    let mut counter = counter.lock().await;
    load(core, name, &mut counter)?;
    let next = counter.current.checked_add(by).ok_or_else(overflow)?;
    let covered = match by.signum() {
        1 => next <= counter.logged,
        -1 => next >= counter.logged,
        _ => true,
    };
    if !covered {
        let block = by.saturating_mul(core.config.counter_block - 1);
        let logged = next.saturating_add(block);
        log(core, name, logged).await?;
        counter.logged = logged;
    }
    counter.current = next;
    Ok(next)
}

async fn set_here(core: &Arc<Core>, name: &[u8], value: i64) -> Result<(), KvError> {
    let counter = core.counters.counter(name);
    let mut counter = counter.lock().await;
    log(core, name, value).await?;
    *counter = Counter { loaded: true, current: value, logged: value };
    Ok(())
}

/// Writes back the exact values, so that an orderly restart skips nothing.
pub(crate) async fn flush(core: &Arc<Core>) -> Result<(), KvError> {
    let all: Vec<_> =
        core.counters.counters.lock().iter().map(|(n, c)| (n.clone(), Arc::clone(c))).collect();
    for (name, counter) in all {
        let mut counter = counter.lock().await;
        if counter.loaded && counter.current != counter.logged {
            log(core, &name, counter.current).await?;
            counter.logged = counter.current;
        }
    }
    Ok(())
}
