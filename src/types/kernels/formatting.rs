//! `to_char`, `to_number`, `to_date` and `to_timestamp` with a template.

use super::datetime_args::{int, span, text, ts};
use super::formatting_date_in::read;
use super::formatting_date_out::{Moment, to_char};
use super::formatting_number::{self, Template};
use super::formatting_number_in;
use crate::datetime::arith::{from_local, local_fields};
use crate::datetime::calendar::{
    Fields, USECS_PER_SEC, checked_date, julian_valid, timestamp_infinite, timestamp_valid,
};
use crate::datetime::{timestamp_out_of_range, timestamp_with_offset};
use crate::numeric::Numeric;
use crate::registry::{CallInfo, Kernel};
use crate::{Datum, PgError, Result, SqlState};

/// Formatting.
pub(crate) const KERNELS: &[(&str, Kernel)] = &[
    ("timestamp_to_char", |_, a| timestamp_to_char(ts(&a[0])?, text(&a[1])?)),
    ("timestamptz_to_char", |c, a| timestamptz_to_char(c, ts(&a[0])?, text(&a[1])?)),
    ("interval_to_char", |_, a| {
        let template = text(&a[1])?;
        if template.is_empty() {
            return Ok(Datum::Null);
        }
        Ok(Datum::text(to_char(template, &Moment::of_interval(span(&a[0])?))?))
    }),
    ("to_timestamp", |c, a| {
        let zone = &c.ctx.settings.time_zone;
        let (f, west) = read(text(&a[0])?, text(&a[1])?)?;
        let utc = match west {
            Some(west) => timestamp_with_offset(&f, west).ok_or_else(timestamp_out_of_range)?,
            None => from_local(&f, zone)?,
        };
        Ok(Datum::TimestampTz(utc))
    }),
    ("to_date", |_, a| {
        let source = text(&a[0])?;
        let (f, _) = read(source, text(&a[1])?)?;
        let date = Some(f.days()).filter(|_| julian_valid(f.year, f.month)).and_then(checked_date);
        Ok(Datum::Date(date.ok_or_else(|| {
            PgError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date out of range: \"{source}\""),
            )
        })?))
    }),
    ("int4_to_char", |_, a| {
        let template = text(&a[1])?;
        if Template::parse(template)?.scientific {
            return float_to_char(f64::from(int(&a[0])?), 15, template);
        }
        integer_to_char(&a[0], template)
    }),
    ("int8_to_char", |_, a| integer_to_char(&a[0], text(&a[1])?)),
    ("numeric_to_char", |_, a| match &a[0] {
        Datum::Numeric(n) => numeric_to_char(n, text(&a[1])?),
        other => Err(PgError::internal(format!("kernel expected numeric, got {other:?}"))),
    }),
    ("float4_to_char", |_, a| match &a[0] {
        Datum::Float4(v) => float_to_char(f64::from(*v), 6, text(&a[1])?),
        other => Err(PgError::internal(format!("kernel expected float4, got {other:?}"))),
    }),
    ("float8_to_char", |_, a| match &a[0] {
        Datum::Float8(v) => float_to_char(*v, 15, text(&a[1])?),
        other => Err(PgError::internal(format!("kernel expected float8, got {other:?}"))),
    }),
    ("numeric_to_number", |_, a| to_number(text(&a[0])?, text(&a[1])?)),
];

fn timestamp_to_char(t: i64, template: &str) -> Result<Datum> {
    if template.is_empty() || timestamp_infinite(t) {
        return Ok(Datum::Null);
    }
    if !timestamp_valid(t) {
        return Err(timestamp_out_of_range());
    }
    let moment = Moment::of_fields(&Fields::of_timestamp(t), None);
    Ok(Datum::text(to_char(template, &moment)?))
}

fn timestamptz_to_char(call: &CallInfo<'_>, t: i64, template: &str) -> Result<Datum> {
    if template.is_empty() || timestamp_infinite(t) {
        return Ok(Datum::Null);
    }
    let zone = &call.ctx.settings.time_zone;
    let fields = local_fields(t, zone)?;
    let state = zone.state_at(t.div_euclid(USECS_PER_SEC));
    Ok(Datum::text(to_char(template, &Moment::of_fields(&fields, Some(state)))?))
}

fn integer_to_char(d: &Datum, template: &str) -> Result<Datum> {
    let v = d.as_i64().ok_or_else(|| PgError::internal("kernel expected an integer"))?;
    numeric_to_char(&Numeric::from(v), template)
}

