//! Queries: the binder of relations.

use meridian_types::{PgError, Result};

use super::{Binder, BoundQuery};
use crate::ast;

/// What the binder of relations remembers while it walks a statement.
#[derive(Debug, Default)]
pub struct RelationState {}

impl Binder<'_> {
    /// Binds a query. On return the stack of scopes is as it was before.
    pub fn bind_query(&mut self, _query: &ast::Query) -> Result<BoundQuery> {
        Err(PgError::unsupported("queries are not supported yet"))
    }
}
