//! Transactions of other nodes that hold something here: row locks, runs of new rows, table locks.
//!
//! A transaction's state lives at the node of its session. What it locks is noted here as well, so that
//! everything can be given back when it ends, or when its node is gone. A request that is still waiting
//! when its transaction ends finds the guest gone and gives back what it got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::NodeId;
use meridian_kv::api::{Key, Span, TableLockMode, Timestamp};
use meridian_kv::locks::{ModeSet, Owner};
use meridian_kv::run::Run;
use meridian_kv::txn::LockedKey;
use parking_lot::Mutex;

use crate::commit::Locks;
use crate::core::{Core, TXN_NODE_SHIFT};

/// The node that began a transaction.
pub(crate) fn node_of(txn: u64) -> NodeId {
    NodeId((txn >> TXN_NODE_SHIFT) + 1)
}

#[derive(Default)]
struct Held {
    gone: bool,
    rows: BTreeMap<Key, ModeSet>,
    runs: BTreeMap<u64, (Arc<Run>, bool)>,
    tables: Vec<(u32, TableLockMode)>,
}

/// What one transaction of another node holds here.
pub(crate) struct Guest {
    owner: Owner,
    number: u64,
    held: Mutex<Held>,
}

impl Guest {
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// No other guest of this node's since its start has the same; never 0.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Notes a row lock; false when the transaction is over, and the lock has to go.
    pub(crate) fn note_row(&self, key: &Key, modes: ModeSet) -> bool {
        let mut held = self.held.lock();
        if !held.gone {
            held.rows.insert(key.clone(), modes);
        }
        !held.gone
    }

    /// A row lock went back to these modes.
    pub(crate) fn restore_row(&self, core: &Core, key: &Key, remains: ModeSet) {
        let mut held = self.held.lock();
        let known = match remains {
            0 => held.rows.remove(key).is_some(),
            modes => held.rows.insert(key.clone(), modes).is_some(),
        };
        drop(held);
        if known {
            core.locks.release_row(key, self.owner, remains);
        }
    }

    pub(crate) fn holds_row(&self, key: &Key) -> ModeSet {
        self.held.lock().rows.get(key).copied().unwrap_or(0)
    }

    /// Is this key certainly locked?
    pub(crate) fn holds_key(&self, key: &[u8]) -> bool {
        let held = self.held.lock();
        let mut runs = held.runs.values().filter(|(_, locked)| *locked);
        held.rows.get(key).is_some_and(|modes| *modes != 0)
            || runs.any(|(run, _)| run.find(key).is_some())
    }

    /// Keeps a run, locked or not; false when the transaction is over.
    pub(crate) fn note_run(&self, number: u64, run: Arc<Run>, locked: bool) -> bool {
        let mut held = self.held.lock();
        if !held.gone {
            held.runs.insert(number, (run, locked));
        }
        !held.gone
    }

    /// Forgets a run (ROLLBACK TO).
    pub(crate) fn drop_run(&self, core: &Core, number: u64) {
        let run = self.held.lock().runs.remove(&number);
        if let Some((run, true)) = run {
            core.locks.release_run(self.owner, &run);
        }
    }

    /// The runs with these numbers; `None` if one isn't here.
    pub(crate) fn runs(&self, numbers: &[u64]) -> Option<Vec<Arc<Run>>> {
        let held = self.held.lock();
        numbers.iter().map(|number| Some(Arc::clone(&held.runs.get(number)?.0))).collect()
    }

    /// Notes a table lock; false when the transaction is over.
    pub(crate) fn note_table(&self, table: u32, mode: TableLockMode) -> bool {
        let mut held = self.held.lock();
        if !held.gone {
            held.tables.push((table, mode));
        }
        !held.gone
    }

    fn restore_table(&self, core: &Core, table: u32, remains: ModeSet) {
        if remains == 0 {
            self.held.lock().tables.retain(|(other, _)| *other != table);
        }
        core.locks.release_table(table, self.owner, remains);
    }

    /// The row locks and runs, which now belong to a commit.
    pub(crate) fn take_locks(&self) -> Locks {
        self.take_locks_within(&Span::all())
    }

