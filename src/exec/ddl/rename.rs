//! RENAME, SET SCHEMA, OWNER TO.

use meridian_catalog::{
    ConstraintKind, Descriptor, Relation, SchemaDesc, SequenceDesc, TableDesc, ViewDesc,
};
use meridian_cluster::TableLockMode;
use meridian_sql::ddl::{Name, ObjectKind};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use super::names::{undefined_column, undefined_schema};

fn alter_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Index => "ALTER INDEX",
        ObjectKind::Sequence => "ALTER SEQUENCE",
        ObjectKind::View => "ALTER VIEW",
        ObjectKind::Schema => "ALTER SCHEMA",
        ObjectKind::Database => "ALTER DATABASE",
        ObjectKind::Role => "ALTER ROLE",
        _ => "ALTER TABLE",
    }
}

impl DdlContext<'_> {
    /// Puts a relation back after a change to its name, schema or owner.
    pub(super) fn change_relation(
        &mut self,
        relation: &Relation,
        table: impl FnOnce(&mut TableDesc),
        sequence: impl FnOnce(&mut SequenceDesc),
        view: impl FnOnce(&mut ViewDesc),
    ) {
        match relation {
            Relation::Table(desc) => {
                let mut desc = TableDesc::clone(desc);
                table(&mut desc);
                self.put_table(desc);
            }
            Relation::Sequence(desc) => {
                let mut desc = SequenceDesc::clone(desc);
                sequence(&mut desc);
                self.overlay.put(Descriptor::Sequence(desc.into()));
            }
            Relation::View(desc) => {
                let mut desc = ViewDesc::clone(desc);
                view(&mut desc);
                self.overlay.put(Descriptor::View(desc.into()));
            }
            Relation::Index(..) | Relation::Virtual(_) => {}
        }
    }

    fn check_kind(&self, kind: ObjectKind, relation: &Relation) -> Result<()> {
        let word = super::names::kind_word(relation);
        // ALTER TABLE may be said of any of them.
        if kind == ObjectKind::Table || kind.word() == word {
            return Ok(());
        }
        let article = if kind == ObjectKind::Index { "an" } else { "a" };
        let text = format!("\"{}\" is not {article} {}", relation.name(), kind.word());
        Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text))
    }

    pub(super) async fn rename(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
        to: &str,
    ) -> Result<&'static str> {
        let tag = alter_tag(kind);
        match kind {
            ObjectKind::Database => self.rename_database(&name.name, to)?,
            ObjectKind::Role => self.rename_role(&name.name, to)?,
            ObjectKind::Schema => self.rename_schema(&name.name, to).await?,
            _ => {
                let mode = TableLockMode::AccessExclusive;
                let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
                    return Ok(tag);
                };
                self.check_kind(kind, &relation)?;
                self.claim_name(relation.schema(), to, false).await?;
                self.rename_relation(&relation, to)?;
            }
        }
        Ok(tag)
    }

    fn rename_relation(&mut self, relation: &Relation, to: &str) -> Result<()> {
        if let Relation::Index(table, index_id) = relation {
            let mut table = TableDesc::clone(&*self.table_now(table.oid)?);
            let old = relation.name().to_owned();
            if let Some(index) = table.indexes.iter_mut().find(|i| i.index_id == *index_id) {
                to.clone_into(&mut index.name);
            }
            // The constraint that the index stands for has its name.
            if let Some(constraint) = table.constraints.iter_mut().find(|c| c.name == old) {
                to.clone_into(&mut constraint.name);
            }
            self.put_table(table);
            return Ok(());
        }
        self.change_relation(
            relation,
            |t| to.clone_into(&mut t.name),
            |s| to.clone_into(&mut s.name),
            |v| to.clone_into(&mut v.name),
        );
        self.rename_in_views(relation, to)
    }

    /// Texts of views name relations: they follow.
    fn rename_in_views(&mut self, relation: &Relation, to: &str) -> Result<()> {
        let schema = self.schema_of(relation.schema())?;
        let (old, new) = (qualified(&schema.name, relation.name()), qualified(&schema.name, to));
        self.replace_in_views(relation.oid(), &old, &new);
        Ok(())
    }

    fn replace_in_views(&mut self, relation: Oid, old: &str, new: &str) {
        for view in self.views_on(relation) {
            let mut view = ViewDesc::clone(&view);
            view.query = view.query.replace(old, new);
            self.overlay.put(Descriptor::View(view.into()));
        }
    }

    async fn rename_schema(&mut self, name: &str, to: &str) -> Result<()> {
        let database = self.identity.database;
        let found = self.catalog().schema_by_name(database, name).cloned();
        let old = found.ok_or_else(|| undefined_schema(name))?;
        if !self.owns(old.owner) {
            let text = format!("must be owner of schema {name}");
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        self.lock_name(database, to).await?;
        if self.catalog().schema_by_name(database, to).is_some() {
            let text = format!("schema \"{to}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_SCHEMA, text));
        }
        if to.starts_with("pg_") {
            let text = format!("unacceptable schema name \"{to}\"");
            return Err(PgError::new(SqlState::RESERVED_NAME, text)
                .detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        let inside: Vec<Relation> = self.catalog().relations_in(old.oid).cloned().collect();
        for relation in inside {
            let (was, is) = (qualified(name, relation.name()), qualified(to, relation.name()));
            self.replace_in_views(relation.oid(), &was, &is);
        }
        let new = SchemaDesc { name: to.to_owned(), ..SchemaDesc::clone(&old) };
        self.overlay.put(Descriptor::Schema(new.into()));
        Ok(())
    }

    pub(super) async fn rename_column(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
        column: &str,
        to: &str,
    ) -> Result<&'static str> {
        let tag = alter_tag(kind);
        let mode = TableLockMode::AccessExclusive;
        let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
            return Ok(tag);
        };
        match relation {
            Relation::Table(table) => {
                let mut table = TableDesc::clone(&table);
                let missing = || {
                    let text = format!("column \"{column}\" does not exist");
                    PgError::new(SqlState::UNDEFINED_COLUMN, text)
                };
                let attnum = table.column_by_name(column).map(|c| c.attnum).ok_or_else(missing)?;
                column_is_free(&table, to)?;
                if !self.views_on(table.oid).is_empty() {
                    return Err(PgError::unsupported(
                        "renaming a column of a table that a view reads is not supported yet",
                    ));
                }
                let at = usize::try_from(attnum - 1).unwrap_or(0);
                to.clone_into(&mut table.columns[at].name);
                rename_in_expressions(&mut table, column, to);
                self.put_table(table);
            }
            Relation::View(view) => {
                let mut view = ViewDesc::clone(&view);
                let found = view.columns.iter_mut().find(|(n, _)| n == column);
                let (old, _) = found.ok_or_else(|| undefined_column(&name.name, column))?;
                to.clone_into(old);
                self.overlay.put(Descriptor::View(view.into()));
            }
            _ => {
                let text = format!("cannot rename columns of relation \"{}\"", name.name);
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
            }
        }
        Ok(tag)
    }

    pub(super) async fn rename_constraint(
        &mut self,
        name: &Name,
        if_exists: bool,
        constraint: &str,
        to: &str,
    ) -> Result<&'static str> {
        let mode = TableLockMode::AccessExclusive;
        let Some(table) = self.locked_table(name, if_exists, mode).await? else {
            return Ok("ALTER TABLE");
        };
        let mut table = TableDesc::clone(&table);
        let Some(at) = table.constraints.iter().position(|c| c.name == constraint) else {
            let text =
                format!("constraint \"{constraint}\" for table \"{}\" does not exist", table.name);
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, text));
        };
        if table.constraint(to).is_some() {
            let text =
                format!("constraint \"{to}\" for relation \"{}\" already exists", table.name);
            return Err(PgError::new(SqlState::DUPLICATE_OBJECT, text));
        }
        let index = match table.constraints[at].kind {
            ConstraintKind::PrimaryKey { index_id } | ConstraintKind::Unique { index_id } => {
                Some(index_id)
            }
            _ => None,
        };
        if let Some(index_id) = index {
            self.claim_name(table.schema, to, false).await?;
            if let Some(index) = table.indexes.iter_mut().find(|i| i.index_id == index_id) {
                to.clone_into(&mut index.name);
            }
        }
        to.clone_into(&mut table.constraints[at].name);
        self.put_table(table);
        Ok("ALTER TABLE")
    }

    pub(super) async fn set_schema(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
        schema: &str,
    ) -> Result<&'static str> {
        let tag = alter_tag(kind);
        let mode = TableLockMode::AccessExclusive;
        let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
            return Ok(tag);
        };
        self.check_kind(kind, &relation)?;
        let view = self.view();
        let target = view
            .catalog
            .named_schema(&view.path, schema)
            .ok_or_else(|| undefined_schema(schema))?;
        self.may_create_in(target)?;
        if target == relation.schema() {
            return Ok(tag);
        }
        self.lock_name(target, relation.name()).await?;
        if self.catalog().relation_in(target, relation.name()).is_some() {
            let text =
                format!("relation \"{}\" already exists in schema \"{schema}\"", relation.name());
            return Err(PgError::new(SqlState::DUPLICATE_TABLE, text));
        }
        let old_schema = self.schema_of(relation.schema())?;
        let (old, new) =
            (qualified(&old_schema.name, relation.name()), qualified(schema, relation.name()));
        let mut moved = vec![relation.clone()];
        if let Relation::Table(table) = &relation {
            let owned = |r: &&Relation| {
                matches!(r, Relation::Sequence(s)
                if s.owned_by.is_some_and(|(t, _)| t == table.oid))
            };
            moved.extend(self.catalog().relations().filter(owned).cloned());
        }
        for relation in moved {
            self.change_relation(
                &relation,
                |t| t.schema = target,
                |s| s.schema = target,
                |v| v.schema = target,
            );
        }
        self.replace_in_views(relation.oid(), &old, &new);
        Ok(tag)
    }

    pub(super) async fn set_owner(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
        owner: &str,
    ) -> Result<&'static str> {
        let tag = alter_tag(kind);
        let role = self.role_oid(owner)?;
        if !self.catalog().is_member(self.identity.user, role) {
            let text = format!("must be member of role \"{owner}\"");
            return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
        }
        match kind {
            ObjectKind::Database => self.own_database(&name.name, owner)?,
            ObjectKind::Schema => {
                let database = self.identity.database;
                let found = self.catalog().schema_by_name(database, &name.name).cloned();
                let old = found.ok_or_else(|| undefined_schema(&name.name))?;
                if !self.owns(old.owner) {
                    let text = format!("must be owner of schema {}", name.name);
                    return Err(PgError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
                }
                let new = SchemaDesc { owner: role, ..SchemaDesc::clone(&old) };
                self.overlay.put(Descriptor::Schema(new.into()));
            }
            _ => {
                let mode = TableLockMode::AccessExclusive;
                let Some(relation) = self.locked_relation(name, if_exists, mode).await? else {
                    return Ok(tag);
                };
                self.check_kind(kind, &relation)?;
                self.own_relation(&relation, role);
            }
        }
        Ok(tag)
    }

    /// Gives a relation to a role, with the sequences that belong to it.
    pub(crate) fn own_relation(&mut self, relation: &Relation, role: Oid) {
        let mut changed = vec![relation.clone()];
        if let Relation::Table(table) = relation {
            let owned = |r: &&Relation| {
                matches!(r, Relation::Sequence(s)
                if s.owned_by.is_some_and(|(t, _)| t == table.oid))
            };
            changed.extend(self.catalog().relations().filter(owned).cloned());
        }
        for relation in changed {
            self.change_relation(
                &relation,
                |t| t.owner = role,
                |s| s.owner = role,
                |v| v.owner = role,
            );
        }
    }
}

