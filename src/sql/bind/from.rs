//! FROM: tables, views, sub-queries, functions, joins.
//!
//! While an item is bound, the items before it are in the scope as `lateral_only`: only LATERAL
//! sub-queries and functions see them. An item that did read them makes an `Apply`, any other a
//! `Join`. After the last item everything is visible.

use std::sync::Arc;

use meridian_catalog::{Relation, TableDesc, ViewDesc, VirtualDesc};
use meridian_types::oid::OID;
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::query::{CteName, Refusal, one_row};
use super::scope::{ScopeColumn, ScopeItem};
use super::{Binder, BoundQuery};
use crate::ast;
use crate::expr::{Expr, ExprKind};
use crate::plan::TableLock;
use crate::rel::{Access, Column, JoinKind, Rel};
use crate::walk;

/// Deepest nesting of views.
pub(crate) const VIEW_DEPTH: usize = 64;

/// A bound FROM item: its relation and what can be named of it.
pub(crate) type BoundItem = (Rel, Vec<ScopeItem>);

impl Binder<'_> {
    /// Binds FROM into the innermost scope; one row without columns when it is empty.
    pub(crate) fn bind_from(&mut self, from: &[ast::TableWithJoins]) -> Result<Rel> {
        let mut rel: Option<Rel> = None;
        for item in from {
            let (right, items) = self.bind_table_with_joins(item)?;
            self.check_aliases(&items)?;
            rel = Some(match rel {
                None => right,
                Some(left) => cross(left, right),
            });
            let scope = self.scope();
            let items = items.into_iter().map(|mut i| {
                (i.lateral_only, i.lateral_ok) = (true, true);
                i
            });
            scope.items.extend(items);
        }
        self.scope().items.iter_mut().for_each(|i| (i.lateral_only, i.lateral_ok) = (false, true));
        Ok(rel.unwrap_or_else(one_row))
    }

    pub(crate) fn bind_table_with_joins(
        &mut self,
        item: &ast::TableWithJoins,
    ) -> Result<BoundItem> {
        let mut left = self.bind_factor(&item.relation)?;
        for join in &item.joins {
            left = self.bind_join(left, join)?;
        }
        Ok(left)
    }

    /// No two items of one FROM may have one name.
    fn check_aliases(&self, new: &[ScopeItem]) -> Result<()> {
        let old = &self.scopes.last().expect("FROM is bound inside a level").items;
        check_conflicts(old, new)
    }

    /// One item, without the joins that follow it.
    pub(crate) fn bind_factor(&mut self, factor: &ast::TableFactor) -> Result<BoundItem> {
        match factor {
            ast::TableFactor::Table { name, alias, args: None, sample, .. } => {
                if sample.is_some() {
                    return Err(PgError::unsupported("TABLESAMPLE is not supported yet"));
                }
                self.bind_relation(name, alias.as_ref())
            }
            ast::TableFactor::Derived { lateral, subquery, alias, .. } => {
                self.bind_derived(*lateral, subquery, alias.as_ref())
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => {
                let bound = self.bind_table_with_joins(table_with_joins)?;
                match alias {
                    Some(alias) => self.alias_join(bound, alias),
                    None => Ok(bound),
                }
            }
            ast::TableFactor::Table { .. }
            | ast::TableFactor::Function { .. }
            | ast::TableFactor::UNNEST { .. }
            | ast::TableFactor::TableFunction { .. } => self.bind_from_function(factor),
            _ => Err(PgError::unsupported("this kind of FROM item is not supported yet")),
        }
    }

    /// A name in FROM: a CTE, else a relation of the catalog.
    fn bind_relation(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
    ) -> Result<BoundItem> {
        let (schema, table, position) = self.split_name(name)?;
        if table == crate::parse::NO_TABLE {
            return Ok((one_row(), vec![]));
        }
        if schema.is_none()
            && let Some(cte) = self.relations.ctes.iter().rev().find(|c| *c.name == *table)
        {
            let cte = cte.clone();
            return self.bind_cte_scan(&cte, alias, position);
        }
        let relation = self.find_relation(schema.as_deref(), &table, position)?;
        let role = self.relations.view_owners.last().copied();
        let readable = self.catalog.check_readable(&relation, role, schema.is_some());
        readable.map_err(|e| {
            if e.fields().message.contains("for schema") { e.at(position) } else { e }
        })?;
        let (rel, columns, row_type) = match &relation {
            Relation::Table(desc) => {
                self.note_table(desc, TableLock::AccessShare);
                let (rel, columns) = self.scan(desc, false);
                (rel, columns, desc.row_type)
            }
            Relation::Virtual(desc) => {
                let (rel, columns) = self.virtual_scan(desc);
                (rel, columns, desc.row_type)
            }
            Relation::View(view) => {
                let (rel, columns) = self.expand_view(view)?;
                (rel, columns, view.row_type)
            }
            Relation::Sequence(sequence) => {
                let text = format!("cannot read sequence \"{}\" as a table yet", sequence.name);
                return Err(PgError::unsupported(text).at(position));
            }
            Relation::Index(desc, index) => {
                let found = desc.indexes.iter().find(|i| i.index_id == *index);
                let text = format!(
                    "cannot open relation \"{}\"",
                    found.map_or(desc.name.as_str(), |i| i.name.as_str())
                );
                let detail = "This operation is not supported for indexes.";
                let error = PgError::new(SqlState::WRONG_OBJECT_TYPE, text).detail(detail);
                return Err(error.at(position));
            }
        };
        let mut item = ScopeItem::new(Some(Arc::from(table.as_str())), columns);
        item.row_type = row_type;
        item.lateral_ok = true;
        if alias.is_none() {
            item.schema = match schema {
                Some(s) => Some(Arc::from(s)),
                None => self.schema_of(&relation),
            };
        }
        apply_alias(&mut item, alias, &table)?;
        self.note_alias(&item, alias.is_some());
        Ok((rel, vec![item]))
    }

    /// Notes the alias of an item, for EXPLAIN. A view's own relations keep theirs.
    pub(crate) fn note_alias(&mut self, item: &ScopeItem, given: bool) {
        let Some(alias) = item.alias.as_ref().filter(|_| given) else { return };
        for column in &item.columns {
            if let ExprKind::Column(id) = column.expr.kind {
                self.aliases.entry(id).or_insert_with(|| alias.clone());
            }
        }
    }

    fn schema_of(&self, relation: &Relation) -> Option<Arc<str>> {
        let oid = match relation {
            Relation::Table(t) | Relation::Index(t, _) => t.schema,
            Relation::Sequence(s) => s.schema,
            Relation::View(v) => v.schema,
            Relation::Virtual(v) => v.schema,
        };
        self.catalog.schema_name(oid)
    }

    /// The relation, or 42P01.
    pub(crate) fn find_relation(
        &self,
        schema: Option<&str>,
        name: &str,
        position: Option<u32>,
    ) -> Result<Relation> {
        if let Some(found) = self.catalog.relation(schema, name) {
            return Ok(found);
        }
        let text = match schema {
            Some(s) => format!("relation \"{s}.{name}\" does not exist"),
            None => format!("relation \"{name}\" does not exist"),
        };
        Err(PgError::new(SqlState::UNDEFINED_TABLE, text).at(position))
    }

    /// (schema, name, position) of a possibly qualified name.
    pub(crate) fn split_name(
        &self,
        name: &ast::ObjectName,
    ) -> Result<(Option<String>, String, Option<u32>)> {
        let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        let position = idents.first().and_then(|i| self.source.position(i.span.start));
        match idents.as_slice() {
            [table] => Ok((None, table.value.clone(), position)),
            [schema, table] => Ok((Some(schema.value.clone()), table.value.clone(), position)),
            [database, schema, table] => {
                if database.value != self.catalog.database() {
                    let text = format!(
                        "cross-database references are not implemented: \"{}.{}.{}\"",
                        database.value, schema.value, table.value
                    );
                    return Err(PgError::unsupported(text).at(position));
                }
                Ok((Some(schema.value.clone()), table.value.clone(), position))
            }
            _ => {
                let text = format!("improper relation name (too many dotted names): {name}");
                Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position))
            }
        }
    }

    /// A scan of the columns that can be named; of all columns, and the key, for `writing`.
    pub(crate) fn scan(&mut self, desc: &Arc<TableDesc>, writing: bool) -> (Rel, Vec<ScopeColumn>) {
        let mut columns = Vec::with_capacity(desc.columns.len());
        let mut visible = Vec::with_capacity(desc.columns.len());
        for c in &desc.columns {
            let hidden = c.dropped || c.hidden;
            if hidden && !writing {
                continue;
            }
            let column = self.new_column(c.name.as_str(), c.ty);
            if !hidden {
                let mut entry = ScopeColumn::new(column.name.clone(), column.id, column.ty);
                entry.origin = Some((desc.oid, c.attnum));
                visible.push(entry);
            }
            columns.push((column, c.attnum));
        }
        if writing {
            let id = self.new_column_id();
            columns.push((super::lock::key_column(id), 0));
        }
        visible.push(table_oid(desc.oid));
        let rel = Rel::Scan { table: desc.clone(), columns, filter: vec![], access: Access::Full };
        (rel, visible)
    }

    fn virtual_scan(&mut self, desc: &Arc<VirtualDesc>) -> (Rel, Vec<ScopeColumn>) {
        let mut columns = Vec::with_capacity(desc.columns.len());
        let mut visible = Vec::with_capacity(desc.columns.len());
        for (i, (name, ty)) in desc.columns.iter().enumerate() {
            let column = self.new_column(*name, *ty);
            let mut entry = ScopeColumn::new(column.name.clone(), column.id, *ty);
            entry.origin = i16::try_from(i + 1).ok().map(|attnum| (desc.oid, attnum));
            visible.push(entry);
            columns.push((column, i));
        }
        visible.push(table_oid(desc.oid));
        (Rel::Virtual { table: desc.clone(), columns, filter: vec![] }, visible)
    }

    /// Binds a view's query as if it stood here, seeing nothing of the statement around it.
    fn expand_view(&mut self, view: &Arc<ViewDesc>) -> Result<(Rel, Vec<ScopeColumn>)> {
        if self.relations.views.contains(&view.oid) || self.relations.views.len() >= VIEW_DEPTH {
            let text =
                format!("infinite recursion detected in rules for relation \"{}\"", view.name);
            return Err(PgError::new(SqlState::INVALID_OBJECT_DEFINITION, text));
        }
        let query = super::text::parse_query(&view.query)?;
        let hidden = self.enter_text();
        self.relations.views.push(view.oid);
        self.relations.view_owners.push(view.owner);
        let bound = self.bind_query(&query);
        self.relations.view_owners.pop();
        self.relations.views.pop();
        self.leave_text(hidden);
        let bound = bound?;
        let mut exprs: Vec<(Column, Expr)> = Vec::with_capacity(view.columns.len());
        let mut columns = Vec::with_capacity(view.columns.len());
        for (i, ((name, ty), inner)) in view.columns.iter().zip(&bound.columns).enumerate() {
            let column = self.new_column(name.as_str(), *ty);
            let mut entry = ScopeColumn::new(column.name.clone(), column.id, *ty);
            entry.origin = i16::try_from(i + 1).ok().map(|attnum| (view.oid, attnum));
            columns.push(entry);
            exprs.push((column, Expr::column(inner.id, inner.ty)));
        }
        Ok((Rel::Project { input: Box::new(bound.rel), exprs }, columns))
    }

    fn bind_derived(
        &mut self,
        lateral: bool,
        query: &ast::Query,
        alias: Option<&ast::TableAlias>,
    ) -> Result<BoundItem> {
        let Some(alias) = alias else {
            let values = matches!(query.body.as_ref(), ast::SetExpr::Values(_));
            let what = if values { "VALUES" } else { "subquery" };
            let example = if values { "(VALUES ...)" } else { "(SELECT ...)" };
            let hint = format!("For example, FROM {example} [AS] foo.");
            let text = format!("{what} in FROM must have an alias");
            // PostgreSQL points at the parenthesis.
            let start = crate::parse::source::start_of_query(query);
            let position = self.source.position(start).map(|p| p.saturating_sub(1));
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).hint(hint).at(position));
        };
        let was = std::mem::replace(&mut self.scope().lateral, lateral);
        let bound = self.bind_query(query);
        self.scope().lateral = was;
        let bound = bound?;
        let mut item = derived_item(&bound);
        item.lateral_ok = true;
        apply_alias(&mut item, Some(alias), "")?;
        Ok((bound.rel, vec![item]))
    }

    fn bind_cte_scan(
        &mut self,
        cte: &CteName,
        alias: Option<&ast::TableAlias>,
        position: Option<u32>,
    ) -> Result<BoundItem> {
        match cte.refusal {
            Some(Refusal::NonRecursiveTerm) => {
                let text = format!(
                    "recursive reference to query \"{}\" must not appear within its non-recursive term",
                    cte.name
                );
                return Err(PgError::new(SqlState::INVALID_RECURSION, text).at(position));
            }
            Some(Refusal::NoReturning) => {
                let text = format!("WITH query \"{}\" does not have a RETURNING clause", cte.name);
                return Err(PgError::unsupported(text).at(position));
            }
            None => {}
        }
        let mut columns = Vec::with_capacity(cte.columns.len());
        let mut visible = Vec::with_capacity(cte.columns.len());
        let shown = cte.columns.len() - cte.hidden;
        for (i, (c, origin)) in cte.columns.iter().zip(&cte.origins).enumerate() {
            let column = self.new_column(c.name.clone(), c.ty);
            let mut entry = ScopeColumn::new(c.name.clone(), column.id, c.ty);
            entry.origin = *origin;
            entry.system = i >= shown;
            visible.push(entry);
            columns.push(column);
        }
        let mut item = ScopeItem::new(Some(cte.name.clone()), visible);
        item.lateral_ok = true;
        apply_alias(&mut item, alias, &cte.name)?;
        self.note_alias(&item, alias.is_some());
        Ok((Rel::CteScan { cte: cte.id, columns }, vec![item]))
    }
}

