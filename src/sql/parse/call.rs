//! Expressions: function calls, with aggregate and window decorations, and the calls that have a
//! syntax of their own.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, NullTreatment,
    ObjectName, OrderByExpr, Value, ValueWithSpan, WindowType,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use super::dialect::Meridian;
use super::grammar::{
    Parse, expect_word, peek_word, system_call, take_word, take_words, unexpected,
};

impl Meridian {
    /// A call whose name is the next token.
    pub(crate) fn call(&self, p: &mut Parser) -> Parse<Expr> {
        let name = ObjectName::from(vec![p.parse_identifier()?]);
        self.call_of(p, name)
    }

    /// A call of `name`; the next token is its opening parenthesis.
    pub(crate) fn call_of(&self, p: &mut Parser, name: ObjectName) -> Parse<Expr> {
        p.expect_token(&Token::LParen)?;
        let mut list =
            FunctionArgumentList { duplicate_treatment: None, args: vec![], clauses: vec![] };
        if p.peek_token_ref().token == Token::Mul {
            p.advance_token();
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
        } else if p.peek_token_ref().token != Token::RParen {
            if take_word(p, "distinct") {
                list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
            } else if take_word(p, "all") {
                list.duplicate_treatment = Some(DuplicateTreatment::All);
            }
            loop {
                list.args.push(self.argument(p)?);
                if !p.consume_token(&Token::Comma) {
                    break;
                }
            }
            if take_words(p, &["order", "by"]) {
                list.clauses.push(FunctionArgumentClause::OrderBy(self.order_by(p)?));
            }
        }
        p.expect_token(&Token::RParen)?;
        // A literal of a type with modifiers, `mytype(3) 'x'`, is not told from a call before here.
        self.call_suffix(
            p,
            Expr::Function(Function {
                name,
                uses_odbc_syntax: false,
                parameters: FunctionArguments::None,
                args: FunctionArguments::List(list),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: vec![],
            }),
        )
    }

    fn order_by(&self, p: &mut Parser) -> Parse<Vec<OrderByExpr>> {
        p.parse_comma_separated(Parser::parse_order_by_expr)
    }

