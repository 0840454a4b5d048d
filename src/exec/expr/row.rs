//! Evaluation of one row over `Datum`s: the semantics of every expression.

use arrow::record_batch::RecordBatch;
use meridian_sql::expr::{Quantifier, TruthTest};
use meridian_types::context::CallInfoOwned;
use meridian_types::{CallInfo, Datum, PgError, PgType, Result, SqlState, oid, registry};
use smallvec::SmallVec;

use super::{Eval, Function, KernelRef, Node, SubqueryKind, SubqueryNode, arrays};
use crate::shared::{Cx, Members, fingerprint};
use crate::values;

/// A row that expressions read by position.
pub(crate) trait RowInput {
    /// The value at this position, which is of this type.
    fn datum(&self, index: usize, ty: PgType) -> Datum;
}

impl RowInput for [Datum] {
    fn datum(&self, index: usize, _: PgType) -> Datum {
        self.get(index).cloned().unwrap_or(Datum::Null)
    }
}

impl RowInput for &[Datum] {
    fn datum(&self, index: usize, _: PgType) -> Datum {
        self.get(index).cloned().unwrap_or(Datum::Null)
    }
}

impl RowInput for Vec<Datum> {
    fn datum(&self, index: usize, _: PgType) -> Datum {
        self.get(index).cloned().unwrap_or(Datum::Null)
    }
}

/// One row of a batch.
pub(crate) struct BatchRow<'a> {
    pub(crate) batch: &'a RecordBatch,
    pub(crate) row: usize,
}

impl RowInput for BatchRow<'_> {
    fn datum(&self, index: usize, ty: PgType) -> Datum {
        values::datum_at(self.batch.column(index), self.row, ty)
    }
}

impl Function {
    /// Calls it, NULL arguments seen to.
    pub(crate) fn call(&self, cx: &Cx, args: &[Datum]) -> Result<Datum> {
        if self.strict && args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        match &self.kernel {
            KernelRef::Pure(kernel) => {
                let info = CallInfo { ctx: cx.eval, args: &self.info.args, ret: self.info.ret };
                kernel(&info, args)
            }
            KernelRef::Host => match cx.eval.host.call(&self.prosrc, &self.info, args) {
                Some(result) => result,
                None => Err(PgError::unsupported(format!(
                    "function {} is not supported yet",
                    self.name
                ))),
            },
        }
    }
}

