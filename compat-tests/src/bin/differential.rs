//! Random expressions, Meridian against PostgreSQL 15: same value, same type, same text, same
//! SQLSTATE.
//!
//! The operators and functions are PostgreSQL's own: read from its catalog for the types below, and
//! put together at random with literals that lie at the edges. Each difference is printed with its
//! expression; at the end they are counted by operator or function.
//!
//! `cargo run --release -p compat-tests --bin differential -- [count] [seed]`, 20,000 and 1 if not
//! given. Ends with status 1 when a difference was found.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use compat_tests::{Meridian, Options, Postgres, tls};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Types, each with literals at its edges.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false", "null"]),
    ("smallint", &["0", "1", "-1", "32767", "-32768", "7", "null"]),
    ("integer", &["0", "1", "-1", "2147483647", "-2147483648", "42", "null"]),
    ("bigint", &["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1000000", "null"]),
    ("real", &["0", "1.5", "-2.25", "'NaN'", "'Infinity'", "1e38", "1e-38", "null"]),
    (
        "double precision",
        &["0", "1.5", "-2.25", "'NaN'", "'-Infinity'", "1e308", "1e-308", "0.1", "null"],
    ),
    (
        "numeric",
        &[
            "0",
            "1",
            "-1.50",
            "'NaN'",
            "12345678901234567890.123456789",
            "0.0001",
            "1e20",
            "3.7",
            "null",
        ],
    ),
    ("text", &["''", "'abc'", "'ABC def'", "'ä€'", "' x '", "'12'", "'a%b_c'", "null"]),
    ("bytea", &["'\\x'", "'\\x00ff'", "'\\x616263'", "null"]),
    (
        "date",
        &["'2000-01-01'", "'1999-12-31'", "'2024-02-29'", "'infinity'", "'0044-03-15 BC'", "null"],
    ),
    (
        "timestamp",
        &[
            "'2000-01-01 00:00:00'",
            "'2024-02-29 23:59:59.999999'",
            "'infinity'",
            "'1582-10-15 12:00'",
            "null",
        ],
    ),
    (
        "timestamptz",
        &["'2000-01-01 00:00:00+00'", "'2024-06-30 12:34:56.5+02'", "'-infinity'", "null"],
    ),
    (
        "interval",
        &["'0'", "'1 day'", "'-1 month 3 days 04:05:06.7'", "'100 years'", "'-00:00:01'", "null"],
    ),
    (
        "uuid",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "null",
        ],
    ),
    (
        "jsonb",
        &[
            "'null'",
            "'1'",
            "'{\"a\": 1, \"b\": [1, 2, {\"c\": null}]}'",
            "'[]'",
            "'\"x\"'",
            "'[1, \"a\", true]'",
            "null",
        ],
    ),
    ("character varying", &["''", "'abc'", "'ABC def '", "null"]),
    ("character", &["''", "'a'", "'é'", "null"]),
    ("name", &["''", "'abc'", "'Table'", "null"]),
    ("oid", &["0", "25", "4294967295", "null"]),
    ("time", &["'00:00'", "'23:59:59.999999'", "'24:00'", "'12:34:56.5'", "null"]),
    ("timetz", &["'00:00+00'", "'12:34:56.5-08'", "'24:00+05:30'", "null"]),
    (
        "json",
        &[
            "'null'",
            "'{\"b\" : 1, \"a\": [1,  {\"x\": \"y\"}]}'",
            "' [1, \"2\"]'",
            "'\"x\"'",
            "null",
        ],
    ),
    ("text[]", &["'{}'", "'{a,b,NULL}'", "null"]),
    ("integer[]", &["'{}'", "'{1,2,3}'", "'{{1,2},{3,4}}'", "null"]),
];

/// Functions whose answer is not the same twice, or that act.
const LEFT_OUT: &str = "'pg_sleep','random','setseed','gen_random_uuid','now','clock_timestamp',\
    'statement_timestamp','transaction_timestamp','timeofday','set_config','nextval','setval','currval',\
    'lastval','pg_notify','version','pg_column_size','pg_stat_file','txid_current','obj_description',\
    'shobj_description','col_description','txid_status','text_regclass','current_setting','row_security_active',\
    'txid_current_if_assigned','loread','lo_get','to_tsvector','to_tsquery','plainto_tsquery',\
    'phraseto_tsquery','websearch_to_tsquery','ts_lexize','numeric_inc','inet_merge',\
    'gin_extract_jsonb','unique_key_recheck',\
    'btequalimage','btvarstrequalimage','postgresql_fdw_validator','ts_match_tt',\
    'json_populate_record','jsonb_populate_record'";

