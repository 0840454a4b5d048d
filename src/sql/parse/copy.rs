//! COPY, with the option list of today and the words of former versions.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::Meridian;
use super::grammar::{Parse, expect_word, peek_word, take_word, take_words, unexpected};
use super::statement::{Copy, CopySource, CopyTarget, Statement};

type Options = Vec<(String, Vec<String>)>;

impl Meridian {
    pub(super) fn copy(&self, p: &mut Parser) -> Parse<Statement> {
        p.advance_token();
        let mut options = Options::new();
        if take_word(p, "binary") {
            options.push(("format".into(), vec!["binary".into()]));
        }
        let source = match p.consume_token(&Token::LParen) {
            true => {
                let query = p.parse_query()?;
                p.expect_token(&Token::RParen)?;
                CopySource::Query(query)
            }
            false => {
                let name = p.parse_object_name(false)?;
                let mut columns = Vec::new();
                if p.consume_token(&Token::LParen) {
                    columns = p.parse_comma_separated(Parser::parse_identifier)?;
                    p.expect_token(&Token::RParen)?;
                }
                CopySource::Table(name, columns)
            }
        };
        let to = take_word(p, "to");
        if !to {
            expect_word(p, "from")?;
        }
        let target = self.copy_target(p)?;
        self.copy_options(p, &mut options)?;
        let filter = match take_word(p, "where") {
            true => Some(self.expr(p, 0)?),
            false => None,
        };
        Ok(Statement::Copy(Box::new(Copy { source, to, target, options, filter })))
    }

    fn copy_target(&self, p: &mut Parser) -> Parse<CopyTarget> {
        if take_word(p, "stdin") || take_word(p, "stdout") {
            return Ok(CopyTarget::Client);
        }
        if take_word(p, "program") {
            return Ok(CopyTarget::Program(p.parse_literal_string()?));
        }
        match p.peek_token_ref().token {
            Token::SingleQuotedString(_) => Ok(CopyTarget::File(p.parse_literal_string()?)),
            _ => unexpected(p),
        }
    }

    fn copy_options(&self, p: &mut Parser, options: &mut Options) -> Parse<()> {
        // `DELIMITERS 'x'` of old comes before WITH.
        if take_word(p, "using") {
            expect_word(p, "delimiters")?;
            options.push(("delimiter".into(), vec![p.parse_literal_string()?]));
        } else if take_word(p, "delimiters") {
            options.push(("delimiter".into(), vec![p.parse_literal_string()?]));
        }
        take_word(p, "with");
        if p.consume_token(&Token::LParen) {
            loop {
                options.push(self.copy_option(p)?);
                if !p.consume_token(&Token::Comma) {
                    break;
                }
            }
            p.expect_token(&Token::RParen)?;
            return Ok(());
        }
        while let Some(option) = self.old_copy_option(p)? {
            options.push(option);
        }
        Ok(())
    }

    fn copy_option(&self, p: &mut Parser) -> Parse<(String, Vec<String>)> {
        let name = p.parse_identifier()?.value.to_ascii_lowercase();
        let mut values = Vec::new();
        if p.consume_token(&Token::LParen) {
            let names = p.parse_comma_separated(Parser::parse_identifier)?;
            values.extend(names.into_iter().map(|i| i.value));
            p.expect_token(&Token::RParen)?;
            return Ok((name, values));
        }
        let value = match p.peek_token_ref().token.clone() {
            Token::Word(w) => Some(w.value),
            Token::SingleQuotedString(s) => Some(s),
            Token::Number(n, _) => Some(n),
            Token::Mul => Some("*".to_owned()),
            _ => None,
        };
        if value.is_some() {
            p.advance_token();
        }
        values.extend(value);
        Ok((name, values))
    }

    fn old_copy_option(&self, p: &mut Parser) -> Parse<Option<(String, Vec<String>)>> {
        let Some(word) = peek_word(p).map(str::to_owned) else { return Ok(None) };
        let one = |name: &str, value: &str| Ok(Some((name.to_owned(), vec![value.to_owned()])));
        match word.as_str() {
            "binary" | "csv" => {
                p.advance_token();
                one("format", &word)
            }
            "freeze" | "header" => {
                p.advance_token();
                one(&word, "true")
            }
            "delimiter" | "null" | "quote" | "escape" | "encoding" => {
                p.advance_token();
                take_word(p, "as");
                let value = p.parse_literal_string()?;
                one(&word, &value)
            }
            "force" => {
                p.advance_token();
                let name = if take_word(p, "quote") {
                    "force_quote"
                } else if take_words(p, &["not", "null"]) {
                    "force_not_null"
                } else {
                    expect_word(p, "null")?;
                    "force_null"
                };
                let columns = match p.consume_token(&Token::Mul) {
                    true => vec!["*".to_owned()],
                    false => {
                        let names = p.parse_comma_separated(Parser::parse_identifier)?;
                        names.into_iter().map(|i| i.value).collect()
                    }
                };
                Ok(Some((name.to_owned(), columns)))
            }
            _ => Ok(None),
        }
    }
}
