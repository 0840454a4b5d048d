//! Expressions: literals, names, parentheses and the key words that begin an expression.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    AccessExpr, Array, CaseWhen, CastKind, DataType, Expr, Function, FunctionArguments, Ident,
    ObjectName, Subscript, TypedString, Value, ValueWithSpan,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect::Meridian;
use super::grammar::{Parse, expect_word, peek_word, system_call, take_word, unexpected, word_at};
use super::keywords;

impl Meridian {
    /// Whether a query begins here, behind any number of opening parentheses.
    pub(crate) fn starts_query(&self, p: &Parser) -> bool {
        match peek_word(p) {
            Some("select" | "with" | "values" | "table") => true,
            Some(_) => false,
            None => self.queries.borrow().contains(&p.peek_token_ref().span.start.column),
        }
    }

    pub(crate) fn primary(&self, p: &mut Parser) -> Parse<Expr> {
        let token = p.peek_token_ref().clone();
        match token.token {
            Token::Word(ref w) if w.quote_style.is_none() => self.word(p, &token, &w.value),
            Token::Word(_) => self.name(p),
            Token::LParen => self.parentheses(p),
            Token::Placeholder(s) => {
                p.advance_token();
                let value = Value::Placeholder(s);
                let expr = Expr::Value(ValueWithSpan { value, span: token.span });
                self.indirection(p, expr)
            }
            _ => self.literal(p),
        }
    }

    fn literal(&self, p: &mut Parser) -> Parse<Expr> {
        let TokenWithSpan { token, span } = p.peek_token_ref().clone();
        let value = match token {
            Token::Number(n, _) => Value::Number(n, false),
            Token::SingleQuotedString(s) => Value::SingleQuotedString(s),
            Token::NationalStringLiteral(s) => Value::NationalStringLiteral(s),
            Token::SingleQuotedByteStringLiteral(s) => Value::SingleQuotedByteStringLiteral(s),
            Token::HexStringLiteral(s) => Value::HexStringLiteral(s),
            _ => return unexpected(p),
        };
        p.advance_token();
        Ok(Expr::Value(ValueWithSpan { value, span }))
    }

    fn constant(&self, p: &mut Parser, value: Value) -> Parse<Expr> {
        let span = p.peek_token_ref().span;
        p.advance_token();
        Ok(Expr::Value(ValueWithSpan { value, span }))
    }

    fn word(&self, p: &mut Parser, token: &TokenWithSpan, word: &str) -> Parse<Expr> {
        let opens = p.peek_nth_token_ref(1).token == Token::LParen;
        match word {
            "null" => self.constant(p, Value::Null),
            "true" => self.constant(p, Value::Boolean(true)),
            "false" => self.constant(p, Value::Boolean(false)),
            "default" => {
                p.advance_token();
                Ok(Expr::Identifier(Ident {
                    value: "default".into(),
                    quote_style: None,
                    span: token.span,
                }))
            }
            "case" => self.case(p),
            "cast" => self.cast(p),
            "exists" if opens => {
                p.advance_token();
                p.expect_token(&Token::LParen)?;
                let subquery = p.parse_query()?;
                p.expect_token(&Token::RParen)?;
                Ok(Expr::Exists { subquery, negated: false })
            }
            "array" => self.array(p),
            "row" if opens => self.row(p),
            "current_date" | "current_time" | "current_timestamp" | "localtime"
            | "localtimestamp" | "current_user" | "current_role" | "session_user" | "user"
            | "current_catalog" => self.sql_value(p, token, word),
            "current_schema" if !opens => self.sql_value(p, token, word),
            "extract" | "position" | "substring" | "overlay" | "trim" | "normalize" | "treat"
                if opens =>
            {
                let expr = self.special_call(p, word, token.span)?;
                self.call_suffix(p, expr)
            }
            "collation" if opens && word_at(p, 2) == Some("for") => self.collation_for(p),
            "coalesce" | "greatest" | "least" | "nullif" | "grouping" if opens => self.call(p),
            _ if keywords::is_reserved(word) => unexpected(p),
            _ => match self.typed_literal(p, word)? {
                Some(expr) => Ok(expr),
                None => self.name(p),
            },
        }
    }

