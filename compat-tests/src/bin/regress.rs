//! Scores Meridian over PostgreSQL in suites that PostgreSQL passes: its regression files, statement
//! by statement, and the catalog queries of twenty tools.
//!
//! Starts both servers, runs the runners of the suites against each, and writes the table of ours
//! over PostgreSQL's to `results/regress.md` beside this crate's manifest.
//!
//! `cargo run --release -p compat-tests --bin regress -- [FOLDER [file …]]`, where the folder holds
//! `tools/` and `suites/`; `../shared` if not given. Where it is missing, nothing is done. The
//! replay needs a Python with psycopg, named by `PYTHON`, `python3` if not given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use compat_tests::process::TempDir;
use compat_tests::{Meridian, Options, Postgres};

/// Statements that agree and statements in all, by regression file.
type Scores = BTreeMap<String, (u64, u64)>;

#[expect(clippy::print_stdout, reason = "the program's report")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "../shared".to_owned()));
    let files: Vec<String> = args.collect();
    if !folder.join("suites").is_dir() {
        println!("SKIPPED: {} has no suites", folder.display());
        return Ok(());
    }
    let meridian = Meridian::start(Options { insecure: true, ..Options::default() })?;
    let Some(postgres) = Postgres::start()? else { bail!("PostgreSQL is not installed") };
    let (ours, theirs) = (meridian.url("postgres"), postgres.url("postgres"));
    // First, since regression files leave roles and databases behind.
    let catalog = [catalog_queries(&folder, &ours), catalog_queries(&folder, &theirs)];
    let (expected, asked) = regression(&folder, &without_database(&theirs), &files)?;
    let (got, answered) = regression(&folder, &without_database(&ours), &files)?;
    let mut report = String::from(
        "# Meridian over PostgreSQL 15\n\nWritten by `cargo run --release -p compat-tests --bin regress`.\n\n\
         ## Regression files, statements with the same output\n\n\
         | file | Meridian | PostgreSQL | of | ratio | queries | PostgreSQL | ratio |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut sums = [0; 5];
    for (file, (agree, of)) in &expected {
        let own = got.get(file).map_or(0, |s| s.0);
        let queries = [&answered, &asked].map(|scores| scores.get(file).map_or(0, |s| s.0));
        let numbers = [own, *agree, *of, queries[0], queries[1]];
        report += &line(file, numbers);
        sums.iter_mut().zip(numbers).for_each(|(sum, n)| *sum += n);
    }
    report += &line("**all**", sums);
    for (name, table) in ["Meridian", "PostgreSQL"].iter().zip(catalog) {
        report += &format!("\n## Catalog queries of tools: {name}\n\n{}", fenced(table));
    }
    println!("{report}");
    let results = compat_tests::here().join("results");
    std::fs::create_dir_all(&results)?;
    std::fs::write(results.join("regress.md"), report)?;
    Ok(())
}

fn line(name: &str, [own, theirs, of, answered, asked]: [u64; 5]) -> String {
    format!(
        "| {name} | {own} | {theirs} | {of} | {} | {answered} | {asked} | {} |\n",
        ratio(own, theirs),
        ratio(answered, asked)
    )
}

fn ratio(ours: u64, theirs: u64) -> String {
    if theirs == 0 {
        "–".to_owned()
    } else {
        format!("{:.1} %", 100.0 * ours as f64 / theirs as f64)
    }
}

fn fenced(text: Result<String>) -> String {
    match text {
        Ok(text) => format!("```text\n{}\n```\n", text.trim_end()),
        Err(error) => {
            format!("Not run: {}\n", error.to_string().lines().next_back().unwrap_or_default())
        }
    }
}

/// The suite's runner adds the names of databases itself, so a URL's query has to go.
fn without_database(url: &str) -> String {
    let end = url.rfind('/').unwrap_or(url.len());
    url[..end].to_owned()
}

/// Scores of all statements, and of those that are queries.
fn regression(folder: &Path, url: &str, files: &[String]) -> Result<(Scores, Scores)> {
    let dir = TempDir::make("regress")?;
    let output = Command::new("bash")
        .arg(folder.join("tools").join("pgregress_run.sh"))
        .arg(url)
        .arg(&dir.0)
        .args(files)
        .env("PGSSLMODE", "disable")
        .output()
        .context("cannot run bash")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let scores: Scores = text.lines().filter_map(score).collect();
    if scores.is_empty() {
        bail!("no scores: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((scores, queries(folder, &dir.0, files)?))
}

/// The scorer's own functions, over the statements that begin as a query.
const QUERIES: &str = r#"
import re, sys
tool, sql, expected, results = sys.argv[1:5]
exec(open(tool).read().rsplit("main()", 1)[0])
for name in sys.argv[5:] or sorted(f[:-4] for f in os.listdir(sql) if f.endswith(".sql")):
    path = os.path.join(results, name + ".out")
    if not os.path.exists(path): continue
    us = units(rd(os.path.join(sql, name + ".sql")))
    text = lambda u: "\n".join(l for l in u if not l.lstrip().startswith("--")).lstrip(" (\n").lower()
    query = [bool(re.match(r"(select|with|values|table)\b", text(u))) for u in us]
    ours, seen = cut(rd(path), us)
    best = 0
    for file in [name] + [f"{name}_{k}" for k in range(1, 10)]:
        path = os.path.join(expected, file + ".out")
        if not os.path.exists(path): continue
        theirs, there = cut(rd(path), us)
        same = [seen[i] and there[i] and norm(theirs[i]) == norm(ours[i]) for i in range(len(us))]
        best = max(best, sum(q and s for q, s in zip(query, same)))
    print(name, "units", len(us), "expected", sum(query), "strict", best)
"#;

fn queries(folder: &Path, results: &Path, files: &[String]) -> Result<Scores> {
    let suite = folder.join("suites").join("pgregress");
    let output = Command::new("python3")
        .args(["-c", QUERIES])
        .arg(folder.join("tools").join("pgregress_score.py"))
        .args([suite.join("sql"), suite.join("expected"), results.to_path_buf()])
        .args(files)
        .output()
        .context("cannot run python3")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let scores: Scores = text.lines().filter_map(score).collect();
    if scores.is_empty() {
        bail!("no scores of queries: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(scores)
}

/// A line as `boolean  units  98 expected  98 strict  98 loose  98`.
fn score(line: &str) -> Option<(String, (u64, u64))> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|w| *w == name)?;
        words.get(at + 1)?.parse().ok()
    };
    if words.get(1) != Some(&"units") {
        return None;
    }
    Some(((*words.first()?).to_owned(), (after("strict")?, after("expected")?)))
}

/// The replay's table: by tool, how many queries ran, had the right columns, had the right rows.
fn catalog_queries(folder: &Path, url: &str) -> Result<String> {
    let queries = folder.join("suites").join("catalog_queries");
    let sample = std::process::Command::new("psql")
        .args(["-X", "-q", "-d", url, "-f"])
        .arg(queries.join("sample_schema.sql"))
        .output()
        .context("cannot run psql")?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg(folder.join("tools").join("catalog_replay.py"))
        .args(["check", "--dsn", url, "--expected"])
        .arg(queries.join("expected_pg15.json"))
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let errors = String::from_utf8_lossy(&sample.stderr).into_owned();
    let refused: Vec<&str> =
        errors.lines().filter_map(|l| l.split_once("ERROR:  ").map(|p| p.1)).collect();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !refused.is_empty() {
        text += &format!(
            "errors in the sample schema: {}\n  {}\n",
            refused.len(),
            refused.join("\n  ")
        );
    }
    Ok(text)
}
