//! Functions in FROM: scalar, set-returning and record-returning ones, ROWS FROM, WITH ORDINALITY,
//! column definition lists.
//!
//! The call is bound like any other; the set-returning call that the expression binder gathered is
//! then taken out of the level's list. A composite or OUT-parameter result is taken apart.

use std::sync::Arc;

use meridian_types::oid::{self, INT8, Oid, RECORD};
use meridian_types::{ArrayValue, Datum, PgError, PgType, Result, SqlState};

use super::from::{BoundItem, apply_alias};
use super::scope::{ScopeColumn, ScopeItem};
use super::{Binder, Clause};
use crate::ast;
use crate::expr::{Expr, ExprKind, FuncRef};
use crate::parse::ROWS_FROM;
use crate::rel::{FunctionCall, Rel};

impl Binder<'_> {
    /// Binds a function in FROM.
    pub(crate) fn bind_from_function(&mut self, factor: &ast::TableFactor) -> Result<BoundItem> {
        let parts = function_parts(factor)?;
        let was = std::mem::replace(&mut self.scope().lateral, true);
        let bound = self.bind_function_item(&parts);
        self.scope().lateral = was;
        bound
    }

    fn bind_function_item(&mut self, parts: &Parts<'_>) -> Result<BoundItem> {
        let definitions = parts.alias.map_or(&[][..], |a| a.columns.as_slice());
        let typed = definitions.iter().any(|d| d.data_type.is_some());
        let several = parts.calls.len() > 1;
        let mut calls = Vec::with_capacity(parts.calls.len());
        let mut scalar = false;
        for e in &parts.calls {
            let name = super::target::column_name(e);
            let given = (typed && !several).then_some(definitions);
            let (call, is_scalar) = self.bind_from_call(e, &name, given)?;
            scalar = is_scalar && !several;
            calls.push(call);
        }
        let ordinality = parts.ordinality.then(|| self.new_column("ordinality", PgType::new(INT8)));
        let mut columns: Vec<ScopeColumn> = Vec::new();
        for c in calls.iter().flat_map(|c| &c.columns).chain(&ordinality) {
            columns.push(ScopeColumn::new(c.name.clone(), c.id, c.ty));
        }
        let first = parts.calls.first().map_or_else(String::new, super::target::column_name);
        let mut item = ScopeItem::new(Some(Arc::from(first.as_str())), columns);
        item.lateral_ok = true;
        item.scalar_function = scalar && ordinality.is_none();
        if let Some(alias) = parts.alias {
            apply_alias(&mut item, Some(alias), &first)?;
            self.note_alias(&item, true);
            // `f(…) AS x` names the only column x as well.
            if scalar && alias.columns.is_empty() {
                item.columns[0].name = Arc::from(alias.name.value.as_str());
            }
        }
        Ok((Rel::Function { calls, ordinality }, vec![item]))
    }

    /// One call, and whether it gives one scalar column.
    fn bind_from_call(
        &mut self,
        e: &ast::Expr,
        name: &str,
        definitions: Option<&[ast::TableAliasColumnDef]>,
    ) -> Result<(FunctionCall, bool)> {
        let position = self.position(e);
        let mark = self.scope().sets.len();
        let expr = self.bind_expr(e, Clause::FromFunction)?;
        let expr = self.resolve_unknown(expr, position)?;
        let ty = expr.ty;
        let mut sets = self.scope().sets.split_off(mark);
        let top = match &expr.kind {
            ExprKind::Column(id) if sets.last().is_some_and(|s| s.column.id == *id) => sets.pop(),
            _ => None,
        };
        if !sets.is_empty() {
            let text = "set-returning functions must appear at top level of FROM";
            return Err(PgError::unsupported(text).at(position));
        }
        let (func, args, returns_set) = match (top, expr.kind) {
            (Some(set), _) => (set.func, set.args, true),
            (None, ExprKind::Call { func, args }) => (func, args, false),
            // A special form, a cast or a constant: any value is a function of one row.
            (None, kind) => (identity(), vec![Expr { kind, ty }], false),
        };
        let fields = self.function_fields((&func, &args), ty, definitions, position)?;
        let mut args = args;
        if let Some(fields) = fields.as_ref().filter(|_| reads_records(&func)) {
            args.extend(described(fields));
        }
        let scalar = fields.is_none();
        let fields = fields.unwrap_or_else(|| {
            let named = out_name(&func, &args).unwrap_or_else(|| Arc::from(name));
            vec![(named, ty)]
        });
        let columns = fields.into_iter().map(|(n, t)| self.new_column(n, t)).collect();
        Ok((FunctionCall { func, returns_set, args, columns, expand: !scalar }, scalar))
    }

    /// The fields of a record result; `None` for a scalar.
    fn function_fields(
        &mut self,
        (func, args): (&FuncRef, &[Expr]),
        ty: PgType,
        definitions: Option<&[ast::TableAliasColumnDef]>,
        position: Option<u32>,
    ) -> Result<Option<Fields>> {
        if let Some(fields) = out_fields(func, args) {
            if definitions.is_some() {
                let text =
                    "a column definition list is redundant for a function with OUT parameters";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            }
            return Ok(Some(fields));
        }
        if ty.oid == RECORD {
            let Some(definitions) = definitions else {
                let text =
                    "a column definition list is required for functions returning \"record\"";
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
            };
            let mut fields: Vec<(Arc<str>, PgType)> = Vec::with_capacity(definitions.len());
            for d in definitions {
                let Some(data_type) = &d.data_type else {
                    let text =
                        "a column definition list is required for functions returning \"record\"";
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
                };
                let ty = self.resolve_type(data_type)?;
                fields.push((Arc::from(d.name.value.as_str()), ty));
            }
            return Ok(Some(fields));
        }
        if let Some(definitions) = definitions {
            let first = definitions.first();
            let position = first.and_then(|d| self.source.position(d.name.span.start));
            let text =
                "a column definition list is only allowed for functions returning \"record\"";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, text).at(position));
        }
        Ok(self.composite_fields(ty.oid))
    }
}