impl Eval {
    /// The value for this row.
    pub(crate) fn row(&self, row: &dyn RowInput, cx: &Cx) -> Result<Datum> {
        match &self.node {
            Node::Const(value) => Ok(value.clone()),
            Node::Input(index) => Ok(row.datum(*index, self.ty)),
            Node::Outer(slot) => Ok(cx.outer(*slot)),
            Node::Local(index) => Ok(cx.locals.get(*index).cloned().unwrap_or(Datum::Null)),
            Node::Param(index) => cx.param(*index),
            Node::Call(function, args) => {
                let args = eval_args(args, row, cx)?;
                function.call(cx, &args)
            }
            Node::And(args) => connective(args, row, cx, false),
            Node::Or(args) => connective(args, row, cx, true),
            Node::Not(arg) => Ok(match arg.row(row, cx)? {
                Datum::Bool(b) => Datum::Bool(!b),
                _ => Datum::Null,
            }),
            Node::IsNull(arg) => Ok(Datum::Bool(is_null(&arg.row(row, cx)?))),
            Node::IsNotNull(arg) => Ok(Datum::Bool(is_not_null(&arg.row(row, cx)?))),
            Node::Truth(test, arg) => Ok(Datum::Bool(truth(*test, &arg.row(row, cx)?))),
            Node::Coalesce(args) => {
                for arg in args {
                    let value = arg.row(row, cx)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Node::Case(whens, default) => {
                for (condition, result) in whens {
                    if condition.row(row, cx)? == Datum::Bool(true) {
                        return result.row(row, cx);
                    }
                }
                default.as_ref().map_or(Ok(Datum::Null), |d| d.row(row, cx))
            }
            _ => self.row_rare(row, cx),
        }
    }

    fn row_rare(&self, row: &dyn RowInput, cx: &Cx) -> Result<Datum> {
        match &self.node {
            Node::Distinct(eq, pair) => {
                let (a, b) = (pair[0].row(row, cx)?, pair[1].row(row, cx)?);
                Ok(Datum::Bool(match (a.is_null(), b.is_null()) {
                    (true, true) => false,
                    (true, false) | (false, true) => true,
                    (false, false) => eq.call(cx, &[a, b])? != Datum::Bool(true),
                }))
            }
            Node::NullIf(eq, args) => {
                let (a, b) = (args[0].row(row, cx)?, args[1].row(row, cx)?);
                if !a.is_null() && !b.is_null() && eq.call(cx, &[a, b])? == Datum::Bool(true) {
                    return Ok(Datum::Null);
                }
                args[2].row(row, cx)
            }
            Node::MinMax(greatest, args) => {
                let mut best = Datum::Null;
                for arg in args {
                    let value = arg.row(row, cx)?;
                    if value.is_null() {
                        continue;
                    }
                    let better = best.is_null() || {
                        let order = values::compare(&value, &best, self.ty);
                        if *greatest { order.is_gt() } else { order.is_lt() }
                    };
                    if better {
                        best = value;
                    }
                }
                Ok(best)
            }
            Node::ArrayCompare(function, quantifier, pair) => {
                let (scalar, array) = (pair[0].row(row, cx)?, pair[1].row(row, cx)?);
                array_compare(function, *quantifier, &scalar, &array, cx)
            }
            Node::Array(elements, nested) => {
                let values = eval_args(elements, row, cx)?;
                arrays::construct(values.into_vec(), *nested, self.ty)
            }
            Node::Row(fields) => Ok(Datum::Record(eval_args(fields, row, cx)?.into_vec().into())),
            Node::Field(base, index) => Ok(match base.row(row, cx)? {
                Datum::Record(fields) => fields.get(*index).cloned().unwrap_or(Datum::Null),
                _ => Datum::Null,
            }),
            Node::Subscript(base, indexes, slice) => {
                let value = base.row(row, cx)?;
                if value.is_null() {
                    return Ok(Datum::Null);
                }
                let mut bounds = Vec::with_capacity(indexes.len());
                for (lower, upper) in indexes {
                    let lower = lower.as_ref().map(|e| e.row(row, cx)).transpose()?;
                    let upper = upper.as_ref().map(|e| e.row(row, cx)).transpose()?;
                    bounds.push((lower, upper));
                }
                arrays::subscript(&value, &bounds, *slice, cx)
            }
            Node::Relabel(arg) => Ok(relabel(arg.row(row, cx)?, self.ty)),
            Node::ViaText(arg) => {
                let value = arg.row(row, cx)?;
                if value.is_null() {
                    return Ok(value);
                }
                let text = values::text_out(&value, arg.ty, cx.eval)?;
                values::text_in(&text, self.ty, cx.eval)
            }
            Node::ArrayCoerce(arg, element) => {
                arrays::coerce(&arg.row(row, cx)?, element, self.ty, row, cx)
            }
            Node::SqlValue(name) => sql_value(name, self.ty, cx),
            Node::Subquery(node) => subquery(node, row, cx),
            Node::RowId => Ok(Datum::Int8(crate::rowid::next())),
            Node::SortKey(arg) => {
                let value = arg.row(row, cx)?;
                if value.is_null() {
                    return Ok(value);
                }
                let mut key = Vec::new();
                values::sort_key(&value, arg.ty, &mut key)?;
                Ok(Datum::Bytea(key.into()))
            }
            Node::Widen(arg) => Ok(arg.row(row, cx)?.as_i64().map_or(Datum::Null, Datum::Int8)),
            _ => Err(PgError::internal("expression has no evaluation")),
        }
    }
}

/// Evaluates arguments, left to right.
pub(crate) fn eval_args(
    args: &[Eval],
    row: &dyn RowInput,
    cx: &Cx,
) -> Result<SmallVec<[Datum; 4]>> {
    let mut out = SmallVec::with_capacity(args.len());
    for arg in args {
        out.push(arg.row(row, cx)?);
    }
    Ok(out)
}

fn connective(args: &[Eval], row: &dyn RowInput, cx: &Cx, decides: bool) -> Result<Datum> {
    let mut unknown = false;
    for arg in args {
        match arg.row(row, cx)? {
            Datum::Bool(b) if b == decides => return Ok(Datum::Bool(decides)),
            Datum::Bool(_) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(!decides) })
}

/// IS NULL, with the rule for rows.
pub(crate) fn is_null(value: &Datum) -> bool {
    match value {
        Datum::Null => true,
        Datum::Record(fields) => fields.iter().all(Datum::is_null),
        _ => false,
    }
}

fn is_not_null(value: &Datum) -> bool {
    match value {
        Datum::Null => false,
        Datum::Record(fields) => fields.iter().all(|f| !f.is_null()),
        _ => true,
    }
}

fn truth(test: TruthTest, value: &Datum) -> bool {
    let value = value.as_bool();
    match test {
        TruthTest::IsTrue => value == Some(true),
        TruthTest::IsNotTrue => value != Some(true),
        TruthTest::IsFalse => value == Some(false),
        TruthTest::IsNotFalse => value != Some(false),
        TruthTest::IsUnknown => value.is_none(),
        TruthTest::IsNotUnknown => value.is_some(),
    }
}

/// The same bits under another type; only integers and oids differ as `Datum`s.
pub(crate) fn relabel(value: Datum, ty: PgType) -> Datum {
    match value {
        Datum::Int4(v) if values::is_oid_type(ty.oid) => Datum::Oid(v.cast_unsigned()),
        Datum::Oid(v) if ty.oid == oid::INT4 => Datum::Int4(v.cast_signed()),
        other => other,
    }
}

fn array_compare(
    function: &Function,
    quantifier: Quantifier,
    scalar: &Datum,
    array: &Datum,
    cx: &Cx,
) -> Result<Datum> {
    let Datum::Array(array) = array else { return Ok(Datum::Null) };
    if scalar.is_null() && function.strict && !array.elements.is_empty() {
        return Ok(Datum::Null);
    }
    let decides = quantifier == Quantifier::Any;
    let mut unknown = false;
    for element in &array.elements {
        match function.call(cx, &[scalar.clone(), element.clone()])? {
            Datum::Bool(b) if b == decides => return Ok(Datum::Bool(decides)),
            Datum::Bool(_) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(!decides) })
}

fn sql_value(name: &str, ty: PgType, cx: &Cx) -> Result<Datum> {
    let eval = cx.eval;
    let now = Datum::TimestampTz(round_micros(eval.transaction_time, ty.typmod));
    let convert = |prosrc: &str| -> Result<Datum> {
        let kernel = registry::scalar(prosrc)
            .ok_or_else(|| PgError::unsupported(format!("function {name} is not supported yet")))?;
        let args = [PgType::new(oid::TIMESTAMPTZ)];
        kernel(&CallInfo { ctx: eval, args: &args, ret: ty }, std::slice::from_ref(&now))
    };
    match name {
        "current_timestamp" => Ok(now),
        "current_date" => convert("timestamptz_date"),
        "current_time" => convert("timestamptz_timetz"),
        "localtime" => convert("timestamptz_time"),
        "localtimestamp" => convert("timestamptz_timestamp"),
        _ => {
            let prosrc = match name {
                "current_role" | "user" => "current_user",
                "current_catalog" => "current_database",
                other => other,
            };
            let info = CallInfoOwned { args: vec![], ret: ty };
            eval.host.call(prosrc, &info, &[]).unwrap_or_else(|| {
                Err(PgError::unsupported(format!("function {name} is not supported yet")))
            })
        }
    }
}

fn round_micros(micros: i64, typmod: i32) -> i64 {
    let Ok(digits) = u32::try_from(typmod) else { return micros };
    if digits >= 6 {
        return micros;
    }
    let unit = 10_i64.pow(6 - digits);
    (micros + unit / 2).div_euclid(unit) * unit
}

fn subquery(node: &SubqueryNode, row: &dyn RowInput, cx: &Cx) -> Result<Datum> {
    let outer = eval_args(&node.outer, row, cx)?;
    let rows = cx.subquery(node.plan, &outer)?;
    match &node.kind {
        SubqueryKind::Scalar => match rows.rows.as_slice() {
            [] => Ok(Datum::Null),
            [row] => Ok(row.first().cloned().unwrap_or(Datum::Null)),
            _ => Err(PgError::new(
                SqlState::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            )),
        },
        SubqueryKind::Exists => Ok(Datum::Bool(!rows.rows.is_empty())),
        SubqueryKind::Array => {
            let elements = rows.rows.iter().map(|r| r.first().cloned().unwrap_or(Datum::Null));
            arrays::from_rows(elements.collect(), cx.subquery_type(node.plan))
        }
        SubqueryKind::Quantified(quantifier, test) => {
            if rows.rows.len() >= MEMBERS_MIN
                && let Some(probe) = probe(*quantifier, test)
            {
                return member(probe.row(row, cx)?, rows.members(), *quantifier);
            }
            let decides = *quantifier == Quantifier::Any;
            let mut unknown = false;
            for found in &rows.rows {
                match test.row(row, &cx.with_locals(found))? {
                    Datum::Bool(b) if b == decides => return Ok(Datum::Bool(decides)),
                    Datum::Bool(_) => {}
                    _ => unknown = true,
                }
            }
            Ok(if unknown { Datum::Null } else { Datum::Bool(!decides) })
        }
    }
}

/// Rows of a sub-query from which on its values are looked up by hash.
const MEMBERS_MIN: usize = 16;

/// What is looked for by `x = ANY (…)` or `x <> ALL (…)`, where equality is that of the bytes.
fn probe(quantifier: Quantifier, test: &Eval) -> Option<&Eval> {
    let Node::Call(function, args) = &test.node else { return None };
    let bytewise = match quantifier {
        Quantifier::Any => matches!(
            &*function.prosrc,
            "int2eq" | "int4eq" | "int8eq" | "oideq" | "texteq" | "booleq" | "uuid_eq"
        ),
        Quantifier::All => matches!(
            &*function.prosrc,
            "int2ne" | "int4ne" | "int8ne" | "oidne" | "textne" | "boolne" | "uuid_ne"
        ),
    };
    let [a, b] = &args[..] else { return None };
    let local = |e: &Eval| matches!(&bare(e).node, Node::Local(0));
    let free = |e: &Eval| {
        matches!(&bare(e).node, Node::Input(_) | Node::Outer(_) | Node::Const(_) | Node::Param(_))
    };
    if !bytewise || values::data_type(bare(a).ty) != values::data_type(bare(b).ty) {
        return None;
    }
    match (local(a) && free(b), free(a) && local(b)) {
        (true, _) => Some(bare(b)),
        (_, true) => Some(bare(a)),
        _ => None,
    }
}

fn bare(e: &Eval) -> &Eval {
    match &e.node {
        Node::Relabel(inner) => bare(inner),
        _ => e,
    }
}

fn member(value: Datum, members: &Members, quantifier: Quantifier) -> Result<Datum> {
    let any = quantifier == Quantifier::Any;
    Ok(match value {
        Datum::Null => Datum::Null,
        value if members.values.contains(&fingerprint(std::slice::from_ref(&value))) => {
            Datum::Bool(any)
        }
        _ if members.null => Datum::Null,
        _ => Datum::Bool(!any),
    })
}
