//! One client's state: its transaction, prepared statements, portals and settings; and the choice of
//! what each statement is done by.
//!
//! ```text
//! text ─▶ parse ─▶ statement ─┬─ rows    ▶ plan cache ▶ key path or operators ▶ portal ▶ client
//!                             ├─ DDL     ▶ the transaction's catalog overlay
//!                             ├─ COPY    ▶ lines ▶ rows, rows ▶ lines
//!                             └─ the session's own: BEGIN, SET, PREPARE, DECLARE …
//! ```
//! A statement runs in the transaction block, or in a transaction of its own that ends with it
//! (simple protocol: with the message; extended: with Sync). Under READ COMMITTED a statement that
//! met a row changed since its snapshot is run again here, with a new snapshot and the locks that it
//! has, and the client never knows.
//!
//! **Invariant:** after any error the session goes on; inside a block it refuses everything but its
//! end with `25P02`, as PostgreSQL does.

mod advisory;
mod again;
mod block;
pub mod client;
mod copy;
mod cursor;
mod ddl;
mod explain;
mod extended;
mod host;
mod interrupt;
mod output;
mod past;
mod plan;
mod prepare;
mod relocate;
mod run;
mod session;
mod sessions;
mod set;
pub mod settings;
mod short;
mod simple;
mod split;
mod statements;
mod twophase;
mod utility;

pub use extended::BindRequest;
pub use interrupt::{IdleLimit, Interrupt, TERMINATED};
pub use meridian_cluster::{PROCESSES_MAX, Signal};
pub use session::Session;
pub use sessions::{Opening, Sessions};

use meridian_types::PgError;

/// Why a message was not answered as asked.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The client is told.
    Error(PgError),
    /// There is no client any more.
    Disconnected,
}

impl From<PgError> for Fault {
    fn from(error: PgError) -> Fault {
        Fault::Error(error)
    }
}

impl From<client::Disconnected> for Fault {
    fn from(_: client::Disconnected) -> Fault {
        Fault::Disconnected
    }
}
