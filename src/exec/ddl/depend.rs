//! Who depends on whom, found in the descriptors.

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_catalog::{ConstraintKind, Relation, TableDesc, ViewDesc};
use meridian_types::oid::Oid;
use meridian_types::{PgError, Result, SqlState};

use super::DdlContext;
use super::names::kind_word;

/// Something that goes when what it depends on goes.
#[derive(Clone, Debug)]
pub(crate) enum Dependent {
    /// A view.
    View(Arc<ViewDesc>),
    /// A foreign key of another table.
    ForeignKey(Arc<TableDesc>, String),
    /// A table, sequence or view in a schema that is dropped.
    Relation(Relation),
    /// The default of a column that takes values from a sequence.
    Default(Arc<TableDesc>, i16),
}

impl DdlContext<'_> {
    /// How PostgreSQL calls a relation in messages: with its schema when it isn't on the path.
    pub(crate) fn shown(&self, relation: &Relation) -> String {
        format!("{} {}", kind_word(relation), self.view().relation_name(relation))
    }

    fn shown_dependent(&self, dependent: &Dependent) -> String {
        let table = |t: &Arc<TableDesc>| self.shown(&Relation::Table(Arc::clone(t)));
        match dependent {
            Dependent::View(view) => self.shown(&Relation::View(Arc::clone(view))),
            Dependent::ForeignKey(owner, name) => format!("constraint {name} on {}", table(owner)),
            Dependent::Relation(relation) => self.shown(relation),
            Dependent::Default(owner, attnum) => {
                let column = owner.column(*attnum).map_or("", |c| c.name.as_str());
                format!("default value for column {column} of {}", table(owner))
            }
        }
    }

    /// Views that read a relation.
    pub(crate) fn views_on(&self, oid: Oid) -> Vec<Arc<ViewDesc>> {
        let reads = |r: &Relation| match r {
            Relation::View(view) if view.depends_on.contains(&oid) => Some(Arc::clone(view)),
            _ => None,
        };
        self.catalog().relations().filter_map(reads).collect()
    }

    /// What depends on a relation directly, apart from what belongs to it.
    fn dependents(&self, relation: &Relation) -> Vec<Dependent> {
        let mut out: Vec<Dependent> = Vec::new();
        if let Relation::Table(table) = relation {
            for other in self.catalog().referencing_tables(table.oid) {
                if other.oid == table.oid {
                    continue;
                }
                let keys = other.constraints.iter().filter(|c| {
                    matches!(c.kind, ConstraintKind::ForeignKey { ref_table, .. } if ref_table == table.oid)
                });
                out.extend(keys.map(|c| Dependent::ForeignKey(Arc::clone(other), c.name.clone())));
            }
        }
        if let Relation::Sequence(sequence) = relation {
            let text = super::create_table::next_value(sequence.oid);
            for other in self.catalog().relations() {
                let Relation::Table(table) = other else { continue };
                for column in &table.columns {
                    if !column.dropped && column.default.as_deref() == Some(text.as_str()) {
                        out.push(Dependent::Default(Arc::clone(table), column.attnum));
                    }
                }
            }
        }
        out.extend(self.views_on(relation.oid()).into_iter().map(Dependent::View));
        out
    }

    /// All that goes with these relations, in the order in which it is found; the relations
    /// themselves are left out.
    pub(crate) fn closure(&self, roots: &[Relation]) -> Vec<(Dependent, String)> {
        let mut seen: BTreeSet<Oid> = roots.iter().map(Relation::oid).collect();
        let mut keys: BTreeSet<(Oid, String)> = BTreeSet::new();
        let mut out = Vec::new();
        let mut todo: Vec<Relation> = roots.iter().rev().cloned().collect();
        while let Some(relation) = todo.pop() {
            for dependent in self.dependents(&relation) {
                let on = self.shown(&relation);
                match &dependent {
                    Dependent::View(view) => {
                        if !seen.insert(view.oid) {
                            continue;
                        }
                        todo.push(Relation::View(Arc::clone(view)));
                    }
                    Dependent::ForeignKey(table, name) => {
                        if seen.contains(&table.oid) || !keys.insert((table.oid, name.clone())) {
                            continue;
                        }
                    }
                    Dependent::Default(table, attnum) => {
                        let owned = relation_owner(&relation) == Some((table.oid, *attnum));
                        if seen.contains(&table.oid) || (owned && seen.contains(&table.oid)) {
                            continue;
                        }
                    }
                    Dependent::Relation(_) => {}
                }
                out.push((dependent, on));
            }
        }
        out
    }

    /// With RESTRICT, 2BP01 when something depends on what is dropped; with CASCADE a notice.
    pub(crate) fn settle(
        &mut self,
        what: &str,
        dependents: &[(Dependent, String)],
        cascade: bool,
    ) -> Result<()> {
        if dependents.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = dependents.iter().map(|(d, _)| self.shown_dependent(d)).collect();
        if !cascade {
            let lines: Vec<String> = names
                .iter()
                .zip(dependents)
                .map(|(name, (_, on))| format!("{name} depends on {on}"))
                .collect();
            let text = format!("cannot drop {what} because other objects depend on it");
            return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text)
                .detail(lines.join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let state = SqlState::from_code("00000");
        let notice = if let [one] = &names[..] {
            PgError::new(state, format!("drop cascades to {one}"))
        } else {
            let lines: Vec<String> =
                names.iter().map(|n| format!("drop cascades to {n}")).collect();
            let text = format!("drop cascades to {} other objects", names.len());
            PgError::new(state, text).detail(lines.join("\n"))
        };
        self.notices.push(notice);
        Ok(())
    }
}

fn relation_owner(relation: &Relation) -> Option<(Oid, i16)> {
    match relation {
        Relation::Sequence(s) => s.owned_by,
        _ => None,
    }
}
