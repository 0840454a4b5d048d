//! Newest versions in memory.
//!
//! A point read of a hot row must not pay for a descent through an LSM tree. The cache maps a logical key
//! to the bytes that `cur` holds for it; it also remembers that `cur` holds *nothing* (a unique index
//! asks for absent keys on every insert).
//!
//! # Coherence
//! Only the apply path changes `cur`, and it calls [`RecordCache::applied`] after the engine's batch is
//! visible and before anyone who waits for the write is told. So after a write is acknowledged, no reader
//! finds the old value here. A reader that missed fills the entry in later, from what it read in the
//! engine; between its read and its fill the key may have been written. Each shard therefore counts its
//! writes: the reader notes the count first ([`Miss`]) and the fill is refused when it has moved.
//!
//! # Eviction
//! CLOCK by bytes: a hit sets a flag, the hand clears flags and evicts the first entry without one. New
//! entries start without the flag, so a bulk load passes through without driving out what is read.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

/// Shards; more than threads by far, so that two rarely meet.
const SHARDS: usize = 64;
/// What an entry costs beside its key and value: slot, table, allocator headers.
const ENTRY_OVERHEAD: usize = 112;

struct Slot {
    hash: u64,
    key: Box<[u8]>,
    /// The value in `cur`; `None` = there is none.
    value: Option<Bytes>,
    referenced: AtomicBool,
}

impl Slot {
    fn size(&self) -> usize {
        ENTRY_OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

#[derive(Default)]
struct Shard {
    table: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    /// Writes applied to this shard.
    writes: u64,
}

/// A sharded cache of `cur`.
pub struct RecordCache {
    shards: Vec<RwLock<Shard>>,
    hasher: DefaultHashBuilder,
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The hash of a key that is being written; key and value if they are to be remembered.
type Noted = (u64, Option<(Bytes, Bytes)>);

/// What is being written in bulk, for [`RecordCache::loaded`].
#[derive(Debug, Default)]
pub struct Load {
    shards: Vec<Vec<Noted>>,
}

/// Permission to fill in what was not found, unless the shard is written before.
#[derive(Clone, Copy, Debug)]
pub struct Miss {
    hash: u64,
    writes: u64,
}

/// Answer of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// What `cur` holds: the encoded newest version, or nothing.
    Hit(Option<Bytes>),
    /// Not known here: read the engine, then [`RecordCache::fill`].
    Miss(Miss),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheStats {
    /// Lookups answered.
    pub hits: u64,
    /// Lookups that had to go to the engine.
    pub misses: u64,
    /// Bytes held, overhead included.
    pub bytes: usize,
    /// Entries held.
    pub entries: usize,
}

impl RecordCache {
    /// A cache of about `bytes_max` bytes, overhead included. With 0 every entry is evicted at once.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            shard_bytes_max: bytes_max / SHARDS,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The table uses the low bits for the slot and the top seven as a tag; take others.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// Looks up a logical key.
    pub fn get(&self, key: &[u8]) -> Lookup {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).read();
        match shard.find(hash, key).and_then(|i| shard.slots[i].as_ref()) {
            Some(slot) => {
                if !slot.referenced.load(Ordering::Relaxed) {
                    slot.referenced.store(true, Ordering::Relaxed);
                }
                let value = slot.value.clone();
                drop(shard);
                self.hits.fetch_add(1, Ordering::Relaxed);
                Lookup::Hit(value)
            }
            None => {
                let writes = shard.writes;
                drop(shard);
                self.misses.fetch_add(1, Ordering::Relaxed);
                Lookup::Miss(Miss { hash, writes })
            }
        }
    }

    /// Remembers what the engine held for a key that was missed. Copies the value, which may be a slice
    /// of a larger block.
    pub fn fill(&self, miss: Miss, key: &[u8], value: Option<&[u8]>) {
        let mut shard = self.shard(miss.hash).write();
        if shard.writes == miss.writes {
            shard.set(miss.hash, key, value.map(Bytes::copy_from_slice), self.shard_bytes_max);
        }
    }

    /// The apply path wrote `value` (or removed it) in `cur`.
    pub fn applied(&self, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
        let value = value.map(Bytes::copy_from_slice);
        let mut shard = self.shard(hash).write();
        shard.writes += 1;
        shard.set(hash, key, value, self.shard_bytes_max);
    }

    /// Takes note of a key that is being written in bulk, with its value if it is to be remembered.
    pub fn note(&self, key: &[u8], fresh: Option<(Bytes, Bytes)>, load: &mut Load) {
        load.shards.resize_with(SHARDS, Vec::new);
        let hash = self.hasher.hash_one(key);
        load.shards[(hash >> 40) as usize % SHARDS].push((hash, fresh));
    }

    /// The apply path wrote these keys in bulk: what was known of them is no longer true. New values are
    /// remembered as long as there is room; they drive out nothing.
    pub fn loaded(&self, load: Load) {
        for (shard, entries) in self.shards.iter().zip(load.shards) {
            if entries.is_empty() {
                continue;
            }
            let mut shard = shard.write();
            shard.writes += 1;
            for (hash, fresh) in entries {
                shard.remove(hash);
                let Some((key, value)) = fresh else { continue };
                if shard.bytes + ENTRY_OVERHEAD + key.len() + value.len() <= self.shard_bytes_max {
                    let value = Bytes::copy_from_slice(&value);
                    shard.set(hash, &key, Some(value), self.shard_bytes_max);
                }
            }
        }
    }

    /// Bytes of entries that fit in without driving out others.
    pub fn room(&self) -> usize {
        let used: usize = self.shards.iter().map(|shard| shard.read().bytes).sum();
        (self.shard_bytes_max * SHARDS).saturating_sub(used)
    }

    /// Forgets everything: the store's content was replaced, or a span of it dropped.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            *shard = Shard { writes: shard.writes + 1, ..Shard::default() };
        }
    }

