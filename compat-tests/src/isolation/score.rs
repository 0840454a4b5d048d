//! Holds what a permutation printed against what PostgreSQL prints.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// What came of a permutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same text as PostgreSQL's.
    Same,
    /// SERIALIZABLE refused other transactions, and what those that committed saw and did fits a
    /// serial order of them, which was run to see.
    OtherVictim,
    /// It needs something that isn't there, named by its refusal.
    Missing(String),
    /// Another text.
    Different,
}

/// The expected output of a spec; there may be several variants of a file, each of which will do.
#[derive(Debug, Default)]
pub struct Expected {
    /// For each title, for each of its occurrences, the texts that will do.
    blocks: BTreeMap<String, Vec<Vec<String>>>,
}

const UNKNOWN_SETTING: &str = "unrecognized configuration parameter ";
const START: &str = "starting permutation: ";

/// Lines without blanks at their ends, and no empty ones at the end of the text.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

impl Expected {
    /// Reads `NAME.out`, `NAME_1.out` and so on.
    pub fn read(folder: &Path, name: &str) -> Result<Expected> {
        let mut expected = Expected::default();
        let main = folder.join(format!("{name}.out"));
        let text = std::fs::read_to_string(&main)
            .with_context(|| format!("cannot read {}", main.display()))?;
        expected.add(&text);
        for n in 1..10 {
            if let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}_{n}.out"))) {
                expected.add(&text);
            }
        }
        Ok(expected)
    }

    fn add(&mut self, text: &str) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for block in text.split(&format!("\n{START}")).skip(1) {
            let title = block.lines().next().unwrap_or_default();
            let occurrence = seen.entry(title).or_default();
            let variants = self.blocks.entry(title.to_owned()).or_default();
            variants.resize((*occurrence + 1).max(variants.len()), Vec::new());
            variants[*occurrence].push(normal(&format!("{START}{block}")));
            *occurrence += 1;
        }
    }

    /// What PostgreSQL prints for this occurrence of a title.
    pub fn texts(&self, title: &str, occurrence: usize) -> &[String] {
        self.blocks.get(title).and_then(|all| all.get(occurrence)).map_or(&[], |v| v)
    }

    /// Judges a text. Something is missing when the server said so where PostgreSQL has no such word.
    pub fn judge(&self, title: &str, occurrence: usize, got: &str) -> Verdict {
        let texts = self.texts(title, occurrence);
        let got = normal(got);
        if texts.contains(&got) {
            return Verdict::Same;
        }
        let refusal = got.lines().find_map(|line| {
            let known = texts.iter().any(|text| text.lines().any(|other| other == line));
            if known {
                return None;
            }
            let (_, words) = line.split_once("ERROR:  ")?;
            if let Some(setting) = words.strip_prefix(UNKNOWN_SETTING) {
                return Some(format!("setting {}", setting.trim_matches('"')));
            }
            let (words, _) = words.split_once(" not supported yet")?;
            Some(words.trim_end_matches(" is").trim_end_matches(" are").to_owned())
        });
        refusal.map_or(Verdict::Different, Verdict::Missing)
    }
}

/// The lines that are only here and only there, for reading.
pub fn difference(expected: &str, got: &str) -> String {
    let (expected, got) = (normal(expected), normal(got));
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = |at: usize| (a.len() - at.min(a.len()), b.len() - at.min(b.len()));
    let mut same_end = 0;
    while same_end < a.len().min(b.len()) - head
        && a[a.len() - 1 - same_end] == b[b.len() - 1 - same_end]
    {
        same_end += 1;
    }
    let (end_a, end_b) = tail(same_end);
    let mut out = String::new();
    for line in a[..head].iter().rev().take(2).rev() {
        out += &format!("    {line}\n");
    }
    for line in &a[head..end_a.max(head)] {
        out += &format!("  - {line}\n");
    }
    for line in &b[head..end_b.max(head)] {
        out += &format!("  + {line}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_variant_will_do_and_refusals_are_named() {
        let mut expected = Expected::default();
        expected.add("Parsed\n\nstarting permutation: a b\nstep a: X\n\n\nstarting permutation: a b\nstep a: Y\n");
        expected.add("Parsed\n\nstarting permutation: a b\nstep a: Z\n");
        let judge = |n, text: &str| expected.judge("a b", n, &format!("{START}a b\n{text}"));
        assert_eq!(judge(0, "step a: X  \n\n"), Verdict::Same);
        assert_eq!(judge(0, "step a: Z\n"), Verdict::Same);
        assert_eq!(judge(1, "step a: Z\n"), Verdict::Different);
        let missing = judge(0, "setup failed: ERROR:  MERGE is not supported yet\n");
        assert_eq!(missing, Verdict::Missing("MERGE".to_owned()));
    }

    #[test]
    fn a_difference_shows_what_came_before() {
        assert_eq!(difference("a\nb\nc\nd\n", "a\nb\nx\nd\n"), "    a\n    b\n  - c\n  + x\n");
    }
}
