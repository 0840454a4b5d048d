//! Coherence between fills and writes, eviction by use, and the price of a hit.

use super::*;

fn miss(cache: &RecordCache, key: &[u8]) -> Miss {
    match cache.get(key) {
        Lookup::Miss(miss) => miss,
        Lookup::Hit(value) => panic!("expected a miss, found {value:?}"),
    }
}

fn hit(cache: &RecordCache, key: &[u8]) -> Option<Bytes> {
    match cache.get(key) {
        Lookup::Hit(value) => value,
        Lookup::Miss(_) => panic!("expected a hit for {key:?}"),
    }
}

/// A reader reads v1 from the engine; v2 is applied; the reader's late fill must not bring v1 back.
#[test]
fn a_late_fill_loses_against_a_write() {
    let cache = RecordCache::new(1 << 20);
    let slow = miss(&cache, b"k");
    cache.applied(b"k", Some(b"v2"));
    cache.fill(slow, b"k", Some(b"v1"));
    assert_eq!(hit(&cache, b"k").as_deref(), Some(&b"v2"[..]));
    // Also when the write was a removal, or the cache was cleared in between.
    let slow = miss(&cache, b"other");
    cache.clear();
    cache.fill(slow, b"other", Some(b"v1"));
    let absent = miss(&cache, b"other");
    cache.fill(absent, b"other", None);
    assert_eq!(hit(&cache, b"other"), None, "absence is remembered too");
}

/// What is read stays while a load ten times the cache passes through.
#[test]
fn hot_entries_survive_a_bulk_load() {
    let cache = RecordCache::new(64 * 64 * 1024);
    for n in 0..64u64 {
        cache.applied(&n.to_be_bytes(), Some(&[1; 100]));
    }
    for n in 1000..200_000u64 {
        cache.applied(&n.to_be_bytes(), Some(&[0; 100]));
        if n % 50 == 0 {
            for hot in 0..64u64 {
                cache.get(&hot.to_be_bytes());
            }
        }
    }
    let stats = cache.stats();
    assert!(stats.bytes <= 64 * 64 * 1024, "{stats:?}");
    let alive = (0..64u64).filter(|n| matches!(cache.get(&n.to_be_bytes()), Lookup::Hit(_)));
    assert!(alive.count() >= 60);
}

/// What is written in bulk replaces what was known, is remembered while there is room, and a reader that
/// looked before cannot bring the old state back.
#[test]
fn bulk_writes_replace_what_was_known() {
    let cache = RecordCache::new(SHARDS * 4096);
    let key = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    for n in 0..200u32 {
        cache.applied(&key(n), Some(b"old"));
    }
    let absent = miss(&cache, &key(1000));
    let mut load = Load::default();
    let fresh = |n: u32| (n >= 150).then(|| (key(n), Bytes::from_static(b"new")));
    (100..10_000).for_each(|n| cache.note(&key(n), fresh(n), &mut load));
    cache.loaded(load);
    cache.fill(absent, &key(1000), None);
    for n in 0..10_000u32 {
        match (n, cache.get(&key(n))) {
            (0..100, Lookup::Hit(Some(value))) => assert_eq!(value, "old", "key {n}"),
            (150.., Lookup::Hit(Some(value))) => assert_eq!(value, "new", "key {n}"),
            (100.., Lookup::Miss(_)) => {}
            (_, found) => panic!("key {n}: {found:?}"),
        }
    }
    let stats = cache.stats();
    assert!(stats.bytes <= SHARDS * 4096 && cache.room() < SHARDS * 200, "{stats:?}");
}
