//! SHOW RANGES, SHOW PLACEMENT and SHOW REBALANCE PLAN, which are queries of views of `pg_catalog`, ALTER … SPLIT AT
//! and ALTER RANGE … RELOCATE LEASE TO ….

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use super::dialect::Meridian;
use super::grammar::{Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at};
use super::lexer::lex;
use super::statement::{SplitAt, Statement};
use super::with_parser;
use crate::deparse::{quote_ident, quote_literal};

/// One line for a range, whatever is in it.
const ALL: &str = "SELECT range_id, \
     CASE count(DISTINCT table_oid) WHEN 0 THEN NULL WHEN 1 THEN min(table_name) \
     ELSE count(DISTINCT table_oid)::text || ' tables' END AS \"table\", \
     CASE count(index_name) WHEN 1 THEN min(index_name) END AS \"index\", \
     start_key, end_key, leaseholder, replicas, size FROM pg_catalog.meridian_ranges \
     GROUP BY range_id, start_raw, start_key, end_key, leaseholder, replicas, size \
     ORDER BY start_raw";

/// One line for a range and an index.
const SOME: &str = "SELECT range_id, table_name AS \"table\", index_name AS \"index\", \
     start_key, end_key, leaseholder, replicas, size FROM pg_catalog.meridian_ranges";

/// What is to be done so that copies and leases are where they should be.
const PLAN: &str = "SELECT range_id, action, from_nodes AS \"from\", to_nodes AS \"to\", reason \
     FROM pg_catalog.meridian_rebalance_plan";

/// Who says how many copies there are, and where.
const PLACEMENT: &str = "SELECT kind, CASE kind WHEN 'table' THEN table_oid::pg_catalog.regclass::text \
     ELSE database_name END AS name, replication_factor, factor_from, placement, placement_from \
     FROM pg_catalog.meridian_placement";

/// What follows ALTER RANGE: n RELOCATE LEASE TO m.
pub(super) fn relocate_lease(p: &mut Parser) -> Parse<Statement> {
    let number = |p: &mut Parser| match &p.peek_token_ref().token {
        Token::Number(digits, false) => match digits.parse::<u64>() {
            Ok(number) => {
                p.advance_token();
                Ok(number)
            }
            Err(_) => unexpected(p),
        },
        _ => unexpected(p),
    };
    let range = number(p)?;
    for word in ["relocate", "lease", "to"] {
        expect_word(p, word)?;
    }
    Ok(Statement::RelocateLease { range, node: number(p)? })
}

impl Meridian {
    /// SHOW REBALANCE PLAN, or SHOW RANGES [FROM { TABLE | INDEX } name], if this is it.
    pub(super) fn show_ranges(&self, p: &mut Parser) -> Parse<Option<Statement>> {
        let span = p.peek_nth_token_ref(1).span;
        if take_words(p, &["show", "rebalance", "plan"]) {
            return self.written(PLAN, span).map(Some);
        }
        if take_words(p, &["show", "placement"]) {
            return self.show_placement(p, span).map(Some);
        }
        if word_at(p, 1) != Some("ranges") {
            return Ok(None);
        }
        take_words(p, &["show", "ranges"]);
        if !take_word(p, "from") {
            return self.written(ALL, span).map(Some);
        }
        let column = match peek_word(p) {
            Some("table") => "table_oid",
            Some("index") => "index_oid",
            _ => return unexpected(p),
        };
        p.advance_token();
        let span = p.peek_token_ref().span;
        let name = self.literal_name(p, column == "index_oid")?;
        let text = format!(
            "{SOME} WHERE {column} = {name}::pg_catalog.regclass ORDER BY index_oid, start_raw"
        );
        self.written(&text, span).map(Some)
    }

    /// What follows SHOW PLACEMENT: all that is said, or [FROM TABLE name] what holds for a table.
    fn show_placement(&self, p: &mut Parser, span: Span) -> Parse<Statement> {
        if !take_word(p, "from") {
            let rest = "WHERE kind <> 'table' OR 'table' IN (factor_from, placement_from) \
                        ORDER BY CASE kind WHEN 'cluster' THEN 1 WHEN 'database' THEN 2 ELSE 3 END, 2";
            return self.written(&format!("{PLACEMENT} {rest}"), span);
        }
        expect_word(p, "table")?;
        let span = p.peek_token_ref().span;
        let name = self.literal_name(p, false)?;
        let text = format!("{PLACEMENT} WHERE table_oid = {name}::pg_catalog.regclass");
        self.written(&text, span)
    }

    /// A relation's name as a literal.
    fn literal_name(&self, p: &mut Parser, index: bool) -> Parse<String> {
        let name = self.index_or_table(p, index)?;
        let parts = name.0.iter().filter_map(|part| part.as_ident());
        let name: Vec<String> = parts.map(|ident| quote_ident(&ident.value)).collect();
        Ok(quote_literal(&name.join(".")))
    }

