//! The grammar: dispatch, and the parts that several statements share.
//!
//! A function that begins a statement looks at the first words and answers `None`, having taken
//! nothing, when the statement isn't one of ours.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Ddl, Name, ObjectKind, SequenceOptions, SqlExpr, TextSpan};
use crate::ast;
use crate::parse::dialect::Meridian;
use crate::parse::grammar::{
    Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at,
};

impl Meridian {
    /// Parses a statement that begins with the next token, if it is one of the catalog's.
    pub(crate) fn ddl(&self, p: &mut Parser) -> Parse<Option<Ddl>> {
        let Some(word) = peek_word(p).map(str::to_owned) else { return Ok(None) };
        let second = word_at(p, 1).unwrap_or_default().to_owned();
        match word.as_str() {
            "create" => self.create(p).map(Some),
            "alter" if second != "system" => self.alter(p).map(Some),
            "alter" if matches!(p.peek_nth_token_ref(3).token, Token::LParen) => {
                p.advance_token();
                p.advance_token();
                match self.alter_placement(p, None)? {
                    None => unexpected(p),
                    ddl => Ok(ddl),
                }
            }
            "drop" => self.drop(p).map(Some),
            "truncate" => self.truncate_tables(p).map(Some),
            "comment" => self.comment_on(p).map(Some),
            "grant" | "revoke" => self.grant(p).map(Some),
            "reindex" => self.reindex(p).map(Some),
            "vacuum" | "analyze" | "analyse" => self.vacuum(p).map(Some),
            "cluster" => {
                p.advance_token();
                let names = self.optional_names(p)?;
                Ok(Some(Ddl::Maintain { tag: "CLUSTER", names }))
            }
            "checkpoint" => {
                p.advance_token();
                Ok(Some(Ddl::Maintain { tag: "CHECKPOINT", names: vec![] }))
            }
            "reassign" | "security" | "refresh" | "import" => {
                Ok(Some(self.unsupported(p, &word.to_uppercase())))
            }
            _ => Ok(None),
        }
    }

    /// Takes all that is left of the statement.
    pub(super) fn unsupported(&self, p: &mut Parser, what: &str) -> Ddl {
        while !matches!(p.peek_token_ref().token, Token::EOF | Token::SemiColon) {
            p.advance_token();
        }
        Ddl::Unsupported(what.to_owned())
    }

