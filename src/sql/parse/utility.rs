//! Which statement it is, and the utility statements.

use sqlparser::ast::{Expr, Ident, ObjectName};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::byte_range;
use super::dialect::Meridian;
use super::grammar::{Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at};
use super::lexer::Lexed;
use super::ranges::relocate_lease;
use super::statement::{DeclareCursor, Direction, Parsed, Statement};
use crate::plan::TableLock;

impl Meridian {
    /// One whole statement.
    pub(super) fn statement(
        &self,
        p: &mut Parser,
        text: &str,
        tokens: &[Lexed],
    ) -> Parse<Statement> {
        let Some(word) = peek_word(p).map(str::to_owned) else {
            return match p.peek_token_ref().token {
                Token::LParen => Ok(Statement::Query(p.parse_query()?)),
                _ => unexpected(p),
            };
        };
        if let Some(statement) = self.transaction(p, &word)? {
            return Ok(statement);
        }
        if word == "alter" {
            if let Some(statement) = self.split_at(p)? {
                return Ok(statement);
            }
            if take_words(p, &["alter", "range"]) {
                return relocate_lease(p);
            }
        }
        if word == "show"
            && let Some(statement) = self.show_ranges(p)?
        {
            return Ok(statement);
        }
        if let Some(ddl) = self.ddl(p)? {
            return Ok(Statement::Ddl(Box::new(ddl)));
        }
        match word.as_str() {
            "select" | "values" | "table" | "with" | "insert" | "update" | "delete" | "merge" => {
                Ok(Statement::Query(p.parse_query()?))
            }
            "set" => self.set(p),
            "show" => self.shown_name(p).map(Statement::Show),
            "reset" => self.shown_name(p).map(Statement::Reset),
            "prepare" => self.prepare(p, text, tokens),
            "execute" => self.execute(p),
            "deallocate" => {
                p.advance_token();
                take_word(p, "prepare");
                let all = take_word(p, "all");
                Ok(Statement::Deallocate(if all { None } else { Some(p.parse_identifier()?) }))
            }
            "declare" => self.declare(p, tokens),
            "fetch" | "move" => self.fetch(p, word == "move"),
            "close" => {
                p.advance_token();
                let all = take_word(p, "all");
                Ok(Statement::Close(if all { None } else { Some(p.parse_identifier()?) }))
            }
            "copy" => self.copy(p),
            "explain" => self.explain(p, text, tokens),
            "lock" => self.lock(p),
            "listen" => {
                p.advance_token();
                Ok(Statement::Listen(p.parse_identifier()?))
            }
            "unlisten" => {
                p.advance_token();
                let all = p.consume_token(&Token::Mul);
                Ok(Statement::Unlisten(if all { None } else { Some(p.parse_identifier()?) }))
            }
            "notify" => self.notify(p),
            "discard" => self.discard(p),
            "do" => self.do_block(p),
            "call" => {
                p.advance_token();
                Ok(Statement::Call(Box::new(self.primary(p)?)))
            }
            "load" => {
                p.advance_token();
                Ok(Statement::Load(p.parse_literal_string()?))
            }
            _ => unexpected(p),
        }
    }

    /// A statement inside another one: PREPARE … AS, EXPLAIN.
    fn inner(&self, p: &mut Parser, text: &str, tokens: &[Lexed]) -> Parse<Box<Parsed>> {
        let column = p.peek_token_ref().span.start.column;
        let rest = tokens.iter().position(|t| t.token.span.start.column >= column);
        let rest = &tokens[rest.unwrap_or(tokens.len())..];
        let statement = self.statement(p, text, rest)?;
        Ok(Box::new(Parsed { statement, range: byte_range(rest), as_of: self.as_of.take() }))
    }

    fn prepare(&self, p: &mut Parser, text: &str, tokens: &[Lexed]) -> Parse<Statement> {
        p.advance_token();
        let name = p.parse_identifier()?;
        let mut types = Vec::new();
        if p.consume_token(&Token::LParen) {
            loop {
                types.push(self.type_name(p)?);
                if !p.consume_token(&Token::Comma) {
                    break;
                }
            }
            p.expect_token(&Token::RParen)?;
        }
        expect_word(p, "as")?;
        match peek_word(p) {
            Some("select" | "values" | "with" | "insert" | "update" | "delete" | "table") => {}
            Some("merge") => {}
            _ if p.peek_token_ref().token == Token::LParen => {}
            _ => return unexpected(p),
        }
        Ok(Statement::Prepare { name, types, statement: self.inner(p, text, tokens)? })
    }

