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
    ("text[]", &["'{}'", "'{a,b,NULL}'", "null"]),
    ("integer[]", &["'{}'", "'{1,2,3}'", "'{{1,2},{3,4}}'", "null"]),
];

/// Functions whose answer is not the same twice, or that act.
const LEFT_OUT: &str = "'pg_sleep','random','setseed','gen_random_uuid','now','clock_timestamp',\
    'statement_timestamp','transaction_timestamp','timeofday','set_config','nextval','setval','currval',\
    'lastval','pg_notify','version','pg_column_size','pg_stat_file','txid_current','hashtext'";

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
    let (mut same, mut unsupported) = (0, 0);
    for _ in 0..count {
        let (text, name) = expression(&mut rng, &operations);
        let query = format!("SELECT ({text})::text, pg_typeof({text})::text");
        let expected = answer(&theirs, &query).await;
        let got = answer(&ours, &query).await;
        if ours.is_closed() {
            println!("CONNECTION LOST: {query}");
            ours = tls::connect(&meridian.url("postgres")).await?;
        }
        if expected == got {
            same += 1;
        } else if got == "error 0A000" {
            unsupported += 1;
            different.entry(format!("{name} (not supported)")).or_insert((0, text)).0 += 1;
        } else {
            println!("{text}\n    postgres: {expected}\n    meridian: {got}");
            different.entry(name).or_insert((0, text)).0 += 1;
        }
    }
    println!(
        "\n{same} of {count} the same, {unsupported} refused as not supported, {} different",
        count - same - unsupported
    );
    for (name, (n, example)) in &different {
        println!("{n:6}  {name:40} {example}");
    }
    std::process::exit(i32::from(same + unsupported < count));
}

async fn answer(client: &Client, query: &str) -> String {
    match client.simple_query(query).await {
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
        Err(e) => format!("error {}", e.code().map_or("without a code", |c| c.code())),
    }
}

/// The operators and functions of PostgreSQL's catalog whose argument types are all in the list.
async fn operations(client: &Client) -> Result<Vec<Operation>> {
    let names: Vec<String> = TYPES.iter().map(|(name, _)| format!("'{name}'::regtype")).collect();
    let set = names.join(",");
    let operators = format!(
        "SELECT o.oprname, coalesce(format_type(nullif(oprleft, 0), null), ''), \
         format_type(oprright, null), format_type(oprresult, null) FROM pg_operator o \
         JOIN pg_proc p ON p.oid = o.oprcode WHERE oprright IN ({set}) AND (oprleft = 0 OR oprleft IN ({set})) \
         AND oprnamespace = 'pg_catalog'::regnamespace AND p.provolatile <> 'v' ORDER BY o.oid"
    );
    let functions = format!(
        "SELECT proname, array_to_string(array(SELECT format_type(t, null) FROM unnest(proargtypes) t), ';'), \
         format_type(prorettype, null) FROM pg_proc WHERE prokind = 'f' AND NOT proretset AND provolatile = 'i' \
         AND pronargs BETWEEN 1 AND 3 AND pronamespace = 'pg_catalog'::regnamespace AND provariadic = 0 \
         AND NOT EXISTS (SELECT FROM unnest(proargtypes) t WHERE t NOT IN ({set})) AND prorettype IN ({set}) \
         AND proname NOT LIKE 'pg\\_%' AND proname NOT LIKE 'hash%' AND proname NOT IN ({LEFT_OUT}) \
         AND proname NOT LIKE '%\\_support' ORDER BY oid"
    );
    let mut found = Vec::new();
    for row in rows(client, &operators).await? {
        let [name, left, right, result] = row.as_slice() else { continue };
        let (shape, args) = if left.is_empty() {
            (format!("{name} $1"), vec![right.clone()])
        } else {
            (format!("$1 {name} $2"), vec![left.clone(), right.clone()])
        };
        let name = format!("{left} {name} {right}");
        found.push(Operation { name, shape, args, result: normal(result) });
    }
    for row in rows(client, &functions).await? {
        let [name, args, result] = row.as_slice() else { continue };
        let args: Vec<String> = args.split(';').map(str::to_owned).collect();
        let marks: Vec<String> = (1..=args.len()).map(|i| format!("${i}")).collect();
        let shape = format!("{name}({})", marks.join(", "));
        found.push(Operation {
            name: format!("{name}({})", args.join(",")),
            shape,
            args,
            result: normal(result),
        });
    }
    Ok(found)
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
        other => other.to_owned(),
    }
}

fn expression(rng: &mut StdRng, operations: &[Operation]) -> (String, String) {
    let operation = operations.choose(rng).expect("there are operations");
    (apply(rng, operations, operation, 1), operation.name.clone())
}

fn apply(rng: &mut StdRng, operations: &[Operation], operation: &Operation, depth: u32) -> String {
    let mut text = operation.shape.clone();
    for (i, ty) in operation.args.iter().enumerate().rev() {
        let value = value(rng, operations, &normal(ty), depth);
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
    format!("({literal})::{ty}")
}
