//! Joins: hash on equality of columns, nested loops otherwise, lookups by key.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_common::{JoinSide, JoinType, NullEquality};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column as DfColumn;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion_physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use meridian_sql::expr::{ColumnId, Expr, ExprKind};
use meridian_sql::rel::{JoinKind, Rel};
use meridian_sql::walk;
use meridian_types::{PgError, PgType, Result, oid};

use super::physical::EvalExpr;
use super::spool::seeks;
use super::{InputScope, Lowered, Lowerer};
use crate::error::from_datafusion;
use crate::expr::{Eval, Node, compile};
use crate::ops::apply::{ApplyOp, Right};
use crate::ops::basic::PassOp;
use crate::ops::schema_of;
use crate::values;

/// How the two sides of an equality are compared by hash.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum KeyForm {
    Native,
    Widened,
    SortKey,
}

fn key_form(left: PgType, right: PgType) -> Option<KeyForm> {
    let integer = |t: PgType| matches!(t.oid, oid::INT2 | oid::INT4 | oid::INT8);
    if left.oid != right.oid && integer(left) && integer(right) {
        return Some(KeyForm::Widened);
    }
    let native = values::is_native(left) && values::is_native(right);
    if native && values::data_type(left) == values::data_type(right) {
        return Some(KeyForm::Native);
    }
    (left.oid == right.oid).then_some(KeyForm::SortKey)
}

/// The two sides of an equality that hashing understands.
pub(super) fn sides(on: &Expr) -> Option<(&Expr, &Expr, KeyForm)> {
    let ExprKind::Call { func, args } = &on.kind else { return None };
    let named = func.prosrc.ends_with("eq")
        || matches!(&*func.prosrc, "nameeqtext" | "texteqname" | "date_eq" | "timestamp_eq");
    if func.operator.as_deref() != Some("=") || !named {
        return None;
    }
    let [a, b] = &args[..] else { return None };
    Some((a, b, key_form(a.ty, b.ty)?))
}

/// The two sides of `left = right`, the first over the left input's columns.
fn equality<'e>(
    on: &'e Expr,
    left: &HashMap<ColumnId, usize>,
    right: &HashMap<ColumnId, usize>,
) -> Option<(&'e Expr, &'e Expr, KeyForm)> {
    let (a, b, form) = sides(on)?;
    let over = |e: &Expr, map: &HashMap<ColumnId, usize>| {
        let columns = walk::expr_columns(e);
        !columns.is_empty() && columns.iter().all(|c| map.contains_key(c))
    };
    if over(a, left) && over(b, right) {
        return Some((a, b, form));
    }
    (over(b, left) && over(a, right)).then_some((b, a, form))
}

