//! CREATE SCHEMA.

use meridian_catalog::{Descriptor, SchemaDesc};
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use crate::virtuals::privileges::database_privilege;

impl DdlContext<'_> {
    pub(super) async fn create_schema(
        &mut self,
        name: Option<&str>,
        owner: Option<&str>,
        if_not_exists: bool,
    ) -> Result<&'static str> {
        let owner = match owner {
            Some(owner) => self.role_oid(owner)?,
            None => self.identity.user,
        };
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.catalog().role(owner).map(|r| r.name.clone()).unwrap_or_default(),
        };
        let database = self.identity.database;
        let may = self.catalog().database(database).is_some_and(|d| {
            self.owns(d.owner) || database_privilege(self.catalog(), self.identity.user, d, 'C')
        });
        if !may {
            let text = format!("permission denied for database {}", self.identity.database_name);
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        if name.starts_with("pg_") {
            let text = format!("unacceptable schema name \"{name}\"");
            return Err(PgError::new(SqlState::RESERVED_NAME, text)
                .detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        self.lock_name(database, &name).await?;
        if self.catalog().schema_by_name(database, &name).is_some() {
            let text = format!("schema \"{name}\" already exists");
            if if_not_exists {
                self.notice(SqlState::DUPLICATE_SCHEMA, format!("{text}, skipping"));
                return Ok("CREATE SCHEMA");
            }
            return Err(PgError::new(SqlState::DUPLICATE_SCHEMA, text));
        }
        let oid = self.oids(1).await?;
        let desc = SchemaDesc { oid, database, name, owner, acl: Vec::new(), comment: None };
        self.overlay.put(Descriptor::Schema(desc.into()));
        Ok("CREATE SCHEMA")
    }
}