    fn execute(&self, p: &mut Parser) -> Parse<Statement> {
        let (name, args) = self.execute_call(p)?;
        Ok(Statement::Execute { name, args })
    }

    /// `EXECUTE name [(arguments)]`
    pub(crate) fn execute_call(&self, p: &mut Parser) -> Parse<(Ident, Vec<Expr>)> {
        p.advance_token();
        let name = p.parse_identifier()?;
        let mut args = Vec::new();
        if p.consume_token(&Token::LParen) {
            args = self.expr_list(p)?;
            p.expect_token(&Token::RParen)?;
        }
        Ok((name, args))
    }

    fn declare(&self, p: &mut Parser, tokens: &[Lexed]) -> Parse<Statement> {
        p.advance_token();
        let name = p.parse_identifier()?;
        let (mut binary, mut scroll, mut insensitive) = (false, None, false);
        loop {
            if take_word(p, "binary") {
                binary = true;
            } else if take_word(p, "insensitive") {
                insensitive = true;
            } else if take_words(p, &["no", "scroll"]) {
                scroll = Some(false);
            } else if take_word(p, "scroll") {
                scroll = Some(true);
            } else if !take_word(p, "asensitive") {
                break;
            }
        }
        expect_word(p, "cursor")?;
        let hold = take_words(p, &["with", "hold"]);
        if !hold {
            take_words(p, &["without", "hold"]);
        }
        expect_word(p, "for")?;
        let column = p.peek_token_ref().span.start.column;
        let start = tokens.iter().position(|t| t.token.span.start.column >= column);
        let range = byte_range(&tokens[start.unwrap_or(tokens.len())..]);
        let query = p.parse_query()?;
        Ok(Statement::Declare(DeclareCursor {
            name,
            binary,
            scroll,
            insensitive,
            hold,
            query,
            range,
            as_of: self.as_of.take(),
        }))
    }

    fn fetch(&self, p: &mut Parser, only_move: bool) -> Parse<Statement> {
        p.advance_token();
        let direction = self.direction(p)?;
        if !take_word(p, "from") {
            take_word(p, "in");
        }
        let cursor = p.parse_identifier()?;
        Ok(Statement::Fetch { cursor, direction, only_move })
    }

    fn direction(&self, p: &mut Parser) -> Parse<Direction> {
        let word = peek_word(p).unwrap_or("").to_owned();
        // A cursor may be called `next`: then nothing follows it.
        if p.peek_nth_token_ref(1).token == Token::EOF {
            return Ok(Direction::Forward(1));
        }
        let one = |p: &mut Parser, d| {
            p.advance_token();
            Ok(d)
        };
        match word.as_str() {
            "next" => one(p, Direction::Forward(1)),
            "prior" => one(p, Direction::Backward(1)),
            "first" => one(p, Direction::Absolute(1)),
            "last" => one(p, Direction::Absolute(-1)),
            "all" => one(p, Direction::ForwardAll),
            "absolute" => {
                p.advance_token();
                Ok(Direction::Absolute(self.signed_integer(p)?))
            }
            "relative" => {
                p.advance_token();
                Ok(Direction::Relative(self.signed_integer(p)?))
            }
            "forward" | "backward" => {
                p.advance_token();
                let all = take_word(p, "all");
                let count = match p.peek_token_ref().token {
                    Token::Number(..) | Token::Minus | Token::Plus => self.signed_integer(p)?,
                    _ => 1,
                };
                Ok(match (word == "forward", all) {
                    (true, true) => Direction::ForwardAll,
                    (true, false) => Direction::Forward(count),
                    (false, true) => Direction::BackwardAll,
                    (false, false) => Direction::Backward(count),
                })
            }
            _ => match p.peek_token_ref().token {
                Token::Number(..) | Token::Minus | Token::Plus => {
                    self.signed_integer(p).map(Direction::Forward)
                }
                _ => Ok(Direction::Forward(1)),
            },
        }
    }

    fn signed_integer(&self, p: &mut Parser) -> Parse<i64> {
        let minus = p.consume_token(&Token::Minus);
        if !minus {
            p.consume_token(&Token::Plus).then_some(());
        }
        let Token::Number(n, _) = p.peek_token_ref().token.clone() else { return unexpected(p) };
        let Ok(n) = n.parse::<i64>() else { return unexpected(p) };
        p.advance_token();
        Ok(if minus { -n } else { n })
    }

