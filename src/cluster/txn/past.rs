//! Transactions that read the past.
//!
//! Their snapshot is said, not taken: it may be older than what is applied anywhere, or newer than what the
//! range has applied last, if nobody has written since. A copy in which it is closed serves it
//! ([`crate::closed`]), else the leaseholder, which then gives no timestamp at or below it any more.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::limits;
use meridian_kv::api::{Isolation, KvError, Timestamp};
use meridian_kv::txn::TxnState;

use super::{Snapshot, Txn, TxnOptions};
use crate::core::Core;

impl Txn {
    pub(crate) fn begin_as_of(
        core: &Arc<Core>,
        options: TxnOptions,
        ts: Timestamp,
    ) -> Result<Txn, KvError> {
        let now = core.hlc.now();
        let ts = ts.min(now);
        // Other nodes collect by clocks of their own.
        let ahead = if core.alone { 0 } else { limits::CLOCK_OFFSET_MS_MAX };
        let ttl = core.config.gc_ttl.saturating_sub(Duration::from_millis(ahead));
        let ttl = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        // Also where nothing has been collected yet: before the last start it may have been.
        if ts.micros() < now.micros().saturating_sub(ttl) {
            return Err(KvError::SnapshotTooOld);
        }
        let slot = core.snapshots.enter_at(ts).ok_or(KvError::SnapshotTooOld)?;
        // All its statements read at one snapshot.
        let isolation = Isolation::RepeatableRead;
        let options = TxnOptions { isolation, read_only: true, ..options };
        let mut txn = Txn::begin(Arc::clone(core), options);
        txn.leave_snapshot(Snapshot::Away(Some(slot)));
        txn.state = TxnState::new(txn.state.owner(), isolation, ts);
        txn.state.begin_statement(ts);
        txn.past = true;
        Ok(txn)
    }
}
