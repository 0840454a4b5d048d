//! `pg_attribute` and `pg_attrdef`: columns of tables, indexes, views, sequences, and their defaults.

use meridian_catalog::{Identity, IndexDesc, Relation, TableDesc};
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgType, builtin};

use super::Source;
use super::rows::{Rows, ch, flag, int4, oid, text};

/// One row of `pg_attribute` before its type is looked up.
struct Attribute<'a> {
    relation: Oid,
    name: &'a str,
    num: i16,
    ty: PgType,
    not_null: bool,
    has_default: bool,
    has_missing: bool,
    identity: u8,
    generated: u8,
    dropped: bool,
}

impl<'a> Attribute<'a> {
    fn plain(relation: Oid, name: &'a str, num: usize, ty: PgType) -> Attribute<'a> {
        Attribute {
            relation,
            name,
            num: i16::try_from(num).unwrap_or(0),
            ty,
            not_null: false,
            has_default: false,
            has_missing: false,
            identity: 0,
            generated: 0,
            dropped: false,
        }
    }

    fn row(self) -> Vec<Datum> {
        let row = builtin::type_by_oid(self.ty.oid);
        let (len, byval, align, storage, collation) = match row {
            Some(t) => (t.len, t.byval, t.align, t.storage, t.collation),
            None => (-1, false, 'd', 'x', 0),
        };
        let is_array = builtin::array_element(self.ty.oid).is_some() && len == -1;
        vec![
            oid(self.relation),
            text(self.name),
            oid(if self.dropped { 0 } else { self.ty.oid }),
            int4(if self.num < 0 { 0 } else { -1 }),
            Datum::Int2(len),
            Datum::Int2(self.num),
            int4(i32::from(is_array)),
            int4(-1),
            int4(self.ty.typmod),
            flag(byval),
            text(align.to_string()),
            text(storage.to_string()),
            text(""),
            flag(self.not_null),
            flag(self.has_default),
            flag(self.has_missing),
            ch(self.identity),
            ch(self.generated),
            flag(self.dropped),
            flag(true),
            int4(0),
            oid(collation),
        ]
    }
}

const SYSTEM_COLUMNS: [(&str, i16, Oid); 6] = [
    ("tableoid", -6, oid::OID),
    ("cmax", -5, oid::CID),
    ("xmax", -4, oid::XID),
    ("cmin", -3, oid::CID),
    ("xmin", -2, oid::XID),
    ("ctid", -1, oid::TID),
];

fn table_attributes(rows: &mut Rows, table: &TableDesc) {
    for (name, num, ty) in SYSTEM_COLUMNS {
        let mut attribute = Attribute::plain(table.oid, name, 0, PgType::new(ty));
        attribute.num = num;
        attribute.not_null = true;
        rows.push(attribute.row());
    }
    for column in table.columns.iter().filter(|c| !c.hidden) {
        let identity = match column.identity {
            Some(Identity::Always) => b'a',
            Some(Identity::ByDefault) => b'd',
            None => 0,
        };
        rows.push(
            Attribute {
                relation: table.oid,
                name: &column.name,
                num: column.attnum,
                ty: column.ty,
                not_null: column.not_null,
                has_default: column.default.is_some() && column.identity.is_none(),
                has_missing: column.missing.is_some(),
                identity,
                generated: if column.generated { b's' } else { 0 },
                dropped: column.dropped,
            }
            .row(),
        );
    }
}

fn index_attributes(rows: &mut Rows, table: &TableDesc, index: &IndexDesc) {
    let included = index.include.iter().filter_map(|a| table.column(*a));
    let keys = index.columns.iter().enumerate().map(|(i, c)| {
        let name = match c.attnum.and_then(|a| table.column(a)) {
            Some(column) => column.name.clone(),
            None if i == 0 => "expr".to_owned(),
            None => format!("expr{i}"),
        };
        (name, c.ty)
    });
    let all = keys.chain(included.map(|c| (c.name.clone(), c.ty)));
    for (i, (name, ty)) in all.enumerate() {
        rows.push(Attribute::plain(index.oid, &name, i + 1, ty).row());
    }
}

pub(crate) fn pg_attribute(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "attrelid",
            "attname",
            "atttypid",
            "attstattarget",
            "attlen",
            "attnum",
            "attndims",
            "attcacheoff",
            "atttypmod",
            "attbyval",
            "attalign",
            "attstorage",
            "attcompression",
            "attnotnull",
            "atthasdef",
            "atthasmissing",
            "attidentity",
            "attgenerated",
            "attisdropped",
            "attislocal",
            "attinhcount",
            "attcollation",
        ],
    );
    for relation in source.relations() {
        match relation {
            Relation::Table(table) => table_attributes(&mut rows, table),
            Relation::Index(table, _) => {
                if let Some(index) = relation.index() {
                    index_attributes(&mut rows, table, index);
                }
            }
            Relation::View(view) => {
                for (i, (name, ty)) in view.columns.iter().enumerate() {
                    rows.push(Attribute::plain(view.oid, name, i + 1, *ty).row());
                }
            }
            Relation::Sequence(s) => {
                let columns =
                    [("last_value", oid::INT8), ("log_cnt", oid::INT8), ("is_called", oid::BOOL)];
                for (i, (name, ty)) in columns.into_iter().enumerate() {
                    let mut attribute = Attribute::plain(s.oid, name, i + 1, PgType::new(ty));
                    attribute.not_null = true;
                    rows.push(attribute.row());
                }
            }
            Relation::Virtual(_) => {}
        }
    }
    for system in source.system_relations() {
        for (i, (name, ty)) in system.desc.columns.iter().enumerate() {
            rows.push(Attribute::plain(system.desc.oid, name, i + 1, *ty).row());
        }
    }
    rows.finish()
}

/// Oids of defaults are those of their table and column: nothing else refers to them.
fn default_oid(table: Oid, attnum: i16) -> Oid {
    0x7000_0000 | (table << 8 & 0x0fff_ff00) | u32::from(attnum.unsigned_abs() & 0xff)
}

pub(crate) fn pg_attrdef(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["oid", "adrelid", "adnum", "adbin"]);
    for relation in source.relations() {
        let Relation::Table(table) = relation else { continue };
        for column in table.columns.iter().filter(|c| !c.dropped && c.identity.is_none()) {
            if let Some(default) = &column.default {
                rows.push(vec![
                    oid(default_oid(table.oid, column.attnum)),
                    oid(table.oid),
                    Datum::Int2(column.attnum),
                    text(default),
                ]);
            }
        }
    }
    rows.finish()
}