    /// A query in our words. What is wrong about it is wrong where the client's text says so.
    fn written(&self, text: &str, span: Span) -> Parse<Statement> {
        let query = lex(text).and_then(|mut tokens| {
            tokens.iter_mut().for_each(|token| token.token.span = span);
            with_parser(text, &tokens, |p, _| p.parse_query())
        });
        query.map(Statement::Query).map_err(|error| {
            *self.error.borrow_mut() = Some(error);
            sqlparser::parser::ParserError::ParserError(String::new())
        })
    }

    /// A name; of an index it may be `table@index`, which is an index of the table's schema.
    fn index_or_table(&self, p: &mut Parser, index: bool) -> Parse<ObjectName> {
        let mut name = p.parse_object_name(false)?;
        if index && p.consume_token(&Token::AtSign) {
            let ident: Ident = p.parse_identifier()?;
            name.0.pop();
            name.0.push(ObjectNamePart::Identifier(ident));
        }
        Ok(name)
    }

    /// ALTER { TABLE | INDEX } name SPLIT AT VALUES (…), …, if this is it.
    pub(super) fn split_at(&self, p: &mut Parser) -> Parse<Option<Statement>> {
        let index = match word_at(p, 1) {
            Some("table") => false,
            Some("index") => true,
            _ => return Ok(None),
        };
        // A name with its dots stands before the word.
        let is_word = |n: usize| matches!(p.peek_nth_token_ref(n).token, Token::Word(_));
        let joins =
            |n: usize| matches!(p.peek_nth_token_ref(n).token, Token::Period | Token::AtSign);
        let mut at = 3;
        while is_word(at - 1) && joins(at) {
            at += 2;
        }
        if word_at(p, at) != Some("split") || word_at(p, at + 1) != Some("at") {
            return Ok(None);
        }
        p.advance_token();
        p.advance_token();
        let span = p.peek_token_ref().span;
        let name = self.index_or_table(p, index)?;
        take_words(p, &["split", "at"]);
        expect_word(p, "values")?;
        let mut rows: Vec<Vec<Expr>> = Vec::new();
        loop {
            p.expect_token(&Token::LParen)?;
            rows.push(self.expr_list(p)?);
            p.expect_token(&Token::RParen)?;
            if !p.consume_token(&Token::Comma) {
                return Ok(Some(Statement::SplitAt(SplitAt { index, name, span, rows })));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Statement, parse};

    #[test]
    fn the_forms_are_taken_and_others_refused_where_they_go_wrong() {
        for text in [
            "SHOW RANGES",
            "SHOW REBALANCE PLAN",
            "SHOW PLACEMENT",
            "SHOW PLACEMENT FROM TABLE s.t",
            "show ranges from table a.\"B\";",
            "SHOW RANGES FROM INDEX i",
            "SHOW RANGES FROM INDEX s.t@i",
        ] {
            let parsed = parse(text).expect(text);
            assert!(matches!(parsed[0].statement, Statement::Query(_)), "{text}");
        }
        for (text, index, rows) in [
            ("ALTER TABLE t SPLIT AT VALUES (1), (2, 'x')", false, 2),
            ("ALTER TABLE s.t SPLIT AT VALUES (1 + 1)", false, 1),
            ("ALTER INDEX i SPLIT AT VALUES ('a')", true, 1),
            ("ALTER INDEX t@i SPLIT AT VALUES ('a')", true, 1),
        ] {
            let parsed = parse(text).expect(text);
            let Statement::SplitAt(split) = &parsed[0].statement else { panic!("{text}") };
            assert_eq!((split.index, split.rows.len()), (index, rows), "{text}");
        }
        let parsed = parse("alter range 12 Relocate lease to 3;").expect("well-formed");
        let moved = Statement::RelocateLease { range: 12, node: 3 };
        assert_eq!(format!("{:?}", parsed[0].statement), format!("{moved:?}"));
        for (text, position) in [
            ("ALTER RANGE a RELOCATE LEASE TO 1", Some(13)),
            ("ALTER RANGE 1.5 RELOCATE LEASE TO 1", Some(13)),
            ("ALTER RANGE 1 SPLIT", Some(15)),
            ("ALTER RANGE 1 RELOCATE LEASE TO '2'", Some(33)),
            ("ALTER RANGE 1 RELOCATE LEASE TO 2 NOW", Some(35)),
            ("SHOW RANGES FROM t", Some(18)),
            ("SHOW RANGES WITH", Some(13)),
            ("ALTER TABLE t SPLIT AT (1)", Some(24)),
            ("ALTER TABLE t SPLIT AT VALUES 1", Some(31)),
            ("ALTER TABLE t SPLIT AT VALUES ()", Some(32)),
            ("ALTER TABLE t SPLIT BY VALUES (1)", Some(15)),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.state().as_str(), "42601", "{text}: {error}");
            assert_eq!(error.fields().position, position, "{text}: {error}");
        }
    }
}
