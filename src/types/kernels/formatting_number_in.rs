//! `to_number`: reads a number by a template.
//!
//! Each piece of the template takes what it can from the text; digits and signs are gathered, other
//! characters are passed over one for one.

use super::formatting_number::{Piece, SignPlace, Template};

struct Reader<'a> {
    t: &'a Template,
    text: &'a [u8],
    at: usize,
    sign: Option<char>,
    digits: String,
    before: usize,
    after: usize,
    point: bool,
}

/// The number in a text as a plain decimal, and its digits after the point.
pub(super) fn read(t: &Template, text: &str) -> (String, usize) {
    let mut r = Reader {
        t,
        text: text.as_bytes(),
        at: 0,
        sign: None,
        digits: String::new(),
        before: 0,
        after: 0,
        point: false,
    };
    for piece in &t.pieces {
        if r.at >= r.text.len() {
            break;
        }
        r.piece(*piece);
    }
    let digits = r.digits.strip_suffix('.').unwrap_or(&r.digits);
    (format!("{}{digits}", r.sign.unwrap_or(' ')), r.after)
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Nine | Piece::Zero | Piece::Point | Piece::LocalPoint => {
                self.digit(piece);
                self.at += 1;
            }
            Piece::Comma | Piece::Group => {
                if !self.t.fill && self.peek() == Some(b',') {
                    self.at += 1;
                }
            }
            Piece::Currency => self.pass(1),
            Piece::Minus => self.take_sign(b"-"),
            Piece::Plus => self.take_sign(b"+"),
            Piece::Sign => self.take_sign(b"-+"),
            Piece::Ordinal(_) => self.pass(2),
            Piece::Literal(_) => {
                self.at += 1;
                while self.peek().is_some_and(|b| b & 0xc0 == 0x80) {
                    self.at += 1;
                }
            }
            Piece::Roman(_) | Piece::Silent => {}
        }
    }

    /// Passes over characters that cannot be part of a number.
    fn pass(&mut self, count: usize) {
        for _ in 0..count {
            match self.peek() {
                Some(b) if !b.is_ascii_digit() && !b".,+-".contains(&b) => self.at += 1,
                _ => return,
            }
        }
    }

    fn take_sign(&mut self, signs: &[u8]) {
        match self.peek() {
            Some(b) if signs.contains(&b) => {
                self.sign = Some(char::from(b));
                self.at += 1;
            }
            _ => self.pass(1),
        }
    }

    fn digit(&mut self, piece: Piece) {
        if self.peek() == Some(b' ') {
            self.at += 1;
        }
        let digit_piece = matches!(piece, Piece::Nine | Piece::Zero);
        if self.sign.is_none() && digit_piece && self.before + self.after == 0 {
            let local = self.t.local_sign && self.t.sign_place == SignPlace::Before;
            match self.peek() {
                Some(b @ (b'-' | b'+')) => {
                    self.sign = Some(char::from(b));
                    self.at += 1;
                }
                Some(b'<') if self.t.bracket && !local => {
                    self.sign = Some('-');
                    self.at += 1;
                }
                _ => {}
            }
        }
        let mut taken = false;
        match self.peek() {
            None => return,
            Some(b) if b.is_ascii_digit() => {
                if self.point && self.after == self.t.post {
                    return;
                }
                self.digits.push(char::from(b));
                if self.point {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
                taken = true;
            }
            Some(b'.') if self.t.decimal && !self.point => {
                self.digits.push('.');
                self.point = true;
                taken = true;
            }
            _ => {}
        }
        self.sign_behind(taken);
    }

    /// A sign after the last digit.
    fn sign_behind(&mut self, taken: bool) {
        if self.sign.is_some() || self.before + self.after == 0 {
            return;
        }
        let sign = |b: Option<&u8>| match b {
            Some(b'-') => Some('-'),
            Some(b'+') => Some('+'),
            _ => None,
        };
        if self.t.local_sign {
            if taken && let Some(found) = sign(self.text.get(self.at + 1)) {
                self.sign = Some(found);
                self.at += 1;
            }
        } else if !taken && (self.t.plus || self.t.minus) {
            self.sign = sign(self.text.get(self.at));
        }
    }
}
