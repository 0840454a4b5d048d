//! Names and types: from the syntax tree to typed expressions and relations.
//!
//! A [`Binder`] serves one statement. It resolves names against a [`CatalogView`] and a stack of
//! [`Scope`]s, gives out [`ColumnId`]s, and infers parameter types as PostgreSQL's parse analysis
//! does. Scalar expressions are bound in `expr*.rs`, relations in `query.rs` and its siblings.
//!
//! How an expression reaches the plan: `bind_expr` returns an `Expr` in which every aggregate,
//! window call and set-returning call was replaced by `Column(id)` and put into the list of the
//! scope that it belongs to. The binder of SELECT reads these lists afterwards and builds
//! `Aggregate`, `Window` and `ProjectSet` below the projection.

use std::sync::Arc;

use meridian_catalog::{Relation, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{EvalContext, PgError, PgType, Result, SqlState};

use crate::ast;
use crate::expr::{ColumnId, Subquery};
use crate::parse::Source;
use crate::plan::TableLock;
use crate::rel::{Column, Rel};

pub mod clause;
mod conflict;
mod cte;
mod expr;
mod expr_call;
mod expr_name;
mod expr_row;
#[cfg(test)]
mod expr_tests;
mod from;
mod from_function;
mod group;
mod insert;
mod join;
mod lock;
mod modify;
mod ops;
mod padded;
mod part;
pub mod query;
mod recursion;
mod same;
pub mod scope;
mod search;
mod select;
mod setop;
pub mod statement;
mod target;
mod text;
mod update;
mod values;
mod window;
mod write_target;

pub use clause::Clause;
pub use scope::{
    AggregateRef, ColumnUse, GroupingRef, Scope, ScopeColumn, ScopeItem, SetRef, WindowRef,
};

/// What the binder asks of the catalog. Implemented over a catalog snapshot and a session.
pub trait CatalogView {
    /// The relation of this name: in `schema`, or the first along the search path (with
    /// `pg_temp` and `pg_catalog` in their implicit places).
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Relation>;

    /// The relation with this `pg_class` oid.
    fn relation_by_oid(&self, oid: Oid) -> Option<Relation>;

    /// The relation whose row type this is.
    fn relation_by_row_type(&self, oid: Oid) -> Option<Relation>;

    /// Oid of the schema of this name.
    fn schema_oid(&self, name: &str) -> Option<Oid>;

    /// Name of the schema with this oid.
    fn schema_name(&self, oid: Oid) -> Option<Arc<str>>;

    /// A type of the user's (row type, enum, domain …); built-in types are not asked for here.
    fn type_by_name(&self, schema: Option<&str>, name: &str) -> Option<Oid>;

    /// Name of a type of the user's, qualified when it is not on the search path.
    fn type_name(&self, oid: Oid) -> Option<Arc<str>>;

    /// The facts of a type of the user's that is no row type: enum, domain, array.
    fn type_info(&self, oid: Oid) -> Option<crate::resolve::TypeInfo> {
        let _ = oid;
        None
    }

    /// 42501 unless a relation may be read by this role, or by the current one. With `named`, its
    /// schema was written and has to be usable.
    fn check_readable(&self, relation: &Relation, role: Option<Oid>, named: bool) -> Result<()> {
        let _ = (relation, role, named);
        Ok(())
    }

    /// 42501 unless a relation may be written by this role, or by the current one; the letter is the
    /// privilege's in access lists.
    fn check_writable(&self, relation: &Relation, role: Option<Oid>, letter: char) -> Result<()> {
        let _ = (relation, role, letter);
        Ok(())
    }

    /// Current database.
    fn database(&self) -> &str;

    /// Current role.
    fn user(&self) -> &str;
}

/// A query that was bound: its relation and its output, in order.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    /// The relation.
    pub rel: Rel,
    /// Output columns, in order; other columns of `rel` are not visible.
    pub columns: Vec<Column>,
    /// Table columns that the output columns are: (table oid, attnum).
    pub origins: Vec<Option<(Oid, i16)>>,
}

