//! Constant folding and contradiction.
//!
//! Immutable functions of constants are computed once. An error while doing so is not raised here:
//! the expression is left for the executor, which raises it if the row is ever reached. What is
//! decided without looking at an operand (a strict function of NULL, `false AND …`) is not decided
//! over the head of such an error to the left of it, or beside it in a call.

use std::sync::Arc;

use meridian_types::oid::{self, BOOL, Oid};
use meridian_types::{
    ArrayValue, CallInfo, Datum, EvalContext, PgError, PgType, Result, builtin, io, registry,
};

use crate::expr::{Expr, ExprKind, FuncRef, TruthTest};
use crate::rel::{JoinKind, Rel};
use crate::resolve::func_ref;
use crate::walk;

/// Folds all expressions of a tree and empties what can never give a row.
pub(super) fn relation(mut rel: Rel, failing: &mut bool) -> Rel {
    let ctx = EvalContext::bare();
    walk::rewrite_rel(&mut rel, &mut |e| node(e, &ctx, failing));
    contradictions(rel)
}

/// Folds a node whose operands have been folded.
pub(super) fn node(e: &mut Expr, ctx: &EvalContext, failing: &mut bool) {
    let ty = e.ty;
    let folded = match &mut e.kind {
        ExprKind::Call { func, args } => {
            if func.oid == SUBSTRING_SIMILAR && !args.iter().any(|a| is_null(a) == Some(true)) {
                inline_substring(func, args, ctx, failing);
            }
            let folded = fold_call(func, args, ty, ctx).or_else(|| unscaled(func, args, ty));
            *failing |= folded.is_none() && is_failed(func, args);
            folded
        }
        ExprKind::And(args) => junction(args, true),
        ExprKind::Or(args) => junction(args, false),
        ExprKind::Not(arg) => negate(arg),
        ExprKind::IsNull(arg) if plain_row(arg) => Some(each_field(arg, ExprKind::IsNull)),
        ExprKind::IsNotNull(arg) if plain_row(arg) => Some(each_field(arg, ExprKind::IsNotNull)),
        ExprKind::IsNull(arg) => is_null(arg).map(boolean),
        ExprKind::IsNotNull(arg) => is_null(arg).map(|b| boolean(!b)),
        ExprKind::Truth(test, arg) => truth(*test, arg),
        ExprKind::Case { whens, default } => case(whens, default, ty),
        ExprKind::Coalesce(args) => coalesce(args),
        ExprKind::Distinct { eq, left, right } => equal(eq, left, right, ctx).map(|b| boolean(!b)),
        ExprKind::NullIf { eq, left, right, result } => match equal(eq, left, right, ctx) {
            Some(true) if is_null(left) == Some(false) => Some(Expr::constant(Datum::Null, ty)),
            Some(_) if is_const(result) => Some((**result).clone()),
            _ => None,
        },
        ExprKind::ArrayCompare { func, left, right, .. }
            if func.strict && is_const(left) && is_null(right) == Some(true) =>
        {
            Some(Expr::constant(Datum::Null, ty))
        }
        ExprKind::ViaText { arg } => via_text(arg, ty, ctx)
            .and_then(|d| d.inspect_err(|_| *failing = true).ok())
            .map(|d| Expr::constant(d, ty)),
        ExprKind::Relabel(arg) => match &arg.kind {
            // Between int4 and oid the bits stay and the representation changes.
            ExprKind::Const(Datum::Int4(v)) if ty.oid != oid::INT4 => {
                Some(Expr::constant(Datum::Oid(v.cast_unsigned()), ty))
            }
            ExprKind::Const(Datum::Oid(v)) if ty.oid == oid::INT4 => {
                Some(Expr::constant(Datum::Int4(v.cast_signed()), ty))
            }
            ExprKind::Const(d) => Some(Expr::constant(d.clone(), ty)),
            ExprKind::Relabel(inner) => Some(Expr { kind: ExprKind::Relabel(inner.clone()), ty }),
            _ => None,
        },
        ExprKind::Subscript { base, indexes, slice: false } => element(base, indexes, ty),
        ExprKind::Subscript { base, indexes, slice: true } => slice(base, indexes, ty),
        ExprKind::Array { elements, nested } => array(elements, *nested, ty)
            .and_then(|d| d.inspect_err(|_| *failing = true).ok())
            .map(|d| Expr::constant(d, ty)),
        _ => None,
    };
    if let Some(folded) = folded {
        *e = folded;
    }
}

