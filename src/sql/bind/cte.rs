//! WITH: plain, recursive and data-modifying common table expressions.
//!
//! `WITH RECURSIVE t AS (a UNION b)`: `a` is bound first and gives the columns; then `t` is visible
//! while `b` is bound, whose columns must have the types that `a` gave.

use std::sync::Arc;

use meridian_types::oid::{TEXT, UNKNOWN};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::query::{CteName, Refusal, Tail};
use super::{Binder, BoundQuery};
use crate::ast;
use crate::expr::{ColumnId, Expr};
use crate::rel::{Column, Cte, Rel};
use crate::resolve::CoercionContext;

impl Binder<'_> {
    /// Binds a WITH clause; its names stay in `relations.ctes` for the query that follows.
    pub(crate) fn bind_with(&mut self, with: &ast::With) -> Result<Vec<Cte>> {
        for (i, cte) in with.cte_tables.iter().enumerate() {
            let name = &cte.alias.name;
            if with.cte_tables[..i].iter().any(|c| c.alias.name.value == name.value) {
                let text = format!("WITH query name \"{}\" specified more than once", name.value);
                let position = self.source.position(name.span.start);
                return Err(PgError::new(SqlState::DUPLICATE_ALIAS, text).at(position));
            }
        }
        let order = if with.recursive {
            self.dependency_order(with)?
        } else {
            (0..with.cte_tables.len()).collect()
        };
        let mut out = Vec::with_capacity(order.len());
        for at in order {
            let cte = &with.cte_tables[at];
            let id = self.relations.next_cte;
            self.relations.next_cte += 1;
            let recursive = with.recursive && reads(&cte.query, &cte.alias.name.value);
            if !recursive && cte.from.is_some() {
                let position = self.source.position(cte.alias.name.span.start);
                let text = "WITH query is not recursive";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
            let bound =
                if recursive { self.bind_recursive(id, cte)? } else { self.bind_plain(id, cte)? };
            out.push(bound);
        }
        Ok(out)
    }

    /// WITH RECURSIVE lets a query read one that is written after it.
    fn dependency_order(&self, with: &ast::With) -> Result<Vec<usize>> {
        let tables = &with.cte_tables;
        let mut order: Vec<usize> = Vec::new();
        while order.len() < tables.len() {
            let ready = (0..tables.len()).find(|i| {
                !order.contains(i)
                    && (0..tables.len()).all(|j| {
                        j == *i
                            || order.contains(&j)
                            || !reads(&tables[*i].query, &tables[j].alias.name.value)
                    })
            });
            let Some(at) = ready else {
                let first = (0..tables.len()).find(|i| !order.contains(i)).unwrap_or(0);
                let name = &tables[first].alias.name;
                let position = self.source.position(name.span.start);
                let text = "mutual recursion between WITH items is not implemented";
                return Err(PgError::unsupported(text).at(position));
            };
            order.push(at);
        }
        Ok(order)
    }

    fn bind_plain(&mut self, id: u32, cte: &ast::Cte) -> Result<Cte> {
        let modifying = is_modifying(&cte.query);
        if modifying && self.relations.below_top {
            let text = "WITH clause containing a data-modifying statement must be at the top level";
            let position = self.source.position(cte.alias.name.span.start);
            return Err(PgError::unsupported(text).at(position));
        }
        let outer = std::mem::replace(&mut self.relations.below_top, true);
        let bound = self.bind_query(&cte.query);
        self.relations.below_top = outer;
        let mut bound = bound?;
        let columns = self.name_columns(&mut bound, cte)?;
        let refusal = (modifying && bound.columns.is_empty()).then_some(Refusal::NoReturning);
        self.relations.ctes.push(CteName {
            name: Arc::from(cte.alias.name.value.as_str()),
            id,
            columns: columns.clone(),
            hidden: 0,
            origins: bound.origins.clone(),
            refusal,
        });
        Ok(Cte {
            id,
            name: Arc::from(cte.alias.name.value.as_str()),
            columns,
            plan: bound.rel,
            recursive: None,
            union_all: false,
            materialized: materialized(cte),
        })
    }

    /// The columns of a CTE under the names of its column list, each with an id of its own.
    fn name_columns(&mut self, bound: &mut BoundQuery, cte: &ast::Cte) -> Result<Vec<Column>> {
        let given = &cte.alias.columns;
        let name = &cte.alias.name.value;
        if given.len() > bound.columns.len() {
            let text = format!(
                "WITH query \"{name}\" has {} columns available but {} columns specified",
                bound.columns.len(),
                given.len()
            );
            let position = self.source.position(cte.alias.name.span.start);
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(position));
        }
        let mut seen: Vec<ColumnId> = Vec::new();
        let mut columns = bound.columns.clone();
        let mut extra: Vec<(Column, Expr)> = Vec::new();
        for (i, column) in columns.iter_mut().enumerate() {
            if let Some(alias) = given.get(i) {
                column.name = Arc::from(alias.name.value.as_str());
            }
            // Positions must be distinct: the same column twice is copied.
            if seen.contains(&column.id) {
                let old = Expr::column(column.id, column.ty);
                column.id = self.new_column_id();
                extra.push((column.clone(), old));
            }
            seen.push(column.id);
        }
        let rel = std::mem::replace(&mut bound.rel, super::query::one_row());
        bound.rel = super::query::extended(rel, extra);
        Ok(columns)
    }

    fn bind_recursive(&mut self, id: u32, cte: &ast::Cte) -> Result<Cte> {
        let name: Arc<str> = Arc::from(cte.alias.name.value.as_str());
        let position = self.source.position(cte.alias.name.span.start);
        let form = || {
            let text = format!(
                "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
            );
            PgError::new(SqlState::INVALID_RECURSION, text).at(position)
        };
        let mark = self.relations.ctes.len();
        let inner = match &cte.query.with {
            Some(with) => self.bind_with(with)?,
            None => Vec::new(),
        };
        let ast::SetExpr::SetOperation { left, op: ast::SetOperator::Union, set_quantifier, right } =
            cte.query.body.as_ref()
        else {
            return Err(form());
        };
        let tail = Tail::of(&cte.query)?;
        if !tail.is_empty() {
            let what = if tail.order_by.is_empty() { "LIMIT" } else { "ORDER BY" };
            let text = format!("{what} in a recursive query is not implemented");
            return Err(PgError::unsupported(text));
        }
        self.check_recursive_term(&name, right)?;
        let positions = self.first_position(left);
        let union_all = matches!(set_quantifier, ast::SetQuantifier::All);
        let mut entry = CteName {
            name: name.clone(),
            id,
            columns: vec![],
            hidden: 0,
            origins: vec![],
            refusal: Some(Refusal::NonRecursiveTerm),
        };
        self.relations.ctes.push(entry.clone());
        let mut first = self.bind_bare(left, true)?;
        self.relations.ctes.pop();
        let mut columns = self.name_columns(&mut first, cte)?;
        let mut plan = first.rel;
        let marks = self.first_marks(cte, (left, right), &mut plan, &columns)?;
        let base = columns.clone();
        columns.extend(marks.columns());
        entry.origins = vec![None; columns.len()];
        (entry.columns, entry.refusal) = (columns.clone(), None);
        entry.hidden = columns.len() - base.len();
        self.relations.ctes.push(entry.clone());
        let second = self.bind_bare(right, false)?;
        self.relations.ctes.truncate(mark);
        let (rel, ids) = self.fit_recursive_term(second, &base, &name, &positions)?;
        let (rel, ids) = self.next_marks(&marks, id, &name, rel, ids, &base)?;
        entry.hidden = 0;
        self.relations.ctes.push(entry);
        if !inner.is_empty() {
            plan = Rel::With { ctes: inner, body: Box::new(plan) };
        }
        Ok(Cte {
            id,
            name,
            columns,
            plan,
            recursive: Some((rel, ids)),
            union_all,
            materialized: materialized(cte),
        })
    }

    /// The recursive term with the types of the non-recursive one.
    fn fit_recursive_term(
        &mut self,
        second: BoundQuery,
        columns: &[Column],
        name: &str,
        positions: &[Option<u32>],
    ) -> Result<(Rel, Vec<ColumnId>)> {
        if second.columns.len() != columns.len() {
            let text = "each UNION query must have the same number of columns";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
        }
        let mut types = Vec::with_capacity(columns.len());
        for (i, (c, r)) in columns.iter().zip(&second.columns).enumerate() {
            let (ce, re) = (Expr::column(c.id, c.ty), Expr::column(r.id, r.ty));
            let overall = self.select_common_type(&[(&ce, None), (&re, None)], "UNION")?;
            let overall = if overall.oid == UNKNOWN { PgType::new(TEXT) } else { overall };
            if overall.oid != c.ty.oid {
                let text = format!(
                    "recursive query \"{name}\" column {} has type {} in non-recursive term but type {} overall",
                    i + 1,
                    self.display_type(c.ty.oid),
                    self.display_type(overall.oid)
                );
                let hint = "Cast the output of the non-recursive term to the correct type.";
                let at = positions.get(i).copied().flatten();
                return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).hint(hint).at(at));
            }
            types.push(c.ty);
        }
        let second = self.coerce_columns(second, &types, &[], &mut |binder, i, e| {
            if e.ty.oid == types[i].oid {
                return Ok(e);
            }
            binder.coerce_to(e, PgType::new(types[i].oid), CoercionContext::Implicit, None)
        })?;
        let ids = second.columns.iter().map(|c| c.id).collect();
        Ok((second.rel, ids))
    }
}

fn materialized(cte: &ast::Cte) -> Option<bool> {
    cte.materialized.as_ref().map(|m| matches!(m, ast::CteAsMaterialized::Materialized))
}

fn is_modifying(query: &ast::Query) -> bool {
    matches!(
        query.body.as_ref(),
        ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_)
    )
}

/// Whether a query names this relation without a schema.
fn reads(query: &ast::Query, name: &str) -> bool {
    use std::ops::ControlFlow;
    let mut visit = |relation: &ast::ObjectName| {
        let same = match relation.0.as_slice() {
            [part] => part.as_ident().is_some_and(|i| i.value == name),
            _ => false,
        };
        if same { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    crate::parse::source::on_deep_stack(|| ast::visit_relations(query, &mut visit)).is_break()
}