/// Differences that are meant: parts of the expression, and why its value differs.
const EXPLAINED: &[(&[&str], &str)] = &[
    (&["cbrt("], CUBE_ROOT),
    (&["||/"], CUBE_ROOT),
    (&["jsonb_cmp("], SIGN),
    (&["bpcharcmp("], SIGN),
    (&["btnametextcmp("], SIGN),
    (&["bttextnamecmp("], SIGN),
    (&["to_ascii("], "single-byte encodings are not supported"),
    (
        &["greatest(", "json"],
        "PostgreSQL asks for the type's comparison when the query starts, after it has folded constants",
    ),
    (
        &["array_send(", "NULL"],
        "PostgreSQL's flag says whether the array that this one was cut from had NULLs",
    ),
    (
        &["overlaps(", "::interval"],
        "PostgreSQL puts in this function's definition in SQL, in which a NULL hides an interval that \
        cannot be read",
    ),
    (
        &["width_bucket(", "2147483647"],
        "PostgreSQL rounds a quotient below the count up to it, and one more is no integer",
    ),
    (&["width_bucket(", "1e308"], "PostgreSQL's product overflows before it is divided again"),
];
const SIGN: &str = "only the sign of a comparison function means something";
const CUBE_ROOT: &str = "glibc's cbrt(), which PostgreSQL calls, is off by one in the last place for \
    some arguments; ours is rounded correctly";

/// Syntax around expressions: the shape, the types of its arguments, the type of its value.
const SHAPES: &[(&str, &[&str], &str)] = &[
    ("CASE WHEN $1 THEN $2 ELSE $3 END", &["boolean", "T", "T"], "T"),
    ("CASE $1 WHEN $2 THEN $3 END", &["T", "T", "U"], "U"),
    ("coalesce($1, $2)", &["T", "T"], "T"),
    ("nullif($1, $2)", &["T", "T"], "T"),
    ("greatest($1, $2, $3)", &["T", "T", "T"], "T"),
    ("least($1, $2)", &["T", "T"], "T"),
    ("$1 IN ($2, $3)", &["T", "T", "T"], "boolean"),
    ("$1 NOT IN ($2, $3)", &["T", "T", "T"], "boolean"),
    ("$1 BETWEEN $2 AND $3", &["T", "T", "T"], "boolean"),
    ("$1 BETWEEN SYMMETRIC $2 AND $3", &["T", "T", "T"], "boolean"),
    ("$1 IS DISTINCT FROM $2", &["T", "T"], "boolean"),
    ("$1 IS NULL", &["T"], "boolean"),
    ("($1, $2) < ($3, $4)", &["T", "U", "T", "U"], "boolean"),
    ("($1, $2) = ($3, $4)", &["T", "U", "T", "U"], "boolean"),
    ("ROW($1, $2) IS NULL", &["T", "U"], "boolean"),
    ("ROW($1, $2)::text", &["T", "U"], "text"),
    ("$1 IS NOT TRUE", &["boolean"], "boolean"),
    ("$1 AND $2", &["boolean", "boolean"], "boolean"),
    ("$1 OR $2", &["boolean", "boolean"], "boolean"),
    ("NOT $1", &["boolean"], "boolean"),
    ("$1 = ANY ($2)", &["text", "text[]"], "boolean"),
    ("$1 <> ALL ($2)", &["integer", "integer[]"], "boolean"),
    ("$1 > ANY ($2)", &["integer", "integer[]"], "boolean"),
    ("($1)[$2]", &["text[]", "integer"], "text"),
    ("($1)[$2:$3]", &["integer[]", "integer", "integer"], "integer[]"),
    ("ARRAY[$1, $2]", &["integer", "integer"], "integer[]"),
    ("ARRAY[$1, $2]::text", &["T", "T"], "text"),
    ("$1 LIKE $2 ESCAPE $3", &["text", "text", "text"], "boolean"),
    ("$1 SIMILAR TO $2", &["text", "text"], "boolean"),
    ("$1 NOT ILIKE $2", &["text", "text"], "boolean"),
    ("substring($1 FROM $2 FOR $3)", &["text", "integer", "integer"], "text"),
    ("overlay($1 PLACING $2 FROM $3)", &["text", "text", "integer"], "text"),
    ("position($1 IN $2)", &["text", "text"], "integer"),
    ("trim(LEADING $1 FROM $2)", &["text", "text"], "text"),
    ("trim($1)", &["text"], "text"),
    ("concat($1, $2, $3)", &["T", "U", "text"], "text"),
    ("concat_ws($1, $2, $3)", &["text", "T", "U"], "text"),
    ("format('%s|%I|%L', $1, $2, $3)", &["T", "text", "U"], "text"),
    ("to_jsonb($1)", &["T"], "jsonb"),
    ("jsonb_build_array($1, $2)", &["T", "U"], "jsonb"),
    ("jsonb_build_object('k', $1)", &["T"], "jsonb"),
    ("quote_literal($1)", &["T"], "text"),
    ("EXTRACT(epoch FROM $1)", &["D"], "numeric"),
    ("EXTRACT(year FROM $1)", &["D"], "numeric"),
    ("EXTRACT(second FROM $1)", &["D"], "numeric"),
    ("EXTRACT(isodow FROM $1)", &["D"], "numeric"),
    ("date_trunc('month', $1)::text", &["D"], "text"),
    ("date_part('hour', $1)", &["D"], "double precision"),
    ("to_char($1, 'YYYY-MM-DD HH24:MI:SS.US Day')", &["D"], "text"),
    ("to_char($1, '999,999.99')", &["N"], "text"),
    ("to_char($1, 'FM9990.0EEEE')", &["N"], "text"),
    ("$1 AT TIME ZONE 'Europe/Berlin'", &["timestamp"], "timestamptz"),
    ("$1 AT TIME ZONE 'America/New_York'", &["timestamptz"], "timestamp"),
    ("$1::numeric(8,2)", &["N"], "numeric"),
    ("$1::varchar(3)", &["T"], "character varying"),
    ("$1::char(5)", &["T"], "character"),
    ("$1::timestamp(0)", &["timestamp"], "timestamp"),
    ("$1::interval(1)", &["interval"], "interval"),
    ("round($1, $2)", &["numeric", "integer"], "numeric"),
];
/// What `D` and `N` in a shape stand for.
const DATES: &[&str] = &["date", "timestamp", "timestamptz", "interval"];
const NUMBERS: &[&str] = &["smallint", "integer", "bigint", "real", "double precision", "numeric"];