/// `substring(text, pattern, escape)`, which PostgreSQL defines in SQL.
const SUBSTRING_SIMILAR: Oid = 2074;
const SUBSTRING_REGEX: Oid = 2073;
const SIMILAR_TO_ESCAPE: Oid = 1986;

/// By its definition, `substring(text, similar_to_escape(pattern, escape))`.
fn inline_substring(
    func: &mut FuncRef,
    args: &mut Vec<Expr>,
    ctx: &EvalContext,
    failing: &mut bool,
) {
    let (Some(outer), Some(inner)) =
        (builtin::proc_by_oid(SUBSTRING_REGEX), builtin::proc_by_oid(SIMILAR_TO_ESCAPE))
    else {
        return;
    };
    let kind = ExprKind::Call { func: func_ref(inner, None), args: args.split_off(1) };
    let mut pattern = Expr { kind, ty: PgType::new(oid::TEXT) };
    node(&mut pattern, ctx, failing);
    args.push(pattern);
    *func = func_ref(outer, None);
}

/// `timestamp(x, -1)` and its kin with any other negative precision, of no constant: nothing is
/// rounded.
fn unscaled(func: &FuncRef, args: &[Expr], ty: PgType) -> Option<Expr> {
    const SCALES: [&str; 4] =
        ["timestamp_scale", "timestamptz_scale", "time_scale", "timetz_scale"];
    let [value, precision] = args else { return None };
    let negative = matches!(precision.kind, ExprKind::Const(Datum::Int4(..0)));
    (negative && !is_const(value) && SCALES.contains(&&*func.prosrc))
        .then(|| Expr { kind: value.kind.clone(), ty })
}

fn boolean(b: bool) -> Expr {
    Expr::constant(Datum::Bool(b), PgType::new(BOOL))
}

fn is_const(e: &Expr) -> bool {
    matches!(e.kind, ExprKind::Const(_))
}

/// The truth of a constant condition: `Some(None)` is NULL.
pub(super) fn constant_truth(e: &Expr) -> Option<Option<bool>> {
    match &e.kind {
        ExprKind::Const(Datum::Bool(b)) => Some(Some(*b)),
        ExprKind::Const(Datum::Null) => Some(None),
        _ => None,
    }
}

fn fold_call(func: &FuncRef, args: &[Expr], ty: PgType, ctx: &EvalContext) -> Option<Expr> {
    let is_null = |a: &Expr| matches!(a.kind, ExprKind::Const(Datum::Null));
    if func.strict && args.iter().any(is_null) {
        return (!args.iter().any(raises)).then(|| Expr::constant(Datum::Null, ty));
    }
    if !is_immutable(func, args) || !args.iter().all(is_const) {
        return None;
    }
    compute(func, args, ty, ctx)?.ok().map(|d| Expr::constant(d, ty))
}

fn compute(func: &FuncRef, args: &[Expr], ty: PgType, ctx: &EvalContext) -> Option<Result<Datum>> {
    let kernel = registry::scalar(&func.prosrc)?;
    let types: Vec<PgType> = args.iter().map(|a| a.ty).collect();
    let values: Vec<Datum> = args.iter().filter_map(constant).collect();
    Some(kernel(&CallInfo { ctx, args: &types, ret: ty }, &values))
}

/// Whether two constants are not distinct.
fn equal(eq: &FuncRef, left: &Expr, right: &Expr, ctx: &EvalContext) -> Option<bool> {
    let args = [left.clone(), right.clone()];
    match (is_null(left)?, is_null(right)?) {
        (false, false) if is_immutable(eq, &args) => {
            let value = compute(eq, &args, PgType::new(BOOL), ctx)?.ok()?;
            Some(value == Datum::Bool(true))
        }
        (false, false) => None,
        (a, b) => Some(a && b),
    }
}

/// Types whose text forms do not depend on settings.
const SETTLED: [Oid; 17] = [
    oid::BOOL,
    oid::BYTEA,
    oid::CHAR,
    oid::NAME,
    oid::INT2,
    oid::INT4,
    oid::INT8,
    oid::TEXT,
    oid::OID,
    oid::FLOAT4,
    oid::FLOAT8,
    oid::NUMERIC,
    oid::BPCHAR,
    oid::VARCHAR,
    oid::UUID,
    oid::JSON,
    oid::JSONB,
];

