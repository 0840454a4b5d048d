//! Errors of execution, and the way back from DataFusion's.

use datafusion_common::DataFusionError;
use meridian_kv::api::KvError;
use meridian_types::{PgError, SqlState};

/// Why a statement did not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecError {
    /// The client is told.
    Pg(PgError),
    /// READ COMMITTED: the session takes a new snapshot and runs the statement again, keeping its
    /// locks. Nothing has been written and no row has left the node.
    StatementRetry,
}

/// Marks a [`PgError`] that stands for [`ExecError::StatementRetry`] on its way through operators.
const RETRY: SqlState = SqlState::from_code("MRTRY");
/// Marks an evaluation that needs a sub-query's rows first.
pub(crate) const NEED: SqlState = SqlState::from_code("MNEED");

impl From<PgError> for ExecError {
    fn from(e: PgError) -> ExecError {
        if e.state() == RETRY { ExecError::StatementRetry } else { ExecError::Pg(e) }
    }
}

impl From<KvError> for ExecError {
    fn from(e: KvError) -> ExecError {
        from_kv(e).into()
    }
}

/// The statement must run again at a new snapshot.
pub(crate) fn retry() -> PgError {
    PgError::new(RETRY, "the statement is to be run again")
}

/// The evaluation needs a sub-query's rows first.
pub(crate) fn need() -> PgError {
    PgError::new(NEED, "the rows of a sub-query are needed")
}

/// What the client is told about an error of the KV layer.
pub fn from_kv(e: KvError) -> PgError {
    let message = e.to_string();
    match e {
        KvError::StatementRetry => retry(),
        KvError::Deadlock { detail } => PgError::new(SqlState::DEADLOCK_DETECTED, message)
            .detail(detail)
            .hint(KvError::DEADLOCK_HINT),
        other => PgError::new(SqlState::from_code(other.sqlstate()), message),
    }
}

/// 55P03 for NOWAIT, with the relation's name.
pub(crate) fn from_lock(e: KvError, relation: &str) -> PgError {
    match e {
        KvError::LockNotAvailable => PgError::new(
            SqlState::LOCK_NOT_AVAILABLE,
            format!("could not obtain lock on row in relation \"{relation}\""),
        ),
        other => from_kv(other),
    }
}

/// The original error behind one of DataFusion's.
pub(crate) fn from_datafusion(e: &DataFusionError) -> PgError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = source {
        if let Some(pg) = error.downcast_ref::<PgError>() {
            return pg.clone();
        }
        if let Some(DataFusionError::External(inner)) = error.downcast_ref::<DataFusionError>()
            && let Some(pg) = inner.downcast_ref::<PgError>()
        {
            return pg.clone();
        }
        source = error.source();
    }
    match e.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<PgError>() {
            Some(pg) => pg.clone(),
            None => PgError::internal(inner.to_string()),
        },
        DataFusionError::ResourcesExhausted(detail) => {
            PgError::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(detail.clone())
        }
        other => PgError::internal(other.to_string()),
    }
}

/// A PostgreSQL error on its way through DataFusion.
pub(crate) fn to_datafusion(e: PgError) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// An Arrow error; only a defect of ours can cause one.
pub(crate) fn from_arrow(e: arrow::error::ArrowError) -> PgError {
    PgError::internal(e.to_string())
}
