//! Who may do what.
//!
//! Privileges are letters in access lists, as in PostgreSQL's `aclitem`. An object without a list
//! has the defaults of its kind: the owner may do everything, and everybody may connect to a
//! database and use the schema `public`.

use std::sync::Arc;

use meridian_catalog::desc::Acl;
use meridian_catalog::{Catalog, DatabaseDesc, Relation, TableDesc, builtin};
use meridian_types::datum::ArrayValue;
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgError, Result, SqlState};

use crate::ddl::PUBLIC_ROLE;

/// Kinds of objects, by the privileges that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Relation,
    Sequence,
    Schema,
    Database,
}

impl Kind {
    /// All privileges, in the order of access lists.
    pub(crate) fn all(self) -> &'static str {
        match self {
            Kind::Relation => "arwdDxt",
            Kind::Sequence => "rwU",
            Kind::Schema => "UC",
            Kind::Database => "CTc",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Relation => "table",
            Kind::Sequence => "sequence",
            Kind::Schema => "schema",
            Kind::Database => "database",
        }
    }
}

/// The list of an object that has none of its own. `name` is that of a schema.
pub(crate) fn default_acl(kind: Kind, owner: Oid, name: &str) -> Acl {
    let open = matches!(name, "public" | "pg_catalog" | "information_schema");
    let public = match kind {
        Kind::Database => Some("Tc"),
        Kind::Schema if open => Some("U"),
        _ => None,
    };
    let own = (owner, kind.all().to_owned(), owner);
    let public = public.map(|letters| (PUBLIC_ROLE, letters.to_owned(), owner));
    match kind {
        Kind::Database => public.into_iter().chain([own]).collect(),
        _ => [own].into_iter().chain(public).collect(),
    }
}

/// Whether a role has a privilege by a list.
pub(crate) fn listed(
    catalog: &Catalog,
    role: Oid,
    acl: &[(Oid, String, Oid)],
    letter: char,
) -> bool {
    acl.iter().any(|(grantee, letters, _)| {
        letters.contains(letter) && (*grantee == PUBLIC_ROLE || catalog.is_member(role, *grantee))
    })
}

/// Whether a role may grant a privilege on.
pub(crate) fn has_grant_option(
    catalog: &Catalog,
    role: Oid,
    acl: &[(Oid, String, Oid)],
    letter: char,
) -> bool {
    let starred = format!("{letter}*");
    acl.iter().any(|(grantee, letters, _)| {
        letters.contains(&starred) && catalog.is_member(role, *grantee)
    })
}

/// `pg_authid` oid of `pg_read_all_stats`.
const PG_READ_ALL_STATS: Oid = 3375;

fn is_superuser(catalog: &Catalog, role: Oid) -> bool {
    catalog.role(role).is_some_and(|r| r.superuser)
}

/// Whether a role may use a privilege on any relation.
pub(crate) fn relation_privilege(
    catalog: &Catalog,
    role: Oid,
    relation: &Relation,
    letter: char,
) -> bool {
    if is_superuser(catalog, role) {
        return true;
    }
    if let Relation::Virtual(v) = relation {
        let hidden = match v.name {
            "pg_authid" | "pg_shadow" | "pg_statistic" => true,
            // Keys at which ranges begin are values of rows.
            "meridian_ranges" | "meridian_rebalance_plan" => {
                !catalog.is_member(role, PG_READ_ALL_STATS)
            }
            _ => false,
        };
        return letter == 'r' && !hidden;
    }
    let predefined = match letter {
        'r' => Some(6181),
        'a' | 'w' | 'd' => Some(6182),
        _ => None,
    };
    if predefined.is_some_and(|all| catalog.is_member(role, all)) {
        return true;
    }
    if relation.acl().is_empty() {
        return catalog.is_member(role, relation.owner());
    }
    listed(catalog, role, relation.acl(), letter)
}

/// Whether a role may use a privilege (its letter in access lists) on a table.
pub fn table_privilege(catalog: &Catalog, role: Oid, table: &Arc<TableDesc>, letter: char) -> bool {
    relation_privilege(catalog, role, &Relation::Table(Arc::clone(table)), letter)
}

/// 42501 unless the role has the privilege on the relation.
pub(crate) fn check_relation(
    catalog: &Catalog,
    role: Oid,
    relation: &Relation,
    letter: char,
) -> Result<()> {
    if relation_privilege(catalog, role, relation, letter) {
        return Ok(());
    }
    let word = crate::ddl::kind_word(relation);
    let text = format!("permission denied for {word} {}", relation.name());
    Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text))
}

