//! Which record a client asks for next: uniform, zipfian, scrambled zipfian, latest.
//!
//! The zipfian generator is that of Gray et al., "Quickly generating billion-record synthetic
//! databases" (SIGMOD 1994), which YCSB uses: rank `i` is drawn with a probability proportional to
//! `1 / (i + 1) ^ 0.99`. Scrambling hashes the rank, so that what is popular is spread over all keys.

use meridian_base::rng::Rng;

/// YCSB's exponent.
const THETA: f64 = 0.99;
/// The scrambled generator draws from so many ranks, whatever the number of records …
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
/// … whose zeta is too long a sum to be computed.
const SCRAMBLED_ZETA: f64 = 26.469_028_201_783_02;

/// Ranks from 0 on, the first the most frequent.
#[derive(Clone, Debug)]
pub(crate) struct Zipfian {
    items: u64,
    /// The sum of `1 / i ^ THETA` for `i` up to `items`.
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// Over `items` ranks; takes a time proportional to them.
    pub(crate) fn new(items: u64) -> Self {
        let mut new = Self { items: 0, zeta: 0.0, eta: 0.0 };
        new.grow(items.max(1));
        new
    }

    fn with_zeta(items: u64, zeta: f64) -> Self {
        let mut new = Self { items, zeta, eta: 0.0 };
        new.set_eta();
        new
    }

    /// Takes more ranks in; a time proportional to what is new.
    fn grow(&mut self, items: u64) {
        if items <= self.items {
            return;
        }
        self.zeta += (self.items + 1..=items).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        self.items = items;
        self.set_eta();
    }

    fn set_eta(&mut self) {
        let two = 1.0 + 0.5f64.powf(THETA);
        let share = (2.0 / self.items as f64).powf(1.0 - THETA);
        self.eta = (1.0 - share) / (1.0 - two / self.zeta);
    }

    fn next(&self, rng: &mut Rng) -> u64 {
        let u = rng.next_f64();
        let at = u * self.zeta;
        if at < 1.0 || self.items == 1 {
            return 0;
        }
        if at < 1.0 + 0.5f64.powf(THETA) || self.items == 2 {
            return 1;
        }
        let rank = self.items as f64 * (self.eta * u - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        (rank as u64).min(self.items - 1)
    }
}

/// YCSB's 64-bit FNV hash of a number's eight bytes, made positive.
pub(crate) fn hash(number: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
    let hash = number.to_le_bytes().into_iter().fold(0xCBF2_9CE4_8422_2325, step);
    (hash as i64).unsigned_abs()
}

/// The distributions that a run can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Distribution {
    /// Some records are popular, wherever they are
    Zipfian,
    /// What was inserted last is popular
    Latest,
    /// All records alike
    Uniform,
}

/// Chooses records.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    /// Zipfian over all ranks, hashed to so many records.
    Zipfian(Zipfian, u64),
    Latest(Zipfian),
    Uniform,
}

impl Chooser {
    /// For `records` that are there, and as many that the run is expected to insert.
    pub(crate) fn new(distribution: Distribution, records: u64, expected: u64) -> Self {
        match distribution {
            Distribution::Zipfian => {
                let ranks = Zipfian::with_zeta(SCRAMBLED_ITEMS, SCRAMBLED_ZETA);
                Self::Zipfian(ranks, records + expected)
            }
            Distribution::Latest => Self::Latest(Zipfian::new(records)),
            Distribution::Uniform => Self::Uniform,
        }
    }

    /// A record's number below `count`, of those that are there now.
    pub(crate) fn next(&mut self, rng: &mut Rng, count: u64) -> u64 {
        match self {
            Self::Zipfian(ranks, records) => loop {
                let number = hash(ranks.next(rng)) % *records;
                if number < count {
                    return number;
                }
            },
            Self::Latest(ranks) => {
                ranks.grow(count);
                count - 1 - ranks.next(rng).min(count - 1)
            }
            Self::Uniform => rng.below(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 400_000;

    fn frequencies(items: usize, mut next: impl FnMut(&mut Rng) -> u64) -> Vec<usize> {
        let (mut rng, mut counts) = (Rng::seeded(11), vec![0; items]);
        (0..DRAWS).for_each(|_| counts[next(&mut rng) as usize] += 1);
        counts
    }

    /// What rank `i` of `items` is due among all draws.
    fn due(items: u64, rank: u64) -> f64 {
        let weight = |i: u64| ((i + 1) as f64).powf(-THETA);
        DRAWS as f64 * weight(rank) / (0..items).map(weight).sum::<f64>()
    }

    #[test]
    fn ranks_have_zipfian_frequencies() {
        let ranks = Zipfian::new(1000);
        let counts = frequencies(1000, |rng| ranks.next(rng));
        // The first two ranks are exact, the others approximated by a curve.
        for (rank, tolerance) in [(0, 0.02), (1, 0.02), (2, 0.35), (9, 0.2), (99, 0.2)] {
            let (count, due) = (counts[rank] as f64, due(1000, rank as u64));
            assert!((count - due).abs() < due * tolerance, "rank {rank}: {count}, due {due}");
        }
        let (first, due) =
            (counts[..100].iter().sum::<usize>(), (0..100).map(|i| due(1000, i)).sum::<f64>());
        assert!((first as f64 - due).abs() < due * 0.02, "{first}, due {due}");
        assert!(counts[900..].iter().all(|count| *count > 0));
    }

    #[test]
    fn growing_is_the_same_as_beginning_large() {
        let (mut grown, whole) = (Zipfian::new(10), Zipfian::new(5000));
        grown.grow(700);
        grown.grow(5000);
        assert!((grown.zeta - whole.zeta).abs() < 1e-9);
        assert!((grown.eta - whole.eta).abs() < 1e-9);
        for few in [1, 2, 3] {
            let ranks = Zipfian::new(few);
            frequencies(few as usize, |rng| ranks.next(rng));
        }
    }

    #[test]
    fn scrambling_spreads_the_popular_records() {
        let mut chooser = Chooser::new(Distribution::Zipfian, 1000, 0);
        let counts = frequencies(1000, |rng| chooser.next(rng, 1000));
        let popular = (0..1000).max_by_key(|i| counts[*i]).expect("some");
        assert_eq!(popular as u64, hash(0) % 1000);
        // Rank 0 of ten billion has 1 / zeta of all draws; other ranks fall on the same record.
        let share = counts[popular] as f64 / DRAWS as f64;
        assert!((1.0 / SCRAMBLED_ZETA..0.05).contains(&share), "{share}");
        assert!(counts.iter().all(|count| *count > 50));
    }

    #[test]
    fn latest_prefers_what_came_last() {
        let mut chooser = Chooser::new(Distribution::Latest, 1000, 0);
        let counts = frequencies(1200, |rng| chooser.next(rng, 1200));
        assert!(counts[1199] > counts[1198] && counts[1198] > counts[1000] && counts[0] > 0);
        assert!((counts[1199] as f64 - due(1200, 0)).abs() < due(1200, 0) * 0.02);
    }

    #[test]
    fn uniform_is_even() {
        let mut chooser = Chooser::new(Distribution::Uniform, 100, 0);
        let counts = frequencies(100, |rng| chooser.next(rng, 100));
        assert!(counts.iter().all(|count| (3700..4300).contains(count)), "{counts:?}");
    }
}
