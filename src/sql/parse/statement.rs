//! The kinds of statements.
//!
//! Queries and data changes are sqlparser's `Query` (INSERT, UPDATE and DELETE stand in its body);
//! definitions are [`crate::ddl::Ddl`]; the rest are PostgreSQL's own and described here.

use sqlparser::ast::{DataType, Expr, Ident, ObjectName, Query, SetExpr};
use sqlparser::tokenizer::Span;

use crate::plan::TableLock;

/// A statement and the part of the text that it was parsed from.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Byte range in the text, without the semicolon.
    pub range: std::ops::Range<usize>,
    /// AS OF SYSTEM TIME
    pub as_of: Option<Box<Expr>>,
}

/// A statement.
#[derive(Clone, Debug)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE, with or without WITH.
    Query(Box<Query>),
    /// A definition: CREATE, ALTER, DROP, GRANT, REVOKE and so on.
    Ddl(Box<crate::ddl::Ddl>),
    /// BEGIN, COMMIT and so on.
    Transaction(Transaction),
    /// SET
    Set(Set),
    /// SHOW name; `None` for ALL.
    Show(Option<String>),
    /// RESET name; `None` for ALL.
    Reset(Option<String>),
    /// SET CONSTRAINTS; no names for ALL.
    SetConstraints {
        /// The constraints.
        names: Vec<ObjectName>,
        /// DEFERRED rather than IMMEDIATE.
        deferred: bool,
    },
    /// PREPARE
    Prepare {
        /// Its name.
        name: Ident,
        /// Types given.
        types: Vec<DataType>,
        /// What is prepared.
        statement: Box<Parsed>,
    },
    /// EXECUTE
    Execute {
        /// The prepared statement.
        name: Ident,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// DEALLOCATE name; `None` for ALL.
    Deallocate(Option<Ident>),
    /// DECLARE … CURSOR
    Declare(DeclareCursor),
    /// FETCH or MOVE
    Fetch {
        /// The cursor.
        cursor: Ident,
        /// How far and which way.
        direction: Direction,
        /// MOVE: gives no rows.
        only_move: bool,
    },
    /// CLOSE name; `None` for ALL.
    Close(Option<Ident>),
    /// COPY
    Copy(Box<Copy>),
    /// EXPLAIN
    Explain {
        /// `(name, value)` in order, names in lower case; the old syntax gives them too.
        options: Vec<(String, Option<String>)>,
        /// What is explained.
        statement: Box<Parsed>,
    },
    /// LOCK TABLE
    Lock {
        /// The tables.
        tables: Vec<ObjectName>,
        /// The mode.
        mode: TableLock,
        /// NOWAIT
        nowait: bool,
    },
    /// ALTER TABLE or ALTER INDEX … SPLIT AT VALUES
    SplitAt(SplitAt),
    /// ALTER RANGE … RELOCATE LEASE TO …
    RelocateLease {
        /// The range's number.
        range: u64,
        /// The node's.
        node: u64,
    },
    /// LISTEN
    Listen(Ident),
    /// UNLISTEN name; `None` for `*`.
    Unlisten(Option<Ident>),
    /// NOTIFY
    Notify(Ident, Option<String>),
    /// DISCARD, with its word in lower case: `all`, `plans`, `sequences`, `temp`.
    Discard(String),
    /// DO
    Do {
        /// LANGUAGE, `plpgsql` by default.
        language: String,
        /// The body.
        body: String,
    },
    /// CALL, as the call's expression.
    Call(Box<Expr>),
    /// LOAD 'library'
    Load(String),
}

/// The isolation levels as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// READ UNCOMMITTED, which acts as READ COMMITTED.
    ReadUncommitted,
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

/// Modes of a transaction; what was not written is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// ISOLATION LEVEL
    pub isolation: Option<IsolationLevel>,
    /// READ ONLY or READ WRITE
    pub read_only: Option<bool>,
    /// DEFERRABLE or NOT DEFERRABLE
    pub deferrable: Option<bool>,
    /// AS OF SYSTEM TIME
    pub as_of: Option<Box<Expr>>,
}

/// Transaction control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// BEGIN (`start`: START TRANSACTION, which has its own command tag)
    Begin {
        /// Its modes.
        modes: TransactionModes,
        /// Written as START TRANSACTION.
        start: bool,
    },
    /// COMMIT, END
    Commit {
        /// AND CHAIN
        chain: bool,
    },
    /// ROLLBACK, ABORT
    Rollback {
        /// AND CHAIN
        chain: bool,
    },
    /// SAVEPOINT
    Savepoint(String),
    /// RELEASE
    Release(String),
    /// ROLLBACK TO
    RollbackTo(String),
    /// PREPARE TRANSACTION
    Prepare(String),
    /// COMMIT PREPARED
    CommitPrepared(String),
    /// ROLLBACK PREPARED
    RollbackPrepared(String),
    /// SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION
    Set {
        /// The modes.
        modes: TransactionModes,
        /// SESSION CHARACTERISTICS
        session: bool,
    },
    /// SET TRANSACTION SNAPSHOT
    Snapshot(String),
}