/// Names and types of the fields of a row.
pub(crate) type Fields = Vec<(Arc<str>, PgType)>;

/// A function item taken apart.
struct Parts<'q> {
    calls: Vec<ast::Expr>,
    ordinality: bool,
    alias: Option<&'q ast::TableAlias>,
}

fn function_parts(factor: &ast::TableFactor) -> Result<Parts<'_>> {
    let (calls, ordinality, alias) = match factor {
        ast::TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            (calls_of(name, &args.args), *with_ordinality, alias)
        }
        ast::TableFactor::Function { name, args, alias, with_ordinality, .. } => {
            (calls_of(name, args), *with_ordinality, alias)
        }
        ast::TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
            // `unnest(a, b)` is ROWS FROM (unnest(a), unnest(b)).
            let name =
                ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::new("unnest"))]);
            let calls = array_exprs.iter().map(|e| {
                let arg = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e.clone()));
                call(&name, vec![arg])
            });
            (calls.collect(), *with_ordinality, alias)
        }
        ast::TableFactor::TableFunction { expr, alias } => (vec![expr.clone()], false, alias),
        _ => return Err(PgError::internal("not a function in FROM")),
    };
    Ok(Parts { calls, ordinality, alias: alias.as_ref() })
}

fn calls_of(name: &ast::ObjectName, args: &[ast::FunctionArg]) -> Vec<ast::Expr> {
    let is_rows_from = matches!(name.0.as_slice(),
        [ast::ObjectNamePart::Identifier(i)] if i.value == ROWS_FROM);
    let unnest = matches!(name.0.last(),
        Some(ast::ObjectNamePart::Identifier(i)) if i.value == "unnest");
    if is_rows_from {
        return args.iter().filter_map(arg_expr).collect();
    }
    if unnest && args.len() > 1 {
        return args.iter().map(|a| call(name, vec![a.clone()])).collect();
    }
    vec![call(name, args.to_vec())]
}

