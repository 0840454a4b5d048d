//! The JSON parser: text to a tree of [`Node`]s that remember where they stood.
//!
//! `json` values are checked with it and kept as they were written; the functions on `json` cut
//! their answers out of the text by a node's span; `jsonb` is built from the tree. Errors carry
//! PostgreSQL's detail and its context line.

use std::ops::Range;

use crate::{PgError, Result, SqlState};

/// Nesting beyond this is refused; at some hundred bytes of stack per level it stays far below the
/// stack of any thread.
const MAX_DEPTH: usize = 2000;

const LOW: &str = "low surrogate must follow a high surrogate";
const HIGH: &str = "high surrogate must not follow a high surrogate";

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value stands in the text.
    pub span: Range<usize>,
    /// The value.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number; its text is the span.
    Number,
    /// A string without its escapes.
    String(String),
    /// An array.
    Array(Vec<Node>),
    /// An object as written: keys may repeat.
    Object(Vec<(String, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Comma,
    Colon,
    String,
    Number,
    True,
    False,
    Null,
    End,
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Strings are decoded, so escapes must name characters that a text can hold.
    unescape: bool,
    token: Token,
    start: usize,
    end: usize,
    line: u32,
    line_start: usize,
    string: String,
}

/// Parses a text. With `unescape` strings are decoded and escapes that no text can hold are
/// refused; without, they are only checked.
pub fn parse(text: &str, unescape: bool) -> Result<Node> {
    let mut p = Parser {
        text,
        bytes: text.as_bytes(),
        unescape,
        token: Token::End,
        start: 0,
        end: 0,
        line: 1,
        line_start: 0,
        string: String::new(),
    };
    p.advance()?;
    let node = p.value(0)?;
    if p.token != Token::End {
        return Err(p.expected("Expected end of input, but found"));
    }
    Ok(node)
}

fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(PgError::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            ));
        }
        let start = self.start;
        let kind = match self.token {
            Token::ObjectStart => return self.object(depth),
            Token::ArrayStart => return self.array(depth),
            Token::Null => Kind::Null,
            Token::True => Kind::Bool(true),
            Token::False => Kind::Bool(false),
            Token::Number => Kind::Number,
            Token::String => Kind::String(std::mem::take(&mut self.string)),
            _ => return Err(self.expected("Expected JSON value, but found")),
        };
        let span = start..self.end;
        self.advance()?;
        Ok(Node { span, kind })
    }

    fn object(&mut self, depth: usize) -> Result<Node> {
        let start = self.start;
        let mut pairs = Vec::new();
        self.advance()?;
        match self.token {
            Token::ObjectEnd => {}
            Token::String => loop {
                if self.token != Token::String {
                    return Err(self.expected("Expected string, but found"));
                }
                let key = std::mem::take(&mut self.string);
                self.advance()?;
                if self.token != Token::Colon {
                    return Err(self.expected("Expected \":\", but found"));
                }
                self.advance()?;
                pairs.push((key, self.value(depth + 1)?));
                if self.token != Token::Comma {
                    break;
                }
                self.advance()?;
            },
            _ => return Err(self.expected("Expected string or \"}\", but found")),
        }
        if self.token != Token::ObjectEnd {
            return Err(self.expected("Expected \",\" or \"}\", but found"));
        }
        let span = start..self.end;
        self.advance()?;
        Ok(Node { span, kind: Kind::Object(pairs) })
    }

    fn array(&mut self, depth: usize) -> Result<Node> {
        let start = self.start;
        let mut items = Vec::new();
        self.advance()?;
        if self.token != Token::ArrayEnd {
            loop {
                items.push(self.value(depth + 1)?);
                if self.token != Token::Comma {
                    break;
                }
                self.advance()?;
            }
        }
        if self.token != Token::ArrayEnd {
            return Err(self.expected("Expected \",\" or \"]\", but found"));
        }
        let span = start..self.end;
        self.advance()?;
        Ok(Node { span, kind: Kind::Array(items) })
    }

    fn advance(&mut self) -> Result<()> {
        let mut at = self.end;
        while let Some(b @ (b' ' | b'\t' | b'\n' | b'\r')) = self.bytes.get(at) {
            at += 1;
            if *b == b'\n' {
                self.line += 1;
                self.line_start = at;
            }
        }
        self.start = at;
        self.end = at + 1;
        let Some(first) = self.bytes.get(at) else {
            self.end = at;
            self.token = Token::End;
            return Ok(());
        };
        self.token = match first {
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            b'-' => return self.number(at + 1),
            b'0'..=b'9' => return self.number(at),
            _ => return self.word(),
        };
        Ok(())
    }

    fn word(&mut self) -> Result<()> {
        let length = self.bytes[self.start..].iter().take_while(|b| word_byte(**b)).count();
        self.end = self.start + length.max(1);
        self.token = match &self.bytes[self.start..self.end] {
            b"true" => Token::True,
            b"false" => Token::False,
            b"null" => Token::Null,
            _ => {
                self.token = Token::Null;
                return Err(self.invalid_token());
            }
        };
        Ok(())
    }

    fn number(&mut self, from: usize) -> Result<()> {
        let digits = |at: usize| self.bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut at = from;
        let mut valid = true;
        match self.bytes.get(at) {
            Some(b'0') => at += 1,
            Some(b'1'..=b'9') => at += digits(at),
            _ => valid = false,
        }
        if valid && self.bytes.get(at) == Some(&b'.') {
            at += 1;
            let n = digits(at);
            valid = n > 0;
            at += n;
        }
        if valid && matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            let n = digits(at);
            valid = n > 0;
            at += n;
        }
        let garbage = self.bytes[at..].iter().take_while(|b| word_byte(**b)).count();
        self.end = at + garbage;
        self.token = Token::Number;
        if valid && garbage == 0 { Ok(()) } else { Err(self.invalid_token()) }
    }

    fn string(&mut self) -> Result<()> {
        self.token = Token::String;
        self.string.clear();
        let mut high: Option<u32> = None;
        let mut at = self.start + 1;
        let mut plain = at;
        loop {
            let Some(b) = self.bytes.get(at).copied() else {
                self.end = at;
                return Err(self.invalid_token());
            };
            if b != b'\\' && b != b'"' && b >= 0x20 {
                if high.is_some() {
                    return Err({
                        let end = at + self.char_len(at);
                        self.surrogate(LOW, end)
                    });
                }
                at += 1;
                continue;
            }
            self.string.push_str(&self.text[plain..at]);
            match b {
                b'"' => break,
                b'\\' => at = self.escape(at + 1, &mut high)?,
                _ => {
                    self.end = at;
                    let detail = format!("Character with value 0x{b:02x} must be escaped.");
                    return Err(self.error(detail));
                }
            }
            plain = at;
        }
        if high.is_some() {
            return Err(self.surrogate(LOW, at + 1));
        }
        self.end = at + 1;
        Ok(())
    }

    /// Reads the escape whose letter stands at `at`; returns where it ends.
    fn escape(&mut self, at: usize, high: &mut Option<u32>) -> Result<usize> {
        let Some(letter) = self.bytes.get(at) else {
            self.end = at;
            return Err(self.invalid_token());
        };
        if *letter == b'u' {
            let code = self.hex(at + 1)?;
            if self.unescape {
                self.code_unit(code, high, at + 5)?;
            }
            return Ok(at + 5);
        }
        if high.is_some() {
            return Err({
                let end = at + self.char_len(at);
                self.surrogate(LOW, end)
            });
        }
        self.string.push(match letter {
            b'"' | b'\\' | b'/' => char::from(*letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => {
                self.start = at;
                self.end = at + self.char_len(at);
                let detail =
                    format!("Escape sequence \"\\{}\" is invalid.", &self.text[at..self.end]);
                return Err(self.error(detail));
            }
        });
        Ok(at + 1)
    }

    fn hex(&mut self, from: usize) -> Result<u32> {
        let mut code = 0;
        for at in from..from + 4 {
            let Some(b) = self.bytes.get(at) else {
                self.end = at;
                return Err(self.invalid_token());
            };
            let Some(digit) = char::from(*b).to_digit(16) else {
                self.end = at + self.char_len(at);
                let detail = "\"\\u\" must be followed by four hexadecimal digits.";
                return Err(self.error(detail.to_owned()));
            };
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn code_unit(&mut self, code: u32, high: &mut Option<u32>, end: usize) -> Result<()> {
        let code = match (code, high.take()) {
            (0xd800..=0xdbff, None) => {
                *high = Some(code);
                return Ok(());
            }
            (0xd800..=0xdbff, Some(_)) => {
                return Err(self.surrogate(HIGH, end));
            }
            (0xdc00..=0xdfff, Some(first)) => 0x10000 + ((first & 0x3ff) << 10) + (code & 0x3ff),
            (0xdc00..=0xdfff, None) | (_, Some(_)) => {
                return Err(self.surrogate(LOW, end));
            }
            (0, None) => {
                self.end = end;
                let error = PgError::new(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                );
                return Err(self.with_context(error.detail("\\u0000 cannot be converted to text.")));
            }
            _ => code,
        };
        self.string.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(())
    }

    fn char_len(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8)
    }

    fn surrogate(&mut self, what: &str, end: usize) -> PgError {
        self.end = end;
        self.error(format!("Unicode {what}."))
    }

    fn invalid_token(&self) -> PgError {
        self.error(format!("Token \"{}\" is invalid.", self.shown(self.start, self.end)))
    }

    fn expected(&self, what: &str) -> PgError {
        if self.token == Token::End {
            return self.error("The input string ended unexpectedly.".to_owned());
        }
        self.error(format!("{what} \"{}\".", self.shown(self.start, self.end)))
    }

    fn error(&self, detail: String) -> PgError {
        let error = PgError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        );
        self.with_context(error.detail(detail))
    }

    fn shown(&self, start: usize, end: usize) -> String {
        String::from_utf8_lossy(&self.bytes[start..end]).into_owned()
    }

    /// The context line: up to 50 bytes of the line before the error.
    fn with_context(&self, mut error: PgError) -> PgError {
        let end = self.end;
        let mut start = self.line_start.min(end);
        while end - start >= 50 {
            start += self.char_len(start);
        }
        if start - self.line_start <= 3 {
            start = self.line_start;
        }
        let prefix = if start > self.line_start { "..." } else { "" };
        let more = self.token != Token::End
            && self.bytes.get(end).is_some_and(|b| *b != b'\n' && *b != b'\r');
        let suffix = if more { "..." } else { "" };
        let line = self.line;
        let shown = self.shown(start, end);
        error.fields_mut().context =
            Some(format!("JSON data, line {line}: {prefix}{shown}{suffix}"));
        error
    }
}
