//! SQL text to statements.
//!
//! A lexer of our own follows PostgreSQL's lexical rules and hands sqlparser its tokens, so that
//! every position is a character position in the text (all tokens are on line 1) and identifiers
//! arrive folded to lower case. What sqlparser does not know is parsed here, by statement.

pub mod source;

pub use source::Source;
