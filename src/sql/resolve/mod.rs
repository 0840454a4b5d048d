//! PostgreSQL's rules of types: which type a name means, which function or operator a call means,
//! how a value of one type becomes one of another.
//!
//! The facts are the rows of `meridian_types::builtin`; the algorithms are the ones that
//! PostgreSQL's manual describes in its chapter on type conversion. A literal starts as type
//! `unknown` and a parameter without a type likewise; every rule here says what happens to those.

use std::sync::Arc;

use meridian_types::builtin::{self, ProcRow};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use crate::bind::Binder;
use crate::expr::FuncRef;

mod coerce;
mod common;
mod function;
mod names;
mod operator;
mod pathway;
mod poly;
mod typmod;

pub use function::{Call, FunctionArgs, FunctionResolution};
pub(crate) use pathway::Pathway;
pub(crate) use poly::is_polymorphic;

/// How willingly a value changes its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CoercionContext {
    /// In an expression.
    Implicit,
    /// Into a column.
    Assignment,
    /// By CAST.
    Explicit,
}

/// What resolution needs to know of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// `typtype`
    pub typtype: char,
    /// `typcategory`
    pub category: char,
    /// `typispreferred`
    pub preferred: bool,
    /// Element type of a true array, else 0.
    pub element: Oid,
    /// Array type over it, else 0.
    pub array: Oid,
    /// Base type and modifier of a domain, else itself.
    pub base: PgType,
}

/// The function of a `pg_proc` row, as it is called.
pub(crate) fn func_ref(row: &ProcRow, operator: Option<&str>) -> FuncRef {
    FuncRef {
        oid: row.oid,
        name: Arc::from(row.name),
        prosrc: Arc::from(row.kernel().as_ref()),
        strict: row.strict,
        volatility: u8::try_from(row.volatile).unwrap_or(b'v'),
        operator: operator.map(Arc::from),
    }
}

impl Binder<'_> {
    /// The facts of a type; a pseudo-type's when it is not known.
    pub(crate) fn type_info(&self, ty: Oid) -> TypeInfo {
        if let Some(row) = builtin::type_by_oid(ty) {
            return TypeInfo {
                typtype: row.typtype,
                category: row.category,
                preferred: row.preferred,
                element: builtin::array_element(ty).unwrap_or(0),
                array: row.array,
                base: PgType::new(ty),
            };
        }
        if let Some(info) = self.catalog.type_info(ty) {
            return info;
        }
        let composite = self.catalog.relation_by_row_type(ty).is_some();
        let typtype = if composite { 'c' } else { 'p' };
        let category = if composite { 'C' } else { 'X' };
        let base = PgType::new(ty);
        TypeInfo { typtype, category, preferred: false, element: 0, array: 0, base }
    }

    /// The type under any number of domains.
    pub(crate) fn base_type(&self, ty: Oid) -> Oid {
        if ty < meridian_catalog::FIRST_NORMAL_OID { ty } else { self.type_info(ty).base.oid }
    }

    /// Name of a type for messages, as `format_type` gives it.
    pub fn display_type(&self, ty: Oid) -> String {
        self.display_typmod(PgType::new(ty))
    }

    /// Name of a type with its modifier.
    pub(crate) fn display_typmod(&self, ty: PgType) -> String {
        if ty.oid < meridian_catalog::FIRST_NORMAL_OID {
            return builtin::format_type(ty.oid, ty.typmod);
        }
        let info = self.type_info(ty.oid);
        match (self.catalog.type_name(ty.oid), info.element) {
            (_, element) if element != 0 => format!("{}[]", self.display_type(element)),
            (Some(name), _) => quote_qualified(&name),
            (None, _) => "???".to_owned(),
        }
    }

    /// The array type over an element type.
    pub(crate) fn array_type(&self, element: Oid) -> Option<Oid> {
        Some(self.type_info(element).array).filter(|a| *a != 0)
    }
}

/// Quotes each part of a dotted name that needs it, unless it is quoted already.
fn quote_qualified(name: &str) -> String {
    if name.contains('"') {
        return name.to_owned();
    }
    name.split('.').map(crate::deparse::quote_ident).collect::<Vec<_>>().join(".")
}

/// 42804
pub(crate) fn mismatch(message: String, position: Option<u32>) -> PgError {
    PgError::new(SqlState::DATATYPE_MISMATCH, message).at(position)
}

/// The row of a built-in function; that it exists is a fact of the built-in data.
pub(crate) fn proc_row(oid: Oid) -> Result<&'static ProcRow> {
    builtin::proc_by_oid(oid)
        .ok_or_else(|| PgError::internal(format!("cache lookup failed for function {oid}")))
}

/// Whether values of this type are rows.
pub(crate) fn is_record(info: &TypeInfo, ty: Oid) -> bool {
    ty == oid::RECORD || info.typtype == 'c'
}
