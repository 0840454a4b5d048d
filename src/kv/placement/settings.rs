//! What an operator may choose: thresholds of the planner, and zones of keys with their own number of
//! copies and places.
//!
//! ```sql
//! ALTER DATABASE shop SET (replication_factor = 3);
//! ALTER TABLE orders SET (replication_factor = 5, placement = '+region=eu, -disk=hdd');
//! ```
//! The form is PostgreSQL's own for storage parameters of a table (`pg_class.reloptions`), so that
//! drivers and dumps take it; of a database it is the same list. The values are kept as text in the
//! descriptor; a table's value goes before its database's, a database's before the cluster's. The shell
//! makes [`Settings::zones`] of the catalog: a zone where a table's prefix begins, and one where the
//! keys behind it begin, if those differ.

use std::collections::BTreeMap;
use std::fmt;

use super::view::{Locality, Node};
use crate::api::Key;

/// Most copies of a range.
pub const REPLICAS_MAX: usize = 7;

/// Where copies may be: required and prohibited tiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement(pub Vec<Rule>);

/// One rule of a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Required (`+`) or prohibited (`-`).
    pub required: bool,
    /// The tier.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Placement {
    /// The rules of a text: `+region=eu, -disk=hdd`. Several required values of one tier mean any of
    /// them; a rule without a sign is required.
    ///
    /// # Errors
    /// A sentence about the part that is no rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let rule = |part: &str| {
            let required = !part.starts_with('-');
            let tier = part.trim_start_matches(['+', '-']);
            let tier = Locality::parse(tier).map_err(|_| {
                format!("a rule of a placement is written +key=value or -key=value, not \"{part}\"")
            })?;
            match tier.0.into_iter().next() {
                Some((key, value)) => Ok(Rule { required, key, value }),
                None => Err(format!("\"{part}\" names no tier")),
            }
        };
        parts.map(rule).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a copy may be on a node.
    pub fn allows(&self, node: &Node) -> bool {
        let has = |rule: &Rule| node.locality.get(&rule.key) == Some(rule.value.as_str());
        let alternatives = |rule: &Rule| {
            self.0.iter().any(|other| other.required && other.key == rule.key && has(other))
        };
        self.0.iter().all(|rule| if rule.required { alternatives(rule) } else { !has(rule) })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let sign = if rule.required { '+' } else { '-' };
            write!(f, "{comma}{sign}{}={}", rule.key, rule.value)?;
        }
        Ok(())
    }
}

/// What holds for some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Copies of each range.
    pub replicas: usize,
    /// Where they may be. Where no node satisfies it, it is left alone: data go before wishes.
    pub placement: Placement,
}

impl Default for Zone {
    fn default() -> Self {
        Self { replicas: 3, placement: Placement::default() }
    }
}

impl Zone {
    /// A zone of storage parameters, on top of what is inherited.
    ///
    /// # Errors
    /// A sentence about the value that is none.
    pub fn with(
        &self,
        replication_factor: Option<&str>,
        placement: Option<&str>,
    ) -> Result<Self, String> {
        let mut zone = self.clone();
        if let Some(text) = replication_factor {
            let count = text.trim().parse().ok().filter(|n| (1..=REPLICAS_MAX).contains(n));
            zone.replicas = count.ok_or_else(|| {
                format!("replication_factor must be between 1 and {REPLICAS_MAX}, not \"{text}\"")
            })?;
        }
        if let Some(text) = placement {
            zone.placement = Placement::parse(text)?;
        }
        Ok(zone)
    }
}

/// What the planner goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The zone of all keys before the first of `zones`.
    pub default_zone: Zone,
    /// From a key on, until the next of these keys. A range never lies in two of them for long.
    pub zones: BTreeMap<Key, Zone>,
    /// A node that is away longer than this (µs) has its copies replaced. Less, and a restart of a
    /// machine moves its data; more, and a second failure finds two copies.
    pub replace_after: u64,
    /// A range that is larger is split.
    pub range_bytes_max: u64,
    /// A range with more requests per second is split, if there is another node to go to: more than two cores
    /// serve. Less, and transactions that one range would have served have to do with several.
    pub split_load: u64,
    /// Neither half of a split is merged again for so long (µs).
    pub merge_after: u64,
    /// Nothing is moved for less than this part of what is even, in thousandths. Half of it moves
    /// copies for the noise of the figures, twice of it leaves nodes a fifth apart.
    pub hysteresis: u64,
    /// Copies that a node receives, and sends, at a time.
    pub snapshots_max: u32,
    /// Leases that a node gives up for balance in one plan.
    pub lease_moves_max: u32,
    /// Nodes of a cell ([`super::cells`]). Half of them halves the heartbeats of large clusters, and the
    /// nodes that take over from a dead one. Where nobody keeps cells between plans, they must be off:
    /// `usize::MAX`.
    pub cell_max: usize,
    /// A node whose disk is fuller than this, in thousandths, gets no copy.
    pub full: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_zone: Zone::default(),
            zones: BTreeMap::new(),
            replace_after: 300 * 1_000_000,
            range_bytes_max: 512 << 20,
            split_load: 100_000,
            merge_after: 600 * 1_000_000,
            hysteresis: 50,
            snapshots_max: 2,
            lease_moves_max: 8,
            cell_max: super::cells::CELL_MAX,
            full: 920,
        }
    }
}
