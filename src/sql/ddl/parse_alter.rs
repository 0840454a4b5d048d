//! ALTER.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{AlterAction, Ddl, Name, ObjectKind, SequenceOptions};
use crate::parse::dialect::Meridian;
use crate::parse::grammar::{
    Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at,
};

impl Meridian {
    pub(super) fn alter(&self, p: &mut Parser) -> Parse<Ddl> {
        expect_word(p, "alter")?;
        let kind = self.object_kind(p)?;
        match kind {
            ObjectKind::Role => self.alter_role(p),
            ObjectKind::Database => self.alter_database(p),
            ObjectKind::Table | ObjectKind::View | ObjectKind::Index | ObjectKind::Sequence => {
                let if_exists = self.if_exists(p);
                take_word(p, "only");
                let name = self.object_name(p)?;
                let _ = p.consume_token(&Token::Mul);
                self.alter_relation(p, kind, name, if_exists)
            }
            ObjectKind::Schema => {
                let name = self.object_name(p)?;
                match self.common(p, kind, &name, false)? {
                    Some(ddl) => Ok(ddl),
                    None => unexpected(p),
                }
            }
            ObjectKind::Column | ObjectKind::Constraint => unexpected(p),
            other => Ok(self.unsupported(p, &format!("ALTER {}", other.word().to_uppercase()))),
        }
    }

    /// RENAME TO, SET SCHEMA, OWNER TO: what every object has.
    fn common(
        &self,
        p: &mut Parser,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
    ) -> Parse<Option<Ddl>> {
        let name = name.clone();
        if take_words(p, &["rename", "to"]) {
            return Ok(Some(Ddl::Rename { kind, name, if_exists, to: self.ident(p)? }));
        }
        if take_words(p, &["set", "schema"]) {
            return Ok(Some(Ddl::SetSchema { kind, name, if_exists, schema: self.ident(p)? }));
        }
        if take_words(p, &["owner", "to"]) {
            return Ok(Some(Ddl::Owner { kind, name, if_exists, owner: self.ident(p)? }));
        }
        Ok(None)
    }

    fn alter_database(&self, p: &mut Parser) -> Parse<Ddl> {
        let name = self.object_name(p)?;
        if let Some(ddl) = self.common(p, ObjectKind::Database, &name, false)? {
            return Ok(ddl);
        }
        if let Some(ddl) = self.alter_placement(p, Some(&name.name))? {
            return Ok(ddl);
        }
        if let Some(setting) = self.setting(p)? {
            return Ok(Ddl::AlterDatabaseSet { name: name.name, setting });
        }
        Ok(Ddl::AlterDatabaseOptions { name: name.name, options: self.database_options(p)? })
    }

    /// SET (…) or RESET (…), of a database or of the cluster.
    pub(super) fn alter_placement(
        &self,
        p: &mut Parser,
        database: Option<&str>,
    ) -> Parse<Option<Ddl>> {
        if !matches!(p.peek_nth_token_ref(1).token, Token::LParen) {
            return Ok(None);
        }
        let (mut set, mut reset) = (Vec::new(), Vec::new());
        match peek_word(p) {
            Some("set") => {
                p.advance_token();
                set = self.storage_options(p)?;
            }
            Some("reset") => {
                p.advance_token();
                reset = self.ident_list(p)?;
            }
            _ => return Ok(None),
        }
        Ok(Some(Ddl::AlterPlacement { database: database.map(str::to_owned), set, reset }))
    }

    fn alter_relation(
        &self,
        p: &mut Parser,
        kind: ObjectKind,
        name: Name,
        if_exists: bool,
    ) -> Parse<Ddl> {
        // `OWNER TO` of a table may be one of several actions.
        let several = kind == ObjectKind::Table && peek_word(p) == Some("owner");
        if !several && let Some(ddl) = self.common(p, kind, &name, if_exists)? {
            return Ok(ddl);
        }
        if take_words(p, &["rename", "constraint"]) {
            let constraint = self.ident(p)?;
            expect_word(p, "to")?;
            return Ok(Ddl::RenameConstraint { name, if_exists, constraint, to: self.ident(p)? });
        }
        if take_word(p, "rename") {
            take_word(p, "column");
            let column = self.ident(p)?;
            expect_word(p, "to")?;
            let to = self.ident(p)?;
            return Ok(Ddl::RenameColumn { kind, name, if_exists, column, to });
        }
        if kind == ObjectKind::Sequence {
            let options = self.sequence_options(p)?;
            return Ok(Ddl::AlterSequence { name, if_exists, options });
        }
        let mut actions = vec![self.action(p)?];
        while p.consume_token(&Token::Comma) {
            actions.push(self.action(p)?);
        }
        Ok(Ddl::AlterTable { name, if_exists, actions })
    }

