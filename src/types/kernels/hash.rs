//! PostgreSQL's hash functions, value for value: `hashtext` and its like are used by applications
//! (advisory locks by name, sharding), so their answers are part of the interface.
//!
//! The core is Bob Jenkins' public-domain `lookup3`, with the seed and byte order that PostgreSQL
//! has on little-endian machines. Each type says which bytes stand for a value; the `…_extended`
//! functions give 64 bits and take a seed, and the plain ones are their low half with no seed.

use num_bigint::BigUint;

use super::call::mismatch;
use crate::jsonb::Ref;
use crate::numeric::Numeric;
use crate::order::bpchar_body;
use crate::{ArrayValue, CallInfo, Datum, Interval, Kernel, PgError, Result, SqlState, oid};

type Table = &'static [(&'static str, Kernel)];

/// What the three lanes start with, besides the length.
const START: u32 = 0x9e37_79b9_u32.wrapping_add(3_923_095);

fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for (first, second, third) in [(4, 6, 8), (16, 19, 4)] {
        a = a.wrapping_sub(c) ^ c.rotate_left(first);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(second);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(third);
        b = b.wrapping_add(a);
    }
    [a, b, c]
}

fn finish([mut a, mut b, mut c]: [u32; 3]) -> u64 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    u64::from(b) << 32 | u64::from(c)
}

/// The 64-bit hash of bytes; its low half with seed 0 is the 32-bit hash.
fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let start = START.wrapping_add(bytes.len() as u32);
    let mut lanes = [start; 3];
    if seed != 0 {
        lanes[0] = lanes[0].wrapping_add((seed >> 32) as u32);
        lanes[1] = lanes[1].wrapping_add(seed as u32);
        lanes = mix(lanes);
    }
    let word = |b: &[u8]| b.iter().rev().fold(0, |w, b| w << 8 | u32::from(*b));
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        for (lane, four) in lanes.iter_mut().zip(block.chunks(4)) {
            *lane = lane.wrapping_add(word(four));
        }
        lanes = mix(lanes);
    }
    let tail = blocks.remainder();
    for (i, (lane, four)) in lanes.iter_mut().zip(tail.chunks(4)).enumerate() {
        // The lowest byte of the last lane is the length's.
        *lane = lane.wrapping_add(if i == 2 { word(four) << 8 } else { word(four) });
    }
    finish(lanes)
}

fn hash_u32(v: u32, seed: u64) -> u64 {
    hash_bytes(&v.to_le_bytes(), seed)
}

/// Small values of `int8` hash as those of `int4` and `int2`.
fn hash_i64(v: i64, seed: u64) -> u64 {
    let (low, high) = (v as u32, (v >> 32) as u32);
    hash_u32(low ^ if v >= 0 { high } else { !high }, seed)
}

fn hash_f64(v: f64, seed: u64) -> u64 {
    if v == 0.0 {
        return seed;
    }
    let v = if v.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { v };
    hash_bytes(&v.to_le_bytes(), seed)
}

/// The base-10000 digits without leading and trailing zeros, and the weight of the first.
fn numeric_digits(v: &Numeric) -> (Vec<u8>, i32) {
    let Some((coef, scale)) = v.finite() else { return (vec![], 0) };
    let pad = (4 - scale % 4) % 4;
    let mut rest = coef.magnitude().clone() * 10_u32.pow(pad.cast_unsigned());
    let mut digits: Vec<u16> = Vec::new();
    while rest != BigUint::ZERO {
        let digit = u16::try_from(&(&rest % 10_000_u32)).unwrap_or(0);
        rest /= 10_000_u32;
        digits.push(digit);
    }
    let weight = digits.len() as i32 - 1 - (scale + pad) / 4;
    let body = digits.iter().skip_while(|d| **d == 0).copied().collect::<Vec<_>>();
    (body.iter().rev().flat_map(|d| d.to_le_bytes()).collect(), weight)
}

fn hash_numeric(v: &Numeric, seed: u64) -> u64 {
    if !v.is_finite() {
        return seed;
    }
    if v.is_zero() {
        return seed.wrapping_sub(1);
    }
    let (digits, weight) = numeric_digits(v);
    hash_bytes(&digits, seed) ^ i64::from(weight).cast_unsigned()
}

fn hash_interval(v: Interval, seed: u64) -> u64 {
    let days = i128::from(v.months) * 30 + i128::from(v.days);
    hash_i64((i128::from(v.micros) + days * 86_400_000_000) as i64, seed)
}

fn hash_timetz(time: i64, west: i32, seed: u64) -> u64 {
    hash_i64(time, seed) ^ hash_u32(west.cast_unsigned(), seed)
}

