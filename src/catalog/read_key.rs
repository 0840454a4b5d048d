//! Values read back from keys, as far as keys hold them: for people who look at where ranges begin.

use meridian_types::Result;
use meridian_types::datum::Datum;
use meridian_types::numeric::Numeric;
use meridian_types::oid::{self, Oid};

use crate::key::{KeyKind, corrupt, take, take_escaped, take_value, unescape};

/// Reads one bare ascending column. `None`: of this type a key holds the order only.
pub(crate) fn value(key: &mut &[u8], ty: Oid) -> Result<Option<Datum>> {
    let kind = KeyKind::of(ty);
    if kind.reversible() {
        return take_value(key, ty).map(|value| Some(value.into_datum()));
    }
    Ok(match kind {
        KeyKind::F32 => {
            let ordered = u32::from_be_bytes(take(key)?);
            let bits = if ordered >> 31 == 1 { ordered ^ (1 << 31) } else { !ordered };
            Some(Datum::Float4(f32::from_bits(bits)))
        }
        KeyKind::F64 => {
            let ordered = u64::from_be_bytes(take(key)?);
            let bits = if ordered >> 63 == 1 { ordered ^ (1 << 63) } else { !ordered };
            Some(Datum::Float8(f64::from_bits(bits)))
        }
        KeyKind::Bpchar => {
            let bytes = unescape(take_escaped(key)?);
            Some(Datum::text(std::str::from_utf8(&bytes).map_err(|_| corrupt())?))
        }
        _ if ty == oid::NUMERIC => {
            let mut bytes = unescape(take_escaped(key)?).into_iter();
            Numeric::take_key(|| bytes.next()).map(Datum::Numeric)
        }
        _ => {
            take_escaped(key)?;
            None
        }
    })
}