/// A constant converted by way of its text.
fn via_text(arg: &Expr, ty: PgType, ctx: &EvalContext) -> Option<Result<Datum>> {
    let ExprKind::Const(value) = &arg.kind else { return None };
    if value.is_null() {
        return Some(Ok(Datum::Null));
    }
    if ![arg.ty.oid, ty.oid].iter().all(|t| SETTLED.contains(t)) {
        return None;
    }
    let text = match io::to_text(value, arg.ty, ctx) {
        Ok(text) => text,
        Err(e) => return Some(Err(e)),
    };
    Some(io::text_in(ty.oid, ty.typmod, &text, ctx))
}

/// Whether a function of constants is left in it, which folding would have computed if it gave a
/// value.
fn raises(e: &Expr) -> bool {
    let mut found = false;
    walk::visit(e, &mut |e| {
        found |= match &e.kind {
            ExprKind::Call { func, args } => is_failed(func, args),
            ExprKind::ViaText { arg } => {
                via_text(arg, e.ty, &EvalContext::bare()).is_some_and(|r| r.is_err())
            }
            ExprKind::Array { elements, nested } => {
                array(elements, *nested, e.ty).is_some_and(|r| r.is_err())
            }
            _ => false,
        };
    });
    found
}

/// Immutable, or one of the functions whose definition in SQL is inlined to one that is.
fn is_immutable(func: &FuncRef, args: &[Expr]) -> bool {
    const INLINED: [&str; 4] = ["quote_literal", "quote_nullable", "textanycat", "anytextcat"];
    let inlined = || INLINED.contains(&&*func.name);
    func.volatility == b'i' || (inlined() && args.iter().all(|a| SETTLED.contains(&a.ty.oid)))
}

fn is_failed(func: &FuncRef, args: &[Expr]) -> bool {
    is_immutable(func, args)
        && !args.is_empty()
        && args.iter().all(is_const)
        && registry::scalar(&func.prosrc).is_some()
}

/// The error of the first function of constants that is left in a plan.
pub(super) fn first_error(rel: &Rel) -> Option<PgError> {
    let mut found = None;
    walk::each_expr(rel, &mut |e| {
        walk::visit(e, &mut |e| {
            if found.is_some() {
                return;
            }
            if let ExprKind::Call { func, args } = &e.kind
                && is_failed(func, args)
            {
                found = compute(func, args, e.ty, &EvalContext::bare()).and_then(Result::err);
            } else if let ExprKind::ViaText { arg } = &e.kind {
                found = via_text(arg, e.ty, &EvalContext::bare()).and_then(Result::err);
            } else if let ExprKind::Array { elements, nested } = &e.kind {
                found = array(elements, *nested, e.ty).and_then(Result::err);
            } else if let Some(sub) = walk::subquery_of(e) {
                found = first_error(&sub.plan);
            }
        })
    });
    walk::each_input(rel, &mut |input| found = found.take().or_else(|| first_error(input)));
    found
}

/// AND (`unit` true) or OR: nested ones are flattened, the unit is dropped, its opposite decides.
fn junction(args: &mut Vec<Expr>, unit: bool) -> Option<Expr> {
    let mut flat = Vec::with_capacity(args.len());
    for arg in std::mem::take(args) {
        match (arg.kind, unit) {
            (ExprKind::And(inner), true) | (ExprKind::Or(inner), false) => flat.extend(inner),
            (kind, _) => flat.push(Expr { kind, ty: arg.ty }),
        }
    }
    if let Some(at) = flat.iter().position(|e| constant_truth(e) == Some(Some(!unit))) {
        if !flat[..at].iter().any(raises) {
            return Some(boolean(!unit));
        }
        flat.truncate(at + 1);
    }
    flat.retain(|e| constant_truth(e) != Some(Some(unit)));
    match flat.len() {
        0 => Some(boolean(unit)),
        1 => flat.pop(),
        _ => {
            *args = flat;
            None
        }
    }
}

fn negate(arg: &mut Expr) -> Option<Expr> {
    match &mut arg.kind {
        ExprKind::Const(Datum::Bool(b)) => Some(boolean(!*b)),
        ExprKind::Const(Datum::Null) => Some(Expr::constant(Datum::Null, PgType::new(BOOL))),
        ExprKind::Not(inner) => Some((**inner).clone()),
        ExprKind::IsNull(inner) if !row_like(inner) => {
            Some(Expr { kind: ExprKind::IsNotNull(inner.clone()), ty: arg.ty })
        }
        ExprKind::IsNotNull(inner) if !row_like(inner) => {
            Some(Expr { kind: ExprKind::IsNull(inner.clone()), ty: arg.ty })
        }
        _ => None,
    }
}