    fn argument(&self, p: &mut Parser) -> Parse<FunctionArg> {
        if peek_word(p) == Some("variadic") {
            let prefix = p.parse_identifier()?;
            let value = Box::new(self.expr(p, 0)?);
            let expr = Expr::Prefixed { prefix, value };
            return Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
        }
        let named = match (&p.peek_token_ref().token, &p.peek_nth_token_ref(1).token) {
            (Token::Word(_), Token::Assignment) => Some(FunctionArgOperator::Assignment),
            (Token::Word(_), Token::RArrow) => Some(FunctionArgOperator::RightArrow),
            _ => None,
        };
        if let Some(operator) = named {
            let name = p.parse_identifier()?;
            p.advance_token();
            let arg = FunctionArgExpr::Expr(self.expr(p, 0)?);
            return Ok(FunctionArg::Named { name, arg, operator });
        }
        let expr = self.expr(p, 0)?;
        let star = p.peek_token_ref().token == Token::Period
            && p.peek_nth_token_ref(1).token == Token::Mul;
        if star {
            let parts = match expr {
                Expr::Identifier(ident) => vec![ident],
                Expr::CompoundIdentifier(idents) => idents,
                _ => return unexpected(p),
            };
            p.advance_token();
            p.advance_token();
            let name = ObjectName::from(parts);
            return Ok(FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)));
        }
        Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
    }

    /// WITHIN GROUP, FILTER, OVER behind a call.
    pub(crate) fn call_suffix(&self, p: &mut Parser, expr: Expr) -> Parse<Expr> {
        let Expr::Function(mut call) = expr else { return Ok(expr) };
        if take_words(p, &["within", "group"]) {
            p.expect_token(&Token::LParen)?;
            expect_word(p, "order")?;
            expect_word(p, "by")?;
            call.within_group = self.order_by(p)?;
            p.expect_token(&Token::RParen)?;
        }
        let filter =
            peek_word(p) == Some("filter") && p.peek_nth_token_ref(1).token == Token::LParen;
        if filter {
            p.advance_token();
            p.expect_token(&Token::LParen)?;
            expect_word(p, "where")?;
            call.filter = Some(Box::new(self.expr(p, 0)?));
            p.expect_token(&Token::RParen)?;
        }
        if take_words(p, &["ignore", "nulls"]) {
            call.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
        if take_word(p, "over") {
            call.over = Some(match p.consume_token(&Token::LParen) {
                true => WindowType::WindowSpec(p.parse_window_spec()?),
                false => WindowType::NamedWindow(p.parse_identifier()?),
            });
        }
        Ok(Expr::Function(call))
    }

    /// The calls with key words between their arguments.
    pub(crate) fn special_call(&self, p: &mut Parser, word: &str, span: Span) -> Parse<Expr> {
        p.advance_token();
        p.expect_token(&Token::LParen)?;
        let expr = match word {
            "extract" => self.extract(p, span)?,
            "position" => self.position(p, span)?,
            "substring" => self.substring(p, span)?,
            "overlay" => self.overlay(p, span)?,
            "trim" => self.trim(p, span)?,
            "normalize" => self.normalize(p, span)?,
            _ => return unexpected(p),
        };
        p.expect_token(&Token::RParen)?;
        Ok(expr)
    }

    fn extract(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        let token = p.next_token();
        let field = match token.token {
            Token::Word(w) => w.value,
            Token::SingleQuotedString(s) => s,
            _ => {
                p.prev_token();
                return unexpected(p);
            }
        };
        let value = Value::SingleQuotedString(field);
        let field = Expr::Value(ValueWithSpan { value, span: token.span });
        expect_word(p, "from")?;
        let source = self.expr(p, 0)?;
        Ok(system_call("extract", vec![field, source], span))
    }

    fn position(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        // `b_expr IN b_expr`: IN must not be taken as an operator.
        let what = self.expr(p, super::grammar::prec::LIKE)?;
        expect_word(p, "in")?;
        let text = self.expr(p, super::grammar::prec::LIKE)?;
        Ok(system_call("position", vec![text, what], span))
    }

    fn plain_call(&self, p: &mut Parser, word: &str, span: Span, first: Expr) -> Parse<Expr> {
        let mut args = vec![first];
        while p.consume_token(&Token::Comma) {
            args.push(self.expr(p, 0)?);
        }
        let call = system_call(word, args, span);
        let Expr::Function(mut call) = call else { return Ok(call) };
        call.name = ObjectName::from(vec![Ident { value: word.into(), quote_style: None, span }]);
        Ok(Expr::Function(call))
    }

    fn substring(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        let text = self.expr(p, super::grammar::prec::LIKE)?;
        if take_word(p, "similar") {
            let pattern = self.expr(p, 0)?;
            expect_word(p, "escape")?;
            let escape = self.expr(p, 0)?;
            return Ok(system_call("substring", vec![text, pattern, escape], span));
        }
        let mut from = None;
        let mut length = None;
        loop {
            if from.is_none() && take_word(p, "from") {
                from = Some(self.expr(p, 0)?);
            } else if length.is_none() && take_word(p, "for") {
                length = Some(self.expr(p, 0)?);
            } else {
                break;
            }
        }
        let one = || {
            let value = Value::Number("1".into(), false);
            Expr::Value(ValueWithSpan { value, span: Span::empty() })
        };
        let args = match (from, length) {
            (None, None) => return self.plain_call(p, "substring", span, text),
            (Some(from), None) => vec![text, from],
            (Some(from), Some(length)) => vec![text, from, length],
            (None, Some(length)) => {
                let length = Expr::Cast {
                    kind: sqlparser::ast::CastKind::DoubleColon,
                    expr: Box::new(length),
                    data_type: super::types::builtin_type("int4", vec![]),
                    array: false,
                    format: None,
                };
                vec![text, one(), length]
            }
        };
        Ok(system_call("substring", args, span))
    }

    fn overlay(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        let text = self.expr(p, 0)?;
        if !take_word(p, "placing") {
            return self.plain_call(p, "overlay", span, text);
        }
        let mut args = vec![text, self.expr(p, 0)?];
        expect_word(p, "from")?;
        args.push(self.expr(p, 0)?);
        if take_word(p, "for") {
            args.push(self.expr(p, 0)?);
        }
        Ok(system_call("overlay", args, span))
    }

    fn trim(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        let name = match peek_word(p) {
            Some("leading") => "ltrim",
            Some("trailing") => "rtrim",
            Some("both") => "btrim",
            _ => "",
        };
        if !name.is_empty() {
            p.advance_token();
        }
        let name = if name.is_empty() { "btrim" } else { name };
        if take_word(p, "from") {
            let args = self.expr_list(p)?;
            return Ok(system_call(name, args, span));
        }
        let first = self.expr(p, 0)?;
        if take_word(p, "from") {
            let mut args = self.expr_list(p)?;
            args.push(first);
            return Ok(system_call(name, args, span));
        }
        let mut args = vec![first];
        while p.consume_token(&Token::Comma) {
            args.push(self.expr(p, 0)?);
        }
        Ok(system_call(name, args, span))
    }

    fn normalize(&self, p: &mut Parser, span: Span) -> Parse<Expr> {
        let mut args = vec![self.expr(p, 0)?];
        if p.consume_token(&Token::Comma) {
            let form = p.next_token();
            let name = match &form.token {
                Token::Word(w) if w.quote_style.is_none() => w.value.to_uppercase(),
                _ => String::new(),
            };
            if !matches!(name.as_str(), "NFC" | "NFD" | "NFKC" | "NFKD") {
                p.prev_token();
                return unexpected(p);
            }
            let value = Value::SingleQuotedString(name);
            args.push(Expr::Value(ValueWithSpan { value, span: form.span }));
        }
        Ok(system_call("normalize", args, span))
    }
}
