//! Whether this node's catalog is the newest, as every statement asks: one number and a look at the clock.
//!
//! A statement that has locked its tables here asks for the guard ([`meridian_kv::fence`]) under which they are
//! known, and again when it has read: then nothing that it has read had another form. Who commits takes the
//! guard's end as a deadline. If the guard has run out they wait for the next; if the catalog has turned out to
//! be another one meanwhile, what was begun by the old one is over.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::{Hlc, Timestamp};
use meridian_kv::api::KvError;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::core::Core;
use crate::locking::WaitLimits;
use crate::remote::Search;
use crate::txn::Txn;

const FOR_EVER: u64 = u64::MAX;

/// The guard of this node's catalog.
pub(crate) struct Fence {
    /// Microseconds of the clock until which the catalog is the newest.
    until: AtomicU64,
    /// How often what is known has been forgotten; held by who changes the time.
    forgotten: Mutex<u64>,
    /// How often it has turned out to be an old one.
    generation: AtomicU64,
    /// Somebody waits for a guard.
    pub(crate) wanted: Notify,
}

impl Fence {
    /// A node alone needs no guard.
    pub(crate) fn new(alone: bool) -> Fence {
        let until = AtomicU64::new(if alone { FOR_EVER } else { 0 });
        Fence {
            until,
            forgotten: Mutex::default(),
            generation: AtomicU64::new(0),
            wanted: Notify::new(),
        }
    }

    /// Until when the catalog was or is the newest; 0: it never was.
    pub(crate) fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// How often what is known has been forgotten: to be asked before anything is found out.
    pub(crate) fn forgotten(&self) -> u64 {
        *self.forgotten.lock()
    }

    /// The catalog is the newest until then, as was found out since that was `forgotten`.
    pub(crate) fn extend(&self, until: u64, forgotten: u64) {
        let now = self.forgotten.lock();
        if *now == forgotten {
            self.until.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// The catalog has been read by somebody who heard of no changes before.
    pub(crate) fn forget(&self) {
        let mut forgotten = self.forgotten.lock();
        *forgotten += 1;
        self.until.store(0, Ordering::Release);
        self.wanted.notify_one();
    }

    /// The catalog is another one than it was, and not by a definition whose locks this node has held. To be
    /// said before the guard is extended.
    pub(crate) fn catalog_was_old(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Is the catalog the newest now?
    #[inline]
    pub(crate) fn holds(&self, hlc: &Hlc) -> bool {
        let until = self.until();
        until == FOR_EVER || hlc.reading() < until
    }

    /// Before what something has to have its timestamp that uses the catalog of this generation; `None`: there is
    /// no guard now.
    ///
    /// # Errors
    /// The catalog is another one.
    pub(crate) fn formed_until(
        &self,
        generation: u64,
        hlc: &Hlc,
    ) -> Result<Option<Timestamp>, KvError> {
        let until = self.until();
        match until {
            FOR_EVER => return Ok(Some(Timestamp::MAX)),
            until if hlc.reading() >= until => {
                self.wanted.notify_one();
                return Ok(None);
            }
            _ => {}
        }
        match self.generation.load(Ordering::Acquire) == generation {
            true => Ok(Some(Timestamp::from_micros(until))),
            false => Err(KvError::CONCURRENT_UPDATE),
        }
    }

    /// The guard first: it is extended after the catalog has turned out to be old.
    #[inline]
    fn generation_held(&self, hlc: &Hlc) -> Option<u64> {
        self.holds(hlc).then(|| self.generation.load(Ordering::Acquire))
    }
}

impl Txn {
    /// Whether the forms of this transaction's tables are those that it knows. It has locked them.
    #[inline]
    pub(crate) fn has_form(&mut self) -> bool {
        let Some(generation) = self.core.fence.generation_held(&self.core.hlc) else {
            return false;
        };
        *self.formed.get_or_insert(generation) == generation
    }

    /// What was read up to now was read by the forms of tables that were right: false if that has to be
    /// waited for ([`Txn::confirm`]).
    #[inline]
    pub fn is_confirmed(&mut self) -> bool {
        self.formed.is_none() || self.has_form()
    }

    /// As [`Txn::is_confirmed`], waiting for it. To be asked before anybody is told of what was read.
    ///
    /// # Errors
    /// A table may have another form by now.
    #[inline]
    pub async fn confirm(&mut self) -> Result<(), KvError> {
        if self.is_confirmed() {
            return Ok(());
        }
        Box::pin(self.await_form()).await
    }

    /// Waits until this node's catalog is the newest.
    pub(crate) async fn await_form(&mut self) -> Result<(), KvError> {
        self.core.await_guard(&self.limits).await?;
        self.check_form()
    }

    /// Fails if the tables that the transaction uses may have changed in spite of its locks: the leaseholder of
    /// the first range had given this node up.
    pub(crate) fn check_form(&mut self) -> Result<(), KvError> {
        let generation = self.core.fence.generation.load(Ordering::Acquire);
        match *self.formed.get_or_insert(generation) == generation {
            true => Ok(()),
            false => Err(KvError::CONCURRENT_UPDATE),
        }
    }

    /// Before what a commit has to have its timestamp, so that it is one by the right forms of its tables.
    pub(crate) async fn formed_until(&mut self) -> Result<Timestamp, KvError> {
        if self.core.alone || self.formed.is_none() {
            return Ok(Timestamp::MAX);
        }
        self.core.await_guard(&self.limits).await?;
        let until = self.core.fence.until();
        self.check_form()?;
        Ok(Timestamp::from_micros(until))
    }
}

impl Core {
    /// Waits until the catalog is the newest.
    pub(crate) async fn await_guard(&self, limits: &WaitLimits) -> Result<(), KvError> {
        let mut search = Search::new(limits);
        while !self.fence.holds(&self.hlc) {
            self.fence.wanted.notify_one();
            search.pause().await?;
        }
        Ok(())
    }
}
