//! Names: where new objects go, what they are called when nobody says, and errors about them.

use meridian_catalog::search_path::temp_schema_name;
use meridian_catalog::{Descriptor, Relation, SchemaDesc};
use meridian_sql::ddl::Name;
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use crate::catalog_store::SessionCatalog;
use crate::virtuals::privileges;

/// Longest identifier, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// The word for a relation's kind.
pub(crate) fn kind_word(relation: &Relation) -> &'static str {
    match relation {
        Relation::Table(_) => "table",
        Relation::Sequence(_) => "sequence",
        Relation::View(_) => "view",
        Relation::Index(..) => "index",
        Relation::Virtual(v) => {
            let kind = meridian_catalog::builtin::system_relation_by_oid(v.oid).map(|s| s.kind);
            if kind == Some(b'r') { "table" } else { "view" }
        }
    }
}

/// 3F000
pub(crate) fn undefined_schema(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
}

/// 42P01, or 3F000 when it is the schema that doesn't exist.
pub(crate) fn undefined(view: &SessionCatalog, name: &Name) -> PgError {
    if let Some(schema) = &name.schema
        && view.catalog.named_schema(&view.path, schema).is_none()
    {
        return undefined_schema(schema);
    }
    PgError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

/// 42704 for a role.
pub(crate) fn undefined_role(name: &str) -> PgError {
    PgError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
}

/// 42703 in the words of ALTER TABLE.
pub(crate) fn undefined_column(table: &str, column: &str) -> PgError {
    PgError::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{table}\" does not exist"),
    )
}

/// Cuts so that `parts` joined by `_` are a name: the longest part loses first.
fn joined(table: &str, columns: &str, label: &str, pass: u32) -> String {
    let suffix = if pass == 0 { String::new() } else { pass.to_string() };
    let label = format!("{label}{suffix}");
    let overhead = 1 + label.len() + usize::from(!columns.is_empty());
    let room = NAME_BYTES_MAX.saturating_sub(overhead);
    let (mut a, mut b) = (table.len(), columns.len());
    while a + b > room {
        if a > b { a -= 1 } else { b -= 1 }
    }
    let cut = |s: &str, mut at: usize| {
        while !s.is_char_boundary(at) {
            at -= 1;
        }
        s[..at].to_owned()
    };
    if columns.is_empty() {
        format!("{}_{label}", cut(table, a))
    } else {
        format!("{}_{}_{label}", cut(table, a), cut(columns, b))
    }
}

/// The first name `table_columns_label[n]` that `taken` doesn't know.
pub(crate) fn choose_name(
    table: &str,
    columns: &str,
    label: &str,
    taken: impl Fn(&str) -> bool,
) -> String {
    let mut pass = 0;
    loop {
        let name = joined(table, columns, label, pass);
        if !taken(&name) {
            return name;
        }
        pass += 1;
    }
}

/// The columns' part of an index's or foreign key's default name.
pub(crate) fn columns_part<'a>(columns: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for column in columns {
        if !out.is_empty() {
            out.push('_');
        }
        out.push_str(column);
        if out.len() >= NAME_BYTES_MAX {
            break;
        }
    }
    out
}

impl DdlContext<'_> {
    /// The schema for a new object.
    pub(crate) async fn creation_schema(&mut self, name: &Name, temp: bool) -> Result<Oid> {
        let view = self.view();
        if temp {
            if name.schema.as_deref().is_some_and(|s| s != "pg_temp") {
                return Err(PgError::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    "cannot create temporary relation in non-temporary schema",
                ));
            }
            return self.temp_schema().await;
        }
        let schema = match name.schema.as_deref() {
            Some("pg_temp") => return self.temp_schema().await,
            Some(schema) => view
                .catalog
                .named_schema(&view.path, schema)
                .ok_or_else(|| undefined_schema(schema))?,
            None => view.path.creation_schema()?,
        };
        self.may_create_in(schema)?;
        Ok(schema)
    }

    /// 42501 unless new objects may be made in this schema.
    pub(crate) fn may_create_in(&self, schema: Oid) -> Result<()> {
        let desc = self.schema_of(schema)?;
        let system = matches!(desc.name.as_str(), "pg_catalog" | "information_schema" | "pg_toast");
        let may = || privileges::schema_privilege(self.catalog(), self.identity.user, schema, 'C');
        if !system && (self.owns(desc.owner) || may()) {
            return Ok(());
        }
        Err(PgError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for schema {}", desc.name),
        ))
    }

    async fn temp_schema(&mut self) -> Result<Oid> {
        let name = temp_schema_name(self.identity.backend);
        if let Some(schema) = self.catalog().schema_by_name(self.identity.database, &name) {
            return Ok(schema.oid);
        }
        let (database, user) = (self.identity.database, self.identity.user);
        if let Some(desc) = self.catalog().database(database)
            && !privileges::database_privilege(self.catalog(), user, desc, 'T')
        {
            let text = format!(
                "permission denied to create temporary tables in database \"{}\"",
                desc.name
            );
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        let schema = SchemaDesc {
            oid: self.oids(1).await?,
            database: self.identity.database,
            name,
            owner: meridian_catalog::builtin::BOOTSTRAP_ROLE,
            acl: Vec::new(),
            comment: None,
        };
        let oid = schema.oid;
        self.overlay.put(Descriptor::Schema(schema.into()));
        Ok(oid)
    }

    /// The backend that a temporary object belongs to, by its schema.
    pub(crate) fn temp_session(&self, schema: Oid) -> Option<i32> {
        let name = temp_schema_name(self.identity.backend);
        self.catalog().schema(schema).filter(|s| s.name == name).map(|_| self.identity.backend)
    }

    /// Locks a new relation's name and fails with 42P07 when it is taken; with `if_not_exists`
    /// gives a notice and answers false.
    pub(crate) async fn claim_name(
        &mut self,
        schema: Oid,
        name: &str,
        if_not_exists: bool,
    ) -> Result<bool> {
        self.lock_name(schema, name).await?;
        if self.catalog().relation_in(schema, name).is_none() {
            return Ok(true);
        }
        let text = format!("relation \"{name}\" already exists");
        if if_not_exists {
            self.notice(SqlState::DUPLICATE_TABLE, format!("{text}, skipping"));
            return Ok(false);
        }
        Err(PgError::new(SqlState::DUPLICATE_TABLE, text))
    }

    /// The oid of a role by name; `current_user` and its kin are understood.
    pub(crate) fn role_oid(&self, name: &str) -> Result<Oid> {
        match name {
            "current_user" | "current_role" => Ok(self.identity.user),
            "session_user" => Ok(self.identity.session_user),
            _ => {
                let role = self.catalog().role_by_name(name);
                role.map(|r| r.oid).ok_or_else(|| undefined_role(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::choose_name;

    #[test]
    fn default_names_are_made_as_postgresql_makes_them() {
        assert_eq!(choose_name("t", "", "pkey", |_| false), "t_pkey");
        assert_eq!(choose_name("t", "a_b", "key", |_| false), "t_a_b_key");
        assert_eq!(choose_name("t", "a", "idx", |n| n == "t_a_idx"), "t_a_idx1");
        let long = "x".repeat(63);
        let name = choose_name(&long, "abc", "seq", |_| false);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("_abc_seq"));
    }
}
