//! Where in a statement an expression stands, which decides what it may contain.
//!
//! PostgreSQL refuses an aggregate in WHERE, a window function in HAVING, a sub-query in a CHECK
//! constraint, each with a message that names the clause. [`Clause`] is that name and those rules.

use meridian_types::{PgError, Result, SqlState};

/// The clause that an expression belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// A stand-alone expression: anything but aggregates, windows and sets.
    Other,
    /// JOIN … ON
    JoinOn,
    /// Arguments of a function in FROM.
    FromFunction,
    /// WHERE
    Where,
    /// HAVING
    Having,
    /// FILTER (WHERE …)
    Filter,
    /// PARTITION BY of a window
    WindowPartition,
    /// ORDER BY of a window
    WindowOrder,
    /// Offset of a RANGE frame
    WindowFrameRange,
    /// Offset of a ROWS frame
    WindowFrameRows,
    /// Offset of a GROUPS frame
    WindowFrameGroups,
    /// Select list
    SelectTarget,
    /// Source values of INSERT
    InsertTarget,
    /// SET of UPDATE
    UpdateSource,
    /// GROUP BY
    GroupBy,
    /// ORDER BY
    OrderBy,
    /// DISTINCT ON
    DistinctOn,
    /// LIMIT
    Limit,
    /// OFFSET
    Offset,
    /// AS OF SYSTEM TIME
    AsOf,
    /// RETURNING
    Returning,
    /// VALUES as a relation
    Values,
    /// VALUES of INSERT with one row
    ValuesSingle,
    /// CHECK constraint
    CheckConstraint,
    /// DEFAULT
    ColumnDefault,
    /// Index expression
    IndexExpression,
    /// Index predicate
    IndexPredicate,
    /// USING of ALTER COLUMN TYPE
    AlterColumnTransform,
    /// Parameter of EXECUTE
    ExecuteParameter,
    /// WHEN of a trigger
    TriggerWhen,
    /// GENERATED ALWAYS AS
    GeneratedColumn,
    /// Argument of CALL
    CallArgument,
    /// WHERE of COPY
    CopyWhere,
    /// Default of a domain, or its check
    DomainCheck,
}

/// How a clause stands to a kind of expression.
enum Verdict {
    Allowed,
    /// `… are not allowed in {name of the clause}`
    Refused,
    /// `… are not allowed in {this}`
    RefusedAs(&'static str),
}

impl Clause {
    /// PostgreSQL's words for the clause, as in `argument of {name} must be type boolean`.
    pub fn name(self) -> &'static str {
        match self {
            Clause::Other => "expression",
            Clause::JoinOn => "JOIN/ON",
            Clause::FromFunction => "function in FROM",
            Clause::Where => "WHERE",
            Clause::Having => "HAVING",
            Clause::Filter => "FILTER",
            Clause::WindowPartition => "window PARTITION BY",
            Clause::WindowOrder => "window ORDER BY",
            Clause::WindowFrameRange => "window RANGE",
            Clause::WindowFrameRows => "window ROWS",
            Clause::WindowFrameGroups => "window GROUPS",
            Clause::SelectTarget => "SELECT",
            Clause::InsertTarget => "INSERT",
            Clause::UpdateSource => "UPDATE",
            Clause::GroupBy => "GROUP BY",
            Clause::OrderBy => "ORDER BY",
            Clause::DistinctOn => "DISTINCT ON",
            Clause::Limit => "LIMIT",
            Clause::Offset => "OFFSET",
            Clause::AsOf => "AS OF SYSTEM TIME",
            Clause::Returning => "RETURNING",
            Clause::Values | Clause::ValuesSingle => "VALUES",
            Clause::CheckConstraint | Clause::DomainCheck => "CHECK",
            Clause::ColumnDefault => "DEFAULT",
            Clause::IndexExpression => "index expression",
            Clause::IndexPredicate => "index predicate",
            Clause::AlterColumnTransform => "USING",
            Clause::ExecuteParameter => "EXECUTE",
            Clause::TriggerWhen => "WHEN",
            Clause::GeneratedColumn => "GENERATED AS",
            Clause::CallArgument => "CALL",
            Clause::CopyWhere => "WHERE",
        }
    }

