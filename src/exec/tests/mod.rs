//! Statements end to end: text is bound, lowered and run over a store in memory. The expected
//! values are PostgreSQL 15's.

mod dml;
mod inner;
mod queries;
mod support;
