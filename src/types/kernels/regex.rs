//! Regular expressions: compiled patterns, matching, and the functions over them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use fancy_regex::Regex;

use super::call::{fun, invalid_parameter, len_i32, mismatch};
use super::regex_longest::Longest;
use super::regex_syntax::{Flags, invalid, translate};
use crate::registry::SetKernel;
use crate::{ArrayValue, CallInfo, Datum, Kernel, PgError, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

/// Compiled patterns that a thread keeps; a query mostly uses one or two.
const CACHED: usize = 64;

thread_local! {
    static COMPILED: RefCell<HashMap<(String, Flags), Rc<Compiled>>> = RefCell::new(HashMap::new());
}

/// A pattern, ready to match.
struct Compiled {
    engine: Regex,
    /// Chooses among the matches at a place, where the engine's choice may not be PostgreSQL's.
    longest: Option<Longest>,
}

fn compile(pattern: &str, flags: Flags) -> Result<Rc<Compiled>> {
    let flags = Flags { global: false, ..flags };
    COMPILED.with_borrow_mut(|cache| {
        let key = (pattern.to_owned(), flags);
        if let Some(found) = cache.get(&key) {
            return Ok(Rc::clone(found));
        }
        let translated = translate(pattern, flags)?;
        let engine = Regex::new(&translated).map_err(|e| invalid(&e.to_string()))?;
        let regex = Compiled { engine, longest: Longest::new(&translated) };
        if cache.len() >= CACHED {
            cache.clear();
        }
        Ok(Rc::clone(cache.entry(key).or_insert(Rc::new(regex))))
    })
}

/// Byte ranges of the whole match and of each group.
pub(super) type Groups = Vec<Option<(usize, usize)>>;

fn failed(e: fancy_regex::Error) -> PgError {
    PgError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("regular expression failed: {e}"))
}

fn find(regex: &Compiled, text: &str, from: usize) -> Result<Option<Groups>> {
    let Some(found) = regex.engine.captures_from_pos(text, from).map_err(failed)? else {
        return Ok(None);
    };
    let start = found.get(0).map_or(from, |m| m.start());
    let chosen = regex.longest.as_ref().and_then(|l| l.at(text, start));
    let groups = || found.iter().map(|m| m.map(|m| (m.start(), m.end()))).collect();
    Ok(Some(chosen.unwrap_or_else(groups)))
}

fn whole(groups: &Groups) -> (usize, usize) {
    groups.first().copied().flatten().unwrap_or((0, 0))
}

/// The offset of the character behind the one at `at`; past the end when there is none.
fn step(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

/// Matches from an offset on, all of them or the first. `splitting` leaves out empty matches at
/// the start, at the end and right behind a match.
fn matches(
    regex: &Compiled,
    text: &str,
    from: usize,
    all: bool,
    splitting: bool,
) -> Result<Vec<Groups>> {
    let mut found = Vec::new();
    let (mut at, mut previous_end) = (from, 0);
    while at <= text.len() {
        let Some(groups) = find(regex, text, at)? else { break };
        let (start, end) = whole(&groups);
        if !splitting || (start < text.len() && end > previous_end) {
            found.push(groups);
        }
        previous_end = end;
        if !all {
            break;
        }
        at = if start < end { end } else { step(text, end) };
    }
    Ok(found)
}

fn is_match(text: &str, pattern: &str, flags: Flags) -> Result<bool> {
    compile(pattern, flags)?.engine.is_match(text).map_err(failed)
}

const INSENSITIVE: Flags = Flags {
    global: false,
    ignore_case: true,
    expanded: false,
    literal: false,
    newline_stops: false,
    line_anchors: false,
};

fn imatch(text: &str, pattern: &str) -> Result<bool> {
    is_match(text, pattern, INSENSITIVE)
}

fn smatch(text: &str, pattern: &str) -> Result<bool> {
    is_match(text, pattern, Flags::default())
}

fn not_global(flags: &str, function: &str) -> Result<Flags> {
    let flags = Flags::parse(flags)?;
    if flags.global {
        return Err(invalid_parameter(format!(
            "{function}() does not support the \"global\" option"
        )));
    }
    Ok(flags)
}

fn str_at(args: &[Datum], i: usize) -> Result<Option<&str>> {
    match args.get(i) {
        None => Ok(None),
        Some(Datum::Text(s)) => Ok(Some(s)),
        Some(_) => Err(mismatch(args)),
    }
}

fn int_at(args: &[Datum], i: usize) -> Result<Option<i32>> {
    match args.get(i) {
        None => Ok(None),
        Some(Datum::Int4(v)) => Ok(Some(*v)),
        Some(_) => Err(mismatch(args)),
    }
}

/// Text and pattern of a call.
fn subject(args: &[Datum]) -> Result<(&str, &str)> {
    match args {
        [Datum::Text(text), Datum::Text(pattern), ..] => Ok((text, pattern)),
        _ => Err(mismatch(args)),
    }
}

fn part(text: &str, range: Option<(usize, usize)>) -> Datum {
    range.map_or(Datum::Null, |(start, end)| Datum::text(&text[start..end]))
}

/// The groups of a match as `text[]`, or the whole match when there are none.
fn groups_array(text: &str, groups: &Groups) -> Datum {
    let shown = if groups.len() > 1 { &groups[1..] } else { &groups[..] };
    let elements = shown.iter().map(|&r| part(text, r)).collect();
    Datum::Array(Arc::new(ArrayValue::from_elements(crate::oid::TEXT, elements)))
}

fn regexp_match(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern) = subject(args)?;
    let flags = not_global(str_at(args, 2)?.unwrap_or(""), "regexp_match").map_err(|e| {
        let global = e.fields().message.contains("global");
        if global { e.hint("Use the regexp_matches function instead.") } else { e }
    })?;
    let found = find(&*compile(pattern, flags)?, text, 0)?;
    Ok(found.map_or(Datum::Null, |groups| groups_array(text, &groups)))
}

