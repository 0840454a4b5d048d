//! PostgreSQL's own views over its catalogs, and what shows the server at work.

use meridian_catalog::Relation;
use meridian_cluster::LockTarget;
use meridian_types::{Datum, Result};

use super::Source;
use super::defs;
use super::rows::{Rows, flag, int4, oid, opt_text, text, text_array};

/// Rows of a view, none when nothing can be in it.
pub(crate) fn rows(source: &Source<'_>) -> Result<Vec<Vec<Datum>>> {
    Ok(match source.desc.name {
        "pg_tables" => pg_tables(source),
        "pg_views" => pg_views(source),
        "pg_indexes" => pg_indexes(source),
        "pg_sequences" => pg_sequences(source),
        "pg_settings" => pg_settings(source),
        "pg_stat_activity" => pg_stat_activity(source),
        "pg_stat_database" => pg_stat_database(source),
        "pg_stat_wal" => pg_stat_wal(source),
        "pg_stat_user_tables" | "pg_stat_all_tables" => pg_stat_tables(source),
        "pg_stat_user_indexes" | "pg_stat_all_indexes" => pg_stat_indexes(source),
        "pg_locks" => pg_locks(source)?,
        "pg_prepared_xacts" => pg_prepared_xacts(source)?,
        "pg_cursors" => named(source, "creation_time", &source.ctx.session.cursors()),
        "pg_prepared_statements" => pg_prepared_statements(source),
        "pg_extension" => {
            let mut rows = Rows::new(
                source.desc,
                &["oid", "extname", "extowner", "extnamespace", "extrelocatable", "extversion"],
            );
            let version = text("1.0");
            rows.push(vec![oid(13573), text("plpgsql"), oid(10), oid(11), flag(false), version]);
            rows.finish()
        }
        _ => Vec::new(),
    })
}

fn pg_tables(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "schemaname",
            "tablename",
            "tableowner",
            "hasindexes",
            "hasrules",
            "hastriggers",
            "rowsecurity",
        ],
    );
    let systems = meridian_catalog::builtin::system_relations().filter(|s| s.kind == b'r');
    let systems = systems.map(|s| Relation::Virtual(s.desc.clone()));
    for relation in source.relations().cloned().chain(systems) {
        if relation.kind() != b'r' {
            continue;
        }
        let (indexed, triggers) = match &relation {
            Relation::Table(t) => (
                t.indexes.iter().any(|i| i.oid != 0),
                t.constraints
                    .iter()
                    .any(|c| matches!(c.kind, meridian_catalog::ConstraintKind::ForeignKey { .. }))
                    || source.catalog().referencing_tables(t.oid).next().is_some(),
            ),
            _ => (true, false),
        };
        rows.push(vec![
            text(source.schema_name(relation.schema())),
            text(relation.name()),
            text(source.role_name(relation.owner())),
            flag(indexed),
            flag(false),
            flag(triggers),
            flag(false),
        ]);
    }
    rows.finish()
}

fn pg_views(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["schemaname", "viewname", "viewowner", "definition"]);
    for relation in source.relations() {
        let Relation::View(view) = relation else { continue };
        rows.push(vec![
            text(source.schema_name(view.schema)),
            text(&view.name),
            text(source.role_name(view.owner)),
            text(defs::view_text(view)),
        ]);
    }
    for system in meridian_catalog::builtin::system_relations().filter(|s| s.kind == b'v') {
        rows.push(vec![
            text(source.schema_name(system.desc.schema)),
            text(system.desc.name),
            text("postgres"),
            Datum::Null,
        ]);
    }
    rows.finish()
}

fn pg_indexes(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["schemaname", "tablename", "indexname", "indexdef"]);
    for relation in source.relations() {
        let (Relation::Index(table, _), Some(index)) = (relation, relation.index()) else {
            continue;
        };
        rows.push(vec![
            text(source.schema_name(table.schema)),
            text(&table.name),
            text(&index.name),
            text(defs::index_text(&source.view, None, table, index, false)),
        ]);
    }
    rows.finish()
}

