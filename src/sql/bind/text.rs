//! SQL text out of the catalog: views, defaults, checks, generated columns.
//!
//! Such text is bound as if alone: no scope, CTE or parameter of the statement around it can be
//! seen, and its errors carry no position, since the client never wrote it.

use std::sync::LazyLock;

use meridian_types::{PgType, Result};

use super::query::CteName;
use super::scope::{Scope, ScopeItem};
use super::{Binder, Clause};
use crate::expr::{ColumnId, Expr};
use crate::parse::Source;
use crate::resolve::CoercionContext;

pub(crate) use crate::parse::parse_query;

static HIDDEN: LazyLock<Source> = LazyLock::new(Source::default);

/// What of the statement is out of sight while other text is bound.
pub(crate) struct Hidden<'a> {
    scopes: Vec<Scope>,
    ctes: Vec<CteName>,
    source: &'a Source,
    outer_log: Vec<(usize, ColumnId)>,
    params: Vec<PgType>,
    open: bool,
    aggregates: super::AggregateState,
}

impl<'a> Binder<'a> {
    /// Begins to bind other text.
    pub(crate) fn enter_text(&mut self) -> Hidden<'a> {
        Hidden {
            scopes: std::mem::take(&mut self.scopes),
            ctes: std::mem::take(&mut self.relations.ctes),
            source: std::mem::replace(&mut self.source, &HIDDEN),
            outer_log: std::mem::take(&mut self.outer_log),
            params: std::mem::take(&mut self.params),
            open: std::mem::replace(&mut self.params_open, false),
            aggregates: std::mem::take(&mut self.aggregates),
        }
    }

    /// Comes back to the statement.
    pub(crate) fn leave_text(&mut self, hidden: Hidden<'a>) {
        self.scopes = hidden.scopes;
        self.relations.ctes = hidden.ctes;
        self.source = hidden.source;
        self.outer_log = hidden.outer_log;
        self.params = hidden.params;
        self.params_open = hidden.open;
        self.aggregates = hidden.aggregates;
    }

    /// Binds an expression of the catalog over the columns of `items`, coerced to `ty`.
    pub(crate) fn bind_text(
        &mut self,
        text: &str,
        items: Vec<ScopeItem>,
        clause: Clause,
        ty: PgType,
    ) -> Result<Expr> {
        let parsed = crate::parse::parse_expression(text)?;
        let hidden = self.enter_text();
        self.scopes.push(Scope::with_items(items));
        let bound = self
            .bind_expr(&parsed, clause)
            .and_then(|e| self.coerce_to(e, ty, CoercionContext::Assignment, None));
        self.leave_text(hidden);
        bound
    }
}
