//! The names that an expression can see.
//!
//! One [`Scope`] is one query level: the items of its FROM list, and what its expressions gathered
//! (aggregates, window calls, set-returning calls), which the binder of SELECT turns into
//! relational operators. [`crate::bind::Binder`] keeps a stack of them: an expression is resolved
//! in the innermost first, then outwards (correlation).
//!
//! The rules of sight are PostgreSQL's: an item may be visible as a table (`t.x`, `t.*`, `t`), its
//! columns may be visible unqualified (`x`), or both. `a JOIN b USING (k)` without an alias hides
//! the columns of `a` and `b` behind its own merged list, while `a.k` stays visible; with an alias
//! it hides both altogether.

use std::sync::Arc;

use meridian_types::PgType;
use meridian_types::oid::Oid;

use crate::ast;
use crate::expr::{ColumnId, Expr, FuncRef};
use crate::rel::{AggregateCall, Column};

/// A column that can be named.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    /// Its name.
    pub name: Arc<str>,
    /// What a reference to it stands for: `Column(id)`, or for a merged column of a full join
    /// COALESCE over both.
    pub expr: Expr,
    /// The table's column that it is: (table oid, attnum).
    pub origin: Option<(Oid, i16)>,
    /// Not part of `*` and of whole-row references (`ctid`, `tableoid`), but visible by name.
    pub system: bool,
}

/// An item of FROM.
#[derive(Clone, Debug, Default)]
pub struct ScopeItem {
    /// Alias, or the relation's name; `None` for an unnamed join.
    pub alias: Option<Arc<str>>,
    /// Schema of the relation when it was not given an alias, so that `schema.table.column` works.
    pub schema: Option<Arc<str>>,
    /// Its columns, in order.
    pub columns: Vec<ScopeColumn>,
    /// `alias.column` and `alias.*` find it.
    pub table_visible: bool,
    /// `column` and `*` find it.
    pub columns_visible: bool,
    /// It is a function that returns one scalar: `alias` alone means its column.
    pub scalar_function: bool,
    /// Only visible to LATERAL items (the other side of the join being bound).
    pub lateral_only: bool,
    /// When `lateral_only`: whether such a reference is right (not under RIGHT or FULL JOIN).
    pub lateral_ok: bool,
    /// The alias of a join.
    pub join: bool,
    /// Type of the whole row; 0 for an anonymous record.
    pub row_type: Oid,
    /// A join may pad it: the column that is NULL where it did, if FROM is asked for it.
    pub padded: Option<ColumnId>,
}

/// An aggregate found in an expression of this level; references were replaced by `column`.
#[derive(Clone, Debug)]
pub struct AggregateRef {
    /// What references stand for it.
    pub column: Column,
    /// The call. Its arguments are over the FROM columns.
    pub call: AggregateCall,
    /// Where it was written.
    pub position: Option<u32>,
}

/// GROUPING(…) found in an expression; references were replaced by `column` (int4).
#[derive(Clone, Debug)]
pub struct GroupingRef {
    /// What references stand for it.
    pub column: Column,
    /// Its arguments; each must equal a grouping expression.
    pub args: Vec<Expr>,
    /// Where it was written.
    pub position: Option<u32>,
}

/// A window call found in an expression; references were replaced by `column`.
#[derive(Clone, Debug)]
pub struct WindowRef {
    /// What references stand for it.
    pub column: Column,
    /// The function.
    pub func: FuncRef,
    /// Set when it is an aggregate: its key.
    pub aggregate: Option<Arc<str>>,
    /// Arguments; they may read aggregates of the level, not window calls.
    pub args: Vec<Expr>,
    /// FILTER (WHERE …)
    pub filter: Option<Expr>,
    /// OVER, unbound: a name or a specification.
    pub over: ast::WindowType,
    /// Where it was written.
    pub position: Option<u32>,
}

/// A set-returning call found in an expression; references were replaced by `column`.
#[derive(Clone, Debug)]
pub struct SetRef {
    /// What references stand for it.
    pub column: Column,
    /// The function.
    pub func: FuncRef,
    /// Arguments; they may read `column`s of set calls that come earlier in the list.
    pub args: Vec<Expr>,
    /// Where it was written.
    pub position: Option<u32>,
}

/// A column reference outside aggregates, for the GROUP BY check.
#[derive(Clone, Debug)]
pub struct ColumnUse {
    /// The column.
    pub id: ColumnId,
    /// `table.column` as PostgreSQL names it in `column "t.x" must appear in the GROUP BY clause`.
    pub display: String,
    /// Where it was written.
    pub position: Option<u32>,
}

/// One query level.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// FROM items.
    pub items: Vec<ScopeItem>,
    /// Aggregates gathered.
    pub aggregates: Vec<AggregateRef>,
    /// GROUPING calls gathered.
    pub groupings: Vec<GroupingRef>,
    /// Window calls gathered.
    pub windows: Vec<WindowRef>,
    /// Set-returning calls gathered.
    pub sets: Vec<SetRef>,
    /// Columns of this level used outside of aggregates (also by inner queries), in order.
    pub uses: Vec<ColumnUse>,
    /// Markers of padded items that expressions read, each with a column of its item.
    pub markers: Vec<(ColumnId, ColumnId)>,
    /// Items are being bound that are LATERAL: `lateral_only` items are visible.
    pub lateral: bool,
}

impl Scope {
    /// A level that sees these items.
    pub fn with_items(items: Vec<ScopeItem>) -> Scope {
        Scope { items, ..Scope::default() }
    }
}

impl ScopeItem {
    /// A plain item: visible as a table and by its columns.
    pub fn new(alias: Option<Arc<str>>, columns: Vec<ScopeColumn>) -> ScopeItem {
        ScopeItem { alias, columns, table_visible: true, columns_visible: true, ..Self::default() }
    }
}

impl ScopeColumn {
    /// A column that is read by its id.
    pub fn new(name: impl Into<Arc<str>>, id: ColumnId, ty: PgType) -> ScopeColumn {
        ScopeColumn { name: name.into(), expr: Expr::column(id, ty), origin: None, system: false }
    }
}
