//! The target of a statement that writes: a table, or a table behind a view.
//!
//! A view over one relation, without grouping and the like, can be written through. Its columns are
//! expressions over the table's row; those that are plain columns can be set. [`WriteTarget::named`]
//! is the table with its columns called as in the view, so that what is written by name is bound as
//! for any table; [`Binder::target_item`] is what expressions see.
//!
//! ```text
//! CREATE VIEW v AS SELECT id AS k, upper(name) AS n FROM t WHERE id < 100
//!         named: t(k, …)      item over a row of t: k = id, n = upper(name)      filter: id < 100
//! ```

use std::sync::Arc;

use meridian_catalog::{Relation, TableDesc, ViewDesc};
use meridian_types::{PgError, Result, SqlState};

use super::from::apply_alias;
use super::query::Tail;
use super::scope::{Scope, ScopeColumn, ScopeItem};
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{ColumnId, Expr, ExprKind};
use crate::plan::TableLock;
use crate::walk;

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct WriteTarget {
    /// The table.
    pub(crate) table: Arc<TableDesc>,
    /// The same with its columns named as in the view; columns that the view lacks are hidden.
    pub(crate) named: Arc<TableDesc>,
    /// The view that was named.
    pub(crate) view: Option<Arc<ViewDesc>>,
    /// attnums behind the view's columns, in their order; `None` for what cannot be set.
    pub(crate) columns: Vec<Option<i16>>,
}

/// A row of a table as a view shows it.
pub(crate) struct ViewRow {
    /// The view's columns.
    pub(crate) item: ScopeItem,
    /// Which rows it shows.
    pub(crate) filters: Vec<Expr>,
    /// Conditions of WITH CHECK OPTION on rows written: (view, condition).
    pub(crate) checks: Vec<(String, Expr)>,
}

/// What INSERT, UPDATE and DELETE are called in errors about views.
fn wording(verb: &str) -> (&'static str, &'static str) {
    match verb {
        "INSERT" => ("insert into", "inserting into"),
        "UPDATE" => ("update", "updating"),
        _ => ("delete from", "deleting from"),
    }
}

fn not_updatable(view: &ViewDesc, verb: &str, detail: &str) -> PgError {
    let (what, doing) = wording(verb);
    let text = format!("cannot {what} view \"{}\"", view.name);
    let hint = format!(
        "To enable {doing} the view, provide an INSTEAD OF {verb} trigger or an unconditional ON \
         {verb} DO INSTEAD rule."
    );
    let state = SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
    PgError::new(state, text).detail(detail.to_owned()).hint(hint)
}

/// The one relation that a simple view selects from, or why it is not simple.
fn simple(query: &ast::Query) -> Result<(&ast::Select, &ast::TableFactor), &'static str> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Err(
            "Views containing UNION, INTERSECT, or EXCEPT are not automatically updatable.",
        );
    };
    if select.distinct.is_some() {
        return Err("Views containing DISTINCT are not automatically updatable.");
    }
    let grouped = match &select.group_by {
        ast::GroupByExpr::All(_) => true,
        ast::GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
    };
    if grouped {
        return Err("Views containing GROUP BY are not automatically updatable.");
    }
    if select.having.is_some() {
        return Err("Views containing HAVING are not automatically updatable.");
    }
    if query.with.is_some() {
        return Err("Views containing WITH are not automatically updatable.");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err("Views containing LIMIT or OFFSET are not automatically updatable.");
    }
    match select.from.as_slice() {
        [only] if only.joins.is_empty() => match &only.relation {
            factor @ ast::TableFactor::Table { args: None, sample: None, .. } => {
                Ok((select, factor))
            }
            _ => Err(MANY),
        },
        _ => Err(MANY),
    }
}

/// What the columns of a view may not hold.
fn computed(scope: &Scope) -> Result<(), &'static str> {
    if !scope.aggregates.is_empty() {
        return Err("Views that return aggregate functions are not automatically updatable.");
    }
    if !scope.windows.is_empty() {
        return Err("Views that return window functions are not automatically updatable.");
    }
    if !scope.sets.is_empty() {
        return Err("Views that return set-returning functions are not automatically updatable.");
    }
    Ok(())
}

const MANY: &str =
    "Views that do not select from a single table or view are not automatically updatable.";