/// What containers put in, the same in both halves.
const ARRAY: u64 = 0x4000_0000_4000_0000;
const OBJECT: u64 = 0x2000_0000_2000_0000;

fn jsonb_scalar(v: Ref<'_>, seed: u64) -> u64 {
    match v {
        Ref::Null => seed.wrapping_add(1),
        Ref::Bool(b) if seed != 0 => hash_u32(u32::from(b), seed),
        Ref::Bool(b) => {
            if b {
                2
            } else {
                4
            }
        }
        Ref::Number(n) => hash_numeric(&n.get(), seed),
        Ref::String(s) => hash_bytes(s.as_bytes(), seed),
        Ref::Array(_) | Ref::Object(_) => 0,
    }
}

/// The values in order, keys among them, each turned in with a rotation of what came before. The
/// two halves of the 64 bits are turned apart, so the 32-bit hash is once more the low half.
fn jsonb_values(v: Ref<'_>, seed: u64, hash: &mut u64) {
    let turn = |hash: u64| hash << 1 & !(1 << 32) & !1 | hash >> 31 & 0x1_0000_0001;
    match v {
        Ref::Array(a) => {
            *hash ^= ARRAY;
            a.iter().for_each(|e| jsonb_values(e, seed, hash));
        }
        Ref::Object(o) => {
            *hash ^= OBJECT;
            for (key, value) in o.iter() {
                *hash = turn(*hash) ^ hash_bytes(key.as_bytes(), seed);
                jsonb_values(value, seed, hash);
            }
        }
        scalar => *hash = turn(*hash) ^ jsonb_scalar(scalar, seed),
    }
}

fn hash_jsonb(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = 0;
    match Ref::new(bytes) {
        Ref::Array(a) if a.is_empty() => return seed,
        Ref::Object(o) if o.is_empty() => return seed,
        scalar @ (Ref::Null | Ref::Bool(_) | Ref::Number(_) | Ref::String(_)) => {
            // A bare scalar is an array of one.
            hash ^= ARRAY;
            jsonb_values(scalar, seed, &mut hash);
        }
        container => jsonb_values(container, seed, &mut hash),
    }
    hash
}

/// Elements (or fields) in order: 31 times what came before, plus the next, NULL counting 0.
fn hash_sequence(
    items: &[Datum],
    start: u64,
    type_of: impl Fn(&Datum) -> u32,
    seed: u64,
) -> Result<u64> {
    let mut all = start;
    for item in items {
        let one = if item.is_null() { 0 } else { hash_datum(item, type_of(item), seed)? };
        all = all.wrapping_mul(31).wrapping_add(one);
    }
    Ok(all)
}

/// The hash of a value by its type.
fn hash_datum(v: &Datum, type_oid: u32, seed: u64) -> Result<u64> {
    Ok(match v {
        Datum::Bool(b) => hash_u32(u32::from(*b), seed),
        Datum::Int2(v) => hash_u32(i32::from(*v).cast_unsigned(), seed),
        Datum::Int4(v) | Datum::Date(v) => hash_u32(v.cast_unsigned(), seed),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            hash_i64(*v, seed)
        }
        Datum::Oid(v) => hash_u32(*v, seed),
        Datum::Float4(v) => hash_f64(f64::from(*v), seed),
        Datum::Float8(v) => hash_f64(*v, seed),
        Datum::Numeric(v) => hash_numeric(v, seed),
        Datum::Text(s) if type_oid == oid::BPCHAR => hash_bytes(bpchar_body(s).as_bytes(), seed),
        Datum::Text(s) if type_oid == oid::CHAR => {
            let byte = s.as_bytes().first().copied().unwrap_or(0).cast_signed();
            hash_u32(i32::from(byte).cast_unsigned(), seed)
        }
        Datum::Text(s) => hash_bytes(s.as_bytes(), seed),
        Datum::Bytea(b) => hash_bytes(b, seed),
        Datum::TimeTz(time, west) => hash_timetz(*time, *west, seed),
        Datum::Interval(v) => hash_interval(*v, seed),
        Datum::Uuid(v) => hash_bytes(v, seed),
        Datum::Jsonb(b) => hash_jsonb(b, seed),
        Datum::Array(a) if type_oid == oid::OIDVECTOR => {
            let oids = a.elements.iter().filter_map(Datum::as_i64);
            hash_bytes(&oids.flat_map(|o| (o as u32).to_le_bytes()).collect::<Vec<_>>(), seed)
        }
        Datum::Array(a) => hash_elements(a, seed)?,
        Datum::Record(fields) => {
            let of_field = |f: &Datum| crate::io::natural_type(f).oid;
            hash_sequence(fields, 0, of_field, seed)?
        }
        Datum::Null => 0,
    })
}

