//! Random texts.

use meridian_base::rng::Rng;

/// A text of so many characters of an alphabet, each chosen evenly.
#[must_use]
pub fn random_text(rng: &mut Rng, alphabet: &[u8], length: u64) -> String {
    let one = |_| char::from(alphabet[rng.below(alphabet.len() as u64) as usize]);
    (0..length).map(one).collect()
}
