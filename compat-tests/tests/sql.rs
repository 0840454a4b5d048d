//! Scripts of SQL with the answers that PostgreSQL 15 gives.
//!
//! Each file of `sql/` runs in a database of its own. A statement ends with a semicolon at the end of
//! a line; the lines `--> ` behind it are its answer: rows with `|` between values (`·` is NULL), an
//! error's SQLSTATE, message, detail and hint. Other comments are for the reader. Where PostgreSQL is
//! installed, it is asked as well: an answer that is not PostgreSQL's has no place here.
//!
//! `SQL_WRITE=1 cargo test -p compat-tests --test compat sql` writes PostgreSQL's answers into the
//! files, so that a new test is a file of statements.

use std::path::Path;

use anyhow::{Context, Result, bail};
use compat_tests::{Meridian, Options, Postgres};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Marks the lines of an answer.
const ANSWER: &str = "--> ";

/// A piece of a script: comments and a statement, and the answer that stands behind it.
struct Step {
    text: String,
    answer: Vec<String>,
}

fn steps(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    let mut open = false;
    for line in script.lines() {
        if let (Some(answer), Some(step)) = (line.strip_prefix(ANSWER), steps.last_mut()) {
            step.answer.push(answer.to_owned());
            continue;
        }
        match steps.last_mut().filter(|_| open) {
            Some(step) => step.text += &format!("\n{line}"),
            None => steps.push(Step { text: line.to_owned(), answer: vec![] }),
        }
        open = line.starts_with("--") || !line.ends_with(';');
    }
    steps
}

async fn answer(client: &Client, text: &str) -> Vec<String> {
    match client.simple_query(text).await {
        Ok(messages) => messages.iter().filter_map(row).collect(),
        Err(error) => match error.as_db_error() {
            None => vec![format!("{error}")],
            Some(e) => {
                let mut lines = vec![format!("{} {}", e.code().code(), e.message())];
                lines.extend(e.detail().map(|d| format!("DETAIL {d}")));
                lines.extend(e.hint().map(|h| format!("HINT {h}")));
                lines.join("\n").lines().map(str::to_owned).collect()
            }
        },
    }
}

fn row(message: &SimpleQueryMessage) -> Option<String> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("·")).collect();
    Some(values.join("|").replace('\n', "⏎"))
}

/// Runs a script in a database of its own: its steps with the answers of this server.
async fn play(
    url: impl Fn(&str) -> String,
    name: &str,
    steps: &[Step],
) -> Result<Vec<Vec<String>>> {
    let (client, connection) = tokio_postgres::connect(&url("postgres"), NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let (client, connection) = tokio_postgres::connect(&url(name), NoTls).await?;
    tokio::spawn(connection);
    let mut answers = vec![];
    for step in steps {
        answers.push(answer(&client, &step.text).await);
    }
    Ok(answers)
}

/// Where the answers are not those of the script.
fn differences(server: &str, name: &str, steps: &[Step], answers: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (step, got) in steps.iter().zip(answers) {
        if step.answer != *got {
            let (want, got) = (step.answer.join("\n    "), got.join("\n    "));
            let text = &step.text;
            out += &format!(
                "\n{name}.sql on {server}:\n{text}\n  wanted:\n    {want}\n  got:\n    {got}\n"
            );
        }
    }
    out
}

fn write(path: &Path, steps: &[Step], answers: &[Vec<String>]) -> Result<()> {
    let mut out = String::new();
    for (step, lines) in steps.iter().zip(answers) {
        out += &format!("{}\n", step.text);
        for line in lines {
            out += &format!("{ANSWER}{line}\n");
        }
    }
    Ok(std::fs::write(path, out)?)
}

#[tokio::test]
async fn scripts_have_postgresqls_answers() -> Result<()> {
    let folder = compat_tests::here().join("tests/sql");
    let meridian = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let postgres = Postgres::start()?;
    let mut wrong = String::new();
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_stem().and_then(|n| n.to_str()).context("a script has a name")?;
        let script = std::fs::read_to_string(&path)?;
        let mut steps = steps(&script);
        if let Some(postgres) = &postgres {
            let answers = play(|d| postgres.url(d), name, &steps).await?;
            if std::env::var_os("SQL_WRITE").is_some() {
                write(&path, &steps, &answers)?;
                for (step, answer) in steps.iter_mut().zip(&answers) {
                    step.answer.clone_from(answer);
                }
            }
            wrong += &differences("PostgreSQL", name, &steps, &answers);
        }
        let answers = play(|d| meridian.url(d), name, &steps).await?;
        wrong += &differences("Meridian", name, &steps, &answers);
    }
    if !wrong.is_empty() {
        bail!("{wrong}");
    }
    Ok(())
}
