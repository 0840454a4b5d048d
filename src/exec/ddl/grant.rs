//! GRANT and REVOKE: the access lists of relations, schemas and databases.

use meridian_catalog::desc::Acl;
use meridian_catalog::{DatabaseDesc, Descriptor, Relation, SchemaDesc};
use meridian_catalog::{SequenceDesc, TableDesc, ViewDesc};
use meridian_sql::ddl::{GrantStatement, GrantTarget, Grantee, Grantor};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use super::names::undefined_schema;
use crate::virtuals::privileges::{Kind, default_acl, has_grant_option, listed};

/// The role that stands for PUBLIC in access lists.
pub(crate) const PUBLIC_ROLE: Oid = 0;

/// The order of letters in access lists.
const LETTERS: &str = "arwdDxtXUCTc";

/// The letter of a privilege in access lists.
pub(crate) fn privilege_letter(word: &str) -> Option<char> {
    Some(match word {
        "insert" => 'a',
        "select" => 'r',
        "update" => 'w',
        "delete" => 'd',
        "truncate" => 'D',
        "references" => 'x',
        "trigger" => 't',
        "usage" => 'U',
        "create" => 'C',
        "connect" => 'c',
        "temp" | "temporary" => 'T',
        "execute" => 'X',
        _ => return None,
    })
}

/// An object that privileges are on.
enum Object {
    Relation(Relation),
    Schema(SchemaDesc),
    Database(DatabaseDesc),
}

impl Object {
    fn kind(&self) -> Kind {
        match self {
            Object::Relation(Relation::Sequence(_)) => Kind::Sequence,
            Object::Relation(_) => Kind::Relation,
            Object::Schema(_) => Kind::Schema,
            Object::Database(_) => Kind::Database,
        }
    }

    fn owner(&self) -> Oid {
        match self {
            Object::Relation(r) => r.owner(),
            Object::Schema(s) => s.owner,
            Object::Database(d) => d.owner,
        }
    }

    fn name(&self) -> &str {
        match self {
            Object::Relation(r) => r.name(),
            Object::Schema(s) => &s.name,
            Object::Database(d) => &d.name,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Object::Relation(r) => super::names::kind_word(r),
            Object::Schema(_) => "schema",
            Object::Database(_) => "database",
        }
    }

    /// The list in force: the defaults while there is none.
    fn acl(&self) -> Acl {
        let own: &[(Oid, String, Oid)] = match self {
            Object::Relation(r) => r.acl(),
            Object::Schema(s) => &s.acl,
            Object::Database(d) => &d.acl,
        };
        if !own.is_empty() {
            return own.to_vec();
        }
        let name = match self {
            Object::Schema(s) => s.name.as_str(),
            _ => "",
        };
        default_acl(self.kind(), self.owner(), name)
    }

    fn with_acl(self, acl: Acl) -> Option<Descriptor> {
        Some(match self {
            Object::Relation(Relation::Table(t)) => {
                Descriptor::Table(TableDesc { acl, ..TableDesc::clone(&t) }.into())
            }
            Object::Relation(Relation::View(v)) => {
                Descriptor::View(ViewDesc { acl, ..ViewDesc::clone(&v) }.into())
            }
            Object::Relation(Relation::Sequence(s)) => {
                Descriptor::Sequence(SequenceDesc { acl, ..SequenceDesc::clone(&s) }.into())
            }
            Object::Relation(_) => return None,
            Object::Schema(s) => Descriptor::Schema(SchemaDesc { acl, ..s }.into()),
            Object::Database(d) => Descriptor::Database(DatabaseDesc { acl, ..d }.into()),
        })
    }
}

