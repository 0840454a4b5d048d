//! The parser of `jsonpath`.

use super::{Binary, Expr, Method, Path, Step};
use crate::numeric::Numeric;
use crate::{PgError, Result, SqlState};

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word.
    Word(String),
    Text(String),
    Variable(String),
    Number(String),
    Symbol(&'static str),
    End,
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

/// Reads a path.
pub fn parse(text: &str) -> Result<Path> {
    let mut p = Parser { tokens: lex(text)?, at: 0 };
    let lax = match p.peek() {
        Token::Word(w) if w == "lax" || w == "strict" => {
            let lax = w == "lax";
            p.at += 1;
            lax
        }
        _ => true,
    };
    let expr = p.binary(0)?;
    check(&expr, false, false)?;
    if *p.peek() != Token::End {
        return Err(p.unexpected());
    }
    Ok(Path { lax, expr })
}

/// `@` has a meaning in filters only, `last` in subscripts only.
fn check(e: &Expr, in_filter: bool, in_subscript: bool) -> Result<()> {
    let refuse = |text: &str| Err(PgError::new(SqlState::SYNTAX_ERROR, text));
    match e {
        Expr::Current if !in_filter => refuse("@ is not allowed in root expressions"),
        Expr::Last if !in_subscript => refuse("LAST is allowed only in array subscripts"),
        Expr::Binary(_, a, b) => {
            check(a, in_filter, in_subscript)?;
            check(b, in_filter, in_subscript)
        }
        Expr::Unary(_, inner)
        | Expr::Not(inner)
        | Expr::IsUnknown(inner)
        | Expr::Exists(inner)
        | Expr::LikeRegex(inner, ..) => check(inner, in_filter, in_subscript),
        Expr::Steps(start, steps) => {
            check(start, in_filter, in_subscript)?;
            for step in steps {
                match step {
                    Step::Filter(predicate) => check(predicate, true, in_subscript)?,
                    Step::Elements(list) => {
                        for (from, to) in list {
                            check(from, in_filter, true)?;
                            to.iter().try_for_each(|to| check(to, in_filter, true))?;
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn syntax(near: &str) -> PgError {
    let text = if near.is_empty() {
        "syntax error at end of jsonpath input".to_owned()
    } else {
        format!("syntax error at or near \"{near}\" of jsonpath input")
    };
    PgError::new(SqlState::SYNTAX_ERROR, text)
}

const SYMBOLS: [&str; 28] = [
    "**", "==", "!=", "<>", "<=", ">=", "&&", "||", "$", "@", ".", "*", "[", "]", "(", ")", "{",
    "}", "?", ",", "+", "-", "/", "%", "<", ">", "!", "=",
];

/// Everything that means nothing else is part of a word.
fn word_char(c: char) -> bool {
    !"?%$.[]{}()|&!=<>@#,*:-+/\\\" \t\n\r\u{c}".contains(c)
}

fn lex(text: &str) -> Result<Vec<(Token, String)>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '"' {
            quoted(rest)?
        } else if first == '$' && rest[1..].starts_with('"') {
            let (token, length) = quoted(&rest[1..])?;
            let Token::Text(name) = token else { return Err(syntax(rest)) };
            (Token::Variable(name), length + 1)
        } else if first == '$' && rest[1..].starts_with(word_char) {
            let end = rest[1..].find(|c| !word_char(c)).map_or(rest.len(), |e| e + 1);
            (Token::Variable(rest[1..end].to_owned()), end)
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            let length = number_length(rest);
            let zeros =
                rest.starts_with('0') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
            let length = if zeros { 1 } else { length };
            if zeros || rest[length..].starts_with(|c: char| c.is_alphabetic() || c == '_') {
                let error = "trailing junk after numeric literal";
                let near = &rest[..=length];
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    format!("{error} at or near \"{near}\" of jsonpath input"),
                ));
            }
            (Token::Number(rest[..length].to_owned()), length)
        } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            (Token::Symbol(symbol), symbol.len())
        } else if word_char(first) {
            let end = rest.find(|c| !word_char(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else {
            return Err(syntax(&first.to_string()));
        };
        tokens.push((token, rest[..length].to_owned()));
        rest = rest[length..].trim_start();
    }
    tokens.push((Token::End, String::new()));
    Ok(tokens)
}

fn number_length(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    if text[end..].starts_with('.') && !text[end..].starts_with(".*") {
        end += 1;
        end += digits(end);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// A string in quotes: JSON's escapes.
fn quoted(text: &str) -> Result<(Token, usize)> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let node = crate::jsonb::parse::parse(&text[..=i], true)?;
                let crate::jsonb::Kind::String(s) = node.kind else { return Err(syntax(text)) };
                return Ok((Token::Text(s), i + 1));
            }
            _ => {}
        }
    }
    Err(PgError::new(SqlState::SYNTAX_ERROR, "unterminated quoted string at end of jsonpath input"))
}

/// The operator of a symbol and how strongly it binds.
fn operator(symbol: &str) -> Option<(Binary, u8)> {
    Some(match symbol {
        "||" => (Binary::Or, 0),
        "&&" => (Binary::And, 1),
        "==" | "=" => (Binary::Eq, 2),
        "!=" | "<>" => (Binary::Ne, 2),
        "<" => (Binary::Lt, 2),
        "<=" => (Binary::Le, 2),
        ">" => (Binary::Gt, 2),
        ">=" => (Binary::Ge, 2),
        "+" => (Binary::Add, 3),
        "-" => (Binary::Sub, 3),
        "*" => (Binary::Mul, 4),
        "/" => (Binary::Div, 4),
        "%" => (Binary::Mod, 4),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    /// The error of a token without place. A word is only known to end by what follows it, which
    /// is what the message shows.
    fn unexpected(&self) -> PgError {
        match self.peek() {
            Token::Word(_) if self.at + 2 == self.tokens.len() => syntax(""),
            _ => syntax(&self.tokens[self.at].1),
        }
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, symbol: &str) -> Result<()> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w == word);
        self.at += usize::from(found);
        found
    }

    fn binary(&mut self, strength: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            if strength <= 2 && self.eat_word("starts") {
                if !self.eat_word("with") {
                    return Err(self.unexpected());
                }
                let right = self.unary()?;
                left = Expr::Binary(Binary::StartsWith, Box::new(left), Box::new(right));
                continue;
            }
            if strength <= 2 && self.eat_word("like_regex") {
                left = self.like_regex(left)?;
                continue;
            }
            let found = match self.peek() {
                Token::Symbol(s) => operator(s).filter(|(_, binds)| *binds >= strength),
                _ => None,
            };
            let Some((op, binds)) = found else { return Ok(left) };
            self.at += 1;
            let right = self.binary(binds + 1)?;
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    fn like_regex(&mut self, left: Expr) -> Result<Expr> {
        let Token::Text(pattern) = self.peek().clone() else { return Err(self.unexpected()) };
        self.at += 1;
        let mut flags = String::new();
        if self.eat_word("flag") {
            let Token::Text(text) = self.peek().clone() else { return Err(self.unexpected()) };
            self.at += 1;
            if let Some(bad) = text.chars().find(|c| !"ismxq".contains(*c)) {
                return Err(PgError::new(
                    SqlState::SYNTAX_ERROR,
                    "invalid input syntax for type jsonpath",
                )
                .detail(format!(
                    "Unrecognized flag character \"{bad}\" in LIKE_REGEX predicate."
                )));
            }
            flags = text;
        }
        Ok(Expr::LikeRegex(Box::new(left), pattern, flags))
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.eat("!") {
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        for (symbol, minus) in [("+", false), ("-", true)] {
            if self.eat(symbol) {
                let operand = self.unary()?;
                return Ok(match operand {
                    Expr::Number(n) if minus => Expr::Number(n.neg()),
                    Expr::Number(n) => Expr::Number(n),
                    other => Expr::Unary(minus, Box::new(other)),
                });
            }
        }
        self.accessor()
    }

    fn accessor(&mut self) -> Result<Expr> {
        let start = self.primary()?;
        let mut steps = Vec::new();
        while let Some(step) = self.step()? {
            steps.push(step);
        }
        let expr = if steps.is_empty() { start } else { Expr::Steps(Box::new(start), steps) };
        if self.eat_word("is") {
            if !self.eat_word("unknown") {
                return Err(self.unexpected());
            }
            return Ok(Expr::IsUnknown(Box::new(expr)));
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr> {
        let expr = match self.peek().clone() {
            Token::Symbol("$") => Expr::Root,
            Token::Symbol("@") => Expr::Current,
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.binary(0)?;
                self.need(")")?;
                return Ok(inner);
            }
            Token::Variable(name) => Expr::Variable(name),
            Token::Text(text) => Expr::String(text),
            Token::Number(text) => Expr::Number(Numeric::parse(&text)?),
            Token::Word(word) => match word.as_str() {
                "null" => Expr::Null,
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "last" => Expr::Last,
                "exists" => {
                    self.at += 1;
                    self.need("(")?;
                    let inner = self.binary(0)?;
                    self.need(")")?;
                    return Ok(Expr::Exists(Box::new(inner)));
                }
                _ => return Err(self.unexpected()),
            },
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(expr)
    }

    fn step(&mut self) -> Result<Option<Step>> {
        if self.eat("?") {
            self.need("(")?;
            let predicate = self.binary(0)?;
            self.need(")")?;
            return Ok(Some(Step::Filter(Box::new(predicate))));
        }
        if self.eat("[") {
            return self.subscripts().map(Some);
        }
        if !self.eat(".") {
            return Ok(None);
        }
        if self.eat("**") {
            return self.deep().map(Some);
        }
        if self.eat("*") {
            return Ok(Some(Step::AnyKey));
        }
        let (token, source) = self.tokens[self.at].clone();
        let key = match token {
            Token::Text(text) => {
                self.at += 1;
                return Ok(Some(Step::Key(text)));
            }
            Token::Word(word) => word,
            Token::Variable(_) => source,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        if matches!(self.peek(), Token::Symbol("("))
            && let Some(method) = method(&key)
        {
            self.at += 1;
            if method == Method::Datetime && matches!(self.peek(), Token::Text(_)) {
                self.at += 1;
            }
            self.need(")")?;
            return Ok(Some(Step::Method(method)));
        }
        Ok(Some(Step::Key(key)))
    }

    fn subscripts(&mut self) -> Result<Step> {
        if self.eat("*") {
            self.need("]")?;
            return Ok(Step::AnyElement);
        }
        let mut list = Vec::new();
        loop {
            let from = self.binary(3)?;
            let to = if self.eat_word("to") { Some(self.binary(3)?) } else { None };
            list.push((from, to));
            if !self.eat(",") {
                break;
            }
        }
        self.need("]")?;
        Ok(Step::Elements(list))
    }

    fn deep(&mut self) -> Result<Step> {
        if !self.eat("{") {
            return Ok(Step::Deep(Some(0), None));
        }
        let from = self.level()?;
        let to = if self.eat_word("to") { self.level()? } else { from };
        self.need("}")?;
        Ok(Step::Deep(from, to))
    }

    fn level(&mut self) -> Result<Option<u32>> {
        if self.eat_word("last") {
            return Ok(None);
        }
        let Token::Number(text) = self.peek().clone() else { return Err(self.unexpected()) };
        let level = text.parse().map_err(|_| self.unexpected())?;
        self.at += 1;
        Ok(Some(level))
    }
}

fn method(name: &str) -> Option<Method> {
    Some(match name {
        "type" => Method::Type,
        "size" => Method::Size,
        "double" => Method::Double,
        "ceiling" => Method::Ceiling,
        "floor" => Method::Floor,
        "abs" => Method::Abs,
        "keyvalue" => Method::KeyValue,
        "datetime" => Method::Datetime,
        _ => return None,
    })
}
