//! SQL text to plans and errors, over a catalog in memory.
//!
//! Each case is text and what becomes of it: a dump of the algebra (see [`crate::dump`]), or an
//! error as `SQLSTATE message @position`. The expected errors were checked against PostgreSQL 15.

mod binding;
mod catalog;
mod corpus;
mod errors;
mod rules;

use meridian_types::{EvalContext, PgError, Result};

use crate::bind::statement;
use crate::parse::{self, Source, Statement};
use crate::plan::Query;
use catalog::TestCatalog;

/// Tables that most cases use.
const TABLES: &str = "
    create table t (a int primary key, b text, c int);
    create table u (a int, d numeric(6,2) default 1.5, e timestamptz, primary key (a));
    create table v (x int not null, y int, z varchar(5), unique (x, y));
    create table g (id int generated always as identity, w int check (w > 0), dbl int generated always as (w * 2) stored);
    create index t_c on t (c);
    create view tv as select a as k, b || '!' as label from t where c > 0";

fn tables() -> TestCatalog {
    TestCatalog::of(TABLES)
}

fn run(catalog: &TestCatalog, text: &str, optimised: bool) -> Result<Query> {
    let parsed = parse::parse(text)?.pop().expect("a statement");
    let Statement::Query(query) = parsed.statement else {
        return Err(PgError::internal("not a query"));
    };
    let source = Source { text: text.into(), visible: true };
    let eval = EvalContext::bare();
    if optimised {
        statement::bind_query_statement(catalog, &eval, &source, &query, &[], true)
    } else {
        statement::bind_only(catalog, &eval, &source, &query, &[], true)
    }
}

fn show(e: &PgError) -> String {
    let position = e.fields().position.map_or(String::new(), |p| format!(" @{p}"));
    format!("{} {}{position}", e.state().as_str(), e.fields().message)
}

/// Dump of the bound query, or its error.
fn bound(text: &str) -> String {
    run(&tables(), text, false).map_or_else(|e| show(&e), |q| crate::dump::query(&q))
}

/// Dump of the optimised query, or its error.
fn optimised(text: &str) -> String {
    run(&tables(), text, true).map_or_else(|e| show(&e), |q| crate::dump::query(&q))
}

/// Names of the output columns.
fn names(text: &str) -> String {
    run(&tables(), text, false).map_or_else(
        |e| show(&e),
        |q| q.output.iter().map(|c| c.name.to_string()).collect::<Vec<_>>().join(" "),
    )
}

/// Compares all cases and shows those that differ.
#[track_caller]
fn check(cases: &[(&str, &str)], f: fn(&str) -> String) {
    let tidy = |s: &str| {
        let lines: Vec<&str> = s.trim_matches('\n').lines().map(str::trim_end).collect();
        let indent = lines.iter().map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
        lines.iter().map(|l| &l[indent..]).collect::<Vec<_>>().join("\n")
    };
    let mut wrong = String::new();
    for (text, expected) in cases {
        let got = tidy(&f(text));
        if got != tidy(expected) {
            wrong.push_str(&format!(
                "\n== {text}\n-- expected\n{}\n-- got\n{got}\n",
                tidy(expected)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
