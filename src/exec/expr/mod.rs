//! Scalar expressions, compiled to positions.
//!
//! [`compile()`] turns a [`meridian_sql::expr::Expr`] into an [`Eval`]: columns become positions of
//! the input or slots of the outer row, functions become kernels. An [`Eval`] is evaluated two ways
//! that agree: one row at a time over `Datum`s (`row`), which is what DML, defaults, checks and
//! lazy constructs use, and a batch at a time over Arrow arrays (`vector`), which falls back to the
//! former for whatever has no vectorised form.
//!
//! Sub-queries cannot be run inside an evaluation, which is synchronous. An evaluation that meets
//! one whose result is not known yet notes what it needs and fails with a private error; the
//! operator runs the sub-query and evaluates again (see [`crate::shared::Shared`]). So a sub-query in
//! a branch that is not taken is never run, as in PostgreSQL.

mod arrays;
mod compile;
mod row;
mod vector;

use std::sync::Arc;

use meridian_sql::expr::{Quantifier, TruthTest};
use meridian_types::context::CallInfoOwned;
use meridian_types::{Datum, Kernel, PgType};

pub(crate) use compile::{Flat, Scope, compile, function};
pub(crate) use row::{BatchRow, RowInput, eval_args};

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Eval {
    pub(crate) node: Node,
    pub(crate) ty: PgType,
    /// It cannot raise an error, so it may be evaluated for rows that do not need it.
    pub(crate) safe: bool,
    /// It holds a sub-query that depends on the row.
    pub(crate) correlated: bool,
}

/// A function with its kernel.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) kernel: KernelRef,
    pub(crate) strict: bool,
    pub(crate) prosrc: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) info: CallInfoOwned,
    pub(crate) fast: Option<Fast>,
}

/// Where a function's code is.
#[derive(Clone, Debug)]
pub(crate) enum KernelRef {
    /// In the types crate.
    Pure(Kernel),
    /// With the session's host.
    Host,
}

/// A function that Arrow computes as PostgreSQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fast {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Add,
    Sub,
    Mul,
}

/// The kinds of compiled expressions.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Const(Datum),
    Input(usize),
    Outer(usize),
    Local(usize),
    Param(usize),
    Call(Box<Function>, Vec<Eval>),
    And(Vec<Eval>),
    Or(Vec<Eval>),
    Not(Box<Eval>),
    IsNull(Box<Eval>),
    IsNotNull(Box<Eval>),
    Truth(TruthTest, Box<Eval>),
    Distinct(Box<Function>, Box<[Eval; 2]>),
    Case(Vec<(Eval, Eval)>, Option<Box<Eval>>),
    Coalesce(Vec<Eval>),
    NullIf(Box<Function>, Box<[Eval; 3]>),
    MinMax(bool, Vec<Eval>),
    ArrayCompare(Box<Function>, Quantifier, Box<[Eval; 2]>),
    Array(Vec<Eval>, bool),
    Row(Vec<Eval>),
    Field(Box<Eval>, usize),
    Subscript(Box<Eval>, Vec<(Option<Eval>, Option<Eval>)>, bool),
    Relabel(Box<Eval>),
    ViaText(Box<Eval>),
    ArrayCoerce(Box<Eval>, Box<Eval>),
    SqlValue(Arc<str>),
    Subquery(Box<SubqueryNode>),
    /// A new number for the hidden key of a table without a primary key.
    RowId,
    /// Bytes whose order and equality are those of the value's type.
    SortKey(Box<Eval>),
    /// Any integer as int8.
    Widen(Box<Eval>),
}

/// A sub-query of an expression.
#[derive(Clone, Debug)]
pub(crate) struct SubqueryNode {
    /// Index into the statement's sub-plans.
    pub(crate) plan: usize,
    /// Values of the outer columns that it reads, in the order of `SubPlan::outer`.
    pub(crate) outer: Vec<Eval>,
    pub(crate) kind: SubqueryKind,
}

/// What is made of a sub-query's rows.
#[derive(Clone, Debug)]
pub(crate) enum SubqueryKind {
    Scalar,
    Exists,
    Array,
    Quantified(Quantifier, Box<Eval>),
}

impl Eval {
    /// Bytes by which the value is compared.
    pub(crate) fn sort_key(self) -> Eval {
        let correlated = self.correlated;
        let ty = PgType::new(meridian_types::oid::BYTEA);
        Eval { node: Node::SortKey(Box::new(self)), ty, safe: false, correlated }
    }

    /// An integer as int8.
    pub(crate) fn widen(self) -> Eval {
        let correlated = self.correlated;
        let ty = PgType::new(meridian_types::oid::INT8);
        Eval { node: Node::Widen(Box::new(self)), ty, safe: false, correlated }
    }

    /// A column of the input.
    pub(crate) fn input(index: usize, ty: PgType) -> Eval {
        Eval { node: Node::Input(index), ty, safe: true, correlated: false }
    }
}