    /// Those of them that lie in a span.
    pub(crate) fn take_locks_within(&self, span: &Span) -> Locks {
        let mut held = self.held.lock();
        let rows = std::mem::take(&mut held.rows);
        let (rows, stay) = rows.into_iter().partition(|(key, _)| span.contains(key));
        held.rows = stay;
        let rows: BTreeMap<Key, ModeSet> = rows;
        let locked = |(key, modes)| (key, LockedKey { modes, newest: Timestamp::MIN });
        let runs = std::mem::take(&mut held.runs);
        let (runs, stay) = runs.into_iter().partition(|(_, (run, _))| span.contains(run.first()));
        held.runs = stay;
        let runs: BTreeMap<u64, (Arc<Run>, bool)> = runs;
        let runs = runs.into_values().filter_map(|(run, locked)| locked.then_some(run));
        Locks { rows: rows.into_iter().map(locked).collect(), runs: runs.collect() }
    }

    /// Gives its table locks back.
    pub(crate) fn release_tables(&self, core: &Core) {
        let tables = std::mem::take(&mut self.held.lock().tables);
        for (table, _) in tables {
            core.locks.release_table(table, self.owner, 0);
        }
    }
}

/// All guests of a node, by transaction.
#[derive(Default)]
pub(crate) struct Guests {
    all: Mutex<BTreeMap<u64, Arc<Guest>>>,
    /// How many there have been.
    entered: AtomicU64,
}

impl Guests {
    /// The guest of a transaction, which may be new here.
    pub(crate) fn enter(&self, owner: Owner) -> Arc<Guest> {
        let mut all = self.all.lock();
        let new = || {
            let number = 1 + self.entered.fetch_add(1, Ordering::Relaxed);
            Arc::new(Guest { owner, number, held: Mutex::default() })
        };
        Arc::clone(all.entry(owner.id).or_insert_with(new))
    }

    pub(crate) fn get(&self, txn: u64) -> Option<Arc<Guest>> {
        self.all.lock().get(&txn).cloned()
    }

    /// The transaction has ended: its row locks go. Its table locks go one by one, when the catalog that it
    /// leaves is known.
    pub(crate) fn end_rows(&self, core: &Core, txn: u64) {
        let Some(guest) = self.get(txn) else { return };
        guest.take_locks().release(core, guest.owner);
        let mut all = self.all.lock();
        let mut held = guest.held.lock();
        if held.tables.is_empty() {
            held.gone = true;
            all.remove(&txn);
        }
    }

    /// Ends a transaction from outside. It is answered if it has table locks, which stay for now.
    fn end(&self, core: &Core, txn: u64) -> Option<Arc<Guest>> {
        let guest = self.all.lock().remove(&txn)?;
        guest.held.lock().gone = true;
        guest.take_locks().release(core, guest.owner);
        let keeps = !guest.held.lock().tables.is_empty();
        keeps.then_some(guest)
    }

    /// A table lock of a guest went back to these modes.
    pub(crate) fn restore_table(&self, core: &Core, txn: u64, table: u32, remains: ModeSet) {
        let Some(guest) = self.get(txn) else { return };
        guest.restore_table(core, table, remains);
        let mut all = self.all.lock();
        let mut held = guest.held.lock();
        if held.tables.is_empty() && held.rows.is_empty() && held.runs.is_empty() {
            held.gone = true;
            all.remove(&txn);
        }
    }

    /// A node is gone, with the transactions that it began. Answers those that have table locks.
    pub(crate) fn end_of_node(&self, core: &Core, node: NodeId) -> Vec<Arc<Guest>> {
        let theirs: Vec<u64> = {
            let all = self.all.lock();
            all.keys().copied().filter(|txn| node_of(*txn) == node).collect()
        };
        theirs.into_iter().filter_map(|txn| self.end(core, txn)).collect()
    }

    /// A range is led elsewhere: its row locks and runs are worth nothing here any more.
    pub(crate) fn lose_rows(&self, core: &Core, span: &Span) {
        let all: Vec<_> = self.all.lock().values().cloned().collect();
        for guest in all {
            guest.take_locks_within(span).release(core, guest.owner);
        }
    }
}
