//! `meridian_ranges`: which range holds what, led by whom; and keys as people can read them.
//!
//! A row for each range and index of which it holds a part, of all databases; a range without any has one
//! row, too. Keys are shown as `/Table/name/index/value/…`, table and index by their names of now; what no
//! descriptor names is shown by its number, what is no value as hexadecimal digits.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use meridian_catalog::key::{PREFIX_LEN, ROW_SPACE, index_prefix};
use meridian_catalog::{IndexCodec, IndexDesc, Relation, TableDesc};
use meridian_cluster::{RangeInfo, Span, Store};
use meridian_sql::deparse::quote_literal;
use meridian_types::{Datum, EvalContext, PgType, Result, io, oid};

use super::Source;
use super::rows::{Rows, array, oid as oid_datum, text};
use crate::catalog_store::{SessionCatalog, kv, quote_ident};

/// Rows of a range that are measured for its size; of a larger one it isn't known.
const SAMPLE_ROWS: usize = 20_000;
/// Rows that are measured for one statement.
const SAMPLE_ROWS_ALL: usize = 400_000;
/// Storage below this id is the system's own.
const FIRST_USER_STORAGE: u32 = 1000;

/// The rows of `meridian_ranges`.
pub(super) fn rows(source: &Source<'_>) -> Result<Vec<Vec<Datum>>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "range_id",
            "database_name",
            "schema_name",
            "table_name",
            "index_name",
            "table_oid",
            "index_oid",
            "start_key",
            "end_key",
            "start_raw",
            "end_raw",
            "leaseholder",
            "replicas",
            "size",
        ],
    );
    let store = source.ctx.node.store();
    let ranges = store.ranges();
    let names = KeyNames::new(&source.view, &source.ctx.eval);
    let mut parts: Vec<Vec<(&Arc<TableDesc>, &IndexDesc)>> = vec![Vec::new(); ranges.len()];
    for table in names.tables.values() {
        for index in &table.indexes {
            let span = Span::prefix(&index_prefix(table.storage_id, index.index_id));
            let first = ranges.partition_point(|range| range.span.start <= span.start);
            for at in first.saturating_sub(1)..ranges.len() {
                if !ranges[at].span.overlaps(&span) {
                    break;
                }
                parts[at].push((table, index));
            }
        }
    }
    let mut left = SAMPLE_ROWS_ALL;
    for (range, parts) in ranges.iter().zip(parts) {
        let size = size(store, range, &mut left)?;
        let about = about(range, &names, size);
        if parts.is_empty() {
            rows.push(row(vec![Datum::Null; 6], &about));
        }
        for (table, index) in parts {
            let database = source.catalog().database(table.database);
            let part = vec![
                text(database.map_or("", |database| &database.name)),
                text(source.schema_name(table.schema)),
                text(&table.name),
                text(index_name(index)),
                oid_datum(table.oid),
                oid_datum(index.oid),
            ];
            rows.push(row(part, &about));
        }
    }
    Ok(rows.finish())
}

/// The rows of `meridian_rebalance_plan`: what this node would have done now, the most urgent first.
pub(super) fn plan(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let columns = ["range_id", "action", "from_nodes", "to_nodes", "reason"];
    let mut rows = Rows::new(source.desc, &columns);
    for [range, action, from, to, reason] in source.ctx.node.store().rebalance_plan() {
        let nodes = |list: String| if list.is_empty() { Datum::Null } else { text(list) };
        let range = range.parse().map_or(Datum::Null, Datum::Int8);
        rows.push(vec![range, text(action), nodes(from), nodes(to), text(reason)]);
    }
    rows.finish()
}

/// The number of a range, what of it is in a row, and the rest.
fn row(part: Vec<Datum>, about: &[Datum]) -> Vec<Datum> {
    let (id, rest) = about.split_at(1);
    [id, &part, rest].concat()
}

fn about(range: &RangeInfo, names: &KeyNames<'_>, size: Option<u64>) -> Vec<Datum> {
    let number = |n: u64| Datum::Int8(i64::try_from(n).unwrap_or(i64::MAX));
    let end = match range.span.end.is_empty() {
        true => "/Max".to_owned(),
        false => names.pretty(&range.span.end),
    };
    let mut replicas: Vec<u64> = range.replicas.iter().map(|node| node.0).collect();
    replicas.sort_unstable();
    vec![
        number(range.id.0),
        text(names.pretty(&range.span.start)),
        text(end),
        Datum::Bytea(range.span.start.to_vec().into()),
        Datum::Bytea(range.span.end.to_vec().into()),
        range.leaseholder.map_or(Datum::Null, |node| number(node.0)),
        array(oid::INT8, replicas.into_iter().map(number).collect()),
        size.map_or(Datum::Null, number),
    ]
}

