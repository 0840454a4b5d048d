//! PostgreSQL's lexical rules.
//!
//! Turns text into sqlparser's tokens. Every token is on line 1 and its column is the one-based
//! *character* offset in the whole text, which is what PostgreSQL reports as an error position.
//! Unquoted identifiers are folded to lower case here and nowhere else; all string syntaxes
//! (`E''`, `U&''`, `$$`, literals continued on another line) are decoded here and arrive as plain
//! single-quoted strings. White space and comments are dropped.

use meridian_types::{PgError, Result, SqlState};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::operators;

/// Identifiers are cut to this many bytes.
pub(crate) const NAME_MAX: usize = 63;

/// The lexer's state: the text as characters and where it is.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Byte offset.
    at: usize,
    /// Character offset.
    chars: u64,
}

/// One token and the bytes that it came from.
#[derive(Clone, Debug)]
pub(crate) struct Lexed {
    pub(crate) token: TokenWithSpan,
    /// Byte range in the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// All tokens of `text`.
pub(crate) fn lex(text: &str) -> Result<Vec<Lexed>> {
    let mut lexer = Lexer { text, at: 0, chars: 0 };
    let mut out = Vec::with_capacity(text.len() / 4 + 4);
    while let Some(token) = lexer.next_token()? {
        out.push(token);
    }
    Ok(out)
}

/// A syntax error at this byte range of the text.
pub(crate) fn error_near(text: &str, start: usize, near: &str) -> PgError {
    let message = format!("syntax error at or near \"{near}\"");
    PgError::new(SqlState::SYNTAX_ERROR, message).at(position_of(text, start))
}

/// One-based character position of a byte offset.
pub(crate) fn position_of(text: &str, byte: usize) -> Option<u32> {
    let chars = text.get(..byte).unwrap_or(text).chars().count() + 1;
    u32::try_from(chars).ok()
}

fn is_ident_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_ident_part(c: char) -> bool {
    is_ident_start(c) || c.is_ascii_digit() || c == '$'
}

fn is_operator_char(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

/// Cuts a name as PostgreSQL does, at a character boundary.
pub(crate) fn truncate_name(mut name: String) -> String {
    if name.len() > NAME_MAX {
        let mut end = NAME_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_at(&self, n: usize) -> Option<char> {
        self.rest().chars().nth(n)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.chars += 1;
        Some(c)
    }

    fn bump_n(&mut self, n: usize) {
        for _ in 0..n {
            self.bump();
        }
    }

    /// An error such as `unterminated quoted string at or near "'abc"`.
    fn error(&self, message: &str, start: usize) -> PgError {
        let near = &self.text[start..];
        let text = format!("{message} at or near \"{near}\"");
        PgError::new(SqlState::SYNTAX_ERROR, text).at(position_of(self.text, start))
    }

    /// Skips white space and comments; true when a line break was among them.
    fn skip_space(&mut self) -> Result<bool> {
        let mut newline = false;
        loop {
            let Some(c) = self.peek() else { return Ok(newline) };
            if matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\x0b') {
                newline |= matches!(c, '\n' | '\r');
                self.bump();
            } else if self.rest().starts_with("--") {
                while let Some(c) = self.peek() {
                    if matches!(c, '\n' | '\r') {
                        break;
                    }
                    self.bump();
                }
            } else if self.rest().starts_with("/*") {
                self.skip_block_comment()?;
            } else {
                return Ok(newline);
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<()> {
        let start = self.at;
        let mut depth = 0u32;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.bump_n(2);
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.bump_n(2);
                if depth == 0 {
                    return Ok(());
                }
            } else if self.bump().is_none() {
                return Err(self.error("unterminated /* comment", start));
            }
        }
    }

    fn next_token(&mut self) -> Result<Option<Lexed>> {
        self.skip_space()?;
        let (start, first) = (self.at, self.chars);
        let Some(c) = self.peek() else { return Ok(None) };
        let token = match c {
            '\'' => self.plain_string(start)?,
            '"' => self.quoted_identifier(start)?,
            '$' => self.dollar(start)?,
            '0'..='9' => self.number(start)?,
            '.' if self.peek_at(1).is_some_and(|c| c.is_ascii_digit()) => self.number(start)?,
            _ if is_ident_start(c) => self.word_or_prefixed(start)?,
            _ if is_operator_char(c) => self.operator(start)?,
            _ => self.punctuation(start)?,
        };
        let span = Span { start: location(first), end: location(self.chars) };
        Ok(Some(Lexed { token: TokenWithSpan { token, span }, start, end: self.at }))
    }

    fn punctuation(&mut self, start: usize) -> Result<Token> {
        let c = self.bump().expect("the caller peeked at it");
        let next = self.peek();
        let (token, more) = match (c, next) {
            (':', Some(':')) => (Token::DoubleColon, 1),
            (':', Some('=')) => (Token::Assignment, 1),
            (':', _) => (Token::Colon, 0),
            ('.', Some('.')) => {
                return Err(error_near(self.text, start, ".."));
            }
            ('.', _) => (Token::Period, 0),
            (',', _) => (Token::Comma, 0),
            (';', _) => (Token::SemiColon, 0),
            ('(', _) => (Token::LParen, 0),
            (')', _) => (Token::RParen, 0),
            ('[', _) => (Token::LBracket, 0),
            (']', _) => (Token::RBracket, 0),
            (c, _) => return Err(error_near(self.text, start, &c.to_string())),
        };
        self.bump_n(more);
        Ok(token)
    }

    fn operator(&mut self, start: usize) -> Result<Token> {
        let rest = self.rest();
        let mut len = rest.find(|c| !is_operator_char(c)).unwrap_or(rest.len());
        // A comment ends an operator.
        for comment in ["--", "/*"] {
            if let Some(i) = rest[..len].find(comment) {
                len = len.min(i);
            }
        }
        // A trailing + or - belongs to the operator only when it has one of these characters.
        let has_special = rest[..len].contains(|c| "~!@#%^&|`?".contains(c));
        if !has_special {
            while len > 1 && rest[..len].ends_with(['+', '-']) {
                len -= 1;
            }
        }
        if rest[..len].starts_with("=>") && len == 2 {
            self.bump_n(2);
            return Ok(Token::RArrow);
        }
        let text = rest[..len].to_owned();
        if len > NAME_MAX {
            return Err(self.error("operator too long", start));
        }
        self.bump_n(len);
        Ok(operators::token(&text))
    }

    fn number(&mut self, start: usize) -> Result<Token> {
        let digits = |l: &mut Self| {
            while l.peek().is_some_and(|c| c.is_ascii_digit()) {
                l.bump();
            }
        };
        digits(self);
        if self.peek() == Some('.') && self.peek_at(1) != Some('.') {
            self.bump();
            digits(self);
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek_at(1), Some('+' | '-')));
            if self.peek_at(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                self.bump_n(1 + sign);
                digits(self);
            }
        }
        if self.peek().is_some_and(is_ident_start) {
            let end = self.at + self.peek().map_or(0, char::len_utf8);
            let text = &self.text[start..end];
            let message = format!("trailing junk after numeric literal at or near \"{text}\"");
            let error = PgError::new(SqlState::SYNTAX_ERROR, message);
            return Err(error.at(position_of(self.text, start)));
        }
        Ok(Token::Number(self.text[start..self.at].to_owned(), false))
    }

    fn word_or_prefixed(&mut self, start: usize) -> Result<Token> {
        let c = self.peek().expect("the caller peeked at it");
        match (c, self.peek_at(1), self.peek_at(2)) {
            ('e' | 'E', Some('\''), _) => {
                self.bump();
                return self.escape_string(start);
            }
            ('n' | 'N', Some('\''), _) => {
                self.bump();
                let Token::SingleQuotedString(s) = self.plain_string(start)? else {
                    unreachable!("plain_string makes only these")
                };
                return Ok(Token::NationalStringLiteral(s));
            }
            ('b' | 'B' | 'x' | 'X', Some('\''), _) => {
                self.bump();
                let Token::SingleQuotedString(s) = self.plain_string(start)? else {
                    unreachable!("plain_string makes only these")
                };
                let hex = c.eq_ignore_ascii_case(&'x');
                return Ok(match hex {
                    true => Token::HexStringLiteral(s),
                    false => Token::SingleQuotedByteStringLiteral(s),
                });
            }
            ('u' | 'U', Some('&'), Some('\'')) => {
                self.bump_n(2);
                let Token::SingleQuotedString(s) = self.plain_string(start)? else {
                    unreachable!("plain_string makes only these")
                };
                return Ok(Token::SingleQuotedString(self.unicode(&s, start)?));
            }
            ('u' | 'U', Some('&'), Some('"')) => {
                self.bump_n(2);
                let name = self.quoted(start, '"', "quoted identifier")?;
                let name = truncate_name(self.unicode(&name, start)?);
                return Ok(Token::make_word(&name, Some('"')));
            }
            _ => {}
        }
        while self.peek().is_some_and(is_ident_part) {
            self.bump();
        }
        let mut name = self.text[start..self.at].to_owned();
        name.make_ascii_lowercase();
        Ok(Token::make_word(&truncate_name(name), None))
    }

    fn quoted_identifier(&mut self, start: usize) -> Result<Token> {
        let name = self.quoted(start, '"', "quoted identifier")?;
        if name.is_empty() {
            return Err(self.error_of("zero-length delimited identifier", start));
        }
        Ok(Token::make_word(&truncate_name(name), Some('"')))
    }

    fn error_of(&self, message: &str, start: usize) -> PgError {
        let text = format!("{message} at or near \"{}\"", &self.text[start..self.at]);
        PgError::new(SqlState::SYNTAX_ERROR, text).at(position_of(self.text, start))
    }

    /// The body of a quoted thing, with doubled quotes undone.
    fn quoted(&mut self, start: usize, quote: char, what: &str) -> Result<String> {
        self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return Err(self.error(&format!("unterminated {what}"), start)),
                Some(c) if c == quote => {
                    if self.peek() != Some(quote) {
                        return Ok(out);
                    }
                    self.bump();
                    out.push(quote);
                }
                Some(c) => out.push(c),
            }
        }
    }

    /// A string, and those that continue it after white space with a line break.
    fn plain_string(&mut self, start: usize) -> Result<Token> {
        let mut out = self.quoted(start, '\'', "quoted string")?;
        while self.continues()? {
            out.push_str(&self.quoted(start, '\'', "quoted string")?);
        }
        Ok(Token::SingleQuotedString(out))
    }

    /// Stands at the opening quote of a continuation.
    fn continues(&mut self) -> Result<bool> {
        let (at, chars) = (self.at, self.chars);
        if self.skip_space()? && self.peek() == Some('\'') {
            return Ok(true);
        }
        (self.at, self.chars) = (at, chars);
        Ok(false)
    }

    fn escape_string(&mut self, start: usize) -> Result<Token> {
        let mut out = String::new();
        loop {
            self.bump();
            self.escape_body(start, &mut out)?;
            if !self.continues()? {
                return Ok(Token::SingleQuotedString(out));
            }
        }
    }

    fn escape_body(&mut self, start: usize, out: &mut String) -> Result<()> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let Some(c) = self.bump() else {
                return Err(self.error("unterminated quoted string", start));
            };
            match c {
                '\'' if self.peek() != Some('\'') => break,
                '\'' => {
                    self.bump();
                    bytes.push(b'\'');
                }
                '\\' => self.escape(start, &mut bytes)?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        match String::from_utf8(bytes) {
            Ok(s) if !s.contains('\0') => out.push_str(&s),
            Ok(_) => return Err(invalid_encoding(&[0])),
            Err(e) => {
                let bad = e.utf8_error().valid_up_to();
                let bytes = e.into_bytes();
                let end = (bad + 1).min(bytes.len());
                return Err(invalid_encoding(&bytes[bad..end]));
            }
        }
        Ok(())
    }

    /// The characters after a backslash.
    fn escape(&mut self, start: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let Some(c) = self.bump() else {
            return Err(self.error("unterminated quoted string", start));
        };
        match c {
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(d) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + d;
                    self.bump();
                }
                bytes.push((value & 0xff) as u8);
            }
            'x' if self.peek().is_some_and(|c| c.is_ascii_hexdigit()) => {
                let mut value = 0;
                for _ in 0..2 {
                    let Some(d) = self.peek().and_then(|c| c.to_digit(16)) else { break };
                    value = value * 16 + d;
                    self.bump();
                }
                bytes.push((value & 0xff) as u8);
            }
            'u' | 'U' => self.escape_unicode(c, bytes)?,
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        Ok(())
    }

    fn escape_unicode(&mut self, kind: char, bytes: &mut Vec<u8>) -> Result<()> {
        let at = self.at - 2;
        let mut value = self.hex(if kind == 'u' { 4 } else { 8 }, at)?;
        if (0xD800..0xDC00).contains(&value) {
            let low = match (self.peek(), self.peek_at(1)) {
                (Some('\\'), Some('u')) => {
                    self.bump_n(2);
                    self.hex(4, at)?
                }
                _ => 0,
            };
            if !(0xDC00..0xE000).contains(&low) {
                return Err(self.error_of("invalid Unicode surrogate pair", at));
            }
            value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        }
        let Some(c) = char::from_u32(value).filter(|c| *c != '\0') else {
            return Err(self.error_of("invalid Unicode escape value", at));
        };
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex(&mut self, digits: usize, at: usize) -> Result<u32> {
        let mut value = 0u32;
        for _ in 0..digits {
            let Some(d) = self.peek().and_then(|c| c.to_digit(16)) else {
                return Err(PgError::new(
                    SqlState::INVALID_ESCAPE_SEQUENCE,
                    "invalid Unicode escape",
                )
                .hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.")
                .at(position_of(self.text, at)));
            };
            value = (value << 4) | d;
            self.bump();
        }
        Ok(value)
    }

    /// Undoes the escapes of `U&''`, with the character of a following UESCAPE.
    fn unicode(&mut self, body: &str, start: usize) -> Result<String> {
        let mut escape = '\\';
        let (at, chars) = (self.at, self.chars);
        self.skip_space()?;
        if self.rest().get(..7).is_some_and(|w| w.eq_ignore_ascii_case("uescape")) {
            self.bump_n(7);
            self.skip_space()?;
            let quoted_at = self.at;
            if self.peek() != Some('\'') {
                let message = "UESCAPE must be followed by a simple string literal";
                return Err(self.error(message, quoted_at));
            }
            let text = self.quoted(quoted_at, '\'', "quoted string")?;
            let mut it = text.chars();
            escape = match (it.next(), it.next()) {
                (Some(c), None) if !c.is_ascii_hexdigit() && !"+'\" ".contains(c) => c,
                _ => return Err(self.error_of("invalid Unicode escape character", quoted_at)),
            };
        } else {
            (self.at, self.chars) = (at, chars);
        }
        decode_unicode(body, escape).ok_or_else(|| {
            PgError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
                .hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
                .at(position_of(self.text, start))
        })
    }

    /// `$1`, `$$…$$` or `$tag$…$tag$`.
    fn dollar(&mut self, start: usize) -> Result<Token> {
        let rest = self.rest();
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
        if digits > 0 {
            let text = rest[..=digits].to_owned();
            self.bump_n(digits + 1);
            if self.peek().is_some_and(is_ident_start) {
                let message = "trailing junk after parameter";
                return Err(self.error_of(message, start));
            }
            return Ok(Token::Placeholder(text));
        }
        let tag_len = rest[1..]
            .find(|c: char| c == '$' || !is_ident_part(c))
            .filter(|i| rest[1 + i..].starts_with('$'));
        let Some(tag_len) = tag_len else {
            return Err(error_near(self.text, start, "$"));
        };
        let delimiter = rest[..tag_len + 2].to_owned();
        self.bump_n(delimiter.chars().count());
        let Some(len) = self.rest().find(&delimiter) else {
            return Err(self.error("unterminated dollar-quoted string", start));
        };
        let body = self.rest()[..len].to_owned();
        self.bump_n(body.chars().count() + delimiter.chars().count());
        Ok(Token::SingleQuotedString(body))
    }
}

