//! Statements that change the catalog.
//!
//! sqlparser's trees for these leave out much of PostgreSQL's grammar, so that they are parsed here,
//! into types of our own. Names are as written (folded by the lexer); expressions and queries are
//! kept both as trees, to be bound, and as a piece of the text, to be stored.

use crate::ast;

mod parse;
mod parse_alter;
mod parse_role;
mod parse_table;
pub mod table;

pub use table::*;

/// A name with an optional schema, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Schema.
    pub schema: Option<String>,
    /// Name in it.
    pub name: String,
    /// Where it stands, one-based.
    pub position: u32,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A piece of the text: one-based character positions, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSpan {
    /// First character.
    pub start: u32,
    /// After the last one.
    pub end: u32,
}

impl TextSpan {
    /// The piece itself.
    pub fn of(self, text: &str) -> String {
        let start = self.start.saturating_sub(1) as usize;
        let len = self.end.saturating_sub(self.start) as usize;
        text.chars().skip(start).take(len).collect()
    }
}

/// An expression with its text.
#[derive(Clone, Debug)]
pub struct SqlExpr {
    /// To bind.
    pub expr: ast::Expr,
    /// To store.
    pub text: TextSpan,
}

/// Kinds of objects that a statement may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// TABLE
    Table,
    /// INDEX
    Index,
    /// SEQUENCE
    Sequence,
    /// VIEW
    View,
    /// MATERIALIZED VIEW, which cannot be created yet
    MaterializedView,
    /// SCHEMA
    Schema,
    /// DATABASE
    Database,
    /// ROLE
    Role,
    /// COLUMN
    Column,
    /// CONSTRAINT … ON
    Constraint,
    /// TYPE, FUNCTION and others that cannot be created yet
    Other(&'static str),
}

impl ObjectKind {
    /// The word in messages.
    pub fn word(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::Index => "index",
            ObjectKind::Sequence => "sequence",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::Schema => "schema",
            ObjectKind::Database => "database",
            ObjectKind::Role => "role",
            ObjectKind::Column => "column",
            ObjectKind::Constraint => "constraint",
            ObjectKind::Other(word) => word,
        }
    }
}

/// `SET name = value` for a role or database: `None` is RESET.
pub type Setting = (Option<String>, Option<String>);

/// An attribute of CREATE ROLE and ALTER ROLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleOption {
    /// SUPERUSER
    Superuser(bool),
    /// INHERIT
    Inherit(bool),
    /// CREATEROLE
    CreateRole(bool),
    /// CREATEDB
    CreateDb(bool),
    /// LOGIN
    Login(bool),
    /// REPLICATION
    Replication(bool),
    /// BYPASSRLS
    BypassRls(bool),
    /// CONNECTION LIMIT
    ConnectionLimit(i32),
    /// PASSWORD
    Password(Option<String>),
    /// VALID UNTIL
    ValidUntil(String),
    /// IN ROLE
    InRole(Vec<String>),
    /// ROLE, ADMIN
    Members(Vec<String>),
    /// ADMIN
    Admins(Vec<String>),
}

/// Who a privilege is given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// PUBLIC
    Public,
    /// A role (`current_user` and its kin as written).
    Role(String),
}

/// What privileges are on.
#[derive(Clone, Debug)]
pub enum GrantTarget {
    /// Tables, views or sequences.
    Relations {
        /// SEQUENCE was written.
        sequences: bool,
        /// The objects.
        names: Vec<Name>,
    },
    /// ALL TABLES IN SCHEMA, or ALL SEQUENCES.
    AllInSchema {
        /// Sequences rather than tables.
        sequences: bool,
        /// The schemas.
        schemas: Vec<String>,
    },
    /// Schemas.
    Schemas(Vec<String>),
    /// Databases.
    Databases(Vec<String>),
    /// Kinds of objects whose privileges aren't kept yet.
    Other(&'static str),
}

/// GRANT or REVOKE on objects.
#[derive(Clone, Debug)]
pub struct GrantStatement {
    /// GRANT rather than REVOKE.
    pub grant: bool,
    /// Privileges in lower case; empty for ALL.
    pub privileges: Vec<String>,
    /// The objects.
    pub target: GrantTarget,
    /// To or from whom.
    pub grantees: Vec<Grantee>,
    /// WITH GRANT OPTION, or GRANT OPTION FOR.
    pub grant_option: bool,
    /// GRANTED BY
    pub by: Option<Grantor>,
}

/// Who is named as the one that grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantor {
    /// CURRENT_USER and its kin.
    Current,
    /// A role.
    Role(String),
}

