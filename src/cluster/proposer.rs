//! The seam between the commit batcher and whatever keeps the log.

use std::sync::Arc;

use futures::future::BoxFuture;
use meridian_kv::api::{Bytes, KvError};

use crate::apply::Applier;

/// Why an entry wasn't acknowledged.
#[derive(Debug)]
pub(crate) enum ProposeError {
    /// It is certainly not in the log and never will be.
    #[expect(dead_code, reason = "an in-memory log refuses nothing")]
    Refused(KvError),
    /// It may be in the log.
    Unknown(String),
}

/// A replicated log with a state machine behind it.
pub(crate) trait Proposer: Send + Sync + 'static {
    /// Puts an entry into the log. Resolves when the entry is durable and has been applied (the
    /// applier has then finished its commits). Entries are applied in the order of these calls.
    fn propose(&self, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>>;
}

/// No log at all: entries are applied as they come. For stores in memory.
pub(crate) struct Unlogged {
    pub(crate) applier: Arc<Applier>,
}

impl Proposer for Unlogged {
    fn propose(&self, entry: Bytes) -> BoxFuture<'_, Result<(), ProposeError>> {
        let result = self.applier.apply(vec![entry]);
        Box::pin(async move { result.map_err(|error| ProposeError::Unknown(error.to_string())) })
    }
}