/// A bound query as a FROM item.
pub(crate) fn derived_item(bound: &BoundQuery) -> ScopeItem {
    let columns = bound.columns.iter().zip(&bound.origins).map(|(c, origin)| {
        let mut column = ScopeColumn::new(c.name.clone(), c.id, c.ty);
        column.origin = *origin;
        column
    });
    ScopeItem::new(None, columns.collect())
}

/// The system column `tableoid`.
fn table_oid(oid: u32) -> ScopeColumn {
    ScopeColumn {
        name: Arc::from("tableoid"),
        expr: Expr::constant(Datum::Oid(oid), PgType::new(OID)),
        origin: None,
        system: true,
    }
}

/// Joins without a condition; an `Apply` when the right side reads the left one.
pub(crate) fn cross(left: Rel, right: Rel) -> Rel {
    combine(JoinKind::Inner, left, right, vec![])
}

/// A join, or an `Apply` when the right side reads the left one.
pub(crate) fn combine(kind: JoinKind, left: Rel, right: Rel, on: Vec<Expr>) -> Rel {
    let made = walk::output_set(&left);
    let lateral = walk::free_columns(&right).iter().any(|c| made.contains(c));
    let (left, right) = (Box::new(left), Box::new(right));
    if lateral {
        Rel::Apply { kind, left, right, on }
    } else {
        Rel::Join { kind, left, right, on, lookup: false }
    }
}

