//! Which of the matches at a place is the one: POSIX's rules, as PostgreSQL keeps them.
//!
//! The engine finds where the first match begins and, among alternatives there, takes the first
//! that fits. PostgreSQL takes the longest match, or the shortest when the expression prefers that,
//! and then hands the text out to the parts, from left to right:
//!
//! * an expression prefers as its first quantified part does; alternatives prefer the longest;
//! * a part of a sequence takes as much (or as little) as it can so that the rest still fits;
//! * among alternatives, the first one that fits exactly what is there is taken;
//! * a repetition's last round gives the groups in it; the rounds before it take what they can.
//!
//! [`Longest`] does this for a place that the engine has found. Its cost may grow with the square of
//! the match's length, so it works to a budget; where that is spent, the engine's choice stands.
//! Look-around and back-references are left to the engine as well.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::regex::Groups;

/// End positions that are noted for one match, at most.
const BUDGET: usize = 400_000;

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// Prefers the longest (or else the shortest) text; `None` when it has no choice.
    longest: Option<bool>,
    captures: bool,
    id: usize,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Literal(Box<str>),
    Class(Vec<(char, char)>),
    Look(Look),
    /// One after the other.
    Pair(Box<Node>, Box<Node>),
    Either(Vec<Node>),
    Repeat {
        inner: Box<Node>,
        min: u32,
        max: Option<u32>,
    },
    Group(usize, Box<Node>),
}

/// An expression whose matches have to be chosen by POSIX's rules.
#[derive(Debug)]
pub(super) struct Longest {
    root: Node,
    groups: usize,
}

/// What an expression is made of that makes the engine's choice differ from PostgreSQL's.
#[derive(Default)]
struct Traits {
    choice: bool,
    greedy: bool,
    reluctant: bool,
}

impl Traits {
    fn look(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Concat(parts) => parts.iter().for_each(|p| self.look(p)),
            HirKind::Alternation(parts) => {
                self.choice = true;
                parts.iter().for_each(|p| self.look(p));
            }
            HirKind::Capture(capture) => self.look(&capture.sub),
            HirKind::Repetition(r) => {
                if r.max != Some(r.min) {
                    self.greedy |= r.greedy;
                    self.reluctant |= !r.greedy;
                }
                self.choice |= match r.sub.kind() {
                    HirKind::Class(_) => false,
                    HirKind::Literal(l) => l.0.len() > 1 && r.max != Some(r.min),
                    _ => true,
                };
                self.look(&r.sub);
            }
            _ => {}
        }
    }
}

impl Longest {
    /// Reads an expression in the engine's syntax; `None` when the engine's choice is right anyway,
    /// or when it uses what is left to the engine.
    pub(super) fn new(translated: &str) -> Option<Longest> {
        let hir = regex_syntax::parse(translated).ok()?;
        let mut traits = Traits::default();
        traits.look(&hir);
        if !(traits.choice || traits.greedy && traits.reluctant) {
            return None;
        }
        let groups = hir.properties().explicit_captures_len() + 1;
        let mut ids = 0;
        Some(Longest { root: node(&hir, true, &mut ids)?, groups })
    }

    /// The match that begins at this byte, if the budget allows.
    pub(super) fn at(&self, text: &str, start: usize) -> Option<Groups> {
        let m = Matcher { text, ends: RefCell::default(), spent: RefCell::new(0) };
        let ends = m.ends(&self.root, start)?;
        let end = if self.root.longest == Some(false) { ends.first() } else { ends.last() };
        let end = *end?;
        let mut groups = vec![None; self.groups];
        m.hand_out(&self.root, (start, end), &mut groups)?;
        groups[0] = Some((start, end));
        Some(groups)
    }
}

fn node(hir: &Hir, capturing: bool, ids: &mut usize) -> Option<Node> {
    let (kind, longest, captures) = match hir.kind() {
        HirKind::Empty => (Kind::Empty, None, false),
        HirKind::Literal(l) => (Kind::Literal(std::str::from_utf8(&l.0).ok()?.into()), None, false),
        HirKind::Class(Class::Unicode(set)) => {
            (Kind::Class(set.iter().map(|r| (r.start(), r.end())).collect()), None, false)
        }
        HirKind::Class(Class::Bytes(set)) => {
            let range = |r: &regex_syntax::hir::ClassBytesRange| {
                r.end().is_ascii().then(|| (char::from(r.start()), char::from(r.end())))
            };
            (Kind::Class(set.iter().map(range).collect::<Option<_>>()?), None, false)
        }
        HirKind::Look(
            Look::WordStartAscii
            | Look::WordEndAscii
            | Look::WordStartUnicode
            | Look::WordEndUnicode
            | Look::WordStartHalfAscii
            | Look::WordEndHalfAscii
            | Look::WordStartHalfUnicode
            | Look::WordEndHalfUnicode,
        ) => return None,
        HirKind::Look(look) => (Kind::Look(*look), None, false),
        HirKind::Capture(capture) => {
            let inner = node(&capture.sub, capturing, ids)?;
            if !capturing {
                return Some(inner);
            }
            let longest = inner.longest;
            (Kind::Group(capture.index as usize, Box::new(inner)), longest, true)
        }
        HirKind::Repetition(r) => return repetition(r, capturing, ids),
        HirKind::Alternation(parts) => {
            let parts: Vec<Node> =
                parts.iter().map(|p| node(p, capturing, ids)).collect::<Option<_>>()?;
            let captures = parts.iter().any(|p| p.captures);
            (Kind::Either(parts), Some(true), captures)
        }
        HirKind::Concat(parts) => {
            let parts: Vec<Node> =
                parts.iter().map(|p| node(p, capturing, ids)).collect::<Option<_>>()?;
            return Some(sequence(parts, ids));
        }
    };
    Some(made(kind, longest, captures, ids))
}

