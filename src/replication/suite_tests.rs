//! openraft's own tests of a log store and state machine, run on ours.
//!
//! Left out: the tests that hand a snapshot from one state machine to another in memory; ours travels
//! in blocks through the engine.

use std::sync::Arc;

use bytes::Bytes;
use meridian_base::RangeId;
use meridian_storage::{LogConfig, MemEngine, Op, SegLog, StorageError};
use openraft::testing::log::{StoreBuilder, Suite};

use crate::log_store::LogStore;
use crate::state_machine::{Applier, Publish, Shared, StateMachine};
use crate::types::Types;

struct Nothing;

impl Applier for Nothing {
    fn prepare(&self, _: Vec<Bytes>, _: &mut Vec<Op>) -> Result<Publish, StorageError> {
        Ok(Box::new(|| ()))
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), openraft::StorageError<Types>> {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = LogConfig::new(dir.path());
        config.segment_bytes = 1 << 16;
        let log = Arc::new(SegLog::open(config).expect("a new log opens"));
        let machine = StateMachine {
            group: RangeId(1),
            engine: Arc::new(MemEngine::new()),
            log: Arc::clone(&log) as _,
            applier: Arc::new(Nothing),
            shared: Arc::new(Shared::default()),
            pieces: crate::pieces::Pieces::default(),
            late: None,
        };
        Ok((dir, LogStore::new(log, RangeId(1)), machine))
    }
}

type Tests = Suite<Types, LogStore, StateMachine, Builder, tempfile::TempDir>;

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            let (_dir, store, machine) = Builder.build().await.expect("built");
            Tests::$name(store, machine).await.expect("openraft's contract holds");
        })*
    };
}

suite!(
    last_membership_in_log_initial,
    last_membership_in_log,
    last_membership_in_log_multi_step,
    get_membership_initial,
    get_membership_from_log_and_empty_sm,
    get_membership_from_empty_log_and_sm,
    get_membership_from_log_le_sm_last_applied,
    get_membership_from_log_gt_sm_last_applied_1,
    get_membership_from_log_gt_sm_last_applied_2,
    get_initial_state_without_init,
    get_initial_state_membership_from_empty_log_and_sm,
    get_initial_state_membership_from_sm_inlog_is_smaller,
    get_initial_state_membership_from_log_insm_is_smaller,
    get_initial_state_with_state,
    get_initial_state_last_log_gt_sm,
    get_initial_state_last_log_lt_sm,
    get_initial_state_inverted_log_order,
    get_initial_state_conflict_at_same_index,
    get_initial_state_log_ids,
    get_initial_state_re_apply_committed,
    save_vote,
    get_log_entries,
    limited_get_log_entries,
    leader_bounded_stream,
    entries_stream,
    try_get_log_entry,
    log_reader_reads_new_entries,
    initial_logs,
    get_log_state,
    get_log_id,
    last_id_in_log,
    last_applied_state,
    purge_logs_upto_0,
    purge_logs_upto_5,
    purge_logs_upto_20,
    delete_logs_after_11,
    delete_logs_after_5,
    delete_logs_after_0,
    delete_logs_after_none,
    append_to_log,
    snapshot_meta,
    snapshot_meta_optional,
    apply_single,
    apply_multiple,
);
