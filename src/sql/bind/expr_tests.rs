//! Expressions against what PostgreSQL 15 answers: `testdata/expressions.tsv` has expression, type
//! and `pg_get_viewdef`'s text over the table `x`; `testdata/errors.tsv` has statement, SQLSTATE,
//! message, position (0: none) and hint. Both files were taken from a live server.

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, Relation, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{EvalContext, PgType, Result};

use super::{Binder, CatalogView, Clause, Scope, ScopeColumn, ScopeItem};
use crate::deparse::Deparser;
use crate::expr::{ColumnId, Expr};
use crate::parse::{Parsed, Source, Statement, parse, parse_expression};

struct OneTable(Arc<TableDesc>);

impl CatalogView for OneTable {
    fn relation(&self, _: Option<&str>, name: &str) -> Option<Relation> {
        (name == "x").then(|| Relation::Table(self.0.clone()))
    }
    fn relation_by_oid(&self, _: Oid) -> Option<Relation> {
        None
    }
    fn relation_by_row_type(&self, oid: Oid) -> Option<Relation> {
        (oid == self.0.row_type).then(|| Relation::Table(self.0.clone()))
    }
    fn schema_oid(&self, _: &str) -> Option<Oid> {
        None
    }
    fn schema_name(&self, _: Oid) -> Option<Arc<str>> {
        Some("public".into())
    }
    fn type_by_name(&self, _: Option<&str>, _: &str) -> Option<Oid> {
        None
    }
    fn type_name(&self, _: Oid) -> Option<Arc<str>> {
        None
    }
    fn database(&self) -> &str {
        "db"
    }
    fn user(&self) -> &str {
        "me"
    }
}

fn columns() -> Vec<(&'static str, PgType)> {
    let t = PgType::new;
    vec![
        ("i2", t(oid::INT2)),
        ("i4", t(oid::INT4)),
        ("i8", t(oid::INT8)),
        ("num", PgType::with_typmod(oid::NUMERIC, (10 << 16 | 2) + 4)),
        ("f4", t(oid::FLOAT4)),
        ("f8", t(oid::FLOAT8)),
        ("b", t(oid::BOOL)),
        ("t", t(oid::TEXT)),
        ("vc", PgType::with_typmod(oid::VARCHAR, 14)),
        ("bc", PgType::with_typmod(oid::BPCHAR, 9)),
        ("d", t(oid::DATE)),
        ("ts", t(oid::TIMESTAMP)),
        ("tz", t(oid::TIMESTAMPTZ)),
        ("ia", t(oid::INT4_ARRAY)),
        ("ta", t(oid::TEXT_ARRAY)),
        ("js", t(oid::JSONB)),
    ]
}

fn catalog() -> OneTable {
    let columns: Vec<ColumnDesc> = columns()
        .into_iter()
        .zip(1..)
        .map(|((name, ty), attnum)| ColumnDesc {
            attnum,
            name: name.to_owned(),
            ty,
            not_null: false,
            default: None,
            generated: false,
            identity: None,
            sequence: None,
            missing: None,
            dropped: false,
            hidden: false,
            collation: None,
            comment: None,
        })
        .collect();
    OneTable(Arc::new(TableDesc {
        oid: 20_000,
        row_type: 20_001,
        database: 5,
        schema: 2200,
        name: "x".into(),
        owner: 10,
        storage_id: 1000,
        schema_version: 1,
        columns_added: vec![1; columns.len()],
        columns,
        indexes: vec![],
        next_index_id: 2,
        constraints: vec![],
        temp_session: None,
        unlogged: false,
        options: vec![],
        comment: None,
        acl: vec![],
        row_estimate: None,
    }))
}

fn bind(text: &str) -> Result<(Expr, String, String)> {
    let (catalog, eval) = (catalog(), EvalContext::bare());
    let source = Source { text: text.into(), visible: true };
    let mut binder = Binder::new(&catalog, &eval, &source, &[], false);
    let scope: Vec<ScopeColumn> = columns()
        .into_iter()
        .zip(0..)
        .map(|((name, ty), id)| ScopeColumn::new(name, ColumnId(1000 + id), ty))
        .collect();
    binder.scopes.push(Scope::with_items(vec![ScopeItem::new(Some("x".into()), scope)]));
    let bound = binder.bind_expr(&parse_expression(text)?, Clause::SelectTarget)?;
    let bound = binder.resolve_unknown(bound, None)?;
    let name = |id: ColumnId| match columns().get(id.0.wrapping_sub(1000) as usize) {
        Some((name, _)) => (*name).to_owned(),
        None => "?".to_owned(),
    };
    let type_name = |ty: PgType| meridian_types::builtin::format_type(ty.oid, ty.typmod);
    let deparser = Deparser { column: &name, type_name: &type_name, eval: &eval, pretty: false };
    let sql = deparser.expr(&bound);
    let ty = type_name(bound.ty);
    Ok((bound, ty, sql))
}

/// With single blanks only: PostgreSQL breaks CASE over lines.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is left out of the file on purpose: the syntaxes that we show as plain calls (SUBSTRING,
/// TRIM, OVERLAY, named arguments), row comparison and CASE with an operand, which we take apart.
#[test]
fn expressions_are_bound_as_postgresql_binds_them() {
    let mut wrong = Vec::new();
    for line in include_str!("../testdata/expressions.tsv").lines() {
        let mut fields = line.split('\t');
        let (text, ty, sql) =
            (fields.next().unwrap_or(""), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        match bind(text) {
            Ok((_, got_ty, got_sql)) if got_ty == ty && squeeze(&got_sql) == squeeze(sql) => {}
            Ok((_, got_ty, got_sql)) => {
                wrong.push(format!("{text}\n   want {ty} {sql}\n   got  {got_ty} {got_sql}"));
            }
            Err(e) => wrong.push(format!("{text}\n   want {ty} {sql}\n   got  {e}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn errors_are_postgresqls() {
    let mut wrong = Vec::new();
    for line in include_str!("../testdata/errors.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (catalog, eval) = (catalog(), EvalContext::bare());
        let source = Source { text: fields[0].into(), visible: true };
        let mut binder = Binder::new(&catalog, &eval, &source, &[], false);
        let bound = parse(fields[0]).and_then(|mut p| match p.pop() {
            Some(Parsed { statement: Statement::Query(q), .. }) => binder.bind_query(&q),
            _ => panic!("{} is a query", fields[0]),
        });
        let got = match bound {
            Ok(_) => "no error".to_owned(),
            Err(e) => {
                let f = e.fields();
                let hint = f.hint.clone().unwrap_or_default();
                let position = f.position.unwrap_or(0);
                format!("{}\t{}\t{position}\t{hint}", f.state.as_str(), f.message)
            }
        };
        if got != fields[1..].join("\t") {
            wrong.push(format!("{}\n   want {}\n   got  {got}", fields[0], fields[1..].join("\t")));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
