//! What every cluster has before anybody creates anything: schemas, databases, roles, and the
//! relations of `pg_catalog` with PostgreSQL 15's columns.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use meridian_types::PgType;
use meridian_types::oid::Oid;

use crate::desc::{DatabaseDesc, RoleDesc, SchemaDesc, VirtualDesc};

/// `pg_namespace` oid of `pg_catalog`.
pub const PG_CATALOG: Oid = 11;
/// `pg_namespace` oid of `pg_toast`.
pub const PG_TOAST: Oid = 99;
/// `pg_namespace` oid of `public` in the database `postgres`.
pub const PUBLIC: Oid = 2200;
/// `pg_namespace` oid of `information_schema`.
pub const INFORMATION_SCHEMA: Oid = 13207;
/// `pg_authid` oid of the bootstrap superuser.
pub const BOOTSTRAP_ROLE: Oid = 10;
/// `pg_authid` oid of `pg_database_owner`, which owns the schema `public`.
pub const PG_DATABASE_OWNER: Oid = 6171;
/// `pg_database` oid of `postgres`.
pub const POSTGRES_DATABASE: Oid = 5;
/// The database of a schema that every database has (`pg_catalog`, `information_schema`).
pub const EVERY_DATABASE: Oid = 0;

static SYSTEM_COLUMNS: &str = include_str!("data/system_columns.tsv");

/// A relation of `pg_catalog` or `information_schema` as PostgreSQL 15 describes it.
#[derive(Clone, Debug)]
pub struct SystemRelation {
    /// Oid, row type, schema, name and columns.
    pub desc: Arc<VirtualDesc>,
    /// `pg_class.relkind`: `r` or `v`.
    pub kind: u8,
}

static SYSTEM: LazyLock<BTreeMap<(Oid, &'static str), SystemRelation>> = LazyLock::new(read_system);

/// Oids of a relation and its row type, its kind and its columns, while they are read.
type Found = (Oid, Oid, u8, Vec<(&'static str, PgType)>);

fn read_system() -> BTreeMap<(Oid, &'static str), SystemRelation> {
    let mut found: BTreeMap<(Oid, &'static str), Found> = BTreeMap::new();
    for line in SYSTEM_COLUMNS.lines() {
        let fields: Vec<&'static str> = line.split('\t').collect();
        let [schema, name, oid, row_type, kind, column, type_oid, typmod] = fields[..] else {
            continue;
        };
        let number = |s: &str| s.parse::<u32>().unwrap_or(0);
        let schema = if schema == "pg_catalog" { PG_CATALOG } else { INFORMATION_SCHEMA };
        let kind = kind.as_bytes().first().copied().unwrap_or(b'r');
        let entry = found
            .entry((schema, name))
            .or_insert_with(|| (number(oid), number(row_type), kind, Vec::new()));
        let typmod = typmod.parse().unwrap_or(-1);
        entry.3.push((column, PgType::with_typmod(number(type_oid), typmod)));
    }
    found
        .into_iter()
        .map(|((schema, name), (oid, row_type, kind, columns))| {
            let desc = Arc::new(VirtualDesc { oid, row_type, schema, name, columns });
            ((schema, name), SystemRelation { desc, kind })
        })
        .collect()
}

/// The system relation of this schema and name.
pub fn system_relation(schema: Oid, name: &str) -> Option<&'static SystemRelation> {
    SYSTEM_NAMES.get(&schema)?.get(name).copied()
}

static SYSTEM_NAMES: LazyLock<BTreeMap<Oid, BTreeMap<&'static str, &'static SystemRelation>>> =
    LazyLock::new(|| {
        let mut names: BTreeMap<Oid, BTreeMap<&'static str, &'static SystemRelation>> =
            BTreeMap::new();
        for ((schema, name), relation) in SYSTEM.iter() {
            names.entry(*schema).or_default().insert(name, relation);
        }
        names
    });
static SYSTEM_BY_OID: LazyLock<BTreeMap<Oid, &'static SystemRelation>> =
    LazyLock::new(|| SYSTEM.values().map(|r| (r.desc.oid, r)).collect());
static SYSTEM_BY_ROW_TYPE: LazyLock<BTreeMap<Oid, &'static SystemRelation>> =
    LazyLock::new(|| SYSTEM.values().map(|r| (r.desc.row_type, r)).collect());

/// The system relation with this `pg_class` oid.
pub fn system_relation_by_oid(oid: Oid) -> Option<&'static SystemRelation> {
    SYSTEM_BY_OID.get(&oid).copied()
}

/// The system relation with this row type.
pub fn system_relation_by_row_type(row_type: Oid) -> Option<&'static SystemRelation> {
    SYSTEM_BY_ROW_TYPE.get(&row_type).copied()
}

/// All system relations, by schema and name.
pub fn system_relations() -> impl Iterator<Item = &'static SystemRelation> {
    SYSTEM.values()
}