/// A repetition. One with groups in it is taken apart, so that the last round is a part by itself:
/// `x{0,n}` is `x{1,n}` or nothing, and `x{m,n}` is `x{m-1,n-1}` without groups, then `x`.
fn repetition(r: &Repetition, capturing: bool, ids: &mut usize) -> Option<Node> {
    let inner = node(&r.sub, capturing, ids)?;
    let longest = if r.max == Some(r.min) { inner.longest } else { Some(r.greedy) };
    if !inner.captures {
        let kind = Kind::Repeat { inner: Box::new(inner), min: r.min, max: r.max };
        return Some(made(kind, longest, false, ids));
    }
    let rounds = |n: u32| n.saturating_sub(1);
    let (min, max) = (rounds(r.min), r.max.map(rounds));
    let once = if max == Some(0) {
        inner
    } else {
        let plain = Box::new(node(&r.sub, false, ids)?);
        let before = made(Kind::Repeat { inner: plain, min, max }, longest, false, ids);
        let mut both = pair(before, inner, ids);
        both.longest = longest;
        both
    };
    if r.min > 0 {
        return Some(once);
    }
    let nothing = made(Kind::Empty, None, false, ids);
    let parts = if r.max == Some(0) { vec![nothing] } else { vec![once, nothing] };
    Some(made(Kind::Either(parts), longest, true, ids))
}

fn made(kind: Kind, longest: Option<bool>, captures: bool, ids: &mut usize) -> Node {
    *ids += 1;
    Node { kind, longest, captures, id: *ids }
}

/// A sequence as pairs, from the right. Neighbours without groups that prefer alike are one part.
fn sequence(parts: Vec<Node>, ids: &mut usize) -> Node {
    let mut runs: Vec<Node> = Vec::new();
    for part in parts {
        let joins = runs.last().is_some_and(|last| {
            let alike = last.longest.is_none() || part.longest.is_none();
            !last.captures && !part.captures && (alike || last.longest == part.longest)
        });
        match runs.pop() {
            Some(last) if joins => runs.push(pair(last, part, ids)),
            last => runs.extend(last.into_iter().chain([part])),
        }
    }
    let last = runs.pop();
    let last = last.unwrap_or_else(|| made(Kind::Empty, None, false, ids));
    runs.into_iter().rfold(last, |rest, part| pair(part, rest, ids))
}

fn pair(left: Node, right: Node, ids: &mut usize) -> Node {
    let (longest, captures) = (left.longest.or(right.longest), left.captures || right.captures);
    made(Kind::Pair(Box::new(left), Box::new(right)), longest, captures, ids)
}

/// Where a node can end, by the node and where it begins.
type Ends = HashMap<(usize, usize), Rc<[usize]>>;

struct Matcher<'t> {
    text: &'t str,
    ends: RefCell<Ends>,
    spent: RefCell<usize>,
}

