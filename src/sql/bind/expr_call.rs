//! Calls: plain functions, aggregates, window functions, functions that return sets.
//!
//! The last three are put into a list of the scope that they belong to; in the expression a column
//! stands for them. An aggregate belongs to the innermost level whose columns its arguments read
//! (an aggregate over outer columns alone is the outer query's).

use meridian_types::builtin;
use meridian_types::oid;
use meridian_types::{PgError, PgType, Result, SqlState};
use sqlparser::ast::{
    DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
};

use super::from_function;
use super::same::same;
use super::{AggregateRef, AggregateState, Binder, Clause, GroupingRef, SetRef, WindowRef};
use crate::ast;
use crate::expr::{Expr, ExprKind};
use crate::rel::AggregateCall;
use crate::resolve::{Call, CoercionContext, FunctionArgs, FunctionResolution};

/// A call's syntax, taken apart.
struct Parts<'e> {
    schema: Option<&'e str>,
    name: &'e str,
    args: Vec<&'e FunctionArg>,
    star: bool,
    distinct: bool,
    order_by: &'e [ast::OrderByExpr],
    position: Option<u32>,
}

impl<'e> Parts<'e> {
    /// The expressions of positional arguments.
    fn exprs(&self) -> Vec<&'e ast::Expr> {
        self.args
            .iter()
            .filter_map(|a| match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
                _ => None,
            })
            .collect()
    }
}

fn wrong(text: String, position: Option<u32>) -> PgError {
    PgError::new(SqlState::WRONG_OBJECT_TYPE, text).at(position)
}

/// Aggregates over a row that might be among those of the group.
const HYPOTHETICAL: [&str; 4] = ["rank", "dense_rank", "percent_rank", "cume_dist"];

impl Parts<'_> {
    /// An aggregate without arguments is called with a star.
    fn check_star(&self) -> Result<()> {
        if self.args.is_empty() && !self.star {
            let name = self.name;
            let text = format!("{name}(*) must be used to call a parameterless aggregate function");
            return Err(wrong(text, self.position));
        }
        Ok(())
    }
}

