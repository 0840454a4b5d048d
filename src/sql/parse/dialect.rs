//! The hooks by which sqlparser speaks PostgreSQL's grammar.
//!
//! sqlparser drives statements and FROM clauses; every *expression* is parsed by our own grammar
//! (`grammar.rs` and its siblings), which follows PostgreSQL's precedence and key word classes and
//! writes the special syntaxes (`EXTRACT(… FROM …)`, `LIKE … ESCAPE`, `AT TIME ZONE`) as the calls
//! that PostgreSQL's own grammar makes of them.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use meridian_types::PgError;
use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

use super::keywords;

/// Deepest nesting of an expression. PostgreSQL's limit is its stack (2 MB by default, some
/// thousand levels); ours is a number, so that the same text always gives the same answer. Twice
/// as many would need twice the stack in every later stage.
pub(crate) const MAX_DEPTH: u32 = 1000;

/// PostgreSQL's dialect with our expression grammar.
#[derive(Debug, Default)]
pub(crate) struct Meridian {
    /// An error more exact than sqlparser can carry.
    pub(crate) error: RefCell<Option<PgError>>,
    /// Nesting of expressions.
    pub(crate) depth: Cell<u32>,
    /// Columns of the tokens behind which a parenthesised query begins: see `rewrite::queries`.
    pub(crate) queries: RefCell<BTreeSet<u64>>,
    /// The time of AS OF SYSTEM TIME, until the statement takes it.
    pub(crate) as_of: RefCell<Option<Box<Expr>>>,
    /// `a JOIN b JOIN c ON … ON …` nests to the right.
    pub(crate) nested_joins: bool,
}

macro_rules! as_in_postgresql {
    ($($name:ident)*) => { $(fn $name(&self) -> bool { true })* };
}

impl Dialect for Meridian {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('"')
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || !ch.is_ascii()
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$' || !ch.is_ascii()
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        keywords::is_reserved(&word(kw))
    }

    fn is_column_alias(&self, kw: &Keyword, _: &mut Parser) -> bool {
        keywords::NO_BARE_LABEL.binary_search(&word(*kw).as_str()).is_err()
    }

    fn is_table_alias(&self, kw: &Keyword, _: &mut Parser) -> bool {
        kw != &Keyword::SET && !keywords::is_reserved_for_column(&word(*kw))
    }

    fn is_table_factor(&self, kw: &Keyword, _: &mut Parser) -> bool {
        !keywords::is_reserved(&word(*kw))
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        PostgreSqlDialect {}.prec_value(prec)
    }

    /// Where [`super::search`] writes SEARCH and CYCLE.
    fn supports_from_first_insert(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        !self.nested_joins
    }

    /// A whole expression, so that nothing is left for sqlparser's own operators.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        Some(self.top_expr(parser))
    }

    fn get_next_precedence(&self, _: &Parser) -> Option<Result<u8, ParserError>> {
        Some(Ok(0))
    }

    as_in_postgresql! {
        supports_unicode_string_literal supports_filter_during_aggregation supports_group_by_expr
        allow_extract_custom allow_extract_single_quotes supports_create_index_with_clause
        supports_explain_with_utility_options supports_listen_notify
        supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_empty_projections supports_nested_comments supports_string_escape_constant
        supports_array_typedef_with_brackets supports_set_names supports_alter_column_type_using
        supports_notnull_operator supports_interval_options supports_insert_table_alias
        supports_create_table_like_parenthesized supports_select_expr_star
        supports_window_clause_named_window_reference
    }
}

/// The key word as PostgreSQL spells it.
fn word(kw: Keyword) -> String {
    match kw {
        Keyword::NoKeyword => String::new(),
        kw => format!("{kw:?}").to_ascii_lowercase(),
    }
}
