//! Typed relational algebra: what the binder makes, the optimiser rewrites and the executor lowers.

use std::sync::Arc;

use meridian_catalog::{TableDesc, VirtualDesc};
use meridian_types::PgType;
use meridian_types::oid::Oid;

use crate::expr::{ColumnId, Expr, FuncRef};

/// An output column of a relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its id.
    pub id: ColumnId,
    /// Its name, for clients and EXPLAIN.
    pub name: Arc<str>,
    /// Its type.
    pub ty: PgType,
}

/// How a table is read.
#[derive(Clone, Debug)]
pub enum Access {
    /// All rows, by the primary index.
    Full,
    /// By an index (the primary one included), over these spans, in key order or backwards.
    Index {
        /// `IndexDesc::index_id`
        index_id: u16,
        /// Each span is read in turn.
        spans: Vec<KeySpan>,
        /// Descending key order.
        reverse: bool,
    },
}

/// A span of an index: a prefix of equal values, then at most one range.
/// Expressions are free of the table's columns (constants, parameters, outer columns) and have the
/// key column's type. A NULL among them makes the span empty; a range leaves NULLs out.
#[derive(Clone, Debug, Default)]
pub struct KeySpan {
    /// Equal to these, for the first key columns.
    pub prefix: Vec<Expr>,
    /// Position in `prefix` that holds an array instead: the span stands for one span for each
    /// distinct element that is not NULL, in key order (`IN`, `= ANY`).
    pub each: Option<usize>,
    /// Lower bound of the next key column, and whether it is included.
    pub lower: Option<(Expr, bool)>,
    /// Upper bound of the next key column, and whether it is included.
    pub upper: Option<(Expr, bool)>,
}

/// Strength of a row lock, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowLock {
    /// FOR KEY SHARE
    KeyShare,
    /// FOR SHARE
    Share,
    /// FOR NO KEY UPDATE
    NoKeyUpdate,
    /// FOR UPDATE
    Update,
}

/// What to do about a row that another transaction has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// Wait.
    Block,
    /// 55P03
    NoWait,
    /// Leave the row out.
    SkipLocked,
}

/// Kinds of join. A semi or anti join outputs the left columns only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// INNER, CROSS
    Inner,
    /// LEFT
    Left,
    /// RIGHT
    Right,
    /// FULL
    Full,
    /// EXISTS
    Semi,
    /// NOT EXISTS
    Anti,
}

/// A sort key. Comparison is the type's btree order.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    /// The column.
    pub column: ColumnId,
    /// DESC
    pub desc: bool,
    /// NULLS FIRST
    pub nulls_first: bool,
}

/// An aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// The aggregate's row of `pg_proc`.
    pub func: FuncRef,
    /// `name(argument types)`, the key of `meridian_types::registry::aggregate`.
    pub key: Arc<str>,
    /// Arguments; none for `count(*)`.
    pub args: Vec<Expr>,
    /// DISTINCT
    pub distinct: bool,
    /// ORDER BY inside the call, or WITHIN GROUP: (expression, desc, nulls first).
    pub order_by: Vec<(Expr, bool, bool)>,
    /// FILTER (WHERE …)
    pub filter: Option<Expr>,
    /// Result type.
    pub ty: PgType,
}

/// A bound of a window frame.
#[derive(Clone, Debug)]
pub enum FrameBound {
    /// UNBOUNDED PRECEDING
    UnboundedPreceding,
    /// n PRECEDING
    Preceding(Expr),
    /// CURRENT ROW
    CurrentRow,
    /// n FOLLOWING
    Following(Expr),
    /// UNBOUNDED FOLLOWING
    UnboundedFollowing,
}

/// Unit of a window frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameUnit {
    /// ROWS
    Rows,
    /// RANGE
    Range,
    /// GROUPS
    Groups,
}

/// Rows that a frame leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameExclude {
    /// EXCLUDE NO OTHERS
    #[default]
    NoOthers,
    /// EXCLUDE CURRENT ROW
    CurrentRow,
    /// EXCLUDE GROUP
    Group,
    /// EXCLUDE TIES
    Ties,
}

