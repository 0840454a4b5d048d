//! The snapshot of all descriptors, and lookups in it.
//!
//! The maps are shared between snapshots and copied when first written, so that a clone is a
//! handful of reference counts. An edit is expressed as a [`Change`]; a transaction collects its
//! own in an [`crate::overlay::Overlay`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::oid::Oid;
use serde::{Deserialize, Serialize};

use crate::builtin;
use crate::desc::{
    ClusterDesc, ConstraintKind, DatabaseDesc, IndexDesc, Relation, RoleDesc, SchemaDesc,
    SequenceDesc, TableDesc, ViewDesc,
};

/// A descriptor of any class, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Descriptor {
    /// A database.
    Database(Arc<DatabaseDesc>),
    /// A schema.
    Schema(Arc<SchemaDesc>),
    /// A role.
    Role(Arc<RoleDesc>),
    /// A table.
    Table(Arc<TableDesc>),
    /// A sequence.
    Sequence(Arc<SequenceDesc>),
    /// A view.
    View(Arc<ViewDesc>),
    /// The cluster.
    Cluster(Arc<ClusterDesc>),
}

/// Names one descriptor: its class and oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DescriptorId {
    /// Class, as it stands in the key of the system table.
    pub class: u8,
    /// The object's oid.
    pub oid: Oid,
}

impl Descriptor {
    /// Class and oid.
    pub fn id(&self) -> DescriptorId {
        let (class, oid) = match self {
            Descriptor::Database(d) => (1, d.oid),
            Descriptor::Schema(d) => (2, d.oid),
            Descriptor::Role(d) => (3, d.oid),
            Descriptor::Table(d) => (4, d.oid),
            Descriptor::Sequence(d) => (5, d.oid),
            Descriptor::View(d) => (6, d.oid),
            // There is one.
            Descriptor::Cluster(_) => (7, 1),
        };
        DescriptorId { class, oid }
    }
}

/// A descriptor written, or removed when `None`.
pub type Change = (DescriptorId, Option<Descriptor>);

type Shared<K, V> = Arc<BTreeMap<K, V>>;

/// Versions are unique in the process, so that a plan made against one transaction's overlay is
/// never taken for one made against another's.
static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

/// An immutable snapshot of the catalog.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    version: u64,
    cluster: Arc<ClusterDesc>,
    databases: Shared<Oid, Arc<DatabaseDesc>>,
    schemas: Shared<Oid, Arc<SchemaDesc>>,
    roles: Shared<Oid, Arc<RoleDesc>>,
    relations: Shared<Oid, Relation>,
    names: Shared<Oid, BTreeMap<Arc<str>, Oid>>,
    row_types: Shared<Oid, Oid>,
    referenced_by: Shared<Oid, Vec<Oid>>,
}

impl Catalog {
    /// The catalog of a new cluster: the built-in databases, schemas and roles.
    pub fn initial() -> Catalog {
        let mut catalog = Catalog::default();
        for change in initial_changes() {
            catalog.apply(&change);
        }
        catalog
    }

    /// Different for every snapshot; prepared statements compare it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Are the same objects described in the same way in both?
    pub fn same_as(&self, other: &Catalog) -> bool {
        let same = |(one, two): (&Relation, &Relation)| match (one, two) {
            (Relation::Table(one), Relation::Table(two)) => one == two,
            (Relation::Sequence(one), Relation::Sequence(two)) => one == two,
            (Relation::View(one), Relation::View(two)) => one == two,
            (Relation::Index(one, id), Relation::Index(two, other)) => {
                (one.oid, id) == (two.oid, other)
            }
            _ => false,
        };
        self.databases == other.databases
            && self.schemas == other.schemas
            && self.roles == other.roles
            && self.relations.len() == other.relations.len()
            && self.relations.keys().eq(other.relations.keys())
            && self.relations.values().zip(other.relations.values()).all(same)
    }

    /// Makes one change. Names are taken to be free; DDL has checked that.
    pub fn apply(&mut self, (id, new): &Change) {
        self.version = NEXT_VERSION.fetch_add(1, Ordering::Relaxed);
        match id.class {
            1 => set(&mut self.databases, id.oid, new, |d| match d {
                Descriptor::Database(d) => Some(Arc::clone(d)),
                _ => None,
            }),
            2 => set(&mut self.schemas, id.oid, new, |d| match d {
                Descriptor::Schema(d) => Some(Arc::clone(d)),
                _ => None,
            }),
            3 => set(&mut self.roles, id.oid, new, |d| match d {
                Descriptor::Role(d) => Some(Arc::clone(d)),
                _ => None,
            }),
            7 => {
                self.cluster = match new {
                    Some(Descriptor::Cluster(cluster)) => Arc::clone(cluster),
                    _ => Arc::default(),
                }
            }
            _ => self.apply_relation(id.oid, new.as_ref()),
        }
    }

