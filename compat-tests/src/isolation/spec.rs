//! Specs: the language in which PostgreSQL writes down concurrent tests.
//!
//! ```text
//! setup { CREATE TABLE t (a int); }          # before every permutation; there may be several
//! teardown { DROP TABLE t; }
//! session s1
//! setup { BEGIN; }
//! step w1 { INSERT INTO t VALUES (1); }
//! step c1 { COMMIT; }
//! session s2
//! step r2 { SELECT * FROM t; }
//! permutation w1 r2(*) c1                    # none at all = every interleaving
//! ```
//! What stands in parentheses after a step holds its report back: `*` says that it is to be reported
//! as waiting whether or not it had to, a step's name that it ends after that step, and
//! `step notices n` that it ends after n messages of that step's session.

use anyhow::{Context, Result, bail};

/// A parsed file.
#[derive(Debug, Default)]
pub struct Spec {
    /// Run on the control connection before each permutation.
    pub setups: Vec<String>,
    /// Run on the control connection after each.
    pub teardown: Option<String>,
    /// The sessions, in the order of the file.
    pub sessions: Vec<Session>,
    /// What is run; every interleaving if the file names none.
    pub permutations: Vec<Vec<Turn>>,
}

/// A session and its steps.
#[derive(Debug, Default)]
pub struct Session {
    /// Its name.
    pub name: String,
    /// Run on it before each permutation.
    pub setup: Option<String>,
    /// Run on it after each.
    pub teardown: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// A named text for one session.
#[derive(Debug, Default)]
pub struct Step {
    /// Its name, unique in the file.
    pub name: String,
    /// The statements.
    pub sql: String,
}

/// One step in a permutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which session.
    pub session: usize,
    /// Which of its steps.
    pub step: usize,
    /// What holds back its report.
    pub blockers: Vec<Blocker>,
}

/// What holds back the report of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// `*`: it is reported as waiting once.
    Once,
    /// Until this step (session, step) is done.
    Step(usize, usize),
    /// Until this session has sent so many messages since the step was started.
    Notices(usize, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sql(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            _ if first.is_whitespace() => first.len_utf8(),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '{' => {
                let end = rest.find('}').context("a block of SQL has no end")?;
                // Blanks, but not new lines, around the text don't belong to it.
                let blank: &[char] = &[' ', '\t', '\r', '\x0c'];
                out.push(Token::Sql(rest[1..end].trim_matches(blank).to_owned()));
                end + 1
            }
            '"' => {
                let (word, taken) = quoted(rest)?;
                out.push(Token::Word(word));
                taken
            }
            '(' | ')' | ',' | '*' => {
                out.push(Token::Mark(first));
                1
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
                out.push(Token::Word(rest[..end].to_owned()));
                end
            }
            _ => bail!("unexpected character {first:?} in a spec"),
        };
        rest = &rest[taken..];
    }
    Ok(out)
}

/// A quoted name and its length in the text; a doubled quote stands for one.
fn quoted(text: &str) -> Result<(String, usize)> {
    let mut word = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', Some((_, '"'))) => {
                word.push('"');
                chars.next();
            }
            ('"', _) => return Ok((word, at + 1)),
            _ => word.push(c),
        }
    }
    bail!("a quoted name has no end")
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    /// Takes the next token if it is this word.
    fn keyword(&mut self, word: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(w) if w == word)).is_some()
    }

    fn mark(&mut self, mark: char) -> bool {
        self.tokens.next_if_eq(&Token::Mark(mark)).is_some()
    }

    fn word(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            other => bail!("a name was expected, not {other:?}"),
        }
    }

    fn sql(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Sql(sql)) => Ok(sql),
            other => bail!("a block of SQL was expected, not {other:?}"),
        }
    }

    fn sql_after(&mut self, word: &str) -> Result<Option<String>> {
        if self.keyword(word) { self.sql().map(Some) } else { Ok(None) }
    }

    fn session(&mut self) -> Result<Session> {
        let mut session = Session { name: self.word()?, ..Session::default() };
        session.setup = self.sql_after("setup")?;
        while self.keyword("step") {
            session.steps.push(Step { name: self.word()?, sql: self.sql()? });
        }
        session.teardown = self.sql_after("teardown")?;
        Ok(session)
    }

    fn blockers(&mut self, spec: &Spec) -> Result<Vec<Blocker>> {
        let mut blockers = Vec::new();
        if !self.mark('(') {
            return Ok(blockers);
        }
        while !self.mark(')') {
            if self.mark('*') {
                blockers.push(Blocker::Once);
            } else {
                let (session, step) = spec.find(&self.word()?)?;
                blockers.push(match self.keyword("notices") {
                    true => Blocker::Notices(session, self.word()?.parse()?),
                    false => Blocker::Step(session, step),
                });
            }
            self.mark(',');
        }
        Ok(blockers)
    }

    fn permutation(&mut self, spec: &Spec) -> Result<Vec<Turn>> {
        let mut turns = Vec::new();
        while let Some(Token::Word(word)) =
            self.tokens.next_if(|token| matches!(token, Token::Word(word) if word != "permutation"))
        {
            let (session, step) = spec.find(&word)?;
            turns.push(Turn { session, step, blockers: self.blockers(spec)? });
        }
        Ok(turns)
    }
}

