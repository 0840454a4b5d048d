//! Statements of transaction control and settings.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::Meridian;
use super::grammar::{Parse, expect_word, peek_word, take_word, take_words, unexpected, word_at};
use super::statement::{IsolationLevel, Set, SetValue, Statement, Transaction, TransactionModes};

fn tx(t: Transaction) -> Parse<Statement> {
    Ok(Statement::Transaction(t))
}

impl Meridian {
    /// Transaction control, if this is it.
    pub(super) fn transaction(&self, p: &mut Parser, word: &str) -> Parse<Option<Statement>> {
        let statement = match word {
            "begin" => self.begin(p, false)?,
            "start" => self.begin(p, true)?,
            "commit" | "end" => self.finish(p, true)?,
            "rollback" | "abort" => self.finish(p, false)?,
            "savepoint" => {
                p.advance_token();
                tx(Transaction::Savepoint(p.parse_identifier()?.value))?
            }
            "release" => {
                p.advance_token();
                take_word(p, "savepoint");
                tx(Transaction::Release(p.parse_identifier()?.value))?
            }
            "prepare" if word_at(p, 1) == Some("transaction") => {
                take_words(p, &["prepare", "transaction"]);
                tx(Transaction::Prepare(p.parse_literal_string()?))?
            }
            _ => return Ok(None),
        };
        Ok(Some(statement))
    }

    fn begin(&self, p: &mut Parser, start: bool) -> Parse<Statement> {
        p.advance_token();
        if start {
            expect_word(p, "transaction")?;
        } else if !take_word(p, "transaction") {
            take_word(p, "work");
        }
        tx(Transaction::Begin { modes: self.modes(p)?, start })
    }

    /// Modes, with or without commas; later ones win.
    fn modes(&self, p: &mut Parser) -> Parse<TransactionModes> {
        let mut modes = TransactionModes::default();
        loop {
            if let Some(time) = self.as_of_mode(p)? {
                modes.as_of = Some(time);
            } else if take_words(p, &["isolation", "level"]) {
                modes.isolation = Some(self.isolation(p)?);
            } else if take_words(p, &["read", "only"]) {
                modes.read_only = Some(true);
            } else if take_words(p, &["read", "write"]) {
                modes.read_only = Some(false);
            } else if take_words(p, &["not", "deferrable"]) {
                modes.deferrable = Some(false);
            } else if take_word(p, "deferrable") {
                modes.deferrable = Some(true);
            } else {
                return Ok(modes);
            }
            if p.consume_token(&Token::Comma) && p.peek_token_ref().token == Token::EOF {
                return unexpected(p);
            }
        }
    }

    fn isolation(&self, p: &mut Parser) -> Parse<IsolationLevel> {
        if take_words(p, &["read", "uncommitted"]) {
            Ok(IsolationLevel::ReadUncommitted)
        } else if take_words(p, &["read", "committed"]) {
            Ok(IsolationLevel::ReadCommitted)
        } else if take_words(p, &["repeatable", "read"]) {
            Ok(IsolationLevel::RepeatableRead)
        } else if take_word(p, "serializable") {
            Ok(IsolationLevel::Serializable)
        } else {
            unexpected(p)
        }
    }

    fn finish(&self, p: &mut Parser, commit: bool) -> Parse<Statement> {
        p.advance_token();
        if take_word(p, "prepared") {
            let gid = p.parse_literal_string()?;
            return tx(match commit {
                true => Transaction::CommitPrepared(gid),
                false => Transaction::RollbackPrepared(gid),
            });
        }
        if !take_word(p, "work") {
            take_word(p, "transaction");
        }
        if !commit && take_word(p, "to") {
            take_word(p, "savepoint");
            return tx(Transaction::RollbackTo(p.parse_identifier()?.value));
        }
        let mut chain = false;
        if take_word(p, "and") {
            chain = !take_word(p, "no");
            expect_word(p, "chain")?;
        }
        tx(match commit {
            true => Transaction::Commit { chain },
            false => Transaction::Rollback { chain },
        })
    }

    /// SET in all its forms.
    pub(super) fn set(&self, p: &mut Parser) -> Parse<Statement> {
        expect_word(p, "set")?;
        if take_word(p, "constraints") {
            return self.set_constraints(p);
        }
        if take_words(p, &["session", "characteristics", "as", "transaction"]) {
            let begin = p.peek_token_ref().clone();
            let modes = self.modes(p)?;
            if modes.as_of.is_some() {
                return p.expected_ref("modes that later transactions can have", &begin);
            }
            return tx(Transaction::Set { modes, session: true });
        }
        let word_then = |p: &Parser, w: &str| peek_word(p) == Some(w) && is_name(p, 1);
        let local = word_then(p, "local") && take_word(p, "local");
        if !local && word_then(p, "session") && word_at(p, 1) != Some("authorization") {
            take_word(p, "session");
        }
        if peek_word(p) == Some("transaction") && is_name(p, 1) {
            take_word(p, "transaction");
            if take_word(p, "snapshot") {
                return tx(Transaction::Snapshot(p.parse_literal_string()?));
            }
            return tx(Transaction::Set { modes: self.modes(p)?, session: false });
        }
        self.set_setting(p, local)
    }