fn pg_sequences(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "schemaname",
            "sequencename",
            "sequenceowner",
            "data_type",
            "start_value",
            "min_value",
            "max_value",
            "increment_by",
            "cycle",
            "cache_size",
            "last_value",
        ],
    );
    for relation in source.relations() {
        let Relation::Sequence(s) = relation else { continue };
        let store = source.ctx.node.store();
        let at = super::host::block(crate::ddl::Position::load(store, s)).ok();
        let last = at.filter(|p| p.called).map_or(Datum::Null, |p| Datum::Int8(p.last));
        rows.push(vec![
            text(source.schema_name(s.schema)),
            text(&s.name),
            text(source.role_name(s.owner)),
            oid(s.ty.oid),
            Datum::Int8(s.start),
            Datum::Int8(s.min),
            Datum::Int8(s.max),
            Datum::Int8(s.increment),
            flag(s.cycle),
            Datum::Int8(s.cache),
            last,
        ]);
    }
    rows.finish()
}

fn pg_settings(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "name",
            "setting",
            "unit",
            "category",
            "short_desc",
            "context",
            "vartype",
            "source",
            "min_val",
            "max_val",
            "enumvals",
            "boot_val",
            "reset_val",
            "pending_restart",
        ],
    );
    for s in source.ctx.session.settings() {
        rows.push(vec![
            text(s.name),
            text(s.setting),
            opt_text(s.unit),
            text(s.category),
            text(s.short_desc),
            text(s.context),
            text(s.vartype),
            text(s.source),
            opt_text(s.min_val),
            opt_text(s.max_val),
            s.enumvals.map_or(Datum::Null, text_array),
            opt_text(s.boot_val),
            opt_text(s.reset_val),
            flag(false),
        ]);
    }
    rows.finish()
}

fn pg_stat_activity(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "datid",
            "datname",
            "pid",
            "usesysid",
            "usename",
            "application_name",
            "client_addr",
            "client_port",
            "backend_start",
            "xact_start",
            "query_start",
            "state_change",
            "wait_event_type",
            "wait_event",
            "state",
            "query",
            "backend_type",
        ],
    );
    let time = |t: Option<i64>| t.map_or(Datum::Null, Datum::TimestampTz);
    for a in source.ctx.session.activity() {
        let database = source.catalog().database(a.database);
        let (wait_type, wait) = a.wait_event.map_or((None, None), |(t, e)| (Some(t), Some(e)));
        rows.push(vec![
            oid(a.database),
            opt_text(database.map(|d| d.name.as_str())),
            int4(a.pid),
            oid(a.user),
            text(source.role_name(a.user)),
            text(a.application_name),
            opt_text(a.client_addr),
            a.client_port.map_or(Datum::Null, int4),
            time(a.backend_start),
            time(a.xact_start),
            time(a.query_start),
            time(a.state_change),
            opt_text(wait_type),
            opt_text(wait),
            opt_text(a.state),
            text(a.query),
            text("client backend"),
        ]);
    }
    rows.finish()
}

fn pg_stat_database(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["datid", "datname", "numbackends"]);
    for database in source.catalog().databases() {
        let activity = source.ctx.session.activity();
        let backends = activity.iter().filter(|a| a.database == database.oid).count();
        let backends = int4(i32::try_from(backends).unwrap_or(i32::MAX));
        rows.push(vec![oid(database.oid), text(&database.name), backends]);
    }
    rows.finish()
}

/// The log of this node since its start: commits, what they took, how often it was written and synced.
fn pg_stat_wal(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let columns =
        ["wal_records", "wal_fpi", "wal_bytes", "wal_buffers_full", "wal_write", "wal_sync"];
    let mut rows = Rows::new(source.desc, &columns);
    let stats = source.ctx.node.store().stats();
    let count = |n: u64| Datum::Int8(i64::try_from(n).unwrap_or(i64::MAX));
    let bytes = Datum::Numeric(i64::try_from(stats.batch_bytes).unwrap_or(i64::MAX).into());
    let none = count(0);
    let (records, writes) = (count(stats.commits), count(stats.batches));
    rows.push(vec![records, none.clone(), bytes, none, writes, count(stats.fsyncs)]);
    rows.finish()
}

