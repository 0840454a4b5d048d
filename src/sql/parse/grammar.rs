//! Expressions: operators and their precedence.
//!
//! From the loosest to the tightest, as in PostgreSQL: OR, AND, NOT, IS, comparison, BETWEEN / IN /
//! LIKE, every other operator, `+ -`, `* / %`, `^`, AT TIME ZONE, COLLATE, unary minus, subscripts,
//! `::`. Comparisons, IS and the LIKE family do not associate: `a < b < c` is a syntax error.

use sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, UnaryOperator, Value, ValueWithSpan,
};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use super::dialect::{MAX_DEPTH, Meridian};
use super::operators;

pub(crate) type Parse<T> = Result<T, ParserError>;

pub(crate) mod prec {
    pub(crate) const OR: u8 = 10;
    pub(crate) const AND: u8 = 20;
    pub(crate) const NOT: u8 = 30;
    pub(crate) const IS: u8 = 40;
    pub(crate) const COMPARE: u8 = 50;
    pub(crate) const LIKE: u8 = 60;
    pub(crate) const OP: u8 = 70;
    pub(crate) const ADD: u8 = 80;
    pub(crate) const MUL: u8 = 90;
    pub(crate) const POWER: u8 = 100;
    pub(crate) const AT: u8 = 110;
    pub(crate) const COLLATE: u8 = 120;
    pub(crate) const UNARY: u8 = 130;
    pub(crate) const CAST: u8 = 150;
}

/// The unquoted word at the next token, in lower case.
pub(crate) fn peek_word<'p>(p: &'p Parser) -> Option<&'p str> {
    word_at(p, 0)
}

/// The unquoted word `n` tokens ahead.
pub(crate) fn word_at<'p>(p: &'p Parser, n: usize) -> Option<&'p str> {
    match &p.peek_nth_token_ref(n).token {
        Token::Word(w) if w.quote_style.is_none() => Some(&w.value),
        _ => None,
    }
}

/// Takes the word if it is next.
pub(crate) fn take_word(p: &mut Parser, word: &str) -> bool {
    let found = peek_word(p) == Some(word);
    if found {
        p.advance_token();
    }
    found
}

/// Takes the words if they are next.
pub(crate) fn take_words(p: &mut Parser, words: &[&str]) -> bool {
    let found = words.iter().enumerate().all(|(i, w)| word_at(p, i) == Some(w));
    if found {
        for _ in words {
            p.advance_token();
        }
    }
    found
}

/// Takes the word, or a syntax error at the next token.
pub(crate) fn expect_word(p: &mut Parser, word: &str) -> Parse<()> {
    if take_word(p, word) { Ok(()) } else { unexpected(p) }
}

/// A syntax error at the next token.
pub(crate) fn unexpected<T>(p: &Parser) -> Parse<T> {
    p.expected_ref("something else", p.peek_token_ref())
}

