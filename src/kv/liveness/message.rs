//! What nodes tell each other about support, and what they keep on disk; with their bytes.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use meridian_base::{NodeId, Timestamp};

/// How a node sees another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The present epoch.
    pub epoch: u64,
    /// Whether it is supported in it.
    pub supported: bool,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Support me", and how the sender sees the others.
    Heartbeat {
        /// The epoch to be supported.
        epoch: u64,
        /// Until when; `MIN` = the sender doesn't ask.
        until: Timestamp,
        /// The sender's monotonic time, for the answer.
        sent: u64,
        /// Everybody that the sender has ever supported.
        views: Vec<(NodeId, View)>,
    },
    /// "I do", or what is in the way: a later epoch.
    Ack {
        /// The epoch that is supported.
        epoch: u64,
        /// Until when; `MIN` = not yet.
        until: Timestamp,
        /// `sent` of the heartbeat; 0 = nobody asked.
        echo: u64,
    },
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persisted {
    /// How often the node has been started.
    pub incarnation: u64,
    /// Nothing is promised beyond it.
    pub promise_bound: Timestamp,
    /// The present epoch of every node that was ever supported.
    pub epochs: BTreeMap<NodeId, u64>,
}

impl Message {
    /// The bytes of a message.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Heartbeat { epoch, until, sent, views } => {
                out.put_u8(1);
                for n in [*epoch, until.0, *sent] {
                    out.put_u64_le(n);
                }
                for (node, view) in views {
                    out.put_u64_le(node.0);
                    out.put_u64_le(view.epoch);
                    out.put_u8(u8::from(view.supported));
                }
            }
            Self::Ack { epoch, until, echo } => {
                out.put_u8(2);
                for n in [*epoch, until.0, *echo] {
                    out.put_u64_le(n);
                }
            }
        }
        out.into()
    }

    /// The message of these bytes; `None` if they are none.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let epoch = bytes.try_get_u64_le().ok()?;
        let until = Timestamp(bytes.try_get_u64_le().ok()?);
        let time = bytes.try_get_u64_le().ok()?;
        if kind == 2 {
            return Some(Self::Ack { epoch, until, echo: time });
        }
        let mut views = Vec::with_capacity(bytes.len() / 17);
        while !bytes.is_empty() {
            let node = NodeId(bytes.try_get_u64_le().ok()?);
            let epoch = bytes.try_get_u64_le().ok()?;
            let supported = bytes.try_get_u8().ok()? != 0;
            views.push((node, View { epoch, supported }));
        }
        (kind == 1).then_some(Self::Heartbeat { epoch, until, sent: time, views })
    }
}

impl Persisted {
    /// The bytes for the disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.epochs.len() * 16);
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.promise_bound.0);
        for (node, epoch) in &self.epochs {
            out.put_u64_le(node.0);
            out.put_u64_le(*epoch);
        }
        out
    }

    /// What these bytes say; `None` if they are damaged.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let incarnation = bytes.try_get_u64_le().ok()?;
        let promise_bound = Timestamp(bytes.try_get_u64_le().ok()?);
        let mut epochs = BTreeMap::new();
        while !bytes.is_empty() {
            let node = NodeId(bytes.try_get_u64_le().ok()?);
            epochs.insert(node, bytes.try_get_u64_le().ok()?);
        }
        Some(Self { incarnation, promise_bound, epochs })
    }
}
