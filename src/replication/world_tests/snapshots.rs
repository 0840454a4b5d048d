//! Content that travels in blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_base::Span;
use meridian_storage::engine::Snapshot;
use meridian_storage::{
    Engine, Keyspace, KvIter, MemEngine, Pressure, Reader, StorageError, WriteBatch,
};

use super::{GROUP, World, entry, n, until, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: u64 = 48;
const ROW_BYTES: usize = 128 << 10;

/// Three nodes and a fourth without the group. Nobody has the log of the rows any more, which are twelve
/// megabytes in blocks.
fn shipped() -> World {
    let mut world = World::new(3);
    world.tune = |config| (config.keep_bytes, config.snapshot_rate) = (0, 1 << 30);
    for id in 1..=3 {
        world.crash(n(id), [0; 3]);
        world.start(n(id));
    }
    world.create(GROUP, &[n(1), n(2), n(3)]);
    world.elect(n(1), GROUP);
    let (group, term) = (world.group(n(1), GROUP), world.role(n(1), GROUP).term);
    for row in 0..ROWS {
        wait(group.propose(term, entry(row, ROW_BYTES))).expect("acknowledged");
    }
    world.agree(&[1, 2, 3], 0..ROWS);
    for id in 1..=3 {
        world.running[&n(id)].raft.checkpoint().expect("memory");
    }
    world.start_another(n(4));
    world
}

fn add_fourth(world: &World) {
    let leader = world.group(n(1), GROUP);
    let members = leader.members();
    let voters = [n(1), n(2), n(3), n(4)];
    wait(leader.change_members(&members, &voters, &[], PATIENCE)).expect("changed");
}

/// A snapshot that is interrupted goes on where it was, also after the receiver's restart; rows that are
/// written meanwhile come by the log.
#[test]
fn an_interrupted_snapshot_goes_on() {
    let mut world = shipped();
    world.open(n(4), GROUP);
    *world.wire.bulk_left.lock() = Some(6);
    let leader = world.group(n(1), GROUP);
    let (members, voters) = (leader.members(), [n(1), n(2), n(3)]);
    wait(leader.change_members(&members, &voters, &[n(4)], PATIENCE)).expect("a learner");
    let left = || (*world.wire.bulk_left.lock() == Some(0)).then_some(());
    until("five blocks are there", left);
    until("it was tried again", || {
        (world.wire.bulk_calls.load(Ordering::Relaxed) > 7).then_some(())
    });
    assert!(world.rows(n(4), GROUP).is_empty(), "nothing is shown of half a snapshot");
    world.crash(n(4), [0, 0, usize::MAX]);
    world.restart(n(4));
    if world.running[&n(4)].raft.group(GROUP).is_none() {
        world.open(n(4), GROUP);
    }
    world.propose(n(1), ROWS..ROWS + 10).expect("acknowledged");
    world.wire.bulk_calls.store(0, Ordering::Relaxed);
    *world.wire.bulk_left.lock() = None;
    world.agree(&[4], 0..ROWS + 10);
    let calls = world.wire.bulk_calls.load(Ordering::Relaxed);
    // Twelve megabytes are fourteen blocks, a beginning and an end; five were there.
    assert!((4..=14).contains(&calls), "{calls} calls");
    // It has all of the log, but does not know that it is committed until it is told.
    world.crash(n(4), [0; 3]);
    world.restart(n(4));
    world.running[&n(1)].raft.peer_reachable(n(4));
    world.agree(&[4], 0..ROWS + 10);
}

/// An engine whose batches fail from one on: the node stops there.
struct Breaking {
    engine: MemEngine,
    left: Arc<AtomicU64>,
}

impl Reader for Breaking {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(keyspace, key)
    }

    fn range(&self, keyspace: Keyspace, span: &Span, reverse: bool) -> KvIter {
        self.engine.range(keyspace, span, reverse)
    }
}

impl Engine for Breaking {
    fn apply(&self, batch: WriteBatch) -> Result<(), StorageError> {
        let spend = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend) {
            Ok(_) => self.engine.apply(batch),
            Err(_) => Err(StorageError::Stopped("no power".into())),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    fn pressure(&self) -> Pressure {
        Pressure::default()
    }

    fn persist(&self) -> Result<(), StorageError> {
        match self.left.load(Ordering::SeqCst) {
            0 => Err(StorageError::Stopped("no power".into())),
            _ => self.engine.persist(),
        }
    }

    fn drop_span(&self, span: &Span) -> Result<(), StorageError> {
        self.engine.drop_span(span)
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A fourth node that dies while it installs a snapshot, again and again.
struct Dying {
    world: World,
    /// Rows that are written.
    rows: u64,
}

impl Dying {
    fn new() -> Self {
        let world = shipped();
        world.open(n(4), GROUP);
        add_fourth(&world);
        world.agree(&[4], 0..ROWS);
        Self { world, rows: ROWS }
    }

    /// The engine breaks after so many batches; of those that were not persisted so many are kept. The node
    /// comes back, blank if need be, and is filled; what it had before is replaced, not mixed.
    fn dies_after(&mut self, steps: u64, kept: [usize; 3]) {
        let world = &mut self.world;
        // While it is away, what it lacks is purged.
        world.crash(n(4), [usize::MAX; 3]);
        world.propose(n(1), self.rows..self.rows + 1).expect("acknowledged");
        self.rows += 1;
        world.agree(&[1, 2, 3], 0..self.rows);
        until("the log is purged", || {
            world.running[&n(1)].raft.checkpoint().expect("memory");
            world.running[&n(1)].log_end().is_none().then_some(())
        });
        let left = Arc::new(AtomicU64::new(steps));
        let counter = Arc::clone(&left);
        let wrap = move |engine| Arc::new(Breaking { engine, left: Arc::clone(&counter) }) as _;
        world.wrap.insert(n(4), Arc::new(wrap));
        world.restart(n(4));
        until("it breaks, or is done", || {
            let done = world.rows(n(4), GROUP).len() as u64 == self.rows;
            (done || left.load(Ordering::SeqCst) == 0).then_some(())
        });
        world.wrap.remove(&n(4));
        world.crash(n(4), kept);
        world.restart(n(4));
        if world.running[&n(4)].raft.group(GROUP).is_none() {
            world.open(n(4), GROUP);
        }
        world.running[&n(1)].raft.peer_reachable(n(4));
        world.agree(&[4], 0..self.rows);
    }
}

#[test]
fn a_crash_at_any_step_of_an_installation_is_survived() {
    let mut dying = Dying::new();
    for (round, steps) in [14, 15, 16, 17, 18, 19, 22, 28, 31, 32, 33, 34].into_iter().enumerate() {
        dying.dies_after(steps, [round % 3 * 4, round % 2 * 9, usize::MAX]);
    }
    let group = dying.world.running[&n(4)].raft.group(GROUP).expect("open");
    assert!(group.members().is_voter(n(4)));
}

/// A process that is killed leaves every batch to the kernel: the engine may be ahead of the log then.
#[test]
fn a_kill_at_any_step_of_an_installation_is_survived() {
    let mut dying = Dying::new();
    for steps in 26..40 {
        dying.dies_after(steps, [usize::MAX; 3]);
    }
}