    fn sql_value(&self, p: &mut Parser, token: &TokenWithSpan, word: &str) -> Parse<Expr> {
        p.advance_token();
        let mut args = FunctionArguments::None;
        let takes_precision = word.contains("time");
        if takes_precision && p.consume_token(&Token::LParen) {
            let precision = self.literal(p)?;
            p.expect_token(&Token::RParen)?;
            let Expr::Function(call) = system_call(word, vec![precision], token.span) else {
                return unexpected(p);
            };
            args = call.args;
        }
        let name = Ident { value: word.to_owned(), quote_style: None, span: token.span };
        Ok(Expr::Function(Function {
            name: ObjectName::from(vec![name]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args,
            filter: None,
            null_treatment: None,
            over: None,
            within_group: vec![],
        }))
    }

    fn collation_for(&self, p: &mut Parser) -> Parse<Expr> {
        let span = p.peek_token_ref().span;
        p.advance_token();
        p.expect_token(&Token::LParen)?;
        expect_word(p, "for")?;
        let inner = self.expr(p, 0)?;
        p.expect_token(&Token::RParen)?;
        Ok(system_call("pg_collation_for", vec![inner], span))
    }

    fn case(&self, p: &mut Parser) -> Parse<Expr> {
        let case_token = AttachedToken(p.next_token());
        let operand = match peek_word(p) {
            Some("when") => None,
            _ => Some(Box::new(self.expr(p, 0)?)),
        };
        let mut conditions = Vec::new();
        while take_word(p, "when") {
            let condition = self.expr(p, 0)?;
            expect_word(p, "then")?;
            conditions.push(CaseWhen { condition, result: self.expr(p, 0)? });
        }
        if conditions.is_empty() {
            return unexpected(p);
        }
        let else_result = match take_word(p, "else") {
            true => Some(Box::new(self.expr(p, 0)?)),
            false => None,
        };
        if peek_word(p) != Some("end") {
            return unexpected(p);
        }
        let end_token = AttachedToken(p.next_token());
        Ok(Expr::Case { case_token, end_token, operand, conditions, else_result })
    }

    fn cast(&self, p: &mut Parser) -> Parse<Expr> {
        p.advance_token();
        p.expect_token(&Token::LParen)?;
        let expr = Box::new(self.expr(p, 0)?);
        expect_word(p, "as")?;
        let data_type = self.type_name(p)?;
        p.expect_token(&Token::RParen)?;
        Ok(Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None })
    }

    fn array(&self, p: &mut Parser) -> Parse<Expr> {
        let TokenWithSpan { span, .. } = p.next_token();
        if p.consume_token(&Token::LParen) {
            let query = p.parse_query()?;
            p.expect_token(&Token::RParen)?;
            let name = Ident { value: "array".into(), quote_style: None, span };
            return Ok(Expr::Function(Function {
                name: ObjectName::from(vec![name]),
                uses_odbc_syntax: false,
                parameters: FunctionArguments::None,
                args: FunctionArguments::Subquery(query),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: vec![],
            }));
        }
        self.array_elements(p, true)
    }

    fn array_elements(&self, p: &mut Parser, named: bool) -> Parse<Expr> {
        p.expect_token(&Token::LBracket)?;
        let mut elem = Vec::new();
        if !p.consume_token(&Token::RBracket) {
            loop {
                elem.push(match p.peek_token_ref().token {
                    Token::LBracket => self.array_elements(p, false)?,
                    _ => self.expr(p, 0)?,
                });
                if !p.consume_token(&Token::Comma) {
                    break;
                }
            }
            p.expect_token(&Token::RBracket)?;
        }
        Ok(Expr::Array(Array { elem, named }))
    }

    /// `ROW(…)`, which differs from `(…)` in that it may have one field or none.
    fn row(&self, p: &mut Parser) -> Parse<Expr> {
        let TokenWithSpan { span, .. } = p.next_token();
        p.expect_token(&Token::LParen)?;
        let mut fields = Vec::new();
        if !p.consume_token(&Token::RParen) {
            fields = self.expr_list(p)?;
            p.expect_token(&Token::RParen)?;
        }
        let prefix = Ident { value: "ROW".into(), quote_style: None, span };
        Ok(Expr::Prefixed { prefix, value: Box::new(Expr::Tuple(fields)) })
    }

    pub(crate) fn expr_list(&self, p: &mut Parser) -> Parse<Vec<Expr>> {
        let mut list = vec![self.row_item(p)?];
        while p.consume_token(&Token::Comma) {
            list.push(self.row_item(p)?);
        }
        Ok(list)
    }

    /// A field of a row constructor: an expression, or `t.*`.
    fn row_item(&self, p: &mut Parser) -> Parse<Expr> {
        let expr = self.expr(p, 0)?;
        if p.peek_token_ref().token == Token::Period && p.peek_nth_token_ref(1).token == Token::Mul
        {
            p.advance_token();
            let star = AttachedToken(p.next_token());
            let name = match expr {
                Expr::Identifier(ident) => ObjectName::from(vec![ident]),
                Expr::CompoundIdentifier(idents) => ObjectName::from(idents),
                other => {
                    let prefix = Ident::new("*");
                    return Ok(Expr::Prefixed { prefix, value: Box::new(other) });
                }
            };
            return Ok(Expr::QualifiedWildcard(name, star));
        }
        Ok(expr)
    }

