//! From the algebra's expressions to compiled ones.

use std::collections::HashMap;

use meridian_sql::expr::{ColumnId, Expr, ExprKind, FuncRef, Quantifier, Subquery};
use meridian_sql::walk;
use meridian_types::context::CallInfoOwned;
use meridian_types::{PgError, PgType, Result, oid, registry};

use super::row::relabel;
use super::{Eval, Fast, Function, KernelRef, Node, SubqueryKind, SubqueryNode};

/// What column ids mean while an expression is compiled.
pub(crate) trait Scope {
    /// Position of a column of the input, if it is one.
    fn input(&self, id: ColumnId) -> Option<usize>;

    /// Slot of a column of an enclosing query.
    fn outer(&mut self, id: ColumnId) -> Result<usize>;

    /// Lowers a sub-query; the answer is its number and the outer columns that it reads.
    /// Rows beyond `enough` are not needed.
    fn subplan(
        &mut self,
        subquery: &Subquery,
        enough: usize,
    ) -> Result<(usize, Vec<(ColumnId, PgType)>)>;
}

/// A scope of columns at known positions, without anything else: defaults, checks, key plans.
pub(crate) struct Flat<'a>(pub(crate) &'a HashMap<ColumnId, usize>);

impl Scope for Flat<'_> {
    fn input(&self, id: ColumnId) -> Option<usize> {
        self.0.get(&id).copied()
    }

    fn outer(&mut self, id: ColumnId) -> Result<usize> {
        Err(PgError::internal(format!("column {} is not available here", id.0)))
    }

    fn subplan(&mut self, _: &Subquery, _: usize) -> Result<(usize, Vec<(ColumnId, PgType)>)> {
        Err(PgError::unsupported("a sub-query is not supported here yet"))
    }
}

/// Compiles an expression.
pub(crate) fn compile(expr: &Expr, scope: &mut dyn Scope) -> Result<Eval> {
    Compiler { scope, locals: vec![] }.expr(expr)
}

struct Compiler<'s> {
    scope: &'s mut dyn Scope,
    locals: Vec<ColumnId>,
}

/// The function of a call, with its kernel.
pub(crate) fn function(func: &FuncRef, args: Vec<PgType>, ret: PgType) -> Function {
    let kernel = registry::scalar(&func.prosrc).map_or(KernelRef::Host, KernelRef::Pure);
    Function {
        kernel,
        strict: func.strict,
        prosrc: func.prosrc.clone(),
        name: func.name.clone(),
        fast: fast(&func.prosrc),
        info: CallInfoOwned { args, ret },
    }
}

/// Comparisons and integer arithmetic, in which Arrow and PostgreSQL agree.
fn fast(prosrc: &str) -> Option<Fast> {
    const TYPES: [&str; 9] =
        ["int2", "int4", "int8", "text", "date_", "timestamp_", "oid", "bool", "uuid_"];
    let (ty, rest) = TYPES.iter().find_map(|t| Some((t, prosrc.strip_prefix(t)?)))?;
    let integer = ty.starts_with("int");
    Some(match rest {
        "eq" => Fast::Eq,
        "ne" => Fast::Ne,
        "lt" | "_lt" => Fast::Lt,
        "le" | "_le" => Fast::Le,
        "gt" | "_gt" => Fast::Gt,
        "ge" | "_ge" => Fast::Ge,
        "pl" if integer => Fast::Add,
        "mi" if integer => Fast::Sub,
        "mul" if integer => Fast::Mul,
        _ => return None,
    })
}

fn boolean(node: Node) -> Eval {
    let (safe, correlated) = properties(&node);
    Eval { node, ty: PgType::new(oid::BOOL), safe, correlated }
}