/// The binder of one statement.
pub struct Binder<'a> {
    /// The catalog.
    pub catalog: &'a dyn CatalogView,
    /// The session, for literals whose reading depends on it, and for constant folding.
    pub eval: &'a EvalContext,
    /// The statement's text, for positions.
    pub source: &'a Source,
    /// Types of the parameters; `UNKNOWN` until inferred.
    pub params: Vec<PgType>,
    /// Query levels, the innermost last.
    pub scopes: Vec<Scope>,
    /// Tables met, with the lock that each needs.
    pub tables: Vec<(Arc<TableDesc>, TableLock)>,
    /// State of the binder of relations (CTEs in sight and so on).
    pub relations: query::RelationState,
    /// See [`crate::plan::Query::aliases`].
    pub(crate) aliases: crate::plan::Aliases,
    /// See [`crate::plan::Query::trusted`].
    pub(crate) trusted: std::collections::BTreeSet<Oid>,
    pub(crate) next_column: u32,
    /// Parameters that the text may not name: the statement has none.
    pub(crate) params_open: bool,
    /// References that left their level: (index of the scope that has the column, column).
    pub(crate) outer_log: Vec<(usize, ColumnId)>,
    pub(crate) aggregates: AggregateState,
    pub(crate) depth: u32,
}

/// What is known while the arguments of an aggregate are bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct AggregateState {
    /// Bound inside the arguments of an aggregate.
    pub(crate) inside: bool,
    /// Bound inside the arguments of a window function.
    pub(crate) inside_window: bool,
    /// Innermost scope whose columns the arguments read.
    pub(crate) level: Option<usize>,
}

impl<'a> Binder<'a> {
    /// A binder for one statement. `params` are the types that the client gave (`UNKNOWN` or 0
    /// where it left one open); with `open`, further parameters may be named and are inferred.
    pub fn new(
        catalog: &'a dyn CatalogView,
        eval: &'a EvalContext,
        source: &'a Source,
        params: &[PgType],
        open: bool,
    ) -> Binder<'a> {
        let params = params
            .iter()
            .map(|p| if p.oid == 0 { PgType::new(oid::UNKNOWN) } else { *p })
            .collect();
        Binder {
            catalog,
            eval,
            source,
            params,
            scopes: Vec::new(),
            tables: Vec::new(),
            relations: query::RelationState::default(),
            aliases: crate::plan::Aliases::new(),
            trusted: std::collections::BTreeSet::new(),
            next_column: 0,
            params_open: open,
            outer_log: Vec::new(),
            aggregates: AggregateState::default(),
            depth: 0,
        }
    }

    /// A column id that no one else has.
    pub fn new_column_id(&mut self) -> ColumnId {
        let id = ColumnId(self.next_column);
        self.next_column += 1;
        id
    }

    /// A new output column.
    pub fn new_column(&mut self, name: impl Into<Arc<str>>, ty: PgType) -> Column {
        Column { id: self.new_column_id(), name: name.into(), ty }
    }

    /// The innermost query level. A level is there while any expression is bound.
    pub fn scope(&mut self) -> &mut Scope {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        self.scopes.last_mut().expect("one was pushed just now")
    }

    /// Notes a table and the lock that the statement needs on it.
    pub fn note_table(&mut self, table: &Arc<TableDesc>, lock: TableLock) {
        match self.tables.iter_mut().find(|(t, _)| t.oid == table.oid) {
            Some((_, held)) => *held = (*held).max(lock),
            None => self.tables.push((table.clone(), lock)),
        }
    }

    /// Binds a query inside an expression; its references to the levels outside become `outer`.
    pub(crate) fn bind_subquery(&mut self, query: &ast::Query) -> Result<(Subquery, Vec<Column>)> {
        let base = self.scopes.len();
        let mark = self.outer_log.len();
        let saved = std::mem::take(&mut self.aggregates);
        let bound = self.bind_query(query);
        self.aggregates = saved;
        // What the query reads of its own levels does not tell an aggregate around it its level.
        let read = self.outer_log[mark..].iter().map(|(level, _)| *level);
        let level = read.filter(|level| *level < base).max();
        self.aggregates.level = self.aggregates.level.max(level);
        let bound = bound?;
        let mut outer = Vec::new();
        for (level, id) in &self.outer_log[mark..] {
            if *level < base && !outer.contains(id) {
                outer.push(*id);
            }
        }
        let output = bound.columns.iter().map(|c| c.id).collect();
        Ok((Subquery { plan: Arc::new(bound.rel), output, outer }, bound.columns))
    }

    /// Every parameter must have got a type: 42P18 otherwise. To be called at the end.
    pub fn finish_params(&self) -> Result<Vec<PgType>> {
        match self.params.iter().position(|p| p.oid == oid::UNKNOWN) {
            Some(i) => Err(PgError::new(
                SqlState::INDETERMINATE_DATATYPE,
                format!("could not determine data type of parameter ${}", i + 1),
            )),
            None => Ok(self.params.clone()),
        }
    }
}