impl Binder<'_> {
    /// The table, or the view with the table behind it, that this name stands for.
    pub(crate) fn write_target(
        &mut self,
        name: &ast::ObjectName,
        verb: &str,
    ) -> Result<WriteTarget> {
        let (schema, word, position) = self.split_name(name)?;
        let shadowed = schema.is_none() && self.relations.ctes.iter().any(|c| *c.name == *word);
        if !shadowed
            && let Some(Relation::View(view)) = self.catalog.relation(schema.as_deref(), &word)
        {
            self.check_writable(&Relation::View(view.clone()), None, verb)?;
            return self.view_target(view, verb);
        }
        let table = self.target_table(name, verb).map_err(|e| match e.fields().position {
            None => e.at(position),
            Some(_) => e,
        })?;
        let columns = table.columns.iter().filter(|c| !c.dropped && !c.hidden);
        let columns = columns.map(|c| Some(c.attnum)).collect();
        Ok(WriteTarget { named: table.clone(), table, view: None, columns })
    }

    fn check_writable(&self, relation: &Relation, role: Option<u32>, verb: &str) -> Result<()> {
        let letter = match verb {
            "INSERT" => 'a',
            "UPDATE" => 'w',
            _ => 'd',
        };
        self.catalog.check_writable(relation, role, letter)
    }

    fn view_target(&mut self, view: Arc<ViewDesc>, verb: &str) -> Result<WriteTarget> {
        let table = self.view_base(&view, verb)?;
        self.note_table(&table, TableLock::RowExclusive);
        self.trusted.insert(table.oid);
        let ids = self.row_ids(&table);
        let row = self.view_row(&view, &view.name, &table, &ids, verb)?;
        let columns: Vec<Option<i16>> = row
            .item
            .columns
            .iter()
            .filter(|c| !c.system)
            .map(|c| match c.expr.kind {
                ExprKind::Column(id) => {
                    ids.iter().position(|i| *i == id).map(|at| table.columns[at].attnum)
                }
                _ => None,
            })
            .collect();
        if verb != "DELETE" && columns.iter().all(Option::is_none) {
            let detail = "Views that have no updatable columns are not automatically updatable.";
            return Err(not_updatable(&view, verb, detail));
        }
        let mut named = TableDesc::clone(&table);
        named.name.clone_from(&view.name);
        for column in &mut named.columns {
            match columns.iter().position(|a| *a == Some(column.attnum)) {
                Some(at) => column.name.clone_from(&view.columns[at].0),
                None => column.hidden = true,
            }
        }
        Ok(WriteTarget { table, named: Arc::new(named), view: Some(view), columns })
    }

    /// The table at the bottom of a chain of views.
    pub fn view_base(&mut self, view: &Arc<ViewDesc>, verb: &str) -> Result<Arc<TableDesc>> {
        let query = super::text::parse_query(&view.query)?;
        let (_, factor) = simple(&query).map_err(|why| not_updatable(view, verb, why))?;
        let ast::TableFactor::Table { name, .. } = factor else {
            return Err(not_updatable(view, verb, MANY));
        };
        let (schema, name, _) = self.split_name(name)?;
        let base = self.find_relation(schema.as_deref(), &name, None)?;
        self.check_writable(&base, Some(view.owner), verb)?;
        match base {
            Relation::Table(table) => Ok(table),
            Relation::View(inner) if self.relations.views.len() < super::from::VIEW_DEPTH => {
                self.relations.views.push(view.oid);
                let table = self.view_base(&inner, verb);
                self.relations.views.pop();
                table
            }
            _ => Err(not_updatable(view, verb, MANY)),
        }
    }

    /// A row of the table, read by these ids, as the view shows it.
    fn view_row(
        &mut self,
        view: &Arc<ViewDesc>,
        alias: &str,
        table: &Arc<TableDesc>,
        ids: &[ColumnId],
        verb: &str,
    ) -> Result<ViewRow> {
        let hidden = self.enter_text();
        let row = self.view_row_inside(view, alias, (table, ids), false, verb);
        self.leave_text(hidden);
        row
    }

    fn view_row_inside(
        &mut self,
        view: &Arc<ViewDesc>,
        alias: &str,
        (table, ids): (&Arc<TableDesc>, &[ColumnId]),
        cascaded: bool,
        verb: &str,
    ) -> Result<ViewRow> {
        let query = super::text::parse_query(&view.query)?;
        let refuse = |why: &str| not_updatable(view, verb, why);
        let (select, factor) = simple(&query).map_err(refuse)?;
        if !Tail::of(&query)?.locks.is_empty() {
            return Err(refuse(MANY));
        }
        let ast::TableFactor::Table { name, alias: base_alias, .. } = factor else {
            return Err(refuse(MANY));
        };
        let (schema, base_name, _) = self.split_name(name)?;
        let cascaded = cascaded || view.check_option == Some(true);
        let mut base = match self.find_relation(schema.as_deref(), &base_name, None)? {
            Relation::View(inner) => {
                self.view_row_inside(&inner, &base_name, (table, ids), cascaded, verb)?
            }
            _ => ViewRow {
                item: Self::row_item(table, &base_name, ids),
                filters: vec![],
                checks: vec![],
            },
        };
        apply_alias(&mut base.item, base_alias.as_ref(), &base_name)?;
        let system: Vec<ScopeColumn> =
            base.item.columns.iter().filter(|c| c.system).cloned().collect();
        self.relations.view_owners.push(view.owner);
        self.push_items(vec![base.item]);
        let targets = self.bind_targets(&select.projection, Clause::SelectTarget, true);
        let own = match &select.selection {
            Some(e) => self.bind_condition(e, Clause::Where).map(Some),
            None => Ok(None),
        };
        let scope = self.scopes.pop().unwrap_or_default();
        self.relations.view_owners.pop();
        let (targets, own) = (targets?, own?);
        computed(&scope).map_err(refuse)?;
        if let Some(own) = own {
            if cascaded || view.check_option.is_some() {
                base.checks.push((view.name.clone(), own.clone()));
            }
            walk::conjuncts(own, &mut base.filters);
        }
        let columns = view.columns.iter().zip(targets).map(|((name, _), target)| ScopeColumn {
            name: Arc::from(name.as_str()),
            expr: target.expr,
            origin: None,
            system: false,
        });
        let mut item = ScopeItem::new(Some(Arc::from(alias)), columns.chain(system).collect());
        (item.row_type, item.lateral_ok) = (view.row_type, true);
        Ok(ViewRow { item, filters: base.filters, checks: base.checks })
    }

    /// What is seen of a row of the target that is read by these ids.
    pub(crate) fn target_row(
        &mut self,
        target: &WriteTarget,
        alias: &str,
        ids: &[ColumnId],
    ) -> Result<ViewRow> {
        match &target.view {
            Some(view) => self.view_row(&view.clone(), alias, &target.table, ids, "UPDATE"),
            None => {
                let item = Self::row_item(&target.table, alias, ids);
                Ok(ViewRow { item, filters: vec![], checks: vec![] })
            }
        }
    }

    /// The same as an item of a scope.
    pub(crate) fn target_item(
        &mut self,
        target: &WriteTarget,
        alias: &str,
        ids: &[ColumnId],
    ) -> Result<ScopeItem> {
        Ok(self.target_row(target, alias, ids)?.item)
    }
}