    fn action(&self, p: &mut Parser) -> Parse<AlterAction> {
        let Some(word) = peek_word(p).map(str::to_owned) else { return unexpected(p) };
        p.advance_token();
        match word.as_str() {
            "add" => self.add(p),
            "drop" => self.drop_part(p),
            "alter" => {
                take_word(p, "column");
                let column = self.ident(p)?;
                self.alter_column(p, column)
            }
            "validate" => {
                expect_word(p, "constraint")?;
                Ok(AlterAction::ValidateConstraint(self.ident(p)?))
            }
            "owner" => {
                expect_word(p, "to")?;
                Ok(AlterAction::Owner(self.ident(p)?))
            }
            "set" => {
                if matches!(p.peek_token_ref().token, Token::LParen) {
                    return self.storage_options(p).map(AlterAction::SetOptions);
                } else if !(take_word(p, "logged")
                    || take_word(p, "unlogged")
                    || take_words(p, &["without", "cluster"]))
                {
                    self.idents(p)?;
                    self.ident(p)?;
                }
                Ok(AlterAction::Nothing)
            }
            "reset" => self.ident_list(p).map(AlterAction::ResetOptions),
            "cluster" => {
                expect_word(p, "on")?;
                self.ident(p)?;
                Ok(AlterAction::Nothing)
            }
            "replica" => {
                expect_word(p, "identity")?;
                let using = take_word(p, "using");
                if using {
                    expect_word(p, "index")?;
                }
                self.ident(p)?;
                Ok(AlterAction::Nothing)
            }
            "enable" | "disable" => self.enable(p, word == "enable"),
            "force" | "no" | "inherit" | "attach" | "detach" | "of" | "not" => {
                self.unsupported(p, "");
                Ok(AlterAction::Unsupported("this form of ALTER TABLE"))
            }
            _ => {
                p.prev_token();
                unexpected(p)
            }
        }
    }

    fn enable(&self, p: &mut Parser, enable: bool) -> Parse<AlterAction> {
        let trigger = take_word(p, "trigger");
        self.unsupported(p, "");
        Ok(match (trigger, enable) {
            // There are no triggers but those of foreign keys, which stay as they are.
            (true, true) => AlterAction::Nothing,
            (true, false) => AlterAction::Unsupported("ALTER TABLE … DISABLE TRIGGER"),
            (false, _) => AlterAction::Unsupported("row level security"),
        })
    }

    fn add(&self, p: &mut Parser) -> Parse<AlterAction> {
        let constraint =
            matches!(peek_word(p), Some("constraint" | "primary" | "unique" | "check" | "foreign"));
        if constraint && !take_word(p, "column") {
            return Ok(AlterAction::AddConstraint(self.table_constraint(p)?));
        }
        take_word(p, "column");
        let if_not_exists = self.if_not_exists(p);
        Ok(AlterAction::AddColumn { if_not_exists, column: Box::new(self.column_def(p)?) })
    }

    fn drop_part(&self, p: &mut Parser) -> Parse<AlterAction> {
        if take_word(p, "constraint") {
            let if_exists = self.if_exists(p);
            let name = self.ident(p)?;
            return Ok(AlterAction::DropConstraint { if_exists, name, cascade: self.cascade(p) });
        }
        take_word(p, "column");
        let if_exists = self.if_exists(p);
        let column = self.ident(p)?;
        Ok(AlterAction::DropColumn { if_exists, column, cascade: self.cascade(p) })
    }

    fn alter_column(&self, p: &mut Parser, column: String) -> Parse<AlterAction> {
        if take_words(p, &["set", "default"]) {
            return Ok(AlterAction::SetDefault { column, default: Some(self.sql_expr(p)?) });
        }
        if take_words(p, &["drop", "default"]) {
            return Ok(AlterAction::SetDefault { column, default: None });
        }
        if take_words(p, &["set", "not", "null"]) {
            return Ok(AlterAction::SetNotNull { column, not_null: true });
        }
        if take_words(p, &["drop", "not", "null"]) {
            return Ok(AlterAction::SetNotNull { column, not_null: false });
        }
        if take_words(p, &["drop", "identity"]) {
            return Ok(AlterAction::DropIdentity { column, if_exists: self.if_exists(p) });
        }
        if take_words(p, &["drop", "expression"]) {
            return Ok(AlterAction::DropExpression { column, if_exists: self.if_exists(p) });
        }
        if take_words(p, &["add", "generated"]) {
            let identity = self.identity_kind(p)?;
            expect_word(p, "as")?;
            expect_word(p, "identity")?;
            let options = self.identity_options(p)?;
            return Ok(AlterAction::AddIdentity { column, identity, options });
        }
        if take_word(p, "type") || take_words(p, &["set", "data", "type"]) {
            let data_type = self.type_name(p)?;
            if take_word(p, "collate") {
                self.object_name(p)?;
            }
            let using = if take_word(p, "using") { Some(self.sql_expr(p)?) } else { None };
            return Ok(AlterAction::SetType { column, data_type, using });
        }
        self.set_identity(p, column)
    }

    fn set_identity(&self, p: &mut Parser, column: String) -> Parse<AlterAction> {
        let (mut identity, mut options) = (None, SequenceOptions::default());
        let mut any = false;
        while matches!(peek_word(p), Some("set" | "restart")) {
            any = true;
            let set = take_word(p, "set");
            match word_at(p, 0) {
                Some("statistics" | "storage" | "compression") if set => {
                    p.advance_token();
                    self.option_value(p)?;
                    return Ok(AlterAction::Nothing);
                }
                Some("generated") if set => {
                    p.advance_token();
                    identity = Some(self.identity_kind(p)?);
                }
                None if set && matches!(p.peek_token_ref().token, Token::LParen) => {
                    self.storage_options(p)?;
                    return Ok(AlterAction::Nothing);
                }
                _ => merge(&mut options, self.sequence_options(p)?),
            }
        }
        if !any {
            return unexpected(p);
        }
        Ok(AlterAction::SetIdentity { column, identity, options })
    }
}

fn merge(into: &mut SequenceOptions, from: SequenceOptions) {
    into.increment = from.increment.or(into.increment);
    into.min = from.min.or(into.min);
    into.max = from.max.or(into.max);
    into.start = from.start.or(into.start);
    into.restart = from.restart.or(into.restart);
    into.cache = from.cache.or(into.cache);
    into.cycle = from.cycle.or(into.cycle);
}
