//! Type modifiers: from `numeric(10, 2)` to a number.

use meridian_types::builtin;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, Result, SqlState};

/// Longest `char` and `varchar`, PostgreSQL's MaxAttrSize.
const MAX_CHARS: i32 = 10_485_760;
/// Precision of an interval without one.
const FULL_PRECISION: i32 = 0xffff;

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The modifier of a type from its written modifiers; −1 when there are none.
pub(super) fn from_modifiers(ty: Oid, modifiers: &[String], at: Option<u32>) -> Result<i32> {
    if modifiers.is_empty() {
        return Ok(-1);
    }
    let numbers: Result<Vec<i32>, _> = modifiers.iter().map(|m| m.parse::<i32>()).collect();
    let element = builtin::array_element(ty).unwrap_or(ty);
    let typmod = match (element, numbers) {
        (oid::VARCHAR | oid::BPCHAR, Ok(n)) => length(element, &n),
        (oid::NUMERIC, Ok(n)) => numeric(&n),
        (oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::TIME | oid::TIMETZ, Ok(n)) => time(element, &n),
        (oid::INTERVAL, Ok(n)) => interval(&n),
        (oid::BIT | oid::VARBIT, Ok(n)) => bit(element, &n),
        (oid::VARCHAR | oid::BPCHAR | oid::NUMERIC | oid::INTERVAL | oid::BIT, Err(_)) => {
            Err(PgError::new(
                SqlState::SYNTAX_ERROR,
                "type modifiers must be simple constants or identifiers",
            ))
        }
        _ => Err(PgError::new(
            SqlState::SYNTAX_ERROR,
            format!("type modifier is not allowed for type \"{}\"", builtin::type_name(ty)),
        )),
    };
    typmod.map_err(|e| e.at(at))
}

fn length(ty: Oid, n: &[i32]) -> Result<i32> {
    let name = if ty == oid::VARCHAR { "varchar" } else { "char" };
    match n {
        [n] if *n < 1 => Err(invalid(format!("length for type {name} must be at least 1"))),
        [n] if *n > MAX_CHARS => {
            Err(invalid(format!("length for type {name} cannot exceed {MAX_CHARS}")))
        }
        [n] => Ok(n + 4),
        _ => Err(invalid("invalid type modifier".into())),
    }
}

fn numeric(n: &[i32]) -> Result<i32> {
    let (precision, scale) = match n {
        [p] => (*p, 0),
        [p, s] => (*p, *s),
        _ => return Err(invalid("invalid NUMERIC type modifier".into())),
    };
    if !(1..=1000).contains(&precision) {
        let text = format!("NUMERIC precision {precision} must be between 1 and 1000");
        return Err(invalid(text));
    }
    if !(-1000..=1000).contains(&scale) {
        let text = format!("NUMERIC scale {scale} must be between -1000 and 1000");
        return Err(invalid(text));
    }
    Ok(((precision << 16) | (scale & 0x7ff)) + 4)
}

fn time(ty: Oid, n: &[i32]) -> Result<i32> {
    let [n] = n else { return Err(invalid("invalid type modifier".into())) };
    let (name, zone) = match ty {
        oid::TIMESTAMP => ("TIMESTAMP", ""),
        oid::TIMESTAMPTZ => ("TIMESTAMP", " WITH TIME ZONE"),
        oid::TIME => ("TIME", ""),
        _ => ("TIME", " WITH TIME ZONE"),
    };
    if *n < 0 {
        return Err(invalid(format!("{name}({n}){zone} precision must not be negative")));
    }
    Ok((*n).min(6))
}

/// The fields' mask, then the precision.
fn interval(n: &[i32]) -> Result<i32> {
    let (mask, precision) = match n {
        [mask] if *mask == 0x7fff => return Ok(-1),
        [mask] => (*mask, FULL_PRECISION),
        [_, p] if *p < 0 => {
            return Err(invalid(format!("INTERVAL({p}) precision must not be negative")));
        }
        [mask, p] => (*mask, (*p).min(6)),
        _ => return Err(invalid("invalid INTERVAL type modifier".into())),
    };
    Ok(((mask & 0x7fff) << 16) | (precision & 0xffff))
}

fn bit(ty: Oid, n: &[i32]) -> Result<i32> {
    let name = if ty == oid::BIT { "bit" } else { "bit varying" };
    match n {
        [n] if *n < 1 => Err(invalid(format!("length for type {name} must be at least 1"))),
        [n] if *n > 83_886_080 => {
            Err(invalid(format!("length for type {name} cannot exceed 83886080")))
        }
        [n] => Ok(*n),
        _ => Err(invalid("invalid type modifier".into())),
    }
}
