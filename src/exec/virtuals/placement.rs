//! `meridian_placement`: how many copies the ranges of tables have, and where they may be, and which of table,
//! database and cluster says so.

use meridian_catalog::Relation;
use meridian_types::Datum;

use super::Source;
use super::rows::{Rows, int4, oid, text};
use crate::zones::{self, Effective};

/// The rows: the cluster, all databases, the tables of the session's database.
pub(super) fn rows(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let columns = [
        "kind",
        "database_name",
        "schema_name",
        "table_name",
        "table_oid",
        "replication_factor",
        "factor_from",
        "placement",
        "placement_from",
    ];
    let mut rows = Rows::new(source.desc, &columns);
    let none = || Datum::Null;
    let mut push = |head: [Datum; 5], (factor, placement): (Effective, Effective)| {
        let count = factor.0.trim().parse().map_or(Datum::Null, int4);
        let rest = [count, text(factor.1), text(placement.0), text(placement.1)];
        rows.push(head.into_iter().chain(rest).collect());
    };
    let catalog = source.catalog();
    let cluster = ("cluster", catalog.options());
    let head = [text("cluster"), none(), none(), none(), none()];
    push(head, zones::effective(&[cluster]));
    for database in catalog.databases() {
        let head = [text("database"), text(&database.name), none(), none(), none()];
        push(head, zones::effective(&[("database", &database.options), cluster]));
    }
    for relation in source.relations() {
        let Relation::Table(table) = relation else { continue };
        let Some(database) = catalog.database(table.database) else { continue };
        let schema = text(source.schema_name(table.schema));
        let head = [text("table"), text(&database.name), schema, text(&table.name), oid(table.oid)];
        let levels = [("table", &table.options[..]), ("database", &database.options), cluster];
        push(head, zones::effective(&levels));
    }
    rows.finish()
}
