//! Typed scalar expressions: what the binder makes and the executor evaluates.
//!
//! Every node knows its type. All coercions are explicit nodes. Columns are named by
//! [`ColumnId`]s that are unique in the statement, so that rules can move an expression without
//! renumbering; the executor maps them to positions when it lowers a plan. A column that the input
//! does not produce is a reference to an outer query, supplied by an [`crate::rel::Rel::Apply`].

use std::sync::Arc;

use meridian_types::oid::Oid;
use meridian_types::{Datum, PgType};

use crate::rel::Rel;

/// A column of some relation in this statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId(pub u32);

/// A typed scalar expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Type of its value.
    pub ty: PgType,
}

/// A function as resolved in `pg_proc`.
#[derive(Clone, Debug)]
pub struct FuncRef {
    /// Row of `pg_proc`.
    pub oid: Oid,
    /// `proname`, for EXPLAIN and deparsing.
    pub name: Arc<str>,
    /// `prosrc`, which names the kernel.
    pub prosrc: Arc<str>,
    /// Not called with a NULL argument: the answer is NULL.
    pub strict: bool,
    /// `provolatile`: `i`, `s` or `v`.
    pub volatility: u8,
    /// Operator that the call was written with, for deparsing.
    pub operator: Option<Arc<str>>,
}

/// How a comparison with a set of values combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// ANY, SOME, IN
    Any,
    /// ALL
    All,
}

/// A truth test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthTest {
    /// IS TRUE
    IsTrue,
    /// IS NOT TRUE
    IsNotTrue,
    /// IS FALSE
    IsFalse,
    /// IS NOT FALSE
    IsNotFalse,
    /// IS UNKNOWN
    IsUnknown,
    /// IS NOT UNKNOWN
    IsNotUnknown,
}

/// A sub-query inside an expression. `plan`'s free columns are outer references.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// The query.
    pub plan: Arc<Rel>,
    /// Its visible output columns, in order.
    pub output: Vec<ColumnId>,
    /// Columns of enclosing queries that it reads; empty when it can be run once.
    pub outer: Vec<ColumnId>,
}

/// The kinds of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A constant.
    Const(Datum),
    /// A column of the input or of an enclosing query.
    Column(ColumnId),
    /// Parameter `$n`, from 0.
    Param(u32),
    /// A function or operator call with a scalar kernel.
    Call {
        /// The function.
        func: FuncRef,
        /// Arguments, already of the declared types; a VARIADIC tail is one array.
        args: Vec<Expr>,
    },
    /// AND of all, three-valued.
    And(Vec<Expr>),
    /// OR of all, three-valued.
    Or(Vec<Expr>),
    /// NOT
    Not(Box<Expr>),
    /// IS NULL; of a row value: all fields are null.
    IsNull(Box<Expr>),
    /// IS NOT NULL; of a row value: no field is null.
    IsNotNull(Box<Expr>),
    /// IS TRUE and its kin.
    Truth(TruthTest, Box<Expr>),
    /// IS DISTINCT FROM by this equality function; NOT for the inverse.
    Distinct {
        /// Equality of the operands' type.
        eq: FuncRef,
        /// Operands.
        left: Box<Expr>,
        /// Operands.
        right: Box<Expr>,
    },
    /// CASE: the first branch whose condition is true (an operand was bound into the conditions).
    Case {
        /// (condition, result)
        whens: Vec<(Expr, Expr)>,
        /// ELSE
        default: Option<Box<Expr>>,
    },
    /// `(a, b) < (c, d)`: the first pair that is not equal decides; pairs behind one that decides or
    /// is NULL are not looked at.
    RowCompare {
        /// Operands, pair by pair.
        pairs: Vec<(Expr, Expr)>,
        /// For each pair, what decides where it is not equal (for the last one, in any case).
        decides: Vec<FuncRef>,
        /// For each pair but the last, its equality.
        equal: Vec<FuncRef>,
    },
    /// COALESCE, lazy.
    Coalesce(Vec<Expr>),
    /// NULLIF by this equality function.
    NullIf {
        /// Equality of the compared types.
        eq: FuncRef,
        /// First argument, compared (may carry a coercion).
        left: Box<Expr>,
        /// Second argument.
        right: Box<Expr>,
        /// What is returned when they differ.
        result: Box<Expr>,
    },
    /// GREATEST or LEAST by the type's btree comparison.
    MinMax {
        /// GREATEST
        greatest: bool,
        /// Arguments of one type.
        args: Vec<Expr>,
    },
    /// `left op ANY (array)` or ALL.
    ArrayCompare {
        /// The operator's function, returning bool.
        func: FuncRef,
        /// ANY or ALL
        quantifier: Quantifier,
        /// Scalar side.
        left: Box<Expr>,
        /// Array side.
        right: Box<Expr>,
    },
    /// ARRAY[…]; elements that are arrays themselves make one more dimension.
    Array {
        /// Elements of one type.
        elements: Vec<Expr>,
        /// The elements are arrays.
        nested: bool,
    },
    /// ROW(…)
    Row(Vec<Expr>),
    /// `(row).field`, from 0.
    Field(Box<Expr>, u32),
    /// `array[i]`, `array[l:u]`, or a jsonb subscript.
    Subscript {
        /// The array.
        base: Box<Expr>,
        /// (lower, upper) of each dimension; an index has `upper` only; `None` is an open bound.
        indexes: Vec<(Option<Expr>, Option<Expr>)>,
        /// Any of them was written with a colon.
        slice: bool,
    },
    /// Same representation, other type.
    Relabel(Box<Expr>),
    /// Conversion through the text form (`CoerceViaIO`), to `ty` with its modifier.
    ViaText {
        /// The value.
        arg: Box<Expr>,
    },
    /// Conversion of every element of an array, to `ty`.
    ArrayCoerce {
        /// The array.
        arg: Box<Expr>,
        /// Conversion of one element, whose input is `Column(ColumnId(u32::MAX))`.
        element: Box<Expr>,
    },
    /// A scalar sub-query: NULL when empty, 21000 when more than one row.
    ScalarSubquery(Subquery),
    /// EXISTS
    Exists(Subquery),
    /// ARRAY(SELECT …)
    ArraySubquery(Subquery),
    /// `left op ANY (SELECT …)`, IN, ALL: `test` compares `left` values with `Column(output[i])`.
    Quantified {
        /// The sub-query.
        subquery: Subquery,
        /// ANY or ALL
        quantifier: Quantifier,
        /// Boolean over outer columns and the sub-query's output columns.
        test: Box<Expr>,
    },
    /// CURRENT_DATE, CURRENT_USER and other niladic forms, by their PostgreSQL name in lower case.
    SqlValue(Arc<str>),
    /// The value of a hidden row id in INSERT: the executor gives one that no other row has.
    Default,
}

impl Expr {
    /// A constant of this type.
    pub fn constant(value: Datum, ty: PgType) -> Expr {
        Expr { kind: ExprKind::Const(value), ty }
    }

    /// A column of this type.
    pub fn column(id: ColumnId, ty: PgType) -> Expr {
        Expr { kind: ExprKind::Column(id), ty }
    }
}