impl Spec {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Spec> {
        let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
        let mut spec = Spec::default();
        while let Some(setup) = parser.sql_after("setup")? {
            spec.setups.push(setup);
        }
        spec.teardown = parser.sql_after("teardown")?;
        while parser.keyword("session") {
            let session = parser.session()?;
            spec.sessions.push(session);
        }
        while parser.keyword("permutation") {
            let permutation = parser.permutation(&spec)?;
            spec.permutations.push(permutation);
        }
        if let Some(token) = parser.tokens.next() {
            bail!("unexpected {token:?} in a spec");
        }
        if spec.permutations.is_empty() {
            let mut next = vec![0; spec.sessions.len()];
            let mut all = Vec::new();
            spec.interleave(&mut next, &mut Vec::new(), &mut all);
            spec.permutations = all;
        }
        Ok(spec)
    }

    fn find(&self, name: &str) -> Result<(usize, usize)> {
        let found = self.sessions.iter().enumerate().find_map(|(session, s)| {
            let step = s.steps.iter().position(|step| step.name == name)?;
            Some((session, step))
        });
        found.with_context(|| format!("no step has the name {name:?}"))
    }

    /// All interleavings that begin with these turns, first sessions first.
    fn interleave(&self, next: &mut [usize], turns: &mut Vec<Turn>, all: &mut Vec<Vec<Turn>>) {
        let mut ended = true;
        for session in 0..self.sessions.len() {
            let step = next[session];
            if step < self.sessions[session].steps.len() {
                ended = false;
                next[session] += 1;
                turns.push(Turn { session, step, blockers: Vec::new() });
                self.interleave(next, turns, all);
                turns.pop();
                next[session] -= 1;
            }
        }
        if ended {
            all.push(turns.clone());
        }
    }

    /// A turn's step.
    pub fn step(&self, turn: &Turn) -> &Step {
        &self.sessions[turn.session].steps[turn.step]
    }

    /// The names of a permutation's steps, as reports begin with them.
    pub fn title(&self, permutation: &[Turn]) -> String {
        let names: Vec<&str> = permutation.iter().map(|t| self.step(t).name.as_str()).collect();
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read() -> Result<()> {
        let spec = Spec::parse(
            "# comment\nsetup { CREATE TABLE t (); }\nsetup\n{\n  SELECT 1; }\nteardown {DROP TABLE t;}\n\
             session s1 setup {BEGIN;}\nstep \"a \"\"b\" { X }\nstep c {Y}\nteardown {COMMIT;}\n\
             session s2\nstep d {}\n\
             permutation \"a \"\"b\" d(*) c\npermutation d (c, \"a \"\"b\" notices 3) c\n",
        )?;
        assert_eq!(spec.setups, ["CREATE TABLE t ();", "\n  SELECT 1;"]);
        assert_eq!(spec.sessions[0].steps[0].name, "a \"b");
        assert_eq!(spec.permutations[0][1].blockers, [Blocker::Once]);
        assert_eq!(spec.permutations[1][0].blockers, [Blocker::Step(0, 1), Blocker::Notices(0, 3)]);
        assert_eq!(spec.title(&spec.permutations[0]), "a \"b d c");
        Ok(())
    }

    #[test]
    fn without_permutations_all_interleavings_are_run() -> Result<()> {
        let spec = Spec::parse("session a step a1 {} step a2 {} session b step b1 {}")?;
        let titles: Vec<String> = spec.permutations.iter().map(|p| spec.title(p)).collect();
        assert_eq!(titles, ["a1 a2 b1", "a1 b1 a2", "b1 a1 a2"]);
        Ok(())
    }
}