fn pg_stat_tables(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["relid", "schemaname", "relname", "n_live_tup"]);
    for relation in source.relations() {
        let Relation::Table(table) = relation else { continue };
        #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
        let live = table.row_estimate.map_or(0, |n| n as i64);
        rows.push(vec![
            oid(table.oid),
            text(source.schema_name(table.schema)),
            text(&table.name),
            Datum::Int8(live),
        ]);
    }
    rows.finish()
}

fn pg_stat_indexes(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows =
        Rows::new(source.desc, &["relid", "indexrelid", "schemaname", "relname", "indexrelname"]);
    for relation in source.relations() {
        let Relation::Index(table, _) = relation else { continue };
        rows.push(vec![
            oid(table.oid),
            oid(relation.oid()),
            text(source.schema_name(table.schema)),
            text(&table.name),
            text(relation.name()),
        ]);
    }
    rows.finish()
}

fn pg_locks(source: &Source<'_>) -> Result<Vec<Vec<Datum>>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "locktype",
            "database",
            "relation",
            "classid",
            "objid",
            "objsubid",
            "virtualtransaction",
            "pid",
            "mode",
            "granted",
            "fastpath",
        ],
    );
    let database = oid(source.identity().database);
    let everywhere = source.ctx.session.locks();
    let mut locks = everywhere.unwrap_or_else(|| source.ctx.node.store().lock_view());
    // Table locks of those that have no session are nowhere but in their own rows.
    for prepared in source.ctx.session.prepared_transactions()? {
        if prepared.database == source.identity().database {
            locks.extend(prepared.locks().cloned());
        }
    }
    for lock in locks {
        let null = Datum::Null;
        let (kind, database, relation, class, object, sub) = match lock.target {
            // Locks of names that are being given have no relation yet.
            LockTarget::Table(table) if table & 0x8000_0000 != 0 => continue,
            LockTarget::Table(table) => {
                ("relation", database.clone(), oid(table), null.clone(), null.clone(), null)
            }
            LockTarget::Row(_) => {
                ("tuple", database.clone(), null.clone(), null.clone(), null.clone(), null)
            }
            LockTarget::Advisory([of, class, object, sub]) => {
                let sub = Datum::Int2(i16::try_from(sub).unwrap_or(0));
                ("advisory", oid(of), null, oid(class), oid(object), sub)
            }
        };
        rows.push(vec![
            text(kind),
            database,
            relation,
            class,
            object,
            sub,
            match lock.process {
                0 => text(format!("-1/{}", lock.transaction)),
                process => text(format!("{process}/{}", lock.transaction)),
            },
            match lock.process {
                0 => Datum::Null,
                process => int4(i32::try_from(process).unwrap_or(0)),
            },
            text(lock.mode),
            flag(lock.granted),
            flag(false),
        ]);
    }
    Ok(rows.finish())
}

fn pg_prepared_xacts(source: &Source<'_>) -> Result<Vec<Vec<Datum>>> {
    let names = &["transaction", "gid", "prepared", "owner", "database"];
    let mut rows = Rows::new(source.desc, names);
    let catalog = source.catalog();
    for made in source.ctx.session.prepared_transactions()? {
        let owner = catalog.role(made.owner).map(|role| role.name.clone());
        let database = catalog.database(made.database).map(|database| database.name.clone());
        rows.push(vec![
            oid(u32::try_from(made.id & u64::from(u32::MAX)).unwrap_or(0)),
            text(&made.gid),
            Datum::TimestampTz(made.prepared),
            opt_text(owner.as_deref()),
            opt_text(database.as_deref()),
        ]);
    }
    Ok(rows.finish())
}

fn pg_prepared_statements(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &["name", "statement", "prepare_time", "parameter_types", "from_sql"],
    );
    for made in source.ctx.session.prepared_statements() {
        let types = made.types.iter().map(|t| Datum::Oid(*t)).collect();
        rows.push(vec![
            text(&made.name),
            text(&made.text),
            Datum::TimestampTz(made.time),
            super::rows::array(meridian_types::oid::REGTYPE, types),
            flag(made.from_sql),
        ]);
    }
    rows.finish()
}

fn named(source: &Source<'_>, time: &str, all: &[super::NamedStatement]) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["name", "statement", time]);
    for (name, statement, made) in all {
        rows.push(vec![text(name), text(statement), Datum::TimestampTz(*made)]);
    }
    rows.finish()
}
