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
//!
//! # Layout
//! What a hit costs is the cache lines that it fetches from memory. An entry's slot lies in the hash
//! table itself, and its key, its value and their reference count lie side by side in one allocation:
//! three lines or four for a short row.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

/// Shards; more than threads by far, so that two rarely meet.
const SHARDS: usize = 64;
/// What an entry costs beside its key and value: slot, spare slots, reference count, allocator.
const ENTRY_OVERHEAD: usize = 112;

struct Slot {
    hash: u64,
    /// The key, and behind it the value.
    record: Bytes,
    key_len: u32,
    /// `cur` holds a value, which may be empty.
    present: bool,
    referenced: AtomicBool,
}

impl Slot {
    fn size(&self) -> usize {
        ENTRY_OVERHEAD + self.record.len()
    }

    fn key(&self) -> &[u8] {
        &self.record[..self.key_len as usize]
    }

    /// The table's tags are short: one lookup in ten meets another slot first. Its record, which lies
    /// elsewhere, need not be fetched to tell that.
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key() == key
    }

    fn value(&self) -> Option<Bytes> {
        self.present.then(|| self.record.slice(self.key_len as usize..))
    }
}

/// A short record in the same allocation as its reference count.
struct Inline<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> AsRef<[u8]> for Inline<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn inline<const N: usize>(key: &[u8], value: &[u8]) -> Bytes {
    let (middle, len) = (key.len(), key.len() + value.len());
    let mut bytes = [0; N];
    bytes[..middle].copy_from_slice(key);
    bytes[middle..len].copy_from_slice(value);
    Bytes::from_owner(Inline { len, bytes })
}

/// Key and value in one allocation. The sizes fill the allocator's classes, less what the reference
/// count takes.
fn record(key: &[u8], value: &[u8]) -> Bytes {
    match key.len() + value.len() {
        0..=40 => inline::<40>(key, value),
        41..=72 => inline::<72>(key, value),
        73..=104 => inline::<104>(key, value),
        105..=136 => inline::<136>(key, value),
        137..=168 => inline::<168>(key, value),
        169..=232 => inline::<232>(key, value),
        233..=296 => inline::<296>(key, value),
        297..=424 => inline::<424>(key, value),
        _ => Bytes::from_owner([key, value].concat()),
    }
}

#[derive(Default)]
struct Shard {
    table: HashTable<Slot>,
    hand: usize,
    bytes: usize,
    /// Writes applied to this shard.
    writes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A sharded cache of `cur`.
pub struct RecordCache {
    shards: Vec<RwLock<Shard>>,
    hasher: DefaultHashBuilder,
    shard_bytes_max: usize,
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
        match shard.table.find(hash, |slot| slot.is(hash, key)) {
            Some(slot) => {
                if !slot.referenced.load(Ordering::Relaxed) {
                    slot.referenced.store(true, Ordering::Relaxed);
                }
                shard.hits.fetch_add(1, Ordering::Relaxed);
                Lookup::Hit(slot.value())
            }
            None => {
                shard.misses.fetch_add(1, Ordering::Relaxed);
                Lookup::Miss(Miss { hash, writes: shard.writes })
            }
        }
    }

    /// Remembers what the engine held for a key that was missed. Copies the value, which may be a slice
    /// of a larger block.
    pub fn fill(&self, miss: Miss, key: &[u8], value: Option<&[u8]>) {
        let mut shard = self.shard(miss.hash).write();
        if shard.writes == miss.writes {
            shard.set(miss.hash, key, value, self.shard_bytes_max);
        }
    }

    /// The apply path wrote `value` (or removed it) in `cur`.
    pub fn applied(&self, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
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
                    shard.set(hash, &key, Some(&value), self.shard_bytes_max);
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
            (shard.table, shard.bytes) = (HashTable::new(), 0);
            shard.writes += 1;
        }
    }

    /// Counters, summed over the shards.
    pub fn stats(&self) -> CacheStats {
        let mut stats = CacheStats::default();
        for shard in &self.shards {
            let shard = shard.read();
            stats.hits += shard.hits.load(Ordering::Relaxed);
            stats.misses += shard.misses.load(Ordering::Relaxed);
            stats.bytes += shard.bytes;
            stats.entries += shard.table.len();
        }
        stats
    }
}

impl Shard {
    fn set(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>, bytes_max: usize) {
        let present = value.is_some();
        let record = record(key, value.unwrap_or_default());
        if let Some(slot) = self.table.find_mut(hash, |slot| slot.is(hash, key)) {
            self.bytes -= slot.size();
            (slot.record, slot.present) = (record, present);
            self.bytes += slot.size();
        } else {
            let key_len = u32::try_from(key.len()).expect("a key is far shorter than 4 GiB");
            let referenced = AtomicBool::new(false);
            let slot = Slot { hash, record, key_len, present, referenced };
            self.bytes += slot.size();
            self.table.insert_unique(hash, slot, |slot| slot.hash);
        }
        while self.bytes > bytes_max && !self.table.is_empty() {
            self.evict_one();
        }
    }

    /// Removes what has this hash: that may be more than the key meant, which does no harm.
    fn remove(&mut self, hash: u64) {
        while let Ok(entry) = self.table.find_entry(hash, |slot| slot.hash == hash) {
            self.bytes -= entry.remove().0.size();
        }
    }

    fn evict_one(&mut self) {
        loop {
            // The table may have grown since and moved its entries: then the hand just goes on.
            self.hand = (self.hand + 1) % self.table.num_buckets();
            let Ok(entry) = self.table.get_bucket_entry(self.hand) else { continue };
            if entry.get().referenced.swap(false, Ordering::Relaxed) {
                continue;
            }
            self.bytes -= entry.remove().0.size();
            return;
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
