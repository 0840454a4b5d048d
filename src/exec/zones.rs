//! Where tables want their copies: storage parameters of tables, databases and the cluster, and the zones of keys
//! that are made of them.
//!
//! ```sql
//! ALTER SYSTEM SET (placement = '-disk=hdd');
//! ALTER DATABASE shop SET (replication_factor = 3);
//! ALTER TABLE orders SET (replication_factor = 5, placement = '+region=eu, -disk=hdd');
//! ```
//! Each of the two is a table's own, or else its database's, or else the cluster's. They are kept in descriptors, so
//! they are changed by transactions, and every node makes the zones of the catalog that it has. A zone begins
//! where a table's keys begin, if what holds for the keys before it is something else.

use std::collections::BTreeMap;

use meridian_catalog::key::index_prefix;
use meridian_catalog::{Catalog, Relation, TableDesc};
use meridian_cluster::{Key, Zone};
use meridian_types::{PgError, Result, SqlState};

/// How many copies.
const FACTOR: &str = "replication_factor";
/// Where they may be.
const PLACEMENT: &str = "placement";
/// Storage parameters: names and values.
type Options = Vec<(String, String)>;
/// Most copies of a range.
const FACTOR_MAX: i64 = 7;
/// First storage of a user's table.
const FIRST_USER_STORAGE: u32 = 1000;