impl Matcher<'_> {
    /// All ends of a node from a start, in order; `None` when the budget is spent.
    fn ends(&self, node: &Node, start: usize) -> Option<Rc<[usize]>> {
        if let Some(known) = self.ends.borrow().get(&(node.id, start)) {
            return Some(Rc::clone(known));
        }
        let found: Rc<[usize]> = match &node.kind {
            Kind::Empty => [start].into(),
            Kind::Literal(l) => {
                let fits = self.text[start..].starts_with(&**l);
                fits.then_some(start + l.len()).into_iter().collect()
            }
            Kind::Class(ranges) => {
                let next = self.text[start..].chars().next();
                let fits = next.filter(|c| ranges.iter().any(|(low, high)| low <= c && c <= high));
                fits.map(|c| start + c.len_utf8()).into_iter().collect()
            }
            Kind::Look(look) => {
                holds(*look, self.text, start).then_some(start).into_iter().collect()
            }
            Kind::Group(_, inner) => self.ends(inner, start)?,
            Kind::Pair(left, right) => {
                let mut all = BTreeSet::new();
                for &middle in &*self.ends(left, start)? {
                    all.extend(&*self.ends(right, middle)?);
                }
                all.into_iter().collect()
            }
            Kind::Either(parts) => {
                let mut all = BTreeSet::new();
                for part in parts {
                    all.extend(&*self.ends(part, start)?);
                }
                all.into_iter().collect()
            }
            Kind::Repeat { inner, min, max } => self.rounds(inner, *min, *max, start)?,
        };
        let mut spent = self.spent.borrow_mut();
        *spent += found.len() + 1;
        if *spent > BUDGET {
            return None;
        }
        self.ends.borrow_mut().insert((node.id, start), Rc::clone(&found));
        Some(found)
    }

    fn rounds(
        &self,
        inner: &Node,
        min: u32,
        max: Option<u32>,
        start: usize,
    ) -> Option<Rc<[usize]>> {
        let mut reached = BTreeSet::new();
        let mut fresh = BTreeSet::from([start]);
        let mut round = 0;
        loop {
            if round >= min {
                fresh.retain(|at| reached.insert(*at));
            }
            if fresh.is_empty() || max == Some(round) {
                return Some(reached.into_iter().collect());
            }
            let mut next = BTreeSet::new();
            for at in fresh {
                next.extend(&*self.ends(inner, at)?);
            }
            (fresh, round) = (next, round + 1);
        }
    }

    fn spans(&self, node: &Node, (start, end): (usize, usize)) -> Option<bool> {
        Some(self.ends(node, start)?.binary_search(&end).is_ok())
    }

    /// Finds what each group in a node has, given the text that the node matches.
    fn hand_out(&self, node: &Node, span: (usize, usize), groups: &mut Groups) -> Option<()> {
        if !node.captures {
            return Some(());
        }
        let (start, end) = span;
        match &node.kind {
            Kind::Group(index, inner) => {
                groups[*index] = Some(span);
                self.hand_out(inner, span, groups)
            }
            Kind::Pair(left, right) => {
                let mut middles: Vec<usize> = self.ends(left, start)?.to_vec();
                if left.longest != Some(false) {
                    middles.reverse();
                }
                for middle in middles.into_iter().filter(|m| *m <= end) {
                    if self.spans(right, (middle, end))? {
                        self.hand_out(left, (start, middle), groups)?;
                        return self.hand_out(right, (middle, end), groups);
                    }
                }
                Some(())
            }
            Kind::Either(parts) => {
                for part in parts {
                    if self.spans(part, span)? {
                        return self.hand_out(part, span, groups);
                    }
                }
                Some(())
            }
            _ => Some(()),
        }
    }
}

/// Whether a constraint holds at a place.
fn holds(look: Look, text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at..].chars().next();
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match look {
        Look::Start => before.is_none(),
        Look::End => after.is_none(),
        Look::StartLF | Look::StartCRLF => before.is_none_or(|c| c == '\n'),
        Look::EndLF | Look::EndCRLF => after.is_none_or(|c| c == '\n'),
        Look::WordAscii | Look::WordUnicode => word(before) != word(after),
        Look::WordAsciiNegate | Look::WordUnicodeNegate => word(before) == word(after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The match and its groups as PostgreSQL 15 gives them; `-` is a group without text.
    #[test]
    fn longest_matches_are_chosen() {
        let groups = |pattern: &str, text: &str| {
            let longest = Longest::new(pattern).expect("a choice");
            let parts = longest.at(text, 0).expect("a match within the budget");
            let part = |r: &Option<(usize, usize)>| r.map_or("-", |(from, to)| &text[from..to]);
            parts.iter().map(part).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(groups("ab|abcd", "abcd"), "abcd");
        assert_eq!(groups("a?(ab)?", "ab"), "ab ab");
        assert_eq!(groups("(x|xy)(z|yz)?", "xyz"), "xyz xy z");
        assert_eq!(groups("(a*)(ab)*(b*)", "abb"), "abb a - bb");
        assert_eq!(groups("(ab|a)(bab)?", "abab"), "abab a bab");
        assert_eq!(groups("(.*?)([0-9]+)(.*)", "abc01234xyz"), "abc0 abc 0 ");
        assert_eq!(groups("(?:(a)|(b))*", "aba"), "aba a -");
        assert_eq!(groups("(a|aa)*", "aaa"), "aaa a");
        assert_eq!(groups("(a*)+", "aa"), "aa ");
        assert_eq!(groups("(ä|äö){1,2}$", "äöä"), "äöä ä");
        assert!(Longest::new("[a-z]+[0-9]*").is_none(), "greedy all through");
    }

    #[test]
    fn a_long_text_is_left_to_the_engine() {
        let text = "ab".repeat(20_000);
        assert!(Longest::new("((a|b)*)*(a|b)*").expect("a choice").at(&text, 0).is_none());
    }
}
