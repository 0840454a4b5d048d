//! `nextval` and its kin.

use std::sync::Arc;

use meridian_catalog::{Relation, SequenceDesc};
use meridian_types::oid::Oid;
use meridian_types::{Datum, PgError, Result, SqlState};

use super::{CatalogHost, block, oid_arg, text_arg};
use crate::ddl::Position;
use crate::virtuals::privileges;

impl CatalogHost {
    fn sequence(&self, oid: Oid) -> Result<Arc<SequenceDesc>> {
        match self.relation(oid) {
            Some(Relation::Sequence(sequence)) => Ok(sequence),
            Some(other) => Err(PgError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a sequence", other.name()),
            )),
            None => Err(PgError::new(
                SqlState::UNDEFINED_TABLE,
                format!("could not open relation with OID {oid}"),
            )),
        }
    }

    /// The sequence when the role has one of these privileges on it. Values of an identity column
    /// are part of the table and need none.
    fn usable(&self, oid: Oid, letters: &str) -> Result<Arc<SequenceDesc>> {
        let sequence = self.sequence(oid)?;
        let catalog = &self.view.catalog;
        let identity = sequence.owned_by.is_some_and(|(table, attnum)| {
            let column = catalog.table(table).and_then(|t| t.column(attnum));
            column.is_some_and(|c| c.identity.is_some())
        });
        let relation = Relation::Sequence(Arc::clone(&sequence));
        let user = self.view.identity.user;
        let has = |letter| privileges::relation_privilege(catalog, user, &relation, letter);
        if identity || letters.chars().any(has) {
            return Ok(sequence);
        }
        let text = format!("permission denied for sequence {}", sequence.name);
        Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text))
    }

    pub(super) fn sequences(&self, prosrc: &str, args: &[Datum]) -> Option<Result<Datum>> {
        let state = self.session.sequences();
        let store = self.node.store();
        let oid = oid_arg(args, 0);
        Some(match prosrc {
            "nextval_oid" => {
                self.usable(oid, "Uw").and_then(|s| block(state.next(store, &s))).map(Datum::Int8)
            }
            "currval_oid" => {
                self.usable(oid, "Ur").and_then(|s| state.current(&s)).map(Datum::Int8)
            }
            "lastval" => state.last().map(|(_, value)| Datum::Int8(value)),
            "setval_oid" | "setval3_oid" => {
                let value = args.get(1).and_then(Datum::as_i64).unwrap_or(0);
                let called = args.get(2).and_then(Datum::as_bool).unwrap_or(true);
                self.usable(oid, "w")
                    .and_then(|s| block(state.set(store, &s, value, called)))
                    .map(|()| Datum::Int8(value))
            }
            "pg_sequence_last_value" => self
                .sequence(oid)
                .and_then(|s| block(Position::load(store, &s)))
                .map(|at| if at.called { Datum::Int8(at.last) } else { Datum::Null }),
            "pg_get_serial_sequence" => self.serial_sequence(text_arg(args, 0), text_arg(args, 1)),
            _ => return None,
        })
    }

    fn serial_sequence(&self, table: &str, column: &str) -> Result<Datum> {
        let Some(relation) = self.relation_by_text(table) else {
            let text = format!("relation \"{table}\" does not exist");
            return Err(PgError::new(SqlState::UNDEFINED_TABLE, text));
        };
        let Relation::Table(desc) = &relation else { return Ok(Datum::Null) };
        let Some(found) = desc.column_by_name(column) else {
            let text = format!("column \"{column}\" of relation \"{}\" does not exist", desc.name);
            return Err(PgError::new(SqlState::UNDEFINED_COLUMN, text));
        };
        let owned = self.view.catalog.relations().find(
            |r| matches!(r, Relation::Sequence(s) if s.owned_by == Some((desc.oid, found.attnum))),
        );
        Ok(owned.map_or(Datum::Null, |r| Datum::text(self.view.qualified_name(r))))
    }
}