    fn parentheses(&self, p: &mut Parser) -> Parse<Expr> {
        p.expect_token(&Token::LParen)?;
        let expr = if self.starts_query(p) {
            Expr::Subquery(p.parse_query()?)
        } else {
            let mut list = self.expr_list(p)?;
            match list.len() {
                1 => Expr::Nested(Box::new(list.remove(0))),
                _ => Expr::Tuple(list),
            }
        };
        p.expect_token(&Token::RParen)?;
        self.indirection(p, expr)
    }

    /// `.field` and `[subscript]` behind an expression. `.*` is left for the caller.
    pub(crate) fn indirection(&self, p: &mut Parser, root: Expr) -> Parse<Expr> {
        let mut access_chain = Vec::new();
        loop {
            match (&p.peek_token_ref().token, &p.peek_nth_token_ref(1).token) {
                (Token::Period, Token::Word(_)) => {
                    p.advance_token();
                    let field = p.parse_identifier()?;
                    access_chain.push(AccessExpr::Dot(Expr::Identifier(field)));
                }
                (Token::LBracket, _) => access_chain.push(self.subscript(p)?),
                _ => break,
            }
        }
        if access_chain.is_empty() && self.starred_operand(p) {
            let name = match root {
                Expr::Identifier(ident) => ObjectName::from(vec![ident]),
                Expr::CompoundIdentifier(idents) => ObjectName::from(idents),
                _ => return unexpected(p),
            };
            p.advance_token();
            let star = AttachedToken(p.next_token());
            return Ok(Expr::QualifiedWildcard(name, star));
        }
        Ok(match access_chain.is_empty() {
            true => root,
            false => Expr::CompoundFieldAccess { root: Box::new(root), access_chain },
        })
    }

    /// Whether `.*` follows, and behind it an operator: the row as one value.
    fn starred_operand(&self, p: &Parser) -> bool {
        let star = p.peek_token_ref().token == Token::Period
            && p.peek_nth_token_ref(1).token == Token::Mul;
        star && match &p.peek_nth_token_ref(2).token {
            Token::DoubleColon => true,
            Token::Word(w) if w.quote_style.is_none() => {
                matches!(
                    w.value.as_str(),
                    "is" | "isnull" | "notnull" | "in" | "returning" | "and" | "or"
                )
            }
            Token::Mul => false,
            other => super::operators::text(other).is_some(),
        }
    }

    pub(crate) fn subscript(&self, p: &mut Parser) -> Parse<AccessExpr> {
        p.expect_token(&Token::LBracket)?;
        let bound = |p: &mut Parser| match p.peek_token_ref().token {
            Token::Colon | Token::RBracket => Ok(None),
            _ => self.expr(p, 0).map(Some),
        };
        let lower_bound = bound(p)?;
        let subscript = if p.consume_token(&Token::Colon) {
            Subscript::Slice { lower_bound, upper_bound: bound(p)?, stride: None }
        } else {
            let Some(index) = lower_bound else { return unexpected(p) };
            Subscript::Index { index }
        };
        p.expect_token(&Token::RBracket)?;
        Ok(AccessExpr::Subscript(subscript))
    }

    /// A column reference, a call, or a literal of a type named like a function: `point '(1,2)'`.
    fn name(&self, p: &mut Parser) -> Parse<Expr> {
        let first = p.peek_token_ref().clone();
        let plain = match &first.token {
            Token::Word(w) if w.quote_style.is_none() => w.value.clone(),
            _ => String::new(),
        };
        let mut parts = vec![p.parse_identifier()?];
        while p.peek_token_ref().token == Token::Period
            && matches!(p.peek_nth_token_ref(1).token, Token::Word(_))
        {
            p.advance_token();
            parts.push(p.parse_identifier()?);
        }
        match p.peek_token_ref().token {
            Token::LParen if keywords::COLUMN_NAME.binary_search(&plain.as_str()).is_err() => {
                return self.call_of(p, ObjectName::from(parts));
            }
            Token::SingleQuotedString(_) if parts.len() > 1 || !plain.is_empty() => {
                let data_type = DataType::Custom(ObjectName::from(parts), vec![]);
                return self.typed_string(p, data_type);
            }
            _ => {}
        }
        if parts.len() == 1 && keywords::TYPE_OR_FUNCTION.binary_search(&plain.as_str()).is_ok() {
            p.prev_token();
            return unexpected(p);
        }
        let root = match parts.len() {
            1 => Expr::Identifier(parts.remove(0)),
            _ => Expr::CompoundIdentifier(parts),
        };
        self.indirection(p, root)
    }

    pub(crate) fn typed_string(&self, p: &mut Parser, data_type: DataType) -> Parse<Expr> {
        let TokenWithSpan { token, span } = p.peek_token_ref().clone();
        let Token::SingleQuotedString(s) = token else { return unexpected(p) };
        p.advance_token();
        let value = ValueWithSpan { value: Value::SingleQuotedString(s), span };
        Ok(Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }))
    }
}
