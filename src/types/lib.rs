//! PostgreSQL's types: identifiers, values, text and binary formats, and the scalar kernels.
//!
//! A value outside a column batch is a [`Datum`]; inside one it is an Arrow array (see [`arrow`]).
//! A function of `pg_proc` is bound by oid and run by its *kernel*, which is found by the name that
//! PostgreSQL gives the C function (`prosrc`): see [`registry`]. The facts about built-in types,
//! functions, operators and casts are PostgreSQL's own rows, kept as tab-separated text in `data/`
//! and read by [`builtin`].
//!
//! **Invariant:** nothing here knows a table, a transaction or a socket. What a kernel needs of the
//! session (time zone, search path, catalog names, sequences) it asks of [`context::Host`].

pub mod array;
pub mod arrow;
pub mod builtin;
pub mod context;
pub mod datetime;
pub mod datum;
pub mod error;
pub mod io;
pub mod jsonb;
mod kernels;
pub mod numeric;
pub mod oid;
pub mod order;
pub mod pgtype;
pub mod registry;
pub mod shape;

pub use context::{EvalContext, Host, Settings};
pub use datum::{ArrayValue, Datum, Interval};
pub use error::{PgError, SqlState};
pub use pgtype::PgType;
pub use registry::{CallInfo, Kernel};

/// Result of anything that can raise a PostgreSQL error.
pub type Result<T, E = PgError> = std::result::Result<T, E>;