impl WriteTarget {
    /// An error about an unknown column says more when the view has it and cannot set it.
    pub(crate) fn explain(&self, error: PgError, verb: &str) -> PgError {
        let Some(view) = &self.view else { return error };
        if error.state() != SqlState::UNDEFINED_COLUMN {
            return error;
        }
        let relation = format!("of relation \"{}\" does not exist", view.name);
        let message = &error.fields().message;
        let name = message.strip_prefix("column \"").and_then(|rest| rest.split('"').next());
        let known = |n: &&str| view.columns.iter().any(|(c, _)| c == n);
        match name.filter(|n| message.ends_with(&relation) && known(n)) {
            Some(name) => self.fixed_column(view, name, verb),
            None => error,
        }
    }

    /// The error for giving more values to an INSERT than the columns that can be set.
    pub(crate) fn too_many(&self, error: PgError, width: usize) -> PgError {
        let Some(view) = &self.view else { return error };
        let fixed = self.columns.iter().take(width).position(Option::is_none);
        match fixed.and_then(|at| view.columns.get(at)) {
            Some((name, _)) => self.fixed_column(view, name, "INSERT"),
            None => error,
        }
    }

    fn fixed_column(&self, view: &ViewDesc, name: &str, verb: &str) -> PgError {
        let (what, _) = wording(verb);
        let text = format!("cannot {what} column \"{name}\" of view \"{}\"", view.name);
        let detail = "View columns that are not columns of their base relation are not updatable.";
        PgError::unsupported(text).detail(detail.to_owned())
    }
}
