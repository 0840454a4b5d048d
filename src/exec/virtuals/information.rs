//! `information_schema`, over the users' tables and views.

use std::sync::Arc;

use meridian_catalog::{ConstraintKind, FkAction, Identity, Relation, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgType, Result, builtin};

use super::Source;
use super::rows::{Rows, int4, opt_text, text};

fn yes(b: bool) -> Datum {
    text(if b { "YES" } else { "NO" })
}

/// Rows of one relation; none for those that nothing can be in yet.
pub(crate) fn rows(source: &Source<'_>) -> Result<Vec<Vec<Datum>>> {
    Ok(match source.desc.name {
        "schemata" => schemata(source),
        "tables" => tables(source),
        "columns" => columns(source),
        "views" => views(source),
        "sequences" => sequences(source),
        "table_constraints" => table_constraints(source),
        "key_column_usage" => key_column_usage(source),
        "constraint_column_usage" => constraint_column_usage(source),
        "referential_constraints" => referential_constraints(source),
        "check_constraints" => check_constraints(source),
        "information_schema_catalog_name" => {
            vec![vec![text(&*source.identity().database_name)]]
        }
        _ => Vec::new(),
    })
}

fn database(source: &Source<'_>) -> Datum {
    text(&*source.identity().database_name)
}

fn schemata(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["catalog_name", "schema_name", "schema_owner"]);
    for schema in source.catalog().schemas(source.identity().database) {
        rows.push(vec![database(source), text(&schema.name), text(source.role_name(schema.owner))]);
    }
    rows.finish()
}

/// Tables and views that can be seen, system relations after the users'.
fn visible(source: &Source<'_>) -> Vec<Relation> {
    let own = source.relations().filter(|r| matches!(r, Relation::Table(_) | Relation::View(_)));
    let systems = meridian_catalog::builtin::system_relations();
    own.cloned().chain(systems.map(|s| Relation::Virtual(s.desc.clone()))).collect()
}

fn tables(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "table_type",
            "is_insertable_into",
            "is_typed",
        ],
    );
    for relation in visible(source) {
        let kind = match &relation {
            Relation::Table(t) if t.temp_session.is_some() => "LOCAL TEMPORARY",
            r if r.kind() == b'r' => "BASE TABLE",
            _ => "VIEW",
        };
        rows.push(vec![
            database(source),
            text(source.schema_name(relation.schema())),
            text(relation.name()),
            text(kind),
            yes(kind != "VIEW"),
            yes(false),
        ]);
    }
    rows.finish()
}

fn views(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "view_definition",
            "check_option",
            "is_updatable",
            "is_insertable_into",
            "is_trigger_updatable",
            "is_trigger_deletable",
            "is_trigger_insertable_into",
        ],
    );
    for relation in source.relations() {
        let Relation::View(view) = relation else { continue };
        let mut row = vec![
            database(source),
            text(source.schema_name(view.schema)),
            text(&view.name),
            text(super::defs::view_text(view)),
            text(match view.check_option {
                None => "NONE",
                Some(true) => "CASCADED",
                Some(false) => "LOCAL",
            }),
        ];
        row.extend((0..5).map(|_| yes(false)));
        rows.push(row);
    }
    rows.finish()
}

fn sequences(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "sequence_catalog",
            "sequence_schema",
            "sequence_name",
            "data_type",
            "numeric_precision",
            "numeric_precision_radix",
            "numeric_scale",
            "start_value",
            "minimum_value",
            "maximum_value",
            "increment",
            "cycle_option",
        ],
    );
    for relation in source.relations() {
        let Relation::Sequence(s) = relation else { continue };
        let internal = s.owned_by.is_some_and(|(table, attnum)| {
            let table = source.catalog().table(table);
            table.is_some_and(|t| t.column(attnum).is_some_and(|c| c.identity.is_some()))
        });
        if internal {
            continue;
        }
        rows.push(vec![
            database(source),
            text(source.schema_name(s.schema)),
            text(&s.name),
            text(builtin::format_type(s.ty.oid, -1)),
            int4(match s.ty.oid {
                oid::INT2 => 16,
                oid::INT4 => 32,
                _ => 64,
            }),
            int4(2),
            int4(0),
            text(s.start.to_string()),
            text(s.min.to_string()),
            text(s.max.to_string()),
            text(s.increment.to_string()),
            yes(s.cycle),
        ]);
    }
    rows.finish()
}