    fn set_setting(&self, p: &mut Parser, local: bool) -> Parse<Statement> {
        let plain = |name: &str, values| {
            let name = name.to_owned();
            Ok(Statement::Set(Set { local, name, values, from_current: false }))
        };
        if take_words(p, &["time", "zone"]) {
            let values = match peek_word(p) {
                Some("local" | "default") => {
                    p.advance_token();
                    None
                }
                Some("interval") => {
                    let sqlparser::ast::Expr::TypedString(t) = self.expr(p, 0)? else {
                        return unexpected(p);
                    };
                    let text = t.value.value.into_string().unwrap_or_default();
                    Some(vec![SetValue::Interval(text)])
                }
                _ => Some(vec![self.set_value(p)?]),
            };
            return plain("timezone", values);
        }
        if take_words(p, &["session", "authorization"]) {
            return plain("session_authorization", self.set_values(p)?);
        }
        let special = match (peek_word(p), is_name(p, 1) || is_string(p, 1)) {
            (Some("role"), true) => Some("role"),
            (Some("names"), _) => Some("client_encoding"),
            (Some("schema"), true) => Some("search_path"),
            _ => None,
        };
        if let Some(name) = special {
            p.advance_token();
            let values = match p.peek_token_ref().token {
                Token::EOF => None,
                _ => self.set_values(p)?,
            };
            return plain(name, values);
        }
        let name = self.setting_name(p)?;
        if take_words(p, &["from", "current"]) {
            return Ok(Statement::Set(Set { local, name, values: None, from_current: true }));
        }
        if !take_word(p, "to") {
            p.expect_token(&Token::Eq)?;
        }
        let values = self.set_values(p)?;
        plain(&name, values)
    }

    /// `a` or `a.b`, in lower case.
    pub(super) fn setting_name(&self, p: &mut Parser) -> Parse<String> {
        let mut name = p.parse_identifier()?.value.to_ascii_lowercase();
        while p.consume_token(&Token::Period) {
            name.push('.');
            name.push_str(&p.parse_identifier()?.value);
        }
        Ok(name)
    }

    fn set_values(&self, p: &mut Parser) -> Parse<Option<Vec<SetValue>>> {
        if take_word(p, "default") {
            return Ok(None);
        }
        let mut values = vec![self.set_value(p)?];
        while p.consume_token(&Token::Comma) {
            values.push(self.set_value(p)?);
        }
        Ok(Some(values))
    }

    fn set_value(&self, p: &mut Parser) -> Parse<SetValue> {
        let minus = p.consume_token(&Token::Minus);
        if !minus {
            p.consume_token(&Token::Plus).then_some(());
        }
        let value = match p.peek_token_ref().token.clone() {
            Token::Number(n, _) => SetValue::Number(if minus { format!("-{n}") } else { n }),
            Token::SingleQuotedString(s) if !minus => SetValue::Text(s),
            Token::Word(w) if !minus => SetValue::Text(w.value),
            _ => return unexpected(p),
        };
        p.advance_token();
        Ok(value)
    }

    fn set_constraints(&self, p: &mut Parser) -> Parse<Statement> {
        let names = match take_word(p, "all") {
            true => vec![],
            false => p.parse_comma_separated(|p| p.parse_object_name(false))?,
        };
        let deferred = take_word(p, "deferred");
        if !deferred {
            expect_word(p, "immediate")?;
        }
        Ok(Statement::SetConstraints { names, deferred })
    }

    /// The name behind SHOW or RESET; `None` for ALL.
    pub(super) fn shown_name(&self, p: &mut Parser) -> Parse<Option<String>> {
        p.advance_token();
        if take_word(p, "all") {
            return Ok(None);
        }
        if take_words(p, &["time", "zone"]) {
            return Ok(Some("timezone".into()));
        }
        if take_words(p, &["transaction", "isolation", "level"]) {
            return Ok(Some("transaction_isolation".into()));
        }
        if take_words(p, &["session", "authorization"]) {
            return Ok(Some("session_authorization".into()));
        }
        self.setting_name(p).map(Some)
    }
}

fn is_name(p: &Parser, n: usize) -> bool {
    matches!(&p.peek_nth_token_ref(n).token, Token::Word(w) if w.value != "to" || w.quote_style.is_some())
}

fn is_string(p: &Parser, n: usize) -> bool {
    matches!(p.peek_nth_token_ref(n).token, Token::SingleQuotedString(_))
}