fn location(chars: u64) -> Location {
    Location { line: 1, column: chars + 1 }
}

fn invalid_encoding(bytes: &[u8]) -> PgError {
    let hex: Vec<String> = bytes.iter().map(|b| format!("0x{b:02x}")).collect();
    let text = format!("invalid byte sequence for encoding \"UTF8\": {}", hex.join(" "));
    PgError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, text)
}

fn decode_unicode(body: &str, escape: char) -> Option<String> {
    let mut out = String::new();
    let chars: Vec<char> = body.chars().collect();
    let mut i = 0;
    let hex = |from: usize, n: usize| -> Option<u32> {
        let digits: String = chars.get(from..from + n)?.iter().collect();
        u32::from_str_radix(&digits, 16).ok()
    };
    while i < chars.len() {
        if chars[i] != escape {
            out.push(chars[i]);
            i += 1;
        } else if chars.get(i + 1) == Some(&escape) {
            out.push(escape);
            i += 2;
        } else {
            let (mut value, used) = match chars.get(i + 1) {
                Some('+') => (hex(i + 2, 6)?, 8),
                _ => (hex(i + 1, 4)?, 5),
            };
            i += used;
            if (0xD800..0xDC00).contains(&value) && chars.get(i) == Some(&escape) {
                let low = hex(i + 1, 4)?;
                value = 0x10000 + ((value - 0xD800) << 10) + low.checked_sub(0xDC00)?;
                i += 5;
            }
            out.push(char::from_u32(value)?);
        }
    }
    Some(out)
}
