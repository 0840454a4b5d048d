//! CREATE TABLE, CREATE INDEX, CREATE VIEW and the actions of ALTER TABLE.

use meridian_catalog::{FkAction, Identity};

use super::{Name, SequenceOptions, SqlExpr, TextSpan};
use crate::ast;

/// A constraint of a column or a table.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// CONSTRAINT name
    pub name: Option<String>,
    /// The rule.
    pub kind: ConstraintRule,
    /// DEFERRABLE
    pub deferrable: bool,
    /// INITIALLY DEFERRED
    pub deferred: bool,
    /// NOT VALID
    pub not_valid: bool,
}

/// What a constraint says. A column constraint has its column filled in.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "definitions are few and short-lived")]
pub enum ConstraintRule {
    /// PRIMARY KEY
    PrimaryKey {
        /// Columns.
        columns: Vec<String>,
        /// INCLUDE
        include: Vec<String>,
        /// USING INDEX
        using_index: Option<String>,
    },
    /// UNIQUE
    Unique {
        /// Columns.
        columns: Vec<String>,
        /// INCLUDE
        include: Vec<String>,
        /// NULLS NOT DISTINCT
        nulls_not_distinct: bool,
        /// USING INDEX
        using_index: Option<String>,
    },
    /// CHECK
    Check {
        /// Condition.
        expr: SqlExpr,
        /// NO INHERIT
        no_inherit: bool,
    },
    /// FOREIGN KEY
    ForeignKey {
        /// Referencing columns.
        columns: Vec<String>,
        /// Referenced table.
        table: Name,
        /// Referenced columns; the primary key when empty.
        ref_columns: Vec<String>,
        /// MATCH FULL
        match_full: bool,
        /// ON DELETE
        on_delete: FkAction,
        /// ON UPDATE
        on_update: FkAction,
    },
}

/// A column of CREATE TABLE or ADD COLUMN.
#[derive(Clone, Debug)]
pub struct ColumnDef {
    /// Name.
    pub name: String,
    /// Where it stands.
    pub position: u32,
    /// Type.
    pub data_type: ast::DataType,
    /// COLLATE
    pub collation: Option<String>,
    /// NOT NULL or NULL, when written.
    pub not_null: Option<bool>,
    /// DEFAULT
    pub default: Option<SqlExpr>,
    /// GENERATED ALWAYS AS (…) STORED
    pub generated: Option<SqlExpr>,
    /// GENERATED … AS IDENTITY
    pub identity: Option<(Identity, SequenceOptions)>,
    /// Constraints written with it.
    pub constraints: Vec<Constraint>,
}

/// LIKE other INCLUDING …
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent words of the grammar")]
pub struct LikeOptions {
    /// DEFAULTS
    pub defaults: bool,
    /// CONSTRAINTS
    pub constraints: bool,
    /// INDEXES
    pub indexes: bool,
    /// IDENTITY
    pub identity: bool,
    /// GENERATED
    pub generated: bool,
    /// COMMENTS
    pub comments: bool,
}

/// An element between the parentheses of CREATE TABLE.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "definitions are few and short-lived")]
pub enum TableElement {
    /// A column.
    Column(Box<ColumnDef>),
    /// A table constraint.
    Constraint(Constraint),
    /// LIKE
    Like(Name, LikeOptions),
}

/// ON COMMIT of a temporary table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCommit {
    /// PRESERVE ROWS
    Preserve,
    /// DELETE ROWS
    Delete,
    /// DROP
    Drop,
}

/// CREATE TABLE
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// Name.
    pub name: Name,
    /// TEMP
    pub temp: bool,
    /// UNLOGGED
    pub unlogged: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Columns and constraints.
    pub elements: Vec<TableElement>,
    /// WITH (…)
    pub options: Vec<(String, String)>,
    /// ON COMMIT
    pub on_commit: OnCommit,
}

/// What CREATE TABLE AS takes its rows from.
#[derive(Clone, Debug)]
pub enum AsQuery {
    /// A query.
    Query(Box<ast::Query>),
    /// EXECUTE: the prepared statement and its arguments.
    Execute(ast::Ident, Vec<ast::Expr>),
}

/// CREATE TABLE AS
#[derive(Clone, Debug)]
pub struct CreateTableAs {
    /// Name.
    pub name: Name,
    /// TEMP
    pub temp: bool,
    /// UNLOGGED
    pub unlogged: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Column names.
    pub columns: Vec<String>,
    /// The query.
    pub query: AsQuery,
    /// WITH DATA
    pub with_data: bool,
}