impl Binder<'_> {
    pub(super) fn bind_call(&mut self, call: &ast::Function, clause: Clause) -> Result<Expr> {
        let parts = self.call_parts(call)?;
        if let FunctionArguments::Subquery(query) = &call.args {
            return self.array_subquery(query, parts.position, clause);
        }
        let plain = parts.schema.is_none()
            && call
                .name
                .0
                .last()
                .and_then(|p| p.as_ident())
                .is_some_and(|i| i.quote_style.is_none());
        if plain {
            match (parts.name, &call.args) {
                (_, FunctionArguments::None) => return self.sql_value(parts.name),
                ("coalesce" | "greatest" | "least", _) => {
                    return self.common_call(parts.name, &parts.exprs(), clause);
                }
                ("nullif", _) => {
                    let exprs = parts.exprs();
                    let [l, r] = exprs.as_slice() else {
                        let text = "NULLIF takes two arguments";
                        return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(parts.position));
                    };
                    return self.nullif(l, r, parts.position, clause);
                }
                ("grouping", _) => return self.grouping(&parts, clause),
                _ => {}
            }
            let timely = ["current_date", "current_time", "current_timestamp"];
            if timely.contains(&parts.name) || parts.name.starts_with("localtime") {
                return self.sql_time(&parts, clause);
            }
        }
        // `rank` and its kin are window functions, and aggregates with WITHIN GROUP.
        let aggregate = call.over.is_none()
            && has_kind(parts.name, 'a')
            && (!call.within_group.is_empty() || !has_kind(parts.name, 'w'));
        match (aggregate, &call.over) {
            (true, _) => self.aggregate(call, &parts, clause),
            (false, Some(over)) => self.window(call, over, &parts, clause),
            (false, None) => self.plain_call(call, &parts, clause),
        }
    }

    fn call_parts<'e>(&self, call: &'e ast::Function) -> Result<Parts<'e>> {
        let idents: Vec<&ast::Ident> = call.name.0.iter().filter_map(|p| p.as_ident()).collect();
        let position = idents.first().and_then(|i| self.source.position(i.span.start));
        let (schema, name) = match idents.as_slice() {
            [name] => (None, name.value.as_str()),
            [schema, name] => (Some(schema.value.as_str()), name.value.as_str()),
            [_, schema, name] => (Some(schema.value.as_str()), name.value.as_str()),
            _ => {
                let text = "improper function name".to_owned();
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
        };
        let mut parts = Parts {
            schema,
            name,
            args: vec![],
            star: false,
            distinct: false,
            order_by: &[],
            position,
        };
        if let FunctionArguments::List(list) = &call.args {
            parts.distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
            parts.args = list.args.iter().collect();
            for c in &list.clauses {
                if let FunctionArgumentClause::OrderBy(order) = c {
                    parts.order_by = order;
                }
            }
            let star =
                matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
            if star {
                parts.star = true;
                parts.args.clear();
            }
        }
        Ok(parts)
    }

    fn array_subquery(
        &mut self,
        query: &ast::Query,
        position: Option<u32>,
        clause: Clause,
    ) -> Result<Expr> {
        clause.check_subquery(position)?;
        let (subquery, columns) = self.bind_subquery(query)?;
        let [column] = columns.as_slice() else {
            let text = "subquery must return only one column";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
        };
        let array = match self.type_info(column.ty.oid).element {
            0 => self.array_type(column.ty.oid).ok_or_else(|| {
                let name = self.display_type(column.ty.oid);
                let text = format!("could not find array type for data type {name}");
                PgError::new(SqlState::UNDEFINED_OBJECT, text).at(position)
            })?,
            _ => column.ty.oid,
        };
        let ty = PgType::with_typmod(array, column.ty.typmod);
        Ok(Expr { kind: ExprKind::ArraySubquery(subquery), ty })
    }

    fn sql_value(&self, name: &str) -> Result<Expr> {
        let ty = match name {
            "current_date" => oid::DATE,
            "current_time" => oid::TIMETZ,
            "current_timestamp" => oid::TIMESTAMPTZ,
            "localtime" => oid::TIME,
            "localtimestamp" => oid::TIMESTAMP,
            _ => oid::NAME,
        };
        Ok(Expr { kind: ExprKind::SqlValue(name.into()), ty: PgType::new(ty) })
    }

    /// `CURRENT_TIMESTAMP(p)` and its kin.
    fn sql_time(&mut self, parts: &Parts<'_>, clause: Clause) -> Result<Expr> {
        let value = self.sql_value(parts.name)?;
        let Some(precision) = parts.exprs().first().copied() else {
            return self.resolve_plain(parts, FunctionArgs::default(), clause);
        };
        let precision = precision.to_string().parse::<i32>().unwrap_or(6).clamp(0, 6);
        let ty = PgType::with_typmod(value.ty.oid, precision);
        self.coerce_to(value, ty, CoercionContext::Explicit, parts.position)
    }

    fn grouping(&mut self, parts: &Parts<'_>, clause: Clause) -> Result<Expr> {
        clause.check_grouping(parts.position)?;
        let mut args = Vec::new();
        for arg in parts.exprs() {
            let mark = self.scope().uses.len();
            args.push(self.bind_expr(arg, clause)?);
            self.scope().uses.truncate(mark);
        }
        let column = self.new_column("grouping", PgType::new(oid::INT4));
        let expr = Expr::column(column.id, column.ty);
        let position = parts.position;
        self.scope().groupings.push(GroupingRef { column, args, position });
        Ok(expr)
    }

    fn bind_arguments(&mut self, parts: &Parts<'_>, clause: Clause) -> Result<FunctionArgs> {
        let mut out = FunctionArgs::default();
        for arg in &parts.args {
            let (name, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (None, e),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                    (Some(name.value.clone()), e)
                }
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let idents: Vec<ast::Ident> =
                        name.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
                    let row = self.bind_name(&idents)?;
                    out.exprs.push((row, parts.position));
                    out.names.push(None);
                    continue;
                }
                _ => return Err(PgError::unsupported(format!("argument {arg}"))),
            };
            let inner = match expr {
                ast::Expr::Prefixed { prefix, value } if prefix.value == "variadic" => {
                    out.variadic = true;
                    value.as_ref()
                }
                other => other,
            };
            if out.names.iter().any(Option::is_some) && name.is_none() {
                let text = "positional argument cannot follow named argument";
                let position = self.position(inner);
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
            out.exprs.push((self.bind_expr(inner, clause)?, self.position(inner)));
            out.names.push(name);
        }
        Ok(out)
    }

    fn plain_call(
        &mut self,
        call: &ast::Function,
        parts: &Parts<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let name = parts.name;
        let known = has_kind(name, 'f') || has_kind(name, 'w');
        if known {
            let misuse = if parts.distinct {
                Some("DISTINCT specified")
            } else if parts.star {
                Some("(*) specified")
            } else if !call.within_group.is_empty() {
                Some("WITHIN GROUP specified")
            } else if !parts.order_by.is_empty() {
                Some("ORDER BY specified")
            } else if call.filter.is_some() {
                Some("FILTER specified")
            } else {
                None
            };
            if let Some(what) = misuse {
                let name = if parts.star { format!("{name}(*)") } else { name.to_owned() };
                let text = format!("{what}, but {name} is not an aggregate function");
                return Err(wrong(text, parts.position));
            }
        }
        let args = self.bind_arguments(parts, clause)?;
        self.resolve_plain(parts, args, clause)
    }

    fn resolve_plain(
        &mut self,
        parts: &Parts<'_>,
        args: FunctionArgs,
        clause: Clause,
    ) -> Result<Expr> {
        let position = parts.position;
        let mut call = match self.resolve_function(parts.schema, parts.name, args, position)? {
            FunctionResolution::Cast(expr) => return Ok(expr),
            FunctionResolution::Call(call) => call,
        };
        if from_function::populates(&call.func) {
            let Some(fields) = self.composite_fields(call.ret.oid) else {
                let text = format!("first argument of {} must be a row type", call.row.name);
                return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text));
            };
            call.args.extend(from_function::described(&fields));
        }
        let signature = |b: &Self| b.signature(None, call.row.name, &call.row.argtypes, &[]);
        match call.row.kind {
            'w' => {
                let text = format!("window function {} requires an OVER clause", call.row.name);
                return Err(wrong(text, position));
            }
            'p' => {
                let text = format!("{} is a procedure", signature(self));
                return Err(wrong(text, position).hint("To call a procedure, use CALL."));
            }
            _ => {}
        }
        if !call.row.retset {
            return Ok(Expr {
                kind: ExprKind::Call { func: call.func, args: call.args },
                ty: call.ret,
            });
        }
        clause.check_set(position)?;
        if self.aggregates.inside {
            let text = "aggregate function calls cannot contain set-returning function calls";
            return Err(PgError::unsupported(text).at(position).hint(
                "You might be able to move the set-returning function into a LATERAL FROM item.",
            ));
        }
        let fields = super::from_function::out_fields(&call.func, &call.args);
        let ret = match fields {
            Some(fields) => {
                PgType::with_typmod(call.ret.oid, meridian_types::shape::typmod(fields))
            }
            None => call.ret,
        };
        let column = self.new_column(call.row.name, ret);
        let expr = Expr::column(column.id, column.ty);
        self.scope().sets.push(SetRef { column, func: call.func, args: call.args, position });
        Ok(expr)
    }

    fn aggregate(
        &mut self,
        call: &ast::Function,
        parts: &Parts<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let position = parts.position;
        if clause == Clause::Filter {
            clause.check_aggregate(position)?;
        }
        if self.aggregates.inside {
            let text = "aggregate function calls cannot be nested";
            return Err(PgError::new(SqlState::GROUPING_ERROR, text).at(position));
        }
        if self.scopes.is_empty() {
            clause.check_aggregate(position)?;
        }
        let marks: Vec<usize> = self.scopes.iter().map(|s| s.uses.len()).collect();
        let log = self.outer_log.len();
        let inside = AggregateState { inside: true, inside_window: false, level: None };
        let saved = std::mem::replace(&mut self.aggregates, inside);
        let bound = self.aggregate_parts(call, parts, clause);
        let inner = std::mem::replace(&mut self.aggregates, saved);
        let (resolved, order_by, filter) = bound?;
        let current = self.scopes.len().saturating_sub(1);
        let level = inner.level.unwrap_or(current).min(current);
        if level == current {
            clause.check_aggregate(position)?;
        }
        self.check_aggregate_form(call, parts, &resolved)?;
        // What the arguments read is not a use of its level outside of aggregates.
        if let (Some(scope), Some(mark)) = (self.scopes.get_mut(level), marks.get(level)) {
            scope.uses.truncate(*mark);
        }
        let column = self.new_column(resolved.row.name, resolved.ret);
        if level < current {
            self.outer_log.truncate(log);
            self.outer_log.push((level, column.id));
        }
        self.aggregates.level = self.aggregates.level.max(Some(level));
        let expr = Expr::column(column.id, column.ty);
        let call = AggregateCall {
            key: resolved.func.prosrc.clone(),
            func: resolved.func,
            args: resolved.args,
            distinct: parts.distinct,
            order_by,
            filter,
            ty: resolved.ret,
        };
        self.scope();
        self.scopes[level].aggregates.push(AggregateRef { column, call, position });
        Ok(expr)
    }

    #[expect(clippy::type_complexity, reason = "the three parts of an aggregate, used once")]
    fn aggregate_parts(
        &mut self,
        call: &ast::Function,
        parts: &Parts<'_>,
        clause: Clause,
    ) -> Result<(Call, Vec<(Expr, bool, bool)>, Option<Expr>)> {
        let mut args = self.bind_arguments(parts, clause)?;
        let direct = args.exprs.len();
        let within = !call.within_group.is_empty();
        let sorts = if within { call.within_group.as_slice() } else { parts.order_by };
        let mut order = Vec::with_capacity(sorts.len());
        for sort in sorts {
            let at = self.position(&sort.expr);
            let bound = self.bind_expr(&sort.expr, clause)?;
            let desc = sort.options.asc == Some(false);
            order.push((bound, at, desc, sort.options.nulls_first.unwrap_or(desc)));
        }
        if within {
            for (expr, at, ..) in &order {
                args.exprs.push((expr.clone(), *at));
                args.names.push(None);
            }
        }
        let filter = match &call.filter {
            Some(filter) => Some(self.bind_condition(filter, Clause::Filter)?),
            None => None,
        };
        if within && HYPOTHETICAL.contains(&parts.name) {
            self.unify_hypothetical(parts, &mut args.exprs, direct)?;
        }
        let written: Vec<Expr> = args.exprs.iter().map(|(e, _)| e.clone()).collect();
        let resolved = self.resolve_function(parts.schema, parts.name, args, parts.position)?;
        let FunctionResolution::Call(mut resolved) = resolved else {
            return Err(PgError::internal("an aggregate is no cast"));
        };
        let mut order_by = Vec::with_capacity(order.len());
        if within {
            let sorted = resolved.args.split_off(direct.min(resolved.args.len()));
            for (expr, (_, _, desc, nulls)) in sorted.into_iter().zip(order) {
                order_by.push((expr, desc, nulls));
            }
        } else {
            for (expr, at, desc, nulls) in order {
                if parts.distinct && !written.iter().any(|e| same(e, &expr)) {
                    let text = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
                    return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, text).at(at));
                }
                order_by.push((self.resolve_unknown(expr, at)?, desc, nulls));
            }
        }
        Ok((resolved, order_by, filter))
    }

    /// Gives the row that is asked about the types of the columns that it is compared with.
    fn unify_hypothetical(
        &mut self,
        parts: &Parts<'_>,
        args: &mut [(Expr, Option<u32>)],
        direct: usize,
    ) -> Result<()> {
        let (row, columns) = args.split_at_mut(direct);
        if row.len() != columns.len() {
            let name = parts.name;
            let types: Vec<String> =
                row.iter().chain(&*columns).map(|(e, _)| self.display_type(e.ty.oid)).collect();
            let text = format!("function {name}({}) does not exist", types.join(", "));
            let hint = format!(
                "To use the hypothetical-set aggregate {name}, the number of hypothetical direct arguments (here {}) must match the number of ordering columns (here {}).",
                row.len(),
                columns.len()
            );
            let error = PgError::new(SqlState::UNDEFINED_FUNCTION, text).hint(hint);
            return Err(error.at(parts.position));
        }
        for (own, column) in row.iter_mut().zip(columns) {
            let both = [(&column.0, column.1), (&own.0, own.1)];
            let ty = self.select_common_type(&both, "WITHIN GROUP")?;
            for (e, at) in [own, column] {
                *e = self.coerce_to_common(e.clone(), ty, "WITHIN GROUP", *at)?;
            }
        }
        Ok(())
    }

    fn check_aggregate_form(
        &self,
        call: &ast::Function,
        parts: &Parts<'_>,
        resolved: &Call,
    ) -> Result<()> {
        let name = parts.name;
        let position = parts.position;
        let kind = builtin::aggregate(resolved.row.oid).map_or('n', |a| a.kind);
        if resolved.row.kind != 'a' {
            let text = format!("{name} is not an aggregate function");
            return Err(wrong(text, position));
        }
        if kind == 'n' && !call.within_group.is_empty() {
            let text =
                format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP");
            return Err(wrong(text, position));
        }
        if kind != 'n' && call.within_group.is_empty() {
            let text = format!("WITHIN GROUP is required for ordered-set aggregate {name}");
            return Err(wrong(text, position));
        }
        if kind == 'n' {
            parts.check_star()?;
        }
        Ok(())
    }

    fn window(
        &mut self,
        call: &ast::Function,
        over: &ast::WindowType,
        parts: &Parts<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let position = parts.position;
        if self.aggregates.inside {
            let text = "aggregate function calls cannot contain window function calls";
            return Err(PgError::new(SqlState::GROUPING_ERROR, text).at(position));
        }
        if self.aggregates.inside_window {
            let text = "window function calls cannot be nested";
            return Err(PgError::new(SqlState::WINDOWING_ERROR, text).at(position));
        }
        let saved = self.aggregates.inside_window;
        self.aggregates.inside_window = true;
        let args = self.bind_arguments(parts, clause);
        let filter = match &call.filter {
            Some(filter) if args.is_ok() => self.bind_condition(filter, Clause::Filter).map(Some),
            _ => Ok(None),
        };
        self.aggregates.inside_window = saved;
        let (args, filter) = (args?, filter?);
        let resolved = self.resolve_function(parts.schema, parts.name, args, position)?;
        let resolved = match resolved {
            FunctionResolution::Call(c) if matches!(c.row.kind, 'a' | 'w') => c,
            _ => {
                let text = format!(
                    "OVER specified, but {} is not a window function nor an aggregate function",
                    parts.name
                );
                return Err(wrong(text, position));
            }
        };
        clause.check_window(position)?;
        let refuse = |text: &str| Err(PgError::unsupported(text).at(position));
        if parts.distinct {
            return refuse("DISTINCT is not implemented for window functions");
        }
        if !parts.order_by.is_empty() {
            return refuse("aggregate ORDER BY is not implemented for window functions");
        }
        if filter.is_some() && resolved.row.kind == 'w' {
            return refuse("FILTER is not implemented for non-aggregate window functions");
        }
        if resolved.row.kind == 'a' {
            parts.check_star()?;
        }
        let aggregate = (resolved.row.kind == 'a').then(|| resolved.func.prosrc.clone());
        let column = self.new_column(resolved.row.name, resolved.ret);
        let expr = Expr::column(column.id, column.ty);
        self.scope().windows.push(WindowRef {
            column,
            func: resolved.func,
            aggregate,
            args: resolved.args,
            filter,
            over: over.clone(),
            position,
        });
        Ok(expr)
    }
}

fn has_kind(name: &str, kind: char) -> bool {
    builtin::procs_by_name(name).any(|p| p.kind == kind)
}
