//! Roles, their passwords and memberships.

use std::sync::Arc;

use meridian_catalog::desc::Membership;
use meridian_catalog::{Descriptor, RoleDesc, builtin};
use meridian_sql::ddl::{Grantor, RoleOption, Setting};
use meridian_types::oid;
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use super::DdlContext;
use super::database::apply_setting;
use super::names::undefined_role;

fn denied(what: &str) -> PgError {
    PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, what)
}

impl DdlContext<'_> {
    fn may_create_roles(&self) -> bool {
        let role = self.catalog().role(self.identity.user);
        role.is_some_and(|r| r.superuser || r.create_role)
    }

    fn role_named(&self, name: &str) -> Result<Arc<RoleDesc>> {
        let oid = self.role_oid(name)?;
        self.catalog().role(oid).cloned().ok_or_else(|| undefined_role(name))
    }

    pub(super) async fn create_role(
        &mut self,
        name: &str,
        user: bool,
        options: &[RoleOption],
    ) -> Result<&'static str> {
        if !self.may_create_roles() {
            return Err(denied("permission denied to create role"));
        }
        if name.starts_with("pg_") {
            let text = format!("role name \"{name}\" is reserved");
            return Err(PgError::new(SqlState::RESERVED_NAME, text)
                .detail("Role names starting with \"pg_\" are reserved."));
        }
        if matches!(name, "public" | "none") {
            let text = format!("role name \"{name}\" is reserved");
            return Err(PgError::new(SqlState::RESERVED_NAME, text));
        }
        self.lock_name(1, name).await?;
        if self.catalog().role_by_name(name).is_some() {
            let text = format!("role \"{name}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_OBJECT, text));
        }
        let mut role = builtin::plain_role(self.oids(1).await?, name);
        role.login = user;
        let members = self.apply_options(&mut role, options)?;
        let oid = role.oid;
        self.overlay.put(Descriptor::Role(role.into()));
        for (member, admin) in members {
            let grantor = self.identity.user;
            self.add_member(&member, Membership { role: oid, grantor, admin })?;
        }
        Ok("CREATE ROLE")
    }

    /// Applies options; the answer is the members to add, and whether with the admin option.
    fn apply_options(
        &self,
        role: &mut RoleDesc,
        options: &[RoleOption],
    ) -> Result<Vec<(String, bool)>> {
        let mut members = Vec::new();
        for option in options {
            match option {
                RoleOption::Superuser(on) => {
                    if !self.is_superuser() {
                        return Err(denied("must be superuser to create superusers"));
                    }
                    role.superuser = *on;
                }
                RoleOption::Inherit(on) => role.inherit = *on,
                RoleOption::CreateRole(on) => role.create_role = *on,
                RoleOption::CreateDb(on) => role.create_db = *on,
                RoleOption::Login(on) => role.login = *on,
                RoleOption::Replication(on) => role.replication = *on,
                RoleOption::BypassRls(on) => role.bypass_rls = *on,
                RoleOption::ConnectionLimit(limit) => role.connection_limit = *limit,
                RoleOption::Password(password) => {
                    role.password = password.as_deref().map(super::scram::verifier);
                }
                RoleOption::ValidUntil(text) => {
                    let ty = PgType::new(oid::TIMESTAMPTZ);
                    let value = crate::values::text_in(text, ty, &self.statement.eval)?;
                    role.valid_until = match value {
                        Datum::TimestampTz(at) => Some(at),
                        _ => None,
                    };
                }
                RoleOption::InRole(roles) => {
                    for name in roles {
                        let of = self.role_oid(name)?;
                        let grantor = self.identity.user;
                        role.join(Membership { role: of, grantor, admin: false });
                    }
                }
                RoleOption::Members(names) => {
                    members.extend(names.iter().map(|n| (n.clone(), false)));
                }
                RoleOption::Admins(names) => {
                    members.extend(names.iter().map(|n| (n.clone(), true)));
                }
            }
        }
        Ok(members)
    }

    fn add_member(&mut self, member: &str, membership: Membership) -> Result<()> {
        let role = membership.role;
        let mut desc = RoleDesc::clone(&*self.role_named(member)?);
        let of = self.catalog().role(role).map(|r| r.name.clone()).unwrap_or_default();
        if role == desc.oid
            || self.catalog().role(role).is_some_and(|r| !r.superuser)
                && self.catalog().is_member(role, desc.oid)
        {
            let text = format!("role \"{of}\" is a member of role \"{member}\"");
            return Err(PgError::new(SqlState::from_code("0LP01"), text));
        }
        if desc.membership(role).is_some_and(|old| old.admin || !membership.admin) {
            let text = format!("role \"{member}\" is already a member of role \"{of}\"");
            self.notice(SqlState::from_code("00000"), text);
            return Ok(());
        }
        desc.join(membership);
        self.overlay.put(Descriptor::Role(desc.into()));
        Ok(())
    }

    pub(super) fn alter_role(
        &mut self,
        name: &str,
        options: &[RoleOption],
    ) -> Result<&'static str> {
        let mut role = RoleDesc::clone(&*self.role_named(name)?);
        let own_password = role.oid == self.identity.user
            && options.iter().all(|o| matches!(o, RoleOption::Password(_)));
        if role.superuser && !self.is_superuser() {
            return Err(denied(
                "must be superuser to alter superuser roles or change superuser attribute",
            ));
        }
        if !own_password && !self.may_create_roles() {
            return Err(denied("permission denied"));
        }
        let members = self.apply_options(&mut role, options)?;
        let oid = role.oid;
        self.overlay.put(Descriptor::Role(role.into()));
        for (member, admin) in members {
            let grantor = self.identity.user;
            self.add_member(&member, Membership { role: oid, grantor, admin })?;
        }
        Ok("ALTER ROLE")
    }

    pub(super) fn alter_role_set(&mut self, name: &str, setting: &Setting) -> Result<&'static str> {
        if name == "all" {
            return Err(PgError::unsupported("ALTER ROLE ALL SET is not supported yet"));
        }
        let mut role = RoleDesc::clone(&*self.role_named(name)?);
        if role.oid != self.identity.user && !self.may_create_roles() {
            return Err(denied("permission denied"));
        }
        apply_setting(&mut role.settings, setting);
        self.overlay.put(Descriptor::Role(role.into()));
        Ok("ALTER ROLE")
    }

    pub(crate) fn rename_role(&mut self, name: &str, to: &str) -> Result<()> {
        if !self.may_create_roles() {
            return Err(denied("permission denied to rename role"));
        }
        let mut role = RoleDesc::clone(&*self.role_named(name)?);
        if role.oid == self.identity.session_user {
            let text = "session user cannot be renamed";
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, text));
        }
        if self.catalog().role_by_name(to).is_some() {
            let text = format!("role \"{to}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_OBJECT, text));
        }
        to.clone_into(&mut role.name);
        self.overlay.put(Descriptor::Role(role.into()));
        Ok(())
    }

    pub(super) fn drop_role(&mut self, names: &[String], if_exists: bool) -> Result<&'static str> {
        if !self.may_create_roles() {
            return Err(denied("permission denied to drop role"));
        }
        for name in names {
            let Some(role) = self.catalog().role_by_name(name).cloned() else {
                if !if_exists {
                    return Err(undefined_role(name));
                }
                let text = format!("role \"{name}\" does not exist, skipping");
                self.notice(SqlState::from_code("00000"), text);
                continue;
            };
            if role.oid == self.identity.user {
                let text = "current user cannot be dropped";
                return Err(PgError::new(SqlState::OBJECT_IN_USE, text));
            }
            if role.oid < meridian_catalog::FIRST_NORMAL_OID {
                let text = format!(
                    "cannot drop role {name} because it is required by the database system"
                );
                return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text));
            }
            self.role_is_unused(&role)?;
            let members: Vec<_> = self
                .catalog()
                .roles()
                .filter(|r| r.member_of.contains(&role.oid))
                .cloned()
                .collect();
            for member in members {
                let mut member = RoleDesc::clone(&member);
                member.leave(role.oid);
                self.overlay.put(Descriptor::Role(member.into()));
            }
            self.overlay.remove(Descriptor::Role(role).id());
        }
        Ok("DROP ROLE")
    }

    fn role_is_unused(&self, role: &RoleDesc) -> Result<()> {
        let catalog = self.catalog();
        let mut lines = Vec::new();
        for database in catalog.databases().filter(|d| d.owner == role.oid) {
            lines.push(format!("owner of database {}", database.name));
        }
        for schema in catalog.schemas(self.identity.database).filter(|s| s.owner == role.oid) {
            lines.push(format!("owner of schema {}", schema.name));
        }
        for relation in catalog.relations() {
            let is_index = matches!(relation, meridian_catalog::Relation::Index(..));
            let shown = format!("{} {}", super::names::kind_word(relation), relation.name());
            if relation.owner() == role.oid && !is_index {
                lines.push(format!("owner of {shown}"));
            }
            let granted = relation.acl().iter().any(|(grantee, _, _)| *grantee == role.oid);
            if granted && relation.owner() != role.oid && !is_index {
                lines.push(format!("privileges for {shown}"));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let text =
            format!("role \"{}\" cannot be dropped because some objects depend on it", role.name);
        Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text).detail(lines.join("\n")))
    }

    pub(super) fn grant_role(
        &mut self,
        grant: bool,
        roles: &[String],
        members: &[String],
        admin: bool,
        by: Option<&Grantor>,
    ) -> Result<&'static str> {
        let user = self.identity.user;
        let grantor = match by {
            Some(Grantor::Role(name)) => self.role_oid(name)?,
            Some(Grantor::Current) | None => user,
        };
        for name in roles {
            let role = self.role_named(name)?;
            if role.superuser && !self.is_superuser() {
                return Err(denied("must be superuser to alter superusers"));
            }
            if !self.may_create_roles() && !self.catalog().is_admin(user, role.oid) {
                return Err(denied(&format!("must have admin option on role \"{name}\"")));
            }
            if grantor != user && !self.is_superuser() {
                return Err(denied("must be superuser to set grantor"));
            }
            for member in members {
                if grant {
                    self.add_member(member, Membership { role: role.oid, grantor, admin })?;
                } else {
                    self.remove_member(member, &role, admin)?;
                }
            }
        }
        Ok(if grant { "GRANT ROLE" } else { "REVOKE ROLE" })
    }

    /// Ends a membership, or takes its admin option away.
    fn remove_member(&mut self, member: &str, role: &RoleDesc, admin: bool) -> Result<()> {
        let mut desc = RoleDesc::clone(&*self.role_named(member)?);
        match desc.membership(role.oid) {
            None => {
                let text = format!("role \"{member}\" is not a member of role \"{}\"", role.name);
                self.notice(SqlState::WARNING, text);
                return Ok(());
            }
            Some(old) if admin => desc.join(Membership { admin: false, ..old }),
            Some(_) => desc.leave(role.oid),
        }
        self.overlay.put(Descriptor::Role(desc.into()));
        Ok(())
    }
}
