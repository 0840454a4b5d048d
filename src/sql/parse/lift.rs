//! Texts that differ in their literals only: one shape, many values.
//!
//! A client of the simple protocol puts its values into the text, so no two texts are the same and
//! nothing could be kept from one to the next. [`lift`] takes integers and strings out of a text and
//! leaves `$1`, `$2` … : the shape, for which a plan can be kept. A lifted integer is an `int4`, as the
//! literal was; a lifted string is a parameter of open type, which the binder resolves as it resolves a
//! string literal.
//!
//! Only such literals are lifted whose place tells that a parameter means the same there. Where that
//! is not sure the answer is `None`, and the text is parsed and bound as it is: positions of columns
//! (`ORDER BY 1`), type modifiers, typed literals (`date '…'`), patterns. A shape that does not parse
//! or bind is not used either, so a wrong guess costs time and no more.

use std::borrow::Cow;

use smallvec::SmallVec;

/// Longer texts are no statements that come again and again.
const TEXT_BYTES_MAX: usize = 4096;
/// Above this the literals are data (an INSERT of many rows), and each number of rows is a shape.
const VALUES_MAX: usize = 32;

/// A literal that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal<'a> {
    /// An integer that fits `int4`.
    Int(i32),
    /// The content of a string.
    Text(Cow<'a, str>),
}

/// A text without its literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted<'a> {
    /// The text with `$n` for the n-th literal.
    pub shape: String,
    /// The literals.
    pub values: SmallVec<[Literal<'a>; 8]>,
}

/// What stands before a literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An operator, a comma or an opening bracket: a value follows.
    Value,
    /// A word after which a value follows.
    ValueWord,
    /// Anything else.
    Other,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Up to here the text has been copied.
    copied: usize,
    before: Before,
    /// After ORDER, GROUP or DISTINCT integers may name columns.
    ordinals: bool,
    out: Lifted<'a>,
}

/// Takes the literals out of a statement's text. `None` when there are none, or it cannot be told
/// whether the shape means the same, or a string literal would stay in it.
pub fn lift(text: &str) -> Option<Lifted<'_>> {
    if text.len() > TEXT_BYTES_MAX || !begins_like_a_query(text) {
        return None;
    }
    let out = Lifted { shape: String::with_capacity(text.len() + 16), values: SmallVec::new() };
    let before = Before::Other;
    let mut scanner = Scanner { text, at: 0, copied: 0, before, ordinals: false, out };
    while scanner.at < text.len() {
        scanner.token()?;
    }
    scanner.out.shape.push_str(&text[scanner.copied..]);
    (!scanner.out.values.is_empty()).then_some(scanner.out)
}

