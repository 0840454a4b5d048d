//! Text of the number types.

use super::invalid_syntax;
use crate::builtin::format_type;
use crate::oid::Oid;
use crate::{PgError, Result, SqlState};

fn out_of_range(type_name: &str, text: &str) -> PgError {
    PgError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

/// White space of C's `isspace`.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Reads a decimal integer between two bounds. Overflow is noticed before trailing garbage.
fn integer(text: &str, min: i64, max: i64, type_name: &str) -> Result<i64> {
    let body = text.trim_start_matches(is_space);
    let (negative, digits) = match body.as_bytes().first() {
        Some(b'-') => (true, &body[1..]),
        Some(b'+') => (false, &body[1..]),
        _ => (false, body),
    };
    let mut value = 0i64;
    let mut taken = 0;
    for b in digits.bytes().take_while(u8::is_ascii_digit) {
        let digit = i64::from(b - b'0');
        value = value
            .checked_mul(10)
            .and_then(|v| if negative { v.checked_sub(digit) } else { v.checked_add(digit) })
            .filter(|v| (min..=max).contains(v))
            .ok_or_else(|| out_of_range(type_name, text))?;
        taken += 1;
    }
    if taken == 0 || !digits[taken..].chars().all(is_space) {
        return Err(invalid_syntax(type_name, text));
    }
    Ok(value)
}

/// `int2in`
pub fn int2_in(text: &str) -> Result<i16> {
    let v = integer(text, i64::from(i16::MIN), i64::from(i16::MAX), "smallint")?;
    i16::try_from(v).map_err(|_| out_of_range("smallint", text))
}

/// `int4in`
pub fn int4_in(text: &str) -> Result<i32> {
    let v = integer(text, i64::from(i32::MIN), i64::from(i32::MAX), "integer")?;
    i32::try_from(v).map_err(|_| out_of_range("integer", text))
}

/// `int8in`
pub fn int8_in(text: &str) -> Result<i64> {
    integer(text, i64::MIN, i64::MAX, "bigint")
}

/// `xid8in`, which in this version is C's `strtoull` with any base and no complaint: what is no
/// number is 0, what follows one is passed over, what is too great is the greatest.
pub fn xid8_in(text: &str) -> u64 {
    let text = text.trim_start_matches(is_space);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (base, digits) = match hexadecimal {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, rest),
        _ if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    let mut value: u64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(base)) {
        let grown = value.checked_mul(base.into()).and_then(|v| v.checked_add(digit.into()));
        let Some(grown) = grown else { return u64::MAX };
        value = grown;
    }
    if text.starts_with('-') { value.wrapping_neg() } else { value }
}

/// `oidin` and its aliases: unsigned 32 bits; a negative number wraps, as in C.
pub fn oid_in(text: &str, type_oid: Oid) -> Result<u32> {
    let name = format_type(type_oid, -1);
    let trimmed = text.trim_matches(is_space);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(&name, text));
    }
    let magnitude: i64 = digits.parse().map_err(|_| out_of_range(&name, text))?;
    if trimmed.starts_with('-') {
        let signed = i32::try_from(-magnitude).map_err(|_| out_of_range(&name, text))?;
        return Ok(signed.cast_unsigned());
    }
    u32::try_from(magnitude).map_err(|_| out_of_range(&name, text))
}

fn float_body<'a>(text: &'a str, type_name: &str) -> Result<&'a str> {
    let body = text.trim_matches(is_space);
    let unsigned = body.strip_prefix(['-', '+']).unwrap_or(body);
    let named = ["nan", "inf", "infinity"].iter().any(|n| unsigned.eq_ignore_ascii_case(n));
    if !named && !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(invalid_syntax(type_name, text));
    }
    Ok(body)
}

fn float_range(text: &str, type_name: &str) -> PgError {
    PgError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{text}\" is out of range for type {type_name}"),
    )
}

/// True when a literal that was read as zero or infinite says something else.
fn lost(body: &str, zero: bool, infinite: bool) -> bool {
    let mantissa = body.split(['e', 'E']).next().unwrap_or("");
    let digits = mantissa.bytes().any(|b| b.is_ascii_digit());
    (zero && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b))) || (infinite && digits)
}

/// `float8in`
pub fn float8_in(text: &str) -> Result<f64> {
    const NAME: &str = "double precision";
    let body = float_body(text, NAME)?;
    let v: f64 = body.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if lost(body, v == 0.0, v.is_infinite()) {
        return Err(float_range(body, NAME));
    }
    Ok(if v.is_nan() { f64::NAN } else { v })
}

/// `float4in`
pub fn float4_in(text: &str) -> Result<f32> {
    const NAME: &str = "real";
    let body = float_body(text, NAME)?;
    let v: f32 = body.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if lost(body, v == 0.0, v.is_infinite()) {
        return Err(float_range(body, NAME));
    }
    Ok(if v.is_nan() { f32::NAN } else { v })
}

/// Appends an integer.
pub fn write_i64(out: &mut Vec<u8>, v: i64) {
    if v < 0 {
        out.push(b'-');
    }
    write_u64(out, v.unsigned_abs());
}

