//! Unicode normalisation: `normalize`, `IS NORMALIZED`. And `to_ascii`, which knows four single-byte
//! encodings and so refuses the texts of a database in UTF-8.

use unicode_normalization::UnicodeNormalization;

use super::call::{fun, invalid_parameter};
use crate::{Datum, Kernel, PgError, Result, SqlState};

fn normalize(text: &str, form: &str) -> Result<String> {
    Ok(match form.to_ascii_uppercase().as_str() {
        "NFC" => text.nfc().collect(),
        "NFD" => text.nfd().collect(),
        "NFKC" => text.nfkc().collect(),
        "NFKD" => text.nfkd().collect(),
        _ => return Err(invalid_parameter(format!("invalid normalization form: {form}"))),
    })
}

/// Greatest number of an encoding, client encodings among them.
const ENCODINGS: i32 = 41;

fn to_ascii(encoding: i32) -> Result<Datum> {
    let undefined = |m: String| PgError::new(SqlState::UNDEFINED_OBJECT, m);
    if !(0..=ENCODINGS).contains(&encoding) {
        return Err(undefined(format!("{encoding} is not a valid encoding code")));
    }
    Err(PgError::unsupported("encoding conversion from UTF8 to ASCII not supported"))
}

pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("unicode_normalize_func", fun!(|text: &str, form: &str| normalize(text, form))),
    ("to_ascii_default", fun!(|_text: &str| to_ascii(6))),
    ("to_ascii_enc", fun!(|_text: &str, encoding: i32| to_ascii(encoding))),
    (
        "unicode_is_normalized",
        fun!(|text: &str, form: &str| normalize(text, form).map(|n| n == text)),
    ),
];