    fn long_name(self) -> &'static str {
        match self {
            Clause::JoinOn => "JOIN conditions",
            Clause::FromFunction => "functions in FROM",
            Clause::CheckConstraint | Clause::DomainCheck => "check constraints",
            Clause::ColumnDefault => "DEFAULT expressions",
            Clause::IndexExpression => "index expressions",
            Clause::IndexPredicate => "index predicates",
            Clause::AlterColumnTransform => "transform expressions",
            Clause::ExecuteParameter => "EXECUTE parameters",
            Clause::TriggerWhen => "trigger WHEN conditions",
            Clause::GeneratedColumn => "column generation expressions",
            Clause::CallArgument => "CALL arguments",
            Clause::CopyWhere => "COPY FROM WHERE conditions",
            other => other.name(),
        }
    }

    /// Whether an aggregate may stand here.
    pub fn check_aggregate(self, position: Option<u32>) -> Result<()> {
        let verdict = match self {
            Clause::Having
            | Clause::WindowPartition
            | Clause::WindowOrder
            | Clause::SelectTarget
            | Clause::OrderBy
            | Clause::DistinctOn => Verdict::Allowed,
            Clause::WindowFrameRange | Clause::WindowFrameRows | Clause::WindowFrameGroups => {
                Verdict::Allowed
            }
            _ => Verdict::Refused,
        };
        self.refuse(verdict, "aggregate functions", SqlState::GROUPING_ERROR, position)
    }

    /// Whether GROUPING may stand here.
    pub fn check_grouping(self, position: Option<u32>) -> Result<()> {
        self.check_aggregate(position).map_err(|_| {
            let text = format!("grouping operations are not allowed in {}", self.long_name());
            PgError::new(SqlState::GROUPING_ERROR, text).at(position)
        })
    }

    /// Whether a window function may stand here.
    pub fn check_window(self, position: Option<u32>) -> Result<()> {
        let verdict = match self {
            Clause::SelectTarget | Clause::OrderBy | Clause::DistinctOn => Verdict::Allowed,
            Clause::WindowPartition
            | Clause::WindowOrder
            | Clause::WindowFrameRange
            | Clause::WindowFrameRows
            | Clause::WindowFrameGroups => Verdict::RefusedAs("window definitions"),
            _ => Verdict::Refused,
        };
        self.refuse(verdict, "window functions", SqlState::WINDOWING_ERROR, position)
    }

    /// Whether a set-returning function may stand here.
    pub fn check_set(self, position: Option<u32>) -> Result<()> {
        let verdict = match self {
            Clause::SelectTarget
            | Clause::OrderBy
            | Clause::GroupBy
            | Clause::DistinctOn
            | Clause::InsertTarget
            | Clause::ValuesSingle
            | Clause::FromFunction => Verdict::Allowed,
            Clause::WindowPartition
            | Clause::WindowOrder
            | Clause::WindowFrameRange
            | Clause::WindowFrameRows
            | Clause::WindowFrameGroups => Verdict::RefusedAs("window definitions"),
            _ => Verdict::Refused,
        };
        self.refuse(verdict, "set-returning functions", SqlState::FEATURE_NOT_SUPPORTED, position)
    }

    /// Whether a sub-query may stand here.
    pub fn check_subquery(self, position: Option<u32>) -> Result<()> {
        let name = match self {
            Clause::CheckConstraint | Clause::DomainCheck => "check constraint",
            Clause::ColumnDefault => "DEFAULT expression",
            Clause::IndexExpression => "index expression",
            Clause::IndexPredicate => "index predicate",
            Clause::AlterColumnTransform => "transform expression",
            Clause::ExecuteParameter => "EXECUTE parameter",
            Clause::TriggerWhen => "trigger WHEN condition",
            Clause::GeneratedColumn => "column generation expression",
            Clause::CallArgument => "CALL argument",
            Clause::CopyWhere => "COPY FROM WHERE condition",
            Clause::AsOf => "AS OF SYSTEM TIME",
            _ => return Ok(()),
        };
        let text = format!("cannot use subquery in {name}");
        Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text).at(position))
    }

    fn refuse(
        self,
        verdict: Verdict,
        what: &str,
        state: SqlState,
        position: Option<u32>,
    ) -> Result<()> {
        let place = match verdict {
            Verdict::Allowed => return Ok(()),
            Verdict::Refused => self.long_name(),
            Verdict::RefusedAs(place) => place,
        };
        Err(PgError::new(state, format!("{what} are not allowed in {place}")).at(position))
    }
}
