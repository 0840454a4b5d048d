//! Number templates of `to_char` and `to_number`, and `to_char` itself.
//!
//! A template is described once ([`Template::parse`]): how many digits before and after the point,
//! where zeros start, which signs. Writing then walks over the template and the digits together.

use super::formatting_template::{Case, ordinal};
use crate::{PgError, Result, SqlState};

/// A piece of a number template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Nine,
    Zero,
    Point,
    LocalPoint,
    Comma,
    Group,
    Currency,
    Minus,
    Plus,
    Sign,
    Roman(Case),
    Ordinal(Case),
    /// A modifier that writes nothing itself.
    Silent,
    Literal(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignPlace {
    None,
    Before,
    After,
}

/// A parsed template.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) pieces: Vec<Piece>,
    pub(super) pre: usize,
    pub(super) post: usize,
    pub(super) multi: usize,
    pub(super) sign_place: SignPlace,
    sign_at: usize,
    zero: bool,
    zero_start: usize,
    zero_end: usize,
    pub(super) decimal: bool,
    pub(super) fill: bool,
    blank: bool,
    pub(super) shifts: bool,
    pub(super) bracket: bool,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) local_sign: bool,
    pub(super) roman: bool,
    pub(super) scientific: bool,
}

fn syntax(text: &str) -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, text)
}

const TOKENS: &[&str] = &[
    "EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "SP", "TH", "th", "rn", ",", ".", "0", "9", "B",
    "C", "D", "G", "L", "S", "V",
];

