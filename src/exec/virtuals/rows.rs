//! Making rows of catalog relations, by column name.

use std::sync::Arc;

use meridian_catalog::VirtualDesc;
use meridian_types::Datum;
use meridian_types::datum::ArrayValue;
use meridian_types::oid::{self, Oid};

/// Rows under construction. Columns that are not named are NULL.
pub(crate) struct Rows {
    width: usize,
    places: Vec<usize>,
    rows: Vec<Vec<Datum>>,
}

impl Rows {
    /// For a relation, of which these columns will be given, in this order.
    pub(crate) fn new(desc: &VirtualDesc, names: &[&str]) -> Rows {
        let place = |name: &&str| {
            let found = desc.columns.iter().position(|(column, _)| column == name);
            debug_assert!(found.is_some(), "{} has no column {name}", desc.name);
            found.unwrap_or(usize::MAX)
        };
        Rows {
            width: desc.columns.len(),
            places: names.iter().map(place).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, values: Vec<Datum>) {
        debug_assert_eq!(values.len(), self.places.len());
        let mut row = vec![Datum::Null; self.width];
        for (place, value) in self.places.iter().zip(values) {
            if let Some(cell) = row.get_mut(*place) {
                *cell = value;
            }
        }
        self.rows.push(row);
    }

    /// All rows.
    pub(crate) fn finish(self) -> Vec<Vec<Datum>> {
        self.rows
    }
}

pub(crate) fn text(s: impl AsRef<str>) -> Datum {
    Datum::text(s)
}

pub(crate) fn opt_text(s: Option<impl AsRef<str>>) -> Datum {
    s.map_or(Datum::Null, Datum::text)
}

pub(crate) fn ch(c: u8) -> Datum {
    if c == 0 { Datum::text("") } else { Datum::text(char::from(c).to_string()) }
}

pub(crate) fn flag(b: bool) -> Datum {
    Datum::Bool(b)
}

pub(crate) fn oid(v: Oid) -> Datum {
    Datum::Oid(v)
}

pub(crate) fn int2(v: usize) -> Datum {
    Datum::Int2(i16::try_from(v).unwrap_or(i16::MAX))
}

pub(crate) fn int4(v: i32) -> Datum {
    Datum::Int4(v)
}

pub(crate) fn array(element: Oid, elements: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::from_elements(element, elements)))
}

pub(crate) fn int2_array(values: &[i16]) -> Datum {
    array(oid::INT2, values.iter().map(|v| Datum::Int2(*v)).collect())
}

/// `int2vector` or `oidvector`: subscripts begin at 0.
pub(crate) fn vector(element: Oid, elements: Vec<Datum>) -> Datum {
    let dims = vec![i32::try_from(elements.len()).unwrap_or(0)];
    Datum::Array(Arc::new(ArrayValue {
        element_type: element,
        dims,
        lower_bounds: vec![0],
        elements,
    }))
}

pub(crate) fn text_array(values: impl IntoIterator<Item = String>) -> Datum {
    array(oid::TEXT, values.into_iter().map(Datum::text).collect())
}
