//! The session and the server: who, where, settings, sizes, locks.

use meridian_types::context::CallInfoOwned;
use meridian_types::{Datum, PgError, Result, SqlState, oid};

use super::{CatalogHost, oid_arg, text_arg};
use crate::virtuals::rows;

/// PostgreSQL's version that clients are told of.
pub(super) const SERVER_VERSION: &str = "15.18";

/// From PostgreSQL's epoch back to Unix' one.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

fn unknown_setting(name: &str) -> PgError {
    PgError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

/// The two halves of an advisory key, and how it was given.
fn advisory_key(prosrc: &str, args: &[Datum]) -> (u32, u32, u32) {
    let number = |at: usize| args.get(at).and_then(Datum::as_i64).unwrap_or(0);
    let low = |v: i64| u32::try_from(v & 0xffff_ffff).unwrap_or(0);
    if prosrc.ends_with("_int8") {
        let key = number(0);
        return (low(key >> 32), low(key), 1);
    }
    (low(number(0)), low(number(1)), 2)
}

fn pid_arg(args: &[Datum]) -> i32 {
    let pid = args.first().and_then(Datum::as_i64).unwrap_or(0);
    i32::try_from(pid).unwrap_or(0)
}

impl CatalogHost {
    pub(super) fn state(
        &self,
        prosrc: &str,
        call: &CallInfoOwned,
        args: &[Datum],
    ) -> Option<Result<Datum>> {
        if prosrc.starts_with("pg_advisory_") || prosrc.starts_with("pg_try_advisory_") {
            return Some(self.advisory(prosrc, call, args));
        }
        let identity = &self.view.identity;
        let catalog = &self.view.catalog;
        let schema_name = |oid: u32| catalog.schema(oid).map(|s| Datum::text(&s.name));
        Some(Ok(match prosrc {
            "current_database" => Datum::text(&identity.database_name),
            "current_user" => Datum::text(&identity.user_name),
            "session_user" => {
                let role = catalog.role(identity.session_user);
                role.map_or(Datum::Null, |r| Datum::text(&r.name))
            }
            "current_schema" => {
                self.view.path.named.first().and_then(|s| schema_name(*s)).unwrap_or(Datum::Null)
            }
            "current_schemas" => {
                let implicit = args.first().and_then(Datum::as_bool).unwrap_or(false);
                let path = &self.view.path;
                let schemas = if implicit { &path.effective } else { &path.named };
                rows::array(oid::NAME, schemas.iter().filter_map(|s| schema_name(*s)).collect())
            }
            "pgsql_version" => Datum::text(format!(
                "PostgreSQL {SERVER_VERSION} (Meridian {}) on {}, 64-bit",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::ARCH
            )),
            "pg_backend_pid" => Datum::Int4(identity.backend),
            "pg_is_in_recovery" | "pg_is_wal_replay_paused" => Datum::Bool(false),
            "PG_encoding_to_char" => match args.first().and_then(Datum::as_i64) {
                Some(6) => Datum::text("UTF8"),
                Some(0) => Datum::text("SQL_ASCII"),
                Some(8) => Datum::text("LATIN1"),
                _ => Datum::text(""),
            },
            "PG_char_to_encoding" => {
                let name = text_arg(args, 0).to_lowercase().replace(['-', '_'], "");
                Datum::Int4(match name.as_str() {
                    "utf8" | "unicode" => 6,
                    "sqlascii" => 0,
                    "latin1" | "iso88591" => 8,
                    _ => -1,
                })
            }
            "getdatabaseencoding" | "pg_client_encoding" => Datum::text("UTF8"),
            "pg_encoding_max_length_sql" => Datum::Int4(4),
            "show_config_by_name" | "show_config_by_name_missing_ok" => {
                let name = text_arg(args, 0);
                let missing_ok = args.get(1).and_then(Datum::as_bool).unwrap_or(false);
                match self.session.setting(name) {
                    Some(value) => Datum::text(value),
                    None if missing_ok => Datum::Null,
                    None => return Some(Err(unknown_setting(name))),
                }
            }
            "set_config_by_name" => {
                let local = args.get(2).and_then(Datum::as_bool).unwrap_or(false);
                let set = self.session.set_setting(text_arg(args, 0), text_arg(args, 1), local);
                return Some(set.map(Datum::text));
            }
            "pg_relation_size"
            | "pg_relation_size(regclass)"
            | "pg_table_size"
            | "pg_total_relation_size"
            | "pg_indexes_size" => match self.relation(oid_arg(args, 0)) {
                Some(relation) => return Some(self.size(prosrc, &relation).map(Datum::Int8)),
                None => Datum::Null,
            },
            "pg_database_size_name"
            | "pg_database_size_oid"
            | "pg_tablespace_size_name"
            | "pg_tablespace_size_oid" => {
                let bytes = self.node.store().stats().disk_bytes;
                Datum::Int8(i64::try_from(bytes).unwrap_or(i64::MAX))
            }
            "pg_relation_filenode" => match self.relation(oid_arg(args, 0)) {
                Some(relation) => Datum::Oid(relation.oid()),
                None => Datum::Null,
            },
            "pg_tablespace_location" => Datum::text(""),
            "pg_relation_is_publishable" => Datum::Bool(
                self.relation(oid_arg(args, 0))
                    .is_some_and(|r| matches!(r, meridian_catalog::Relation::Table(_))),
            ),
            "pg_relation_is_updatable" => {
                let table = matches!(
                    self.relation(oid_arg(args, 0)),
                    Some(meridian_catalog::Relation::Table(_))
                );
                Datum::Int4(if table { 28 } else { 0 })
            }
            "pg_column_is_updatable" => Datum::Bool(matches!(
                self.relation(oid_arg(args, 0)),
                Some(meridian_catalog::Relation::Table(_))
            )),
            "row_security_active" | "row_security_active_name" => Datum::Bool(false),
            "pg_postmaster_start_time" | "pg_conf_load_time" => {
                Datum::TimestampTz(self.session.server_start())
            }
            "follower_read_timestamp" => {
                let staleness = self.session.follower_staleness();
                let time = self.node.store().follower_timestamp(staleness).micros().cast_signed();
                Datum::TimestampTz(time.saturating_sub(EPOCH_MICROS))
            }
            "pg_cancel_backend" | "pg_terminate_backend" => {
                Datum::Bool(self.session.signal(pid_arg(args), prosrc == "pg_terminate_backend"))
            }
            "pg_blocking_pids" => {
                let pids = self.session.blocking_pids(pid_arg(args)).into_iter();
                rows::array(oid::INT4, pids.map(Datum::Int4).collect())
            }
            "pg_isolation_test_session_is_blocked" => {
                let blocking = self.session.blocking_pids(pid_arg(args));
                let Some(Datum::Array(among)) = args.get(1) else { return Some(Ok(Datum::Null)) };
                let listed = |pid: &Datum| {
                    pid.as_i64().is_some_and(|pid| {
                        blocking.iter().any(|blocker| i64::from(*blocker) == pid)
                    })
                };
                Datum::Bool(among.elements.iter().any(listed))
            }
            "pg_safe_snapshot_blocking_pids" => rows::array(oid::INT4, vec![]),
            "pg_sleep" => {
                let seconds = match args.first() {
                    Some(Datum::Float8(v)) => *v,
                    _ => 0.0,
                };
                return Some(self.session.sleep(seconds).map(|()| Datum::text("")));
            }
            "inet_client_addr" | "inet_server_addr" | "inet_client_port" | "inet_server_port" => {
                Datum::Null
            }
            _ => return None,
        }))
    }

    fn advisory(&self, prosrc: &str, call: &CallInfoOwned, args: &[Datum]) -> Result<Datum> {
        if prosrc == "pg_advisory_unlock_all" {
            self.session.advisory_unlock_all();
            return Ok(Datum::text(""));
        }
        let key = advisory_key(prosrc, args);
        let shared = prosrc.contains("_shared");
        if prosrc.starts_with("pg_advisory_unlock") {
            return self.session.advisory_unlock(key, shared).map(Datum::Bool);
        }
        let wait = !prosrc.starts_with("pg_try_");
        let session = !prosrc.contains("_xact_");
        let got = self.session.advisory_lock(key, shared, session, wait)?;
        Ok(if call.ret.oid == oid::BOOL { Datum::Bool(got) } else { Datum::text("") })
    }
}
