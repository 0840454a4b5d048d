//! `search_path`: which schemas an unqualified name is looked up in, and where new objects go.

use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use crate::builtin::PG_CATALOG;
use crate::desc::Relation;
use crate::snapshot::Catalog;

/// A resolved search path of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    /// The session's database.
    pub database: Oid,
    /// Schemas in order of search, the implicit ones (`pg_temp`, `pg_catalog`) included.
    pub effective: Vec<Oid>,
    /// Schemas that were named and exist, `pg_temp` included when it was named.
    pub named: Vec<Oid>,
    /// The session's temporary schema, once it exists.
    pub temp: Option<Oid>,
}

impl SearchPath {
    /// Schema for a new object: the first named one that isn't temporary.
    pub fn creation_schema(&self) -> Result<Oid> {
        self.named.first().copied().ok_or_else(|| {
            PgError::new(SqlState::from_code("3F000"), "no schema has been selected to create in")
        })
    }
}

/// Name of the temporary schema of a backend.
pub fn temp_schema_name(backend: i32) -> String {
    format!("pg_temp_{backend}")
}

impl Catalog {
    /// Resolves the setting `search_path` (already split into names). `"$user"` stands for the
    /// schema named like the user; names of schemas that don't exist are left out.
    pub fn search_path(
        &self,
        database: Oid,
        names: &[impl AsRef<str>],
        user: &str,
        backend: i32,
    ) -> SearchPath {
        let temp = self.schema_by_name(database, &temp_schema_name(backend)).map(|s| s.oid);
        let mut named = Vec::new();
        for name in names {
            let oid = match name.as_ref() {
                "$user" => self.schema_by_name(database, user).map(|s| s.oid),
                "pg_temp" => temp,
                other => self.schema_by_name(database, other).map(|s| s.oid),
            };
            if let Some(oid) = oid
                && !named.contains(&oid)
            {
                named.push(oid);
            }
        }
        let mut effective = Vec::with_capacity(named.len() + 2);
        effective.extend(temp.filter(|t| !named.contains(t)));
        if !named.contains(&PG_CATALOG) {
            effective.push(PG_CATALOG);
        }
        effective.extend(&named);
        SearchPath { database, effective, named, temp }
    }

    /// The schema that a qualified name begins with; `pg_temp` is the session's own.
    pub fn named_schema(&self, path: &SearchPath, name: &str) -> Option<Oid> {
        match name {
            "pg_temp" => path.temp,
            _ => self.schema_by_name(path.database, name).map(|s| s.oid),
        }
    }

    /// Finds a relation by its name as written.
    pub fn lookup(&self, path: &SearchPath, schema: Option<&str>, name: &str) -> Option<Relation> {
        match schema {
            Some(schema) => self.relation_in(self.named_schema(path, schema)?, name),
            None => path.effective.iter().find_map(|s| self.relation_in(*s, name)),
        }
    }

    /// Whether an unqualified name finds this relation.
    pub fn is_visible(&self, path: &SearchPath, relation: &Relation) -> bool {
        self.lookup(path, None, relation.name()).is_some_and(|r| r.oid() == relation.oid())
    }

    /// The oid of a table's or view's row type, or of its array type, by name (`t`, `_t`).
    pub fn lookup_row_type(
        &self,
        path: &SearchPath,
        schema: Option<&str>,
        name: &str,
    ) -> Option<Oid> {
        if let Some(oid) = self.lookup(path, schema, name).and_then(|r| r.row_type()) {
            return Some(oid);
        }
        let element = name.strip_prefix('_')?;
        let row_type = self.lookup(path, schema, element)?.row_type()?;
        Some(crate::snapshot::array_of_row_type(row_type))
    }
}

#[cfg(test)]
mod tests {
    use crate::builtin::{PG_CATALOG, POSTGRES_DATABASE, PUBLIC};
    use crate::{Catalog, Relation};

    #[test]
    fn pg_catalog_comes_first_unless_named() {
        let catalog = Catalog::initial();
        let path = catalog.search_path(POSTGRES_DATABASE, &["$user", "public"], "postgres", 7);
        assert_eq!(path.effective, [PG_CATALOG, PUBLIC]);
        assert_eq!(path.creation_schema().expect("public"), PUBLIC);
        let path = catalog.search_path(POSTGRES_DATABASE, &["public", "pg_catalog"], "postgres", 7);
        assert_eq!(path.effective, [PUBLIC, PG_CATALOG]);
        let class = catalog.lookup(&path, None, "pg_class").expect("pg_class");
        assert!(matches!(&class, Relation::Virtual(v) if v.oid == 1259 && v.columns.len() == 33));
        assert!(catalog.is_visible(&path, &class));
        assert!(catalog.lookup(&path, Some("public"), "pg_class").is_none());
    }
}
