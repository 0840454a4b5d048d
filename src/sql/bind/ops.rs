//! Small questions about types and operators that the binder of relations asks.

use std::sync::Arc;

use meridian_catalog::Relation;
use meridian_types::builtin::{self, BtreeFamily};
use meridian_types::oid::{Oid, UNKNOWN};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::Binder;
use crate::expr::{Expr, ExprKind};

impl Binder<'_> {
    /// A type has an order, or 42883 as PostgreSQL words it.
    pub(crate) fn check_sortable(&self, ty: Oid, position: Option<u32>) -> Result<()> {
        if self.is_sortable(ty) {
            return Ok(());
        }
        let text =
            format!("could not identify an ordering operator for type {}", self.display_type(ty));
        let hint = "Use an explicit ordering operator or modify the query.";
        Err(PgError::new(SqlState::UNDEFINED_FUNCTION, text).hint(hint).at(position))
    }

    /// A type has an order.
    pub(crate) fn is_sortable(&self, ty: Oid) -> bool {
        ty == UNKNOWN || BtreeFamily::of(ty).is_some() || self.user_type(ty)
    }

    /// A type has an equality, by order or by hash.
    pub(crate) fn check_hashable_or_sortable(&self, ty: Oid, position: Option<u32>) -> Result<()> {
        if ty == UNKNOWN
            || BtreeFamily::of(ty).is_some()
            || builtin::hash_equality(ty).is_some()
            || self.user_type(ty)
        {
            return Ok(());
        }
        let text =
            format!("could not identify an equality operator for type {}", self.display_type(ty));
        Err(PgError::new(SqlState::UNDEFINED_FUNCTION, text).at(position))
    }

    /// A type that is not built in: an enum, domain or row type, all of which are ordered.
    fn user_type(&self, ty: Oid) -> bool {
        builtin::type_by_oid(ty).is_none()
    }

    /// The fields of a composite type.
    pub(crate) fn composite_fields(&self, ty: Oid) -> Option<Vec<(Arc<str>, PgType)>> {
        let relation = self.catalog.relation_by_row_type(ty)?;
        let fields = match relation {
            Relation::Table(t) => t
                .columns
                .iter()
                .filter(|c| !c.dropped && !c.hidden)
                .map(|c| (Arc::from(c.name.as_str()), c.ty))
                .collect(),
            Relation::View(v) => {
                v.columns.iter().map(|(n, t)| (Arc::from(n.as_str()), *t)).collect()
            }
            Relation::Virtual(v) => v.columns.iter().map(|(n, t)| (Arc::from(*n), *t)).collect(),
            Relation::Sequence(_) | Relation::Index(..) => return None,
        };
        Some(fields)
    }

    /// The fields of a row value: of a composite type, a row constructor or a record function.
    pub(crate) fn row_fields(&self, row: &Expr) -> Option<Vec<(Arc<str>, PgType)>> {
        if let Some(fields) = self.composite_fields(row.ty.oid) {
            return Some(fields);
        }
        if let Some(shape) = meridian_types::shape::of(row.ty) {
            return Some(shape.to_vec());
        }
        match &row.kind {
            ExprKind::Row(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, e)| (Arc::from(format!("f{}", i + 1)), e.ty))
                    .collect(),
            ),
            ExprKind::Call { func, args } => super::from_function::out_fields(func, args),
            ExprKind::Column(id) => {
                let sets = self.scopes.iter().flat_map(|s| &s.sets);
                let set = sets.into_iter().find(|s| s.column.id == *id)?;
                super::from_function::out_fields(&set.func, &set.args)
            }
            _ => None,
        }
    }
}
