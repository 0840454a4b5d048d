//! `pg_class`, `pg_type`, `pg_index` and what hangs on them.

use meridian_catalog::builtin::EVERY_DATABASE;
use meridian_catalog::{IndexDesc, Relation, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, builtin};

use super::Source;
use super::privileges::acl_datum;
use super::rows::{Rows, array, ch, flag, int2, int4, oid, opt_text, text, text_array, vector};

pub(crate) const PG_CLASS: Oid = 1259;
pub(crate) const PG_CONSTRAINT: Oid = 2606;
const BTREE: Oid = 403;

fn method(index: &IndexDesc) -> Oid {
    if index.method == "hash" { 405 } else { BTREE }
}

struct Class {
    relam: Oid,
    natts: usize,
    tuples: f32,
    has_index: bool,
    checks: usize,
    has_triggers: bool,
    persistence: u8,
    acl: Datum,
    options: Datum,
}

impl Default for Class {
    fn default() -> Class {
        Class {
            relam: 0,
            natts: 0,
            tuples: -1.0,
            has_index: false,
            checks: 0,
            has_triggers: false,
            persistence: b'p',
            acl: Datum::Null,
            options: Datum::Null,
        }
    }
}

fn persistence(temp: bool, unlogged: bool) -> u8 {
    match (temp, unlogged) {
        (true, _) => b't',
        (false, true) => b'u',
        (false, false) => b'p',
    }
}

fn table_class(source: &Source<'_>, table: &TableDesc) -> Class {
    use meridian_catalog::ConstraintKind::{Check, ForeignKey};
    let referenced = source.catalog().referencing_tables(table.oid).next().is_some();
    let options = table.options.iter().map(|(n, v)| format!("{n}={v}"));
    #[expect(clippy::cast_possible_truncation, reason = "reltuples is a float4")]
    let tuples = table.row_estimate.map_or(-1.0, |n| n as f32);
    Class {
        relam: 2,
        natts: table.columns.iter().filter(|c| !c.hidden).count(),
        tuples,
        has_index: table.indexes.iter().any(|i| i.oid != 0),
        checks: table.constraints.iter().filter(|c| matches!(c.kind, Check { .. })).count(),
        has_triggers: referenced
            || table.constraints.iter().any(|c| matches!(c.kind, ForeignKey { .. })),
        persistence: persistence(table.temp_session.is_some(), table.unlogged),
        acl: acl_datum(source.catalog(), &table.acl),
        options: if table.options.is_empty() { Datum::Null } else { text_array(options) },
    }
}

fn class_of(source: &Source<'_>, relation: &Relation) -> Class {
    match relation {
        Relation::Table(table) => table_class(source, table),
        Relation::Index(table, _) => Class {
            relam: relation.index().map_or(BTREE, method),
            natts: relation.index().map_or(0, |i| i.columns.len() + i.include.len()),
            tuples: 0.0,
            persistence: persistence(table.temp_session.is_some(), table.unlogged),
            ..Class::default()
        },
        Relation::Sequence(s) => Class {
            natts: 3,
            tuples: 1.0,
            persistence: persistence(s.temp_session.is_some(), false),
            acl: acl_datum(source.catalog(), &s.acl),
            ..Class::default()
        },
        Relation::View(v) => Class {
            natts: v.columns.len(),
            persistence: persistence(v.temp_session.is_some(), false),
            acl: acl_datum(source.catalog(), &v.acl),
            ..Class::default()
        },
        Relation::Virtual(v) => Class {
            natts: v.columns.len(),
            relam: if relation.kind() == b'r' { 2 } else { 0 },
            ..Class::default()
        },
    }
}

const SHARED: &[&str] = &[
    "pg_authid",
    "pg_auth_members",
    "pg_database",
    "pg_db_role_setting",
    "pg_tablespace",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_replication_origin",
    "pg_subscription",
    "pg_parameter_acl",
];