/// No two visible items may have one name, except tables of different schemas.
pub(crate) fn check_conflicts(old: &[ScopeItem], new: &[ScopeItem]) -> Result<()> {
    for item in new.iter().filter(|i| i.table_visible) {
        let Some(alias) = &item.alias else { continue };
        let clash = old.iter().filter(|o| o.table_visible && o.alias.as_ref() == Some(alias));
        for other in clash {
            if let (Some(a), Some(b)) = (&item.schema, &other.schema)
                && a != b
            {
                continue;
            }
            let text = format!("table name \"{alias}\" specified more than once");
            return Err(PgError::new(SqlState::DUPLICATE_ALIAS, text));
        }
    }
    Ok(())
}

/// Gives an item its alias and column aliases.
pub(crate) fn apply_alias(
    item: &mut ScopeItem,
    alias: Option<&ast::TableAlias>,
    relation: &str,
) -> Result<()> {
    let Some(alias) = alias else { return Ok(()) };
    let name = if alias.name.value.is_empty() { relation } else { &alias.name.value };
    item.alias = Some(Arc::from(name));
    item.schema = None;
    let available = item.columns.iter().filter(|c| !c.system).count();
    if alias.columns.len() > available {
        let text = format!(
            "table \"{name}\" has {available} columns available but {} columns specified",
            alias.columns.len()
        );
        return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text));
    }
    for (column, given) in item.columns.iter_mut().filter(|c| !c.system).zip(&alias.columns) {
        column.name = Arc::from(given.name.value.as_str());
    }
    Ok(())
}
