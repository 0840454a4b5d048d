//! Databases.

use std::sync::Arc;

use meridian_catalog::{ClusterDesc, DatabaseDesc, Descriptor, builtin};
use meridian_sql::ddl::Setting;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use crate::zones;

fn undefined(name: &str) -> PgError {
    let text = format!("database \"{name}\" does not exist");
    PgError::new(SqlState::INVALID_CATALOG_NAME, text)
}

/// Applies a SET or RESET to a list of settings.
pub(crate) fn apply_setting(settings: &mut Vec<(String, String)>, setting: &Setting) {
    match setting {
        (None, _) => settings.clear(),
        (Some(name), value) => {
            settings.retain(|(n, _)| n != name);
            settings.extend(value.iter().map(|v| (name.clone(), v.clone())));
        }
    }
}

impl DdlContext<'_> {
    fn no_block(&self, what: &str) -> Result<()> {
        if !self.in_block {
            return Ok(());
        }
        let text = format!("{what} cannot run inside a transaction block");
        Err(PgError::new(SqlState::ACTIVE_SQL_TRANSACTION, text))
    }

    pub(super) async fn create_database(
        &mut self,
        name: &str,
        options: &[(String, String)],
    ) -> Result<&'static str> {
        self.no_block("CREATE DATABASE")?;
        let may = self.catalog().role(self.identity.user);
        if !may.is_some_and(|r| r.superuser || r.create_db) {
            let text = "permission denied to create database";
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        let mut desc = DatabaseDesc {
            oid: 0,
            name: name.to_owned(),
            owner: self.identity.user,
            allow_connections: true,
            is_template: false,
            settings: Vec::new(),
            acl: Vec::new(),
            comment: None,
            options: Vec::new(),
        };
        for (option, value) in options {
            match option.as_str() {
                "owner" => desc.owner = self.role_oid(value)?,
                "allow_connections" => desc.allow_connections = value != "false",
                "is_template" => desc.is_template = value == "true",
                "template" => self.check_template(value)?,
                "encoding" => {
                    let plain = value.to_lowercase().replace(['-', '_'], "");
                    if !matches!(plain.as_str(), "utf8" | "6" | "default" | "unicode") {
                        let text = format!("encoding {value} is not supported; UTF8 is");
                        return Err(PgError::unsupported(text));
                    }
                }
                "lc_collate" | "lc_ctype" | "locale" | "locale_provider" | "icu_locale"
                | "tablespace" | "connection_limit" | "strategy" | "oid" | "collation_version" => {}
                other => {
                    let text = format!("option \"{other}\" not recognized");
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
                }
            }
        }
        self.lock_name(0, name).await?;
        if self.catalog().database_by_name(name).is_some() {
            let text = format!("database \"{name}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_DATABASE, text));
        }
        desc.oid = self.oids(2).await?;
        let public = builtin::public_schema(desc.oid + 1, desc.oid);
        self.overlay.put(Descriptor::Schema(public.into()));
        self.overlay.put(Descriptor::Database(desc.into()));
        Ok("CREATE DATABASE")
    }

    /// Only templates without objects can be copied so far.
    fn check_template(&self, name: &str) -> Result<()> {
        if name == "default" {
            return Ok(());
        }
        let Some(template) = self.catalog().database_by_name(name) else {
            let text = format!("template database \"{name}\" does not exist");
            return Err(PgError::new(SqlState::INVALID_CATALOG_NAME, text));
        };
        let oid = template.oid;
        let used = self.catalog().schemas(oid).any(|s| {
            s.database == oid
                && (s.name != "public" || self.catalog().relations_in(s.oid).next().is_some())
        });
        if used {
            let text = "copying a template database that has objects is not supported yet";
            return Err(PgError::unsupported(text));
        }
        Ok(())
    }

    fn owned_database(&self, name: &str) -> Result<Arc<DatabaseDesc>> {
        let found = self.catalog().database_by_name(name).cloned();
        let database = found.ok_or_else(|| undefined(name))?;
        if self.owns(database.owner) {
            return Ok(database);
        }
        let text = format!("must be owner of database {name}");
        Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text))
    }

    pub(super) fn drop_database(&mut self, name: &str, if_exists: bool) -> Result<&'static str> {
        self.no_block("DROP DATABASE")?;
        if if_exists && self.catalog().database_by_name(name).is_none() {
            let text = format!("database \"{name}\" does not exist, skipping");
            self.notice(SqlState::from_code("00000"), text);
            return Ok("DROP DATABASE");
        }
        let database = self.owned_database(name)?;
        if database.oid == self.identity.database {
            let text = "cannot drop the currently open database";
            return Err(PgError::new(SqlState::OBJECT_IN_USE, text));
        }
        if database.is_template {
            let text = "cannot drop a template database";
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
        }
        let schemas: Vec<_> = self
            .catalog()
            .schemas(database.oid)
            .filter(|s| s.database == database.oid)
            .cloned()
            .collect();
        for schema in schemas {
            let relations: Vec<_> = self.catalog().relations_in(schema.oid).cloned().collect();
            for relation in relations {
                self.remove_relation(&relation);
            }
            self.overlay.remove(Descriptor::Schema(schema).id());
        }
        self.overlay.remove(Descriptor::Database(database).id());
        Ok("DROP DATABASE")
    }

    pub(super) fn alter_database_set(
        &mut self,
        name: &str,
        setting: &Setting,
    ) -> Result<&'static str> {
        let mut database = DatabaseDesc::clone(&*self.owned_database(name)?);
        apply_setting(&mut database.settings, setting);
        self.overlay.put(Descriptor::Database(database.into()));
        Ok("ALTER DATABASE")
    }

    pub(super) fn alter_database_options(
        &mut self,
        name: &str,
        options: &[(String, String)],
    ) -> Result<&'static str> {
        let mut database = DatabaseDesc::clone(&*self.owned_database(name)?);
        for (option, value) in options {
            match option.as_str() {
                "allow_connections" => database.allow_connections = value != "false",
                "is_template" => database.is_template = value == "true",
                "connection_limit" | "tablespace" => {}
                other => {
                    let text = format!("option \"{other}\" not recognized");
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
                }
            }
        }
        self.overlay.put(Descriptor::Database(database.into()));
        Ok("ALTER DATABASE")
    }

    /// ALTER DATABASE … and ALTER SYSTEM SET (…) or RESET (…): where copies are to be.
    pub(super) fn alter_placement(
        &mut self,
        database: Option<&str>,
        set: &[(String, String)],
        reset: &[String],
    ) -> Result<&'static str> {
        let Some(name) = database else {
            if !self.catalog().role(self.identity.user).is_some_and(|role| role.superuser) {
                let text = "must be superuser to change parameters of the cluster";
                return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
            }
            let options = zones::changed_above(self.catalog().options(), set, reset)?;
            self.overlay.put(Descriptor::Cluster(ClusterDesc { options }.into()));
            return Ok("ALTER SYSTEM");
        };
        let mut database = DatabaseDesc::clone(&*self.owned_database(name)?);
        database.options = zones::changed_above(&database.options, set, reset)?;
        self.overlay.put(Descriptor::Database(database.into()));
        Ok("ALTER DATABASE")
    }

    pub(crate) fn rename_database(&mut self, name: &str, to: &str) -> Result<()> {
        let mut database = DatabaseDesc::clone(&*self.owned_database(name)?);
        if database.oid == self.identity.database {
            let text = "current database cannot be renamed";
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text));
        }
        if self.catalog().database_by_name(to).is_some() {
            let text = format!("database \"{to}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_DATABASE, text));
        }
        to.clone_into(&mut database.name);
        self.overlay.put(Descriptor::Database(database.into()));
        Ok(())
    }

    pub(crate) fn own_database(&mut self, name: &str, owner: &str) -> Result<()> {
        let mut database = DatabaseDesc::clone(&*self.owned_database(name)?);
        database.owner = self.role_oid(owner)?;
        self.overlay.put(Descriptor::Database(database.into()));
        Ok(())
    }
}
