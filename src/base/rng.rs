//! Randomness with a seed.
//!
//! [`Rng`] is xoshiro256++ seeded through SplitMix64: fast, with good statistics, and the same
//! sequence for the same seed. It is *not* for secrets: passwords' salts and cancel keys come from
//! [`os_bytes`].

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;

/// A seedable generator (xoshiro256++).
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut x = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut x)) }
    }

    /// A generator that nobody can repeat.
    #[must_use]
    pub fn from_os() -> Self {
        let mut bytes = [0; 8];
        os_bytes(&mut bytes);
        Self::seeded(u64::from_le_bytes(bytes))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        out
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `[0, bound)`, evenly; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.next_f64() < probability
    }

    /// Fills a buffer.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

fn split_mix(x: &mut u64) -> u64 {
    *x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*x ^ (*x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Fills `out` from the operating system's generator. Where the device is missing (a bare chroot),
/// the process's hash keys, which the system seeded at start, are stretched instead.
pub fn os_bytes(out: &mut [u8]) {
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(out));
    if read.is_err() {
        for chunk in out.chunks_mut(8) {
            let hash = RandomState::new().build_hasher().finish();
            chunk.copy_from_slice(&hash.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence_and_even_spread() {
        let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
        let mut buckets = [0u32; 10];
        for _ in 0..10_000 {
            assert_eq!(a.next_u64(), b.next_u64());
            buckets[usize::try_from(a.below(10)).expect("below ten")] += 1;
            b.next_u64();
        }
        assert!(buckets.iter().all(|n| (800..1200).contains(n)), "{buckets:?}");
        assert_ne!(Rng::from_os().next_u64(), Rng::from_os().next_u64());
    }
}
