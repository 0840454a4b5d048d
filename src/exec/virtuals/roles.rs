//! Databases, roles and memberships.

use meridian_catalog::RoleDesc;
use meridian_types::{Datum, oid};

use super::Source;
use super::rows::{Rows, array, flag, int4, oid as oid_of, opt_text, text, text_array};

fn config(settings: &[(String, String)]) -> Datum {
    if settings.is_empty() {
        return Datum::Null;
    }
    text_array(settings.iter().map(|(n, v)| format!("{n}={v}")))
}

pub(crate) fn pg_database(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "oid",
            "datname",
            "datdba",
            "encoding",
            "datlocprovider",
            "datistemplate",
            "datallowconn",
            "datconnlimit",
            "datfrozenxid",
            "datminmxid",
            "dattablespace",
            "datcollate",
            "datctype",
            "datacl",
        ],
    );
    for database in source.catalog().databases() {
        let acl = if !database.acl.is_empty() {
            super::privileges::acl_datum(source.catalog(), &database.acl)
        } else if database.is_template {
            array(oid::ACLITEM, vec![text("=c/postgres"), text("postgres=CTc/postgres")])
        } else {
            Datum::Null
        };
        rows.push(vec![
            oid_of(database.oid),
            text(&database.name),
            oid_of(database.owner),
            int4(6),
            text("c"),
            flag(database.is_template),
            flag(database.allow_connections),
            int4(-1),
            oid_of(3),
            oid_of(1),
            oid_of(1663),
            text("C.UTF-8"),
            text("C.UTF-8"),
            acl,
        ]);
    }
    rows.finish()
}

fn valid_until(role: &RoleDesc) -> Datum {
    role.valid_until.map_or(Datum::Null, Datum::TimestampTz)
}

/// `pg_authid` and the views on it.
pub(crate) fn roles(source: &Source<'_>) -> Vec<Vec<Datum>> {
    match source.desc.name {
        "pg_authid" => authid(source),
        "pg_roles" => pg_roles(source),
        "pg_group" => pg_group(source),
        _ => pg_user(source),
    }
}

fn authid(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "oid",
            "rolname",
            "rolsuper",
            "rolinherit",
            "rolcreaterole",
            "rolcreatedb",
            "rolcanlogin",
            "rolreplication",
            "rolbypassrls",
            "rolconnlimit",
            "rolpassword",
            "rolvaliduntil",
        ],
    );
    for role in source.catalog().roles() {
        rows.push(vec![
            oid_of(role.oid),
            text(&role.name),
            flag(role.superuser),
            flag(role.inherit),
            flag(role.create_role),
            flag(role.create_db),
            flag(role.login),
            flag(role.replication),
            flag(role.bypass_rls),
            int4(role.connection_limit),
            opt_text(role.password.as_deref()),
            valid_until(role),
        ]);
    }
    rows.finish()
}

fn pg_roles(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(
        source.desc,
        &[
            "rolname",
            "rolsuper",
            "rolinherit",
            "rolcreaterole",
            "rolcreatedb",
            "rolcanlogin",
            "rolreplication",
            "rolconnlimit",
            "rolpassword",
            "rolvaliduntil",
            "rolbypassrls",
            "rolconfig",
            "oid",
        ],
    );
    for role in source.catalog().roles() {
        rows.push(vec![
            text(&role.name),
            flag(role.superuser),
            flag(role.inherit),
            flag(role.create_role),
            flag(role.create_db),
            flag(role.login),
            flag(role.replication),
            int4(role.connection_limit),
            text("********"),
            valid_until(role),
            flag(role.bypass_rls),
            config(&role.settings),
            oid_of(role.oid),
        ]);
    }
    rows.finish()
}

fn pg_group(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["groname", "grosysid", "grolist"]);
    for role in source.catalog().roles().filter(|r| !r.login) {
        let members = source.catalog().roles().filter(|m| m.member_of.contains(&role.oid));
        let members = members.map(|m| oid_of(m.oid)).collect();
        rows.push(vec![text(&role.name), oid_of(role.oid), array(oid::OID, members)]);
    }
    rows.finish()
}

/// `pg_user` and `pg_shadow`, which differ in the password.
fn pg_user(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let shadow = source.desc.name == "pg_shadow";
    let mut rows = Rows::new(
        source.desc,
        &[
            "usename",
            "usesysid",
            "usecreatedb",
            "usesuper",
            "userepl",
            "usebypassrls",
            "passwd",
            "valuntil",
            "useconfig",
        ],
    );
    for role in source.catalog().roles().filter(|r| r.login) {
        let password = if shadow { opt_text(role.password.as_deref()) } else { text("********") };
        rows.push(vec![
            text(&role.name),
            oid_of(role.oid),
            flag(role.create_db),
            flag(role.superuser),
            flag(role.replication),
            flag(role.bypass_rls),
            password,
            valid_until(role),
            config(&role.settings),
        ]);
    }
    rows.finish()
}

pub(crate) fn pg_auth_members(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["roleid", "member", "grantor", "admin_option"]);
    for member in source.catalog().roles() {
        for of in &member.member_of {
            let Some(m) = member.membership(*of) else { continue };
            let row = [oid_of(*of), oid_of(member.oid), oid_of(m.grantor), flag(m.admin)];
            rows.push(row.into());
        }
    }
    rows.finish()
}

pub(crate) fn pg_db_role_setting(source: &Source<'_>) -> Vec<Vec<Datum>> {
    let mut rows = Rows::new(source.desc, &["setdatabase", "setrole", "setconfig"]);
    for database in source.catalog().databases().filter(|d| !d.settings.is_empty()) {
        rows.push(vec![oid_of(database.oid), oid_of(0), config(&database.settings)]);
    }
    for role in source.catalog().roles().filter(|r| !r.settings.is_empty()) {
        rows.push(vec![oid_of(0), oid_of(role.oid), config(&role.settings)]);
    }
    rows.finish()
}
