//! A transaction's own view of the catalog: a snapshot with the transaction's changes on top.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::{Catalog, Change, Descriptor, DescriptorId};

/// A snapshot and the changes that a transaction has made to it. A clone is cheap, so that a
/// savepoint can keep one.
#[derive(Clone, Debug)]
pub struct Overlay {
    base: u64,
    catalog: Arc<Catalog>,
    changes: Arc<BTreeMap<DescriptorId, Option<Descriptor>>>,
}

impl Overlay {
    /// No changes yet.
    pub fn new(base: Arc<Catalog>) -> Overlay {
        Overlay { base: base.version(), catalog: base, changes: Arc::default() }
    }

    /// The catalog as the transaction sees it.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts the changes on top of a newer snapshot.
    pub fn rebase(&mut self, base: &Arc<Catalog>) {
        if base.version() == self.base {
            return;
        }
        self.base = base.version();
        if self.changes.is_empty() {
            self.catalog = Arc::clone(base);
            return;
        }
        let mut catalog = Catalog::clone(base);
        for (id, new) in self.changes.iter() {
            catalog.apply(&(*id, new.clone()));
        }
        self.catalog = Arc::new(catalog);
    }

    /// Writes a descriptor.
    pub fn put(&mut self, descriptor: Descriptor) {
        self.change((descriptor.id(), Some(descriptor)));
    }

    /// Removes a descriptor.
    pub fn remove(&mut self, id: DescriptorId) {
        self.change((id, None));
    }

    fn change(&mut self, change: Change) {
        Arc::make_mut(&mut self.catalog).apply(&change);
        Arc::make_mut(&mut self.changes).insert(change.0, change.1);
    }

    /// The changes, one per descriptor.
    pub fn changes(&self) -> impl Iterator<Item = (&DescriptorId, &Option<Descriptor>)> {
        self.changes.iter()
    }
}

impl Catalog {
    /// This snapshot with the changes of a transaction that has committed.
    pub fn with_changes(&self, overlay: &Overlay) -> Catalog {
        let mut next = self.clone();
        for (id, new) in overlay.changes.iter() {
            next.apply(&(*id, new.clone()));
        }
        next
    }
}