fn regexp_matches(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    let (text, pattern) = subject(args)?;
    let flags = Flags::parse(str_at(args, 2)?.unwrap_or(""))?;
    let found = matches(&*compile(pattern, flags)?, text, 0, flags.global, false)?;
    Ok(found.iter().map(|groups| groups_array(text, groups)).collect())
}

fn split(args: &[Datum], function: &str) -> Result<Vec<Datum>> {
    let (text, pattern) = subject(args)?;
    let flags = not_global(str_at(args, 2)?.unwrap_or(""), function)?;
    let found = matches(&*compile(pattern, flags)?, text, 0, true, true)?;
    let mut pieces = Vec::with_capacity(found.len() + 1);
    let mut from = 0;
    for groups in &found {
        let (start, end) = whole(groups);
        pieces.push(Datum::text(&text[from..start]));
        from = end;
    }
    pieces.push(Datum::text(&text[from..]));
    Ok(pieces)
}

fn split_to_array(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let pieces = split(args, "regexp_split_to_array")?;
    Ok(Datum::Array(Arc::new(ArrayValue::from_elements(crate::oid::TEXT, pieces))))
}

fn split_to_table(_: &CallInfo<'_>, args: &[Datum]) -> Result<Vec<Datum>> {
    split(args, "regexp_split_to_table")
}

fn positive(value: i32, name: &str, least: i32) -> Result<i32> {
    if value < least {
        return Err(invalid_parameter(format!("invalid value for parameter \"{name}\": {value}")));
    }
    Ok(value)
}

/// The byte offset of a one-based character position; past the end when there is none.
fn start_offset(text: &str, start: i32) -> usize {
    let skip = usize::try_from(start - 1).unwrap_or(0);
    let chars = text.chars().count();
    if skip > chars {
        return text.len() + 1;
    }
    text.char_indices().nth(skip).map_or(text.len(), |(i, _)| i)
}

fn regexp_count(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern) = subject(args)?;
    let start = positive(int_at(args, 2)?.unwrap_or(1), "start", 1)?;
    let flags = not_global(str_at(args, 3)?.unwrap_or(""), "regexp_count")?;
    let regex = compile(pattern, flags)?;
    let found = matches(&regex, text, start_offset(text, start), true, false)?;
    Ok(Datum::Int4(len_i32(found.len())))
}

/// The n-th match from a start, and the group asked for.
fn nth_group(
    (text, pattern): (&str, &str),
    start: i32,
    n: i32,
    flags: Flags,
    group: i32,
) -> Result<Option<(usize, usize)>> {
    let regex = compile(pattern, flags)?;
    let found = matches(&regex, text, start_offset(text, start), true, false)?;
    let groups = found.get(usize::try_from(n - 1).unwrap_or(0));
    Ok(groups.and_then(|g| g.get(usize::try_from(group).unwrap_or(0)).copied().flatten()))
}

