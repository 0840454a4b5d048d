//! Text forms of values, by the types' input and output functions.

use meridian_types::{Datum, EvalContext, PgType, Result};

/// The text form of a value.
pub(crate) fn text_out(value: &Datum, ty: PgType, ctx: &EvalContext) -> Result<String> {
    meridian_types::io::to_text(value, ty, ctx)
}

/// A value from its text form, with the type's modifier.
pub(crate) fn text_in(text: &str, ty: PgType, ctx: &EvalContext) -> Result<Datum> {
    meridian_types::io::text_in(ty.oid, ty.typmod, text, ctx)
}