pub(crate) fn pg_class(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "oid",
            "relname",
            "relnamespace",
            "reltype",
            "reloftype",
            "relowner",
            "relam",
            "relfilenode",
            "reltablespace",
            "relpages",
            "reltuples",
            "relallvisible",
            "reltoastrelid",
            "relhasindex",
            "relisshared",
            "relpersistence",
            "relkind",
            "relnatts",
            "relchecks",
            "relhasrules",
            "relhastriggers",
            "relhassubclass",
            "relrowsecurity",
            "relforcerowsecurity",
            "relispopulated",
            "relreplident",
            "relispartition",
            "relrewrite",
            "relfrozenxid",
            "relminmxid",
            "relacl",
            "reloptions",
        ],
    );
    let systems = source.system_relations().map(|s| Relation::Virtual(s.desc.clone()));
    for relation in source.relations().cloned().chain(systems) {
        let class = class_of(source, &relation);
        let kind = relation.kind();
        let is_system = matches!(relation, Relation::Virtual(_));
        let stored = matches!(kind, b'r' | b'i' | b'S');
        let shared = is_system && SHARED.contains(&relation.name());
        let replident = if kind == b'r' && !is_system { b'd' } else { b'n' };
        rows.push(vec![
            oid(relation.oid()),
            text(relation.name()),
            oid(relation.schema()),
            oid(relation.row_type().unwrap_or(0)),
            oid(0),
            oid(relation.owner()),
            oid(class.relam),
            oid(if stored { relation.oid() } else { 0 }),
            oid(0),
            int4(0),
            Datum::Float4(class.tuples),
            int4(0),
            oid(0),
            flag(class.has_index),
            flag(shared),
            ch(class.persistence),
            ch(kind),
            int2(class.natts),
            int2(class.checks),
            flag(kind == b'v'),
            flag(class.has_triggers),
            flag(false),
            flag(false),
            flag(false),
            flag(true),
            ch(replident),
            flag(false),
            oid(0),
            oid(if kind == b'r' { 3 } else { 0 }),
            oid(if kind == b'r' { 1 } else { 0 }),
            class.acl,
            class.options,
        ]);
    }
    rows.finish()
}

/// Row types of relations and their arrays; built-in types come from the data.
pub(crate) fn pg_type(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "oid",
            "typname",
            "typnamespace",
            "typowner",
            "typlen",
            "typbyval",
            "typtype",
            "typcategory",
            "typispreferred",
            "typisdefined",
            "typdelim",
            "typrelid",
            "typsubscript",
            "typelem",
            "typarray",
            "typinput",
            "typoutput",
            "typreceive",
            "typsend",
            "typmodin",
            "typmodout",
            "typanalyze",
            "typalign",
            "typstorage",
            "typnotnull",
            "typbasetype",
            "typtypmod",
            "typndims",
            "typcollation",
        ],
    );
    for relation in source.relations() {
        let Some(row_type) = relation.row_type() else { continue };
        let array_type = meridian_catalog::snapshot::array_of_row_type(row_type);
        for is_array in [false, true] {
            let name = relation.name();
            let name = if is_array { format!("_{name}") } else { name.to_owned() };
            rows.push(vec![
                oid(if is_array { array_type } else { row_type }),
                text(name),
                oid(relation.schema()),
                oid(relation.owner()),
                Datum::Int2(-1),
                flag(false),
                ch(if is_array { b'b' } else { b'c' }),
                ch(if is_array { b'A' } else { b'C' }),
                flag(false),
                flag(true),
                text(","),
                oid(if is_array { 0 } else { relation.oid() }),
                oid(if is_array { 6179 } else { 0 }),
                oid(if is_array { row_type } else { 0 }),
                oid(if is_array { 0 } else { array_type }),
                oid(if is_array { 750 } else { 2290 }),
                oid(if is_array { 751 } else { 2291 }),
                oid(if is_array { 2400 } else { 2402 }),
                oid(if is_array { 2401 } else { 2403 }),
                oid(0),
                oid(0),
                oid(if is_array { 3816 } else { 0 }),
                text("d"),
                text("x"),
                flag(false),
                oid(0),
                int4(-1),
                int4(0),
                oid(0),
            ]);
        }
    }
    rows.finish()
}

pub(crate) fn pg_namespace(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["oid", "nspname", "nspowner", "nspacl"]);
    for schema in source.catalog().schemas(source.identity().database) {
        let open = schema.database == EVERY_DATABASE && schema.name != "pg_toast";
        let access = match schema.name.as_str() {
            _ if !schema.acl.is_empty() => acl_datum(source.catalog(), &schema.acl),
            "public" => {
                let owner = source.role_name(schema.owner);
                array(
                    oid::ACLITEM,
                    vec![text(format!("{owner}=UC/{owner}")), text(format!("=U/{owner}"))],
                )
            }
            _ if open => {
                array(oid::ACLITEM, vec![text("postgres=UC/postgres"), text("=U/postgres")])
            }
            _ => Datum::Null,
        };
        rows.push(vec![oid(schema.oid), text(&schema.name), oid(schema.owner), access]);
    }
    rows.finish()
}

