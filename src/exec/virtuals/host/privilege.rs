//! `has_*_privilege`.

use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgError, Result, SqlState};

use super::CatalogHost;
use crate::virtuals::privileges::{
    database_privilege, has_grant_option, privilege_list, relation_privilege, schema_privilege,
};

impl CatalogHost {
    fn role_arg(&self, arg: &Datum) -> Result<Oid> {
        match arg {
            Datum::Text(name) if &**name == "public" => Ok(0),
            Datum::Text(name) => {
                let role = self.view.catalog.role_by_name(name);
                role.map(|r| r.oid).ok_or_else(|| {
                    let text = format!("role \"{name}\" does not exist");
                    PgError::new(SqlState::UNDEFINED_OBJECT, text)
                })
            }
            other => Ok(super::oid_arg(std::slice::from_ref(other), 0)),
        }
    }

    pub(super) fn privileges(&self, prosrc: &str, args: &[Datum]) -> Option<Result<Datum>> {
        let rest = prosrc.strip_prefix("has_");
        if let Some(tail) = prosrc.strip_prefix("pg_has_role_") {
            return Some(self.has_role(tail, args));
        }
        let (kind, tail) = rest?.split_once("_privilege_")?;
        // A leading role is there when the name of the kernel has one part more than the object.
        let parts = tail.split('_').count();
        let object_parts = if kind == "column" { 2 } else { 1 };
        Some(self.has_privilege(kind, args, parts > object_parts))
    }

    fn has_role(&self, tail: &str, args: &[Datum]) -> Result<Datum> {
        let (role, of) = if tail.contains('_') {
            (self.role_arg(&args[0])?, self.role_arg(&args[1])?)
        } else {
            (self.view.identity.user, self.role_arg(&args[0])?)
        };
        let privilege = args.last().and_then(Datum::as_str).unwrap_or_default();
        let admin = privilege.to_ascii_lowercase().ends_with(" option");
        let catalog = &self.view.catalog;
        Ok(Datum::Bool(match admin {
            true => catalog.is_admin(role, of),
            false => catalog.is_member(role, of),
        }))
    }

    fn has_privilege(&self, kind: &str, args: &[Datum], with_role: bool) -> Result<Datum> {
        let (role, args) = match args.split_first() {
            Some((first, rest)) if with_role => (self.role_arg(first)?, rest),
            _ => (self.view.identity.user, args),
        };
        let Some((object, privilege)) = args.first().zip(args.last()) else {
            return Ok(Datum::Null);
        };
        let letters = privilege_list(privilege.as_str().unwrap_or_default())?;
        let catalog = &self.view.catalog;
        let superuser = catalog.role(role).is_some_and(|r| r.superuser);
        Ok(match kind {
            "table" | "column" | "any_column" | "sequence" => {
                let relation = match object {
                    Datum::Text(name) => match self.relation_by_text(name) {
                        Some(found) => Some(found),
                        None => {
                            let text = format!("relation \"{name}\" does not exist");
                            return Err(PgError::new(SqlState::UNDEFINED_TABLE, text));
                        }
                    },
                    other => self.relation(super::oid_arg(std::slice::from_ref(other), 0)),
                };
                match relation {
                    Some(r) => {
                        let owner = catalog.is_member(role, r.owner());
                        let any = letters.iter().any(|(l, option)| match option {
                            true => owner || has_grant_option(catalog, role, r.acl(), *l),
                            false => relation_privilege(catalog, role, &r, *l),
                        });
                        Datum::Bool(any)
                    }
                    None => Datum::Null,
                }
            }
            "schema" => {
                let schema = match object {
                    Datum::Text(name) => Some(self.read_reg(oid::REGNAMESPACE, name)?),
                    other => Some(super::oid_arg(std::slice::from_ref(other), 0)),
                };
                let schema = schema.filter(|s| catalog.schema(*s).is_some());
                match schema {
                    Some(s) => {
                        let has = |(l, option): &(char, bool)| match (option, catalog.schema(s)) {
                            (true, Some(desc)) => {
                                catalog.is_member(role, desc.owner)
                                    || has_grant_option(catalog, role, &desc.acl, *l)
                            }
                            _ => schema_privilege(catalog, role, s, *l),
                        };
                        Datum::Bool(letters.iter().any(has))
                    }
                    None => Datum::Null,
                }
            }
            "database" => {
                let found = match object {
                    Datum::Text(name) => catalog.database_by_name(name),
                    other => catalog.database(super::oid_arg(std::slice::from_ref(other), 0)),
                };
                match found {
                    Some(database) => {
                        let has = |(l, option): &(char, bool)| match option {
                            true => {
                                catalog.is_member(role, database.owner)
                                    || has_grant_option(catalog, role, &database.acl, *l)
                            }
                            false => database_privilege(catalog, role, database, *l),
                        };
                        Datum::Bool(letters.iter().any(has))
                    }
                    None => Datum::Null,
                }
            }
            // Types, functions and languages may be used by everybody.
            "function" | "type" | "language" => Datum::Bool(true),
            _ => Datum::Bool(superuser),
        })
    }
}
