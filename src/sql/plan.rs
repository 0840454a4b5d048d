//! Whole statements, ready to run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_catalog::TableDesc;
use meridian_types::oid::Oid;
use meridian_types::{PgError, PgType};

use crate::expr::{ColumnId, Expr};
use crate::optimise::Given;
use crate::rel::{Column, Rel};

/// A bound and optimised statement that reads or writes rows.
#[derive(Clone, Debug)]
pub struct Query {
    /// The plan. For INSERT, UPDATE, DELETE its root is [`Rel::Modify`].
    pub rel: Rel,
    /// Columns for the client, in order (names may repeat); empty for DML without RETURNING.
    pub output: Vec<Column>,
    /// Types of the parameters, inferred or given.
    pub params: Vec<PgType>,
    /// Word of the command tag.
    pub command: Command,
    /// It takes row locks or writes.
    pub writes: bool,
    /// Columns of the client that are plain table columns: (table oid, attnum), for RowDescription.
    pub origins: Vec<Option<(u32, i16)>>,
    /// Tables read or written, with the lock that PostgreSQL would take.
    pub tables: Vec<(Arc<TableDesc>, TableLock)>,
    /// The error of a constant in the plan, found while it was made: the statement fails with it
    /// when it is run, whether or not a row ever comes to that expression.
    pub fails: Option<PgError>,
    /// The time of AS OF SYSTEM TIME: text, `timestamptz` or `interval`.
    pub as_of: Option<Expr>,
    /// What is computed from parameters alone, and might fail.
    pub given: Given,
    /// Next free column id, for rules and the executor.
    pub next_column: u32,
    /// Aliases of FROM items, by their columns: EXPLAIN names relations as the statement does.
    pub aliases: Aliases,
    /// Tables written through views: their privileges were checked for the views' owners.
    pub trusted: BTreeSet<Oid>,
}

/// Aliases by the columns that are read under them.
pub type Aliases = BTreeMap<ColumnId, Arc<str>>;

/// PostgreSQL's table lock modes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableLock {
    /// SELECT
    AccessShare,
    /// SELECT FOR UPDATE
    RowShare,
    /// INSERT, UPDATE, DELETE
    RowExclusive,
    /// ANALYZE, CREATE INDEX CONCURRENTLY
    ShareUpdateExclusive,
    /// CREATE INDEX
    Share,
    /// CREATE TRIGGER
    ShareRowExclusive,
    /// REFRESH MATERIALIZED VIEW CONCURRENTLY
    Exclusive,
    /// DROP, TRUNCATE, most of ALTER TABLE
    AccessExclusive,
}

/// The word of the command tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SELECT n`
    Select,
    /// `INSERT 0 n`
    Insert,
    /// `UPDATE n`
    Update,
    /// `DELETE n`
    Delete,
}

/// INSERT, UPDATE or DELETE.
#[derive(Clone, Debug)]
pub struct Modify {
    /// The target.
    pub table: Arc<TableDesc>,
    /// Rows to insert, or rows to change with the target's key and old columns.
    pub source: Rel,
    /// What is done with each.
    pub kind: ModifyKind,
    /// RETURNING: (output, expression over `new_columns` and, for UPDATE … FROM, the source's).
    pub returning: Vec<(Column, Expr)>,
    /// Ids by which RETURNING, checks and generated columns read the row written (for DELETE: the
    /// row removed), one for each of `table.columns`.
    pub new_columns: Vec<ColumnId>,
    /// CHECK constraints: (constraint name, condition over `new_columns`).
    pub checks: Vec<(String, Expr)>,
    /// WITH CHECK OPTION of views written through: (view, condition over `new_columns`).
    pub view_checks: Vec<(String, Expr)>,
    /// Generated columns: (attnum, expression over `new_columns`), in order of evaluation.
    pub generated: Vec<(i16, Expr)>,
}

/// What a [`Modify`] does.
#[derive(Clone, Debug)]
pub enum ModifyKind {
    /// INSERT: `values[i]` is the value of `table.columns[i]` over the source's columns.
    Insert {
        /// One for each column of the table, defaults filled in.
        values: Vec<Expr>,
        /// ON CONFLICT
        on_conflict: Option<OnConflict>,
    },
    /// UPDATE: `set` gives new values over the source's columns; `old` are the source's columns
    /// with the old row, one for each of `table.columns`.
    Update {
        /// The source's column with the row's key.
        key: ColumnId,
        /// The source's columns with the old row.
        old: Vec<ColumnId>,
        /// (attnum, new value)
        set: Vec<(i16, Expr)>,
    },
    /// DELETE
    Delete {
        /// The source's column with the row's key.
        key: ColumnId,
        /// The source's columns with the old row.
        old: Vec<ColumnId>,
    },
}

/// ON CONFLICT
#[derive(Clone, Debug)]
pub struct OnConflict {
    /// Arbiter indexes (`IndexDesc::index_id`); empty: any.
    pub arbiters: Vec<u16>,
    /// DO NOTHING when `None`.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE
#[derive(Clone, Debug)]
pub struct ConflictUpdate {
    /// Ids by which `set` and `filter` read the existing row, one for each of `table.columns`.
    pub existing: Vec<ColumnId>,
    /// Ids by which they read `excluded`, one for each of `table.columns`.
    pub excluded: Vec<ColumnId>,
    /// (attnum, new value)
    pub set: Vec<(i16, Expr)>,
    /// WHERE
    pub filter: Option<Expr>,
}
