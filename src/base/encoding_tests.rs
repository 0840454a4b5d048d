//! The order of the bytes is the order of the values: golden bytes, then random pairs.

use std::cmp::Ordering;

use super::*;
use crate::Rng;

fn enc(f: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    f(&mut out);
    out
}

fn desc(mut bytes: Vec<u8>) -> Vec<u8> {
    invert(&mut bytes, 0);
    bytes
}

#[test]
fn golden_bytes() {
    assert_eq!(enc(|o| put_i32(o, -1)), [0x7F, 0xFF, 0xFF, 0xFF]);
    assert_eq!(enc(|o| put_i64(o, i64::MIN)), [0; 8]);
    assert_eq!(enc(|o| put_bytes(o, b"a\0b")), [0x61, 0, 0xFF, 0x62, 0, 1]);
    assert_eq!(enc(|o| put_f64(o, -0.0)), enc(|o| put_f64(o, 0.0)));
    assert_eq!(enc(|o| put_f64(o, 1.0)), [0xBF, 0xF0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(enc(|o| put_f64(o, -1.0)), [0x40, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
}

/// NULLs of the four orders: where `NULLS FIRST` and `DESC` put them against any value.
#[test]
fn null_tags_follow_the_order() {
    for (desc_, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let order = Order { desc: desc_, nulls_first };
        let column = |tag: u8| if order.desc { !tag } else { tag };
        let cmp = column(order.null_tag()).cmp(&column(NOT_NULL));
        assert_eq!(cmp == Ordering::Less, nulls_first, "{order:?}");
    }
}

#[test]
fn floats_order_like_postgresql() {
    let ascending = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.5,
        -f64::MIN_POSITIVE,
        0.0,
        f64::MIN_POSITIVE,
        1.5,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    for pair in ascending.windows(2) {
        assert!(enc(|o| put_f64(o, pair[0])) < enc(|o| put_f64(o, pair[1])), "{pair:?}");
    }
    assert_eq!(enc(|o| put_f64(o, -f64::NAN)), enc(|o| put_f64(o, f64::NAN)));
    assert!(Reader::new(&enc(|o| put_f32(o, f32::NAN))).f32().expect("whole").is_nan());
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    // Few letters, so that prefixes, zeros and FFs meet often.
    let len = rng.below(6);
    (0..len).map(|_| [0, 1, 0xFE, 0xFF, b'a'][rng.below(5) as usize]).collect()
}

#[test]
fn random_pairs_keep_order_and_come_back() {
    let mut rng = Rng::seeded(1);
    for _ in 0..20_000 {
        let (a, b) = (random_bytes(&mut rng), random_bytes(&mut rng));
        let (ea, eb) = (enc(|o| put_bytes(o, &a)), enc(|o| put_bytes(o, &b)));
        assert_eq!(ea.cmp(&eb), a.cmp(&b), "{a:?} {b:?}");
        assert_eq!(desc(ea.clone()).cmp(&desc(eb.clone())), b.cmp(&a));
        if a != b {
            assert!(!eb.starts_with(&ea), "self-delimiting: {a:?} {b:?}");
        }
        let shift = rng.below(64);
        let (x, y) = ((rng.next_u64() >> shift) as i64, (rng.next_u64() >> shift) as i64);
        assert_eq!(enc(|o| put_i64(o, x)).cmp(&enc(|o| put_i64(o, y))), x.cmp(&y));
        let (x, y) = (f64::from_bits(x as u64), f64::from_bits(y as u64));
        if let Some(expected) = x.partial_cmp(&y) {
            assert_eq!(enc(|o| put_f64(o, x)).cmp(&enc(|o| put_f64(o, y))), expected);
        }
        // A two-column key, the first one descending, read back.
        let key = enc(|o| {
            put_bytes(o, &a);
            invert(o, 0);
            put_i32(o, x as i32);
        });
        let mut reader = Reader::new(&key);
        reader.set_desc(true);
        let mut skipper = reader;
        assert_eq!(reader.bytes().expect("whole"), a);
        skipper.skip_bytes().expect("whole");
        assert_eq!(skipper.rest(), reader.rest());
        reader.set_desc(false);
        assert_eq!(reader.i32().expect("whole"), x as i32);
        assert!(reader.rest().is_empty());
    }
}

/// Every cut of a key is an error, never a panic.
#[test]
fn truncated_keys_are_refused() {
    let key = enc(|o| put_bytes(o, b"ab\0c"));
    for len in 0..key.len() {
        assert!(Reader::new(&key[..len]).bytes().is_err(), "{len}");
        assert!(Reader::new(&key[..len]).skip_bytes().is_err(), "{len}");
    }
}