    fn create(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "create")?;
        let or_replace = take_words(p, &["or", "replace"]);
        let _ = take_word(p, "global") || take_word(p, "local");
        let temp = take_word(p, "temp") || take_word(p, "temporary");
        let unlogged = take_word(p, "unlogged");
        let Some(word) = peek_word(p).map(str::to_owned) else { return unexpected(p) };
        let plain = !or_replace && !temp && !unlogged;
        match word.as_str() {
            "table" if !or_replace => self.create_table(p, temp, unlogged),
            "view" if !unlogged => self.create_view(p, or_replace, temp),
            "recursive" if !unlogged => Ok(self.unsupported(p, "CREATE RECURSIVE VIEW")),
            "sequence" if !or_replace => self.create_sequence(p, temp),
            "unique" | "index" if plain => self.create_index(p),
            "schema" if plain => self.create_schema(p),
            "database" if plain => self.create_database(p),
            "role" | "user" | "group" if plain => {
                if take_words(p, &["user", "mapping"]) {
                    return Ok(self.unsupported(p, "CREATE USER MAPPING"));
                }
                self.create_role(p, word == "user")
            }
            "materialized" | "type" | "domain" | "function" | "procedure" | "trigger"
            | "extension" | "aggregate" | "operator" | "cast" | "collation" | "rule" | "policy"
            | "publication" | "subscription" | "statistics" | "server" | "foreign" | "event"
            | "language" | "trusted" | "procedural" | "conversion" | "access" | "tablespace"
            | "transform" | "text" | "constraint" | "default" => {
                let what = match (word.as_str(), word_at(p, 1)) {
                    ("materialized", _) => "CREATE MATERIALIZED VIEW".to_owned(),
                    ("foreign" | "event" | "access" | "text", Some(next)) => {
                        format!("CREATE {} {}", word.to_uppercase(), next.to_uppercase())
                    }
                    _ => format!("CREATE {}", word.to_uppercase()),
                };
                Ok(self.unsupported(p, &what))
            }
            _ => unexpected(p),
        }
    }

    pub(super) fn if_not_exists(&self, p: &mut Parser) -> bool {
        take_words(p, &["if", "not", "exists"])
    }

    pub(super) fn if_exists(&self, p: &mut Parser) -> bool {
        take_words(p, &["if", "exists"])
    }

    /// CASCADE or RESTRICT; true for the former.
    pub(super) fn cascade(&self, p: &mut Parser) -> bool {
        if take_word(p, "cascade") {
            return true;
        }
        take_word(p, "restrict");
        false
    }

    pub(super) fn ident(&self, p: &mut Parser) -> Parse<String> {
        Ok(p.parse_identifier()?.value)
    }

    pub(super) fn idents(&self, p: &mut Parser) -> Parse<Vec<String>> {
        let mut all = vec![self.ident(p)?];
        while p.consume_token(&Token::Comma) {
            all.push(self.ident(p)?);
        }
        Ok(all)
    }

    /// `(a, b)`
    pub(super) fn ident_list(&self, p: &mut Parser) -> Parse<Vec<String>> {
        p.expect_token(&Token::LParen)?;
        let all = self.idents(p)?;
        p.expect_token(&Token::RParen)?;
        Ok(all)
    }

    pub(super) fn here(&self, p: &Parser) -> u32 {
        u32::try_from(p.peek_token_ref().span.start.column).unwrap_or(0)
    }

    fn behind(&self, p: &Parser) -> u32 {
        u32::try_from(p.get_current_token().span.end.column).unwrap_or(0)
    }

    /// `name`, `schema.name`, `database.schema.name`
    pub(super) fn object_name(&self, p: &mut Parser) -> Parse<Name> {
        let position = self.here(p);
        let mut parts = vec![self.ident(p)?];
        while p.consume_token(&Token::Period) {
            parts.push(self.ident(p)?);
        }
        let name = parts.pop().unwrap_or_default();
        Ok(Name { schema: parts.pop(), name, position })
    }

    pub(super) fn names(&self, p: &mut Parser) -> Parse<Vec<Name>> {
        let mut all = vec![self.object_name(p)?];
        while p.consume_token(&Token::Comma) {
            all.push(self.object_name(p)?);
        }
        Ok(all)
    }

    fn at_end(&self, p: &Parser) -> bool {
        matches!(p.peek_token_ref().token, Token::EOF | Token::SemiColon)
    }

    fn optional_names(&self, p: &mut Parser) -> Parse<Vec<Name>> {
        if self.at_end(p) { Ok(vec![]) } else { self.names(p) }
    }

    /// An expression with its text.
    pub(super) fn sql_expr(&self, p: &mut Parser) -> Parse<SqlExpr> {
        let start = self.here(p);
        let expr = p.parse_expr()?;
        Ok(SqlExpr { expr, text: TextSpan { start, end: self.behind(p) } })
    }

    /// `(expression)`
    pub(super) fn parenthesized(&self, p: &mut Parser) -> Parse<SqlExpr> {
        p.expect_token(&Token::LParen)?;
        let expr = self.sql_expr(p)?;
        p.expect_token(&Token::RParen)?;
        Ok(expr)
    }

    pub(super) fn sql_query(&self, p: &mut Parser) -> Parse<(ast::Query, TextSpan)> {
        let start = self.here(p);
        let query = *p.parse_query()?;
        Ok((query, TextSpan { start, end: self.behind(p) }))
    }

    pub(super) fn string(&self, p: &mut Parser) -> Parse<String> {
        p.parse_literal_string()
    }

    pub(super) fn integer(&self, p: &mut Parser) -> Parse<i64> {
        let negative = p.consume_token(&Token::Minus);
        let _ = p.consume_token(&Token::Plus);
        let Token::Number(digits, _) = &p.peek_token_ref().token else { return unexpected(p) };
        let text = if negative { format!("-{digits}") } else { digits.clone() };
        let Ok(value) = text.parse() else { return unexpected(p) };
        p.advance_token();
        Ok(value)
    }

    /// A value of an option: a word, a string or a number, as text.
    pub(super) fn option_value(&self, p: &mut Parser) -> Parse<String> {
        let token = p.next_token().token;
        Ok(match token {
            Token::Word(w) => w.value,
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => s,
            Token::Number(n, _) => n,
            Token::Minus => format!("-{}", self.option_value(p)?),
            _ => {
                p.prev_token();
                return unexpected(p);
            }
        })
    }

    /// `WITH (name = value, …)`
    pub(super) fn storage_options(&self, p: &mut Parser) -> Parse<Vec<(String, String)>> {
        p.expect_token(&Token::LParen)?;
        let mut options = Vec::new();
        loop {
            let mut name = self.ident(p)?;
            while p.consume_token(&Token::Period) {
                name = format!("{name}.{}", self.ident(p)?);
            }
            let value =
                if p.consume_token(&Token::Eq) { self.option_value(p)? } else { "true".into() };
            options.push((name, value));
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        p.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn create_schema(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "schema")?;
        let if_not_exists = self.if_not_exists(p);
        let mut name = None;
        if peek_word(p) != Some("authorization") {
            name = Some(self.ident(p)?);
        }
        let owner = if take_word(p, "authorization") { Some(self.ident(p)?) } else { None };
        if !self.at_end(p) {
            return Ok(self.unsupported(p, "CREATE SCHEMA with elements"));
        }
        Ok(Ddl::CreateSchema { name, owner, if_not_exists })
    }

    fn create_database(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "database")?;
        let name = self.ident(p)?;
        Ok(Ddl::CreateDatabase { name, options: self.database_options(p)? })
    }

    pub(super) fn database_options(&self, p: &mut Parser) -> Parse<Vec<(String, String)>> {
        take_word(p, "with");
        let mut options = Vec::new();
        while !self.at_end(p) {
            let mut name = self.ident(p)?;
            if name == "connection" && take_word(p, "limit") {
                name = "connection_limit".into();
            }
            let _ = p.consume_token(&Token::Eq);
            options.push((name, self.option_value(p)?));
        }
        Ok(options)
    }

    fn create_sequence(&self, p: &mut Parser, temp: bool) -> Parse<Ddl> {
        expect_word(p, "sequence")?;
        let if_not_exists = self.if_not_exists(p);
        let name = self.object_name(p)?;
        let options = self.sequence_options(p)?;
        Ok(Ddl::CreateSequence { name, temp, if_not_exists, options })
    }

    /// Options of a sequence, as many as there are.
    pub(super) fn sequence_options(&self, p: &mut Parser) -> Parse<SequenceOptions> {
        let mut o = SequenceOptions::default();
        loop {
            if take_word(p, "as") {
                o.data_type = Some(self.type_name(p)?);
            } else if take_word(p, "increment") {
                take_word(p, "by");
                o.increment = Some(self.integer(p)?);
            } else if take_words(p, &["no", "minvalue"]) {
                o.min = Some(None);
            } else if take_words(p, &["no", "maxvalue"]) {
                o.max = Some(None);
            } else if take_words(p, &["no", "cycle"]) {
                o.cycle = Some(false);
            } else if take_word(p, "minvalue") {
                o.min = Some(Some(self.integer(p)?));
            } else if take_word(p, "maxvalue") {
                o.max = Some(Some(self.integer(p)?));
            } else if take_word(p, "start") {
                take_word(p, "with");
                o.start = Some(self.integer(p)?);
            } else if take_word(p, "restart") {
                let with = take_word(p, "with");
                let number =
                    with || matches!(p.peek_token_ref().token, Token::Number(..) | Token::Minus);
                o.restart = Some(if number { Some(self.integer(p)?) } else { None });
            } else if take_word(p, "cache") {
                o.cache = Some(self.integer(p)?);
            } else if take_word(p, "cycle") {
                o.cycle = Some(true);
            } else if take_words(p, &["owned", "by"]) {
                o.owned_by = Some(self.owned_by(p)?);
            } else if take_words(p, &["sequence", "name"]) {
                o.name = Some(self.object_name(p)?);
            } else {
                return Ok(o);
            }
        }
    }

    fn owned_by(&self, p: &mut Parser) -> Parse<Option<(Name, String)>> {
        if take_word(p, "none") {
            return Ok(None);
        }
        let (table, column) = self.column_path(p)?;
        Ok(Some((table, column)))
    }

    /// `table.column` or `schema.table.column`
    fn column_path(&self, p: &mut Parser) -> Parse<(Name, String)> {
        let position = self.here(p);
        let mut parts = vec![self.ident(p)?];
        while p.consume_token(&Token::Period) {
            parts.push(self.ident(p)?);
        }
        let column = parts.pop().unwrap_or_default();
        let Some(name) = parts.pop() else { return unexpected(p) };
        Ok((Name { schema: parts.pop(), name, position }, column))
    }

    pub(super) fn object_kind(&self, p: &mut Parser) -> Parse<ObjectKind> {
        let Some(word) = peek_word(p).map(str::to_owned) else { return unexpected(p) };
        let kind = match word.as_str() {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "sequence" => ObjectKind::Sequence,
            "view" => ObjectKind::View,
            "schema" => ObjectKind::Schema,
            "database" => ObjectKind::Database,
            "role" | "user" | "group" => ObjectKind::Role,
            "column" => ObjectKind::Column,
            "constraint" => ObjectKind::Constraint,
            "materialized" => {
                p.advance_token();
                ObjectKind::MaterializedView
            }
            "type" => ObjectKind::Other("type"),
            "domain" => ObjectKind::Other("type"),
            "function" => ObjectKind::Other("function"),
            "procedure" => ObjectKind::Other("procedure"),
            "routine" => ObjectKind::Other("routine"),
            "trigger" => ObjectKind::Other("trigger"),
            "extension" => ObjectKind::Other("extension"),
            "aggregate" => ObjectKind::Other("aggregate"),
            "rule" => ObjectKind::Other("rule"),
            "policy" => ObjectKind::Other("policy"),
            "collation" => ObjectKind::Other("collation"),
            "operator" => ObjectKind::Other("operator"),
            "cast" => ObjectKind::Other("cast"),
            "publication" => ObjectKind::Other("publication"),
            "subscription" => ObjectKind::Other("subscription"),
            "statistics" => ObjectKind::Other("statistics object"),
            "server" => ObjectKind::Other("server"),
            "foreign" => ObjectKind::Other("foreign table"),
            "tablespace" => ObjectKind::Other("tablespace"),
            "language" => ObjectKind::Other("language"),
            "event" => ObjectKind::Other("event trigger"),
            "conversion" => ObjectKind::Other("conversion"),
            "text" => ObjectKind::Other("text search object"),
            "access" => ObjectKind::Other("access method"),
            "owned" => ObjectKind::Other("owned objects"),
            "default" => ObjectKind::Other("default privileges"),
            "large" => ObjectKind::Other("large object"),
            "procedural" => ObjectKind::Other("language"),
            _ => return unexpected(p),
        };
        p.advance_token();
        Ok(kind)
    }

    fn drop(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "drop")?;
        let kind = self.object_kind(p)?;
        match kind {
            ObjectKind::Column | ObjectKind::Constraint => return unexpected(p),
            ObjectKind::Database => {
                let if_exists = self.if_exists(p);
                let name = self.ident(p)?;
                take_word(p, "with");
                if p.consume_token(&Token::LParen) {
                    expect_word(p, "force")?;
                    p.expect_token(&Token::RParen)?;
                }
                return Ok(Ddl::DropDatabase { name, if_exists });
            }
            ObjectKind::Role => {
                let if_exists = self.if_exists(p);
                return Ok(Ddl::DropRole { names: self.idents(p)?, if_exists });
            }
            ObjectKind::Index => {
                take_word(p, "concurrently");
            }
            ObjectKind::Other("type" | "extension" | "collation") => {}
            ObjectKind::Other(word) => {
                return Ok(self.unsupported(p, &format!("DROP {}", word.to_uppercase())));
            }
            _ => {}
        }
        let if_exists = self.if_exists(p);
        let names = self.names(p)?;
        Ok(Ddl::Drop { kind, names, if_exists, cascade: self.cascade(p) })
    }

    fn truncate_tables(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "truncate")?;
        take_word(p, "table");
        let mut names = Vec::new();
        loop {
            take_word(p, "only");
            names.push(self.object_name(p)?);
            let _ = p.consume_token(&Token::Mul);
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        let restart_identity = take_words(p, &["restart", "identity"]);
        take_words(p, &["continue", "identity"]);
        Ok(Ddl::Truncate { names, restart_identity, cascade: self.cascade(p) })
    }

    fn comment_on(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "comment")?;
        expect_word(p, "on")?;
        let kind = self.object_kind(p)?;
        let (name, sub) = match kind {
            ObjectKind::Column => {
                let (table, column) = self.column_path(p)?;
                (table, Some(column))
            }
            ObjectKind::Constraint => {
                let constraint = self.ident(p)?;
                expect_word(p, "on")?;
                (self.object_name(p)?, Some(constraint))
            }
            ObjectKind::Other(word) => {
                return Ok(self.unsupported(p, &format!("COMMENT ON {}", word.to_uppercase())));
            }
            _ => (self.object_name(p)?, None),
        };
        expect_word(p, "is")?;
        let text = if take_word(p, "null") { None } else { Some(self.string(p)?) };
        Ok(Ddl::Comment { kind, name, sub, text: text.filter(|t| !t.is_empty()) })
    }

    fn skip_parenthesized(&self, p: &mut Parser) {
        if !p.consume_token(&Token::LParen) {
            return;
        }
        let mut depth = 1;
        while depth > 0 {
            match p.next_token().token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::EOF => return,
                _ => {}
            }
        }
    }

    fn reindex(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "reindex")?;
        self.skip_parenthesized(p);
        let kind = peek_word(p).unwrap_or_default().to_owned();
        if !matches!(kind.as_str(), "index" | "table" | "schema" | "database" | "system") {
            return unexpected(p);
        }
        p.advance_token();
        take_word(p, "concurrently");
        let name = if self.at_end(p) { None } else { Some(self.object_name(p)?) };
        let names =
            name.into_iter().filter(|_| matches!(kind.as_str(), "index" | "table")).collect();
        Ok(Ddl::Maintain { tag: "REINDEX", names })
    }

    fn vacuum(&self, p: &mut Parser) -> Parse<Ddl> {
        let vacuum = take_word(p, "vacuum");
        let mut analyze = !vacuum;
        if analyze {
            p.advance_token();
        }
        loop {
            match peek_word(p) {
                Some("analyze" | "analyse") if vacuum => analyze = true,
                Some("full" | "freeze" | "verbose") => {}
                _ => break,
            }
            p.advance_token();
        }
        if matches!(p.peek_token_ref().token, Token::LParen) {
            analyze |= vacuum && matches!(word_at(p, 1), Some("analyze" | "analyse"));
            self.skip_parenthesized(p);
        }
        let mut names = Vec::new();
        while !self.at_end(p) {
            names.push(self.object_name(p)?);
            self.skip_parenthesized(p);
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        let tag = if vacuum { "VACUUM" } else { "ANALYZE" };
        Ok(if analyze { Ddl::Analyze { tag, names } } else { Ddl::Maintain { tag, names } })
    }
}
