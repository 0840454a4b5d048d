//! PostgreSQL's rules of types: which type a name means, which function or operator a call means,
//! how a value of one type becomes one of another.

mod coerce;

/// How willingly a value changes its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CoercionContext {
    /// In an expression.
    Implicit,
    /// Into a column.
    Assignment,
    /// By CAST.
    Explicit,
}
