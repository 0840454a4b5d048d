//! What went wrong elsewhere, on its way to who has asked.

use meridian_kv::api::{KvError, RetryReason};

/// A [`KvError`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct WireError {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
}

/// The number of [`KvError::Stopping`].
const STOPPING: u32 = 15;

impl WireError {
    /// The node that was asked is going away, and has done nothing.
    pub(crate) fn is_stopping(&self) -> bool {
        self.kind == STOPPING
    }
}

impl From<KvError> for WireError {
    fn from(error: KvError) -> WireError {
        let plain = |kind| WireError { kind, ..WireError::default() };
        match error {
            KvError::Retry { reason: RetryReason::ConcurrentUpdate } => plain(1),
            KvError::Retry { reason: RetryReason::ConcurrentDelete } => plain(2),
            KvError::Retry { reason: RetryReason::ReadWriteDependency } => plain(3),
            KvError::StatementRetry => plain(4),
            KvError::Deadlock { detail } => WireError { text: detail, ..plain(5) },
            KvError::LockNotAvailable => plain(6),
            KvError::LockTimeout => plain(7),
            KvError::Cancelled => plain(8),
            KvError::SnapshotTooOld => plain(9),
            KvError::TransactionTooLarge { limit_bytes } => {
                WireError { number: limit_bytes as u64, ..plain(10) }
            }
            KvError::DiskFull => plain(11),
            KvError::Ambiguous => plain(12),
            KvError::Unavailable { reason } => WireError { text: reason, ..plain(13) },
            KvError::Storage { reason } => WireError { text: reason, ..plain(14) },
            KvError::Stopping => plain(STOPPING),
        }
    }
}

impl From<WireError> for KvError {
    fn from(error: WireError) -> KvError {
        let retry = |reason| KvError::Retry { reason };
        match error.kind {
            1 => retry(RetryReason::ConcurrentUpdate),
            2 => retry(RetryReason::ConcurrentDelete),
            3 => retry(RetryReason::ReadWriteDependency),
            4 => KvError::StatementRetry,
            5 => KvError::Deadlock { detail: error.text },
            6 => KvError::LockNotAvailable,
            7 => KvError::LockTimeout,
            8 => KvError::Cancelled,
            9 => KvError::SnapshotTooOld,
            10 => KvError::TransactionTooLarge {
                limit_bytes: usize::try_from(error.number).unwrap_or(usize::MAX),
            },
            11 => KvError::DiskFull,
            12 => KvError::Ambiguous,
            13 => KvError::Unavailable { reason: error.text },
            STOPPING => KvError::Stopping,
            _ => KvError::Storage { reason: error.text },
        }
    }
}
