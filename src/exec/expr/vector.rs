//! Evaluation of a batch at a time.
//!
//! What Arrow computes exactly as PostgreSQL does runs on its kernels: comparisons of integers,
//! dates, timestamps, oids, booleans and byte-ordered text, checked integer arithmetic, three-valued
//! logic. AND and OR evaluate a later operand that might raise an error only for rows that the
//! earlier ones have not decided. All else is computed row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use arrow::compute::kernels::{boolean, cmp, numeric};
use arrow::compute::{filter_record_batch, is_not_null, is_null};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use meridian_types::{Datum, PgError, PgType, Result, SqlState, oid};

use super::{BatchRow, Eval, Fast, Function, Node, SubqueryKind};
use crate::shared::Cx;
use crate::values;

/// A column of values: one for each row, or one for all.
#[derive(Clone, Debug)]
pub(crate) enum Col {
    Array(ArrayRef),
    One(Datum),
}

impl Col {
    /// As an array of this many rows.
    pub(crate) fn into_array(self, ty: PgType, rows: usize) -> Result<ArrayRef> {
        match self {
            Col::Array(array) => Ok(array),
            Col::One(value) => values::repeat(&value, ty, rows),
        }
    }

    fn datum(&self, row: usize, ty: PgType) -> Datum {
        match self {
            Col::Array(array) => values::datum_at(array, row, ty),
            Col::One(value) => value.clone(),
        }
    }
}

impl Eval {
    /// The values for all rows of a batch.
    pub(crate) fn batch(&self, batch: &RecordBatch, cx: &Cx) -> Result<Col> {
        match &self.node {
            Node::Const(value) => Ok(Col::One(value.clone())),
            Node::Input(index) => Ok(Col::Array(batch.column(*index).clone())),
            Node::Outer(slot) => Ok(Col::One(cx.outer(*slot))),
            Node::Param(index) => Ok(Col::One(cx.param(*index)?)),
            Node::Local(index) => {
                Ok(Col::One(cx.locals.get(*index).cloned().unwrap_or(Datum::Null)))
            }
            Node::Call(function, args) if batch.num_rows() > 0 => {
                self.call_batch(function, args, batch, cx)
            }
            Node::And(args) => connective(args, batch, cx, false),
            Node::Or(args) => connective(args, batch, cx, true),
            Node::Not(arg) => match arg.batch(batch, cx)? {
                Col::Array(a) if a.data_type() == &DataType::Boolean => {
                    Ok(Col::Array(Arc::new(boolean::not(as_bool(&a)).map_err(arrow_error)?)))
                }
                _ => self.rows(batch, cx),
            },
            Node::IsNull(arg) if !values::may_be_record(arg.ty.oid) => {
                match arg.batch(batch, cx)? {
                    Col::Array(a) => Ok(Col::Array(Arc::new(is_null(&a).map_err(arrow_error)?))),
                    Col::One(v) => Ok(Col::One(Datum::Bool(v.is_null()))),
                }
            }
            Node::IsNotNull(arg) if !values::may_be_record(arg.ty.oid) => {
                match arg.batch(batch, cx)? {
                    Col::Array(a) => {
                        Ok(Col::Array(Arc::new(is_not_null(&a).map_err(arrow_error)?)))
                    }
                    Col::One(v) => Ok(Col::One(Datum::Bool(!v.is_null()))),
                }
            }
            Node::Relabel(arg)
                if values::data_type(arg.ty) == values::data_type(self.ty)
                    && !matches!(arg.node, Node::Const(_) | Node::Param(_)) =>
            {
                arg.batch(batch, cx)
            }
            // One value for all rows, unless each row is compared with the sub-query's.
            Node::Subquery(node)
                if !self.correlated
                    && batch.num_rows() > 0
                    && !matches!(node.kind, SubqueryKind::Quantified(..)) =>
            {
                Ok(Col::One(self.row(&BatchRow { batch, row: 0 }, cx)?))
            }
            _ => self.rows(batch, cx),
        }
    }

    /// The values as an array.
    pub(crate) fn array(&self, batch: &RecordBatch, cx: &Cx) -> Result<ArrayRef> {
        self.batch(batch, cx)?.into_array(self.ty, batch.num_rows())
    }

    /// Rows for which it is true.
    pub(crate) fn selection(&self, batch: &RecordBatch, cx: &Cx) -> Result<BooleanArray> {
        match self.batch(batch, cx)? {
            Col::Array(array) => Ok(as_bool(&array).clone()),
            Col::One(value) => {
                Ok(BooleanArray::from(vec![value == Datum::Bool(true); batch.num_rows()]))
            }
        }
    }

    fn rows(&self, batch: &RecordBatch, cx: &Cx) -> Result<Col> {
        let mut builder = values::Builder::new(self.ty, batch.num_rows());
        for row in 0..batch.num_rows() {
            builder.push(&self.row(&BatchRow { batch, row }, cx)?)?;
        }
        Ok(Col::Array(builder.finish()))
    }

