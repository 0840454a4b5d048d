//! CREATE VIEW.
//!
//! A view is kept as the text of its query. Names of relations in it are qualified first, so that
//! it means the same under any search path.

use std::ops::ControlFlow;
use std::sync::Arc;

use meridian_catalog::{Descriptor, Relation, ViewDesc};
use meridian_sql::ast;
use meridian_sql::bind::Binder;
use meridian_sql::ddl::CreateView;
use meridian_sql::parse::Source;
use meridian_sql::plan::Query;
use meridian_types::oid::Oid;
use meridian_types::{PgError, PgType, Result, SqlState, oid};

use super::DdlContext;
use crate::catalog_store::quote_ident;

/// The columns of a view: the query's, by the names given.
fn output_columns(create: &CreateView, bound: &Query) -> Result<Vec<(String, PgType)>> {
    if create.columns.len() > bound.output.len() {
        let text = "CREATE VIEW specifies more column names than columns";
        return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
    }
    let mut columns: Vec<(String, PgType)> = Vec::new();
    for (i, column) in bound.output.iter().enumerate() {
        let name = create.columns.get(i).cloned().unwrap_or_else(|| column.name.to_string());
        if columns.iter().any(|(n, _)| *n == name) {
            let text = format!("column \"{name}\" specified more than once");
            return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
        }
        if column.ty.oid == oid::RECORD {
            let text = format!("column \"{name}\" has pseudo-type record");
            return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text));
        }
        columns.push((name, column.ty));
    }
    Ok(columns)
}

/// What a view's query names.
struct Names {
    text: String,
    relations: Vec<Relation>,
}

fn collect_ctes(query: &ast::Query) -> Vec<String> {
    struct Ctes(Vec<String>);
    impl ast::Visitor for Ctes {
        type Break = ();
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            let with = query.with.iter().flat_map(|w| &w.cte_tables);
            self.0.extend(with.map(|c| c.alias.name.value.clone()));
            ControlFlow::Continue(())
        }
    }
    let mut ctes = Ctes(vec![]);
    let _ = ast::Visit::visit(query, &mut ctes);
    ctes.0
}

