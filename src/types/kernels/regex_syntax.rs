//! PostgreSQL's regular expressions in the syntax of the engine.
//!
//! The grammar is that of Henry Spencer's "advanced" expressions. Most of it is common ground;
//! [`translate`] rewrites what differs and finds the errors that PostgreSQL reports:
//!
//! * `\m`, `\M`, `\y`, `\Y`, `[[:<:]]`, `[[:>:]]` are word boundaries, `\B` is a backslash;
//! * `.` and `[^x]` match a newline and `$` only the very end, unless flags say otherwise;
//! * `{` without a digit behind it is itself; bracket expressions know no nesting.
//!
//! Which of the matches at a place is taken is another matter: see [`super::regex_longest`].

use crate::{PgError, Result, SqlState};

/// The flags argument of the regular expression functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Flags {
    /// `g`
    pub(super) global: bool,
    /// `i`
    pub(super) ignore_case: bool,
    /// `x`
    pub(super) expanded: bool,
    /// `q`
    pub(super) literal: bool,
    /// `.` and negated brackets stop at newlines (`n`, `p`).
    pub(super) newline_stops: bool,
    /// `^` and `$` match at lines (`n`, `w`).
    pub(super) line_anchors: bool,
}

impl Flags {
    /// Reads the letters; later ones win.
    pub(super) fn parse(text: &str) -> Result<Flags> {
        let mut flags = Flags::default();
        for c in text.chars() {
            if c == 'g' {
                flags.global = true;
            } else if !flags.set(c) {
                return Err(PgError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{c}\""),
                ));
            }
        }
        Ok(flags)
    }

    /// Applies one letter that may also stand in the pattern.
    fn set(&mut self, c: char) -> bool {
        match c {
            'i' => self.ignore_case = true,
            'c' => self.ignore_case = false,
            'x' => self.expanded = true,
            't' => self.expanded = false,
            'q' => self.literal = true,
            'n' | 'm' => (self.newline_stops, self.line_anchors) = (true, true),
            'p' => (self.newline_stops, self.line_anchors) = (true, false),
            'w' => (self.newline_stops, self.line_anchors) = (false, true),
            's' => (self.newline_stops, self.line_anchors) = (false, false),
            'e' | 'b' => {}
            _ => return false,
        }
        true
    }
}

/// `2201B`
pub(super) fn invalid(what: &str) -> PgError {
    PgError::new(
        SqlState::INVALID_REGULAR_EXPRESSION,
        format!("invalid regular expression: {what}"),
    )
}

struct Translator<'a> {
    rest: std::iter::Peekable<std::str::CharIndices<'a>>,
    flags: Flags,
    out: String,
    /// Something stands before that a quantifier can apply to.
    operand: bool,
    depth: usize,
    groups: u32,
    /// Quantifiers that start before this byte are made reluctant.
    reluctant_until: usize,
}

/// The engine's form of a pattern.
pub(super) fn translate(pattern: &str, flags: Flags) -> Result<String> {
    let mut flags = flags;
    let mut body = pattern;
    if let Some(rest) = body.strip_prefix("***=") {
        (body, flags.literal) = (rest, true);
    } else if let Some(rest) = body.strip_prefix("***:") {
        body = rest;
    }
    if let Some(rest) = body.strip_prefix("(?")
        && let Some((letters, rest)) = rest.split_once(')')
        && !letters.is_empty()
        && letters.chars().all(|c| c.is_ascii_alphabetic())
    {
        if !letters.chars().all(|c| flags.set(c)) {
            return Err(invalid("invalid embedded option"));
        }
        body = rest;
    }
    let mut out = String::with_capacity(body.len() + 16);
    out.push_str(match (flags.newline_stops, flags.ignore_case) {
        (false, false) => "(?s)",
        (false, true) => "(?si)",
        (true, true) => "(?i)",
        (true, false) => "",
    });
    if flags.literal {
        body.chars().for_each(|c| push_literal(&mut out, c));
        return Ok(out);
    }
    // The mark that SIMILAR TO leaves before the part that `substring` extracts.
    let reluctant_until = body.find("){1,1}?(").unwrap_or(0);
    let mut t = Translator {
        rest: body.char_indices().peekable(),
        flags,
        out,
        operand: false,
        depth: 0,
        groups: 0,
        reluctant_until,
    };
    t.run()?;
    Ok(t.out)
}

fn push_literal(out: &mut String, c: char) {
    if c.is_ascii()
        && !c.is_ascii_alphanumeric()
        && !c.is_ascii_whitespace()
        && c != '_'
        && !c.is_ascii_control()
    {
        out.push('\\');
    }
    out.push(c);
}

