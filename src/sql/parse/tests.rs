//! Statements that parse, and errors with their positions, as PostgreSQL 15 gives them.

use super::*;

fn expr(text: &str) -> String {
    parse_expression(text).expect(text).to_string()
}

fn error(text: &str) -> (String, Option<u32>) {
    let e = parse(text).expect_err(text);
    (e.fields().message.clone(), e.fields().position)
}

#[test]
fn precedence_is_postgresqls() {
    let tree = |text: &str| format!("{:?}", strip(parse_expression(text).expect(text)));
    for (a, b) in [
        ("-2 ^ 2", "(-2) ^ 2"),
        ("- x ^ 2", "(- x) ^ 2"),
        ("2 ^ 3 ^ 2", "(2 ^ 3) ^ 2"),
        ("-x::int", "-(x::int)"),
        ("not a = b", "not (a = b)"),
        ("a = b is null", "(a = b) is null"),
        ("a || b = c", "(a || b) = c"),
        ("a + b || c", "(a + b) || c"),
        ("a like b || c", "a like (b || c)"),
        ("x between 1 and 2 and y", "(x between 1 and 2) and y"),
        ("a or b and not c", "a or (b and (not c))"),
        ("a at time zone b + c", "(a at time zone b) + c"),
        ("~ a & b", "(~ a) & b"),
        ("@ -5 + 3", "@ ((-5) + 3)"),
    ] {
        assert_eq!(tree(a), tree(b), "{a}");
    }
}

