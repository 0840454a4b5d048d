//! Shapes of rows: what the fields of an anonymous row are called, and their types.
//!
//! A value of type `record` carries its fields alone. What is known of them where the row is made
//! (`t` in `SELECT row_to_json(t) FROM (SELECT 1 AS a) t`) is kept here once per process, and the
//! type's modifier is its number, as in PostgreSQL. A row without a number has fields `f1`, `f2` …
//! of their values' own types.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

use crate::PgType;

/// Names and types of a row's fields.
pub type Shape = Arc<[(Arc<str>, PgType)]>;

/// Shapes kept. They are as many as a program's texts have rows; rows beyond it have no names.
const SHAPES_MAX: usize = 100_000;

#[derive(Default)]
struct Shapes {
    numbers: HashMap<Shape, i32>,
    all: Vec<Shape>,
}

static SHAPES: LazyLock<RwLock<Shapes>> = LazyLock::new(RwLock::default);

/// The modifier that stands for this shape; −1 when there are too many.
pub fn typmod(fields: Vec<(Arc<str>, PgType)>) -> i32 {
    let shape: Shape = fields.into();
    if let Ok(shapes) = SHAPES.read()
        && let Some(number) = shapes.numbers.get(&shape)
    {
        return *number;
    }
    let Ok(mut shapes) = SHAPES.write() else { return -1 };
    if let Some(number) = shapes.numbers.get(&shape) {
        return *number;
    }
    let Some(number) =
        i32::try_from(shapes.all.len()).ok().filter(|_| shapes.all.len() < SHAPES_MAX)
    else {
        return -1;
    };
    shapes.all.push(shape.clone());
    shapes.numbers.insert(shape, number);
    number
}

/// The shape of a row type's modifier.
pub fn of(ty: PgType) -> Option<Shape> {
    let row = ty.oid == crate::oid::RECORD || is_row_type(ty.oid);
    let number = usize::try_from(ty.typmod).ok().filter(|_| row)?;
    SHAPES.read().ok()?.all.get(number).cloned()
}

/// Row types of tables, the only types that are not built in.
pub fn is_row_type(type_oid: u32) -> bool {
    type_oid >= FIRST_NORMAL_OID
}

/// First OID given to a user's object, as in PostgreSQL.
const FIRST_NORMAL_OID: u32 = 16384;
