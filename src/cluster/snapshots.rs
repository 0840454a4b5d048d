//! Which snapshots are in use, without a lock.
//!
//! A transaction claims a slot and writes its read timestamp there; garbage collection takes the
//! minimum over the slots. The two could miss each other: the transaction takes its timestamp, the
//! collector looks, the transaction writes its slot. Therefore the claim looks at the published
//! bound *after* writing the slot and starts again with a newer snapshot when the bound has passed
//! it, and the collector publishes the bound *before* it looks at the slots a second time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_kv::api::Timestamp;
use parking_lot::Mutex;

const SLOTS: usize = 1024;
const FREE: u64 = 0;

/// The read timestamps of running transactions.
pub(crate) struct ActiveSnapshots {
    slots: Box<[AtomicU64]>,
    next: AtomicUsize,
    /// Transactions beyond the slots; the map costs a lock, which a thousand peers make irrelevant.
    overflow: Mutex<meridian_kv::range::Snapshots>,
    /// No snapshot below this may be taken any more.
    bound: AtomicU64,
}

/// A registered snapshot; give it back with [`ActiveSnapshots::leave`].
#[derive(Debug)]
pub(crate) struct SnapshotSlot {
    slot: Option<u16>,
    ts: Timestamp,
}

impl ActiveSnapshots {
    pub(crate) fn new() -> ActiveSnapshots {
        ActiveSnapshots {
            slots: (0..SLOTS).map(|_| AtomicU64::new(FREE)).collect(),
            next: AtomicUsize::new(0),
            overflow: Mutex::default(),
            bound: AtomicU64::new(0),
        }
    }

    /// Registers the newest snapshot; `applied` reads it.
    pub(crate) fn enter(&self, applied: impl Fn() -> Timestamp) -> SnapshotSlot {
        let mut least = Timestamp(1);
        loop {
            let ts = applied().max(least);
            let entry = self.claim(ts);
            let bound = self.bound.load(Ordering::SeqCst);
            if bound <= ts.0 {
                return entry;
            }
            self.leave(entry);
            // A copy that was given up, or is being filled anew, has not come as far again: it isn't read.
            least = Timestamp(bound);
        }
    }

    /// Registers an older snapshot; `None`: what it needs may have been collected.
    pub(crate) fn enter_at(&self, ts: Timestamp) -> Option<SnapshotSlot> {
        let entry = self.claim(ts.max(Timestamp(1)));
        if self.bound.load(Ordering::SeqCst) <= ts.0 {
            return Some(entry);
        }
        self.leave(entry);
        None
    }

    /// Registers a second user of a snapshot that is registered already, and stays so meanwhile.
    pub(crate) fn join(&self, ts: Timestamp) -> SnapshotSlot {
        self.claim(ts.max(Timestamp(1)))
    }

    /// Keeps a snapshot from garbage collection while the guard lives. It may have been collected before:
    /// look at the bound afterwards.
    pub(crate) fn guard(&self, ts: Timestamp) -> SnapshotGuard<'_> {
        SnapshotGuard { all: self, slot: Some(self.join(ts)) }
    }

    fn claim(&self, ts: Timestamp) -> SnapshotSlot {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        for probe in 0..8 {
            let at = (start + probe) % SLOTS;
            let free =
                self.slots[at].compare_exchange(FREE, ts.0, Ordering::SeqCst, Ordering::Relaxed);
            if free.is_ok() {
                let slot = u16::try_from(at).expect("fewer slots than 65 536");
                return SnapshotSlot { slot: Some(slot), ts };
            }
        }
        self.overflow.lock().protect(ts);
        SnapshotSlot { slot: None, ts }
    }

    /// Moves a registration to the newest snapshot.
    pub(crate) fn renew(&self, entry: &mut SnapshotSlot, applied: impl Fn() -> Timestamp) {
        let ts = applied().max(Timestamp(1));
        if ts == entry.ts {
            return;
        }
        match entry.slot {
            // Never below the collector's bound: what was protected so far is older than `ts`.
            Some(slot) => self.slots[usize::from(slot)].store(ts.0, Ordering::SeqCst),
            None => {
                let mut overflow = self.overflow.lock();
                overflow.protect(ts);
                overflow.unprotect(entry.ts);
            }
        }
        entry.ts = ts;
    }

    pub(crate) fn leave(&self, entry: SnapshotSlot) {
        match entry.slot {
            Some(slot) => self.slots[usize::from(slot)].store(FREE, Ordering::Release),
            None => self.overflow.lock().unprotect(entry.ts),
        }
    }

    /// The oldest snapshot in use.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::SeqCst));
        let slots = slots.filter(|ts| *ts != FREE).map(Timestamp);
        slots.chain(self.overflow.lock().oldest()).min()
    }

    /// Announces that snapshots below `bound` won't be taken, and answers the oldest one that was
    /// taken before the announcement.
    pub(crate) fn close(&self, bound: Timestamp) -> Option<Timestamp> {
        self.bound.fetch_max(bound.0, Ordering::SeqCst);
        self.oldest()
    }
}

/// See [`ActiveSnapshots::guard`].
pub(crate) struct SnapshotGuard<'a> {
    all: &'a ActiveSnapshots,
    slot: Option<SnapshotSlot>,
}

impl Drop for SnapshotGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.all.leave(slot);
        }
    }
}

impl SnapshotSlot {
    pub(crate) fn ts(&self) -> Timestamp {
        self.ts
    }
}