/// The token at the start of a text; letters may be in either case, but not mixed.
fn token_at(text: &str) -> Option<&'static str> {
    let lower = |token: &str| token.to_ascii_lowercase();
    TOKENS
        .iter()
        .find(|t| text.starts_with(**t))
        .or_else(|| TOKENS.iter().find(|t| text.starts_with(&lower(t))))
        .copied()
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Template> {
        let mut t = Template {
            pieces: Vec::new(),
            pre: 0,
            post: 0,
            multi: 0,
            sign_place: SignPlace::None,
            sign_at: 0,
            zero: false,
            zero_start: 0,
            zero_end: 0,
            decimal: false,
            fill: false,
            blank: false,
            shifts: false,
            bracket: false,
            minus: false,
            plus: false,
            local_sign: false,
            roman: false,
            scientific: false,
        };
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(token) = token_at(rest) {
                let piece = t.token(token)?;
                t.pieces.push(piece);
                rest = &rest[token.len()..];
                continue;
            }
            let mut chars = rest.chars();
            match chars.next() {
                Some('"') => {
                    while let Some(mut c) = chars.next() {
                        if c == '"' {
                            break;
                        }
                        if c == '\\' {
                            c = chars.next().unwrap_or(c);
                        }
                        t.pieces.push(Piece::Literal(c));
                    }
                }
                Some('\\') if rest[1..].starts_with('"') => {
                    chars.next();
                    t.pieces.push(Piece::Literal('"'));
                }
                Some(c) => t.pieces.push(Piece::Literal(c)),
                None => {}
            }
            rest = chars.as_str();
        }
        t.zero_start = t.zero_start.saturating_sub(1);
        Ok(t)
    }

    fn token(&mut self, token: &str) -> Result<Piece> {
        if self.scientific && token != "EEEE" {
            return Err(syntax("\"EEEE\" must be the last pattern used"));
        }
        Ok(match token {
            "9" => {
                if self.bracket {
                    return Err(syntax("\"9\" must be ahead of \"PR\""));
                }
                if self.shifts {
                    self.multi += 1;
                } else if self.decimal {
                    self.post += 1;
                } else {
                    self.pre += 1;
                }
                Piece::Nine
            }
            "0" => self.zero_digit()?,
            "." | "D" => {
                if self.decimal {
                    return Err(syntax("multiple decimal points"));
                }
                if self.shifts {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.decimal = true;
                if token == "." { Piece::Point } else { Piece::LocalPoint }
            }
            "," => Piece::Comma,
            "G" => Piece::Group,
            "L" => Piece::Currency,
            "TH" => Piece::Ordinal(Case::Upper),
            "th" => Piece::Ordinal(Case::Lower),
            "RN" | "rn" => {
                self.roman = true;
                Piece::Roman(if token == "RN" { Case::Upper } else { Case::Lower })
            }
            "FM" => {
                self.fill = true;
                Piece::Silent
            }
            "B" => {
                self.blank |= self.pre == 0 && self.post == 0 && !self.zero;
                Piece::Silent
            }
            "V" => {
                if self.decimal {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.shifts = true;
                Piece::Silent
            }
            "EEEE" => self.exponent()?,
            "S" | "MI" | "PL" | "SG" | "PR" => self.sign(token)?,
            _ => Piece::Silent,
        })
    }

    fn zero_digit(&mut self) -> Result<Piece> {
        if self.bracket {
            return Err(syntax("\"0\" must be ahead of \"PR\""));
        }
        if !self.zero && !self.decimal {
            self.zero = true;
            self.zero_start = self.pre + 1;
        }
        if self.decimal {
            self.post += 1;
        } else {
            self.pre += 1;
        }
        self.zero_end = self.pre + self.post;
        Ok(Piece::Zero)
    }

    fn exponent(&mut self) -> Result<Piece> {
        if self.scientific {
            return Err(syntax("cannot use \"EEEE\" twice"));
        }
        let mixed = self.blank
            || self.fill
            || self.local_sign
            || self.bracket
            || self.minus
            || self.plus
            || self.roman
            || self.shifts;
        if mixed {
            return Err(syntax("\"EEEE\" is incompatible with other formats").detail(
                "\"EEEE\" may only be used together with digit and decimal point patterns.",
            ));
        }
        self.scientific = true;
        Ok(Piece::Silent)
    }

    fn sign(&mut self, token: &str) -> Result<Piece> {
        let other = self.minus || self.plus || self.bracket;
        match token {
            "S" => {
                if self.local_sign {
                    return Err(syntax("cannot use \"S\" twice"));
                }
                if other {
                    return Err(syntax(
                        "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together",
                    ));
                }
                self.local_sign = true;
                self.sign_place = if self.decimal { SignPlace::After } else { SignPlace::Before };
                self.sign_at = self.pre;
                Ok(Piece::Silent)
            }
            "PR" => {
                if self.local_sign || self.minus || self.plus {
                    return Err(syntax(
                        "cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together",
                    ));
                }
                self.bracket = true;
                Ok(Piece::Silent)
            }
            _ if self.local_sign => {
                Err(syntax(&format!("cannot use \"S\" and \"{token}\" together")))
            }
            "MI" => {
                self.minus = true;
                Ok(Piece::Minus)
            }
            "PL" => {
                self.plus = true;
                Ok(Piece::Plus)
            }
            _ => {
                (self.minus, self.plus) = (true, true);
                Ok(Piece::Sign)
            }
        }
    }
}

/// Writes digits by a template. `digits` is a plain decimal without a sign.
pub(super) fn write(template: &Template, digits: &str, negative: bool) -> String {
    let mut t = template.clone();
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut shown = digits.to_owned();
    let mut blanks = 0;
    if whole < t.pre {
        blanks = t.pre - whole;
    } else if whole > t.pre && !t.roman {
        shown = "#".repeat(t.pre) + "." + &"#".repeat(t.post);
    }
    if t.roman {
        let fill = t.fill;
        t = Template { fill, ..Template::parse("").unwrap_or(t.clone()) };
        t.pieces.clone_from(&template.pieces);
        t.roman = true;
        blanks = 0;
    }
    Writer::new(&t, &shown, blanks, negative && !template.roman).run()
}

struct Writer<'a> {
    t: &'a Template,
    digits: &'a [u8],
    at: usize,
    blanks: usize,
    negative: bool,
    sign_done: bool,
    bracket: bool,
    sign_place: SignPlace,
    count: usize,
    position: usize,
    /// Last digit after the point that `FM` must show.
    last_relevant: Option<usize>,
    wrote_digit: bool,
    out: String,
}

