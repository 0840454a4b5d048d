//! CREATE TABLE, CREATE INDEX, CREATE VIEW.

use meridian_catalog::{FkAction, Identity};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{
    AsQuery, ColumnDef, Constraint, ConstraintRule, CreateIndex, CreateTable, CreateTableAs,
    CreateView, Ddl, IndexElement, LikeOptions, Name, OnCommit, SequenceOptions, TableElement,
};
use crate::parse::dialect::Meridian;
use crate::parse::grammar::{
    Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at,
};

/// What follows a table's name or its parentheses.
struct Suffix {
    options: Vec<(String, String)>,
    on_commit: OnCommit,
}

impl Meridian {
    pub(super) fn create_table(&self, p: &mut Parser, temp: bool, unlogged: bool) -> Parse<Ddl> {
        expect_word(p, "table")?;
        let if_not_exists = self.if_not_exists(p);
        let name = self.object_name(p)?;
        if take_words(p, &["partition", "of"]) {
            return Ok(self.unsupported(p, "CREATE TABLE … PARTITION OF"));
        }
        if peek_word(p) == Some("of") {
            return Ok(self.unsupported(p, "CREATE TABLE … OF"));
        }
        if let Some(query) = self.as_query(p, &name, temp, unlogged, if_not_exists)? {
            return Ok(query);
        }
        p.expect_token(&Token::LParen)?;
        let mut elements = Vec::new();
        while !p.consume_token(&Token::RParen) {
            if !elements.is_empty() {
                p.expect_token(&Token::Comma)?;
            }
            elements.push(self.table_element(p)?);
        }
        if take_word(p, "inherits") {
            p.expect_token(&Token::LParen)?;
            if !p.consume_token(&Token::RParen) {
                return Ok(self.unsupported(p, "CREATE TABLE … INHERITS"));
            }
        }
        if take_words(p, &["partition", "by"]) {
            return Ok(self.unsupported(p, "CREATE TABLE … PARTITION BY"));
        }
        let Suffix { options, on_commit } = self.table_suffix(p)?;
        Ok(Ddl::CreateTable(Box::new(CreateTable {
            name,
            temp,
            unlogged,
            if_not_exists,
            elements,
            options,
            on_commit,
        })))
    }

    /// `[(columns)] [WITH …] AS query`, if that is what follows.
    fn as_query(
        &self,
        p: &mut Parser,
        name: &Name,
        temp: bool,
        unlogged: bool,
        if_not_exists: bool,
    ) -> Parse<Option<Ddl>> {
        let start = p.index();
        let mut columns = Vec::new();
        if matches!(p.peek_token_ref().token, Token::LParen) {
            match self.ident_list(p) {
                Ok(list) => columns = list,
                Err(_) => {
                    while p.index() > start {
                        p.prev_token();
                    }
                    return Ok(None);
                }
            }
        }
        self.table_suffix(p)?;
        if !take_word(p, "as") {
            while p.index() > start {
                p.prev_token();
            }
            return Ok(None);
        }
        let query = match peek_word(p) {
            Some("execute") => {
                let (name, args) = self.execute_call(p)?;
                AsQuery::Execute(name, args)
            }
            _ => AsQuery::Query(Box::new(self.sql_query(p)?.0)),
        };
        let mut with_data = true;
        if take_word(p, "with") {
            with_data = !take_word(p, "no");
            expect_word(p, "data")?;
        }
        let (name, temp) = (name.clone(), temp);
        let create =
            CreateTableAs { name, temp, unlogged, if_not_exists, columns, query, with_data };
        Ok(Some(Ddl::CreateTableAs(Box::new(create))))
    }

    fn table_suffix(&self, p: &mut Parser) -> Parse<Suffix> {
        let mut suffix = Suffix { options: vec![], on_commit: OnCommit::Preserve };
        loop {
            if take_word(p, "using") || take_word(p, "tablespace") {
                self.ident(p)?;
            } else if take_words(p, &["without", "oids"]) {
            } else if peek_word(p) == Some("with")
                && matches!(p.peek_nth_token_ref(1).token, Token::LParen)
            {
                p.advance_token();
                suffix.options = self.storage_options(p)?;
            } else if take_words(p, &["on", "commit"]) {
                suffix.on_commit = if take_words(p, &["preserve", "rows"]) {
                    OnCommit::Preserve
                } else if take_words(p, &["delete", "rows"]) {
                    OnCommit::Delete
                } else {
                    expect_word(p, "drop")?;
                    OnCommit::Drop
                };
            } else {
                return Ok(suffix);
            }
        }
    }

