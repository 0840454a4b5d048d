//! What the planner is told: the nodes, the ranges in the order of their keys, and what is under way.

use std::fmt;

use meridian_base::{NodeId, RangeId, Span};
use smallvec::SmallVec;

use crate::api::Key;

/// A few nodes.
pub type Nodes = SmallVec<[NodeId; 3]>;

/// The cluster at one moment. Times are microseconds of the wall clock, as is `now` of
/// [`super::plan`].
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All nodes that have a row in the register.
    pub nodes: Vec<Node>,
    /// All ranges, by their start keys.
    pub ranges: Vec<Range>,
    /// Changes of members that have begun and not ended.
    pub running: Vec<Running>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Since when it is not heard of; `None` = it is.
    pub away_since: Option<u64>,
    /// It is to leave for good.
    pub leaving: bool,
    /// It is about to be restarted: it keeps its copies, and leads nothing.
    pub draining: bool,
    /// Where it is.
    pub locality: Locality,
    /// Bytes of its disk; 0 = not known, then all nodes count alike.
    pub capacity: u64,
    /// Bytes of its disk that are in use.
    pub used: u64,
    /// The cell that it was put into ([`super::cells`]); `None` = none yet.
    pub cell: Option<u32>,
}

/// Where a node is: tiers from the widest to the narrowest, `region=eu,zone=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locality(pub Vec<(String, String)>);

impl Locality {
    /// The tiers of a text; empty for an empty one.
    ///
    /// # Errors
    /// A sentence about the part that is no `key=value`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let tier = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(format!("a tier of a locality is written key=value, not \"{part}\"")),
        };
        parts.map(tier).collect::<Result<_, _>>().map(Self)
    }

    /// The value of a tier.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// How many tiers two nodes share, from the widest on.
    pub(super) fn common(&self, other: &Self) -> u8 {
        let same = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
        u8::try_from(same).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// A range.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Its id.
    pub id: RangeId,
    /// Its keys.
    pub span: Span,
    /// Who votes; of a change under way, those before it.
    pub voters: Nodes,
    /// Who gets the log only.
    pub learners: Nodes,
    /// Who leads; `None` = nobody at present.
    pub leaseholder: Option<NodeId>,
    /// Bytes of its rows.
    pub bytes: u64,
    /// Requests per second, smoothed ([`super::Meter::rate`]).
    pub load: u64,
    /// Keys of requests, if it is loaded ([`super::Meter::keys`]); in any order.
    pub keys: Vec<Key>,
    /// When it was last split off or split.
    pub split_at: Option<u64>,
    /// Its start was chosen by hand (`SPLIT AT`): it is not merged into its left neighbour.
    pub pinned: bool,
}

/// A change of members under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Of which range.
    pub range: RangeId,
    /// Who gets a copy.
    pub add: Nodes,
    /// Who gives it up.
    pub remove: Nodes,
}