/// `IS NOT NULL` of a row value is not the opposite of `IS NULL`: only built-in scalar types, whose
/// oids are below the first user type's, are sure not to be rows.
fn row_like(e: &Expr) -> bool {
    e.ty.oid == meridian_types::oid::RECORD || e.ty.oid >= 10_000
}

/// A row constructor of which no field is a row.
fn plain_row(e: &Expr) -> bool {
    matches!(&e.kind, ExprKind::Row(fields) if !fields.iter().any(|f| row_like(f) || raises(f)))
}

/// `ROW(a, b) IS NULL` as `a IS NULL AND b IS NULL`, which looks no further than it must.
fn each_field(row: &Expr, test: impl Fn(Box<Expr>) -> ExprKind) -> Expr {
    let ExprKind::Row(fields) = &row.kind else { return row.clone() };
    let ty = PgType::new(BOOL);
    let tests = fields.iter().map(|f| Expr { kind: test(Box::new(f.clone())), ty }).collect();
    Expr { kind: ExprKind::And(tests), ty }
}

fn is_null(arg: &Expr) -> Option<bool> {
    match &arg.kind {
        ExprKind::Const(Datum::Record(_)) => None,
        ExprKind::Const(d) => Some(d.is_null()),
        _ => None,
    }
}

fn truth(test: TruthTest, arg: &Expr) -> Option<Expr> {
    let value = constant_truth(arg)?;
    Some(boolean(match test {
        TruthTest::IsTrue => value == Some(true),
        TruthTest::IsNotTrue => value != Some(true),
        TruthTest::IsFalse => value == Some(false),
        TruthTest::IsNotFalse => value != Some(false),
        TruthTest::IsUnknown => value.is_none(),
        TruthTest::IsNotUnknown => value.is_some(),
    }))
}

/// Branches that are never taken are dropped; one that always is ends the list.
fn case(
    whens: &mut Vec<(Expr, Expr)>,
    default: &mut Option<Box<Expr>>,
    ty: PgType,
) -> Option<Expr> {
    whens.retain(|(c, _)| !matches!(constant_truth(c), Some(Some(false) | None)));
    if let Some(at) = whens.iter().position(|(c, _)| constant_truth(c) == Some(Some(true))) {
        let (_, result) = whens.swap_remove(at);
        whens.truncate(at);
        *default = Some(Box::new(result));
    }
    if !whens.is_empty() {
        return None;
    }
    let null = || Expr::constant(Datum::Null, ty);
    Some(default.take().map_or_else(null, |e| *e))
}

fn coalesce(args: &mut Vec<Expr>) -> Option<Expr> {
    let last = args.last().cloned();
    args.retain(|e| !matches!(e.kind, ExprKind::Const(Datum::Null)));
    if let Some(at) = args.iter().position(is_const) {
        args.truncate(at + 1);
    }
    match args.len() {
        0 => last,
        1 => args.pop(),
        _ => None,
    }
}

/// An element of a constant array.
fn element(base: &Expr, indexes: &[(Option<Expr>, Option<Expr>)], ty: PgType) -> Option<Expr> {
    if matches!(base.kind, ExprKind::Const(Datum::Null))
        && indexes.iter().all(|(_, index)| index.as_ref().is_some_and(is_const))
    {
        return Some(Expr::constant(Datum::Null, ty));
    }
    let ExprKind::Const(Datum::Array(array)) = &base.kind else { return None };
    let mut at = Vec::with_capacity(indexes.len());
    for (_, index) in indexes {
        match &index.as_ref()?.kind {
            ExprKind::Const(Datum::Int4(i)) => at.push(*i),
            ExprKind::Const(Datum::Null) => return Some(Expr::constant(Datum::Null, ty)),
            _ => return None,
        }
    }
    Some(Expr::constant(array.element(&at), ty))
}

