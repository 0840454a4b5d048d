//! Every bound that two layers must agree on, each with its reason.

/// Longest key the engine takes, below fjall's 64 KiB, with room for prefix and version suffix.
pub const KEY_BYTES_MAX: usize = 60 * 1024;
/// Longest index key of a user (PostgreSQL's btree limit: a third of a page); beyond → 54000.
pub const INDEX_KEY_BYTES_MAX: usize = 2_704;
/// Most bytes of commands in one raft entry. Twice this and a follower's ack takes noticeably
/// longer than a heartbeat; half of it and bulk loads pay for more entries.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most commands in one raft entry: bounds the pause that one apply makes.
pub const ENTRY_COMMANDS_MAX: usize = 1_024;
/// Most bytes one transaction may write: an entry must fit into memory several times over.
pub const COMMAND_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most bytes of new rows that one transaction may write in bulk: they stay in memory until the commit, and
/// once more, compressed, in the log until the next checkpoint.
pub const BULK_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Most rows a scanner hands over at once: enough to amortise the call, small enough for L2.
pub const SCAN_BATCH_ROWS: usize = 1_024;
/// How far the nodes' clocks may differ, in milliseconds.
pub const CLOCK_OFFSET_MS_MAX: u64 = 250;
/// How long superseded versions stay readable unless configured otherwise, in seconds.
pub const GC_TTL_S: u64 = 600;
