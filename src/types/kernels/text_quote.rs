//! Joining, quoting and formatting: `concat`, `quote_ident`, `format` and their like.

use super::call::{fun, invalid_parameter, mismatch};
use crate::{CallInfo, Datum, Kernel, PgError, PgType, Result, SqlState};

type Table = &'static [(&'static str, Kernel)];

/// Words that an identifier can only be in quotes (all key words but the unreserved ones).
const KEY_WORDS: &str = "\
all analyse analyze and any array as asc asymmetric authorization between bigint binary \
bit boolean both case cast char character check coalesce collate collation column \
concurrently constraint create cross current_catalog current_date current_role \
current_schema current_time current_timestamp current_user dec decimal default deferrable \
desc distinct do else end except exists extract false fetch float for foreign freeze from \
full grant greatest group grouping having ilike in initially inner inout int integer \
intersect interval into is isnull join lateral leading least left like limit localtime \
localtimestamp national natural nchar none normalize not notnull null nullif numeric \
offset on only or order out outer overlaps overlay placing position precision primary real \
references returning right row select session_user setof similar smallint some substring \
symmetric table tablesample then time timestamp to trailing treat trim true union unique \
user using values varchar variadic verbose when where window with xmlattributes xmlconcat \
xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

fn is_key_word(word: &str) -> bool {
    KEY_WORDS.split(' ').any(|k| k == word)
}

/// An identifier as SQL text, quoted where that is needed.
pub(crate) fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !is_key_word(name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A string as an SQL literal.
pub(crate) fn quote_literal(s: &str) -> String {
    let prefix = if s.contains('\\') { " E" } else { "" };
    let body = s.replace('\'', "''").replace('\\', "\\\\");
    format!("{}'{body}'", prefix.trim_start())
}

/// The text of any value, as its output function gives it.
fn text_of(call: &CallInfo<'_>, value: &Datum, ty: PgType) -> Result<String> {
    crate::io::to_text(value, ty, call.ctx)
}

fn type_of(call: &CallInfo<'_>, i: usize, value: &Datum) -> PgType {
    call.args.get(i).copied().unwrap_or_else(|| crate::io::natural_type(value))
}

fn concat_from(call: &CallInfo<'_>, args: &[Datum], first: usize, sep: &str) -> Result<String> {
    let mut out = String::new();
    let mut any = false;
    for (i, value) in args.iter().enumerate().skip(first).filter(|(_, v)| !v.is_null()) {
        if any {
            out.push_str(sep);
        }
        any = true;
        out.push_str(&text_of(call, value, type_of(call, i, value))?);
    }
    Ok(out)
}

fn concat(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    concat_from(call, args, 0, "").map(Datum::text)
}

fn concat_ws(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    match args.first() {
        Some(Datum::Text(sep)) => concat_from(call, args, 1, sep).map(Datum::text),
        Some(Datum::Null) => Ok(Datum::Null),
        _ => Err(mismatch(args)),
    }
}

/// The text that a cast gives, which for `bool` and `char(n)` is not the output form.
fn cast_text(call: &CallInfo<'_>, i: usize, value: &Datum) -> Result<String> {
    let ty = type_of(call, i, value);
    match value {
        Datum::Bool(v) => Ok(v.to_string()),
        Datum::Text(s) if ty.oid == crate::oid::BPCHAR => Ok(s.trim_end_matches(' ').to_owned()),
        _ => text_of(call, value, ty),
    }
}

/// `text || anynonarray` and the other way round.
fn any_cat(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let [a, b] = args else { return Err(mismatch(args)) };
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    Ok(Datum::text(cast_text(call, 0, a)? + &cast_text(call, 1, b)?))
}

fn quote_nullable(_: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Null] => Ok(Datum::text("NULL")),
        [Datum::Text(s)] => Ok(Datum::text(quote_literal(s))),
        _ => Err(mismatch(args)),
    }
}

/// One `%…` of a format string.
#[derive(Default)]
struct Specifier {
    position: Option<usize>,
    left: bool,
    width: Option<i32>,
    /// The width is an argument: the next one, or one by position.
    width_argument: Option<Option<usize>>,
    kind: char,
}

fn unterminated() -> PgError {
    invalid_parameter("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".")
}

struct Format<'a> {
    call: &'a CallInfo<'a>,
    args: &'a [Datum],
    next: usize,
}