    fn table_element(&self, p: &mut Parser) -> Parse<TableElement> {
        match peek_word(p) {
            Some("constraint" | "primary" | "unique" | "check" | "foreign" | "exclude") => {
                Ok(TableElement::Constraint(self.table_constraint(p)?))
            }
            Some("like") => {
                p.advance_token();
                let name = self.object_name(p)?;
                Ok(TableElement::Like(name, self.like_options(p)?))
            }
            _ => Ok(TableElement::Column(Box::new(self.column_def(p)?))),
        }
    }

    fn like_options(&self, p: &mut Parser) -> Parse<LikeOptions> {
        let mut o = LikeOptions::default();
        loop {
            let on = match peek_word(p) {
                Some("including") => true,
                Some("excluding") => false,
                _ => return Ok(o),
            };
            p.advance_token();
            match peek_word(p) {
                Some("all") => {
                    o = LikeOptions {
                        defaults: on,
                        constraints: on,
                        indexes: on,
                        identity: on,
                        generated: on,
                        comments: on,
                    };
                }
                Some("defaults") => o.defaults = on,
                Some("constraints") => o.constraints = on,
                Some("indexes") => o.indexes = on,
                Some("identity") => o.identity = on,
                Some("generated") => o.generated = on,
                Some("comments") => o.comments = on,
                Some("storage" | "statistics" | "compression") => {}
                _ => return unexpected(p),
            }
            p.advance_token();
        }
    }

    /// A column with its constraints.
    pub(super) fn column_def(&self, p: &mut Parser) -> Parse<ColumnDef> {
        let position = self.here(p);
        let name = self.ident(p)?;
        let data_type = self.type_name(p)?;
        let mut column = ColumnDef {
            name,
            position,
            data_type,
            collation: None,
            not_null: None,
            default: None,
            generated: None,
            identity: None,
            constraints: vec![],
        };
        while self.column_constraint(p, &mut column)? {}
        Ok(column)
    }

