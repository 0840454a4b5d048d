//! PostgreSQL's regression files as a corpus: every statement is bound, and the answer is written
//! next to the one that PostgreSQL gave. Run by hand: `CORPUS=in.sql cargo test corpus -- --ignored`.

use super::catalog::TestCatalog;
use super::{run, show};
use crate::parse::{self, Statement};

#[test]
#[ignore = "needs a file of statements"]
fn bind_a_file() {
    let path = std::env::var("CORPUS").expect("CORPUS names a file");
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let mut catalog = TestCatalog::of("");
    let mut out = String::new();
    for part in text.split("\n----\n") {
        let answer = match parse::parse(part) {
            Err(e) => format!("parse: {}", show(&e)),
            Ok(mut parsed) => match parsed.pop().map(|p| p.statement) {
                Some(Statement::Ddl(ddl)) => match catalog.define(&ddl, part) {
                    Ok(()) => "ok".to_owned(),
                    Err(e) => format!("ddl: {}", show(&e)),
                },
                Some(Statement::Query(_)) => match run(&catalog, part, true) {
                    Ok(_) => "ok".to_owned(),
                    Err(e) => show(&e),
                },
                _ => "other".to_owned(),
            },
        };
        out.push_str(&format!("{answer}\n"));
    }
    let target = std::env::var("CORPUS_OUT").expect("CORPUS_OUT names a file");
    std::fs::write(target, out).expect("the file can be written");
}