    fn apply_relation(&mut self, oid: Oid, new: Option<&Descriptor>) {
        if let Some(old) = self.relations.get(&oid).cloned() {
            self.unlink(&old);
        }
        match new {
            Some(Descriptor::Table(t)) => self.link(Relation::Table(Arc::clone(t))),
            Some(Descriptor::Sequence(s)) => self.link(Relation::Sequence(Arc::clone(s))),
            Some(Descriptor::View(v)) => self.link(Relation::View(Arc::clone(v))),
            _ => {}
        }
    }

    fn link(&mut self, relation: Relation) {
        let names = Arc::make_mut(&mut self.names).entry(relation.schema()).or_default();
        names.insert(Arc::from(relation.name()), relation.oid());
        if let Some(row_type) = relation.row_type() {
            Arc::make_mut(&mut self.row_types).insert(row_type, relation.oid());
        }
        let relations = Arc::make_mut(&mut self.relations);
        relations.insert(relation.oid(), relation.clone());
        let Relation::Table(table) = relation else { return };
        for index in table.indexes.iter().filter(|i| i.oid != 0) {
            names.insert(Arc::from(index.name.as_str()), index.oid);
            relations.insert(index.oid, Relation::Index(Arc::clone(&table), index.index_id));
        }
        for target in referenced_tables(&table) {
            let list = Arc::make_mut(&mut self.referenced_by).entry(target).or_default();
            if !list.contains(&table.oid) {
                list.push(table.oid);
            }
        }
    }

    fn unlink(&mut self, relation: &Relation) {
        let mut remove_name = |name: &str, oid: Oid| {
            let names = Arc::make_mut(&mut self.names).entry(relation.schema()).or_default();
            if names.get(name) == Some(&oid) {
                names.remove(name);
            }
        };
        remove_name(relation.name(), relation.oid());
        if let Relation::Table(table) = relation {
            for index in table.indexes.iter().filter(|i| i.oid != 0) {
                remove_name(&index.name, index.oid);
            }
        }
        let relations = Arc::make_mut(&mut self.relations);
        relations.remove(&relation.oid());
        if let Some(row_type) = relation.row_type() {
            Arc::make_mut(&mut self.row_types).remove(&row_type);
        }
        let Relation::Table(table) = relation else { return };
        for index in &table.indexes {
            relations.remove(&index.oid);
        }
        for target in referenced_tables(table) {
            if let Some(list) = Arc::make_mut(&mut self.referenced_by).get_mut(&target) {
                list.retain(|oid| *oid != table.oid);
            }
        }
    }

    // ---- cluster, databases, schemas, roles ----

    /// `ALTER SYSTEM SET (…)`
    pub fn options(&self) -> &[(String, String)] {
        &self.cluster.options
    }

    /// All databases by oid.
    pub fn databases(&self) -> impl Iterator<Item = &Arc<DatabaseDesc>> {
        self.databases.values()
    }

    /// The database with this oid.
    pub fn database(&self, oid: Oid) -> Option<&Arc<DatabaseDesc>> {
        self.databases.get(&oid)
    }

    /// The database of this name.
    pub fn database_by_name(&self, name: &str) -> Option<&Arc<DatabaseDesc>> {
        self.databases.values().find(|d| d.name == name)
    }

    /// All schemas that a database has, the shared ones included.
    pub fn schemas(&self, database: Oid) -> impl Iterator<Item = &Arc<SchemaDesc>> {
        self.schemas
            .values()
            .filter(move |s| s.database == database || s.database == builtin::EVERY_DATABASE)
    }

    /// The schema with this oid.
    pub fn schema(&self, oid: Oid) -> Option<&Arc<SchemaDesc>> {
        self.schemas.get(&oid)
    }

    /// The schema of this name in a database.
    pub fn schema_by_name(&self, database: Oid, name: &str) -> Option<&Arc<SchemaDesc>> {
        self.schemas(database).find(|s| s.name == name)
    }

