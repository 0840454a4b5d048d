//! Holds: records that wait for their owner, who may take hours (PREPARE TRANSACTION).
//!
//! ```text
//! hold: T ‖ key ‖ txn   no writes; locks on all that is to be written or is locked; what was read
//!       prepare (Gateway::OWNER) ─▶ hold ─▶ … leases come and go … ─▶ resolve Aborted ─▶ marker
//! ```
//! A hold has no writes, so it is nobody's business who reads: it has no timestamp that a reader would have
//! to wait for, it is not closed off, and no recovery ends it. The writes lie elsewhere, as ordinary rows,
//! and the commit that brings them is an ordinary one at a later time, in the name of the hold
//! ([`PrepareRequest::behalf`]). Ending a hold therefore always means the same: it goes.
//!
//! What it does is keep others away, in two ways:
//! * The shell has its **row locks** in the lock table, under every leaseholder. That decides in all usual
//!   cases who waits. Here is the second line: a commit that has lost its locks with a lease, and goes by
//!   the versions of its keys alone, would not notice a hold, under which versions don't change. It is
//!   refused.
//! * Its **reads** were unchanged when it was made. From then on no SERIALIZABLE transaction may write them:
//!   so the owner's commit needs no validation, which must not fail any more, and is serial where it happens.
//!   (Others may, as in PostgreSQL, where only serializable transactions are serializable among each other.)
//!   A hold is refused, too, if it reads what another is going to write, or the other way round: of these two
//!   either may be committed first.
//!
//! The commit that ends a hold has no row locks but the hold's, so the hold stays as long as that has a record
//! without an outcome here ([`Sequencer::is_in_use`](super::Sequencer::is_in_use)); and a second attempt that
//! meets that record waits for its outcome: nobody else can be in the way.
//!
//! While a range has a hold it does not split ([`super::split`]).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::CommitRequest;
use super::prepare::PrepareRequest;
use super::prepared::Part;
use super::record::Record;
use crate::api::{Isolation, Key, KvError, Strength, TxnId};
use crate::txn::ReadSet;

/// What the holds of a range keep away.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    /// With what each has read.
    parts: BTreeMap<Part, ReadSet>,
    keys: BTreeMap<Key, Vec<(Part, Strength)>>,
}

/// Who has locked a key so strongly may write it.
fn writes(strength: Strength) -> bool {
    strength >= Strength::NoKeyUpdate
}

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.keys()
    }

    pub(super) fn insert(&mut self, part: Part, record: &Record) {
        self.parts.insert(part, record.reads.clone());
        for (key, strength) in record.locks() {
            self.keys.entry(key.clone()).or_default().push((part, strength));
        }
    }

    pub(super) fn remove(&mut self, part: Part, record: &Record) {
        if self.parts.remove(&part).is_none() {
            return;
        }
        for (key, _) in record.locks() {
            if let Some(held) = self.keys.get_mut(key) {
                held.retain(|(other, _)| *other != part);
                if held.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
    }

    /// Does another hold keep this key from being written? One that is to see only that the row stays does
    /// not keep it from being changed.
    fn keeps(&self, own: Option<TxnId>, key: &[u8], deletes: bool) -> bool {
        let Some(held) = self.keys.get(key) else { return false };
        let mut others = held.iter().filter(|((txn, _), _)| Some(*txn) != own);
        others.any(|(_, strength)| deletes || *strength != Strength::KeyShare)
    }

    /// Has another hold read one of these keys?
    fn has_read<'a>(&self, own: Option<TxnId>, mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
        let others = self.parts.iter().filter(|((txn, _), _)| Some(*txn) != own);
        let reads: Vec<_> =
            others.map(|(_, reads)| reads).filter(|reads| !reads.is_empty()).collect();
        !reads.is_empty() && keys.any(|key| reads.iter().any(|reads| reads.contains(key)))
    }

    /// Fails if a commit in this range alone would write what a hold keeps.
    pub(super) fn admit_commit(&self, request: &CommitRequest<'_>) -> Result<(), KvError> {
        if self.is_empty() {
            return Ok(());
        }
        let kept = |write: &crate::txn::Write| self.keeps(None, &write.key, write.value.is_none());
        let run_kept = |run: &crate::run::Run| {
            let span = (Bound::Included(run.first()), Bound::Included(run.last()));
            self.keys.range::<[u8], _>(span).any(|(key, _)| run.find(key).is_some())
        };
        if request.writes.iter().any(kept) || request.runs.iter().any(|run| run_kept(run)) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        let written = request.writes.iter().map(|write| &write.key[..]);
        let rows = request.runs.iter().flat_map(|run| (0..run.len()).map(|at| run.key(at)));
        match request.isolation == Isolation::Serializable
            && self.has_read(None, written.chain(rows))
        {
            true => Err(KvError::READ_WRITE_DEPENDENCY),
            false => Ok(()),
        }
    }

    /// As [`Holds::admit_commit`], for a part of a commit, and for a new hold.
    pub(super) fn admit(&self, request: &PrepareRequest) -> Result<(), KvError> {
        if self.is_empty() {
            return Ok(());
        }
        let own = request.behalf;
        let kept = |write: &crate::txn::Write| self.keeps(own, &write.key, write.value.is_none());
        if request.writes.iter().any(kept) {
            return Err(KvError::CONCURRENT_UPDATE);
        }
        if request.isolation != Isolation::Serializable {
            return Ok(());
        }
        let is_hold = request.header.is_hold();
        let own = if is_hold { Some(request.header.txn) } else { own };
        let locked = request.verify.iter().filter(|lock| is_hold && writes(lock.strength));
        let written = request.writes.iter().map(|write| &write.key[..]);
        let crossed = is_hold && !request.reads.is_empty() && {
            let to_write =
                |(part, strength): &(Part, Strength)| Some(part.0) != own && writes(*strength);
            let mut keys = self.keys.iter().filter(|(_, held)| held.iter().any(to_write));
            keys.any(|(key, _)| request.reads.contains(key))
        };
        match crossed || self.has_read(own, written.chain(locked.map(|lock| &lock.key[..]))) {
            true => Err(KvError::READ_WRITE_DEPENDENCY),
            false => Ok(()),
        }
    }
}