/// Lengths and precisions of a type: character length, octets, numeric precision, radix, scale,
/// datetime precision.
fn measures(ty: PgType) -> [Option<i32>; 6] {
    let mut m = [None; 6];
    match ty.oid {
        oid::VARCHAR | oid::BPCHAR if ty.typmod >= 4 => {
            m[0] = Some(ty.typmod - 4);
            m[1] = Some((ty.typmod - 4) * 4);
        }
        oid::VARCHAR | oid::BPCHAR | oid::TEXT => m[1] = Some(1_073_741_824),
        oid::INT2 => (m[2], m[3], m[4]) = (Some(16), Some(2), Some(0)),
        oid::INT4 => (m[2], m[3], m[4]) = (Some(32), Some(2), Some(0)),
        oid::INT8 => (m[2], m[3], m[4]) = (Some(64), Some(2), Some(0)),
        oid::FLOAT4 => (m[2], m[3]) = (Some(24), Some(2)),
        oid::FLOAT8 => (m[2], m[3]) = (Some(53), Some(2)),
        oid::NUMERIC => {
            m[3] = Some(10);
            if ty.typmod >= 4 {
                m[2] = Some(((ty.typmod - 4) >> 16) & 0xffff);
                m[4] = Some((ty.typmod - 4) & 0x7ff);
            }
        }
        oid::DATE => m[5] = Some(0),
        oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            m[5] = Some(if ty.typmod >= 0 { ty.typmod } else { 6 });
        }
        oid::INTERVAL => m[5] = Some(6),
        _ => {}
    }
    m
}

struct Column<'a> {
    name: &'a str,
    attnum: usize,
    ty: PgType,
    default: Option<String>,
    not_null: bool,
    identity: Option<Identity>,
    generated: Option<&'a str>,
}

fn columns_of(source: &Source<'_>, relation: &Relation, rows: &mut Rows) {
    let plain = |(i, (name, ty)): (usize, (&str, PgType))| {
        let column = Column {
            name,
            attnum: i + 1,
            ty,
            default: None,
            not_null: false,
            identity: None,
            generated: None,
        };
        column_row(source, relation, &column)
    };
    match relation {
        Relation::Table(table) => {
            for c in table.visible_columns() {
                let shown = super::host::ExpressionSource { view: &source.view, host: None };
                let text = c.default.as_deref();
                let host = text.map(|text| shown.shown(Some(table), text, false));
                let column = Column {
                    name: &c.name,
                    attnum: usize::try_from(c.attnum).unwrap_or(0),
                    ty: c.ty,
                    default: host.filter(|_| !c.generated && c.identity.is_none()),
                    not_null: c.not_null,
                    identity: c.identity,
                    generated: c.default.as_deref().filter(|_| c.generated),
                };
                rows.push(column_row(source, relation, &column));
            }
        }
        Relation::View(view) => {
            let all = view.columns.iter().map(|(n, ty)| (n.as_str(), *ty)).enumerate();
            all.map(plain).for_each(|row| rows.push(row));
        }
        Relation::Virtual(v) => {
            v.columns.iter().copied().enumerate().map(plain).for_each(|row| rows.push(row));
        }
        Relation::Sequence(_) | Relation::Index(..) => {}
    }
}