/// A window: partition, order, frame.
#[derive(Clone, Debug)]
pub struct WindowSpec {
    /// PARTITION BY
    pub partition_by: Vec<ColumnId>,
    /// ORDER BY
    pub order_by: Vec<SortKey>,
    /// Frame unit.
    pub unit: FrameUnit,
    /// Frame start.
    pub start: FrameBound,
    /// Frame end.
    pub end: FrameBound,
    /// Frame exclusion.
    pub exclude: FrameExclude,
    /// `in_range` support functions for RANGE with offset, by the ordering type.
    pub in_range: Option<FuncRef>,
}

/// A call over a window: an aggregate, or a window function by its `prosrc`
/// (`window_row_number`, `window_rank`, `window_lag` …).
#[derive(Clone, Debug)]
pub struct WindowCall {
    /// The function.
    pub func: FuncRef,
    /// Set when it is an aggregate: its key.
    pub aggregate: Option<Arc<str>>,
    /// Arguments.
    pub args: Vec<Expr>,
    /// FILTER (WHERE …)
    pub filter: Option<Expr>,
    /// Result type.
    pub ty: PgType,
}

/// UNION, INTERSECT, EXCEPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOpKind {
    /// UNION
    Union,
    /// INTERSECT
    Intersect,
    /// EXCEPT
    Except,
}

/// A function in FROM.
#[derive(Clone, Debug)]
pub struct FunctionCall {
    /// The function. When it returns no set, it gives one row.
    pub func: FuncRef,
    /// It returns a set.
    pub returns_set: bool,
    /// Arguments (may read outer columns: LATERAL).
    pub args: Vec<Expr>,
    /// Columns that it gives; several when it returns a record.
    pub columns: Vec<Column>,
    /// Its result is a record that is to be taken apart into `columns`.
    pub expand: bool,
}

