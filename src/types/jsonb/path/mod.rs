//! `jsonpath`: the SQL/JSON path language over `jsonb`.
//!
//! A path such as `$.a[*] ? (@.b > 1)` is parsed to an [`Expr`] ([`parse`]) and run over a value
//! ([`exec`]); the result is a sequence of values. In `lax` mode, the default, arrays are unwrapped
//! and single values wrapped where a step asks for it, and what is missing gives nothing; in
//! `strict` mode both are errors. Inside a filter an error makes the predicate *unknown*.

mod compare;
pub mod exec;
pub mod parse;
mod show;
#[cfg(test)]
mod tests;

use crate::numeric::Numeric;

/// A path with its mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// `lax` rather than `strict`.
    pub lax: bool,
    /// What is computed.
    pub expr: Expr,
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Eq,
    /// `!=`, `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `starts with`
    StartsWith,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
}

/// A method such as `.size()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `.type()`
    Type,
    /// `.size()`
    Size,
    /// `.double()`
    Double,
    /// `.ceiling()`
    Ceiling,
    /// `.floor()`
    Floor,
    /// `.abs()`
    Abs,
    /// `.keyvalue()`
    KeyValue,
    /// `.datetime()`
    Datetime,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// `.key`
    Key(String),
    /// `.*`
    AnyKey,
    /// `[*]`
    AnyElement,
    /// `[a, b to c]`
    Elements(Vec<(Expr, Option<Expr>)>),
    /// `.**{from to to}`; `None` is `last`.
    Deep(Option<u32>, Option<u32>),
    /// `?(predicate)`
    Filter(Box<Expr>),
    /// A method.
    Method(Method),
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `$`
    Root,
    /// `@`
    Current,
    /// `last`
    Last,
    /// `$name`
    Variable(String),
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number.
    Number(Numeric),
    /// A string.
    String(String),
    /// A start and the steps from it.
    Steps(Box<Expr>, Vec<Step>),
    /// Two operands.
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `+` (false) or `-` (true)
    Unary(bool, Box<Expr>),
    /// `!(…)`
    Not(Box<Expr>),
    /// `(…) is unknown`
    IsUnknown(Box<Expr>),
    /// `exists(…)`
    Exists(Box<Expr>),
    /// `like_regex "pattern" flag "flags"`
    LikeRegex(Box<Expr>, String, String),
}

impl Expr {
    /// True for what is true, false or unknown rather than a sequence.
    pub fn is_predicate(&self) -> bool {
        use Binary::{Add, Div, Mod, Mul, Sub};
        match self {
            Expr::Binary(op, ..) => !matches!(op, Add | Sub | Mul | Div | Mod),
            Expr::Not(_) | Expr::IsUnknown(_) | Expr::Exists(_) | Expr::LikeRegex(..) => true,
            _ => false,
        }
    }
}