/// Options of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceOptions {
    /// AS type
    pub data_type: Option<ast::DataType>,
    /// INCREMENT BY
    pub increment: Option<i64>,
    /// MINVALUE; `Some(None)` for NO MINVALUE
    pub min: Option<Option<i64>>,
    /// MAXVALUE; `Some(None)` for NO MAXVALUE
    pub max: Option<Option<i64>>,
    /// START WITH
    pub start: Option<i64>,
    /// RESTART; `Some(None)` without a value
    pub restart: Option<Option<i64>>,
    /// CACHE
    pub cache: Option<i64>,
    /// CYCLE
    pub cycle: Option<bool>,
    /// OWNED BY; `Some(None)` for NONE
    pub owned_by: Option<Option<(Name, String)>>,
    /// SEQUENCE NAME
    pub name: Option<Name>,
}

/// A statement that changes the catalog, or that maintains tables.
#[derive(Clone, Debug)]
pub enum Ddl {
    /// CREATE DATABASE
    CreateDatabase {
        /// Name.
        name: String,
        /// Options in lower case with their values.
        options: Vec<(String, String)>,
    },
    /// DROP DATABASE
    DropDatabase {
        /// Name.
        name: String,
        /// IF EXISTS
        if_exists: bool,
    },
    /// ALTER DATABASE … SET / RESET
    AlterDatabaseSet {
        /// Name.
        name: String,
        /// The setting.
        setting: Setting,
    },
    /// ALTER DATABASE … WITH
    AlterDatabaseOptions {
        /// Name.
        name: String,
        /// Options in lower case with their values.
        options: Vec<(String, String)>,
    },
    /// ALTER DATABASE … or ALTER SYSTEM SET (…) or RESET (…)
    AlterPlacement {
        /// Which database; `None` for the cluster.
        database: Option<String>,
        /// Names and values.
        set: Vec<(String, String)>,
        /// Names of what is inherited again.
        reset: Vec<String>,
    },
    /// CREATE SCHEMA
    CreateSchema {
        /// Name; that of the owner when left out.
        name: Option<String>,
        /// AUTHORIZATION
        owner: Option<String>,
        /// IF NOT EXISTS
        if_not_exists: bool,
    },
    /// CREATE ROLE, USER, GROUP
    CreateRole {
        /// Name.
        name: String,
        /// USER: LOGIN unless said otherwise.
        user: bool,
        /// Attributes.
        options: Vec<RoleOption>,
    },
    /// ALTER ROLE
    AlterRole {
        /// Name.
        name: String,
        /// Attributes.
        options: Vec<RoleOption>,
    },
    /// ALTER ROLE … SET / RESET
    AlterRoleSet {
        /// Name.
        name: String,
        /// The setting.
        setting: Setting,
    },
    /// DROP ROLE
    DropRole {
        /// Names.
        names: Vec<String>,
        /// IF EXISTS
        if_exists: bool,
    },
    /// GRANT role TO role, and REVOKE
    GrantRole {
        /// GRANT rather than REVOKE.
        grant: bool,
        /// Roles given.
        roles: Vec<String>,
        /// To whom.
        members: Vec<String>,
        /// WITH ADMIN OPTION, or ADMIN OPTION FOR.
        admin: bool,
        /// GRANTED BY
        by: Option<Grantor>,
    },
    /// GRANT, REVOKE
    Grant(GrantStatement),
    /// CREATE TABLE
    CreateTable(Box<CreateTable>),
    /// CREATE TABLE AS, SELECT INTO
    CreateTableAs(Box<CreateTableAs>),
    /// CREATE INDEX
    CreateIndex(Box<CreateIndex>),
    /// CREATE SEQUENCE
    CreateSequence {
        /// Name.
        name: Name,
        /// TEMP
        temp: bool,
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// Options.
        options: SequenceOptions,
    },
    /// ALTER SEQUENCE
    AlterSequence {
        /// Name.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// Options.
        options: SequenceOptions,
    },
    /// CREATE VIEW
    CreateView(Box<CreateView>),
    /// DROP of relations and schemas
    Drop {
        /// What.
        kind: ObjectKind,
        /// Names.
        names: Vec<Name>,
        /// IF EXISTS
        if_exists: bool,
        /// CASCADE
        cascade: bool,
    },
    /// ALTER TABLE with its actions
    AlterTable {
        /// Name.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// Actions, in order.
        actions: Vec<AlterAction>,
    },
    /// RENAME TO
    Rename {
        /// What.
        kind: ObjectKind,
        /// Name.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// New name.
        to: String,
    },
    /// RENAME COLUMN
    RenameColumn {
        /// Kind of relation.
        kind: ObjectKind,
        /// Relation.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// Old name.
        column: String,
        /// New name.
        to: String,
    },
    /// RENAME CONSTRAINT
    RenameConstraint {
        /// Table.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// Old name.
        constraint: String,
        /// New name.
        to: String,
    },
    /// SET SCHEMA
    SetSchema {
        /// What.
        kind: ObjectKind,
        /// Name.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// New schema.
        schema: String,
    },
    /// OWNER TO
    Owner {
        /// What.
        kind: ObjectKind,
        /// Name.
        name: Name,
        /// IF EXISTS
        if_exists: bool,
        /// New owner.
        owner: String,
    },
    /// TRUNCATE
    Truncate {
        /// Tables.
        names: Vec<Name>,
        /// RESTART IDENTITY
        restart_identity: bool,
        /// CASCADE
        cascade: bool,
    },
    /// COMMENT ON
    Comment {
        /// What.
        kind: ObjectKind,
        /// Name; the relation for a column or constraint.
        name: Name,
        /// Column or constraint.
        sub: Option<String>,
        /// The comment.
        text: Option<String>,
    },
    /// REINDEX, VACUUM, CLUSTER: accepted, nothing to do; CHECKPOINT
    Maintain {
        /// Command tag.
        tag: &'static str,
        /// Relations that must exist.
        names: Vec<Name>,
    },
    /// ANALYZE; all tables when none is named
    Analyze {
        /// Command tag: `ANALYZE` or `VACUUM`.
        tag: &'static str,
        /// Tables.
        names: Vec<Name>,
    },
    /// A statement of PostgreSQL's that isn't built yet
    Unsupported(String),
}