    fn explain(&self, p: &mut Parser, text: &str, tokens: &[Lexed]) -> Parse<Statement> {
        p.advance_token();
        let mut options = Vec::new();
        let list = p.peek_token_ref().token == Token::LParen
            && !matches!(word_at(p, 1), Some("select" | "values" | "with" | "table"))
            && p.peek_nth_token_ref(1).token != Token::LParen;
        if list {
            options = self.option_list(p)?;
        } else {
            if take_word(p, "analyze") || take_word(p, "analyse") {
                options.push(("analyze".to_owned(), None));
            }
            if take_word(p, "verbose") {
                options.push(("verbose".to_owned(), None));
            }
        }
        Ok(Statement::Explain { options, statement: self.inner(p, text, tokens)? })
    }

    /// `(name [value], …)`, names and word values in lower case.
    fn option_list(&self, p: &mut Parser) -> Parse<Vec<(String, Option<String>)>> {
        p.expect_token(&Token::LParen)?;
        let mut options = Vec::new();
        loop {
            let name = p.parse_identifier()?.value.to_ascii_lowercase();
            let value = match p.peek_token_ref().token.clone() {
                Token::Word(w) => Some(w.value),
                Token::Number(n, _) => Some(n),
                Token::SingleQuotedString(s) => Some(s),
                _ => None,
            };
            if value.is_some() {
                p.advance_token();
            }
            options.push((name, value));
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        p.expect_token(&Token::RParen)?;
        Ok(options)
    }

    /// Names with the noise of ONLY and `*`.
    fn table_list(&self, p: &mut Parser) -> Parse<Vec<ObjectName>> {
        let mut tables = Vec::new();
        loop {
            take_word(p, "only");
            tables.push(p.parse_object_name(false)?);
            p.consume_token(&Token::Mul).then_some(());
            if !p.consume_token(&Token::Comma) {
                return Ok(tables);
            }
        }
    }

    fn lock(&self, p: &mut Parser) -> Parse<Statement> {
        p.advance_token();
        take_word(p, "table");
        let tables = self.table_list(p)?;
        let mut mode = TableLock::AccessExclusive;
        if take_word(p, "in") {
            mode = self.lock_mode(p)?;
            expect_word(p, "mode")?;
        }
        Ok(Statement::Lock { tables, mode, nowait: take_word(p, "nowait") })
    }

    fn lock_mode(&self, p: &mut Parser) -> Parse<TableLock> {
        const MODES: [(&[&str], TableLock); 8] = [
            (&["access", "share"], TableLock::AccessShare),
            (&["row", "share"], TableLock::RowShare),
            (&["row", "exclusive"], TableLock::RowExclusive),
            (&["share", "update", "exclusive"], TableLock::ShareUpdateExclusive),
            (&["share", "row", "exclusive"], TableLock::ShareRowExclusive),
            (&["share"], TableLock::Share),
            (&["exclusive"], TableLock::Exclusive),
            (&["access", "exclusive"], TableLock::AccessExclusive),
        ];
        match MODES.iter().find(|(words, _)| take_words(p, words)) {
            Some((_, mode)) => Ok(*mode),
            None => unexpected(p),
        }
    }

    fn notify(&self, p: &mut Parser) -> Parse<Statement> {
        p.advance_token();
        let channel = p.parse_identifier()?;
        let payload = match p.consume_token(&Token::Comma) {
            true => Some(p.parse_literal_string()?),
            false => None,
        };
        Ok(Statement::Notify(channel, payload))
    }

    fn discard(&self, p: &mut Parser) -> Parse<Statement> {
        p.advance_token();
        let word = match peek_word(p) {
            Some("temporary") => "temp".to_owned(),
            Some(w @ ("all" | "plans" | "sequences" | "temp")) => w.to_owned(),
            _ => return unexpected(p),
        };
        p.advance_token();
        Ok(Statement::Discard(word))
    }

    fn do_block(&self, p: &mut Parser) -> Parse<Statement> {
        p.advance_token();
        let (mut language, mut body) = ("plpgsql".to_owned(), None);
        loop {
            if take_word(p, "language") {
                language = p.parse_identifier()?.value;
            } else if body.is_none()
                && matches!(p.peek_token_ref().token, Token::SingleQuotedString(_))
            {
                body = Some(p.parse_literal_string()?);
            } else {
                break;
            }
        }
        match body {
            Some(body) => Ok(Statement::Do { language, body }),
            None => unexpected(p),
        }
    }
}
