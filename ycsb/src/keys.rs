//! Records: their keys, their fields, and which of them are there.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_base::rng::Rng;
use meridian_bench::random_text;

use crate::generators::hash;

/// Fields of a record.
pub(crate) const FIELDS: usize = 10;
/// Characters of a field.
const FIELD_LENGTH: u64 = 100;
const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The key of a record's number: numbers that follow each other are far apart.
pub(crate) fn key(number: u64) -> String {
    format!("user{}", hash(number))
}

/// A field's value.
pub(crate) fn value(rng: &mut Rng) -> String {
    random_text(rng, CHARACTERS, FIELD_LENGTH)
}

/// Numbers that inserts use, and up to which number all records are there.
#[derive(Debug)]
pub(crate) struct Keys {
    next: AtomicU64,
    present: AtomicU64,
    /// Inserted, but a smaller one is still on its way.
    ahead: Mutex<BTreeSet<u64>>,
}

impl Keys {
    /// The records 0 to `records - 1` are there.
    pub(crate) const fn new(records: u64) -> Self {
        let (next, present) = (AtomicU64::new(records), AtomicU64::new(records));
        Self { next, present, ahead: Mutex::new(BTreeSet::new()) }
    }

    /// A number to insert.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// It was inserted.
    pub(crate) fn inserted(&self, number: u64) {
        let mut ahead = self.ahead.lock().expect("no one panics with the lock");
        ahead.insert(number);
        let mut present = self.present.load(Ordering::Relaxed);
        while ahead.remove(&present) {
            present += 1;
        }
        self.present.store(present, Ordering::Release);
    }

    /// All records below this number are there.
    pub(crate) fn present(&self) -> u64 {
        self.present.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_present_without_gaps() {
        let keys = Keys::new(10);
        let numbers = [keys.take(), keys.take(), keys.take()];
        assert_eq!(numbers, [10, 11, 12]);
        keys.inserted(11);
        assert_eq!(keys.present(), 10);
        keys.inserted(10);
        assert_eq!(keys.present(), 12);
        keys.inserted(12);
        assert_eq!(keys.present(), 13);
    }

    #[test]
    fn keys_are_those_of_ycsb() {
        // YCSB's first keys, as its loader writes them.
        assert_eq!(key(0), "user6284781860667377211");
        assert_eq!(key(1), "user8517097267634966620");
        assert_eq!(value(&mut Rng::seeded(1)).len(), 100);
    }
}
