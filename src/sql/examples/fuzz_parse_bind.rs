//! Throws mutated SQL at parser, binder and optimiser, and looks for panics, overflows and hangs.
//!
//! ```text
//! cargo run -p meridian-sql --example fuzz_parse_bind -- [seconds] [seed] [folder of .sql files]
//! cargo run -p meridian-sql --example fuzz_parse_bind -- case SEED [folder]     one case again
//! ```
//!
//! Each case is made from its own seed and the corpus alone: statements are cut into tokens, and
//! tokens, groups and whole clauses are moved between statements, repeated, nested, or replaced by
//! values at the edge of their type. The seed of the case at work is kept in a file, so that it is
//! known even after an abort, which a stack that overflows ends in.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use meridian_base::{Instant, Rng};
use meridian_sql::parse::{Source, Statement};
// The catalog of the crate's tests, which finds these three at the root of its crate.
use meridian_sql::{bind, ddl, parse};
use meridian_types::EvalContext;

#[path = "../tests/catalog.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod catalog;

use catalog::TestCatalog;

/// Stack of the thread that runs the cases: the one of a session's thread.
const STACK_BYTES: usize = 8 << 20;
/// A case that takes longer is reported.
const SLOW: Duration = Duration::from_secs(2);
/// Longest text that a mutation may grow to, bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

const TABLES: &str = "
    create table t (a int primary key, b text, c int);
    create table u (a int, d numeric(6,2) default 1.5, e timestamptz, primary key (a));
    create table v (x int not null, y int, z varchar(5), unique (x, y));
    create table g (id int generated always as identity, w int check (w > 0), dbl int generated always as (w * 2) stored);
    create index t_c on t (c);
    create view tv as select a as k, b || '!' as label from t where c > 0";

/// Statements of every kind, one a line.
const CORPUS: &str = include_str!("fuzz_corpus.sql");

/// Tokens that are put in at random.
const WORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "group by",
    "order by",
    "having",
    "limit",
    "offset",
    "union all",
    "intersect",
    "except",
    "with r as (select 1)",
    "with recursive r as",
    "lateral",
    "left join",
    "full join",
    "cross join",
    "natural join",
    "on true",
    "using (a)",
    "case when",
    "then",
    "else",
    "end",
    "in",
    "not in",
    "between",
    "and",
    "or",
    "not",
    "is null",
    "is distinct from",
    "like",
    "similar to",
    "any",
    "all",
    "exists",
    "array[",
    "row(",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "::int",
    "::text",
    "::numeric(3,1)",
    "::int[]",
    "cast(",
    "as",
    "over (",
    "partition by",
    "rows between",
    "filter (where",
    "distinct",
    "distinct on (",
    "*",
    "t.*",
    "+",
    "-",
    "/",
    "||",
    "->",
    "->>",
    "@>",
    "=",
    "<",
    "null",
    "true",
    "default",
    "values",
    "insert into t",
    "on conflict",
    "do update set",
    "returning",
    "update t set",
    "delete from t",
    "for update",
    "grouping sets (",
    "rollup (",
    "cube (",
    "within group (",
    "extract(",
    "interval '1 day'",
    "$1",
    "$2",
    "$65535",
    "generate_series(",
    "count(*)",
    "sum(",
    "coalesce(",
    "unnest(",
    "1",
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "1e400",
    "1e-400",
    "0x7f",
    "''",
    "'{}'",
    "'{1,2}'",
    "e'\\\\'",
    "U&'\\0041'",
    "$$x$$",
    "\"quoted\"",
    "at time zone",
    "collate \"C\"",
    "--",
    "/*",
    "*/",
    "tablesample system (",
    "fetch first",
    "with ties",
    "explain",
    "create table x (",
    "create view x as",
    "merge into t using u on",
    "when matched then",
    "current_date",
    "nulls first",
    "😀",
    "ä",
    "\u{0}",
];

type Failures = BTreeMap<String, (u64, String, u64)>;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let one = args.first().is_some_and(|a| a == "case");
    if one {
        args.remove(0);
    }
    let number =
        |n: usize, default: u64| args.get(n).map_or(default, |a| a.parse().expect("a number"));
    let (seconds, seed) = if one { (0, number(0, 1)) } else { (number(0, 60), number(1, 1)) };
    let folder = args.get(if one { 1 } else { 2 }).cloned();
    let work = move || run(one, seconds, seed, folder.as_deref());
    let thread =
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread starts");
    let clean = thread.join().expect("the cases' panics are caught");
    std::process::exit(i32::from(!clean));
}

