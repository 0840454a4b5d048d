//! `pg_constraint` and `pg_depend`.

use meridian_catalog::{ConstraintDesc, ConstraintKind, FkAction, Relation, TableDesc};
use meridian_types::oid::Oid;
use meridian_types::{Datum, builtin};

use super::Source;
use super::classes::{PG_CLASS, PG_CONSTRAINT};
use super::rows::{Rows, array, ch, flag, int2_array, int4, oid, text};

fn action(action: FkAction) -> u8 {
    match action {
        FkAction::NoAction => b'a',
        FkAction::Restrict => b'r',
        FkAction::Cascade => b'c',
        FkAction::SetNull => b'n',
        FkAction::SetDefault => b'd',
    }
}

struct Parts {
    kind: u8,
    index: Oid,
    key: Vec<i16>,
    target: Oid,
    target_key: Vec<i16>,
    actions: (u8, u8, u8),
    no_inherit: bool,
    expr: Datum,
}

fn parts(source: &Source<'_>, table: &TableDesc, constraint: &ConstraintDesc) -> Parts {
    let mut p = Parts {
        kind: b'c',
        index: 0,
        key: vec![],
        target: 0,
        target_key: vec![],
        actions: (b' ', b' ', b' '),
        no_inherit: true,
        expr: Datum::Null,
    };
    match &constraint.kind {
        ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id } => {
            let primary = matches!(constraint.kind, ConstraintKind::PrimaryKey { .. });
            p.kind = if primary { b'p' } else { b'u' };
            if let Some(index) = table.index(*index_id) {
                p.index = index.oid;
                p.key = index.columns.iter().filter_map(|c| c.attnum).collect();
            }
        }
        ConstraintKind::Check { expr, columns, no_inherit } => {
            p.key.clone_from(columns);
            p.no_inherit = *no_inherit;
            p.expr = text(expr);
        }
        ConstraintKind::ForeignKey {
            columns,
            ref_table,
            ref_columns,
            ref_index_id,
            on_delete,
            on_update,
            match_full,
        } => {
            p.kind = b'f';
            p.key.clone_from(columns);
            p.target = *ref_table;
            p.target_key.clone_from(ref_columns);
            let matching = if *match_full { b'f' } else { b's' };
            p.actions = (action(*on_update), action(*on_delete), matching);
            let target = source.catalog().table(*ref_table);
            p.index = target.and_then(|t| t.index(*ref_index_id)).map_or(0, |i| i.oid);
        }
    }
    p
}

/// Equality operators between the columns of a foreign key: referenced = referencing.
fn equalities(source: &Source<'_>, table: &TableDesc, p: &Parts) -> Datum {
    let Some(target) = source.catalog().table(p.target) else { return Datum::Null };
    let operators = p.key.iter().zip(&p.target_key).map(|(own, theirs)| {
        let ty = |t: &TableDesc, a: i16| t.column(a).map_or(0, |c| c.ty.oid);
        let operator = builtin::operator("=", ty(target, *theirs), ty(table, *own));
        Datum::Oid(operator.map_or(98, |o| o.oid))
    });
    array(meridian_types::oid::OID, operators.collect())
}

pub(crate) fn pg_constraint(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "oid",
            "conname",
            "connamespace",
            "contype",
            "condeferrable",
            "condeferred",
            "convalidated",
            "conrelid",
            "contypid",
            "conindid",
            "conparentid",
            "confrelid",
            "confupdtype",
            "confdeltype",
            "confmatchtype",
            "conislocal",
            "coninhcount",
            "connoinherit",
            "conkey",
            "confkey",
            "conpfeqop",
            "conppeqop",
            "conffeqop",
            "conbin",
        ],
    );
    for relation in source.relations() {
        let Relation::Table(table) = relation else { continue };
        for constraint in &table.constraints {
            let p = parts(source, table, constraint);
            let foreign = p.kind == b'f';
            let operators = if foreign { equalities(source, table, &p) } else { Datum::Null };
            let keys = |k: &[i16]| if k.is_empty() { Datum::Null } else { int2_array(k) };
            rows.push(vec![
                oid(constraint.oid),
                text(&constraint.name),
                oid(table.schema),
                ch(p.kind),
                flag(constraint.deferrable),
                flag(constraint.deferred),
                flag(constraint.validated),
                oid(table.oid),
                oid(0),
                oid(p.index),
                oid(0),
                oid(p.target),
                ch(p.actions.0),
                ch(p.actions.1),
                ch(p.actions.2),
                flag(true),
                int4(0),
                flag(p.no_inherit),
                keys(&p.key),
                keys(&p.target_key),
                operators.clone(),
                operators.clone(),
                operators,
                p.expr,
            ]);
        }
    }
    rows.finish()
}

pub(crate) fn pg_depend(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &["classid", "objid", "objsubid", "refclassid", "refobjid", "refobjsubid", "deptype"],
    );
    let mut push = |from: (Oid, Oid, i16), to: (Oid, Oid, i16), kind: u8| {
        rows.push(vec![
            oid(from.0),
            oid(from.1),
            int4(i32::from(from.2)),
            oid(to.0),
            oid(to.1),
            int4(i32::from(to.2)),
            ch(kind),
        ]);
    };
    for relation in source.relations() {
        let own = (PG_CLASS, relation.oid(), 0);
        if !matches!(relation, Relation::Index(..)) {
            push(own, (2615, relation.schema(), 0), b'n');
        }
        match relation {
            Relation::Sequence(s) => {
                if let Some((table, attnum)) = s.owned_by {
                    let identity = source
                        .catalog()
                        .table(table)
                        .is_some_and(|t| t.column(attnum).is_some_and(|c| c.identity.is_some()));
                    push(own, (PG_CLASS, table, attnum), if identity { b'i' } else { b'a' });
                }
            }
            Relation::Index(table, index_id) => {
                let constraint = table.constraints.iter().find(|c| {
                    matches!(c.kind, ConstraintKind::PrimaryKey { index_id: i }
                        | ConstraintKind::Unique { index_id: i } if i == *index_id)
                });
                match constraint {
                    Some(c) => push(own, (PG_CONSTRAINT, c.oid, 0), b'i'),
                    None => {
                        let keys = relation.index().into_iter().flat_map(|i| &i.columns);
                        for attnum in keys.filter_map(|c| c.attnum) {
                            push(own, (PG_CLASS, table.oid, attnum), b'a');
                        }
                    }
                }
            }
            Relation::Table(table) => {
                for constraint in &table.constraints {
                    let p = parts(source, table, constraint);
                    for attnum in &p.key {
                        push(
                            (PG_CONSTRAINT, constraint.oid, 0),
                            (PG_CLASS, table.oid, *attnum),
                            b'a',
                        );
                    }
                    for attnum in &p.target_key {
                        push(
                            (PG_CONSTRAINT, constraint.oid, 0),
                            (PG_CLASS, p.target, *attnum),
                            b'n',
                        );
                    }
                }
            }
            Relation::View(_) | Relation::Virtual(_) => {}
        }
    }
    rows.finish()
}