/// A relation.
#[derive(Clone, Debug)]
pub enum Rel {
    /// Rows of a table that satisfy `filter`.
    Scan {
        /// The table.
        table: Arc<TableDesc>,
        /// Output: (column, attnum). Attnum 0 is the row's key as `bytea`, for DML and locks.
        columns: Vec<(Column, i16)>,
        /// Conditions on the output columns, pushed to the scan; outer columns and parameters allowed.
        filter: Vec<Expr>,
        /// Path chosen by the optimiser.
        access: Access,
    },
    /// Rows of a computed catalog relation that satisfy `filter`.
    Virtual {
        /// The relation.
        table: Arc<VirtualDesc>,
        /// Output: (column, index into `table.columns`).
        columns: Vec<(Column, usize)>,
        /// Conditions, so that the executor can look up by oid or name.
        filter: Vec<Expr>,
    },
    /// VALUES
    Values {
        /// Output columns.
        columns: Vec<Column>,
        /// Rows of expressions.
        rows: Vec<Vec<Expr>>,
    },
    /// Exactly these columns; a column passed on keeps its id as `Column(id)`.
    Project {
        /// Input.
        input: Box<Rel>,
        /// (output, expression)
        exprs: Vec<(Column, Expr)>,
    },
    /// Set-returning functions in a select list, run in lockstep; adds columns to the input's.
    ProjectSet {
        /// Input.
        input: Box<Rel>,
        /// The calls; shorter ones are padded with NULL.
        calls: Vec<FunctionCall>,
    },
    /// Rows for which every predicate is true.
    Filter {
        /// Input.
        input: Box<Rel>,
        /// Conjuncts.
        predicates: Vec<Expr>,
    },
    /// A join; output is the left columns, then the right ones.
    Join {
        /// Kind.
        kind: JoinKind,
        /// Left input.
        left: Box<Rel>,
        /// Right input.
        right: Box<Rel>,
        /// Conjuncts.
        on: Vec<Expr>,
        /// Chosen by the optimiser: look the right side (a `Scan` whose spans read left columns)
        /// up for each left row.
        lookup: bool,
    },
    /// For each left row, the right side with that row's columns as outer references: LATERAL.
    Apply {
        /// Inner, Left, Semi or Anti.
        kind: JoinKind,
        /// Left input.
        left: Box<Rel>,
        /// Right input, run anew for each left row.
        right: Box<Rel>,
        /// Conjuncts.
        on: Vec<Expr>,
    },
    /// Groups. Output: `group_by` columns (keeping ids), then the aggregates, then `grouping`.
    Aggregate {
        /// Input.
        input: Box<Rel>,
        /// Grouping columns of the input.
        group_by: Vec<ColumnId>,
        /// GROUPING SETS as indexes into `group_by`; `None` for the one plain set.
        grouping_sets: Option<Vec<Vec<usize>>>,
        /// (output, call)
        aggregates: Vec<(Column, AggregateCall)>,
        /// int4 column with one bit per `group_by` column (the first is the highest bit): set when
        /// that column is not part of the row's grouping set.
        grouping: Option<Column>,
    },
    /// Window functions; adds columns to the input's.
    Window {
        /// Input.
        input: Box<Rel>,
        /// The window.
        spec: WindowSpec,
        /// (output, call)
        calls: Vec<(Column, WindowCall)>,
    },
    /// Sorted rows.
    Sort {
        /// Input.
        input: Box<Rel>,
        /// Keys.
        keys: Vec<SortKey>,
    },
    /// LIMIT and OFFSET: int8 expressions without columns; NULL is no limit.
    Limit {
        /// Input.
        input: Box<Rel>,
        /// Rows to give.
        limit: Option<Expr>,
        /// Rows to leave out first.
        offset: Option<Expr>,
        /// WITH TIES by these keys; the input is sorted by them.
        with_ties: Option<Vec<SortKey>>,
    },
    /// One row for each distinct combination of `on`; the first by the input's order.
    Distinct {
        /// Input.
        input: Box<Rel>,
        /// Columns compared: all for DISTINCT, some for DISTINCT ON (input sorted by them first).
        on: Vec<ColumnId>,
    },
    /// UNION and its kin. Inputs have as many columns as `columns`, of the same types, in order.
    SetOp {
        /// Kind.
        kind: SetOpKind,
        /// ALL
        all: bool,
        /// Output columns.
        columns: Vec<Column>,
        /// Left input and its columns in order.
        left: (Box<Rel>, Vec<ColumnId>),
        /// Right input and its columns in order.
        right: (Box<Rel>, Vec<ColumnId>),
    },
    /// Functions in FROM, in lockstep (ROWS FROM), with an optional ordinality column.
    Function {
        /// The calls.
        calls: Vec<FunctionCall>,
        /// WITH ORDINALITY, int8.
        ordinality: Option<Column>,
    },
    /// A common table expression and the query that reads it. Run once per statement.
    With {
        /// The expressions, in order of evaluation.
        ctes: Vec<Cte>,
        /// The query.
        body: Box<Rel>,
    },
    /// A reference to a CTE (or, inside a recursive one, to its working table).
    CteScan {
        /// `Cte::id`
        cte: u32,
        /// Output columns, in the order of `Cte::columns`.
        columns: Vec<Column>,
    },
    /// FOR UPDATE and its kin: locks the row of each table named, by the key column given.
    LockRows {
        /// Input, which carries the key columns (attnum 0 of the scans).
        input: Box<Rel>,
        /// What to lock.
        locks: Vec<LockTarget>,
    },
    /// INSERT, UPDATE or DELETE with RETURNING, as a source of rows.
    Modify(Box<crate::plan::Modify>),
}

/// One table of a `LockRows`.
#[derive(Clone, Debug)]
pub struct LockTarget {
    /// The table.
    pub table: Arc<TableDesc>,
    /// Column that holds its rows' key (NULL on the outer side of a join: nothing to lock).
    pub key: ColumnId,
    /// Strength.
    pub strength: RowLock,
    /// On conflict.
    pub wait: LockWait,
}

/// A common table expression.
#[derive(Clone, Debug)]
pub struct Cte {
    /// Unique in the statement.
    pub id: u32,
    /// Its name, for EXPLAIN.
    pub name: Arc<str>,
    /// Its columns; ids as its plan outputs them.
    pub columns: Vec<Column>,
    /// The query, or the non-recursive term.
    pub plan: Rel,
    /// The recursive term and its output columns in order; it reads the working table by a
    /// `CteScan` of this id.
    pub recursive: Option<(Rel, Vec<ColumnId>)>,
    /// UNION ALL rather than UNION.
    pub union_all: bool,
    /// MATERIALIZED or NOT MATERIALIZED, when written.
    pub materialized: Option<bool>,
}

/// Type oid that marks a set-returning function's undeclared record.
pub const RECORD: Oid = meridian_types::oid::RECORD;