fn qualified(schema: &str, name: &str) -> String {
    let quote = crate::catalog_store::quote_ident;
    format!("{}.{}", quote(schema), quote(name))
}

/// 42701 when a table has a column of this name.
pub(crate) fn column_is_free(table: &TableDesc, name: &str) -> Result<()> {
    if table.column_by_name(name).is_none() {
        return Ok(());
    }
    let text = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
    Err(PgError::new(SqlState::DUPLICATE_COLUMN, text))
}

/// Replaces a column's name in the texts of checks, generated columns and indexes: whole
/// identifiers outside of literals, and not the names of functions.
fn rename_in_expressions(table: &mut TableDesc, column: &str, to: &str) {
    let new = crate::catalog_store::quote_ident(to);
    let fix = |text: &mut String| *text = rename_identifier(text, column, &new);
    for column in table.columns.iter_mut().filter(|c| c.generated) {
        column.default.iter_mut().for_each(fix);
    }
    for constraint in &mut table.constraints {
        if let ConstraintKind::Check { expr, .. } = &mut constraint.kind {
            fix(expr);
        }
    }
    for index in &mut table.indexes {
        index.predicate.iter_mut().for_each(fix);
        index.columns.iter_mut().filter_map(|c| c.expr.as_mut()).for_each(fix);
    }
}

fn rename_identifier(text: &str, old: &str, new: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    while at < chars.len() {
        let c = chars[at];
        let start = at;
        if c == '\'' || c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != c {
                at += 1;
            }
            at = (at + 1).min(chars.len());
            let piece: String = chars[start..at].iter().collect();
            let quoted = c == '"' && piece.trim_matches('"') == old;
            out.push_str(if quoted { new } else { &piece });
        } else if word(c) && !c.is_numeric() {
            while at < chars.len() && word(chars[at]) {
                at += 1;
            }
            let piece: String = chars[start..at].iter().collect();
            let next = chars[at..].iter().find(|c| !c.is_whitespace());
            let matches = piece.to_lowercase() == old && next != Some(&'(');
            out.push_str(if matches { new } else { &piece });
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::rename_identifier;

    #[test]
    fn a_renamed_column_is_renamed_in_expressions() {
        let text = "lower(A) = 'a' AND \"a\" > ab AND a(1) IS NULL";
        let want = "lower(b) = 'a' AND b > ab AND a(1) IS NULL";
        assert_eq!(rename_identifier(text, "a", "b"), want);
    }
}