/// The schemas that exist from the start.
pub fn schemas() -> Vec<SchemaDesc> {
    let schema = |oid, database, name: &str, owner, comment: Option<&str>| SchemaDesc {
        oid,
        database,
        name: name.into(),
        owner,
        acl: Vec::new(),
        comment: comment.map(Into::into),
    };
    let own = BOOTSTRAP_ROLE;
    vec![
        schema(PG_CATALOG, EVERY_DATABASE, "pg_catalog", own, Some("system catalog schema")),
        schema(PG_TOAST, EVERY_DATABASE, "pg_toast", own, Some("reserved schema for TOAST tables")),
        schema(INFORMATION_SCHEMA, EVERY_DATABASE, "information_schema", own, None),
        public_schema(PUBLIC, POSTGRES_DATABASE),
        public_schema(PUBLIC + 1, 1),
        public_schema(PUBLIC + 2, 4),
    ]
}

/// The schema `public` of a new database.
pub fn public_schema(oid: Oid, database: Oid) -> SchemaDesc {
    SchemaDesc {
        oid,
        database,
        name: "public".into(),
        owner: PG_DATABASE_OWNER,
        acl: Vec::new(),
        comment: Some("standard public schema".into()),
    }
}

/// The databases that exist from the start.
pub fn databases() -> Vec<DatabaseDesc> {
    let database = |oid, name: &str, allow_connections, is_template, comment: &str| DatabaseDesc {
        options: Vec::new(),
        oid,
        name: name.into(),
        owner: BOOTSTRAP_ROLE,
        allow_connections,
        is_template,
        settings: Vec::new(),
        acl: Vec::new(),
        comment: Some(comment.into()),
    };
    vec![
        database(1, "template1", true, true, "default template for new databases"),
        database(4, "template0", false, true, "unmodifiable empty database"),
        database(5, "postgres", true, false, "default administrative connection database"),
    ]
}

/// A role with no attribute but INHERIT.
pub fn plain_role(oid: Oid, name: &str) -> RoleDesc {
    RoleDesc {
        oid,
        name: name.into(),
        superuser: false,
        inherit: true,
        create_role: false,
        create_db: false,
        login: false,
        replication: false,
        bypass_rls: false,
        connection_limit: -1,
        password: None,
        valid_until: None,
        member_of: Vec::new(),
        memberships: Vec::new(),
        settings: Vec::new(),
    }
}

/// The roles that exist from the start.
pub fn roles() -> Vec<RoleDesc> {
    const PREDEFINED: &[(Oid, &str)] = &[
        (6171, "pg_database_owner"),
        (6181, "pg_read_all_data"),
        (6182, "pg_write_all_data"),
        (3374, "pg_read_all_settings"),
        (3375, "pg_read_all_stats"),
        (3377, "pg_stat_scan_tables"),
        (4569, "pg_read_server_files"),
        (4570, "pg_write_server_files"),
        (4571, "pg_execute_server_program"),
        (4200, "pg_signal_backend"),
        (4544, "pg_checkpoint"),
    ];
    let mut all: Vec<RoleDesc> = PREDEFINED.iter().map(|&(oid, n)| plain_role(oid, n)).collect();
    all.push(RoleDesc { member_of: vec![3374, 3375, 3377], ..plain_role(3373, "pg_monitor") });
    all.push(RoleDesc {
        superuser: true,
        create_role: true,
        create_db: true,
        login: true,
        replication: true,
        bypass_rls: true,
        ..plain_role(BOOTSTRAP_ROLE, "postgres")
    });
    all
}