fn column_row(source: &Source<'_>, relation: &Relation, c: &Column<'_>) -> Vec<Datum> {
    let m = measures(c.ty).map(|v| v.map_or(Datum::Null, int4));
    let is_array = builtin::array_element(c.ty.oid).is_some();
    let user_type = builtin::type_by_oid(c.ty.oid).is_none();
    let shown = match (is_array, user_type) {
        (true, _) => "ARRAY".to_owned(),
        (false, true) => "USER-DEFINED".to_owned(),
        (false, false) => builtin::format_type(c.ty.oid, -1),
    };
    let udt = match builtin::type_by_oid(c.ty.oid) {
        Some(row) => row.name.to_owned(),
        None => source.view.format_type(c.ty.oid, -1),
    };
    let [char_len, octets, precision, radix, scale, datetime] = m;
    let identity = c.identity.map(|i| match i {
        Identity::Always => "ALWAYS",
        Identity::ByDefault => "BY DEFAULT",
    });
    let attnum = i32::try_from(c.attnum).unwrap_or(0);
    vec![
        database(source),
        text(source.schema_name(relation.schema())),
        text(relation.name()),
        text(c.name),
        int4(attnum),
        opt_text(c.default.as_deref()),
        yes(!c.not_null),
        text(shown),
        char_len,
        octets,
        precision,
        radix,
        scale,
        datetime,
        database(source),
        text("pg_catalog"),
        text(udt),
        text(attnum.to_string()),
        yes(false),
        yes(c.identity.is_some()),
        opt_text(identity),
        text(if c.generated.is_some() { "ALWAYS" } else { "NEVER" }),
        opt_text(c.generated),
        yes(relation.kind() == b'r'),
    ]
}

fn columns(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "column_default",
            "is_nullable",
            "data_type",
            "character_maximum_length",
            "character_octet_length",
            "numeric_precision",
            "numeric_precision_radix",
            "numeric_scale",
            "datetime_precision",
            "udt_catalog",
            "udt_schema",
            "udt_name",
            "dtd_identifier",
            "is_self_referencing",
            "is_identity",
            "identity_generation",
            "is_generated",
            "generation_expression",
            "is_updatable",
        ],
    );
    for relation in visible(source) {
        columns_of(source, &relation, &mut rows);
    }
    rows.finish()
}

fn each_table<'a>(source: &'a Source<'_>) -> impl Iterator<Item = &'a Arc<TableDesc>> {
    source.relations().filter_map(|r| match r {
        Relation::Table(table) => Some(table),
        _ => None,
    })
}

fn kind_word(kind: &ConstraintKind) -> &'static str {
    match kind {
        ConstraintKind::PrimaryKey { .. } => "PRIMARY KEY",
        ConstraintKind::Unique { .. } => "UNIQUE",
        ConstraintKind::Check { .. } => "CHECK",
        ConstraintKind::ForeignKey { .. } => "FOREIGN KEY",
    }
}

fn table_constraints(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
        ],
    );
    for table in each_table(source) {
        let schema = text(source.schema_name(table.schema));
        let mut push = |name: &str, kind: &str, deferrable: bool, deferred: bool| {
            rows.push(vec![
                database(source),
                schema.clone(),
                text(name),
                database(source),
                schema.clone(),
                text(&table.name),
                text(kind),
                yes(deferrable),
                yes(deferred),
                yes(true),
            ]);
        };
        for c in &table.constraints {
            push(&c.name, kind_word(&c.kind), c.deferrable, c.deferred);
        }
        for c in table.visible_columns().filter(|c| c.not_null) {
            let name = format!("{}_{}_{}_not_null", table.schema, table.oid, c.attnum);
            push(&name, "CHECK", false, false);
        }
    }
    rows.finish()
}