impl Translator<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|&(_, c)| c)
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next().map(|(_, c)| c)
    }

    fn next_if(&mut self, want: char) -> bool {
        self.rest.next_if(|&(_, c)| c == want).is_some()
    }

    fn run(&mut self) -> Result<()> {
        while let Some((at, c)) = self.rest.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.bracket()?,
                '(' => self.open()?,
                ')' => {
                    if self.depth == 0 {
                        return Err(invalid("parentheses () not balanced"));
                    }
                    self.depth -= 1;
                    self.out.push(')');
                    self.operand = true;
                }
                '|' => {
                    self.out.push('|');
                    self.operand = false;
                }
                '*' | '+' | '?' => self.quantifier(at, &c.to_string())?,
                '{' if self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                    let bound = self.bound()?;
                    self.quantifier(at, &bound)?;
                }
                '^' => self.anchor(if self.flags.line_anchors { "(?m:^)" } else { "\\A" }),
                '$' => self.anchor(if self.flags.line_anchors { "(?m:$)" } else { "\\z" }),
                '.' => self.atom("."),
                '#' if self.flags.expanded => while self.next().is_some_and(|c| c != '\n') {},
                c if self.flags.expanded && c.is_whitespace() => {}
                c => {
                    push_literal(&mut self.out, c);
                    self.operand = true;
                }
            }
        }
        if self.depth > 0 { Err(invalid("parentheses () not balanced")) } else { Ok(()) }
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.operand = true;
    }

    fn anchor(&mut self, text: &str) {
        self.out.push_str(text);
        self.operand = false;
    }

    fn open(&mut self) -> Result<()> {
        self.depth += 1;
        self.operand = false;
        if !self.next_if('?') {
            self.groups += 1;
            self.out.push('(');
            return Ok(());
        }
        self.out.push_str("(?");
        match self.next() {
            Some(c @ (':' | '=' | '!')) => self.out.push(c),
            Some('#') => {
                // A comment: take it back together with its parenthesis.
                self.out.truncate(self.out.len() - 2);
                self.depth -= 1;
                while self.next().is_some_and(|c| c != ')') {}
            }
            Some('<') => match self.next() {
                Some(c @ ('=' | '!')) => {
                    self.out.push('<');
                    self.out.push(c);
                }
                _ => return Err(invalid("quantifier operand invalid")),
            },
            _ => return Err(invalid("quantifier operand invalid")),
        }
        Ok(())
    }

    fn quantifier(&mut self, at: usize, text: &str) -> Result<()> {
        if !self.operand {
            return Err(invalid("quantifier operand invalid"));
        }
        let reluctant = self.next_if('?') || at < self.reluctant_until;
        self.operand = false;
        // Once is what the operand means anyway, and the engine rejects it on an empty group.
        if matches!(text, "{1}" | "{1,1}") {
            return Ok(());
        }
        self.out.push_str(text);
        if reluctant {
            self.out.push('?');
        }
        Ok(())
    }

    /// `{m}`, `{m,}` or `{m,n}`, the brace already taken.
    fn bound(&mut self) -> Result<String> {
        let bad = || invalid("invalid repetition count(s)");
        let low = self.count()?.ok_or_else(bad)?;
        let mut text = format!("{{{low}");
        if self.next_if(',') {
            text.push(',');
            if let Some(high) = self.count()? {
                if high < low {
                    return Err(bad());
                }
                text.push_str(&high.to_string());
            }
        }
        if !self.next_if('}') {
            return Err(bad());
        }
        text.push('}');
        Ok(text)
    }

    fn count(&mut self) -> Result<Option<u32>> {
        let mut value = None;
        while let Some(d) = self.peek().and_then(|c| c.to_digit(10)) {
            self.next();
            let grown = value.unwrap_or(0) * 10 + d;
            if grown > 255 {
                return Err(invalid("invalid repetition count(s)"));
            }
            value = Some(grown);
        }
        Ok(value)
    }

    fn escape(&mut self) -> Result<()> {
        let Some(c) = self.next() else { return Err(invalid("invalid escape \\ sequence")) };
        match c {
            'd' | 'w' | 's' | 'D' | 'W' | 'S' => {
                self.out.push('\\');
                self.atom(&c.to_string());
            }
            'm' => self.anchor("\\b(?=\\w)"),
            'M' => self.anchor("\\b(?<=\\w)"),
            'y' => self.anchor("\\b"),
            'Y' => self.anchor("\\B"),
            'A' => self.anchor("\\A"),
            'Z' => self.anchor("\\z"),
            '1'..='9' => {
                let number = c.to_digit(10).unwrap_or(0);
                if number > self.groups {
                    return Err(invalid("invalid backreference number"));
                }
                self.atom(&format!("\\{number}"));
            }
            _ => {
                let literal = self.character_escape(c)?;
                push_literal(&mut self.out, literal);
                self.operand = true;
            }
        }
        Ok(())
    }

    /// The character that an escape stands for, in brackets as well.
    fn character_escape(&mut self, c: char) -> Result<char> {
        let bad = || invalid("invalid escape \\ sequence");
        Ok(match c {
            'a' => '\x07',
            'b' => '\x08',
            'B' => '\\',
            'e' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'c' => {
                let next = self.next().ok_or_else(bad)?;
                char::from_u32(u32::from(next) & 0x1f).ok_or_else(bad)?
            }
            'u' => self.hex(4, 4)?,
            'U' => self.hex(8, 8)?,
            'x' => self.hex(1, 255)?,
            '0' => {
                let mut value = 0;
                for _ in 0..2 {
                    if let Some(d) = self.peek().and_then(|c| c.to_digit(8)) {
                        self.next();
                        value = value * 8 + d;
                    }
                }
                char::from_u32(value).ok_or_else(bad)?
            }
            c if c.is_ascii_alphanumeric() => return Err(bad()),
            c => c,
        })
    }

    fn hex(&mut self, least: usize, most: usize) -> Result<char> {
        let bad = || invalid("invalid escape \\ sequence");
        let (mut value, mut taken) = (0u32, 0);
        while taken < most {
            let Some(d) = self.peek().and_then(|c| c.to_digit(16)) else { break };
            self.next();
            // PostgreSQL's number wraps around, too.
            value = value.wrapping_mul(16).wrapping_add(d);
            taken += 1;
        }
        if taken < least {
            return Err(bad());
        }
        match char::from_u32(value) {
            Some(c) => Ok(c),
            // A number that is no character stands for one that is in no text.
            None if (0x11_0000..=0x7fff_fffe).contains(&value) => Ok('\u{10ffff}'),
            None => Err(bad()),
        }
    }

    fn bracket(&mut self) -> Result<()> {
        let unbalanced = || invalid("brackets [] not balanced");
        let remaining: String = self.rest.clone().map(|(_, c)| c).take(6).collect();
        for (text, boundary) in [("[:<:]]", "\\b(?=\\w)"), ("[:>:]]", "\\b(?<=\\w)")] {
            if remaining == text {
                self.rest.nth(5);
                self.anchor(boundary);
                return Ok(());
            }
        }
        self.out.push('[');
        if self.next_if('^') {
            self.out.push('^');
            if self.flags.newline_stops {
                self.out.push_str("\\n");
            }
        }
        let mut first = true;
        // The start of a possible range.
        let mut last: Option<char> = None;
        loop {
            let c = self.next().ok_or_else(unbalanced)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            if c == '-' && last.is_some() && self.peek().is_some_and(|c| c != ']') {
                let low = last.take().unwrap_or('-');
                let high =
                    self.bracket_char()?.ok_or_else(|| invalid("invalid character range"))?;
                if high < low {
                    return Err(invalid("invalid character range"));
                }
                self.out.push('-');
                push_in_bracket(&mut self.out, high);
                continue;
            }
            last = self.bracket_item(c)?;
            if let Some(c) = last {
                push_in_bracket(&mut self.out, c);
            }
        }
        self.out.push(']');
        self.operand = true;
        Ok(())
    }

    fn bracket_char(&mut self) -> Result<Option<char>> {
        let c = self.next().ok_or_else(|| invalid("brackets [] not balanced"))?;
        self.bracket_item(c)
    }

    /// A character, or a class that is written at once.
    fn bracket_item(&mut self, c: char) -> Result<Option<char>> {
        if c == '\\' {
            let escaped = self.next().ok_or_else(|| invalid("invalid escape \\ sequence"))?;
            if matches!(escaped, 'd' | 'w' | 's' | 'D' | 'W' | 'S') {
                self.out.push('\\');
                self.out.push(escaped);
                return Ok(None);
            }
            return self.character_escape(escaped).map(Some);
        }
        if c != '[' {
            return Ok(Some(c));
        }
        match self.peek() {
            Some(kind @ (':' | '.' | '=')) => {
                self.next();
                let name = self.named(kind)?;
                if kind == ':' {
                    self.out.push_str(class(&name)?);
                    return Ok(None);
                }
                let mut chars = name.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Ok(Some(c)),
                    _ => Err(invalid("invalid collating element")),
                }
            }
            _ => Ok(Some('[')),
        }
    }

    /// The name up to `:]`, `.]` or `=]`.
    fn named(&mut self, kind: char) -> Result<String> {
        let mut name = String::new();
        loop {
            let c = self.next().ok_or_else(|| invalid("brackets [] not balanced"))?;
            if c == kind && self.next_if(']') {
                return Ok(name);
            }
            name.push(c);
        }
    }
}

fn class(name: &str) -> Result<&'static str> {
    Ok(match name {
        "alpha" => "\\p{Alphabetic}",
        "alnum" => "\\p{Alphabetic}\\p{N}",
        "digit" => "\\d",
        "lower" => "\\p{Lowercase}",
        "upper" => "\\p{Uppercase}",
        "space" => "\\s",
        "word" => "\\w",
        "punct" => "[:punct:]",
        "cntrl" => "[:cntrl:]",
        "graph" => "[:graph:]",
        "print" => "[:print:]",
        "blank" => "[:blank:]",
        "xdigit" => "[:xdigit:]",
        "ascii" => "[:ascii:]",
        _ => return Err(invalid("invalid character class")),
    })
}

fn push_in_bracket(out: &mut String, c: char) {
    if matches!(c, '[' | ']' | '\\' | '^' | '-' | '&' | '~' | '#') {
        out.push('\\');
    }
    out.push(c);
}