fn run(one: bool, seconds: u64, seed: u64, folder: Option<&str>) -> bool {
    let corpus = corpus(folder);
    static PLACE: Mutex<String> = Mutex::new(String::new());
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        *PLACE.lock().expect("nobody panics with it") =
            format!("{place}: {}", text.unwrap_or_default());
    }));
    let path = std::env::temp_dir().join(format!("fuzz_parse_bind.{}", std::process::id()));
    let mut last = std::fs::File::create(&path).expect("the temporary directory can be written");
    println!("{} statements; the seed of the case at work is in {}", corpus.len(), path.display());
    let started = Instant::now();
    let (mut failures, mut cases) = (Failures::new(), 0u64);
    loop {
        let case_seed = if one { seed } else { seed.wrapping_mul(1 << 32).wrapping_add(cases) };
        let text = case(&corpus, case_seed);
        let _ = last.seek(SeekFrom::Start(0)).and_then(|_| writeln!(last, "{case_seed:<24}"));
        if one {
            println!("{text}");
        }
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| try_text(&text)));
        let place = match outcome {
            Ok(state) if one => {
                println!("{}", state.join("\n"));
                None
            }
            Ok(states) if states.iter().any(|s| s.starts_with("XX000")) => Some(states.join("; ")),
            Ok(_) if began.elapsed() > SLOW && slow_again(&text) => Some("slow".to_owned()),
            Ok(_) => None,
            Err(_) => Some(PLACE.lock().expect("nobody panics with it").clone()),
        };
        if let Some(place) = place {
            note(&mut failures, place, case_seed, text);
        }
        cases += 1;
        if one || started.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    let _ = std::fs::remove_file(&path);
    println!("{cases} cases, {} kinds of failure", failures.len());
    for (place, (case_seed, text, count)) in &failures {
        println!("== {place}\n   {count} times, for instance case {case_seed}:\n{text}");
    }
    failures.is_empty()
}

/// Whether a case takes as much of the processor: the machine may have been busy with other things.
fn slow_again(text: &str) -> bool {
    let began = (Instant::now(), on_processor());
    let _ = catch_unwind(AssertUnwindSafe(|| try_text(text)));
    let taken = on_processor().zip(began.1).map(|(now, then)| now.saturating_sub(then));
    taken.unwrap_or_else(|| began.0.elapsed()) > SLOW
}

/// How long this thread has run, where the system tells.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Notes a failure, with the shortest text that leads to it.
fn note(failures: &mut Failures, place: String, seed: u64, text: String) {
    let entry = failures.entry(place.chars().take(200).collect());
    let known = entry.or_insert_with(|| (seed, text.clone(), 0));
    known.2 += 1;
    if text.len() < known.1.len() {
        (known.0, known.1) = (seed, text);
    }
}

/// What becomes of the text: a state for each statement.
fn try_text(text: &str) -> Vec<String> {
    let shown =
        |e: meridian_types::PgError| format!("{} {}", e.state().as_str(), e.fields().message);
    let statements = match parse::parse(text) {
        Ok(statements) => statements,
        Err(e) => return vec![shown(e)],
    };
    thread_local! {
        static TABLES_OF_CASES: TestCatalog = TestCatalog::of(TABLES);
    }
    let one = |parsed: &parse::Parsed| match &parsed.statement {
        Statement::Query(query) => TABLES_OF_CASES.with(|tables| {
            let source = Source { text: text.into(), visible: true };
            let eval = EvalContext::bare();
            bind::statement::bind_query_statement(tables, &eval, &source, query, &[], true)
                .map_or_else(shown, |q| meridian_sql::dump::query(&q))
        }),
        _ => "ok".to_owned(),
    };
    statements.iter().map(one).collect()
}

fn corpus(folder: Option<&str>) -> Vec<Vec<String>> {
    let mut texts: Vec<String> =
        CORPUS.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if let Some(folder) = folder {
        let entries = std::fs::read_dir(folder).expect("the corpus can be read");
        let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "sql")) {
            let bytes = std::fs::read(path).expect("the corpus can be read");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            texts.extend(text.split(";\n").filter(|s| s.len() < 4000).map(|s| s.trim().to_owned()));
        }
    }
    texts.iter().map(|text| tokens(text)).filter(|t| !t.is_empty()).collect()
}

/// Words, numbers, strings, blanks and single signs.
fn tokens(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut quote = None;
    for c in text.chars() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let grows = match (quote, out.last().and_then(|t| t.chars().next_back())) {
            (Some(_), _) => true,
            (None, Some(last)) => {
                (word(last) && word(c)) || (last.is_whitespace() && c.is_whitespace())
            }
            (None, None) => false,
        };
        match out.last_mut() {
            Some(token) if grows => token.push(c),
            _ => out.push(c.to_string()),
        }
        match quote {
            Some(q) if q == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
    }
    out
}

/// The text of a case.
fn case(corpus: &[Vec<String>], seed: u64) -> String {
    let mut rng = Rng::seeded(seed);
    let mut statement = corpus[pick(&mut rng, corpus.len())].clone();
    for _ in 0..=rng.below(6) {
        mutate(&mut rng, &mut statement, corpus);
        if statement.iter().map(String::len).sum::<usize>() > TEXT_BYTES_MAX {
            break;
        }
    }
    let mut text = statement.concat();
    if rng.below(20) == 0 {
        text = with_other_bytes(&mut rng, &text);
    }
    text
}