/// An operator or function over known types.
struct Operation {
    /// Its name, for the count.
    name: String,
    /// Text with `$1`, `$2`, … for the arguments.
    shape: String,
    args: Vec<String>,
    result: String,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the program's report")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().map_or(Ok(20_000), |s| s.parse())?;
    let seed: u64 = args.next().map_or(Ok(1), |s| s.parse())?;
    let postgres = Postgres::start()?.context("PostgreSQL 15 is not installed")?;
    let meridian = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let theirs = tls::connect(&postgres.url("postgres")).await?;
    let mut ours = tls::connect(&meridian.url("postgres")).await?;
    let operations = operations(&theirs).await?;
    println!("{} operators and functions, seed {seed}", operations.len());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut different: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut same, mut unsupported, mut explained) = (0, 0, 0);
    for _ in 0..count {
        let (text, name) = expression(&mut rng, &operations);
        let query = query(&text, rng.random_bool(0.3));
        let (expected, _) = answer(&theirs, &query).await;
        let (got, message) = answer(&ours, &query).await;
        if ours.is_closed() {
            println!("CONNECTION LOST: {query}");
            ours = tls::connect(&meridian.url("postgres")).await?;
        }
        if expected == got {
            same += 1;
        } else if got == "error 0A000" {
            unsupported += 1;
            different.entry(format!("{name} (not supported)")).or_insert((0, query)).0 += 1;
        } else if EXPLAINED.iter().any(|(parts, _)| parts.iter().all(|p| text.contains(p))) {
            explained += 1;
        } else {
            println!("{query}\n    postgres: {expected}\n    meridian: {got}{message}");
            different.entry(name).or_insert((0, query)).0 += 1;
        }
    }
    println!(
        "\n{same} of {count} the same, {unsupported} refused as not supported, {explained} different \
         for a reason that is known, {} different",
        count - same - unsupported - explained
    );
    for (name, (n, example)) in &different {
        println!("{n:6}  {name:40} {example}");
    }
    for (parts, reason) in EXPLAINED {
        println!("with {} differences are expected: {reason}", parts.join(" and "));
    }
    // What ends the program here would leave both servers running.
    drop((meridian, postgres));
    std::process::exit(i32::from(same + unsupported + explained < count));
}