impl Ddl {
    /// Whether a read-only transaction may run it: it changes no descriptor that matters.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Ddl::Maintain { .. } | Ddl::Analyze { .. })
    }

    /// The command's name, for messages.
    pub fn command(&self) -> &'static str {
        match self {
            Ddl::CreateDatabase { .. } => "CREATE DATABASE",
            Ddl::DropDatabase { .. } => "DROP DATABASE",
            Ddl::AlterDatabaseSet { .. } | Ddl::AlterDatabaseOptions { .. } => "ALTER DATABASE",
            Ddl::AlterPlacement { database: None, .. } => "ALTER SYSTEM",
            Ddl::AlterPlacement { .. } => "ALTER DATABASE",
            Ddl::CreateSchema { .. } => "CREATE SCHEMA",
            Ddl::CreateRole { .. } => "CREATE ROLE",
            Ddl::AlterRole { .. } | Ddl::AlterRoleSet { .. } => "ALTER ROLE",
            Ddl::DropRole { .. } => "DROP ROLE",
            Ddl::GrantRole { grant: true, .. } => "GRANT ROLE",
            Ddl::GrantRole { grant: false, .. } => "REVOKE ROLE",
            Ddl::Grant(GrantStatement { grant: true, .. }) => "GRANT",
            Ddl::Grant(_) => "REVOKE",
            Ddl::CreateTable(_) => "CREATE TABLE",
            Ddl::CreateTableAs(_) => "CREATE TABLE AS",
            Ddl::CreateIndex(_) => "CREATE INDEX",
            Ddl::CreateSequence { .. } => "CREATE SEQUENCE",
            Ddl::AlterSequence { .. } => "ALTER SEQUENCE",
            Ddl::CreateView(_) => "CREATE VIEW",
            Ddl::Drop { kind, .. } => match kind {
                ObjectKind::Index => "DROP INDEX",
                ObjectKind::Sequence => "DROP SEQUENCE",
                ObjectKind::View => "DROP VIEW",
                ObjectKind::Schema => "DROP SCHEMA",
                _ => "DROP TABLE",
            },
            Ddl::Truncate { .. } => "TRUNCATE TABLE",
            Ddl::Comment { .. } => "COMMENT",
            Ddl::Maintain { tag, .. } | Ddl::Analyze { tag, .. } => tag,
            Ddl::Rename { kind, .. }
            | Ddl::RenameColumn { kind, .. }
            | Ddl::SetSchema { kind, .. }
            | Ddl::Owner { kind, .. } => match kind {
                ObjectKind::Index => "ALTER INDEX",
                ObjectKind::Sequence => "ALTER SEQUENCE",
                ObjectKind::View => "ALTER VIEW",
                ObjectKind::Schema => "ALTER SCHEMA",
                ObjectKind::Database => "ALTER DATABASE",
                ObjectKind::Role => "ALTER ROLE",
                _ => "ALTER TABLE",
            },
            Ddl::AlterTable { .. } | Ddl::RenameConstraint { .. } => "ALTER TABLE",
            Ddl::Unsupported(_) => "this statement",
        }
    }
}

/// The definition that a statement of this text is.
pub fn bind(
    statement: &crate::parse::Statement,
    _text: &str,
    _range: std::ops::Range<usize>,
) -> meridian_types::Result<Ddl> {
    match statement {
        crate::parse::Statement::Ddl(ddl) => Ok(Ddl::clone(ddl)),
        _ => Err(meridian_types::PgError::unsupported("this statement is not supported yet")),
    }
}
