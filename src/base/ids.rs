//! Identifiers that travel between layers. Each is a number in a type of its own, so that a range
//! cannot be passed where a node is meant.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A node of the cluster. Never used again after the node has left.
    NodeId,
    "n"
);
id!(
    /// A range, which is also the id of its raft group.
    RangeId,
    "r"
);