    fn call_batch(
        &self,
        function: &Function,
        args: &[Eval],
        batch: &RecordBatch,
        cx: &Cx,
    ) -> Result<Col> {
        let mut cols = Vec::with_capacity(args.len());
        for arg in args {
            cols.push(arg.batch(batch, cx)?);
        }
        if let (Some(fast), [left, right]) = (function.fast, &cols[..])
            && let Some(result) = fast_call(fast, left, right, args, self.ty)?
        {
            return Ok(result);
        }
        let volatile_free = cols.iter().all(|c| matches!(c, Col::One(_))) && !cols.is_empty();
        let rows = batch.num_rows();
        let mut values: Vec<Datum> = vec![Datum::Null; cols.len()];
        if volatile_free && function.pure() {
            for (value, col) in values.iter_mut().zip(&cols) {
                *value = col.datum(0, self.ty);
            }
            return Ok(Col::One(function.call(cx, &values)?));
        }
        let mut builder = values::Builder::new(self.ty, rows);
        for row in 0..rows {
            for ((value, col), arg) in values.iter_mut().zip(&cols).zip(args) {
                *value = col.datum(row, arg.ty);
            }
            builder.push(&function.call(cx, &values)?)?;
        }
        Ok(Col::Array(builder.finish()))
    }
}

impl Function {
    /// Its kernel answers the same for the same arguments within a statement.
    fn pure(&self) -> bool {
        matches!(self.kernel, super::KernelRef::Pure(_)) && !self.prosrc.contains("random")
    }
}

fn as_bool(array: &ArrayRef) -> &BooleanArray {
    array.as_any().downcast_ref::<BooleanArray>().expect("a boolean expression gives booleans")
}

fn arrow_error(e: arrow::error::ArrowError) -> PgError {
    PgError::internal(e.to_string())
}

fn out_of_range(ty: PgType) -> PgError {
    let name = match ty.oid {
        oid::INT2 => "smallint",
        oid::INT4 => "integer",
        _ => "bigint",
    };
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{name} out of range"))
}

fn fast_call(
    fast: Fast,
    left: &Col,
    right: &Col,
    args: &[Eval],
    ty: PgType,
) -> Result<Option<Col>> {
    let (left, right): (Operand, Operand) = match (left, right) {
        (Col::One(_), Col::One(_)) => return Ok(None),
        (l, r) => (operand(l, args[0].ty)?, operand(r, args[1].ty)?),
    };
    let comparable = left.array.data_type() == right.array.data_type()
        && !matches!(left.array.data_type(), DataType::Float32 | DataType::Float64);
    if !comparable {
        return Ok(None);
    }
    let (l, r) = (left.get(), right.get());
    let (l, r) = (l.as_ref(), r.as_ref());
    let result: ArrayRef = match fast {
        Fast::Eq => Arc::new(cmp::eq(l, r).map_err(arrow_error)?),
        Fast::Ne => Arc::new(cmp::neq(l, r).map_err(arrow_error)?),
        Fast::Lt => Arc::new(cmp::lt(l, r).map_err(arrow_error)?),
        Fast::Le => Arc::new(cmp::lt_eq(l, r).map_err(arrow_error)?),
        Fast::Gt => Arc::new(cmp::gt(l, r).map_err(arrow_error)?),
        Fast::Ge => Arc::new(cmp::gt_eq(l, r).map_err(arrow_error)?),
        Fast::Add | Fast::Sub | Fast::Mul => {
            let integers = matches!(ty.oid, oid::INT2 | oid::INT4 | oid::INT8);
            if !integers || left.array.data_type() != &values::data_type(ty) {
                return Ok(None);
            }
            let result = match fast {
                Fast::Add => numeric::add(l, r),
                Fast::Sub => numeric::sub(l, r),
                _ => numeric::mul(l, r),
            };
            result.map_err(|_| out_of_range(ty))?
        }
    };
    Ok(Some(Col::Array(result)))
}

struct Operand {
    array: ArrayRef,
    scalar: bool,
}

impl Operand {
    fn get(&self) -> Box<dyn arrow::array::Datum + '_> {
        if self.scalar { Box::new(Scalar::new(self.array.clone())) } else { Box::new(&self.array) }
    }
}

fn operand(col: &Col, ty: PgType) -> Result<Operand> {
    Ok(match col {
        Col::Array(array) => Operand { array: array.clone(), scalar: false },
        Col::One(value) => Operand { array: values::repeat(value, ty, 1)?, scalar: true },
    })
}

/// AND (`decides` = false) or OR (`decides` = true).
fn connective(args: &[Eval], batch: &RecordBatch, cx: &Cx, decides: bool) -> Result<Col> {
    let rows = batch.num_rows();
    let bool_type = PgType::new(oid::BOOL);
    let mut result: Option<BooleanArray> = None;
    for arg in args {
        let Some(so_far) = &result else {
            result = Some(as_bool(&arg.batch(batch, cx)?.into_array(bool_type, rows)?).clone());
            continue;
        };
        let next = if arg.safe {
            as_bool(&arg.batch(batch, cx)?.into_array(bool_type, rows)?).clone()
        } else {
            let undecided: BooleanArray = so_far.iter().map(|v| Some(v != Some(decides))).collect();
            if undecided.true_count() == 0 {
                return Ok(Col::Array(Arc::new(so_far.clone())));
            }
            let part = filter_record_batch(batch, &undecided).map_err(arrow_error)?;
            let values = arg.batch(&part, cx)?.into_array(bool_type, part.num_rows())?;
            let mut values = as_bool(&values).iter();
            undecided
                .values()
                .iter()
                .map(|u| if u { values.next().flatten() } else { Some(decides) })
                .collect()
        };
        let combined = if decides {
            boolean::or_kleene(so_far, &next)
        } else {
            boolean::and_kleene(so_far, &next)
        };
        result = Some(combined.map_err(arrow_error)?);
    }
    Ok(match result {
        Some(array) => Col::Array(Arc::new(array)),
        None => Col::One(Datum::Bool(!decides)),
    })
}
