//! What benchmark drivers share. They know a server by its wire alone, so that one binary measures
//! Meridian and PostgreSQL.
//!
//! [`Cluster`] spreads connections over the nodes it is given; [`Session`] holds a driver's prepared
//! statements on one of them and sends them one by one or in a pipeline; [`Trouble`] sorts errors into
//! those that a client repeats and those that it reports; [`Worker`] is one client, and repeats what
//! can be repeated; [`Run`] tells warming up from measuring; [`Record`] keeps the histograms of one
//! worker, and [`Report`] prints the sum of all as a table and as JSON.

mod cluster;
mod copy;
mod options;
mod progress;
mod record;
mod report;
mod run;
mod session;
mod text;
mod trouble;
mod worker;

pub use cluster::Cluster;
pub use copy::CopyRows;
pub use options::{LoadOptions, RunOptions, Target, duration};
pub use progress::{load_bar, show_run};
pub use record::{Operation, Record};
pub use report::{Report, print};
pub use run::{Run, micros_since};
pub use session::{Call, Catalog, Session, call};
pub use text::random_text;
pub use trouble::{Backoff, Failure, Trouble};
pub use worker::{Bench, Outcome, Transaction, Worker, gather};
