//! A group's content becomes that of two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_base::{NodeId, RangeId, Span, keys};
use meridian_storage::{Keyspace, Op, Reader, StorageError};
use parking_lot::Mutex;

use super::{GROUP, World, n, until, wait};
use crate::{Applier, Part, Publish};

const RIGHT: RangeId = RangeId(8);
const AT: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows `D ‖ number:u64be` → value; an entry is both. The entry of row [`u64::MAX`] splits the range.
struct Half {
    group: RangeId,
    holds: Mutex<Option<Span>>,
}

fn row_key(row: u64) -> Vec<u8> {
    [&b"D"[..], &row.to_be_bytes()].concat()
}

fn rows_from(start: u64, end: u64) -> Span {
    Span::new(row_key(start), row_key(end))
}

fn born_key() -> Vec<u8> {
    keys::range_state_key(RIGHT, b"born")
}

fn half(group: RangeId, holds: Option<Span>) -> Arc<Half> {
    Arc::new(Half { group, holds: Mutex::new(holds) })
}

impl Applier for Half {
    fn prepare(&self, entries: Vec<Bytes>, ops: &mut Vec<Op>) -> Result<Publish, StorageError> {
        for entry in entries {
            let row = u64::from_be_bytes(entry[..8].try_into().expect("a row"));
            for keyspace in [Keyspace::Cur, Keyspace::Hist] {
                if row == u64::MAX {
                    ops.push(Op::put(keyspace, born_key(), Bytes::new()));
                    *self.holds.lock() = Some(rows_from(0, AT));
                } else {
                    ops.push(Op::put(keyspace, row_key(row), entry.slice(8..)));
                }
            }
        }
        Ok(Box::new(|| ()))
    }

    fn content(&self) -> Option<Vec<Part>> {
        let holds = self.holds.lock().clone();
        let part = |keyspace| holds.clone().map(|span| (keyspace, span));
        Some([part(Keyspace::Cur), part(Keyspace::Hist)].into_iter().flatten().collect())
    }

    fn installed(&self) -> Result<(), StorageError> {
        let holds = match self.group {
            RIGHT => rows_from(AT, u64::MAX),
            _ => rows_from(0, AT),
        };
        *self.holds.lock() = Some(holds);
        Ok(())
    }
}

/// Both keyspaces know of the split: a redo begins behind it.
fn is_split(world: &World, id: NodeId) -> bool {
    let engine = &world.disks[&id].engine;
    let has = |keyspace| engine.get(keyspace, &born_key()).expect("memory").is_some();
    has(Keyspace::Cur) && has(Keyspace::Hist)
}

fn members() -> [NodeId; 3] {
    [n(1), n(2), n(3)]
}

/// Creates the right half, as soon as there is one.
fn begin_right(world: &World, id: NodeId) {
    until("the split is applied", || is_split(world, id).then_some(()));
    let right = half(RIGHT, Some(rows_from(AT, u64::MAX)));
    wait(world.running[&id].raft.create_inherited(RIGHT, &members(), right)).expect("new");
}

/// Opens what the log has, as after a crash.
fn restart(world: &mut World, id: NodeId) {
    world.start(id);
    for group in world.running[&id].raft.stored() {
        let holds = match (group, is_split(world, id)) {
            (RIGHT, _) => rows_from(AT, u64::MAX),
            (_, true) => rows_from(0, AT),
            (_, false) => rows_from(0, u64::MAX),
        };
        wait(world.running[&id].raft.open_group(group, half(group, Some(holds)))).expect("opens");
    }
}

fn put(world: &World, group: RangeId, rows: impl IntoIterator<Item = u64>, value: &str) {
    let leader = world.group(n(1), group);
    let term = leader.role().borrow().term;
    for row in rows {
        let entry = [&row.to_be_bytes()[..], value.as_bytes()].concat();
        wait(leader.propose(term, entry.into())).expect("acknowledged");
    }
}

