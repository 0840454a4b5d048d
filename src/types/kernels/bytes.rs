//! `bytea`, digests and encodings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Digest;

use super::call::{fun, invalid_parameter, len_i32};
use super::text::window;
use crate::io::chars::{escape_decode, hex_decode, write_escape, write_hex};
use crate::{Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

fn substr(b: &[u8], start: i32, len: Option<i32>) -> Result<Vec<u8>> {
    let (skip, take) = window(start, len)?;
    let rest = b.get(skip..).unwrap_or_default();
    Ok(rest[..take.unwrap_or(rest.len()).min(rest.len())].to_vec())
}

fn overlay(b: &[u8], new: &[u8], start: i32, len: i32) -> Result<Vec<u8>> {
    if start <= 0 {
        return Err(PgError::new(
            SqlState::SUBSTRING_ERROR,
            "negative substring length not allowed",
        ));
    }
    let after =
        start.checked_add(len).ok_or_else(|| super::call::out_of_range("integer out of range"))?;
    Ok([substr(b, 1, Some(start - 1))?, new.to_vec(), substr(b, after, None)?].concat())
}

fn position(b: &[u8], needle: &[u8]) -> i32 {
    if needle.is_empty() {
        return 1;
    }
    b.windows(needle.len()).position(|w| w == needle).map_or(0, |at| len_i32(at) + 1)
}

fn trim<'a>(b: &'a [u8], set: &[u8], left: bool, right: bool) -> &'a [u8] {
    let keep = |b: &u8| !set.contains(b);
    let start = if left { b.iter().position(keep).unwrap_or(b.len()) } else { 0 };
    let rest = &b[start..];
    let end = if right { rest.iter().rposition(keep).map_or(0, |at| at + 1) } else { rest.len() };
    &rest[..end]
}

fn index(i: i64, len: usize) -> Result<usize> {
    usize::try_from(i).ok().filter(|&at| at < len).ok_or_else(|| {
        let last = i64::try_from(len).unwrap_or(i64::MAX) - 1;
        PgError::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            format!("index {i} out of valid range, 0..{last}"),
        )
    })
}

fn get_bit(b: &[u8], i: i64) -> Result<i32> {
    let at = index(i, b.len() * 8)?;
    Ok(i32::from(b[at / 8] >> (at % 8) & 1))
}

fn set_byte(b: &[u8], i: i32, v: i32) -> Result<Vec<u8>> {
    let at = index(i64::from(i), b.len())?;
    let mut out = b.to_vec();
    out[at] = (v & 0xff) as u8;
    Ok(out)
}

fn set_bit(b: &[u8], i: i64, v: i32) -> Result<Vec<u8>> {
    let at = index(i, b.len() * 8)?;
    let mut out = b.to_vec();
    match v {
        0 => out[at / 8] &= !(1 << (at % 8)),
        1 => out[at / 8] |= 1 << (at % 8),
        _ => return Err(invalid_parameter("new bit must be 0 or 1")),
    }
    Ok(out)
}

fn bit_count(b: &[u8]) -> i64 {
    b.iter().map(|b| i64::from(b.count_ones())).sum()
}

fn unknown_encoding(name: &str) -> PgError {
    invalid_parameter(format!("unrecognized encoding: \"{name}\""))
}

fn encode(b: &[u8], format: &str) -> Result<String> {
    let mut out = Vec::with_capacity(b.len() * 2);
    match format.to_ascii_lowercase().as_str() {
        "hex" => write_hex(&mut out, b),
        "escape" => {
            // The function leaves printable and other ASCII alone, unlike the output format.
            for &byte in b {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    0 | 0x80.. => write_escape(&mut out, &[byte]),
                    _ => out.push(byte),
                }
            }
        }
        "base64" => {
            let text = STANDARD.encode(b);
            for (i, line) in text.as_bytes().chunks(76).enumerate() {
                if i > 0 {
                    out.push(b'\n');
                }
                out.extend_from_slice(line);
            }
        }
        _ => return Err(unknown_encoding(format)),
    }
    String::from_utf8(out).map_err(|_| PgError::internal("encoded text is not UTF-8"))
}

fn decode(text: &str, format: &str) -> Result<Vec<u8>> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => hex_decode(text.as_bytes()),
        "escape" => escape_decode(text).ok_or_else(|| {
            PgError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type bytea",
            )
        }),
        "base64" => decode_base64(text),
        _ => Err(unknown_encoding(format)),
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let body: String = text.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).collect();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    if let Some(bad) = body.chars().find(|&c| !valid(c)) {
        return Err(invalid_parameter(format!(
            "invalid symbol \"{bad}\" found while decoding base64 sequence"
        )));
    }
    STANDARD.decode(&body).map_err(|_| {
        invalid_parameter("invalid base64 end sequence")
            .hint("Input data is missing padding, is truncated, or is otherwise corrupted.")
    })
}

fn hex(b: &[u8]) -> String {
    let mut out = Vec::new();
    write_hex(&mut out, b);
    String::from_utf8(out).unwrap_or_default()
}

fn md5(b: &[u8]) -> String {
    hex(&md5::Md5::digest(b))
}

/// A version 4 UUID.
fn random_uuid() -> [u8; 16] {
    let mut v = [0u8; 16];
    meridian_base::rng::os_bytes(&mut v);
    v[6] = v[6] & 0x0f | 0x40;
    v[8] = v[8] & 0x3f | 0x80;
    v
}

