//! Text to typed, optimised plan. Pure: no I/O, no clock, no transaction.
//!
//! `parse` (sqlparser behind a pre-parser) → `bind` (names, types, operators, casts by PostgreSQL's
//! rules) → [`expr::Expr`] and [`rel::Rel`] → `optimise` → a [`plan::Query`] that `exec` runs.

pub mod bind;
pub mod ddl;
pub mod deparse;
pub mod dump;
pub mod explain;
pub mod expr;
pub mod optimise;
pub mod parse;
pub mod plan;
pub mod rel;
pub mod resolve;
pub mod walk;

#[cfg(test)]
mod tests;

pub use sqlparser::ast;