fn regexp_instr(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let subject = subject(args)?;
    let start = positive(int_at(args, 2)?.unwrap_or(1), "start", 1)?;
    let n = positive(int_at(args, 3)?.unwrap_or(1), "n", 1)?;
    let end = int_at(args, 4)?.unwrap_or(0);
    if end != 0 && end != 1 {
        return Err(invalid_parameter(format!("invalid value for parameter \"endoption\": {end}")));
    }
    let flags = not_global(str_at(args, 5)?.unwrap_or(""), "regexp_instr")?;
    let group = positive(int_at(args, 6)?.unwrap_or(0), "subexpr", 0)?;
    let found = nth_group(subject, start, n, flags, group)?;
    let at = found.map(|(from, to)| if end == 1 { to } else { from });
    Ok(Datum::Int4(at.map_or(0, |at| len_i32(subject.0[..at].chars().count()) + 1)))
}

fn regexp_substr(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let subject = subject(args)?;
    let start = positive(int_at(args, 2)?.unwrap_or(1), "start", 1)?;
    let n = positive(int_at(args, 3)?.unwrap_or(1), "n", 1)?;
    let flags = not_global(str_at(args, 4)?.unwrap_or(""), "regexp_substr")?;
    let group = positive(int_at(args, 5)?.unwrap_or(0), "subexpr", 0)?;
    Ok(part(subject.0, nth_group(subject, start, n, flags, group)?))
}

fn regexp_like(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern) = subject(args)?;
    let flags = not_global(str_at(args, 2)?.unwrap_or(""), "regexp_like")?;
    is_match(text, pattern, flags).map(Datum::Bool)
}

/// `substring(text from pattern)`: the first group, or the whole match without groups.
fn regexp_part(text: &str, pattern: &str) -> Result<Datum> {
    let found = find(&*compile(pattern, Flags::default())?, text, 0)?;
    Ok(found.map_or(Datum::Null, |g| part(text, g.get(1).copied().unwrap_or(g[0]))))
}

/// Appends a replacement: `\1` … `\9` are groups, `\&` is the match, `\\` a backslash.
fn substitute(out: &mut String, template: &str, text: &str, groups: &Groups) {
    let group = |out: &mut String, n: usize| {
        if let Some((start, end)) = groups.get(n).copied().flatten() {
            out.push_str(&text[start..end]);
        }
    };
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('\\', Some(d @ '1'..='9')) => group(out, d.to_digit(10).unwrap_or(0) as usize),
            ('\\', Some('&')) => group(out, 0),
            ('\\', Some('\\')) => out.push('\\'),
            (c, _) => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
}

/// Replaces the n-th match, or all when n is 0.
fn replace(text: &str, regex: &Compiled, template: &str, from: usize, n: usize) -> Result<String> {
    let found = matches(regex, text, from, n != 1, false)?;
    let chosen: &[Groups] = match n {
        0 => &found,
        n => found.get(n - 1..n).unwrap_or_default(),
    };
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for groups in chosen {
        let (start, end) = whole(groups);
        out.push_str(&text[at..start]);
        substitute(&mut out, template, text, groups);
        at = end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

fn regexp_replace(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern) = subject(args)?;
    let template = str_at(args, 2)?.ok_or_else(|| mismatch(args))?;
    let letters = str_at(args, 3)?.unwrap_or("");
    if letters.starts_with(|c: char| c.is_ascii_digit()) {
        let shown = &letters[..1];
        return Err(invalid_parameter(format!("invalid regular expression option: \"{shown}\""))
            .hint(
                "If you meant to use regexp_replace() with a start parameter, cast the fourth \
                 argument to integer explicitly.",
            ));
    }
    let flags = Flags::parse(letters)?;
    let n = usize::from(!flags.global);
    replace(text, &*compile(pattern, flags)?, template, 0, n).map(Datum::text)
}

fn regexp_replace_extended(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern) = subject(args)?;
    let template = str_at(args, 2)?.ok_or_else(|| mismatch(args))?;
    let start = positive(int_at(args, 3)?.unwrap_or(1), "start", 1)?;
    let n = positive(int_at(args, 4)?.unwrap_or(1), "n", 0)?;
    let flags = Flags::parse(str_at(args, 5)?.unwrap_or(""))?;
    let from = start_offset(text, start);
    let n = usize::try_from(n).unwrap_or(0);
    replace(text, &*compile(pattern, flags)?, template, from, n).map(Datum::text)
}