fn pick(rng: &mut Rng, len: usize) -> usize {
    rng.below(len as u64) as usize
}

/// A range of tokens; with luck one that begins and ends with matching parentheses.
fn range(rng: &mut Rng, tokens: &[String]) -> std::ops::Range<usize> {
    if tokens.is_empty() {
        return 0..0;
    }
    let start = pick(rng, tokens.len());
    if rng.below(2) == 0 {
        let opens: Vec<usize> = (0..tokens.len()).filter(|i| tokens[*i] == "(").collect();
        if !opens.is_empty() {
            let open = opens[pick(rng, opens.len())];
            let mut depth = 0;
            for (i, token) in tokens.iter().enumerate().skip(open) {
                depth += i32::from(token == "(") - i32::from(token == ")");
                if depth == 0 {
                    return open..i + 1;
                }
            }
        }
    }
    start..(start + 1 + pick(rng, 8)).min(tokens.len())
}

fn mutate(rng: &mut Rng, tokens: &mut Vec<String>, corpus: &[Vec<String>]) {
    let other = &corpus[pick(rng, corpus.len())];
    let here = range(rng, tokens);
    match rng.below(12) {
        0 => drop(tokens.drain(here)),
        1 | 2 => {
            let there = range(rng, other);
            tokens.splice(here, other[there].iter().cloned());
        }
        3 => {
            let there = range(rng, other);
            let at = here.start;
            tokens.splice(at..at, other[there].iter().cloned());
        }
        4 | 5 => {
            let at = here.start;
            let word = format!(" {} ", WORDS[pick(rng, WORDS.len())]);
            tokens.splice(at..at, [word]);
        }
        6 => {
            let word = format!(" {} ", WORDS[pick(rng, WORDS.len())]);
            tokens.splice(here, [word]);
        }
        7 => nest(rng, tokens, here),
        8 => {
            let part: Vec<String> = tokens[here.clone()].to_vec();
            let times = if rng.below(10) == 0 { pick(rng, 500) } else { pick(rng, 4) };
            for _ in 0..times {
                tokens.splice(here.end..here.end, part.iter().cloned());
            }
        }
        9 => {
            let there = range(rng, tokens);
            if here.end <= there.start {
                let part: Vec<String> = tokens[there.clone()].to_vec();
                let first: Vec<String> = tokens.splice(there.clone(), []).collect();
                tokens.splice(here, part.into_iter().chain(first.into_iter().take(1)));
            }
        }
        10 => {
            // A whole statement as a subquery.
            let text = format!("({})", other.concat());
            tokens.splice(here, [text]);
        }
        _ => {
            // Another column or number of its own kind.
            if let Some(token) = tokens.get_mut(here.start) {
                const NAMES: &[&str] = &[
                    "a",
                    "b",
                    "c",
                    "d",
                    "e",
                    "x",
                    "y",
                    "z",
                    "t",
                    "u",
                    "v",
                    "g",
                    "tv",
                    "t.a",
                    "pg_class",
                    "0",
                    "2147483648",
                    "1.5",
                    "'x'",
                    "null",
                    "excluded.a",
                ];
                *token = NAMES[pick(rng, NAMES.len())].to_owned();
            }
        }
    }
}

/// Repeats an opening and a closing around a part.
fn nest(rng: &mut Rng, tokens: &mut Vec<String>, here: std::ops::Range<usize>) {
    const PAIRS: &[(&str, &str)] = &[
        ("(", ")"),
        ("(select ", ")"),
        ("array[", "]"),
        ("row(", ")"),
        ("- ", ""),
        ("not ", ""),
        ("case when true then ", " end"),
        ("abs(", ")"),
        ("", "::int"),
        ("", " + 1"),
        ("", "[1]"),
        ("", " and true"),
        ("", " || 'x'"),
        ("(values (", "))"),
        ("exists (select ", ")"),
        ("", " union all select 1"),
        ("select * from (", ") q"),
        ("", " collate \"C\""),
        ("coalesce(", ", 1)"),
        ("1 in (", ")"),
        ("", " is null"),
        ("with w as (", ") select 1"),
    ];
    let (open, close) = PAIRS[pick(rng, PAIRS.len())];
    let depth = match rng.below(20) {
        0 => pick(rng, 5000),
        1..4 => pick(rng, 100),
        _ => 1 + pick(rng, 4),
    };
    tokens.splice(here.end..here.end, [close.repeat(depth)]);
    tokens.splice(here.start..here.start, [open.repeat(depth)]);
}

/// Changes single characters.
fn with_other_bytes(rng: &mut Rng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=rng.below(4) {
        if chars.is_empty() {
            break;
        }
        let at = pick(rng, chars.len());
        match rng.below(3) {
            0 => drop(chars.remove(at)),
            1 => chars[at] = char::from_u32(rng.below(0x250) as u32).unwrap_or('?'),
            _ => chars.insert(at, char::from(rng.below(128) as u8)),
        }
    }
    chars.into_iter().collect()
}