impl Compiler<'_> {
    fn all(&mut self, exprs: &[Expr]) -> Result<Vec<Eval>> {
        exprs.iter().map(|e| self.expr(e)).collect()
    }

    fn boxed(&mut self, e: &Expr) -> Result<Box<Eval>> {
        Ok(Box::new(self.expr(e)?))
    }

    fn expr(&mut self, e: &Expr) -> Result<Eval> {
        let node = self.node(e)?;
        let (safe, correlated) = properties(&node);
        Ok(Eval { node, ty: e.ty, safe, correlated })
    }

    fn node(&mut self, e: &Expr) -> Result<Node> {
        Ok(match &e.kind {
            ExprKind::Const(value) => Node::Const(relabel(value.clone(), e.ty)),
            ExprKind::Column(id) => self.column(*id)?,
            ExprKind::Param(n) => Node::Param(*n as usize),
            ExprKind::Call { func, args } => {
                let types = args.iter().map(|a| a.ty).collect();
                Node::Call(Box::new(function(func, types, e.ty)), self.all(args)?)
            }
            ExprKind::And(args) => Node::And(self.all(args)?),
            ExprKind::Or(args) => Node::Or(self.all(args)?),
            ExprKind::Not(arg) => Node::Not(self.boxed(arg)?),
            ExprKind::IsNull(arg) => Node::IsNull(self.boxed(arg)?),
            ExprKind::IsNotNull(arg) => Node::IsNotNull(self.boxed(arg)?),
            ExprKind::Truth(test, arg) => Node::Truth(*test, self.boxed(arg)?),
            ExprKind::Distinct { eq, left, right } => {
                let f = function(eq, vec![left.ty, right.ty], PgType::new(oid::BOOL));
                Node::Distinct(Box::new(f), Box::new([self.expr(left)?, self.expr(right)?]))
            }
            ExprKind::Case { whens, default } => {
                let mut compiled = Vec::with_capacity(whens.len());
                for (condition, result) in whens {
                    compiled.push((self.expr(condition)?, self.expr(result)?));
                }
                let default = default.as_ref().map(|d| self.boxed(d)).transpose()?;
                Node::Case(compiled, default)
            }
            ExprKind::RowCompare { pairs, decides, equal } => {
                self.row_compare(pairs, decides, equal)?
            }
            ExprKind::Coalesce(args) => Node::Coalesce(self.all(args)?),
            ExprKind::NullIf { eq, left, right, result } => {
                let f = function(eq, vec![left.ty, right.ty], PgType::new(oid::BOOL));
                let args = [self.expr(left)?, self.expr(right)?, self.expr(result)?];
                Node::NullIf(Box::new(f), Box::new(args))
            }
            ExprKind::MinMax { greatest, args } => Node::MinMax(*greatest, self.all(args)?),
            ExprKind::ArrayCompare { func, quantifier, left, right } => {
                let element = PgType::new(crate::values::element_type(right.ty.oid));
                let f = function(func, vec![left.ty, element], PgType::new(oid::BOOL));
                let pair = [self.expr(left)?, self.expr(right)?];
                Node::ArrayCompare(Box::new(f), *quantifier, Box::new(pair))
            }
            _ => self.rare(e)?,
        })
    }

    /// CASE WHEN the first pair is equal THEN the rest ELSE what the first pair decides.
    fn row_compare(
        &mut self,
        pairs: &[(Expr, Expr)],
        decides: &[FuncRef],
        equal: &[FuncRef],
    ) -> Result<Node> {
        let first = pairs.split_first().zip(decides.split_first());
        let Some((((left, right), pairs), (decide, decides))) = first else {
            return Err(PgError::internal("a comparison of empty rows"));
        };
        let mut call = |func: &FuncRef| -> Result<Node> {
            let f = function(func, vec![left.ty, right.ty], PgType::new(oid::BOOL));
            Ok(Node::Call(Box::new(f), vec![self.expr(left)?, self.expr(right)?]))
        };
        let decided = call(decide)?;
        let Some((same, equal)) = equal.split_first() else { return Ok(decided) };
        let same = boolean(call(same)?);
        let rest = boolean(self.row_compare(pairs, decides, equal)?);
        Ok(Node::Case(vec![(same, rest)], Some(Box::new(boolean(decided)))))
    }

    fn rare(&mut self, e: &Expr) -> Result<Node> {
        Ok(match &e.kind {
            ExprKind::Array { elements, nested } => Node::Array(self.all(elements)?, *nested),
            ExprKind::Row(fields) => Node::Row(self.all(fields)?),
            ExprKind::Field(base, index) => Node::Field(self.boxed(base)?, *index as usize),
            ExprKind::Subscript { base, indexes, slice } => {
                let mut compiled = Vec::with_capacity(indexes.len());
                for (lower, upper) in indexes {
                    let lower = lower.as_ref().map(|x| self.expr(x)).transpose()?;
                    let upper = upper.as_ref().map(|x| self.expr(x)).transpose()?;
                    compiled.push((lower, upper));
                }
                Node::Subscript(self.boxed(base)?, compiled, *slice)
            }
            ExprKind::Relabel(arg) => Node::Relabel(self.boxed(arg)?),
            ExprKind::ViaText { arg } => Node::ViaText(self.boxed(arg)?),
            ExprKind::ArrayCoerce { arg, element } => {
                let arg = self.boxed(arg)?;
                let outer = std::mem::replace(&mut self.locals, vec![walk::ELEMENT]);
                let element = self.boxed(element);
                self.locals = outer;
                Node::ArrayCoerce(arg, element?)
            }
            ExprKind::SqlValue(name) => Node::SqlValue(name.clone()),
            ExprKind::ScalarSubquery(s) => self.subquery(s, SubqueryKind::Scalar)?,
            ExprKind::Exists(s) => self.subquery(s, SubqueryKind::Exists)?,
            ExprKind::ArraySubquery(s) => self.subquery(s, SubqueryKind::Array)?,
            ExprKind::Quantified { subquery, quantifier, test } => {
                self.quantified(subquery, *quantifier, test)?
            }
            ExprKind::Default if e.ty.oid == oid::INT8 => Node::RowId,
            // The hidden key of a new row: it is given when the row is written.
            ExprKind::Default => Node::Const(meridian_types::Datum::Null),
            _ => return Err(PgError::internal("an expression that nobody compiles")),
        })
    }

    fn column(&mut self, id: ColumnId) -> Result<Node> {
        if let Some(i) = self.locals.iter().position(|l| *l == id) {
            return Ok(Node::Local(i));
        }
        if let Some(i) = self.scope.input(id) {
            return Ok(Node::Input(i));
        }
        Ok(Node::Outer(self.scope.outer(id)?))
    }

    fn subquery(&mut self, subquery: &Subquery, kind: SubqueryKind) -> Result<Node> {
        let enough = match kind {
            SubqueryKind::Scalar => 2,
            SubqueryKind::Exists => 1,
            _ => usize::MAX,
        };
        let (plan, columns) = self.scope.subplan(subquery, enough)?;
        let mut outer = Vec::with_capacity(columns.len());
        for (id, ty) in columns {
            let node = self.column(id)?;
            let (safe, correlated) = properties(&node);
            outer.push(Eval { node, ty, safe, correlated });
        }
        Ok(Node::Subquery(Box::new(SubqueryNode { plan, outer, kind })))
    }

    fn quantified(
        &mut self,
        subquery: &Subquery,
        quantifier: Quantifier,
        test: &Expr,
    ) -> Result<Node> {
        let saved = std::mem::replace(&mut self.locals, subquery.output.clone());
        let test = self.boxed(test);
        self.locals = saved;
        self.subquery(subquery, SubqueryKind::Quantified(quantifier, test?))
    }
}