/// A `SIMILAR TO` pattern as a regular expression.
fn similar_to(pattern: &str, escape: Option<&str>) -> Result<String> {
    let escape = escape.unwrap_or("\\");
    let mut escape_chars = escape.chars();
    let escape = escape_chars.next();
    if escape_chars.next().is_some() {
        return Err(PgError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .hint("Escape string must be empty or one character."));
    }
    let mut out = String::from("^(?:");
    let (mut escaped, mut quotes) = (false, 0);
    // How deep in brackets, and whether the class has begun: before that a `]` stands for itself.
    let (mut depth, mut begun) = (0u32, false);
    for c in pattern.chars() {
        if escaped {
            if c == '"' && depth == 0 {
                quotes += 1;
                match quotes {
                    1 => out.push_str("){1,1}?("),
                    2 => out.push_str("){1,1}(?:"),
                    _ => {
                        return Err(PgError::new(
                            SqlState::from_code("2200C"),
                            "SQL regular expression may not contain more than two escape-double-quote separators",
                        ));
                    }
                }
            } else {
                out.push('\\');
                out.push(c);
            }
            (escaped, begun) = (false, true);
        } else if Some(c) == escape {
            escaped = true;
        } else if depth > 0 {
            match c {
                '\\' => out.push('\\'),
                ']' if begun => depth -= 1,
                '[' => depth += 1,
                _ => {}
            }
            begun |= c != '^' || !out.ends_with('[');
            out.push(c);
        } else {
            match c {
                '[' => {
                    out.push('[');
                    (depth, begun) = (1, false);
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }
    out.push_str(")$");
    Ok(out)
}

fn similar_escape(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Text(pattern)] => similar_to(pattern, None).map(Datum::text),
        [Datum::Text(pattern), escape] => similar_to(pattern, escape.as_str()).map(Datum::text),
        _ => Ok(Datum::Null),
    }
}

fn substring_similar(text: &str, pattern: &str, escape: &str) -> Result<Datum> {
    regexp_part(text, &similar_to(pattern, Some(escape))?)
}

const TESTS: Table = &[
    ("textregexeq", fun!(|s: &str, p: &str| smatch(s, p))),
    ("textregexne", fun!(|s: &str, p: &str| smatch(s, p).map(|m| !m))),
    ("texticregexeq", fun!(|s: &str, p: &str| imatch(s, p))),
    ("texticregexne", fun!(|s: &str, p: &str| imatch(s, p).map(|m| !m))),
    ("nameregexeq", fun!(|s: &str, p: &str| smatch(s, p))),
    ("nameregexne", fun!(|s: &str, p: &str| smatch(s, p).map(|m| !m))),
    ("nameicregexeq", fun!(|s: &str, p: &str| imatch(s, p))),
    ("nameicregexne", fun!(|s: &str, p: &str| imatch(s, p).map(|m| !m))),
    ("regexp_like", regexp_like),
    ("regexp_like_no_flags", regexp_like),
    ("similar_escape", similar_escape),
    ("similar_to_escape_1", similar_escape),
    ("similar_to_escape_2", similar_escape),
];

const PARTS: Table = &[
    ("regexp_match", regexp_match),
    ("regexp_match_no_flags", regexp_match),
    ("regexp_split_to_array", split_to_array),
    ("regexp_split_to_array_no_flags", split_to_array),
    ("regexp_count", regexp_count),
    ("regexp_count_no_flags", regexp_count),
    ("regexp_count_no_start", regexp_count),
    ("regexp_instr", regexp_instr),
    ("regexp_instr_no_endoption", regexp_instr),
    ("regexp_instr_no_flags", regexp_instr),
    ("regexp_instr_no_n", regexp_instr),
    ("regexp_instr_no_start", regexp_instr),
    ("regexp_instr_no_subexpr", regexp_instr),
    ("regexp_substr", regexp_substr),
    ("regexp_substr_no_flags", regexp_substr),
    ("regexp_substr_no_n", regexp_substr),
    ("regexp_substr_no_start", regexp_substr),
    ("regexp_substr_no_subexpr", regexp_substr),
    ("textregexsubstr", fun!(|s: &str, p: &str| regexp_part(s, p))),
    ("substring(text,text,text)", fun!(|s: &str, p: &str, e: &str| substring_similar(s, p, e))),
    ("textregexreplace", regexp_replace),
    ("textregexreplace_noopt", regexp_replace),
    ("textregexreplace_extended", regexp_replace_extended),
    ("textregexreplace_extended_no_flags", regexp_replace_extended),
    ("textregexreplace_extended_no_n", regexp_replace_extended),
];

pub(crate) const TABLES: &[Table] = &[TESTS, PARTS];

pub(crate) const SETS: &[(&str, SetKernel)] = &[
    ("regexp_matches", regexp_matches),
    ("regexp_matches_no_flags", regexp_matches),
    ("regexp_split_to_table", split_to_table),
    ("regexp_split_to_table_no_flags", split_to_table),
];