/// What a node holds; the same in both keyspaces.
fn content(world: &World, id: NodeId) -> Vec<(u64, String)> {
    let of = |keyspace| {
        let rows = world.disks[&id].engine.range(keyspace, &rows_from(0, u64::MAX), false);
        let row = |(key, value): (Bytes, Bytes)| {
            let row = u64::from_be_bytes(key[1..].try_into().expect("a row"));
            (row, String::from_utf8(value.to_vec()).expect("text"))
        };
        rows.map(|found| row(found.expect("memory"))).collect::<Vec<_>>()
    };
    let (cur, hist) = (of(Keyspace::Cur), of(Keyspace::Hist));
    if cur == hist { cur } else { Vec::new() }
}

fn agree(world: &World, nodes: &[u64], expected: &[(u64, String)]) {
    for id in nodes {
        until(&format!("node {id} has it all"), || {
            (content(world, n(*id)) == expected).then_some(())
        });
    }
}

/// Three nodes with the rows 0 to 20, split at [`AT`]; only the left half's group exists.
fn split() -> World {
    let world = World::new(3);
    for id in members() {
        let left = half(GROUP, Some(rows_from(0, u64::MAX)));
        wait(world.running[&id].raft.create_group(GROUP, &members(), left)).expect("new");
    }
    world.elect(n(1), GROUP);
    put(&world, GROUP, 0..20, "old");
    put(&world, GROUP, [u64::MAX], "");
    world
}

fn expected() -> Vec<(u64, String)> {
    (0..20).map(|row| (row, if row % 2 == 1 { "new" } else { "old" }.to_owned())).collect()
}

fn rewrite(world: &World) {
    put(world, GROUP, (0..AT).filter(|row| row % 2 == 1), "new");
    put(world, RIGHT, (AT..20).filter(|row| row % 2 == 1), "new");
}

/// The right half begins with what the left one had, is written to, and is shipped whole to a node that
/// has missed its beginning.
#[test]
fn the_right_half_begins_with_the_content_of_the_left() {
    let mut world = split();
    for id in members() {
        begin_right(&world, id);
    }
    world.elect(n(1), RIGHT);
    rewrite(&world);
    agree(&world, &[1, 2, 3], &expected());
    // A newcomer gets both, the left half behind the split: its log would write into the right one.
    world.start_another(n(4));
    world.running[&n(1)].raft.shorten(GROUP).expect("memory");
    for group in [RIGHT, GROUP] {
        wait(world.running[&n(4)].raft.open_group(group, half(group, None))).expect("opens");
        let leader = world.group(n(1), group);
        let voters = [n(1), n(2), n(3), n(4)];
        wait(leader.change_members(&leader.members(), &voters, &[], PATIENCE)).expect("changed");
    }
    agree(&world, &[4], &expected());
    let raft = &world.running[&n(4)].raft;
    let of_right = vec![(Keyspace::Cur, rows_from(12, 13))];
    assert_eq!(raft.holder(GROUP, &of_right), Some(RIGHT));
    assert_eq!(raft.holder(RIGHT, &of_right), None);
}

/// A node that crashes at any moment of a split comes back with the same: what the left half redoes never
/// comes over what the right half has written.
#[test]
fn a_crash_before_or_after_the_right_half_begins_is_survived() {
    for (round, kept) in
        [[0, 0, 0], [15, 9, 0], [99, 3, 0], [3, 99, 0], [99, 99, 0]].into_iter().enumerate()
    {
        let mut world = split();
        until("node 2 has the split", || is_split(&world, n(2)).then_some(()));
        // Before: what is lost of the split comes again from the log.
        world.crash(n(2), kept);
        restart(&mut world, n(2));
        for id in [1, 3] {
            begin_right(&world, n(id));
        }
        world.elect(n(1), RIGHT);
        world.running[&n(1)].raft.peer_reachable(n(2));
        begin_right(&world, n(2));
        rewrite(&world);
        agree(&world, &[1, 2, 3], &expected());
        // After.
        let victim = n(2 + round as u64 % 2);
        world.crash(victim, kept);
        restart(&mut world, victim);
        assert_eq!(world.running[&victim].raft.groups().len(), 2);
        world.running[&n(1)].raft.peer_reachable(victim);
        agree(&world, &[1, 2, 3], &expected());
        put(&world, RIGHT, [15], "newer");
        let mut all = expected();
        all[15].1 = "newer".into();
        agree(&world, &[1, 2, 3], &all);
    }
}