impl<'a> Writer<'a> {
    fn new(t: &'a Template, digits: &'a str, blanks: usize, negative: bool) -> Writer<'a> {
        let bytes = digits.as_bytes();
        let sign_done =
            if t.plus || t.minus { t.minus } else { !negative && t.fill && !t.local_sign };
        let place = match t.sign_place {
            SignPlace::Before if t.pre == t.sign_at => SignPlace::After,
            place => place,
        };
        let mut w = Writer {
            t,
            digits: bytes,
            at: 0,
            blanks,
            negative,
            sign_done,
            bracket: t.bracket && (negative || !t.fill),
            sign_place: place,
            count: (t.post + t.pre).saturating_sub(1),
            position: 0,
            last_relevant: None,
            wrote_digit: false,
            out: String::new(),
        };
        if t.fill && t.decimal {
            w.last_relevant = last_relevant(bytes).map(|last| {
                if t.zero_end > blanks {
                    last.max((bytes.len() - 1).min(t.zero_end - blanks))
                } else {
                    last
                }
            });
        }
        if !w.sign_done && blanks == 0 {
            w.count += 1;
        }
        w
    }

    fn run(mut self) -> String {
        for piece in &self.t.pieces {
            match piece {
                Piece::Nine | Piece::Zero | Piece::Point | Piece::LocalPoint => {
                    self.digit(*piece);
                }
                Piece::Comma | Piece::Group => match (self.wrote_digit, self.t.fill) {
                    (true, _) => self.out.push(','),
                    (false, true) => {}
                    (false, false) => self.out.push(' '),
                },
                Piece::Currency => self.out.push(' '),
                Piece::Minus => self.shown_if(self.negative, '-'),
                Piece::Plus => self.shown_if(!self.negative, '+'),
                Piece::Sign => self.out.push(if self.negative { '-' } else { '+' }),
                Piece::Roman(case) => self.roman(*case),
                Piece::Ordinal(case) => {
                    let overflow = self.digits.first() == Some(&b'#');
                    if !(self.t.roman || overflow || self.negative || self.t.decimal) {
                        let text = String::from_utf8_lossy(self.digits).into_owned();
                        self.out.push_str(ordinal(&text, *case));
                    }
                }
                Piece::Silent => {}
                Piece::Literal(c) => self.out.push(*c),
            }
        }
        self.out
    }

    fn shown_if(&mut self, condition: bool, sign: char) {
        if condition {
            self.out.push(sign);
        } else if !self.t.fill {
            self.out.push(' ');
        }
    }

    fn roman(&mut self, case: Case) {
        let text = String::from_utf8_lossy(self.digits);
        let text = if case == Case::Lower { text.to_lowercase() } else { text.into_owned() };
        let width = if self.t.fill { 0 } else { 15 };
        self.out.push_str(&format!("{text:>width$}"));
    }

    /// `9.9` shows a leading zero as a space.
    fn hides_leading_zero(&self) -> bool {
        !self.t.zero && self.at == 0 && self.digits.first() == Some(&b'0') && self.t.post != 0
    }

    fn ends_at_point(&self) -> bool {
        self.last_relevant.is_some_and(|last| self.digits[last] == b'.')
    }

    fn start_sign(&mut self) {
        let reached =
            self.position >= self.blanks || (self.t.zero && self.t.zero_start == self.position);
        if self.sign_done || !reached || (self.hides_leading_zero() && !self.ends_at_point()) {
            return;
        }
        if self.t.local_sign {
            if self.sign_place == SignPlace::Before {
                self.out.push(if self.negative { '-' } else { '+' });
                self.sign_done = true;
            }
            return;
        }
        self.sign_done = true;
        if self.bracket {
            self.out.push(if self.negative { '<' } else { ' ' });
        } else if self.negative {
            self.out.push('-');
        } else if !self.t.fill {
            self.out.push(' ');
        }
    }

    fn digit(&mut self, piece: Piece) {
        if self.t.roman {
            return;
        }
        self.wrote_digit = false;
        self.start_sign();
        if self.position < self.blanks && (!self.t.zero || self.t.zero_start > self.position) {
            if !self.t.fill {
                self.out.push(' ');
            }
        } else if self.position < self.blanks {
            self.out.push('0');
            self.wrote_digit = true;
        } else {
            self.source_digit(piece);
        }
        let mut end = self.count + usize::from(self.blanks > 0) + usize::from(self.t.decimal);
        if self.last_relevant == Some(self.at) {
            end = self.position;
        }
        if self.position + 1 == end {
            if self.sign_done && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.t.local_sign && self.sign_place == SignPlace::After {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.position += 1;
    }

    fn source_digit(&mut self, piece: Piece) {
        let current = self.digits.get(self.at).copied();
        if current == Some(b'.') {
            if !self.ends_at_point() || self.t.fill {
                self.out.push('.');
            }
        } else if self.last_relevant.is_some_and(|last| self.at > last) && piece != Piece::Zero {
            // A zero that `FM` drops.
        } else if self.hides_leading_zero() {
            if !self.t.fill {
                self.out.push(' ');
            } else if self.ends_at_point() {
                self.out.push('0');
            }
        } else if let Some(digit) = current {
            self.out.push(char::from(digit));
            self.wrote_digit = true;
        }
        if current.is_some() {
            self.at += 1;
        }
    }
}

/// The point, or the last digit after it that is not zero.
fn last_relevant(digits: &[u8]) -> Option<usize> {
    let point = digits.iter().position(|b| *b == b'.')?;
    let last = digits.iter().rposition(|b| *b != b'0').unwrap_or(point);
    Some(last.max(point))
}
