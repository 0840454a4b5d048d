//! Over which ranges a transaction's commit would go, for EXPLAIN.

use std::collections::BTreeSet;

use meridian_base::RangeId;
use meridian_kv::api::Span;

use super::Txn;

/// The ranges that a commit would be about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Those in which something is written.
    pub written: usize,
    /// Those in which something is only locked or, under SERIALIZABLE, read. Reads count as one.
    pub others: usize,
}

impl Txn {
    /// Where the commit would have to go if it came now. It looks at every write.
    pub fn spread(&self) -> Spread {
        let id = |key: &[u8]| self.core.range_of(key).id;
        let own = self.state.own_span(&Span::all());
        let written: BTreeSet<RangeId> = own.iter().map(|(key, _)| id(key)).collect();
        // A node that is alone loses no locks.
        let locked = if self.core.alone { Vec::new() } else { self.state.locked_only() };
        let mut others: BTreeSet<RangeId> = locked.iter().map(|locked| id(&locked.key)).collect();
        others.retain(|range| !written.contains(range));
        let reads = match (written.first(), self.state.reads()) {
            (Some(first), Some(reads)) if written.len() == 1 && others.is_empty() => {
                self.core.ranges.get(*first).is_some_and(|range| !reads.is_within(&range.span()))
            }
            _ => false,
        };
        Spread { written: written.len(), others: others.len() + usize::from(reads) }
    }
}