fn invalid(text: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

fn find<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = options.iter().rev().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// The zone that storage parameters ask for, on top of what is inherited.
fn zone_over(inherited: &Zone, options: &[(String, String)]) -> Result<Zone> {
    let (factor, placement) = (find(options, FACTOR), find(options, PLACEMENT));
    if let Some(text) = factor {
        let not_integer =
            |_| invalid(format!("invalid value for integer option \"{FACTOR}\": {text}"));
        let number: i64 = text.trim().parse().map_err(not_integer)?;
        if !(1..=FACTOR_MAX).contains(&number) {
            let text = format!("value {text} out of bounds for option \"{FACTOR}\"");
            let detail = format!("Valid values are between \"1\" and \"{FACTOR_MAX}\".");
            return Err(invalid(text).detail(detail));
        }
    }
    let wrong =
        |why: String| invalid(format!("invalid value for option \"{PLACEMENT}\"")).detail(why);
    inherited.with(factor, placement).map_err(wrong)
}

/// Whether storage parameters are well-formed.
pub(crate) fn check(options: &[(String, String)]) -> Result<()> {
    zone_over(&Zone::default(), options).map(drop)
}

/// What is on top of what is inherited; what is stored has been checked.
fn stored(inherited: &Zone, options: &[(String, String)]) -> Zone {
    zone_over(inherited, options).unwrap_or_else(|_| inherited.clone())
}

fn start(storage: u32) -> Key {
    Key::copy_from_slice(&index_prefix(storage, 0)[..5])
}

/// What holds for all keys, and from which keys on something else does.
pub(crate) fn zones(catalog: &Catalog) -> (Zone, BTreeMap<Key, Zone>) {
    let usual = stored(&Zone::default(), catalog.options());
    let of_database = |oid| {
        let database = catalog.database(oid);
        database.map_or_else(|| usual.clone(), |database| stored(&usual, &database.options))
    };
    let databases: BTreeMap<_, _> =
        catalog.databases().map(|database| (database.oid, of_database(database.oid))).collect();
    let mut tables = BTreeMap::new();
    for relation in catalog.relations() {
        let Relation::Table(table) = relation else { continue };
        if table.storage_id >= FIRST_USER_STORAGE {
            let zone = stored(databases.get(&table.database).unwrap_or(&usual), &table.options);
            tables.insert(table.storage_id, zone);
        }
    }
    let zones = borders(&usual, &tables);
    (usual, zones)
}

/// Where zones begin, of tables by their storage. Between two tables nothing lies: a zone goes on until one begins
/// that isn't alike.
fn borders(usual: &Zone, tables: &BTreeMap<u32, Zone>) -> BTreeMap<Key, Zone> {
    let mut zones = BTreeMap::new();
    let mut before = usual;
    for (storage, zone) in tables {
        if zone != before {
            zones.insert(start(*storage), zone.clone());
            before = zone;
        }
    }
    if let Some((last, _)) = tables.last_key_value().filter(|_| before != usual) {
        zones.insert(start(last + 1), usual.clone());
    }
    zones
}

/// A parameter's value, and of which of `table`, `database`, `cluster` it is, or `default`.
pub(crate) type Effective = (String, &'static str);

/// What holds under these parameters, the innermost first: copies and places.
pub(crate) fn effective(levels: &[(&'static str, &[(String, String)])]) -> (Effective, Effective) {
    let value = |name: &str| {
        levels.iter().find_map(|(level, options)| {
            find(options, name).map(|value| (value.to_owned(), *level))
        })
    };
    let usual = Zone::default();
    let factor = value(FACTOR).unwrap_or_else(|| (usual.replicas.to_string(), "default"));
    let placement = value(PLACEMENT).unwrap_or_else(|| (usual.placement.to_string(), "default"));
    (factor, placement)
}

fn merged(old: &[(String, String)], set: &[(String, String)], reset: &[String]) -> Result<Options> {
    let mut options = old.to_vec();
    options.retain(|(name, _)| !reset.contains(name) && !set.iter().any(|(new, _)| new == name));
    options.extend(set.iter().cloned());
    check(&options)?;
    Ok(options)
}

/// A table's storage parameters after SET or RESET.
pub(crate) fn changed(
    table: &TableDesc,
    set: &[(String, String)],
    reset: &[String],
) -> Result<Options> {
    merged(&table.options, set, reset)
}

/// Those of a database or of the cluster, which has no others.
pub(crate) fn changed_above(
    old: &[(String, String)],
    set: &[(String, String)],
    reset: &[String],
) -> Result<Options> {
    let mut names = set.iter().map(|(name, _)| name).chain(reset);
    if let Some(name) = names.find(|name| ![FACTOR, PLACEMENT].contains(&name.as_str())) {
        return Err(invalid(format!("unrecognized parameter \"{name}\"")));
    }
    merged(old, set, reset)
}

#[cfg(test)]
mod tests {
    use meridian_catalog::{ClusterDesc, Descriptor};

    use super::*;

    fn options(all: &[(&str, &str)]) -> Options {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parameters_are_checked_as_postgresql_checks_its_own() {
        let zone = |all: &[(&str, &str)]| zone_over(&Zone::default(), &options(all));
        assert_eq!(zone(&[("fillfactor", "70")]), Ok(Zone::default()));
        let five = zone(&[(FACTOR, "5"), (PLACEMENT, "+region=eu, -disk=hdd")]).expect("good");
        assert_eq!(
            (five.replicas, five.placement.to_string()),
            (5, "+region=eu, -disk=hdd".into())
        );
        let wrong = |name: &str, value: &str| {
            zone(&[(name, value)]).expect_err("wrong").fields().message.clone()
        };
        let bounds = "value 8 out of bounds for option \"replication_factor\"";
        assert_eq!(wrong(FACTOR, "8"), bounds);
        let number = "invalid value for integer option \"replication_factor\": many";
        assert_eq!(wrong(FACTOR, "many"), number);
        assert_eq!(wrong(PLACEMENT, "eu"), "invalid value for option \"placement\"");
        let other = changed_above(&[], &options(&[("fillfactor", "70")]), &[]);
        assert_eq!(
            other.expect_err("unknown").fields().message,
            "unrecognized parameter \"fillfactor\""
        );
    }

    #[test]
    fn what_is_not_said_is_inherited() {
        let (cluster, database) =
            (options(&[(PLACEMENT, "+region=eu")]), options(&[(FACTOR, "5")]));
        let own = |value: &str, level| (value.to_owned(), level);
        let said = effective(&[("table", &[]), ("database", &database), ("cluster", &cluster)]);
        assert_eq!(said, (own("5", "database"), own("+region=eu", "cluster")));
        assert_eq!(effective(&[]), (own("3", "default"), own("", "default")));

        let mut catalog = Catalog::initial();
        let change = Descriptor::Cluster(ClusterDesc { options: cluster }.into());
        catalog.apply(&(change.id(), Some(change)));
        let (usual, borders) = zones(&catalog);
        assert_eq!((usual.placement.to_string(), usual.replicas), ("+region=eu".into(), 3));
        assert!(borders.is_empty(), "there is no table");
    }

    #[test]
    fn alike_tables_have_no_border() {
        let zone = |replicas| Zone { replicas, ..Zone::default() };
        let tables = |all: &[(u32, usize)]| {
            let all: BTreeMap<u32, Zone> = all.iter().map(|(at, n)| (*at, zone(*n))).collect();
            let number = |key: &Key| u32::from_be_bytes(key[1..5].try_into().expect("five bytes"));
            let borders = borders(&zone(3), &all);
            borders.iter().map(|(key, zone)| (number(key), zone.replicas)).collect::<Vec<_>>()
        };
        assert_eq!(tables(&[(1001, 3), (1004, 3)]), []);
        assert_eq!(tables(&[(1001, 3), (1004, 5), (1007, 5)]), [(1004, 5), (1008, 3)]);
        assert_eq!(tables(&[(1001, 1), (1004, 5), (1007, 3)]), [(1001, 1), (1004, 5), (1007, 3)]);
    }
}