impl DdlContext<'_> {
    pub(super) fn grant(&mut self, grant: &GrantStatement) -> Result<&'static str> {
        if let Some(Grantor::Role(name)) = &grant.by
            && self.role_oid(name)? != self.identity.user
        {
            return Err(PgError::unsupported("grantor must be current user"));
        }
        let objects = self.objects(&grant.target)?;
        let mut roles = Vec::new();
        for grantee in &grant.grantees {
            roles.push(match grantee {
                Grantee::Public if grant.grant && grant.grant_option => {
                    let text = "grant options can only be granted to roles";
                    return Err(PgError::new(SqlState::from_code("0LP01"), text));
                }
                Grantee::Public => PUBLIC_ROLE,
                Grantee::Role(name) => self.role_oid(name)?,
            });
        }
        for object in objects {
            self.change_privileges(object, &roles, grant)?;
        }
        Ok(if grant.grant { "GRANT" } else { "REVOKE" })
    }

    fn objects(&self, target: &GrantTarget) -> Result<Vec<Object>> {
        let database = self.identity.database;
        let schema = |name: &String| {
            let found = self.catalog().schema_by_name(database, name).cloned();
            found.ok_or_else(|| undefined_schema(name))
        };
        match target {
            GrantTarget::Relations { names, sequences } => {
                let find = |name| {
                    let relation = self.relation(name)?;
                    if *sequences && !matches!(relation, Relation::Sequence(_)) {
                        let text = format!("\"{}\" is not a sequence", relation.name());
                        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
                    }
                    if matches!(relation, Relation::Index(..)) {
                        let text = format!("\"{}\" is an index", relation.name());
                        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
                    }
                    if matches!(relation, Relation::Virtual(_)) {
                        return Err(PgError::unsupported(
                            "GRANT on a system catalog is not supported yet",
                        ));
                    }
                    Ok(Object::Relation(relation))
                };
                names.iter().map(find).collect()
            }
            GrantTarget::AllInSchema { sequences, schemas } => {
                let mut all = Vec::new();
                for name in schemas {
                    let wanted = |r: &&Relation| match r {
                        Relation::Table(_) | Relation::View(_) => !sequences,
                        Relation::Sequence(_) => *sequences,
                        _ => false,
                    };
                    let inside = self.catalog().relations_in(schema(name)?.oid).filter(wanted);
                    all.extend(inside.cloned().map(Object::Relation));
                }
                Ok(all)
            }
            GrantTarget::Schemas(names) => {
                names.iter().map(|n| Ok(Object::Schema(SchemaDesc::clone(&*schema(n)?)))).collect()
            }
            GrantTarget::Databases(names) => {
                let find = |name: &String| match self.catalog().database_by_name(name) {
                    Some(found) => Ok(Object::Database(DatabaseDesc::clone(found))),
                    None => {
                        let text = format!("database \"{name}\" does not exist");
                        Err(PgError::new(SqlState::INVALID_CATALOG_NAME, text))
                    }
                };
                names.iter().map(find).collect()
            }
            GrantTarget::Other(word) => Err(PgError::unsupported(format!(
                "GRANT ON {} is not supported yet",
                word.to_uppercase()
            ))),
        }
    }

    /// The letters that a statement names for an object; ALL gives all of its kind.
    fn letters(object: &Object, grant: &GrantStatement) -> Result<String> {
        let all = object.kind().all();
        if grant.privileges.is_empty() {
            return Ok(all.to_owned());
        }
        let mut letters = String::new();
        for word in &grant.privileges {
            let invalid = |kind: &str| {
                let text = format!("invalid privilege type {} for {kind}", word.to_uppercase());
                PgError::new(SqlState::from_code("0LP01"), text)
            };
            match privilege_letter(word) {
                Some(letter) if all.contains(letter) => letters.push(letter),
                // A sequence can be named as a table: what it has no use for is left out.
                Some(letter) if "arwdDxt".contains(letter) && object.kind() == Kind::Sequence => {}
                Some(_) => return Err(invalid(object.kind().word())),
                None => {
                    let text = format!("unrecognized privilege type \"{word}\"");
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
                }
            }
        }
        Ok(letters)
    }

    fn change_privileges(
        &mut self,
        object: Object,
        roles: &[Oid],
        grant: &GrantStatement,
    ) -> Result<()> {
        let mut letters = Self::letters(&object, grant)?;
        let mut acl = object.acl();
        let mut grantor = object.owner();
        if !self.owns(grantor) {
            grantor = self.identity.user;
            let asked = letters.len();
            letters.retain(|l| has_grant_option(self.catalog(), grantor, &acl, l));
            let any = |l| listed(self.catalog(), grantor, &acl, l);
            if letters.is_empty() && !LETTERS.chars().any(any) {
                let text = format!("permission denied for {} {}", object.word(), object.name());
                return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
            }
            if letters.is_empty() || (letters.len() < asked && !grant.privileges.is_empty()) {
                self.notice(SqlState::from_code(state(grant)), shortfall(&letters, grant, &object));
            }
        }
        for role in roles {
            change_acl(&mut acl, *role, &letters, grantor, grant);
        }
        if acl.is_empty() {
            // Nobody has anything: not the same as the defaults.
            acl.push((object.owner(), String::new(), object.owner()));
        }
        if let Some(descriptor) = object.with_acl(acl) {
            self.overlay.put(descriptor);
        }
        Ok(())
    }
}

/// The state of the warning about privileges that couldn't be changed.
fn state(grant: &GrantStatement) -> &'static str {
    if grant.grant { "01007" } else { "01006" }
}

fn shortfall(letters: &str, grant: &GrantStatement, object: &Object) -> String {
    let part = if letters.is_empty() { "no" } else { "not all" };
    let done = if grant.grant { "were granted" } else { "could be revoked" };
    format!("{part} privileges {done} for \"{}\"", object.name())
}

/// A letter with a star stands for a privilege that may be granted on.
fn change_acl(acl: &mut Acl, role: Oid, letters: &str, grantor: Oid, grant: &GrantStatement) {
    let at = acl.iter().position(|(grantee, _, by)| *grantee == role && *by == grantor);
    let old = at.map_or_else(String::new, |at| acl[at].1.clone());
    let mut new = String::new();
    for letter in LETTERS.chars() {
        let mut has = old.contains(letter);
        let mut option = old.contains(&format!("{letter}*"));
        if letters.contains(letter) {
            match (grant.grant, grant.grant_option) {
                (true, with) => (has, option) = (true, option || with),
                (false, true) => option = false,
                (false, false) => (has, option) = (false, false),
            }
        }
        if has {
            new.push(letter);
        }
        if has && option {
            new.push('*');
        }
    }
    match at {
        Some(at) if new.is_empty() => {
            acl.remove(at);
        }
        Some(at) => acl[at].1 = new,
        None if new.is_empty() => {}
        None => acl.push((role, new, grantor)),
    }
}