    fn column_constraint(&self, p: &mut Parser, column: &mut ColumnDef) -> Parse<bool> {
        let name = if take_word(p, "constraint") { Some(self.ident(p)?) } else { None };
        if take_words(p, &["not", "null"]) {
            column.not_null = Some(true);
        } else if take_word(p, "null") {
            if column.not_null == Some(true) {
                return unexpected(p);
            }
            column.not_null = Some(false);
        } else if take_word(p, "default") {
            column.default = Some(self.sql_expr(p)?);
        } else if take_word(p, "collate") {
            column.collation = Some(self.object_name(p)?.name);
        } else if take_word(p, "storage") || take_word(p, "compression") {
            self.ident(p)?;
        } else if take_word(p, "generated") {
            self.generated(p, column)?;
        } else if matches!(peek_word(p), Some("primary" | "unique" | "check" | "references")) {
            let rule = self.constraint_rule(p, Some(&column.name))?;
            column.constraints.push(self.constraint(p, name, rule)?);
        } else if name.is_some() {
            return unexpected(p);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// `ALWAYS` or `BY DEFAULT`
    pub(super) fn identity_kind(&self, p: &mut Parser) -> Parse<Identity> {
        if take_word(p, "always") {
            return Ok(Identity::Always);
        }
        expect_word(p, "by")?;
        expect_word(p, "default")?;
        Ok(Identity::ByDefault)
    }

    /// `AS IDENTITY [(options)]` after the kind
    pub(super) fn identity_options(&self, p: &mut Parser) -> Parse<SequenceOptions> {
        if !p.consume_token(&Token::LParen) {
            return Ok(SequenceOptions::default());
        }
        let options = self.sequence_options(p)?;
        p.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn generated(&self, p: &mut Parser, column: &mut ColumnDef) -> Parse<()> {
        let kind = self.identity_kind(p)?;
        expect_word(p, "as")?;
        if take_word(p, "identity") {
            column.identity = Some((kind, self.identity_options(p)?));
            return Ok(());
        }
        column.generated = Some(self.parenthesized(p)?);
        expect_word(p, "stored")
    }

    pub(super) fn table_constraint(&self, p: &mut Parser) -> Parse<Constraint> {
        let name = if take_word(p, "constraint") { Some(self.ident(p)?) } else { None };
        let rule = self.constraint_rule(p, None)?;
        self.constraint(p, name, rule)
    }

    /// What may follow any constraint.
    fn constraint(
        &self,
        p: &mut Parser,
        name: Option<String>,
        kind: ConstraintRule,
    ) -> Parse<Constraint> {
        let mut c = Constraint { name, kind, deferrable: false, deferred: false, not_valid: false };
        loop {
            if take_words(p, &["not", "deferrable"]) {
                c.deferrable = false;
            } else if take_word(p, "deferrable") {
                c.deferrable = true;
            } else if take_words(p, &["initially", "deferred"]) {
                (c.deferrable, c.deferred) = (true, true);
            } else if take_words(p, &["initially", "immediate"]) {
                c.deferred = false;
            } else if take_words(p, &["not", "valid"]) {
                c.not_valid = true;
            } else {
                return Ok(c);
            }
        }
    }

    /// The rule itself; `column` is given for a column constraint.
    fn constraint_rule(&self, p: &mut Parser, column: Option<&String>) -> Parse<ConstraintRule> {
        let own = || column.into_iter().cloned().collect::<Vec<String>>();
        if take_words(p, &["primary", "key"]) {
            let (columns, include, using_index) = self.key_columns(p, own())?;
            return Ok(ConstraintRule::PrimaryKey { columns, include, using_index });
        }
        if take_word(p, "unique") {
            let nulls_not_distinct = take_words(p, &["nulls", "not", "distinct"]);
            take_words(p, &["nulls", "distinct"]);
            let (columns, include, using_index) = self.key_columns(p, own())?;
            return Ok(ConstraintRule::Unique {
                columns,
                include,
                nulls_not_distinct,
                using_index,
            });
        }
        if take_word(p, "check") {
            let expr = self.parenthesized(p)?;
            return Ok(ConstraintRule::Check {
                expr,
                no_inherit: take_words(p, &["no", "inherit"]),
            });
        }
        let columns = match column {
            Some(_) => own(),
            None => {
                expect_word(p, "foreign")?;
                expect_word(p, "key")?;
                self.ident_list(p)?
            }
        };
        self.references(p, columns)
    }

    fn key_columns(
        &self,
        p: &mut Parser,
        own: Vec<String>,
    ) -> Parse<(Vec<String>, Vec<String>, Option<String>)> {
        let mut using_index = None;
        let mut columns = own;
        if columns.is_empty() {
            if take_words(p, &["using", "index"]) {
                using_index = Some(self.ident(p)?);
            } else {
                columns = self.ident_list(p)?;
            }
        }
        let include = if take_word(p, "include") { self.ident_list(p)? } else { vec![] };
        if peek_word(p) == Some("with") && matches!(p.peek_nth_token_ref(1).token, Token::LParen) {
            p.advance_token();
            self.storage_options(p)?;
        }
        if take_words(p, &["using", "index", "tablespace"]) {
            self.ident(p)?;
        }
        Ok((columns, include, using_index))
    }

    fn references(&self, p: &mut Parser, columns: Vec<String>) -> Parse<ConstraintRule> {
        expect_word(p, "references")?;
        let table = self.object_name(p)?;
        let ref_columns = match p.peek_token_ref().token {
            Token::LParen => self.ident_list(p)?,
            _ => vec![],
        };
        let mut match_full = false;
        let (mut on_delete, mut on_update) = (FkAction::NoAction, FkAction::NoAction);
        loop {
            if take_words(p, &["match", "full"]) {
                match_full = true;
            } else if take_words(p, &["match", "simple"]) {
            } else if take_words(p, &["on", "delete"]) {
                on_delete = self.fk_action(p)?;
            } else if take_words(p, &["on", "update"]) {
                on_update = self.fk_action(p)?;
            } else {
                return Ok(ConstraintRule::ForeignKey {
                    columns,
                    table,
                    ref_columns,
                    match_full,
                    on_delete,
                    on_update,
                });
            }
        }
    }

    fn fk_action(&self, p: &mut Parser) -> Parse<FkAction> {
        for (words, action) in [
            (&["no", "action"][..], FkAction::NoAction),
            (&["restrict"], FkAction::Restrict),
            (&["cascade"], FkAction::Cascade),
            (&["set", "null"], FkAction::SetNull),
            (&["set", "default"], FkAction::SetDefault),
        ] {
            if take_words(p, words) {
                return Ok(action);
            }
        }
        unexpected(p)
    }

    pub(super) fn create_view(&self, p: &mut Parser, or_replace: bool, temp: bool) -> Parse<Ddl> {
        expect_word(p, "view")?;
        let name = self.object_name(p)?;
        let columns = match p.peek_token_ref().token {
            Token::LParen => self.ident_list(p)?,
            _ => vec![],
        };
        let mut check_option = None;
        if take_word(p, "with") {
            let options = self.storage_options(p)?;
            let given = options.iter().find(|(name, _)| name == "check_option");
            check_option = given.map(|(_, value)| value == "cascaded");
        }
        expect_word(p, "as")?;
        let (query, text) = self.sql_query(p)?;
        if take_word(p, "with") {
            let local = take_word(p, "local");
            if !local {
                take_word(p, "cascaded");
            }
            expect_word(p, "check")?;
            expect_word(p, "option")?;
            check_option = Some(!local);
        }
        let view = CreateView { name, or_replace, temp, columns, query, text, check_option };
        Ok(Ddl::CreateView(Box::new(view)))
    }

    pub(super) fn create_index(&self, p: &mut Parser) -> Parse<Ddl> {
        let unique = take_word(p, "unique");
        expect_word(p, "index")?;
        let concurrently = take_word(p, "concurrently");
        let if_not_exists = self.if_not_exists(p);
        let name = if peek_word(p) == Some("on") { None } else { Some(self.ident(p)?) };
        expect_word(p, "on")?;
        take_word(p, "only");
        let table = self.object_name(p)?;
        let method = if take_word(p, "using") { self.ident(p)? } else { "btree".into() };
        p.expect_token(&Token::LParen)?;
        let mut columns = vec![self.index_element(p)?];
        while p.consume_token(&Token::Comma) {
            columns.push(self.index_element(p)?);
        }
        p.expect_token(&Token::RParen)?;
        let include = if take_word(p, "include") { self.ident_list(p)? } else { vec![] };
        let nulls_not_distinct = take_words(p, &["nulls", "not", "distinct"]);
        take_words(p, &["nulls", "distinct"]);
        if take_word(p, "with") {
            self.storage_options(p)?;
        }
        if take_word(p, "tablespace") {
            self.ident(p)?;
        }
        let predicate = if take_word(p, "where") { Some(self.sql_expr(p)?) } else { None };
        Ok(Ddl::CreateIndex(Box::new(CreateIndex {
            name,
            table,
            unique,
            concurrently,
            if_not_exists,
            method,
            columns,
            include,
            nulls_not_distinct,
            predicate,
        })))
    }

    fn index_element(&self, p: &mut Parser) -> Parse<IndexElement> {
        let mut element = IndexElement {
            column: None,
            expr: None,
            opclass: None,
            desc: false,
            nulls_first: None,
        };
        let is_call = matches!(p.peek_nth_token_ref(1).token, Token::LParen | Token::Period);
        if matches!(p.peek_token_ref().token, Token::LParen) {
            element.expr = Some(self.parenthesized(p)?);
        } else if is_call {
            element.expr = Some(self.sql_expr(p)?);
        } else {
            element.column = Some(self.ident(p)?);
        }
        if take_word(p, "collate") {
            self.object_name(p)?;
        }
        let follows = matches!(word_at(p, 0), None | Some("asc" | "desc" | "nulls"));
        if !follows {
            element.opclass = Some(self.object_name(p)?.name);
        }
        element.desc = take_word(p, "desc");
        take_word(p, "asc");
        if take_word(p, "nulls") {
            element.nulls_first = Some(take_word(p, "first"));
            if element.nulls_first == Some(false) {
                expect_word(p, "last")?;
            }
        }
        Ok(element)
    }
}