/// A list as `aclitem[]`; NULL while an object has none.
pub(crate) fn acl_datum(catalog: &Catalog, acl: &[(Oid, String, Oid)]) -> Datum {
    if acl.is_empty() {
        return Datum::Null;
    }
    let name = |role: Oid| match catalog.role(role) {
        Some(desc) => crate::catalog_store::quote_ident(&desc.name),
        None => String::new(),
    };
    let items = acl.iter().filter(|(_, letters, _)| !letters.is_empty());
    let items = items.map(|(grantee, letters, grantor)| {
        Datum::text(format!("{}={letters}/{}", name(*grantee), name(*grantor)))
    });
    Datum::Array(Arc::new(ArrayValue::from_elements(oid::ACLITEM, items.collect())))
}

/// `acldefault(type, owner)`
pub(crate) fn acl_default(catalog: &Catalog, kind: &str, owner: Oid) -> Result<Datum> {
    let (public, own) = match kind {
        "c" => ("", ""),
        "r" => ("", "arwdDxt"),
        "s" => ("", "rwU"),
        "d" => ("Tc", "CTc"),
        "f" => ("X", "X"),
        "l" | "T" => ("U", "U"),
        "L" => ("", "rw"),
        "n" => ("", "UC"),
        "p" => ("", "sA"),
        "t" => ("", "C"),
        "F" | "S" => ("", "U"),
        other => {
            let text = format!("unrecognized object type abbreviation: {other}");
            return Err(PgError::new(SqlState::from_code("XX000"), text));
        }
    };
    let entries = [(PUBLIC_ROLE, public.to_owned(), owner), (owner, own.to_owned(), owner)];
    Ok(acl_datum(catalog, &entries))
}

/// Letters of a list of privileges as `has_table_privilege` takes it (any of them will do), and
/// whether the grant option is asked for.
pub(crate) fn privilege_list(text: &str) -> Result<Vec<(char, bool)>> {
    let unknown = |word: &str| {
        PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unrecognized privilege type: \"{word}\""),
        )
    };
    text.split(',')
        .map(|word| {
            let lower = word.trim().to_lowercase();
            let plain = lower.trim_end_matches(" with grant option");
            let letter = match plain {
                "member" => Some('m'),
                _ => crate::ddl::privilege_letter(plain),
            };
            Ok((letter.ok_or_else(|| unknown(word.trim()))?, plain.len() < lower.len()))
        })
        .collect()
}

/// Whether a role may use a schema or make things in it.
pub(crate) fn schema_privilege(catalog: &Catalog, role: Oid, schema: Oid, letter: char) -> bool {
    let Some(desc) = catalog.schema(schema) else { return false };
    let owner = if desc.owner == builtin::PG_DATABASE_OWNER {
        catalog.database(desc.database).map_or(desc.owner, |d| d.owner)
    } else {
        desc.owner
    };
    if is_superuser(catalog, role) {
        return true;
    }
    if desc.acl.is_empty() {
        let acl = default_acl(Kind::Schema, owner, &desc.name);
        return listed(catalog, role, &acl, letter);
    }
    // Grants to the role that stands for the database's owner are the owner's.
    let standing = desc.acl.iter().any(|(grantee, letters, _)| {
        *grantee == desc.owner && letters.contains(letter) && catalog.is_member(role, owner)
    });
    standing || listed(catalog, role, &desc.acl, letter)
}

/// 42501 unless the role may use the schema.
pub(crate) fn check_schema_use(catalog: &Catalog, role: Oid, schema: Oid) -> Result<()> {
    let Some(desc) = catalog.schema(schema) else { return Ok(()) };
    if desc.name.starts_with("pg_temp_") || schema_privilege(catalog, role, schema, 'U') {
        return Ok(());
    }
    let text = format!("permission denied for schema {}", desc.name);
    Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text))
}

/// Whether a role may connect to a database, make schemas or temporary tables in it.
pub fn database_privilege(
    catalog: &Catalog,
    role: Oid,
    database: &DatabaseDesc,
    letter: char,
) -> bool {
    if is_superuser(catalog, role) {
        return true;
    }
    match database.acl.is_empty() {
        true => listed(catalog, role, &default_acl(Kind::Database, database.owner, ""), letter),
        false => listed(catalog, role, &database.acl, letter),
    }
}