pub(crate) fn pg_index(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "indexrelid",
            "indrelid",
            "indnatts",
            "indnkeyatts",
            "indisunique",
            "indnullsnotdistinct",
            "indisprimary",
            "indisexclusion",
            "indimmediate",
            "indisclustered",
            "indisvalid",
            "indcheckxmin",
            "indisready",
            "indislive",
            "indisreplident",
            "indkey",
            "indcollation",
            "indclass",
            "indoption",
            "indexprs",
            "indpred",
        ],
    );
    for relation in source.relations() {
        let (Relation::Index(table, _), Some(index)) = (relation, relation.index()) else {
            continue;
        };
        let am = method(index);
        let keys = index.columns.iter().map(|c| c.attnum.unwrap_or(0)).chain(index.include.clone());
        let keys: Vec<Datum> = keys.map(Datum::Int2).collect();
        let collation = |ty: Oid| builtin::type_by_oid(ty).map_or(0, |t| t.collation);
        let collations = index.columns.iter().map(|c| Datum::Oid(collation(c.ty.oid)));
        let class = |ty: Oid| builtin::default_opclass(am, ty).map_or(0, |c| c.oid);
        let classes = index.columns.iter().map(|c| Datum::Oid(class(c.ty.oid)));
        let options = index
            .columns
            .iter()
            .map(|c| Datum::Int2(i16::from(c.desc) | i16::from(c.nulls_first) << 1));
        let exprs: Vec<&str> = index.columns.iter().filter_map(|c| c.expr.as_deref()).collect();
        let immediate = !table.constraints.iter().any(|c| c.name == index.name && c.deferrable);
        let expressions = if exprs.is_empty() { Datum::Null } else { text(exprs.join(", ")) };
        let natts = keys.len();
        rows.push(vec![
            oid(index.oid),
            oid(table.oid),
            int2(natts),
            int2(index.columns.len()),
            flag(index.unique),
            flag(index.nulls_not_distinct),
            flag(index.primary),
            flag(false),
            flag(immediate),
            flag(false),
            flag(true),
            flag(false),
            flag(true),
            flag(true),
            flag(false),
            vector(oid::INT2, keys),
            vector(oid::OID, collations.collect()),
            vector(oid::OID, classes.collect()),
            vector(oid::INT2, options.collect()),
            expressions,
            opt_text(index.predicate.as_deref()),
        ]);
    }
    rows.finish()
}

pub(crate) fn pg_sequence(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "seqrelid",
            "seqtypid",
            "seqstart",
            "seqincrement",
            "seqmax",
            "seqmin",
            "seqcache",
            "seqcycle",
        ],
    );
    for relation in source.relations() {
        let Relation::Sequence(s) = relation else { continue };
        rows.push(vec![
            oid(s.oid),
            oid(s.ty.oid),
            Datum::Int8(s.start),
            Datum::Int8(s.increment),
            Datum::Int8(s.max),
            Datum::Int8(s.min),
            Datum::Int8(s.cache),
            flag(s.cycle),
        ]);
    }
    rows.finish()
}

pub(crate) fn pg_description(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["objoid", "classoid", "objsubid", "description"]);
    let mut push = |object: Oid, class: Oid, sub: i16, comment: &Option<String>| {
        if let Some(comment) = comment {
            rows.push(vec![oid(object), oid(class), int4(i32::from(sub)), text(comment)]);
        }
    };
    for schema in source.catalog().schemas(source.identity().database) {
        push(schema.oid, 2615, 0, &schema.comment);
    }
    for relation in source.relations() {
        match relation {
            Relation::Table(table) => {
                push(table.oid, PG_CLASS, 0, &table.comment);
                for column in table.visible_columns() {
                    push(table.oid, PG_CLASS, column.attnum, &column.comment);
                }
                for constraint in &table.constraints {
                    push(constraint.oid, PG_CONSTRAINT, 0, &constraint.comment);
                }
            }
            Relation::View(v) => push(v.oid, PG_CLASS, 0, &v.comment),
            Relation::Sequence(s) => push(s.oid, PG_CLASS, 0, &s.comment),
            Relation::Index(..) => {
                if let Some(index) = relation.index() {
                    push(index.oid, PG_CLASS, 0, &index.comment);
                }
            }
            Relation::Virtual(_) => {}
        }
    }
    rows.finish()
}

pub(crate) fn pg_shdescription(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["objoid", "classoid", "description"]);
    for database in source.catalog().databases() {
        if let Some(comment) = &database.comment {
            rows.push(vec![oid(database.oid), oid(1262), text(comment)]);
        }
    }
    rows.finish()
}
