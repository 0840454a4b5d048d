//! The catalog as one session sees it: names along its search path.

use std::sync::Arc;

use meridian_catalog::{Catalog, Relation, SearchPath};
use meridian_sql::bind::CatalogView;
pub use meridian_sql::deparse::quote_ident;
use meridian_types::builtin;
use meridian_types::oid::Oid;

use crate::virtuals::privileges;

/// Who runs a statement, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionIdentity {
    /// The session's database.
    pub database: Oid,
    /// Its name.
    pub database_name: Arc<str>,
    /// The current role.
    pub user: Oid,
    /// Its name.
    pub user_name: Arc<str>,
    /// The role that logged in.
    pub session_user: Oid,
    /// Names in the setting `search_path`.
    pub search_path: Arc<[String]>,
    /// Backend id.
    pub backend: i32,
}

/// A catalog snapshot with a session's search path, as the binder asks for it.
#[derive(Clone, Debug)]
pub struct SessionCatalog {
    /// The snapshot.
    pub catalog: Arc<Catalog>,
    /// The session.
    pub identity: Arc<SessionIdentity>,
    /// Its search path in this snapshot.
    pub path: SearchPath,
}

impl SessionCatalog {
    /// The view of a session on a snapshot.
    pub fn new(catalog: Arc<Catalog>, identity: Arc<SessionIdentity>) -> SessionCatalog {
        let mut path = catalog.search_path(
            identity.database,
            &identity.search_path,
            &identity.user_name,
            identity.backend,
        );
        let usable = |schema: &Oid| {
            privileges::schema_privilege(&catalog, identity.user, *schema, 'U')
                || path.temp == Some(*schema)
        };
        if !catalog.role(identity.user).is_some_and(|r| r.superuser) {
            let (named, effective) = (&path.named, &path.effective);
            let named = named.iter().copied().filter(&usable).collect();
            let effective = effective.iter().copied().filter(&usable).collect();
            path = SearchPath { named, effective, ..path };
        }
        SessionCatalog { catalog, identity, path }
    }

    /// The name of a type of the user's: a row type or an array of one.
    fn row_type_name(&self, oid: Oid) -> Option<(Relation, bool)> {
        if let Some(relation) = self.catalog.relation_of_row_type(oid) {
            return Some((relation, false));
        }
        self.catalog.relation_of_row_type(oid.checked_add(1)?).map(|r| (r, true))
    }
}

impl SessionCatalog {
    /// A relation's name as SQL text, qualified when it isn't found along the search path.
    pub fn relation_name(&self, relation: &Relation) -> String {
        if self.catalog.is_visible(&self.path, relation) {
            return quote_ident(relation.name());
        }
        self.qualified_name(relation)
    }

    /// A relation's name with its schema.
    pub fn qualified_name(&self, relation: &Relation) -> String {
        let schema = self.catalog.schema(relation.schema()).map_or("?", |s| s.name.as_str());
        format!("{}.{}", quote_ident(schema), quote_ident(relation.name()))
    }

    /// SQL's name of a type with its modifier, of types of the user's as well.
    pub fn format_type(&self, oid: Oid, typmod: i32) -> String {
        if builtin::type_by_oid(oid).is_some() {
            return builtin::format_type(oid, typmod);
        }
        match self.row_type_name(oid) {
            Some((relation, array)) => {
                let name = self.relation_name(&relation);
                if array { format!("{name}[]") } else { name }
            }
            None => "???".into(),
        }
    }
}

impl CatalogView for SessionCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Relation> {
        self.catalog.lookup(&self.path, schema, name)
    }

    fn relation_by_oid(&self, oid: Oid) -> Option<Relation> {
        self.catalog.relation(oid)
    }

    fn relation_by_row_type(&self, oid: Oid) -> Option<Relation> {
        self.catalog.relation_of_row_type(oid)
    }

    fn schema_oid(&self, name: &str) -> Option<Oid> {
        self.catalog.named_schema(&self.path, name)
    }

    fn schema_name(&self, oid: Oid) -> Option<Arc<str>> {
        self.catalog.schema(oid).map(|s| Arc::from(s.name.as_str()))
    }

    fn type_by_name(&self, schema: Option<&str>, name: &str) -> Option<Oid> {
        self.catalog.lookup_row_type(&self.path, schema, name)
    }

    fn type_name(&self, oid: Oid) -> Option<Arc<str>> {
        self.row_type_name(oid)?;
        Some(Arc::from(self.format_type(oid, -1)))
    }

    fn check_readable(
        &self,
        relation: &Relation,
        role: Option<Oid>,
        named: bool,
    ) -> meridian_types::Result<()> {
        let role = role.unwrap_or(self.identity.user);
        if named {
            privileges::check_schema_use(&self.catalog, role, relation.schema())?;
        }
        privileges::check_relation(&self.catalog, role, relation, 'r')
    }

    fn check_writable(
        &self,
        relation: &Relation,
        role: Option<Oid>,
        letter: char,
    ) -> meridian_types::Result<()> {
        let role = role.unwrap_or(self.identity.user);
        privileges::check_relation(&self.catalog, role, relation, letter)
    }

    fn database(&self) -> &str {
        &self.identity.database_name
    }

    fn user(&self) -> &str {
        &self.identity.user_name
    }
}