/// SET of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// LOCAL
    pub local: bool,
    /// Name in lower case, with its prefix: `a.b`. SET ROLE, SESSION AUTHORIZATION, TIME ZONE and
    /// NAMES come as `role`, `session_authorization`, `timezone`, `client_encoding`.
    pub name: String,
    /// The values; `None` for DEFAULT (and TIME ZONE LOCAL, ROLE NONE stays `none`).
    pub values: Option<Vec<SetValue>>,
    /// FROM CURRENT
    pub from_current: bool,
}

/// One value of a SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// A string literal or word.
    Text(String),
    /// A number, sign included.
    Number(String),
    /// `INTERVAL '…'` of SET TIME ZONE.
    Interval(String),
}

impl SetValue {
    /// The value as text.
    pub fn as_str(&self) -> &str {
        match self {
            SetValue::Text(s) | SetValue::Number(s) | SetValue::Interval(s) => s,
        }
    }
}

/// DECLARE … CURSOR
#[derive(Clone, Debug)]
pub struct DeclareCursor {
    /// Its name.
    pub name: Ident,
    /// BINARY
    pub binary: bool,
    /// SCROLL or NO SCROLL
    pub scroll: Option<bool>,
    /// INSENSITIVE
    pub insensitive: bool,
    /// WITH HOLD
    pub hold: bool,
    /// The query.
    pub query: Box<Query>,
    /// Its byte range in the text.
    pub range: std::ops::Range<usize>,
    /// AS OF SYSTEM TIME
    pub as_of: Option<Box<Expr>>,
}

/// ALTER TABLE or ALTER INDEX … SPLIT AT VALUES
#[derive(Clone, Debug)]
pub struct SplitAt {
    /// It is an index that is named.
    pub index: bool,
    /// The table or index.
    pub name: ObjectName,
    /// Where its name stands in the text.
    pub span: Span,
    /// Values of leading key columns, a row for each split.
    pub rows: Vec<Vec<Expr>>,
}

/// How FETCH moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// n rows forward (backward when negative); 0 re-reads the current row.
    Forward(i64),
    /// All rows that are left.
    ForwardAll,
    /// n rows backward.
    Backward(i64),
    /// All rows before.
    BackwardAll,
    /// The n-th row, from the end when negative.
    Absolute(i64),
    /// The n-th row from here.
    Relative(i64),
}

/// What COPY reads or writes.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// A table and its columns; none: all.
    Table(ObjectName, Vec<Ident>),
    /// A query.
    Query(Box<Query>),
}

/// The other end of COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// STDIN or STDOUT
    Client,
    /// A file of the server.
    File(String),
    /// PROGRAM
    Program(String),
}

/// COPY
#[derive(Clone, Debug)]
pub struct Copy {
    /// Table or query.
    pub source: CopySource,
    /// COPY … TO
    pub to: bool,
    /// The other end.
    pub target: CopyTarget,
    /// Options, names in lower case; lists (columns, `*`) have several values.
    pub options: Vec<(String, Vec<String>)>,
    /// WHERE
    pub filter: Option<Expr>,
}

impl Statement {
    /// Whether a transaction that has failed still takes this statement: only those that end it.
    pub fn allowed_in_failed_transaction(&self) -> bool {
        matches!(
            self,
            Statement::Transaction(
                Transaction::Commit { .. }
                    | Transaction::Rollback { .. }
                    | Transaction::RollbackTo(_)
                    | Transaction::Prepare(_)
            )
        )
    }

    /// The command's name in messages such as `cannot execute INSERT in a read-only transaction`,
    /// for statements that a read-only transaction refuses; `None` for those that it takes.
    pub fn writes(&self) -> Option<&'static str> {
        match self {
            Statement::Query(query) => query_writes(query),
            Statement::Notify(..) => Some("NOTIFY"),
            Statement::Copy(copy) if !copy.to => Some("COPY FROM"),
            _ => None,
        }
    }

    /// Whether it gives rows to the client.
    pub fn returns_rows(&self) -> bool {
        match self {
            Statement::Query(query) => match &*query.body {
                SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) => has_returning(s),
                _ => true,
            },
            Statement::Show(_) | Statement::Explain { .. } | Statement::SplitAt(_) => true,
            Statement::Fetch { only_move, .. } => !only_move,
            _ => false,
        }
    }
}

/// What a query writes: its own body, or a common table expression's.
fn query_writes(query: &Query) -> Option<&'static str> {
    let body = match &*query.body {
        SetExpr::Insert(_) => Some("INSERT"),
        SetExpr::Update(_) => Some("UPDATE"),
        SetExpr::Delete(_) => Some("DELETE"),
        SetExpr::Merge(_) => Some("MERGE"),
        SetExpr::Select(_) if !query.locks.is_empty() => Some("SELECT FOR UPDATE"),
        _ => None,
    };
    body.or_else(|| {
        let ctes = query.with.iter().flat_map(|w| &w.cte_tables);
        ctes.into_iter().find_map(|cte| query_writes(&cte.query))
    })
}

fn has_returning(statement: &sqlparser::ast::Statement) -> bool {
    use sqlparser::ast::Statement as S;
    match statement {
        S::Insert(i) => i.returning.is_some(),
        S::Update(u) => u.returning.is_some(),
        S::Delete(d) => d.returning.is_some(),
        _ => false,
    }
}
