//! `pg_get_*def`, `format_type`, comments.

use std::sync::Arc;

use meridian_catalog::{Relation, TableDesc};
use meridian_types::oid::Oid;
use meridian_types::{Datum, Result, builtin};

use super::{CatalogHost, oid_arg, text_arg};
use crate::virtuals::defs;

fn truth(args: &[Datum], at: usize) -> bool {
    args.get(at).and_then(Datum::as_bool).unwrap_or(false)
}

fn optional(text: Option<String>) -> Datum {
    text.map_or(Datum::Null, Datum::text)
}

impl CatalogHost {
    pub(super) fn describe(&self, prosrc: &str, args: &[Datum]) -> Option<Result<Datum>> {
        let oid = oid_arg(args, 0);
        Some(Ok(match prosrc {
            "format_type" => self.format_type(args),
            "pg_get_expr" | "pg_get_expr_ext" => {
                let relation = self.relation(oid_arg(args, 1));
                let table = match &relation {
                    Some(Relation::Table(table) | Relation::Index(table, _)) => Some(&**table),
                    _ => None,
                };
                let text = args.first().and_then(Datum::as_str);
                optional(text.map(|text| self.expression(table, text, truth(args, 2))))
            }
            "pg_get_indexdef" => optional(self.index_def(oid, 0, false)),
            "pg_get_indexdef_ext" => {
                let column = args.get(1).and_then(Datum::as_i64).unwrap_or(0);
                optional(self.index_def(oid, usize::try_from(column).unwrap_or(0), truth(args, 2)))
            }
            "pg_get_constraintdef" => optional(self.constraint_def(oid, false)),
            "pg_get_constraintdef_ext" => optional(self.constraint_def(oid, truth(args, 1))),
            "pg_get_viewdef" | "pg_get_viewdef_ext" | "pg_get_viewdef_wrap" => {
                optional(self.view_def(self.relation(oid)))
            }
            "pg_get_viewdef_name" | "pg_get_viewdef_name_ext" => {
                optional(self.view_def(self.relation_by_text(text_arg(args, 0))))
            }
            "pg_get_function_arguments" => {
                optional(builtin::proc_by_oid(oid).map(|p| defs::function_arguments(p, false)))
            }
            "pg_get_function_identity_arguments" => {
                optional(builtin::proc_by_oid(oid).map(|p| defs::function_arguments(p, true)))
            }
            "pg_get_function_result" => {
                optional(builtin::proc_by_oid(oid).and_then(defs::function_result))
            }
            "pg_get_function_sqlbody"
            | "pg_get_function_arg_default"
            | "pg_get_functiondef"
            | "pg_get_triggerdef"
            | "pg_get_triggerdef_ext"
            | "pg_get_ruledef"
            | "pg_get_ruledef_ext"
            | "pg_get_partkeydef"
            | "pg_get_statisticsobjdef"
            | "pg_get_statisticsobjdef_columns"
            | "pg_get_partition_constraintdef"
            | "pg_get_statisticsobjdef_expressions" => Datum::Null,
            "pg_get_userbyid" => Datum::text(match self.view.catalog.role(oid) {
                Some(role) => role.name.clone(),
                None => format!("unknown (OID={oid})"),
            }),
            "obj_description(oid,name)" => {
                optional(self.comment(oid, catalog_oid(text_arg(args, 1)), 0))
            }
            "obj_description(oid)" => optional(self.comment(oid, None, 0)),
            "col_description(oid,int4)" => {
                let column = args.get(1).and_then(Datum::as_i64).unwrap_or(0);
                let column = i16::try_from(column).unwrap_or(0);
                if column == 0 {
                    return Some(Ok(Datum::Null));
                }
                optional(self.comment(oid, catalog_oid("pg_class"), column))
            }
            "shobj_description(oid,name)" => {
                let database = self.view.catalog.database(oid);
                optional(database.and_then(|d| d.comment.clone()))
            }
            "pg_describe_object" => {
                let relation = self.relation(oid_arg(args, 1));
                optional(relation.map(|r| {
                    let word = crate::ddl::kind_word(&r);
                    format!("{word} {}", self.view.relation_name(&r))
                }))
            }
            _ => return None,
        }))
    }

    fn format_type(&self, args: &[Datum]) -> Datum {
        if args.first().is_none_or(Datum::is_null) {
            return Datum::Null;
        }
        let oid = oid_arg(args, 0);
        if oid == 0 {
            return Datum::text("-");
        }
        let typmod = args.get(1).and_then(Datum::as_i64).and_then(|v| i32::try_from(v).ok());
        Datum::text(self.view.format_type(oid, typmod.unwrap_or(-1)))
    }

    fn index_def(&self, oid: Oid, column: usize, short: bool) -> Option<String> {
        let relation = self.relation(oid)?;
        let (Relation::Index(table, _), Some(index)) = (&relation, relation.index()) else {
            return None;
        };
        match column {
            0 => Some(defs::index_text(&self.view, Some(self), table, index, short)),
            n => {
                let shown = |text: &str| self.expression(Some(table), text, short);
                Some(defs::index_key(table, index, n - 1, shown).unwrap_or_default())
            }
        }
    }

    fn constraint_def(&self, oid: Oid, short: bool) -> Option<String> {
        let (table, at) = self.constraint(oid)?;
        Some(defs::constraint_text(self, &table, &table.constraints[at], short))
    }

    fn constraint(&self, oid: Oid) -> Option<(Arc<TableDesc>, usize)> {
        self.view.catalog.relations().find_map(|r| match r {
            Relation::Table(table) => {
                let at = table.constraints.iter().position(|c| c.oid == oid)?;
                Some((Arc::clone(table), at))
            }
            _ => None,
        })
    }

    fn view_def(&self, relation: Option<Relation>) -> Option<String> {
        match relation? {
            Relation::View(view) => Some(defs::view_text(&view)),
            _ => Some("Not a view".to_owned()),
        }
    }

    /// The comment on an object, or on a column of it.
    fn comment(&self, oid: Oid, class: Option<Oid>, column: i16) -> Option<String> {
        if class.is_none_or(|c| c == 1259)
            && let Some(relation) = self.relation(oid)
        {
            return match (&relation, column) {
                (Relation::Table(t), 0) => t.comment.clone(),
                (Relation::Table(t), n) => t.column(n).and_then(|c| c.comment.clone()),
                (Relation::View(v), 0) => v.comment.clone(),
                (Relation::Sequence(s), 0) => s.comment.clone(),
                (Relation::Index(..), 0) => relation.index().and_then(|i| i.comment.clone()),
                _ => None,
            };
        }
        if class.is_none_or(|c| c == 2615)
            && let Some(schema) = self.view.catalog.schema(oid)
        {
            return schema.comment.clone();
        }
        if class == Some(2606)
            && let Some((table, at)) = self.constraint(oid)
        {
            return table.constraints[at].comment.clone();
        }
        builtin::description(class?, oid).map(str::to_owned)
    }
}

fn catalog_oid(name: &str) -> Option<Oid> {
    let schema = meridian_catalog::builtin::PG_CATALOG;
    meridian_catalog::builtin::system_relation(schema, name).map(|r| r.desc.oid)
}
