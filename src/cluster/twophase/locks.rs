//! Locks that change hands without coming free.

use meridian_kv::api::{Key, Strength, TableLockMode};
use meridian_kv::locks::{LockMode, Owner};

use crate::locking::LockManager;

impl LockManager {
    /// Gives what `from` holds on a key to `to`, if it is as strong as this.
    pub(crate) fn hand_over_row(
        &self,
        key: &Key,
        from: Owner,
        to: Owner,
        strength: Strength,
    ) -> bool {
        let mut shard = self.row(key).lock();
        let table = shard.table_mut();
        self.bulk.show(key, table);
        strength.covered_by(table.held_by(key, from)) && table.hand_over(key, from, to) != 0
    }

    /// Takes a row lock whoever holds the row: the range has come here, and their locks are from before.
    pub(crate) fn seize_row(&self, key: &Key, owner: Owner, strength: Strength) {
        let mut shard = self.row(key).lock();
        self.bulk.show(key, shard.table_mut());
        let mut grants = Vec::new();
        shard.table_mut().seize(key, owner, strength, &mut grants);
        shard.wake(grants);
    }

    /// Gives a table lock of `from` to `to`.
    pub(crate) fn hand_over_table(&self, table: u32, from: Owner, to: Owner) {
        self.table(table).lock().table_mut().hand_over(&table, from, to);
    }

    /// Takes a table lock before there is anybody who could have one.
    pub(crate) fn seize_table(&self, table: u32, owner: Owner, mode: TableLockMode) {
        let mut shard = self.table(table).lock();
        let mut grants = Vec::new();
        shard.table_mut().seize(&table, owner, mode, &mut grants);
        shard.wake(grants);
    }
}