fn hash_elements(a: &ArrayValue, seed: u64) -> Result<u64> {
    if matches!(a.element_type, oid::JSON | oid::XML) {
        return Err(PgError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!(
                "could not identify a hash function for type {}",
                crate::builtin::format_type(a.element_type, -1)
            ),
        ));
    }
    hash_sequence(&a.elements, 1, |_| a.element_type, seed)
}

/// `hash…(value)`
fn plain(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [value] = args else { return Err(mismatch(args)) };
    let ty = call.args.first().map_or(0, |t| t.oid);
    Ok(Datum::Int4((hash_datum(value, ty, 0)? as u32).cast_signed()))
}

/// `hash…extended(value, seed)`
fn extended(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [value, Datum::Int8(seed)] = args else { return Err(mismatch(args)) };
    let ty = call.args.first().map_or(0, |t| t.oid);
    Ok(Datum::Int8(hash_datum(value, ty, seed.cast_unsigned())?.cast_signed()))
}

macro_rules! hashes {
    ($($plain:literal $extended:literal)*) => {
        &[$(($plain, plain as Kernel), ($extended, extended as Kernel)),*]
    };
}

pub(crate) const KERNELS: Table = hashes! {
    "hashtext" "hashtextextended"
    "hashname" "hashnameextended"
    "hashbpchar" "hashbpcharextended"
    "hashvarlena" "hashvarlenaextended"
    "hashchar" "hashcharextended"
    "hashint2" "hashint2extended"
    "hashint4" "hashint4extended"
    "hashint8" "hashint8extended"
    "hashoid" "hashoidextended"
    "hashoidvector" "hashoidvectorextended"
    "hashfloat4" "hashfloat4extended"
    "hashfloat8" "hashfloat8extended"
    "hash_numeric" "hash_numeric_extended"
    "time_hash" "time_hash_extended"
    "timetz_hash" "timetz_hash_extended"
    "timestamp_hash" "timestamp_hash_extended"
    "interval_hash" "interval_hash_extended"
    "uuid_hash" "uuid_hash_extended"
    "pg_lsn_hash" "pg_lsn_hash_extended"
    "jsonb_hash" "jsonb_hash_extended"
    "hash_array" "hash_array_extended"
    "hash_record" "hash_record_extended"
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EvalContext, PgType, io};

    /// Values of PostgreSQL 15.
    #[test]
    fn hashes_are_those_of_postgresql() {
        let ctx = EvalContext::bare();
        let hash = |type_oid, text: &str| {
            let ty = PgType::new(type_oid);
            let value = io::text_in(type_oid, -1, text, &ctx).expect("reads");
            let info = CallInfo { ctx: &ctx, args: &[ty], ret: PgType::new(oid::INT4) };
            let short = plain(&info, std::slice::from_ref(&value)).expect("hashes");
            let long = extended(&info, &[value, Datum::Int8(42)]).expect("hashes");
            (short.as_i64().unwrap_or(0), long.as_i64().unwrap_or(0))
        };
        let long = "abcdefghijklm";
        assert_eq!(hash(oid::TEXT, ""), (-1_477_818_771, 6_158_832_220_375_811_857));
        assert_eq!(hash(oid::TEXT, "meridian"), (2_139_403_536, -2_983_315_381_852_111_608));
        assert_eq!(hash(oid::TEXT, &long[..12]), (-1_586_087_212, 6_421_059_121_120_153_082));
        assert_eq!(hash(oid::TEXT, long), (405_849_808, -1_560_994_830_268_275_841));
        assert_eq!(hash(oid::INT8, "-5"), (1_412_886_042, -8_747_513_389_509_221_398));
        assert_eq!(hash(oid::FLOAT8, "NaN"), (-1_275_764_840, -4_570_345_281_452_345_396));
        assert_eq!(hash(oid::NUMERIC, "12345.6789"), (-2_041_232_919, -4_396_631_273_117_969_558));
        assert_eq!(hash(oid::NUMERIC, "1000000.00"), (1_186_574_834, 8_330_202_616_442_546_926));
        assert_eq!(hash(oid::INTERVAL, "1 mon -2:00"), (-544_247_640, 8_320_883_994_231_230_104));
        assert_eq!(hash(oid::TIMETZ, "10:00+02"), (1_231_260_348, -2_032_250_346_657_721_533));
        let json = "{\"a\": [1, null, true]}";
        assert_eq!(hash(oid::JSONB, json), (994_314_411, 8_908_335_706_582_964_216));
        assert_eq!(
            hash(oid::INT4_ARRAY, "{1,NULL,3}"),
            (-1_134_681_668, -3_681_224_282_308_811_652)
        );
    }
}
