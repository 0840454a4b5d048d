//! Runs bound statements.
//!
//! A [`meridian_sql::plan::Query`] is either compiled to a [`keypath::KeyPlan`], which goes straight
//! from parameters to keys and from stored rows to the client's bytes, or lowered to a tree of
//! operators: DataFusion's for hash joins, nested loops and sorting, Meridian's own (`ops`) for
//! all that PostgreSQL does in its own way. [`run()`] drives the tree and owns the transaction.
//!
//! ```text
//! Query ── KeyPlan::compile ──► KeyPlan::run ─────────────────────► DataRow bytes
//!   └───── lower ──► operators ── Cursor::next ──► RecordBatch ───► RowSink
//! ```
//!
//! **Invariant:** a statement's writes are collected beside the transaction (`dml`) and handed to
//! it when the statement has succeeded. So all parts of a statement read the same snapshot, it never
//! meets its own rows, and a failed one leaves nothing behind but locks.

pub mod catalog_store;
mod codecs;
mod context;
mod copy;
pub mod ddl;
mod dml;
mod error;
mod expr;
mod io;
pub mod keypath;
mod keys;
mod lower;
mod ops;
mod rowid;
mod run;
mod shared;
#[cfg(test)]
mod tests;
pub mod values;
pub mod virtuals;
mod zones;

pub use context::{Node, STATEMENT_MEMORY_BYTES, StatementContext};
pub use copy::CopyInserter;
pub use dml::{Deferred, check_deferred};
pub use error::{ExecError, from_kv};
pub use keypath::KeyPlan;
pub use run::{Cursor, Prepared, RowSink, datums, evaluate, evaluate_in, run};
pub use values::datum_at;