/// A call of a built-in function, as PostgreSQL's grammar makes of a special syntax.
pub(crate) fn system_call(name: &str, args: Vec<Expr>, span: Span) -> Expr {
    let ident = |text: &str| Ident { value: text.to_owned(), quote_style: None, span };
    let name = ObjectName::from(vec![ident("pg_catalog"), ident(name)]);
    let args = args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect();
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// A tree of AND or OR whose depth is logarithmic: long chains must not nest deeply.
fn balanced(mut terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while terms.len() > 1 {
        let mut next = Vec::with_capacity(terms.len().div_ceil(2));
        let mut it = terms.into_iter();
        while let Some(left) = it.next() {
            next.push(match it.next() {
                Some(right) => binary(left, op.clone(), right),
                None => left,
            });
        }
        terms = next;
    }
    terms.pop().expect("a chain has at least one term")
}

impl Meridian {
    /// An expression wherever sqlparser wants one. After DEFAULT of a column, COLLATE belongs to
    /// the column.
    pub(crate) fn top_expr(&self, p: &mut Parser) -> Parse<Expr> {
        let after_default = matches!(&p.get_current_token().token,
            Token::Word(w) if w.quote_style.is_none() && w.value == "default");
        if after_default {
            let min = prec::LIKE.max(prec::IS);
            let first = self.expr_without_collate(p, min)?;
            return Ok(first);
        }
        let expr = self.expr(p, 0)?;
        // `(row).*` of a select list; of a name sqlparser knows it.
        let star = p.peek_token_ref().token == Token::Period
            && p.peek_nth_token_ref(1).token == Token::Mul;
        if star && matches!(expr, Expr::Nested(_)) {
            p.advance_token();
            p.advance_token();
            return Ok(Expr::Prefixed { prefix: Ident::new("*"), value: Box::new(expr) });
        }
        Ok(expr)
    }

    fn expr_without_collate(&self, p: &mut Parser, min: u8) -> Parse<Expr> {
        let mut left = self.prefix(p)?;
        loop {
            let next = self.next_precedence(p);
            if next <= min || next == prec::COLLATE {
                return Ok(left);
            }
            left = self.infix(p, left, next)?;
        }
    }

    /// An expression whose operators bind tighter than `min`.
    pub(crate) fn expr(&self, p: &mut Parser, min: u8) -> Parse<Expr> {
        self.nested(|| {
            let mut left = self.prefix(p)?;
            let mut chain = 0;
            loop {
                let next = self.next_precedence(p);
                if next <= min {
                    return Ok(left);
                }
                chain += 1;
                if chain > MAX_DEPTH {
                    return Err(ParserError::RecursionLimitExceeded);
                }
                left = self.infix(p, left, next)?;
            }
        })
    }

    fn nested<T>(&self, f: impl FnOnce() -> Parse<T>) -> Parse<T> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(ParserError::RecursionLimitExceeded);
        }
        self.depth.set(depth);
        let result = stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, f);
        self.depth.set(depth - 1);
        result
    }

    fn prefix(&self, p: &mut Parser) -> Parse<Expr> {
        let token = p.peek_token_ref().clone();
        match &token.token {
            Token::Word(w) if w.quote_style.is_none() && w.value == "not" => {
                p.advance_token();
                Ok(not(self.expr(p, prec::NOT)?))
            }
            Token::Minus | Token::Plus => {
                p.advance_token();
                let operand = self.expr(p, prec::UNARY)?;
                Ok(self.signed(token.token == Token::Minus, operand, token.span))
            }
            Token::Word(w)
                if w.quote_style.is_none()
                    && w.value == "operator"
                    && p.peek_nth_token_ref(1).token == Token::LParen =>
            {
                let (_, name) = self.qualified_operator(p)?;
                self.prefix_operator(p, &name)
            }
            other => match operators::text(other).map(str::to_owned) {
                Some(name) if other != &Token::Mul => {
                    p.advance_token();
                    self.prefix_operator(p, &name)
                }
                _ => self.primary(p),
            },
        }
    }

    fn prefix_operator(&self, p: &mut Parser, name: &str) -> Parse<Expr> {
        let Some(op) = operators::unary(name) else {
            p.prev_token();
            return unexpected(p);
        };
        Ok(Expr::UnaryOp { op, expr: Box::new(self.expr(p, prec::OP)?) })
    }

    /// A sign before a numeric literal is part of the literal.
    fn signed(&self, minus: bool, operand: Expr, span: Span) -> Expr {
        match operand {
            Expr::Value(ValueWithSpan { value: Value::Number(n, _), span: old }) if minus => {
                let n = match n.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{n}"),
                };
                let span = span.union(&old);
                Expr::Value(ValueWithSpan { value: Value::Number(n, false), span })
            }
            operand => {
                let op = if minus { UnaryOperator::Minus } else { UnaryOperator::Plus };
                Expr::UnaryOp { op, expr: Box::new(operand) }
            }
        }
    }

    /// `OPERATOR(schema.op)`
    fn qualified_operator(&self, p: &mut Parser) -> Parse<(Vec<String>, String)> {
        expect_word(p, "operator")?;
        p.expect_token(&Token::LParen)?;
        let mut schema = Vec::new();
        while matches!(p.peek_token_ref().token, Token::Word(_)) {
            schema.push(p.parse_identifier()?.value);
            p.expect_token(&Token::Period)?;
        }
        let Some(name) = operators::text(&p.peek_token_ref().token).map(str::to_owned) else {
            return unexpected(p);
        };
        p.advance_token();
        p.expect_token(&Token::RParen)?;
        Ok((schema, name))
    }

    fn next_precedence(&self, p: &Parser) -> u8 {
        match &p.peek_token_ref().token {
            Token::Word(w) if w.quote_style.is_none() => match w.value.as_str() {
                "or" => prec::OR,
                "and" => prec::AND,
                "is" | "isnull" | "notnull" => prec::IS,
                "between" | "in" | "like" | "ilike" | "overlaps" => prec::LIKE,
                "similar" if word_at(p, 1) == Some("to") => prec::LIKE,
                "not" => match word_at(p, 1) {
                    Some("between" | "in" | "like" | "ilike" | "similar") => prec::LIKE,
                    _ => 0,
                },
                "operator" if p.peek_nth_token_ref(1).token == Token::LParen => prec::OP,
                "at" if word_at(p, 1) == Some("time") => prec::AT,
                "collate" => prec::COLLATE,
                _ => 0,
            },
            Token::Eq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq | Token::Neq => {
                prec::COMPARE
            }
            Token::Plus | Token::Minus => prec::ADD,
            Token::Mul | Token::Div | Token::Mod => prec::MUL,
            Token::Caret => prec::POWER,
            Token::DoubleColon => prec::CAST,
            other if operators::text(other).is_some() => prec::OP,
            _ => 0,
        }
    }

    fn infix(&self, p: &mut Parser, left: Expr, precedence: u8) -> Parse<Expr> {
        let word = peek_word(p).map(str::to_owned);
        match word.as_deref() {
            Some("or") => self.chain(p, left, BinaryOperator::Or, "or", prec::OR),
            Some("and") => self.chain(p, left, BinaryOperator::And, "and", prec::AND),
            Some("is" | "isnull" | "notnull") => self.is(p, left),
            Some("at") => {
                let span = p.peek_token_ref().span;
                take_word(p, "at");
                take_word(p, "time");
                expect_word(p, "zone")?;
                let zone = self.expr(p, prec::AT)?;
                Ok(system_call("timezone", vec![zone, left], span))
            }
            Some("collate") => {
                p.advance_token();
                let collation = p.parse_object_name(false)?;
                Ok(Expr::Collate { expr: Box::new(left), collation })
            }
            Some("operator") => {
                let (mut parts, name) = self.qualified_operator(p)?;
                parts.push(name);
                self.operand(p, left, BinaryOperator::PGCustomBinaryOperator(parts), prec::OP)
            }
            Some(_) => self.like_family(p, left),
            None if p.consume_token(&Token::DoubleColon) => {
                let data_type = self.type_name(p)?;
                Ok(Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr: Box::new(left),
                    data_type,
                    array: false,
                    format: None,
                })
            }
            None => {
                let name = operators::text(&p.peek_token_ref().token).unwrap_or("").to_owned();
                p.advance_token();
                let expr = self.operand(p, left, operators::binary(&name), precedence)?;
                if precedence == prec::COMPARE && self.next_precedence(p) == prec::COMPARE {
                    return unexpected(p);
                }
                Ok(expr)
            }
        }
    }

    /// The right side of a binary operator, which may be ANY or ALL of something.
    fn operand(
        &self,
        p: &mut Parser,
        left: Expr,
        op: BinaryOperator,
        precedence: u8,
    ) -> Parse<Expr> {
        let quantifier = match peek_word(p) {
            Some("any" | "some") => Some(true),
            Some("all") => Some(false),
            _ => None,
        };
        let Some(any) = quantifier else {
            return Ok(binary(left, op, self.expr(p, precedence)?));
        };
        let is_some = peek_word(p) == Some("some");
        p.advance_token();
        p.expect_token(&Token::LParen)?;
        let right = match self.starts_query(p) {
            true => Expr::Subquery(p.parse_query()?),
            false => self.expr(p, 0)?,
        };
        p.expect_token(&Token::RParen)?;
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(match any {
            true => Expr::AnyOp { left, compare_op: op, right, is_some },
            false => Expr::AllOp { left, compare_op: op, right },
        })
    }

    fn chain(
        &self,
        p: &mut Parser,
        left: Expr,
        op: BinaryOperator,
        word: &str,
        precedence: u8,
    ) -> Parse<Expr> {
        let mut terms = vec![left];
        while take_word(p, word) {
            terms.push(self.expr(p, precedence)?);
        }
        Ok(balanced(terms, &op))
    }

    fn is(&self, p: &mut Parser, left: Expr) -> Parse<Expr> {
        let span = p.peek_token_ref().span;
        if take_word(p, "isnull") {
            return Ok(Expr::IsNull(Box::new(left)));
        }
        if take_word(p, "notnull") {
            return Ok(Expr::IsNotNull(Box::new(left)));
        }
        expect_word(p, "is")?;
        let negated = take_word(p, "not");
        if take_words(p, &["distinct", "from"]) {
            let right = Box::new(self.expr(p, prec::IS)?);
            let left = Box::new(left);
            return Ok(match negated {
                false => Expr::IsDistinctFrom(left, right),
                true => Expr::IsNotDistinctFrom(left, right),
            });
        }
        let Some(word) = peek_word(p).map(str::to_owned) else { return unexpected(p) };
        let normalized = word == "normalized"
            || (matches!(word.as_str(), "nfc" | "nfd" | "nfkc" | "nfkd")
                && word_at(p, 1) == Some("normalized"));
        if normalized {
            let mut args = vec![left];
            if word != "normalized" {
                p.advance_token();
                let value = Value::SingleQuotedString(word.to_uppercase());
                args.push(Expr::Value(ValueWithSpan { value, span }));
            }
            p.advance_token();
            let call = system_call("is_normalized", args, span);
            return Ok(if negated { not(call) } else { call });
        }
        let left = Box::new(left);
        let expr = match (word.as_str(), negated) {
            ("null", false) => Expr::IsNull(left),
            ("null", true) => Expr::IsNotNull(left),
            ("true", false) => Expr::IsTrue(left),
            ("true", true) => Expr::IsNotTrue(left),
            ("false", false) => Expr::IsFalse(left),
            ("false", true) => Expr::IsNotFalse(left),
            ("unknown", false) => Expr::IsUnknown(left),
            ("unknown", true) => Expr::IsNotUnknown(left),
            _ => return unexpected(p),
        };
        p.advance_token();
        Ok(expr)
    }

    fn like_family(&self, p: &mut Parser, left: Expr) -> Parse<Expr> {
        let span = p.peek_token_ref().span;
        let negated = take_word(p, "not");
        let Some(word) = peek_word(p).map(str::to_owned) else { return unexpected(p) };
        p.advance_token();
        let expr = match word.as_str() {
            "like" => self.like(p, left, if negated { "!~~" } else { "~~" }, span)?,
            "ilike" => self.like(p, left, if negated { "!~~*" } else { "~~*" }, span)?,
            "similar" => {
                expect_word(p, "to")?;
                let mut args = vec![self.expr(p, prec::LIKE)?];
                if take_word(p, "escape") {
                    args.push(self.expr(p, prec::LIKE)?);
                }
                let pattern = system_call("similar_to_escape", args, span);
                binary(left, operators::binary(if negated { "!~" } else { "~" }), pattern)
            }
            "between" => self.between(p, left, negated)?,
            "overlaps" => {
                let right = self.expr(p, prec::LIKE)?;
                self.overlaps(p, left, right, span)?
            }
            _ => self.in_list(p, left, negated)?,
        };
        if self.next_precedence(p) == prec::LIKE {
            return unexpected(p);
        }
        Ok(expr)
    }

    fn like(&self, p: &mut Parser, left: Expr, op: &str, span: Span) -> Parse<Expr> {
        let op = operators::binary(op);
        if matches!(peek_word(p), Some("any" | "some" | "all")) {
            return self.operand(p, left, op, prec::LIKE);
        }
        let mut pattern = self.expr(p, prec::LIKE)?;
        if take_word(p, "escape") {
            let escape = self.expr(p, prec::LIKE)?;
            pattern = system_call("like_escape", vec![pattern, escape], span);
        }
        Ok(binary(left, op, pattern))
    }

    fn between(&self, p: &mut Parser, left: Expr, negated: bool) -> Parse<Expr> {
        let symmetric = take_word(p, "symmetric");
        if !symmetric {
            take_word(p, "asymmetric");
        }
        let low = self.expr(p, prec::LIKE)?;
        expect_word(p, "and")?;
        let high = self.expr(p, prec::LIKE)?;
        let make = |expr: Expr, low: Expr, high: Expr| Expr::Between {
            expr: Box::new(expr),
            negated,
            low: Box::new(low),
            high: Box::new(high),
        };
        if !symmetric {
            return Ok(make(left, low, high));
        }
        let op = if negated { BinaryOperator::And } else { BinaryOperator::Or };
        let first = make(left.clone(), low.clone(), high.clone());
        Ok(Expr::Nested(Box::new(binary(first, op, make(left, high, low)))))
    }

    fn overlaps(&self, p: &Parser, left: Expr, right: Expr, span: Span) -> Parse<Expr> {
        match (row_fields(left), row_fields(right)) {
            (Some(mut l), Some(r)) if l.len() == 2 && r.len() == 2 => {
                l.extend(r);
                Ok(system_call("overlaps", l, span))
            }
            _ => unexpected(p),
        }
    }

    fn in_list(&self, p: &mut Parser, left: Expr, negated: bool) -> Parse<Expr> {
        p.expect_token(&Token::LParen)?;
        let expr = Box::new(left);
        if self.starts_query(p) {
            let subquery = p.parse_query()?;
            p.expect_token(&Token::RParen)?;
            return Ok(Expr::InSubquery { expr, subquery, negated });
        }
        let mut list = vec![self.expr(p, 0)?];
        while p.consume_token(&Token::Comma) {
            list.push(self.expr(p, 0)?);
        }
        p.expect_token(&Token::RParen)?;
        Ok(Expr::InList { expr, list, negated })
    }
}

/// The fields of a row constructor.
fn row_fields(expr: Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(fields) => Some(fields),
        Expr::Prefixed { value, .. } => row_fields(*value),
        _ => None,
    }
}