    /// All roles by oid.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<RoleDesc>> {
        self.roles.values()
    }

    /// The role with this oid.
    pub fn role(&self, oid: Oid) -> Option<&Arc<RoleDesc>> {
        self.roles.get(&oid)
    }

    /// The role of this name.
    pub fn role_by_name(&self, name: &str) -> Option<&Arc<RoleDesc>> {
        self.roles.values().find(|r| r.name == name)
    }

    /// Whether `role` is `of` or is a member of it, directly or not; superusers are of all.
    pub fn is_member(&self, role: Oid, of: Oid) -> bool {
        let mut todo = vec![role];
        let mut seen = Vec::new();
        while let Some(next) = todo.pop() {
            if next == of {
                return true;
            }
            if seen.contains(&next) {
                continue;
            }
            seen.push(next);
            if let Some(desc) = self.role(next) {
                if desc.superuser && next == role {
                    return true;
                }
                todo.extend(&desc.member_of);
            }
        }
        false
    }

    /// Whether a role may give membership of `of` away: superusers may, and who has it, directly or
    /// not, WITH ADMIN OPTION.
    pub fn is_admin(&self, role: Oid, of: Oid) -> bool {
        self.role(role).is_some_and(|r| r.superuser)
            || self.roles.values().any(|holder| {
                holder.membership(of).is_some_and(|m| m.admin) && self.is_member(role, holder.oid)
            })
    }

    // ---- relations ----

    /// The relation with this `pg_class` oid, system relations and indexes included.
    pub fn relation(&self, oid: Oid) -> Option<Relation> {
        self.relations.get(&oid).cloned().or_else(|| {
            let system = builtin::system_relation_by_oid(oid)?;
            Some(Relation::Virtual(Arc::clone(&system.desc)))
        })
    }

    /// The table with this oid.
    pub fn table(&self, oid: Oid) -> Option<&Arc<TableDesc>> {
        match self.relations.get(&oid) {
            Some(Relation::Table(t)) => Some(t),
            _ => None,
        }
    }

    /// The sequence with this oid.
    pub fn sequence(&self, oid: Oid) -> Option<&Arc<SequenceDesc>> {
        match self.relations.get(&oid) {
            Some(Relation::Sequence(s)) => Some(s),
            _ => None,
        }
    }

    /// The relation of this name in a schema.
    pub fn relation_in(&self, schema: Oid, name: &str) -> Option<Relation> {
        if let Some(oid) = self.names.get(&schema).and_then(|names| names.get(name)) {
            return self.relations.get(oid).cloned();
        }
        let system = builtin::system_relation(schema, name)?;
        Some(Relation::Virtual(Arc::clone(&system.desc)))
    }

    /// The relation whose row type this is.
    pub fn relation_of_row_type(&self, row_type: Oid) -> Option<Relation> {
        if let Some(oid) = self.row_types.get(&row_type) {
            return self.relation(*oid);
        }
        let system = builtin::system_relation_by_row_type(row_type)?;
        Some(Relation::Virtual(Arc::clone(&system.desc)))
    }

    /// All relations made by users, by oid: tables, indexes, sequences, views.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// Relations of one schema by name, indexes included.
    pub fn relations_in(&self, schema: Oid) -> impl Iterator<Item = &Relation> {
        let names = self.names.get(&schema);
        names.into_iter().flat_map(|n| n.values()).filter_map(|oid| self.relations.get(oid))
    }

    /// Tables with a foreign key to this one (itself included when it refers to itself).
    pub fn referencing_tables(&self, table: Oid) -> impl Iterator<Item = &Arc<TableDesc>> {
        let list = self.referenced_by.get(&table);
        list.into_iter().flatten().filter_map(|oid| self.table(*oid))
    }
}

fn set<T>(
    map: &mut Shared<Oid, Arc<T>>,
    oid: Oid,
    new: &Option<Descriptor>,
    pick: impl Fn(&Descriptor) -> Option<Arc<T>>,
) {
    let map = Arc::make_mut(map);
    match new.as_ref().and_then(pick) {
        Some(desc) => map.insert(oid, desc),
        None => map.remove(&oid),
    };
}

fn referenced_tables(table: &TableDesc) -> impl Iterator<Item = Oid> {
    table.constraints.iter().filter_map(|c| match c.kind {
        ConstraintKind::ForeignKey { ref_table, .. } => Some(ref_table),
        _ => None,
    })
}

/// The descriptors of a new cluster, as changes to an empty catalog.
pub fn initial_changes() -> Vec<Change> {
    let databases = builtin::databases().into_iter().map(|d| Descriptor::Database(Arc::new(d)));
    let schemas = builtin::schemas().into_iter().map(|d| Descriptor::Schema(Arc::new(d)));
    let roles = builtin::roles().into_iter().map(|d| Descriptor::Role(Arc::new(d)));
    databases.chain(schemas).chain(roles).map(|d| (d.id(), Some(d))).collect()
}

