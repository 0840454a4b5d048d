//! The relations of `pg_catalog` and `information_schema`, computed from the catalog snapshot, and
//! the functions that ask the catalog.
//!
//! [`rows()`] answers all rows of a relation. Those of built-in objects are read once
//! (`statics`); those of the users' objects are made anew for each statement, from the snapshot
//! that the statement was bound against. A relation of PostgreSQL's that nothing can be in yet
//! (triggers, policies, publications …) has its exact columns and no rows.

mod attributes;
mod classes;
mod constraints;
pub(crate) mod defs;
pub mod host;
mod information;
mod placement;
pub mod privileges;
mod ranges;
mod roles;
mod rows;
mod session;
mod statics;
mod views;

use std::sync::Arc;

use meridian_catalog::builtin::{SystemRelation, system_relations};
use meridian_catalog::{Catalog, ConstraintDesc, ConstraintKind, Relation, VirtualDesc};
use meridian_types::oid::Oid;
use meridian_types::{Datum, Result};

use crate::catalog_store::{SessionCatalog, SessionIdentity};
use crate::context::StatementContext;

pub use host::CatalogHost;
pub use ranges::KeyNames;
pub use session::{
    ActivityRow, NamedStatement, PlainSession, PreparedRow, SessionInfo, SettingRow,
};

/// What the rows are made from.
pub(crate) struct Source<'a> {
    pub(crate) desc: &'a VirtualDesc,
    pub(crate) ctx: &'a StatementContext,
    pub(crate) view: SessionCatalog,
    /// Only rows with this value in this column are wanted.
    pub(crate) only: Option<(&'static str, Oid)>,
}

impl Source<'_> {
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.view.catalog
    }

    pub(crate) fn identity(&self) -> &SessionIdentity {
        &self.view.identity
    }

    /// Relations of the session's database that users have made.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &Relation> {
        let database = self.identity().database;
        let kept = move |r: &&Relation| relation_database(r) == database && self.wants(r);
        self.catalog().relations().filter(kept)
    }

    /// Relations that come with the server.
    pub(crate) fn system_relations(&self) -> impl Iterator<Item = &'static SystemRelation> {
        let wanted = self.only.filter(|(column, _)| matches!(*column, "oid" | "attrelid"));
        system_relations().filter(move |s| wanted.is_none_or(|(_, value)| s.desc.oid == value))
    }

    /// Whether a relation can have wanted rows.
    fn wants(&self, relation: &Relation) -> bool {
        let Some((column, value)) = self.only else { return true };
        match (self.desc.name, column, relation) {
            ("pg_class", "oid", r)
            | ("pg_attribute", "attrelid", r)
            | ("pg_attrdef", "adrelid", r)
            | ("pg_constraint", "conrelid", r)
            | ("pg_index", "indexrelid", r)
            | ("pg_sequence", "seqrelid", r) => r.oid() == value,
            ("pg_index", "indrelid", Relation::Index(table, _)) => table.oid == value,
            ("pg_constraint", "confrelid", Relation::Table(table)) => {
                let targets = |c: &ConstraintDesc| {
                    matches!(c.kind, ConstraintKind::ForeignKey { ref_table, .. }
                        if ref_table == value)
                };
                table.constraints.iter().any(targets)
            }
            _ => true,
        }
    }

    pub(crate) fn schema_name(&self, oid: Oid) -> String {
        self.catalog().schema(oid).map_or_else(String::new, |s| s.name.clone())
    }

    pub(crate) fn role_name(&self, oid: Oid) -> String {
        match self.catalog().role(oid) {
            Some(role) => role.name.clone(),
            None => format!("unknown (OID={oid})"),
        }
    }
}

fn relation_database(relation: &Relation) -> Oid {
    match relation {
        Relation::Table(t) | Relation::Index(t, _) => t.database,
        Relation::Sequence(s) => s.database,
        Relation::View(v) => v.database,
        Relation::Virtual(_) => 0,
    }
}

/// All rows of a relation, each with all its columns.
///
/// With `only`, rows that don't have this value in this column may be left out.
pub(crate) fn rows(
    desc: &Arc<VirtualDesc>,
    ctx: &Arc<StatementContext>,
    only: Option<(&'static str, Oid)>,
) -> Result<Vec<Vec<Datum>>> {
    let identity = ctx.session.identity();
    let view = SessionCatalog::new(Arc::clone(&ctx.catalog), identity);
    let source = Source { desc, ctx, view, only };
    let mut out = statics::table(desc).map_or_else(Vec::new, |table| table.to_vec());
    if desc.schema == meridian_catalog::builtin::INFORMATION_SCHEMA {
        return information::rows(&source);
    }
    out.extend(match desc.name {
        "pg_class" => classes::pg_class(&source),
        "pg_attribute" => attributes::pg_attribute(&source),
        "pg_attrdef" => attributes::pg_attrdef(&source),
        "pg_type" => classes::pg_type(&source),
        "pg_namespace" => classes::pg_namespace(&source),
        "pg_index" => classes::pg_index(&source),
        "pg_sequence" => classes::pg_sequence(&source),
        "pg_description" => classes::pg_description(&source),
        "pg_shdescription" => classes::pg_shdescription(&source),
        "pg_constraint" => constraints::pg_constraint(&source),
        "pg_depend" => constraints::pg_depend(&source),
        "pg_database" => roles::pg_database(&source),
        "pg_authid" | "pg_roles" | "pg_shadow" | "pg_user" | "pg_group" => roles::roles(&source),
        "pg_auth_members" => roles::pg_auth_members(&source),
        "pg_db_role_setting" => roles::pg_db_role_setting(&source),
        "meridian_ranges" => ranges::rows(&source)?,
        "meridian_rebalance_plan" => ranges::plan(&source),
        "meridian_placement" => placement::rows(&source),
        _ => views::rows(&source)?,
    });
    Ok(out)
}