fn is_utf8(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("unicode")
}

/// Names of encodings that PostgreSQL knows, without the signs that it passes over.
const ENCODINGS: &str = " abc alt big5 euccn eucjis2004 eucjp euckr euctw gb18030 gbk iso88591 \
    iso885910 iso885913 iso885914 iso885915 iso885916 iso88592 iso88593 iso88594 iso88595 iso88596 \
    iso88597 iso88598 iso88599 johab koi8 koi8r koi8u latin1 latin10 latin2 latin3 latin4 latin5 \
    latin6 latin7 latin8 latin9 mskanji muleinternal shiftjis shiftjis2004 sjis sqlascii tcvn \
    tcvn5712 uhc vscii win win1250 win1251 win1252 win1253 win1254 win1255 win1256 win1257 win1258 \
    win866 win874 win932 win936 win949 win950 windows1250 windows1251 windows1252 windows1253 \
    windows1254 windows1255 windows1256 windows1257 windows1258 windows866 windows874 windows932 \
    windows936 windows949 windows950 ";

/// Conversion from and to the only encoding there is; `role` names the argument in errors.
fn same_encoding(name: &str, role: &str) -> Result<()> {
    if is_utf8(name) {
        return Ok(());
    }
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if plain.is_empty() || !ENCODINGS.contains(&format!(" {} ", plain.to_ascii_lowercase())) {
        return Err(invalid_parameter(format!("invalid {role}encoding name \"{name}\"")));
    }
    Err(PgError::unsupported(format!("encoding \"{name}\" is not supported yet")))
}

fn convert_from(b: &[u8], name: &str, role: &str) -> Result<String> {
    same_encoding(name, role)?;
    String::from_utf8(b.to_vec()).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        PgError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": 0x{:02x}", b[at]),
        )
    })
}

const BYTEA: Table = &[
    ("byteacat", fun!(|a: &[u8], b: &[u8]| [a, b].concat())),
    ("byteaoctetlen", fun!(|b: &[u8]| len_i32(b.len()))),
    ("bit_length(bytea)", fun!(|b: &[u8]| len_i32(b.len() * 8))),
    ("bytea_substr", fun!(|b: &[u8], start: i32, len: i32| substr(b, start, Some(len)))),
    ("bytea_substr_no_len", fun!(|b: &[u8], start: i32| substr(b, start, None))),
    ("byteaoverlay", fun!(|b: &[u8], new: &[u8], at: i32, len: i32| overlay(b, new, at, len))),
    (
        "byteaoverlay_no_len",
        fun!(|b: &[u8], new: &[u8], at: i32| { overlay(b, new, at, len_i32(new.len())) }),
    ),
    ("byteapos", fun!(|b: &[u8], needle: &[u8]| position(b, needle))),
    ("byteatrim", fun!(|b: &[u8], set: &[u8]| trim(b, set, true, true).to_vec())),
    ("bytealtrim", fun!(|b: &[u8], set: &[u8]| trim(b, set, true, false).to_vec())),
    ("byteartrim", fun!(|b: &[u8], set: &[u8]| trim(b, set, false, true).to_vec())),
    (
        "byteaGetByte",
        fun!(|b: &[u8], i: i32| index(i64::from(i), b.len()).map(|at| i32::from(b[at]))),
    ),
    ("byteaGetBit", fun!(|b: &[u8], i: i64| get_bit(b, i))),
    ("byteaSetByte", fun!(|b: &[u8], i: i32, v: i32| set_byte(b, i, v))),
    ("byteaSetBit", fun!(|b: &[u8], i: i64, v: i32| set_bit(b, i, v))),
    ("bytea_bit_count", fun!(|b: &[u8]| bit_count(b))),
];

const DIGESTS: Table = &[
    ("binary_encode", fun!(|b: &[u8], format: &str| encode(b, format))),
    ("binary_decode", fun!(|s: &str, format: &str| decode(s, format))),
    ("md5_text", fun!(|s: &str| md5(s.as_bytes()))),
    ("md5_bytea", fun!(|b: &[u8]| md5(b))),
    ("sha224_bytea", fun!(|b: &[u8]| sha2::Sha224::digest(b).to_vec())),
    ("sha256_bytea", fun!(|b: &[u8]| sha2::Sha256::digest(b).to_vec())),
    ("sha384_bytea", fun!(|b: &[u8]| sha2::Sha384::digest(b).to_vec())),
    ("sha512_bytea", fun!(|b: &[u8]| sha2::Sha512::digest(b).to_vec())),
    ("gen_random_uuid", |_, _| Ok(crate::Datum::Uuid(random_uuid()))),
    ("pg_convert_from", fun!(|b: &[u8], name: &str| convert_from(b, name, "source "))),
    (
        "pg_convert_to",
        fun!(|s: &str, name: &str| {
            same_encoding(name, "destination ").map(|()| s.as_bytes().to_vec())
        }),
    ),
    (
        "pg_convert",
        fun!(|b: &[u8], from: &str, to: &str| {
            same_encoding(from, "source ")?;
            same_encoding(to, "destination ")?;
            convert_from(b, from, "source ").map(String::into_bytes)
        }),
    ),
    (
        "length_in_encoding",
        fun!(|b: &[u8], name: &str| {
            convert_from(b, name, "").map(|s| len_i32(s.chars().count()))
        }),
    ),
];

pub(crate) const TABLES: &[Table] = &[BYTEA, DIGESTS];
