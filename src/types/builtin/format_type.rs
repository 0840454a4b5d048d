//! Type names as messages and `format_type()` write them.

use super::{array_element, type_by_oid};
use crate::oid::{self, Oid};

/// The `typname` of a built-in type, or `???`.
pub fn type_name(type_oid: Oid) -> &'static str {
    type_by_oid(type_oid).map_or("???", |r| r.name)
}

/// SQL's name of a type with its modifier (pass −1 for none): `character varying(5)`,
/// `numeric(10,2)`, `timestamp without time zone`, `integer[]`.
pub fn format_type(type_oid: Oid, typmod: i32) -> String {
    if let Some(elem) =
        array_element(type_oid).filter(|_| !matches!(type_oid, oid::INT2VECTOR | oid::OIDVECTOR))
    {
        return format!("{}[]", format_type(elem, typmod));
    }
    let length = |name: &str, header: i32| match typmod {
        m if m >= header => format!("{name}({})", m - header),
        _ => name.to_owned(),
    };
    let precision = |name: &str, rest: &str| match typmod {
        m if m >= 0 => format!("{name}({m}){rest}"),
        _ => format!("{name}{rest}"),
    };
    match type_oid {
        oid::BOOL => "boolean".into(),
        oid::INT2 => "smallint".into(),
        oid::INT4 => "integer".into(),
        oid::INT8 => "bigint".into(),
        oid::FLOAT4 => "real".into(),
        oid::FLOAT8 => "double precision".into(),
        oid::CHAR => "\"char\"".into(),
        // A bpchar without length is not `character`, which would mean `character(1)`.
        oid::BPCHAR if typmod >= 4 => length("character", 4),
        oid::BPCHAR => {
            if typmod == -1 {
                "character".into()
            } else {
                "bpchar".into()
            }
        }
        oid::VARCHAR => length("character varying", 4),
        oid::BIT => length("bit", 1),
        oid::VARBIT => length("bit varying", 1),
        oid::NUMERIC if typmod >= 4 => {
            let (precision, scale) = numeric_typmod(typmod);
            format!("numeric({precision},{scale})")
        }
        oid::TIME => precision("time", " without time zone"),
        oid::TIMETZ => precision("time", " with time zone"),
        oid::TIMESTAMP => precision("timestamp", " without time zone"),
        oid::TIMESTAMPTZ => precision("timestamp", " with time zone"),
        oid::INTERVAL => format_interval(typmod),
        _ => match type_by_oid(type_oid) {
            Some(row) if typmod >= 0 => format!("{}({typmod})", row.name),
            Some(row) => row.name.to_owned(),
            None => "???".into(),
        },
    }
}

/// Precision and scale of a `numeric` modifier (≥ 4).
pub(crate) fn numeric_typmod(typmod: i32) -> (i32, i32) {
    let m = typmod - 4;
    ((m >> 16) & 0xffff, ((m & 0x7ff) ^ 1024) - 1024)
}

fn format_interval(typmod: i32) -> String {
    if typmod < 0 {
        return "interval".into();
    }
    let (range, precision) = ((typmod >> 16) & 0x7fff, typmod & 0xffff);
    let fields = match range {
        0x4 => " year",
        0x2 => " month",
        0x8 => " day",
        0x400 => " hour",
        0x800 => " minute",
        0x1000 => " second",
        0x6 => " year to month",
        0x408 => " day to hour",
        0xc08 => " day to minute",
        0x1c08 => " day to second",
        0xc00 => " hour to minute",
        0x1c00 => " hour to second",
        0x1800 => " minute to second",
        _ => "",
    };
    match precision {
        0xffff => format!("interval{fields}"),
        p => format!("interval{fields}({p})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_format_type() {
        assert_eq!(format_type(oid::VARCHAR, 9), "character varying(5)");
        assert_eq!(format_type(oid::NUMERIC, ((10 << 16) | 2) + 4), "numeric(10,2)");
        assert_eq!(format_type(oid::INT4_ARRAY, -1), "integer[]");
        assert_eq!(format_type(oid::TIMESTAMPTZ, 3), "timestamp(3) with time zone");
        assert_eq!(format_type(oid::BPCHAR, -1), "character");
    }
}