    /// Counters, summed over the shards.
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..CacheStats::default()
        };
        for shard in &self.shards {
            let shard = shard.read();
            stats.bytes += shard.bytes;
            stats.entries += shard.table.len();
        }
        stats
    }
}

impl Shard {
    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let is = |i: &u32| self.slots[*i as usize].as_ref().is_some_and(|s| *s.key == *key);
        self.table.find(hash, is).map(|i| *i as usize)
    }

    fn set(&mut self, hash: u64, key: &[u8], value: Option<Bytes>, bytes_max: usize) {
        if let Some(i) = self.find(hash, key) {
            if let Some(slot) = &mut self.slots[i] {
                self.bytes -= slot.size();
                slot.value = value;
                self.bytes += slot.size();
            }
        } else {
            let slot = Slot { hash, key: key.into(), value, referenced: AtomicBool::new(false) };
            self.bytes += slot.size();
            let at = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("a shard holds less than 2^32 entries")
            });
            self.slots[at as usize] = Some(slot);
            let slots = &self.slots;
            let rehash = |i: &u32| slots[*i as usize].as_ref().map_or(0, |s| s.hash);
            self.table.insert_unique(hash, at, rehash);
        }
        while self.bytes > bytes_max && !self.table.is_empty() {
            self.evict_one();
        }
    }

    /// Removes what has this hash: that may be more than the key meant, which does no harm.
    fn remove(&mut self, hash: u64) {
        let slots = &self.slots;
        let is = |i: &u32| slots[*i as usize].as_ref().is_some_and(|s| s.hash == hash);
        if let Ok(entry) = self.table.find_entry(hash, is) {
            let (at, _) = entry.remove();
            if let Some(slot) = self.slots[at as usize].take() {
                self.bytes -= slot.size();
            }
            self.free.push(at);
            self.remove(hash);
        }
    }

    fn evict_one(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = &self.slots[self.hand] else { continue };
            if slot.referenced.swap(false, Ordering::Relaxed) {
                continue;
            }
            let at = u32::try_from(self.hand).expect("a shard holds less than 2^32 entries");
            self.bytes -= slot.size();
            if let Ok(entry) = self.table.find_entry(slot.hash, |i| *i == at) {
                entry.remove();
            }
            self.slots[self.hand] = None;
            self.free.push(at);
            return;
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