/// (cannot raise an error, holds a sub-query that depends on the row)
fn properties(node: &Node) -> (bool, bool) {
    let all = |args: &[Eval]| (args.iter().all(|a| a.safe), args.iter().any(|a| a.correlated));
    match node {
        Node::Const(_) | Node::Input(_) | Node::Outer(_) | Node::Local(_) => (true, false),
        Node::Param(_) | Node::SqlValue(_) | Node::RowId => (false, false),
        Node::Call(f, args) => {
            let (safe, correlated) = all(args);
            let comparison =
                f.fast.is_some_and(|f| !matches!(f, Fast::Add | Fast::Sub | Fast::Mul));
            (safe && comparison, correlated)
        }
        Node::And(args) | Node::Or(args) | Node::Coalesce(args) => all(args),
        Node::MinMax(_, args) | Node::Row(args) => all(args),
        Node::Array(args, nested) => (!nested && all(args).0, all(args).1),
        Node::Not(a) | Node::IsNull(a) | Node::IsNotNull(a) | Node::Truth(_, a) => {
            (a.safe, a.correlated)
        }
        Node::Relabel(a) | Node::Field(a, _) => (a.safe, a.correlated),
        Node::ViaText(a) | Node::SortKey(a) | Node::Widen(a) => (false, a.correlated),
        Node::ArrayCoerce(a, b) => (false, a.correlated || b.correlated),
        Node::Distinct(_, pair) | Node::ArrayCompare(_, _, pair) => {
            (false, pair.iter().any(|a| a.correlated))
        }
        Node::NullIf(_, args) => (false, args.iter().any(|a| a.correlated)),
        Node::Case(whens, default) => {
            let mut parts =
                whens.iter().flat_map(|(a, b)| [a, b]).chain(default.iter().map(|d| &**d));
            (false, parts.any(|p| p.correlated))
        }
        Node::Subscript(base, indexes, _) => {
            let mut parts = indexes.iter().flat_map(|(a, b)| [a, b]).flatten();
            (false, base.correlated || parts.any(|p| p.correlated))
        }
        Node::Subquery(s) => {
            let test = matches!(&s.kind, SubqueryKind::Quantified(_, t) if t.correlated);
            (
                false,
                test || s.outer.iter().any(|o| !matches!(o.node, Node::Const(_) | Node::Outer(_))),
            )
        }
    }
}