/// Appends an unsigned integer.
pub fn write_u64(out: &mut Vec<u8>, v: u64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = v;
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

/// `float8out` under `extra_float_digits`: shortest round-trip form when positive, otherwise
/// 15 digits plus the setting.
pub fn float8_out(out: &mut Vec<u8>, v: f64, extra: i32) {
    if !write_special(out, v) {
        let text = if extra > 0 { shortest_f64(v) } else { significant(v, 15 + extra) };
        // The shortest form turns to an exponent at 10^15, the printf form at its precision.
        write_scientific(out, &text, if extra > 0 { 15 } else { (15 + extra).max(1) });
    }
}

/// `float4out`
pub fn float4_out(out: &mut Vec<u8>, v: f32, extra: i32) {
    if !write_special(out, f64::from(v)) {
        let text = if extra > 0 { shortest_f32(v) } else { significant(f64::from(v), 6 + extra) };
        write_scientific(out, &text, if extra > 0 { 6 } else { (6 + extra).max(1) });
    }
}

/// Digits of `d.ddde±x`.
fn digit_count(text: &str) -> usize {
    text.bytes().take_while(|&b| b != b'e').filter(u8::is_ascii_digit).count()
}

/// The shortest digits that read back to a double, as PostgreSQL chooses them: of two equally near
/// the even one, and never digits that are exactly between two doubles.
fn shortest_f64(v: f64) -> String {
    let text = format!("{v:e}");
    let n = digit_count(&text);
    if n < 15 {
        return text;
    }
    let even = format!("{v:.0$e}", n - 1);
    let even_reads_back = even.parse::<f64>().is_ok_and(|back| back == v);
    let chosen = if even_reads_back { even } else { text };
    if strictly_inside(&chosen, v) { chosen } else { significant(v, n as i32 + 1) }
}

/// False when the digits are the middle between a double of integral value and its neighbour.
fn strictly_inside(text: &str, v: f64) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let magnitude = v.abs();
    if !(EXACT..1e36).contains(&magnitude) {
        return true;
    }
    let Ok(shown) = crate::numeric::Numeric::parse(text).and_then(|n| n.to_integer()) else {
        return true;
    };
    let Ok(shown) = i128::try_from(&shown) else { return true };
    let exact = v as i128;
    let gap = (magnitude.next_up() - magnitude) as i128;
    (shown - exact).abs() * 2 != gap
}

/// The same for a single, whose middles are doubles.
fn shortest_f32(v: f32) -> String {
    let text = format!("{v:e}");
    let n = digit_count(&text);
    if n < 6 {
        return text;
    }
    let even = format!("{v:.0$e}", n - 1);
    let even_reads_back = even.parse::<f32>().is_ok_and(|back| back == v);
    let chosen = if even_reads_back { even } else { text };
    let middle = |other: f32| (f64::from(v) + f64::from(other)) / 2.0;
    let shown: f64 = chosen.parse().unwrap_or(0.0);
    if shown == middle(v.next_up()) || shown == middle(v.next_down()) {
        return significant(f64::from(v), n as i32 + 1);
    }
    chosen
}

/// `%.{digits}e` with trailing zeros removed, in Rust's notation.
fn significant(v: f64, digits: i32) -> String {
    let decimals = usize::try_from(digits - 1).unwrap_or(0);
    let text = format!("{v:.decimals$e}");
    match text.split_once('e') {
        Some((m, e)) if m.contains('.') => {
            format!("{}e{e}", m.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

fn write_special(out: &mut Vec<u8>, v: f64) -> bool {
    let text: &[u8] = match v {
        v if v.is_nan() => b"NaN",
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// Rewrites `d.ddde±x` in C's `%g` style: plain between 1e-4 and 10^limit.
fn write_scientific(out: &mut Vec<u8>, text: &str, limit: i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= limit {
        out.extend_from_slice(mantissa.as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
        return;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.extend_from_slice(sign.as_bytes());
    let digits: Vec<u8> = mantissa.bytes().filter(|&b| b != b'.').collect();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1).unsigned_abs() as usize));
        out.extend_from_slice(&digits);
        return;
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    if digits.len() <= whole {
        out.extend_from_slice(&digits);
        out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

/// `cash_in` in the C locale: optional sign or parentheses, `$`, thousands separators.
pub fn money_in(text: &str) -> Result<i64> {
    let trimmed = text.trim_matches(is_space);
    let parenthesised = trimmed.starts_with('(') && trimmed.ends_with(')');
    let negative = parenthesised || trimmed.starts_with('-') || trimmed.starts_with("$-");
    let body: String =
        trimmed.chars().filter(|c| !matches!(c, '(' | ')' | '$' | ',' | '-' | '+')).collect();
    let digits = body.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !digits || body.is_empty() {
        return Err(invalid_syntax("money", text));
    }
    let value = crate::numeric::Numeric::parse(&body)
        .and_then(|v| v.mul(&crate::numeric::Numeric::from(100i64)))
        .map_err(|_| invalid_syntax("money", text))?;
    let signed = if negative { value.neg() } else { value };
    signed.to_i64().ok_or_else(|| out_of_range("money", text))
}

/// `cash_out` in the C locale.
pub fn money_out(v: i64) -> String {
    let sign = if v < 0 { "-" } else { "" };
    let magnitude = v.unsigned_abs();
    let whole = (magnitude / 100).to_string();
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    format!("{sign}${grouped}.{:02}", magnitude % 100)
}

/// `pg_lsn_in`
pub fn lsn_in(text: &str) -> Result<i64> {
    let part =
        |s: &str| (1..=8).contains(&s.len()).then(|| u32::from_str_radix(s, 16).ok()).flatten();
    let halves = text.split_once('/').and_then(|(a, b)| part(a).zip(part(b)));
    let (high, low) = halves.ok_or_else(|| invalid_syntax("pg_lsn", text))?;
    Ok((u64::from(high) << 32 | u64::from(low)).cast_signed())
}

/// `pg_lsn_out`
pub fn lsn_out(v: i64) -> String {
    let v = v.cast_unsigned();
    format!("{:X}/{:X}", v >> 32, v & 0xffff_ffff)
}
