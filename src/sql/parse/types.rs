//! Type names.
//!
//! Whatever the spelling, a type comes out as `Custom(name, modifiers)`, inside `Array` for each
//! pair of brackets. The standard's spellings (`character varying`, `timestamp with time zone`)
//! become the name in `pg_catalog` that PostgreSQL's grammar makes of them; the fields of an
//! interval become its first modifier.

use sqlparser::ast::{ArrayElemTypeDef, DataType, Expr, Ident, ObjectName};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use super::dialect::Meridian;
use super::grammar::{Parse, peek_word, take_word, take_words, unexpected, word_at};
use super::keywords;

/// Every field of an interval.
const FULL_RANGE: i32 = 0x7fff;

/// The type of this name in `pg_catalog`.
pub(crate) fn builtin_type(name: &str, modifiers: Vec<String>) -> DataType {
    named(name, modifiers, Span::empty())
}

fn named(name: &str, modifiers: Vec<String>, span: Span) -> DataType {
    let ident = |value: &str| Ident { value: value.to_owned(), quote_style: None, span };
    DataType::Custom(ObjectName::from(vec![ident("pg_catalog"), ident(name)]), modifiers)
}

impl Meridian {
    /// A type name, with its array bounds.
    pub(crate) fn type_name(&self, p: &mut Parser) -> Parse<DataType> {
        take_word(p, "setof");
        let mut ty = self.simple_type(p)?;
        let array = |ty, n| DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(ty), n));
        if take_word(p, "array") {
            let mut bound = None;
            if p.consume_token(&Token::LBracket) {
                bound = Some(p.parse_literal_uint()?);
                p.expect_token(&Token::RBracket)?;
            }
            return Ok(array(ty, bound));
        }
        while p.consume_token(&Token::LBracket) {
            let bound = match p.peek_token_ref().token {
                Token::RBracket => None,
                _ => Some(p.parse_literal_uint()?),
            };
            p.expect_token(&Token::RBracket)?;
            ty = array(ty, bound);
        }
        Ok(ty)
    }

    fn simple_type(&self, p: &mut Parser) -> Parse<DataType> {
        let span = p.peek_token_ref().span;
        if let Some(word) = peek_word(p).map(str::to_owned) {
            if let Some(ty) = self.standard_type(p, &word, span)? {
                return Ok(ty);
            }
            if keywords::is_reserved(&word) || keywords::COLUMN_NAME.contains(&word.as_str()) {
                return unexpected(p);
            }
        }
        let Token::Word(_) = p.peek_token_ref().token else { return unexpected(p) };
        let mut parts = vec![p.parse_identifier()?];
        while p.peek_token_ref().token == Token::Period {
            p.advance_token();
            parts.push(p.parse_identifier()?);
        }
        let modifiers = self.modifiers(p)?;
        Ok(DataType::Custom(ObjectName::from(parts), modifiers))
    }

    /// `(expr, …)` behind a type; only constants have a meaning there.
    fn modifiers(&self, p: &mut Parser) -> Parse<Vec<String>> {
        if !p.consume_token(&Token::LParen) {
            return Ok(vec![]);
        }
        let list = self.expr_list(p)?;
        p.expect_token(&Token::RParen)?;
        Ok(list.iter().map(modifier_text).collect())
    }

    fn standard_type(&self, p: &mut Parser, word: &str, span: Span) -> Parse<Option<DataType>> {
        let name = match word {
            "int" | "integer" => "int4",
            "smallint" => "int2",
            "bigint" => "int8",
            "real" => "float4",
            "boolean" => "bool",
            "double" if word_at(p, 1) == Some("precision") => {
                p.advance_token();
                "float8"
            }
            "float" => return self.float(p, span).map(Some),
            "decimal" | "dec" | "numeric" => {
                p.advance_token();
                let modifiers = self.modifiers(p)?;
                return Ok(Some(named("numeric", modifiers, span)));
            }
            "bit" => return self.bit(p, span).map(Some),
            "char" | "character" | "varchar" | "national" | "nchar" => {
                return self.character(p, word, span).map(Some);
            }
            "timestamp" | "time" => return self.timestamp(p, word, span).map(Some),
            "interval" => {
                p.advance_token();
                let modifiers = self.interval_precision(p)?;
                let modifiers = match modifiers {
                    Some(n) => vec![FULL_RANGE.to_string(), n],
                    None => self.interval_fields(p)?,
                };
                return Ok(Some(named("interval", modifiers, span)));
            }
            _ => return Ok(None),
        };
        p.advance_token();
        Ok(Some(named(name, vec![], span)))
    }

    fn float(&self, p: &mut Parser, span: Span) -> Parse<DataType> {
        p.advance_token();
        let modifiers = self.modifiers(p)?;
        let name = match modifiers.first().map(|m| m.parse::<i32>()) {
            None => "float8",
            Some(Ok(n)) if n < 1 => {
                return self.fail("22023", "precision for type float must be at least 1 bit", span);
            }
            Some(Ok(n)) if n <= 24 => "float4",
            Some(Ok(n)) if n <= 53 => "float8",
            Some(_) => {
                let text = "precision for type float must be less than 54 bits";
                return self.fail("22023", text, span);
            }
        };
        Ok(named(name, vec![], span))
    }

    /// Stops with an error that is not a syntax error.
    pub(crate) fn fail<T>(&self, state: &str, message: &str, span: Span) -> Parse<T> {
        use meridian_types::{PgError, SqlState};
        let error = PgError::new(SqlState::from_code(state), message);
        let position = u32::try_from(span.start.column).ok().filter(|c| *c > 0);
        *self.error.borrow_mut() = Some(error.at(position));
        Err(sqlparser::parser::ParserError::ParserError(String::new()))
    }

    fn bit(&self, p: &mut Parser, span: Span) -> Parse<DataType> {
        p.advance_token();
        let varying = take_word(p, "varying");
        let mut modifiers = self.modifiers(p)?;
        if !varying && modifiers.is_empty() {
            modifiers.push("1".into());
        }
        Ok(named(if varying { "varbit" } else { "bit" }, modifiers, span))
    }

    fn character(&self, p: &mut Parser, word: &str, span: Span) -> Parse<DataType> {
        p.advance_token();
        if word == "national" && !take_word(p, "character") && !take_word(p, "char") {
            return unexpected(p);
        }
        let varying = word == "varchar" || take_word(p, "varying");
        let mut modifiers = self.modifiers(p)?;
        if !varying && modifiers.is_empty() {
            modifiers.push("1".into());
        }
        Ok(named(if varying { "varchar" } else { "bpchar" }, modifiers, span))
    }

    fn timestamp(&self, p: &mut Parser, word: &str, span: Span) -> Parse<DataType> {
        p.advance_token();
        let modifiers = self.modifiers(p)?;
        let zoned = take_words(p, &["with", "time", "zone"]);
        if !zoned {
            take_words(p, &["without", "time", "zone"]);
        }
        let name = match (word, zoned) {
            ("timestamp", false) => "timestamp",
            ("timestamp", true) => "timestamptz",
            (_, false) => "time",
            (_, true) => "timetz",
        };
        Ok(named(name, modifiers, span))
    }

    fn interval_precision(&self, p: &mut Parser) -> Parse<Option<String>> {
        if p.peek_token_ref().token != Token::LParen {
            return Ok(None);
        }
        Ok(self.modifiers(p)?.into_iter().next())
    }

    /// `YEAR TO MONTH` and its kin as PostgreSQL's bit mask, then the precision of seconds.
    fn interval_fields(&self, p: &mut Parser) -> Parse<Vec<String>> {
        const ORDER: [(&str, u32); 6] =
            [("year", 2), ("month", 1), ("day", 3), ("hour", 10), ("minute", 11), ("second", 12)];
        let index = |w: Option<&str>| ORDER.iter().position(|(name, _)| Some(*name) == w);
        let Some(from) = index(peek_word(p)) else { return Ok(vec![]) };
        p.advance_token();
        let mut to = from;
        if peek_word(p) == Some("to") {
            p.advance_token();
            to = match index(peek_word(p)) {
                Some(to) if to > from && (from > 0 || to == 1) && from != 1 => to,
                _ => return unexpected(p),
            };
            p.advance_token();
        }
        let mask = ORDER[from..=to].iter().fold(0i32, |mask, (_, bit)| mask | (1 << bit));
        let mut modifiers = vec![mask.to_string()];
        if ORDER[to].0 == "second" {
            modifiers.extend(self.interval_precision(p)?);
        }
        Ok(modifiers)
    }

    /// `type 'literal'` for the types whose names are key words.
    pub(crate) fn typed_literal(&self, p: &mut Parser, word: &str) -> Parse<Option<Expr>> {
        let candidate = match word {
            "double" => word_at(p, 1) == Some("precision"),
            "interval" => {
                return self.interval_literal(p);
            }
            "setof" | "precision" | "out" | "inout" | "none" => false,
            _ => keywords::COLUMN_NAME.binary_search(&word).is_ok(),
        };
        if !candidate {
            return Ok(None);
        }
        p.maybe_parse(|p| {
            let ty = self.simple_type(p)?;
            self.typed_string(p, ty)
        })
    }

    /// `INTERVAL '…' fields` or `INTERVAL(p) '…'`.
    fn interval_literal(&self, p: &mut Parser) -> Parse<Option<Expr>> {
        let span = p.peek_token_ref().span;
        let next = p.peek_nth_token_ref(1).token.clone();
        if !matches!(next, Token::SingleQuotedString(_) | Token::LParen) {
            return Ok(None);
        }
        p.advance_token();
        let precision = self.interval_precision(p)?;
        let with_precision = precision.map(|n| vec![FULL_RANGE.to_string(), n]);
        let expr = self.typed_string(p, named("interval", vec![], span))?;
        let Expr::TypedString(mut typed) = expr else { return Ok(Some(expr)) };
        let modifiers = match with_precision {
            Some(modifiers) => modifiers,
            None => self.interval_fields(p)?,
        };
        typed.data_type = named("interval", modifiers, span);
        Ok(Some(Expr::TypedString(typed)))
    }
}

fn modifier_text(expr: &Expr) -> String {
    use sqlparser::ast::Value;
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.clone(),
            Value::SingleQuotedString(s) => s.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}
