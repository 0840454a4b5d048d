//! Prints the time of a hit in the record cache: half a million rows, random order.
//! `cargo run --profile perf -p meridian-storage --example record_cache`.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use meridian_base::{Instant, Rng};
use meridian_storage::RecordCache;
use meridian_storage::cache::Lookup;

fn main() {
    let cache = RecordCache::new(256 << 20);
    let key = |n: u64| [&[0x10, 0, 0, 0, 9, 0, 1][..], &n.to_be_bytes()].concat();
    let keys: Vec<_> = (0..500_000).map(key).collect();
    for key in &keys {
        cache.applied(key, Some(&[7; 100]));
    }
    let mut rng = Rng::seeded(1);
    let order: Vec<_> = (0..1_000_000).map(|_| rng.below(500_000) as usize).collect();
    let start = Instant::now();
    let found = order.iter().filter(|n| matches!(cache.get(&keys[**n]), Lookup::Hit(_))).count();
    let took = start.elapsed();
    println!("{} ns a hit, {found} hits", took.as_nanos() / order.len() as u128);
}
