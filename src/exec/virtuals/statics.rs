//! Catalogs whose rows come with the server: operators, functions, casts, collations …
//!
//! Their rows are PostgreSQL's own, kept as text by the types crate. Columns that are the same in
//! every row are left out there and filled in here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use meridian_catalog::VirtualDesc;
use meridian_catalog::builtin::{BOOTSTRAP_ROLE, PG_CATALOG};
use meridian_types::oid;
use meridian_types::{Datum, EvalContext, PgType};
use parking_lot::Mutex;

use super::rows;

macro_rules! files {
    ($($name:literal)*) => {
        fn file(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../types/data/", $name, ".tsv"))),)*
                _ => None,
            }
        }
    };
}

files! {
    "pg_aggregate" "pg_am" "pg_amop" "pg_amproc" "pg_cast" "pg_collation" "pg_conversion"
    "pg_language" "pg_opclass" "pg_operator" "pg_opfamily" "pg_proc" "pg_range" "pg_tablespace"
    "pg_ts_config" "pg_ts_config_map" "pg_ts_dict" "pg_ts_parser" "pg_ts_template" "pg_type"
    "pg_description"
}

type Table = Arc<Vec<Vec<Datum>>>;
static CACHE: LazyLock<Mutex<HashMap<&'static str, Table>>> = LazyLock::new(Mutex::default);

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

fn cell(text: &str, ty: PgType, eval: &EvalContext) -> Datum {
    if text == "\\N" {
        return Datum::Null;
    }
    let oids = |separated: &str| -> Vec<Datum> {
        separated.split_ascii_whitespace().filter_map(|v| v.parse().ok()).map(Datum::Oid).collect()
    };
    match ty.oid {
        oid::OIDVECTOR => rows::vector(oid::OID, oids(text)),
        oid::OID_ARRAY => rows::array(oid::OID, oids(text)),
        oid::CHAR_ARRAY => {
            let letters = text.chars().map(|c| Datum::text(c.to_string())).collect();
            rows::array(oid::CHAR, letters)
        }
        oid::TEXT_ARRAY => rows::array(oid::TEXT, text.split(',').map(Datum::text).collect()),
        _ if crate::values::is_oid_type(ty.oid) => text.parse().map_or(Datum::Null, Datum::Oid),
        oid::TEXT | oid::NAME | oid::CHAR | oid::PG_NODE_TREE => Datum::text(unescape(text)),
        _ => crate::values::text_in(&unescape(text), ty, eval).unwrap_or(Datum::Null),
    }
}

/// The built-in rows of a catalog; `None` when it has no file.
pub(crate) fn table(desc: &VirtualDesc) -> Option<Table> {
    if let Some(found) = CACHE.lock().get(desc.name) {
        return Some(Arc::clone(found));
    }
    let mut lines = file(desc.name)?.lines();
    let header: Vec<&str> = lines.next()?.split('\t').collect();
    let eval = EvalContext::bare();
    let places: Vec<Option<usize>> =
        desc.columns.iter().map(|(name, _)| header.iter().position(|h| h == name)).collect();
    let argument_types = header.iter().position(|h| *h == "proargtypes");
    let mut out = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let mut row = Vec::with_capacity(desc.columns.len());
        for ((name, ty), place) in desc.columns.iter().zip(&places) {
            row.push(match place.and_then(|at| fields.get(at)) {
                Some(text) => cell(text, *ty, &eval),
                None if name.ends_with("namespace") => Datum::Oid(PG_CATALOG),
                None if name.ends_with("owner") => Datum::Oid(BOOTSTRAP_ROLE),
                None if *name == "pronargs" => {
                    let types = argument_types.and_then(|at| fields.get(at)).copied();
                    rows::int2(types.unwrap_or_default().split_ascii_whitespace().count())
                }
                None => absent(desc.name, name),
            });
        }
        out.push(row);
    }
    let table = Arc::new(out);
    CACHE.lock().insert(desc.name, Arc::clone(&table));
    Some(table)
}

/// What a column that isn't in the file holds.
fn absent(table: &str, column: &str) -> Datum {
    match (table, column) {
        ("pg_aggregate" | "pg_amop", _) => Datum::Oid(0),
        ("pg_conversion", "conforencoding" | "contoencoding") => Datum::Int4(6),
        _ => Datum::Null,
    }
}