/// Digits in place of a number that has none.
fn hashes(t: &Template) -> String {
    let mut out: Vec<u8> = vec![b'#'; t.pre + t.post + 6];
    out[0] = b' ';
    if let Some(point) = out.get_mut(t.pre + 1) {
        *point = b'.';
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn roman(v: Option<i64>) -> String {
    const PARTS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let Some(mut rest) = v.filter(|v| (1..4000).contains(v)) else { return "#".repeat(15) };
    let mut out = String::new();
    for (value, letters) in PARTS {
        while rest >= value {
            out.push_str(letters);
            rest -= value;
        }
    }
    out
}

fn numeric_to_char(n: &Numeric, template: &str) -> Result<Datum> {
    if template.is_empty() {
        return Ok(Datum::text(""));
    }
    let mut t = Template::parse(template)?;
    if t.roman {
        let whole = n.is_finite().then(|| n.round(0)).transpose()?.and_then(|r| r.to_i64());
        return Ok(Datum::text(formatting_number::write(&t, &roman(whole), false)));
    }
    if t.scientific {
        return Ok(Datum::text(scientific(n, &t)?));
    }
    let mut value = n.clone();
    if t.shifts {
        value = value.mul(&power_of_ten(t.multi)?)?;
        t.pre += t.multi;
    }
    let text = if value.is_finite() {
        value.round(i32::try_from(t.post).unwrap_or(i32::MAX))?.to_string()
    } else {
        value.to_string()
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.as_str()),
    };
    Ok(Datum::text(formatting_number::write(&t, digits, negative)))
}

fn power_of_ten(n: usize) -> Result<Numeric> {
    Numeric::parse(&format!("1{}", "0".repeat(n)))
}

/// `d.ddde±dd`, computed on the decimal digits.
fn scientific(n: &Numeric, t: &Template) -> Result<String> {
    if !n.is_finite() {
        return Ok(hashes(t));
    }
    let text = n.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = format!("{whole}{fraction}");
    let lead = digits.bytes().position(|b| b != b'0');
    let exponent = lead.map_or(0, |at| whole.len() as i64 - 1 - at as i64);
    let (exponent, mantissa) = match lead {
        None => (0, Numeric::from(0_i64).round(t.post as i32)?.to_string()),
        Some(at) => {
            // Halves are rounded away from zero, so digits behind the next one change nothing.
            let significant = &digits[at..digits.len().min(at + t.post + 2)];
            let scaled = Numeric::parse(&format!("{}.{}0", &significant[..1], &significant[1..]))?;
            // As in PostgreSQL a mantissa that rounds up to 10 stays so.
            (exponent, scaled.round(t.post as i32)?.to_string())
        }
    };
    let sign = if n.signum() < 0 { '-' } else { ' ' };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let padded = if t.post > 0 && !mantissa.contains('.') {
        format!("{mantissa}.{}", "0".repeat(t.post))
    } else {
        mantissa
    };
    Ok(format!("{sign}{padded}e{exponent_sign}{:02}", exponent.abs()))
}

fn float_to_char(v: f64, precision: usize, template: &str) -> Result<Datum> {
    if template.is_empty() {
        return Ok(Datum::text(""));
    }
    let mut t = Template::parse(template)?;
    if t.roman {
        let whole = v.is_finite().then(|| v.round_ties_even() as i64);
        return Ok(Datum::text(formatting_number::write(&t, &roman(whole), false)));
    }
    if t.scientific {
        if !v.is_finite() {
            return Ok(Datum::text(hashes(&t)));
        }
        let exact = Numeric::parse(&format!("{v:.0$e}", t.post))?;
        return Ok(Datum::text(scientific(&exact, &t)?));
    }
    let mut v = v;
    if t.shifts {
        v *= 10_f64.powi(t.multi as i32);
        t.pre += t.multi;
    }
    let name = if v.is_nan() { "NaN" } else { "Infinity" };
    // A float has only so many digits that mean something; the letters of a name count as some.
    let whole = if v.is_finite() { format!("{:.0}", v.abs()).len() } else { name.len() };
    if whole >= precision {
        t.post = 0;
    } else {
        t.post = t.post.min(precision - whole);
    }
    if !v.is_finite() {
        return Ok(Datum::text(formatting_number::write(&t, name, v < 0.0)));
    }
    let text = format!("{:.*}", t.post, v.abs());
    Ok(Datum::text(formatting_number::write(&t, &text, v.is_sign_negative())))
}

fn to_number(source: &str, template: &str) -> Result<Datum> {
    if template.is_empty() {
        return Ok(Datum::Null);
    }
    let t = Template::parse(template)?;
    if t.roman {
        return Err(PgError::unsupported("\"RN\" not supported for input"));
    }
    if t.scientific {
        return Err(PgError::unsupported("\"EEEE\" not supported for input"));
    }
    let (digits, scale) = formatting_number_in::read(&t, source);
    let precision = (t.pre + t.multi + scale) as i32;
    let typmod = ((precision << 16) | (scale as i32 & 0x7ff)) + 4;
    let mut value = Numeric::parse(&digits)?.apply_typmod(typmod)?;
    if t.shifts {
        value = value.div(&power_of_ten(t.multi)?)?;
    }
    Ok(Datum::Numeric(value))
}