/// Columns of a key: the constraint's own, and the referenced ones.
fn key_columns(
    source: &Source<'_>,
    table: &TableDesc,
    kind: &ConstraintKind,
) -> (Vec<i16>, Oid, Vec<i16>) {
    match kind {
        ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id } => {
            let columns = table.index(*index_id).into_iter().flat_map(|i| &i.columns);
            let own: Vec<i16> = columns.filter_map(|c| c.attnum).collect();
            (own.clone(), table.oid, own)
        }
        ConstraintKind::Check { columns, .. } => (vec![], table.oid, columns.clone()),
        ConstraintKind::ForeignKey { columns, ref_table, ref_columns, .. } => {
            let known = source.catalog().table(*ref_table).is_some();
            (columns.clone(), *ref_table, if known { ref_columns.clone() } else { vec![] })
        }
    }
}

fn key_column_usage(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "position_in_unique_constraint",
        ],
    );
    for table in each_table(source) {
        let schema = text(source.schema_name(table.schema));
        for c in &table.constraints {
            let foreign = matches!(c.kind, ConstraintKind::ForeignKey { .. });
            let (own, ..) = key_columns(source, table, &c.kind);
            for (i, attnum) in own.iter().enumerate() {
                let position = int4(i32::try_from(i + 1).unwrap_or(0));
                rows.push(vec![
                    database(source),
                    schema.clone(),
                    text(&c.name),
                    database(source),
                    schema.clone(),
                    text(&table.name),
                    opt_text(table.column(*attnum).map(|c| c.name.as_str())),
                    position.clone(),
                    if foreign { position } else { Datum::Null },
                ]);
            }
        }
    }
    rows.finish()
}

fn constraint_column_usage(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ],
    );
    for table in each_table(source) {
        for c in &table.constraints {
            let (_, of, used) = key_columns(source, table, &c.kind);
            let Some(of) = source.catalog().table(of) else { continue };
            for attnum in used {
                rows.push(vec![
                    database(source),
                    text(source.schema_name(of.schema)),
                    text(&of.name),
                    opt_text(of.column(attnum).map(|c| c.name.as_str())),
                    database(source),
                    text(source.schema_name(table.schema)),
                    text(&c.name),
                ]);
            }
        }
    }
    rows.finish()
}

fn rule(action: FkAction) -> Datum {
    text(match action {
        FkAction::NoAction => "NO ACTION",
        FkAction::Restrict => "RESTRICT",
        FkAction::Cascade => "CASCADE",
        FkAction::SetNull => "SET NULL",
        FkAction::SetDefault => "SET DEFAULT",
    })
}

fn referential_constraints(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ],
    );
    for table in each_table(source) {
        for c in &table.constraints {
            let ConstraintKind::ForeignKey {
                ref_table,
                ref_index_id,
                on_delete,
                on_update,
                match_full,
                ..
            } = &c.kind
            else {
                continue;
            };
            let target = source.catalog().table(*ref_table);
            let index = target.and_then(|t| t.index(*ref_index_id));
            rows.push(vec![
                database(source),
                text(source.schema_name(table.schema)),
                text(&c.name),
                database(source),
                opt_text(target.map(|t| source.schema_name(t.schema))),
                opt_text(index.map(|i| i.name.as_str())),
                text(if *match_full { "FULL" } else { "NONE" }),
                rule(*on_update),
                rule(*on_delete),
            ]);
        }
    }
    rows.finish()
}

fn check_constraints(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &["constraint_catalog", "constraint_schema", "constraint_name", "check_clause"],
    );
    for table in each_table(source) {
        let schema = text(source.schema_name(table.schema));
        for c in &table.constraints {
            if let ConstraintKind::Check { expr, .. } = &c.kind {
                let clause = text(format!("(({expr}))"));
                rows.push(vec![database(source), schema.clone(), text(&c.name), clause]);
            }
        }
        for c in table.visible_columns().filter(|c| c.not_null) {
            let name = format!("{}_{}_{}_not_null", table.schema, table.oid, c.attnum);
            let clause = text(format!("{} IS NOT NULL", c.name));
            rows.push(vec![database(source), schema.clone(), text(name), clause]);
        }
    }
    rows.finish()
}