/// The query of an expression; with `columns` its literals are columns of two rows, so that it is
/// computed when the query runs, and by column kernels where there are any.
fn query(text: &str, columns: bool) -> String {
    if !columns {
        let text = text.replace(['\u{1}', '\u{2}'], "");
        return format!("SELECT ({text})::text, pg_typeof({text})::text");
    }
    let (mut shown, mut literals) = (String::new(), Vec::new());
    for part in text.split('\u{1}') {
        match part.split_once('\u{2}') {
            Some((literal, rest)) => {
                literals.push(literal);
                shown.push_str(&format!("c{}{rest}", literals.len()));
            }
            None => shown.push_str(part),
        }
    }
    let row = literals.join(", ");
    let names: Vec<String> = (1..=literals.len()).map(|i| format!("c{i}")).collect();
    format!(
        "SELECT ({shown})::text, pg_typeof({shown})::text FROM (VALUES ({row}), ({row})) v({}) LIMIT 1",
        names.join(", ")
    )
}

/// What is compared, and the message of an error, which is not.
async fn answer(client: &Client, query: &str) -> (String, String) {
    let answer = match client.simple_query(query).await {
        Ok(messages) => {
            let row = messages.iter().find_map(|m| match m {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            row.map_or_else(
                || "no row".to_owned(),
                |r| format!("{:?} of type {:?}", r.get(0), r.get(1)),
            )
        }
        Err(e) => {
            let message = e.as_db_error().map_or("", |e| e.message());
            let code = e.code().map_or("without a code", |c| c.code());
            return (format!("error {code}"), format!(" {message}"));
        }
    };
    (answer, String::new())
}

/// The operators, functions and casts of PostgreSQL's catalog whose argument types are all in the
/// list, and the shapes.
async fn operations(client: &Client) -> Result<Vec<Operation>> {
    let names: Vec<String> = TYPES.iter().map(|(name, _)| format!("'{name}'::regtype")).collect();
    let set = format!(
        "{},'anyarray'::regtype,'anyelement'::regtype,'anycompatible'::regtype,\
        'anycompatiblearray'::regtype,'anynonarray'::regtype",
        names.join(",")
    );
    let operators = format!(
        "SELECT o.oprname, coalesce(format_type(nullif(oprleft, 0), null), ''), \
         format_type(oprright, null), format_type(oprresult, null) FROM pg_operator o \
         JOIN pg_proc p ON p.oid = o.oprcode WHERE oprright IN ({set}) AND (oprleft = 0 OR oprleft IN ({set})) \
         AND oprnamespace = 'pg_catalog'::regnamespace AND p.provolatile <> 'v' \
         AND o.oprname <> '@@' ORDER BY o.oid"
    );
    let functions = format!(
        "SELECT proname, array_to_string(array(SELECT format_type(t, null) FROM unnest(proargtypes) t), ';'), \
         format_type(prorettype, null) FROM pg_proc WHERE prokind = 'f' AND NOT proretset AND provolatile <> 'v' \
         AND pronargs BETWEEN 1 AND 4 AND pronamespace = 'pg_catalog'::regnamespace AND provariadic = 0 \
         AND NOT EXISTS (SELECT FROM unnest(proargtypes) t WHERE t NOT IN ({set})) AND prorettype IN ({set}) \
         AND proname NOT LIKE 'pg\\_%' AND proname NOT LIKE 'has\\_%' AND proname NOT LIKE 'to\\_reg%' \
         AND proname NOT LIKE '%\\_to\\_xml%' AND proname NOT LIKE 'xml\\_%' AND proname NOT LIKE '%\\_regclass' \
         AND proname NOT IN ({LEFT_OUT}) AND NOT (proname = 'age' AND pronargs = 1) AND proname NOT LIKE '%\\_support' ORDER BY oid"
    );
    let casts = format!(
        "SELECT format_type(castsource, null), format_type(casttarget, null) FROM pg_cast \
         WHERE castsource IN ({set}) AND casttarget IN ({set}) AND castsource <> casttarget ORDER BY oid"
    );
    let mut found = Vec::new();
    for row in rows(client, &operators).await? {
        let [name, left, right, result] = row.as_slice() else { continue };
        let (shape, args) = if left.is_empty() {
            (format!("{name} $1"), vec![right.clone()])
        } else {
            (format!("$1 {name} $2"), vec![left.clone(), right.clone()])
        };
        push(&mut found, format!("{left} {name} {right}"), shape, args, result);
    }
    for row in rows(client, &functions).await? {
        let [name, args, result] = row.as_slice() else { continue };
        let args: Vec<String> = args.split(';').map(str::to_owned).collect();
        let marks: Vec<String> = (1..=args.len()).map(|i| format!("${i}")).collect();
        let shape = format!("{name}({})", marks.join(", "));
        push(&mut found, format!("{name}({})", args.join(",")), shape, args, result);
    }
    for row in rows(client, &casts).await? {
        let [from, to] = row.as_slice() else { continue };
        push(
            &mut found,
            format!("{from} to {to}"),
            format!("$1::{}", written(to)),
            vec![from.clone()],
            to,
        );
    }
    for (ty, _) in TYPES {
        push(
            &mut found,
            format!("text to {ty}"),
            format!("$1::{}", written(ty)),
            vec!["text".to_owned()],
            ty,
        );
    }
    for (shape, args, result) in SHAPES {
        // Several times: there are few shapes, and each has many types.
        for _ in 0..8 {
            let args = args.iter().map(|a| (*a).to_owned()).collect();
            push(&mut found, (*shape).to_owned(), (*shape).to_owned(), args, result);
        }
    }
    Ok(found)
}

/// Notes an operation, a polymorphic one for texts and for integers.
fn push(found: &mut Vec<Operation>, name: String, shape: String, args: Vec<String>, result: &str) {
    let polymorphic = |ty: &str| ty.starts_with("any");
    let elements: &[&str] = if polymorphic(result) || args.iter().any(|a| polymorphic(a)) {
        &["text", "integer"]
    } else {
        &[""]
    };
    for element in elements {
        let typed = |ty: &str| match ty {
            "anyarray" | "anycompatiblearray" => format!("{element}[]"),
            "anyelement" | "anycompatible" | "anynonarray" => (*element).to_owned(),
            other => normal(other),
        };
        found.push(Operation {
            name: name.clone(),
            shape: shape.clone(),
            args: args.iter().map(|a| typed(a)).collect(),
            result: typed(result),
        });
    }
}

/// The name of a type in a cast.
fn written(ty: &str) -> &str {
    if ty == "character" { "bpchar" } else { ty }
}

async fn rows(client: &Client, query: &str) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for message in client.simple_query(query).await? {
        if let SimpleQueryMessage::Row(row) = message {
            all.push((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect());
        }
    }
    Ok(all)
}

/// The name of a type as the list above has it.
fn normal(name: &str) -> String {
    match name {
        "timestamp without time zone" => "timestamp".to_owned(),
        "timestamp with time zone" => "timestamptz".to_owned(),
        "time without time zone" => "time".to_owned(),
        "time with time zone" => "timetz".to_owned(),
        other => other.to_owned(),
    }
}

fn expression(rng: &mut StdRng, operations: &[Operation]) -> (String, String) {
    let operation = operations.choose(rng).expect("there are operations");
    (apply(rng, operations, operation, 1), operation.name.clone())
}

fn apply(rng: &mut StdRng, operations: &[Operation], operation: &Operation, depth: u32) -> String {
    let any: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    let mut pick = |from: &[&'static str]| from.choose(rng).copied().unwrap_or("text");
    let chosen = [("T", pick(&any)), ("U", pick(&any)), ("D", pick(DATES)), ("N", pick(NUMBERS))];
    let mut text = operation.shape.clone();
    for (i, ty) in operation.args.iter().enumerate().rev() {
        let ty = chosen.iter().find(|(mark, _)| mark == ty).map_or(ty.as_str(), |(_, ty)| ty);
        let value = value(rng, operations, ty, depth);
        text = text.replace(&format!("${}", i + 1), &value);
    }
    text
}

/// A literal of this type, or with luck another expression that gives it.
fn value(rng: &mut StdRng, operations: &[Operation], ty: &str, depth: u32) -> String {
    if depth < 3 && rng.random_bool(0.2) {
        let giving: Vec<&Operation> = operations.iter().filter(|o| o.result == ty).collect();
        if let Some(operation) = giving.choose(rng) {
            return format!("({})", apply(rng, operations, operation, depth + 1));
        }
    }
    let literals = TYPES.iter().find(|(name, _)| *name == ty).map_or(&["null"][..], |(_, l)| l);
    let literal = literals.choose(rng).copied().unwrap_or("null");
    // The marks show [`query`] where literals are.
    format!("\u{1}({literal})::{}\u{2}", written(ty))
}