/// Without parentheses and positions.
fn strip(e: ast::Expr) -> String {
    let text = format!("{e:?}");
    let mut out = String::new();
    for line in text.split("Span(").enumerate().map(|(i, part)| {
        if i == 0 { part.to_owned() } else { part.split_once("))").map_or("", |p| p.1).to_owned() }
    }) {
        out.push_str(&line);
    }
    while let Some(at) = out.find("Nested(") {
        let body = at + "Nested(".len();
        let mut depth = 1;
        let end = out[body..].char_indices().find(|(_, c)| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let end = body + end.expect("balanced").0;
        out.replace_range(end..=end, "");
        out.replace_range(at..body, "");
    }
    out
}

#[test]
fn special_syntax_becomes_calls() {
    for (text, want) in [
        ("extract(year from x)", "pg_catalog.extract('year', x)"),
        ("position('a' in 'ba')", "pg_catalog.position('ba', 'a')"),
        ("substring(x from 2 for 3)", "pg_catalog.substring(x, 2, 3)"),
        ("trim(both 'x' from y)", "pg_catalog.btrim(y, 'x')"),
        ("overlay(a placing b from 3)", "pg_catalog.overlay(a, b, 3)"),
        ("a at time zone 'UTC'", "pg_catalog.timezone('UTC', a)"),
        ("a not similar to b escape 'c'", "a !~ pg_catalog.similar_to_escape(b, 'c')"),
        ("E'a\\tb'\n  'c'", "'a\tbc'"),
        ("U&'d\\0061t!0061' UESCAPE '!'", "'d\\0061ta'"),
        ("$$it's$$", "'it''s'"),
        ("a OPERATOR(pg_catalog.~) b", "a OPERATOR(pg_catalog.~) b"),
        ("\"Q\".R", "\"Q\".r"),
    ] {
        assert_eq!(expr(text), want, "{text}");
    }
}

#[test]
fn syntax_errors_have_the_token_and_its_position() {
    for (text, message, position) in [
        ("select 1 +", "syntax error at end of input", 11),
        ("selec 1", "syntax error at or near \"selec\"", 1),
        ("select 'ä', 1 from , t", "syntax error at or near \",\"", 20),
        ("select 'abc", "unterminated quoted string at or near \"'abc\"", 8),
        ("select a < b < c", "syntax error at or near \"<\"", 14),
        ("select 1;\nselect )", "syntax error at or near \")\"", 18),
        ("select 123abc", "trailing junk after numeric literal at or near \"123a\"", 8),
        ("create table t (a int,)", "syntax error at or near \")\"", 23),
        ("select /* x", "unterminated /* comment at or near \"/* x\"", 8),
    ] {
        assert_eq!(error(text), (message.to_owned(), Some(position)), "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_and_long_chains_are_not() {
    let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(parse(&deep).expect_err("deep").state(), SqlState::STATEMENT_TOO_COMPLEX);
    let minus = format!("select {}1", "- ".repeat(10_000));
    assert_eq!(parse(&minus).expect_err("deep").state(), SqlState::STATEMENT_TOO_COMPLEX);
    let sum = format!("select 1{}", "+1".repeat(10_000));
    assert_eq!(parse(&sum).expect_err("deep").state(), SqlState::STATEMENT_TOO_COMPLEX);
    let chain = format!("select {}true", "a = 1 or ".repeat(20_000));
    parse(&chain).expect("a balanced tree");
}

#[test]
fn row_locks_and_conflict_targets_survive() {
    let lock = |text: &str| {
        let query = parse_query(text).expect(text);
        let (strength, names, wait) = lock_clause(&query.locks[0]);
        (strength, names.iter().map(|n| n.value.clone()).collect::<Vec<_>>(), wait)
    };
    use crate::rel::{LockWait, RowLock};
    assert_eq!(
        lock("select * from a, b for no key update of a, b nowait"),
        (RowLock::NoKeyUpdate, vec!["a".into(), "b".into()], LockWait::NoWait)
    );
    assert_eq!(lock("select 1 from a for key share"), (RowLock::KeyShare, vec![], LockWait::Block));
    let sql = "insert into t values (1) on conflict (lower(a), b) where c > 0 do nothing";
    let query = parse_query(sql).expect(sql);
    let ast::SetExpr::Insert(ast::Statement::Insert(insert)) = *query.body else { panic!() };
    let Some(ast::OnInsert::OnConflict(on)) = insert.on else { panic!() };
    let Some(ast::ConflictTarget::Columns(columns)) = on.conflict_target else { panic!() };
    let target = conflict_target(&columns).expect("target");
    assert_eq!(target.elements.len(), 2);
    assert_eq!(target.predicate.expect("where").to_string(), "c > 0");
}

#[test]
fn limits_stand_before_or_behind_locks() {
    for (first, last) in [
        (
            "select * from t for update skip locked limit 1",
            "select * from t limit 1 for update skip locked",
        ),
        (
            "select (select 1 from a for share of a, b for key share offset (1) rows fetch next row only)",
            "select (select 1 from a offset (1) rows fetch next row only for share of a, b for key share)",
        ),
    ] {
        let (first, last) = (parse_query(first).expect(first), parse_query(last).expect(last));
        assert_eq!(first.to_string(), last.to_string());
    }
    assert_eq!(
        parse("select 1 from t for update limit").expect_err("no number").state(),
        SqlState::SYNTAX_ERROR
    );
}

#[test]
fn frames_and_nested_joins_are_read() {
    let sql =
        "select sum(x) over (w rows 2 preceding exclude ties) from t window w as (order by y)";
    let query = parse_query(sql).expect(sql);
    let text = format!("{query:?}");
    assert!(text.contains("\\u{3}ties\\u{3}w"), "{text}");
    let marked = ast::Ident::with_quote('"', "\u{3}ties\u{3}w");
    let (name, exclude) = window_frame(Some(&marked));
    assert_eq!(name.map(|n| n.value).as_deref(), Some("w"));
    assert_eq!(exclude, crate::rel::FrameExclude::Ties);
    parse("select 1 from a left join b join c on c.x = b.x on b.x = a.x").expect("nested");
    parse("select * from only a*, b where true").expect("noise words");
}

/// Prints what the regression files hold that does not parse: `cargo test parse_regress -- --ignored`.
#[test]
#[ignore = "needs PostgreSQL's regression files in PGREGRESS"]
fn parse_regress() {
    let dir = std::env::var("PGREGRESS").expect("PGREGRESS names the directory");
    let files = std::env::var("FILES").unwrap_or_default();
    for name in files.split(',') {
        let text = std::fs::read_to_string(format!("{dir}/{name}.sql")).expect(name);
        let (mut good, mut bad) = (0, Vec::new());
        for statement in psql_split(&text) {
            match parse(&statement) {
                Ok(_) => good += 1,
                Err(e) => bad.push(format!("  {} :: {}", e.fields().message, statement.trim())),
            }
        }
        eprintln!("{name}: {good} parse, {} do not", bad.len());
        for b in bad {
            eprintln!("{}", b.replace('\n', "\n      "));
        }
    }
}

#[test]
fn a_join_may_name_its_merged_columns() {
    let query = super::parse_query("SELECT j.* FROM a JOIN b USING (x, y) AS j").expect("parses");
    let sqlparser::ast::SetExpr::Select(select) = *query.body else { panic!("not a SELECT") };
    let join = &select.from[0].joins[0].join_operator;
    let sqlparser::ast::JoinOperator::Join(sqlparser::ast::JoinConstraint::Using(names)) = join
    else {
        panic!("not a join by columns")
    };
    let (columns, alias) = super::using_columns(names);
    let columns: Vec<&str> = columns.iter().map(|c| c.value.as_str()).collect();
    assert_eq!(columns, ["x", "y"]);
    assert_eq!(alias.map(|a| a.value).as_deref(), Some("j"));
    // Such an alias has no column list.
    assert!(super::parse("SELECT * FROM a JOIN b USING (x) AS j (c)").is_err());
}

#[test]
fn a_query_may_have_no_target_list() {
    for text in ["SELECT", "SELECT WHERE true", "SELECT UNION SELECT", "SELECT EXISTS (SELECT)"] {
        assert!(super::parse(text).is_ok(), "{text}");
    }
}

/// Statements as psql would send them: split at semicolons, meta-commands and COPY data dropped.
fn psql_split(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut copying = false;
    for line in text.lines() {
        if copying {
            copying = line != "\\.";
            continue;
        }
        if line.starts_with('\\') && current.trim().is_empty() {
            continue;
        }
        let code = line.split(" \\").next().unwrap_or(line);
        current.push_str(code);
        current.push('\n');
        let body = code.split("--").next().unwrap_or("").trim_end();
        let ends = body.ends_with(';') || code.len() < line.len();
        let open = current.matches("$$").count() % 2 == 1;
        if ends && !open {
            let lower = current.to_lowercase();
            copying = lower.trim_start().starts_with("copy") && lower.contains("from stdin");
            out.push(std::mem::take(&mut current));
        }
    }
    out.push(current);
    out
}

#[test]
fn queries_nested_in_from_are_parsed_or_refused_on_a_small_stack() {
    let nested = |n: usize| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ") a".repeat(n));
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let done = thread.spawn(move || {
        assert!(super::parse(&nested(150)).is_ok());
        let e = super::parse(&nested(5000)).expect_err("too deep");
        assert_eq!(e.state().as_str(), "54001");
    });
    done.expect("a thread").join().expect("no overflow");
}