/// A slice of a constant array.
fn slice(base: &Expr, indexes: &[(Option<Expr>, Option<Expr>)], ty: PgType) -> Option<Expr> {
    let base = constant(base)?;
    let mut null = base.is_null();
    let mut end = |bound: &Option<Expr>| match bound.as_ref().map(constant) {
        None => Some(None),
        Some(Some(Datum::Int4(end))) => Some(Some(end)),
        Some(Some(Datum::Null)) => {
            null = true;
            Some(None)
        }
        _ => None,
    };
    let bounds: Vec<_> =
        indexes.iter().map(|(l, u)| Some((end(l)?, end(u)?))).collect::<Option<_>>()?;
    match base {
        _ if null => Some(Expr::constant(Datum::Null, ty)),
        Datum::Array(array) => {
            Some(Expr::constant(Datum::Array(Arc::new(array.slice(&bounds))), ty))
        }
        _ => None,
    }
}

/// An array of constants.
fn array(elements: &[Expr], nested: bool, ty: PgType) -> Option<Result<Datum>> {
    let values: Vec<Datum> = elements.iter().map(constant).collect::<Option<_>>()?;
    let value = if nested {
        ArrayValue::nested(builtin::type_by_oid(ty.oid)?.elem, &values)
    } else {
        Ok(ArrayValue::from_elements(elements.first()?.ty.oid, values))
    };
    Some(value.map(|value| Datum::Array(Arc::new(value))))
}

fn constant(e: &Expr) -> Option<Datum> {
    match &e.kind {
        ExprKind::Const(d) => Some(d.clone()),
        _ => None,
    }
}

/// Conditions that are constant, bottom up.
fn contradictions(mut rel: Rel) -> Rel {
    walk::each_input_mut(&mut rel, &mut |r| {
        let taken = walk::take(r);
        *r = contradictions(taken);
    });
    match rel {
        Rel::Filter { input, predicates } => {
            let (never, predicates) = weed(predicates);
            if never && !walk::rel_is_volatile(&input) {
                return empty(&input);
            }
            if never {
                return Rel::Filter { input, predicates: vec![boolean(false)] };
            }
            walk::filtered(*input, predicates)
        }
        Rel::Join { kind, left, right, on, lookup } => join(kind, left, right, on, lookup),
        Rel::Limit { input, limit, offset, with_ties } => {
            let null = |e: &Expr| matches!(e.kind, ExprKind::Const(Datum::Null));
            let limit = limit.filter(|e| !null(e));
            let zero = |e: &Expr| matches!(e.kind, ExprKind::Const(Datum::Int8(0)));
            let offset = offset.filter(|e| !null(e) && !zero(e));
            if limit.as_ref().is_some_and(zero) && !walk::rel_is_volatile(&input) {
                return empty(&input);
            }
            if limit.is_none() && offset.is_none() {
                return *input;
            }
            Rel::Limit { input, limit, offset, with_ties }
        }
        other => other,
    }
}

fn join(kind: JoinKind, left: Box<Rel>, right: Box<Rel>, on: Vec<Expr>, lookup: bool) -> Rel {
    let (never, on) = weed(on);
    let on = if never { vec![boolean(false)] } else { on };
    let pure = !walk::rel_is_volatile(&left) && !walk::rel_is_volatile(&right);
    let dead = match kind {
        JoinKind::Inner => never || is_empty(&left) || is_empty(&right),
        JoinKind::Semi => never || is_empty(&left) || is_empty(&right),
        JoinKind::Left | JoinKind::Anti => is_empty(&left),
        JoinKind::Right => is_empty(&right),
        JoinKind::Full => false,
    };
    let rel = Rel::Join { kind, left, right, on, lookup };
    if dead && pure { empty(&rel) } else { rel }
}

fn is_empty(rel: &Rel) -> bool {
    matches!(rel, Rel::Values { rows, .. } if rows.is_empty())
}

/// Drops what is always true; tells whether one is never true.
fn weed(predicates: Vec<Expr>) -> (bool, Vec<Expr>) {
    let mut flat = Vec::with_capacity(predicates.len());
    predicates.into_iter().for_each(|p| walk::conjuncts(p, &mut flat));
    let false_at = flat.iter().position(|p| matches!(constant_truth(p), Some(Some(false) | None)));
    let never = false_at.is_some_and(|at| !flat[..at].iter().any(raises));
    flat.retain(|p| constant_truth(p) != Some(Some(true)));
    (never, flat)
}

/// No rows, of the same columns.
fn empty(like: &Rel) -> Rel {
    Rel::Values { columns: walk::output(like), rows: vec![] }
}