impl Relation {
    /// `pg_class` oid.
    pub fn oid(&self) -> Oid {
        match self {
            Relation::Table(t) => t.oid,
            Relation::Sequence(s) => s.oid,
            Relation::View(v) => v.oid,
            Relation::Virtual(v) => v.oid,
            Relation::Index(..) => self.index().map_or(0, |i| i.oid),
        }
    }

    /// Schema it belongs to.
    pub fn schema(&self) -> Oid {
        match self {
            Relation::Table(t) | Relation::Index(t, _) => t.schema,
            Relation::Sequence(s) => s.schema,
            Relation::View(v) => v.schema,
            Relation::Virtual(v) => v.schema,
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(t) => &t.name,
            Relation::Sequence(s) => &s.name,
            Relation::View(v) => &v.name,
            Relation::Virtual(v) => v.name,
            Relation::Index(..) => self.index().map_or("", |i| &i.name),
        }
    }

    /// Owning role.
    pub fn acl(&self) -> &[(Oid, String, Oid)] {
        match self {
            Relation::Table(t) | Relation::Index(t, _) => &t.acl,
            Relation::Sequence(s) => &s.acl,
            Relation::View(v) => &v.acl,
            Relation::Virtual(_) => &[],
        }
    }

    /// The owning role.
    pub fn owner(&self) -> Oid {
        match self {
            Relation::Table(t) | Relation::Index(t, _) => t.owner,
            Relation::Sequence(s) => s.owner,
            Relation::View(v) => v.owner,
            Relation::Virtual(_) => builtin::BOOTSTRAP_ROLE,
        }
    }

    /// Row of `pg_type` that describes its rows.
    pub fn row_type(&self) -> Option<Oid> {
        match self {
            Relation::Table(t) => Some(t.row_type),
            Relation::View(v) => Some(v.row_type),
            Relation::Virtual(v) => Some(v.row_type),
            Relation::Sequence(_) | Relation::Index(..) => None,
        }
    }

    /// `pg_class.relkind`.
    pub fn kind(&self) -> u8 {
        match self {
            Relation::Table(_) => b'r',
            Relation::Sequence(_) => b'S',
            Relation::View(_) => b'v',
            Relation::Index(..) => b'i',
            Relation::Virtual(v) => {
                builtin::system_relation_by_oid(v.oid).map_or(b'v', |system| system.kind)
            }
        }
    }

    /// The index, when it is one.
    pub fn index(&self) -> Option<&IndexDesc> {
        match self {
            Relation::Index(table, id) => table.index(*id),
            _ => None,
        }
    }
}

/// Distance from a row type to its array type: a relation's three oids are given together, in
/// PostgreSQL's order (relation, array type, row type).
pub fn array_of_row_type(row_type: Oid) -> Oid {
    row_type - 1
}

impl TableDesc {
    /// Is this the index of a DEFERRABLE constraint?
    pub fn is_deferrable(&self, index_id: u16) -> bool {
        self.constraints.iter().any(|c| {
            c.deferrable
                && matches!(c.kind, ConstraintKind::PrimaryKey { index_id: id }
                    | ConstraintKind::Unique { index_id: id } if id == index_id)
        })
    }

    /// The index with this id.
    pub fn index(&self, index_id: u16) -> Option<&IndexDesc> {
        self.indexes.iter().find(|i| i.index_id == index_id)
    }

    /// The primary index.
    pub fn primary(&self) -> &IndexDesc {
        &self.indexes[0]
    }

    /// The column with this attnum, dropped ones included.
    pub fn column(&self, attnum: i16) -> Option<&crate::desc::ColumnDesc> {
        self.columns.get(usize::try_from(attnum).ok()?.checked_sub(1)?)
    }

    /// The visible column of this name.
    pub fn column_by_name(&self, name: &str) -> Option<&crate::desc::ColumnDesc> {
        self.visible_columns().find(|c| c.name == name)
    }

    /// Columns that `*` gives.
    pub fn visible_columns(&self) -> impl Iterator<Item = &crate::desc::ColumnDesc> {
        self.columns.iter().filter(|c| !c.dropped && !c.hidden)
    }

    /// The constraint of this name.
    pub fn constraint(&self, name: &str) -> Option<&crate::desc::ConstraintDesc> {
        self.constraints.iter().find(|c| c.name == name)
    }
}
