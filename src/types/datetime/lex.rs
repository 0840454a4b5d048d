//! Splits date and time input into fields, before anything is known of their meaning.
//!
//! `1997-02-10 17:32:01-08` becomes a date, a time and a zone; `Feb 10, 1997` a word and two
//! numbers. Letters come out in lower case. Punctuation between fields is skipped.

/// The shape of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Digits, with a point perhaps.
    Number,
    /// Parts joined by `-`, `/` or `.`; zone names with punctuation look the same.
    Date,
    /// Has a colon.
    Time,
    /// A sign and digits.
    Zone,
    /// Letters.
    Word,
    /// A sign and letters.
    Special,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) text: String,
}

const MAX_FIELDS: usize = 25;
const MAX_LENGTH: usize = 128 + MAX_FIELDS;

struct Lexer<'a> {
    bytes: &'a [u8],
    pos: usize,
    text: String,
}

impl Lexer<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.pos).copied().unwrap_or(0)
    }

    fn take(&mut self) {
        self.text.push(char::from(self.bytes[self.pos].to_ascii_lowercase()));
        self.pos += 1;
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.pos < self.bytes.len() && keep(self.bytes[self.pos]) {
            self.take();
        }
    }

    fn digits(&mut self) -> Shape {
        self.take_while(|b| b.is_ascii_digit());
        match self.peek() {
            b':' => {
                self.take_while(|b| b.is_ascii_digit() || b == b':' || b == b'.');
                Shape::Time
            }
            delim @ (b'-' | b'/' | b'.') => {
                self.take();
                if !self.peek().is_ascii_digit() {
                    self.take_while(|b| b.is_ascii_alphanumeric() || b == delim);
                    return Shape::Date;
                }
                self.take_while(|b| b.is_ascii_digit());
                if self.peek() == delim {
                    self.take_while(|b| b.is_ascii_digit() || b == delim);
                    return Shape::Date;
                }
                if delim == b'.' { Shape::Number } else { Shape::Date }
            }
            _ => Shape::Number,
        }
    }

    fn letters(&mut self) -> Shape {
        self.take_while(|b| b.is_ascii_alphabetic());
        let is_date = match self.peek() {
            b'-' | b'/' | b'.' => true,
            b'+' | b'0'..=b'9' => super::words::date_word(&self.text).is_none(),
            _ => false,
        };
        if !is_date {
            return Shape::Word;
        }
        self.take_while(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'/' | b'_' | b'.' | b':')
        });
        Shape::Date
    }

    fn signed(&mut self) -> Option<Shape> {
        self.take();
        while self.peek().is_ascii_whitespace() || self.peek() == 0x0b {
            self.pos += 1;
        }
        if self.peek().is_ascii_digit() {
            self.take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-'));
            Some(Shape::Zone)
        } else if self.peek().is_ascii_alphabetic() {
            self.take_while(|b| b.is_ascii_alphabetic());
            Some(Shape::Special)
        } else {
            None
        }
    }
}

/// The fields of an input, or `None` when it cannot be split.
pub(super) fn split(input: &str) -> Option<Vec<Field>> {
    let mut lexer = Lexer { bytes: input.as_bytes(), pos: 0, text: String::new() };
    let mut fields = Vec::new();
    let mut length = 0;
    while lexer.pos < lexer.bytes.len() {
        let shape = match lexer.peek() {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                lexer.pos += 1;
                continue;
            }
            b'0'..=b'9' => lexer.digits(),
            b'.' => {
                lexer.take();
                lexer.take_while(|b| b.is_ascii_digit());
                Shape::Number
            }
            b if b.is_ascii_alphabetic() => lexer.letters(),
            b'+' | b'-' => lexer.signed()?,
            b if b.is_ascii_punctuation() => {
                lexer.pos += 1;
                continue;
            }
            _ => return None,
        };
        length += lexer.text.len() + 1;
        if fields.len() >= MAX_FIELDS || length > MAX_LENGTH {
            return None;
        }
        fields.push(Field { shape, text: std::mem::take(&mut lexer.text) });
    }
    Some(fields)
}
