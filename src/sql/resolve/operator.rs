//! Which operator an expression means.

use meridian_types::builtin::{self, OperatorRow};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::function::Candidate;
use super::{func_ref, proc_row};
use crate::bind::Binder;
use crate::expr::{Expr, ExprKind, FuncRef};

/// An expression and where it stands.
pub(crate) type Operand = (Expr, Option<u32>);

impl Binder<'_> {
    /// The operator for these operand types (`left` 0 for a prefix operator): 42883 when there is
    /// none, 42725 when several would do.
    pub(crate) fn find_operator(
        &self,
        name: &str,
        left: Oid,
        right: Oid,
        position: Option<u32>,
    ) -> Result<&'static OperatorRow> {
        let name = if name == "!=" { "<>" } else { name };
        if let Some(row) = self.exact_operator(name, left, right) {
            return Ok(row);
        }
        let prefix = left == 0;
        let types = if prefix { vec![right] } else { vec![left, right] };
        let all = builtin::operators_by_name(name)
            .filter(|o| (o.left == 0) == prefix)
            .map(|o| {
                let args = if prefix { vec![o.right] } else { vec![o.left, o.right] };
                Candidate::of_operator(o.oid, args)
            })
            .collect();
        let mut fitting = self.fitting(all, &types);
        let best = match fitting.len() {
            0 => None,
            1 => fitting.pop(),
            _ => match self.select_candidate(&types, fitting) {
                Some(best) => Some(best),
                None => return Err(self.no_operator(name, left, right, true, position)),
            },
        };
        best.and_then(|c| builtin::operator_by_oid(c.oid))
            .ok_or_else(|| self.no_operator(name, left, right, false, position))
    }

    /// An operator declared for exactly these types; a literal takes the other side's type.
    fn exact_operator(&self, name: &str, left: Oid, right: Oid) -> Option<&'static OperatorRow> {
        if left == 0 {
            return builtin::operator(name, 0, right)
                .or_else(|| builtin::operator(name, 0, self.base_type(right)));
        }
        let (mut l, mut r) = (left, right);
        if l == oid::UNKNOWN && r != oid::UNKNOWN {
            l = r;
        } else if r == oid::UNKNOWN && l != oid::UNKNOWN {
            r = l;
        }
        if let Some(row) = builtin::operator(name, l, r) {
            return Some(row);
        }
        let (base_l, base_r) = (self.base_type(l), self.base_type(r));
        match (base_l, base_r) != (l, r) {
            true => builtin::operator(name, base_l, base_r),
            false => None,
        }
    }

    fn no_operator(
        &self,
        name: &str,
        left: Oid,
        right: Oid,
        ambiguous: bool,
        position: Option<u32>,
    ) -> PgError {
        let left_name =
            if left == 0 { String::new() } else { format!("{} ", self.display_type(left)) };
        let signature = format!("{left_name}{name} {}", self.display_type(right));
        let (state, text, hint) = match ambiguous {
            true => (
                SqlState::AMBIGUOUS_FUNCTION,
                format!("operator is not unique: {signature}"),
                "Could not choose a best candidate operator. \
                 You might need to add explicit type casts.",
            ),
            false => (
                SqlState::UNDEFINED_FUNCTION,
                format!("operator does not exist: {signature}"),
                if left == 0 {
                    "No operator matches the given name and argument type. \
                     You might need to add an explicit type cast."
                } else {
                    "No operator matches the given name and argument types. \
                     You might need to add explicit type casts."
                },
            ),
        };
        PgError::new(state, text).hint(hint).at(position)
    }

    /// An operator expression over bound operands.
    pub(crate) fn make_operator(
        &mut self,
        name: &str,
        left: Option<Operand>,
        right: Operand,
        position: Option<u32>,
    ) -> Result<Expr> {
        let left_type = left.as_ref().map_or(0, |(e, _)| e.ty.oid);
        let row = self.find_operator(name, left_type, right.0.ty.oid, position)?;
        if row.code == 0 {
            let text = format!("operator is only a shell: {name}");
            return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, text).at(position));
        }
        let (func, types, ret) =
            self.operator_function(row, left_type, right.0.ty.oid, position)?;
        let mut args = Vec::with_capacity(2);
        for ((expr, at), ty) in left.into_iter().chain([right]).zip(types) {
            args.push(self.coerce_argument(expr, ty, at)?);
        }
        Ok(Expr { kind: ExprKind::Call { func, args }, ty: PgType::new(ret) })
    }

    /// The function behind an operator, with its argument types and result for these operands.
    pub(crate) fn operator_function(
        &self,
        row: &OperatorRow,
        left: Oid,
        right: Oid,
        position: Option<u32>,
    ) -> Result<(FuncRef, Vec<Oid>, Oid)> {
        let proc = proc_row(row.code)?;
        let (declared, actual) = match row.left {
            0 => (vec![row.right], vec![right]),
            _ => (vec![row.left, row.right], vec![left, right]),
        };
        let resolved = self
            .resolve_polymorphic(&declared, &actual, proc.rettype)
            .map_err(|e| e.at(position))?;
        Ok((func_ref(proc, Some(row.name)), resolved.args, resolved.ret))
    }
}