/// Bytes of the keys and rows of a range: as they are, if this node has a copy and they are few enough to be
/// counted, else as its leaseholder has said.
fn size(store: &Store, range: &RangeInfo, left: &mut usize) -> Result<Option<u64>> {
    let said = Some(range.bytes).filter(|bytes| *bytes > 0);
    if *left == 0 || !range.replicas.contains(&store.node()) {
        return Ok(said);
    }
    let (rows, bytes, whole) = store.sample(&range.span, SAMPLE_ROWS).map_err(kv)?;
    *left = left.saturating_sub(rows);
    Ok(if whole { Some(bytes) } else { said })
}

/// The hidden primary index has no name.
fn index_name(index: &IndexDesc) -> &str {
    if index.oid == 0 { "rowid" } else { &index.name }
}

/// Turns keys into texts.
pub struct KeyNames<'a> {
    view: &'a SessionCatalog,
    eval: &'a EvalContext,
    /// By storage.
    tables: BTreeMap<u32, Arc<TableDesc>>,
}

impl<'a> KeyNames<'a> {
    /// For the names in this view.
    pub fn new(view: &'a SessionCatalog, eval: &'a EvalContext) -> KeyNames<'a> {
        let tables = view.catalog.relations().filter_map(|relation| match relation {
            Relation::Table(table) => Some((table.storage_id, Arc::clone(table))),
            _ => None,
        });
        KeyNames { view, eval, tables: tables.collect() }
    }

    /// A key, or the beginning of one.
    pub fn pretty(&self, key: &[u8]) -> String {
        if key.is_empty() {
            return "/Min".to_owned();
        }
        let mut out = String::new();
        let numbers = key.split_first_chunk::<5>().filter(|_| key[0] == ROW_SPACE);
        let Some(([_, storage @ ..], mut rest)) = numbers else {
            out.push_str("/System");
            push_hex(&mut out, key);
            return out;
        };
        let storage = u32::from_be_bytes(*storage);
        let table = self.tables.get(&storage);
        match table {
            Some(table) => out.push_str(&format!("/Table/{}", self.table_name(table))),
            None if storage < FIRST_USER_STORAGE => out.push_str("/System/Table"),
            None => out.push_str(&format!("/Table/{storage}")),
        }
        let Some((index_id, columns)) = rest.split_first_chunk::<2>() else {
            push_hex(&mut out, rest);
            return out;
        };
        let index_id = u16::from_be_bytes(*index_id);
        rest = columns;
        match table.and_then(|table| Some((table, table.index(index_id)?))) {
            Some((table, index)) => {
                out.push_str(&format!("/{}", quote_ident(index_name(index))));
                self.push_columns(&mut out, (table, index), &mut rest);
            }
            None => out.push_str(&format!("/{index_id}")),
        }
        push_hex(&mut out, rest);
        out
    }

    fn table_name(&self, table: &Arc<TableDesc>) -> String {
        let relation = Relation::Table(Arc::clone(table));
        if table.database == self.view.identity.database {
            return self.view.relation_name(&relation);
        }
        let database = self.view.catalog.database(table.database);
        let database = database.map_or("?", |database| database.name.as_str());
        format!("{}.{}", quote_ident(database), self.view.qualified_name(&relation))
    }

    /// The columns of an index, and behind them those by which an entry finds its row.
    fn push_columns(
        &self,
        out: &mut String,
        (table, index): (&Arc<TableDesc>, &IndexDesc),
        rest: &mut &[u8],
    ) {
        let primary = table.primary();
        self.push_values(out, &IndexCodec::new(table, index), rest);
        if index.index_id != primary.index_id {
            self.push_values(out, &IndexCodec::new(table, primary), rest);
        }
    }

    fn push_values(&self, out: &mut String, codec: &IndexCodec, rest: &mut &[u8]) {
        for i in 0..codec.len() {
            let before = *rest;
            if before.is_empty() {
                return;
            }
            match codec.take_column(rest, i) {
                Ok(Some(value)) => self.push_value(out, &value, codec.column(i).0),
                Ok(None) => push_hex(out, &before[..before.len() - rest.len()]),
                // The key ends within the column.
                Err(_) => {
                    *rest = before;
                    return;
                }
            }
        }
    }

    fn push_value(&self, out: &mut String, value: &Datum, ty: PgType) {
        let mut bytes = Vec::new();
        out.push('/');
        if value.is_null() {
            out.push_str("NULL");
            return;
        }
        let written = io::text_out(value, ty, self.eval, &mut bytes);
        let shown = String::from_utf8_lossy(&bytes);
        match value {
            _ if written.is_err() => out.push('?'),
            Datum::Text(_) | Datum::Bytea(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => {
                out.push_str(&quote_literal(&shown));
            }
            _ => out.push_str(&shown),
        }
    }
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    out.push_str("/\\x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

const _: () = assert!(PREFIX_LEN == 7, "a tag, the storage's number, the index' number");
