//! Row locks that a part of a commit over several ranges has lost, and has to have while it is on its way.
//!
//! Who gets such a lock meanwhile reads a row that is about to change, and nothing tells it so.

use meridian_kv::api::{Strength, Timestamp, WaitPolicy};
use meridian_kv::locks::{LockMode, Owner};
use meridian_kv::range::PrepareRequest;
use meridian_kv::txn::{LockedKey, VersionTag};

use crate::commit::{CommitPipeline, Locks};
use crate::core::Core;
use crate::locking::Acquired;
use crate::parts::{Holder, owner_of};

/// Locks that a part has taken again; they go with this, unless the part is prepared.
pub(crate) struct Regained<'a> {
    core: &'a Core,
    owner: Owner,
    locks: Locks,
}

impl Regained<'_> {
    pub(crate) fn keep(mut self) -> (Owner, Locks) {
        (self.owner, std::mem::take(&mut self.locks))
    }
}

impl Drop for Regained<'_> {
    fn drop(&mut self) {
        std::mem::take(&mut self.locks).release(self.core, self.owner);
    }
}

impl CommitPipeline {
    /// Locks what a part writes, or has locked, and isn't locked any more, since the lease has moved. `None`: it
    /// isn't free, and nobody may wait for it here: other parts may be prepared.
    pub(crate) fn lock_again<'a>(
        &self,
        core: &'a Core,
        request: &PrepareRequest,
        holder: Option<&dyn Holder>,
    ) -> Option<Regained<'a>> {
        let txn = request.header.txn;
        let owner = holder.map_or(owner_of(txn), Holder::owner);
        let mut regained = Regained { core, owner, locks: Locks::default() };
        let part = (txn, request.own);
        if request.behalf.is_some() || self.ordered.lock().sequencer.is_part_open(part) {
            // A hold has the locks; or it is a copy of a prepare, and the record has them.
            return Some(regained);
        }
        let writes = request.writes.iter().map(|write| {
            let weak = write.value.is_some() && write.expect != VersionTag::Absent;
            (&write.key, if weak { Strength::NoKeyUpdate } else { Strength::Update })
        });
        let verified = request.verify.iter().map(|locked| (&locked.key, locked.strength));
        for (key, strength) in writes.chain(verified) {
            if holder.is_some_and(|holder| holder.holds(key)) {
                continue;
            }
            match core.locks.try_row(key, owner, strength, WaitPolicy::NoWait) {
                Ok(Acquired::Granted { .. }) => {
                    let locked = LockedKey { modes: strength.bit(), newest: Timestamp::MIN };
                    regained.locks.rows.insert(key.clone(), locked);
                }
                Ok(Acquired::Reentrant) => {}
                Ok(Acquired::Unavailable) | Err(_) => return None,
            }
        }
        Some(regained)
    }
}