fn arg_expr(arg: &ast::FunctionArg) -> Option<ast::Expr> {
    match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
        _ => None,
    }
}

fn call(name: &ast::ObjectName, args: Vec<ast::FunctionArg>) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name: name.clone(),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// A function that fills a row of its first argument's type from JSON.
pub(super) fn populates(func: &FuncRef) -> bool {
    matches!(
        &*func.prosrc,
        "json_populate_record"
            | "jsonb_populate_record"
            | "json_populate_recordset"
            | "jsonb_populate_recordset"
    )
}

/// A function that makes rows of a column definition list from JSON.
fn reads_records(func: &FuncRef) -> bool {
    matches!(
        &*func.prosrc,
        "json_to_record" | "jsonb_to_record" | "json_to_recordset" | "jsonb_to_recordset"
    )
}

/// Names, types and modifiers of fields as arguments, for the functions that make rows.
pub(super) fn described(fields: &Fields) -> [Expr; 3] {
    let array = |element: Oid, of: Oid, values: Vec<Datum>| {
        let array = ArrayValue::from_elements(element, values);
        Expr::constant(Datum::Array(Arc::new(array)), PgType::new(of))
    };
    let names = fields.iter().map(|(name, _)| Datum::Text(name.clone())).collect();
    let types = fields.iter().map(|(_, ty)| Datum::Oid(ty.oid)).collect();
    let typmods = fields.iter().map(|(_, ty)| Datum::Int4(ty.typmod)).collect();
    [
        array(oid::TEXT, oid::TEXT_ARRAY, names),
        array(oid::OID, oid::OID_ARRAY, types),
        array(oid::INT4, oid::INT4_ARRAY, typmods),
    ]
}

/// The function that a value which is no call is taken as: it returns its argument.
fn identity() -> FuncRef {
    FuncRef {
        oid: 0,
        name: Arc::from("identity"),
        prosrc: Arc::from("identity"),
        strict: false,
        volatility: b'i',
        operator: None,
    }
}

/// OUT and TABLE parameters of a built-in function, when there are several.
pub(crate) fn out_fields(func: &FuncRef, args: &[Expr]) -> Option<Fields> {
    let outs = outs(func, args)?;
    (outs.len() > 1).then_some(outs)
}

/// The name of the only OUT parameter.
fn out_name(func: &FuncRef, args: &[Expr]) -> Option<Arc<str>> {
    match outs(func, args)?.as_slice() {
        [(name, _)] if !name.is_empty() => Some(name.clone()),
        _ => None,
    }
}

fn outs(func: &FuncRef, args: &[Expr]) -> Option<Fields> {
    let row = meridian_types::builtin::proc_by_oid(func.oid)?;
    let (types, modes) = (row.allargtypes.as_ref()?, row.argmodes.as_ref()?);
    let names = row.argnames.as_ref();
    // What `anyelement` is follows from an argument that is an array of it.
    let array = row.argtypes.iter().position(|ty| *ty == oid::ANYARRAY);
    let array = array.and_then(|at| args.get(at)).map(|e| e.ty.oid);
    let element = array.and_then(meridian_types::builtin::array_element);
    let outs =
        types.iter().zip(modes).enumerate().filter(|(_, (_, m))| matches!(m, 'o' | 'b' | 't'));
    let fields: Vec<(Arc<str>, PgType)> = outs
        .map(|(i, (ty, _))| {
            let name = names.and_then(|n| n.get(i)).copied().unwrap_or("");
            let ty = if *ty == oid::ANYELEMENT { element.unwrap_or(*ty) } else { *ty };
            (Arc::from(name), PgType::new(ty))
        })
        .collect();
    let polymorphic =
        fields.iter().any(|(_, t)| t.oid == oid::ANYELEMENT || t.oid == oid::ANYARRAY);
    (!fields.is_empty() && !polymorphic).then_some(fields)
}
