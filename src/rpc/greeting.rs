//! The handshake: both sides say who they are, and either may refuse with a sentence.
//!
//! The dialing side greets first. What can be told from two greetings is decided here; what needs
//! knowledge of other connections (a node id in use twice) by [`crate::peers`].

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use meridian_base::NodeId;

use crate::NOBODY;

/// The protocol that a node speaks, and the oldest that it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Spoken.
    pub current: u32,
    /// Understood.
    pub oldest: u32,
}

impl Version {
    /// This version of Meridian's.
    pub const THIS: Self = Self { current: 1, oldest: 1 };
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
    /// 0 = not a member of a cluster yet.
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
    /// Larger at every start of the node.
    pub(crate) incarnation: u64,
    /// Microseconds since the Unix epoch, when the greeting was written.
    pub(crate) wall: u64,
    /// Where others reach the node.
    pub(crate) address: String,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.address.len());
        out.put_u32_le(self.version.current);
        out.put_u32_le(self.version.oldest);
        out.put_u128_le(self.cluster);
        out.put_u64_le(self.node.0);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.wall);
        out.put_slice(self.address.as_bytes());
        out
    }

    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        if body.len() < 48 {
            return None;
        }
        Some(Self {
            version: Version { current: body.get_u32_le(), oldest: body.get_u32_le() },
            cluster: body.get_u128_le(),
            node: NodeId(body.get_u64_le()),
            incarnation: body.get_u64_le(),
            wall: body.get_u64_le(),
            address: String::from_utf8(body.into()).ok()?,
        })
    }

    /// For messages: `n2 at 10.0.0.2:26257`.
    pub(crate) fn name(&self) -> String {
        let address = if self.address.is_empty() { "an unknown address" } else { &self.address };
        match self.node {
            NOBODY => format!("the new node at {address}"),
            node => format!("{node} at {address}"),
        }
    }
}

/// Whether two nodes may talk. `sent..=now` is when the other's greeting was written, by this
/// node's clock: a slow network makes the interval wide, and never a good clock bad.
pub(crate) fn check(
    mine: &Greeting,
    theirs: &Greeting,
    written: std::ops::RangeInclusive<u64>,
    max_offset: Duration,
) -> Result<(), String> {
    let (me, you) = (mine.name(), theirs.name());
    for (old, new, by) in [(theirs, mine, &me), (mine, theirs, &you)] {
        if old.version.current < new.version.oldest {
            return Err(format!(
                "{} speaks version {} of the protocol, which is too old for {by}: it needs {} or newer",
                old.name(),
                old.version.current,
                new.version.oldest,
            ));
        }
    }
    if mine.cluster != theirs.cluster && mine.node != NOBODY && theirs.node != NOBODY {
        return Err(format!(
            "{me} belongs to cluster {:032x}, {you} to cluster {:032x}",
            mine.cluster, theirs.cluster
        ));
    }
    let ahead = theirs.wall.saturating_sub(*written.end());
    let behind = written.start().saturating_sub(theirs.wall);
    let apart = Duration::from_micros(ahead.max(behind));
    if apart > max_offset {
        return Err(format!(
            "the clocks of {me} and {you} differ by {} ms, at most {} ms are allowed: synchronise \
             them, for instance by NTP",
            apart.as_millis(),
            max_offset.as_millis()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_compared() {
        let mine = Greeting {
            version: Version { current: 3, oldest: 2 },
            cluster: 7,
            node: NodeId(1),
            incarnation: 1,
            wall: 0,
            address: "a:1".to_owned(),
        };
        let good = Greeting { node: NodeId(2), wall: 10_000, ..mine.clone() };
        assert_eq!(Greeting::decode(good.encode().into()), Some(good.clone()));
        let verdict =
            |theirs: &Greeting| check(&mine, theirs, 9_500..=10_500, Duration::from_millis(1));
        verdict(&good).expect("fine");
        verdict(&Greeting { wall: 11_499, ..good.clone() }).expect("perhaps within the bound");
        let refused = |theirs: Greeting, by: &str| {
            let why = verdict(&theirs).expect_err("a difference that matters");
            assert!(why.contains(by), "{why}");
        };
        refused(Greeting { wall: 11_501, ..good.clone() }, "differ by 1 ms");
        refused(Greeting { wall: 8_499, ..good.clone() }, "clocks of n1 at a:1 and n2 at a:1");
        refused(
            Greeting { cluster: 8, ..good.clone() },
            "to cluster 00000000000000000000000000000008",
        );
        let nobody = Greeting { cluster: 0, node: NOBODY, ..good.clone() };
        verdict(&nobody).expect("who has no cluster may ask to join");
        let version =
            |current, oldest| Greeting { version: Version { current, oldest }, ..good.clone() };
        refused(version(1, 1), "n2 at a:1 speaks version 1");
        refused(version(5, 4), "n1 at a:1 speaks version 3");
        verdict(&version(4, 3)).expect("newer, and patient");
    }
}
