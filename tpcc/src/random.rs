//! The random values of TPC-C: clause 2.1.6 (NURand and its constants) and clause 4.3.2 (strings, names,
//! zip codes, permutations).

use meridian_base::rng::Rng;
use meridian_bench::random_text;

/// Rows of `item`, and of `stock` for each warehouse.
pub(crate) const ITEMS: i32 = 100_000;
/// Customers of each district, and orders of each district at first.
pub(crate) const CUSTOMERS: i32 = 3000;
/// Districts of each warehouse.
pub(crate) const DISTRICTS: i32 = 10;

const LETTERS_AND_DIGITS: &[u8; 62] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SYLLABLES: [&str; 10] =
    ["BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING"];

/// C of NURand for C_LAST while loading. It is the same for each load, since a run must know it.
const LAST_C_LOAD: u64 = 157;

/// The constants C of NURand: one for each field, the same for a whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    last: u64,
    customer: u64,
    item: u64,
}

impl Constants {
    /// The loader's.
    pub(crate) const LOAD: Self = Self { last: LAST_C_LOAD, customer: 0, item: 0 };

    /// A run's: the one for C_LAST is as far from the loader's as clause 2.1.6.1 demands.
    pub(crate) fn for_run(rng: &mut Rng) -> Self {
        let last = loop {
            let last = rng.below(256);
            let delta = last.abs_diff(LAST_C_LOAD);
            if (65..=119).contains(&delta) && delta != 96 && delta != 112 {
                break last;
            }
        };
        Self { last, customer: rng.below(1024), item: rng.below(8192) }
    }

    /// A last name's number, 0 to 999.
    pub(crate) fn last_name(self, rng: &mut Rng) -> usize {
        nurand(rng, 255, self.last, 0, 999) as usize
    }

    /// A customer's number in its district.
    pub(crate) fn customer(self, rng: &mut Rng) -> i32 {
        nurand(rng, 1023, self.customer, 1, CUSTOMERS as u64) as i32
    }

    /// An item's number.
    pub(crate) fn item(self, rng: &mut Rng) -> i32 {
        nurand(rng, 8191, self.item, 1, ITEMS as u64) as i32
    }
}

/// NURand(A, x, y) with its constant C.
fn nurand(rng: &mut Rng, a: u64, c: u64, x: u64, y: u64) -> u64 {
    (((between(rng, 0, a) | between(rng, x, y)) + c) % (y - x + 1)) + x
}

/// A number of `[low, high]`, evenly.
pub(crate) fn between(rng: &mut Rng, low: u64, high: u64) -> u64 {
    low + rng.below(high - low + 1)
}

/// As [`between`], for columns of type integer.
pub(crate) fn integer(rng: &mut Rng, low: i32, high: i32) -> i32 {
    low + rng.below((high - low + 1) as u64) as i32
}

/// The last name of a number of three digits.
pub(crate) fn last_name(number: usize) -> String {
    [number / 100 % 10, number / 10 % 10, number % 10].map(|digit| SYLLABLES[digit]).concat()
}

/// An a-string: letters and digits, of a length in `[low, high]`.
pub(crate) fn a_string(rng: &mut Rng, low: u64, high: u64) -> String {
    let length = between(rng, low, high);
    random_text(rng, LETTERS_AND_DIGITS, length)
}

/// Letters only, as for a state or a district's information.
pub(crate) fn letters(rng: &mut Rng, length: u64) -> String {
    random_text(rng, &LETTERS_AND_DIGITS[..52], length)
}

/// An n-string: digits.
pub(crate) fn n_string(rng: &mut Rng, length: u64) -> String {
    random_text(rng, &LETTERS_AND_DIGITS[52..], length)
}

/// A zip code: four random digits and 11111.
pub(crate) fn zip(rng: &mut Rng) -> String {
    n_string(rng, 4) + "11111"
}

/// I_DATA or S_DATA: in a tenth of all rows with ORIGINAL somewhere.
pub(crate) fn original_data(rng: &mut Rng) -> String {
    let mut data = a_string(rng, 26, 50);
    if rng.chance(0.1) {
        let at = rng.below((data.len() - 7) as u64) as usize;
        data.replace_range(at..at + 8, "ORIGINAL");
    }
    data
}

/// The numbers 1 to `n` in random order.
pub(crate) fn permutation(rng: &mut Rng, n: i32) -> Vec<i32> {
    let mut numbers: Vec<_> = (1..=n).collect();
    shuffle(rng, &mut numbers);
    numbers
}

/// Puts what is in `items` into random order.
pub(crate) fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nurand_stays_in_range_and_is_not_even() {
        let mut rng = Rng::seeded(1);
        let constants = Constants::for_run(&mut rng);
        let mut counts = vec![0u32; CUSTOMERS as usize];
        for _ in 0..300_000 {
            counts[constants.customer(&mut rng) as usize - 1] += 1;
            assert!((1..=ITEMS).contains(&constants.item(&mut rng)));
            assert!(constants.last_name(&mut rng) < 1000);
        }
        // An even choice would give each customer 100; the bits that OR sets make some frequent.
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!(counts[0] > 500, "{}", counts[0]);
        assert!(counts[..300].iter().sum::<u32>() > 90_000);
        assert!(counts[2999] < 20, "{}", counts[2999]);
    }

    #[test]
    fn nurand_follows_its_formula() {
        // With A = 0 nothing is set by OR: x..=y is only moved around by C.
        let mut rng = Rng::seeded(2);
        let values: Vec<_> = (0..1000).map(|_| nurand(&mut rng, 0, 7, 0, 9)).collect();
        assert!((0..10).all(|n| values.contains(&n)));
        assert_eq!(nurand(&mut rng, 0, 7, 5, 5), 5);
    }

    #[test]
    fn constants_for_last_names_keep_their_distance() {
        let mut rng = Rng::seeded(3);
        for _ in 0..1000 {
            let delta = Constants::for_run(&mut rng).last.abs_diff(Constants::LOAD.last);
            assert!((65..=119).contains(&delta) && delta != 96 && delta != 112, "{delta}");
        }
    }

    #[test]
    fn last_names_are_three_syllables() {
        assert_eq!(last_name(0), "BARBARBAR");
        assert_eq!(last_name(371), "PRICALLYOUGHT");
        assert_eq!(last_name(999), "EINGEINGEING");
    }

    #[test]
    fn strings_have_their_length_and_alphabet() {
        let mut rng = Rng::seeded(4);
        let mut originals = 0;
        for _ in 0..10_000 {
            let data = original_data(&mut rng);
            assert!((26..=50).contains(&data.len()));
            originals += u32::from(data.contains("ORIGINAL"));
        }
        assert!((850..1150).contains(&originals), "{originals}");
        assert!(letters(&mut rng, 500).bytes().all(|b| b.is_ascii_alphabetic()));
        let zip = zip(&mut rng);
        assert!(
            zip.len() == 9 && zip.ends_with("11111") && zip.bytes().all(|b| b.is_ascii_digit())
        );
    }

    #[test]
    fn permutations_have_each_number_once() {
        let mut rng = Rng::seeded(5);
        let mut numbers = permutation(&mut rng, CUSTOMERS);
        let in_place = numbers.iter().zip(1..).filter(|(n, i)| *n == i).count();
        assert!(in_place < 20, "{in_place}");
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=CUSTOMERS));
    }
}