impl Format<'_> {
    fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<i32>> {
        let mut value: Option<i32> = None;
        while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
            chars.next();
            let grown =
                value.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(d.cast_signed()));
            value = Some(grown.ok_or_else(|| super::call::out_of_range("number is out of range"))?);
        }
        Ok(value)
    }

    fn position(n: i32) -> Result<usize> {
        if n == 0 {
            return Err(invalid_parameter(
                "format specifies argument 0, but arguments are numbered from 1",
            ));
        }
        Ok(usize::try_from(n).unwrap_or(0))
    }

    fn parse(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Specifier> {
        let mut spec = Specifier::default();
        if let Some(n) = Self::number(chars)? {
            if chars.next_if_eq(&'$').is_some() {
                spec.position = Some(Self::position(n)?);
            } else {
                spec.width = Some(n);
            }
        }
        if spec.width.is_none() {
            while chars.next_if_eq(&'-').is_some() {
                spec.left = true;
            }
            if chars.next_if_eq(&'*').is_some() {
                spec.width_argument = Some(match Self::number(chars)? {
                    Some(n) => {
                        if chars.next_if_eq(&'$').is_none() {
                            return Err(invalid_parameter(
                                "width argument position must be ended by \"$\"",
                            ));
                        }
                        Some(Self::position(n)?)
                    }
                    None => None,
                });
            } else {
                spec.width = Self::number(chars)?;
            }
        }
        spec.kind = chars.next().ok_or_else(unterminated)?;
        Ok(spec)
    }

    /// Takes an argument by position or the next one.
    fn argument(&mut self, position: Option<usize>) -> Result<(usize, &Datum)> {
        let at = position.unwrap_or(self.next);
        let value =
            self.args.get(at).ok_or_else(|| invalid_parameter("too few arguments for format()"))?;
        self.next = at + 1;
        Ok((at, value))
    }

    fn write(&mut self, spec: &Specifier, out: &mut String) -> Result<()> {
        if !matches!(spec.kind, 's' | 'I' | 'L') {
            return Err(invalid_parameter(format!(
                "unrecognized format() type specifier \"{}\"",
                spec.kind
            ))
            .hint("For a single \"%\" use \"%%\"."));
        }
        let mut width = spec.width.unwrap_or(0);
        let mut left = spec.left;
        if let Some(position) = spec.width_argument {
            let (_, value) = self.argument(position)?;
            width = value.as_i64().and_then(|v| i32::try_from(v).ok()).unwrap_or(0);
            if width < 0 {
                (width, left) = (width.saturating_neg(), true);
            }
        }
        let call = self.call;
        let (at, value) = self.argument(spec.position)?;
        let text = match (spec.kind, value.is_null()) {
            ('s', true) => String::new(),
            ('L', true) => "NULL".to_owned(),
            (_, true) => {
                return Err(PgError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null values cannot be formatted as an SQL identifier",
                ));
            }
            (kind, false) => {
                let text = text_of(call, value, type_of(call, at, value))?;
                match kind {
                    'I' => quote_ident(&text),
                    'L' => quote_literal(&text),
                    _ => text,
                }
            }
        };
        let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
        let blanks = " ".repeat(missing);
        if left {
            out.push_str(&text);
            out.push_str(&blanks);
        } else {
            out.push_str(&blanks);
            out.push_str(&text);
        }
        Ok(())
    }
}

fn format_text(call: &CallInfo<'_>, args: &[Datum]) -> Result<Datum> {
    let template = match args.first() {
        Some(Datum::Text(s)) => s,
        Some(Datum::Null) => return Ok(Datum::Null),
        _ => return Err(mismatch(args)),
    };
    let mut format = Format { call, args, next: 1 };
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
        } else if chars.next_if_eq(&'%').is_some() {
            out.push('%');
        } else {
            let spec = Format::parse(&mut chars)?;
            format.write(&spec, &mut out)?;
        }
    }
    Ok(Datum::text(out))
}

const KERNELS: Table = &[
    ("textanycat(text,anynonarray)", any_cat),
    ("anytextcat(anynonarray,text)", any_cat),
    ("text_concat", concat),
    ("text_concat_ws", concat_ws),
    ("quote_ident", fun!(|s: &str| quote_ident(s))),
    ("quote_literal", fun!(|s: &str| quote_literal(s))),
    (
        "quote_literal(anyelement)",
        fun!(call, |v: &Datum| cast_text(call, 0, v).map(|s| quote_literal(&s))),
    ),
    ("quote_nullable", quote_nullable),
    ("quote_nullable(anyelement)", |call, args| match args {
        [Datum::Null] => Ok(Datum::text("NULL")),
        [v] => cast_text(call, 0, v).map(|s| Datum::text(quote_literal(&s))),
        _ => Err(mismatch(args)),
    }),
    ("text_format", format_text),
    ("text_format_nv", format_text),
];

pub(crate) const TABLES: &[Table] = &[KERNELS];
