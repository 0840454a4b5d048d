//! Where tables want their copies: storage parameters, and the zones of keys that are made of them.
//!
//! ```sql
//! ALTER TABLE orders SET (replication_factor = 5, placement = '+region=eu, -disk=hdd');
//! ```
//! They are kept in the table's descriptor as other storage parameters are, so they are changed by transactions, and
//! every node makes the zones of the catalog that it has. A zone begins where a table's keys begin and ends
//! where they end.

use std::collections::BTreeMap;

use meridian_catalog::key::index_prefix;
use meridian_catalog::{Catalog, Relation, TableDesc};
use meridian_cluster::{Key, Zone};
use meridian_types::{PgError, Result, SqlState};

/// How many copies.
const FACTOR: &str = "replication_factor";
/// Where they may be.
const PLACEMENT: &str = "placement";
/// Most copies of a range.
const FACTOR_MAX: i64 = 7;

/// The zone that storage parameters ask for; `None`: they say nothing about it.
pub(crate) fn zone_of(options: &[(String, String)]) -> Result<Option<Zone>> {
    let find = |name: &str| {
        let found = options.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let (factor, placement) = (find(FACTOR), find(PLACEMENT));
    if factor.is_none() && placement.is_none() {
        return Ok(None);
    }
    let wrong = |text: String| PgError::new(SqlState::INVALID_PARAMETER_VALUE, text);
    if let Some(text) = factor {
        let number: i64 = text
            .trim()
            .parse()
            .map_err(|_| wrong(format!("invalid value for integer option \"{FACTOR}\": {text}")))?;
        if !(1..=FACTOR_MAX).contains(&number) {
            let text = format!("value {text} out of bounds for option \"{FACTOR}\"");
            let detail = format!("Valid values are between \"1\" and \"{FACTOR_MAX}\".");
            return Err(wrong(text).detail(detail));
        }
    }
    let zone = Zone::default().with(factor, placement);
    let invalid =
        |why: String| wrong(format!("invalid value for option \"{PLACEMENT}\"")).detail(why);
    zone.map(Some).map_err(invalid)
}

fn start(storage: u32) -> Key {
    Key::copy_from_slice(&index_prefix(storage, 0)[..5])
}

/// The zones of all tables: each holds from its key on until the next one.
pub(crate) fn zones(catalog: &Catalog) -> BTreeMap<Key, Zone> {
    let mut zones = BTreeMap::new();
    let mut ends = Vec::new();
    for relation in catalog.relations() {
        let Relation::Table(table) = relation else { continue };
        // What is stored has been checked.
        if let Some(zone) = zone_of(&table.options).unwrap_or_default() {
            zones.insert(start(table.storage_id), zone);
            ends.push(start(table.storage_id + 1));
        }
    }
    for end in ends {
        zones.entry(end).or_default();
    }
    zones
}

/// The storage parameters after SET or RESET.
pub(crate) fn changed(
    table: &TableDesc,
    set: &[(String, String)],
    reset: &[String],
) -> Result<Vec<(String, String)>> {
    let mut options = table.options.clone();
    options.retain(|(name, _)| !reset.contains(name) && !set.iter().any(|(new, _)| new == name));
    options.extend(set.iter().cloned());
    zone_of(&options)?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_as_postgresql_checks_its_own() {
        let zone = |options: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            zone_of(&options.iter().map(own).collect::<Vec<_>>())
        };
        assert_eq!(zone(&[("fillfactor", "70")]), Ok(None));
        let five = zone(&[(FACTOR, "5"), (PLACEMENT, "+region=eu, -disk=hdd")]);
        let five = five.expect("good").expect("a zone");
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
    }
}