fn begins_like_a_query(text: &str) -> bool {
    let word = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    ["select", "insert", "update", "delete", "with"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Words that a value follows, whichever it is.
fn value_follows(word: &str) -> bool {
    const WORDS: [&str; 11] = [
        "and", "or", "not", "between", "when", "then", "else", "select", "where", "limit", "offset",
    ];
    WORDS.iter().any(|w| word.eq_ignore_ascii_case(w))
}

impl<'a> Scanner<'a> {
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Option<()> {
        match self.byte(self.at) {
            b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
            b'\'' => self.string()?,
            b'"' => {
                self.at += 2 + self.text[self.at + 1..].find('"')?;
                self.before = Before::Other;
            }
            b'0'..=b'9' => self.number()?,
            // Parameters, dollar quotes, comments, psql's leftovers, a second statement.
            b'$' | b'\\' | b'\0' => return None,
            b'-' if self.byte(self.at + 1) == b'-' => return None,
            b'/' if self.byte(self.at + 1) == b'*' => return None,
            b';' if !self.text[self.at + 1..].trim().is_empty() => return None,
            b')' | b']' | b';' => self.step(Before::Other),
            // `.5`, `a.b`, `a.*`
            b'.' if self.byte(self.at + 1).is_ascii_digit() => return None,
            b'.' => self.step(Before::Other),
            byte if is_word(byte) => self.word()?,
            _ => self.step(Before::Value),
        }
        Some(())
    }

    fn step(&mut self, before: Before) {
        self.at += 1;
        self.before = before;
    }

    fn word(&mut self) -> Option<()> {
        let end = self.end_of_word();
        let word = &self.text[self.at..end];
        // `E'…'`, `B'…'`, `U&'…'`, `date'…'`
        if self.byte(end) == b'\'' || (self.byte(end) == b'&' && self.byte(end + 1) == b'\'') {
            return None;
        }
        let ordinals = ["order", "group", "distinct"];
        self.ordinals |= ordinals.iter().any(|w| word.eq_ignore_ascii_case(w));
        self.before = if value_follows(word) { Before::ValueWord } else { Before::Other };
        self.at = end;
        Some(())
    }

    fn end_of_word(&self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        self.at + rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len())
    }

    fn number(&mut self) -> Option<()> {
        let end = self.end_of_word();
        let digits = &self.text[self.at..end];
        if self.byte(end) == b'.' || !digits.bytes().all(|b| b.is_ascii_digit()) {
            // A numeric: it stays, with its fraction and exponent.
            let rest = &self.text.as_bytes()[end..];
            let more = rest.iter().position(|b| !is_word(*b) && *b != b'.').unwrap_or(rest.len());
            self.at = end + more;
            let exponent = matches!(self.byte(self.at - 1), b'e' | b'E');
            if exponent && matches!(self.byte(self.at), b'+' | b'-') {
                return None;
            }
            self.before = Before::Other;
            return Some(());
        }
        match digits.parse::<i32>() {
            Ok(value) if self.before != Before::Other && !self.ordinals => {
                self.give(end, Literal::Int(value))
            }
            _ => {
                self.at = end;
                self.before = Before::Other;
                Some(())
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        // `date '…'`, `interval '…'`, `LIKE '…'`, and a string that is continued on the next line.
        if self.before == Before::Other || self.ordinals {
            return None;
        }
        let start = self.at + 1;
        let mut end = start;
        let mut quotes = false;
        loop {
            end += self.text[end..].find('\'')?;
            if self.byte(end + 1) != b'\'' {
                break;
            }
            quotes = true;
            end += 2;
        }
        let content = &self.text[start..end];
        let content =
            if quotes { Cow::Owned(content.replace("''", "'")) } else { Cow::Borrowed(content) };
        self.give(end + 1, Literal::Text(content))
    }

    /// Puts a parameter in the place of the literal that ends at `end`.
    fn give(&mut self, end: usize, value: Literal<'a>) -> Option<()> {
        use std::fmt::Write as _;
        if self.out.values.len() == VALUES_MAX {
            return None;
        }
        self.out.values.push(value);
        self.out.shape.push_str(&self.text[self.copied..self.at]);
        // Writing to a string cannot fail.
        let _ = write!(self.out.shape, "${}", self.out.values.len());
        (self.at, self.copied) = (end, end);
        self.before = Before::Other;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Option<String> {
        lift(text).map(|lifted| lifted.shape)
    }

    #[test]
    fn values_become_parameters() {
        let text = "SELECT a, 'it''s' FROM t1 WHERE b = 5 AND c IN (-7, 8) LIMIT 3;";
        let lifted = lift(text).expect("it has literals");
        let shape = "SELECT a, $1 FROM t1 WHERE b = $2 AND c IN (-$3, $4) LIMIT $5;";
        assert_eq!(lifted.shape, shape);
        let text = |s: &'static str| Literal::Text(Cow::Borrowed(s));
        let int = Literal::Int;
        assert_eq!(lifted.values[..], [text("it's"), int(5), int(7), int(8), int(3)]);
        assert_eq!(
            shape_of_insert().as_deref(),
            Some("insert into h values ($1, $2, CURRENT_TIMESTAMP)")
        );
    }

    fn shape_of_insert() -> Option<String> {
        shape("insert into h values (1, 2, CURRENT_TIMESTAMP)")
    }

    #[test]
    fn what_is_no_value_stays() {
        // Positions of columns, numerics, numbers beyond int4.
        let text = "SELECT 1.5, 9999999999, 1e5, x FROM t WHERE a = 1 ORDER BY 2, 1 LIMIT 5";
        let left = "SELECT 1.5, 9999999999, 1e5, x FROM t WHERE a = $1 ORDER BY 2, 1 LIMIT 5";
        assert_eq!(shape(text).as_deref(), Some(left));
        for text in [
            "SELECT date '2020-01-01', 1",
            "SELECT 1 WHERE a LIKE 'x%'",
            "SELECT E'\\n', 1",
            "SELECT 1 WHERE a = $1",
            "SELECT $$x$$, 1",
            "SELECT 1; SELECT 2",
            "SELECT 1 -- one",
            "SELECT 1, 1e-5",
            "SELECT 1 ORDER BY 'a'",
            "SELECT 'a'\n'b', 1",
            "SELECT 'open, 1",
            "SELECT \"open, 1",
            "SELECT a FROM t",
            "BEGIN",
            "VACUUM 1",
            "",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }
}