/// CREATE VIEW
#[derive(Clone, Debug)]
pub struct CreateView {
    /// Name.
    pub name: Name,
    /// OR REPLACE
    pub or_replace: bool,
    /// TEMP
    pub temp: bool,
    /// Column names.
    pub columns: Vec<String>,
    /// The query.
    pub query: ast::Query,
    /// Its text.
    pub text: TextSpan,
    /// WITH CHECK OPTION: CASCADED (true) or LOCAL.
    pub check_option: Option<bool>,
}

/// A key column of CREATE INDEX.
#[derive(Clone, Debug)]
pub struct IndexElement {
    /// A column name.
    pub column: Option<String>,
    /// Or an expression.
    pub expr: Option<SqlExpr>,
    /// Operator class.
    pub opclass: Option<String>,
    /// DESC
    pub desc: bool,
    /// NULLS FIRST or LAST, when written.
    pub nulls_first: Option<bool>,
}

/// CREATE INDEX
#[derive(Clone, Debug)]
pub struct CreateIndex {
    /// Name, in the table's schema.
    pub name: Option<String>,
    /// Table.
    pub table: Name,
    /// UNIQUE
    pub unique: bool,
    /// CONCURRENTLY
    pub concurrently: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// USING
    pub method: String,
    /// Key columns.
    pub columns: Vec<IndexElement>,
    /// INCLUDE
    pub include: Vec<String>,
    /// NULLS NOT DISTINCT
    pub nulls_not_distinct: bool,
    /// WHERE
    pub predicate: Option<SqlExpr>,
}

/// What an action of ALTER TABLE keeps others from, weakest first: PostgreSQL's lock modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlterLock {
    /// Other definitions; readers and writers go on.
    ShareUpdateExclusive,
    /// Writers as well.
    ShareRowExclusive,
    /// Everybody.
    AccessExclusive,
}

impl AlterAction {
    /// The lock under which it runs.
    pub fn lock(&self) -> AlterLock {
        match self {
            AlterAction::ValidateConstraint(_)
            | AlterAction::SetOptions(_)
            | AlterAction::ResetOptions(_) => AlterLock::ShareUpdateExclusive,
            AlterAction::AddConstraint(Constraint {
                kind: ConstraintRule::ForeignKey { .. },
                ..
            }) => AlterLock::ShareRowExclusive,
            _ => AlterLock::AccessExclusive,
        }
    }
}

/// An action of ALTER TABLE.
#[derive(Clone, Debug)]
pub enum AlterAction {
    /// ADD COLUMN
    AddColumn {
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// The column.
        column: Box<ColumnDef>,
    },
    /// DROP COLUMN
    DropColumn {
        /// IF EXISTS
        if_exists: bool,
        /// Name.
        column: String,
        /// CASCADE
        cascade: bool,
    },
    /// ALTER COLUMN … TYPE
    SetType {
        /// Name.
        column: String,
        /// New type.
        data_type: ast::DataType,
        /// USING
        using: Option<SqlExpr>,
    },
    /// SET DEFAULT, or DROP DEFAULT
    SetDefault {
        /// Name.
        column: String,
        /// The default.
        default: Option<SqlExpr>,
    },
    /// SET NOT NULL, DROP NOT NULL
    SetNotNull {
        /// Name.
        column: String,
        /// SET
        not_null: bool,
    },
    /// ADD GENERATED … AS IDENTITY
    AddIdentity {
        /// Name.
        column: String,
        /// ALWAYS or BY DEFAULT.
        identity: Identity,
        /// Options of its sequence.
        options: SequenceOptions,
    },
    /// SET GENERATED …
    SetIdentity {
        /// Name.
        column: String,
        /// ALWAYS or BY DEFAULT.
        identity: Option<Identity>,
        /// Options of its sequence.
        options: SequenceOptions,
    },
    /// DROP IDENTITY
    DropIdentity {
        /// Name.
        column: String,
        /// IF EXISTS
        if_exists: bool,
    },
    /// DROP EXPRESSION
    DropExpression {
        /// Name.
        column: String,
        /// IF EXISTS
        if_exists: bool,
    },
    /// ADD CONSTRAINT
    AddConstraint(Constraint),
    /// DROP CONSTRAINT
    DropConstraint {
        /// IF EXISTS
        if_exists: bool,
        /// Name.
        name: String,
        /// CASCADE
        cascade: bool,
    },
    /// VALIDATE CONSTRAINT
    ValidateConstraint(String),
    /// OWNER TO
    Owner(String),
    /// SET (name = value, …)
    SetOptions(Vec<(String, String)>),
    /// RESET (name, …)
    ResetOptions(Vec<String>),
    /// SET STATISTICS, SET STORAGE, CLUSTER ON and others without an effect here
    Nothing,
    /// What isn't built yet
    Unsupported(&'static str),
}