/// Whether what a query means depends on which columns there are: `*`, `t.*`, NATURAL.
fn names_all_columns(query: &ast::Query) -> bool {
    struct Stars;
    impl ast::Visitor for Stars {
        type Break = ();
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
            if body_has_star(&query.body) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    ast::Visit::visit(query, &mut Stars).is_break()
}

fn body_has_star(body: &ast::SetExpr) -> bool {
    match body {
        ast::SetExpr::Select(select) => {
            let star = |item: &ast::SelectItem| {
                matches!(
                    item,
                    ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
                )
            };
            select.projection.iter().any(star) || select.from.iter().any(has_natural_join)
        }
        ast::SetExpr::SetOperation { left, right, .. } => {
            body_has_star(left) || body_has_star(right)
        }
        ast::SetExpr::Table(_) => true,
        // What is nested is visited by itself.
        _ => false,
    }
}

fn has_natural_join(from: &ast::TableWithJoins) -> bool {
    use ast::JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    let nested = |factor: &ast::TableFactor| match factor {
        ast::TableFactor::NestedJoin { table_with_joins, .. } => has_natural_join(table_with_joins),
        _ => false,
    };
    let natural = |join: &ast::Join| match &join.join_operator {
        Join(c) | Inner(c) | Left(c) | LeftOuter(c) | Right(c) | RightOuter(c) | FullOuter(c) => {
            matches!(c, ast::JoinConstraint::Natural)
        }
        _ => false,
    };
    nested(&from.relation) || from.joins.iter().any(|j| natural(j) || nested(&j.relation))
}

impl DdlContext<'_> {
    /// A relation gets a column: a view that reads all its columns would come to mean another query.
    ///
    /// # Errors
    /// `0A000` when there is such a view.
    pub(super) fn refuse_under_stars(&self, relation: Oid) -> Result<()> {
        for view in self.views_on(relation) {
            let query = meridian_sql::parse::parse_query(&view.query)?;
            if names_all_columns(&query) {
                let text = format!(
                    "adding a column is not supported yet where view \"{}\" reads all columns by *",
                    view.name
                );
                return Err(PgError::unsupported(text));
            }
        }
        Ok(())
    }

    /// The text of a view's query with qualified names, and the relations that it names.
    fn qualify(&self, query: &ast::Query, start: u32, text: &str) -> Names {
        let ctes = collect_ctes(query);
        let mut found: Vec<(u64, String, Relation)> = Vec::new();
        let view = self.view();
        let _ = ast::visit_relations(query, |name: &ast::ObjectName| {
            let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
            let relation = match idents[..] {
                [only] if ctes.contains(&only.value) => None,
                [only] => view.catalog.lookup(&view.path, None, &only.value),
                [.., schema, only] => {
                    view.catalog.lookup(&view.path, Some(&schema.value), &only.value)
                }
                [] => None,
            };
            if let (Some(relation), Some(first)) = (relation, idents.first()) {
                let schema = view.catalog.schema(relation.schema()).map(|s| s.name.clone());
                let prefix = match schema {
                    Some(schema) if idents.len() == 1 => format!("{}.", quote_ident(&schema)),
                    _ => String::new(),
                };
                found.push((first.span.start.column, prefix, relation));
            }
            ControlFlow::<()>::Continue(())
        });
        found.sort_by_key(|(column, ..)| *column);
        let mut out = String::with_capacity(text.len() + 16 * found.len());
        let mut inserts = found.iter().filter(|(_, prefix, _)| !prefix.is_empty()).peekable();
        for (at, c) in (u64::from(start)..).zip(text.chars()) {
            while inserts.peek().is_some_and(|(column, ..)| *column == at) {
                out.push_str(&inserts.next().map(|(_, p, _)| p.clone()).unwrap_or_default());
            }
            out.push(c);
        }
        Names { text: out, relations: found.into_iter().map(|(_, _, r)| r).collect() }
    }

    pub(super) async fn create_view(&mut self, create: &CreateView) -> Result<&'static str> {
        let source: Source = self.source();
        let bound = self.bind_ast(&create.query, &source)?;
        let names = self.qualify(&create.query, create.text.start, &self.piece(create.text));
        let is_temp = |r: &Relation| match r {
            Relation::Table(t) => t.temp_session.is_some(),
            Relation::View(v) => v.temp_session.is_some(),
            _ => false,
        };
        let temp = create.temp || names.relations.iter().any(is_temp);
        let columns = output_columns(create, &bound)?;
        if create.check_option.is_some() {
            self.check_updatable(create, &columns, &names.text)?;
        }
        let schema = self.creation_schema(&create.name, temp).await?;
        self.lock_name(schema, &create.name.name).await?;
        let old = self.catalog().relation_in(schema, &create.name.name);
        let mut depends_on: Vec<Oid> = names.relations.iter().map(Relation::oid).collect();
        depends_on.sort_unstable();
        depends_on.dedup();
        let mut view = ViewDesc {
            oid: 0,
            row_type: 0,
            database: self.identity.database,
            schema,
            name: create.name.name.clone(),
            owner: self.identity.user,
            columns,
            query: names.text,
            check_option: create.check_option,
            depends_on,
            temp_session: self.temp_session(schema),
            acl: Vec::new(),
            comment: None,
        };
        match old {
            None => {
                view.oid = self.oids(3).await?;
                view.row_type = view.oid + 2;
            }
            Some(Relation::View(old)) if create.or_replace => {
                self.replace(&mut view, &old)?;
                if view.columns.len() > old.columns.len() {
                    self.refuse_under_stars(old.oid)?;
                }
            }
            Some(other) if create.or_replace => {
                let text = format!("\"{}\" is not a view", other.name());
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
            }
            Some(_) => {
                let text = format!("relation \"{}\" already exists", create.name.name);
                return Err(PgError::new(SqlState::DUPLICATE_TABLE, text));
            }
        }
        if temp && !create.temp && create.name.schema.is_none() {
            let text = format!("view \"{}\" will be a temporary view", create.name.name);
            self.notice(SqlState::from_code("00000"), text);
        }
        self.overlay.put(Descriptor::View(view.into()));
        Ok("CREATE VIEW")
    }

    /// WITH CHECK OPTION is for views that can be written through.
    fn check_updatable(
        &self,
        create: &CreateView,
        columns: &[(String, PgType)],
        text: &str,
    ) -> Result<()> {
        let view = ViewDesc {
            oid: 0,
            row_type: 0,
            database: self.identity.database,
            schema: 0,
            name: create.name.name.clone(),
            owner: self.identity.user,
            columns: columns.to_vec(),
            query: text.to_owned(),
            check_option: create.check_option,
            depends_on: vec![],
            temp_session: None,
            acl: vec![],
            comment: None,
        };
        let (catalog, source) = (self.view(), Source::default());
        let mut binder = Binder::new(&catalog, &self.statement.eval, &source, &[], false);
        let base = binder.view_base(&Arc::new(view), "UPDATE");
        base.map(|_| ()).map_err(|e| {
            let text = "WITH CHECK OPTION is supported only on automatically updatable views";
            match &e.fields().detail {
                Some(detail) => PgError::unsupported(text).hint(detail.clone()),
                None => e,
            }
        })
    }

    /// CREATE OR REPLACE: the old columns must stay as they are.
    fn replace(&self, view: &mut ViewDesc, old: &Arc<ViewDesc>) -> Result<()> {
        self.must_own(&Relation::View(Arc::clone(old)))?;
        let error = |text: String| Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text));
        if view.columns.len() < old.columns.len() {
            return error("cannot drop columns from view".into());
        }
        for ((old_name, old_type), (name, ty)) in old.columns.iter().zip(&view.columns) {
            if old_name != name {
                let text =
                    format!("cannot change name of view column \"{old_name}\" to \"{name}\"");
                return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, text).hint(
                    "Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
                ));
            }
            if old_type != ty {
                let names = self.view();
                return error(format!(
                    "cannot change data type of view column \"{name}\" from {} to {}",
                    names.format_type(old_type.oid, old_type.typmod),
                    names.format_type(ty.oid, ty.typmod)
                ));
            }
        }
        view.oid = old.oid;
        view.row_type = old.row_type;
        view.owner = old.owner;
        view.acl.clone_from(&old.acl);
        view.comment.clone_from(&old.comment);
        Ok(())
    }
}
