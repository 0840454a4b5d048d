//! Who may do what.

use std::sync::Arc;

use meridian_catalog::{Catalog, Relation, TableDesc, builtin};
use meridian_types::datum::ArrayValue;
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, PgError, Result, SqlState};

use crate::ddl::PUBLIC_ROLE;

/// Whether a role may use a privilege (its letter in access lists) on a table.
pub fn table_privilege(catalog: &Catalog, role: Oid, table: &TableDesc, letter: char) -> bool {
    if catalog.role(role).is_some_and(|r| r.superuser) {
        return true;
    }
    if table.acl.is_empty() {
        return catalog.is_member(role, table.owner);
    }
    let predefined = match letter {
        'r' => Some(6181),
        'a' | 'w' | 'd' => Some(6182),
        _ => None,
    };
    predefined.is_some_and(|all| catalog.is_member(role, all))
        || table.acl.iter().any(|(grantee, letters, _)| {
            letters.contains(letter)
                && (*grantee == PUBLIC_ROLE || catalog.is_member(role, *grantee))
        })
}

/// Whether a role may use a privilege on any relation.
pub(crate) fn relation_privilege(
    catalog: &Catalog,
    role: Oid,
    relation: &Relation,
    letter: char,
) -> bool {
    if catalog.role(role).is_some_and(|r| r.superuser) {
        return true;
    }
    match relation {
        Relation::Table(table) | Relation::Index(table, _) => {
            table_privilege(catalog, role, table, letter)
        }
        Relation::Virtual(v) => {
            let hidden = matches!(v.name, "pg_authid" | "pg_shadow" | "pg_statistic");
            letter == 'r' && !hidden
        }
        Relation::View(_) | Relation::Sequence(_) => catalog.is_member(role, relation.owner()),
    }
}

/// 42501 unless the role may read (or write) a table.
///
/// `letter` is `r`, `a`, `w` or `d` for SELECT, INSERT, UPDATE, DELETE.
pub fn check_table(catalog: &Catalog, role: Oid, table: &TableDesc, letter: char) -> Result<()> {
    if table_privilege(catalog, role, table, letter) {
        return Ok(());
    }
    Err(PgError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for table {}", table.name),
    ))
}

/// `relacl`
pub(crate) fn acl(catalog: &Catalog, table: &TableDesc) -> Datum {
    if table.acl.is_empty() {
        return Datum::Null;
    }
    let name = |role: Oid| match catalog.role(role) {
        Some(desc) => crate::catalog_store::quote_ident(&desc.name),
        None => String::new(),
    };
    let items = table.acl.iter().map(|(grantee, letters, grantor)| {
        Datum::text(format!("{}={letters}/{}", name(*grantee), name(*grantor)))
    });
    Datum::Array(Arc::new(ArrayValue::from_elements(oid::ACLITEM, items.collect())))
}

/// Letters of a list of privileges as `has_table_privilege` takes it: any of them will do.
pub(crate) fn privilege_list(text: &str) -> Result<Vec<char>> {
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
            match plain {
                "create" => Ok('C'),
                "connect" => Ok('c'),
                "temp" | "temporary" => Ok('T'),
                "execute" => Ok('X'),
                "member" => Ok('m'),
                _ => crate::ddl::privilege_letter(plain).ok_or_else(|| unknown(word.trim())),
            }
        })
        .collect()
}

/// Whether a role may use a schema or make things in it.
pub(crate) fn schema_privilege(catalog: &Catalog, role: Oid, schema: Oid, letter: char) -> bool {
    let Some(desc) = catalog.schema(schema) else { return false };
    if catalog.is_member(role, desc.owner) {
        return true;
    }
    let open = matches!(desc.name.as_str(), "public" | "pg_catalog" | "information_schema");
    let owned = desc.owner == builtin::PG_DATABASE_OWNER
        && catalog.database(desc.database).is_some_and(|d| catalog.is_member(role, d.owner));
    owned || (letter == 'U' && open)
}
