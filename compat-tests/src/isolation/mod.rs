//! A runner for PostgreSQL's isolation specs: what several sessions see of each other, step by step.
//!
//! [`spec`] reads the files, [`run`] plays a permutation over [`wire`] connections and writes down
//! what happened as PostgreSQL's own runner does ([`mod@print`] for results), [`score`] holds that against
//! the expected text, and [`serial`] asks what is left whether it was serializable.

pub mod print;
pub mod run;
pub mod score;
pub mod serial;
pub mod spec;
pub mod wire;

pub use run::{BlockedTest, Runner};
pub use score::{Expected, Verdict};
pub use spec::Spec;
pub use wire::Target;