impl Lowerer {
    pub(crate) fn join(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[Expr],
        lookup: bool,
    ) -> Result<Lowered> {
        let subqueries = on.iter().any(walk::has_subquery);
        if lookup || (subqueries && !matches!(kind, JoinKind::Right | JoinKind::Full)) {
            return self.apply(kind, left, right, on);
        }
        if subqueries {
            return Err(PgError::unsupported(
                "a sub-query in the condition of a RIGHT or FULL JOIN is not supported yet",
            ));
        }
        let (left, right) = (self.rel(left)?, self.rel(right)?);
        let (left_map, right_map) = (left.map(), right.map());
        let (mut keys, mut rest) = (vec![], vec![]);
        for predicate in on {
            match equality(predicate, &left_map, &right_map) {
                Some(key) => keys.push(key),
                None => rest.push(predicate),
            }
        }
        if keys.is_empty() {
            return self.nested_loop(kind, left, right, &rest);
        }
        let (mut left_keys, mut right_keys) = (vec![], vec![]);
        for (a, b, form) in keys {
            left_keys.push((a, form));
            right_keys.push((b, form));
        }
        let (left, left_at) = self.keyed(left, &left_keys)?;
        let (right, right_at) = self.keyed(right, &right_keys)?;
        let column = |input: &Lowered, at: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(DfColumn::new(input.plan.schema().field(at).name(), at))
        };
        // The right side is built, the left one probes and keeps its order.
        let pairs = right_at
            .iter()
            .zip(&left_at)
            .map(|(r, l)| (column(&right, *r), column(&left, *l)))
            .collect();
        let filter = self.join_filter(&right, &left, &rest)?;
        let join = HashJoinExec::try_new(
            right.plan.clone(),
            left.plan.clone(),
            pairs,
            filter,
            &join_type(kind),
            None,
            PartitionMode::CollectLeft,
            NullEquality::NullEqualsNothing,
            false,
        )
        .map_err(|e| from_datafusion(&e))?;
        Ok(self.joined(kind, Arc::new(join), left, right))
    }

    fn nested_loop(
        &mut self,
        kind: JoinKind,
        left: Lowered,
        right: Lowered,
        on: &[&Expr],
    ) -> Result<Lowered> {
        // DataFusion goes through the built side row by row. For an inner join that is the left one:
        // its rows come in order, each with all of the right side's (of a batch), as in PostgreSQL.
        let inner = kind == JoinKind::Inner;
        let (built, probing) = if inner { (&left, &right) } else { (&right, &left) };
        let filter = self.join_filter(built, probing, on)?;
        let (built, probing) = (built.plan.clone(), probing.plan.clone());
        let join = NestedLoopJoinExec::try_new(built, probing, filter, &join_type(kind), None)
            .map_err(|e| from_datafusion(&e))?;
        if inner {
            return Ok(self.joined(kind, Arc::new(join), right, left));
        }
        Ok(self.joined(kind, Arc::new(join), left, right))
    }

    /// A join as DataFusion gives it: the built side's columns first.
    fn joined(
        &mut self,
        kind: JoinKind,
        plan: Arc<dyn ExecutionPlan>,
        probing: Lowered,
        built: Lowered,
    ) -> Lowered {
        let cols = match kind {
            JoinKind::Semi | JoinKind::Anti => probing.cols,
            _ => built.cols.into_iter().chain(probing.cols).collect(),
        };
        self.op(PassOp, plan.schema(), vec![plan], cols)
    }

    /// The input with its join keys, and their positions.
    fn keyed(
        &mut self,
        input: Lowered,
        keys: &[(&Expr, KeyForm)],
    ) -> Result<(Lowered, Vec<usize>)> {
        let mut at = vec![];
        let mut extra: Vec<Eval> = vec![];
        for (expr, form) in keys {
            let eval = self.expr(expr, &input)?;
            if let (KeyForm::Native, Node::Input(i)) = (form, &eval.node) {
                at.push(*i);
                continue;
            }
            at.push(input.cols.len() + extra.len());
            extra.push(match form {
                KeyForm::Native => eval,
                KeyForm::Widened => eval.widen(),
                KeyForm::SortKey => eval.sort_key(),
            });
        }
        Ok((self.extend(input, extra), at))
    }

    /// The condition over a join's intermediate batch, which has just the columns that it reads.
    fn join_filter(
        &mut self,
        built: &Lowered,
        probing: &Lowered,
        on: &[&Expr],
    ) -> Result<Option<JoinFilter>> {
        if on.is_empty() {
            return Ok(None);
        }
        let mut columns = vec![];
        let mut map = HashMap::new();
        let mut types = vec![];
        let used: std::collections::BTreeSet<ColumnId> =
            on.iter().flat_map(|e| walk::expr_columns(e)).collect();
        for id in used {
            // The built side is DataFusion's left.
            let found = [(built, JoinSide::Left), (probing, JoinSide::Right)]
                .into_iter()
                .find_map(|(input, side)| Some((input.key(id).ok()?, side)));
            let Some(((index, ty), side)) = found else { continue };
            map.insert(id, types.len());
            types.push(ty);
            columns.push(ColumnIndex { index, side });
        }
        let mut parts = vec![];
        for predicate in on {
            parts.push(compile(predicate, &mut InputScope { lowerer: self, map: &map })?);
        }
        let ty = PgType::new(oid::BOOL);
        let safe = parts.iter().all(|p| p.safe);
        let eval = match parts.len() {
            1 => parts.remove(0),
            _ => Eval { node: Node::And(parts), ty, safe, correlated: false },
        };
        let expr = EvalExpr { eval, shared: self.shared.clone() };
        Ok(Some(JoinFilter::new(Arc::new(expr), columns, schema_of(types))))
    }

    /// The right side run anew for each left row.
    pub(crate) fn apply(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[Expr],
    ) -> Result<Lowered> {
        let left = self.rel(left)?;
        let outer: Vec<ColumnId> = walk::free_columns(right)
            .into_iter()
            .filter(|id| left.cols.iter().any(|(c, _)| c == id))
            .collect();
        self.nested += 1;
        // Without outer columns the right side is run once and kept.
        let repeated = self.repeated;
        self.repeated += usize::from(!outer.is_empty());
        let lowered = match right {
            Rel::Scan { table, columns, filter, access } if seeks(right) => self
                .scan_spec(table, columns, filter, access)
                .map(|(s, cols)| (Right::Scan(Arc::new(s)), None, cols)),
            other => self.rel(other).map(|l| (Right::Child, Some(l.plan), l.cols)),
        };
        self.nested -= 1;
        self.repeated = repeated;
        let (side, child, right_cols) = lowered?;
        let slots: Result<Vec<_>> = outer
            .into_iter()
            .map(|id| left.key(id).map(|(at, ty)| (self.slot(id), at, ty)))
            .collect();
        let right_schema = match (&child, &side) {
            (Some(plan), _) => plan.schema(),
            (None, Right::Scan(spec)) => spec.schema.clone(),
            (None, Right::Child) => return Err(PgError::internal("an apply without right side")),
        };
        let cols: Vec<_> = left.cols.iter().chain(&right_cols).copied().collect();
        let joined = schema_of(cols.iter().map(|c| c.1));
        let both = Lowered { plan: left.plan.clone(), cols: cols.clone() };
        let on = self.exprs(on, &both)?;
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let (schema, cols) = match semi {
            true => (left.plan.schema(), left.cols),
            false => (joined.clone(), cols),
        };
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            return Err(PgError::internal("a RIGHT or FULL JOIN cannot be a lookup"));
        }
        let op = ApplyOp {
            kind,
            right: side,
            right_schema,
            outer: slots?,
            on,
            joined,
            shared: self.shared.clone(),
        };
        let children = std::iter::once(left.plan).chain(child).collect();
        Ok(self.op(op, schema, children, cols))
    }
}

/// DataFusion's kind for inputs that have been swapped.
fn join_type(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Right,
        JoinKind::Right => JoinType::Left,
        JoinKind::Full => JoinType::Full,
        JoinKind::Semi => JoinType::RightSemi,
        JoinKind::Anti => JoinType::RightAnti,
    }
}
